# -*- test-case-name: tests.wire.test_enrolltoken -*-
"""
The token that lets one client proxy enroll: a secret, and what to know the other side by.

It is one word of letters, digits, C{-} and C{_}: C{tlsproxy-token-1.} and, in base64url without padding (RFC 4648,
section 5), 8 bytes that name it, 32 that are secret, two SHA-256 hashes, and the first 4 bytes of the SHA-256 hash of
all that, by which a token that has been cut or mistyped is told from one that is refused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from attrs import field, frozen

__all__ = ["Token"]

_PREFIX: Final = "tlsproxy-token-1."
_ID: Final = 8
_SECRET: Final = 32
_HASH: Final = 32
_CHECK: Final = 4
_WORD: Final = re.compile(r"[-A-Za-z0-9_]+")


def _check(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_CHECK]


@frozen
class Token:
    """
    A token.

    @ivar id: What it is called: 16 hexadecimal digits, and no secret.
    @ivar secret: What nobody else knows, 32 random bytes.
    @ivar authorityPin: The SHA-256 hash of the public key, as a SubjectPublicKeyInfo, of a CA that the reverse proxy's
        certificate is verified by.
    @ivar signerPin: The same of the key that signs mappings.
    """

    id: str
    secret: bytes = field(repr=False)
    authorityPin: bytes
    signerPin: bytes

    @classmethod
    def new(cls, authorityPin: bytes, signerPin: bytes) -> Token:
        """
        Make a token.
        """
        return cls(secrets.token_hex(_ID), secrets.token_bytes(_SECRET), authorityPin, signerPin)

    @classmethod
    def parse(cls, text: str) -> Token:
        """
        Read a token.

        @raise ValueError: It is none, or not a whole one.  The sentence shows nothing of it.
        """
        text = text.strip()
        if not text.startswith(_PREFIX):
            raise ValueError(f"it is no token: one begins with {_PREFIX}")
        word = text.removeprefix(_PREFIX)
        length = _ID + _SECRET + 2 * _HASH + _CHECK
        data = b""
        if _WORD.fullmatch(word) and len(word) == -(-length * 4 // 3):
            data = urlsafe_b64decode(word + "=" * (-len(word) % 4))
        if len(data) != length or _check(data[:-_CHECK]) != data[-_CHECK:] or str(cls._of(data)) != text:
            raise ValueError("the token is not whole: take all of its one line")
        return cls._of(data)

    @classmethod
    def _of(cls, data: bytes) -> Token:
        first, second, third = _ID + _SECRET, _ID + _SECRET + _HASH, _ID + _SECRET + 2 * _HASH
        return cls(data[:_ID].hex(), data[_ID:first], data[first:second], data[second:third])

    def __str__(self) -> str:
        """
        Write it down, secret and all.
        """
        data = bytes.fromhex(self.id) + self.secret + self.authorityPin + self.signerPin
        return _PREFIX + urlsafe_b64encode(data + _check(data)).rstrip(b"=").decode()
