# -*- test-case-name: tests.test_grants -*-
"""
L{tlsproxy.grants}: who may reach what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.chains import authority, issued
from tlsproxy.grants import NOT_THAT, Grant, granted
from tlsproxy.targets import TargetRefused
from tlsproxy.testing.certificates import Holder
from tlsproxy.tls.authorization import Allowed, pinOf

CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SHOP = ("shop.example", 443)


class GrantsTests(SynchronousTestCase):
    """
    Grants, and certificates that want something.
    """

    def setUp(self) -> None:
        """
        Have two CAs, and somebody.
        """
        self.root = authority("Root")
        self.middle = authority("Middle", self.root)
        self.ann = issued("Ann", self.middle, dns=["ann.example"], extensions=[CLIENT])
        self.chain = [each.certificate for each in (self.ann, self.middle, self.root)]

    def grant(self, *issuers: Holder, targets: Sequence[str] = ("*.example:443",), **more: Any) -> Grant:
        """
        Make a grant for Ann.
        """
        known = {key: more.pop(key) for key in ("sni",) if key in more}
        allowed = Allowed(**more) if more else Allowed(cn=frozenset({"Ann"}))
        who = tuple(each.certificate for each in issuers or (self.middle,))
        return Grant(issuers=who, allowed=allowed, targets=targets, **known)

    def assertRefused(
        self, reason: str, *grants: Grant, chain: Sequence[x509.Certificate] = (), at: Any = SHOP
    ) -> None:
        """
        Nothing is granted, and the client is told no more than that.
        """
        error = self.assertRaises(TargetRefused, granted, grants, chain or self.chain, *at)
        self.assertIn(reason, str(error))
        if not str(error).startswith(at[0]):
            self.assertEqual(NOT_THAT, error.public)

    def test_granted(self) -> None:
        """
        Whoever shows the name by the CA gets the targets.
        """
        found = granted([self.grant()], self.chain, *SHOP)
        self.assertEqual(
            (["*.example:443"], ()),
            ([str(one) for one in found.targets.allow], found.sni("a.example", 443, "192.0.2.1")),
        )

    def test_nothing(self) -> None:
        """
        Without a grant there is nothing.
        """
        self.assertRefused("no grant is for CN=Ann, issued by CN=Middle, until 2027-02-28 (DNS ann.example)")

    def test_issuer(self) -> None:
        """
        The CA has to have issued the certificate itself: one above it, or a namesake, does not count; another
        certificate of the same CA does.
        """
        self.assertRefused("no grant is for CN=Ann", self.grant(self.root))
        self.assertRefused("no grant is for CN=Ann", self.grant(authority("Middle", self.root)))
        renewed = issued("Middle", authority("Other"), key=self.middle.key)  # type: ignore[arg-type]
        granted([self.grant(self.root, renewed)], self.chain, *SHOP)

    def test_alone(self) -> None:
        """
        A certificate that is trusted by itself has no issuer, unless it signed itself.
        """
        self.assertRefused("no grant", self.grant(self.root), self.grant(), chain=self.chain[:1])
        own = issued("Ann", extensions=[CLIENT])
        granted([self.grant(own)], [own.certificate], *SHOP)

    def test_purpose(self) -> None:
        """
        It has to say that it is for clients; to say nothing, or anything, is not enough.
        """
        for usage in (None, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE):
            extensions = [] if usage is None else [x509.ExtendedKeyUsage([usage])]
            other = issued("Ann", self.middle, extensions=extensions)
            chain = [other.certificate, *self.chain[1:]]
            self.assertRefused("does not say that it is for clients (clientAuth)", self.grant(), chain=chain)

    def test_identities(self) -> None:
        """
        One of several names, or the key, is enough.
        """
        for words in (
            {"cn": frozenset({"Bob"}), "dns": frozenset({"ann.example"})},
            {"pins": frozenset({pinOf(self.ann.certificate)})},
        ):
            granted([self.grant(**words)], self.chain, *SHOP)
        self.assertRefused("no grant", self.grant(cn=frozenset({"Bob"})), self.grant(dns=frozenset({"x.example"})))

    def test_targets(self) -> None:
        """
        What is not among the targets is refused before anything is looked up, and what the grants are for adds up.
        """
        grants = [self.grant(targets=["a.example:1"]), self.grant(targets=["b.example:2"], sni=("x.example",))]
        grants.append(self.grant(cn=frozenset({"Bob"}), targets=["c.example:3"]))
        for at, sni in ((("a.example", 1), ()), (("b.example", 2), ("x.example",))):
            self.assertEqual(sni, granted(grants, self.chain, *at).sni(*at, "192.0.2.1"))
        for at in (("a.example", 2), ("c.example", 3), ("192.0.2.1", 1)):
            self.assertRefused("is not in the targets of a grant for CN=Ann", *grants, at=at)

    def test_names(self) -> None:
        """
        The server names of a grant are for what that grant leads to: a network, which any name could lead to, adds
        them to no name that leads elsewhere.
        """
        grants = [
            self.grant(targets=["a.example:1"], sni=("x.example",)),
            self.grant(targets=["192.0.2.0/24:1"], sni=("none", "x.example")),
        ]
        found = granted(grants, self.chain, "a.example", 1)
        self.assertEqual(("x.example",), found.sni("a.example", 1, "198.51.100.1"))
        self.assertEqual(("x.example", "none"), found.sni("a.example", 1, "192.0.2.1"))
        self.assertEqual(("none", "x.example"), found.sni("b.example", 1, "192.0.2.1"))
        self.assertEqual((), found.sni("b.example", 2, "192.0.2.1"))

    def test_empty(self) -> None:
        """
        A grant for nobody, by nobody, or of nothing is a slip.
        """
        whole: dict[str, Any] = {
            "issuers": (self.root.certificate,),
            "allowed": Allowed(cn=frozenset({"Ann"})),
            "targets": ("a.example:1",),
        }
        Grant(**whole)
        for key, empty in (("issuers", ()), ("allowed", Allowed()), ("targets", ())):
            self.assertRaises(ValueError, Grant, **{**whole, key: empty})
