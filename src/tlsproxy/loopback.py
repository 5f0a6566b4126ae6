# -*- test-case-name: tests.test_loopback -*-
"""
Pipes for what is not a plain socket: TLS inside TLS, a transport that wraps another, an application in this process.

TLS and relays know one thing only, a socket.  So whatever is none gets one end of a pair of connected sockets, and
somebody moves the bytes between it and the other end.

Such a pipe cannot carry a reset or a truncation.  So each of its ends tells the other beside the bytes how its own
stream has ended, by a L{Told}; an end that vanished without a word counts as reset.

TLS inside TLS
==============

L{layer} takes an End that has TLS already, and returns another, on which TLS can be started, in either role, and again
on that.  Between the two stands a L{Layer}, which is a relay like any other.  It has no deadline of its own while the
session lasts; when the session has let go of the inner End, the outer one gets what still is on its way, and goes, too.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tlsproxy.deadlines import GRANULARITY, Deadlines
from tlsproxy.end import End
from tlsproxy.errors import PeerEnded, PeerReset, SessionError
from tlsproxy.interfaces import DRAINED, ENDED, RESET, TRUNCATED
from tlsproxy.relay import Relay
from tlsproxy.tls.native import TLSConnection

__all__ = ["Layer", "PipedEnd", "Told", "layer", "plug", "socketPair"]

T = TypeVar("T")

PATIENCE: Final = 30.0
"""How long a peer may take nothing of what a session has left behind, in seconds."""


class Told:
    """
    What one end of a pipe tells the other beside the bytes.

    @ivar how: How its stream has ended: C{ENDED}, C{TRUNCATED} or C{RESET}; 0 while it has not.
    @ivar why: Why its session has ended, where it did not end by itself; C{""} where there is nothing to say.
    @ivar whenLeft: Called once when the end is let go, with whether that is a reset.
    """

    __slots__ = ("how", "whenLeft", "why")

    def __init__(self) -> None:
        self.how = 0
        self.why = ""
        self.whenLeft: Callable[[bool], None] | None = None

    def say(self, how: int) -> None:
        """
        Tell how the stream ends; of several words the worst one holds.
        """
        self.how = max(self.how, how)

    def leave(self, reset: bool) -> None:
        """
        Tell that the end is let go.
        """
        left, self.whenLeft = self.whenLeft, None
        if left is not None:
            left(reset)


class PipedEnd(End):
    """
    An End on a pipe.
    """

    def __init__(self, who: str, mine: Told, theirs: Told, peer: IAddress, host: IAddress) -> None:
        """
        @param mine: What it tells the other end of the pipe.
        @param theirs: What that tells.
        @param peer: The address of whoever speaks through the pipe.
        @param host: The address that they have reached.
        """
        super().__init__(who)
        self._mine = mine
        self._theirs = theirs
        self.speaksFor(peer, host)

    def endedAs(self, state: int) -> int:
        """
        Tell how the stream has really ended: as the other end of the pipe tells it, but for TLS, whose own end counts.
        """
        if super().endedAs(state) < ENDED:
            return DRAINED
        told = self._theirs.how or RESET
        if not isinstance(self.reading, TLSConnection):
            # To be closed with bytes unread makes a socket of the pipe look reset.
            if state in (ENDED, RESET):
                state = told
        elif state in (TRUNCATED, RESET):
            state = max(told, TRUNCATED)
        self.reading.state = state
        return state

    async def until(self, step: Callable[[], T]) -> T:
        """
        As L{Borrowed.until<tlsproxy.borrowed.Borrowed.until>}.
        """
        try:
            return await super().until(step)
        except PeerEnded:
            if self._theirs.how == RESET and not self.gone:
                raise PeerReset(f"{self.who} reset the connection") from None
            raise

    def overFor(self, reason: str) -> None:
        """
        The session is over, and was not ended by whoever speaks through the pipe.
        """
        self._mine.why = reason

    def shutdownWrite(self, how: int = ENDED, closing: bool = False) -> None:
        """
        End the stream, and tell how.
        """
        self._mine.say(self._cut(how))
        super().shutdownWrite(how, closing)

    def _cut(self, how: int) -> int:
        """
        Tell what an end means where TLS has not ended.
        """
        writing = self.writing
        return TRUNCATED if isinstance(writing, TLSConnection) and not writing.writeEnded else how

    def letGo(self, reset: bool = False) -> None:
        """
        Let the socket go, and tell the other end.
        """
        if not self.gone:
            self._mine.say(RESET if reset else self._cut(ENDED))
            super().letGo(reset)
            self._mine.leave(reset)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The socket is lost.
        """
        lost = not self.gone
        super().connectionLost(reason)
        if lost:
            self._mine.say(RESET)
            self._mine.leave(True)


def socketPair(who: str) -> tuple[socket.socket, socket.socket]:
    """
    Make the two sockets of a pipe.

    @param who: For whom.
    @raise SessionError: There is none to be had.
    """
    try:
        pair = socket.socketpair()
    except OSError as e:
        raise SessionError(f"{who} cannot be given a pipe: {e.strerror}") from e
    for one in pair:
        one.setblocking(False)
    return pair


def plug(reactor: Any, end: End, sock: socket.socket) -> None:
    """
    Give an End one socket of a pipe.
    """
    transport = tcp.Server(sock, end, ("", 0), cast(tcp.Port, None), 0, reactor)
    transport.repstr = f"<pipe of {end.who}>"
    end.makeConnection(transport)


class Layer(Relay):
    """
    What carries the bytes between an outer End and the pipe of an inner one.

    @ivar bucket: For L{Deadlines}.
    """

    __slots__ = ("_inner", "_left", "bucket")

    def __init__(self, outer: End, mouth: PipedEnd, inner: Told, clock: Deadlines) -> None:
        """
        @param outer: It, held.
        @param mouth: The other end of the inner one's pipe.
        @param inner: What the inner End tells.
        @param clock: What sees to it that this ends after the session.
        """
        super().__init__(outer, mouth, clock, _ignore, _ignore, False, False, None)
        self.bucket = 0
        self._left = 0.0
        self._inner = inner
        inner.whenLeft = self.left

    def left(self, reset: bool) -> None:
        """
        The inner End is let go.  What it said last is on its way; what its peer still says goes nowhere.
        """
        if self.over:
            return
        if reset:
            # A socket of the kernel, too, sends what it can before a reset.
            inward = self.inward
            if not inward.ended and not inward.clogged:
                inward.carry()
            self.abort("reset", "")
            return
        outward = self.outward
        self.active = outward.source.transport.reactor.seconds()
        self.clock.watch(self)
        if not outward.over:
            outward.release()
            outward.source.transport.stopReading()
            outward.ended = outward.ended or TRUNCATED
            outward.passEnd()

    def deadline(self) -> float:
        """
        Tell when the outer peer has taken nothing for too long.
        """
        return self.active + GRANULARITY + PATIENCE

    def expired(self) -> None:
        """
        It has.
        """
        if self.drains():
            self.clock.watch(self)
        else:
            self.abort("expired", "")

    def _end(self, outcome: str, reason: str) -> None:
        self._inner.whenLeft = None
        self.clock.forget(self)
        super()._end(outcome, reason)


def _ignore(*_: str) -> None:
    """
    What a layer tells: the inner End finds out by itself.
    """


def layer(outer: End, clock: Deadlines) -> PipedEnd:
    """
    Make an End inside of another: what is read from it is what the other one's TLS brings, and what is written to it
    goes out in that TLS.  So it can be given TLS of its own.

    @param outer: An End, held, with TLS as a rule.  From now on it belongs to the inner one.
    @param clock: The deadlines of all sessions.
    @return: The inner End, held.
    @raise SessionError: No descriptor is left for it.
    """
    reactor = outer.transport.reactor
    ours, theirs = socketPair(outer.who)
    innerTold, mouthTold = Told(), Told()
    addresses = outer.peer(), outer.host()
    inner = PipedEnd(outer.who, innerTold, mouthTold, *addresses)
    mouth = PipedEnd(outer.who, mouthTold, innerTold, *addresses)
    plug(reactor, inner, ours)
    plug(reactor, mouth, theirs)
    Layer(outer, mouth, innerTold, clock).start()
    return inner
