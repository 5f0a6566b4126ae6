# -*- test-case-name: tests.test_end_hello -*-
"""
L{tlsproxy.end.End.peekHello}, on a socket that cannot be told how many bytes to wait for.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred

from tests.test_end import OneEnd
from tlsproxy.errors import PeerEnded, PeerReset
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import serverTLS
from tlsproxy.wire.clienthello import ClientHello, HelloError

POLL = 0.06
"""After this, in seconds, a socket that has to be polled is looked at again."""


def hello() -> bytes:
    """
    Make a hello, as a client of OpenSSL sends it.
    """
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_tlsext_host_name(b"shop.example")
    connection.set_alpn_protos([b"h2"])
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        pass
    return connection.bio_read(65536)


def inRecords(whole: bytes, size: int) -> bytes:
    """
    Cut a hello that is one record into many.

    @param size: How many bytes of the message each record carries.
    """
    message = whole[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(whole[:3] + len(part).to_bytes(2, "big") + part for part in parts)


class AnyHello(OneEnd):
    """
    What is true of hellos on any kind of socket.
    """

    def look(self) -> None:
        """
        Let a reader look again.
        """
        self.settle()
        self.loopback.advance(POLL)
        self.settle()

    def peek(self) -> Deferred[ClientHello]:
        """
        Begin to wait for a hello.
        """
        return self.begin(self.end.peekHello())

    def mark(self) -> int:
        """
        How many bytes the kernel waits for.
        """
        return self.end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def cuts(self) -> Iterator[bytes]:
        """
        The same hello in records of different sizes.
        """
        whole = hello()
        yield whole
        for size in (1, 2, 3, 4, 5, 100, 1000):
            yield inRecords(whole, size)

    def check_whole(self) -> None:
        """
        A hello that comes at once is read at once, in whatever records, and left where it is.
        """
        for data in self.cuts():
            done = self.peek()
            self.assertNoResult(done)
            self.peer.write(data)
            self.settle()
            self.assertEqual("shop.example", self.successResultOf(done).serverName)
            self.assertEqual(len(data), self.successResultOf(self.peek()).wireLength)
            self.assertEqual(data, self.end.socket.recv(100000))
            self.assertEqual(1, self.mark())

    def check_pieces(self, size: int) -> None:
        """
        A hello that comes in pieces is waited for, without spinning.  A Unix socket keeps each piece apart, with so
        much around it that it is full after some 270.

        @param size: The fewest bytes of a piece.
        """
        for records in (2000, 100, 1):
            data = inRecords(hello(), records)
            done = self.peek()
            step = max(size, len(data) // 200)
            for at in range(0, len(data) - step, step):
                self.peer.write(data[at : at + step])
                self.look()
                self.assertNoResult(done)
            self.peer.write(data[at + step :])
            self.look()
            self.assertEqual("shop.example", self.successResultOf(done).serverName)
            self.assertEqual(1, self.mark())
            self.assertEqual(data, self.end.socket.recv(100000))

    def check_end(self) -> None:
        """
        A stream that ends before the hello is whole is told, wherever it ends.
        """
        data = hello()
        for length in (0, 1, 5, 6, 300, len(data) - 1):
            done = self.peek()
            self.peer.write(data[:length])
            self.look()
            self.assertNoResult(done)
            self.peer.end()
            self.look()
            told = str(self.failureResultOf(done, PeerEnded).value)
            self.assertIn("in the middle of its hello" if length else "without a word", told)
            self.assertEqual(1, self.mark())
            self.tearDown()
            self.setUp()

    def check_reset(self) -> None:
        """
        A reset is told as one, also where unread bytes lie before it.
        """
        for length in (0, 1, 300):
            done = self.peek()
            self.peer.write(hello()[:length])
            self.look()
            self.assertNoResult(done)
            self.resetByPeer()
            self.look()
            self.assertIn("reset the connection", str(self.failureResultOf(done, PeerReset).value))
            self.tearDown()
            self.setUp()

    def check_endAtOnce(self) -> None:
        """
        So is an end that comes together with the bytes.
        """
        done = self.peek()
        self.peer.write(hello()[:300])
        self.peer.end()
        self.look()
        self.look()
        self.failureResultOf(done, PeerEnded)


class UnixHelloTests(AnyHello):
    """
    On a Unix socket, which is looked at from time to time.
    """

    def test_whole(self) -> None:
        """
        See L{AnyHello.check_whole}.
        """
        self.check_whole()

    def test_pieces(self) -> None:
        """
        See L{AnyHello.check_pieces}.
        """
        self.check_pieces(1)

    def test_end(self) -> None:
        """
        See L{AnyHello.check_end}.
        """
        self.check_end()
        self.check_endAtOnce()

    def test_reset(self) -> None:
        """
        See L{AnyHello.check_reset}.
        """
        self.check_reset()

    def test_lostWhileAsleep(self) -> None:
        """
        So is a connection that is lost between two looks.
        """
        done = self.peek()
        self.peer.write(hello()[:100])
        self.settle()
        self.loopback.reactor.lose(self.one.connected.transport)
        self.look()
        self.failureResultOf(done, PeerReset)

    def test_garbage(self) -> None:
        """
        What is no hello is refused as soon as that can be seen.
        """
        done = self.peek()
        self.peer.write(b"GET / HTTP/1.1\r\n")
        self.settle()
        self.assertTrue(self.failureResultOf(done, HelloError).value.plainHTTP)

    def test_cancel(self) -> None:
        """
        A hello may be waited for no longer, awake or asleep, and nothing is left running.
        """
        for first in (b"", hello()[:100]):
            self.peer.write(first)
            done = self.peek()
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.settle()
            self.assertEqual([], self.loopback.reactor.getDelayedCalls())

    def test_thenTLS(self) -> None:
        """
        The hello that was peeked begins the handshake.
        """
        peer = TLSPeer(self.peer.socket, "TLSv1.3", server=False)
        self.one.peer = peer
        self.successResultOf(self.peek())
        self.successResultOf(self.begin(self.end.startTLS(serverTLS("TLSv1.3"))))
