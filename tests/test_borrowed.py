# -*- test-case-name: tests.test_borrowed -*-
"""
L{tlsproxy.borrowed}
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

from OpenSSL import SSL
from twisted.internet import error, tcp
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.borrowed import Borrowed, isBorrowable
from tlsproxy.errors import PeerEnded, PeerReset, WrongTransport
from tlsproxy.interfaces import ENDED, RESET, TRUNCATED
from tlsproxy.testing.socketreactor import KINDS, Connected, SocketReactor, connect, unixPair

T = TypeVar("T")


class BorrowedCase(SynchronousTestCase):
    """
    One borrowed transport.
    """

    kind = "tcp.Server"

    def setUp(self) -> None:
        """
        Connect.
        """
        self.reactor = SocketReactor()
        self.losses: list[Failure] = []
        self.borrowed, self.connected, self.theirs = self.connect()

    def connect(self) -> tuple[Borrowed, Connected, Any]:
        """
        Make one connection.
        """
        ours, theirs = unixPair()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        borrowed = Borrowed("the client")
        connected = connect(self.reactor, borrowed, ours, self.kind)
        return borrowed, connected, theirs

    def receive(self) -> bytes:
        """
        A step that reads.
        """
        try:
            return self.borrowed.socket.recv(100)
        except BlockingIOError:
            raise SSL.WantReadError() from None

    def until(self, step: Callable[[], T]) -> Deferred[T]:
        """
        Begin a step.
        """
        return Deferred.fromCoroutine(self.borrowed.until(step))

    def fill(self) -> None:
        """
        Write until our socket is full.
        """
        try:
            while True:
                self.borrowed.socket.send(bytes(65536))
        except BlockingIOError:
            pass

    def assertClosed(self, reason: type[Exception]) -> None:
        """
        The transport is lost once, and the reactor is free of it.
        """
        self.reactor.pump()
        self.assertEqual([reason], [loss.type for loss in self.connected.losses])
        self.assertEqual([], self.reactor.getReaders() + self.reactor.getWriters())
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual(0, self.borrowed.connected)


class HoldTests(BorrowedCase):
    """
    A side that nobody reads.
    """

    def test_lazy(self) -> None:
        """
        The transport goes on reading until an event comes that nobody asked for; what came stays where it is.
        """
        transport = self.connected.transport
        self.assertEqual([transport], self.reactor.getReaders())
        self.theirs.send(b"early")
        self.reactor.pump()
        self.assertEqual([], self.reactor.getReaders())
        self.assertEqual(b"early", self.successResultOf(self.until(self.receive)))

    def test_heldAgain(self) -> None:
        """
        After a step the side is held as before.
        """
        done = self.until(self.receive)
        self.theirs.send(b"one")
        self.reactor.pump()
        self.assertEqual(b"one", self.successResultOf(done))
        self.theirs.send(b"two")
        self.reactor.pump()
        self.assertEqual([], self.reactor.getReaders())
        self.assertEqual(b"two", self.borrowed.socket.recv(10))

    def test_peerGone(self) -> None:
        """
        The end of a peer does not disturb a held side; the next step finds it.
        """
        self.theirs.close()
        self.reactor.pump()
        self.assertFalse(self.borrowed.gone)
        self.assertEqual(b"", self.successResultOf(self.until(self.receive)))

    def test_holdWhileWriting(self) -> None:
        """
        To be held takes a side out of writing, too, at the first event that nobody asked for.
        """
        self.connected.transport.startWriting()
        self.borrowed.hold()
        self.reactor.pump()
        self.assertEqual([], self.reactor.getWriters())


class UntilTests(BorrowedCase):
    """
    L{Borrowed.until}
    """

    def test_atOnce(self) -> None:
        """
        What can be done now is done without the reactor.
        """
        self.assertEqual(7, self.successResultOf(self.until(lambda: 7)))

    def test_readable(self) -> None:
        """
        A step that wants to read waits for bytes.
        """
        done = self.until(self.receive)
        self.reactor.pump()
        self.assertNoResult(done)
        self.theirs.send(b"hello")
        self.reactor.pump()
        self.assertEqual(b"hello", self.successResultOf(done))

    def test_writable(self) -> None:
        """
        A step that wants to write waits for room, and unread bytes do not wake the reactor meanwhile.
        """
        self.fill()
        self.theirs.send(b"unread")
        tries: list[int] = []

        def step() -> str:
            tries.append(1)
            try:
                self.borrowed.socket.send(b"x")
            except BlockingIOError:
                raise SSL.WantWriteError() from None
            return "sent"

        done = self.until(step)
        self.reactor.pump()
        self.assertNoResult(done)
        self.assertEqual(1, len(tries))
        self.drain()
        self.reactor.pump()
        self.assertEqual("sent", self.successResultOf(done))
        self.assertEqual([], self.reactor.getWriters())

    def drain(self) -> None:
        """
        Have the peer read all.
        """
        try:
            while self.theirs.recv(65536):
                pass
        except BlockingIOError:
            pass

    def test_writeThenRead(self) -> None:
        """
        A step may want first the one and then the other.
        """
        wants: list[Callable[[], Exception]] = [SSL.WantWriteError, SSL.WantReadError, SSL.WantWriteError]

        def step() -> bytes:
            if wants:
                raise wants.pop(0)()
            return self.borrowed.socket.recv(10)

        done = self.until(step)
        self.reactor.pump()
        self.assertEqual(1, len(wants))
        self.theirs.send(b"x")
        self.reactor.pump()
        self.assertEqual(b"x", self.successResultOf(done))
        self.assertEqual([], self.reactor.getWriters())

    def test_failsLater(self) -> None:
        """
        What else a step raises ends the wait.
        """
        done = self.until(self.receive)
        self.failureResultOf(self.cancelled(done), CancelledError)
        calls: list[int] = []

        def again() -> None:
            if calls:
                raise PeerEnded("no more")
            calls.append(1)
            raise SSL.WantReadError()

        failing = self.until(again)
        self.theirs.send(b"x")
        self.reactor.pump()
        self.failureResultOf(failing, PeerEnded)
        self.assertFalse(self.borrowed.gone)

    def cancelled(self, done: Any) -> Any:
        """
        Cancel it.
        """
        done.cancel()
        return done

    def test_failsAtOnce(self) -> None:
        """
        What a step raises before anybody waits is raised.
        """

        def step() -> None:
            raise PeerEnded("no more")

        self.failureResultOf(self.until(step), PeerEnded)
        self.assertEqual(3, self.successResultOf(self.until(lambda: 3)))

    def test_cancel(self) -> None:
        """
        To be cancelled leaves the side held, with nothing taken from it.
        """
        done = self.until(self.receive)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.theirs.send(b"later")
        self.reactor.pump()
        self.assertEqual([], self.reactor.getReaders())
        self.assertEqual(b"later", self.successResultOf(self.until(self.receive)))

    def test_cancelWhileWriting(self) -> None:
        """
        The same for a step that waits for room.
        """

        def step() -> None:
            raise SSL.WantWriteError()

        self.fill()
        done = self.until(step)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.drain()
        self.reactor.pump()
        self.assertEqual([], self.reactor.getWriters())

    def test_gone(self) -> None:
        """
        Nothing can be waited for on a side that is gone.
        """
        self.borrowed.finish()
        self.failureResultOf(self.until(self.receive), PeerReset)

    def test_sleep(self) -> None:
        """
        A wait ends in its time, and can be cancelled.
        """
        done = self.borrowed.sleep(2)
        self.reactor.advance(1.9)
        self.assertNoResult(done)
        self.reactor.advance(0.1)
        self.successResultOf(done)
        cancelled = self.borrowed.sleep(2)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertEqual([], self.reactor.getDelayedCalls())


class LostTests(BorrowedCase):
    """
    A connection that is lost from outside.
    """

    def test_held(self) -> None:
        """
        Whoever watches a held side is told once.
        """
        self.borrowed.onLost = self.losses.append
        self.reactor.lose(self.connected.transport)
        self.borrowed.finish()
        self.assertEqual([error.ConnectionLost], [loss.type for loss in self.losses])
        self.assertClosed(error.ConnectionLost)

    def test_waiting(self) -> None:
        """
        Whoever waits is told, and nobody else.
        """
        self.borrowed.onLost = self.losses.append
        done = self.until(self.receive)
        self.reactor.lose(self.connected.transport)
        self.assertIn("the client", str(self.failureResultOf(done, PeerReset).value))
        self.assertEqual([], self.losses)
        self.assertClosed(error.ConnectionLost)

    def test_asleep(self) -> None:
        """
        One who sleeps finds out when it looks again.
        """
        self.borrowed.sleep(1)
        self.reactor.lose(self.connected.transport)
        self.reactor.advance(1)
        self.failureResultOf(self.until(self.receive), PeerReset)
        self.assertClosed(error.ConnectionLost)

    def test_lingering(self) -> None:
        """
        A side that lingers stops lingering.
        """
        self.borrowed.linger()
        self.reactor.lose(self.connected.transport)
        self.assertClosed(error.ConnectionLost)

    def test_afterFinish(self) -> None:
        """
        What comes after the end is of no interest to anybody.
        """
        self.borrowed.onLost = self.losses.append
        self.borrowed.finish()
        self.borrowed.finish(reset=True)
        self.borrowed.linger()
        self.borrowed.close()
        self.assertEqual([], self.losses)
        self.assertClosed(error.ConnectionDone)


class LostClientTests(LostTests):
    """
    The same for a connection that we dialed, whose connector must not hear twice of its end.
    """

    kind = "tcp.Client"


class LostUnixTests(LostTests):
    """
    The same for a Unix socket.
    """

    kind = "unix.Client"


class FinishTests(BorrowedCase):
    """
    The end.
    """

    def test_laterTurn(self) -> None:
        """
        The descriptor is closed in a later turn, and until then no event does anything.
        """
        transport = self.connected.transport
        self.theirs.send(b"unread")
        self.borrowed.finish()
        self.assertTrue(self.borrowed.gone)
        self.assertGreaterEqual(self.borrowed.socket.fileno(), 0)
        self.assertEqual([], self.reactor.getReaders() + self.reactor.getWriters())
        self.assertIsNone(transport.doRead())
        self.assertIsNone(transport.doWrite())
        self.assertEqual([], self.connected.losses)
        self.assertClosed(error.ConnectionDone)
        self.assertEqual(-1, self.borrowed.socket.fileno())

    def test_reset(self) -> None:
        """
        A reset is told to the transport, which knows how to send one.
        """
        self.borrowed.finish(reset=True)
        self.assertClosed(error.ConnectionAborted)

    def test_letGo(self) -> None:
        """
        To let go and to close can be two steps.
        """
        self.borrowed.letGo(reset=True)
        self.reactor.pump()
        self.assertEqual([], self.connected.losses)
        self.borrowed.close()
        self.borrowed.close()
        self.assertClosed(error.ConnectionAborted)

    def test_waiting(self) -> None:
        """
        Whoever waits is told that it is over.
        """
        done = self.until(self.receive)
        self.borrowed.finish()
        self.failureResultOf(done, PeerEnded)
        self.assertClosed(error.ConnectionDone)

    def test_shutdownWrite(self) -> None:
        """
        A FIN ends one direction only, and does no harm where the other side is gone.
        """
        self.borrowed.shutdownWrite()
        self.assertEqual(b"", self.theirs.recv(1))
        self.theirs.send(b"answer")
        self.assertEqual(b"answer", self.borrowed.socket.recv(10))
        self.theirs.close()
        self.borrowed.shutdownWrite()

    def test_shutdownBeforeClosing(self) -> None:
        """
        Where the socket is closed next, that is the FIN.
        """
        self.borrowed.shutdownWrite(TRUNCATED, closing=True)
        self.assertRaises(BlockingIOError, self.theirs.recv, 1)

    def test_endedAs(self) -> None:
        """
        A plain socket knows how its stream has ended.
        """
        for state in (ENDED, TRUNCATED, RESET):
            self.assertEqual(state, self.borrowed.endedAs(state))

    def test_host(self) -> None:
        """
        It tells the address of its own end, and nobody's where the socket has none or is gone.
        """
        self.borrowed.transport.getHost = lambda: IPv4Address("TCP", "198.51.100.1", 443)
        self.assertEqual(IPv4Address("TCP", "198.51.100.1", 443), self.borrowed.host())
        for problem in (AttributeError, OSError, TypeError):

            def getHost(problem: type[Exception] = problem) -> None:
                raise problem

            self.borrowed.transport.getHost = getHost
            self.assertEqual(UNIXAddress(None), self.borrowed.host())
        del self.borrowed.transport.getHost

    def test_noCircles(self) -> None:
        """
        A connection that is over leaves nothing to the garbage collector that holds its socket.
        """
        self.until(self.receive).addErrback(lambda _: None)
        self.borrowed.finish()
        self.reactor.pump()
        gc.collect()
        self.assertEqual(-1, self.borrowed.socket.fileno())


class LingerTests(BorrowedCase):
    """
    L{Borrowed.linger}
    """

    def test_peerEnds(self) -> None:
        """
        The peer gets a FIN at once; what it still sends is thrown away, and its end is the end.
        """
        self.theirs.send(bytes(50000))
        self.borrowed.socket.send(b"alert")
        self.borrowed.linger()
        self.reactor.pump()
        self.assertEqual((b"alert", b""), (self.theirs.recv(10), self.theirs.recv(10)))
        self.theirs.send(b"more")
        self.reactor.pump()
        self.assertFalse(self.borrowed.gone)
        self.theirs.close()
        self.assertClosed(error.ConnectionDone)

    def test_peerStays(self) -> None:
        """
        A peer that does not end is not waited for longer than two seconds, even if it never stops sending.
        """
        self.borrowed.linger()
        for _ in range(19):
            self.theirs.send(b"still here")
            self.reactor.pump()
            self.reactor.advance(0.1)
        self.assertFalse(self.borrowed.gone)
        self.reactor.advance(0.2)
        self.assertClosed(error.ConnectionDone)

    def test_finished(self) -> None:
        """
        A side that lingers can be cut short.
        """
        self.borrowed.linger()
        self.borrowed.finish(reset=True)
        self.assertClosed(error.ConnectionAborted)


class WrongTransportTests(SynchronousTestCase):
    """
    What cannot be borrowed.
    """

    def refuse(self, transport: Any) -> None:
        """
        It is refused, with a sentence that names it, and closed.
        """
        borrowed = Borrowed("the client")
        problem = self.assertRaises(WrongTransport, borrowed.makeConnection, transport)
        self.assertIn(type(transport).__qualname__, str(problem))

    def test_inMemory(self) -> None:
        """
        A transport without a socket.
        """
        transport = StringTransport()
        self.refuse(transport)
        self.assertTrue(transport.disconnecting)

    def test_wrapped(self) -> None:
        """
        A protocol wrapper, though it hands out the socket under it.
        """
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Borrowed("the client"))
        wrapper.transport = StringTransport()
        self.refuse(wrapper)

    def test_subclass(self) -> None:
        """
        A subclass, which may read and write otherwise.
        """

        class Throttled(tcp.Server):
            pass

        ours, theirs = unixPair()
        self.addCleanup(theirs.close)
        reactor = SocketReactor()
        borrowed = Borrowed("the client")
        transport = Throttled(ours, borrowed, ("127.0.0.1", 1), None, 0, reactor)  # type: ignore[arg-type]
        self.refuse(transport)
        reactor.pump()
        self.assertEqual(b"", theirs.recv(1))

    def test_secured(self) -> None:
        """
        One that has been given TLS of Twisted's own, whose socket carries that.
        """
        ours, theirs = unixPair()
        self.addCleanup(theirs.close)
        reactor = SocketReactor()
        borrowed = Borrowed("the client")
        transport: Any = tcp.Server(ours, borrowed, ("127.0.0.1", 1), None, 0, reactor)  # type: ignore[arg-type]
        self.assertTrue(isBorrowable(transport))
        transport.TLS = True
        self.assertFalse(isBorrowable(transport))
        transport.TLS = False
        transport.abortConnection()
        reactor.pump()

    def test_borrowable(self) -> None:
        """
        All four kinds of Twisted's own sockets.
        """
        for kind in KINDS:
            ours, theirs = unixPair()
            self.addCleanup(theirs.close)
            self.addCleanup(ours.close)
            borrowed = Borrowed("the client")
            connect(SocketReactor(), borrowed, ours, kind)
            self.assertIs(ours, borrowed.socket)
