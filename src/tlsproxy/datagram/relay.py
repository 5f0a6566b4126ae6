# -*- test-case-name: tests.datagram.test_relay -*-
"""
Moving the datagrams of a joined session, one by one.

What comes is sent at once, or dropped: there is no queue, as there is none in the network.  An association with DTLS
ends by a close_notify of either side, one in clear by nothing but the C{idle} limit; both sides end together.

Protocol handlers are given one datagram a call, and what they let pass, or release, is one datagram, too.  While a
handler pauses a direction, what comes there is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.sending import EMPTY
from tlsproxy.deadlines import Deadlines
from tlsproxy.handled import Standing
from tlsproxy.interfaces import INWARD, OUTWARD, IProtocolHandler, Way
from tlsproxy.tls.native import Buffer

__all__ = ["PAUSED", "DatagramDirection", "DatagramRelay", "HandledDatagrams"]


PAUSED: Final = "paused"
"""What comes while a handler pauses its direction."""


class Handlers(Protocol):
    """
    What a relay knows of a L{tlsproxy.chain.Chain}.
    """

    relay: Any

    @property
    def links(self) -> Sequence[tuple[Standing, IProtocolHandler]]:
        """
        The handlers.
        """

    def handles(self, way: Way) -> bool:
        """
        Tell whether any has a say in a direction.
        """


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


class HandledDatagrams(DatagramDirection):
    """
    One way through a session in which protocol handlers have a say.
    """

    __slots__ = ("_links", "_way")

    def __init__(
        self,
        relay: DatagramRelay,
        source: DatagramEnd,
        sink: DatagramEnd,
        links: Sequence[tuple[Standing, IProtocolHandler]],
        way: Way,
    ) -> None:
        """
        @param links: The handlers, the one nearest the client first.
        """
        super().__init__(relay, source, sink)
        self._way = way
        self._links = tuple(links if way == OUTWARD else reversed(links))

    def carry(self, datagram: Buffer, count: int) -> None:
        """
        Have the handlers see what has come.
        """
        relay, way = self._relay, self._way
        relay.active = relay.clock.now
        if not count:
            self.sink.dropped[EMPTY] += 1  # Handlers are given a byte at least, and DTLS cannot carry it.
        elif any(way in flow._paused for flow, _ in self._links):
            self.sink.dropped[PAUSED] += 1
        else:
            self._feed(0, bytes(datagram.view[:count]))

    def _feed(self, position: int, data: bytes) -> None:
        """
        Have the handlers from one position on see a datagram, and send what passes them.
        """
        way, relay = self._way, self._relay
        for flow, handler in self._links[position:]:
            if way in flow._done:
                continue
            passed = flow._received(handler, way, data)
            if relay.over:
                return
            if flow._held.get(way, 0) > flow._mostHeld:
                relay.abort("failed", f"handler {flow.name} held more than {flow._mostHeld} bytes")
                return
            if not passed:
                return
            data = passed
        sent = self.sink.send(data)
        if sent:
            self.count += sent
            self.datagrams += 1

    def open(self, flow: Standing) -> bool:
        """
        Tell whether datagrams may still follow from where a handler stands.
        """
        return True

    def give(self, flow: Standing, data: bytes) -> None:
        """
        Send a datagram on from where a handler stands.
        """
        position = next(place for place, (one, _) in enumerate(self._links) if one is flow)
        self._feed(position + 1, data)

    def pause(self) -> None:
        """
        A handler pauses the direction.
        """

    def resumed(self) -> None:
        """
        A handler does not pause the direction any more, or is done.
        """

    def close(self) -> None:
        """
        Cut the circles.
        """
        super().close()
        self._links = ()


class DatagramRelay:
    """
    Two sides on UDP, joined: what L{tlsproxy.relay.Relay} is to streams.

    @ivar outward: From near to far.
    @ivar inward: From far to near.
    @ivar active: When a datagram last came, in seconds of the reactor's clock.
    @ivar over: Whether it is over, and both sides are let go.
    """

    __slots__ = ("_done", "_reactor", "active", "clock", "inward", "outward", "over")

    def __init__(
        self,
        near: DatagramEnd,
        far: DatagramEnd,
        clock: Deadlines,
        done: Callable[[str, str], None],
        chain: Handlers | None = None,
    ) -> None:
        """
        @param done: As for L{tlsproxy.relay.join}.
        @param chain: The same.
        """
        self.clock = clock
        self.active = clock.now
        self.over = False
        self._done = done
        self._reactor = near.reactor
        if chain is not None:
            chain.relay = self
        self.outward = self._direction(OUTWARD, near, far, chain)
        self.inward = self._direction(INWARD, far, near, chain)

    def _direction(self, way: Way, source: DatagramEnd, sink: DatagramEnd, chain: Handlers | None) -> DatagramDirection:
        if chain is not None and chain.handles(way):
            return HandledDatagrams(self, source, sink, chain.links, way)
        return DatagramDirection(self, source, sink)

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
