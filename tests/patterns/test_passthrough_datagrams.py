"""
Tests for L{tlsproxy.patterns.passthrough} where both sides are datagrams, over loopback.
"""

from __future__ import annotations

import socket
from typing import Any

from attrs import evolve, frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.logger import formatEvent

from tests.datagram.sessions import LOOPBACK, DatagramSessionCase
from tests.datagram.test_proof import DATA
from tlsproxy.address import UDP
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.handler import HandlerOptions, ProtocolHandler
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Limits
from tlsproxy.rules import Rule
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.wire.dtlshello import helloVerifyRequest, readHello


class Counting(ProtocolHandler):
    """
    Counts what it sees.
    """

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def received(self, direction: str, data: bytes) -> bytes:
        """
        See L{ProtocolHandler}.
        """
        self.seen.append(len(data))
        return data


@frozen
class Counts(HandlerOptions):
    """
    Its options.
    """

    seen: Any = None

    @property
    def datagrams(self) -> bool:
        """
        It takes datagrams.
        """
        return True

    def handler(self, session: Any, flow: Any) -> Counting:
        """
        Make it.
        """
        return Counting(self.seen)


class PassthroughTests(DatagramSessionCase):
    """
    Clients whose DTLS is the upstream's.
    """

    port: DatagramPort

    def origin(self, cookies: bool = True) -> None:
        """
        Have the upstream speak DTLS, as far as it has heard something.
        """
        for datagram in self.came():
            if cookies and datagram[13] == 1 and not readHello(datagram).cookie:
                self.upstream.sendto(helloVerifyRequest(readHello(datagram), b"cookie"), self.from_)
                continue
            if self.peer is None:
                self.peer = self.server().begin(DTLSConnection, 1200, "shop.example")
            self.peer.receive(datagram)
            try:
                self.peer.handshake()
            except SSL.WantReadError:
                pass
            for answer in self.peer.output():
                self.upstream.sendto(answer, self.from_)
        self.reactor.pump()

    peer: DTLSConnection | None = None

    def begin(self, name: str = "shop.example") -> tuple[DTLSConnection, socket.socket]:
        """
        Have a client say hello.
        """
        sock = self.connect()
        client = self.client(name=name).begin(DTLSConnection, 1200)
        self.go(client, sock)
        return client, sock

    def go(self, client: DTLSConnection, sock: socket.socket) -> None:
        """
        Have a client go on with its handshake.
        """
        try:
            client.handshake()
        except SSL.WantReadError:
            pass
        self.flush(client, sock)
        self.reactor.pump()

    def through(self, cookies: bool = True) -> tuple[DTLSConnection, socket.socket]:
        """
        Have a client and the upstream go through a handshake.
        """
        client, sock = self.begin()
        for _ in range(6):
            self.origin(cookies)
            self.hear(client, sock)
            self.go(client, sock)
        assert self.peer is not None
        self.assertTrue(client.largest and self.peer.largest)
        return client, sock

    def lines(self) -> list[str]:
        """
        Tell the lines of all sessions.
        """
        return [formatEvent(event) for event in self.events if event.get("log_namespace") == "tlsproxy.session"]

    def assertPassed(self, client: DTLSConnection, sock: socket.socket) -> None:
        """
        Assert that what a client says reaches the upstream, and that the session's line tells all of it.
        """
        self.assertEqual(self.port.halfOpen, {})
        self.says(client, sock, b"hello")
        (datagram,) = self.came()
        assert self.peer is not None
        self.peer.receive(datagram)
        self.assertEqual(self.peer.read(), b"hello")
        (session,) = self.factory.sessions
        self.assertEqual(session.phase, "idle")
        session.stop()
        line = self.line()
        for words in ("sni=shop.example", "ja4=d", "versions=dtls1.2", "tls=- upstream", "outcome=stopped"):
            self.assertIn(words, line)
        # All that the client has sent is in it, its first hello included.
        self.assertTrue(int(line.partition(" in=")[2].split()[0]) > 500, line)

    def test_passed(self) -> None:
        """
        The hello chooses the upstream, and the client's datagrams go there as they are.
        """
        rules = (
            Rule(sni=("desk.example",), upstream=UDP(LOOPBACK, 9)),
            Rule(sni=("shop.example",), upstream=self.where),
        )
        self.serve(Passthrough(), rules=rules)
        self.connect().send(b"garbage")
        self.reactor.pump()
        self.assertEqual(len(self.factory.sessions), 0)
        self.assertPassed(*self.through())

    def test_withoutCookies(self) -> None:
        """
        An upstream that asks for no cookies is reached, too, even if its flight has to wait for the client's word.
        """
        self.serve(Passthrough(upstream=self.where))
        client, sock = self.begin()
        for _ in range(40):
            self.origin(cookies=False)
            self.hear(client, sock)
            self.go(client, sock)
            if client.largest:
                break
            self.reactor.advance(0.25)
            for one in (client, self.peer):
                if one is not None and one.timeout() == 0:
                    one.handleTimeout()
        self.origin()
        self.assertPassed(client, sock)

    def test_refused(self) -> None:
        """
        A client that no rule is for is told by an alert.
        """
        self.serve(Passthrough(), rules=(Rule(sni=("desk.example",), upstream=self.where),))
        error = self.assertRaises(SSL.Error, self.shake, self.connect())
        self.assertIn("unrecognized name", str(error))
        self.assertEqual((self.port.ends, self.port.halfOpen), ({}, {}))

    def test_silent(self) -> None:
        """
        A client that has shown nothing is given up, however much its upstream says; who has shown it stays.
        """
        self.serve(Passthrough(upstream=self.where), limits=Limits(handshake=3))
        client, sock = self.through()
        self.begin()
        for _ in range(14):
            self.came()
            self.upstream.sendto(b"something", self.from_)
            self.reactor.advance(0.25)
            self.reactor.pump()
        self.assertIn(
            'outcome=expired phase=handshake reason="the client did not finish the TLS handshake within 3 s"',
            self.line(),
        )
        self.assertEqual((self.port.halfOpen, len(self.factory.sessions)), ({}, 1))
        self.says(client, sock, b"still here")
        self.assertEqual(len(self.came()), 1)

    def test_gaveWay(self) -> None:
        """
        A client that has shown nothing gives way to a new one, and a flood of those has no flood of lines.
        """
        self.serve(Passthrough(upstream=self.where))
        self.port.terms = evolve(self.port.terms, halfOpen=2, pace=1000)
        for _ in range(40):
            self.begin()
        self.reactor.advance(0)
        self.assertEqual((len(self.factory.sessions), len(self.port.ends)), (2, 2))
        told = [line for line in self.lines() if "gave way" in line]
        self.assertTrue(0 < len(told) < 20, len(told))
        self.assertIn("outcome=refused phase=handshake", told[0])
        self.assertEqual(self.factory.counters["refused", "handshake"], 38)

    def test_gaveWayEarly(self) -> None:
        """
        So does one whose upstream is still looked up.
        """
        found: list[Deferred[Any]] = []

        def wait(session: object) -> Deferred[Any]:
            found.append(Deferred())
            return found[-1]

        self.serve(Passthrough(upstream=self.where), authorize=wait)
        self.port.terms = evolve(self.port.terms, halfOpen=1)
        self.begin()
        self.begin()
        self.reactor.advance(0)
        self.assertEqual((len(self.factory.sessions), len(self.port.ends)), (1, 1))
        self.assertIn("outcome=refused phase=route", self.line())
        found[1].callback(True)
        self.reactor.pump()
        self.assertEqual(len(self.came()), 1)

    def test_nobodyThere(self) -> None:
        """
        An upstream that is not there fails the session at once.
        """
        self.upstream.close()
        gone = self.udp()
        gone.bind((LOOPBACK, 0))
        where = UDP(LOOPBACK, gone.getsockname()[1])
        gone.close()
        self.serve(Passthrough(upstream=where))
        self.begin()
        self.assertIn('phase=handshake reason="the upstream does not take datagrams: nobody listens', self.line())

    def test_otherName(self) -> None:
        """
        A hello for another name reaches the upstream of that name only, and its session is the client's once it has
        shown that it is there.
        """
        other = self.udp()
        other.bind((LOOPBACK, 0))
        elsewhere = UDP(LOOPBACK, other.getsockname()[1])
        rules = (
            Rule(sni=("desk.example",), upstream=elsewhere),
            Rule(sni=("shop.example",), upstream=self.where),
        )
        self.serve(Passthrough(), rules=rules)
        old, sock = self.through()
        client = self.client(name="desk.example").begin(DTLSConnection, 1200)
        self.go(client, sock)
        hello, address = other.recvfrom(65536)
        self.assertEqual(readHello(hello).hello.serverName, "desk.example")
        self.assertEqual(self.came(), [])
        self.says(old, sock, b"still here")
        self.assertEqual(len(self.came()), 1)
        self.assertEqual(len(self.factory.sessions), 2)
        other.sendto(helloVerifyRequest(readHello(hello), b"cookie"), address)
        self.reactor.pump()
        self.hear(client, sock)
        self.go(client, sock)
        self.assertEqual(readHello(other.recv(65536)).cookie, b"cookie")
        self.assertEqual(len(self.factory.sessions), 1)
        self.assertIn('outcome=closed phase=idle reason="the client began anew from the same address"', self.line())
        sock.send(DATA)
        self.reactor.pump()
        self.assertEqual((other.recv(65536), self.came()), (DATA, []))

    def test_handler(self) -> None:
        """
        Handlers see each datagram, from the hello on.
        """
        seen: list[int] = []
        self.serve(Passthrough(upstream=self.where), handlers=(Counts(seen=seen),))
        self.through()
        self.assertTrue(len(seen) > 4)
        (session,) = self.factory.sessions
        assert session.relay is not None
        self.assertEqual(sum(seen), session.relay.outward.count + session.relay.inward.count)
