"""
Tests for L{tlsproxy.datagram.dial}.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.datagram.dial import BATCH, connect
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.sending import UNANSWERED
from tlsproxy.testing.socketreactor import SocketReactor


class ConnectTests(SynchronousTestCase):
    """
    Tests for L{connect}, over loopback.
    """

    def setUp(self) -> None:
        """
        Make an upstream.
        """
        self.reactor = SocketReactor()
        self.upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.upstream.close)
        self.upstream.bind(("127.0.0.1", 0))
        self.upstream.settimeout(5)
        self.where = self.upstream.getsockname()
        self.heard: list[bytes] = []

    def connect(self, *addresses: str) -> DatagramEnd:
        """
        Make an association.
        """
        end = connect(self.reactor, addresses or ("127.0.0.1",), self.where[1])
        self.addCleanup(self.reactor.advance, 0)
        self.addCleanup(end.finish)
        return end

    def hear(self, datagram: Any, count: int) -> None:
        """
        Hear something.
        """
        self.heard.append(bytes(datagram.view[:count]))

    def test_bothWays(self) -> None:
        """
        Datagrams go both ways, and those of others are not heard.
        """
        end = self.connect()
        self.assertEqual((end.who, end.peer().port), ("the upstream", self.where[1]))  # type: ignore[attr-defined]
        end.send(b"hello")
        data, address = self.upstream.recvfrom(100)
        self.assertEqual((data, address[1]), (b"hello", end.host().port))  # type: ignore[attr-defined]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"from another", address)
        self.upstream.sendto(b"", address)
        self.upstream.sendto(b"hello yourself", address)
        self.assertFalse(self.reactor.pump())  # It is held.
        end.join(self.hear)
        self.reactor.pump()
        self.assertEqual(self.heard, [b"", b"hello yourself"])

    def test_batch(self) -> None:
        """
        No more than some are taken in one turn.
        """
        end = self.connect()
        end.join(self.hear)
        for _ in range(BATCH + 5):
            self.upstream.sendto(b"x", ("127.0.0.1", end.host().port))  # type: ignore[attr-defined]
        self.reactor.turn()
        self.assertEqual(len(self.heard), BATCH)
        self.reactor.pump()
        self.assertEqual(len(self.heard), BATCH + 5)

    def test_unanswered(self) -> None:
        """
        That nobody is there is counted.
        """
        end = self.connect()
        end.join(self.hear)
        self.upstream.close()
        end.send(b"x")
        self.reactor.pump()
        self.assertEqual(end.dropped, {UNANSWERED: 1})

    def test_finish(self) -> None:
        """
        The socket is closed in a later turn, and nothing is heard any more.
        """
        end = self.connect()
        address = ("127.0.0.1", end.host().port)  # type: ignore[attr-defined]

        def once(datagram: Any, count: int) -> None:
            self.hear(datagram, count)
            end.finish()

        end.join(once)
        self.upstream.sendto(b"one", address)
        self.upstream.sendto(b"two", address)
        self.reactor.pump()
        self.assertEqual((self.heard, end.gone, self.reactor.getReaders()), ([b"one"], True, []))
        self.reactor.advance(0)
        self.assertEqual(end.peer().port, self.where[1])  # type: ignore[attr-defined]

    def test_bug(self) -> None:
        """
        A bug ends its association only.
        """
        end = self.connect()

        def wrong(datagram: Any, count: int) -> None:
            raise ZeroDivisionError()

        end.join(wrong)
        self.upstream.sendto(b"one", ("127.0.0.1", end.host().port))  # type: ignore[attr-defined]
        self.reactor.pump()
        self.assertTrue(end.gone)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_lost(self) -> None:
        """
        A reactor that stops ends it.
        """
        end = self.connect()
        end.join(self.hear)
        (wire,) = self.reactor.getReaders()
        self.assertEqual(wire.logPrefix(), "UDP")
        wire.connectionLost(None)
        self.assertTrue(end.gone)

    def test_nextAddress(self) -> None:
        """
        An address that there is no way to is passed over.
        """
        end = self.connect("255.255.255.255", "127.0.0.1")
        self.assertEqual(end.peer().host, "127.0.0.1")  # type: ignore[attr-defined]

    def test_noWay(self) -> None:
        """
        Where there is a way to none, that is told.
        """
        self.assertRaises(error.ConnectError, connect, self.reactor, ("255.255.255.255",), 9)
        self.assertRaises(error.ConnectError, connect, self.reactor, (), 9)
        self.assertRaises(error.ConnectError, connect, self.reactor, ("fe80::1%nothing",), 9)
