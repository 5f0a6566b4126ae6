"""
Tests for L{tlsproxy.tls.explain}: the sentences for peers that do not speak TLS, or not for long.
"""

from __future__ import annotations

import contextlib
import socket

from OpenSSL import SSL

from tests.tls.pairs import VERSIONS, PairCase, shake, take
from tlsproxy.errors import HandshakeFailed, PeerEnded, PeerReset, SessionError
from tlsproxy.interfaces import FAILED
from tlsproxy.tls.explain import explainFailure, explainHandshake
from tlsproxy.tls.native import TLSStream


class StrangerCase(PairCase):
    """
    A test with a peer that sends bytes of its own.
    """

    def begin(self, peer: str) -> tuple[TLSStream, socket.socket]:
        """
        Begin a handshake.

        @param peer: C{"the client"} or C{"the upstream"}.

        @return: our end, and the peer's socket, with all read that came.
        """
        here, there = self.sockets()
        stream = self.server().connect(here) if peer == "the client" else self.client().connect(here)
        self.assertRaises(SSL.WantReadError, stream.handshake)
        if peer == "the upstream":
            there.recv(1 << 16)
        return stream, there

    def explained(self, stream: TLSStream, peer: str) -> SessionError:
        """
        Go on with the handshake, which fails.
        """
        try:
            stream.handshake()
        except Exception as error:
            return explainHandshake(stream, error, peer, "shop.example")
        raise AssertionError("The handshake did not fail.")


class NoTLSTests(StrangerCase):
    """
    Tests for peers that speak something else.
    """

    def test_HTTP(self) -> None:
        """
        A client that speaks plain HTTP is told as such.
        """
        for request in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.0\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        ):
            stream, there = self.begin("the client")
            there.send(request)
            error = self.explained(stream, "the client")
            self.assertIsInstance(error, HandshakeFailed)
            self.assertEqual(
                str(error), "TLS with the client failed: it speaks plain HTTP, not TLS; have it ask for https://"
            )

    def test_otherProtocols(self) -> None:
        """
        A peer that greets in another protocol, or with noise, does not speak TLS.
        """
        for greeting in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"220 mail.example ESMTP\r\n",
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            bytes(100),
            b"\xff" * 100,
        ):
            for peer in ("the client", "the upstream"):
                stream, there = self.begin(peer)
                there.send(greeting)
                error = self.explained(stream, peer)
                self.assertIsInstance(error, HandshakeFailed)
                words, _, remedy = str(error).partition("; ")
                self.assertEqual((f"{peer} does not speak TLS", peer == "the upstream"), (words, bool(remedy)))

    def test_outOfOrder(self) -> None:
        """
        A record that has no business in a handshake fails it, with the alert that we send.
        """
        for record in (b"\x17\x03\x03\x00\x05hello", b"\x16\x03\x03\x00\x05hello"):
            for peer in ("the client", "the upstream"):
                stream, there = self.begin(peer)
                there.send(record)
                self.assertEqual(
                    str(self.explained(stream, peer)),
                    f"TLS with {peer} failed: unexpected message (alert unexpected_message sent)",
                )


class EndTests(StrangerCase):
    """
    Tests for peers that go in the middle.
    """

    def test_ended(self) -> None:
        """
        A peer that ends its stream is told to have closed, at the start as well as in the middle of a record.
        """
        for part in (b"", b"\x16\x03", b"\x16\x03\x03\x00\x64\x02"):
            for peer in ("the client", "the upstream"):
                stream, there = self.begin(peer)
                there.send(part)
                there.shutdown(socket.SHUT_WR)
                error = self.explained(stream, peer)
                self.assertIsInstance(error, PeerEnded)
                self.assertEqual(str(error), f"{peer} closed the connection in the middle of the TLS handshake")

    def test_closeNotify(self) -> None:
        """
        An upstream that ends TLS before it has begun is told to have closed as well, with the alert.
        """
        stream, there = self.begin("the upstream")
        there.send(b"\x15\x03\x03\x00\x02\x01\x00")
        error = self.explained(stream, "the upstream")
        self.assertIsInstance(error, PeerEnded)
        self.assertIn("the upstream closed the connection", str(error))
        self.assertIn("(alert close_notify received)", str(error))

    def test_reset(self) -> None:
        """
        A peer that resets the connection is told to have done so, whether we were reading or writing.
        """
        for peer, tls in (("the client", self.server()), ("the upstream", self.client())):
            here, there = self.sockets()
            stream = tls.connect(here)
            here.send(b"never read")
            there.close()
            error = self.explained(stream, peer)
            self.assertIsInstance(error, PeerReset)
            self.assertEqual(str(error), f"{peer} reset the connection in the middle of the TLS handshake")


class AlertTests(StrangerCase):
    """
    Tests for upstreams that answer the first message with an alert.
    """

    def test_meanings(self) -> None:
        """
        What the alert says of us is told in words, for those that have a meaning people can act on; any other is told
        by its name, or its number.
        """
        for number, words in (
            (40, "(alert handshake_failure received): it shares no TLS version, cipher suite or group with us"),
            (48, "(alert unknown_ca received): it does not know the CA"),
            (49, "(alert access_denied received): it knows our certificate and does not let us in"),
            (70, "(alert protocol_version received): it speaks none of our TLS versions"),
            (71, "(alert insufficient_security received): it demands more security"),
            (112, "(alert unrecognized_name received): it does not know the server name asked for"),
            (80, "(alert internal_error received)"),
            (200, "(alert 200 received)"),
        ):
            stream, there = self.begin("the upstream")
            there.send(b"\x15\x03\x03\x00\x02\x02" + bytes([number]))
            error = self.explained(stream, "the upstream")
            self.assertIsInstance(error, HandshakeFailed)
            self.assertTrue(str(error).startswith(f"the upstream broke TLS off {words}"), str(error))


class FailureTests(StrangerCase):
    """
    Tests for L{explainFailure}.
    """

    def test_damaged(self) -> None:
        """
        A damaged record is told with the alert that we send, and the other side tells the alert that it received.
        """
        alert = "bad_record_mac"
        for version in VERSIONS:
            for peer, other in (("the client", "the upstream"), ("the upstream", "the client")):
                server, client = self.connected(client=self.client(maxVersion=version))
                ours, theirs = (server, client) if peer == "the client" else (client, server)
                self.socketOf[theirs].send(b"\x17\x03\x03\x00\x20" + bytes(32))
                self.assertEqual((take(ours), ours.state), (b"", FAILED))
                self.assertEqual(
                    explainFailure(ours, peer), f"TLS with {peer} failed: a record does not verify (alert {alert} sent)"
                )
                self.assertEqual((take(theirs), theirs.state), (b"", FAILED))
                self.assertEqual(explainFailure(theirs, other), f"{other} broke TLS off (alert {alert} received)")

    def test_otherVersion(self) -> None:
        """
        Whoever has spoken TLS so far is not told of as somebody who does not.
        """
        server, client = self.connected()
        self.socketOf[client].send(b"\x17\x09\x09\x00\x20" + bytes(32))
        self.assertEqual((take(server), server.state), (b"", FAILED))
        self.assertIn("TLS with the client failed: wrong version number", explainFailure(server, "the client"))

    def test_renegotiation(self) -> None:
        """
        A client that insists on renegotiating gets none.  Once a connection stands, the alert that it leaves with says
        nothing of what we offered.
        """
        ours, theirs = self.sockets()
        server = self.server(maxVersion="1.2").connect(ours)
        client = TLSStream(SSL.Context(SSL.TLS_CLIENT_METHOD), theirs, server=False)
        shake(server, client)
        client.connection.renegotiate()
        for _ in range(3):
            if server.state != FAILED:
                with contextlib.suppress(SSL.Error):
                    client.handshake()
                take(server)
        self.assertEqual(FAILED, server.state)
        self.assertEqual(
            "the client broke TLS off (alert handshake_failure received)", explainFailure(server, "the client")
        )
