# -*- test-case-name: tests.tls.test_pem -*-
"""
PEM files (RFC 7468) with certificates and private keys: read and decoded, with one clear sentence for each thing that
can be wrong with them.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

__all__ = [
    "UNDECODABLE",
    "CertificateProblem",
    "PEMFile",
    "PrivateKey",
    "few",
    "printable",
    "readPEM",
    "shortPrintable",
]

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
"""
The keys an endpoint may hold.
"""

_SMALLEST_RSA = 2048
_LONGEST_NAME = 120
_FEW = 4
_CURVES = ("secp256r1", "secp384r1", "secp521r1")

UNDECODABLE = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""
What the library raises for certificates, and for what is in them, that do not decode.
"""

_BEGIN = b"-----BEGIN "
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)


class CertificateProblem(ValueError):
    """
    A file or a name cannot be used: one sentence, which names it as it was given and says what to do.
    """


def printable(text: str) -> str:
    """
    Make text from outside safe for a log line or a terminal: what is not printable is escaped.
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def shortPrintable(text: str) -> str:
    """
    Make a name that a stranger chose safe to print, and keep it from flooding the log.
    """
    return printable(text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 3] + "...")


def few(names: Iterable[str]) -> str:
    """
    List names that a stranger chose, safe to print: the first few, and how many more there are.
    """
    shown = [shortPrintable(each) for each in names]
    more = f" and {len(shown) - _FEW} more" if len(shown) > _FEW else ""
    return ", ".join(shown[:_FEW]) + more


class _Block(NamedTuple):
    """
    One PEM block: its label, and its text with the lines around it.
    """

    label: str
    text: bytes


@frozen
class PEMFile:
    """
    A PEM file as it was read.

    @ivar path: the path as given.
    @ivar mode: its mode when it was read, with the file type.
    @ivar data: its content.
    @ivar blocks: the PEM blocks in the content.
    """

    path: str
    mode: int
    data: bytes = field(repr=False)
    blocks: tuple[_Block, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """
        The path, safe to print.
        """
        return printable(self.path)

    def certificates(self) -> list[x509.Certificate]:
        """
        Decode the certificates of the file.

        @return: one certificate or more, in the order of the file.

        @raise CertificateProblem: if there is none, or one that cannot be decoded.
        """
        texts = [each.text for each in self.blocks if each.label in ("CERTIFICATE", "X509 CERTIFICATE")]
        if not texts:
            raise self._lacks("certificate")
        found = []
        for number, text in enumerate(texts, 1):
            try:
                certificate = x509.load_pem_x509_certificate(text)
                # The library decodes names only when asked, and callers must be able to rely on them.
                _ = certificate.subject, certificate.issuer
            except UNDECODABLE as error:
                raise CertificateProblem(
                    f"{self.name} is broken, as its certificate number {number} cannot be decoded: copy the file again"
                ) from error
            found.append(certificate)
        return found

    def privateKey(self) -> PrivateKey:
        """
        Decode the private key of the file.

        @raise CertificateProblem: if there is none or more than one, or if it is encrypted, broken, or of a kind that
            is not supported.
        """
        blocks = [each for each in self.blocks if each.label.endswith("PRIVATE KEY")]
        if not blocks:
            raise self._lacks("private key")
        if len(blocks) > 1:
            raise CertificateProblem(
                f"{self.name} holds {len(blocks)} private keys: leave only the one that belongs to the certificate"
            )
        if blocks[0].label.startswith("OPENSSH"):
            raise CertificateProblem(f"{self.name} holds a key for SSH: give the private key of the certificate")
        try:
            key = load_pem_private_key(blocks[0].text, None)
        except TypeError as error:
            # This is how the library says that a passphrase is missing.
            raise CertificateProblem(
                f"{self.name} is encrypted with a passphrase, which is not supported: decrypt it with "
                f"openssl pkey -in {printable(shlex.quote(self.path))} -out NEW.pem"
            ) from error
        except UnsupportedAlgorithm as error:
            raise self._unsupported("a key of an unknown kind") from error
        except ValueError as error:
            raise CertificateProblem(
                f"{self.name} is broken, as its private key cannot be decoded: copy the file again"
            ) from error
        match key:
            case rsa.RSAPrivateKey() if key.key_size >= _SMALLEST_RSA:
                return key
            case rsa.RSAPrivateKey():
                raise self._unsupported(f"an RSA key of {key.key_size} bits")
            case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
                return key
            case ec.EllipticCurvePrivateKey():
                raise self._unsupported(f"an EC key on the curve {key.curve.name}")
            case ed25519.Ed25519PrivateKey():
                return key
        raise self._unsupported(f"a key of the kind {type(key).__name__.removesuffix('PrivateKey')}")

    def openToOthers(self) -> str | None:
        """
        Warn if others than the owner can reach the file, which is for files with a private key.

        @return: a sentence, or C{None} if all is well or if this is no regular file.
        """
        mode = stat.S_IMODE(self.mode)
        if not stat.S_ISREG(self.mode) or not mode & 0o077:
            return None
        return (
            f"{self.name} holds a private key and is open to others than its owner (mode {mode:04o}): "
            f"run chmod 600 {printable(shlex.quote(self.path))}"
        )

    def _lacks(self, wanted: str) -> CertificateProblem:
        """
        Say that the file does not hold what it should, and what it holds instead.
        """
        if self.blocks:
            labels = ", ".join(sorted({each.label for each in self.blocks}))
            return CertificateProblem(
                f"{self.name} holds no {wanted}, only {labels}: give the file that has the {wanted}"
            )
        command = _commandForDER(self.data)
        if command is not None:
            return CertificateProblem(
                f"{self.name} is in DER form and not in PEM: convert it with "
                f"openssl {command} -inform DER -in {printable(shlex.quote(self.path))} -out NEW.pem"
            )
        content = "is not PEM text" if self.data.strip() else "is empty"
        return CertificateProblem(f"{self.name} holds no {wanted}, as it {content}: give a PEM file with a {wanted}")

    def _unsupported(self, what: str) -> CertificateProblem:
        """
        Say that the key is of a kind that cannot be used, and which can.
        """
        return CertificateProblem(
            f"{self.name} holds {what}, which is not supported: use RSA of {_SMALLEST_RSA} bits or more, "
            "EC on P-256, P-384 or P-521, or Ed25519"
        )


def readPEM(path: str, wanted: str) -> PEMFile:
    """
    Read a file and cut it into PEM blocks.

    @param path: the file.
    @param wanted: what the caller expects in it, in words for the messages.

    @raise CertificateProblem: if the file cannot be read, or if a block has no end.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
            # The open file is asked, not the path: the answer is about the bytes that were read.
            mode = os.fstat(file.fileno()).st_mode
    except (OSError, ValueError) as error:
        raise CertificateProblem(f"{printable(path)} {_whyUnreadable(error, wanted)}") from error
    blocks = tuple(_Block(each[1].decode("ascii"), each[0]) for each in _BLOCK.finditer(data))
    if len(blocks) != data.count(_BEGIN):
        raise CertificateProblem(
            f"{printable(path)} is broken PEM, as a BEGIN line has no END line of its kind: copy the file again"
        )
    return PEMFile(path, mode, data, blocks)


def _whyUnreadable(error: OSError | ValueError, wanted: str) -> str:
    """
    Say what is wrong with a path, and what to do about it.
    """
    match error:
        case FileNotFoundError():
            return f"does not exist: give the path of a PEM file with a {wanted}"
        case IsADirectoryError():
            return f"is a directory: give the path of a PEM file with a {wanted}"
        case PermissionError():
            return f"may not be read by user id {os.geteuid()}: change its owner or its permissions"
        case OSError():
            return f"cannot be read ({error.strerror}): give the path of a PEM file with a {wanted}"
        case _:
            return f"is no path that can be opened: give the path of a PEM file with a {wanted}"


def _commandForDER(data: bytes) -> str | None:
    """
    Tell which C{openssl} command reads these bytes as DER, if one does.
    """
    try:
        x509.load_der_x509_certificate(data)
        return "x509"
    except UNDECODABLE:
        pass
    try:
        load_der_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm):
        return None
    except TypeError:
        # An encrypted key; the command asks for its passphrase.
        pass
    return "pkey"
