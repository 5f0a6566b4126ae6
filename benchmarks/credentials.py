"""
The certificates of one run: a root and one P-256 leaf for localhost, made anew each time.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from traffic import HOST, NAME


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
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, authority: bool
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


def issue(folder: Path) -> Credentials:
    """
    Make root, leaf and key in a folder.

    @param folder: where the files go; the key's file is readable by its owner only.
    """
    rootKey, leafKey = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("benchmark root", rootKey, "benchmark root", rootKey, True).public_bytes(Encoding.PEM)
    leaf = _certificate(NAME, leafKey, "benchmark root", rootKey, False).public_bytes(Encoding.PEM)
    key = leafKey.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    made = Credentials(folder / "ca.pem", folder / "chain.pem", folder / "key.pem", folder / "both.pem")
    for path, content in ((made.ca, root), (made.chain, leaf), (made.key, key), (made.both, leaf + key)):
        path.touch(0o600)
        path.write_bytes(content)
    return made
