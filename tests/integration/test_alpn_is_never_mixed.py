# -*- test-case-name: tests.integration.test_alpn_is_never_mixed -*-
"""
Both sides of a session speak the same application protocol.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from OpenSSL import SSL

from tests.integration.running import IntegrationTestCase
from tests.integration.talking import Listener, clientContext, connect, serverContext
from tlsproxy.wire.clienthello import ClientHelloReader


class ALPNTests(IntegrationTestCase):
    """
    What the upstream is offered, and what its answer leads to.
    """

    def setUp(self) -> None:
        """
        Make the upstream.
        """
        super().setUp()
        self.upstream = Listener(self)
        self.offered: list[list[bytes]] = []

    def answering(self, choose: Callable[[list[bytes]], object]) -> SSL.Context:
        """
        Make an upstream's context that notes what it is offered.
        """
        context = serverContext(self.pem)

        def select(connection: SSL.Connection, offered: list[bytes]) -> object:
            self.offered.append(offered)
            return choose(offered)

        context.set_alpn_select_callback(select)  # type: ignore[arg-type]
        return context

    def client(self, offers: Sequence[bytes]) -> SSL.Context:
        """
        Make a client's context.
        """
        return clientContext(self.certificates.ca, alpn=offers)

    def test_same(self) -> None:
        """
        The upstream is offered exactly what the client negotiated.
        """
        proxy = self.proxy(self.bridge(self.upstream.port, tls={"alpn": ["h2", "http/1.1"]}))
        for offers, spoken in (((b"http/1.1", b"h2"), b"h2"), ((b"http/1.1",), b"http/1.1"), ((b"x", b"h2"), b"h2")):
            client = connect(self, proxy.port("bridge"), self.client(offers))
            server = self.upstream.accept(self.answering(lambda offered: offered[0]))
            assert client.tls is not None and server.tls is not None
            self.assertEqual(spoken, client.tls.get_alpn_proto_negotiated())
            self.assertEqual(spoken, server.tls.get_alpn_proto_negotiated())
            self.assertEqual([spoken], self.offered.pop())

    def test_noneOffered(self) -> None:
        """
        A client that offers nothing negotiates nothing, and the upstream's hello has no such extension.
        """
        self.assertNone(self.bridge(self.upstream.port, tls={"alpn": ["h2"]}), ())

    def test_noneConfigured(self) -> None:
        """
        Without C{alpn} no protocol is negotiated, whatever the client offers.
        """
        self.assertNone(self.bridge(self.upstream.port), (b"h2", b"http/1.1"))

    def assertNone(self, route: dict[str, object], offers: Sequence[bytes]) -> None:
        """
        Expect no protocol to be spoken.
        """
        client = connect(self, self.proxy(route).port("bridge"), self.client(offers))
        assert client.tls is not None
        self.assertEqual(b"", client.tls.get_alpn_proto_negotiated())
        sock = self.upstream.accept().socket
        hello = None
        while hello is None:
            hello = ClientHelloReader().read(memoryview(sock.recv(65536, 2)))  # MSG_PEEK
        self.assertEqual((), hello.alpn)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with context.wrap_socket(sock, server_side=True) as server:
            self.assertEqual(None, server.selected_alpn_protocol())

    def test_encryptOffersItsOwn(self) -> None:
        """
        In C{encrypt}, whose client negotiates nothing, the upstream is offered what C{alpn} says, or nothing.
        """
        port = self.upstream.port
        proxy = self.proxy(
            self.encrypt(port, name="none"), self.encrypt(port, name="some", upstream_tls={"alpn": ["h2", "http/1.1"]})
        )
        connect(self, proxy.port("some"))
        self.upstream.accept(self.answering(lambda offered: offered[0]))
        self.assertEqual([[b"h2", b"http/1.1"]], self.offered)
        connect(self, proxy.port("none"))
        self.upstream.accept(self.answering(lambda offered: offered[0]))
        self.assertEqual(1, len(self.offered))

    def test_offeredNoneOfOurs(self) -> None:
        """
        A client that offers only other protocols is refused with the alert for that, and nothing is dialed.
        """
        proxy = self.proxy(
            self.bridge(self.upstream.port, tls={"alpn": ["h2"]}),
            self.offload(self.upstream.port, tls={"alpn": ["h2"]}),
        )
        for number, mode in enumerate(("bridge", "offload")):
            e = self.assertRaises(SSL.Error, connect, self, proxy.port(mode), self.client((b"smtp",)))
            self.assertIn("no application protocol", str(e))
            line = proxy.session(number)
            self.assertEqual("handshake", line["phase"])
            self.assertIn("'smtp'", line["reason"])
            self.assertFalse(self.upstream.waiting())

    def test_upstreamSpeaksNone(self) -> None:
        """
        An upstream that answers with no protocol ends the session.
        """
        self.assertEnds(
            serverContext(self.pem), "the upstream speaks no application protocol where the client negotiated 'h2'"
        )

    def test_upstreamSpeaksAnother(self) -> None:
        """
        So does one that answers with another.
        """
        self.assertEnds(
            self.answering(lambda _: b"http/1.1"),
            "TLS with the upstream failed: a TLS extension does not fit, "
            "such as an application protocol that nobody offered (alert decode_error sent)",
        )

    def test_upstreamRefuses(self) -> None:
        """
        So does one that breaks off.
        """

        def refuse(_: list[bytes]) -> object:
            raise ValueError("none of these")

        self.assertEnds(
            self.answering(refuse),
            "the upstream broke TLS off (alert no_application_protocol received): "
            "it speaks none of the application protocols offered; "
            "offer one that it speaks, by alpn of upstream_tls, or of tls in mode bridge",
        )

    def assertEnds(self, answer: SSL.Context, reason: str) -> None:
        """
        Expect an upstream's answer to end the session, and nothing of the client's to reach it.
        """
        proxy = self.proxy(self.bridge(self.upstream.port, tls={"alpn": ["h2", "http/1.1"]}))
        client = connect(self, proxy.port("bridge"), self.client((b"h2",)))
        client.send(b"PRI * HTTP/2.0\r\n\r\n")
        try:
            self.assertEqual(b"", self.upstream.accept(answer).readAll())
        except (SSL.Error, ValueError):
            pass
        line = proxy.session()
        self.assertEqual(("failed", "upstream_handshake"), (line["outcome"], line["phase"]))
        self.assertEqual(reason, line["reason"])
        self.assertEqual(b"", client.readAll())
        self.assertNotEqual("ended", client.how)
