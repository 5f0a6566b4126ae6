# -*- test-case-name: tests.enrolling.test_possession -*-
"""
L{tlsproxy.enrolling.possession}: keys, and what is given for them.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.chains import authority, issued, patched
from tlsproxy.enrolling.possession import (
    Key,
    Unfit,
    certified,
    identityOf,
    newKey,
    pinned,
    readKey,
    requestFor,
    writeKey,
)
from tlsproxy.testing.certificates import NOW, Holder, certify
from tlsproxy.tls.issuing import Issuer, readRequest

DAY = timedelta(days=1)
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ID = "spiffe://proxies.example/laptop"


def pinFor(holder: Holder) -> bytes:
    """
    Give the hash of a key.
    """
    public = holder.certificate.public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


class KeyTests(SynchronousTestCase):
    """
    Keys, and requests.
    """

    def test_request(self) -> None:
        """
        A request has the public key and nothing that says who asks.
        """
        key = newKey()
        request = requestFor(key)
        self.assertEqual(key.public_key(), readRequest(request))
        parsed = x509.load_der_x509_csr(request)
        self.assertEqual(([], []), (list(parsed.subject), list(parsed.extensions)))
        private = key.private_numbers().private_value.to_bytes(32, "big")
        self.assertNotIn(private, request)

    def test_same(self) -> None:
        """
        A key is read as it was written, with whatever stands before it; others are refused.
        """
        key = newKey()
        self.assertEqual(key.private_numbers(), readKey(b"# for you\n" + writeKey(key)).private_numbers())
        other = ed25519.Ed25519PrivateKey.generate()
        bad = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        for data in (b"", b"rubbish", writeKey(key)[:-40], bad):
            self.assertRaises(ValueError, readKey, data)


class CertifiedTests(SynchronousTestCase):
    """
    Certificates that come.
    """

    def setUp(self) -> None:
        """
        Have a key.
        """
        self.key: Key = newKey()
        self.ca = authority("Proxies")

    def made(self, *extensions: x509.ExtensionType, uri: tuple[str, ...] = (ID,), dns: tuple[str, ...] = ()) -> bytes:
        """
        Make a certificate for the key.
        """
        return issued("laptop", self.ca, key=self.key, uri=uri, dns=dns, extensions=extensions or (CLIENT,)).pem()

    def test_good(self) -> None:
        """
        What the authority issues is taken, and it is told whose it is, and until when.
        """
        issuer, _ = Issuer.create("proxies.example", 100 * DAY, NOW)
        one = issuer.issue("laptop", self.key.public_key(), NOW + DAY, NOW)
        taken = certified(one.public_bytes(Encoding.PEM), self.key, NOW)
        self.assertEqual(("proxies.example", "laptop", NOW + DAY), (taken.domain, taken.name, taken.notAfter))
        self.assertEqual((one.serial_number, NOW - timedelta(hours=1)), (taken.serial, taken.notBefore))

    def test_wrong(self) -> None:
        """
        What is not what was asked for is refused.
        """
        good = self.made()
        server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        for words, pem in (
            ("is not one certificate", b""),
            ("is not one certificate", good + good),
            ("is not one certificate", good + writeKey(self.key)),
            ("is not one certificate", good.replace(b"CERTIFICATE", b"X509 CRL")),
            ("cannot be decoded", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("for another key", certify("laptop").pem()),
            ("not for a client", self.made(server)),
            ("not for a client", self.made(CLIENT, ca)),
            ("does not say whose", self.made(uri=())),
            ("does not say whose", self.made(uri=(ID, ID + "2"))),
            ("does not say whose", self.made(uri=(), dns=("laptop.example",))),
            ("does not say whose", self.made(dns=("laptop.example",))),
            ("does not say whose", self.made(uri=("https://proxies.example/laptop",))),
            ("does not say whose", self.made(uri=("spiffe://proxies.example/a/b",))),
            ("does not say whose", self.made(uri=("spiffe://Proxies.example/a",))),
            ("does not say whose", self.made(uri=("spiffe://proxies..example/a",))),
        ):
            with self.assertRaises(Unfit) as caught:
                certified(pem, self.key, NOW)
            self.assertIn(words, str(caught.exception))
        for now in (NOW - 2 * DAY, NOW + 101 * DAY):
            with self.assertRaises(Unfit) as caught:
                certified(good, self.key, now)
            self.assertIn("set the clock", str(caught.exception))

    def test_number(self) -> None:
        """
        A serial number that none may have is refused, and not written down where it could not be read again.
        """
        made = issued("laptop", self.ca, key=self.key, uri=(ID,), extensions=(CLIENT,))
        number = made.certificate.serial_number.to_bytes(20, "big")
        negative = patched(made, number, bytes([number[0] | 0x80]) + number[1:])
        self.assertLess(negative.certificate.serial_number, 0)
        with self.assertRaises(Unfit) as caught:
            certified(negative.pem(), self.key, NOW)
        self.assertIn("a serial number that none may have", str(caught.exception))
        self.flushWarnings()

    def test_nobody(self) -> None:
        """
        A certificate without names is nobody's.
        """
        self.assertRaises(Unfit, identityOf, certify("x").certificate)

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """
        Whatever comes is refused in a sentence.
        """
        key = newKey()
        for pem in (data, b"-----BEGIN CERTIFICATE-----\n" + data + b"\n-----END CERTIFICATE-----\n"):
            self.assertRaises(Unfit, certified, pem, key, NOW)
            self.assertRaises(Unfit, pinned, pem, bytes(32), NOW)


class PinnedTests(SynchronousTestCase):
    """
    Authorities that come.
    """

    def test_good(self) -> None:
        """
        Of many, the one is taken whose key the token names.
        """
        mine, other = authority("Mine"), authority("Other")
        self.assertEqual([mine.certificate], pinned(other.pem() + mine.pem(), pinFor(mine), NOW))

    def test_wrong(self) -> None:
        """
        Strangers, those that have expired, and what is none are refused.
        """
        mine, leaf = authority("Mine"), certify("leaf")
        for words, pem, pin, now in (
            ("is not the one that the token names", mine.pem(), bytes(32), NOW),
            ("has expired", mine.pem(), pinFor(mine), NOW + 200 * DAY),
            ("no CA", leaf.pem(), pinFor(leaf), NOW),
            ("cannot be decoded", b"", bytes(32), NOW),
        ):
            with self.assertRaises(Unfit) as caught:
                pinned(pem, pin, now)
            self.assertIn(words, str(caught.exception))
