"""
Tests for L{tlsproxy.tls.native}: buffers and streams.

How a stream stops is in L{tests.tls.test_native_ends}, and what a context and a connection are told in
L{tests.tls.test_native_settings}.
"""

from __future__ import annotations

import runpy
import socket
from collections.abc import Callable
from types import SimpleNamespace

from OpenSSL import SSL, _util
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.pairs import VERSIONS, PairCase, choke, relieve, shake, take
from tlsproxy.interfaces import DRAINED, ENDED, MORE, RESET
from tlsproxy.tls import native
from tlsproxy.tls.native import RECORD, Buffer, TLSStream


def numbered(count: int) -> bytes:
    """
    Make bytes of which no two neighboring records are the same.
    """
    return b"".join(number.to_bytes(4, "big") for number in range(count // 4 + 1))[:count]


class BufferTests(SynchronousTestCase):
    """
    Tests for L{Buffer}.
    """

    def test_size(self) -> None:
        """
        A buffer is as long as it was asked to be, and its view is all of it.
        """
        buffer = Buffer(RECORD + 1)
        self.assertEqual((buffer.size, len(buffer.view)), (RECORD + 1, RECORD + 1))

    def test_tooSmall(self) -> None:
        """
        A buffer that cannot hold a record is refused, with both numbers.
        """
        error = self.assertRaises(ValueError, Buffer, RECORD - 1)
        self.assertEqual(str(error), "a buffer holds at least one record of 16384 bytes, not 16383")


class StreamTests(PairCase):
    """
    Tests for the bytes that go through L{TLSStream}.
    """

    def eachVersion(self, test: Callable[[TLSStream, TLSStream], None]) -> None:
        """
        Run a test over a connected server and client in each version of TLS.
        """
        for version, spelled in VERSIONS.items():
            server, client = self.connected(client=self.client(maxVersion=version))
            self.assertEqual(server.connection.get_protocol_version_name(), spelled)
            test(server, client)

    def test_bothWays(self) -> None:
        """
        What one end sends is what the other reads, in both directions.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            for sender, reader in ((server, client), (client, server)):
                self.assertEqual(sender.send(b"some words"), 10)
                self.assertEqual(take(reader), b"some words")
                self.assertEqual(sender.send(memoryview(b"and more")), 8)
                self.assertEqual(reader.read(100), b"and more")

        self.eachVersion(test)

    def test_drain(self) -> None:
        """
        The front of a buffer is written, across records, and read into the front of another.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            source, sink = Buffer(4 * RECORD), Buffer(4 * RECORD)
            data = numbered(3 * RECORD)
            source.view[: len(data)] = data
            self.assertEqual(server.drain(source, len(data)), len(data))
            self.assertEqual(client.fill(sink), len(data))
            self.assertEqual(sink.view[: len(data)], data)
            self.assertEqual(bytes(sink.view[len(data) :]), bytes(RECORD))

        self.eachVersion(test)

    def test_nothingToSend(self) -> None:
        """
        To write no bytes is no error, and sends nothing.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            self.assertEqual((server.send(b""), server.drain(Buffer(RECORD), 0)), (0, 0))
            self.assertEqual(take(client), b"")
            self.assertEqual(client.state, DRAINED)

        self.eachVersion(test)

    def test_drained(self) -> None:
        """
        Where nothing more is there the state says so, after no bytes and after some.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            self.assertEqual((client.read(10), client.state), (b"", DRAINED))
            server.send(b"abc")
            self.assertEqual((client.fill(Buffer(2 * RECORD)), client.state), (3, DRAINED))

        self.eachVersion(test)

    def test_full(self) -> None:
        """
        A buffer with no room for another record stops the reading, and no part of a record is left in OpenSSL.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            data = numbered(2 * RECORD + 7)
            self.assertEqual(server.send(data), len(data))
            buffer = Buffer(2 * RECORD)
            self.assertEqual((client.fill(buffer), client.state, client.pending()), (2 * RECORD, MORE, 0))
            self.assertEqual(buffer.view, data[: 2 * RECORD])
            self.assertEqual((client.fill(buffer), client.state), (7, DRAINED))
            self.assertEqual(buffer.view[:7], data[2 * RECORD :])

        self.eachVersion(test)

    def test_short(self) -> None:
        """
        A short record ends a turn of reading, and what is behind it stays in the socket, where the reactor sees it.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            for data in (b"abc", bytes(2000), b"def"):
                server.send(data)
            server.endWrite()
            buffer = Buffer(2 * RECORD)
            self.assertEqual((client.fill(buffer), client.state, client.pending()), (3, DRAINED, 0))
            self.assertTrue(self.socketOf[client].recv(1, socket.MSG_PEEK))
            self.assertEqual((client.fill(buffer), client.state, client.pending()), (2003, DRAINED, 0))
            self.assertTrue(self.socketOf[client].recv(1, socket.MSG_PEEK))
            self.assertEqual((client.fill(buffer), client.state), (0, ENDED))

        self.eachVersion(test)

    def test_readAPart(self) -> None:
        """
        A read takes no more than it was told to. The rest of the record, which the socket no longer shows, is pending,
        and comes first in the next one.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            server.send(b"0123456789")
            self.assertEqual((client.read(4), client.state, client.pending()), (b"0123", MORE, 6))
            self.assertRaises(BlockingIOError, self.socketOf[client].recv, 1)
            self.assertEqual(take(client), b"456789")
            self.assertEqual(client.pending(), 0)

        self.eachVersion(test)

    def test_readOneRecord(self) -> None:
        """
        A read takes at most one record, however much is there and may be taken.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            data = numbered(RECORD + 5)
            server.send(data)
            self.assertEqual(client.read(10 * RECORD), data[:RECORD])
            self.assertEqual(client.read(10 * RECORD), data[RECORD:])

        self.eachVersion(test)

    def test_partialWrite(self) -> None:
        """
        A full socket takes a part, and the rest is taken later, from a copy in another place: not one byte is lost,
        and none comes twice.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            data = numbered(4_000_000)
            buffer = Buffer(len(data))
            buffer.view[:] = data
            sent = server.drain(buffer, len(data))
            self.assertTrue(0 < sent < len(data))
            self.assertEqual(server.send(bytes(buffer.view[sent:])), 0)
            buffer.view[:] = bytes(len(data))
            taken = b""
            while sent < len(data):
                taken += take(client)
                # Each time from a fresh copy, and a shorter one than before is enough.
                sent += server.send(bytes(data[sent : sent + 5 * RECORD]))
            self.assertEqual(taken + take(client), data)

        self.eachVersion(test)

    def test_brokenWrite(self) -> None:
        """
        To write to a peer that is gone tells that the connection is broken, and why.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            self.socketOf[client].close()
            self.assertEqual(server.send(b"x"), -1)
            self.assertEqual(server.state, RESET)
            self.assertIsInstance(server.problem, SSL.SysCallError)
            self.assertEqual(server.drain(Buffer(RECORD), 1), -1)

        self.eachVersion(test)


class HandshakeTests(PairCase):
    """
    Tests for L{TLSStream.handshake}.
    """

    def test_waits(self) -> None:
        """
        A handshake says whether it waits for the peer or for the socket, and goes on when it is called again.
        """
        server, client = self.ends()
        self.assertRaises(SSL.WantReadError, server.handshake)
        there = self.socketOf[client]
        junk = choke(there)
        self.assertRaises(SSL.WantWriteError, client.handshake)
        self.assertRaises(SSL.WantWriteError, client.handshake)
        relieve(self.socketOf[server], junk)
        self.assertEqual([met.error for met in shake(server, client)], [None, None])

    def test_otherConnections(self) -> None:
        """
        The alert of a connection is its own, and not that of another that came after it or before.
        """
        refused = self.ends(client=self.client("other.example"))
        server, client = self.connected()
        shake(*refused)
        self.assertEqual((server.alert(), client.alert()), (None, None))
        self.connected()
        self.assertEqual(shake(*self.ends())[0].alert, None)

    def test_direction(self) -> None:
        """
        An alert is told with its direction: who refuses has sent it, and the other has received it.
        """
        met = shake(*self.ends(client=self.client("other.example")))
        self.assertEqual([each.alert for each in met], [(42, False), (42, True)])

    def test_verifyProblem(self) -> None:
        """
        What is wrong with the peer's certificate is told in OpenSSL's words; before and without, nothing.
        """
        server, client = self.ends(client=self.client("other.example"))
        self.assertIdentical(client.verifyProblem(), None)
        shake(server, client)
        self.assertEqual((client.verifyProblem(), server.verifyProblem()), ("hostname mismatch", None))
        server, client = self.connected()
        self.assertIdentical(client.verifyProblem(), None)


class BindingsTests(SynchronousTestCase):
    """
    Tests for what the module does when it does not fit the bindings.
    """

    def test_missing(self) -> None:
        """
        Bindings without a function that is needed stop the import, with its name and what to do.
        """
        known = {name: None for name in native._NEEDED if name not in ("SSL_read", "SSL_write")}
        self.patch(_util, "lib", SimpleNamespace(**known))
        error = self.assertRaises(ImportError, runpy.run_path, native.__file__)
        self.assertIn("their bindings lack SSL_read, SSL_write. Install the releases", str(error))
