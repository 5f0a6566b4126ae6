# -*- test-case-name: tests.test_config -*-
"""
From documents to routes.
"""

from __future__ import annotations

from typing import Any

from attrs import fields

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import TCP, Endpoint, Unix
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Limits
from tlsproxy.settings import LATER, LATER_MODES, ProxySettings, RouteSettings
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy, snake

VALUES: dict[tuple[type[Any], str], tuple[Any, Any]] = {
    (ProxySettings, "stateDir"): ("state", "{folder}/state"),
    (ProxySettings, "logLevel"): ("error", "error"),
    (ServerPolicy, "alpn"): (["h2", "http/1.1"], ("h2", "http/1.1")),
    (ServerPolicy, "minVersion"): ("1.3", "1.3"),
    (ServerPolicy, "maxVersion"): ("1.2", "1.2"),
    (ServerPolicy, "ciphers"): ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    (ServerPolicy, "ciphersuites"): ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (ServerPolicy, "groups"): (["X25519", "P-256"], "X25519:P-256"),
    (ServerPolicy, "cert"): ("server.pem", CertificateFiles("{folder}/server.pem")),
    (ServerPolicy, "clientCa"): (["ca.pem"], ("{folder}/ca.pem",)),
    (ServerPolicy, "clientAuth"): ("none", "none"),
    (ClientPolicy, "ca"): (["system", "ca.pem"], ("system", "{folder}/ca.pem")),
    (ClientPolicy, "auth"): ("none", "none"),
    (ClientPolicy, "name"): ("other.example", "other.example"),
}
"""What each key is given, and what is read of it; C{ClientPolicy} shares the rest with C{ServerPolicy}."""


class KeyTests(ConfigurationTestCase):
    """
    Every key is read.
    """

    def expected(self, value: Any) -> Any:
        """
        Put this test's folder into an expected value.
        """
        if isinstance(value, str):
            return value.replace("{folder}", str(self.folder))
        if isinstance(value, tuple):
            return tuple(map(self.expected, value))
        if isinstance(value, CertificateFiles):
            return CertificateFiles(self.expected(value.chain), value.key)
        return value

    def test_tls(self) -> None:
        """
        Every key of C{tls} and C{upstream_tls} comes into its policy.
        """
        for cls, table, mode in ((ServerPolicy, "tls", "offload"), (ClientPolicy, "upstream_tls", "encrypt")):
            for one in fields(cls):
                given, read = VALUES.get((cls, one.name)) or VALUES[ServerPolicy, one.name]
                route = self.build(self.document(mode, **{table: {snake(one.name): given}})).routes[0]
                policy = getattr(route.pattern, "tls" if cls is ServerPolicy else "upstreamTLS").policy
                self.assertEqual(self.expected(read), getattr(policy, one.name), one.name)

    def test_limits(self) -> None:
        """
        Every limit is read, and the others keep their defaults.
        """
        for one in fields(Limits):
            route = self.build(self.document(limits={snake(one.name): 77})).routes[0]
            self.assertEqual(Limits(**{one.name: 77.0}), route.limits)

    def test_proxy(self) -> None:
        """
        Every key of C{[proxy]} is read.
        """
        for one in fields(ProxySettings):
            given, read = VALUES[ProxySettings, one.name]
            proxy = self.build(self.document() | {"proxy": {snake(one.name): given}}).proxy
            self.assertEqual(self.expected(read), getattr(proxy, one.name))

    def test_route(self) -> None:
        """
        A route's own keys are read, those that have a default as well without being given.
        """
        route = self.build(self.document("offload", name="shop", close="both", truncation="abort")).routes[0]
        self.assertEqual(("shop", "both", "abort"), (route.name, route.close, route.truncation))
        self.assertEqual((TCP("127.0.0.1", 8443), Limits()), (route.listen, route.limits))
        route = self.build(self.document("offload")).routes[0]
        self.assertEqual(("offload", "each", "tell"), (route.name, route.close, route.truncation))

    def test_modes(self) -> None:
        """
        Each mode makes its pattern, toward its upstream.
        """
        for mode, cls in (("offload", Offload), ("encrypt", Encrypt), ("bridge", Bridge)):
            pattern = self.build(self.document(mode)).routes[0].pattern
            self.assertIsInstance(pattern, cls)
            assert isinstance(pattern, (Offload, Encrypt, Bridge))
            self.assertEqual((mode, TCP), (pattern.mode, type(pattern.upstream)))

    def test_wrongKeys(self) -> None:
        """
        A key that does not exist is told in every table, with the one that is meant.
        """
        for table, wrong, right in (
            ("tls", "certs", "cert"),
            ("tls", "min-version", "min_version"),
            ("tls", "kye", "key"),
            ("upstream_tls", "cas", "ca"),
            ("limits", "idel", "idle"),
        ):
            self.assertProblem(
                f"route[0].{table}.{wrong}", f"no such key; do you mean {right}?", self.document(**{table: {wrong: 1}})
            )
        self.assertProblem("route[0].listne", "do you mean listen?", self.document(listne="1"))
        self.assertProblem("route[0].limit", "do you mean limits?", self.document(limit=1))
        self.assertProblem("proxy.loglevel", "do you mean log_level?", self.document() | {"proxy": {"loglevel": 1}})
        self.assertProblem("routes", "no such table; do you mean route?", self.document() | {"routes": []})
        self.assertProblem('route[0]."a.b\\n"', "no such key", self.document(**{"a.b\n": 1}))

    def test_reserved(self) -> None:
        """
        Every word that is kept for later is refused as such, in its table.
        """
        for section, words in LATER.items():
            for word in words:
                if section.startswith("route."):
                    document = self.document(**{section.removeprefix("route."): {word: "x"}})
                elif section == "route":
                    document = self.document(**{word: "x"})
                else:
                    document = self.document() | ({section: {word: "x"}} if section else {word: {}})
                key = section.replace("route", "route[0]") + ("." if section else "") + word
                self.assertProblem(key, "not yet supported", document)

    def test_reservedModes(self) -> None:
        """
        A mode that is kept for later is refused as such.
        """
        for mode in LATER_MODES:
            self.assertProblem("route[0].mode", f'mode "{mode}" is not yet supported', self.document(mode=mode))

    def test_wrongModes(self) -> None:
        """
        A mode has to be given, and to exist.
        """
        self.assertProblem("route[0].mode", "do you mean bridge?", self.document(mode="brigde"))
        self.assertProblem("route[0].mode", "say which mode", self.document(mode=None))
        self.assertProblem("route[0].mode", "give a string", self.document(mode=["bridge"]))
        self.assertProblem("route[0].mode", "'' is not one of", self.document(mode=""))

    def test_wrongTables(self) -> None:
        """
        What has to be a table and is not is told.
        """
        self.assertProblem("proxy", "give a table, not a number", self.document() | {"proxy": 1})
        for table in ("tls", "upstream_tls", "limits"):
            self.assertProblem(f"route[0].{table}", "give a table, not a list", self.document(**{table: []}))
        self.assertProblem("route[0]", "give a table, not a string", {"route": ["x"]})
        wrong: tuple[object, ...] = ({}, [], "x", 1)
        for route in wrong:
            self.assertProblem("route", "each under [[route]]", {"route": route})
        self.assertProblem("route", "each under [[route]]", {})

    def test_everyKeyRefusesTables(self) -> None:
        """
        Every key refuses a number of tables with one sentence at its place.
        """
        for table, cls, mode in (
            ("tls", ServerPolicy, "offload"),
            ("upstream_tls", ClientPolicy, "encrypt"),
            ("limits", Limits, "bridge"),
        ):
            for one in fields(cls):
                key = snake(one.name)
                if key != "cert":
                    document = self.document(mode, **{table: {key: [{"x": 1}, 2.5]}})
                    self.assertProblem(f"route[0].{table}.{key}", "give ", document)
        for one in fields(RouteSettings):
            problems = self.problems(self.document(**{snake(one.name): 5}))
            self.assertEqual([f"route[0].{one.name}"], list(problems))
        document = self.document(tls={"cert": {"chain": [], "key": 1}})
        self.assertProblem("route[0].tls.cert", "give a string, not a list", document)


class AddressTests(ConfigurationTestCase):
    """
    Where to listen and what to dial.
    """

    def test_missing(self) -> None:
        """
        Both have to be given.
        """
        self.assertProblem("route[0].listen", "say where to listen", self.document(listen=None))
        self.assertProblem("route[0].upstream", "say what to dial", self.document(upstream=None))
        self.assertProblem("route[0].listen", "say where to listen", self.document(listen=""))

    def test_wrong(self) -> None:
        """
        What cannot be an address is told before anything starts.
        """
        for key, text, sentence in (
            ("listen", "99999", "ports go from 0 to 65535"),
            ("listen", "tcp:99999", "ports go from 0 to 65535"),
            ("listen", "ssl:8443", "the mode sets up TLS by itself"),
            ("listen", "udp:8443", "not yet supported"),
            ("listen", "unix:~nobody-has-this-name/x", "a home that nobody has"),
            ("listen", f"unix:/{'x' * 107}", "too long for a Unix socket"),
            ("upstream", f"unix:{'x' * 107}", "too long for a Unix socket"),
            ("upstream", "host:99999", "ports go from 0 to 65535"),
            ("upstream", "tcp:host:99999", "ports go from 0 to 65535"),
            ("upstream", "tls:host:443", "the mode sets up TLS by itself"),
            ("upstream", "0", "port 0"),
        ):
            self.assertProblem(f"route[0].{key}", sentence, self.document(**{key: text}))

    def test_unix(self) -> None:
        """
        The path of a Unix socket starts from the file's folder.
        """
        route = self.build(self.document("offload", listen="unix:run/in", upstream="unix:/run/out")).routes[0]
        self.assertEqual(Unix(f"{self.folder}/run/in"), route.listen)
        assert isinstance(route.pattern, Offload)
        self.assertEqual(Unix("/run/out"), route.pattern.upstream)

    def test_endpoints(self) -> None:
        """
        Twisted's endpoints may be given.
        """
        route = self.build(self.document("offload", listen="tcp:0:interface=127.0.0.1", upstream="tcp:h:80")).routes[0]
        self.assertEqual(Endpoint("tcp:0:interface=127.0.0.1"), route.listen)

    def test_unresolved(self) -> None:
        """
        A name that does not resolve now may do so later.
        """
        self.build(self.document(upstream="nowhere.invalid:443"))

    def test_names(self) -> None:
        """
        The upstream's certificate shows the name of the host, unless another is given; a host without a name needs
        one.
        """

        def name(**more: Any) -> str:
            pattern = self.build(self.document("encrypt", **more)).routes[0].pattern
            assert isinstance(pattern, Encrypt)
            return pattern.upstreamTLS.name

        self.assertEqual("origin.example", name())
        self.assertEqual("origin.example", name(upstream="tcp:origin.example:443"))
        self.assertEqual("localhost", name(upstream="8443"))
        self.assertEqual("192.0.2.1", name(upstream="192.0.2.1:443"))
        self.assertEqual("other.example", name(upstream_tls={"name": "other.example"}))
        self.assertEqual("other.example", name(upstream="unix:/x", upstream_tls={"name": "other.example"}))
        self.assertEqual("", name(upstream="unix:/x", upstream_tls={"auth": "none"}))
        for upstream in ("unix:/x", "tcp:host=h:port=443"):
            self.assertProblem(
                "route[0].upstream_tls.name", "say which name", self.document("encrypt", upstream=upstream)
            )


class ClashTests(ConfigurationTestCase):
    """
    Routes that cannot stand beside each other.
    """

    def two(self, first: str, second: str) -> dict[str, Any]:
        """
        Two routes, which listen on these.
        """
        routes = [self.document(name=name, listen=listen)["route"][0] for name, listen in (("a", first), ("b", second))]
        return {"route": routes}

    def test_taken(self) -> None:
        """
        A port of a host cannot be taken twice, nor one of all hosts beside one of any.
        """
        for first, second in (
            ("8443", "8443"),
            ("8443", "127.0.0.1:8443"),
            ("[::1]:8443", "8443"),
            ("host.example:8443", "8443"),
            ("host.example:8443", "HOST.example:8443"),
            ("0.0.0.0:8443", "127.0.0.1:8443"),
            ("[::]:8443", "[::1]:8443"),
            ("[0:0::1]:8443", "[::1]:8443"),
            ("unix:x", f"unix:{self.folder}/x"),
            ("tcp:8443", "tcp:8443"),
        ):
            problems = self.problems(self.two(first, second))
            self.assertEqual(["route[1].listen"], list(problems))
            self.assertIn("of route a", problems["route[1].listen"])

    def test_free(self) -> None:
        """
        Other ports, other hosts, other families, and ports that the kernel chooses are no clash.
        """
        for first, second in (
            ("8443", "8444"),
            ("127.0.0.1:8443", "127.0.0.2:8443"),
            ("127.0.0.1:8443", "[::1]:8443"),
            ("0.0.0.0:8443", "[::]:8443"),
            ("a.example:8443", "b.example:8443"),
            ("0", "0"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("unix:x", "unix:y"),
        ):
            self.assertEqual(2, len(self.build(self.two(first, second)).routes))

    def test_names(self) -> None:
        """
        Two routes cannot have one name, be it given or the mode's.
        """
        document = self.two("8443", "8444")
        document["route"][1]["name"] = "a"
        self.assertProblem("route[1].name", "another route is called 'a'", document)
        for route in document["route"]:
            del route["name"]
        self.assertProblem("route[1].name", "another route is called 'bridge'", document)
