"""
Tests for L{tlsproxy.datagram.source}, over loopback.
"""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.datagram.source import ROOM, asksForSource, sourceOf


class SourceTests(SynchronousTestCase):
    """
    Answers come from where was sent to.
    """

    def bound(self, family: int, host: str) -> socket.socket:
        """
        Make a socket.
        """
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(5)
        sock.bind((host, 0))
        return sock

    def assertAnswered(self, listening: socket.socket, family: int, address: str) -> None:
        """
        Assert that a client that accepts answers from one address alone gets one.
        """
        client = self.bound(family, "::1" if family == socket.AF_INET6 else "127.0.0.1")
        client.connect((address, listening.getsockname()[1]))
        client.send(b"hello")
        _, told, _, peer = listening.recvmsg(100, ROOM)
        listening.sendmsg((b"hello yourself",), sourceOf(told), 0, peer)
        self.assertEqual(client.recv(100), b"hello yourself")

    def test_v4(self) -> None:
        """
        So it is with IPv4.
        """
        listening = self.bound(socket.AF_INET, "0.0.0.0")
        self.assertTrue(asksForSource(listening))
        self.assertAnswered(listening, socket.AF_INET, "127.3.2.1")

    def test_both(self) -> None:
        """
        And with a socket of both families.
        """
        listening = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.addCleanup(listening.close)
        listening.settimeout(5)
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(("::", 0))
        self.assertTrue(asksForSource(listening))
        self.assertAnswered(listening, socket.AF_INET, "127.3.2.1")
        self.assertAnswered(listening, socket.AF_INET6, "::1")

    def test_one(self) -> None:
        """
        A socket with one address need not be asked.
        """
        self.assertFalse(asksForSource(self.bound(socket.AF_INET, "127.0.0.1")))
        for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
            self.addCleanup(one.close)
            self.assertFalse(asksForSource(one))

    def test_link(self) -> None:
        """
        The interface is left to the kernel, but for addresses that mean nothing without it.
        """
        link, other = b"\xfe\x80" + bytes(14), b"\x20\x01" + bytes(14)
        for address, kept in ((link, b"\2\0\0\0"), (other, bytes(4))):
            ((_, _, data),) = sourceOf([(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, address + b"\2\0\0\0")])
            self.assertEqual(data, address + kept)
        self.assertEqual(sourceOf([]), ())
        self.assertEqual(sourceOf([(1, 2, b"")]), ())
