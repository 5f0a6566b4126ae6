# -*- test-case-name: tests.test_ruletables -*-
"""
The rules of routes.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import TCP, Unix
from tlsproxy.rules import Rule
from tlsproxy.tls.contexts import ClientTLS

RULED = ("offload", "encrypt", "bridge", "passthrough")


class RuleTestCase(ConfigurationTestCase):
    """
    A test of rules.
    """

    def ruled(self, mode: str, /, *rules: Any, **more: Any) -> dict[str, Any]:
        """
        Make a document of one route with rules.
        """
        return self.document(mode, rule=list(rules), **more)

    def rules(self, document: dict[str, Any]) -> tuple[Rule, ...]:
        """
        Read the rules of what is expected to be good.
        """
        return self.build(document).routes[0].rules

    def assertRuleProblem(self, key: str, sentence: str, rule: dict[str, Any], mode: str = "passthrough") -> None:
        """
        A rule that would be good without these keys has one problem.

        @param key: The key it is told at; C{""} for the rule.
        """
        rule = {"upstream": "other.example:1"} | rule
        rule = {name: value for name, value in rule.items() if value is not None}
        place = "route[0].rule[0]" + (f".{key}" if key else "")
        self.assertProblem(place, sentence, self.ruled(mode, rule))


class RuleTests(RuleTestCase):
    """
    Single rules.
    """

    def test_good(self) -> None:
        """
        Each key is read, as one string or as several, and the rules keep their order.
        """
        for mode in ("offload", "bridge", "passthrough"):
            one, two, three = self.rules(
                self.ruled(
                    mode,
                    {"sni": ["A.example", "**.b.example"], "alpn": ["h2", "x"], "upstream": "ab.example:1"},
                    {"client": ["10.0.0.0/8", "2001:db8::1"], "upstream": "8443"},
                    {"sni": "*", "alpn": "h2", "client": "192.0.2.1", "refuse": "alert"},
                )
            )
            self.assertEqual((("a.example", "**.b.example"), (b"h2", b"x"), ()), (one.sni, one.alpn, one.client))
            self.assertEqual((IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::1/128")), two.client)
            self.assertEqual((TCP("ab.example", 1), TCP("", 8443), None), (one.upstream, two.upstream, three.upstream))
            self.assertEqual(["", "", "alert"], [rule.refuse for rule in (one, two, three)])
            self.assertEqual((("*",), (b"h2",)), (three.sni, three.alpn))

    def test_paths(self) -> None:
        """
        The path of a Unix socket starts from the file's folder.
        """
        (rule,) = self.rules(self.ruled("passthrough", {"upstream": "unix:run/app"}, upstream=None))
        self.assertEqual(Unix(f"{self.folder}/run/app"), rule.upstream)

    def test_neitherNorBoth(self) -> None:
        """
        A rule has an upstream or says how to refuse, and not both.
        """
        for mode in RULED:
            for rule in ({"upstream": None}, {"refuse": "close"}):
                self.assertRuleProblem("", 'say either upstream = "HOST:PORT", or refuse = "alert" or', rule, mode)

    def test_whatFollows(self) -> None:
        """
        One that cannot be read is one problem, and not also one that lacks.
        """
        for rule, key in (
            ({"upstream": ""}, "upstream"),
            ({"upstream": 7}, "upstream"),
            ({"upstream": "host:0"}, "upstream"),
            ({"upstream": ["a:1", "b:1"]}, "upstream"),
            ({"upstream": None, "refuse": ""}, "refuse"),
            ({"upstream": None, "refuse": "reset"}, "refuse"),
            ({"upstream": None, "refuse": True}, "refuse"),
        ):
            self.assertRuleProblem(key, "", rule)

    def test_empty(self) -> None:
        """
        A condition without a value could be read as nobody and as everybody, and is refused.
        """
        nothing: tuple[object, ...] = ("", [])
        for key in ("sni", "alpn", "client"):
            for value in nothing:
                self.assertRuleProblem(key, "give one value at least, or leave this out", {key: value})

    def test_values(self) -> None:
        """
        What is no pattern, protocol or network is told.
        """
        for key, value, sentence in (
            ("sni", [""], "a host name is missing"),
            ("sni", "*x.example", "a star stands for whole labels"),
            ("sni", ["a.example", "a..b"], "'a..b' is no host name"),
            ("sni", "192.0.2.1", "is an IP address, not a host name"),
            ("sni", "b\xfccher.example", "in its ASCII form"),
            ("sni", "a.example:443", "is no host name"),
            ("alpn", [""], "'' is no ALPN protocol name: 1 to 255 bytes"),
            ("alpn", "x" * 256, "is no ALPN protocol name"),
            ("alpn", "\xe9" * 128, "is no ALPN protocol name"),
            ("client", [""], "'' is no IP address"),
            ("client", "10.0.0.1/8", "has bits after its length"),
            ("client", ["10.0.0.0/8", "host.example"], "'host.example' is no IP address"),
            ("client", "10.0.0.0/33", "is no length of a network"),
            ("client", "fe80::1%eth0", "names a zone"),
            ("client", "10.0.0.0/255.0.0.0", "is no length of a network"),
        ):
            self.assertRuleProblem(key, sentence, {key: value})

    def test_several(self) -> None:
        """
        Of one list, all that is wrong is told.
        """
        given = ["a..b", "good.example", "*x.example"]
        self.assertRuleProblem("sni", "'a..b' is no host name; '*x.example': a star stands", {"sni": given})

    def test_types(self) -> None:
        """
        What is of a wrong kind is told.
        """
        for key in ("sni", "alpn", "client"):
            self.assertRuleProblem(key, "give a string or a list of strings, not a number", {key: 1})
            self.assertRuleProblem(key, "give a string, not a list", {key: [["x"]]})

    def test_allAtOnce(self) -> None:
        """
        All that is wrong with a rule, and with the others, is told at once.
        """
        problems = self.problems(
            self.ruled(
                "passthrough",
                {"sni": "a..b", "alpn": "", "client": "x", "name": "y"},
                {"upstream": "host:0"},
                "x",
                {"snii": "a.example", "refuse": "no"},
            )
        )
        expected = ("[0].sni", "[0].alpn", "[0].client", "[0].name", "[0]", "[1].upstream", "[2]")
        self.assertEqual(
            {f"route[0].rule{key}" for key in (*expected, "[3].snii", "[3].refuse")}, set(problems), problems
        )


class OrderTests(RuleTestCase):
    """
    Rules and upstreams that no client gets to.
    """

    def test_kinds(self) -> None:
        """
        Rules are tables in an array, and one at least.
        """
        wrong: tuple[object, ...] = ([], {}, "x", 1, {"upstream": "a.example:1"})
        for value in wrong:
            self.assertProblem(
                "route[0].rule",
                "give at least one rule, each under [[route.rule]], or leave this out",
                self.document("passthrough", rule=value),
            )
        problems = self.problems(self.ruled("passthrough", 1, "x", []))
        self.assertEqual([f"route[0].rule[{position}]" for position in range(3)], list(problems))
        self.assertEqual("give a table, not a number", problems["route[0].rule[0]"])

    def test_unreachable(self) -> None:
        """
        Every rule after one without conditions is told.
        """
        for mode in RULED:
            document = self.ruled(
                mode,
                {"client": "192.0.2.1", "upstream": "ab.example:1"},
                {"upstream": "cd.example:1"},
                {"client": "192.0.2.2", "upstream": "ef.example:1"},
                {"refuse": "close"},
                upstream=None,
            )
            problems = self.problems(document)
            self.assertEqual(["route[0].rule[2]", "route[0].rule[3]"], list(problems))
            for sentence in problems.values():
                self.assertEqual("no client gets here, since a rule before it has no conditions", sentence)
            del document["route"][0]["rule"][2:]
            self.assertEqual(2, len(self.rules(document)))

    def test_unreachableUpstream(self) -> None:
        """
        An upstream beside a rule without conditions is told, be the rule one that refuses.
        """
        for last in ({"upstream": "ab.example:1"}, {"refuse": "close"}):
            for mode in RULED:
                document = self.ruled(mode, {"client": "192.0.2.1", "refuse": "close"}, last)
                self.assertProblem("route[0].upstream", "a rule without conditions matches all", document)
                del document["route"][0]["upstream"]
                self.build(document)


class BlindTests(RuleTestCase):
    """
    Rules where no hello is seen.
    """

    def test_conditions(self) -> None:
        """
        They can go by the client's address only.
        """
        for mode, more in (("encrypt", {}), ("passthrough", {"require_tls": False})):
            for key in ("sni", "alpn"):
                rule = {key: "h2", "upstream": "other.example:1"}
                document = self.ruled(mode, rule, **more)
                self.assertProblem(f"route[0].rule[0].{key}", "this route sees no TLS hello", document)
            rules = self.rules(self.ruled(mode, {"client": "192.0.2.1", "refuse": "close"}, **more))
            self.assertEqual("close", rules[0].refuse)

    def test_alert(self) -> None:
        """
        They have no TLS to send an alert in.
        """
        for mode, more in (("encrypt", {}), ("passthrough", {"require_tls": False})):
            document = self.ruled(mode, {"client": "192.0.2.1", "refuse": "alert"}, **more)
            self.assertProblem("route[0].rule[0].refuse", 'to answer with an alert: write "close"', document)

    def test_otherModes(self) -> None:
        """
        A mode that is told needlessly not to demand TLS sees the hello nevertheless.
        """
        document = self.ruled("offload", {"sni": "a.example", "upstream": "ab.example:1"}, require_tls=False)
        self.assertProblem("route[0].require_tls", "has no use for it", document)


class NameTests(RuleTestCase):
    """
    Which name the upstream of a rule has to show.
    """

    def names(self, document: dict[str, Any]) -> list[str | None]:
        """
        The name of each rule's upstream; L{None} where the route's TLS is used.
        """
        tls = [rule.upstreamTLS for rule in self.rules(document)]
        return [one.name if isinstance(one, ClientTLS) else None for one in tls]

    def routes(self, **more: Any) -> dict[str, dict[str, Any]]:
        """
        A document for each mode with TLS toward its upstream: three upstreams and a refusal.
        """
        hosts = ("ab.example:1", "B\xfccher.example:1", "192.0.2.9:1", "8443")
        rules = [{"client": f"10.0.0.{number}", "upstream": host} for number, host in enumerate(hosts)]
        rules.append({"client": "10.0.0.99", "refuse": "close"})
        return {mode: self.ruled(mode, *rules, **more) for mode in ("encrypt", "bridge")}

    def test_own(self) -> None:
        """
        Each upstream has to show the name of its own host, with or without one that the others get.
        """
        for upstream in ("origin.example:443", None):
            for document in self.routes(upstream=upstream).values():
                names = ["ab.example", "xn--bcher-kva.example", "192.0.2.9", "localhost", None]
                self.assertEqual(names, self.names(document))

    def test_shared(self) -> None:
        """
        Only the name differs: all else is one and the same.
        """
        for document in self.routes().values():
            (route,) = self.build(document).routes
            tls: Any = getattr(route.pattern, "upstreamTLS", None)
            self.assertEqual("origin.example", tls.name)
            for rule in route.rules[:-1]:
                assert rule.upstreamTLS is not None
                self.assertIs(tls.context, rule.upstreamTLS.context)
                self.assertIs(tls.policy, rule.upstreamTLS.policy)

    def test_given(self) -> None:
        """
        A name that is given holds for all upstreams, those without a host as well.
        """
        for mode, document in self.routes(upstream_tls={"name": "all.example"}).items():
            self.assertEqual([None] * 5, self.names(document))
            unix = {"client": "192.0.2.1", "upstream": "unix:/x"}
            document = self.ruled(mode, unix, upstream=None, upstream_tls={"name": "all.example"})
            self.assertEqual([None], self.names(document))

    def test_unverified(self) -> None:
        """
        An upstream that is not verified is asked for by its own name, too, and by none if it has none.
        """
        for mode in ("encrypt", "bridge"):
            rules = [
                {"client": "192.0.2.1", "upstream": "ab.example:1"},
                {"client": "192.0.2.2", "upstream": "unix:/x"},
                {"client": "192.0.2.3", "upstream": "tcp:host=cd.example:port=1"},
            ]
            document = self.ruled(mode, *rules, upstream_tls={"auth": "none"})
            self.assertEqual(["ab.example", "", ""], self.names(document))

    def test_nameless(self) -> None:
        """
        An upstream without a host needs a name, and every such rule is told.
        """
        for mode in ("encrypt", "bridge"):
            rules = [
                {"client": "192.0.2.1", "upstream": "unix:/x"},
                {"client": "192.0.2.2", "upstream": "ab.example:1"},
                {"client": "192.0.2.3", "upstream": "tcp:host=cd.example:port=1"},
            ]
            for upstream in ("origin.example:443", None):
                problems = self.problems(self.ruled(mode, *rules, upstream=upstream))
                self.assertEqual(["route[0].rule[0].upstream", "route[0].rule[2].upstream"], list(problems))
                for sentence in problems.values():
                    self.assertIn("say which name its certificate must show", sentence)

    def test_wrong(self) -> None:
        """
        A host that no certificate can name is told at its rule.
        """
        for mode in ("encrypt", "bridge"):
            rules = [{"client": f"192.0.2.{one}", "upstream": host} for one, host in enumerate(("a..b:1", "ab:1"))]
            self.assertProblem("route[0].rule[0].upstream", "is no host name", self.ruled(mode, *rules))

    def test_none(self) -> None:
        """
        Where no TLS is spoken with upstreams nothing has to be shown.
        """
        for mode in ("offload", "passthrough"):
            for upstream in ("ab.example:1", "unix:/x"):
                document = self.ruled(mode, {"upstream": upstream}, upstream=None)
                self.assertEqual([None], self.names(document))
