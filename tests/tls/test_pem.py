"""
Tests for L{tlsproxy.tls.pem}.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import errno
import os
import shlex
import ssl
import warnings
from functools import cache
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import certify, write
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.pem import readPEM

ANY = certify("any.example")


@cache
def rsaKey(bits: int) -> rsa.RSAPrivateKey:
    """
    Make an RSA key, once.
    """
    return rsa.generate_private_key(65537, bits)


class ReadPEMTests(SynchronousTestCase):
    """
    Tests for L{readPEM}: each problem of a file is one sentence that names it.
    """

    def problem(self, path: str) -> str:
        """
        Read a file that cannot be read, and return what is said.
        """
        return str(self.assertRaises(CertificateProblem, readPEM, path, "certificate"))

    def refuse(self, error: OSError) -> None:
        """
        Have every file refused with this error.
        """

        def refuse(*args: object, **more: object) -> NoReturn:
            raise error

        self.patch(builtins, "open", refuse)

    def test_missing(self) -> None:
        """
        A file that does not exist is named.
        """
        self.assertEqual(
            self.problem("nope.pem"), "nope.pem does not exist: give the path of a PEM file with a certificate"
        )

    def test_unprintable(self) -> None:
        """
        A path with control characters is named without them.
        """
        self.assertTrue(self.problem("no\npe.pem").startswith("no\\npe.pem does not exist"))

    def test_directory(self) -> None:
        """
        A directory is named as such.
        """
        path = self.mktemp()
        Path(path).mkdir()
        self.assertEqual(self.problem(path), f"{path} is a directory: give the path of a PEM file with a certificate")

    def test_permission(self) -> None:
        """
        For a file that may not be read, the user is named who tried.
        """
        self.refuse(PermissionError(errno.EACCES, "Permission denied"))
        self.assertEqual(
            self.problem("shop.pem"),
            f"shop.pem may not be read by user id {os.geteuid()}: change its owner or its permissions",
        )

    def test_otherErrors(self) -> None:
        """
        Another error of the system is passed on in its words.
        """
        self.refuse(OSError(errno.EIO, "Input/output error"))
        self.assertEqual(
            self.problem("shop.pem"),
            "shop.pem cannot be read (Input/output error): give the path of a PEM file with a certificate",
        )

    def test_noPath(self) -> None:
        """
        Text that can be no path is said to be none.
        """
        self.assertEqual(
            self.problem("a\0b"),
            "a\\x00b is no path that can be opened: give the path of a PEM file with a certificate",
        )

    def test_cutOff(self) -> None:
        """
        A block without an end breaks the file, be it the last one or one before another.
        """
        cut = ANY.pem()[:-30]
        for parts in ((ANY.pem(), cut), (cut, ANY.pem())):
            path = write(self.mktemp(), *parts)
            self.assertEqual(
                self.problem(path),
                f"{path} is broken PEM, as a BEGIN line has no END line of its kind: copy the file again",
            )

    def test_manyBeginnings(self) -> None:
        """
        That is found out in one pass, however many there are: nothing else runs meanwhile.
        """
        for end in (b"", b"-----END B-----\n"):
            path = write(self.mktemp(), (b"-----BEGIN A-----\n" + end) * 100_000)
            self.assertIn("broken PEM", self.problem(path))

    def test_noContentInRepresentation(self) -> None:
        """
        The content, which may be a key, is not in the representation.
        """
        path = write(self.mktemp(), ANY.keyPEM())
        self.assertNotIn("PRIVATE", repr(readPEM(path, "private key")))


class CertificatesTests(SynchronousTestCase):
    """
    Tests for L{tlsproxy.tls.pem.PEMFile.certificates}.
    """

    def problem(self, *parts: bytes) -> str:
        """
        Decode the certificates of a file called C{bad} that has none or broken ones, and return what is said.
        """
        path = write(self.mktemp(), *parts)
        pem = readPEM(path, "certificate")
        return str(self.assertRaises(CertificateProblem, pem.certificates)).replace(path, "bad")

    def test_found(self) -> None:
        """
        Certificates are found in their order, among comments, keys, parameters and lines with carriage returns.
        """
        other = certify("other.example")
        parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
        path = write(
            self.mktemp(), b"Bag Attributes\n", ANY.pem(), parameters, ANY.keyPEM(), other.pem().replace(b"\n", b"\r\n")
        )
        self.assertEqual(readPEM(path, "certificate").certificates(), [ANY.certificate, other.certificate])

    def test_broken(self) -> None:
        """
        A certificate that cannot be decoded is told by its number.
        """
        broken = ANY.pem().replace(b"-----BEGIN CERTIFICATE-----\nM", b"-----BEGIN CERTIFICATE-----\nA")
        self.assertEqual(
            self.problem(ANY.pem(), broken),
            "bad is broken, as its certificate number 2 cannot be decoded: copy the file again",
        )

    def test_unknownVersion(self) -> None:
        """
        A certificate of a version that does not exist is broken.
        """
        version = bytes.fromhex("a003020102")
        future = ANY.certificate.public_bytes(Encoding.DER).replace(version, version[:-1] + b"\x09")
        self.assertEqual(
            self.problem(ssl.DER_cert_to_PEM_cert(future).encode()),
            "bad is broken, as its certificate number 1 cannot be decoded: copy the file again",
        )

    def test_otherBlocks(self) -> None:
        """
        A file with other PEM blocks is told by what it holds.
        """
        self.assertEqual(
            self.problem(ANY.keyPEM()),
            "bad holds no certificate, only PRIVATE KEY: give the file that has the certificate",
        )

    def test_noPEM(self) -> None:
        """
        A file that is empty or something else altogether is said to be so.
        """
        for content, said in ((b"\n", "is empty"), (b"Hello.\n", "is not PEM text")):
            self.assertEqual(
                self.problem(content),
                f"bad holds no certificate, as it {said}: give a PEM file with a certificate",
            )

    def test_DER(self) -> None:
        """
        For a certificate in DER there is the command to convert it.
        """
        self.assertEqual(
            self.problem(ANY.certificate.public_bytes(Encoding.DER)),
            "bad is in DER form and not in PEM: convert it with openssl x509 -inform DER -in bad -out NEW.pem",
        )

    @settings(deadline=None)
    @given(st.integers(0, len(ANY.certificate.public_bytes(Encoding.DER)) - 1), st.integers(0, 255))
    def test_damaged(self, position: int, value: int) -> None:
        """
        Whatever byte of a certificate is damaged, it is decoded or refused with the declared error.
        """
        damaged = bytearray(ANY.certificate.public_bytes(Encoding.DER))
        damaged[position] = value
        path = write(self.mktemp(), ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode())
        # Odd serial numbers and the like make the library warn, which is not the point here.
        with contextlib.suppress(CertificateProblem), warnings.catch_warnings(action="ignore"):
            readPEM(path, "certificate").certificates()


class PrivateKeyTests(SynchronousTestCase):
    """
    Tests for L{tlsproxy.tls.pem.PEMFile.privateKey}.
    """

    def problem(self, *parts: bytes) -> str:
        """
        Decode the key of a file called C{bad} that has none that can be used, and return what is said.
        """
        path = write(self.mktemp(), *parts)
        pem = readPEM(path, "private key")
        return str(self.assertRaises(CertificateProblem, pem.privateKey)).replace(path, "bad")

    def unsupported(self, key: PrivateKeyTypes | bytes) -> str:
        """
        Decode a key of a kind that is not supported, and return what is said of it.
        """
        pem = key if isinstance(key, bytes) else key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        said, advice = self.problem(pem).split(", which is not supported: ")
        self.assertEqual(advice, "use RSA of 2048 to 16384 bits, EC on P-256, P-384 or P-521, or Ed25519")
        return said

    def test_supported(self) -> None:
        """
        RSA, EC and Ed25519 keys are decoded, in PKCS#8 and in the older forms.
        """
        pkcs8, older = PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL
        others: list[PrivateKeyTypes] = [rsaKey(2048)]
        others += [ec.generate_private_key(each) for each in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())]
        keys: list[tuple[PrivateKeyTypes, PrivateFormat]] = [(ed25519.Ed25519PrivateKey.generate(), pkcs8)]
        keys += [(key, form) for key in others for form in (pkcs8, older)]
        for key, form in keys:
            path = write(self.mktemp(), key.private_bytes(Encoding.PEM, form, NoEncryption()))
            self.assertEqual(readPEM(path, "private key").privateKey().public_key(), key.public_key())

    def test_none(self) -> None:
        """
        A file without a key is told by what it holds.
        """
        self.assertEqual(
            self.problem(ANY.pem()),
            "bad holds no private key, only CERTIFICATE: give the file that has the private key",
        )

    def test_several(self) -> None:
        """
        It is not guessed which of several keys is meant.
        """
        self.assertEqual(
            self.problem(ANY.keyPEM(), certify("other.example").keyPEM()),
            "bad holds 2 private keys: leave only the one that belongs to the certificate",
        )

    def test_encrypted(self) -> None:
        """
        For a key with a passphrase, in PKCS#8 or in the older form, there is the command to decrypt it.
        """
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            self.assertEqual(
                self.problem(ANY.keyPEM(form, BestAvailableEncryption(b"secret"))),
                "bad is encrypted with a passphrase, which is not supported: "
                "decrypt it with openssl pkey -in bad -out NEW.pem",
            )

    def test_quoted(self) -> None:
        """
        A command to paste quotes the path.
        """
        path = write(self.mktemp() + " '", ANY.keyPEM(encryption=BestAvailableEncryption(b"secret")))
        pem = readPEM(path, "private key")
        said = str(self.assertRaises(CertificateProblem, pem.privateKey))
        self.assertIn(f" openssl pkey -in {shlex.quote(path)} -out NEW.pem", said)

    def test_broken(self) -> None:
        """
        A key that cannot be decoded is broken.
        """
        self.assertEqual(
            self.problem(ANY.keyPEM().replace(b"KEY-----\nM", b"KEY-----\nA")),
            "bad is broken, as its private key cannot be decoded: copy the file again",
        )

    def test_SSH(self) -> None:
        """
        A key for SSH is not taken for one that TLS can use.
        """
        key = ed25519.Ed25519PrivateKey.generate()
        self.assertEqual(
            self.problem(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())),
            "bad holds a key for SSH: give the private key of the certificate",
        )

    def test_DER(self) -> None:
        """
        For a key in DER, encrypted or not, there is the command to convert it.
        """
        for encryption in (NoEncryption(), BestAvailableEncryption(b"secret")):
            self.assertEqual(
                self.problem(ANY.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)),
                "bad is in DER form and not in PEM: convert it with openssl pkey -inform DER -in bad -out NEW.pem",
            )

    def test_smallRSA(self) -> None:
        """
        An RSA key that is too small is refused, with its size.
        """
        self.assertEqual(self.unsupported(rsaKey(1024)), "bad holds an RSA key of 1024 bits")

    def test_otherCurve(self) -> None:
        """
        An EC key on another curve is refused, with the name of the curve.
        """
        key = ec.generate_private_key(ec.BrainpoolP256R1())
        self.assertEqual(self.unsupported(key), "bad holds an EC key on the curve brainpoolP256r1")

    def test_otherKind(self) -> None:
        """
        A key of another kind is refused, with the name of the kind.
        """
        self.assertEqual(self.unsupported(ed448.Ed448PrivateKey.generate()), "bad holds a key of the kind Ed448")
        self.assertEqual(self.unsupported(x25519.X25519PrivateKey.generate()), "bad holds a key of the kind X25519")

    def test_unknownKind(self) -> None:
        """
        A key of a kind that nothing here knows is refused all the same, and not called broken.
        """
        body = ANY.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        curve = bytes.fromhex("06082a8648ce3d0301")
        unknown = base64.encodebytes(body.replace(curve + b"\x07", curve + b"\x7f"))
        pem = b"-----BEGIN PRIVATE KEY-----\n" + unknown + b"-----END PRIVATE KEY-----\n"
        self.assertEqual(self.unsupported(pem), "bad holds a key of an unknown kind")

    @settings(deadline=None)
    @given(
        st.integers(0, len(ANY.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())) - 1), st.binary()
    )
    def test_damaged(self, position: int, junk: bytes) -> None:
        """
        However a key is damaged, it is decoded or refused with the declared error.
        """
        body = ANY.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        damaged = base64.encodebytes(body[:position] + junk + body[position + len(junk) :])
        path = write(self.mktemp(), b"-----BEGIN PRIVATE KEY-----\n" + damaged + b"-----END PRIVATE KEY-----\n")
        with contextlib.suppress(CertificateProblem):
            readPEM(path, "private key").privateKey()
