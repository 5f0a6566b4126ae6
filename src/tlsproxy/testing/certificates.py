# -*- test-case-name: tests.testing.test_certificates -*-
"""
Certificates for tests, made on the fly, and the TLS that a route has with them.

All of them are good at one moment, L{NOW}: the TLS made here takes that for the current time, whatever day it is.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

__all__ = ["NOW", "Holder", "authority", "certificate", "certify", "clientTLS", "pem", "revoking", "serverTLS", "write"]

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""
The time it is in the tests.
"""

_LIFETIME = timedelta(days=90)


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

    def pkcs12(self, password: bytes = b"", *issuers: Holder) -> bytes:
        """
        Both as PKCS#12.

        @param password: its password, if any.
        @param issuers: who else's certificate is in it.
        """
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        others = [each.certificate for each in issuers]
        key: Any = self.key
        return serialize_key_and_certificates(None, key, self.certificate, others, encryption)


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
    Make a certificate with nothing in it but names, good or bad ones: for tests of what is done about those.

    @param name: its common name; if empty, its subject is empty.
    @param issuer: who signs it; it signs itself if L{None}.
    @param key: its key; a new one if L{None}.
    @param begins: from when on it is valid.
    @param ends: until when it is.
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


def revoking(
    issuer: Holder, *revoked: x509.Certificate, begins: datetime = NOW - timedelta(days=1), days: int = 100
) -> bytes:
    """
    Make a list of revoked certificates, as PEM.

    @param issuer: who signs it.
    @param revoked: the certificates.
    @param begins: from when on it is good.
    @param days: for how many days it is.
    """
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(begins)
    builder = builder.next_update(begins + timedelta(days=days))
    for each in revoked:
        entry = x509.RevokedCertificateBuilder(each.serial_number, begins).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def write(path: str, *parts: bytes, mode: int = 0o600) -> str:
    """
    Write a file.

    @param path: where to.
    @param parts: what it holds.
    @param mode: who may read it; its owner alone, as befits a key.
    @return: its path.
    """
    Path(path).write_bytes(b"".join(parts))
    Path(path).chmod(mode)
    return path


@functools.cache
def authority() -> Authority:
    """
    The authority that the TLS made here trusts, on both sides.
    """
    return Authority.create("Test CA", lifetime=timedelta(days=365), now=NOW)


@functools.cache
def certificate(commonName: str, *names: str) -> Identity:
    """
    Issue a certificate that our side trusts, for a client and a server.

    @param commonName: the name of its holder.
    @param names: the DNS names and IP addresses it is good for.
    """
    return authority().issue(commonName=commonName, names=names, server=True, client=True, lifetime=_LIFETIME, now=NOW)


def pem(identity: Identity) -> bytes:
    """
    Write a certificate with its chain and its key, as programs read it from one file.
    """
    parts = [each.public_bytes(Encoding.PEM) for each in identity.chain]
    parts.append(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return b"".join(parts)


def _atTestTime(context: SSL.Context) -> None:
    store = context.get_cert_store()
    assert store is not None
    store.set_time(NOW.replace(tzinfo=None))


@functools.cache
def serverTLS(name: str = "shop.example", *, clients: str = "", **policy: Any) -> ServerTLS:
    """
    Make a route's TLS toward clients.

    @param name: the name that its certificate is good for.
    @param clients: whether clients need a certificate of L{authority}: C{"required"}, C{"optional"} or C{""}.
    @param policy: further attributes of the L{ServerPolicy}.
    """
    with tempfile.TemporaryDirectory() as folder:
        if clients:
            policy |= {"clientCa": (write(f"{folder}/ca.pem", authority().pem()),), "clientAuth": clients}
        files = CertificateFiles(write(f"{folder}/server.pem", pem(certificate("shop", name))))
        tls = ServerTLS.load(ServerPolicy(cert=files, **policy), NOW)
    _atTestTime(tls.context)
    return tls


@functools.cache
def clientTLS(name: str = "upstream.example", **policy: Any) -> ClientTLS:
    """
    Make a route's TLS toward an upstream.

    @param name: the name that the upstream has to show, in a certificate of L{authority}.
    @param policy: further attributes of the L{ClientPolicy}.
    """
    with tempfile.TemporaryDirectory() as folder:
        anchor = write(str(Path(folder) / "ca.pem"), authority().pem())
        tls = ClientTLS.load(ClientPolicy(ca=(anchor,), **policy), name, NOW)
    _atTestTime(tls.context)
    return tls
