# -*- test-case-name: tests.test_relay -*-
"""
Moving the bytes of a joined session.

L{join} takes two Ends that are set up and puts a L{Direction} between them each way, or a L{Splice} where the bytes
come from a plain socket and go to one.  From then on no coroutine runs.

How a direction ends
====================

What a source says of its end goes on as what it was:

  - its end: as close_notify and a FIN toward a TLS sink, as a FIN toward a plain one;
  - truncation: as a FIN without close_notify toward a TLS sink, as a FIN toward a plain one;
  - a reset: as a reset.

A plain stream's FIN is all the end it has, so it counts as an end.  TLS that fails (a record that does not verify, a
fatal alert) goes on as a reset.  The other direction goes on until its own end: half-close is passed on.

A direction can be left and joined anew at any byte: L{Relay.leave} stops it when its sink has taken all, and
L{Relay.rejoin} goes on in the way that then is the cheapest.  Where handlers stand between the Ends, the bytes go by
way of them until the last is done (see L{tlsproxy.flow}).

A sink that is broken (a write fails) may still hold bytes that it sent before it broke.  From a plain one they are
read and delivered before the reset goes on; OpenSSL reads no more once a write has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.python.failure import Failure

from tlsproxy.borrowed import unread
from tlsproxy.chain import Chain
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.relay import DatagramRelay
from tlsproxy.deadlines import Deadlines
from tlsproxy.direction import Direction
from tlsproxy.end import End
from tlsproxy.handled import Handled
from tlsproxy.interfaces import ENDED, FAILED, INWARD, OUTWARD, RESET, TRUNCATED, Way
from tlsproxy.plain import PlainStream
from tlsproxy.splice import Splice
from tlsproxy.tls.explain import explainFailure

__all__ = ["Relay", "join"]


def _ignore(*_: str) -> None:
    """
    What a relay tells that is over.
    """


def _between(source: End, sink: End) -> type[Direction]:
    """
    Choose the cheapest way from one End to another.
    """
    plain = type(source.reading) is PlainStream and type(sink.writing) is PlainStream
    return Splice if plain else Direction


class Relay:
    """
    Two Ends, joined.

    @ivar outward: From near to far.
    @ivar inward: From far to near.
    @ivar active: When a byte last moved, in seconds of the reactor's clock.
    @ivar over: Whether it is over, and both Ends are let go.
    """

    __slots__ = (
        "_abortTruncated",
        "_asked",
        "_done",
        "_endBoth",
        "_halfClosed",
        "_queued",
        "active",
        "clock",
        "inward",
        "outward",
        "over",
    )

    def __init__(
        self,
        near: End,
        far: End,
        clock: Deadlines,
        done: Callable[[str, str], None],
        halfClosed: Callable[[], None],
        endBoth: bool,
        abortTruncated: bool,
        chain: Chain | None,
    ) -> None:
        self.clock = clock
        self.active = clock.now
        self.over = False
        self._done = done
        self._halfClosed = halfClosed
        self._endBoth = endBoth
        self._abortTruncated = abortTruncated
        self._asked = -1.0
        self._queued = 0
        if chain is not None:
            chain.relay = self
        self.outward = self._direction(OUTWARD, near, far, chain)
        self.inward = self._direction(INWARD, far, near, chain)
        self.outward.opposite, self.inward.opposite = self.inward, self.outward

    def _direction(self, way: Way, source: End, sink: End, chain: Chain | None) -> Direction:
        if chain is not None and chain.handles(way):
            return Handled(self, source, sink, chain.links, way)
        return _between(source, sink)(self, source, sink)

    def start(self) -> None:
        """
        Let the bytes flow.
        """
        for direction in (self.outward, self.inward):
            if direction.source.gone:
                self._lost(direction)
                return
        self.outward.source.onLost = self._lostNear
        self.inward.source.onLost = self._lostFar
        # What the client sent behind its handshake is most likely there already; of the upstream only what OpenSSL
        # may hold back has to be asked for.
        self.outward.start(True)
        if not self.over:
            self.inward.start(self.inward.source.tls is not None)

    def leave(self, direction: Direction, left: Callable[[], None]) -> None:
        """
        Stop a direction at a byte: it is not read any more, and all that was read is on its way to the sink.

        The streams of its Ends may be others when it is joined anew; the sink may be written to in between, with
        C{sink.writing}.

        @param direction: One of the two.
        @param left: Called once that is so, perhaps at once; never where the direction or the session ends first, or
            is rejoined before.
        """
        if not self.over:
            self._current(direction).leave(left)

    def rejoin(self, direction: Direction) -> None:
        """
        Go on with a direction, in whatever way is the cheapest now.
        """
        direction = self._current(direction)
        if self.over or direction.ended:
            return
        if isinstance(direction, Handled) or direction.clogged:
            direction.rejoin()
        else:
            self.replace(direction)

    def replace(self, direction: Direction) -> None:
        """
        Have a direction that has nothing left for its sink go on in whatever way is the cheapest now.
        """
        way = _between(direction.source, direction.sink)
        if type(direction) is way:
            direction.rejoin()
            return
        following = way(self, direction.source, direction.sink)
        if direction is self.outward:
            self.outward = following
        else:
            self.inward = following
        following.succeed(direction)

    def _current(self, direction: Direction) -> Direction:
        """
        Find the direction that may have taken the place of another.
        """
        return self.outward if direction.source is self.outward.source else self.inward

    def refuse(self, reason: str, answer: bytes) -> None:
        """
        Cut the session, but let the client have what it was told last.

        @param answer: What it is told besides: little, so that its socket takes it.
        """
        near = self.outward.source
        if self.over:
            return
        if answer and not self.inward.clogged and not self.inward.over:
            near.writing.send(answer)
        if self.inward.clogged or self.inward.over or not near.writing.endWrite():
            self.abort("refused", reason)
        else:
            self.abort("refused", reason, lingering=near)

    def drains(self) -> bool:
        """
        Tell whether a peer still takes bytes that the kernel holds for it, although none has moved here for long.

        Whether any were taken since can be told only when it is asked again; until then they count as being taken.
        """
        left = sum(unread(direction.sink.socket) for direction in (self.outward, self.inward))
        taken = self._asked != self.active or left < self._queued
        if not left or not taken:
            return False
        self._queued = left
        self._asked = self.active = self.clock.now
        return True

    def ended(self, direction: Direction) -> None:
        """
        A source has ended, in whatever way.
        """
        state, source = direction.ended, direction.source
        if state == FAILED and source.tls is not None:
            self.abort("failed", explainFailure(source.tls, source.who), lingering=source)
        elif state >= RESET:
            self.abort("reset", f"{source.who} reset the connection")
        elif state == TRUNCATED and self._abortTruncated:
            self.abort("truncated", self._truncation(source))
        elif not direction.opposite.ended:
            self._halfClosed()

    def passed(self, direction: Direction) -> None:
        """
        An end has been passed on to the sink.
        """
        other = direction.opposite
        if other.over:
            self._finish()
        elif self._endBoth:
            other.source.transport.stopReading()
            if not other.ended:
                # We cut it, its source did not end it: no close_notify.
                other.ended = TRUNCATED
            if not other.clogged:
                other.passEnd()

    def broken(self, direction: Direction) -> None:
        """
        A sink takes no more: what it sent before is all that is left to deliver.
        """
        other = direction.opposite
        if other.clogged:
            return  # Once that is sent, it goes on.
        if other.ended:
            other.passEnd()  # Now it is a reset.
        elif not other.paused:
            other.carry()

    def abort(self, outcome: str, reason: str, lingering: End | None = None) -> None:
        """
        Cut the session: both sides are reset, so that neither takes what it got for all there was.

        @param lingering: The side that an alert is on its way to, if any.
        """
        if self.over:
            return
        self.over = True
        for direction in (self.outward, self.inward):
            if direction.source is lingering:
                direction.source.linger()
            else:
                direction.source.letGo(reset=True)
        self._end(outcome, reason)

    def _finish(self) -> None:
        """
        Both directions are over: close.
        """
        self.over = True
        outcome, reason = "closed", ""
        for direction in (self.outward, self.inward):
            source = direction.source
            if source.reading.state == TRUNCATED and (not reason or source.tls is not None):
                # What has no TLS is cut off only because the other side was.
                outcome, reason = "truncated", self._truncation(source)
            if source.reading.state in (ENDED, TRUNCATED):
                source.letGo()
            else:
                source.linger()
        self._end(outcome, reason)

    def _end(self, outcome: str, reason: str) -> None:
        self.outward.source.transport.reactor.callLater(0, self._close)
        done, self._done, self._halfClosed = self._done, _ignore, _ignore
        done(outcome, reason)

    def _close(self) -> None:
        """
        Close what was let go, and cut the circles, so that nothing has to wait for the garbage collector: what OpenSSL
        holds for a connection is much more than Python can see of it.
        """
        for direction in (self.outward, self.inward):
            if direction.source.gone:
                direction.source.close()
            direction.close()

    def _truncation(self, source: End) -> str:
        return f"{source.who} ended the stream without ending TLS"

    def _lostNear(self, _: Failure) -> None:
        self._lost(self.outward)

    def _lostFar(self, _: Failure) -> None:
        self._lost(self.inward)

    def _lost(self, direction: Direction) -> None:
        self.abort("reset", f"{direction.source.who} reset the connection")


def join(
    near: End | DatagramEnd,
    far: End | DatagramEnd,
    clock: Deadlines,
    done: Callable[[str, str], None],
    halfClosed: Callable[[], None],
    endBoth: bool = False,
    abortTruncated: bool = False,
    chain: Chain | None = None,
) -> Relay:
    """
    Join two Ends.

    @param near: The client's side, set up and held.
    @param far: The upstream's side, set up and held.
    @param clock: Whose cheap time tells when a byte last moved.
    @param done: Called once, at the end, with the outcome in one word and the reason in one sentence (C{""} for
        none).  Both Ends are let go by then.
    @param halfClosed: Called when the first direction has ended and the other goes on.
    @param endBoth: Whether the end of either direction ends both.
    @param abortTruncated: Whether a truncated stream resets the session.
    @param chain: The protocol handlers that stand in between, if any.
    @return: The relay, to be started.
    """
    if isinstance(near, DatagramEnd) and isinstance(far, DatagramEnd):
        # It has all that a session needs of a relay.
        return cast(Relay, DatagramRelay(near, far, clock, done, chain))
    assert isinstance(near, End) and isinstance(far, End)
    return Relay(near, far, clock, done, halfClosed, endBoth, abortTruncated, chain)
