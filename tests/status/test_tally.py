# -*- test-case-name: tests.status.test_tally -*-
"""
L{tlsproxy.status.tally}
"""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from tests.status.watching import WatchedCase
from tlsproxy.interfaces import FAR, NEAR, ISessionObserver
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.status.tally import CHOSEN, MANY, OTHERS, TARGETS, Dials, Handshakes, RouteTally, Tally
from tlsproxy.targets import Targets, parseTarget
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.streampeers import Origin, Peer


class TallyTests(WatchedCase):
    """
    What is counted.
    """

    def test_interface(self) -> None:
        """
        It is an observer of sessions.
        """
        verifyObject(ISessionObserver, Tally())

    def test_whole(self) -> None:
        """
        A session counts when it begins and when it ends, with its bytes, its handshake and its dial.
        """
        client = self.browse()
        self.assertEqual((1, {}), (self.of("shop").started, dict(self.of("shop").ended)))
        self.talk(client, b"question", b"the answer")
        self.assertEqual((0, 0), (self.of("shop").received, self.of("shop").sent))
        self.leave(client)
        told = self.of("shop")
        self.assertEqual((1, {("closed", "half_closed"): 1}), (told.started, dict(told.ended)))
        self.assertEqual((8, 10), (told.received, told.sent))
        near = told.handshakes[NEAR]
        self.assertEqual((1, 0, {"TLSv1.3": 1}, {}), (near.full, near.resumed, dict(near.versions), dict(near.failed)))
        self.assertEqual(1, near.groups.total())
        self.assertEqual(Handshakes(), told.handshakes[FAR])
        self.assertEqual({"upstream.example:80": Dials(1, 0)}, told.dials)
        self.assertEqual({}, self.tally._at)

    def test_routes(self) -> None:
        """
        Routes count apart.
        """
        self.leave(self.browse())
        for _ in range(2):
            self.leave(self.visit("mail"))
        self.assertEqual((1, 2), (self.of("shop").started, self.of("mail").started))

    def test_versions(self) -> None:
        """
        Each version of TLS counts apart.
        """
        self.leave(self.browse(version="TLSv1.2"))
        self.leave(self.browse())
        self.assertEqual({"TLSv1.2": 1, "TLSv1.3": 1}, dict(self.of("shop").handshakes[NEAR].versions))

    def test_failed(self) -> None:
        """
        A handshake that fails counts by its alert, and by what became of the session where there was none.
        """
        self.browse(alpn=(b"h2",))
        near = self.of("shop").handshakes[NEAR]
        self.assertEqual({"sent no_application_protocol": 1}, dict(near.failed))
        self.assertEqual((0, {("refused", "handshake"): 1}), (near.full, dict(self.of("shop").ended)))
        self.assertEqual({}, self.of("shop").dials)

    def test_neverBegun(self) -> None:
        """
        A client that sends no hello is no failed handshake.
        """
        client = self.visit("shop")
        client.close()
        self.network.settle()
        told = self.of("shop")
        self.assertEqual(({("ended", "hello"): 1}, Handshakes()), (dict(told.ended), told.handshakes[NEAR]))

    def test_unreached(self) -> None:
        """
        An upstream that is not reached counts as such.
        """
        pattern = Passthrough(upstream="192.0.2.1:1", requireTLS=False)
        route = Route(name="mail", listen=self.listeners["mail"], pattern=pattern)
        self.successResultOf(self.service.reload([route]))
        self.visit("mail")
        told = self.of("mail")
        self.assertEqual({"192.0.2.1:1": Dials(0, 1)}, told.dials)
        self.assertEqual(1, told.ended.total())

    def test_upstreamHandshake(self) -> None:
        """
        The handshake with an upstream counts apart, whether it fails or not.
        """
        self.network.upstream("good.example:443", Origin)
        for name, tls in (("good", clientTLS("good.example", auth="none")), ("bad", clientTLS("bad.example"))):
            pattern = Bridge(tls=serverTLS(), upstream="good.example:443", upstreamTLS=tls)
            route = Route(name=name, listen=self.listeners["shop"], pattern=pattern)
            self.successResultOf(self.service.reload([route]))
            client = self.browse()
            client.close()
            self.network.settle()
        self.assertEqual((1, 1), (self.of("good").handshakes[FAR].full, self.of("good").handshakes[NEAR].full))
        far = self.of("bad").handshakes[FAR]
        self.assertEqual((0, 1, 1), (far.full, far.failed.total(), self.of("bad").handshakes[NEAR].full))
        self.assertTrue(next(iter(far.failed)).startswith("sent "), far.failed)

    def test_sums(self) -> None:
        """
        Whatever sessions come to, those that began are those that are over and those that are open.
        """
        clients: list[Peer] = []
        for turn in range(12):
            clients.append(self.browse() if turn % 3 else self.visit("mail"))
            if turn % 4 == 0:
                self.browse(alpn=(b"h2",))
            if turn % 5 == 0:
                clients[turn // 2].close()
            self.network.settle()
            for factory in self.service.factories:
                told = self.of(factory.route.name) if factory.route.name in self.tally.routes else RouteTally()
                self.assertEqual(told.started, told.ended.total() + len(factory.sessions))
                self.assertEqual(factory.counters, told.ended)
        self.assertEqual(15, sum(one.started for one in self.tally.routes.values()))

    def test_chosenByClients(self) -> None:
        """
        What a client asks for never becomes a name to count by.
        """
        targets = Targets(allow=(parseTarget("*.example:80", True),), deny=())
        route = Route(name="tunnels", listen=self.listeners["mail"], pattern=Connect(targets=targets))
        self.successResultOf(self.service.reload([route]))
        for host in ("upstream.example", "nowhere.example"):
            client = self.visit("mail")
            client.write(f"CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n".encode())
            self.network.settle()
            client.close()
            self.network.settle()
        self.assertEqual({TARGETS: Dials(1, 1)}, self.of("tunnels").dials)

    def test_chosenByTheProgram(self) -> None:
        """
        Nor does what a program chooses, perhaps by what a client said.
        """
        route = self.mail(chooseUpstream=lambda session: "upstream.example:80")
        self.successResultOf(self.service.reload([route]))
        self.leave(self.visit("mail"))
        self.assertEqual({CHOSEN: Dials(1, 0)}, self.of("mail").dials)

    def test_many(self) -> None:
        """
        Of many upstreams only some are told apart.
        """

        class Session:
            route: Any = self.mail()
            upstream: Any = None

        tally = RouteTally()
        for number in range(MANY * 2):
            session: Any = Session()
            session.upstream = f"192.0.2.1:{number}"
            tally.dialsOf(session).reached += 1
        self.assertEqual((MANY + 1, MANY), (len(tally.dials), tally.dials[OTHERS].reached))
