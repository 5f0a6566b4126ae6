"""
Tests for L{tlsproxy.datagram.path}.
"""

from __future__ import annotations

import errno
import socket
import sys

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tlsproxy.datagram.path import addressOf, carries, dontFragment, probe


class PathTests(SynchronousTestCase):
    """
    What the kernel tells.
    """

    def socket(self, connected: bool = True) -> socket.socket:
        """
        Make a UDP socket.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        if connected:
            sock.connect(("127.0.0.1", 9))
        return sock

    def test_local(self) -> None:
        """
        Loopback carries all that a datagram can hold.
        """
        if sys.platform != "linux":
            raise SkipTest("only Linux tells")
        self.assertEqual(carries(self.socket()), 65507)
        self.assertEqual(probe(socket.AF_INET, ("127.0.0.1", 9)), 65507)

    def test_unknown(self) -> None:
        """
        Without a peer, or a way to it, nobody knows; nor of other sockets.
        """
        self.assertEqual(carries(self.socket(False)), 0)
        self.assertEqual(probe(socket.AF_INET, ("255.255.255.255", 9)), 0)
        self.assertEqual(probe(socket.AF_UNIX, ("127.0.0.1", 9)), 0)
        for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
            self.addCleanup(sock.close)
            dontFragment(sock)
            self.assertEqual(carries(sock), 0)

    def test_dontFragment(self) -> None:
        """
        What is too large for the path is refused by the kernel.
        """
        sock = self.socket()
        dontFragment(sock)
        error = self.assertRaises(OSError, sock.send, bytes(65508))
        self.assertEqual(error.errno, errno.EMSGSIZE)

    def test_addressOf(self) -> None:
        """
        Addresses are told as Twisted has them.
        """
        self.assertEqual(addressOf(("192.0.2.1", 53)), IPv4Address("UDP", "192.0.2.1", 53))
        self.assertEqual(addressOf(("fe80::1", 53, 0, 3)), IPv6Address("UDP", "fe80::1", 53, 0, 3))

    def test_dontFragmentBoth(self) -> None:
        """
        That holds for IPv4, too, on a socket for both families.
        """
        if sys.platform != "linux":
            raise SkipTest("only Linux is asked")
        try:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        except OSError:
            raise SkipTest("there is no IPv6") from None
        self.addCleanup(sock.close)
        dontFragment(sock)
        self.assertEqual(sock.getsockopt(socket.IPPROTO_IP, 10), 2)
