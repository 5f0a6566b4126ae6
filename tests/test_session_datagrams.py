"""
Tests for L{tlsproxy.session} and what is around it, where both sides are datagrams, over loopback.
"""

from __future__ import annotations

import socket
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher

from tests.tls.terrible import DatagramCase
from tlsproxy.address import UDP, CannotListen
from tlsproxy.datagram.port import DatagramPort, Terms
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.entrance import Entrance
from tlsproxy.errors import DialFailed
from tlsproxy.factory import RouteFactory
from tlsproxy.handler import HandlerOptions, ProtocolHandler
from tlsproxy.interfaces import INWARD, OUTWARD
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Limits, Route
from tlsproxy.rules import Rule
from tlsproxy.status.tally import Tally
from tlsproxy.testing.socketreactor import SocketReactor
from tlsproxy.tls.datagrams import DTLSConnection

LOOPBACK = "127.0.0.1"


class Shouting(ProtocolHandler):
    """
    Makes what the client says loud; keeps what begins with a dot, and lets it go when asked.
    """

    def __init__(self, flow: Any) -> None:
        self.flow = flow
        self.kept: list[bytes] = []
        self.outcome = ""

    def received(self, direction: str, data: bytes) -> bytes | None:
        """
        See L{ProtocolHandler}.
        """
        if direction == INWARD:
            self.flow.done(INWARD)
            return data
        if data.startswith(b"."):
            self.kept.append(data)
            return None
        if data == b"go":
            for one in self.kept:
                self.flow.release(OUTWARD, one)
        if data == b"pause":
            self.flow.pause(OUTWARD)
        if data == b"refuse":
            self.flow.refuse("it says so", b"no")
            return None
        if data == b"bug":
            raise ZeroDivisionError()
        return b"" if data == b"nothing" else data.upper()

    def closed(self, outcome: str) -> None:
        """
        See L{ProtocolHandler}.
        """
        self.outcome = outcome


@frozen
class Shouts(HandlerOptions):
    """
    Its options.
    """

    made: Any = None

    @property
    def datagrams(self) -> bool:
        """
        It takes datagrams.
        """
        return True

    def handler(self, session: Any, flow: Any) -> Shouting:
        """
        Make it.
        """
        self.made.append(Shouting(flow))
        made: Shouting = self.made[-1]
        return made


class SessionTests(DatagramCase):
    """
    Clients, a route, and an upstream.
    """

    def setUp(self) -> None:
        """
        Make an upstream, and listen to the log.
        """
        super().setUp()
        self.reactor = SocketReactor()
        self.clock.also = self.reactor.seconds
        self.upstream = self.udp()
        self.upstream.bind((LOOPBACK, 0))
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.tally = Tally()

    def udp(self) -> socket.socket:
        """
        Make a socket.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(sock.close)
        return sock

    @property
    def where(self) -> UDP:
        """
        Where the upstream is.
        """
        return UDP(LOOPBACK, self.upstream.getsockname()[1])

    def serve(self, pattern: Any, **more: Any) -> None:
        """
        Have a route listen.
        """
        route = Route(name="shop", listen=UDP(LOOPBACK, 0), pattern=pattern, **more)
        self.dialer = Dialer(self.reactor)
        self.factory = RouteFactory(route, self.reactor, Deadlines(self.reactor), self.dialer, observers=[self.tally])
        self.entrance = Entrance(self.factory)
        self.successResultOf(Deferred.fromCoroutine(self.entrance.open(self.reactor)))
        (self.port,) = self.entrance.ports
        self.addCleanup(self.finish)

    def finish(self) -> None:
        """
        End all of it.
        """
        self.entrance.close()
        for session in list(self.factory.sessions):
            session.stop()
        self.reactor.advance(1)
        self.reactor.pump()
        self.assertEqual((self.reactor.getReaders(), self.factory.sessions), ([], set()))

    def connect(self) -> socket.socket:
        """
        Make a client without DTLS.
        """
        client = self.udp()
        client.connect((LOOPBACK, self.port.getHost().port))  # type: ignore[attr-defined]
        return client

    def shake(self, sock: socket.socket, **policy: Any) -> DTLSConnection:
        """
        Go through a client's handshake.
        """
        connection = self.client(**policy).begin(DTLSConnection, 1200)
        for _ in range(10):
            try:
                connection.handshake()
            except SSL.WantReadError:
                pass
            else:
                self.flush(connection, sock)
                return connection
            self.flush(connection, sock)
            self.reactor.pump()
            self.hear(connection, sock)
        raise AssertionError("the handshake does not come to an end")

    def flush(self, connection: DTLSConnection, sock: socket.socket) -> None:
        """
        Send what is to be sent.
        """
        for datagram in connection.output():
            sock.send(datagram)

    def hear(self, connection: DTLSConnection, sock: socket.socket) -> None:
        """
        Take what came.
        """
        while True:
            try:
                connection.receive(sock.recv(65536))
            except BlockingIOError:
                return

    def says(self, connection: DTLSConnection, sock: socket.socket, *data: bytes) -> None:
        """
        Have a client say something.
        """
        for one in data:
            connection.write(one)
        self.flush(connection, sock)
        self.reactor.pump()

    def came(self) -> list[bytes]:
        """
        Take what came to the upstream.
        """
        found: list[bytes] = []
        while True:
            try:
                data, self.from_ = self.upstream.recvfrom(65536)
            except BlockingIOError:
                return found
            found.append(data)

    def line(self) -> str:
        """
        Tell the line of the last session.
        """
        lines = [formatEvent(event) for event in self.events if event.get("log_namespace") == "tlsproxy.session"]
        return lines[-1] if lines else ""

    def test_offload(self) -> None:
        """
        What a client says comes to the upstream in clear, one by one, and its answers come to the client.
        """
        self.serve(Offload(tls=self.server(alpn="coap"), upstream=self.where))
        sock = self.connect()
        client = self.shake(sock, alpn="coap")
        self.says(client, sock, b"one", b"two")
        self.assertEqual(self.came(), [b"one", b"two"])
        self.upstream.sendto(b"answer", self.from_)
        self.reactor.pump()
        self.hear(client, sock)
        self.assertEqual(client.read(), b"answer")
        client.endWrite()
        self.flush(client, sock)
        self.reactor.pump()
        line = self.line()
        for words in (
            "shop client=127.0.0.1:",
            "sni=shop.example",
            "versions=dtls1.2",
            "tls=DTLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/coap",
            f"upstream={self.where}",
            "in=6 out=6",
            "outcome=closed",
        ):
            self.assertIn(words, line)
        told = self.tally.routes["shop"]
        self.assertEqual((told.started, dict(told.ended)), (1, {("closed", "idle"): 1}))
        self.assertEqual((told.received, told.sent, told.handshakes["near"].full), (6, 6, 1))

    def test_encrypt(self) -> None:
        """
        What comes in clear waits until the upstream's DTLS is there; the upstream's end is the end.
        """
        self.serve(Encrypt(upstream=self.where, upstreamTLS=self.client()))
        sock = self.connect()
        sock.send(b"one")
        sock.send(b"two")
        self.reactor.pump()
        server = self.server().begin(DTLSConnection, 1200, "shop.example")
        heard: list[bytes] = []
        for _ in range(5):
            for datagram in self.came():
                server.receive(datagram)
                try:
                    server.handshake()
                except SSL.WantReadError:
                    continue
                finally:
                    for answer in server.output():
                        self.upstream.sendto(answer, self.from_)
                while (data := server.read()) is not None:
                    heard.append(data)
            self.reactor.pump()
        self.assertEqual(heard, [b"one", b"two"])
        server.write(b"answer")
        server.endWrite()
        for answer in server.output():
            self.upstream.sendto(answer, self.from_)
        self.reactor.pump()
        self.assertEqual(sock.recv(100), b"answer")
        self.assertIn("outcome=closed", self.line())

    def test_bridge(self) -> None:
        """
        The upstream is reached once the client is in; where it is silent the session ends by its deadline, and the
        client is told.
        """
        self.serve(
            Bridge(tls=self.server(), upstream=self.where, upstreamTLS=self.client()),
            limits=Limits(upstreamHandshake=3),
        )
        sock = self.connect()
        client = self.shake(sock)
        self.reactor.pump()
        for _ in range(20):
            self.reactor.advance(0.25)
            self.reactor.pump()
        self.assertTrue(1 < len(self.came()) < 5)
        self.assertIn("outcome=expired phase=upstream_handshake", self.line())
        self.hear(client, sock)
        self.assertEqual((client.read(), client.state), (None, 3))

    def test_refusedUpstream(self) -> None:
        """
        An upstream that is not there fails the session at once.
        """
        self.upstream.close()
        upstream = self.udp()
        upstream.bind((LOOPBACK, 0))
        where = UDP(LOOPBACK, upstream.getsockname()[1])
        upstream.close()
        self.serve(Encrypt(upstream=where, upstreamTLS=self.client()))
        self.connect().send(b"hello")
        self.reactor.pump()
        self.assertIn('phase=upstream_handshake reason="the upstream does not take datagrams: nobody', self.line())

    def test_rule(self) -> None:
        """
        A client whose server name no rule is for is told by an alert.
        """
        self.serve(Offload(tls=self.server()), rules=(Rule(sni=("desk.example",), upstream=self.where),))
        sock = self.connect()
        error = self.assertRaises(SSL.Error, self.shake, sock)
        self.assertIn("unrecognized name", str(error))
        self.assertIn("outcome=refused phase=route", self.line())

    def test_idle(self) -> None:
        """
        Where nothing comes any more the session ends, and the client is told.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where), limits=Limits(idle=10))
        sock = self.connect()
        client = self.shake(sock)
        for _ in range(3):
            self.says(client, sock, b"hello")
            for _ in range(30):
                self.reactor.advance(0.25)
        self.assertEqual(len(self.factory.sessions), 1)
        for _ in range(20):
            self.reactor.advance(0.25)
        self.assertIn("outcome=expired phase=idle", self.line())
        self.hear(client, sock)
        self.assertEqual((client.read(), client.state), (None, 3))

    def test_handshakeDeadline(self) -> None:
        """
        A client that does not go on with its handshake is given up.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where), limits=Limits(handshake=5))
        sock = self.connect()
        connection = self.client().begin(DTLSConnection, 1200)
        for _ in range(2):
            self.assertRaises(SSL.WantReadError, connection.handshake)
            self.flush(connection, sock)
            self.reactor.pump()
            self.hear(connection, sock)
        for _ in range(25):
            self.reactor.advance(0.25)
        self.assertIn("outcome=expired phase=handshake", self.line())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

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

    def test_handlers(self) -> None:
        """
        A handler is given one datagram a call, and what it lets go is one datagram.
        """
        made: list[Shouting] = []
        self.serve(Offload(tls=self.server(), upstream=self.where), handlers=(Shouts(made=made),))
        sock = self.connect()
        client = self.shake(sock)
        self.says(client, sock, b"one", b".two", b"three", b"nothing", b"go")
        self.assertEqual(self.came(), [b"ONE", b"THREE", b".two", b"GO"])
        for answer in (b"answer", b"again"):
            self.upstream.sendto(answer, self.from_)
        self.reactor.pump()
        self.hear(client, sock)
        self.assertEqual((client.read(), client.read()), (b"answer", b"again"))
        self.says(client, sock, b"pause", b"lost")
        self.assertEqual(self.came(), [b"PAUSE"])
        made[0].flow.resume(OUTWARD)
        self.says(client, sock, b"back")
        self.assertEqual(self.came(), [b"BACK"])
        self.says(client, sock, b"refuse")
        self.hear(client, sock)
        self.assertEqual(client.read(), b"no")
        self.assertEqual(made[0].outcome, "refused")
        self.assertIn("outcome=refused", self.line())

    def test_handlerFails(self) -> None:
        """
        One that fails ends its session, and no other.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where), handlers=(Shouts(made=[]),))
        one, other = self.connect(), self.connect()
        client, unharmed = self.shake(one), self.shake(other)
        self.says(client, one, b"bug")
        self.assertIn("outcome=failed", self.line())
        self.says(unharmed, other, b"hello")
        self.assertEqual(self.came(), [b"HELLO"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

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
