# -*- test-case-name: tests.datagram.test_proof -*-
"""
How a client whose DTLS is passed on shows that it gets what is sent to it, though others than we ask it to.

It brings back the cookie that the upstream has handed out to it.  Or, where the upstream asks for none, the handshake
itself shows it: the client has sent something under keys, and after that the upstream does for the first time, as it
does only when it has found that the client knows what it was told.  Where an earlier session is resumed the upstream
is the first to use the keys, and what it sends then proves nothing.

Until then the client is sent at most a few times what it has sent itself, as in QUIC (RFC 9000, section 8.1), since
somebody may have written another's address on that.
"""

from __future__ import annotations

from collections import deque
from hmac import compare_digest
from typing import Final

from tlsproxy.wire.dtlsoutside import FINISHING, KEYED, askedFor, outside

__all__ = ["FACTOR", "Proof"]

FACTOR: Final = 3
"""How many times what it has sent itself a client may be sent."""
_COOKIES: Final = 4  # The upstream may have answered several hellos before the client hears of the first.


class Proof:
    """
    Looks at what is said on both sides of one association.

    @ivar came: How many bytes the client has sent.
    @ivar sent: How many bytes it was sent.
    """

    __slots__ = ("_asked", "_keyed", "_resumed", "_strict", "came", "sent")

    def __init__(self, strict: bool = False) -> None:
        """
        @param strict: Whether another may lose its association by it.  Then no client is believed that resumes a
            session and brings no cookie.
        """
        self.came = self.sent = 0
        self._strict = strict
        self._asked: deque[bytes] = deque(maxlen=_COOKIES)
        self._keyed = self._resumed = False

    def allows(self, count: int) -> bool:
        """
        Tell whether the client may be sent so many bytes more.
        """
        return self.sent + count <= FACTOR * self.came

    def fromClient(self, count: int, seen: int, cookie: bytes = b"") -> bool:
        """
        Something has come from the client.

        @param count: How many bytes.
        @param seen: What L{outside} tells of it.
        @param cookie: The cookie in its hello, if it is one.
        @return: Whether that proves it.
        """
        self.came += count
        if seen & (FINISHING | KEYED):
            self._keyed = True
            return self._resumed and not self._strict and bool(seen & KEYED)
        return bool(cookie) and any(compare_digest(cookie, one) for one in self._asked)

    def fromUpstream(self, datagram: memoryview | bytes) -> bool:
        """
        Something has come from the upstream.

        @return: Whether that proves the client.
        """
        seen = outside(datagram)
        if seen & KEYED and self._keyed:
            return True
        if seen & FINISHING:
            if self._keyed:
                return not self._resumed
            self._resumed = True
        cookie = askedFor(datagram)
        if cookie and cookie not in self._asked:
            self._asked.append(cookie)
        return False
