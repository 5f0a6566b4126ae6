# -*- test-case-name: tests.test_handled -*-
"""
One way through a session in which protocol handlers have a say.

What is read is given to the handlers one after the other, and what the last of them lets pass goes to the sink.  A
handler that is done in a direction is not asked any more, and when all are, the direction is joined anew in the
cheapest way there is, at that very byte.

A handler may ask for anything while it is at work on some bytes: to pause, to resume, to release others.  What would
have it called again is put off until it has returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from tlsproxy.direction import TURNS, Direction, Joint, buffer
from tlsproxy.end import End
from tlsproxy.interfaces import ENDED, HOW, MORE, OUTWARD, RESET, WANTS_WRITE, IProtocolHandler, Way
from tlsproxy.plain import PlainStream

__all__ = ["Handled", "Standing"]

_WAITING: Final = 1 << 20
"""How many bytes more than a handler may hold may wait for a sink, before whoever makes them up is stopped."""


class Standing(Protocol):
    """
    What a direction knows of a handler's L{Flow<tlsproxy.flow.Flow>}.
    """

    name: str
    _done: tuple[Way, ...]
    _dropped: int
    _ended: tuple[Way, ...]
    _held: dict[Way, int]
    _mostHeld: int
    _paused: tuple[Way, ...]

    def _received(self, handler: IProtocolHandler, direction: Way, data: bytes) -> bytes | None:
        """
        Have the handler see some bytes.
        """

    def _attempt(self, call: Callable[..., object], *arguments: Any) -> Any:
        """
        Call what is the handler's.
        """


class Handled(Direction):
    """
    The bytes from one End to the other, by way of handlers.
    """

    __slots__ = ("_again", "_away", "_busy", "_later", "_links", "_plain", "_told", "_waiting", "_way")

    def __init__(
        self, relay: Joint, source: End, sink: End, links: Sequence[tuple[Standing, IProtocolHandler]], way: Way
    ) -> None:
        """
        @param links: The handlers, the one nearest the client first.
        """
        super().__init__(relay, source, sink)
        self._way = way
        self._links: Sequence[tuple[Standing, IProtocolHandler]] = (
            links if way == OUTWARD or len(links) == 1 else tuple(reversed(links))
        )
        self._away = False  # Whether somebody has left the direction.
        self._busy = False  # Whether a handler is at work.
        self._again = False  # Whether to go on reading once it is not.
        self._told = 0  # How many handlers have been told of the end.
        self._later: tuple[bytes, ...] | list[bytes] = ()  # What waits behind what is left.
        self._waiting = 0
        self.paused = self._pausing()

    @property
    def handled(self) -> bool:  # type: ignore[override]
        """
        Whether a handler still has a say.
        """
        way = self._way
        return any(way not in flow._done for flow, _ in self._links)

    def _pausing(self) -> bool:
        way = self._way
        return any(way in flow._paused for flow, _ in self._links)

    def carry(self) -> None:
        """
        The source is readable: have the handlers see what is there.
        """
        if self._busy:
            return  # What called a handler in this very direction goes on when it returns.
        relay, stream, fill = self._relay, self.source.reading, self._fill
        relay.active = relay.clock.now
        self._busy = True
        for _ in range(TURNS):
            # A socket can be read into new bytes without a copy.
            data = stream.read(buffer.size) if self._plain else bytes(buffer.view[: fill(buffer)])
            if data:
                self._feed(0, data)
                if relay.over or self.ended or self.paused or self._unsent is not None:
                    break
            if stream.state != MORE:
                break
        self._busy = False
        if relay.over:
            return
        if stream.state >= ENDED and not self.ended:
            self._stopped()
        elif not self._settle(False) and stream.state == WANTS_WRITE:
            self._stopped()

    def _take(self) -> None:
        super()._take()
        self._plain = type(self.source.reading) is PlainStream

    def start(self, eager: bool) -> None:
        """
        Have the reactor tell when the source is readable, unless a handler or the sink has it wait.
        """
        if not self.paused and not self.clogged:
            self._again = False
            super().start(eager)

    def _feed(self, position: int, data: bytes) -> None:
        """
        Have the handlers from one position on see some bytes, and the sink take what passes them.
        """
        way, relay = self._way, self._relay
        for flow, handler in self._links[position:] if position else self._links:
            if way in flow._done:
                continue
            passed = flow._received(handler, way, data)
            if relay.over:
                return
            if flow._held and flow._held.get(way, 0) > flow._mostHeld:
                relay.abort("failed", f"handler {flow.name} held more than {flow._mostHeld} bytes")
                return
            if not passed:
                return
            data = passed
        self._push(data)

    def _push(self, data: bytes) -> None:
        """
        Have the sink take some bytes, or keep them until it does.
        """
        if self.over:
            return  # The sink is broken.
        if self._unsent is not None or (self._away and self._left is None):
            if not isinstance(self._later, list):
                self._later = []
            self._later.append(data)
            self._waiting += len(data)
            if self._waiting > _WAITING + max(flow._mostHeld for flow, _ in self._links):
                self._relay.abort("failed", f"handlers made more bytes than {self.sink.who} takes")
            return
        sent = self.sink.writing.send(data)
        if sent < 0:
            self._broken()
            return
        self.count += sent
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self.wait()

    def _sendRest(self) -> int:
        total = 0
        while True:
            sent = super()._sendRest()
            if sent < 0:
                return sent
            total += sent
            if self._unsent is not None or not self._later:
                return total
            self._unsent = memoryview(b"".join(self._later))
            self._later = ()
            self._waiting = 0

    def release(self) -> None:
        """
        Give up what still waits for the sink.
        """
        super().release()
        self._later = ()
        self._waiting = 0

    def close(self) -> None:
        """
        Cut the circles.
        """
        super().close()
        self._links = ()

    def flushed(self) -> None:
        """
        The sink has taken all that was left: go on reading, or step out.
        """
        if not self._stepOut():
            super().flushed()

    def _stepOut(self) -> bool:
        """
        Have the relay go on without handlers, if none has a say any more.

        @return: Whether this direction has ended its service.
        """
        if self._busy or self._away or self.clogged or self.ended or self.handled:
            return False
        self._relay.replace(self)
        return True

    def leave(self, left: Callable[[], None]) -> None:
        """
        Stop at a byte.  What handlers are at work on goes before that, and what they release afterwards waits.
        """
        if self.ended:
            return
        self._away = True
        if self._busy:
            self.pause()
            self._left = left
        else:
            super().leave(left)

    def rejoin(self) -> None:
        """
        Go on after L{leave}.
        """
        self._left = None
        self._take()
        self._comeBack()
        if not self._relay.over:
            self.resumed()

    def _comeBack(self) -> None:
        """
        Send what has waited meanwhile.
        """
        self._away = False
        if self._later and self._unsent is None:
            waiting = b"".join(self._later)
            self._later = ()
            self._waiting = 0
            self._push(waiting)

    # -- what flows ask for -----------------------------------------------------------------------------------------

    def open(self, flow: Standing) -> bool:
        """
        Tell whether bytes may still follow from where a handler stands.
        """
        return not self._told or all(told is not flow for told, _ in self._links[: self._told])

    def give(self, flow: Standing, data: bytes) -> None:
        """
        Send bytes on from where a handler stands.
        """
        relay = self._relay
        relay.active = relay.clock.now
        position = next(place for place, (one, _) in enumerate(self._links) if one is flow)
        busy, self._busy = self._busy, True
        self._feed(position + 1, data)
        self._busy = busy
        if not busy and not relay.over:
            self._settle(True)

    def _settle(self, eager: bool) -> bool:
        """
        Do what handlers have asked for while they were at work.

        @param eager: Whether there may be bytes inside OpenSSL: not where the source has just been read.
        @return: Whether this direction has ended its service.
        """
        if self.ended:
            if not self.over and not self.clogged:
                self.passEnd()
        elif self._stepOut():
            return True
        elif self._left is not None and not self.clogged:
            left, self._left = self._left, None
            left()
        elif self._again:
            self.start(eager)
        return False

    def resumed(self) -> None:
        """
        A handler does not pause the direction any more, or is done.
        """
        if not self._away and not self._pausing():
            self._again = self._again or self.paused
            self.paused = False
        if self._busy:
            return
        self._settle(True)

    def passEnd(self) -> None:
        """
        All bytes are sent: tell the handlers, and then the sink, how the source ended.
        """
        if self._busy:
            return  # In good time.
        if self._away:
            self._comeBack()
        way = self._way
        while self._told < len(self._links) and self.opposite.ended != RESET:
            flow, handler = self._links[self._told]
            if way in flow._paused:
                return  # The end waits, too.
            if way not in flow._ended and way not in flow._done:
                flow._ended += (way,)
                self._busy = True
                flow._attempt(handler.ended, way, HOW[self.ended])
                self._busy = False
                if self._relay.over:
                    return
                continue
            flow._dropped += flow._held.pop(way, 0)
            self._told += 1
        if not self.clogged:
            super().passEnd()
