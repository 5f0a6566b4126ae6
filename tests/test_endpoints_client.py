# -*- test-case-name: tests.test_endpoints_client -*-
"""
L{tlsproxy.endpoints}: programs connect through routes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionAborted, ConnectionDone, NoProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface.verify import verifyObject

from tests.test_endpoints import EndpointCase, Loud, Program
from tests.test_service_drain import Notes
from tlsproxy.endpoints import CannotConnect, RouteClientEndpoint
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Limits, Route
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Origin, Upstream
from tlsproxy.testing.streampeers import Peer


class ClientTests(EndpointCase):
    """
    A program connects.
    """

    def connect(self, make: Any = Origin, *, answers: bool = True, logged: bool = True, **more: Any) -> Deferred[Any]:
        """
        Have a program connect by a route.
        """
        self.program = Program()
        self.upstream = Upstream(self, make, answers)
        observers = more.pop("observers", ())
        more.setdefault("pattern", Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()))
        endpoint = RouteClientEndpoint(Route(name="out", **more), self.reactor, logged=logged, observers=observers)
        self.assertTrue(verifyObject(IStreamClientEndpoint, endpoint))
        self.factory = endpoint._factory
        return endpoint.connect(self.program)

    def test_protocol(self) -> None:
        """
        It fires with the program's protocol when the upstream's TLS stands, and not before; the protocol knows the
        upstream as if there were nothing between.
        """
        connecting = self.connect(answers=False)
        self.assertNoResult(connecting)
        self.assertEqual([1, 0], self.program.started)
        self.upstream.answer()
        self.assertNoResult(connecting)
        self.settle(lambda: self.upstream.peer.ready)
        protocol: Any = self.successResultOf(connecting)
        self.assertEqual((self.program.built, ["dial", "upstream_handshake", "idle"]), ([protocol], self.phases))
        (session,) = self.factory.sessions
        assert session.far is not None
        self.assertEqual(session.far.peer(), protocol.transport.getPeer())
        self.assertEqual("upstream", protocol.transport.getPeerCertificate().get_subject().CN)
        self.upstream.peer.write(b"hello")
        self.settle(lambda: self.upstream.peer.received == b"HELLO")
        protocol.transport.loseConnection()
        self.settle(lambda: self.upstream.peer.told)
        self.upstream.peer.end()
        self.settle()
        self.assertOver("closed", "half_closed")
        self.assertEqual(("end", ConnectionDone), (self.upstream.peer.ended, protocol.lost.type))
        self.assertEqual([1, 1], self.program.started)

    def test_firstWords(self) -> None:
        """
        What the upstream says in the very moment in which it is connected is not lost, nor is its end.
        """
        connecting = self.connect()
        self.upstream.peer.write(b"hello")
        self.upstream.peer.end()
        self.settle()
        protocol: Any = self.successResultOf(connecting)
        self.assertEqual((b"hello", ConnectionDone), (protocol.received, protocol.lost.type))

    def test_aborted(self) -> None:
        """
        A program that aborts resets the session, and the log says who did.
        """
        connecting = self.connect()
        self.settle()
        protocol: Any = self.successResultOf(connecting)
        protocol.transport.abortConnection()
        self.settle()
        self.assertOver("reset", "idle", "the program reset the connection")
        self.assertEqual(ConnectionAborted, protocol.lost.type)

    def test_wrongName(self) -> None:
        """
        An upstream that cannot show who it is is never connected with, and the error says what the log says.
        """
        connecting = self.connect(partial(Origin, name="evil.example"))
        self.settle()
        problem: Any = self.failureResultOf(connecting, CannotConnect).value
        self.assertIsInstance(problem, ConnectError)
        (event,) = self.told()
        self.assertEqual(("failed", "upstream_handshake"), (problem.outcome, problem.phase))
        self.assertEqual(event["reason"], str(problem))
        self.assertIn("upstream.example", str(problem))
        self.assertEqual(([], [1, 1]), (self.program.built, self.program.started))

    def test_late(self) -> None:
        """
        The deadlines of the route hold.
        """
        connecting = self.connect(answers=False, limits=Limits(dial=3))
        self.after(4)
        problem: Any = self.failureResultOf(connecting, CannotConnect).value
        self.assertEqual(("expired", "dial"), (problem.outcome, problem.phase))
        self.assertEqual(1, self.upstream.cancelled)

    def test_cancel(self) -> None:
        """
        To cancel cuts the session.
        """
        connecting = self.connect(answers=False)
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)
        self.settle()
        self.assertOver("stopped", "dial", "the program gave the connection up")
        self.assertEqual((1, []), (self.upstream.cancelled, self.program.built))

    def test_cancelsInside(self) -> None:
        """
        A program may give up in its own C{buildProtocol} or C{connectionMade}, whatever it does then: the Deferred
        fails with that once, the session ends, and nothing else is told.
        """
        for where in ("buildProtocol", "returns None", "raises", "connectionMade"):
            connecting = self.connect()
            builds = self.program.buildProtocol

            def build(addr: Any, where: str = where, builds: Any = builds, connecting: Any = connecting) -> Any:
                protocol = builds(addr)
                if where == "connectionMade":
                    protocol.connectionMade = connecting.cancel
                    return protocol
                connecting.cancel()
                if where == "raises":
                    raise RuntimeError("and it falls over")
                return protocol if where == "buildProtocol" else None

            self.program.buildProtocol = build  # type: ignore[method-assign]
            self.settle()
            self.failureResultOf(connecting, ConnectingCancelledError)
            self.assertOver("stopped", "idle", "the program gave the connection up")
            (protocol,) = self.program.built
            self.assertEqual(where == "connectionMade", protocol.lost is not None, where)
            self.assertEqual(1 if where == "raises" else 0, len(self.flushLoggedErrors()), where)
            self.assertEqual([1, 1], self.program.started)
            del self.program.buildProtocol, protocol
            self.forget()

    def test_cancelsBefore(self) -> None:
        """
        A program that has given up is not asked for a protocol any more.
        """

        class GivesUp(Notes):
            def started(self, session: object) -> None:
                pass

            def entered(self, session: object, phase: str) -> None:
                if phase == "idle":
                    connecting.cancel()

        asked: Deferred[None] = Deferred()

        async def authorize(session: Any) -> bool:
            await asked
            connecting.cancel()
            return True

        straight = Passthrough(upstream=Upstream(self, Peer), requireTLS=False)
        every: list[dict[str, Any]] = [{"observers": [GivesUp()]}, {"authorize": authorize, "pattern": straight}]
        for more in every:
            connecting = self.connect(**more)
            if "authorize" in more:
                asked.callback(None)
            self.settle()
            self.failureResultOf(connecting, ConnectingCancelledError)
            self.assertEqual(([], [1, 1]), (self.program.built, self.program.started))
            self.assertEqual(set(), self.factory.sessions)
            self.assertEqual([], self.flushLoggedErrors())

    def test_noProtocol(self) -> None:
        """
        A program may have changed its mind; the session ends.
        """
        connecting = self.connect()
        self.program.refuses = True
        self.settle()
        self.failureResultOf(connecting, NoProtocol)
        self.assertOver("failed", "idle", "the program itself failed")

    def test_fails(self) -> None:
        """
        What the program's factory raises is what the Deferred fails with; the session ends.
        """
        connecting = self.connect()
        self.program.fails = RuntimeError("no disk")
        self.settle()
        self.failureResultOf(connecting, RuntimeError)
        self.program.fails = None
        self.assertOver("failed", "idle", "the program itself failed")

    def test_refused(self) -> None:
        """
        The rules and the hooks of the route hold.
        """
        connecting = self.connect(authorize=lambda session: False)
        self.settle()
        problem: Any = self.failureResultOf(connecting, CannotConnect).value
        self.assertEqual(("refused", "route"), (problem.outcome, problem.phase))

    def test_handlers(self) -> None:
        """
        The handlers of the route stand between the program and its upstream.
        """
        connecting = self.connect(handlers=(Loud(),))
        self.settle()
        protocol: Any = self.successResultOf(connecting)
        protocol.transport.write(b"who?")
        self.settle(lambda: self.upstream.peer.received == b"who!")

    def test_passthrough(self) -> None:
        """
        A route that passes bytes on as they are has the program speak with its upstream in plain.
        """
        upstream = Upstream(self, Peer)
        connecting = self.connect(pattern=Passthrough(upstream=upstream, requireTLS=False))
        self.settle()
        protocol: Any = self.successResultOf(connecting)
        self.assertFalse(hasattr(protocol.transport, "TLS") and protocol.transport.TLS)
        upstream.peer.write(b"hello")
        self.settle(lambda: upstream.peer.received == b"HELLO")

    def test_observers(self) -> None:
        """
        The observers given here see the session, and where nothing is to be logged, nothing is.
        """
        notes = Notes()
        self.connect(answers=False, logged=False, observers=[notes]).addErrback(lambda _: None).cancel()
        self.settle()
        seen = notes.seen[1:]
        notes.seen.clear()
        self.assertEqual((["dial", "stopped"], []), (seen, self.lines()))

    def test_wrongRoutes(self) -> None:
        """
        A route that has no place for a program is refused at once, with a sentence.
        """
        bridge = Bridge(tls=serverTLS(), upstream="127.0.0.1:1", upstreamTLS=clientTLS())
        for why, pattern in (
            ("have it demand no TLS", Passthrough(upstream="127.0.0.1:1")),
            ("of mode encrypt or passthrough, and this one's is bridge", bridge),
        ):
            problem = self.assertRaises(ValueError, RouteClientEndpoint, Route(name="x", pattern=pattern), self.reactor)
            self.assertIn(why, str(problem))
