# -*- test-case-name: tests.tls.test_issuing -*-
"""
L{tlsproxy.tls.issuing}: the authority that certifies client proxies, and what it can be misused for.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.peers import requirePeer
from tests.tls import gnutls
from tlsproxy.testing.certificates import NOW, authority, certify, write
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.issuing import Issuer, readRequest

DOMAIN = "proxies.example"
DAY = timedelta(days=1)


def made(now: datetime = NOW, **more: Any) -> tuple[Issuer, Any]:
    """
    Make an authority for a year.
    """
    return Issuer.create(DOMAIN, 365 * DAY, now, **more)


def keyPEM(key: Any) -> bytes:
    """
    Write a private key.
    """
    written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return written


def newKey() -> Any:
    """
    Make the public key of a client proxy.
    """
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def minted(issuer: Issuer, names: Sequence[x509.GeneralName], organization: str = "Client proxies") -> x509.Certificate:
    """
    Have whoever has stolen the authority's key make a certificate, for whatever names.
    """
    now = datetime.now(UTC)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, "ann"),
        ]
    )
    key = issuer.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    builder = x509.CertificateBuilder(
        issuer.certificate.subject, subject, newKey(), x509.random_serial_number(), now - DAY, now + DAY
    )
    for extension in (
        x509.SubjectAlternativeName(names),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
    ):
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer._key, hashes.SHA256())


class IssueTests(SynchronousTestCase):
    """
    What is issued.
    """

    def test_certificate(self) -> None:
        """
        It says who it is in one name, is for clients, and signs nothing.
        """
        issuer, _ = made()
        key = newKey()
        leaf = issuer.issue("ann", key, NOW + 7 * DAY, NOW)
        self.assertEqual(
            (NOW - timedelta(hours=1), NOW + 7 * DAY), (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
        )
        self.assertEqual("CN=ann,O=Client proxies", leaf.subject.rfc4514_string())
        self.assertEqual(key, leaf.public_key())
        self.assertEqual(
            {
                x509.BasicConstraints: True,
                x509.KeyUsage: True,
                x509.ExtendedKeyUsage: False,
                x509.SubjectKeyIdentifier: False,
                x509.AuthorityKeyIdentifier: False,
                x509.SubjectAlternativeName: False,
            },
            {type(each.value): each.critical for each in leaf.extensions},
        )
        found = leaf.extensions.get_extension_for_class
        self.assertEqual([ExtendedKeyUsageOID.CLIENT_AUTH], list(found(x509.ExtendedKeyUsage).value))
        names = list(found(x509.SubjectAlternativeName).value)
        self.assertEqual([x509.UniformResourceIdentifier("spiffe://proxies.example/ann")], names)
        self.assertFalse(found(x509.BasicConstraints).value.ca)
        self.assertTrue(issuer.hasIssued((leaf, issuer.certificate)))

    def test_ends(self) -> None:
        """
        Nothing outlives the authority.
        """
        issuer, _ = made()
        leaf = issuer.issue("ann", newKey(), NOW + 1000 * DAY, NOW)
        self.assertEqual(issuer.certificate.not_valid_after_utc, leaf.not_valid_after_utc)

    def test_names(self) -> None:
        """
        A name with a dot is no common name, which would be taken for a DNS name; what is no name gets nothing.
        """
        issuer, _ = made()
        leaf = issuer.issue("ann.laptop", newKey(), NOW + DAY, NOW)
        self.assertEqual("UID=ann.laptop,O=Client proxies", leaf.subject.rfc4514_string())
        for name in ("", "a b", "a/b", "-a", ".", "a" * 65, "ä", "a\n"):
            self.assertRaises(ValueError, issuer.issue, name, newKey(), NOW + DAY, NOW)

    def test_others(self) -> None:
        """
        What others have issued, under the same name even, is not ours; nor is the authority's own certificate.
        """
        issuer, _ = made()
        other, _ = made()
        leaf = other.issue("ann", newKey(), NOW + DAY, NOW)
        self.assertFalse(issuer.hasIssued((leaf, other.certificate)))
        self.assertFalse(issuer.hasIssued((leaf,)))
        self.assertFalse(issuer.hasIssued(()))
        self.assertFalse(issuer.hasIssued((issuer.certificate, issuer.certificate)))
        identity = authority().issue(commonName="ann", names=(), server=False, client=True, lifetime=DAY, now=NOW)
        self.assertFalse(issuer.hasIssued((identity.chain[0], authority().certificate)))

    def test_domains(self) -> None:
        """
        A trust domain is a DNS name.
        """
        for domain in ("", "*.example", "192.0.2.1", "Proxies.example", "a/b", "a..b", "a:1"):
            self.assertRaises(CertificateProblem, Issuer.create, domain, DAY, NOW)


class VerifierTests(SynchronousTestCase):
    """
    What others make of its certificates, at the present time.
    """

    def setUp(self) -> None:
        """
        Make the authority.
        """
        now = datetime.now(UTC)
        self.issuer, _ = made(now)
        self.good = [self.issuer.issue(name, newKey(), now + DAY, now) for name in ("ann", "ann.laptop", "a_b", "A-1")]
        self.foreign = evolve(self.issuer, domain="other.example").issue("ann", newKey(), now + DAY, now)
        uri = x509.UniformResourceIdentifier("spiffe://proxies.example/ann")
        self.bad = [
            minted(self.issuer, [name, uri])
            for name in (
                x509.DNSName("bank.example"),
                x509.DNSName(DOMAIN),
                x509.RFC822Name("ann@bank.example"),
                x509.IPAddress(IPv4Address("192.0.2.1")),
            )
        ]

    def test_openssl(self) -> None:
        """
        OpenSSL, to the letter of RFC 5280, takes those of the domain, and no others.
        """
        command = requirePeer("openssl")
        with tempfile.TemporaryDirectory() as folder:
            anchor = write(f"{folder}/ca.pem", self.issuer.certificate.public_bytes(Encoding.PEM))

            def verified(leaf: x509.Certificate) -> str:
                file = write(f"{folder}/leaf.pem", leaf.public_bytes(Encoding.PEM))
                line = [command, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", anchor, file]
                found = subprocess.run(line, capture_output=True, text=True, check=False)
                return found.stderr if found.returncode else ""

            self.assertEqual(["", "", "", ""], [verified(leaf) for leaf in self.good])
            for leaf in (self.foreign, *self.bad[:3], minted(self.issuer, [x509.RFC822Name("a@b.invalid")], "Others")):
                self.assertIn("permitted subtree violation", verified(leaf))
            self.assertIn("excluded subtree violation", verified(self.bad[3]))

    def test_gnutls(self) -> None:
        """
        GnuTLS takes those of the domain, and none with other DNS names, addresses or e-mail addresses.  It does not
        look at URIs.
        """
        if not gnutls.available():
            raise SkipTest("there is no GnuTLS")
        self.assertEqual([True] * 4, [gnutls.verifies(self.issuer.certificate, leaf) for leaf in self.good])
        self.assertEqual([False] * 4, [gnutls.verifies(self.issuer.certificate, leaf) for leaf in self.bad])


class LoadTests(SynchronousTestCase):
    """
    Authorities in files.
    """

    def setUp(self) -> None:
        """
        Write one.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.issuer, self.key = made()
        self.ca = self.write("ca.pem", self.issuer.certificate)
        self.file = write(f"{self.folder}/key.pem", keyPEM(self.key))

    def write(self, name: str, *certificates: x509.Certificate) -> str:
        """
        Write certificates.
        """
        return write(str(Path(self.folder) / name), *(each.public_bytes(Encoding.PEM) for each in certificates))

    def test_good(self) -> None:
        """
        What is written is read.
        """
        loaded = Issuer.load(self.ca, self.file, NOW)
        self.assertEqual(self.issuer, loaded)
        self.assertEqual(DOMAIN, loaded.domain)
        loaded.issue("ann", newKey(), NOW + DAY, NOW)
        self.assertNotIn("_key=<", repr(loaded))

    def refused(self, sentence: str, ca: str = "", key: str = "", now: datetime = NOW) -> None:
        """
        It is not taken.
        """
        problem = self.assertRaises(CertificateProblem, Issuer.load, ca or self.ca, key or self.file, now)
        self.assertIn(sentence, str(problem))

    def test_exposed(self) -> None:
        """
        A key that others can read is an error, and not only a warning.
        """
        Path(self.file).chmod(0o640)
        self.refused(f"{self.file} holds the private key of a CA and is open to others than its owner (mode 0640)")

    def test_otherKey(self) -> None:
        """
        Somebody else's key.
        """
        _, other = made()
        self.refused("does not match the certificate", key=write(f"{self.folder}/other.pem", keyPEM(other)))

    def test_time(self) -> None:
        """
        One that is over, or has not begun.
        """
        self.refused("is not valid now: replace CN=Client proxies", now=NOW + 366 * DAY)
        self.refused("is not valid now", now=NOW - DAY)

    def test_several(self) -> None:
        """
        One file holds one authority.
        """
        both = self.write("both.pem", self.issuer.certificate, authority().certificate)
        self.refused("holds 2 certificates: leave the one that issues", ca=both)

    def test_missing(self) -> None:
        """
        Files that are not there.
        """
        self.refused("does not exist", ca="/nowhere.pem")
        self.refused("does not exist", key="/nowhere.pem")

    def test_unbound(self) -> None:
        """
        An authority that may do anything else, too, is not taken.
        """
        holder = certify("Any CA")
        self.refused("is not made for certifying client proxies", self.write("any.pem", holder.certificate))
        self.refused("is not made for certifying", self.write("test.pem", authority().certificate))
        good = {type(each.value): each for each in self.issuer.certificate.extensions}
        constraints = good[x509.NameConstraints].value
        assert isinstance(constraints, x509.NameConstraints)
        permitted, excluded = list(constraints.permitted_subtrees or ()), list(constraints.excluded_subtrees or ())
        for value, critical in (
            (x509.BasicConstraints(ca=True, path_length=1), True),
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.NameConstraints(permitted, excluded), False),
            (x509.NameConstraints(permitted[1:], excluded), True),
            (x509.NameConstraints([*permitted, x509.DNSName("bank.example")], excluded), True),
            (x509.NameConstraints([one for one in permitted if not isinstance(one, x509.DNSName)], excluded), True),
            (x509.NameConstraints(permitted, excluded[:1]), True),
            (x509.NameConstraints(permitted, None), True),
        ):
            changed = {
                **{kind: (each.value, each.critical) for kind, each in good.items()},
                type(value): (value, critical),
            }
            own = self.issuer.certificate
            builder = x509.CertificateBuilder(
                own.subject, own.subject, self.key.public_key(), 1, own.not_valid_before_utc, own.not_valid_after_utc
            )
            for extension, isCritical in changed.values():
                builder = builder.add_extension(extension, isCritical)
            file = self.write("changed.pem", builder.sign(self.key, hashes.SHA256()))
            self.refused("is not made for certifying client proxies", file)


class RequestTests(SynchronousTestCase):
    """
    Requests for certificates.
    """

    def request(self, key: Any, algorithm: Any = None) -> bytes:
        """
        Make one.
        """
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key, algorithm).public_bytes(Encoding.DER)

    def test_good(self) -> None:
        """
        The key is what comes of it.
        """
        for key in (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            rsa.generate_private_key(65537, 2048),
        ):
            self.assertEqual(key.public_key(), readRequest(self.request(key, hashes.SHA256())))
        own = ed25519.Ed25519PrivateKey.generate()
        self.assertEqual(own.public_key(), readRequest(self.request(own)))

    def test_weakHash(self) -> None:
        """
        What is signed with a hash that collides proves nothing.
        """
        key = rsa.generate_private_key(65537, 2048)
        data = self.request(key, hashes.SHA256())
        # sha256WithRSAEncryption becomes sha1WithRSAEncryption.
        changed = data.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105"))
        self.assertNotEqual(data, changed)
        self.assertRaises(CertificateProblem, readRequest, changed)

    def test_anything(self) -> None:
        """
        Whatever comes, only the declared error is raised, and no other key comes of it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        data = self.request(key, hashes.SHA256())
        for at in range(len(data)):
            for bit in (1, 128):
                try:
                    found = readRequest(data[:at] + bytes((data[at] ^ bit,)) + data[at + 1 :])
                except CertificateProblem:
                    continue
                self.assertEqual(key.public_key(), found)
            self.assertRaises(CertificateProblem, readRequest, data[:at])
