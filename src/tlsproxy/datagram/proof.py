# -*- test-case-name: tests.datagram.test_proof -*-
"""
How a client whose DTLS is passed on shows that it gets what is sent to it, though others than we ask it to.

It brings back the cookie that the upstream has handed out to it.  Or, where the upstream asks for none, the handshake
itself shows it: the upstream has said all that it can without the client, the client has sent something under keys, and
after that the upstream does for the first time, as it does only when it has found that the client knows what it was
told.  Where an earlier session is resumed, and in DTLS 1.3, the upstream is the first to use the keys.  What it sends
then proves nothing, whenever what looks like the client's has come.

Until then the client is sent at most a few times what it has sent itself, as in QUIC (RFC 9000, section 8.1), since
somebody may have written another's address on that.
"""

from __future__ import annotations

from collections import deque
from hmac import compare_digest
from typing import Final

from tlsproxy.wire.dtlsoutside import ASKING, FINISHING, KEYED, NEWER, askedFor, outside

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

    __slots__ = ("_asked", "_keyed", "_resumed", "_strict", "_waits", "came", "sent")

    def __init__(self, strict: bool = False) -> None:
        """
        @param strict: Whether another may lose its association by it.  Then no client is believed that resumes a
            session and brings no cookie.
        """
        self.came = self.sent = 0
        self._strict = strict
        self._asked: deque[bytes] = deque(maxlen=_COOKIES)
        self._keyed = self._resumed = self._waits = False

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
        if seen & ASKING:
            self._waits = True
        if seen & NEWER:
            # It answers the client's last word of the handshake, so nothing else needs to be believed.
            self._strict = True
        if self._keyed and (seen & KEYED or (seen & FINISHING and self._waits and not self._resumed)):
            return True
        if seen & FINISHING:
            self._resumed = True
        cookie = askedFor(datagram)
        if cookie and cookie not in self._asked:
            self._asked.append(cookie)
        return False
