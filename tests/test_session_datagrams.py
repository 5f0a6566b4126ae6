"""
Tests for L{tlsproxy.session} and what is around it, where both sides are datagrams.
"""

from __future__ import annotations

from OpenSSL import SSL

from tests.datagram.sessions import LOOPBACK, DatagramSessionCase
from tlsproxy.address import UDP
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Limits
from tlsproxy.rules import Rule
from tlsproxy.status.tally import droppedBy
from tlsproxy.tls.datagrams import DTLSConnection


class SessionTests(DatagramSessionCase):
    """
    Clients, a route, and an upstream.
    """

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

    def test_dropped(self) -> None:
        """
        What was dropped is counted for the route, by reason.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where), mtu=700)
        sock = self.connect()
        client = self.shake(sock)
        self.says(client, sock, b"hello")
        self.came()
        self.upstream.sendto(bytes(664), self.from_)
        self.upstream.sendto(b"", self.from_)
        self.reactor.pump()
        (session,) = self.factory.sessions
        self.assertEqual(droppedBy(session), {"too large": 1, "empty": 1})
        session.stop()
        self.assertEqual(self.tally.routes["shop"].dropped, {"too large": 1, "empty": 1})

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
