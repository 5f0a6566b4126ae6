# -*- test-case-name: tests.integration.test_sockets -*-
"""
What only TCP can do: a reset on the wire, an alert that arrives although bytes were left unread, and a kernel that
wakes nobody before enough of a hello is there.
"""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Callable

from tests.test_end import OneEnd
from tests.test_end_hello import AnyHello, hello
from tlsproxy.testing.socketreactor import tcpPair
from tlsproxy.testing.streampeers import Peer
from tlsproxy.testing.streams import Loopback

_NOT_SENT = 0x894B
"""SIOCOUTQNSD of Linux: ask for the bytes that wait to be sent."""


class TCPLoopback(Loopback):
    """
    Loopback TCP, which delivers at once what is sent, but waits now and then before it sends.
    """

    resets = True

    def settle(self, peers: list[Peer], done: Callable[[], bool] | None) -> None:
        """
        As on socket pairs, when the kernel has sent what it was given.
        """
        super().settle(peers, None)
        while any(_waits(peer.socket) for peer in peers):
            time.sleep(0.001)
        super().settle(peers, done)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Make a connection.
        """
        return tcpPair()


def _waits(sock: socket.socket) -> bool:
    return sock.fileno() >= 0 and fcntl.ioctl(sock.fileno(), _NOT_SENT, bytes(4)) != bytes(4)


class ResetTests(OneEnd):
    """
    How a connection ends on the wire.
    """

    def makeLoopback(self) -> Loopback:
        """
        TCP.
        """
        return TCPLoopback()

    def test_reset(self) -> None:
        """
        A connection that is cut is reset.
        """
        self.end.finish(reset=True)
        self.settle(lambda: self.peer.ended == "reset")

    def test_end(self) -> None:
        """
        One that is over is not.
        """
        self.end.finish()
        self.settle(lambda: self.peer.ended == "end")

    def test_unread(self) -> None:
        """
        To close a socket with bytes unread resets it, so a peer may lose the last words to it; lingering they arrive.
        """
        self.peer.write(b"many words that nobody will read")
        self.settle()
        self.end.socket.send(b"\x15\x03\x03\x00\x02\x02\x28")
        self.end.linger()
        self.settle(lambda: self.peer.ended == "end")
        self.assertEqual(b"\x15\x03\x03\x00\x02\x02\x28", self.peer.received)
        self.peer.write(b"and more of them")
        self.settle()
        self.assertFalse(self.end.gone)
        self.peer.close()
        self.settle(lambda: self.end.gone)
        self.assertFalse(self.one.aborted)


class TCPHelloTests(AnyHello):
    """
    Hellos on TCP, where the kernel knows how many bytes are waited for.
    """

    def makeLoopback(self) -> Loopback:
        """
        TCP.
        """
        return TCPLoopback()

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

    def test_mark(self) -> None:
        """
        The kernel is asked for the next need and no more, wakes nobody before, and is asked for one byte in the end.
        """
        data = hello()
        done = self.peek()
        self.peer.write(data[:1])
        self.settle()
        self.assertEqual(2, self.mark())
        self.peer.write(data[1:2])
        self.settle()
        self.assertEqual(5, self.mark())
        self.peer.write(data[2:9])
        self.settle()
        self.assertEqual(len(data), self.mark())
        self.peer.write(data[9:-1])
        self.peer.pump()
        self.assertFalse(self.loopback.reactor.pump())
        self.assertEqual([self.one.connected.transport], self.loopback.reactor.getReaders())
        self.peer.write(data[-1:])
        self.settle()
        self.successResultOf(done)
        self.assertEqual(1, self.mark())

    def test_cancel(self) -> None:
        """
        The kernel's mark does not outlive the wait.
        """
        done = self.peek()
        self.peer.write(hello()[:100])
        self.settle()
        self.assertGreater(self.mark(), 1)
        done.addErrback(lambda _: None)
        done.cancel()
        self.assertEqual(1, self.mark())
