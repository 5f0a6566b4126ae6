# -*- test-case-name: tests.test_enrolltables -*-
"""
L{tlsproxy.enrolltables}: C{[route.enroll]}, and what has to fit it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding

from tests.configuring import ConfigurationTestCase
from tests.mappingsigning import BODY, facts, signed
from tlsproxy.config import Configuration, build
from tlsproxy.enrolling.desk import Desk
from tlsproxy.keeping import Kept
from tlsproxy.service import ProxyService
from tlsproxy.status.metrics import expose
from tlsproxy.status.page import page
from tlsproxy.status.process import Lag
from tlsproxy.status.state import State
from tlsproxy.status.tally import Tally
from tlsproxy.summaries import lines, summary
from tlsproxy.testing.certificates import NOW, certify, pem, write
from tlsproxy.testing.listener import Listener
from tlsproxy.testing.network import Network
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.issuing import Issuer

DAY = timedelta(days=1)
ENROLL: dict[str, Any] = {
    "name": "enroll.dmz.example",
    "server_name": "dmz.example",
    "server_ca": "dmz-ca.pem",
    "ca": "proxies-ca.pem",
    "ca_key": "proxies-key.pem",
    "mapping": "mapping.signed",
}
"""A good table."""


class EnrollTablesTests(ConfigurationTestCase):
    """
    C{[route.enroll]}.
    """

    def setUp(self) -> None:
        """
        Write what it names.
        """
        super().setUp()
        dmz = Authority.create("DMZ CA", lifetime=365 * DAY, now=NOW)
        names = ["dmz.example", "*.dmz.example"]
        shown = dmz.issue(commonName="dmz", names=names, server=True, client=False, lifetime=90 * DAY, now=NOW)
        self.put("dmz-ca.pem", dmz.pem())
        self.put("dmz.pem", pem(shown))
        self.issuer, key = Issuer.create("proxies.example", 365 * DAY, NOW - DAY)
        authority = self.issuer.certificate.public_bytes(Encoding.PEM)
        self.put("proxies-ca.pem", authority)
        self.put("proxies-key.pem", pem(Identity((self.issuer.certificate,), key)).partition(authority)[2])
        self.put("mapping.signed", signed(facts(issued="2026-11-01T00:00:00Z", expires="2027-01-01T00:00:00Z")))

    def put(self, name: str, *parts: bytes) -> None:
        """
        Write a file.
        """
        write(str(self.folder / name), *parts)

    def routed(self, tls: dict[str, Any] | None = None, **enroll: Any) -> dict[str, Any]:
        """
        Make a document.

        @param tls: What differs in C{[route.tls]}.
        @param enroll: What differs in C{[route.enroll]}.
        """
        return self.document(
            "sequential-server",
            tls={"cert": "dmz.pem", "client_ca": "proxies-ca.pem", **(tls or {})},
            grant=[{"uri": "spiffe://proxies.example/*", "targets": "shop.example:443"}],
            enroll={**ENROLL, **enroll},
        )

    def desk(self, configuration: Configuration) -> Desk:
        """
        Take the desk.
        """
        pattern: Any = configuration.routes[0].pattern
        assert isinstance(pattern.desk, Desk)
        return pattern.desk

    def warnings(self, document: dict[str, Any]) -> list[str]:
        """
        Build what is good, but doubtful.
        """
        return [one.removeprefix("route sequential-server: ") for one in self.build(document).warnings]

    def test_defaults(self) -> None:
        """
        Without more than it has to have, certificates last a week, and lineages 90 days.
        """
        document = self.routed()
        document["proxy"] = {"state_dir": "state"}
        configuration = self.build(document)
        self.assertEqual((), configuration.warnings)
        desk = self.desk(configuration)
        self.assertEqual(("enroll.dmz.example", "dmz.example"), (desk.name, desk.serverName))
        self.assertEqual((7 * DAY, 90 * DAY), (desk.lifetime, desk.lineage))
        self.assertEqual(self.issuer, desk.issuer)
        self.assertEqual((self.folder / "dmz-ca.pem").read_bytes(), desk.authorities)
        self.assertEqual((self.folder / "mapping.signed").read_bytes(), desk.mapping)
        self.assertEqual(self.folder / "state" / "enrollment-sequential-server.sqlite", Path(desk.store.path))
        self.assertFalse((self.folder / "state").exists())
        pattern: Any = configuration.routes[0].pattern
        self.assertEqual(("tlsproxy-seq/1", "http/1.1", "tlsproxy-enroll/1"), pattern.tls.policy.alpn)
        self.assertEqual((("tlsproxy-enroll/1",), "1.3", ()), self.bare(desk))
        for name in ("dmz-ca.pem", "proxies-ca.pem", "proxies-key.pem", "mapping.signed"):
            self.assertIn(str(self.folder / name), configuration.files)

    def bare(self, desk: Desk) -> tuple[object, ...]:
        """
        Tell what is asked of those who have no certificate.
        """
        policy = desk.tls.policy
        return policy.alpn, policy.minVersion, policy.clientCa

    def test_given(self) -> None:
        """
        What is said is taken; a name of a route that is no name of a file is made one.
        """
        document = self.routed(lifetime=86400, lineage=864000.0, store="my.sqlite", max_requests=5)
        desk = self.desk(self.build(document))
        self.assertEqual((DAY, 10 * DAY), (desk.lifetime, desk.lineage))
        self.assertEqual(self.folder / "my.sqlite", Path(desk.store.path))
        document = self.routed()
        document["route"][0]["name"] = "a/b"
        document["proxy"] = {"state_dir": "state"}
        self.assertEqual("enrollment-a%2Fb.sqlite", Path(self.desk(self.build(document)).store.path).name)

    def test_missing(self) -> None:
        """
        What is needed is asked for, all at once.
        """
        document = self.document("sequential-server", enroll={})
        self.assertEqual(
            {f"route[0].enroll.{key}" for key in ENROLL},
            set(self.problems(document)),
        )

    def test_otherModes(self) -> None:
        """
        No other mode has it.
        """
        for mode in ("connect", "bridge"):
            self.assertProblem("route[0].enroll", "has no use for it", self.document(mode, enroll=ENROLL))

    def test_wrong(self) -> None:
        """
        What does not fit is told, each with its key.
        """
        self.put("other-ca.pem", certify("Other CA").pem())
        self.put("other-key.pem", certify("Other").keyPEM())
        self.put("plain.toml", BODY.encode())
        other = facts(audience='"other.example"', expires="2027-01-01T00:00:00Z")
        self.put("other.signed", signed(other))
        for key, sentence, changed in (
            ("name", "a server name of its own", {"name": "dmz.example"}),
            ("name", "is no server name", {"name": "192.0.2.1"}),
            ("name", "is no server name", {"name": "*.dmz.example"}),
            ("name", "no certificate of the route is for enroll.example", {"name": "enroll.example"}),
            ("server_name", "no certificate of the route is for shop.example", {"server_name": "shop.example"}),
            (
                "server_ca",
                "the certificate for enroll.dmz.example cannot be verified by it",
                {"server_ca": "other-ca.pem"},
            ),
            ("server_ca", "does not exist", {"server_ca": "nowhere.pem"}),
            ("ca_key", "does not match the certificate", {"ca_key": "other-key.pem"}),
            ("ca_key", "does not exist", {"ca_key": "nowhere.pem"}),
            ("lifetime", "give a number of seconds, 0 is too short", {"lifetime": "7d"}),
            ("lineage", "give a number of seconds, 0 is too short", {"lineage": -1}),
            ("ca", "is not made for certifying client proxies", {"ca": "other-ca.pem"}),
            ("mapping", "is of no use to client proxies: it has no signature", {"mapping": "plain.toml"}),
            ("mapping", "is for other.example, and the CA certifies client proxies of", {"mapping": "other.signed"}),
            ("mapping", "does not exist", {"mapping": "nowhere"}),
            ("lifetime", "give 2592000 seconds (30 days) at most", {"lifetime": 2592001}),
            ("lifetime", "give 2592000 seconds (30 days) at most", {"lifetime": 0}),
            ("lineage", "give 7776000 seconds (90 days) at most", {"lineage": 7776001}),
            ("max_requests", "give a whole number, 1 to 100000", {"max_requests": 0}),
            ("max_client_requests", "give a whole number, 1 to 100000", {"max_client_requests": -1}),
            ("more", "there is no such key", {"more": 1}),
        ):
            self.assertProblem(f"route[0].enroll.{key}", sentence, self.routed(**changed))

    def test_exposedKey(self) -> None:
        """
        The key of the CA may be read by its owner only.
        """
        (self.folder / "proxies-key.pem").chmod(0o644)
        self.assertProblem("route[0].enroll.ca_key", "is open to others than its owner", self.routed())

    def test_clientAuthorities(self) -> None:
        """
        Whom the CA certifies has to be let in.
        """
        document = self.routed(tls={"client_ca": "ca.pem"})
        document["route"][0]["grant"][0] = {"cn": "ann", "targets": "shop.example:443"}
        self.assertProblem("route[0].enroll.ca", "client_ca does not have CN=Client proxies", document)
        hosts = [
            {"sni": "dmz.example", "client_ca": "proxies-ca.pem"},
            {"sni": "*.other.example", "client_ca": "ca.pem"},
        ]
        document = self.routed(tls={"client_ca": None, "host": hosts})
        document["route"][0]["grant"][0]["issuer"] = "proxies-ca.pem"
        self.build(document)

    def test_oldVersion(self) -> None:
        """
        TLS 1.3 is needed.
        """
        document = self.routed(tls={"max_version": "1.2"})
        document["route"][0]["downgrade"] = "none"
        self.assertProblem("route[0].enroll", "in TLS 1.3 only", document)

    def test_doubtful(self) -> None:
        """
        What works, but not for long, or for nobody, is warned of.
        """
        (warning,) = self.warnings(self.routed(lifetime=600))
        self.assertIn("with a lifetime of less than an hour", warning)
        self.put("old.signed", signed(facts(issued="2026-10-01T00:00:00Z", expires="2026-11-01T00:00:00Z")))
        (warning,) = self.warnings(self.routed(mapping="old.signed"))
        self.assertIn("old.signed HAS EXPIRED, and client proxies will refuse it", warning)
        self.put("late.signed", signed(facts(issued="2026-10-25T00:00:00Z", expires="2026-11-24T00:00:00Z")))
        (warning,) = self.warnings(self.routed(mapping="late.signed"))
        self.assertIn("late.signed expires on 2026-11-24 00:00 UTC, and client proxies will refuse every host", warning)
        store = self.folder / "s.sqlite"
        store.touch()
        store.chmod(0o644)
        (warning,) = self.warnings(self.routed(store="s.sqlite"))
        self.assertEqual(0, store.stat().st_size)
        self.assertIn("s.sqlite: it is open to other users; chmod 600 it", warning)
        for grant, told in (
            ({"uri": "spiffe://proxies.example/*"}, 0),
            ({"uri": "spiffe://proxies.example/ann"}, 0),
            ({"uri": "spiffe://other.example/*"}, 1),
            ({"dns": "ann.example"}, 1),
            ({"cn": "ann"}, 0),
        ):
            document = self.routed()
            document["route"][0]["grant"] = [{**grant, "targets": "shop.example:443"}]
            warnings = self.warnings(document)
            self.assertEqual(told, len(warnings), (grant, warnings))
            for warning in warnings:
                self.assertIn('give one uri = "spiffe://proxies.example/NAME"', warning)

    def test_reloaded(self) -> None:
        """
        What has to outlast a reload does: the store, who is watched, and how often somebody has asked.  Another mapping
        comes to hold.
        """
        kept = Kept()
        first = self.desk(build(self.routed(), self.folder, NOW, kept=kept))
        self.put("mapping.signed", signed(facts(version=8, expires="2027-01-01T00:00:00Z")))
        second = self.desk(build(self.routed(lifetime=86400), self.folder, NOW, kept=kept))
        self.assertNotEqual(first.mapping, second.mapping)
        self.assertEqual(DAY, second.lifetime)
        self.assertIs(first.store, second.store)
        self.assertIs(first.standing, second.standing)
        self.assertIs(first.rates, second.rates)
        self.assertIs(first.renewals, second.renewals)
        self.assertIsNot(first.rates, first.renewals)

    def test_explained(self) -> None:
        """
        What it comes to is told.
        """
        configuration = self.build(self.routed(store="my.sqlite"))
        told = summary(configuration.routes[0], NOW)
        self.assertEqual(
            {
                "name": "enroll.dmz.example",
                "server_name": "dmz.example",
                "certifies": "spiffe://proxies.example/*",
                "lifetime": 604800.0,
                "lineage": 7776000.0,
                "store": str(self.folder / "my.sqlite"),
                "mapping": "version 7, until 2027-01-01 00:00 UTC (41 days left)",
            },
            {key: value for key, value in told["enroll"].items() if key not in ("ca", "server_ca")},
        )
        self.assertRegex(told["enroll"]["ca"], r"Client proxies.*\(\d+ days left\)")
        self.assertRegex(told["enroll"]["server_ca"][0], r"DMZ CA.*\(365 days left\)")
        told = summary(configuration.routes[0], NOW + 4000 * DAY)
        explained = [line for line in lines(told) if "EXPIRED" in line]
        self.assertEqual(4, len(explained), explained)
        self.assertTrue(any("spiffe://proxies.example/*" in line for line in lines(told)))

    def test_status(self) -> None:
        """
        So is, while it runs, what has become of requests, and when the CA expires.
        """
        with Network() as network:
            listener = Listener()
            route = evolve(self.build(self.routed()).routes[0], listen=listener)
            service = ProxyService([route], network.reactor, dialer=network.dialer)
            service.startService()
            state = State(service, Tally(), Lag(network.reactor), network.reactor)
            service.factories[0].enrolled.update({("done", "enrolled"): 3, ("refused", "theft"): 2})
            told = state.tell()
            self.assertEqual({"done": {"enrolled": 3}, "refused": {"theft": 2}}, told["routes"][0]["enrollments"])
            names = [one["names"] for one in told["certificates"]]
            self.assertIn(["CN=Client proxies,O=Client proxies"], names)
            self.assertIn(["CN=DMZ CA"], names)
            self.assertEqual("2027-01-01T00:00:00+00:00", told["routes"][0]["mapping_not_after"])
            self.assertIn("<td>theft: 2</td>", page(told))
            text = (expose(told) or b"").decode()
            name = "sequential-server"
            self.assertIn(f'tlsproxy_enrollments_total{{result="enrolled",route="{name}"}} 3.0', text)
            self.assertIn(f'tlsproxy_enrollments_refused_total{{reason="theft",route="{name}"}} 2.0', text)
            self.assertIn(f'tlsproxy_mapping_not_after_seconds{{route="{name}"}} 1.7987616e+09', text)
            self.successResultOf(service.stopService())
