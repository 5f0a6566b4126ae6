"""
Tests for L{tlsproxy.tls}, and the certificates they are made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""
The time it is in the tests.
"""


@frozen
class Holder:
    """
    A certificate and its key.
    """

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    def pem(self) -> bytes:
        """
        The certificate as PEM.
        """
        return self.certificate.public_bytes(Encoding.PEM)

    def keyPEM(
        self,
        form: PrivateFormat = PrivateFormat.PKCS8,
        encryption: KeySerializationEncryption | None = None,
    ) -> bytes:
        """
        The key as PEM.
        """
        return self.key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def certify(
    name: str,
    issuer: Holder | None = None,
    *,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=100),
    names: Sequence[x509.GeneralName] = (),
) -> Holder:
    """
    Make a certificate.

    @param name: its common name; if empty, its subject is empty.
    @param issuer: who signs it; it signs itself if C{None}.
    @param names: its alternative names.
    """
    holderKey = ec.generate_private_key(ec.SECP256R1()) if key is None else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = x509.CertificateBuilder(
        subject if issuer is None else issuer.certificate.subject,
        subject,
        holderKey.public_key(),
        x509.random_serial_number(),
        begins,
        ends,
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not name)
    signer = holderKey if issuer is None else issuer.key
    algorithm = hashes.SHA256() if hasattr(signer, "curve") or hasattr(signer, "key_size") else None
    return Holder(builder.sign(signer, algorithm), holderKey)


def write(path: str, *parts: bytes, mode: int = 0o600) -> str:
    """
    Write a file.

    @return: its path.
    """
    Path(path).write_bytes(b"".join(parts))
    Path(path).chmod(mode)
    return path
