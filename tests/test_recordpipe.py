# -*- test-case-name: tests.test_recordpipe -*-
"""
L{tlsproxy.recordpipe}: records are taken one at a time, and bytes to the peer go on as they come.
"""

from __future__ import annotations

import os
import socket
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.interfaces import DRAINED, RESET, TRUNCATED
from tlsproxy.recordpipe import RecordPipe
from tlsproxy.testing.socketreactor import SocketReactor, tcpPair, unixPair


class Writer:
    """
    Who writes into the pipe, as far as it is asked.
    """

    written = 0


_bodies = st.lists(st.tuples(st.integers(20, 23), st.binary(max_size=300)), max_size=6)


class TakeTests(TestCase):
    """
    L{RecordPipe.take}
    """

    @settings(max_examples=200, deadline=None)
    @given(_bodies, st.binary(max_size=40), st.lists(st.integers(1, 200), max_size=30))
    def test_anyPieces(self, bodies: list[tuple[int, bytes]], rest: bytes, cuts: list[int]) -> None:
        """
        However records come, each is taken whole, and what is behind the last one is left where it is.
        """
        ours, theirs = unixPair()
        try:
            pipe = RecordPipe(ours, Writer())
            records = [bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body for kind, body in bodies]
            stream = b"".join(records) + rest
            taken: list[bytes] = []
            while stream or len(taken) < len(records):
                size = cuts.pop() if cuts else len(stream)
                theirs.sendall(stream[:size])
                stream = stream[size:]
                while len(taken) < len(records) and (record := pipe.take()) is not None:
                    taken.append(record)
            self.assertEqual(records, taken)
            self.assertEqual(rest, ours.recv(100) if rest else b"")
            self.assertFalse(pipe.doubtful)
        finally:
            ours.close()
            theirs.close()

    @settings(max_examples=200, deadline=None)
    @given(st.binary(min_size=5, max_size=60))
    def test_anything(self, data: bytes) -> None:
        """
        Of what is no record its first five bytes are taken, and no more.
        """
        ours, theirs = unixPair()
        try:
            pipe = RecordPipe(ours, Writer())
            theirs.sendall(data)
            record = pipe.take()
            length = int.from_bytes(data[3:5], "big")
            sound = 20 <= data[0] <= 23 and data[1] == 3 and length <= 16640
            self.assertEqual(record is not None and not sound, pipe.doubtful)
            if not sound:
                self.assertEqual((data[:5], data[5:]), (record, ours.recv(100) if data[5:] else b""))
            elif length <= len(data) - 5:
                self.assertEqual(data[: 5 + length], record)
            else:
                self.assertEqual((None, DRAINED), (record, pipe.state))
        finally:
            ours.close()
            theirs.close()


class EndTests(SynchronousTestCase):
    """
    How a peer's stream ends, and how it takes no more.
    """

    def setUp(self) -> None:
        """
        Make a pipe.
        """
        self.before = len(os.listdir("/dev/fd"))
        self.reactor = SocketReactor()
        self.ours, self.theirs = unixPair()
        mine, self.tls = tcpPair()
        self.writer = Writer()
        self.events = 0
        self.pipe = RecordPipe(self.ours, self.writer)
        self.pipe.start(self.reactor, mine, self.note)

    def note(self) -> None:
        """
        Note progress.
        """
        self.events += 1

    def tearDown(self) -> None:
        """
        Nothing is left.
        """
        self.pipe.close()
        self.pipe.close()
        for sock in (self.ours, self.theirs, self.tls):
            sock.close()
        self.reactor.pump()
        self.assertEqual(
            [[], [], self.before],
            [self.reactor.getReaders(), self.reactor.getDelayedCalls(), len(os.listdir("/dev/fd"))],
        )

    def test_truncated(self) -> None:
        """
        An end within a record or between two is no end of TLS.
        """
        for part in (b"", b"\x17\x03", b"\x17\x03\x03\x00\x05abc"):
            self.theirs.sendall(part)
            self.theirs.shutdown(socket.SHUT_WR)
            self.assertEqual((None, TRUNCATED), (self.pipe.take(), self.pipe.state))
            self.tearDown()
            self.setUp()

    def test_reset(self) -> None:
        """
        A reset is told.
        """
        self.ours.send(b"never read")
        self.theirs.close()
        self.assertEqual((None, RESET), (self.pipe.take(), self.pipe.state))
        self.assertIsInstance(self.pipe.problem, ConnectionResetError)

    def write(self, data: bytes) -> None:
        """
        Have TLS write.
        """
        self.writer.written += len(data)
        self.tls.send(data)
        self.reactor.pump()

    def test_forward(self) -> None:
        """
        What TLS writes goes on without anybody asking.
        """
        self.write(b"hello")
        self.assertEqual((b"hello", True, 1), (self.theirs.recv(10), self.pipe.through, self.events))

    def test_fullPeer(self) -> None:
        """
        A peer that does not read stops the pipe from being read, and gets all in the end.
        """
        sent = b""
        while self.pipe.forward():
            sent += b"0123456789" * 1000
            self.write(b"0123456789" * 1000)
        self.assertLessEqual(self.pipe.backlog, 32768)
        self.assertEqual([], self.reactor.getReaders())
        self.assertFalse(self.pipe.through)
        got = b""
        while not self.pipe.through:
            got += self.theirs.recv(1 << 20)
            self.pipe.forward()
        while len(got) < len(sent):
            got += self.theirs.recv(1 << 20)
        self.assertTrue(sent == got)
        self.assertEqual(1, len(self.reactor.getReaders()))

    def test_brokenPeer(self) -> None:
        """
        A peer that takes nothing any more is told of, and what comes for it is dropped.
        """
        self.theirs.close()
        self.write(b"hello")
        self.assertEqual((True, True), (self.pipe.broken, self.pipe.through))

    def test_sealed(self) -> None:
        """
        Nothing goes to a peer that has been told the last.
        """
        self.write(b"last")
        self.pipe.sealed = True
        self.write(b"more")
        self.assertEqual((b"last", True), (self.theirs.recv(10), self.pipe.through))

    def test_tlsGone(self) -> None:
        """
        Where TLS is gone, nothing of it is waited for.
        """
        self.writer.written += 10
        self.tls.close()
        self.reactor.pump()
        self.assertTrue(self.pipe.through)
        self.assertEqual(1, self.events)

    def test_feed(self) -> None:
        """
        A record is fed, however little the pipe takes at a time.
        """
        record = os.urandom(16000)
        rounds = 0
        while not self.reactor.getWriters():
            self.pipe.feed(record)
            rounds += 1
        got = b""
        while len(got) < rounds * len(record):
            got += self.tls.recv(1 << 20)
            self.reactor.pump()
        self.assertTrue(got == record * rounds)
        self.assertEqual(rounds * len(record), self.pipe.fed)
