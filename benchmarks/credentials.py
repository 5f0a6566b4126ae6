"""
The certificates of one run, made anew each time: a root and a leaf for localhost with each kind of key, and a client's.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from traffic import HOST, NAME

KEYS = ("P-256", "RSA-2048")
"""The kinds of keys that a leaf is made for."""

CLIENT = "spiffe://bench.example/client"
"""The name that a client's certificate shows."""

_ROOT = "benchmark root"
_CLIENTS = "benchmark clients"

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@frozen
class Credentials:
    """
    PEM files.

    @param ca: the root certificate.
    @param chain: the leaf certificate.
    @param key: the leaf's private key, PKCS #8.
    @param both: chain and key in one file, as haproxy and hitch want them.
    """

    ca: Path
    chain: Path
    key: Path
    both: Path


def _certificate(
    subject: str,
    key: _Key,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    names: Sequence[x509.GeneralName] = (),
    use: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    """
    Make a certificate: of an authority, if it has no names.
    """
    authority = not names
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if use is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _newKey(kind: str) -> _Key:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "P-256" else rsa.generate_private_key(65537, 2048)


def issue(folder: Path) -> dict[str, Credentials]:
    """
    Make a root, and a leaf and its key of each kind, in a folder.

    @param folder: where the files go; those with a key are readable by their owner only.
    @return: by kind of key.
    """
    rootKey = ec.generate_private_key(ec.SECP256R1())
    root = _certificate(_ROOT, rootKey, _ROOT, rootKey)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address(HOST))]
    issued = {}
    for kind in KEYS:
        leafKey = _newKey(kind)
        leaf = _certificate(NAME, leafKey, _ROOT, rootKey, names)
        issued[kind] = _write(folder / kind, root, leaf, leafKey)
    return issued


def issueClient(folder: Path) -> Credentials:
    """
    Make a root of its own, and a client's certificate that shows the name L{CLIENT}.

    @param folder: where the files go, as those of L{issue}.
    """
    rootKey, leafKey = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate(_CLIENTS, rootKey, _CLIENTS, rootKey)
    names = [x509.UniformResourceIdentifier(CLIENT)]
    leaf = _certificate("client", leafKey, _CLIENTS, rootKey, names, ExtendedKeyUsageOID.CLIENT_AUTH)
    return _write(folder / "client", root, leaf, leafKey)


def _write(folder: Path, root: x509.Certificate, leaf: x509.Certificate, key: _Key) -> Credentials:
    folder.mkdir()
    made = Credentials(folder / "ca.pem", folder / "chain.pem", folder / "key.pem", folder / "both.pem")
    chain = leaf.public_bytes(Encoding.PEM)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    authority = root.public_bytes(Encoding.PEM)
    for path, content in ((made.ca, authority), (made.chain, chain), (made.key, secret), (made.both, chain + secret)):
        path.touch(0o600)
        path.write_bytes(content)
    return made
