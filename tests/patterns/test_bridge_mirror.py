# -*- test-case-name: tests.patterns.test_bridge -*-
"""
Tests for L{tlsproxy.patterns.bridge} where the upstream chooses the application protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import lib

from tests.acting import Act, ActingCase
from tlsproxy.errors import ConfigurationError
from tlsproxy.handler import FAR, NEAR
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Route
from tlsproxy.rules import Rule
from tlsproxy.targets import Targets, parseTarget
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS
from tlsproxy.testing.sessions import LINGER, Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.policy import ClientPolicy


class MirrorTests(SessionCase):
    """
    The client is given what the upstream has chosen.
    """

    offered: Sequence[bytes]
    alerts: list[int]

    def serveMirror(self, origin: Any = Origin, tls: Any = None, **route: Any) -> None:
        """
        Serve in this mode.
        """
        self.upstream = Upstream(self, origin)
        mirror = tls or serverTLS(alpn=("mirror",))
        self.serve(Bridge(tls=mirror, upstream=self.upstream, upstreamTLS=clientTLS()), **route)

    def chosen(self, choose: Any, *offers: bytes, version: str = "TLSv1.3") -> bytes:
        """
        Have a client offer protocols, and an upstream choose.

        @return: What the client is given; both sides speak it.
        """
        self.offered = ()

        def select(offered: list[bytes]) -> Any:
            self.offered = offered
            return choose(offered)

        self.serveMirror(partial(choosing, select, version))
        client = self.visit(partial(Browser, alpn=offers, version=version))
        self.settle(lambda: client.ready and self.upstream.peer.ready)
        client.write(b"question")
        self.settle(lambda: self.upstream.peer.received == b"question")
        given = client.connection.get_alpn_proto_negotiated()
        self.assertEqual(given, self.upstream.peer.connection.get_alpn_proto_negotiated())
        self.one().stop()
        self.settle()
        return bytes(given)

    def test_order(self) -> None:
        """
        The hello and the rules come first; then the upstream, all of it; then the client.
        """
        self.serveMirror(partial(Origin, alpn=b"h2"))
        client = self.visit(partial(Browser, alpn=(b"h2",)))
        self.settle(lambda: client.ready)
        self.assertEqual(["hello", "dial", "upstream_handshake", "handshake", "idle"], self.phases)
        self.one().stop()

    def test_choice(self) -> None:
        """
        The upstream is offered what the client offers, in its order, and its choice is the client's.
        """
        for version in ("TLSv1.2", "TLSv1.3"):
            for choice in (b"h2", b"http/1.1", b"x-own"):
                offers = (b"h2", b"http/1.1", b"x-own")
                self.assertEqual(choice, self.chosen(lambda _, choice=choice: choice, *offers, version=version))
                self.assertEqual(list(offers), self.offered)
                self.forget()

    def test_none(self) -> None:
        """
        Where the upstream chooses none, or knows of no such thing, the client is given none.
        """
        self.assertEqual(b"", self.chosen(lambda _: SSL.NO_OVERLAPPING_PROTOCOLS, b"h2"))
        self.assertEqual([b"h2"], self.offered)
        self.forget()
        self.serveMirror()
        client = self.visit(partial(Browser, alpn=(b"h2",)))
        self.settle(lambda: client.ready)
        self.assertEqual(b"", client.connection.get_alpn_proto_negotiated())
        self.one().stop()

    def test_noneOffered(self) -> None:
        """
        A client that offers none has none offered.
        """
        self.assertEqual(b"", self.chosen(lambda _: b"h2"))
        self.assertEqual((), self.offered)

    def refused(self, origin: Any, *offers: bytes) -> None:
        """
        Have a client connect where the upstream does not come about.
        """
        self.serveMirror(origin)
        client = self.noting(*offers)
        self.settle(lambda: client.ended == "failed")
        self.assertHeard(client)

    def noting(self, *offers: bytes) -> Any:
        """
        Have a client connect, and note the alerts that it gets.
        """
        client = self.visit(partial(Browser, alpn=offers))
        self.alerts = []

        def note(_: SSL.Connection, where: int, value: int) -> None:
            if where == 0x4004:
                self.alerts.append(value & 255)

        client.connection.set_info_callback(note)
        return client

    def assertHeard(self, client: Any) -> None:
        """
        No reset comes behind the alert, which would take it away from a client that has not read it yet.
        """
        self.after(LINGER)
        self.assertFalse(self.aborted(client))

    def test_upstreamRefuses(self) -> None:
        """
        The alert of an upstream that speaks nothing of what the client offers is the client's, too.
        """

        def refuse(_: list[bytes]) -> Any:
            raise SSL.Error("none of these")

        self.refused(partial(choosing, refuse, "TLSv1.3"), b"h2")
        self.assertEqual([120], self.alerts)
        self.assertOver(
            "failed",
            "upstream_handshake",
            "the upstream broke TLS off (alert no_application_protocol received): "
            "it speaks none of the application protocols offered; "
            "offer one that it speaks, by alpn of upstream_tls, or of tls in mode bridge",
        )

    def test_upstreamNotBelieved(self) -> None:
        """
        An upstream with another certificate than it should have ends the session, before the client has been answered.
        """
        self.refused(partial(Origin, name="other.example"), b"h2")
        self.assertEqual([80], self.alerts)
        ((outcome, phase),) = self.factory.counters
        self.assertEqual(("failed", "upstream_handshake"), (outcome, phase))

    def test_notDialed(self) -> None:
        """
        An upstream that cannot be reached ends it in the same way.
        """
        self.serveMirror()
        self.upstream.refuses = True
        client = self.noting(b"h2")
        self.settle(lambda: client.ended == "failed")
        self.assertEqual([80], self.alerts)
        self.assertHeard(client)
        ((outcome, phase),) = self.factory.counters
        self.assertEqual(("failed", "dial"), (outcome, phase))

    def test_upstreamCloses(self) -> None:
        """
        An upstream that closes in the middle of its handshake ends the session.
        """
        self.serveMirror(lambda sock: Origin(sock, clear=True))
        client = self.visit(partial(Browser, alpn=(b"h2",)))
        self.settle(lambda: self.upstream.dialed == 1)
        self.upstream.peer.cut()
        self.settle(lambda: client.ended == "failed")
        self.assertOver(
            "ended", "upstream_handshake", "the upstream closed the connection in the middle of the TLS handshake"
        )

    def late(self, phase: str) -> None:
        """
        Have an upstream be late in a phase.
        """
        self.serveMirror(lambda sock: Origin(sock, clear=True), upstreamHandshake=2, dial=2)
        self.upstream.answers = phase != "dial"
        client = self.noting(b"h2")
        self.settle(lambda: self.one().phase == phase)
        self.after(3)
        self.settle(lambda: client.ended == "failed")
        self.assertEqual([80], self.alerts)
        self.assertHeard(client)
        self.assertEqual({("expired", phase): 1}, dict(self.factory.counters))

    def test_late(self) -> None:
        """
        An upstream that does not finish its handshake is given up at the deadline of that, and the client is told so.
        """
        self.late("upstream_handshake")

    def test_silent(self) -> None:
        """
        So it is where nothing answers at all.
        """
        self.late("dial")

    def test_stopped(self) -> None:
        """
        Where the service stops meanwhile, nobody gets any further time.
        """
        self.serveMirror(lambda sock: Origin(sock, clear=True))
        client = self.noting(b"h2")
        self.settle(lambda: self.upstream.dialed == 1)
        self.one().stop()
        self.settle(lambda: bool(client.ended))
        self.assertEqual([], self.alerts)
        self.assertTrue(self.aborted(client))

    def test_clientGoes(self) -> None:
        """
        A client that is gone when the upstream has chosen leaves nothing behind.
        """
        self.serveMirror(lambda sock: Origin(sock, alpn=b"h2", clear=True))
        client = self.visit(partial(Browser, alpn=(b"h2",)))
        self.settle(lambda: self.upstream.dialed == 1)
        client.cut()
        self.upstream.peer.startTLS()
        self.settle(lambda: not self.factory.sessions)
        ((_, phase),) = self.factory.counters
        self.assertEqual("handshake", phase)

    def test_rules(self) -> None:
        """
        Whom a rule refuses has nothing dialed for it; whom it leads elsewhere is given the choice of that one.
        """
        other = Upstream(self, partial(Origin, alpn=b"h2"))
        rules = (Rule(sni="bad.example", refuse="alert"), Rule(sni="other.example", upstream=other))
        self.serveMirror(rules=rules)
        client = self.visit(partial(Browser, serverName="bad.example", alpn=(b"h2",)))
        self.settle(lambda: client.ended == "failed")
        self.assertEqual((0, 0), (self.upstream.dialed, other.dialed))
        client = self.visit(partial(Browser, serverName="other.example", alpn=(b"h2",)))
        self.settle(lambda: client.ready)
        self.assertEqual(b"h2", client.connection.get_alpn_proto_negotiated())
        self.assertEqual((0, 1), (self.upstream.dialed, other.dialed))
        self.one().stop()

    def test_unknownName(self) -> None:
        """
        A client that asks for a name that we show nothing for has nothing dialed for it.
        """
        self.serveMirror(tls=serverTLS(alpn=("mirror",), unknownSni="refuse"))
        client = self.visit(partial(Browser, serverName="other.example", alpn=(b"h2",)))
        self.settle(lambda: client.ended == "failed")
        self.assertEqual(0, self.upstream.dialed)
        ((outcome, phase),) = self.factory.counters
        self.assertEqual(("refused", "route"), (outcome, phase))

    def test_authorize(self) -> None:
        """
        The program is asked before anything is dialed.
        """
        self.serveMirror(authorize=lambda session: False)
        client = self.visit(partial(Browser, alpn=(b"h2",)))
        self.settle(lambda: bool(client.ended))
        self.assertEqual(0, self.upstream.dialed)
        self.assertOver("refused", "route", "the program's authorize() does not let the client in")

    def test_secondHello(self) -> None:
        """
        A client that takes back in a second hello what the upstream has chosen is refused.
        """
        self.serveMirror(partial(Origin, alpn=b"h2"), serverTLS(alpn=("mirror",), groups="X25519"))

        def changing(connection: SSL.Connection, *_: int) -> None:
            if self.upstream.dialed == 0 and b"write client hello" in connection.get_state_string():
                connection.set_alpn_protos([b"http/1.1"])

        def make(sock: Any) -> Browser:
            peer = Browser(sock, alpn=(b"h2",))
            preferring(peer, b"P-256:X25519")
            peer.connection.set_info_callback(changing)
            return peer

        client = self.visit(make)
        self.settle(lambda: client.ended == "failed")
        ((outcome, phase),) = self.factory.counters
        self.assertEqual(("refused", "handshake"), (outcome, phase))

    def test_optionalCertificate(self) -> None:
        """
        A certificate that a client may show is looked at in its handshake.
        """
        self.serveMirror(partial(Origin, alpn=b"h2"), serverTLS(alpn=("mirror",), clients="optional"))
        client = self.visit(partial(Browser, alpn=(b"h2",), identity=certificate("alice")))
        self.settle(lambda: client.ready)
        self.assertIn("CN=alice", self.one().clientCertificate)
        self.one().stop()


class ConfiguredTests(ActingCase):
    """
    Where nobody can be asked.
    """

    def test_required(self) -> None:
        """
        Where a certificate is demanded nothing is dialed before it has been shown.
        """
        error = self.assertRaises(ConfigurationError, serverTLS, alpn=("mirror",), clients="required")
        self.assertIn("tls.alpn", str(error))
        self.assertIn("before the client has shown a certificate", str(error))

    def test_notAlone(self) -> None:
        """
        There is nothing beside it to choose from.
        """
        error = self.assertRaises(ConfigurationError, serverTLS, alpn=("mirror", "h2"))
        self.assertIn('"mirror" stands alone', str(error))

    def test_upstreams(self) -> None:
        """
        Toward the upstream there is nobody to mirror.
        """
        policy = ClientPolicy(alpn=("mirror",))
        error = self.assertRaises(ConfigurationError, ClientTLS.load, policy, "x.example")
        self.assertIn("upstream_tls.alpn", str(error))

    def test_plainUpstreams(self) -> None:
        """
        A plain upstream cannot be asked.
        """
        tls = serverTLS(alpn=("mirror",))
        targets = Targets(allow=(parseTarget("*:443", True),))
        for make in (lambda: Offload(tls=tls, upstream="a:1"), lambda: Connect(tls=tls, targets=targets)):
            error = self.assertRaises(ValueError, make)
            self.assertIn("speaks no TLS here: name the protocols", str(error))

    def test_handlers(self) -> None:
        """
        Nor can one with which a handler has to talk before.
        """

        bridge = Bridge(tls=serverTLS(alpn=("mirror",)), upstream="a:1", upstreamTLS=clientTLS())
        for sides in ({NEAR}, {FAR}, {NEAR, FAR}):
            options = Act(starts=frozenset(sides))
            error = self.assertRaises(ValueError, Route, name="x", listen="1", pattern=bridge, handlers=(options,))
            self.assertIn("before any of them can have started TLS", str(error))
        Route(name="x", listen="1", pattern=bridge, handlers=(Act(),))

    def test_otherHandlers(self) -> None:
        """
        Any other finds both sides in TLS.
        """
        client = self.bridge(
            self.act(),
            make=partial(Browser, alpn=(b"h2",)),
            origin=partial(Origin, alpn=b"h2"),
            tls=serverTLS(alpn=("mirror",)),
        )
        client.write(b"x")
        self.settle(lambda: bool(self.upstream.peers) and self.upstream.peer.received == b"x")
        self.assertEqual(b"h2", client.connection.get_alpn_proto_negotiated())
        self.one().stop()


def choosing(choose: Any, version: str, sock: Any) -> TLSPeer:
    """
    Make an upstream that chooses.

    @param choose: Makes an answer of what it is offered.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version({"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}[version])
    identity = certificate("upstream", "upstream.example")
    context.use_certificate(identity.chain[0])
    context.use_privatekey(identity.key)
    context.set_alpn_select_callback(lambda _, offered: choose(offered))
    return TLSPeer(sock, version, server=True, context=context)


def preferring(peer: Browser, names: bytes) -> None:
    """
    Have a client prefer a group that we do not have, so that we ask it for another hello.
    """
    assert lib.SSL_set1_curves_list(peer.connection._ssl, names) == 1
