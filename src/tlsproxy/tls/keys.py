# -*- test-case-name: tests.tls.test_keys -*-
"""
Private keys: which an endpoint may hold, and whether one is whole.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tlsproxy.tls.files import CertificateProblem

__all__ = ["PrivateKey", "belongs", "keyFamily", "keyType", "spkiHash", "supported"]

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""
The keys an endpoint may hold.
"""

_SMALLEST_RSA = 2048
_LARGEST_RSA = 16384  # bits; OpenSSL verifies nothing by more, and to calculate with millions of them takes hours
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def spkiHash(public: CertificatePublicKeyTypes) -> bytes:
    """
    Give the SHA-256 hash of a public key, as a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    """
    return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def supported(key: Any, name: str) -> PrivateKey:
    """
    See that a key is of a kind that is supported, and whole.

    @param key: a private key of the library.
    @param name: the file that holds it, for the messages.

    @raise CertificateProblem: if it is not.
    """
    match key:
        case rsa.RSAPrivateKey() if _SMALLEST_RSA <= key.key_size <= _LARGEST_RSA:
            if not _isWhole(key):
                raise CertificateProblem(f"{name} is broken, as the numbers of its RSA key contradict each other")
            return key
        case rsa.RSAPrivateKey():
            what = f"an RSA key of {key.key_size} bits"
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return key
        case ec.EllipticCurvePrivateKey():
            what = f"an EC key on the curve {key.curve.name}"
        case ed25519.Ed25519PrivateKey():
            return key
        case None:
            what = "a key of an unknown kind"
        case _:
            what = f"a key of the kind {type(key).__name__.removesuffix('PrivateKey')}"
    raise CertificateProblem(
        f"{name} holds {what}, which is not supported: use RSA of {_SMALLEST_RSA} to {_LARGEST_RSA} bits, "
        "EC on P-256, P-384 or P-521, or Ed25519"
    )


def _isWhole(key: rsa.RSAPrivateKey) -> bool:
    """
    See that the numbers of an RSA key fit each other, so that what it signs can be verified (RFC 8017, section 3.2).

    The library would test besides whether the factors are primes, which takes a thousand times longer.  No damage to a
    file leaves two other factors of the same modulus behind, and whoever could write them there has the key.
    """
    try:
        numbers = key.private_numbers()
    except ValueError:
        return False
    p, q, d = numbers.p, numbers.q, numbers.d
    n, e = numbers.public_numbers.n, numbers.public_numbers.e
    return (
        min(p, q, d, e) > 2
        and p * q == n
        and (e * d - 1) % (p - 1) == 0
        and (e * d - 1) % (q - 1) == 0
        and numbers.dmp1 == d % (p - 1)
        and numbers.dmq1 == d % (q - 1)
        and numbers.iqmp * q % p == 1
    )


def belongs(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """
    Tell whether a certificate was issued for a key.
    """
    try:
        return bool(certificate.public_key() == key.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return False


def keyFamily(key: PrivateKey) -> str:
    """
    Tell of which kind a key is: a server has one certificate at most of each kind for a client to choose from.

    @return: C{"RSA"}, C{"EC"} or C{"Ed25519"}.
    """
    match key:
        case rsa.RSAPrivateKey():
            return "RSA"
        case ec.EllipticCurvePrivateKey():
            return "EC"
        case _:
            return "Ed25519"


def keyType(key: PrivateKey) -> str:
    """
    Name a kind of key for people, as in C{RSA 2048}, C{EC P-256} or C{Ed25519}.
    """
    match key:
        case rsa.RSAPrivateKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePrivateKey():
            return f"EC {_CURVES.get(key.curve.name, key.curve.name)}"
        case _:
            return "Ed25519"
