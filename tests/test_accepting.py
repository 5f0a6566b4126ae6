# -*- test-case-name: tests.test_accepting -*-
"""
L{tlsproxy.accepting}
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.accepting import PAUSE, Accepting


class Queue:
    """
    A socket that listens: clients that wait, and troubles.

    @ivar waiting: What C{accept} does next: an address, or an error's number.
    @ivar calls: How often it was called.
    """

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.calls = 0
        self.family = socket.AF_INET

    def accept(self) -> tuple[Any, Any]:
        """
        Give the next.
        """
        self.calls += 1
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nobody waits")
        first = self.waiting.pop(0)
        if isinstance(first, int):
            raise OSError(first, os.strerror(first))
        return Socket(self.family), first


class Socket:
    """
    A connection that was accepted.

    @ivar closed: Whether it was closed.
    """

    def __init__(self, family: int) -> None:
        self.family = family
        self.closed = False

    def close(self) -> None:
        """
        Close it.
        """
        self.closed = True


class Transport:
    """
    What a port makes of a connection.

    @ivar aborted: Whether it was aborted.
    """

    def __init__(self, sock: Socket, protocol: Any, address: Any, port: Any, number: int, reactor: Any) -> None:
        self.sock, self.protocol, self.address, self.number = sock, protocol, address, number
        self.aborted = False
        port.transports.append(self)

    def abortConnection(self) -> None:
        """
        Note it.
        """
        self.aborted = True


class Port:
    """
    As much of a port of Twisted's as is borrowed.

    @ivar reads: Whether the reactor looks after it.
    @ivar made: The addresses of those for whom a protocol was made.
    """

    transport = Transport
    connected = True
    sessionno = 0
    doRead: Any = None

    def __init__(self) -> None:
        self.socket = Queue()
        self.reactor = Clock()
        self.reads = True
        self.disconnecting = False
        self.made: list[Any] = []
        self.transports: list[Transport] = []
        self.refuses = False
        self.problem: Exception | None = None

    @property
    def factory(self) -> Port:
        """
        What makes protocols.
        """
        return self

    def buildProtocol(self, address: Any) -> Any:
        """
        Make one.
        """
        self.made.append(address)
        return None if self.refuses else self

    def makeConnection(self, transport: Transport) -> None:
        """
        Take it, or fail.
        """
        if self.problem is not None:
            raise self.problem

    def _buildAddr(self, address: Any) -> IPv4Address:
        return IPv4Address("TCP", *address[:2])

    def startReading(self) -> None:
        """
        Be looked after.
        """
        self.reads = True

    def stopReading(self) -> None:
        """
        Be left alone.
        """
        self.reads = False

    def turn(self) -> None:
        """
        The reactor finds it readable, if it looks and somebody waits.
        """
        if self.reads and self.socket.waiting:
            self.doRead()


class AcceptingTests(SynchronousTestCase):
    """
    A port that is borrowed.
    """

    def setUp(self) -> None:
        """
        Borrow one.
        """
        self.port = Port()
        self.most = 1000
        self.full = 0
        self.problems: list[OSError] = []
        port: Any = self.port
        self.accepting = Accepting(port, self.room, self.noteFull, self.problems.append)

    def room(self) -> int:
        """
        Tell how many more there may be.
        """
        return self.most - len(self.port.transports)

    def noteFull(self) -> None:
        """
        There is no room.
        """
        self.full += 1

    def come(self, count: int) -> None:
        """
        Have clients wait.
        """
        self.port.socket.waiting += [("192.0.2.1", 1000 + number) for number in range(count)]

    def turns(self, count: int = 50) -> None:
        """
        Let the reactor turn.
        """
        for _ in range(count):
            self.port.turn()

    def test_takes(self) -> None:
        """
        Twisted's own ports can be borrowed, and no other.
        """

        class Other(tcp.Port):
            pass

        reactor: Any = Clock()
        factory: Any = None
        self.assertTrue(Accepting.takes(tcp.Port(0, factory, reactor=reactor)))
        self.assertTrue(Accepting.takes(unix.Port(b"/x", factory, reactor=reactor)))
        other: Any = object()
        for one in (Other(0, factory, reactor=reactor), other):
            self.assertFalse(Accepting.takes(one))

    def test_accept(self) -> None:
        """
        Each client is accepted once, in its turn, with its address, and gets a number as with any port.
        """
        self.come(300)
        self.turns()
        self.assertEqual(list(range(1000, 1300)), [one.port for one in self.port.made])
        self.assertEqual(list(range(300)), [one.number for one in self.port.transports])
        self.assertEqual((True, 0, []), (self.port.reads, self.full, self.problems))

    def test_oneByOne(self) -> None:
        """
        Clients that come one by one cost one system call each.
        """
        for _ in range(10):
            self.come(1)
            self.turns(1)
        self.come(1)
        before = self.port.socket.calls
        self.turns(1)
        self.assertLessEqual(self.port.socket.calls - before, 2)

    def test_batches(self) -> None:
        """
        Where many come they are accepted in few turns, but not so many in one that those inside have to wait.
        """
        self.come(1000)
        self.turns(7)
        self.assertEqual(127, len(self.port.transports))
        before = self.port.socket.calls
        self.turns(1)
        self.assertEqual(64, self.port.socket.calls - before)

    def test_noRoom(self) -> None:
        """
        No more are accepted than there is room for, exactly; the others wait, and are accepted when there is.
        """
        self.most = 5
        self.come(20)
        self.turns()
        self.assertEqual((5, False, True, 1), (len(self.port.transports), self.port.reads, self.accepting.paused, 1))
        self.assertEqual((1, 15), (self.full, len(self.port.socket.waiting)))
        self.accepting.resume()
        self.assertFalse(self.port.reads)
        self.most = 7
        self.accepting.resume()
        self.turns()
        self.assertEqual((7, 2, False), (len(self.port.transports), self.full, self.port.reads))
        self.most = 100
        self.accepting.resume()
        self.turns()
        self.assertEqual((20, 2, True), (len(self.port.transports), self.full, self.port.reads))

    def test_noneAtAll(self) -> None:
        """
        Where there is no room before anybody comes, nobody is accepted.
        """
        self.most = 0
        self.come(1)
        self.turns()
        self.assertEqual((0, 0, 1), (len(self.port.transports), self.port.socket.calls, self.full))

    def test_exhausted(self) -> None:
        """
        Where there are no descriptors nobody is turned away: the port rests for a moment, and then tries once more.
        """
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EINVAL):
            self.setUp()
            self.port.socket.waiting = [number] * 3
            self.come(2)
            for attempt in range(1, 4):
                self.turns()
                self.assertEqual((attempt, attempt), (self.port.socket.calls, len(self.problems)))
                self.assertFalse(self.port.reads)
                self.port.reactor.advance(PAUSE * 0.4)
                self.assertFalse(self.port.reads)
                self.port.reactor.advance(PAUSE * 0.7)
                self.assertTrue(self.port.reads)
            self.turns()
            self.assertEqual(2, len(self.port.transports))
            self.assertEqual([number] * 3, [problem.errno for problem in self.problems])
            self.assertEqual([], self.port.reactor.getDelayedCalls())

    def test_notEnough(self) -> None:
        """
        Nobody is accepted whose session would find no descriptors: as many as there are some for, and the others wait.
        """
        asked = []

        def enough(wanted: int) -> int:
            asked.append(wanted)
            return min(wanted, 5 - len(self.port.transports))

        port: Any = self.port
        self.accepting = Accepting(port, self.room, self.noteFull, self.problems.append, enough)
        self.come(20)
        self.turns()
        self.assertEqual((5, 15, False), (len(self.port.transports), len(self.port.socket.waiting), self.port.reads))
        self.assertEqual([errno.EMFILE], [problem.errno for problem in self.problems])
        self.assertEqual((0, False), (self.full, self.accepting.paused))
        del self.port.transports[:]
        self.port.reactor.advance(PAUSE)
        self.turns()
        self.assertEqual(5, len(self.port.transports))
        # Who has no room does not ask.
        self.most, count = 0, len(asked)
        self.port.reactor.advance(PAUSE)
        self.turns()
        self.assertEqual((count, 1), (len(asked), self.full))

    def test_exhaustedAndFull(self) -> None:
        """
        A port that rests stays at rest while there is no room, and one without room while it rests.
        """
        self.port.socket.waiting = [errno.EMFILE]
        self.turns()
        self.accepting.paused = True
        self.port.reactor.advance(PAUSE)
        self.assertFalse(self.port.reads)
        self.accepting.resume()
        self.assertTrue(self.port.reads)
        self.port.socket.waiting = [errno.EMFILE]
        self.turns()
        self.accepting.paused = True
        self.accepting.resume()
        self.assertFalse(self.port.reads)
        self.port.reactor.advance(PAUSE)
        self.assertTrue(self.port.reads)

    def test_gone(self) -> None:
        """
        A client that has gone while it waited, or whom a firewall has refused, is nobody's trouble.
        """
        self.come(1)
        self.port.socket.waiting += [errno.ECONNABORTED, errno.EPERM, errno.EPROTO]
        self.come(1)
        self.turns()
        self.assertEqual((2, True, []), (len(self.port.transports), self.port.reads, self.problems))

    def test_refused(self) -> None:
        """
        Who gets no protocol is closed.
        """
        self.port.refuses = True
        self.come(3)
        self.turns()
        self.assertEqual((3, []), (len(self.port.made), self.port.transports))

    def test_bug(self) -> None:
        """
        A connection that meets a bug is closed, and the next is served.
        """
        self.port.problem = RuntimeError("a bug")
        self.come(1)
        self.turns()
        self.port.problem = None
        self.come(1)
        self.turns()
        self.assertEqual([True, False], [one.aborted for one in self.port.transports])
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.port._buildAddr = None  # type: ignore[assignment, method-assign]
        self.come(1)
        self.turns()
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))
        self.assertTrue(self.port.reads)

    def test_zone(self) -> None:
        """
        A zone is told by its name, as Twisted does, and other addresses of IPv6 need no look-up.
        """
        self.port.socket.family = socket.AF_INET6
        self.port.socket.waiting = [("2001:db8::1", 1, 0, 0), ("fe80::1", 2, 0, 1)]
        self.turns()
        first, second = self.port.made
        self.assertEqual("2001:db8::1", first.host)
        self.assertTrue(second.host.startswith("fe80::1%"), second.host)
        # One that has no name does not take the port along.
        self.port.socket.waiting = [("nowhere", 2, 0, 1), ("2001:db8::1", 3, 0, 0)]
        self.turns()
        self.assertEqual((3, True), (len(self.port.made), self.port.reads))
        self.assertEqual(1, len(self.flushLoggedErrors(socket.gaierror)))

    def test_stopped(self) -> None:
        """
        A port that stops listening accepts nobody any more, and leaves no timer behind.
        """
        self.come(30)
        make = self.port.buildProtocol

        def stop(address: Any) -> Any:
            self.port.disconnecting = True
            return make(address)

        self.port.buildProtocol = stop  # type: ignore[method-assign]
        self.turns(1)
        self.assertEqual(1, len(self.port.transports))
        self.port.disconnecting = False
        self.port.socket.waiting = [errno.EMFILE]
        self.turns()
        self.port.disconnecting = True
        self.accepting.paused = True
        self.accepting.resume()
        self.port.reactor.advance(PAUSE)
        self.assertFalse(self.port.reads)
        self.port.disconnecting, self.port.reads = False, True
        self.port.socket.waiting = [errno.EMFILE]
        self.turns()
        self.accepting.close()
        self.accepting.close()
        self.assertEqual([], self.port.reactor.getDelayedCalls())
