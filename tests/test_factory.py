# -*- test-case-name: tests.test_factory -*-
"""
L{tlsproxy.factory}
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, fields
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import LogLevel, formatEvent
from zope.interface import implementer

from tlsproxy.address import Endpoint
from tlsproxy.end import End
from tlsproxy.factory import RouteFactory
from tlsproxy.foreign import Foreign
from tlsproxy.interfaces import PHASES
from tlsproxy.keeper import Keeper
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.repeats import LINES, Repeats
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.service import ProxyService
from tlsproxy.testing.certificates import serverTLS
from tlsproxy.testing.sessions import SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer


@implementer(IStreamServerEndpoint)
class Unknown:
    """
    An endpoint of somebody's.
    """

    def listen(self, factory: Any) -> Any:
        """
        Not called.
        """


class RouteFactoryTests(SessionCase):
    """
    What makes a route listen.
    """

    def offload(self, **more: Any) -> RouteFactory:
        """
        Serve.
        """
        return self.serve(Offload(tls=serverTLS(), upstream=self.upstream), **more)

    def test_seconds(self) -> None:
        """
        Each phase has its limit, by its name.
        """
        factory = self.offload(halfClosed=7, upstreamHandshake=8)
        self.assertEqual(sorted(PHASES), sorted(factory.seconds))
        self.assertEqual((7, 8), (factory.seconds["half_closed"], factory.seconds["upstream_handshake"]))
        self.assertEqual(len(fields(Limits)), len(factory.seconds))

    def test_keeper(self) -> None:
        """
        It has all that its sessions need, and starts with nothing.
        """
        keeper: Keeper = self.offload()
        self.assertEqual((self.reactor, self.deadlines, ()), (keeper.reactor, keeper.deadlines, keeper.listeners))
        self.assertEqual((set(), {}, True), (self.factory.sessions, dict(self.factory.counters), self.factory.logged))
        self.assertFalse(self.factory.noisy)

    def test_session(self) -> None:
        """
        A connection becomes a session when it is made, and not before; a route has as many as come.
        """
        factory = self.offload()
        end: Any = factory.buildProtocol(None)
        self.assertEqual((End, "the client", set()), (type(end), end.who, factory.sessions))
        clients = [self.visit(), self.visit()]
        self.assertEqual(2, len(factory.sessions))
        for client in clients:
            client.close()
        self.settle()
        self.assertEqual((set(), {("ended", "hello"): 2}), (factory.sessions, dict(factory.counters)))

    def test_foreign(self) -> None:
        """
        Where nobody knows what connects, that is looked at when it does.
        """
        factory = self.offload()
        anything: Any = Unknown()
        proxied = evolve(factory.route, listen=Endpoint("haproxy:tcp:8443"))
        self.assertIs(
            End, type(RouteFactory(proxied, self.reactor, self.deadlines, factory.dialer).buildProtocol(None))
        )
        other = RouteFactory(evolve(factory.route, listen=anything), self.reactor, self.deadlines, factory.dialer)
        self.assertIsInstance(other.buildProtocol(None), Foreign)
        foreign: Any = other.buildProtocol(None)
        client = self.attach(foreign, Peer, "tcp.Server")
        self.assertEqual(End, type(next(iter(other.sessions)).near))
        client.close()
        self.settle()
        self.assertEqual({("ended", "hello"): 1}, dict(other.counters))

    def test_nowhere(self) -> None:
        """
        A route by which no client gets anywhere is refused before it listens; a rule or the program may say where to.
        """
        pattern = Offload(tls=serverTLS())
        problem = self.assertRaises(ValueError, self.serve, pattern)
        self.assertEqual(
            "route shop: its pattern has no upstream, and neither rules nor chooseUpstream say one", str(problem)
        )
        nowhere = Route(name="shop", pattern=pattern)
        self.assertRaises(ValueError, ProxyService, [nowhere], self.reactor)
        self.failureResultOf(ProxyService([], self.reactor).reload([nowhere]), ValueError)
        self.serve(pattern, rules=(Rule(upstream="127.0.0.1:1"),))
        self.serve(pattern, chooseUpstream=lambda session: None)

    def test_line(self) -> None:
        """
        The end of a session is one event, at C{info}, under the name that operators filter by.
        """
        self.offload()
        self.visit().end()
        self.settle()
        (event,) = self.told()
        self.assertEqual((LogLevel.info, "tlsproxy.session"), (event["log_level"], event["log_namespace"]))
        self.assertEqual(("shop", "ended", "hello"), (event["route"], event["outcome"], event["phase"]))

    def test_untold(self) -> None:
        """
        Where nothing is to be logged, it counts all the same.
        """
        self.offload(logged=False)
        self.visit().end()
        self.settle()
        self.assertEqual(([], {("ended", "hello"): 1}), (self.lines(), dict(self.factory.counters)))

    def test_flood(self) -> None:
        """
        Failures of one kind beyond a few are summed up; all of them are counted, and what came to carry bytes has its
        line all the same.
        """
        factory = self.offload()
        factory.repeats = Repeats(self.reactor, self.deadlines, factory._sumUp)
        for _ in range(LINES + 1234):
            self.visit().end()
            self.settle()
        self.assertEqual((LINES, {("ended", "hello"): LINES + 1234}), (len(self.told()), dict(factory.counters)))
        self.after(11)
        (event,) = [one for one in self.events if "repeated" in one]
        self.assertEqual(
            "shop the last failure repeated 1,234 times in 10 s, from 1 address: outcome=ended phase=hello "
            'reason="the client connected and ended the stream without a word"',
            formatEvent(event),
        )
        self.assertEqual((LogLevel.info, "tlsproxy.session"), (event["log_level"], event["log_namespace"]))
        self.assertEqual((1234, 1), (event["repeated"], event["addresses"]))
        self.network.forget()

    def test_successes(self) -> None:
        """
        However many sessions there are, those that came to carry bytes have a line each, however they ended.
        """
        factory = self.serve(Passthrough(upstream=self.upstream, requireTLS=False))
        factory.repeats = Repeats(self.reactor, self.deadlines, factory._sumUp)
        for number in range(LINES + 5):
            client = self.visit()
            self.settle()
            if number % 2:
                client.end()
            else:
                client.reset()
            self.upstream.peers[-1].end()
            self.settle()
        self.assertEqual(LINES + 5, len(self.told()))

    def test_routes(self) -> None:
        """
        Two routes count apart.
        """
        first = self.offload()
        self.visit().end()
        self.settle()
        self.upstream = Upstream(self)
        second = self.serve(Passthrough(upstream=self.upstream, requireTLS=False))
        client = self.visit()
        self.settle(lambda: self.upstream.dialed == 1)
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertEqual({("ended", "hello"): 1}, dict(first.counters))
        self.assertEqual({("closed", "half_closed"): 1}, dict(second.counters))
        self.assertEqual([1, 1], [len(self.connections[client].losses), len(second.counters)])
        self.assertIsNotNone(self.connections[client].losses[0].check(ConnectionDone))
