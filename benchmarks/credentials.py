"""
The certificates of one run: a root and a leaf for localhost with each kind of key, made anew each time.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from traffic import HOST, NAME

KEYS = ("P-256", "RSA-2048")
"""The kinds of keys that a leaf is made for."""

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
    subject: str, key: _Key, issuer: str, signer: ec.EllipticCurvePrivateKey, authority: bool
) -> x509.Certificate:
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
    if not authority:
        names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address(HOST))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
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
    root = _certificate("benchmark root", rootKey, "benchmark root", rootKey, True).public_bytes(Encoding.PEM)
    issued = {}
    for kind in KEYS:
        leafKey, own = _newKey(kind), folder / kind
        own.mkdir()
        leaf = _certificate(NAME, leafKey, "benchmark root", rootKey, False).public_bytes(Encoding.PEM)
        key = leafKey.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        issued[kind] = made = Credentials(own / "ca.pem", own / "chain.pem", own / "key.pem", own / "both.pem")
        for path, content in ((made.ca, root), (made.chain, leaf), (made.key, key), (made.both, leaf + key)):
            path.touch(0o600)
            path.write_bytes(content)
    return issued
