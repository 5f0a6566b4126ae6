# -*- test-case-name: tests.test_end_proxied -*-
"""
L{tlsproxy.end.End.readProxyHeader}, and what an End tells of its peer thereafter.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred

from tests.test_end import OneEnd
from tests.wire.test_proxyheader import CLIENT, LINE, SERVER, binary
from tests.wire.test_proxytlv import tlv
from tlsproxy.errors import PeerEnded, PeerReset
from tlsproxy.plain import PlainStream
from tlsproxy.testing.streams import Loopback, TCPLoopback
from tlsproxy.wire.proxyheader import ProxyHeader, ProxyHeaderError

POLL = 0.06
"""After this, in seconds, a socket that has to be polled is looked at again."""
BEHIND = bytes(range(256))


class UnixHeaderTests(OneEnd):
    """
    On a Unix socket.
    """

    def look(self) -> None:
        """
        Let a reader look again.
        """
        self.settle()
        self.loopback.advance(POLL)
        self.settle()

    def read(self) -> Deferred[ProxyHeader]:
        """
        Begin to wait for a header.
        """
        return self.begin(self.end.readProxyHeader())

    def left(self) -> int:
        """
        Tell how many bytes are there.
        """
        try:
            return len(self.end.socket.recv(100000, socket.MSG_PEEK))
        except BlockingIOError:
            return 0

    def test_exactly(self) -> None:
        """
        A header is taken, in whatever pieces it comes, and what is behind it is left, to the byte.
        """
        long = binary(block=binary()[16:] + tlv(0xE0, bytes(4000)))
        for header in (LINE, binary(), long):
            for step in (len(header) + len(BEHIND), len(header), 50):
                done = self.read()
                wire = header + BEHIND
                for start in range(0, len(wire), step):
                    self.peer.write(wire[start : start + step])
                    self.look()
                self.settle(lambda done=done: done.called and self.left() == len(BEHIND))  # type: ignore[misc]
                self.assertEqual(CLIENT, self.successResultOf(done).source)
                mark = self.end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
                self.assertEqual((BEHIND, 1), (self.end.socket.recv(100000), mark))

    def test_ended(self) -> None:
        """
        The end of the stream is told, and so is a reset.
        """
        done = self.read()
        self.peer.write(LINE[:-1])
        self.look()
        self.peer.end()
        self.look()
        told = str(self.failureResultOf(done, PeerEnded).value)
        self.assertEqual("the client ended the stream in the middle of its PROXY header", told)

    def test_reset(self) -> None:
        """
        A reset is told as such.
        """
        done = self.read()
        self.resetByPeer()
        self.look()
        told = str(self.failureResultOf(done, PeerReset).value)
        self.assertEqual("the client reset the connection before its PROXY header", told)

    def test_goneBehind(self) -> None:
        """
        What was seen and then is not there any more is not waited for.
        """
        self.peer.write(LINE)
        self.settle()

        def gone(stream: Any, limit: int) -> bytes:
            stream.state = 3
            return b""

        self.patch(PlainStream, "read", gone)
        told = str(self.failureResultOf(self.read(), PeerReset).value)
        self.assertEqual("the client reset the connection behind its PROXY header", told)

    def test_wrong(self) -> None:
        """
        What is no header is refused, and left where it is.
        """
        self.peer.write(b"GET / HTTP/1.0\r\n\r\n")
        self.failureResultOf(self.read(), ProxyHeaderError)
        self.assertEqual(b"GET / HTTP/1.0\r\n\r\n", self.end.socket.recv(100))

    def test_cancel(self) -> None:
        """
        It may be waited for no longer.
        """
        done = self.read()
        self.peer.write(LINE[:20])
        self.look()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.settle()
        self.assertEqual([], self.loopback.reactor.getDelayedCalls())

    def test_speaksFor(self) -> None:
        """
        An End tells the addresses of its socket, until it is told of others.
        """
        here = self.end.peer()
        self.assertNotIn(here, (CLIENT, SERVER))
        self.end.speaksFor(CLIENT, SERVER)
        self.assertEqual((CLIENT, SERVER), (self.end.peer(), self.end.host()))
        self.end.speaksFor(UNIXAddress(None), IPv4Address("TCP", "192.0.2.1", 1))
        self.assertEqual(UNIXAddress(None), self.end.peer())


class TCPHeaderTests(UnixHeaderTests):
    """
    On TCP, where the kernel wakes nobody before enough has come.
    """

    def makeLoopback(self) -> Loopback:
        """
        See L{OneEnd}.
        """
        return TCPLoopback()
