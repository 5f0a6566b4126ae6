# -*- test-case-name: tests.tls.test_demands -*-
"""
Tests for L{tlsproxy.tls.demands}: what clients are asked for, by the name that they ask for.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tls.chains import authority, issued
from tests.tls.pairs import VERSIONS, shake
from tests.tls.verifying import BAD_CERTIFICATE, VerificationCase
from tlsproxy.errors import AdmissionRefused, ConfigurationError
from tlsproxy.testing.certificates import NOW, Holder, revoking
from tlsproxy.tls.authorization import Allowed
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.demands import Demand, Demands
from tlsproxy.tls.policy import HostPolicy, ServerPolicy
from tlsproxy.tls.verification import Verification

OTHER = authority("Other")


class HostCase(VerificationCase):
    """
    A test with policies of hosts.
    """

    def setUp(self) -> None:
        """
        Trust another CA, too.
        """
        super().setUp()
        self.others = self.file("other.pem", OTHER.pem())
        self.ann = issued("Ann", self.root)
        self.bob = issued("Bob", OTHER)

    def host(self, *sni: str, **policy: Any) -> HostPolicy:
        """
        Make the policy of a host.
        """
        return HostPolicy(sni=sni, **policy)

    def hosts(self, *hosts: HostPolicy, **policy: Any) -> ServerTLS:
        """
        Make a server.
        """
        tls = self.server(host=hosts, **policy)
        for contexts in tls._contexts:
            self.atTestTime(contexts.first)
        return tls

    def admitted(self, tls: ServerTLS, name: str | None, holder: Holder | None) -> bool:
        """
        Have a client ask for a name, whatever the version.
        """
        found = set()
        for version in VERSIONS:
            client = self.client(identity=None if holder is None else self.chain(holder), maxVersion=version)
            here, there = self.sockets()
            try:
                server = tls.connect(here, name)
            except AdmissionRefused:
                self.assertRaises(AdmissionRefused, tls.demand, name)
                found.add(False)
                continue
            ends = server, client.connect(there)
            self.socketOf.update(zip(ends, (here, there), strict=True))
            met, _ = shake(*ends)
            found.add(met.error is None)
        self.assertEqual(1, len(found))
        return found.pop()

    def assertAdmits(self, tls: ServerTLS, name: str | None, *good: Holder | None) -> None:
        """
        Of all clients, these are let in.
        """
        everybody = (None, self.ann, self.bob)
        self.assertEqual(list(good), [each for each in everybody if self.admitted(tls, name, each)], name)


class HostTests(HostCase):
    """
    Which policy counts.
    """

    def test_byName(self) -> None:
        """
        Each host asks for its own; the first whose pattern matches counts, in whatever case, and with a dot at the end.
        """
        tls = self.hosts(
            self.host("a.example", "b.example", clientCa=self.trusted),
            self.host("*.example", clientCa=self.others),
            self.host("**.test", clientAuth="none"),
        )
        for name in ("a.example", "A.EXAMPLE", "a.example.", "b.example"):
            self.assertAdmits(tls, name, self.ann)
            self.assertEqual("required", tls.demand(name).asks)
        self.assertAdmits(tls, "c.example", self.bob)
        self.assertAdmits(tls, "x.y.test", None, self.ann, self.bob)
        self.assertEqual("none", tls.demand("x.y.test").asks)

    def test_unlisted(self) -> None:
        """
        Where the route itself asks for nothing, and does not say that this is meant, whoever names no host, or one that
        is not listed, is asked for as much as the best guarded host asks for: it could speak of any once it is in.
        """
        tls = self.hosts(self.host("a.example", clientCa=self.trusted), self.host("b.example", clientAuth="none"))
        for name in (None, "c.example", "x.a.example", "192.0.2.1", "a_b", "a.example.evil", ""):
            self.assertAdmits(tls, name, self.ann)
        self.assertAdmits(tls, "b.example", None, self.ann, self.bob)
        self.assertTrue(tls.needsTLS)

    def test_others(self) -> None:
        """
        What the route itself asks for is asked of those who name others, and not of those who name none.
        """
        guarded = self.host("a.example", clientCa=self.trusted)
        for own in ({"clientAuth": "none"}, {"clientCa": self.trusted, "clientAuth": "optional"}):
            tls = self.hosts(guarded, **own)
            self.assertAdmits(tls, "a.example", self.ann)
            self.assertAdmits(tls, None, self.ann)
            self.assertAdmits(tls, "c.example", None, self.ann, *([self.bob] if "clientCa" not in own else []))
            self.assertFalse(tls.knowsEverybody)
            self.assertEqual((), tls.warnings)

    def test_guarded(self) -> None:
        """
        Where the route itself asks for as much as any, that counts for those who name none.
        """
        tls = self.hosts(self.host("b.example", clientAuth="none"), clientCa=self.trusted)
        for name in (None, "c.example"):
            self.assertAdmits(tls, name, self.ann)
        tls = self.hosts(self.host("b.example", clientCa=self.trusted), clientCa=self.trusted, allowCn="Eve")
        self.assertAdmits(tls, None)
        self.assertAdmits(tls, "b.example", self.ann)
        self.assertTrue(tls.needsTLS)

    def test_differently(self) -> None:
        """
        To ask for another CA's certificates is not to ask for more, and it is told that nobody can have both.
        """
        tls = self.hosts(self.host("b.example", clientCa=self.others), clientCa=self.trusted)
        self.assertAdmits(tls, None)
        self.assertAdmits(tls, "b.example", self.bob)
        self.assertAdmits(tls, "c.example", self.ann)
        (warning,) = tls.warnings
        self.assertIn("a client that names no server is refused", warning)

    def test_told(self) -> None:
        """
        Who is refused for the name alone is told apart.
        """
        tls = self.hosts(self.host("a.example", clientCa=self.trusted), self.host("b.example", clientCa=self.others))
        self.assertIn("names no server, or one that is not listed, is refused", tls.warnings[0])
        for name, words in ((None, "the client names no server, "), ("x.example", "the client asks for x.example, ")):
            here, _ = self.sockets()
            error = self.assertRaises(AdmissionRefused, tls.connect, here, name)
            self.assertTrue(str(error).startswith(words))
            self.assertIn("no [[route.tls.host]] is for that", str(error))

    def test_alone(self) -> None:
        """
        A host takes nothing from the route: what it does not ask for is not asked for.
        """
        tls = self.hosts(
            self.host("a.example", clientCa=self.trusted),
            clientCa=self.trusted,
            allowCn="Nobody",
            crl=self.file("gone.crl", revoking(self.root, self.ann.certificate)),
        )
        self.assertAdmits(tls, "a.example", self.ann)

    def test_everything(self) -> None:
        """
        A host has rules, pins and lists of its own.
        """
        gone = self.file("gone.crl", revoking(self.root, self.ann.certificate))
        tls = self.hosts(
            self.host("cn.example", clientCa=self.trusted, allowCn="Bob"),
            self.host("crl.example", clientCa=self.trusted, crl=gone),
            self.host("maybe.example", clientCa=self.trusted, clientAuth="optional", allowCn="Ann"),
        )
        self.assertAdmits(tls, "cn.example")
        self.assertAdmits(tls, "crl.example")
        self.assertAdmits(tls, "maybe.example", None, self.ann)
        self.assertIn(gone, tls.files)

    def test_notResumed(self) -> None:
        """
        What was had from a host that asks for nothing is of no use at one that asks for a certificate.
        """
        tls = self.hosts(self.host("open.example", clientAuth="none"), self.host("a.example", clientCa=self.trusted))
        for version in VERSIONS:
            client = self.client(maxVersion=version)
            here, there = self.sockets()
            ends = tls.connect(here, "open.example"), client.connect(there)
            self.socketOf.update(zip(ends, (here, there), strict=True))
            self.assertEqual([None, None], [each.error for each in shake(*ends)])
            ends[1].read(1)
            session = ends[1].connection.get_session()
            assert session is not None
            for name, resumed in (("open.example", True), ("a.example", False)):
                here, there = self.sockets()
                ends = tls.connect(here, name), client.connect(there)
                self.socketOf.update(zip(ends, (here, there), strict=True))
                ends[1].connection.set_session(session)
                met, _ = shake(*ends)
                self.assertEqual((resumed, resumed), (ends[0].resumed(), met.error is None))

    def test_alert(self) -> None:
        """
        A client that a host's rules do not let in is told so by an alert.
        """
        tls = self.hosts(self.host("shop.example", clientCa=self.trusted, allowCn="Bob"))
        here, there = self.sockets()
        ends = tls.connect(here, "shop.example"), self.client(identity=self.chain(self.ann)).connect(there)
        self.socketOf.update(zip(ends, (here, there), strict=True))
        met, _ = shake(*ends)
        self.assertEqual((BAD_CERTIFICATE, True), met.alert)

    def test_wrong(self) -> None:
        """
        What is wrong with a host is told with its place.
        """
        files = self.keep("server", issued("x"))
        policy = ServerPolicy(
            cert=files,
            host=(
                self.host("a.example", clientCa=self.trusted),
                self.host(),
                self.host("*.*.example", "b.example", allowCn=("x",)),
                self.host("c.example", clientAuth="optional"),
            ),
        )
        error = self.assertRaises(ConfigurationError, ServerTLS.load, policy, NOW)
        self.assertEqual(
            ["tls.host[1].sni", "tls.host[2].allow_cn", "tls.host[2].sni", "tls.host[3].client_ca"],
            sorted(problem.key for problem in error.problems),
        )

    def test_mirror(self) -> None:
        """
        Where any host demands a certificate the upstream cannot be asked before.
        """
        policy = ServerPolicy(
            cert=self.keep("server", issued("x")),
            alpn=("mirror",),
            host=(self.host("a.example", clientCa=self.trusted),),
        )
        error = self.assertRaises(ConfigurationError, ServerTLS.load, policy, NOW)
        self.assertEqual(["tls.alpn"], [problem.key for problem in error.problems])


NAMES = st.frozensets(st.sampled_from(["Ann", "Bob", "Eve"]))
ROOTS = [each.certificate for each in (authority("A"), OTHER)]
VERIFICATIONS = st.none() | st.builds(
    Verification,
    allowed=st.builds(Allowed, cn=NAMES),
    authorities=st.lists(st.sampled_from(ROOTS), unique=True).map(tuple),
    demanded=st.booleans(),
)


class DemandTests(VerificationCase):
    """
    Tests for L{Demands} by itself.
    """

    def lets(self, verification: Verification | None, cn: str | None, root: object) -> bool:
        """
        Tell whether somebody is let in.
        """
        if verification is None:
            return True
        if cn is None:
            return not verification.demanded
        allowed = verification.allowed
        return root in verification.authorities and (allowed == Allowed() or cn in allowed.cn)

    @settings(max_examples=300)
    @given(VERIFICATIONS, st.lists(VERIFICATIONS, max_size=3))
    def test_never(self, own: Verification | None, hosts: list[Verification | None]) -> None:
        """
        Who names no server is let in only where every host would let it in, whatever is asked for.
        """
        named = tuple(Demand((f"{n}.example",), each) for n, each in enumerate(hosts))
        demands = Demands(Demand((), own), named)
        self.assertIs(demands.own, demands.find("other.example"))
        found = demands.find(None)
        self.assertEqual(found, Demands(Demand((), own), named, said=False).find("other.example"))
        if found is None:
            return
        for cn in (None, "Ann", "Bob", "Eve", "Other"):
            for root in ROOTS:
                if self.lets(found.verification, cn, root):
                    for each in (own, *hosts):
                        self.assertTrue(each is None or self.lets(each, cn, root))

    def test_everybody(self) -> None:
        """
        It is known where nobody comes in without a certificate.
        """
        required = Verification(authorities=(self.root.certificate,))
        optional = Verification(authorities=(self.root.certificate,), demanded=False)
        for own, hosts, everybody in (
            (None, (), False),
            (required, (), True),
            (optional, (), False),
            (None, (required,), True),
            (None, (required, None), False),
            (required, (None,), False),
            (required, (optional,), False),
            (required, (required,), True),
        ):
            demands = Demands(Demand((), own), tuple(Demand(("a",), each) for each in hosts), own is not None)
            self.assertEqual(everybody, demands.everybody, (own, hosts))
        self.assertFalse(Demands(Demand((), None), (Demand(("a",), required),)).everybody)

    def test_others(self) -> None:
        """
        Each thing that a host asks for counts.
        """
        full = Allowed(cn=frozenset({"x"}), ou=frozenset({"x"}))
        for less in (
            Allowed(),
            Allowed(cn=frozenset({"x", "y"})),
            Allowed(ou=frozenset({"y"})),
            Allowed(dns=frozenset({"y"})),
            Allowed(uri=(("x:", "y"),)),
            Allowed(pins=frozenset({b"y"})),
        ):
            self.assertFalse(less.within(full), less)
        self.assertTrue(full.within(full) and full.within(Allowed()) and Allowed(cn=full.cn).within(full))
        plain = Demand((), Verification(authorities=(self.root.certificate,)))
        self.assertTrue(plain.covers(plain))
        lists = (x509.load_pem_x509_crl(revoking(self.root)),)
        self.assertFalse(plain.covers(Demand((), Verification(authorities=(self.root.certificate,), lists=lists))))
