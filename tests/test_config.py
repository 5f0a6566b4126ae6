# -*- test-case-name: tests.test_config -*-
"""
From documents to routes.
"""

from __future__ import annotations

from typing import Any

from attrs import fields

from tests.configuring import PIN, ConfigurationTestCase
from tlsproxy.address import TCP
from tlsproxy.route import Limits
from tlsproxy.settings import LATER, LATER_MODES, ProxySettings, RouteSettings, RuleSettings, TargetSettings
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy, snake

VALUES: dict[tuple[type[Any], str], tuple[Any, Any]] = {
    (ProxySettings, "stateDir"): ("state", "{folder}/state"),
    (ProxySettings, "logLevel"): ("error", "error"),
    (ProxySettings, "drain"): (0, 0.0),
    (ProxySettings, "watch"): (False, False),
    (ServerPolicy, "alpn"): (["h2", "http/1.1"], ("h2", "http/1.1")),
    (ServerPolicy, "minVersion"): ("1.3", "1.3"),
    (ServerPolicy, "maxVersion"): ("1.2", "1.2"),
    (ServerPolicy, "ciphers"): ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    (ProxySettings, "maxConnections"): (7, 7),
    (ProxySettings, "status"): ("9090", "9090"),
    (ServerPolicy, "ciphersuites"): ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (ServerPolicy, "groups"): (["X25519", "P-256"], "X25519:P-256"),
    (ServerPolicy, "cert"): ("server.pem", (CertificateFiles("{folder}/server.pem"),)),
    (ServerPolicy, "unknownSni"): ("refuse", "refuse"),
    (ClientPolicy, "cert"): ("server.pem", (CertificateFiles("{folder}/server.pem"),)),
    (ServerPolicy, "clientCa"): (["ca.pem"], ("{folder}/ca.pem",)),
    (ServerPolicy, "clientAuth"): ("none", "none"),
    (ServerPolicy, "crl"): (["ca.crl"], ("{folder}/ca.crl",)),
    (ServerPolicy, "allowAll"): (True, True),
    (ServerPolicy, "allowCn"): (["Ann", "Bob"], ("Ann", "Bob")),
    (ServerPolicy, "allowOu"): ("ops", ("ops",)),
    (ServerPolicy, "allowDns"): ("a.example", ("a.example",)),
    (ServerPolicy, "allowUri"): ("spiffe://x/*", ("spiffe://x/*",)),
    (ServerPolicy, "pins"): (PIN, (PIN,)),
    (ClientPolicy, "ca"): (["system", "ca.pem"], ("system", "{folder}/ca.pem")),
    (ProxySettings, "log"): ("proxy.log", "{folder}/proxy.log"),
    (ProxySettings, "logFormat"): ("json", "json"),
    (ProxySettings, "logRepeats"): (0, 0),
    (ClientPolicy, "auth"): ("none", "none"),
    (ClientPolicy, "name"): ("other.example", "other.example"),
}
"""What each key is given, and what is read of it; C{ClientPolicy} shares the rest with C{ServerPolicy}."""


RULES = ("crl", "allowAll", "allowCn", "allowOu", "allowDns", "allowUri", "pins")
"""What is of use only where certificates are asked for."""


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
                if one.metadata.get("kind") == "tables":
                    continue
                given, read = VALUES.get((cls, one.name)) or VALUES[ServerPolicy, one.name]
                more = {"client_ca": "ca.pem"} if table == "tls" and one.name in RULES else {}
                route = self.build(self.document(mode, **{table: {**more, snake(one.name): given}})).routes[0]
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
        self.assertProblem(
            "route[0].targets.alow", "do you mean allow?", self.document("connect", targets={"alow": "x:1"})
        )
        rule = {"upstream": "other.example:1", "snii": "x"}
        self.assertProblem("route[0].rule[0].snii", "do you mean sni?", self.document(rule=[rule]))
        for wrong, right in (
            ("rules", "rule"),
            ("target", "upstream or targets"),
            ("connect", "upstream"),
            ("drain", "proxy.drain"),
            ("user", "users"),
            ("requireTls", "require_tls"),
        ):
            self.assertProblem(f"route[0].{wrong}", f"do you mean {right}?", self.document(**{wrong: 1}))
        self.assertProblem("route[0].listne", "do you mean listen?", self.document(listne="1"))
        self.assertProblem("route[0].limit", "do you mean limits?", self.document(limit=1))
        self.assertProblem("proxy.loglevel", "do you mean log_level?", self.document() | {"proxy": {"loglevel": 1}})
        self.assertProblem("proxy.listen", "do you mean route.listen?", self.document() | {"proxy": {"listen": "1"}})
        self.assertProblem("routes", "no such table; do you mean route?", self.document() | {"routes": []})
        for key in ("mode", "upstream", "limits", "rule", "tls"):
            self.assertProblem(key, f"no such table; do you mean route.{key}?", self.document() | {key: {}})
        self.assertProblem("drain", "no such table; do you mean proxy.drain?", self.document() | {"drain": 5})
        self.assertProblem("route", "under [[route]], in two pairs of brackets", {"route": {"mode": "offload"}})
        self.assertProblem('route[0]."a.b\\n"', "no such key", self.document(**{"a.b\n": 1}))

    def test_reserved(self) -> None:
        """
        Every word that is kept for later is refused as such, in its table.
        """
        for section, words in LATER.items():
            for word in words:
                if section.startswith("route."):
                    document = self.document(
                        "connect" if section == "route.targets" else "bridge",
                        **{section.removeprefix("route."): {word: "x"}},
                    )
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
                if key not in ("cert", "host"):
                    document = self.document(mode, **{table: {key: [{"x": 1}, 2.5]}})
                    self.assertProblem(f"route[0].{table}.{key}", "give ", document)
        for one in fields(RouteSettings):
            problems = self.problems(self.document(**{snake(one.name): 2.5}))
            self.assertEqual([f"route[0].{snake(one.name)}"], list(problems))
        for one in fields(TargetSettings):
            document = self.document("connect", targets={"allow": "x:1", one.name: [{"x": 1}, 2.5]})
            problems = self.problems(document)
            self.assertIn("give a string, not a table", problems[f"route[0].targets.{one.name}"])
        for one in fields(RuleSettings):
            rule = {("refuse" if one.name == "upstream" else "upstream"): "close", one.name: [{"x": 1}, 2.5]}
            self.assertIn(f"route[0].rule[0].{one.name}", self.problems(self.document(rule=[rule])))
        document = self.document(tls={"cert": {"chain": [], "key": 1}})
        self.assertProblem("route[0].tls.cert", "give a string, not a list", document)


class NameTests(ConfigurationTestCase):
    """
    What routes are called.
    """

    def test_names(self) -> None:
        """
        Two routes cannot have one name, be it given or the mode's.
        """
        routes = [self.document(listen=listen, name="a")["route"][0] for listen in ("8443", "8444")]
        document = {"route": routes}
        self.assertProblem("route[1].name", "another route is called 'a'", document)
        for route in routes:
            del route["name"]
        self.assertProblem("route[1].name", "another route is called 'bridge'", document)
        routes[0]["name"] = "bridge"
        self.assertProblem("route[1].name", "another route is called 'bridge'", document)
        routes[0]["name"] = "front"
        self.assertEqual(["front", "bridge"], [route.name for route in self.build(document).routes])

    def test_unprintable(self) -> None:
        """
        A name cannot pass for several lines of the log.
        """
        for name in ("a\nb", "a\x1b[2J", "\u202e"):
            self.assertProblem("route[0].name", "cannot be printed on one line", self.document(name=name))
        self.assertEqual("B\xfccher shop", self.build(self.document(name="B\xfccher shop")).routes[0].name)

    def test_warnings(self) -> None:
        """
        A warning names its route, and what is told twice of one route is told once.
        """
        routes = [
            self.document("encrypt", listen=listen, name=name, upstream_tls={"auth": "none"})["route"][0]
            for name, listen in (("a", "8443"), ("b", "8444"))
        ]
        told = self.build({"route": routes}).warnings
        self.assertEqual(["route a", "route b"], [warning.partition(":")[0] for warning in told])
