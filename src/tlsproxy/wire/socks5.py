# -*- test-case-name: tests.wire.test_socks5 -*-
"""
The client's side of SOCKS version 5 (RFC 1928), with a user's name and password (RFC 1929) or without, for CONNECT.

Bytes in, values out: each of the proxy's answers has a reader that says how many bytes it still lacks at least, so
that none that belongs to the tunnel is ever taken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from tlsproxy.wire.host import isLiteral

__all__ = ["Reply", "Socks5Error", "connectRequest", "credentials", "greeting", "readMethod", "readVerdict"]

_VERSION: Final = 5
_AUTHENTICATION: Final = 1  # the version of RFC 1929
_CONNECT: Final = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_OPEN, _PASSWORD, _NONE = 0, 2, 0xFF

_REFUSALS: Final = {
    1: "failed for a reason that it does not tell",
    2: "does not allow that",
    3: "cannot reach that network",
    4: "cannot reach that host",
    5: "was refused the connection",
    6: "met a timeout",
    7: "knows no CONNECT",
    8: "takes no such address",
}
"""RFC 1928, section 6."""
_LATE: Final = frozenset({6})


class Socks5Error(ValueError):
    """
    The proxy refuses, or answers otherwise than it should.  Its text follows the name of the proxy: C{"refuses ..."}.

    @ivar late: Whether it says that something took too long.
    """

    def __init__(self, words: str, late: bool = False) -> None:
        super().__init__(words)
        self.late = late


def greeting(authenticates: bool) -> bytes:
    """
    Begin, RFC 1928 section 3.

    @param authenticates: Whether there are a name and a password, which are not said before the proxy wants them.
    """
    methods = bytes((_OPEN, _PASSWORD)) if authenticates else bytes((_OPEN,))
    return bytes((_VERSION, len(methods))) + methods


def readMethod(answer: bytes, authenticates: bool) -> bool:
    """
    Read the answer to that, of two bytes.

    @return: Whether the proxy wants name and password.
    @raise Socks5Error: It is no answer, or none that there is a way to go on from.
    """
    version, method = answer
    if version != _VERSION:
        raise Socks5Error("does not speak SOCKS5")
    if method == _NONE:
        wanted = "takes neither a password nor none" if authenticates else "wants a user's name and password"
        raise Socks5Error(f"{wanted}")
    if method == _PASSWORD and authenticates:
        return True
    if method != _OPEN:
        raise Socks5Error("chooses a way to authenticate that was not offered")
    return False


def credentials(user: str, password: str) -> bytes:
    """
    Say who asks, RFC 1929 section 2.

    @raise ValueError: One of them is empty, or longer than 255 bytes.
    """
    said = bytes((_AUTHENTICATION,))
    for what, word in (("name of the user", user.encode()), ("password", password.encode())):
        if not 0 < len(word) < 256:
            raise ValueError(f"for SOCKS5, the {what} has 1 to 255 bytes")
        said += bytes((len(word),)) + word
    return said


def readVerdict(answer: bytes) -> None:
    """
    Read the answer to that, of two bytes.

    @raise Socks5Error: They are not right, or it is no answer.
    """
    version, status = answer
    if version != _AUTHENTICATION:
        raise Socks5Error("answers a password with something else than SOCKS5 has")
    if status:
        raise Socks5Error("does not accept the user's name and password")


def connectRequest(host: str, port: int) -> bytes:
    """
    Ask for a connection, RFC 1928 section 4.  A name is for the proxy to look up.

    @param host: A name in ASCII, of 255 letters at most, or an address.
    @param port: 1 to 65535.
    """
    if isLiteral(host):
        address = ipaddress.ip_address(host)
        where = bytes((_IPV4 if address.version == 4 else _IPV6,)) + address.packed
    else:
        name = host.encode("ascii")
        if not 0 < len(name) < 256:
            raise ValueError(f"{host!r} is no host name")
        where = bytes((_NAME, len(name))) + name
    return bytes((_VERSION, _CONNECT, 0)) + where + port.to_bytes(2, "big")


class Reply:
    """
    Reads the answer to that, RFC 1928 section 6, however it is cut.

    @ivar need: How many bytes more it has at least; 0 once it is whole.
    """

    def __init__(self) -> None:
        self.need = 4
        self._data = b""
        self._next: Callable[[], None] = self._readHead

    def read(self, data: bytes) -> None:
        """
        Take the next bytes, no more than L{need}.

        @raise Socks5Error: The proxy refuses, or this is no answer.
        """
        if len(data) > self.need:
            raise ValueError(f"{len(data)} bytes, and {self.need} are wanted")
        self._data += data
        self.need -= len(data)
        if self._data and self._data[0] != _VERSION:
            raise Socks5Error("does not answer in SOCKS5")
        if not self.need:
            self._next()

    def _readHead(self) -> None:
        _, status, reserved, kind = self._data
        if status:
            raise Socks5Error(_REFUSALS.get(status, f"refuses, with the code {status}"), status in _LATE)
        if reserved or kind not in (_IPV4, _NAME, _IPV6):
            raise Socks5Error("does not answer in SOCKS5")
        if kind == _NAME:
            self.need, self._next = 1, self._readLength
        else:
            self.need, self._next = (4 if kind == _IPV4 else 16) + 2, self._readRest

    def _readLength(self) -> None:
        self.need, self._next = self._data[-1] + 2, self._readRest

    def _readRest(self) -> None:
        """
        Where the proxy connected from is of no concern.
        """
