# -*- test-case-name: tests.test_tlstables -*-
"""
L{tlsproxy.tlstables}: which clients are let in, and who chooses the application protocol.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import PIN, ConfigurationTestCase
from tests.shouting import installed
from tlsproxy.config import build
from tlsproxy.errors import ConfigurationError
from tlsproxy.testing.certificates import NOW


class MirrorTests(ConfigurationTestCase):
    """
    Where the upstream chooses the application protocol.
    """

    def wrong(self, mode: str, key: str, sentence: str, **more: Any) -> None:
        """
        Such a route is wrong.
        """
        self.assertProblem(f"route[0].{key}", sentence, self.document(mode, **more))

    def test_bridge(self) -> None:
        """
        A bridge can ask.
        """
        (route,) = self.build(self.document(tls={"alpn": "mirror"})).routes
        self.assertTrue(route.pattern.tls.policy.mirrors)  # type: ignore[attr-defined]

    def test_others(self) -> None:
        """
        No other mode can, and a bridge not where a certificate has to be seen before.
        """
        mirror = {"alpn": ["mirror"]}
        self.wrong("offload", "tls.alpn", "speaks no TLS in mode offload: name the protocols", tls=mirror)
        certificate = {"cert": "server.pem", "alpn": "mirror"}
        self.wrong("connect", "tls.alpn", 'speaks "http/1.1" only', tls=certificate)
        self.wrong("encrypt", "upstream_tls.alpn", "for the side of the client", upstream_tls=mirror)
        self.wrong("bridge", "tls.alpn", "before the client has shown", tls={**mirror, "client_ca": "ca.pem"})
        self.wrong("bridge", "tls.alpn", "stands alone", tls={"alpn": ["h2", "mirror"]})
        optional = {**mirror, "client_ca": "ca.pem", "client_auth": "optional"}
        self.build(self.document(tls=optional))

    def test_handlers(self) -> None:
        """
        Nobody can be asked before a handler has started TLS.
        """
        handlers = installed(self)
        for word in ("mirror", ["mirror"]):
            document = self.document("bridge", handler=[{"name": "start"}], tls={"alpn": word})
            error = self.assertRaises(ConfigurationError, build, document, self.folder, NOW, handlers)
            (problem,) = error.problems
            self.assertEqual("route[0].tls.alpn", problem.key)
            self.assertIn("before any handler can have started TLS", problem.sentence)


class AllowedTests(ConfigurationTestCase):
    """
    Who is let in.
    """

    def test_unused(self) -> None:
        """
        What is for client certificates is told where none are asked for.
        """
        for key, value in (("allow_cn", "Ann"), ("allow_all", True), ("pins", PIN), ("crl", "ca.crl")):
            told = self.problems(self.document("offload", tls={key: value}))
            self.assertEqual({f"route[0].tls.{key}"}, set(told))
            self.assertIn("so give client_ca, too", told[f"route[0].tls.{key}"])

    def test_suggested(self) -> None:
        """
        A word that others have leads to ours.
        """
        for key in ("allow", "allow_dn"):
            told = self.problems(self.document("offload", tls={key: "Ann", "client_ca": "ca.pem"}))
            self.assertIn("do you mean allow_", told[f"route[0].tls.{key}"])


class HostTests(ConfigurationTestCase):
    """
    What clients are asked for by the name that they ask for.
    """

    def hosts(self, *hosts: Any, **more: Any) -> dict[str, Any]:
        """
        Make a document with hosts.
        """
        return self.document("offload", tls={"host": list(hosts), **more})

    def test_read(self) -> None:
        """
        Every key of a host is read, files from the folder of the configuration.
        """
        folder = str(self.folder)
        host = {"sni": ["a.example", "*.b.example"], "client_ca": "ca.pem", "client_auth": "optional", "crl": "ca.crl"}
        host |= {"allow_cn": "Ann", "allow_ou": ["ops"], "allow_dns": "a.example", "allow_uri": "x:y", "pins": PIN}
        (route,) = self.build(self.hosts(host, {"sni": "c.example", "client_ca": "ca.pem", "allow_all": True})).routes
        first, second = route.pattern.tls.policy.host  # type: ignore[attr-defined]
        self.assertEqual(("a.example", "*.b.example"), first.sni)
        self.assertEqual(((f"{folder}/ca.pem",), (f"{folder}/ca.crl",)), (first.clientCa, first.crl))
        self.assertEqual((("Ann",), ("ops",), ("a.example",)), (first.allowCn, first.allowOu, first.allowDns))
        self.assertEqual((("x:y",), (PIN,), "optional"), (first.allowUri, first.pins, first.asks))
        self.assertEqual((True, "required"), (second.allowAll, second.asks))

    def test_file(self) -> None:
        """
        In a file they stand under their own heads, and what is wrong is told with its line.
        """
        told = self.fileProblems(
            """
[[route]]
mode = "offload"
listen = "1"
upstream = "2"
tls.cert = "server.pem"
[[route.tls.host]]
sni = "a.example"
client_ca = "ca.pem"
[[route.tls.host]]
sni = "*.*"
allow_cm = "Ann"
"""
        )
        self.assertEqual(2, len(told), told)
        self.assertIn("12: route.tls.host.allow_cm: there is no such key; do you mean allow_", told[0])
        self.assertTrue(told[1].startswith("11: route.tls.host.sni: "), told)

    def test_wrong(self) -> None:
        """
        What is no list of tables, or has a contradiction, is told at its place.
        """
        wrong: tuple[Any, ...] = ([], {}, "a.example", {"sni": "a.example"})
        for hosts in wrong:
            document = self.document("offload", tls={"host": hosts})
            self.assertProblem("route[0].tls.host", "under [[route.tls.host]]", document)
        self.assertProblem("route[0].tls.host[0]", "give a table", self.hosts(5, {"sni": "a", "client_ca": "ca.pem"}))
        contradiction = {"sni": "a.example", "client_ca": "ca.pem", "client_auth": "none"}
        self.assertProblem("route[0].tls.host[0].client_auth", "without a use", self.hosts(contradiction))
        document = self.hosts({"sni": "a.example", "x": 1})
        del document["route"][0]["mode"]
        self.assertIn("route[0].tls.host[0].x", self.problems(document))

    def test_upstream(self) -> None:
        """
        Toward the upstream there are none.
        """
        document = self.document("encrypt", upstream_tls={"host": [{"sni": "a"}]})
        self.assertProblem("route[0].upstream_tls.host", "there is no such key", document)
