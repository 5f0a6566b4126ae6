# -*- test-case-name: tests.status -*-
"""
A proxy whose state is told, on a network in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.service import ProxyService
from tlsproxy.status.process import Lag
from tlsproxy.status.state import State
from tlsproxy.status.tally import RouteTally, Tally
from tlsproxy.testing.certificates import serverTLS
from tlsproxy.testing.listener import Listener
from tlsproxy.testing.network import Network
from tlsproxy.testing.streampeers import Browser, Peer


class WatchedCase(SynchronousTestCase):
    """
    A test of a proxy that is watched.

    @ivar network: What it runs on.
    @ivar tally: What counts its sessions.
    @ivar service: The service of its routes: C{shop} has TLS, and C{mail} has not.
    @ivar state: Its state.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.network = Network()
        self.addCleanup(self.network.close)
        self.upstream = self.network.upstream("upstream.example:80")
        self.tally = Tally()
        self.listeners = {"shop": Listener(port=8443), "mail": Listener(port=8025)}
        self.start([self.shop(), self.mail()])

    def start(self, routes: list[Route], **more: Any) -> None:
        """
        Start a service.
        """
        self.service = ProxyService(
            routes, self.network.reactor, dialer=self.network.dialer, observers=(self.tally,), **more
        )
        self.service.startService()
        self.addCleanup(lambda: self.successResultOf(self.service.stopService()))
        clock = self.network.reactor
        self.state = State(self.service, self.tally, Lag(clock), clock)

    def shop(self, **more: Any) -> Route:
        """
        A route with TLS.
        """
        pattern = Offload(tls=serverTLS(alpn=("http/1.1",)), upstream="upstream.example:80")
        return Route(name="shop", listen=self.listeners["shop"], pattern=pattern, **more)

    def mail(self, **more: Any) -> Route:
        """
        A route without.
        """
        pattern = Passthrough(upstream="upstream.example:80", requireTLS=False)
        return Route(name="mail", listen=self.listeners["mail"], pattern=pattern, **more)

    def visit(self, name: str, make: Callable[..., Peer] = Peer, **how: Any) -> Any:
        """
        Have a client come by a route.
        """
        client = self.network.connect(partial(make, **how), to=self.listeners[name], address=("203.0.113.77", 4321))
        self.network.settle()
        return client

    def browse(self, **how: Any) -> Any:
        """
        Have a client with TLS come.
        """
        return self.visit("shop", Browser, **how)

    def talk(self, client: Any, question: bytes, answer: bytes) -> None:
        """
        Have a client and the upstream say something.
        """
        client.write(question)
        self.network.settle()
        self.upstream.peers[-1].write(answer)
        self.network.settle()

    def leave(self, client: Any) -> None:
        """
        Have a client and the upstream end.
        """
        client.end()
        self.upstream.peers[-1].end()
        self.network.settle()

    def of(self, name: str) -> RouteTally:
        """
        What was counted for a route.
        """
        return self.tally.routes[name]
