"""
Tests for L{tlsproxy.datagram.gathering}.
"""

from __future__ import annotations

from tests.datagram.wires import EndCase, MemoryWire, Result
from tlsproxy.datagram.gathering import GatheringEnd
from tlsproxy.errors import PeerEnded
from tlsproxy.tls.datagrams import DTLSConnection


class GatheringTests(EndCase):
    """
    Hellos of real clients, in one piece and in several.
    """

    def setUp(self) -> None:
        """
        Make a side.
        """
        super().setUp()
        self.wire = MemoryWire()
        self.end = GatheringEnd("the client", self.reactor, self.wire)

    def pieces(self, mtu: int) -> list[bytes]:
        """
        Make a hello of at least two fragments where C{mtu} is small.
        """
        client = self.client(alpn=tuple(f"protocol-{number:03}" for number in range(30)))
        connection = client.begin(DTLSConnection, mtu)
        try:
            connection.handshake()
        except Exception:
            pass
        return connection.output()

    def test_whole(self) -> None:
        """
        A hello that comes in one piece is there at once, and goes on as it came.
        """
        (datagram,) = self.pieces(1200)
        self.give(self.end, datagram)
        self.assertEqual(Result(self.end.peekHello()).value.serverName, "shop.example")
        self.assertTrue(self.end.unproven)
        self.assertEqual(self.heard(self.end), [datagram])

    def test_fragments(self) -> None:
        """
        One in fragments is waited for; what comes twice, or is no part of it, does not go on.
        """
        pieces = self.pieces(256)
        self.assertTrue(len(pieces) > 1)
        peeking = Result(self.end.peekHello())
        for datagram in (*reversed(pieces[1:]), b"junk", pieces[-1]):
            self.give(self.end, datagram)
        self.assertIdentical(peeking.value, None)
        self.give(self.end, pieces[0])
        self.assertEqual(peeking.value.serverName, "shop.example")
        heard = self.heard(self.end)
        self.assertTrue(set(heard) == set(pieces))
        self.give(self.end, b"more")
        self.assertEqual(heard[-1], b"more")

    def test_finished(self) -> None:
        """
        Who waits is told that the side is let go.
        """
        peeking = Result(self.end.peekHello())
        self.end.finish()
        self.assertIsInstance(peeking.problem, PeerEnded)
        self.assertEqual((self.end.gone, self.wire.closed), (True, [self.end]))

    def test_cancelled(self) -> None:
        """
        Waiting can be cancelled.
        """
        peeking = Result(self.end.peekHello())
        peeking.deferred.cancel()
        (datagram,) = self.pieces(1200)
        self.give(self.end, datagram)
        self.end.linger()
        self.assertTrue(self.end.gone)
