# -*- test-case-name: tests.wire.test_cookies -*-
"""
The cookies by which a DTLS client shows that it gets what is sent to its address, RFC 6347, section 4.2.1.

A cookie says by itself all that has to be known of it, so that nothing is kept for a client that has not sent it back.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from typing import Final

from tlsproxy.wire.dtlshello import HelloStart

__all__ = ["Cookies"]

_TICK: Final = 30.0  # seconds
_KEY: Final = 32  # bytes
_LENGTH: Final = struct.Struct(">I")

Place = tuple[str, int]


class Cookies:
    """
    Makes cookies, and tells whether one is its own.

    Each is bound to the client's address, to ours, and to what its hello begins with, and is good for 30 to 60 seconds.
    The key is chosen anew every 30 seconds, and never leaves the process.

    @cvar SIZE: The bytes of a cookie, as many as the oldest clients take.
    """

    SIZE: Final = 32

    def __init__(self, random: Callable[[int], bytes], seconds: Callable[[], float]) -> None:
        """
        @param random: Makes so many bytes that nobody can guess, as C{os.urandom} does.
        @param seconds: Tells the time.
        """
        self._random = random
        self._seconds = seconds
        self._tick: int | None = None
        self._key = b""
        self._earlier = b""

    def make(self, peer: Place, local: Place, hello: HelloStart) -> bytes:
        """
        Make the cookie for a client.

        @param peer: Its address and port.
        @param local: Those that it sent to.
        @param hello: What it sent.
        """
        self._rotate()
        return hmac.digest(self._key, _bound(peer, local, hello), "sha256")

    def holds(self, peer: Place, local: Place, hello: HelloStart) -> bool:
        """
        Tell whether the cookie of a hello was made for that client, and lately.  See L{make} for the parameters.
        """
        if len(hello.cookie) != self.SIZE:
            return False
        self._rotate()
        bound = _bound(peer, local, hello)
        holds = [
            hmac.compare_digest(hmac.digest(key, bound, "sha256"), hello.cookie) for key in (self._key, self._earlier)
        ]
        return any(holds)

    def _rotate(self) -> None:
        """
        Choose a new key where it is time.  A clock that leaps only makes clients ask again.
        """
        tick = int(self._seconds() // _TICK)
        if tick == self._tick:
            return
        follows = self._tick is not None and tick == self._tick + 1
        self._earlier = self._key if follows else self._random(_KEY)
        self._key = self._random(_KEY)
        self._tick = tick


def _bound(peer: Place, local: Place, hello: HelloStart) -> bytes:
    """
    Write down what a cookie is bound to, so that nothing else reads the same.
    """
    # RFC 6347, section 4.2.1, says that all parameters should be in it.  But a fragment does not have them all, and a
    # hello that came whole may be cut when it has grown by its cookie.  The random tells hellos apart as well; that the
    # others are not changed on their way is proven by the handshake.
    parts = [text.encode("utf-8", "surrogateescape") for text in (peer[0], local[0])]
    head = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return head + _LENGTH.pack(peer[1]) + _LENGTH.pack(local[1]) + hello.opening
