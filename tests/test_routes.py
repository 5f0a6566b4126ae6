# -*- test-case-name: tests.test_routes -*-
"""
From the table of a route to the route.
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
        for mode in ("offload", "encrypt", "bridge", "passthrough"):
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
