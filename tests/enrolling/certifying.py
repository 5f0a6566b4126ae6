# -*- test-case-name: tests.enrolling -*-
"""
Keys of client proxies, and a certifier that gives each what it asks for.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

__all__ = ["START", "WEEK", "Asker", "serialOf"]

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
_CERTIFIER = Ed25519PrivateKey.from_private_bytes(bytes(32))


@frozen
class Asker:
    """
    Who asks with a key of its own.

    @ivar now: When the certificate begins.
    @ivar life: How long it is valid, but for the end of its lineage.
    @ivar asked: For what names and until when certificates have been made.
    """

    now: datetime = START
    life: timedelta = WEEK
    key: Ed25519PrivateKey = field(factory=Ed25519PrivateKey.generate)
    asked: list[tuple[str, datetime]] = field(factory=list)

    @property
    def spki(self) -> bytes:
        """
        The hash of its public key.
        """
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).digest()

    def issue(self, name: str, until: datetime) -> x509.Certificate:
        """
        Make its certificate.
        """
        self.asked.append((name, until))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now)
            .not_valid_after(min(self.now + self.life, until))
        )
        return builder.sign(_CERTIFIER, None)


def serialOf(pem: bytes) -> int:
    """
    Read the serial number of a certificate.
    """
    return x509.load_pem_x509_certificate(pem).serial_number
