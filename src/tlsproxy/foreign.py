# -*- test-case-name: tests.test_foreign -*-
"""
Transports that are no plain sockets: wrappers that count or throttle, whatever else listens or connects.

A L{Foreign} is the protocol for a transport of which nobody knows what it is.  If that is a plain socket after all, it
is handed over to an End at once.  Otherwise the End gets one end of a pipe, see L{tlsproxy.loopback}, and the bytes are
moved between the other end and the transport by Twisted's own means, with back-pressure both ways.

How streams end
===============

Each end goes on as what it was, as far as the transport can tell and be told.  One that wraps another hides a
half-close, so the one under it is asked to tell us.  One that has TLS of Twisted's cannot be half-closed, and does not
tell a truncated stream from a reset one: we take either for truncated; a stream that was truncated cannot be passed on
to it, so that is reset.  One that cannot be half-closed is closed instead, and what its peer still would have said
counts as cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer

from tlsproxy.address import tellPeer
from tlsproxy.application import Mouth
from tlsproxy.borrowed import hostOf, isBorrowable, unread
from tlsproxy.end import End
from tlsproxy.errors import SessionError
from tlsproxy.interfaces import ENDED, RESET, TRUNCATED
from tlsproxy.loopback import PATIENCE, PipedEnd, Told, plug, socketPair

__all__ = ["Foreign"]

_log = Logger()

_MOST: Final = 4 << 20
"""How much may wait for the session before a transport counts as one that does not stop when it is told to."""


@implementer(IPushProducer)
class _Inside(Protocol):
    """
    What reads the session's bytes from the pipe, for the transport.

    @ivar foreign: Whose transport that is; L{None} once it is gone.
    """

    transport: Mouth

    def __init__(self, foreign: Foreign) -> None:
        self.foreign: Foreign | None = foreign

    def dataReceived(self, data: bytes) -> None:
        """
        The session has sent something.
        """
        if self.foreign is not None:
            self.foreign.sent += len(data)
            self.foreign.transport.write(data)

    def readEnded(self, how: int) -> None:
        """
        The session has ended its stream.
        """
        if self.foreign is not None:
            self.foreign.endWrite(how)

    def left(self) -> None:
        """
        The session is over.
        """
        if self.foreign is not None:
            self.foreign.left()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The pipe is gone.
        """
        foreign, self.foreign = self.foreign, None
        if foreign is not None:
            foreign.reset()

    def pauseProducing(self) -> None:
        """
        The transport is full.
        """
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        The transport takes more.
        """
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        The transport is lost, of which we are told otherwise, too.
        """


@implementer(IHalfCloseableProtocol, IPushProducer)
class Foreign(Protocol):
    """
    The protocol of a transport of which nobody knows what it is.

    @ivar sent: How many bytes of the session it was given.
    """

    transport: Any

    def __init__(self, reactor: Any, who: str, made: Callable[[End], object]) -> None:
        """
        @param reactor: The reactor.
        @param who: What the peer is called in messages: C{"the client"} or C{"the upstream"}.
        @param made: Called with the End once there is one.
        """
        self._reactor = reactor
        self._who = who
        self._made: Callable[[End], object] | None = made
        self._inside: _Inside | None = None
        self._timer: IDelayedCall | None = None
        self._wrapper: Any = None
        self._below: Any = None
        self.sent = 0
        self._produces = False
        self._readEnded = False
        self._closed = False
        self._secure = False

    def makeConnection(self, transport: ITransport) -> None:
        """
        Take a transport, or hand it over to an End.
        """
        made = self._made
        if made is not None and isBorrowable(transport):
            self._made = None
            plain: Any = transport
            plain.protocol = end = End(self._who).whenMade(made)
            end.makeConnection(transport)
            return
        super().makeConnection(transport)

    def connectionMade(self) -> None:
        """
        The transport is no plain socket.
        """
        wrapper: Any = None
        inner = self.transport
        self._secure = ISSLTransport.providedBy(inner)
        while isinstance(inner, ProtocolWrapper):
            wrapper, inner = inner, inner.transport
            self._secure = self._secure or ISSLTransport.providedBy(inner)
        self._below = inner
        if wrapper is not None and not self._secure:
            # To a wrapper the end of the stream would be the end of the connection.  An endpoint may have put one more
            # below it, which knows us no better.
            wrapper = getattr(inner, "protocol", wrapper)
            wrapper.readConnectionLost = self.readConnectionLost
            wrapper.writeConnectionLost = self.writeConnectionLost
            alsoProvides(wrapper, IHalfCloseableProtocol)
            self._wrapper = wrapper
        if hasattr(inner, "setTcpNoDelay") and isinstance(hostOf(inner), (IPv4Address, IPv6Address)):
            inner.setTcpNoDelay(True)
        self._open()

    def _rest(self) -> None:
        """
        Nothing is waited for any more.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # -- between the transport and the pipe --------------------------------------------------------------------------

    def _open(self) -> None:
        """
        Make the End, and let the bytes flow.
        """
        made, self._made = self._made, None
        assert made is not None
        transport = self.transport
        mine, its = Told(), Told()
        try:
            ours, theirs = socketPair(self._who)
        except SessionError as e:
            _log.error("{peer}: {reason}", peer=tellPeer(transport.getPeer()), reason=str(e))
            return self.abort()
        end = PipedEnd(self._who, mine, its, transport.getPeer(), hostOf(transport))
        self._inside = inside = _Inside(self)
        inside.makeConnection(Mouth(self._reactor, theirs, inside, its, mine))
        inside.transport.registerProducer(self, True)
        if hasattr(transport, "registerProducer"):
            self._produces = True
            transport.registerProducer(inside, True)
        plug(self._reactor, end.whenMade(made), ours)

    def dataReceived(self, data: bytes) -> None:
        """
        The peer has sent something.
        """
        inside = self._inside
        if inside is None:
            return
        if inside.transport.waiting() <= _MOST:
            inside.transport.write(data)
            return
        who, most = tellPeer(self.transport.getPeer()), _MOST >> 20
        _log.error("{peer}: its transport does not stop when it is told to, and {most} MiB wait", peer=who, most=most)
        self._inside = inside.foreign = None
        inside.transport.abortConnection()
        self.abort()

    def pauseProducing(self) -> None:
        """
        The session does not read what we have for it.
        """
        getattr(self.transport, "pauseProducing", bool)()

    def resumeProducing(self) -> None:
        """
        The session takes more.
        """
        if not self._readEnded:
            getattr(self.transport, "resumeProducing", bool)()

    def stopProducing(self) -> None:
        """
        The pipe is lost, of which we are told otherwise, too.
        """

    def readConnectionLost(self) -> None:
        """
        The peer has ended its stream.
        """
        self._readEnded = True
        inside = self._inside
        if inside is None:
            self.abort()
            return
        inside.transport.end(ENDED, closing=self._closed)
        if self._closed:
            inside.foreign = None
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Our own end is on its way.
        """

    def endWrite(self, how: int) -> None:
        """
        The session has ended its stream.
        """
        transport = self.transport
        self._unregister()
        self._closed = True
        if self._secure and how == TRUNCATED:
            self._abortSoon()
        elif self._readEnded and self._inside is not None:
            self._inside.foreign = None
            self._inside.transport.end(ENDED, closing=True)
            transport.loseConnection()
        elif ITCPTransport.providedBy(transport) and not self._secure:
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _unregister(self) -> None:
        if self._produces:
            self._produces = False
            self.transport.unregisterProducer()

    def left(self) -> None:
        """
        The session is over; what it has said last may still be on its way.
        """
        if self._timer is None:
            self._await(self._queued())

    def _await(self, queued: object) -> None:
        """
        Wait until the peer has taken what is on its way, or none of it for too long.
        """

        def late() -> None:
            now = self._queued()
            if now == queued:
                self.abort()
            else:
                self._await(now)

        self._timer = self._reactor.callLater(PATIENCE, late)

    def _queued(self) -> object:
        """
        Tell how much has gone out so far, in terms of which only a change means something.
        """
        below = self._below
        kernel = unread(below.socket) if hasattr(below, "socket") else 0
        return self.sent, kernel, len(getattr(below, "dataBuffer", b"")), getattr(below, "offset", 0)

    def reset(self) -> None:
        """
        The session was reset.  A socket of the kernel sends what it can before a reset, so Twisted gets a turn for it.
        """
        self._unregister()
        self._inside = None
        self._abortSoon()

    def _abortSoon(self) -> None:
        self._rest()
        call = self._reactor.callLater
        self._timer = call(0, lambda: setattr(self, "_timer", call(0, self.abort)))

    def abort(self) -> None:
        """
        Reset the connection.
        """
        self._unregister()
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The transport is lost.
        """
        self._rest()
        self._made = self._below = None
        wrapper, self._wrapper = self._wrapper, None
        if wrapper is not None:
            del wrapper.readConnectionLost, wrapper.writeConnectionLost
        inside, self._inside = self._inside, None
        if inside is None:
            return
        inside.foreign = None
        if reason.check(error.ConnectionDone):
            how = TRUNCATED if self._closed and not self._readEnded and not self._secure else ENDED
        else:
            how = TRUNCATED if self._secure and not reason.check(error.ConnectionAborted) else RESET
        inside.transport.end(how, closing=True)
