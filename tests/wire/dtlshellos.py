"""
DTLS records and ClientHellos made to order, right ones and wrong ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.wire.clienthellos import alpn, groups, helloMessage, numbers, serverName, signatureAlgorithms, vector

__all__ = ["USUAL", "body", "cut", "fragment", "record", "wholeHello"]

USUAL = [
    serverName(b"Shop.Example"),
    groups(0x2A2A, 29, 23),
    signatureAlgorithms(0x0403, 0x0804),
    alpn(b"coap", b"h2"),
    (0xFF01, b"\0"),
]
"""The extensions that a client might send."""


def record(payload: bytes, *, type: int = 22, version: int = 0xFEFF, epoch: int = 0, sequence: int = 0) -> bytes:
    """
    Make a record.
    """
    return bytes([type]) + numbers([version, epoch]) + sequence.to_bytes(6, "big") + vector(2, payload)


def body(cookie: bytes = b"", sessionID: bytes = b"", version: int = 0xFEFD, **more: Any) -> bytes:
    """
    Make the body of a hello, which has a cookie after the session id.

    @param more: As for L{helloMessage}.
    """
    bare = helloMessage(more.pop("extensions", USUAL), legacyVersion=version, sessionID=sessionID, **more)[4:]
    at = 35 + len(sessionID)
    return bare[:at] + vector(1, cookie) + bare[at:]


def fragment(
    content: bytes,
    offset: int = 0,
    size: int | None = None,
    *,
    sequence: int = 0,
    kind: int = 1,
    length: int | None = None,
) -> bytes:
    """
    Make a handshake message, or a part of one.

    @param size: Of the whole message; that of the content, unless it is told.
    @param length: What is told to be the size of the content.
    """
    whole = len(content) if size is None else size
    told = len(content) if length is None else length
    head = bytes([kind]) + whole.to_bytes(3, "big") + numbers([sequence])
    return head + offset.to_bytes(3, "big") + told.to_bytes(3, "big") + content


def wholeHello(content: bytes | None = None, *, sequence: int = 0, recordSequence: int = 0) -> bytes:
    """
    Make the datagram of a hello.

    @param content: Its body.
    """
    return record(fragment(body() if content is None else content, sequence=sequence), sequence=recordSequence)


def cut(content: bytes, sizes: Sequence[int], sequence: int = 0) -> list[bytes]:
    """
    Make the datagrams of a hello in fragments.

    @param content: Its body.
    @param sizes: How many bytes of it go into each; the last stays for all that follow.
    """
    datagrams: list[bytes] = []
    at, cuts = 0, list(sizes)
    while at < len(content):
        size = cuts.pop(0) if len(cuts) > 1 else cuts[0]
        part = fragment(content[at : at + size], at, len(content), sequence=sequence)
        datagrams.append(record(part, sequence=len(datagrams)))
        at += size
    return datagrams
