# -*- test-case-name: tests.test_borrowed -*-
"""
A transport of Twisted, borrowed.

Twisted accepts and dials, and hands over a transport that is registered with the reactor.  From then on L{Borrowed}
reads and writes the transport's socket itself, and uses the transport only for its place in the reactor:
C{startReading}, C{stopReading}, C{startWriting}, C{stopWriting}, and one C{connectionLost} when all is over.  It sets
C{doRead} and C{doWrite} on the transport to what has to run when the socket is ready.  The transport stays the only
selectable of the descriptor, so every reactor of Twisted can drive it.

Nobody reads a I{held} side, and what the peer sends waits in the kernel.  Each thing that set-up asks for (a hello, a
handshake, some bytes) is one step: a function that does what it can and raises C{SSL.WantReadError} or
C{SSL.WantWriteError} where the socket has to be waited for.  L{Borrowed.until} tries a step now and each time the
socket is ready.

Holding costs nothing: the transport goes on reading, and only an event that nobody asked for takes it out of the
reactor.  So a session that is set up without a pause makes no system call for it.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from OpenSSL import SSL
from twisted.internet import error, tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, ITransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tlsproxy.errors import PeerEnded, PeerReset, WrongTransport
from tlsproxy.interfaces import ENDED
from tlsproxy.tls.native import Buffer

__all__ = ["Borrowed", "hostOf", "isBorrowable", "unread"]

T = TypeVar("T")

_BORROWABLE: Final = frozenset({tcp.Server, tcp.Client, unix.Server, unix.Client})
"""The transports whose C{socket} carries exactly the bytes of the connection, as a subclass's or wrapper's may not."""

_DONE: Final = Failure(error.ConnectionDone())
_ABORTED: Final = Failure(error.ConnectionAborted())
_LINGER: Final = 2.0
_discarded = Buffer(16384)


def isBorrowable(transport: object) -> bool:
    """
    Tell whether a transport is a plain socket of the reactor.
    """
    return type(transport) in _BORROWABLE and not getattr(transport, "TLS", False)


def hostOf(transport: Any) -> IAddress:
    """
    Tell the address of our end of a connection; one without a name where the socket has none, or is gone.
    """
    try:
        address: IAddress = transport.getHost()
    except (AttributeError, OSError, TypeError):
        return UNIXAddress(None)
    return address


def unread(sock: socket.socket) -> int:
    """
    Tell how many bytes the kernel still holds for a peer.
    """
    try:
        return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def _nothing() -> None:
    """
    What an event does that comes after the end.
    """


class _Attempt(Generic[T]):
    """
    A step that was tried and has to wait for the socket.

    @ivar done: Fires with what comes of it.
    """

    __slots__ = ("_borrowed", "_step", "_writing", "done")

    def __init__(self, borrowed: Borrowed, step: Callable[[], T]) -> None:
        self._borrowed = borrowed
        self._step = step
        self._writing = False
        self.done: Deferred[T] = Deferred(self._cancelled)

    def waitToRead(self) -> None:
        """
        Try again when the socket is readable.
        """
        transport = self._borrowed.transport
        transport.doRead = self.again
        if self._borrowed.comesElsewhere(False):
            transport.stopReading()
        else:
            transport.startReading()

    def waitToWrite(self) -> None:
        """
        Try again when the socket is writable.
        """
        transport = self._borrowed.transport
        # What is readable now would wake the reactor in vain.
        transport.stopReading()
        self._writing = True
        transport.doWrite = self.again
        if not self._borrowed.comesElsewhere(True):
            transport.startWriting()

    def again(self) -> None:
        """
        Try.
        """
        transport = self._borrowed.transport
        if self._writing:
            self._writing = False
            transport.stopWriting()
        try:
            result = self._step()
        except SSL.WantReadError:
            self.waitToRead()
        except SSL.WantWriteError:
            self.waitToWrite()
        except Exception:
            self._borrowed.waited()
            self.done.errback(Failure())
        else:
            self._borrowed.waited()
            self.done.callback(result)

    def _cancelled(self, _: Deferred[T]) -> None:
        self._borrowed.waited()


class Borrowed(Protocol):
    """
    One connection whose transport is borrowed.

    @ivar who: What the peer is called in messages: C{"the client"} or C{"the upstream"}.
    @ivar gone: Whether the transport is let go.
    @ivar onLost: Called once if the transport is lost while nothing waits for it.
    """

    transport: Any
    socket: socket.socket
    _told: tuple[IAddress, IAddress] | None = None

    def __init__(self, who: str) -> None:
        self.who = who
        self.gone = False
        self._end = _DONE
        self.onLost: Callable[[Failure], None] | None = None
        self._waiting: Deferred[Any] | None = None
        self._lingering: IDelayedCall | None = None

    def makeConnection(self, transport: ITransport) -> None:
        """
        Borrow a transport.

        @raise WrongTransport: It is no plain socket of the reactor.
        """
        if not isBorrowable(transport):
            self.gone = True
            transport.abortConnection()  # type: ignore[attr-defined]
            raise WrongTransport(
                f"TLS needs a plain TCP or Unix socket of the reactor, and this is a {type(transport).__qualname__}"
            )
        self.transport = transport
        self.socket = self.transport.socket
        self.connected = 1
        self.transport.doRead = self._pause
        self.transport.doWrite = self.transport.stopWriting
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # A Unix socket has nothing of the kind.
        self.connectionMade()

    def _pause(self) -> None:
        """
        The peer sent something while nobody reads: leave it in the kernel, and the reactor in peace.
        """
        self.transport.stopReading()

    def comesElsewhere(self, writing: bool) -> bool:
        """
        Tell whether what a step waits for is nothing that the reactor could tell of this socket.  Then whoever it
        comes to calls the transport's C{doRead}, or C{doWrite}.

        @param writing: Whether the step wants to write.
        """
        return False

    def released(self) -> None:
        """
        Nothing is read or written any more but what closing takes.
        """

    def hold(self) -> None:
        """
        Stop reading and writing for whoever did.
        """
        transport = self.transport
        transport.doRead = self._pause
        transport.doWrite = transport.stopWriting

    def waited(self) -> None:
        """
        Nothing is waited for any more.
        """
        self._waiting = None
        self.hold()

    def connectionLost(self, reason: Failure = _DONE) -> None:
        """
        The transport is lost: because it was let go, or because the reactor found the connection dead.
        """
        borrowed, self.connected = self.connected, 0
        if self.gone:
            return
        self.gone = True
        self.released()
        if borrowed:
            self.transport.doRead = self.transport.doWrite = _nothing
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(PeerReset(f"{self.who} reset the connection"))
        elif self.onLost is not None:
            lost, self.onLost = self.onLost, None
            lost(reason)

    async def until(self, step: Callable[[], T]) -> T:
        """
        Try a step now, and whenever the socket is ready, until it is done.

        @param step: It may raise C{SSL.WantReadError} or C{SSL.WantWriteError} to be called again; any other
            exception ends it.
        @return: What the step returns, in its time.  Cancelling it leaves the transport held.
        """
        if self.gone:
            raise PeerReset(f"{self.who} is gone")
        try:
            return step()  # More often than not there is nothing to wait for.
        except SSL.WantReadError:
            attempt = _Attempt(self, step)
            attempt.waitToRead()
        except SSL.WantWriteError:
            attempt = _Attempt(self, step)
            attempt.waitToWrite()
        self._waiting = attempt.done
        return await attempt.done

    def sleep(self, seconds: float) -> Deferred[None]:
        """
        Wait.
        """
        done: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self.transport.reactor.callLater(seconds, done.callback, None)
        return done

    def shutdownWrite(self, how: int = ENDED, closing: bool = False) -> None:
        """
        Send a FIN.

        @param how: What it means: C{ENDED}, or C{TRUNCATED} where the stream was cut off.  A plain socket cannot tell.
        @param closing: Whether the socket is closed next, which is a FIN, too.
        """
        if closing:
            return
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The connection is broken: reading says how.

    def endedAs(self, state: int) -> int:
        """
        Tell how the stream that is read has really ended.

        @param state: How the socket says that it has: one of the states of L{tlsproxy.interfaces}.
        @return: Another of them; C{DRAINED} where it goes on after all.
        """
        return state

    def letGo(self, reset: bool = False) -> None:
        """
        Let the transport go.  The socket stays open until L{close}.

        @param reset: Whether it is to be closed with a reset, so that the peer knows that the stream did not end but
            broke.
        """
        if self.gone:
            return
        self.gone = True
        self.released()
        self.onLost = None
        self._lingered()
        self._end = _ABORTED if reset else _DONE
        transport = self.transport
        transport.doRead = transport.doWrite = _nothing
        transport.stopReading()
        transport.stopWriting()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(PeerEnded("the session is over"))

    def close(self) -> None:
        """
        Close the socket of a transport that was let go: in a later turn than that, since the reactor may hold an event
        for the descriptor, and its number may be given to another.
        """
        if self.connected:  # It may have been lost before it was let go.
            self.transport.connectionLost(self._end)

    def finish(self, reset: bool = False) -> None:
        """
        Let the transport go and close the socket.

        @param reset: Close it with a reset.
        """
        if not self.gone:
            self.letGo(reset)
            self.transport.reactor.callLater(0, self.close)

    def linger(self) -> None:
        """
        Send a FIN, and close the socket when the peer has read it or after two seconds.

        To close a socket that holds unread bytes resets the connection, and the peer loses what it has not read yet:
        the alert, say, that would tell it what is wrong.
        """
        if self.gone:
            return
        self.released()
        self.shutdownWrite()
        transport = self.transport
        self._lingering = transport.reactor.callLater(_LINGER, self.finish)

        def discard() -> None:
            try:
                if self.socket.recv_into(_discarded.view):
                    return
            except BlockingIOError:
                return
            except OSError:
                pass
            self.finish()

        self.onLost = lambda _: self._lingered()
        transport.doRead = discard
        transport.doWrite = transport.stopWriting
        transport.startReading()

    def _lingered(self) -> None:
        timer, self._lingering = self._lingering, None  # One that has run holds us.
        if timer is not None and timer.active():
            timer.cancel()

    def speaksFor(self, peer: IAddress, host: IAddress) -> None:
        """
        Go by what the other end has told: it speaks for somebody else.

        @param peer: Where that one is.
        @param host: Where it has connected.
        """
        self._told = peer, host

    def peer(self) -> IAddress:
        """
        The address of the other end, or of whom it speaks for.
        """
        if self._told is not None:
            return self._told[0]
        address: IAddress = self.transport.getPeer()
        return address

    def host(self) -> IAddress:
        """
        The address that the peer has reached; one without a name where the socket has none, or is gone.
        """
        return hostOf(self.transport) if self._told is None else self._told[1]
