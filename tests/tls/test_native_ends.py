"""
Tests for L{tlsproxy.tls.native}: how a stream stops, in either direction.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from OpenSSL import SSL, _util

from tests.tls.keyupdates import KeyUpdates
from tests.tls.pairs import PairCase, choke, relieve, take
from tlsproxy.interfaces import DRAINED, ENDED, FAILED, MORE, RESET, TRUNCATED, WANTS_WRITE
from tlsproxy.tls.native import RECORD, Buffer, TLSStream

BAD_RECORD_MAC = 20


class EndCase(PairCase):
    """
    A test of how streams stop.
    """

    def eachVersion(self, test: Callable[[TLSStream, TLSStream], None]) -> None:
        """
        Run a test over a connected server and client in each version of TLS.
        """
        for version in ("1.2", "1.3"):
            test(*self.connected(client=self.client(maxVersion=version)))

    def assertStopped(self, stream: TLSStream, state: int, last: bytes = b"") -> None:
        """
        Assert how a stream stops, whichever way it is read and however often, and what comes before.
        """
        self.assertEqual((take(stream), stream.state), (last, state))
        self.assertEqual((stream.read(10), stream.state), (b"", state))
        self.assertEqual((stream.fill(Buffer(RECORD)), stream.state), (0, state))


class ReadingTests(EndCase):
    """
    Tests for how reading stops.
    """

    def test_ended(self) -> None:
        """
        A close_notify ends the stream after all that was sent before it.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"last words")
            self.assertTrue(client.endWrite())
            self.assertStopped(server, ENDED, b"last words")

        self.eachVersion(test)

    def test_truncated(self) -> None:
        """
        An end of the stream without a close_notify is a truncation: between records, and in the middle of one, of its
        header too.
        """
        for part in (b"", b"\x17\x03", b"\x17\x03\x03\x00\x20" + bytes(10)):

            def test(server: TLSStream, client: TLSStream, part: bytes = part) -> None:
                client.send(b"last words")
                self.socketOf[client].send(part)
                self.socketOf[client].shutdown(socket.SHUT_WR)
                self.assertStopped(server, TRUNCATED, b"last words")
                self.assertEqual((server.send(b"answer"), take(client)), (6, b"answer"))

            self.eachVersion(test)

    def test_truncatedAfterOurs(self) -> None:
        """
        The close_notify that we have sent is not taken for the peer's.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            server.endWrite()
            self.socketOf[client].shutdown(socket.SHUT_WR)
            self.assertStopped(server, TRUNCATED)

        self.eachVersion(test)

    def test_eachItsOwnEnd(self) -> None:
        """
        The close_notify of one connection is not taken for another's.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            other, peer = self.connected()
            client.endWrite()
            self.socketOf[peer].shutdown(socket.SHUT_WR)
            self.assertStopped(server, ENDED)
            self.assertStopped(other, TRUNCATED)
            self.assertStopped(server, ENDED)

        self.eachVersion(test)

    def test_endedInHandshake(self) -> None:
        """
        Nor is one that ended another connection in the middle of its handshake.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            peer, other = self.ends()
            self.assertRaises(SSL.WantReadError, other.handshake)
            self.socketOf[peer].send(b"\x15\x03\x03\x00\x02\x01\x00")
            self.assertRaises(SSL.ZeroReturnError, other.handshake)
            self.socketOf[client].shutdown(socket.SHUT_WR)
            self.assertStopped(server, TRUNCATED)

        self.eachVersion(test)

    def test_forgedEnd(self) -> None:
        """
        A close_notify that is not authenticated ends nothing: the connection fails.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            self.socketOf[client].send(b"\x15\x03\x03\x00\x02\x01\x00")
            self.socketOf[client].shutdown(socket.SHUT_WR)
            self.assertStopped(server, FAILED)

        self.eachVersion(test)

    def test_reset(self) -> None:
        """
        A reset is told as one, with what the system says.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            server.send(b"never read")
            self.socketOf[client].close()
            self.assertStopped(server, RESET)
            self.assertIsInstance(server.problem, SSL.SysCallError)

        self.eachVersion(test)

    def test_damaged(self) -> None:
        """
        A record that does not verify fails the connection, after all that came before it. The peer is sent an alert,
        which fails it in turn, and both can tell which it was and who sent it.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"whole")
            self.socketOf[client].send(b"\x17\x03\x03\x00\x20" + bytes(32))
            self.assertEqual(take(server), b"whole")
            self.assertEqual((server.state, server.alert()), (FAILED, (BAD_RECORD_MAC, True)))
            self.assertEqual(take(client), b"")
            self.assertEqual((client.state, client.alert()), (FAILED, (BAD_RECORD_MAC, False)))
            for stream in (server, client):
                self.assertIsInstance(stream.problem, SSL.Error)
                problem = stream.problem
                self.assertStopped(stream, FAILED)
                self.assertIdentical(stream.problem, problem)

        self.eachVersion(test)

    def test_noRecord(self) -> None:
        """
        What is no record at all fails the connection, be it unreadable or too long.
        """
        for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(20), b"\x17\x03\x03\xff\xff" + bytes(20)):

            def test(server: TLSStream, client: TLSStream, junk: bytes = junk) -> None:
                self.socketOf[client].send(junk)
                self.assertStopped(server, FAILED)

            self.eachVersion(test)

    def test_errorsStayHere(self) -> None:
        """
        However a connection breaks, nothing of it is left behind to be taken for the next one's error.
        """
        idle, _ = self.connected()

        def broken(server: TLSStream, client: TLSStream) -> None:
            for act in (lambda: server.send(b"x"), server.endWrite, lambda: take(server)):
                act()
                self.assertEqual(_util.lib.ERR_peek_error(), 0)
                self.assertEqual((idle.read(1), idle.state, idle.problem), (b"", DRAINED, None))

        def closed(server: TLSStream, client: TLSStream) -> None:
            self.socketOf[client].close()
            broken(server, client)

        def ended(server: TLSStream, client: TLSStream) -> None:
            self.socketOf[client].close()
            server.endWrite()
            broken(server, client)

        def reset(server: TLSStream, client: TLSStream) -> None:
            server.send(b"never read")
            self.socketOf[client].close()
            broken(server, client)

        for test in (closed, ended, reset):
            self.eachVersion(test)
        server, client = self.ends()
        self.socketOf[server].close()
        self.assertRaises(SSL.SysCallError, client.handshake)
        self.assertEqual(_util.lib.ERR_peek_error(), 0)

    def test_unwritable(self) -> None:
        """
        A stream that could not be written to is told to be reset when it is read, as OpenSSL reads no more of it.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            self.socketOf[client].close()
            self.assertEqual(server.send(b"x"), -1)
            self.assertStopped(server, RESET)

        self.eachVersion(test)


class EndWriteTests(EndCase):
    """
    Tests for L{TLSStream.endWrite}.
    """

    def test_otherDirectionGoesOn(self) -> None:
        """
        After our close_notify the peer's bytes still come, as many as there are, until it ends its own direction.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            client.send(b"question")
            self.assertTrue(client.endWrite())
            self.assertStopped(server, ENDED, b"question")
            answer = bytes(3 * RECORD)
            self.assertEqual(server.send(answer), len(answer))
            self.assertEqual(take(client), answer)
            self.assertEqual(client.state, DRAINED)
            self.assertEqual(server.send(b"later"), 5)
            self.assertTrue(server.endWrite())
            self.assertStopped(client, ENDED, b"later")

        self.eachVersion(test)

    def test_unreadData(self) -> None:
        """
        What the peer sent before it heard of our end is not lost, and harms nothing.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            server.send(b"crossing")
            client.endWrite()
            client.endWrite()
            self.assertEqual((take(client), client.state), (b"crossing", DRAINED))

        self.eachVersion(test)

    def test_once(self) -> None:
        """
        A close_notify is sent once, and never anything behind it.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            self.assertFalse(client.writeEnded)
            self.assertTrue(client.endWrite())
            self.assertTrue(client.writeEnded)
            there = self.socketOf[server]
            self.assertTrue(there.recv(RECORD))
            self.assertTrue(client.endWrite())
            self.assertEqual(client.send(b"too late"), -1)
            self.assertRaises(BlockingIOError, there.recv, 1)

        self.eachVersion(test)

    def test_clogged(self) -> None:
        """
        On a socket that takes nothing the close_notify has to wait, and is sent once it is called for again.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            here, there = self.socketOf[server], self.socketOf[client]
            junk = choke(here)
            self.assertFalse(server.endWrite())
            self.assertFalse(server.endWrite())
            self.assertFalse(server.writeEnded)
            relieve(there, junk)
            self.assertRaises(BlockingIOError, there.recv, 1)
            self.assertTrue(server.endWrite())
            self.assertTrue(server.endWrite())
            self.assertStopped(client, ENDED)
            client.send(b"late")
            self.assertEqual(take(server), b"late")

        self.eachVersion(test)

    def test_cloggedAndCutOff(self) -> None:
        """
        A close_notify that has to wait is sent also where the peer's stream is cut off meanwhile.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            here, there = self.socketOf[server], self.socketOf[client]
            junk = choke(here)
            self.assertFalse(server.endWrite())
            there.shutdown(socket.SHUT_WR)
            self.assertStopped(server, TRUNCATED)
            self.assertFalse(server.endWrite())
            relieve(there, junk)
            self.assertTrue(server.endWrite())
            self.assertEqual(TRUNCATED, server.state)
            self.assertStopped(client, ENDED)

        self.eachVersion(test)

    def test_gone(self) -> None:
        """
        To a peer that is gone a close_notify cannot be sent, and is not tried again. That is a reset, unless the peer
        had ended its direction before.
        """

        def silent(server: TLSStream, client: TLSStream) -> None:
            self.socketOf[client].close()
            self.assertTrue(server.endWrite())
            self.assertTrue(server.writeEnded)
            self.assertStopped(server, RESET)
            self.assertIsInstance(server.problem, SSL.SysCallError)

        def polite(server: TLSStream, client: TLSStream) -> None:
            client.endWrite()
            self.socketOf[client].close()
            self.assertStopped(server, ENDED)
            self.assertTrue(server.endWrite())
            self.assertStopped(server, ENDED)

        for test in (silent, polite):
            self.eachVersion(test)

    def test_plainBehind(self) -> None:
        """
        What follows the close_notify in plain stays in the socket, to the byte, even if all of it comes at once; and
        the other direction goes on in TLS until it ends as well.
        """

        def test(server: TLSStream, client: TLSStream) -> None:
            here, there = self.socketOf[server], self.socketOf[client]
            client.send(b"secret")
            client.endWrite()
            there.send(b"\x17\x03\x03 plain")
            self.assertTrue(here.recv(4096, socket.MSG_PEEK).endswith(b"\x17\x03\x03 plain"))
            self.assertStopped(server, ENDED, b"secret")
            self.assertEqual(server.send(b"secret answer"), 13)
            server.endWrite()
            here.send(b"plain answer")
            self.assertStopped(client, ENDED, b"secret answer")
            self.assertEqual(here.recv(4096), b"\x17\x03\x03 plain")
            self.assertEqual(there.recv(4096), b"plain answer")

        self.eachVersion(test)


class KeyUpdateTests(EndCase):
    """
    Tests for a peer that changes its keys in the middle (RFC 8446 section 4.6.3).
    """

    def test_answered(self) -> None:
        """
        A key update that asks for one in return is answered while reading, and both directions go on.
        """
        client = self.client()
        peer = KeyUpdates(client.context)
        server, stream = self.connected(client=client)
        for number in range(3):
            self.socketOf[stream].send(peer.update(requested=True))
            self.socketOf[stream].send(peer.data(b"%d in new keys" % number))
            self.assertEqual((take(server), server.state), (b"%d in new keys" % number, DRAINED))
            server.send(b"so is this")
            self.assertEqual(take(stream), b"so is this")

    def test_clogged(self) -> None:
        """
        Where the socket takes nothing, what the peer sends is read all the same until we write, as the answer goes
        ahead of our next bytes. Then nothing is read until the answer is out, and nothing is lost in either direction.
        """
        client = self.client()
        peer = KeyUpdates(client.context)
        server, stream = self.connected(client=client)
        here, there = self.socketOf[server], self.socketOf[stream]
        junk = choke(here)
        there.send(peer.data(b"before, ") + peer.update(requested=True) + peer.data(b"behind"))
        self.assertEqual((take(server), server.state), (b"before, behind", DRAINED))
        there.send(peer.data(b"and after"))
        self.assertEqual(server.send(b"answer"), 0)
        self.assertEqual((server.read(100), server.state), (b"", WANTS_WRITE))
        self.assertEqual((server.fill(Buffer(RECORD)), server.state), (0, WANTS_WRITE))
        relieve(there, junk)
        self.assertEqual((server.read(100), server.state), (b"and after", MORE))
        self.assertEqual(server.send(b"answer"), 6)
        self.assertEqual(take(stream), b"answer")

    def behindTheEnd(self) -> tuple[TLSStream, KeyUpdates, socket.socket]:
        """
        Have a server that has sent its close_notify.

        @return: It, what makes the records of its client, and the client's socket.
        """
        client = self.client()
        peer = KeyUpdates(client.context)
        server, stream = self.connected(client=client)
        there = self.socketOf[stream]
        self.assertTrue(server.endWrite())
        self.assertTrue(there.recv(65536))
        return server, peer, there

    def test_nothingBehindTheEnd(self) -> None:
        """
        Once our close_notify is sent, nothing is written any more: no alert for what does not verify or is no record,
        and no second close_notify.  What follows is plain, and a byte of TLS would break it.
        """
        for broken in (b"\x17\x03\x03\x00\x13" + bytes(19), b"GET / HTTP/1.1\r\n\r\n"):
            server, peer, there = self.behindTheEnd()
            there.send(peer.update(requested=False) + peer.data(b"in new keys"))
            self.assertEqual((take(server), server.state), (b"in new keys", DRAINED))
            there.send(broken)
            self.assertEqual((take(server), server.state), (b"", FAILED))
            self.assertTrue(server.endWrite())
            self.assertRaises(BlockingIOError, there.recv, 65536)

    def test_askedBehindTheEnd(self) -> None:
        """
        A key update that asks for one in return is not answered then, but a second one is, by one record.  So whoever
        takes TLS off must not ask for any.
        """
        server, peer, there = self.behindTheEnd()
        there.send(peer.update(requested=True) + peer.data(b"in new keys"))
        self.assertEqual((take(server), server.state), (b"in new keys", DRAINED))
        self.assertRaises(BlockingIOError, there.recv, 65536)
        there.send(peer.update(requested=True))
        self.assertEqual((take(server), server.state), (b"", DRAINED))
        self.assertEqual(b"\x17\x03\x03\x00\x16", there.recv(65536)[:5])
