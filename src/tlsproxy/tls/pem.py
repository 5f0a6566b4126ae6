# -*- test-case-name: tests.tls.test_pem -*-
"""
PEM files (RFC 7468) with certificates and private keys: read and decoded, with one clear sentence for each thing that
can be wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from attrs import field, frozen
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from tlsproxy.tls.files import CertificateProblem, FileRead, readFile
from tlsproxy.tls.keys import PrivateKey, supported

__all__ = ["UNDECODABLE", "PEMFile", "readPEM"]

UNDECODABLE = (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""
What the library raises for certificates, and for what is in them, that do not decode.
"""

_BEGIN = b"-----BEGIN "
# Each is looked at once, so that what holds thousands of beginnings without an end takes no longer than anything else.
_BOUNDARY = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]+)-----")


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

    @ivar file: the file.
    @ivar blocks: the PEM blocks in its content.
    """

    file: FileRead
    blocks: tuple[_Block, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """
        The path, safe to print.
        """
        return self.file.name

    def certificates(self, known: dict[bytes, x509.Certificate] | None = None) -> list[x509.Certificate]:
        """
        Decode the certificates of the file.

        @param known: Certificates of other files, by their text: the issuers of many are the same few.  Those of this
            file are added, but for the first.

        @return: one certificate or more, in the order of the file.

        @raise CertificateProblem: if there is none, or one that cannot be decoded.
        """
        texts = [each.text for each in self.blocks if each.label in ("CERTIFICATE", "X509 CERTIFICATE")]
        if not texts:
            raise self._lacks("certificate")
        found: list[x509.Certificate] = []
        known = {} if known is None else known
        for number, text in enumerate(texts, 1):
            if text in known:
                found.append(known[text])
                continue
            try:
                certificate = x509.load_pem_x509_certificate(text)
                # The library decodes names only when asked, and callers must be able to rely on them.
                _ = certificate.subject, certificate.issuer
            except UNDECODABLE as error:
                raise CertificateProblem(
                    f"{self.name} is broken, as its certificate number {number} cannot be decoded: copy the file again"
                ) from error
            if found:
                known[text] = certificate
            found.append(certificate)
        return found

    def privateKey(self, remedy: str = "") -> PrivateKey:
        """
        Decode the private key of the file.

        @param remedy: what to do where the file holds other things, if it is not just the wrong file.

        @raise CertificateProblem: if there is none or more than one, or if it is encrypted, broken, or of a kind that
            is not supported.
        """
        blocks = [each for each in self.blocks if each.label.endswith("PRIVATE KEY")]
        if not blocks:
            raise self._lacks("private key", remedy)
        if len(blocks) > 1:
            raise CertificateProblem(
                f"{self.name} holds {len(blocks)} private keys: leave only the one that belongs to the certificate"
            )
        if blocks[0].label.startswith("OPENSSH"):
            raise CertificateProblem(f"{self.name} holds a key for SSH: give the private key of the certificate")
        try:
            # The library's own test of RSA keys takes long; supported() has another.
            key = load_pem_private_key(blocks[0].text, None, unsafe_skip_rsa_key_validation=True)
        except TypeError as error:
            # This is how the library says that a passphrase is missing.
            raise CertificateProblem(
                f"{self.name} is encrypted with a passphrase, which is not supported: decrypt it with "
                f"openssl pkey -in {self.file.quoted} -out NEW.pem"
            ) from error
        except UnsupportedAlgorithm:
            return supported(None, self.name)
        except ValueError as error:
            raise CertificateProblem(
                f"{self.name} is broken, as its private key cannot be decoded: copy the file again"
            ) from error
        return supported(key, self.name)

    def _lacks(self, wanted: str, remedy: str = "") -> CertificateProblem:
        """
        Say that the file does not hold what it should, and what it holds instead.
        """
        if self.blocks:
            labels = ", ".join(sorted({each.label for each in self.blocks}))
            remedy = remedy or f"give the file that has the {wanted}"
            return CertificateProblem(f"{self.name} holds no {wanted}, only {labels}: {remedy}")
        command = _commandForDER(self.file.data)
        if command is not None:
            return CertificateProblem(
                f"{self.name} is in DER form and not in PEM: convert it with "
                f"openssl {command} -inform DER -in {self.file.quoted} -out NEW.pem"
            )
        content = "is not PEM text" if self.file.data.strip() else "is empty"
        return CertificateProblem(f"{self.name} holds no {wanted}, as it {content}: give a PEM file with a {wanted}")


def readPEM(path: str, wanted: str) -> PEMFile:
    """
    Read a file and cut it into PEM blocks.

    @param path: the file.
    @param wanted: what the caller expects in it, in words for the messages.

    @raise CertificateProblem: if the file cannot be read, or if a block has no end.
    """
    file = readFile(path, f"a PEM file with a {wanted}")
    blocks = tuple(_blocksIn(file.data))
    if len(blocks) != file.data.count(_BEGIN):
        raise CertificateProblem(
            f"{file.name} is broken PEM, as a BEGIN line has no END line of its kind: copy the file again"
        )
    return PEMFile(file, blocks)


def _blocksIn(data: bytes) -> Iterator[_Block]:
    """
    Find the blocks: each from a BEGIN to the END of its kind, with neither between them.
    """
    begin: re.Match[bytes] | None = None
    for line in _BOUNDARY.finditer(data):
        if line[1] == b"BEGIN":
            begin = line
            continue
        if begin is not None and begin[2] == line[2] and data[begin.end() : begin.end() + 1].isspace():
            yield _Block(line[2].decode("ascii"), data[begin.start() : line.end()])
        begin = None


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
