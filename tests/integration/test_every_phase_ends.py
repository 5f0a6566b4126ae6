# -*- test-case-name: tests.integration.test_every_phase_ends -*-
"""
Every phase has a deadline, and each ends with its own reason.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.passages import UNDECRYPTED, Copying, Pairing, PassageTestCase
from tests.integration.running import PATIENCE, IntegrationTestCase, Proxy, raiseDescriptors, waitUntil
from tests.integration.talking import Listener, Server, Talker, clientContext, connect, echo, serverContext

STALLED = 2000


def hello() -> bytes:
    """
    Make a ClientHello, as OpenSSL does.
    """
    connection = SSL.Connection(clientContext())
    connection.set_connect_state()
    connection.set_tlsext_host_name(b"localhost")
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        pass
    return connection.bio_read(65536)


def blackHole(case: SynchronousTestCase) -> int:
    """
    Make a port of loopback that does not answer at all.
    """
    hole = socket.socket()
    case.addCleanup(hole.close)
    hole.bind(("127.0.0.1", 0))
    hole.listen(0)
    for _ in range(3):
        filler = socket.socket()
        case.addCleanup(filler.close)
        filler.setblocking(False)
        filler.connect_ex(hole.getsockname())
    port: int = hole.getsockname()[1]
    return port


def trickle(talker: Talker, data: bytes) -> None:
    """
    Send a byte at a time, until the proxy has enough of it; that it takes all is an error.
    """
    try:
        for byte in data:
            talker.send(bytes([byte]))
            time.sleep(0.05)
    except ConnectionError:
        return
    raise AssertionError("it may take as long as it likes")


class DeadlineTests(IntegrationTestCase):
    """
    Peers that stall in each phase.
    """

    def assertExpired(self, proxy: Proxy, phase: str, reason: str, number: int = 0) -> None:
        """
        Expect a session to end for its deadline.
        """
        line = proxy.session(number)
        self.assertEqual(("expired", phase, reason), (line["outcome"], line["phase"], line["reason"]))

    def short(self, mode: str, upstream: int, **limits: float) -> Proxy:
        """
        Start a proxy of one mode with short limits.
        """
        route: dict[str, Any] = getattr(self, mode)(upstream, limits=limits)
        return self.proxy(route)

    def test_hello(self) -> None:
        """
        No hello, half a hello, and a hello that comes a byte at a time, all end at the same deadline.
        """
        upstream = Listener(self)
        proxy = self.short("offload", upstream.port, hello=0.5)
        reason = "the client did not send a whole hello within 0.5 s"
        connect(self, proxy.port("offload"))
        self.assertExpired(proxy, "hello", reason)
        client = connect(self, proxy.port("offload"))
        client.send(hello()[:100])
        self.assertExpired(proxy, "hello", reason, 1)
        client.readAll()
        client = connect(self, proxy.port("offload"))
        trickle(client, hello())
        self.assertExpired(proxy, "hello", reason, 2)
        self.assertFalse(upstream.waiting())

    def test_handshake(self) -> None:
        """
        A client that falls silent after its hello.
        """
        upstream = Listener(self)
        proxy = self.short("bridge", upstream.port, handshake=0.5)
        client = connect(self, proxy.port("bridge"))
        client.send(hello())
        self.assertExpired(proxy, "handshake", "the client did not finish the TLS handshake within 0.5 s")
        self.assertFalse(upstream.waiting())

    def test_dial(self) -> None:
        """
        An upstream that does not answer at all: its backlog is full.
        """
        proxy = self.short("encrypt", blackHole(self), dial=0.5)
        client = connect(self, proxy.port("encrypt"))
        self.assertExpired(proxy, "dial", "the upstream did not answer within 0.5 s")
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))

    def test_upstreamHandshake(self) -> None:
        """
        An upstream that accepts, and says nothing.
        """
        upstream = Listener(self)
        proxy = self.short("encrypt", upstream.port, upstream_handshake=0.5)
        client = connect(self, proxy.port("encrypt"))
        self.assertExpired(proxy, "upstream_handshake", "the upstream did not finish the TLS handshake within 0.5 s")
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))

    def test_idle(self) -> None:
        """
        Nobody says anything any more; both sides are reset, so that neither takes it for the end.
        """
        upstream = Listener(self)
        proxy = self.short("bridge", upstream.port, idle=1.0)
        client = connect(self, proxy.port("bridge"), clientContext(self.certificates.ca))
        server = upstream.accept(serverContext(self.pem))
        client.send(b"word")
        self.assertEqual(b"word", server.read(4))
        self.assertExpired(proxy, "idle", "no byte moved within 1 s")
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))
        self.assertEqual((b"", "reset"), (server.readAll(), server.how))

    def test_idleMoves(self) -> None:
        """
        Whoever says something is not idle.
        """
        proxy = self.short("offload", Server(self, echo).port, idle=2.0)
        client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
        for _ in range(10):
            time.sleep(0.3)
            client.send(b"word")
            self.assertEqual(b"word", client.read(4))
        client.endWrite()
        self.assertEqual((b"", "ended"), (client.readAll(), client.how))
        self.assertEqual("closed", proxy.session()["outcome"])

    def test_halfClosed(self) -> None:
        """
        One side has ended, and the other neither says anything nor ends.
        """
        upstream = Listener(self)
        proxy = self.short("offload", upstream.port, half_closed=0.5)
        client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
        server = upstream.accept()
        client.endWrite()
        self.assertEqual((b"", "ended"), (server.readAll(), server.how))
        self.assertExpired(proxy, "half_closed", "no byte moved after one side had ended within 0.5 s")
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))

    def test_lifetime(self) -> None:
        """
        A session that never falls silent ends, too.
        """
        proxy = self.short("offload", Server(self, echo).port, lifetime=1.0)
        client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
        try:
            while True:
                client.send(b"word")
                if not client.read(4):
                    break
        except (ConnectionError, SSL.Error):
            pass
        self.assertExpired(proxy, "lifetime", "the session did not end within 1 s")

    def test_stalledClients(self) -> None:
        """
        Two thousand clients that stall in their hello do not keep others from being served.
        """
        raiseDescriptors(4 * STALLED)
        server = Server(self, echo)
        proxy = self.short("offload", server.port, hello=PATIENCE)
        port = proxy.port("offload")
        for _ in range(STALLED):
            stalled = socket.create_connection(("127.0.0.1", port))
            self.addCleanup(stalled.close)
            stalled.send(b"\x16\x03\x01")
        context = clientContext(self.certificates.ca)

        def request(number: int) -> bytes:
            client = connect(self, port, context)
            client.send(b"request %d" % number)
            client.endWrite()
            return client.readAll()

        with ThreadPoolExecutor(5) as pool:
            self.assertEqual([b"request %d" % n for n in range(20)], list(pool.map(request, range(20))))
        self.assertEqual(20, server.accepted)


class Undecrypted(PassageTestCase):
    """
    The same where the proxy does not decrypt: all routes at once.
    """

    pairings = UNDECRYPTED

    def assertExpired(self, phase: str, reason: str, routes: Sequence[str]) -> None:
        """
        Expect a session on each of these routes, and no other, to end for its deadline.
        """
        expected = sorted((route, "expired", phase, reason) for route in routes)
        waitUntil(lambda: len(self.through.sessions()) >= len(routes), "the end of the sessions")
        lines = self.through.sessions()
        self.assertEqual(expected, sorted((one["route"], one["outcome"], one["phase"], one["reason"]) for one in lines))


class SetUpTests(Undecrypted):
    """
    Before the bytes go through.
    """

    def test_hello(self) -> None:
        """
        No hello, half a hello, and one that comes in pieces, whatever they are cut into.
        """
        self.start(limits={"hello": 0.5})
        silent, half, slow = (connect(self, self.through.port("passthrough")) for _ in range(3))
        half.send(hello()[:-1])
        trickle(slow, hello())
        self.assertExpired("hello", "the client did not send a whole hello within 0.5 s", ["passthrough"] * 3)
        self.assertEqual(b"", silent.readAll())
        self.assertFalse(self.upstream.waiting())

    def test_head(self) -> None:
        """
        No request, half a request, and one that comes in pieces: clients of C{connect} are told what they were waited
        for.
        """
        self.start(limits={"head": 0.5})
        silent, half, slow = clients = [connect(self, self.through.port("connect")) for _ in range(3)]
        half.send(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r")
        trickle(slow, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX: " + b"y" * 200)
        self.assertExpired("head", "the client did not send a whole request within 0.5 s", ["connect"] * 3)
        for client in clients:
            self.assertEqual(b"HTTP/1.1 408 ", client.readAll()[:13])
        self.assertFalse(self.upstream.waiting())

    def test_dial(self) -> None:
        """
        An upstream that does not answer: who waits for a tunnel is told, others are reset.
        """
        self.upstream.port = blackHole(self)
        self.start(limits={"dial": 0.5})
        names = ("passthrough", "anything", "connect")
        tls, anything, tunnel = (connect(self, self.through.port(name)) for name in names)
        tls.send(hello())
        tunnel.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % self.upstream.port)
        self.assertExpired("dial", "the upstream did not answer within 0.5 s", names)
        self.assertEqual((b"", "reset"), (tls.readAll(), tls.how))
        self.assertEqual((b"", "reset"), (anything.readAll(), anything.how))
        self.assertEqual((b"HTTP/1.1 504 ", "ended"), (tunnel.readAll()[:13], tunnel.how))


class JoinedTests(Undecrypted):
    """
    Once the kernel moves the bytes.
    """

    def openAll(self) -> list[tuple[Pairing, Talker, Talker]]:
        """
        Open a session on each route.
        """
        return [(pairing, *self.open(pairing)) for pairing in self.pairings]

    def test_idle(self) -> None:
        """
        Nobody says anything any more: both sides are reset.
        """
        self.start(limits={"idle": 1.0})
        sessions = self.openAll()
        names = [pairing.name for pairing in self.pairings]
        self.assertExpired("idle", "no byte moved within 1 s", names)
        for pairing, client, server in sessions:
            self.assertEqual((b"", "reset"), (client.readAll(), client.how), pairing)
            self.assertEqual((b"", "reset"), (server.readAll(), server.how), pairing)

    def test_halfClosed(self) -> None:
        """
        One side has ended, and the other neither says anything nor ends.
        """
        self.start(limits={"half_closed": 0.5})
        for pairing, client, server in self.openAll():
            client.endWrite()
            self.assertEqual((b"", "ended"), (server.readAll(), server.how), pairing)
        names = [pairing.name for pairing in self.pairings]
        self.assertExpired("half_closed", "no byte moved after one side had ended within 0.5 s", names)

    def test_lifetime(self) -> None:
        """
        A session that never falls silent ends, too, and so does one whose reader has stalled.
        """
        self.start(limits={"lifetime": 1.0})
        sessions = self.openAll()
        _, _, stalled = sessions.pop()
        stalled.socket.setblocking(False)
        filling = True
        names = [pairing.name for pairing in self.pairings]
        while len(self.through.sessions()) < len(names):
            for _, client, server in sessions:
                try:
                    client.send(b"word")
                    server.recv(4)
                except (ConnectionError, SSL.Error):
                    pass
            try:
                while filling:
                    stalled.socket.send(bytes(1 << 20))
            except BlockingIOError:
                pass
            except ConnectionError:
                filling = False
        self.assertExpired("lifetime", "the session did not end within 1 s", names)


class CopiedTests(Copying, JoinedTests):
    """
    The same without splice(2).
    """
