# -*- test-case-name: tests.test_stocktls -*-
"""
Twisted's own TLS, as stock as it is, on a socket of its own.

What it has swallowed and what it has written is counted, so that whoever feeds it knows where it is.
"""

from __future__ import annotations

import socket
from typing import Any, Final, cast
from typing import Protocol as Structure

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tlsproxy.errors import HandshakeFailed, TLSProxyError, forgetFrames
from tlsproxy.interfaces import ENDED, FAILED
from tlsproxy.selfconnection import LOOPBACK
from tlsproxy.tls.native import RECORD

__all__ = ["StockTLS"]

_log = Logger()

_CLOSE_NOTIFY: Final = (0, False)


class _Owner(Structure):
    """
    Whom L{StockTLS} works for.

    @ivar connection: The connection that TLS is to use.
    """

    connection: SSL.Connection

    def settle(self) -> None:
        """
        See that the peer's certificate has been judged.
        """

    def noteAlert(self) -> tuple[int, bool] | None:
        """
        Note the alert that has just been sent or received, if any, and tell it.
        """

    def progress(self) -> None:
        """
        Something has happened.
        """


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Made:
    """
    A connection that is made already, for Twisted.
    """

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        See L{IOpenSSLClientConnectionCreator}.
        """
        return self._connection

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        See L{IOpenSSLServerConnectionCreator}.
        """
        return self._connection


@implementer(IHandshakeListener)
class _Clear(Protocol):
    """
    What TLS talks to in clear.
    """

    def __init__(self, tls: StockTLS) -> None:
        self._tls = tls

    def connectionMade(self) -> None:
        """
        TLS is about to begin.
        """
        self._tls.beginning()

    def handshakeCompleted(self) -> None:
        """
        See L{IHandshakeListener}.
        """
        self._tls.completed()

    def dataReceived(self, data: bytes) -> None:
        """
        Something has come.
        """
        self._tls.clear += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        All is over.
        """
        self._tls.lost(reason)


class _Counted(ProtocolWrapper):
    """
    What stands between TLS and its socket.
    """

    wrappedProtocol: Any
    transport: Any

    def __init__(self, factory: Any, tls: Any, counts: StockTLS) -> None:
        super().__init__(factory, tls)
        self._counts = counts

    def dataReceived(self, data: bytes) -> None:
        """
        Count what TLS has swallowed.
        """
        try:
            self.wrappedProtocol.dataReceived(data)
        except Exception as e:
            self._counts.broke(e)
        self._counts.swallow(len(data))

    def write(self, data: bytes) -> None:
        """
        Count what TLS has written, and send it at once.
        """
        if self.transport.connected:
            self._counts.written += len(data)
            self.transport.write(data)
            self._counts.send()

    def writeSequence(self, data: Any) -> None:
        """
        As L{write}.
        """
        self.write(b"".join(data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The socket is gone.  Whatever TLS makes of that, it is no close_notify of the peer.
        """
        self._counts.finished = True
        super().connectionLost(reason)

    def loseConnection(self) -> None:
        """
        TLS is over.
        """
        self._counts.finish()
        super().loseConnection()


class StockTLS:
    """
    Twisted's TLS on a socket that was accepted for it.

    @ivar clear: What has come in clear, and was not taken yet.
    @ivar swallowed: How many bytes TLS was given.
    @ivar written: How many it has written.
    @ivar ready: Whether the handshake is done.
    @ivar finished: Whether TLS takes no more.
    @ivar verdict: How it has ended: C{ENDED}, by the peer's close_notify, or C{FAILED}; 0 while it goes on.
    @ivar problem: Why it has failed, as far as there are words for it.
    """

    __slots__ = (
        "_notified",
        "_owner",
        "_particulars",
        "_protocol",
        "_transport",
        "clear",
        "finished",
        "problem",
        "ready",
        "swallowed",
        "verdict",
        "written",
    )

    def __init__(self) -> None:
        self._owner: _Owner | None = None
        self._protocol: TLSMemoryBIOProtocol | None = None
        self._transport: Any = None
        self._particulars: Any = None
        self._notified = False
        self.clear = b""
        self.swallowed = self.written = 0
        self.ready = self.finished = False
        self.verdict = 0
        self.problem: Exception | None = None

    @property
    def takes(self) -> bool:
        """
        Whether it can be fed.
        """
        return self._transport is not None and not self.finished

    def start(self, owner: _Owner, reactor: Any, sock: socket.socket, server: bool) -> None:
        """
        Begin, on a connected socket.
        """
        self._owner = owner
        self._particulars = owner.connection.get_app_data()
        factory = TLSMemoryBIOFactory(_Made(owner.connection), not server, Factory(), clock=reactor)
        self._protocol = TLSMemoryBIOProtocol(factory, _Clear(self))
        counted = _Counted(WrappingFactory(factory), self._protocol, self)
        self._transport = transport = tcp.Server(sock, counted, (LOOPBACK, 0), cast(tcp.Port, None), 0, reactor)
        transport.repstr = "<TLS on loopback>"
        transport.setTcpNoDelay(True)
        counted.makeConnection(transport)

    def read(self) -> None:
        """
        Read what has come to its socket, if anything has.
        """
        if self._transport is not None and not self.finished:
            self._transport.doRead()  # What it says of an end it says again when the reactor asks.

    def send(self) -> None:
        """
        Send what TLS has written, without waiting for the reactor.
        """
        transport = self._transport
        if transport is not None and not transport.disconnecting:
            transport.doWrite()

    def write(self, data: bytes) -> None:
        """
        Send something inside TLS.
        """
        if self._protocol is not None:
            self._protocol.write(data)

    def end(self) -> None:
        """
        Send close_notify.
        """
        if self._protocol is not None:
            self._protocol.loseConnection()

    def close(self) -> None:
        """
        Give up.
        """
        self._owner = None
        self.finished = True
        if self._transport is not None:
            self._transport.abortConnection()

    # -- what TLS tells ---------------------------------------------------------------------------------------------

    def beginning(self) -> None:
        """
        The handshake is about to begin.
        """
        if self._owner is not None:
            # Twisted has put something of its own in the place by which the peer's certificate is judged.
            self._owner.connection.set_app_data(self._particulars)

    def completed(self) -> None:
        """
        The handshake is done.
        """
        if self._owner is None:
            return
        try:
            self._owner.settle()
        except HandshakeFailed as e:
            self._give(FAILED, e)
        else:
            self.ready = True

    def swallow(self, count: int) -> None:
        """
        TLS has been given some bytes, and has done with them what there is to do.
        """
        self.swallowed += count
        if self._owner is not None:
            self._owner.noteAlert()
            self._owner.progress()

    def finish(self) -> None:
        """
        TLS closes its socket.
        """
        if self._owner is not None and not self.finished:
            self._notified = bool(self._owner.connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)
        self.finished = True

    def broke(self, problem: Exception) -> None:
        """
        TLS did not stand what it was given.
        """
        if isinstance(problem, TLSProxyError):
            # A callback of ours has refused what the peer wants, and Twisted left the alert where it was.
            self._sendAlert()
            self._give(FAILED, problem)
        elif self._owner is not None and self._owner.noteAlert() == _CLOSE_NOTIFY and not self.ready:
            # Twisted does not expect that in the middle of a handshake.
            self._give(ENDED, None)
        else:
            _log.failure("TLS on loopback failed")
            self._give(FAILED, None)
        forgetFrames(problem)

    def _sendAlert(self) -> None:
        if self._owner is not None and self._transport is not None:
            try:
                self._transport.protocol.write(self._owner.connection.bio_read(RECORD))
            except SSL.WantReadError:
                pass  # There is none.

    def lost(self, reason: Failure) -> None:
        """
        The socket is closed.
        """
        owner, self._owner = self._owner, None
        self._transport = self._protocol = None
        self.finished = True
        problem: Any = reason.value
        if not self.verdict:
            if isinstance(problem, SSL.Error):
                self._give(FAILED, problem)
            else:
                self._give(ENDED if self._notified else FAILED, None)
        reason.cleanFailure()
        forgetFrames(problem)
        if owner is not None:
            owner.progress()

    def _give(self, verdict: int, problem: Exception | None) -> None:
        self.verdict = verdict
        self.problem = None if problem is None else problem.with_traceback(None)
        self.finished = True
        if self._transport is not None:
            self._transport.loseConnection()
