# -*- test-case-name: tests.test_datagramtables -*-
"""
Routes whose sides are datagrams.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import UDP
from tlsproxy.datagramtables import tellDatagrams
from tlsproxy.handlertables import Told
from tlsproxy.reading import Reader
from tlsproxy.settings import RouteSettings

MODES = ("offload", "encrypt", "bridge", "passthrough")


class DatagramTestCase(ConfigurationTestCase):
    """
    A test of routes of datagrams.
    """

    def both(self, mode: str, **more: Any) -> dict[str, Any]:
        """
        Make a document of one route, whose two sides are datagrams unless it is told otherwise.
        """
        return self.document(mode, **{"listen": "udp:127.0.0.1:8443", "upstream": "udp:server.example:53", **more})


class RightTests(DatagramTestCase):
    """
    What is right once it can be run.
    """

    def test_route(self) -> None:
        """
        Each mode that carries datagrams makes its route of them.
        """
        for mode in MODES:
            configuration = self.build(self.both(mode))
            (route,) = configuration.routes
            self.assertEqual(UDP("127.0.0.1", 8443), route.listen)
            self.assertEqual(UDP("server.example", 53), getattr(route.pattern, "upstream", None))
            self.assertEqual(((), 1200), (configuration.warnings, route.mtu))

    def test_name(self) -> None:
        """
        The certificate of an upstream has to be valid for its host, and that of a rule for the rule's.
        """
        rule = {"client": "192.0.2.0/24", "upstream": "udp:ruled.example:443"}
        (route,) = self.build(self.both("encrypt", rule=[rule])).routes
        pattern: Any = route.pattern
        self.assertEqual("server.example", pattern.upstreamTLS.name)
        assert route.rules[0].upstreamTLS is not None
        self.assertEqual("ruled.example", route.rules[0].upstreamTLS.name)

    def test_keys(self) -> None:
        """
        What holds for datagrams as for streams is taken.
        """
        more: dict[str, Any] = {
            "mtu": 1400,
            "max_connections": 100,
            "limits": {"idle": 60},
            "tls": {"client_ca": "ca.pem", "alpn": ["coap"], "min_version": "1.2", "max_version": "1.2"},
            "rule": [{"sni": "other.example", "upstream": "udp:5683"}, {"sni": "bad.example", "refuse": "alert"}],
        }
        (route,) = self.build(self.both("offload", **more)).routes
        self.assertEqual((1400, 100, 60.0), (route.mtu, route.maxConnections, route.limits.idle))
        self.assertEqual(UDP("", 5683), route.rules[0].upstream)

    def test_circle(self) -> None:
        """
        A route cannot have itself as its upstream.
        """
        places = (
            ("udp:127.0.0.1:8443", "udp:127.0.0.1:8443"),
            ("udp:127.0.0.1:8443", "udp:8443"),
            ("udp:8443", "udp:localhost:8443"),
            ("udp:8443", "udp:[::1]:8443"),
            ("udp:[::1]:8443", "udp:[0:0::1]:8443"),
            ("udp:Shop.example:8443", "udp:shop.example:8443"),
        )
        for listen, upstream in places:
            document = self.both("offload", listen=listen, upstream=upstream)
            self.assertProblem("route[0].upstream", "would go in a circle", document)
        rule = {"sni": "other.example", "upstream": "udp:8443"}
        self.assertProblem("route[0].rule[0].upstream", "would go in a circle", self.both("offload", rule=[rule]))
        others = (
            ("udp:127.0.0.1:8443", "udp:127.0.0.1:8444"),
            ("udp:127.0.0.1:8443", "udp:127.0.0.2:8443"),
            ("udp:0.0.0.0:8443", "udp:[::1]:8443"),
            ("udp:8443", "udp:192.0.2.1:8443"),
            ("udp:8443", "udp:shop.example:8443"),
        )
        for listen, upstream in others:
            self.build(self.both("offload", listen=listen, upstream=upstream))

    def test_mtu(self) -> None:
        """
        A datagram's size is 256 bytes at least, and at most what UDP carries.
        """
        for mtu in (255, 65508):
            self.assertProblem("route[0].mtu", "256 to 65507", self.both("offload", mtu=mtu))
        for mtu in (256, 65507):
            self.build(self.both("offload", mtu=mtu))

    def test_besideStreams(self) -> None:
        """
        A route of streams may have the same port; another of datagrams may not.
        """
        datagrams = self.both("offload", name="a")["route"][0]
        streams = self.document("offload", name="b")["route"][0]
        self.assertEqual(2, len(self.build({"route": [datagrams, streams]}).routes))
        for listen in ("udp:127.0.0.1:8443", "udp:8443"):
            other = self.both("bridge", name="c", listen=listen)["route"][0]
            self.assertProblem("route[1].listen", "of route a", {"route": [datagrams, other]})


class RefusedTests(DatagramTestCase):
    """
    What is refused, with one sentence at the key that it is about.
    """

    def test_apart(self) -> None:
        """
        Datagrams on one side and a stream on the other are refused, and of TLS and DTLS it is told as such.
        """
        for mode in MODES:
            near, far = ("DTLS", "TLS") if mode == "bridge" else ("datagrams", "a stream")
            for upstream in ("server.example:443", "unix:/run/x", "tcp:host=server.example:port=443"):
                self.assertProblem(
                    "route[0].upstream",
                    f"{near} toward the clients and {far} toward the upstream cannot be joined: "
                    "write udp:HOST:PORT here, too",
                    self.both(mode, upstream=upstream, **self.named(mode)),
                )
            near, far = ("TLS", "DTLS") if mode == "bridge" else ("a stream", "datagrams")
            for listen in ("8443", "unix:/run/x", "tcp:8443"):
                self.assertProblem(
                    "route[0].upstream",
                    f"{near} toward the clients and {far} toward the upstream cannot be joined: "
                    'write listen = "udp:PORT", too',
                    self.both(mode, listen=listen),
                )

    def named(self, mode: str) -> dict[str, Any]:
        """
        Name the upstream, as it is to be where its address does not.
        """
        return {"upstream_tls": {"name": "server.example"}} if mode in ("encrypt", "bridge") else {}

    def test_rules(self) -> None:
        """
        So is a rule that leads from one to the other.
        """
        rules = [
            {"sni": "a.example", "upstream": "udp:server.example:1"},
            {"sni": "b.example", "upstream": "server.example:1"},
            {"sni": "c.example", "refuse": "alert"},
        ]
        self.assertProblem("route[0].rule[1].upstream", "cannot be joined", self.both("offload", rule=rules))
        self.assertProblem(
            "route[0].rule[0].upstream",
            "cannot be joined",
            self.both("offload", listen="8443", upstream="server.example:1", rule=rules),
        )

    def test_otherModes(self) -> None:
        """
        Modes of tunnels carry no datagrams.
        """
        for mode in ("connect", "sequential-server", "sequential-client"):
            document = self.document(mode, listen="udp:127.0.0.1:3128")
            sentence = f"mode {mode} carries streams, and no datagrams: leave udp: out"
            self.assertEqual(sentence, self.problems(document)["route[0].listen"])

    def test_mapping(self) -> None:
        """
        A reverse proxy is not reached by datagrams.
        """
        mapping = (self.folder / "mapping.toml").read_text()
        (self.folder / "mapping.toml").write_text(mapping.replace("dmz.example:443", "udp:dmz.example:443"))
        (sentence,) = self.problems(self.document("sequential-client")).values()
        self.assertIn("say where the reverse proxy is", sentence)

    def test_status(self) -> None:
        """
        The state of the proxy is not told by datagrams.
        """
        document = {**self.document("offload"), "proxy": {"status": "udp:9090"}}
        self.assertProblem("proxy.status", "it is told by HTTP, on a stream", document)

    def test_version(self) -> None:
        """
        DTLS 1.3 is refused, and its cipher suites, wherever they are asked for.
        """
        for mode, table in (("offload", "tls"), ("encrypt", "upstream_tls")):
            for key in ("min_version", "max_version"):
                self.assertProblem(
                    f"route[0].{table}.{key}", "there is no DTLS 1.3 here", self.both(mode, **{table: {key: "1.3"}})
                )
            suites = {"ciphersuites": "TLS_AES_128_GCM_SHA256"}
            self.assertProblem(
                f"route[0].{table}.ciphersuites", "those of version 1.3", self.both(mode, **{table: suites})
            )

    def test_mirror(self) -> None:
        """
        Nobody is asked for a protocol while a client waits, and it is said why.
        """
        for alpn in ("mirror", ["mirror"]):
            self.assertProblem(
                "route[0].tls.alpn", "says its hello again meanwhile", self.both("bridge", tls={"alpn": alpn})
            )

    def test_streamKeys(self) -> None:
        """
        What is about the ends of a stream, or before it, is refused, defaults that are written out as well.
        """
        for more, key, sentence in (
            ({"accept_proxy": ["192.0.2.0/24"]}, "accept_proxy", "a PROXY header goes before a stream"),
            ({"send_proxy": "v2"}, "send_proxy", "a PROXY header goes before a stream"),
            ({"close": "each"}, "close", "no end of one direction"),
            ({"close": "both"}, "close", "no end of one direction"),
            ({"truncation": "tell"}, "truncation", "no end that could be cut off"),
        ):
            self.assertProblem(f"route[0].{key}", sentence, self.both("offload", **more))
        self.assertProblem(
            "route[0].require_tls", "known by the hello of DTLS only", self.both("passthrough", require_tls=False)
        )

    def test_mtuOfStreams(self) -> None:
        """
        A route of streams has no use for a datagram's size.
        """
        self.assertProblem("route[0].mtu", "this route has streams", self.document("offload", mtu=1200))

    def test_handlers(self) -> None:
        """
        A handler has to declare that it takes datagrams.
        """
        self.assertProblem(
            "route[0].handler[0]",
            "handler rate takes streams only, and this route has datagrams",
            self.both("offload", handler=[{"name": "rate", "up": 1000}]),
        )

    def test_declared(self) -> None:
        """
        One that declares it is taken, unless it acts before TLS.
        """
        for startsTLS, serverFirst, sentence in (
            ((), False, ""),
            (("near",), False, "handler one acts before TLS, and DTLS is there from the beginning"),
            ((), True, "handler one acts before TLS, and DTLS is there from the beginning"),
        ):
            reader = Reader(self.folder)
            told = Told(
                path="x",
                name="one",
                options=object(),
                startsTLS=frozenset(startsTLS),
                serverFirst=serverFirst,
                datagrams=True,
            )
            settings = RouteSettings(mode="offload", listen="udp:1", upstream="udp:2")
            tellDatagrams(reader, settings, {}, "route[0]", [told])
            self.assertEqual([sentence] if sentence else [], [problem.sentence for problem in reader.problems])

    def test_several(self) -> None:
        """
        All that is wrong is told at once.
        """
        document = self.both("bridge", upstream="server.example:443", close="both", tls={"max_version": "1.3"})
        expected = {f"route[0].{key}" for key in ("upstream", "close", "tls.max_version")}
        self.assertEqual(expected, set(self.problems(document)))
