"""
Tests for L{tlsproxy.datagram.listening}, over loopback.
"""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import tellPeer
from tlsproxy.datagram.address import UDP
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.listening import listenForDatagrams
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.datagram.sharing import Terms
from tlsproxy.testing.socketreactor import SocketReactor


class ListenTests(SynchronousTestCase):
    """
    Tests for L{listenForDatagrams}.
    """

    def setUp(self) -> None:
        """
        Make a reactor.
        """
        self.reactor = SocketReactor()
        self.accepted: list[DatagramEnd] = []

    def listen(self, host: str, port: int = 0) -> list[DatagramPort]:
        """
        Listen for datagrams in clear.
        """
        ports = listenForDatagrams(self.reactor, UDP(host, port), Terms(dtls=False), self.accepted.append)
        for one in ports:
            self.addCleanup(one.connectionLost, None)
        return list(ports)

    def client(self, family: int, address: str, port: DatagramPort) -> socket.socket:
        """
        Make a client that sends something.
        """
        client = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(client.close)
        client.settimeout(5)
        client.connect((address, port.getHost().port))  # type: ignore[attr-defined]
        client.send(b"hello")
        self.reactor.pump()
        return client

    def test_address(self) -> None:
        """
        What comes is let in, and answered.
        """
        (port,) = self.listen("127.0.0.1")
        client = self.client(socket.AF_INET, "127.0.0.1", port)
        (end,) = self.accepted
        end.send(b"hello yourself")
        self.assertEqual(client.recv(100), b"hello yourself")
        self.assertEqual(tellPeer(end.peer()), f"127.0.0.1:{client.getsockname()[1]}")

    def test_all(self) -> None:
        """
        Without a host, what comes by any address, of either family, is let in, and answered from where it was sent to.
        """
        (port,) = self.listen("")
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.9.8.7"), (socket.AF_INET6, "::1")):
            try:
                client = self.client(family, address, port)
            except OSError:
                continue  # There may be no IPv6.
            end = self.accepted.pop()
            end.send(b"hello yourself")
            self.assertEqual(client.recv(100), b"hello yourself")

    def test_name(self) -> None:
        """
        A name stands for all of its addresses.
        """
        self.assertTrue(self.listen("localhost"))

    def test_taken(self) -> None:
        """
        Where somebody else listens nothing is left listening.
        """
        (port,) = self.listen("127.0.0.1")
        self.assertRaises(OSError, self.listen, "127.0.0.1", port.getHost().port)  # type: ignore[attr-defined]
        self.assertRaises(OSError, self.listen, "192.0.2.1")
