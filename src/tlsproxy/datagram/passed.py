# -*- test-case-name: tests.datagram.test_passed -*-
"""
The side of a client whose DTLS is passed on as it is.

Until the client has shown that it gets what is sent to it, what is too much for somebody who has not waits here, and
goes when the client has sent more, or has shown it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.proof import Proof
from tlsproxy.datagram.sending import Wire
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.dtlshello import DTLSHello
from tlsproxy.wire.dtlsoutside import outside

__all__ = ["MOST_WAITING", "UNPROVEN", "PassedEnd"]

MOST_WAITING: Final = 16384
"""How many bytes wait for a client: more than a chain of certificates takes."""
_MOST_DATAGRAMS: Final = 64
UNPROVEN: Final = "unproven"
"""More for a client than it may be sent before it has shown where it is."""


class PassedEnd(DatagramEnd):
    """
    A client's side.

    @ivar unproven: Whether the client has not shown yet that it gets what is sent to it.
    @ivar onProven: Called once it has.
    @ivar upstream: The other side, until it has sent something.
    @ivar turn: When it was last for this association that a hello came.
    """

    unproven = True

    def __init__(self, reactor: Any, wire: Wire, hello: DTLSHello, strict: bool = False) -> None:
        """
        @param hello: The client's first.
        @param strict: As for L{Proof}.
        """
        super().__init__("the client", reactor, wire, dtlsHello=hello)
        self.onProven: Callable[[], object] | None = None
        self.upstream: DatagramEnd | None = None
        self.turn = 0
        self._proof = Proof(strict)
        self._waiting: deque[bytes] = deque()
        self._waitingBytes = 0

    def isFor(self, hello: DTLSHello) -> bool:
        """
        Tell whether a hello asks for the same as the first, in all that may lead it elsewhere.
        """
        assert self.dtlsHello is not None
        ours, theirs = self.dtlsHello.hello, hello.hello
        return (ours.serverName, ours.alpn) == (theirs.serverName, theirs.alpn)

    def came(self, datagram: Buffer, count: int) -> None:
        """
        See L{DatagramEnd.came}.
        """
        self.heard(datagram, count, outside(datagram.view[:count]))

    def heard(self, datagram: Buffer, count: int, seen: int, cookie: bytes = b"") -> None:
        """
        Something has come from the client.

        @param seen: What L{outside} tells of it.
        @param cookie: The cookie in the hello, if it is one, or completes one.
        """
        if self.unproven:
            if self._proof.fromClient(count, seen, cookie):
                self._proven()
            else:
                self._release()
        self.take(datagram, count)

    def emit(self, clear: Buffer, count: int) -> bool:
        """
        See L{DatagramEnd.emit}.
        """
        if not self.unproven:
            return super().emit(clear, count)
        if self.upstream is not None:
            self.upstream.doubted, self.upstream = False, None
        view = clear.view[:count]
        if self._proof.fromUpstream(view):
            self._proven()
            return super().emit(clear, count)
        if not self._waiting and self._proof.allows(count):
            self._proof.sent += count
            return super().emit(clear, count)
        if self._waitingBytes + count > MOST_WAITING or len(self._waiting) >= _MOST_DATAGRAMS:
            self.dropped[UNPROVEN] += 1
            return False
        self._waiting.append(bytes(view))
        self._waitingBytes += count
        return True

    def _release(self) -> None:
        """
        Send what waits, as far as the client may have it.
        """
        while self._waiting and (not self.unproven or self._proof.allows(len(self._waiting[0]))):
            datagram = self._waiting.popleft()
            self._waitingBytes -= len(datagram)
            self._proof.sent += len(datagram)
            self.transmit(datagram)

    def _proven(self) -> None:
        """
        The client is where it says.
        """
        self.unproven = False
        self._release()
        self.wire.settled(self)
        told, self.onProven = self.onProven, None
        if told is not None:
            told()

    def _leave(self) -> None:
        """
        See L{DatagramEnd._leave}.
        """
        super()._leave()
        self._waiting.clear()
        self.onProven = self.upstream = None
