# -*- test-case-name: tests.test_application -*-
"""
Applications in this process: an ordinary protocol of Twisted's in the place of an upstream or of a client.

The session has an End on one end of a pipe, see L{tlsproxy.loopback}; the application has an L{ApplicationTransport} on
the other.  That is a transport of the reactor like any other, but for what it tells: its addresses, its TLS and how it
was lost are those of the session's other side.
"""

from __future__ import annotations

import socket
from typing import Any, Final, cast

from OpenSSL import crypto
from twisted.internet import error, tcp
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, INegotiated, IProtocol, IProtocolFactory, IReactorTime
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from tlsproxy.end import End
from tlsproxy.errors import DialFailed
from tlsproxy.interfaces import ENDED, RESET, TRUNCATED
from tlsproxy.loopback import PipedEnd, Told, plug, socketPair

__all__ = ["Application", "ApplicationTransport", "Mouth", "fromProtocol", "toProtocol"]

_NOWHERE: Final = UNIXAddress(None)
"""The address of whatever has none."""


class ApplicationTransport(tcp.Server):
    """
    What the protocol of an application has as its transport.

    Beside what any TCP transport provides, it provides L{twisted.internet.interfaces.ISSLTransport} and
    L{INegotiated} where the session's other side has TLS.

    @ivar negotiatedProtocol: The application protocol that was negotiated there (ALPN), or L{None}.
    """

    def __init__(self, reactor: Any, sock: socket.socket, protocol: Any, mine: Told, theirs: Told) -> None:
        """
        @param sock: One socket of a pipe.
        @param protocol: The protocol; its C{makeConnection} is the caller's to call.
        @param mine: What this end of the pipe tells the other.
        @param theirs: What that tells.
        """
        self.negotiatedProtocol: bytes | None = None
        self._certificate: crypto.X509 | None = None
        self._peer: IAddress = _NOWHERE
        self._host: IAddress = _NOWHERE
        self._mine = mine
        self._theirs = theirs
        self._who = "the other side"
        self._reads = False
        self._clock: IReactorTime = reactor
        super().__init__(sock, protocol, ("", 0), cast(tcp.Port, None), 0, reactor)
        self.repstr = f"<pipe of {type(protocol).__qualname__}>"
        theirs.whenLeft = self.left

    def stand(self, side: End) -> None:
        """
        Tell of a side of the session as if it were connected straight.
        """
        self._peer, self._host, self._who = side.peer(), side.host(), side.who
        stream = side.tls
        if stream is not None:
            connection = stream.connection
            self._certificate = connection.get_peer_certificate()
            self.negotiatedProtocol = connection.get_alpn_proto_negotiated() or None
            alsoProvides(self, INegotiated)

    def getPeer(self) -> IAddress:
        """
        Tell who is at the session's other side.
        """
        return self._peer

    def getHost(self) -> IAddress:
        """
        Tell which address they have reached.
        """
        return self._host

    def getPeerCertificate(self) -> crypto.X509 | None:
        """
        Tell the certificate that they have shown, if any.
        """
        return self._certificate

    def getTcpNoDelay(self) -> bool:
        """
        Tell whether small writes are sent at once: they always are.
        """
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Do nothing: this is no matter of a pipe.
        """

    def startReading(self) -> None:
        """
        See L{FileDescriptor<twisted.internet.abstract.FileDescriptor>}.
        """
        self._reads = True
        super().startReading()

    def stopReading(self) -> None:
        """
        See L{FileDescriptor<twisted.internet.abstract.FileDescriptor>}.
        """
        self._reads = False
        super().stopReading()

    def left(self, reset: bool) -> None:
        """
        The session has let go of the other end.
        """
        if reset and not self._reads:
            # Nobody reads, so nobody would find out.
            self._clock.callLater(0, self._cutOff)

    def _cutOff(self) -> None:
        self.connectionLost(self._lost())

    def _lost(self) -> Failure:
        """
        Tell why a stream that did not end has ended.
        """
        if self._theirs.why:
            return Failure(error.ConnectionLost(self._theirs.why))
        if self._theirs.how == TRUNCATED:
            return Failure(error.ConnectionLost(f"{self._who} ended the stream without ending TLS"))
        return Failure(error.ConnectionLost(f"{self._who} reset the connection"))

    def readConnectionLost(self, reason: Failure) -> None:
        """
        The stream from the other end has ended.
        """
        if self._theirs.how == ENDED:
            super().readConnectionLost(reason)
        else:
            self.connectionLost(self._lost())

    def _closeWriteConnection(self) -> None:
        self._mine.say(ENDED)
        super()._closeWriteConnection()

    def _closeSocket(self, orderly: bool) -> None:
        # In a later turn: the reactor may hold an event for the descriptor, and its number may be given to another.
        sock = self.socket
        if orderly:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._clock.callLater(0, sock.close)

    def connectionLost(self, reason: Failure) -> None:
        """
        All is over.
        """
        if not hasattr(self, "socket"):
            return
        self._theirs.whenLeft = None
        if reason.check(error.ConnectionDone):
            self._mine.say(TRUNCATED if self.dataBuffer or self._tempDataLen else ENDED)
        elif self._theirs.how == TRUNCATED and reason.check(error.ConnectionLost):
            self._mine.say(TRUNCATED)
        else:
            self._mine.say(RESET)
        if type(reason.value) is error.ConnectionLost and not reason.value.args:
            reason = self._lost()
        super().connectionLost(reason)


class Mouth(ApplicationTransport):
    """
    The other end of a pipe in the hands of one who moves the bytes between it and something else.

    Its protocol has two methods more: C{readEnded(how)}, where the session has ended its stream, and C{left()}, where
    the session has let go of its End.
    """

    protocol: Any

    def readConnectionLost(self, reason: Failure) -> None:
        """
        The session has ended its stream.
        """
        if self._theirs.how in (ENDED, TRUNCATED):
            self.protocol.readEnded(self._theirs.how)
        else:
            self.connectionLost(self._lost())

    def left(self, reset: bool) -> None:
        """
        The session has let go of its End.
        """
        super().left(reset)
        if not reset and hasattr(self, "socket"):
            self.protocol.left()

    def waiting(self) -> int:
        """
        Tell how many bytes wait for the session.
        """
        return len(self.dataBuffer) + self._tempDataLen

    def end(self, how: int, closing: bool) -> None:
        """
        End the stream to the session.

        @param closing: Whether the other one is of no use any more, either.
        """
        self._mine.say(how)
        self.unregisterProducer()
        if closing:
            self.loseConnection()
        else:
            self.loseWriteConnection()


class Application:
    """
    The end of a pipe that an application is to be given.
    """

    def __init__(self, reactor: Any, sock: socket.socket, mine: Told, theirs: Told) -> None:
        self._reactor = reactor
        self._socket: socket.socket | None = sock
        self._mine = mine
        self._theirs = theirs
        theirs.whenLeft = self._left

    def connect(self, protocol: IProtocol, side: End | None = None) -> None:
        """
        Give it to a protocol.

        @param protocol: The application's.
        @param side: The side of the session that it is to see as if it were connected with that straight.
        """
        sock, self._socket = self._socket, None
        assert sock is not None
        transport = ApplicationTransport(self._reactor, sock, protocol, self._mine, self._theirs)
        if side is not None:
            transport.stand(side)
        try:
            protocol.makeConnection(transport)
        except BaseException:
            transport.abortConnection()
            raise

    def _left(self, reset: bool) -> None:
        """
        The session was over before it was given to anybody.
        """
        sock, self._socket = self._socket, None
        if sock is not None:
            self._reactor.callLater(0, sock.close)


def fromProtocol(reactor: Any, who: str = "the client", peer: IAddress = _NOWHERE) -> tuple[PipedEnd, Application]:
    """
    Make an End for a protocol of this process that takes the place of a peer.

    @param who: What the peer is called in messages.
    @param peer: The address it is to have.
    @return: The End, held, and what the protocol is given, now or later.  What it writes waits for the End.
    @raise SessionError: No descriptor is left for it.
    """
    ours, theirs = socketPair(who)
    mine, its = Told(), Told()
    end = PipedEnd(who, mine, its, peer, peer)
    plug(reactor, end, ours)
    return end, Application(reactor, theirs, its, mine)


def toProtocol(reactor: Any, factory: IProtocolFactory, near: End | None = None) -> PipedEnd:
    """
    Connect with a protocol of this process, in the place of an upstream.

    @param factory: What builds it.
    @param near: The side of the client, which it is to see as if the client had connected straight.
    @return: The upstream's End, held.
    @raise DialFailed: The factory builds none.
    @raise SessionError: No descriptor is left for it.
    """
    protocol = factory.buildProtocol(_NOWHERE if near is None else near.peer())
    if protocol is None:
        raise DialFailed("the application takes no connection")
    end, application = fromProtocol(reactor, "the upstream")
    try:
        application.connect(protocol, near)
    except BaseException:
        end.finish(reset=True)
        raise
    return end
