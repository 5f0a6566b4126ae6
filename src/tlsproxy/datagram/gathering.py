# -*- test-case-name: tests.datagram.test_gathering -*-
"""
The side of a client whose DTLS is passed on: only its hello is read, which may come in fragments.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.sending import Wire
from tlsproxy.errors import PeerEnded
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.dtlshello import HelloPieces
from tlsproxy.wire.hellobody import ClientHello, HelloError

__all__ = ["GatheringEnd"]


class GatheringEnd(DatagramEnd):
    """
    Puts the hello together, and keeps all that it came in.
    """

    unproven = True

    def __init__(self, who: str, reactor: Any, wire: Wire) -> None:
        super().__init__(who, reactor, wire)
        self._pieces = HelloPieces()
        self._gathering: Deferred[None] | None = None
        self.take = self._gather

    def _gather(self, datagram: Buffer, count: int) -> None:
        """
        A part of the client's hello has come, or something else, which is dropped.
        """
        try:
            self.dtlsHello = self._pieces.take(bytes(datagram.view[:count]))
        except HelloError:
            return
        self.keep(datagram, count)
        if self.dtlsHello is not None:
            self.take = self.keep
            self._gathered(None)

    def _gathered(self, problem: Exception | None) -> None:
        gathering, self._gathering = self._gathering, None
        if gathering is not None:
            if problem is None:
                gathering.callback(None)
            else:
                gathering.errback(problem)

    async def peekHello(self) -> ClientHello:
        """
        Wait for the whole hello.

        @raise PeerEnded: The side is let go before.
        """
        if self.dtlsHello is None:
            self._gathering = gathering = Deferred[None](self._cancelledGathering)
            await gathering
        return await super().peekHello()

    def _cancelledGathering(self, _: object) -> None:
        self._gathering = None

    def finish(self, reset: bool = False) -> None:
        """
        See L{DatagramEnd.finish}.
        """
        super().finish(reset)
        self._gathered(PeerEnded("the session is over"))

    linger = finish
