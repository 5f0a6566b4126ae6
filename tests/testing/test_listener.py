# -*- test-case-name: tests.testing.test_listener -*-
"""
L{tlsproxy.testing.listener}: a whole service on a network.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tlsproxy.address import CannotListen
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.service import ProxyService
from tlsproxy.testing.listener import Listener
from tlsproxy.testing.network import Network


class ServiceTests(SynchronousTestCase):
    """
    A service that listens on a network.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.network = Network()
        self.addCleanup(self.network.close)
        self.listener = Listener(port=8444)
        pattern = Passthrough(upstream="upstream.example:443", requireTLS=False)
        self.route = Route(name="shop", listen=self.listener, pattern=pattern)
        self.upstream = self.network.upstream("upstream.example:443")
        self.service = ProxyService([self.route], self.network.reactor, dialer=self.network.dialer)

    def test_up(self) -> None:
        """
        While the service runs, clients reach it, and it reaches the upstreams of the network.
        """
        self.service.startService()
        self.assertEqual([IPv4Address("TCP", "127.0.0.1", 8444)], [port.getHost() for port in self.service.ports])
        client = self.network.connect(to=self.listener)
        client.write(b"hello")
        self.network.settle()
        self.assertEqual(b"hello", self.upstream.peer.take())
        self.assertEqual((1, []), (len(self.service.sessions), self.network.sessions))
        self.successResultOf(self.service.stopService())
        self.network.settle()
        self.assertTrue(self.network.aborted(client))

    def test_down(self) -> None:
        """
        Before and after, nobody listens.
        """
        problem = self.assertRaises(AssertionError, self.network.connect, to=self.listener)
        self.assertEqual("nobody listens on 127.0.0.1:8444", str(problem))
        self.service.startService()
        self.successResultOf(self.service.stopService())
        self.assertRaises(AssertionError, self.network.connect, to=self.listener)

    def test_twice(self) -> None:
        """
        Two routes cannot listen at one place.
        """
        other = evolve(self.route, name="other")
        service = ProxyService([self.route, other], self.network.reactor, dialer=self.network.dialer)
        problem = self.assertRaises(CannotListen, service.startService)
        self.assertIn("somebody listens there", str(problem))

    def test_endpoint(self) -> None:
        """
        It is an endpoint of Twisted.
        """
        verifyObject(IStreamServerEndpoint, self.listener)
        self.successResultOf(self.listener.listen(self.service.factories[0]))
