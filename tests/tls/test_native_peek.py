"""
Tests for L{tlsproxy.tls.native}: looking at what has come, and leaving it for the next one to read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.tls.keyupdates import KeyUpdates
from tests.tls.pairs import PairCase, choke, relieve, take
from tlsproxy.interfaces import DRAINED, ENDED, FAILED, MORE, RESET, TRUNCATED, WANTS_WRITE
from tlsproxy.tls.native import RECORD, Buffer, TLSStream


class PeekTests(PairCase):
    """
    Tests for L{TLSStream.peek}.
    """

    def eachVersion(self, test: Callable[[TLSStream, TLSStream], None]) -> None:
        """
        Run a test over a connected server and client in each version of TLS.
        """
        for version in ("1.2", "1.3"):
            test(*self.connected(client=self.client(maxVersion=version)))

    def assertSeen(self, stream: TLSStream, limit: int, data: bytes, state: int = MORE) -> None:
        """
        Peeking shows this, as often as one likes.
        """
        for _ in range(3):
            self.assertEqual((data, state), (stream.peek(limit), stream.state))

    def test_stays(self) -> None:
        """
        What was peeked is what is read next: by a read, of less or more, and into a buffer.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"0123456789")
            self.assertSeen(server, 4, b"0123")
            self.assertSeen(server, 100, b"0123456789")
            self.assertEqual(b"01", server.read(2))
            self.assertSeen(server, 4, b"2345")
            self.assertEqual((8, b"23456789"), (server.pending(), take(server)))
            self.assertSeen(server, 4, b"", DRAINED)

        self.eachVersion(test)

    def test_oneRecord(self) -> None:
        """
        It does not look behind the end of a record, and goes on with the next when all of one is read.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            for data in (b"one", b"two", b"three"):
                client.send(data)
            self.assertSeen(server, 100, b"one")
            self.assertEqual(b"one", server.read(100))
            self.assertSeen(server, 100, b"two")
            self.assertEqual(b"t", server.read(1))
            self.assertSeen(server, 100, b"wo")
            self.assertEqual(b"wothree", take(server))

        self.eachVersion(test)

    def test_fullRecord(self) -> None:
        """
        A whole record is shown where there is room, and no more than a record, whatever the room.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            data = bytes(range(256)) * 128
            client.send(data)
            self.assertSeen(server, 10 * RECORD, data[:RECORD])
            buffer = Buffer(4 * RECORD)
            self.assertEqual((len(data), DRAINED), (server.fill(buffer), server.state))
            self.assertEqual(data, bytes(buffer.view[: len(data)]))

        self.eachVersion(test)

    def test_byteByByte(self) -> None:
        """
        A record that is not all there yet shows nothing, and nothing is wrong with that.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"hello")
            wire = self.socketOf[server].recv(1000)
            for at in range(len(wire)):
                self.assertEqual((b"", DRAINED), (server.peek(10), server.state))
                self.socketOf[client].send(wire[at : at + 1])
            self.assertSeen(server, 10, b"hello")

        self.eachVersion(test)

    def test_ended(self) -> None:
        """
        An end is seen behind the last byte only, and for what it is.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"last")
            client.endWrite()
            self.socketOf[client].send(b"plain")
            self.assertSeen(server, 10, b"last")
            self.assertEqual(b"last", server.read(10))
            self.assertSeen(server, 10, b"", ENDED)
            self.assertEqual((0, ENDED), (server.fill(Buffer(RECORD)), server.state))
            self.assertEqual(b"plain", self.socketOf[server].recv(10))

        self.eachVersion(test)

    def test_truncated(self) -> None:
        """
        So is a truncation.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"last")
            self.socketOf[client].shutdown(socket.SHUT_WR)
            self.assertSeen(server, 10, b"last")
            self.assertEqual(b"last", server.read(10))
            self.assertSeen(server, 10, b"", TRUNCATED)
            self.assertEqual((b"", TRUNCATED), (server.read(10), server.state))

        self.eachVersion(test)

    def test_reset(self) -> None:
        """
        So is a reset.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            server.send(b"never read")
            self.socketOf[client].close()
            self.assertSeen(server, 10, b"", RESET)
            self.assertEqual((b"", RESET), (server.read(10), server.state))

        self.eachVersion(test)

    def test_damaged(self) -> None:
        """
        So is a record that does not verify, and it leaves nothing behind that another connection could stumble on.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            other, peer = self.connected()
            self.socketOf[client].send(b"\x17\3\3\0\x20" + bytes(32))
            self.assertSeen(server, 10, b"", FAILED)
            self.assertIsNotNone(server.problem)
            self.assertEqual((b"", DRAINED), (other.peek(10), other.state))
            peer.send(b"fine")
            self.assertSeen(other, 10, b"fine")

        self.eachVersion(test)

    def test_keyUpdate(self) -> None:
        """
        A change of keys in front of the data is dealt with, answered where that is asked for, and shows nothing.
        """
        context = self.client()
        peer = KeyUpdates(context.context)
        server, client = self.connected(client=context)
        wire = self.socketOf[client]
        for requested in (False, True):
            wire.send(peer.update(requested=requested))
            self.assertSeen(server, 10, b"", DRAINED)
            wire.send(peer.update(requested=requested) + peer.data(b"data"))
            self.assertSeen(server, 10, b"data")
            self.assertEqual(b"data", server.read(10))
            server.send(b"answer")
            self.assertEqual(b"answer", take(client))

    def test_waitsToWrite(self) -> None:
        """
        A peek may have to wait until the socket takes bytes, as a read may.
        """
        context = self.client()
        peer = KeyUpdates(context.context)
        server, client = self.connected(client=context)
        here, there = self.socketOf[server], self.socketOf[client]
        junk = choke(here)
        there.send(peer.update(requested=True))
        self.assertSeen(server, 100, b"", DRAINED)
        there.send(peer.data(b"behind"))
        self.assertEqual(0, server.send(b"answer"))
        self.assertSeen(server, 100, b"", WANTS_WRITE)
        relieve(there, junk)
        self.assertSeen(server, 100, b"behind")
        self.assertEqual(6, server.send(b"answer"))
        self.assertEqual((b"answer", b"behind"), (take(client), take(server)))

    def test_emptyRecords(self) -> None:
        """
        Records without a byte in them (RFC 8446 section 5.1) are no end, and hide nothing.
        """
        context = self.client()
        peer = KeyUpdates(context.context)
        server, client = self.connected(client=context)
        wire = self.socketOf[client]
        wire.send(peer.data(b""))
        self.assertSeen(server, 10, b"", DRAINED)
        wire.send(peer.data(b"") + peer.data(b"data") + peer.data(b"") + peer.data(b"more"))
        self.assertSeen(server, 10, b"data")
        self.assertEqual(b"data", server.read(10))
        self.assertSeen(server, 10, b"more")
        self.assertEqual(b"more", take(server))
