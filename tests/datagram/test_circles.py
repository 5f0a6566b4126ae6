"""
Tests for L{tlsproxy.datagram.circles}, and of a route that leads to itself, over loopback.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.datagram.sessions import LOOPBACK, DatagramSessionCase
from tests.datagram.wires import HERE, MemoryWire
from tlsproxy.address import UDP
from tlsproxy.datagram.circles import Circles
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.route import Route
from tlsproxy.service import ProxyService


class CirclesTests(SynchronousTestCase):
    """
    Tests for L{Circles}.
    """

    def test_behind(self) -> None:
        """
        An upstream's side is known by its address, in whichever family that is written, until it is over.
        """
        circles = Circles()
        end = DatagramEnd("the upstream", None, MemoryWire())
        circles.dialed(end, ("shop", "blog"))
        ours = IPv4Address("UDP", *HERE)
        for one in (ours, IPv6Address("UDP", f"::ffff:{HERE[0]}", HERE[1])):
            self.assertEqual(circles.behind(one), ("shop", "blog"))
        for other in (IPv4Address("UDP", HERE[0], 1), IPv6Address("UDP", "fe80::1%lo", 1), UNIXAddress(b"/x")):
            self.assertEqual(circles.behind(other), ())
        end.gone = True
        self.assertEqual(circles.behind(ours), ())


class CircleTests(DatagramSessionCase):
    """
    Routes of one service, one of which is dialed by another.
    """

    def start(self, *names: str) -> list[int]:
        """
        Start routes each of which has the next as its upstream, and the last the first.
        """
        socks = [self.udp() for _ in names]
        for sock in socks:
            sock.bind((LOOPBACK, 0))
        ports = [sock.getsockname()[1] for sock in socks]
        for sock in socks:
            sock.close()
        routes = [
            Route(name=name, listen=UDP(LOOPBACK, port), pattern=self.pattern(UDP(LOOPBACK, upstream)))
            for name, port, upstream in zip(names, ports, [*ports[1:], ports[0]], strict=True)
        ]
        self.service = ProxyService(routes, self.reactor, observers=[self.tally])
        self.service.startService()
        self.addCleanup(self.stop)
        return ports

    def stop(self) -> None:
        """
        Stop them.
        """
        self.service.stopService()
        self.reactor.pump()

    def pattern(self, upstream: UDP) -> Any:
        """
        Make a pattern.
        """
        return Encrypt(upstream=upstream, upstreamTLS=self.client())

    def test_circle(self) -> None:
        """
        One datagram makes no more sessions than there are routes, and the log tells why.
        """
        for names in (("shop",), ("shop", "blog", "news")):
            (first, *_) = self.start(*names)
            sock = self.udp()
            sock.sendto(b"hello", (LOOPBACK, first))
            self.reactor.pump()
            self.assertEqual(len(self.service.sessions), len(names))
            self.assertIn("leads back to this route: it goes in a circle", self.line())
            self.service.stopService()
            self.reactor.pump()
