# -*- test-case-name: tests.test_endpoints -*-
"""
L{tlsproxy.endpoints}: programs listen through routes.
"""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from attrs import frozen
from twisted.internet.error import (
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.test_service import Place, Port
from tests.test_service_drain import Notes
from tlsproxy.address import CannotListen
from tlsproxy.application import Application, ApplicationTransport
from tlsproxy.endpoints import RouteServerEndpoint
from tlsproxy.handler import OUTWARD, Flow, HandlerOptions, ProtocolHandler, Session, Way
from tlsproxy.loopback import PipedEnd, Told
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.testing.certificates import certificate, serverTLS
from tlsproxy.testing.sessions import Browser, SessionCase
from tlsproxy.testing.streampeers import Peer


class Shouting(Protocol):
    """
    The protocol of a program.

    @ivar lost: Why its connection was lost.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        self.received += data
        assert self.transport is not None
        self.transport.write(data.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Note it.
        """
        self.lost = reason


class Program(Factory[Shouting]):
    """
    The factory of a program.

    @ivar built: What it has built, and for whom.
    @ivar started: How often it was started and stopped.
    @ivar fails: What it raises instead.
    @ivar refuses: Whether it builds nothing.
    """

    noisy = False

    def __init__(self) -> None:
        self.built: list[Shouting] = []
        self.started = [0, 0]
        self.fails: Exception | None = None
        self.refuses = False

    def startFactory(self) -> None:
        """
        Note it.
        """
        self.started[0] += 1

    def stopFactory(self) -> None:
        """
        Note it.
        """
        self.started[1] += 1

    def buildProtocol(self, addr: Any) -> Shouting | None:
        """
        Build a protocol, or not.
        """
        if self.fails is not None:
            raise self.fails
        if self.refuses:
            return None
        self.built.append(Shouting())
        return self.built[-1]


class EndpointCase(SessionCase):
    """
    A test with a program, whose route is not one of the network's.
    """

    def _mine(self) -> list[object]:
        # The program's side of a session waits for no collector either.
        more = (Application, ApplicationTransport, PipedEnd, Told)
        return [*super()._mine(), *(one for one in gc.get_objects() if type(one) in more)]

    program: Program

    def visit(self, make: Any = Peer) -> Any:
        """
        Have a client connect.
        """
        end: Any = self.factory.buildProtocol(None)
        return self.attach(end, make, "tcp.Server")

    def told(self) -> list[LogEvent]:
        """
        What was logged of ends of sessions.
        """
        return [event for event in self.events if event["log_namespace"] == "tlsproxy.session"]

    def lines(self) -> list[str]:
        """
        As L{told}, as it is read.
        """
        return [formatEvent(event) for event in self.told()]

    def forget(self) -> None:
        """
        Forget all sessions so far.
        """
        self.events.clear()
        self.factory.counters.clear()

    def tearDown(self) -> None:
        """
        End what the test has left open.
        """
        if hasattr(self, "factory"):
            while self.factory.sessions:
                next(iter(self.factory.sessions)).stop()
            self.program.built.clear()
        super().tearDown()


@frozen(kw_only=True)
class Loud(HandlerOptions):
    """
    A handler that has the program hear exclamation marks.
    """

    def handler(self, session: Session, flow: Flow) -> ProtocolHandler:
        """
        Make it.
        """
        return Exclaiming(session, flow)


class Exclaiming(ProtocolHandler):
    """
    The handler of one session.
    """

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Exclaim.
        """
        return data.replace(b"?", b"!") if direction == OUTWARD else data


class ServerTests(EndpointCase):
    """
    A program listens.
    """

    def listen(self, *, clients: str = "", logged: bool = True, observers: Any = (), **more: Any) -> Any:
        """
        Have a program listen by a route.

        @return: The port.
        """
        self.program, self.place = Program(), Place(Port(8443))
        route = Route(name="shop", listen=self.place, pattern=Offload(tls=serverTLS(clients=clients)), **more)
        endpoint = RouteServerEndpoint(route, self.reactor, logged=logged, observers=observers)
        self.assertTrue(verifyObject(IStreamServerEndpoint, endpoint))
        port = self.successResultOf(endpoint.listen(self.program))
        self.factory = self.place.factory.factory
        return port

    def ask(self, client: Any) -> bytes:
        """
        Have a client ask the program.
        """
        client.write(b"who?")
        self.settle(lambda: client.received)
        return bytes(client.received)

    def test_protocol(self) -> None:
        """
        Once the client is let in, the program's protocol is connected with it, and knows it as if there were nothing
        between.
        """
        self.listen(clients="required")
        client = self.visit(partial(Browser, identity=certificate("Ann", "ann.example")))
        self.assertEqual([], self.program.built)
        self.assertEqual(b"WHO?", self.ask(client))
        self.assertEqual(["hello", "handshake", "route", "dial", "idle"], self.phases)
        (protocol,) = self.program.built
        transport: Any = protocol.transport
        (session,) = self.factory.sessions
        self.assertEqual((session.near.peer(), session.near.host()), (transport.getPeer(), transport.getHost()))
        self.assertEqual("Ann", transport.getPeerCertificate().get_subject().CN)
        client.end()
        self.settle()
        self.assertOver("closed", "half_closed")
        assert protocol.lost is not None
        self.assertEqual(("end", ConnectionDone), (client.ended, protocol.lost.type))
        self.assertIn("upstream=this-program ", self.lines()[0])

    def test_ends(self) -> None:
        """
        The program's end ends the client's TLS; a client that was cut off is no orderly end for the program.
        """
        self.listen()
        client = self.visit(Browser)
        self.ask(client)
        transport: Any = self.program.built[0].transport
        transport.loseConnection()
        self.settle(lambda: client.ended)
        self.assertEqual("end", client.ended)
        client.end()
        self.settle()
        self.forget()
        client = self.visit(Browser)
        self.ask(client)
        client.cut()
        self.settle()
        self.assertOver("truncated", "half_closed", "the client ended the stream without ending TLS")
        lost = self.program.built[1].lost
        assert lost is not None
        self.assertEqual((ConnectionLost, True), (lost.type, "without ending TLS" in str(lost.value)))

    def test_refused(self) -> None:
        """
        A client that a rule refuses, that authorize does not let in, or whose handshake fails never gets there.
        """
        self.listen(rules=(Rule(sni="evil.example", refuse="alert"),), authorize=lambda session: False)
        self.visit(partial(Browser, serverName="evil.example"))
        self.visit(Browser)
        self.visit().write(b"GET / HTTP/1.1\r\n\r\n")
        self.settle()
        outcomes = [event["outcome"] for event in self.told()]
        self.assertEqual((["refused"] * 3, []), (outcomes, self.program.built))

    def test_elsewhere(self) -> None:
        """
        A rule, or the hook of the route, sends some clients to another upstream; the rest gets to the program.
        """

        async def choose(session: Any) -> Any:
            return self.upstream if session.serverName == "new.example" else None

        self.listen(rules=(Rule(sni="old.example", upstream=self.upstream),), chooseUpstream=choose)
        for name in ("old.example", "new.example"):
            client = self.visit(partial(Browser, serverName=name))
            client.write(b"who?")
            self.settle(lambda: bool(self.upstream.peers) and self.upstream.peer.received == b"who?")
            self.upstream.peers.clear()
        self.assertEqual([], self.program.built)
        self.assertEqual(b"WHO?", self.ask(self.visit(Browser)))

    def test_handlers(self) -> None:
        """
        The handlers of the route stand between the client and the program.
        """
        self.listen(handlers=(Loud(),))
        self.assertEqual(b"WHO!", self.ask(self.visit(Browser)))

    def test_factory(self) -> None:
        """
        The program's factory is told that its port opens and closes.  A session goes on when the port is closed, and
        the last one leaves no timer behind.
        """
        port = self.listen()
        self.assertTrue(verifyObject(IListeningPort, port))
        self.assertEqual(self.place.answer.getHost(), port.getHost())
        port.startListening()
        client = self.visit(Browser)
        self.ask(client)
        door = self.place.factory
        self.assertEqual("Program", door.logPrefix())
        door.doStart()
        self.assertEqual([1, 0], self.program.started)
        self.successResultOf(port.stopListening())
        door.doStop()
        self.assertEqual(([1, 1], False), (self.program.started, self.place.answer.open))
        client.write(b" still")
        self.settle(lambda: client.received == b"WHO? STILL")
        self.assertNotEqual([], self.reactor.getDelayedCalls())
        client.end()
        self.settle()
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_noProtocol(self) -> None:
        """
        A program may take no connection; the client is told by a reset, and the log by a sentence.
        """
        self.listen()
        self.program.refuses = True
        self.visit(Browser)
        self.settle()
        self.assertOver("failed", "dial", "the application takes no connection")

    def test_fails(self) -> None:
        """
        A factory that fails ends that session alone, and its traceback is in the log.
        """
        self.listen()
        self.program.fails = RuntimeError("no disk")
        self.visit(Browser)
        self.settle()
        self.assertOver("failed", "dial", "the program itself failed; its traceback is in the log")
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.program.fails = None
        self.forget()
        self.assertEqual(b"WHO?", self.ask(self.visit(Browser)))

    def test_limits(self) -> None:
        """
        The deadlines of the route hold.
        """
        self.listen(limits=Limits(idle=5))
        client = self.visit(Browser)
        self.ask(client)
        self.after(6)
        self.assertOver("expired", "idle", "no byte moved within 5 s")
        lost = self.program.built[0].lost
        assert lost is not None
        self.assertEqual(str(ConnectionLost("no byte moved within 5 s")), str(lost.value))

    def test_stopped(self) -> None:
        """
        A program whose session is stopped is told so, and not that the client had reset its connection.
        """
        self.listen()
        client = self.visit(Browser)
        self.ask(client)
        self.one().stop()
        self.settle()
        lost = self.program.built[0].lost
        assert lost is not None
        self.assertEqual(str(ConnectionLost("the service stopped")), str(lost.value))

    def test_observers(self) -> None:
        """
        The observers given here see the sessions, and where nothing is to be logged, nothing is.
        """
        notes = Notes()
        self.listen(logged=False, observers=[notes])
        self.visit().end()
        self.settle()
        seen = notes.seen[1:]
        notes.seen.clear()
        self.assertEqual((["hello", "ended"], []), (seen, self.lines()))
        self.assertEqual([], [event for event in self.events if event["log_namespace"] == "tlsproxy.service"])

    def test_cannotListen(self) -> None:
        """
        If the address is taken, the Deferred fails with the sentence.
        """
        place = Place(OSError(98, "Address already in use"))
        endpoint = RouteServerEndpoint(Route(name="shop", listen=place, pattern=Offload(tls=serverTLS())), self.reactor)
        problem = self.failureResultOf(endpoint.listen(Program()), CannotListen)
        self.assertIn("Address already in use", str(problem.value))

    def test_wrongRoutes(self) -> None:
        """
        A route that has no place for a program is refused at once, with a sentence.
        """
        offload = Offload(tls=serverTLS())
        everybody = (Rule(upstream="127.0.0.1:1"),)
        for why, route in (
            ("of mode offload, and this one's is passthrough", Route(name="x", listen="1", pattern=Passthrough())),
            ("leave that out", Route(name="x", listen="1", pattern=Offload(tls=serverTLS(), upstream="127.0.0.1:1"))),
            ("say where to listen", Route(name="x", pattern=offload)),
            ("leave sendProxy out", Route(name="x", listen="1", pattern=offload, sendProxy="v2")),
            ("no client gets to the program", Route(name="x", listen="1", pattern=offload, rules=everybody)),
        ):
            problem = self.assertRaises(ValueError, RouteServerEndpoint, route, self.reactor)
            self.assertIn(why, str(problem))
