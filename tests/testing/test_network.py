# -*- test-case-name: tests.testing.test_network -*-
"""
L{tlsproxy.testing.network}
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.session import Session
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS
from tlsproxy.testing.network import Network
from tlsproxy.testing.streampeers import Browser, Origin
from tlsproxy.testing.upstreams import Upstream
from tlsproxy.wire.network import parseNetwork

UPSTREAM = "upstream.example:443"
PLAIN = Route(name="plain", listen="8443", pattern=Passthrough(upstream=UPSTREAM, requireTLS=False))


class NetworkTests(SynchronousTestCase):
    """
    Routes on a network.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.network = Network()
        self.addCleanup(self.network.close)

    def test_plain(self) -> None:
        """
        What a client says arrives at the upstream whose address the route dials.
        """
        upstream = self.network.upstream(UPSTREAM)
        self.network.serve(PLAIN)
        client = self.network.connect()
        client.write(b"hello")
        self.network.settle()
        self.assertEqual(b"hello", upstream.peer.take())
        self.assertEqual(["idle"], [session.phase for session in self.network.sessions])

    def test_tls(self) -> None:
        """
        Both sides may speak TLS, with all checks, in certificates that are made for the test.
        """
        tls = serverTLS(clients="required", alpn=("h2",))
        pattern = Bridge(tls=tls, upstream=UPSTREAM, upstreamTLS=clientTLS())
        self.network.serve(Route(name="shop", listen="8443", pattern=pattern))
        upstream = self.network.upstream(UPSTREAM, Origin, alpn=b"h2")
        client = self.network.connect(Browser, alpn=(b"h2",), identity=certificate("alice"))
        client.write(b"hello")
        self.network.settle(lambda: bool(upstream.peers) and upstream.peer.received == b"hello")
        stranger = self.network.connect(Browser)
        self.network.settle()
        self.assertEqual("failed", stranger.ended)
        (line,) = self.network.lines()
        self.assertIn("shop client=127.0.0.1:4321 sni=shop.example", line)
        self.assertIn("outcome=failed phase=handshake", line)

    def test_wrongName(self) -> None:
        """
        An upstream with a certificate for another name is not believed.
        """
        self.network.upstream(UPSTREAM, Origin, name="other.example")
        self.network.serve(Route(name="e", listen="8443", pattern=Encrypt(upstream=UPSTREAM, upstreamTLS=clientTLS())))
        self.network.connect()
        self.network.settle()
        (event,) = self.network.told()
        self.assertEqual(("failed", "upstream_handshake"), (event["outcome"], event["phase"]))

    def test_nobody(self) -> None:
        """
        A route whose upstream is not there tells what it would tell anywhere.
        """
        self.network.serve(PLAIN)
        client = self.network.connect()
        self.network.settle()
        self.assertTrue(self.network.aborted(client))
        self.assertIn("upstream.example:443 has a name that does not resolve", self.network.told()[0]["reason"])

    def test_time(self) -> None:
        """
        Time passes when it is told to, and no sooner.
        """
        upstream = self.network.upstream(UPSTREAM)
        upstream.answers = False
        self.network.serve(evolve(PLAIN, limits=Limits(dial=3)))
        self.network.connect()
        self.network.advance(2.9)
        self.assertEqual([], self.network.told())
        self.network.advance(0.5)
        self.assertEqual([("expired", "dial")], [(one["outcome"], one["phase"]) for one in self.network.told()])
        self.assertEqual(3.4, self.network.reactor.seconds())

    def test_addresses(self) -> None:
        """
        Clients are where the test has them, and rules heed that; a route that was served earlier is reached as well.
        """
        rules = (Rule(client=(parseNetwork("192.0.2.0/24"),), refuse="close"),)
        first = self.network.serve(evolve(PLAIN, rules=rules))
        self.network.serve(PLAIN)
        self.network.upstream(UPSTREAM)
        for address in (("192.0.2.7", 1), ("2001:db8::7", 2)):
            self.network.connect(to=first, address=address)
        self.network.connect(address=("192.0.2.7", 3))
        self.network.settle()
        self.assertEqual(["192.0.2.7:1"], [one["client"] for one in self.network.told()])
        self.assertEqual(2, len(self.network.sessions))

    def test_reset(self) -> None:
        """
        Either peer may reset, and it goes on as a reset.
        """
        upstream = self.network.upstream(UPSTREAM)
        self.network.serve(PLAIN)
        for which in (0, 1):
            client = self.network.connect()
            self.network.settle()
            peers = client, upstream.peers[-1]
            self.network.reset(peers[which])
            self.assertTrue(self.network.aborted(peers[1 - which]))
        self.assertEqual({("reset", "idle"): 2}, dict(self.network.factories[0].counters))

    def test_tcp(self) -> None:
        """
        It can do the same on TCP.
        """
        with Network(tcp=True) as network:
            upstream = network.upstream(UPSTREAM)
            network.serve(PLAIN)
            client = network.connect()
            network.settle(lambda: bool(upstream.peers))
            client.write(b"hello")
            network.settle(lambda: upstream.peer.received == b"hello")
            network.reset(client)
            network.settle(lambda: upstream.peer.ended == "reset")

    def test_log(self) -> None:
        """
        It keeps all that was logged, until it is closed.
        """
        Logger().info("something")
        self.assertEqual(["something"], [event["log_format"] for event in self.network.events])
        self.network.close()
        Logger().info("something else")
        self.assertEqual([], self.network.events)

    def test_forget(self) -> None:
        """
        What is over can be forgotten.
        """
        self.network.serve(PLAIN)
        self.network.connect()
        self.network.settle()
        self.assertEqual((1, 1), (self.network.counted(), len(self.network.lines())))
        self.network.forget()
        self.assertEqual((0, []), (self.network.counted(), self.network.lines()))

    def test_notSettled(self) -> None:
        """
        What does not come without time passing fails the test.
        """
        problem = self.assertRaises(AssertionError, self.network.settle, lambda: False)
        self.assertEqual("all is quiet, and what was to come has not come", str(problem))


@implementer(IPattern)
class Held:
    """
    A pattern that keeps what it should not.
    """

    mode = "held"

    def __init__(self, keep: str) -> None:
        self._keep = keep
        self.kept: list[Any] = []

    async def open(self, session: Session) -> Any:
        """
        Keep something.
        """
        if self._keep == "timer":
            session.keeper.reactor.callLater(100, int)
        elif self._keep == "session":
            session.stop = int  # type: ignore[assignment, method-assign]
        await Deferred()


class CloseTests(SynchronousTestCase):
    """
    The end of a network.
    """

    def setUp(self) -> None:
        """
        Make it, with an upstream.
        """
        self.network = Network()
        self.addCleanup(self.network.abandon)

    def test_open(self) -> None:
        """
        Sessions that are open are ended, and then nothing is left.
        """
        self.network.upstream(UPSTREAM)
        self.network.serve(PLAIN)
        client = self.network.connect()
        self.network.settle()
        self.network.close()
        self.assertTrue(client.ended)
        self.assertEqual(([], {}, []), (self.network.peers, self.network.connections, self.network.events))
        self.network.close()

    def test_lingering(self) -> None:
        """
        One that lingers is waited for.
        """
        self.network.serve(Route(name="o", listen="8443", pattern=Offload(tls=serverTLS(), upstream=UPSTREAM)))
        client = self.network.connect(Browser)
        client.reading = False
        self.network.settle()
        self.network.close()

    def test_left(self) -> None:
        """
        What is left fails the test.
        """
        self.network.serve(Route(name="held", listen="8443", pattern=Held("timer")))
        self.network.connect()
        problem = self.assertRaises(AssertionError, self.network.close)
        self.assertIn("timers are left: <DelayedCall", str(problem))

    def test_counted(self) -> None:
        """
        So does a session that was not counted, or has not told of its end.
        """
        factory = self.network.serve(PLAIN)
        factory.logged = False
        self.network.connect()
        self.network.settle()
        factory.logged = True
        problem = self.assertRaises(AssertionError, self.network.checkEnds)
        self.assertEqual("1 sessions have ended, and 0 have told of it", str(problem))
        factory.counters.clear()
        problem = self.assertRaises(AssertionError, self.network.checkEnds)
        self.assertEqual("1 clients have connected, and 0 sessions have ended", str(problem))

    def test_failed(self) -> None:
        """
        Where the test has failed its own problem is told, and no other.
        """

        def fail() -> None:
            with Network() as network:
                network.upstream(UPSTREAM)
                network.serve(PLAIN)
                network.connect()
                network.reactor.callLater(100, int)
                raise ZeroDivisionError

        before = len(globalLogPublisher._observers)
        self.assertRaises(ZeroDivisionError, fail)
        self.assertEqual(before, len(globalLogPublisher._observers))

    def test_endpoint(self) -> None:
        """
        An upstream without an address can be dialed as the endpoint that it is.
        """
        upstream = Upstream(self.network)
        self.network.serve(evolve(PLAIN, pattern=Passthrough(upstream=upstream, requireTLS=False)))
        self.network.connect()
        self.network.settle()
        self.assertEqual(1, upstream.dialed)
        self.network.close()
