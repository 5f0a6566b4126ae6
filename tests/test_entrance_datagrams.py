"""
Tests for L{tlsproxy.entrance} where it listens for datagrams.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from tests.datagram.sessions import LOOPBACK, DatagramSessionCase
from tlsproxy.address import UDP, CannotListen
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.datagram.sharing import Terms
from tlsproxy.deadlines import Deadlines
from tlsproxy.entrance import Entrance, listenerOf, tellListening
from tlsproxy.errors import DialFailed
from tlsproxy.factory import RouteFactory
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Route


class EntranceTests(DatagramSessionCase):
    """
    What listens for datagrams, and what is dialed.
    """

    def test_reload(self) -> None:
        """
        A port goes by the route that has it now.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where))
        assert isinstance(self.port, DatagramPort)
        self.assertEqual(self.port.terms, Terms())
        route = Route(
            name="shop",
            listen=UDP(LOOPBACK, 0),
            pattern=Encrypt(upstream=self.where, upstreamTLS=self.client()),
            mtu=700,
            maxConnections=9,
        )
        before = self.factory
        self.factory = RouteFactory(route, self.reactor, before.deadlines, self.dialer)
        self.entrance.factory = self.factory
        self.assertEqual(self.port.terms, Terms(dtls=False, mtu=700, most=9))
        self.connect().send(b"in clear")
        self.reactor.pump()
        self.assertEqual(len(self.factory.sessions), 1)
        self.assertEqual((self.factory.cost, self.entrance.overlaps(self.entrance)), (1, False))

    def test_taken(self) -> None:
        """
        An address that is taken is told of.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where))
        taken = UDP(LOOPBACK, self.port.getHost().port)  # type: ignore[attr-defined]
        route = Route(name="other", listen=taken, pattern=self.factory.route.pattern)
        entrance = Entrance(RouteFactory(route, self.reactor, Deadlines(self.reactor), self.dialer))
        self.assertTrue(self.entrance.overlaps(entrance))
        problem = self.failureResultOf(Deferred.fromCoroutine(entrance.open(self.reactor)), CannotListen).value
        self.assertEqual(str(problem), f"cannot listen on {taken}: Address already in use")

    def test_noWay(self) -> None:
        """
        Where there is no way to an upstream, that is told.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where))
        dialing = Deferred.fromCoroutine(self.dialer.dialDatagrams(UDP("255.255.255.255", 9), 1200))
        problem = self.failureResultOf(dialing, DialFailed).value
        self.assertTrue(str(problem).startswith("the upstream udp:255.255.255.255:9 cannot be reached"), str(problem))

    def test_maxConnections(self) -> None:
        """
        One client too many has to wait for another's end.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where), maxConnections=1)
        sock = self.connect()
        self.shake(sock)
        other = self.connect()
        self.assertRaises(AssertionError, self.shake, other)
        self.assertEqual(len(self.factory.sessions), 1)

    def test_told(self) -> None:
        """
        It is told that datagrams are listened for.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where))
        tellListening(self.factory.route, self.entrance.ports)
        port = self.port.getHost().port  # type: ignore[attr-defined]
        self.assertEqual(formatEvent(self.events[-1]), f"shop (offload) listens on udp:127.0.0.1:{port}")
        # Nobody is refused for opening a stream to the same number.
        self.assertIdentical(listenerOf(self.port), None)
