"""
Tests for L{tlsproxy.tls.keys}.

What is said of keys that are not supported is in L{tests.tls.test_pem}.
"""

from __future__ import annotations

import base64

from attrs import evolve, frozen
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import certify, write
from tlsproxy.tls import keys
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.keys import PrivateKey, belongs, keyFamily, keyType, supported
from tlsproxy.tls.pem import readPEM

RSA = rsa.generate_private_key(65537, 2048)
KEYS: tuple[tuple[PrivateKey, str, str], ...] = (
    (RSA, "RSA", "RSA 2048"),
    (ec.generate_private_key(ec.SECP256R1()), "EC", "EC P-256"),
    (ec.generate_private_key(ec.SECP384R1()), "EC", "EC P-384"),
    (ec.generate_private_key(ec.SECP521R1()), "EC", "EC P-521"),
    (ed25519.Ed25519PrivateKey.generate(), "Ed25519", "Ed25519"),
)


@frozen
class Numbers:
    """
    The numbers of an RSA key (RFC 8017, appendix A.1.2), which can be written without being looked at.
    """

    n: int
    e: int
    d: int
    p: int
    q: int
    dmp1: int
    dmq1: int
    iqmp: int

    def pem(self) -> bytes:
        """
        Write them as a key.
        """
        order = (0, self.n, self.e, self.d, self.p, self.q, self.dmp1, self.dmq1, self.iqmp)
        body = b"".join(_DER(2, each.to_bytes(each.bit_length() // 8 + 1, "big")) for each in order)
        text = base64.encodebytes(_DER(0x30, body))
        return b"-----BEGIN RSA PRIVATE KEY-----\n" + text + b"-----END RSA PRIVATE KEY-----\n"


def _DER(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(size)]) + size + content


def _numbersOf(key: rsa.RSAPrivateKey) -> Numbers:
    own = key.private_numbers()
    public = own.public_numbers
    return Numbers(public.n, public.e, own.d, own.p, own.q, own.dmp1, own.dmq1, own.iqmp)


WHOLE = _numbersOf(RSA)


class WholeTests(SynchronousTestCase):
    """
    An RSA key is looked at without the library's own test.
    """

    def load(self, numbers: Numbers) -> PrivateKey:
        """
        Load a key with these numbers from a file.
        """
        return readPEM(write(self.mktemp(), numbers.pem()), "private key").privateKey()

    def test_huge(self) -> None:
        """
        One that nobody could use is not calculated with, which takes the longer the square of its length.
        """
        p, q = (1 << 500_000) - 1, (1 << 500_000) - 3
        huge = Numbers(n=p * q, e=65537, d=p, p=p, q=q, dmp1=q, dmq1=q, iqmp=q)
        self.patch(keys, "_isWhole", lambda key: self.fail("it was calculated with"))
        error = self.assertRaises(CertificateProblem, self.load, huge)
        self.assertIn("an RSA key of 1000000 bits, which is not supported: use RSA of 2048 to 16384 bits", str(error))

    def test_whole(self) -> None:
        """
        A key as it was made is taken.
        """
        loaded = self.load(WHOLE)
        self.assertEqual(RSA.public_key(), loaded.public_key())

    @settings(deadline=None)
    @given(st.sampled_from(["d", "p", "q", "dmp1", "dmq1", "iqmp"]), st.integers(0, 1023))
    def test_flipped(self, name: str, bit: int) -> None:
        """
        A key one bit of which has been turned over is refused, whichever number it is in.
        """
        broken = evolve(WHOLE, **{name: getattr(WHOLE, name) ^ 1 << bit})
        error = self.assertRaises(CertificateProblem, self.load, broken)
        self.assertRegex(str(error), " is broken, as (the numbers of its RSA key|its private key cannot be decoded)")

    def test_swapped(self) -> None:
        """
        So is one whose numbers are those of two keys.
        """
        other = _numbersOf(rsa.generate_private_key(65537, 2048))
        mixed = evolve(other, n=WHOLE.n)
        self.assertRaises(CertificateProblem, self.load, mixed)
        self.assertRaises(CertificateProblem, self.load, evolve(WHOLE, d=other.d))
        self.assertRaises(CertificateProblem, self.load, evolve(WHOLE, p=other.p, q=other.q))

    def test_trivial(self) -> None:
        """
        So is one whose factors are none.
        """
        for p, q in ((1, WHOLE.n), (WHOLE.n, 1), (0, 0)):
            self.assertRaises(CertificateProblem, self.load, evolve(WHOLE, p=p, q=q))


class KindTests(SynchronousTestCase):
    """
    Tests for L{keyFamily}, L{keyType}, L{supported} and L{belongs}.
    """

    def test_kinds(self) -> None:
        """
        Each kind of key that is supported has its name.
        """
        for key, family, name in KEYS:
            self.assertIs(key, supported(key, "file"))
            self.assertEqual((family, name), (keyFamily(key), keyType(key)))

    def test_belongs(self) -> None:
        """
        A certificate belongs to the key that it was issued for, and to no other.
        """
        certificates = [certify("a", key=key).certificate for key, _, _ in KEYS]
        for position, (key, _, _) in enumerate(KEYS):
            found = [belongs(key, certificate) for certificate in certificates]
            self.assertEqual([each == position for each in range(len(KEYS))], found)

    def test_formats(self) -> None:
        """
        An RSA key is read in PKCS#8 as well.
        """
        pem = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key = readPEM(write(self.mktemp(), pem), "private key").privateKey()
        self.assertEqual(RSA.public_key(), key.public_key())
