# -*- test-case-name: tests.test_rules -*-
"""
L{tlsproxy.rules}
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis.strategies import sampled_from
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import GOOD, readAll
from tlsproxy.address import TCP
from tlsproxy.rules import REFUSALS, Rule
from tlsproxy.wire.network import matchesName

PATTERNS = ["*", "shop.example", "*.example", "*.shop.example", "**.example", "**.shop.example", "other.test"]
"""Host patterns of each kind."""


def hello(name: str | None = "shop.example", *alpn: bytes) -> Any:
    """
    Make a hello.
    """
    read = readAll(GOOD)
    assert read is not None
    return evolve(read, serverName=name, alpn=alpn)


def matches(rule: Rule, name: str | None = "shop.example", *alpn: bytes, peer: IAddress | str = "192.0.2.1") -> bool:
    """
    Tell whether a client with a hello matches a rule.
    """
    return rule.matches(hello(name, *alpn), lambda: address(peer))


def address(peer: IAddress | str) -> IAddress:
    """
    Make a client's address.
    """
    if not isinstance(peer, str):
        return peer
    return (IPv6Address if ":" in peer else IPv4Address)("TCP", peer, 4321)


class SNITests(SynchronousTestCase):
    """
    Conditions on the server name.
    """

    def assertNamed(self, sni: Any, good: list[str], bad: list[str | None]) -> None:
        """
        These names match, and those do not.
        """
        rule = Rule(sni=sni, upstream="there:1")
        self.assertEqual(good, [name for name in [*good, *bad] if matches(rule, name)])

    def test_exact(self) -> None:
        """
        A name matches itself, with a dot at its end too, and neither what is below it nor what is above.
        """
        self.assertNamed(
            "Shop.Example",
            ["shop.example", "shop.example."],
            ["www.shop.example", "example", "xshop.example", "shop.example.org", "", None],
        )

    def test_oneLabel(self) -> None:
        """
        One star is exactly one label.
        """
        self.assertNamed(
            "*.shop.example",
            ["www.shop.example", "www.shop.example."],
            ["shop.example", "a.b.shop.example", "wwwshop.example", ".shop.example.org", None],
        )

    def test_anyLabels(self) -> None:
        """
        Two stars are one label or more.
        """
        self.assertNamed(
            "**.shop.example", ["www.shop.example", "a.b.c.shop.example."], ["shop.example", "wwwshop.example", None]
        )

    def test_oddNames(self) -> None:
        """
        What no host can be called is below nothing.
        """
        odd = [".shop.example", "-.shop.example", "a:b.shop.example", "a..shop.example"]
        for pattern in ("*.shop.example", "**.shop.example"):
            self.assertNamed(pattern, ["a_b.shop.example"], [*odd, None])

    def test_anyName(self) -> None:
        """
        A star alone is any name, and no client that names none.
        """
        self.assertNamed("*", ["shop.example", "localhost"], [None])

    def test_several(self) -> None:
        """
        Of several patterns one has to match.
        """
        self.assertNamed(
            ["shop.example", "*.shop.example", "**.deep.example"],
            ["shop.example", "a.shop.example", "a.b.deep.example"],
            ["a.b.shop.example", "deep.example", None],
        )

    def test_noHello(self) -> None:
        """
        Who speaks no TLS names nobody.
        """
        self.assertFalse(Rule(sni="*", refuse="close").matches(None, lambda: address("192.0.2.1")))

    @given(
        pattern=sampled_from(PATTERNS),
        name=sampled_from(["example", "shop.example", "a.shop.example", "a.b.shop.example", "a.example", "other.test"]),
    )
    def test_sameAsElsewhere(self, pattern: str, name: str) -> None:
        """
        Host patterns mean the same here as in every other list.
        """
        self.assertEqual(matchesName(pattern, name), matches(Rule(sni=pattern, refuse="close"), name))


class ALPNTests(SynchronousTestCase):
    """
    Conditions on the application protocols.
    """

    def test_offered(self) -> None:
        """
        The client has to offer one of them, at whatever place.
        """
        rule = Rule(alpn=["h2", b"acme-tls/1"], upstream="there:1")
        self.assertTrue(matches(rule, None, b"http/1.1", b"h2"))
        self.assertTrue(matches(rule, None, b"acme-tls/1"))
        self.assertFalse(matches(rule, None, b"http/1.1", b"H2"))
        self.assertFalse(matches(rule, None))
        self.assertFalse(rule.matches(None, lambda: address("192.0.2.1")))

    def test_one(self) -> None:
        """
        One protocol needs no list.
        """
        self.assertEqual((b"h2",), Rule(alpn="h2", refuse="close").alpn)
        self.assertEqual((b"\xff",), Rule(alpn=b"\xff", refuse="close").alpn)


class ClientTests(SynchronousTestCase):
    """
    Conditions on the client's address.
    """

    def test_networks(self) -> None:
        """
        The client has to be in one of them.
        """
        rule = Rule(client=["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"], upstream="there:1")
        for peer in ("10.9.8.7", "2001:db8::1", "192.0.2.7"):
            self.assertTrue(matches(rule, peer=peer), peer)
        for peer in ("11.0.0.1", "2001:db9::1", "192.0.2.8"):
            self.assertFalse(matches(rule, peer=peer), peer)

    def test_mapped(self) -> None:
        """
        An IPv4 client that comes by an IPv6 socket is an IPv4 client, and a network may be written either way.
        """
        for written in ("10.0.0.0/8", "::ffff:10.0.0.0/104", ip_network("10.0.0.0/8")):
            rule = Rule(client=written, upstream="there:1")
            self.assertTrue(matches(rule, peer="::ffff:10.1.2.3"), written)
            self.assertTrue(matches(rule, peer="10.1.2.3"), written)
            self.assertFalse(matches(rule, peer="::ffff:11.1.2.3"), written)
            self.assertFalse(matches(rule, peer="::10.1.2.3"), written)

    def test_zone(self) -> None:
        """
        The zone of a link-local client is of no interest.
        """
        self.assertTrue(matches(Rule(client="fe80::/10", upstream="there:1"), peer="fe80::1%eth0"))

    def test_all(self) -> None:
        """
        All of IPv4 is not all of IPv6.
        """
        rule = Rule(client="0.0.0.0/0", upstream="there:1")
        self.assertEqual([True, False], [matches(rule, peer=peer) for peer in ("192.0.2.1", "2001:db8::1")])

    def test_unix(self) -> None:
        """
        Whoever comes by a Unix socket comes from no network; a rule without such a condition does not ask.
        """
        peer = UNIXAddress("/run/x")
        self.assertFalse(matches(Rule(client=["0.0.0.0/0", "::/0"], upstream="there:1"), peer=peer))
        self.assertTrue(matches(Rule(sni="*", upstream="there:1"), peer=peer))

    def test_plain(self) -> None:
        """
        It needs no hello.
        """
        rule = Rule(client="192.0.2.0/24", upstream="there:1")
        self.assertTrue(rule.matches(None, lambda: address("192.0.2.1")))
        self.assertEqual((False, False), (rule.needsHello, rule.unconditional))


class RuleTests(SynchronousTestCase):
    """
    Whole rules.
    """

    def test_together(self) -> None:
        """
        All conditions of a rule have to hold.
        """
        rule = Rule(sni="*.example", alpn="h2", client="192.0.2.0/24", upstream="there:1")
        self.assertTrue(matches(rule, "shop.example", b"h2"))
        self.assertFalse(matches(rule, "shop.test", b"h2"))
        self.assertFalse(matches(rule, "shop.example", b"http/1.1"))
        self.assertFalse(matches(rule, "shop.example", b"h2", peer="198.51.100.1"))

    def test_everybody(self) -> None:
        """
        A rule without conditions matches everybody, whoever that is.
        """
        rule = Rule(upstream="there:1")
        self.assertTrue(rule.matches(None, lambda: UNIXAddress("")))
        self.assertTrue(matches(rule, None))
        self.assertEqual((True, False), (rule.unconditional, rule.needsHello))

    def test_needsHello(self) -> None:
        """
        What only a TLS client says needs a hello.
        """
        for given_ in ({"sni": "*"}, {"alpn": "h2"}):
            rule = Rule(**given_, refuse="alert")  # type: ignore[arg-type]
            self.assertEqual((True, False), (rule.needsHello, rule.unconditional))

    def test_upstream(self) -> None:
        """
        The upstream may be a string.
        """
        self.assertEqual(TCP("old.internal", 443), Rule(upstream="old.internal:443").upstream)

    def test_either(self) -> None:
        """
        A rule dials or refuses, one of them.
        """
        for wrong in ({}, {"upstream": "there:1", "refuse": "close"}):
            error = self.assertRaises(ValueError, Rule, **wrong)
            self.assertEqual('a rule has an upstream, or says how to refuse: "alert" or "close"', str(error))

    def test_refusals(self) -> None:
        """
        There are two ways to refuse.
        """
        for refuse in REFUSALS:
            self.assertIsNone(Rule(refuse=refuse).upstream)
        error = self.assertRaises(ValueError, Rule, refuse="reset")
        self.assertEqual('Rule(refuse=...): \'reset\' is not one of "alert", "close"', str(error))

    def test_wrong(self) -> None:
        """
        What can never match, or is not what was meant, is refused with a sentence.
        """
        for wrong in (
            {"sni": "a*.example"},
            {"sni": "**"},
            {"sni": "192.0.2.1"},
            {"sni": ""},
            {"sni": "bücher.example"},
            {"client": "10.0.0.1/8"},
            {"client": "shop.example"},
            {"client": ["10.0.0.0/8", "10"]},
            {"upstream": "99999"},
        ):
            self.assertRaises(ValueError, Rule, **{"upstream": "there:1", **wrong})

    def test_frozen(self) -> None:
        """
        A rule does not change, and equal ones are equal.
        """
        rule = Rule(sni="a.example", refuse="close")
        self.assertRaises(FrozenInstanceError, setattr, rule, "refuse", "alert")
        self.assertEqual(rule, Rule(sni=["A.example"], refuse="close"))
        self.assertNotEqual(rule, evolve(rule, sni="b.example"))
        self.assertTrue(matches(evolve(rule, sni="b.example"), "b.example"))
