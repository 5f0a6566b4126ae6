# -*- test-case-name: tests.datagram.test_relay -*-
"""
Moving the datagrams of a joined session, one by one.

What comes is sent at once, or dropped: there is no queue, as there is none in the network.  An association with DTLS
ends by a close_notify of either side, one in clear by nothing but the C{idle} limit; both sides end together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.deadlines import Deadlines
from tlsproxy.tls.native import Buffer

__all__ = ["DatagramDirection", "DatagramRelay"]


def _ignore(*_: str) -> None:
    """
    What a relay tells that is over.
    """


class DatagramDirection:
    """
    One way through a session.

    @ivar source: Where datagrams come from.
    @ivar sink: Where they go.
    @ivar count: How many bytes went.
    @ivar datagrams: How many datagrams went.
    """

    __slots__ = ("_emit", "_relay", "count", "datagrams", "sink", "source")

    def __init__(self, relay: DatagramRelay, source: DatagramEnd, sink: DatagramEnd) -> None:
        self._relay = relay
        self.source, self.sink = source, sink
        self._emit = sink.emit
        self.count = self.datagrams = 0

    @property
    def dropped(self) -> Counter[str]:
        """
        How many datagrams did not get there, by reason.
        """
        return self.sink.dropped

    def carry(self, datagram: Buffer, count: int) -> None:
        """
        Send on what has come.
        """
        relay = self._relay
        relay.active = relay.clock.now
        if self._emit(datagram, count):
            self.count += count
            self.datagrams += 1

    def close(self) -> None:
        """
        Cut the circles, so that nothing has to wait for the garbage collector.
        """
        del self._relay, self._emit


class DatagramRelay:
    """
    Two sides on UDP, joined: what L{tlsproxy.relay.Relay} is to streams.

    @ivar outward: From near to far.
    @ivar inward: From far to near.
    @ivar active: When a datagram last came, in seconds of the reactor's clock.
    @ivar over: Whether it is over, and both sides are let go.
    """

    __slots__ = ("_done", "_reactor", "active", "clock", "inward", "outward", "over")

    def __init__(self, near: DatagramEnd, far: DatagramEnd, clock: Deadlines, done: Callable[[str, str], None]) -> None:
        """
        @param done: As for L{tlsproxy.relay.join}.
        """
        self.clock = clock
        self.active = clock.now
        self.over = False
        self._done = done
        self._reactor = near.reactor
        self.outward = DatagramDirection(self, near, far)
        self.inward = DatagramDirection(self, far, near)

    def start(self) -> None:
        """
        Let the datagrams flow.
        """
        for direction in (self.outward, self.inward):
            if direction.source.gone:
                self.abort("reset", f"{direction.source.who} is gone")
                return
            direction.source.onEnd = self.abort
        for direction in (self.outward, self.inward):
            if not self.over:
                direction.source.join(direction.carry)

    def drains(self) -> bool:
        """
        Tell whether a peer still takes what the kernel holds for it: nothing waits there for long.
        """
        return False

    def refuse(self, reason: str, answer: bytes) -> None:
        """
        Cut the session, but let the client have what it was told last.

        @param answer: What it is told besides: one datagram.
        """
        if not self.over:
            if answer:
                self.outward.source.send(answer)
            self.abort("refused", reason)

    def abort(self, outcome: str, reason: str) -> None:
        """
        End the session: each side with DTLS is told by a close_notify.
        """
        if self.over:
            return
        self.over = True
        self.outward.source.finish()
        self.inward.source.finish()
        done, self._done = self._done, _ignore
        done(outcome, reason)
        # A datagram may be on its way through here.
        self._reactor.callLater(0, self._close)

    def _close(self) -> None:
        self.outward.close()
        self.inward.close()
