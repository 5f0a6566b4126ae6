# -*- test-case-name: tests.test_steps -*-
"""
L{tlsproxy.steps}: which upstream a client gets, and how it is refused, on sockets that can be reset at any time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import lib

from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.rules import Rule
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer

UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))
"""RFC 6066, section 3."""
NOT_HERE = "203.0.113.0/24"
"""A network from which no client of a test comes."""
HERE = "127.0.0.0/8"
"""The network from which all do."""


class RuledCase(SessionCase):
    """
    A test of rules.
    """

    tcp = True

    def setUp(self) -> None:
        """
        Have another upstream.
        """
        super().setUp()
        self.other = Upstream(self)

    def offload(self, *rules: Rule, upstream: Upstream | None = None) -> None:
        """
        Serve with rules, in a mode that sees hellos.
        """
        self.serve(Offload(tls=serverTLS(), upstream=upstream), rules=rules)

    def assertEnded(self, client: Peer, received: bytes) -> None:
        """
        A client got this and then the end of its stream, without a reset, and nothing was dialed.
        """
        self.settle(lambda: bool(client.ended))
        self.assertEqual(received, bytes(client.received))
        self.assertEqual("end", client.ended)
        client.close()
        self.settle()
        self.assertFalse(self.aborted(client))
        self.assertEqual((0, 0), (self.upstream.dialed, self.other.dialed))

    def hello(self, **browser: Any) -> Peer:
        """
        Have a client connect that sends its hello, and shows what comes back as it is.
        """
        sender = Browser(None, **browser)
        sender._handshake()
        client: Peer = self.visit()
        client.write(bytes(sender.unsent))
        return client


class ChoiceTests(RuledCase):
    """
    The upstream.
    """

    def reached(self, upstream: Upstream) -> None:
        """
        Only this upstream is dialed.
        """
        self.settle(lambda: upstream.dialed == 1)
        self.assertEqual(1, self.upstream.dialed + self.other.dialed)
        self.one().stop()

    def test_byName(self) -> None:
        """
        The server name decides.
        """
        self.offload(Rule(sni="*.shop.example", upstream=self.other), upstream=self.upstream)
        self.visit(partial(Browser, serverName="www.shop.example"))
        self.reached(self.other)

    def test_byProtocol(self) -> None:
        """
        So do the application protocols that the client offers, whatever is negotiated.
        """
        self.offload(Rule(alpn="h2", upstream=self.other), upstream=self.upstream)
        self.visit(partial(Browser, alpn=(b"http/1.1", b"h2")))
        self.reached(self.other)

    def test_byNetwork(self) -> None:
        """
        So does the client's network.
        """
        self.offload(Rule(client=HERE, upstream=self.other), upstream=self.upstream)
        self.visit(Browser)
        self.reached(self.other)

    def test_first(self) -> None:
        """
        The first rule that matches decides, however well the next would.
        """
        self.offload(
            Rule(client=NOT_HERE, refuse="alert"),
            Rule(sni="*", upstream=self.other),
            Rule(sni="shop.example", upstream=self.upstream),
            Rule(refuse="close"),
        )
        self.visit(Browser)
        self.reached(self.other)

    def test_firstNetwork(self) -> None:
        """
        So it is among rules that go by networks alone.
        """
        self.offload(Rule(client=HERE, upstream=self.other), Rule(client="126.0.0.0/7", refuse="close"))
        self.visit(Browser)
        self.reached(self.other)

    def test_lastResort(self) -> None:
        """
        A client for whom there is no rule gets the route's own upstream.
        """
        self.offload(Rule(sni="old.example", refuse="alert"), upstream=self.upstream)
        self.visit(Browser)
        self.reached(self.upstream)

    def test_everybody(self) -> None:
        """
        A rule without conditions leaves nobody to the route's own.
        """
        self.offload(Rule(upstream=self.other), upstream=self.upstream)
        self.visit(Browser)
        self.reached(self.other)

    def test_encrypt(self) -> None:
        """
        Where clients speak no TLS, their network decides.
        """
        self.other = Upstream(self, Origin)
        rules = (Rule(sni="*", refuse="close"), Rule(client=HERE, upstream=self.other))
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()), rules=rules)
        self.visit()
        self.reached(self.other)

    def test_ownTLS(self) -> None:
        """
        The upstream of a rule has to show its own name, where the rule has one.
        """
        for name, outcome in (("old.example", True), ("upstream.example", False)):
            self.other = Upstream(self, partial(Origin, name=name))
            rules = (Rule(sni="*", upstream=self.other, upstreamTLS=clientTLS("old.example")),)
            self.serve(Bridge(tls=serverTLS(), upstream=self.upstream, upstreamTLS=clientTLS()), rules=rules)
            client = self.visit(Browser)
            client.write(b"question")
            self.settle(lambda client=client: bool(client.ended or self.other.peers and self.other.peer.received))  # type: ignore[misc]
            self.assertEqual(b"question" if outcome else b"", self.other.peer.received)
            if outcome:
                self.one().stop()
        self.assertIn("it is not for old.example; it is for upstream.example", self.told()[1]["reason"])

    def test_ownTLSOfEncrypt(self) -> None:
        """
        So it is where the client speaks no TLS.
        """
        self.other = Upstream(self, partial(Origin, name="old.example"))
        rules = (Rule(client=HERE, upstream=self.other, upstreamTLS=clientTLS("old.example")),)
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()), rules=rules)
        self.visit()
        self.settle(lambda: bool(self.other.peers) and self.other.peer.ready)
        self.one().stop()

    def test_patternsTLS(self) -> None:
        """
        Otherwise the upstream of a rule gets the route's TLS.
        """
        self.other = Upstream(self, Origin)
        rules = (Rule(upstream=self.other),)
        self.serve(Bridge(tls=serverTLS(), upstreamTLS=clientTLS()), rules=rules)
        self.visit(Browser)
        self.settle(lambda: bool(self.other.peers) and self.other.peer.ready)
        self.one().stop()


class RefusalTests(RuledCase):
    """
    Clients that are refused.  Nothing is dialed for them, and no handshake is made.
    """

    def test_alert(self) -> None:
        """
        As a rule says: with a TLS alert, and then the end.
        """
        self.offload(Rule(sni="shop.example", refuse="alert"), upstream=self.upstream)
        self.assertEnded(self.hello(), UNRECOGNIZED_NAME)
        self.assertOver("refused", "route", "the client asks for shop.example, and rule 1 of the route refuses that")
        self.assertEqual(["hello"], self.phases)

    def test_close(self) -> None:
        """
        Or without a word.
        """
        self.offload(Rule(sni="shop.example", refuse="close"), upstream=self.upstream)
        self.assertEnded(self.hello(), b"")
        self.assertOver("refused", "route", "the client asks for shop.example, and rule 1 of the route refuses that")

    def test_none(self) -> None:
        """
        A client for whom there is no rule, and no upstream of the route's own, gets the alert.
        """
        self.offload(Rule(sni="old.example", upstream=self.upstream))
        self.assertEnded(self.hello(), UNRECOGNIZED_NAME)
        self.assertOver("refused", "route", "the client asks for shop.example, and no rule of the route is for that")

    def test_nobodyNamed(self) -> None:
        """
        So does one that names nobody.
        """
        self.offload(Rule(sni="*", upstream=self.upstream))
        self.assertEnded(self.hello(serverName=""), UNRECOGNIZED_NAME)
        self.assertOver("refused", "route", "the client names no server, and no rule of the route is for that")

    def test_read(self) -> None:
        """
        A client that speaks TLS takes the alert for what it is.
        """
        for pattern in (
            Offload(tls=serverTLS()),
            Bridge(tls=serverTLS(), upstreamTLS=clientTLS()),
            Passthrough(),
        ):
            self.serve(pattern, rules=(Rule(client=NOT_HERE, upstream=self.upstream),))
            client = self.visit(Browser)
            self.settle(lambda client=client: client.ended == "failed")  # type: ignore[misc]
            self.forget()

    def test_muchBehind(self) -> None:
        """
        The alert arrives also where the client has sent much behind its hello.
        """
        self.offload(Rule(refuse="alert"))
        client = self.hello()
        client.write(bytes(100000))
        self.assertEnded(client, UNRECOGNIZED_NAME)

    def test_network(self) -> None:
        """
        A client is refused by its network.
        """
        self.offload(Rule(client=HERE, refuse="close"), upstream=self.upstream)
        self.assertEnded(self.hello(), b"")

    def test_unheard(self) -> None:
        """
        Where that is by a close, nobody waits for its hello, and a doubtful one is not answered.
        """
        rules = (
            Rule(client=NOT_HERE, upstream=self.other),
            Rule(client=HERE, refuse="close"),
            Rule(sni="*", refuse="alert"),
        )
        self.offload(*rules, upstream=self.upstream)
        self.assertEnded(self.visit(), b"")
        self.assertOver("refused", "route", "the client connects, and rule 2 of the route refuses that")

    def test_encrypt(self) -> None:
        """
        Where clients speak no TLS, there is no alert: they get the end, and what they sent is not even read.
        """
        for rule in (Rule(client=HERE, refuse="close"), Rule(client=HERE, refuse="alert"), Rule(refuse="close")):
            self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()), rules=(rule,))
            client = self.visit()
            client.write(b"secret")
            self.assertEnded(client, b"")
            self.assertOver("refused", "route", "the client connects, and rule 1 of the route refuses that")
            self.forget()

    def test_encryptNone(self) -> None:
        """
        So it is where there is no rule for a client.
        """
        rules = (Rule(client=NOT_HERE, upstream=self.upstream),)
        self.serve(Encrypt(upstreamTLS=clientTLS()), rules=rules)
        self.assertEnded(self.visit(), b"")
        self.assertOver("refused", "route", "the client connects, and no rule of the route is for that")


class SecondHelloTests(SessionCase):
    """
    Clients that are asked for another key share, and so send a second hello.
    """

    def change(
        self, name: str = "shop.example", version: str = "TLSv1.3", groups: bytes = b"P-256:X25519", alpn: bytes = b"h2"
    ) -> Any:
        """
        Have a client connect that has changed its mind by then.
        """
        tls = serverTLS(groups="X25519", alpn=("h2", "http/1.1"))
        self.serve(Offload(tls=tls, upstream=self.upstream))

        def changing(connection: SSL.Connection, *_: int) -> None:
            if b"write client hello" in connection.get_state_string():
                connection.set_tlsext_host_name(name.encode())
                connection.set_alpn_protos([alpn])

        def make(sock: Any) -> Browser:
            peer = Browser(sock, version=version, alpn=(b"h2",))
            assert lib.SSL_set1_curves_list(peer.connection._ssl, groups) == 1
            peer.connection.set_info_callback(changing)
            return peer

        return self.visit(make)

    def test_otherServer(self) -> None:
        """
        One that names another server there is refused: rules went by the first, and OpenSSL goes by the second.
        """
        client = self.change("hidden.example")
        self.settle(lambda: bool(client.ended))
        self.assertEqual(0, self.upstream.dialed)
        self.assertOver("refused", "handshake", "the client's second hello names another server than its first")

    def test_otherProtocol(self) -> None:
        """
        So is one that is given a protocol which it had not offered when the rules were looked at.
        """
        client = self.change(alpn=b"http/1.1")
        self.settle(lambda: bool(client.ended))
        self.assertEqual(0, self.upstream.dialed)
        self.assertOver(
            "refused", "handshake", "the client's second hello offers other application protocols than its first"
        )

    def test_sameServer(self) -> None:
        """
        One that names the same, in whatever case, is let in; and so is one that is not asked.
        """
        others: list[dict[str, Any]] = [
            {"name": "Shop.EXAMPLE"},
            {"name": "x", "groups": b"X25519"},
            {"name": "x", "version": "TLSv1.2"},
        ]
        for more in others:
            client = self.change(**more)
            client.write(b"question")
            self.settle(lambda: bool(self.upstream.peers) and self.upstream.peers[-1].received == b"question")
            self.one().stop()
            self.forget()


class DoubtTests(RuledCase):
    """
    Hellos that are doubtful, under rules.
    """

    DOUBTFUL = bytes((22, 3, 1, 0, 4, 2, 0, 0, 0))
    PLAIN = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"

    def sent(self, data: bytes, *rules: Rule) -> Peer:
        """
        Have a client connect that sends something else than a hello.
        """
        self.offload(*rules, upstream=None if rules else self.upstream)
        client: Peer = self.visit()
        client.write(data)
        return client

    def test_silent(self) -> None:
        """
        Where the last rule refuses everybody else without a word, they get none for their doubtful hello either: the
        end, and no reset.
        """
        for data in (self.DOUBTFUL, self.PLAIN, b"no TLS at all", bytes(100000)):
            client = self.sent(data, Rule(sni="*", upstream=self.upstream), Rule(refuse="close"))
            self.assertEnded(client, b"")
        self.assertEqual({("refused", "hello")}, {(each["outcome"], each["phase"]) for each in self.told()})

    def test_told(self) -> None:
        """
        With other rules, and without any, they are told what is wrong.
        """
        for rules in (
            (),
            (Rule(refuse="alert"),),
            (Rule(client=NOT_HERE, refuse="close"),),
            (Rule(client=NOT_HERE, refuse="close"), Rule(upstream=self.upstream)),
        ):
            self.assertEnded(self.sent(self.DOUBTFUL, *rules), bytes((21, 3, 3, 0, 2, 2, 10)))
            client = self.sent(self.PLAIN, *rules)
            self.settle(lambda client=client: bool(client.ended))  # type: ignore[misc]
            self.assertEqual(b"HTTP/1.1 400 Bad Request", bytes(client.received[:24]))
