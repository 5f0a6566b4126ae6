# -*- test-case-name: tests.test_flow -*-
"""
Bytes that pass protocol handlers.

Each handler of a session has a L{Flow}, by which it acts on the bytes; together they are a L{tlsproxy.chain.Chain}.
Where a handler has a say, L{tlsproxy.handled} moves the bytes.

How held bytes are bounded
==========================

A handler may keep what it is given, by returning L{None}, and give it back later.  The framework counts: what was kept
is added, what is released is taken off, and a handler that returns bytes holds none any more.  Who holds more than it
may ends its session.  A handler that waits for something other than more bytes should pause its direction meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from tlsproxy.datagram.relay import HandledDatagrams
from tlsproxy.direction import Direction, Joint
from tlsproxy.errors import NegotiationFailed, SessionError, forgetFrames
from tlsproxy.given import asBytes
from tlsproxy.handled import Handled
from tlsproxy.interfaces import INWARD, OUTWARD, IProtocolHandler, Way

__all__ = ["Flow", "Joined"]

_WAYS: Final = (OUTWARD, INWARD)
_HANDLED = Handled | HandledDatagrams

_DEEPEST: Final = 64
"""How deep releases may be inside of each other."""


T = TypeVar("T")


def _with(some: set[T] | frozenset[T], one: T) -> set[T] | frozenset[T]:
    if not isinstance(some, set):
        return {*some, one}
    some.add(one)
    return some


def _without(ways: tuple[Way, ...], way: Way) -> tuple[Way, ...]:
    return tuple(one for one in ways if one != way) if way in ways else ways


class Joined(Joint, Protocol):
    """
    What a chain knows of the relay.
    """

    outward: Direction
    inward: Direction

    def refuse(self, reason: str, answer: bytes) -> None:
        """
        Cut the session, but let the client have what it was told last.
        """


class Chained(Protocol):
    """
    What a flow knows of the chain that it is part of.

    @ivar answer: Tells the client something, before the bytes flow, with which its session ends.
    @ivar depth: How many releases are under way, each inside of another.
    @ivar over: Whether the session is over.
    """

    answer: Callable[[bytes], None]
    depth: int
    over: bool

    @property
    def relay(self) -> Joined | None:
        """
        What carries the bytes, once it does.
        """

    def fail(self, name: str, problem: BaseException) -> None:
        """
        A handler has raised an exception: end its session.
        """


class Flow:
    """
    The bytes of one session, where one handler stands.

    The handlers of a route stand in their order between the client and the upstream, the first nearest the client.

    @ivar name: What the handler is called in messages.
    """

    __slots__ = (
        "_calls",
        "_chain",
        "_done",
        "_dropped",
        "_ended",
        "_held",
        "_inside",
        "_mostCalls",
        "_mostHeld",
        "_paused",
        "_reactor",
        "_tasks",
        "blame",
        "name",
    )

    def __init__(self, chain: Chained, name: str, mostHeld: int, reactor: Any) -> None:
        self.name = name
        self.blame = f"handler {name}: "  # What begins the reason for which it refuses a session.
        self._chain: Chained | None = chain
        self._mostHeld = mostHeld
        self._reactor = reactor
        # There may be very many flows, and few of them have anything in most of these.
        self._done: tuple[Way, ...] = ()
        self._paused: tuple[Way, ...] = ()
        self._ended: tuple[Way, ...] = ()
        self._held: dict[Way, int] = {}
        self._dropped = 0  # How many bytes it still held at the end of a direction: tests tell of them.
        self._inside: tuple[Way, ...] = ()  # Of which directions the handler is being given bytes.
        self._calls: set[IDelayedCall] | frozenset[IDelayedCall] = frozenset()
        self._mostCalls = 8
        self._tasks: set[Deferred[Any]] | frozenset[Deferred[Any]] = frozenset()

    def release(self, direction: Way, data: bytes | bytearray | memoryview) -> None:
        """
        Send bytes on from here: some that were kept, or some of the handler's own.

        After the session is over, this does nothing.

        @param direction: L{OUTWARD} for the later handlers and the upstream, L{INWARD} for the earlier ones and the
            client.
        @raise RuntimeError: The bytes do not flow yet, or none can follow in this direction.
        """
        way = self._way(direction)
        if way is None or not data:
            return
        if direction in self._done:
            raise RuntimeError(f"handler {self.name} is done {direction}, so it cannot release any more bytes there")
        if not isinstance(way, _HANDLED) or not way.open(self):
            raise RuntimeError(f"the {direction} direction has ended, so no more bytes can follow")
        released = asBytes(data, "release() was given {}: give bytes", TypeError)
        left = self._held.get(direction, 0) - len(released)
        # What the handler is just being given is counted when it returns.
        self._holds(direction, left if direction in self._inside else max(0, left))
        assert self._chain is not None
        self._chain.depth += 1
        try:
            if self._chain.depth > _DEEPEST:
                raise RuntimeError("handlers answer each other's bytes without end")
            way.give(self, released)
        finally:
            if self._chain is not None:
                self._chain.depth -= 1

    def pause(self, direction: Way) -> None:
        """
        Have a direction's source not read any more, and its end not passed on, until L{resume}.

        A handler that is done in a direction has no say in that.
        """
        way = self._way(direction, False)
        if direction not in self._done:
            self._paused = (*_without(self._paused, direction), direction)
            if way is not None:
                way.pause()

    def resume(self, direction: Way) -> None:
        """
        Go on where the direction was paused; it stays so while another handler pauses it.
        """
        way = self._way(direction, False)
        if direction in self._paused:
            self._paused = _without(self._paused, direction)
            if isinstance(way, _HANDLED):
                way.resumed()

    def done(self, direction: Way) -> None:
        """
        Step out of a direction: the handler is not called for it any more, and what comes passes it by.  A handler
        that is just being given bytes of that direction may still return those, and what it has held, but not keep
        them.

        @raise RuntimeError: The handler still holds bytes, which nobody would ever see.
        """
        way = self._way(direction, False)
        held = self._held.get(direction, 0)
        if held > 0 and direction not in self._inside:
            raise RuntimeError(f"handler {self.name} is done {direction}, but still holds {held} bytes")
        self._done = (*_without(self._done, direction), direction)
        self._paused = _without(self._paused, direction)
        if isinstance(way, _HANDLED):
            way.resumed()

    def refuse(self, sentence: str, answer: bytes = b"") -> None:
        """
        End the session as refused.

        @param sentence: Why, for the log.
        @param answer: What the client is told before, in its own protocol: little, so that its socket takes it.
        """
        chain = self._chain
        if chain is None or chain.over:
            return
        relay = chain.relay
        if relay is None:
            if answer:
                chain.answer(answer)
            refusal = NegotiationFailed(sentence)
            refusal.outcome = "refused"
            raise refusal
        way = self._way(INWARD)
        if isinstance(way, _HANDLED) and INWARD not in self._done and way.open(self):
            self.release(INWARD, answer)
            answer = b""
        relay.refuse(f"{self.blame}{sentence}", answer)

    def callLater(self, seconds: float, call: Callable[..., object], *arguments: Any) -> IDelayedCall:
        """
        Have something called later, as long as the session lasts.  What it raises ends the session, as it would from
        the handler's own methods.

        @return: The call, which can be cancelled.
        """
        itself: list[IDelayedCall] = []
        delayed: IDelayedCall = self._reactor.callLater(seconds, self._run, itself, call, arguments)
        itself.append(delayed)
        self._calls = _with(self._calls, delayed)
        if len(self._calls) > self._mostCalls:
            # The reactor does not tell which the handler has cancelled.
            self._calls = {one for one in self._calls if one.active()}
            self._mostCalls = 2 * len(self._calls) + 8
        if self._chain is None or self._chain.over:
            delayed.cancel()
        return delayed

    def _run(self, itself: list[IDelayedCall], call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        # What has run holds its arguments for as long as somebody holds it.
        call_ = itself.pop()
        if isinstance(self._calls, set):
            self._calls.discard(call_)
        self._attempt(call, *arguments)

    def watch(self, task: Coroutine[Any, Any, Any] | Deferred[Any]) -> None:
        """
        Run something beside the bytes.  What it raises ends the session; at the end of the session it is cancelled.
        """
        running: Deferred[Any] = task if isinstance(task, Deferred) else Deferred.fromCoroutine(task)

        def over(result: object) -> None:
            if isinstance(self._tasks, set):
                self._tasks.discard(running)
            if isinstance(result, Failure):
                problem = result.value
                if problem is not None and not result.check(CancelledError):
                    self._failed(problem)
                forgetFrames(problem)
                result.cleanFailure()

        self._tasks = _with(self._tasks, running)
        running.addBoth(over)
        if self._chain is None or self._chain.over:
            running.cancel()

    def seconds(self) -> float:
        """
        Tell the time of the reactor's clock, in seconds.
        """
        now: float = self._reactor.seconds()
        return now

    def _way(self, direction: Way, needed: bool = True) -> Direction | None:
        """
        Find a direction.

        @param needed: Whether it is wrong to ask before the bytes flow.
        """
        if direction not in _WAYS:
            raise ValueError(f"{direction!r} is no direction: OUTWARD or INWARD")
        chain = self._chain
        if chain is None or chain.over or (chain.relay is not None and chain.relay.over):
            return None
        if chain.relay is None:
            if needed:
                raise RuntimeError("the bytes do not flow yet: before that, a side is written to")
            return None
        return chain.relay.outward if direction == OUTWARD else chain.relay.inward

    def _received(self, handler: IProtocolHandler, direction: Way, data: bytes) -> bytes | None:
        """
        Have the handler see some bytes.

        @return: What goes on; L{None} where it holds them, or has failed.
        """
        outermost = direction not in self._inside
        if outermost:
            self._inside += (direction,)
        try:
            passed: bytes | None = handler.received(direction, data)
            if passed is not None:
                passed = asBytes(passed, "received() returned {}: give back bytes, or None to keep them", SessionError)
            elif direction in self._done:
                raise RuntimeError(f"handler {self.name} is done {direction}, and yet keeps bytes")
        except BaseException as e:
            self._failed(e)
            return None
        finally:
            if outermost:
                self._inside = _without(self._inside, direction)
        if passed is None:
            self._holds(direction, max(0, self._held.get(direction, 0) + len(data)))
        elif self._held:
            self._holds(direction, 0)
        return passed

    def _holds(self, direction: Way, count: int) -> None:
        """
        Note how many bytes the handler holds.
        """
        if count:
            self._held[direction] = count
        else:
            self._held.pop(direction, None)

    def _attempt(self, call: Callable[..., object], *arguments: Any) -> Any:
        """
        Call what is the handler's.
        """
        try:
            return call(*arguments)
        except BaseException as e:
            self._failed(e)
            return None

    def _failed(self, problem: BaseException) -> None:
        if self._chain is not None:
            self._chain.fail(self.name, problem)

    def close(self) -> None:
        """
        The session is over.
        """
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls = frozenset()
        for task in list(self._tasks):
            task.cancel()
        self._chain = None
