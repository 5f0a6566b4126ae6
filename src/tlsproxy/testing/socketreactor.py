# -*- test-case-name: tests.testing.test_socketreactor -*-
"""
A reactor for tests: real sockets, a clock that stands still, and not one moment of waiting.

Its events come from C{poll}, and are handled by the very code that Twisted's own epoll and poll reactors use.
"""

from __future__ import annotations

import fcntl
import random
import select
import socket
import termios
from collections.abc import Callable, Hashable
from typing import Any, Final

from twisted.internet import posixbase, tcp, unix
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tlsproxy.borrowed import Borrowed

__all__ = ["ADDRESS", "KINDS", "Connected", "SocketReactor", "connect", "tcpPair", "unixPair"]

ADDRESS: Final = ("127.0.0.1", 4321)
"""Where the other end of a connection is, as the transport tells it."""


def _queued(fd: int, which: int) -> int:
    """
    Ask the kernel how many bytes a socket holds.
    """
    try:
        return int.from_bytes(fcntl.ioctl(fd, which, bytes(4)), "little")
    except OSError:
        return 0  # One that listens holds none.


@implementer(IReactorFDSet)
class SocketReactor(posixbase._PollLikeMixin, posixbase._DisconnectSelectableMixin, Clock):
    """
    Whatever is registered is looked at only when a test says so.

    @cvar PATIENCE: How often the same event may come while nothing else changes.
    @ivar shuffle: What orders the events of one turn; L{None} for the order of registration.
    @ivar first: A transport whose events come before all others.
    """

    PATIENCE = 8
    _POLL_DISCONNECTED = select.POLLHUP | select.POLLERR | select.POLLNVAL
    _POLL_IN = select.POLLIN
    _POLL_OUT = select.POLLOUT

    def __init__(self) -> None:
        super().__init__()
        self._reads: dict[int, Any] = {}
        self._writes: dict[int, Any] = {}
        self.shuffle: random.Random | None = None
        self.first: Any = None

    # -- IReactorFDSet ----------------------------------------------------------------------------------------------

    def _add(self, selectable: Any, where: dict[int, Any]) -> None:
        fd = selectable.fileno()
        if fd < 0:
            raise AssertionError(f"{selectable!r} is registered, but its socket is closed")
        where[fd] = selectable

    def _remove(self, selectable: Any, where: dict[int, Any]) -> None:
        for fd in [fd for fd, registered in where.items() if registered is selectable]:
            del where[fd]

    def addReader(self, reader: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        self._add(reader, self._reads)

    def addWriter(self, writer: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        self._add(writer, self._writes)

    def removeReader(self, reader: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        self._remove(reader, self._reads)

    def removeWriter(self, writer: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        self._remove(writer, self._writes)

    def removeAll(self) -> list[Any]:
        """
        See L{IReactorFDSet}.
        """
        every = [*self._reads.values(), *self._writes.values()]
        self._reads.clear()
        self._writes.clear()
        return every

    def getReaders(self) -> list[Any]:
        """
        See L{IReactorFDSet}.
        """
        return list(self._reads.values())

    def getWriters(self) -> list[Any]:
        """
        See L{IReactorFDSet}.
        """
        return list(self._writes.values())

    # -- turns ------------------------------------------------------------------------------------------------------

    def _events(self) -> list[tuple[int, int]]:
        poller = select.poll()
        for fd in sorted({*self._reads, *self._writes}):
            poller.register(fd, (select.POLLIN if fd in self._reads else 0) | (fd in self._writes and select.POLLOUT))
        events = poller.poll(0)
        if self.shuffle is not None:
            self.shuffle.shuffle(events)
        if self.first is not None:
            first = self.first.fileno()
            events.sort(key=lambda event: event[0] != first)
        return events

    def _due(self) -> bool:
        return any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())

    def _disconnectSelectable(self, selectable: Any, why: Any, isRead: bool, *rest: Any) -> None:
        if why not in (CONNECTION_DONE, CONNECTION_LOST):
            raise AssertionError(f"an event of {selectable!r} failed") from why
        super()._disconnectSelectable(selectable, why, isRead, *rest)

    def lose(self, selectable: Any) -> None:
        """
        Find a connection dead, as a reactor does that meets an error on a socket that nobody reads.
        """
        self._disconnectSelectable(selectable, CONNECTION_LOST, False)

    def turn(self) -> Hashable:
        """
        Look once at all sockets, and run the calls that are due.

        @return: What happened, equal to the last turn's where nothing moved on; L{None} if nothing did.
        """
        due = self._due()
        if due:
            self.advance(0)
        events = self._events()
        if not events:
            return object() if due else None
        happened = (
            tuple(sorted(events)),
            frozenset(self._reads),
            frozenset(self._writes),
            tuple((_queued(fd, termios.FIONREAD), _queued(fd, termios.TIOCOUTQ)) for fd, _ in sorted(events)),
        )
        for fd, event in events:
            # Like epoll: an event is dropped only if its descriptor is not registered at all any more.
            selectable = self._reads.get(fd, self._writes.get(fd))
            if selectable is not None:
                self._doReadOrWrite(selectable, fd, event)
        return object() if due else happened

    def pump(self) -> bool:  # type: ignore[override]
        """
        Turn until nothing happens.

        @return: Whether anything happened.
        @raise AssertionError: The same happens again and again.
        """
        last: Hashable = None
        again = 0
        any_ = False
        while (happened := self.turn()) is not None:
            any_ = True
            again = again + 1 if happened == last else 0
            if again > self.PATIENCE:
                raise AssertionError(f"the reactor spins: {happened}")
            last = happened
        return any_


# -- connections ----------------------------------------------------------------------------------------------------


def unixPair() -> tuple[socket.socket, socket.socket]:
    """
    Make two connected Unix sockets, neither of which blocks.
    """
    return _unblocked(socket.socketpair())


def tcpPair() -> tuple[socket.socket, socket.socket]:
    """
    Make two TCP sockets that are connected over loopback, neither of which blocks.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _unblocked((ours, theirs))


def _unblocked(pair: tuple[socket.socket, socket.socket]) -> tuple[socket.socket, socket.socket]:
    for sock in pair:
        sock.setblocking(False)
    return pair


class _Connector:
    """
    What a client transport of Twisted tells of its loss.
    """

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is lost.
        """


def _dialed(kind: Any, sock: socket.socket, end: Borrowed, reactor: Any, address: tuple[Any, ...] = ADDRESS) -> Any:
    """
    Make a client's transport around a socket that is connected already.
    """
    transport = kind.__new__(kind)
    if kind is unix.Client:
        unix._SendmsgMixin.__init__(transport)
    tcp.Connection.__init__(transport, sock, end, reactor)
    transport.connector = _Connector()
    transport.addr = transport.realAddress = b"/peer" if kind is unix.Client else address
    transport.logstr = "client"
    transport.connected = 1
    transport.startReading()
    return transport


def _accepted(kind: Any, sock: socket.socket, end: Borrowed, reactor: Any, address: tuple[Any, ...] = ADDRESS) -> Any:
    client = None if kind is unix.Server else address
    transport = kind(sock, end, client, None, 0, reactor)
    transport.repstr = "server"
    return transport


KINDS: dict[str, tuple[Callable[..., Any], Any]] = {
    "tcp.Server": (_accepted, tcp.Server),
    "tcp.Client": (_dialed, tcp.Client),
    "unix.Server": (_accepted, unix.Server),
    "unix.Client": (_dialed, unix.Client),
}
"""The transports that can be borrowed, by name."""


class Connected:
    """
    A transport of Twisted with a borrower.

    @ivar transport: The transport.
    @ivar losses: With what reason it was lost, each time it was.
    """

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.losses: list[Failure] = []
        lose = transport.connectionLost

        def connectionLost(reason: Failure) -> None:
            self.losses.append(reason)
            lose(reason)

        transport.connectionLost = connectionLost


def connect(
    reactor: Any, end: Borrowed, sock: socket.socket, kind: str = "tcp.Server", address: tuple[Any, ...] = ADDRESS
) -> Connected:
    """
    Give a protocol a real transport of Twisted around a connected socket.

    @param kind: One of L{KINDS}.
    @param address: Where the other end is, as the socket module has it; a Unix socket is nowhere.
    """
    make, transportClass = KINDS[kind]
    connected = Connected(make(transportClass, sock, end, reactor, address))
    end.makeConnection(connected.transport)
    return connected
