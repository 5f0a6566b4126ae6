# -*- test-case-name: tests.tls.test_signatures -*-
"""
Texts that are signed, by Ed25519 (RFC 8032), in a line at their end.

That line is a comment of TOML: C{# signature: ed25519 KEY SIGNATURE}, with the public key (32 bytes) and the signature
(64 bytes) in base64.  What is signed is every byte before that line.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import Final

from attrs import field, frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tlsproxy.tls.keys import spkiHash

__all__ = ["Signed", "isSigned", "pinOf", "sign", "unsigned"]

_BEGIN: Final = b"# signature: "
_LINE: Final = re.compile(rb"# signature: ed25519 ([A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{86}==)\n")


@frozen
class Signed:
    """
    A text whose signature is good.

    @ivar text: All that was signed.
    @ivar signer: The public key that it is signed with: 32 bytes.  Whether that is anybody's is not looked at here.
    """

    text: bytes = field(repr=False)
    signer: bytes


def sign(text: bytes, key: Ed25519PrivateKey) -> bytes:
    """
    Sign a text.

    @param text: What has to end with a newline, and must not be signed yet.
    @return: All of it, and the line.
    @raise ValueError: It is signed, or does not end with a newline.
    """
    if not text.endswith(b"\n"):
        raise ValueError("what is signed has to end with a newline")
    if isSigned(text):
        raise ValueError("it is signed already")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return text + _line(public, key.sign(text))


def isSigned(data: bytes) -> bool:
    """
    Tell whether a text has such a line anywhere, good or not.
    """
    return any(line.lstrip().startswith(_BEGIN.rstrip()) for line in data.splitlines())


def unsigned(data: bytes) -> Signed:
    """
    Take the signature off a text, if it is good.

    @raise ValueError: There is none, or it is not good; the sentence says which, beginning with "its" or "it".
    """
    start = data.rfind(b"\n", 0, len(data) - 1) + 1
    line = _LINE.fullmatch(data[start:])
    if line is None:
        raise ValueError("it has no signature as its last line, or has been cut")
    text, signer, signature = data[:start], b64decode(line[1]), b64decode(line[2])
    if isSigned(text):
        raise ValueError("it has more than one signature")
    if data[start:] != _line(signer, signature):
        # Base64 has bits to spare, and what is signed has one form only.
        raise ValueError("its signature is not written as it has to be: somebody has changed it")
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, text)
    except (InvalidSignature, ValueError):
        raise ValueError("its signature is wrong: somebody has changed it") from None
    return Signed(text, signer)


def _line(signer: bytes, signature: bytes) -> bytes:
    return _BEGIN + b"ed25519 " + b64encode(signer) + b" " + b64encode(signature) + b"\n"


def pinOf(signer: bytes) -> bytes:
    """
    Give the SHA-256 hash of a public key for Ed25519, as a SubjectPublicKeyInfo (RFC 8410).

    @param signer: The 32 bytes of the key.
    """
    return spkiHash(Ed25519PublicKey.from_public_bytes(signer))
