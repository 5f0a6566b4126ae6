# -*- test-case-name: tests.test_direction -*-
"""
One way through a joined session: the bytes from one End to the other.

The reactor calls L{Direction.carry} when the source is readable, which reads once into a buffer that all sessions of
the process share, writes it to the sink at once, and asks for nothing else.  Only when the sink's socket is full is
what is left copied aside; then the source is not read until L{Direction.flush} has sent it.  So a stalled reader stops
its writer, and what a session holds is bounded by one buffer each way.

Between two plain sockets the kernel moves the bytes instead, see L{tlsproxy.splice}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from tlsproxy.deadlines import Deadlines
from tlsproxy.end import End
from tlsproxy.interfaces import ENDED, MORE, RESET, WANTS_WRITE
from tlsproxy.tls.native import Buffer

__all__ = ["TURNS", "Direction", "Joint", "buffer"]

buffer: Final = Buffer(131072)
"""
Where all bytes pass through.  One for the process: whoever fills it empties it before it returns to the reactor.
"""

TURNS: Final = 4
"""How often a direction reads before it lets others have the reactor."""


class Joint(Protocol):
    """
    What a direction knows of the relay that it is part of.

    @ivar active: When a byte last moved, in seconds of the clock.
    @ivar clock: A cheap clock.
    @ivar over: Whether all is over, and both Ends are let go.
    """

    active: float
    clock: Deadlines
    over: bool

    def ended(self, direction: Direction) -> None:
        """
        A source has ended, in whatever way.
        """

    def passed(self, direction: Direction) -> None:
        """
        An end has been passed on to the sink.
        """

    def broken(self, direction: Direction) -> None:
        """
        A sink takes no more.
        """

    def abort(self, outcome: str, reason: str) -> None:
        """
        Cut the session.
        """

    def replace(self, direction: Direction) -> None:
        """
        Have a direction that has nothing left for its sink go on in whatever way is the cheapest now.
        """


class Direction:
    """
    The bytes from one End to the other.

    @ivar count: How many bytes the sink has taken.
    @ivar ended: How the source ended, one of the states of L{tlsproxy.interfaces}; 0 while it has not.
    @ivar over: Whether the end, too, has been passed on.
    @ivar paused: Whether the source is not to be read now.
    @ivar replaced: Whether another direction has taken its place.
    @cvar handled: Whether protocol handlers stand in between.
    """

    __slots__ = (
        "_drain",
        "_fill",
        "_left",
        "_relay",
        "_unsent",
        "count",
        "ended",
        "opposite",
        "over",
        "paused",
        "replaced",
        "sink",
        "source",
        "starved",
    )
    opposite: Direction
    handled = False

    def __init__(self, relay: Joint, source: End, sink: End) -> None:
        self._relay = relay
        self.source = source
        self.sink = sink
        self._take()
        self._left: Callable[[], None] | None = None
        self._unsent: memoryview | None = None
        self.count = 0
        self.ended = 0
        self.over = False
        self.paused = False
        self.replaced = False
        self.starved = False

    def _take(self) -> None:
        """
        Take the streams as the Ends have them now.
        """
        self._fill = self.source.reading.fill
        self._drain = self.sink.writing.drain

    def carry(self) -> None:
        """
        The source is readable: move what is there.
        """
        relay = self._relay
        relay.active = relay.clock.now
        stream = self.source.reading
        for _ in range(TURNS):
            count = self._fill(buffer)
            if count:
                sent = self._drain(buffer, count)
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
        self._unsent = memoryview(bytes(buffer.view[sent:count]))
        self.wait()

    def wait(self) -> None:
        """
        Leave the source alone until the sink takes what is left.
        """
        source, sink = self.source.transport, self.sink.transport
        source.stopReading()
        source.doRead = source.stopReading  # The reactor may hold an event for it.
        sink.doWrite = self.flush
        sink.startWriting()

    def _sendRest(self) -> int:
        """
        Send what was left.

        @return: How many bytes of it the sink has taken, or C{-1} where it is broken.
        """
        unsent = self._unsent
        assert unsent is not None
        sent = self.sink.writing.send(unsent)
        self._unsent = unsent[sent:] if 0 <= sent < len(unsent) else None
        return sent

    def flush(self) -> None:
        """
        The sink is writable: send what was left, and go on reading.
        """
        relay = self._relay
        relay.active = relay.clock.now
        if self.opposite.starved:
            # The sink's own TLS had to write before it could be read.
            self.opposite.starved = False
            if not self.opposite.ended and not self.opposite.clogged and not self.opposite.paused:
                self.sink.transport.startReading()
                self.opposite.carry()
            if relay.over or self.replaced:
                return
        if self.clogged:
            sent = self._sendRest()
            if sent < 0:
                self._broken()
                return
            self.count += sent
            if self.clogged:
                return
        if self.ended and not self.over:
            self.sink.transport.stopWriting()
            self.passEnd()
            return
        if not self.opposite.starved:
            self.sink.transport.stopWriting()
        if not self.ended:
            self.flushed()

    def flushed(self) -> None:
        """
        The sink has taken all that was left: go on reading.
        """
        if not self.paused:
            # OpenSSL may hold bytes that the reactor cannot see.
            self.start(True)
        elif self._left is not None:
            left, self._left = self._left, None
            left()

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
        ended = self.source.endedAs(state)
        if ended < ENDED:
            self._goOn()
            return
        self.ended = ended
        self._relay.ended(self)
        if not self.clogged and not self.over and not self._relay.over:
            self.passEnd()

    def _goOn(self) -> None:
        """
        The source's TLS has ended, and the source goes on in plain.
        """
        self._take()
        if not self.clogged and not self.paused:
            self.start(True)

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
        if self.opposite.starved:
            sink.transport.startWriting()
        sink.shutdownWrite(self.ended, closing=self.opposite.over)
        self.over = True
        self._relay.passed(self)

    def _broken(self) -> None:
        """
        The sink takes nothing any more.  Deliver what it sent before it broke.
        """
        self.release()
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

    def release(self) -> None:
        """
        Give up what still waits for the sink.
        """
        self._unsent = None

    def pause(self) -> None:
        """
        Leave the source alone until L{resume}.  What already is on its way goes on to the sink.
        """
        self.paused = True
        if not self.ended:
            source = self.source.transport
            source.stopReading()
            source.doRead = source.stopReading  # The reactor may hold an event for it.

    def resume(self) -> None:
        """
        Go on reading.
        """
        self.paused = False
        if not self.ended and not self.clogged:
            self.start(True)

    def leave(self, left: Callable[[], None]) -> None:
        """
        Stop at a byte: pause, and tell when the sink has taken all that was read.

        @param left: Called once, perhaps at once; never where the direction ends first or is rejoined before that.
        """
        self.pause()
        if self.clogged:
            self._left = left
        elif not self.ended:
            left()

    def rejoin(self) -> None:
        """
        Go on after L{leave}, with the streams as the Ends have them now.
        """
        self._left = None
        self._take()
        self.resume()

    def succeed(self, former: Direction) -> None:
        """
        Take the place of another direction between the same Ends, at this very byte, and go on.

        @param former: It, with nothing left for the sink.  It is of no use any more.
        """
        self.count, self.starved, self.opposite = former.count, former.starved, former.opposite
        self.opposite.opposite = self
        sink = self.sink.transport
        if sink.doWrite == former.flush:
            sink.doWrite = self.flush
        former.replaced = True
        del former.opposite, former._relay
        self.start(True)

    def close(self) -> None:
        """
        All is over: cut the circles.
        """
        self.release()
        self._left = None
        del self.opposite, self._relay

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
