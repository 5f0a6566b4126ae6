# -*- test-case-name: tests.test_plain -*-
"""
L{tlsproxy.plain}
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.interfaces import DRAINED, ENDED, MORE, RESET
from tlsproxy.plain import PlainStream
from tlsproxy.testing.socketreactor import unixPair
from tlsproxy.tls.native import Buffer


class PlainStreamTests(SynchronousTestCase):
    """
    L{PlainStream}
    """

    def setUp(self) -> None:
        """
        Connect.
        """
        self.ours, self.theirs = unixPair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.stream = PlainStream(self.ours)
        self.buffer = Buffer(16384)

    def resetByPeer(self) -> None:
        """
        A Unix socket that is closed with bytes unread resets the connection.
        """
        self.ours.send(b"unread")
        self.theirs.close()

    def test_nothing(self) -> None:
        """
        Where nothing is there, nothing is read, and there is nothing wrong.
        """
        self.assertEqual((0, DRAINED), (self.stream.fill(self.buffer), self.stream.state))
        self.assertEqual((b"", DRAINED), (self.stream.read(10), self.stream.state))
        self.assertIsNone(self.stream.problem)

    def test_fill(self) -> None:
        """
        A buffer that is not filled has taken all there was; one that is may have left some.
        """
        self.theirs.send(b"short")
        self.assertEqual((5, DRAINED), (self.stream.fill(self.buffer), self.stream.state))
        self.assertEqual(b"short", bytes(self.buffer.view[:5]))
        self.theirs.send(bytes(16384) + b"rest")
        self.assertEqual((16384, MORE), (self.stream.fill(self.buffer), self.stream.state))
        self.assertEqual((4, DRAINED), (self.stream.fill(self.buffer), self.stream.state))

    def test_read(self) -> None:
        """
        No more is taken than is asked for.
        """
        self.theirs.send(b"one two")
        self.assertEqual((b"one", MORE), (self.stream.read(3), self.stream.state))
        self.assertEqual(b" two", self.ours.recv(100))

    def test_peek(self) -> None:
        """
        What is peeked stays where it is, for whoever reads the socket next.
        """
        self.theirs.send(b"one two")
        for limit, state in ((3, MORE), (3, MORE), (100, DRAINED), (1, MORE)):
            self.assertEqual((b"one two"[:limit], state), (self.stream.peek(limit), self.stream.state))
        self.assertEqual(b"one ", self.stream.read(4))
        self.assertEqual(b"two", self.stream.peek(10))
        self.assertEqual(b"two", self.ours.recv(100))
        self.assertEqual((b"", DRAINED), (self.stream.peek(10), self.stream.state))

    def test_peekTheEnd(self) -> None:
        """
        The end is seen behind the last byte only, and is no less there for that.
        """
        self.theirs.send(b"last")
        self.theirs.close()
        self.assertEqual((b"last", DRAINED), (self.stream.peek(10), self.stream.state))
        self.assertEqual(b"last", self.stream.read(10))
        for _ in range(2):
            self.assertEqual((b"", ENDED), (self.stream.peek(10), self.stream.state))
        self.assertEqual((0, ENDED), (self.stream.fill(self.buffer), self.stream.state))

    def test_ended(self) -> None:
        """
        The end is told behind the last byte, and stays.
        """
        self.theirs.send(b"last")
        self.theirs.close()
        self.assertEqual((4, DRAINED), (self.stream.fill(self.buffer), self.stream.state))
        for _ in range(2):
            self.assertEqual((0, ENDED), (self.stream.fill(self.buffer), self.stream.state))
            self.assertEqual((b"", ENDED), (self.stream.read(10), self.stream.state))

    def test_reset(self) -> None:
        """
        A reset is told apart from an end, and kept.
        """
        reads: list[Callable[[], object]] = [
            lambda: self.stream.fill(self.buffer),
            lambda: self.stream.read(10),
            lambda: self.stream.peek(10),
        ]
        for read in reads:
            self.resetByPeer()
            read()
            self.assertEqual(RESET, self.stream.state)
            self.assertIsInstance(self.stream.problem, OSError)
            self.setUp()

    def test_write(self) -> None:
        """
        What the socket takes is told, down to nothing.
        """
        self.buffer.view[:4] = b"data"
        self.assertEqual(3, self.stream.drain(self.buffer, 3))
        self.assertEqual(2, self.stream.send(b"xy"))
        self.assertEqual(b"datxy", self.theirs.recv(10))
        while self.stream.drain(self.buffer, 16384) > 0:
            pass
        self.assertEqual(0, self.stream.send(b"more"))
        self.assertIsNone(self.stream.problem)

    def test_broken(self) -> None:
        """
        A socket that takes nothing any more is told apart from one that is full.
        """
        self.theirs.close()
        self.assertEqual((-1, -1), (self.stream.drain(self.buffer, 1), self.stream.send(b"x")))
        self.assertIsInstance(self.stream.problem, OSError)

    def test_endWrite(self) -> None:
        """
        A plain stream has no words for its end.
        """
        self.assertTrue(self.stream.endWrite())
        self.assertRaises(BlockingIOError, self.theirs.recv, 1)
