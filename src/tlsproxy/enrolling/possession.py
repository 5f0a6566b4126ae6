# -*- test-case-name: tests.enrolling.test_possession -*-
"""
What a client proxy is known by: a key that never leaves it, and the certificate that a reverse proxy gives it for that.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tlsproxy.tls.authorization import isForClients
from tlsproxy.tls.issuing import NAME
from tlsproxy.tls.keys import belongs, spkiHash
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.wire.network import isName

__all__ = [
    "Certified",
    "Key",
    "Unfit",
    "certified",
    "identityOf",
    "newKey",
    "pinned",
    "readKey",
    "requestFor",
    "writeKey",
]

Key = ec.EllipticCurvePrivateKey
"""The key of a client proxy, on P-256."""

_IDENTITY: Final = re.compile(rf"spiffe://([a-z0-9.-]{{1,253}})/({NAME.pattern})")
_PEM: Final = re.compile(rb"\s*-----BEGIN CERTIFICATE-----\s[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*")
_SERIALS: Final = 1 << 160
"""Above all serial numbers (RFC 5280, section 4.1.2.2)."""
_MOST: Final = 20
"""The most certificates of authorities that are looked at."""


class Unfit(ValueError):
    """
    What a reverse proxy has given is not what was asked for: one sentence.
    """


@frozen
class Certified:
    """
    A certificate, and who its holder is.

    @ivar certificate: The certificate.
    @ivar domain: The domain of the identities that its issuer gives.
    @ivar name: What the holder is called in it.
    """

    certificate: x509.Certificate
    domain: str
    name: str

    @property
    def serial(self) -> int:
        """
        The serial number.
        """
        return self.certificate.serial_number

    @property
    def notBefore(self) -> datetime:
        """
        From when on it is valid.
        """
        return self.certificate.not_valid_before_utc

    @property
    def notAfter(self) -> datetime:
        """
        Until when it is valid.
        """
        return self.certificate.not_valid_after_utc


def newKey() -> Key:
    """
    Make a key.
    """
    return ec.generate_private_key(ec.SECP256R1())


def writeKey(key: Key) -> bytes:
    """
    Write a key down, as PEM, not encrypted.
    """
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def readKey(data: bytes) -> Key:
    """
    Read what L{writeKey} has written.

    @raise ValueError: It is something else.
    """
    try:
        key = load_pem_private_key(data, None)
    except (TypeError, ValueError):
        raise ValueError("it is no private key as PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("it is no key on P-256")
    return key


def requestFor(key: Key) -> bytes:
    """
    Make a request for a certificate (PKCS#10, RFC 2986), as DER: the public key, and the proof that we have its other
    half.  Who we are is not ours to say, so its subject is empty.
    """
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def identityOf(certificate: x509.Certificate) -> tuple[str, str]:
    """
    Tell who the holder of a certificate is: the domain and the name of its SPIFFE ID.

    @raise Unfit: It has none, more than that, or one that reads otherwise.
    """
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, *UNDECODABLE):
        names = []
    only = names[0] if len(names) == 1 else None
    found = _IDENTITY.fullmatch(only.value) if isinstance(only, x509.UniformResourceIdentifier) else None
    if found is None or not isName(found[1]):
        raise Unfit("the certificate does not say whose it is by one URI, spiffe://DOMAIN/NAME")
    return found[1], found[2]


def certified(pem: bytes, key: Key, now: datetime) -> Certified:
    """
    Take a certificate from a reverse proxy.

    @param pem: The certificate.
    @param key: What it has to be for.
    @param now: The time, with its time zone, at which it has to be valid.
    @raise Unfit: It is not to be had.
    """
    if not _PEM.fullmatch(pem):
        raise Unfit("what came is not one certificate as PEM")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        mine = belongs(key, certificate)
        authority = _isAuthority(certificate)
        notBefore, notAfter = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNDECODABLE:
        raise Unfit("the certificate that came cannot be decoded") from None
    if not mine:
        raise Unfit("the certificate that came is for another key than ours")
    if not 0 < certificate.serial_number < _SERIALS:
        raise Unfit("the certificate that came has a serial number that none may have")
    if authority or not isForClients(certificate):
        raise Unfit("the certificate that came is not for a client (clientAuth) and nothing else")
    if not notBefore <= now < notAfter:
        raise Unfit(f"the certificate that came is {_times(certificate, now)}: set the clock")
    domain, name = identityOf(certificate)
    return Certified(certificate, domain, name)


def pinned(pem: bytes, pin: bytes, now: datetime) -> list[x509.Certificate]:
    """
    Find the authorities of a key among those that a stranger gives.

    @param pem: Any number of certificates.
    @param pin: The SHA-256 hash of the key, as a SubjectPublicKeyInfo.
    @param now: The time, with its time zone, at which one has to be valid.
    @raise Unfit: There is none.
    """
    try:
        every = x509.load_pem_x509_certificates(pem)
        found = [one for one in every[:_MOST] if _keyHash(one) == pin]
        valid = [one for one in found if one.not_valid_before_utc <= now < one.not_valid_after_utc]
        if valid and not any(map(_isAuthority, valid)):
            raise Unfit("what the token names is the key of a certificate that is no CA")
    except UNDECODABLE as e:
        raise e if isinstance(e, Unfit) else Unfit("the CA that came cannot be decoded") from None
    if not found:
        raise Unfit(
            "the reverse proxy's CA is not the one that the token names: the token is of another reverse proxy, or "
            "somebody stands between"
        )
    if not valid:
        raise Unfit(f"the reverse proxy's CA is {_times(found[0], now)}: set the clock, or have that CA replaced")
    return [one for one in valid if _isAuthority(one)]


def _times(certificate: x509.Certificate, now: datetime) -> str:
    notBefore, notAfter = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (
        f"valid from {notBefore:%Y-%m-%d %H:%M} to {notAfter:%Y-%m-%d %H:%M} UTC, and by this machine's clock it is "
        f"{now:%Y-%m-%d %H:%M}"
    )


def _keyHash(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
    except Exception:  # Whatever key that is, it is not the one.
        return b""
    return spkiHash(key)


def _isAuthority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
