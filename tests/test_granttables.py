# -*- test-case-name: tests.test_granttables -*-
"""
L{tlsproxy.granttables}: from the tables of a route's grants to the grants.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509

from tests.configuring import PIN, ConfigurationTestCase
from tests.tls.chains import issued
from tlsproxy.grants import Grant
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.testing.certificates import certify, write
from tlsproxy.tls.authorization import Allowed, parsePin, parseURI


class GrantTests(ConfigurationTestCase):
    """
    C{[[route.grant]]}.
    """

    def table(self, *grants: Any, **more: Any) -> dict[str, Any]:
        """
        Make a document.
        """
        return self.document("sequential-server", grant=list(grants), **more)

    def grants(self, *grants: Any, **more: Any) -> tuple[Grant, ...]:
        """
        Read what is expected to be good.
        """
        pattern = self.build(self.table(*grants, **more)).routes[0].pattern
        assert isinstance(pattern, SequentialServer)
        return pattern.grants

    def test_good(self) -> None:
        """
        Identities, targets and server names are read, one alone or several.
        """
        write(str(self.folder / "other.pem"), certify("Other CA").pem())
        whole = {
            "issuer": "other.pem",
            "cn": "Ann",
            "dns": ["A.example", "b.example"],
            "uri": "spiffe://x/*",
            "email": ["Ann@Bank.example", "*@shop.example"],
            "pin": PIN,
            "targets": ["*.example:443", "10.0.0.0/8:*"],
            "sni": ["none", "Public.example"],
        }
        first, second = self.grants(whole, {"cn": ["Bob"], "targets": "a.example:1"})
        self.assertEqual(["CN=Other CA"], [one.subject.rfc4514_string() for one in first.issuers])
        self.assertEqual(
            Allowed(
                cn=frozenset({"Ann"}),
                dns=frozenset({"a.example", "b.example"}),
                uri=(parseURI("spiffe://x/*"),),
                email=frozenset({("Ann", "bank.example"), ("*", "shop.example")}),
                pins=frozenset({parsePin(PIN)}),
            ),
            first.allowed,
        )
        self.assertEqual(["*.example:443", "10.0.0.0/8:*"], [str(one) for one in first.targets])
        self.assertEqual(("none", "public.example"), first.sni)
        self.assertEqual((self.ca.certificate,), second.issuers)

    def test_none(self) -> None:
        """
        Without a grant nobody could reach anything.
        """
        nothing: list[Any] = [None, [], {}, "x"]
        for grant in nothing:
            document = self.table()
            if grant is None:
                del document["route"][0]["grant"]
            else:
                document["route"][0]["grant"] = grant
            self.assertProblem("route[0].grant", "nothing is granted by default", document)

    def test_nobody(self) -> None:
        """
        A grant says who, and what.
        """
        empty: list[dict[str, Any]] = [{}, {"cn": []}, {"cn": ""}]
        for nobody in empty:
            document = self.table(nobody | {"targets": "a.example:1"})
            self.assertProblem("route[0].grant[0]", "say who, by one of cn, dns, uri, email and pin", document)
        empty = [{}, {"targets": []}]
        for few in empty:
            document = self.table({"cn": "Ann"} | few)
            self.assertProblem("route[0].grant[0].targets", "say what they may reach", document)

    def test_issuer(self) -> None:
        """
        Where clients come from several CAs, each grant says which it means.
        """
        write(str(self.folder / "two.pem"), self.ca.pem(), certify("Other CA").pem())
        grant = {"cn": "Ann", "targets": "a.example:1"}
        document = self.table(grant, tls={"client_ca": "two.pem"})
        self.assertProblem("route[0].grant[0].issuer", "as client_ca has several", document)
        self.grants(grant | {"issuer": "two.pem"}, tls={"client_ca": "two.pem"})
        document = self.table(grant | {"issuer": "none.pem"})
        self.assertProblem("route[0].grant[0].issuer", "none.pem", document)

    def test_notOurs(self) -> None:
        """
        A root that C{client_ca} does not have makes the grant useless; what is no CA has issued nothing.
        """
        write(str(self.folder / "other.pem"), certify("Other CA").pem())
        grant = {"cn": "Ann", "targets": "a.example:1"}
        (warning,) = self.build(self.table(grant | {"issuer": "other.pem"})).warnings
        self.assertIn("client_ca does not have CN=Other CA", warning)
        write(
            str(self.folder / "leaf.pem"),
            issued("leaf.example", extensions=[x509.BasicConstraints(ca=False, path_length=None)]).pem(),
        )
        document = self.table(grant | {"issuer": "leaf.pem"})
        self.assertProblem("route[0].grant[0].issuer", "this is no CA", document)

    def test_wrong(self) -> None:
        """
        What is wrong with a value is told at its key.
        """
        for key, value, sentence in (
            ("cn", "*", "has a wildcard"),
            ("dns", "192.0.2.1", "is an address"),
            ("uri", "x", "is no URI"),
            ("email", "ann", "is no e-mail address"),
            ("pin", "x", "is no pin"),
            ("targets", "a.example", "say which port"),
            ("sni", "*.example", "is no server name"),
            ("sni", "192.0.2.1", "is no server name"),
            ("ou", "x", "there is no such key"),
        ):
            document = self.table({"cn": "Ann", "targets": "a.example:1"} | {key: value})
            self.assertProblem(f"route[0].grant[0].{key}", sentence, document)
        self.assertProblem("route[0].grant[0]", "give a table, not a string", self.table("x"))

    def test_wide(self) -> None:
        """
        A network that holds this machine is warned of.
        """
        configuration = self.build(self.table({"cn": "Ann", "targets": "0.0.0.0/0:443"}))
        (warning,) = configuration.warnings
        self.assertTrue(warning.startswith("route sequential-server: 0.0.0.0/0:443 of [[route.grant]] allows loopback"))

    def test_files(self) -> None:
        """
        The file of an issuer is looked at for changes.
        """
        write(str(self.folder / "other.pem"), self.ca.pem())
        files = self.build(self.table({"cn": "Ann", "issuer": "other.pem", "targets": "a.example:1"})).files
        self.assertIn(str(self.folder / "other.pem"), files)
