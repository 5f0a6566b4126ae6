"""
Tests for L{tlsproxy.tls.certificates}.
"""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import warnings
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.chains import patched
from tlsproxy.testing.certificates import NOW, Holder, certify, write
from tlsproxy.tls.certificates import Identity, describe, loadAuthorities, loadIdentity, serverNames
from tlsproxy.tls.files import CertificateProblem

ROOT = certify("Root")
INTERMEDIATE = certify("Intermediate", ROOT)
SHOP = certify("shop.example", INTERMEDIATE)
STRANGER = certify("stranger.example", certify("Other Root"))

ORDER = (
    "chain does not have its certificates in order: they are sent in the right order, "
    "but put the certificate of the key first and after each the one that issued it"
)


class IdentityTests(SynchronousTestCase):
    """
    Tests for what an L{Identity} tells of itself.
    """

    def test_names(self) -> None:
        """
        Its names are the DNS names and IP addresses of its certificate, each once and in lower case.
        """
        found: list[x509.GeneralName] = [
            x509.DNSName("Shop.Example"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
            x509.RFC822Name("ann@shop.example"),
            x509.DNSName("shop.example"),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
            x509.DNSName("*.shop.example."),
        ]
        holder = certify("other.example", names=found)
        identity = Identity((holder.certificate,), holder.key)  # type: ignore[arg-type]
        self.assertEqual(("shop.example", "192.0.2.1", "2001:db8::1", "*.shop.example"), identity.names)
        self.assertEqual((), serverNames(SHOP.certificate))

    def test_badNames(self) -> None:
        """
        Names that cannot be decoded are none.
        """
        body = certify("x", names=[x509.DNSName("shop.example")]).certificate.public_bytes(Encoding.DER)
        bad = x509.load_der_x509_certificate(body.replace(b"\x82\x0cshop.example", b"\x9f\x0cshop.example"))
        self.assertEqual((), serverNames(bad))

    def test_dates(self) -> None:
        """
        It is valid while all of its chain is.
        """
        issuer = certify("Intermediate", ROOT, begins=NOW, ends=NOW + timedelta(days=9))
        holder = certify("shop.example", issuer, begins=NOW - timedelta(days=9), ends=NOW + timedelta(days=99))
        identity = Identity((holder.certificate, issuer.certificate), holder.key)  # type: ignore[arg-type]
        self.assertEqual((NOW, NOW + timedelta(days=9)), (identity.notBefore, identity.notAfter))

    def test_key(self) -> None:
        """
        It tells the kind of its key.
        """
        identity = Identity((SHOP.certificate,), SHOP.key)  # type: ignore[arg-type]
        self.assertEqual(("EC", "EC P-256"), (identity.keyFamily, identity.keyType))


class LoadIdentityTests(SynchronousTestCase):
    """
    Tests for L{loadIdentity}.
    """

    def load(self, *certificates: Holder, key: Holder = SHOP) -> Identity:
        """
        Load these certificates, in this order, with this key.
        """
        self.chainFile = write(self.mktemp(), *(each.pem() for each in certificates), mode=0o644)
        self.keyFile = write(self.mktemp(), key.keyPEM())
        return loadIdentity(self.chainFile, self.keyFile, now=NOW)

    def warnings(self, identity: Identity) -> list[str]:
        """
        Give the warnings, with short names for the files.
        """
        return [each.replace(self.chainFile, "chain").replace(self.keyFile, "key") for each in identity.warnings]

    def test_chain(self) -> None:
        """
        A chain in order is taken as it is, without a warning.
        """
        identity = self.load(SHOP, INTERMEDIATE)
        self.assertEqual(identity.chain, (SHOP.certificate, INTERMEDIATE.certificate))
        self.assertEqual(identity.key.public_key(), SHOP.certificate.public_key())
        self.assertEqual(identity.warnings, ())

    def test_keyTypes(self) -> None:
        """
        RSA, EC and Ed25519 keys all serve.
        """
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ):
            holder = certify("shop.example", INTERMEDIATE, key=key)
            self.assertEqual(self.load(holder, INTERMEDIATE, key=holder).warnings, ())

    def test_bundle(self) -> None:
        """
        Without a key file the key is in the file of the chain, before or after the certificates.
        """
        for parts in ((SHOP.pem(), SHOP.keyPEM()), (SHOP.keyPEM(), SHOP.pem())):
            identity = loadIdentity(write(self.mktemp(), *parts), None, now=NOW)
            self.assertEqual((identity.chain, identity.warnings), ((SHOP.certificate,), ()))

    def test_bundleOpenToOthers(self) -> None:
        """
        For a bundle that others can read there is a warning, because the key is in it.
        """
        path = write(self.mktemp(), SHOP.pem(), SHOP.keyPEM(), mode=0o644)
        [warning] = loadIdentity(path, None, now=NOW).warnings
        self.assertEqual(
            warning,
            f"{path} holds a private key and is open to others than its owner (mode 0644): run chmod 600 {path}",
        )

    def test_keyOpenToOthers(self) -> None:
        """
        For a key file that others can read there is a warning; the file of the chain is for everybody.
        """
        self.load(SHOP)
        Path(self.keyFile).chmod(0o640)
        self.assertEqual(
            self.warnings(loadIdentity(self.chainFile, self.keyFile, now=NOW)),
            ["key holds a private key and is open to others than its owner (mode 0640): run chmod 600 key"],
        )

    def test_missing(self) -> None:
        """
        Of two files the one that is missing is named, with what it should hold.
        """
        chain, key = write(self.mktemp(), SHOP.pem()), write(self.mktemp(), SHOP.keyPEM())
        for files, said in (
            (("nope.pem", key), "nope.pem does not exist: give the path of a PEM file with a certificate"),
            ((chain, "nope.key"), "nope.key does not exist: give the path of a PEM file with a private key"),
        ):
            error = self.assertRaises(CertificateProblem, loadIdentity, *files, now=NOW)
            self.assertEqual(str(error), said)

    def test_mismatch(self) -> None:
        """
        A key that belongs to no certificate of the chain is refused, and the certificate is named.
        """
        error = self.assertRaises(CertificateProblem, self.load, SHOP, INTERMEDIATE, key=STRANGER)
        self.assertEqual(
            str(error).replace(self.chainFile, "chain").replace(self.keyFile, "key"),
            "key holds a private key that does not match the certificate in chain (CN=shop.example, "
            "issued by CN=Intermediate, until 2027-02-28): give the key that this certificate was issued for",
        )

    def test_keyForPSS(self) -> None:
        """
        A certificate for a key that OpenSSL holds for another kind than the library does is refused: it would be
        loaded, and every handshake would fail.
        """
        holder = certify("shop.example", INTERMEDIATE, key=rsa.generate_private_key(65537, 2048))
        plain, alone = (bytes.fromhex(f"300d06092a864886f70d0101{end}") for end in ("010500", "0a3000"))
        holder = patched(holder, plain, alone)
        error = self.assertRaises(CertificateProblem, self.load, holder, key=holder)
        self.assertIn(" holds a certificate whose key is for RSASSA-PSS alone", str(error))

    def test_anyOrder(self) -> None:
        """
        The certificate of the key comes first and the issuers follow, however they stand in the file, with a warning.
        """
        lower = certify("Lower", INTERMEDIATE)
        shop = certify("shop.example", lower)
        for held in ((lower, shop, INTERMEDIATE), (INTERMEDIATE, lower, shop), (shop, INTERMEDIATE, lower)):
            identity = self.load(*held, key=shop)
            self.assertEqual(identity.chain, (shop.certificate, lower.certificate, INTERMEDIATE.certificate))
            self.assertEqual(self.warnings(identity), [ORDER])

    def test_rootDropped(self) -> None:
        """
        The root is not sent, with a warning.
        """
        for held in ((SHOP, INTERMEDIATE, ROOT), (ROOT, SHOP, INTERMEDIATE)):
            identity = self.load(*held)
            self.assertEqual(identity.chain, (SHOP.certificate, INTERMEDIATE.certificate))
            self.assertEqual(
                self.warnings(identity),
                [
                    "chain holds a certificate that is not sent, as it is self-signed and works only where it is "
                    "trusted: CN=Root, issued by CN=Root, until 2027-02-28"
                ],
            )

    def test_selfSigned(self) -> None:
        """
        A self-signed certificate is a chain by itself.
        """
        identity = self.load(ROOT, key=ROOT)
        self.assertEqual((identity.chain, identity.warnings), ((ROOT.certificate,), ()))

    def test_unrelatedDropped(self) -> None:
        """
        A certificate that has nothing to do with the chain is not sent, with a warning, even if its name fits.
        """
        for unrelated, name in (
            (STRANGER, "CN=stranger.example, issued by CN=Other Root"),
            (certify("Intermediate", ROOT), "CN=Intermediate, issued by CN=Root"),
        ):
            identity = self.load(SHOP, unrelated, INTERMEDIATE)
            self.assertEqual(identity.chain, (SHOP.certificate, INTERMEDIATE.certificate))
            self.assertEqual(
                self.warnings(identity),
                [f"chain holds a certificate that is not sent, as it is not in the chain: {name}, until 2027-02-28"],
            )

    def test_twice(self) -> None:
        """
        A certificate that is there twice is sent once, with a warning.
        """
        identity = self.load(SHOP, INTERMEDIATE, SHOP)
        self.assertEqual(identity.chain, (SHOP.certificate, INTERMEDIATE.certificate))
        self.assertEqual(self.warnings(identity), ["chain holds the same certificate more than once: it is sent once"])

    def test_crossSigned(self) -> None:
        """
        Of a root and its cross-signed twin, the twin is sent.
        """
        twin = certify("Root", certify("Older Root"), key=ROOT.key)
        identity = self.load(SHOP, INTERMEDIATE, ROOT, twin)
        self.assertEqual(identity.chain, (SHOP.certificate, INTERMEDIATE.certificate, twin.certificate))
        self.assertEqual(len(identity.warnings), 1)

    def test_renewed(self) -> None:
        """
        Of an issuer that was renewed, the first is sent that lasts for as long as the certificate, in whatever order.
        """
        lapsed, soon, longer = (
            certify("Intermediate", ROOT, key=INTERMEDIATE.key, ends=NOW + timedelta(days=days))
            for days in (-5, 50, 2000)
        )
        for issuers, sent in (
            ((lapsed, INTERMEDIATE), INTERMEDIATE),
            ((soon, INTERMEDIATE), INTERMEDIATE),
            ((lapsed, soon), soon),
            ((INTERMEDIATE, longer), INTERMEDIATE),
            ((longer, INTERMEDIATE), longer),
        ):
            identity = self.load(SHOP, *issuers)
            self.assertEqual((SHOP.certificate, sent.certificate), identity.chain)
            self.assertNotIn("HAS EXPIRED", "".join(identity.warnings))

    def test_expired(self) -> None:
        """
        An expired certificate is loaded, with a loud warning, wherever in the chain it is.
        """
        old = certify("shop.example", INTERMEDIATE, ends=NOW - timedelta(seconds=1))
        self.assertEqual(
            self.warnings(self.load(old, key=old)),
            [
                "chain HAS EXPIRED, and peers will refuse it: "
                "renew CN=shop.example, issued by CN=Intermediate, until 2026-11-20"
            ],
        )
        lapsed = certify("Lapsed", ROOT, ends=NOW - timedelta(hours=13))
        shop = certify("shop.example", lapsed)
        self.assertEqual(
            self.warnings(self.load(shop, lapsed, key=shop)),
            ["chain HAS EXPIRED, and peers will refuse it: renew CN=Lapsed, issued by CN=Root, until 2026-11-19"],
        )

    def test_notYetValid(self) -> None:
        """
        A certificate that is not valid yet is loaded, with a loud warning.
        """
        early = certify("shop.example", INTERMEDIATE, begins=NOW + timedelta(hours=2))
        self.assertEqual(
            self.warnings(self.load(early, key=early)),
            [
                "chain IS NOT VALID YET, and peers will refuse it before 2026-11-20 14:00 UTC: check the clock, "
                "or replace CN=shop.example, issued by CN=Intermediate, until 2027-02-28"
            ],
        )

    def test_expiresSoon(self) -> None:
        """
        For a certificate with less than 14 days left there is a warning.
        """
        for left, said in (
            (timedelta(days=13, hours=23), "in 13 days"),
            (timedelta(days=1, hours=1), "in 1 day"),
            (timedelta(0), "in less than a day"),
        ):
            holder = certify("shop.example", INTERMEDIATE, ends=NOW + left)
            self.assertEqual(
                self.warnings(self.load(holder, key=holder)),
                [
                    f"chain expires {said}: renew CN=shop.example, issued by CN=Intermediate, "
                    f"until {(NOW + left).date()}"
                ],
            )
        holder = certify("shop.example", INTERMEDIATE, ends=NOW + timedelta(days=14))
        self.assertEqual(self.load(holder, key=holder).warnings, ())

    def test_noKeyInRepresentation(self) -> None:
        """
        The key is not in the representation.
        """
        self.assertNotIn("key", repr(self.load(SHOP)))

    @given(st.integers(0, len(SHOP.certificate.public_bytes(Encoding.DER)) - 1), st.integers(0, 255))
    def test_damaged(self, position: int, value: int) -> None:
        """
        Whatever byte of a certificate is damaged, only the declared error comes out, and what is loaded has a name.
        """
        damaged = bytearray(SHOP.certificate.public_bytes(Encoding.DER))
        damaged[position] = value
        pem = ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode()
        path = write(self.mktemp(), pem, INTERMEDIATE.pem(), SHOP.keyPEM())
        # Odd serial numbers and the like make the library warn, which is not the point here.
        with contextlib.suppress(CertificateProblem), warnings.catch_warnings(action="ignore"):
            for each in loadIdentity(path, None, now=NOW).chain:
                self.assertIn(", until ", describe(each))


class LoadAuthoritiesTests(SynchronousTestCase):
    """
    Tests for L{loadAuthorities}.
    """

    def test_files(self) -> None:
        """
        All certificates of all files are taken, each once.
        """
        files = [write(self.mktemp(), ROOT.pem(), STRANGER.pem()), write(self.mktemp(), ROOT.pem(), SHOP.pem())]
        self.assertEqual(loadAuthorities(files), (ROOT.certificate, STRANGER.certificate, SHOP.certificate))

    def test_none(self) -> None:
        """
        No files are no authorities.
        """
        self.assertEqual(loadAuthorities([]), ())

    def test_problems(self) -> None:
        """
        A file that is missing, is a directory, or has no certificate is told.
        """
        directory = self.mktemp()
        Path(directory).mkdir()
        key = write(self.mktemp(), SHOP.keyPEM())
        for path, said in (
            ("nope.pem", "nope.pem does not exist: give the path of a PEM file with a CA certificate"),
            (directory, f"{directory} is a directory: give the path of a PEM file with a CA certificate"),
            (key, f"{key} holds no certificate, only PRIVATE KEY: give the file that has the certificate"),
        ):
            error = self.assertRaises(CertificateProblem, loadAuthorities, [write(self.mktemp(), ROOT.pem()), path])
            self.assertEqual(str(error), said)


class DescribeTests(SynchronousTestCase):
    """
    Tests for L{describe}.
    """

    def test_commonNames(self) -> None:
        """
        A certificate is known by the common names of its holder and its issuer, and by its last day.
        """
        self.assertEqual(describe(SHOP.certificate), "CN=shop.example, issued by CN=Intermediate, until 2027-02-28")

    def test_noSubject(self) -> None:
        """
        Where the subject is empty the first alternative name stands in, of whatever kind, and can forge nothing.
        """
        for name, said in (
            (x509.DNSName("shop.example"), "shop.example"),
            (x509.IPAddress(ipaddress.ip_address("::1")), "::1"),
            (x509.UniformResourceIdentifier("x:y, issued by CN=Root"), "x:y\\, issued by CN=Root"),
        ):
            holder = certify("", INTERMEDIATE, names=[name])
            self.assertEqual(describe(holder.certificate), f"{said}, issued by CN=Intermediate, until 2027-02-28")

    def test_nameless(self) -> None:
        """
        A certificate without any name is still described.
        """
        holder = certify("", INTERMEDIATE)
        self.assertEqual(describe(holder.certificate), "no readable name, issued by CN=Intermediate, until 2027-02-28")

    def test_forged(self) -> None:
        """
        A name with control characters or commas can neither begin a new line nor pass for another issuer.
        """
        holder = certify("a\n\x1b[2J\u202e, issued by CN=Root", INTERMEDIATE)
        self.assertEqual(
            describe(holder.certificate),
            "CN=a\\n\\x1b[2J\\u202e\\, issued by CN=Root, issued by CN=Intermediate, until 2027-02-28",
        )

    def test_long(self) -> None:
        """
        A name that would flood the log is cut.
        """
        subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "o" * 60)] * 9)
        builder = x509.CertificateBuilder(subject, subject, SHOP.certificate.public_key(), 1, NOW, NOW)
        certificate = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        self.assertTrue(describe(certificate).startswith("O=" + "o" * 60 + ",O="))
        self.assertLess(len(describe(certificate)), 300)
