"""
Tests for L{tlsproxy.tls.pkcs12}.
"""

from __future__ import annotations

import contextlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import certify, write
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.pkcs12 import PKCS12, readPKCS12

ROOT = certify("Root")
INTERMEDIATE = certify("Intermediate", ROOT)
SHOP = certify("shop.example", INTERMEDIATE)
PLAIN = SHOP.pkcs12()


class ReadTests(SynchronousTestCase):
    """
    Files that are good.
    """

    def read(self, data: bytes, password: bytes | None = None, mode: int = 0o600) -> PKCS12:
        """
        Read a file with this content.

        @param password: what the file with its password holds.
        @param mode: the mode of both.
        """
        secret = None if password is None else write(self.mktemp(), password, mode=mode)
        return readPKCS12(write(self.mktemp(), data, mode=mode), secret)

    def test_all(self) -> None:
        """
        A file holds a key, its certificate first, and any others.
        """
        found = self.read(SHOP.pkcs12(b"secret", INTERMEDIATE, ROOT), b"secret")
        self.assertEqual(SHOP.certificate, found.certificates[0])
        self.assertEqual({INTERMEDIATE.certificate, ROOT.certificate}, set(found.certificates[1:]))
        self.assertEqual(SHOP.key.public_key(), found.key.public_key())
        self.assertEqual((), found.warnings)

    def test_password(self) -> None:
        """
        The password is the file's one line, whatever the line ends with, and spaces belong to it.
        """
        for ending in (b"", b"\n", b"\r\n"):
            for password in (b"secret", b" sec ret\t", "schl\xfcssel".encode()):
                self.read(SHOP.pkcs12(password), password + ending)

    def test_none(self) -> None:
        """
        Without a password file there is no password, or an empty one.
        """
        self.read(PLAIN)

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
            self.assertEqual(key.public_key(), self.read(holder.pkcs12(b"x"), b"x").key.public_key())

    def test_open(self) -> None:
        """
        There is a warning where others can read what protects the key: the file if it has no password, or else the
        file with the password.
        """
        [warning] = self.read(PLAIN, mode=0o644).warnings
        self.assertIn("holds a private key and is open to others", warning)
        [warning] = self.read(SHOP.pkcs12(b"secret"), b"secret", mode=0o644).warnings
        self.assertIn("holds a password and is open to others", warning)

    def test_secret(self) -> None:
        """
        Neither the password nor the key is in the representation.
        """
        shown = repr(self.read(SHOP.pkcs12(b"Sesame"), b"Sesame"))
        self.assertNotIn("Sesame", shown)
        self.assertNotIn("PrivateKey", shown)


class ProblemTests(SynchronousTestCase):
    """
    Each problem is one sentence that names the file.
    """

    def problem(self, data: bytes | None, password: bytes | None = None) -> str:
        """
        Read a file that cannot be used, and return what is said, with short names for the files.
        """
        path = self.mktemp() if data is None else write(self.mktemp(), data)
        secret = None if password is None else write(self.mktemp(), password)
        said = str(self.assertRaises(CertificateProblem, readPKCS12, path, secret))
        return said.replace(path, "store").replace(secret or path, "password")

    def test_missing(self) -> None:
        """
        A file that does not exist is named.
        """
        self.assertEqual("store does not exist: give the path of a PKCS#12 file", self.problem(None))
        said = str(self.assertRaises(CertificateProblem, readPKCS12, write(self.mktemp(), PLAIN), "nope"))
        self.assertEqual("nope does not exist: give the path of the file with the password", said)

    def test_password(self) -> None:
        """
        A password that is missing, wrong, or needless is told, and never shown.
        """
        locked = SHOP.pkcs12(b"secret")
        self.assertEqual(
            "store is broken, or has a password: say in which file that is, by cert_password_file",
            self.problem(locked),
        )
        self.assertEqual(
            "store is broken, or its password is another one than that in password", self.problem(locked, b"geheim")
        )
        for password in (b"", b"\n", b"\r\n"):
            self.assertEqual(
                "password is empty: write the password into it, on a line of its own", self.problem(locked, password)
            )
        for password in (b"secret\nmore\n", b"s" * 1025):
            self.assertEqual(
                "password holds more than one line with a password: leave only that", self.problem(locked, password)
            )

    def test_other(self) -> None:
        """
        What is no PKCS#12 is told to be none, PEM as such.
        """
        for data in (b"", b"Hello", PLAIN[:-1], SHOP.certificate.public_bytes(Encoding.DER)):
            self.assertIn("store is ", self.problem(data))
        self.assertEqual(
            "store is PEM, not PKCS#12: give it as such, with a name that ends in .pem",
            self.problem(SHOP.pem() + SHOP.keyPEM()),
        )

    def test_incomplete(self) -> None:
        """
        A file without a key, or without a certificate, is said to lack it.
        """
        key: Any = SHOP.key
        bare = serialize_key_and_certificates(None, None, None, [SHOP.certificate], NoEncryption())
        self.assertEqual("store holds no private key: give the file that has the key, too", self.problem(bare))
        bare = serialize_key_and_certificates(None, key, None, None, BestAvailableEncryption(b"x"))
        self.assertEqual(
            "store holds no certificate: give the file that has the certificate, too", self.problem(bare, b"x")
        )

    def test_rounds(self) -> None:
        """
        A file whose keys would take too long to derive is refused at once, with or without its password.
        """
        key: Any = SHOP.key
        encryption = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1_100_000).build(b"x")
        data = serialize_key_and_certificates(None, key, SHOP.certificate, None, encryption)
        for password in (None, b"x", b"y"):
            self.assertRegex(
                self.problem(data, password),
                "^store asks for 2,20.,... rounds of key derivation, which would hold all connections up, and "
                "2,000,000 are the most: make it anew with openssl pkcs12 -export, without -iter$",
            )

    def test_smallKey(self) -> None:
        """
        A key that is not supported is told as in any other file.
        """
        holder = certify("shop.example", key=rsa.generate_private_key(65537, 1024))
        self.assertIn("store holds an RSA key of 1024 bits, which is not supported", self.problem(holder.pkcs12()))

    @settings(deadline=None)
    @given(st.integers(0, len(PLAIN) - 1), st.binary(max_size=9))
    def test_damaged(self, position: int, junk: bytes) -> None:
        """
        However a file is damaged, it is decoded or refused with the declared error.
        """
        path = write(self.mktemp(), PLAIN[:position] + junk + PLAIN[position + len(junk) :])
        with contextlib.suppress(CertificateProblem):
            found = readPKCS12(path, None)
            self.assertIsInstance(found.certificates[0], x509.Certificate)
