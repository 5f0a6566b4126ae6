# -*- test-case-name: tests.test_end -*-
"""
L{tlsproxy.end}: reading, writing and peeking, in plain and in TLS.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from tlsproxy.end import End
from tlsproxy.errors import PeerEnded, PeerReset, SessionError
from tlsproxy.plain import PlainStream
from tlsproxy.testing.streams import Streams

T = TypeVar("T")


class OneEnd(Streams):
    """
    One End and its peer.

    @cvar kind: What it speaks.
    """

    kind = "plain"

    def setUp(self) -> None:
        """
        Connect.
        """
        super().setUp()
        self.one = self.side(self.kind, near=True)
        self.end, self.peer = self.one.end, self.one.peer

    def begin(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """
        Start something, and go as far as it goes.
        """
        done = Deferred.fromCoroutine(work)
        self.settle()
        return done

    def resetByPeer(self) -> None:
        """
        Reset the connection: a Unix socket does so when it is closed with bytes unread.
        """
        self.peer.reading = False
        self.end.socket.send(b"never read")
        self.peer.reset()


if TYPE_CHECKING:
    _Mixin = OneEnd
else:
    _Mixin = object


class PlainEndTests(OneEnd):
    """
    A plain End.
    """

    def test_whenMade(self) -> None:
        """
        Whoever asked is told of the connection, once.
        """
        made: list[End] = []
        end = End("the client").whenMade(made.append)
        self.assertEqual([], made)
        end.makeConnection(self.one.connected.transport)
        end.connectionMade()
        self.assertEqual([end], made)

    def test_read(self) -> None:
        """
        Reading takes no more than is asked for, and waits for the first byte.
        """
        done = self.begin(self.end.read(5))
        self.assertNoResult(done)
        self.peer.write(b"hello world")
        self.settle()
        self.assertEqual(b"hello", self.successResultOf(done))
        self.assertEqual(b" world", self.end.socket.recv(100))

    def test_readEnd(self) -> None:
        """
        The end of the stream reads as nothing, again and again.
        """
        self.peer.end()
        for _ in range(2):
            self.assertEqual(b"", self.successResultOf(self.begin(self.end.read(5))))

    def test_readReset(self) -> None:
        """
        A reset is an error that names who did it.
        """
        done = self.begin(self.end.read(5))
        self.resetByPeer()
        self.settle()
        self.assertIn("the client", str(self.failureResultOf(done, PeerReset).value))

    def test_tls(self) -> None:
        """
        It has no TLS.
        """
        self.assertIsNone(self.end.tls)
        self.assertIsInstance(self.end.stream, PlainStream)

    def test_writeNothing(self) -> None:
        """
        To write nothing is done at once.
        """
        self.successResultOf(self.begin(self.end.write(b"")))


class EndConformance(_Mixin):
    """
    What plain and TLS have in common.
    """

    def test_write(self) -> None:
        """
        Writing is done when all is written, however slowly the peer reads.
        """
        self.peer.reading = False
        data = bytes(range(256)) * 8192
        done = self.begin(self.end.write(data))
        self.assertNoResult(done)
        self.peer.reading = True
        self.settle()
        self.successResultOf(done)
        self.assertEqual(data, self.peer.received)

    def test_writeBroken(self) -> None:
        """
        A peer that is gone takes nothing.
        """
        self.peer.close()
        self.failureResultOf(self.begin(self.end.write(b"hello")), PeerReset)

    def test_cancelRead(self) -> None:
        """
        To be cancelled loses nothing.
        """
        done = self.begin(self.end.read(100))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.peer.write(b"later")
        self.settle()
        self.assertEqual(b"later", self.successResultOf(self.begin(self.end.read(100))))

    def test_twoReads(self) -> None:
        """
        What one read leaves is there for the next, wherever it waits.
        """
        self.peer.write(b"one two")
        self.settle()
        self.assertEqual(b"one", self.successResultOf(self.begin(self.end.read(3))))
        self.assertEqual(b" two", self.successResultOf(self.begin(self.end.read(30))))

    def test_peek(self) -> None:
        """
        Peeking waits for the first byte, and takes nothing.
        """
        done = self.begin(self.end.peek(4))
        self.assertNoResult(done)
        self.peer.write(b"GET / HTTP/1.1")
        self.settle()
        self.assertEqual(b"GET ", self.successResultOf(done))
        self.assertEqual(b"GET /", self.successResultOf(self.begin(self.end.peek(5))))
        self.assertEqual(b"GET / HTTP/1.1", self.successResultOf(self.begin(self.end.read(50))))
        self.assertNoResult(waiting := self.begin(self.end.peek(1)))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_peekAndRead(self) -> None:
        """
        To read as much as was peeked gives the same, and what is behind it is there next, however it was sent.
        """
        sent = [b"a", b"bc" * 3000, b"def" * 9000, b"g"]
        for piece in sent:
            self.peer.write(piece)
            self.settle()
        got = b""
        while len(got) < len(b"".join(sent)):
            seen = self.successResultOf(self.begin(self.end.peek(8192)))
            part = max(1, len(seen) // 2)
            self.assertEqual(seen[:part], self.successResultOf(self.begin(self.end.read(part))))
            got += seen[:part]
        self.assertEqual(b"".join(sent), got)

    def test_peekEnd(self) -> None:
        """
        There is nothing to see behind the end, again and again.
        """
        self.peer.write(b"last")
        self.peer.end()
        self.assertEqual(b"last", self.successResultOf(self.begin(self.end.peek(5))))
        self.assertEqual(b"last", self.successResultOf(self.begin(self.end.read(5))))
        for _ in range(2):
            self.assertEqual(b"", self.successResultOf(self.begin(self.end.peek(5))))
        self.assertEqual(b"", self.successResultOf(self.begin(self.end.read(5))))

    def test_peekReset(self) -> None:
        """
        A reset is an error that names who did it.
        """
        self.resetByPeer()
        problem = self.failureResultOf(self.begin(self.end.peek(5)), PeerReset).value
        self.assertIn("the client", str(problem))


class PlainConformanceTests(EndConformance, OneEnd):
    """
    In plain.
    """


class TLSConformance(EndConformance):
    """
    What both versions of TLS have in common.
    """

    def test_peekTruncated(self) -> None:
        """
        A stream that ends without ending TLS is an error.
        """
        self.peer.write(b"last")
        self.peer.cut()
        self.assertEqual(b"last", self.successResultOf(self.begin(self.end.peek(5))))
        self.assertEqual(b"last", self.successResultOf(self.begin(self.end.read(5))))
        self.failureResultOf(self.begin(self.end.peek(5)), PeerEnded)

    def test_peekDamaged(self) -> None:
        """
        So is a record that does not verify.
        """
        self.peer.unsent += b"\x17\3\3\0\x20" + bytes(32)
        problem = self.failureResultOf(self.begin(self.end.peek(5)), SessionError).value
        self.assertEqual("failed", problem.outcome)

    def test_peekPending(self) -> None:
        """
        What is left of a record that was peeked is inside OpenSSL, and comes without the reactor's help.
        """
        self.peer.write(b"0123456789")
        self.assertEqual(b"0123", self.successResultOf(self.begin(self.end.peek(4))))
        assert self.end.tls is not None
        self.assertEqual(10, self.end.tls.pending())
        self.assertRaises(BlockingIOError, self.end.socket.recv, 1)
        self.assertEqual(b"0123456789", self.successResultOf(Deferred.fromCoroutine(self.end.read(100))))


class TLS12ConformanceTests(TLSConformance, OneEnd):
    """
    In TLS 1.2.
    """

    kind = "TLSv1.2"


class TLS13ConformanceTests(TLSConformance, OneEnd):
    """
    In TLS 1.3.
    """

    kind = "TLSv1.3"
