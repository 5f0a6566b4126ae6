"""
Authorities, and the certificates that they issue, with whatever a test wants in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tlsproxy.testing.certificates import NOW, Holder

_KEY_USAGES = (
    "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
    "encipher_only decipher_only"
).split()


def authority(name: str, issuer: Holder | None = None) -> Holder:
    """
    Make a CA.

    @param issuer: who signs it; it signs itself if C{None}.
    """
    usages = {each: each in ("key_cert_sign", "crl_sign") for each in _KEY_USAGES}
    extensions = [x509.BasicConstraints(ca=True, path_length=None), x509.KeyUsage(**usages)]
    return issued(name, issuer, extensions=extensions)


def issued(
    commonName: str | Sequence[str],
    issuer: Holder | None = None,
    *,
    ou: Sequence[str] = (),
    dns: Sequence[str] = (),
    uri: Sequence[str] = (),
    key: ec.EllipticCurvePrivateKey | None = None,
    extensions: Sequence[x509.ExtensionType] = (),
) -> Holder:
    """
    Issue a certificate.

    @param commonName: its common name, or several.
    @param issuer: who signs it; it signs itself if C{None}.
    @param ou: organizational units.
    @param dns: DNS names.
    @param uri: URIs.
    @param key: its key; a new one if C{None}.
    @param extensions: what it says beside.
    """
    names = [commonName] if isinstance(commonName, str) else commonName
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in names]
        + [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, each) for each in ou]
    )
    own = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        subject if issuer is None else issuer.certificate.subject,
        subject,
        own.public_key(),
        x509.random_serial_number(),
        NOW - timedelta(days=1),
        NOW + timedelta(days=100),
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
    alternatives += [x509.UniformResourceIdentifier(each) for each in uri]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    for each in extensions:
        builder = builder.add_extension(each, critical=True)
    return Holder(builder.sign(own if issuer is None else issuer.key, hashes.SHA256()), own)


def patched(holder: Holder, old: bytes, new: bytes) -> Holder:
    """
    Change bytes of a certificate behind its signature, as nobody who means well would.
    """
    data = holder.certificate.public_bytes(Encoding.DER)
    assert data.count(old) > 0 and len(old) == len(new)
    return Holder(x509.load_der_x509_certificate(data.replace(old, new)), holder.key)
