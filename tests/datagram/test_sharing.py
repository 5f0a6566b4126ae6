"""
Tests for L{tlsproxy.datagram.sharing}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.datagram.wires import HERE, THERE, FakeSocket
from tlsproxy.address import tellPeer
from tlsproxy.datagram.path import addressOf
from tlsproxy.datagram.sharing import Shared, Terms


class Port:
    """
    As much of a port as there has to be.
    """

    def __init__(self) -> None:
        self.socket: Any = FakeSocket()
        self.told: list[Any] = []

    def getHost(self) -> Any:
        """
        Tell where it is.
        """
        return addressOf(HERE)

    def settled(self, address: Any, end: Any) -> None:
        """
        Note it.
        """
        self.told.append(("settled", address, end))

    def forget(self, address: Any, end: Any) -> None:
        """
        Note it.
        """
        self.told.append(("over", address, end))


class SharedTests(SynchronousTestCase):
    """
    One association's part of a socket.
    """

    def test_shared(self) -> None:
        """
        It sends to its peer, knows both addresses, and tells the port what becomes of it.
        """
        port, end = Port(), object()
        shared: Any = Shared(port, THERE, ())
        shared.send(b"hello")
        shared.watch()
        shared.settled(end)
        shared.close(end)
        self.assertEqual(list(port.socket.sent), [(b"hello", THERE)])
        self.assertEqual((tellPeer(shared.peer()), tellPeer(shared.host())), ("192.0.2.7:40000", "127.0.0.1:8443"))
        self.assertEqual(port.told, [("settled", THERE, end), ("over", THERE, end)])
        self.assertEqual(shared.pathMTU(), 0)

    def test_source(self) -> None:
        """
        Where it has to say from which address, it does.
        """
        port = Port()
        sent: list[Any] = []
        port.socket.sendmsg = lambda *what: sent.append(what)
        source = ((41, 50, bytes(20)),)
        shared: Any = Shared(port, THERE, source)
        shared.send(b"hello")
        self.assertEqual(sent, [((b"hello",), source, 0, THERE)])

    def test_terms(self) -> None:
        """
        There are terms where nobody says others.
        """
        self.assertEqual(Terms(), Terms(dtls=True, hellos=False, mtu=1200, most=4096, halfOpen=256))
