"""
L{tlsproxy.service}: routes for datagrams come and go, over loopback.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.logger import formatEvent

from tests.datagram.sessions import LOOPBACK, DatagramSessionCase
from tlsproxy.address import UDP, CannotListen
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Route
from tlsproxy.service import ProxyService


class DatagramReloadTests(DatagramSessionCase):
    """
    The routes of a service are changed while associations are open.
    """

    def setUp(self) -> None:
        """
        Start a service with one route.
        """
        super().setUp()
        free = self.udp()
        free.bind((LOOPBACK, 0))
        self.number = free.getsockname()[1]
        free.close()
        self.service = ProxyService([self.route()], self.reactor)
        self.service.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """
        Stop it, and see that nothing is left.
        """
        self.service.stopService()
        self.reactor.pump()
        self.assertEqual(self.reactor.getReaders(), [])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind((LOOPBACK, self.number))

    def route(self, host: str = LOOPBACK, name: str = "shop") -> Route:
        """
        Make a route.
        """
        pattern = Offload(tls=self.server(), upstream=self.where)
        return Route(name=name, listen=UDP(host, self.number), pattern=pattern)

    def reload(self, *routes: Route) -> None:
        """
        Have the service serve others.
        """
        self.successResultOf(self.service.reload(routes))
        self.reactor.pump()

    def connect(self) -> socket.socket:
        """
        Make a client without DTLS.
        """
        client = self.udp()
        client.connect((LOOPBACK, self.number))
        return client

    def goesOn(self, client: Any, sock: socket.socket, names: set[str]) -> None:
        """
        See that an association carries, and who has sessions.
        """
        self.says(client, sock, b"still here")
        self.assertEqual(self.came(), [b"still here"])
        self.assertEqual({session.keeper.route.name for session in self.service.sessions}, names)

    def test_putBack(self) -> None:
        """
        A route that was removed can be put back at once, and what is left of its associations goes on.
        """
        sock = self.connect()
        old = self.shake(sock)
        self.reload()
        self.assertRaises(AssertionError, self.shake, self.connect())
        self.reload(self.route(name="blog"))
        other = self.connect()
        new = self.shake(other)
        self.goesOn(old, sock, {"shop", "blog"})
        self.goesOn(new, other, {"shop", "blog"})
        self.reload()

    def test_spelledOtherwise(self) -> None:
        """
        The same address in another spelling is the same.
        """
        sock = self.connect()
        old = self.shake(sock)
        self.reload(self.route("localhost"))
        self.shake(self.connect())
        self.goesOn(old, sock, {"shop"})
        self.assertEqual(len(self.service.sessions), 2)

    def test_inTheWay(self) -> None:
        """
        Where the old address has to make room for another one its associations are ended, and that is told.
        """
        for host in ("", LOOPBACK):
            sock = self.connect()
            self.shake(sock)
            self.reload(self.route(host))
            self.assertEqual(self.service.sessions, [])
            lines = [formatEvent(event) for event in self.events]
            self.assertIn(
                f"the port of an earlier route is in the way of {UDP(host, self.number)}, "
                "so its associations are ended: 1",
                lines,
            )
            self.assertIn("another route has to have the port", self.line())
        self.shake(self.connect())

    def test_again(self) -> None:
        """
        A service that is stopped can be started in the same moment.
        """
        self.shake(self.connect())
        self.service.stopService()
        self.service.startService()
        self.reactor.pump()
        self.shake(self.connect())
        self.assertEqual(len(self.service.sessions), 1)

    def test_undone(self) -> None:
        """
        Where the new routes cannot be had, the old one has its port as before.
        """
        sock = self.connect()
        old = self.shake(sock)
        bad = Route(name="bad", listen=UDP("192.0.2.1", 1), pattern=self.route().pattern)
        self.failureResultOf(self.service.reload([self.route("localhost"), bad]), CannotListen)
        self.reactor.pump()
        self.shake(self.connect())
        self.goesOn(old, sock, {"shop"})

    def test_others(self) -> None:
        """
        Somebody else's port is not to be had, and nobody loses anything by trying.
        """
        taken = self.udp()
        taken.bind((LOOPBACK, 0))
        sock = self.connect()
        old = self.shake(sock)
        self.reload()
        other = Route(name="x", listen=UDP(LOOPBACK, taken.getsockname()[1]), pattern=self.route().pattern)
        self.failureResultOf(self.service.reload([other]), CannotListen)
        self.goesOn(old, sock, {"shop"})
