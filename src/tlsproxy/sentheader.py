# -*- test-case-name: tests.test_sentheader -*-
"""
The PROXY header that an upstream gets before anything else, so that it knows who the client is.

What there is to tell is what is known when the upstream is dialed.  Of the client's TLS that is our own, if we speak
any; otherwise it is what a balancer in front of us has told.
"""

from __future__ import annotations

from functools import lru_cache
from secrets import token_hex
from typing import Final

from attrs import evolve
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID
from OpenSSL import SSL

from tlsproxy.errors import SessionError
from tlsproxy.session import Session
from tlsproxy.tls.authorization import commonNameOf
from tlsproxy.tls.native import TLSConnection
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.wire.proxyheader import ProxyHeaderError, writeBinary, writeLine
from tlsproxy.wire.proxytlv import NOTHING_TOLD, ToldTLS, Vectors

__all__ = ["headerFor"]

_SIGNED: Final = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: "RSA-SHA256",
    SignatureAlgorithmOID.RSA_WITH_SHA384: "RSA-SHA384",
    SignatureAlgorithmOID.RSA_WITH_SHA512: "RSA-SHA512",
    SignatureAlgorithmOID.RSASSA_PSS: "RSASSA-PSS",
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    SignatureAlgorithmOID.ED25519: "ED25519",
    SignatureAlgorithmOID.ED448: "ED448",
}
"""What OpenSSL calls them in short, as other proxies write it."""


def headerFor(session: Session) -> bytes:
    """
    Write the header for a session's upstream.

    @raise SessionError: It would be too long.
    """
    route, client, reached = session.route, session.client, session.near.host()
    if route.sendProxy == "v1":
        return writeLine(client, reached)
    told = route.sendProxyTLVs
    try:
        return writeBinary(client, reached, _vectors(session, frozenset(told)), "crc32c" in told)
    except ProxyHeaderError as e:
        raise SessionError(str(e)) from e


def _vectors(session: Session, wanted: frozenset[str]) -> Vectors:
    before = session.proxied.header.vectors if session.proxied is not None else NOTHING_TOLD
    if "unique-id" in wanted and not session.uniqueId:
        session.uniqueId = token_hex(16)
    stream, tls = session.near.tls, None
    # It may be still to come: then there is nothing to tell yet, and least of all of a balancer's.
    ours = getattr(session.route.pattern, "tls", None) is not None
    if "ssl" in wanted:
        withCertificate = "client-cert" in wanted
        if stream is not None:
            tls = _describe(stream, session.certificate, withCertificate)
        elif before.tls is not None and not ours:
            tls = before.tls if withCertificate else evolve(before.tls, certificate=b"")
    return Vectors(
        alpn=(session.alpn if ours else before.alpn) if "alpn" in wanted else b"",
        authority=(session.serverName or before.authority) if "authority" in wanted else "",
        uniqueId=session.uniqueId.encode("latin-1") if "unique-id" in wanted else b"",
        tls=tls,
    )


def _describe(stream: TLSConnection, certificate: x509.Certificate | None, whole: bool) -> ToldTLS:
    """
    Tell of the TLS that we speak with the client.

    @param certificate: The client's.
    @param whole: Whether to tell all of it.
    """
    connection = stream.connection
    ours = connection.get_certificate(as_cryptography=True)
    signature, key = _algorithms(ours) if ours is not None else ("", "")
    shown = certificate is not None
    return ToldTLS(
        version=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        group=_group(connection),
        signatureAlgorithm=signature,
        keyAlgorithm=key,
        shown=shown,
        verified=shown and stream.verifyProblem() is None,
        commonName=commonNameOf(certificate) if certificate is not None else "",
        certificate=certificate.public_bytes(Encoding.DER) if certificate is not None and whole else b"",
    )


def _group(connection: SSL.Connection) -> str:
    try:
        return connection.get_group_name() or ""
    except NotImplementedError:
        return ""  # Some builds of OpenSSL do not tell.


@lru_cache(maxsize=64)
def _algorithms(certificate: x509.Certificate) -> tuple[str, str]:
    """
    Tell what a certificate is signed with, and its kind of key.
    """
    try:
        key = certificate.public_key()
        signature = _SIGNED.get(certificate.signature_algorithm_oid, "")
    except UNDECODABLE:
        return "", ""
    if isinstance(key, rsa.RSAPublicKey):
        return signature, f"RSA{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return signature, f"EC{key.key_size}"
    if isinstance(key, dsa.DSAPublicKey):
        return signature, f"DSA{key.key_size}"
    return signature, type(key).__name__.removesuffix("PublicKey").lstrip("_").upper()
