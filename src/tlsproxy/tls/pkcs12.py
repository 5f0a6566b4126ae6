# -*- test-case-name: tests.tls.test_pkcs12 -*-
"""
PKCS#12 files (RFC 7292): a certificate, its key and its chain in one file, with or without a password.
"""

from __future__ import annotations

from typing import Final

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from tlsproxy.tls.files import CertificateProblem, FileRead, readFile
from tlsproxy.tls.keys import PrivateKey, supported
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.rounds import roundsOf

__all__ = ["PKCS12", "passwordIn", "readPKCS12"]

_LONGEST_PASSWORD: Final = 1024
_MOST_ROUNDS: Final = 2_000_000
"""
How many rounds of key derivation a file may ask for, which take 0.2 s on a processor that has instructions for SHA-256.
OpenSSL writes 2,048 for each of three keys; three with the 600,000 that are recommended for passwords are fewer, too.
"""

_BROKEN: Final = "is no PKCS#12 file, or is broken: copy it again"


@frozen
class PKCS12:
    """
    A PKCS#12 file as it was read.

    @ivar file: the file.
    @ivar passwordFile: the file with its password, if there is one.
    @ivar certificates: its certificates, the key's own first.
    @ivar key: its private key.
    @ivar warnings: what the operator should know, a sentence each.
    """

    file: FileRead
    passwordFile: FileRead | None
    certificates: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)
    warnings: tuple[str, ...]


def readPKCS12(path: str, passwordFile: str | None) -> PKCS12:
    """
    Read a file and decode what is in it.

    @param path: the file.
    @param passwordFile: the file with its password; C{None} if it has none, or an empty one.

    @raise CertificateProblem: if a file cannot be read, the password is another one, or something is missing or broken.
    """
    secret = None if passwordFile is None else readFile(passwordFile, "the file with the password")
    password = None if secret is None else passwordIn(secret)
    file = readFile(path, "a PKCS#12 file")
    if b"-----BEGIN " in file.data:
        raise CertificateProblem(f"{file.name} is PEM, not PKCS#12: give it as such, with a name that ends in .pem")
    _seeWork(file)
    try:
        found = load_pkcs12(file.data, password)
        certificates = [each.certificate for each in (found.cert, *found.additional_certs) if each is not None]
        # The library decodes names only when asked, and callers must be able to rely on them.
        _ = [(each.subject, each.issuer) for each in certificates]
    except UnsupportedAlgorithm as error:
        raise CertificateProblem(
            f"{file.name} is encrypted in a way that is not supported: make it anew with openssl pkcs12 -export"
        ) from error
    except UNDECODABLE as error:
        raise CertificateProblem(f"{file.name} {_whyNot(str(error), secret)}") from error
    if found.key is None:
        raise CertificateProblem(f"{file.name} holds no private key: give the file that has the key, too")
    if not certificates:
        raise CertificateProblem(f"{file.name} holds no certificate: give the file that has the certificate, too")
    key = supported(found.key, file.name)
    # A password that lies beside the file, for everybody, protects nothing.
    exposed = file.openToOthers() if not password else secret and secret.openToOthers("a password")
    return PKCS12(file, secret, tuple(certificates), key, (exposed,) if exposed else ())


def passwordIn(file: FileRead) -> bytes:
    """
    Take a password: the only line of its file.

    @raise CertificateProblem: if there is none, or more than a line.
    """
    password = file.data.removesuffix(b"\n").removesuffix(b"\r")
    if not password:
        raise CertificateProblem(f"{file.name} is empty: write the password into it, on a line of its own")
    if b"\n" in password or len(password) > _LONGEST_PASSWORD:
        raise CertificateProblem(f"{file.name} holds more than one line with a password: leave only that")
    return password


def _seeWork(file: FileRead) -> None:
    """
    See that the keys of a file are derived in reasonable time: nothing else of the process goes on meanwhile.
    """
    try:
        rounds = roundsOf(file.data)
    except ValueError as error:
        raise CertificateProblem(f"{file.name} {_BROKEN}") from error
    if rounds > _MOST_ROUNDS:
        raise CertificateProblem(
            f"{file.name} asks for {rounds:,} rounds of key derivation, which would hold all connections up, and "
            f"{_MOST_ROUNDS:,} are the most: make it anew with openssl pkcs12 -export, without -iter"
        )


def _whyNot(problem: str, secret: FileRead | None) -> str:
    if "password" not in problem:
        return _BROKEN
    if secret is None:
        return "is broken, or has a password: say in which file that is, by cert_password_file"
    return f"is broken, or its password is another one than that in {secret.name}"
