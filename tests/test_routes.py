# -*- test-case-name: tests.test_routes -*-
"""
From the table of a route to the route: what each mode takes, and which routes can stand beside each other.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import ROUTES, ConfigurationTestCase
from tlsproxy.address import TCP
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.settings import MODES

TAKEN: dict[str, tuple[str, ...]] = {
    "upstream": ("offload", "encrypt", "bridge", "passthrough"),
    "rule": ("offload", "encrypt", "bridge", "passthrough"),
    "tls": ("offload", "bridge", "connect"),
    "upstream_tls": ("encrypt", "bridge"),
    "require_tls": ("passthrough",),
    "targets": ("connect",),
    "users": ("connect",),
}
"""Which modes take a key that others do not."""

GIVEN: dict[str, Any] = {
    "upstream": "origin.example:443",
    "rule": [{"client": "192.0.2.0/24", "refuse": "close"}],
    "tls": {"cert": "server.pem"},
    "upstream_tls": {"ca": "ca.pem"},
    "require_tls": True,
    "targets": {"allow": ["shop.example:443"]},
    "users": "users.txt",
}
"""A good value of each."""


class ListeningTests(ConfigurationTestCase):
    """
    Where a route listens.
    """

    def test_believed(self) -> None:
        """
        To believe whoever connects who the client is needs a word, unless only this machine can.
        """
        for listen, warned in (("haproxy:tcp:8443", True), ("haproxy:tcp:8443:interface=127.0.0.1", False)):
            table = self.document("passthrough")
            table["route"][0]["listen"] = listen
            warnings = self.build(table).warnings
            said = f"route passthrough: whoever reaches {listen} can say to be any client: let only the load balancer"
            self.assertEqual((said,) if warned else (), warnings)


class ModeTests(ConfigurationTestCase):
    """
    What each mode takes.
    """

    def test_patterns(self) -> None:
        """
        Each mode makes its pattern, without a warning.
        """
        for mode, cls in (
            ("offload", Offload),
            ("encrypt", Encrypt),
            ("bridge", Bridge),
            ("passthrough", Passthrough),
            ("connect", Connect),
        ):
            configuration = self.build(self.document(mode))
            (route,) = configuration.routes
            self.assertIsInstance(route.pattern, cls)
            self.assertEqual((mode, (), ()), (route.pattern.mode, route.rules, configuration.warnings))
            if not isinstance(route.pattern, Connect):
                self.assertIsInstance(getattr(route.pattern, "upstream", None), TCP)
        self.assertEqual(set(MODES), set(ROUTES))

    def test_taken(self) -> None:
        """
        A key is taken by the modes that have a use for it.
        """
        for key, modes in TAKEN.items():
            for mode in modes:
                self.build(self.document(mode, **{key: GIVEN[key]}))

    def test_unused(self) -> None:
        """
        A key that a mode has no use for is refused, whatever its value is, and told once, with what to do.
        """
        for key, modes in TAKEN.items():
            for mode in set(MODES) - set(modes):
                document = self.document(mode)
                values: tuple[object, ...] = (GIVEN[key], "", 5, [], {})
                for value in values:
                    document["route"][0][key] = value
                    problems = self.problems(document)
                    self.assertEqual([f"route[0].{key}"], list(problems))
                document["route"][0][key] = GIVEN[key]
                (sentence,) = self.problems(document).values()
                self.assertTrue(sentence.startswith(f"mode {mode} "), sentence)
                self.assertTrue(sentence.endswith(": leave this out"), sentence)

    def test_why(self) -> None:
        """
        Where people could expect a mode to take a key, it is said why it does not.
        """
        for mode, key, why in (
            ("offload", "upstream_tls", "speaks no TLS with its upstream, only with its clients"),
            ("encrypt", "tls", "speaks no TLS with its clients, only with its upstream"),
            ("passthrough", "tls", "decrypts nothing"),
            ("passthrough", "upstream_tls", "encrypts nothing"),
            ("passthrough", "users", "has no use for it"),
            ("bridge", "require_tls", "has no use for it"),
            ("connect", "upstream", "dials what its clients ask for"),
            ("connect", "rule", "dials what its clients ask for, as far as [route.targets] allows it"),
            ("connect", "upstream_tls", "speaks no TLS with its targets"),
        ):
            document = self.document(mode, **{key: GIVEN[key]})
            self.assertProblem(f"route[0].{key}", f"mode {mode} {why}: leave this out", document)

    def test_severalUnused(self) -> None:
        """
        All that a mode has no use for is told at once, beside what is wrong with the rest.
        """
        document = self.document(
            "connect",
            listen="99999",
            targets={"allow": "x"},
            **{key: GIVEN[key] for key in ("upstream", "rule", "upstream_tls", "require_tls")},
        )
        keys = ("listen", "rule", "upstream", "upstream_tls", "require_tls", "targets.allow")
        self.assertEqual({f"route[0].{key}" for key in keys}, set(self.problems(document)))

    def test_missingMode(self) -> None:
        """
        Without a mode all tables are looked at nevertheless.
        """
        document = self.document(
            mode=None,
            upstream="unix:",
            tls={"certs": "x"},
            upstream_tls={"cas": "x"},
            limits={"idel": 1},
            targets={"alow": "x"},
            rule=[{"sni": 5, "upstream": "other.example:1"}, {"client": "x", "refuse": "close"}],
        )
        keys = ("mode", "upstream", "tls.certs", "upstream_tls.cas", "limits.idel", "targets.alow")
        expected = {f"route[0].{key}" for key in (*keys, "rule[0].sni", "rule[1].client")}
        self.assertEqual(expected, set(self.problems(document)))

    def test_requireTLS(self) -> None:
        """
        A passthrough demands a hello unless it is told not to.
        """
        for given, read in ((None, True), (True, True), (False, False)):
            pattern = self.build(self.document("passthrough", require_tls=given)).routes[0].pattern
            assert isinstance(pattern, Passthrough)
            self.assertIs(read, pattern.requireTLS)
        document = self.document("passthrough", require_tls="yes")
        self.assertProblem("route[0].require_tls", "give true or false, not the string 'yes'", document)


class UpstreamTests(ConfigurationTestCase):
    """
    What is dialed, and the name it has to show.
    """

    def test_missing(self) -> None:
        """
        There is an upstream, or there are rules.
        """
        for mode in TAKEN["upstream"]:
            for nothing in (None, ""):
                document = self.document(mode, upstream=nothing)
                self.assertProblem("route[0].upstream", "say what to dial, as in HOST:PORT", document)
            document = self.document(mode, upstream=None, rule=[{"upstream": "other.example:1"}])
            pattern: Any = self.build(document).routes[0].pattern
            self.assertIsNone(pattern.upstream)

    def test_emptyBesideRules(self) -> None:
        """
        An upstream that is named with nothing is not taken for none.
        """
        document = self.document("passthrough", upstream="", rule=[{"sni": "a.example", "upstream": "a.example:1"}])
        self.assertProblem("route[0].upstream", "say what to dial", document)

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
