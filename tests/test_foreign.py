# -*- test-case-name: tests.test_foreign -*-
"""
L{tlsproxy.foreign}; see L{tests.test_foreign_pairings} for what every pairing promises.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from tests.nesting import ForeignCase
from tlsproxy.end import End
from tlsproxy.errors import PeerEnded, PeerReset
from tlsproxy.interfaces import TRUNCATED
from tlsproxy.loopback import PATIENCE, PipedEnd
from tlsproxy.testing.socketreactor import KINDS, connect

CLIENT = IPv4Address("TCP", "192.0.2.7", 50112)


class Memory(StringTransport):
    """
    A transport in memory.
    """

    aborted = False
    paused = False

    def abortConnection(self) -> None:
        """
        Remember it.
        """
        self.aborted = True

    def pauseProducing(self) -> None:
        """
        Remember it.
        """
        self.paused = True

    def resumeProducing(self) -> None:
        """
        Remember it.
        """
        self.paused = False


class HandedOverTests(ForeignCase):
    """
    A plain socket after all.
    """

    def test_plain(self) -> None:
        """
        It is handed over to an End, and nothing stands between.
        """
        for kind in KINDS:
            ours, theirs = self.loopback.pair()
            self.addCleanup(theirs.close)
            foreign: Any = self.foreign()
            connected = connect(self.loopback.reactor, foreign, ours, kind)
            end = self.made.pop()
            self.assertIs(End, type(end))
            self.assertIs(ours, end.socket)
            self.assertIs(end, connected.transport.protocol)
            end.finish()
            self.settle()


class MemoryTests(ForeignCase):
    """
    A transport in memory, which cannot be half-closed.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        super().setUp()
        self.protocol = self.foreign()
        self.transport = Memory(peerAddress=CLIENT)
        self.protocol.makeConnection(self.transport)
        self.assertIs(PipedEnd, type(self.end))

    def lose(self, reason: type[Exception]) -> None:
        """
        Have the transport lost.
        """
        self.protocol.connectionLost(Failure(reason()))
        self.settle()

    def tearDown(self) -> None:
        """
        Lose it.
        """
        self.made[0].finish(reset=True)
        self.settle()
        self.lose(error.ConnectionAborted)
        super().tearDown()

    def test_bytes(self) -> None:
        """
        Bytes go both ways, and the addresses are the transport's.
        """
        self.protocol.dataReceived(b"question")
        self.assertEqual(b"question", self.successResultOf(self.read()))
        self.end.writing.send(b"answer")
        self.settle()
        self.assertEqual(b"answer", self.transport.value())
        self.assertEqual((CLIENT, self.transport.getHost()), (self.end.peer(), self.end.host()))

    def test_ends(self) -> None:
        """
        A transport that is lost has ended, or was reset, as its reason says; what came before is read first.
        """
        self.protocol.dataReceived(b"last words")
        self.lose(error.ConnectionDone)
        self.assertEqual([b"last words", b""], [self.successResultOf(self.read()) for _ in range(2)])

    def test_resets(self) -> None:
        """
        So is a reset.
        """
        self.protocol.dataReceived(b"last words")
        self.lose(error.ConnectionLost)
        self.assertEqual(b"last words", self.successResultOf(self.read()))
        self.failureResultOf(self.read(), PeerReset)

    def test_ourEnd(self) -> None:
        """
        Our end closes the transport, and what its peer would have said counts as cut off.
        """
        self.end.writing.send(b"that is all")
        self.end.shutdownWrite()
        self.settle()
        self.assertEqual((b"that is all", True), (self.transport.value(), self.transport.disconnecting))
        self.assertIsNone(self.transport.producer)
        self.lose(error.ConnectionDone)
        self.failureResultOf(self.read(), PeerEnded)

    def test_ourReset(self) -> None:
        """
        Our reset resets it.
        """
        self.end.finish(reset=True)
        self.settle()
        self.assertTrue(self.transport.aborted)

    def test_ourResetWhilePaused(self) -> None:
        """
        Also where its peer takes nothing.
        """
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()
        self.end.writing.send(b"stuck")
        self.end.finish(reset=True)
        self.settle()
        self.assertTrue(self.transport.aborted)

    def test_abandoned(self) -> None:
        """
        A peer that takes nothing of what a session has left is waited for no longer than half a minute.
        """
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()
        self.end.writing.send(b"stuck")
        self.end.finish()
        self.settle()
        self.loopback.advance(PATIENCE - 1)
        self.assertFalse(self.transport.aborted)
        self.loopback.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_slow(self) -> None:
        """
        One that takes it slowly is waited for, for as long as it takes any.
        """
        producer = self.transport.producer
        assert producer is not None
        producer.pauseProducing()
        while self.end.writing.send(bytes(65536)):
            pass
        self.end.finish()
        self.settle()
        for _ in range(3):
            self.loopback.advance(PATIENCE - 1)
            # Each time it takes one piece.
            producer.resumeProducing()
            self.loopback.reactor.turn()
            producer.pauseProducing()
        self.assertFalse(self.transport.aborted)
        self.loopback.advance(2 * PATIENCE)
        self.loopback.advance(PATIENCE)
        self.assertTrue(self.transport.aborted)

    def test_backPressure(self) -> None:
        """
        A session that does not read pauses the transport.
        """
        transport: Any = self.transport
        while not transport.paused:
            self.protocol.dataReceived(bytes(65536))
            self.settle()
        while transport.paused:
            self.successResultOf(self.read())
        self.assertFalse(transport.aborted)

    def test_otherBackPressure(self) -> None:
        """
        A transport that is full pauses the session.
        """
        producer = self.transport.producer
        assert producer is not None
        producer.pauseProducing()
        sent = 0
        while count := self.end.writing.send(bytes(65536)):
            sent += count
            self.settle()
        self.assertFalse(self.transport.value())
        producer.resumeProducing()
        self.settle()
        self.assertEqual(sent, len(self.transport.value()))

    def flood(self) -> None:
        """
        Bring more than a session that reads nothing may have to keep: the transport is reset, the log says why, and
        what waits is forgotten; the session learns of a reset.
        """
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        inside: Any = self.protocol._inside
        for _ in range(150):
            self.protocol.dataReceived(bytes(65536))
            self.assertLessEqual(inside.transport.waiting(), (4 << 20) + 65536)
            self.settle()
        self.assertTrue(self.transport.aborted)
        self.assertFalse(hasattr(inside.transport, "socket"))
        said = "192.0.2.7:50112: its transport does not stop when it is told to, and 4 MiB wait"
        self.assertEqual([said], [formatEvent(event) for event in events])
        while True:
            read = self.read()
            if not (isinstance(read.result, bytes) and read.result):
                break
        self.assertIsInstance(self.failureResultOf(read).value, (PeerReset, PeerEnded))

    def test_unstoppable(self) -> None:
        """
        A transport that cannot be paused must not fill the memory.
        """
        self.patch(Memory, "pauseProducing", property(_missing))
        self.flood()

    def test_deaf(self) -> None:
        """
        Nor must one that can be paused and goes on.
        """
        self.flood()

    def test_oneLargePiece(self) -> None:
        """
        What comes in one piece is in memory anyway, so it is taken, however large.
        """
        self.protocol.dataReceived(bytes(6 << 20))
        self.assertFalse(self.transport.aborted)
        read = 0
        while read < 6 << 20:
            read += len(self.successResultOf(self.read()))
        self.protocol.dataReceived(b"more")
        self.assertEqual(b"more", self.successResultOf(self.read()))


def _missing(_: object) -> None:
    raise AttributeError


class NoDescriptorsTests(ForeignCase):
    """
    A process that has run out of descriptors.
    """

    def test_refused(self) -> None:
        """
        The connection is reset, and the log says why.
        """
        events: list[Any] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

        def socketpair() -> None:
            raise OSError(24, "Too many open files")

        self.patch(socket, "socketpair", socketpair)
        transport = Memory(peerAddress=CLIENT)
        self.foreign().makeConnection(transport)
        self.assertEqual((True, []), (transport.aborted, self.made))
        said = [formatEvent(event) for event in events]
        self.assertEqual(["192.0.2.7:50112: the client cannot be given a pipe: Too many open files"], said)


class SecureTests(MemoryTests):
    """
    A transport with TLS of Twisted's own.
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        self.patch(Memory, "__init__", _secured(Memory.__init__))
        super().setUp()

    def test_resets(self) -> None:
        """
        It does not tell a reset from a truncated stream.
        """
        self.lose(error.ConnectionLost)
        self.failureResultOf(self.read(), PeerEnded)

    def test_ourEnd(self) -> None:
        """
        It tells whether its peer has ended, too.
        """
        self.end.shutdownWrite()
        self.settle()
        self.lose(error.ConnectionDone)
        self.assertEqual(b"", self.successResultOf(self.read()))

    def test_ourTruncation(self) -> None:
        """
        It cannot be truncated: to close it would be an end.
        """
        self.end.shutdownWrite(TRUNCATED)
        self.settle()
        self.assertEqual((True, False), (self.transport.aborted, self.transport.disconnecting))


def _secured(make: Any) -> Any:
    def secured(self: Any, *arguments: Any, **more: Any) -> None:
        make(self, *arguments, **more)
        alsoProvides(self, ISSLTransport)

    return secured
