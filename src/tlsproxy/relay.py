# -*- test-case-name: tests.test_relay -*-
"""
Moving the bytes of a joined session.

L{join} takes two Ends that are set up and puts a L{Direction} between them each way.  From then on no coroutine runs:
the reactor calls L{Direction.carry} when a source is readable, which reads once into a buffer that all sessions of the
process share, writes it to the sink at once, and asks for nothing else.  Only when the sink's socket is full is what
is left copied aside; then the source is not read until L{Direction.flush} has sent it.  So a stalled reader stops its
writer, and what a session holds is bounded by one buffer each way.

How a direction ends
====================

What a source says of its end goes on as what it was:

  - its end: as close_notify and a FIN toward a TLS sink, as a FIN toward a plain one;
  - truncation: as a FIN without close_notify toward a TLS sink, as a FIN toward a plain one;
  - a reset: as a reset.

A plain stream's FIN is all the end it has, so it counts as an end.  TLS that fails (a record that does not verify, a
fatal alert) goes on as a reset.  The other direction goes on until its own end: half-close is passed on.

A sink that is broken (a write fails) may still hold bytes that it sent before it broke.  From a plain one they are
read and delivered before the reset goes on; OpenSSL reads no more once a write has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.python.failure import Failure

from tlsproxy.deadlines import Deadlines
from tlsproxy.end import End
from tlsproxy.interfaces import ENDED, FAILED, MORE, RESET, TRUNCATED, WANTS_WRITE
from tlsproxy.tls.explain import explainFailure
from tlsproxy.tls.native import Buffer

__all__ = ["Direction", "Relay", "join"]

_buffer: Final = Buffer(131072)
"""
Where all bytes pass through.  One for the process: whoever fills it empties it before it returns to the reactor.
"""

_TURNS: Final = 4
"""How often a direction fills the buffer before it lets others have the reactor."""


def _ignore(*_: str) -> None:
    """
    What a relay tells that is over.
    """


class Direction:
    """
    The bytes from one End to the other.

    @ivar count: How many bytes the sink has taken.
    @ivar ended: How the source ended, one of the states of L{tlsproxy.interfaces}; 0 while it has not.
    @ivar over: Whether the end, too, has been passed on.
    """

    __slots__ = (
        "_drain",
        "_fill",
        "_relay",
        "_unsent",
        "count",
        "ended",
        "opposite",
        "over",
        "sink",
        "source",
        "starved",
    )
    opposite: Direction

    def __init__(self, relay: Relay, source: End, sink: End) -> None:
        self._relay = relay
        self.source = source
        self.sink = sink
        self._fill = source.reading.fill
        self._drain = sink.writing.drain
        self._unsent: memoryview | None = None
        self.count = 0
        self.ended = 0
        self.over = False
        self.starved = False

    def carry(self) -> None:
        """
        The source is readable: move what is there.
        """
        relay = self._relay
        relay.active = relay.clock.now
        stream = self.source.reading
        for _ in range(_TURNS):
            count = self._fill(_buffer)
            if count:
                sent = self._drain(_buffer, count)
                if sent != count:
                    self._clogged(sent, count)
                    break
                self.count += sent
            if stream.state != MORE:
                break
        if stream.state >= WANTS_WRITE:
            self._stopped()

    def _clogged(self, sent: int, count: int) -> None:
        """
        The sink did not take all.
        """
        if sent < 0:
            self._broken()
            return
        self.count += sent
        self._unsent = memoryview(bytes(_buffer.view[sent:count]))
        self.source.transport.stopReading()
        sink = self.sink.transport
        sink.doWrite = self.flush
        sink.startWriting()

    def flush(self) -> None:
        """
        The sink is writable: send what was left, and go on reading.
        """
        self._relay.active = self._relay.clock.now
        if self.opposite.starved:
            # The sink's own TLS had to write before it could be read.
            self.opposite.starved = False
            if not self.opposite.ended:
                self.sink.transport.startReading()
                self.opposite.carry()
            if self._relay.over:
                return
        if self._unsent is not None:
            sent = self.sink.writing.send(self._unsent)
            if sent < 0:
                self._broken()
                return
            self.count += sent
            if sent < len(self._unsent):
                self._unsent = self._unsent[sent:]
                return
            self._unsent = None
        if self.ended and not self.over:
            self.passEnd()
            return
        if not self.opposite.starved:
            self.sink.transport.stopWriting()
        if not self.ended:
            self.source.transport.startReading()
            self.carry()  # OpenSSL may hold bytes that the reactor cannot see.

    def _stopped(self) -> None:
        """
        The source gives no more: for good, or until its TLS has written.
        """
        state = self.source.reading.state
        self.source.transport.stopReading()
        if state == WANTS_WRITE:
            self.starved = True
            self.source.transport.doWrite = self.opposite.flush
            self.source.transport.startWriting()
            return
        if self.ended:
            return
        self.ended = state
        self._relay.ended(self)
        if self._unsent is None and not self.over and not self._relay.over:
            self.passEnd()

    def passEnd(self) -> None:
        """
        All bytes are sent: tell the sink how the source ended.
        """
        if self.opposite.ended == RESET:
            self._relay.abort("reset", f"{self.source.who} reset the connection")
            return
        sink = self.sink
        if self.ended == ENDED and not sink.writing.endWrite():
            sink.transport.doWrite = self.flush
            sink.transport.startWriting()
            return
        sink.transport.stopWriting()
        if self.opposite.starved:
            sink.transport.startWriting()
        if not self.opposite.over:
            sink.shutdownWrite()  # Otherwise both sides are closed next, and that is a FIN, too.
        self.over = True
        self._relay.passed(self)

    def _broken(self) -> None:
        """
        The sink takes nothing any more.  Deliver what it sent before it broke.
        """
        self._unsent = None
        self.ended = RESET
        self.over = True
        self.source.transport.stopReading()
        self.sink.transport.stopWriting()
        self._relay.broken(self)

    @property
    def clogged(self) -> bool:
        """
        Whether bytes wait here for the sink.
        """
        return self._unsent is not None

    def start(self, eager: bool) -> None:
        """
        Have the reactor tell when the source is readable.

        @param eager: Whether to move what already is there.
        """
        transport = self.source.transport
        transport.doRead = self.carry
        transport.startReading()
        if eager:
            self.carry()


class Relay:
    """
    Two Ends, joined.

    @ivar outward: From near to far.
    @ivar inward: From far to near.
    @ivar active: When a byte last moved, in seconds of the reactor's clock.
    @ivar over: Whether it is over, and both Ends are let go.
    """

    __slots__ = ("_abortTruncated", "_done", "_endBoth", "_halfClosed", "active", "clock", "inward", "outward", "over")

    def __init__(
        self,
        near: End,
        far: End,
        clock: Deadlines,
        done: Callable[[str, str], None],
        halfClosed: Callable[[], None],
        endBoth: bool,
        abortTruncated: bool,
    ) -> None:
        self.clock = clock
        self.active = clock.now
        self.over = False
        self._done = done
        self._halfClosed = halfClosed
        self._endBoth = endBoth
        self._abortTruncated = abortTruncated
        self.outward = Direction(self, near, far)
        self.inward = Direction(self, far, near)
        self.outward.opposite, self.inward.opposite = self.inward, self.outward

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
        else:
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
            if source.reading.state == TRUNCATED:
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
            del direction.opposite, direction._relay

    def _truncation(self, source: End) -> str:
        return f"{source.who} ended the stream without ending TLS"

    def _lostNear(self, _: Failure) -> None:
        self._lost(self.outward)

    def _lostFar(self, _: Failure) -> None:
        self._lost(self.inward)

    def _lost(self, direction: Direction) -> None:
        self.abort("reset", f"{direction.source.who} reset the connection")


def join(
    near: End,
    far: End,
    clock: Deadlines,
    done: Callable[[str, str], None],
    halfClosed: Callable[[], None],
    endBoth: bool = False,
    abortTruncated: bool = False,
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
    @return: The relay, to be started.
    """
    return Relay(near, far, clock, done, halfClosed, endBoth, abortTruncated)
