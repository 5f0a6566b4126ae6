# -*- test-case-name: tests.wire.test_dtlsoutside -*-
"""
DTLS as it looks from outside, to somebody who has no keys and passes it on.

What a datagram holds is told by the headers of its records (RFC 6347, section 4.1).  A record of DTLS 1.3 (RFC 9147,
section 4) and one with a connection ID (RFC 9146) do not say where they end to who does not know the association, so
whatever follows one belongs to it.
"""

from __future__ import annotations

from typing import Final

from tlsproxy.wire.dtls import CHANGE_CIPHER_SPEC, HANDSHAKE, HEAD

__all__ = ["ASKING", "CLEAR", "FINISHING", "HELLO", "KEYED", "NEWER", "askedFor", "outside"]

HELLO: Final = 1
"""There is a ClientHello in clear, or a part of one."""
CLEAR: Final = 2
"""There is something in clear."""
FINISHING: Final = 4
"""There is something of a handshake that keys protect."""
KEYED: Final = 8
"""There is something else that keys protect."""
ASKING: Final = 16
"""There is a ServerHelloDone in clear: the server goes on only when the client has answered, and resumes nothing."""
NEWER: Final = 32
"""There is a protected record of DTLS 1.3, where a server uses keys from its first answer on."""

_CLIENT_HELLO: Final = 1
_HELLO_VERIFY_REQUEST: Final = 3
_SERVER_HELLO_DONE: Final = 14
_HEARTBEAT: Final = 24
_WITH_CONNECTION_ID: Final = 25
_UNIFIED: Final = range(0x20, 0x40)  # what a protected record of DTLS 1.3 begins with
_SHAKING: Final = 2  # the epoch of its handshake, whose last two bits are in the first byte
_OPENING: Final = 12  # bytes of a handshake message's header
_COOKIE: Final = HEAD + _OPENING + 3  # where that of a HelloVerifyRequest begins, after the version and its length


def outside(datagram: memoryview | bytes) -> int:
    """
    Tell what a datagram holds.

    @return: The sum of L{HELLO}, L{CLEAR}, L{FINISHING}, L{KEYED}, L{ASKING} and L{NEWER}, as far as they are true.
    """
    seen = at = 0
    size = len(datagram)
    while at < size:
        kind = datagram[at]
        if size - at < HEAD or not CHANGE_CIPHER_SPEC <= kind <= _HEARTBEAT:
            if kind in _UNIFIED:
                return seen | NEWER | (FINISHING if kind & 3 == _SHAKING else KEYED)
            return seen | (KEYED if kind == _WITH_CONNECTION_ID else CLEAR)
        end = at + HEAD + (datagram[at + 11] << 8 | datagram[at + 12])
        if datagram[at + 3] or datagram[at + 4]:
            seen |= FINISHING if kind == HANDSHAKE else KEYED
        else:
            seen |= CLEAR
            if kind == HANDSHAKE:
                seen |= _messages(datagram, at + HEAD, min(end, size))
        at = end
    return seen


def _messages(datagram: memoryview | bytes, at: int, end: int) -> int:
    """
    Tell whether one of the messages of a record in clear is a ClientHello, or a ServerHelloDone.

    @param at: Where the first begins.
    @param end: Where the record ends.
    @return: The sum of L{HELLO} and L{ASKING}, as far as they are true.
    """
    seen = 0
    while at < end:
        if datagram[at] == _CLIENT_HELLO:
            return seen | HELLO
        if end - at < _OPENING:
            return seen
        if datagram[at] == _SERVER_HELLO_DONE:
            seen |= ASKING
        at += _OPENING + int.from_bytes(datagram[at + 9 : at + 12], "big")
    return seen


def askedFor(datagram: memoryview | bytes) -> bytes:
    """
    Tell which cookie a server asks a client for (RFC 6347, section 4.2.1).

    @return: C{b""} for none.
    """
    if len(datagram) < _COOKIE or datagram[0] != HANDSHAKE or datagram[3] or datagram[4]:
        return b""
    if datagram[HEAD] != _HELLO_VERIFY_REQUEST:
        return b""
    length = datagram[_COOKIE - 1]
    cookie = bytes(datagram[_COOKIE : _COOKIE + length])
    return cookie if len(cookie) == length else b""
