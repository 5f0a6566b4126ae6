"""
Tests for L{tlsproxy.tls.contexts}: which upstreams are believed, and what they learn of us before.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography import x509

from tests.tls.pairs import VERSIONS, PairCase, shake, take
from tlsproxy.testing.certificates import NOW, Holder, certify
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity


class VerificationTests(PairCase):
    """
    Tests for whether the upstream is the one that it has to be.
    """

    def problems(self, identity: Identity | Holder, host: str = "shop.example", **policy: Any) -> set[str | None]:
        """
        Connect to an upstream with a certificate, in each version of TLS.

        @return: what is wrong with the certificate; C{None} stands for nothing.
        """
        found = set()
        for version in VERSIONS:
            ends = self.ends(self.server(identity), self.client(host, maxVersion=version, **policy))
            met, _ = reversed(shake(*ends))
            self.assertEqual(met.error is None, ends[1].verifyProblem() is None or policy.get("auth") == "none")
            found.add(ends[1].verifyProblem())
        return found

    def test_good(self) -> None:
        """
        A certificate of the CA that shows the name is believed.
        """
        identity = self.issued("shop.example", "10.0.0.1", "::1")
        for host in ("shop.example", "SHOP.example", "shop.example.", "10.0.0.1", "::1"):
            self.assertEqual(self.problems(identity, host), {None})

    def test_wrongName(self) -> None:
        """
        Another name or address than the certificate shows is not believed.
        """
        identity = self.issued("shop.example", "10.0.0.1")
        self.assertEqual(self.problems(identity, "other.example"), {"hostname mismatch"})
        self.assertEqual(self.problems(identity, "10.0.0.2"), {"IP address mismatch"})
        self.assertEqual(self.problems(self.issued(), "shop.example"), {"hostname mismatch"})

    def test_givenName(self) -> None:
        """
        The name of the policy counts, and not the host.
        """
        identity = self.issued("shop.example")
        self.assertEqual(self.problems(identity, "10.0.0.1", name="shop.example"), {None})
        self.assertEqual(self.problems(identity, "shop.example", name="other.example"), {"hostname mismatch"})

    def test_expired(self) -> None:
        """
        A certificate is not believed after its time, nor before.
        """
        late, early = (self.issued("shop.example", age=timedelta(days=days)) for days in (91, -91))
        self.assertEqual(self.problems(late), {"certificate has expired"})
        [problem] = self.problems(early)
        self.assertIn("not yet valid", problem or "")

    def test_unknownAuthority(self) -> None:
        """
        A certificate of another CA is not believed, though it be of the same name; nor is a self-signed one.
        """
        other = Authority.create("Test CA", lifetime=timedelta(days=365), now=NOW)
        identity = self.issued("shop.example", authority=other)
        self.assertEqual(self.problems(identity), {"unable to get local issuer certificate"})
        own = certify("shop.example", names=[x509.DNSName("shop.example")])
        self.assertEqual(self.problems(own), {"self-signed certificate"})

    def test_pinned(self) -> None:
        """
        A self-signed certificate is believed where it is named as the CA, for its names only; and so is one of a CA
        that is not trusted itself.
        """
        own = certify("", names=[x509.DNSName("shop.example")])
        issued = self.issued("shop.example")
        for holder in (own, issued):
            certificate = holder.certificate if isinstance(holder, Holder) else holder.chain[0]
            pinned = self.keep("pinned", Holder(certificate, own.key)).chain
            self.assertEqual(self.problems(holder, ca=(pinned,)), {None})
            self.assertEqual(self.problems(holder, "other.example", ca=(pinned,)), {"hostname mismatch"})

    def test_clientsOwnIsNoServers(self) -> None:
        """
        A certificate that is good for a client only is not believed.
        """
        identity = self.authority.issue(
            commonName="a test", names=["shop.example"], server=False, client=True, lifetime=timedelta(days=1), now=NOW
        )
        [problem] = self.problems(identity)
        self.assertIn("purpose", problem or "")

    def test_notVerified(self) -> None:
        """
        Where nothing is verified every certificate will do.
        """
        for host in ("shop.example", "10.0.0.1", ""):
            for version in VERSIONS:
                own = certify("other.example", names=[x509.DNSName("other.example")])
                ends = self.connected(self.server(own), self.client(host, auth="none", ca=(), maxVersion=version))
                ends[0].send(b"trust me")
                self.assertEqual(take(ends[1]), b"trust me")

    def test_unicode(self) -> None:
        """
        A name that is not ASCII is looked for in the form that certificates carry, and an IDN in that form is the same.
        """
        identity = self.issued("xn--bcher-kva.example")
        for host in ("b\xfccher.example", "B\xdcCHER.Example.", "b\xfccher\u3002example", "xn--bcher-kva.example"):
            self.assertEqual(self.problems(identity, host), {None})
            self.assertEqual(self.client(host).name, "xn--bcher-kva.example")
        self.assertEqual(self.problems(identity, "bucher.example"), {"hostname mismatch"})


class DisclosureTests(PairCase):
    """
    Tests for what the upstream learns of us.
    """

    def test_verifiedFirst(self) -> None:
        """
        Our certificate leaves only when the upstream's is verified, its name included: to the wrong one it is never
        shown, though asked for.
        """
        ours = self.issued()
        stranger = Authority.create("Test CA", lifetime=timedelta(days=365), now=NOW)
        for version in VERSIONS:
            for host, identity, shown in (
                ("shop.example", self.issued("shop.example"), ours.chain[0]),
                ("other.example", self.issued("shop.example"), None),
                ("10.0.0.1", self.issued("shop.example"), None),
                ("shop.example", self.issued("shop.example", age=timedelta(days=91)), None),
                ("shop.example", self.issued("shop.example", authority=stranger), None),
            ):
                server = self.server(identity, clientCa=(self.anchor,))
                ends = self.ends(server, self.client(host, identity=ours, maxVersion=version))
                met, _ = shake(*ends)
                self.assertEqual(met.error is None, shown is not None)
                self.assertEqual(ends[0].connection.get_peer_certificate(as_cryptography=True), shown)
                if shown is None:
                    # It was our alert that ended it, and not a certificate that came and was refused.
                    self.assertEqual(met.alert and met.alert[1], False)

    def test_serverName(self) -> None:
        """
        The server is asked for by its name where that is a DNS name (RFC 6066 section 3), verified or not.
        """
        identity = self.issued("shop.example", "xn--bcher-kva.example", "10.0.0.1", "::1")
        for host, asked in (
            ("Shop.Example.", b"shop.example"),
            ("b\xfccher.example", b"xn--bcher-kva.example"),
            ("10.0.0.1", None),
            ("::1", None),
        ):
            for auth in ("pkix", "none"):
                server, _ = self.connected(self.server(identity), self.client(host, auth=auth))
                self.assertEqual(server.connection.get_servername(), asked)
        server, _ = self.connected(self.server(identity), self.client("", auth="none"))
        self.assertIdentical(server.connection.get_servername(), None)


class NamedTests(PairCase):
    """
    Tests for upstreams that are to show another name, all else being the same.
    """

    def test_other(self) -> None:
        """
        The other name is demanded and asked for, and the first one still is where it was.
        """
        first = self.client("shop.example")
        other = first.named("Other.Example.")
        self.assertEqual(("shop.example", "other.example"), (first.name, other.name))
        for version in VERSIONS:
            for tls, name, good in (
                (first, "shop.example", True),
                (first, "other.example", False),
                (other, "other.example", True),
                (other, "shop.example", False),
            ):
                ends = self.ends(self.server(self.issued(name), maxVersion=version), tls)
                met, _ = reversed(shake(*ends))
                self.assertEqual(good, met.error is None)
                self.assertEqual(None if good else "hostname mismatch", ends[1].verifyProblem())
                self.assertEqual(tls.name.encode(), ends[0].connection.get_servername())

    def test_address(self) -> None:
        """
        An address is demanded, too, and not asked for.
        """
        tls = self.client("shop.example").named("10.0.0.1")
        server, _ = self.connected(self.server(self.issued("10.0.0.1")), tls)
        self.assertIs(None, server.connection.get_servername())
        for names in (("10.0.0.2",), ("shop.example",)):
            ends = self.ends(self.server(self.issued(*names)), tls)
            shake(*ends)
            self.assertEqual("IP address mismatch", ends[1].verifyProblem())

    def test_same(self) -> None:
        """
        All else is the same, and one and the same.
        """
        first = self.client("shop.example", identity=self.issued(), alpn=("h2",))
        other = first.named("b\xfccher.example")
        self.assertEqual("xn--bcher-kva.example", other.name)
        self.assertIs(first.context, other.context)
        self.assertEqual((first.policy, first.warnings), (other.policy, other.warnings))
        self.assertEqual(first, first.named("SHOP.example"))

    def test_wrong(self) -> None:
        """
        What is no name that a certificate could show is refused, and so is none.
        """
        tls = self.client("shop.example")
        for name in ("", "a..b", "a\0b.example", ".", "x" * 64 + ".example"):
            self.assertRaises(ValueError, tls.named, name)
        self.assertIn("say which name", str(self.assertRaises(ValueError, tls.named, "")))
