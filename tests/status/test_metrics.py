# -*- test-case-name: tests.status.test_metrics -*-
"""
L{tlsproxy.status.metrics}
"""

from __future__ import annotations

import sys
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.status.test_page import RENEWAL
from tests.status.watching import WatchedCase
from tlsproxy.interfaces import PHASES
from tlsproxy.status.metrics import expose


class MetricsTests(WatchedCase):
    """
    The state of a proxy for Prometheus.
    """

    def samples(self, told: Any = None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """
        Have Prometheus's own parser read the metrics.
        """
        text = expose(told or self.state.tell())
        assert text is not None
        found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in text_string_to_metric_families(text.decode()):
            self.assertTrue(family.documentation, family.name)
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                self.assertNotIn(key, found)
                found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        """
        Tell one.
        """
        return self.samples()[name, tuple(sorted(labels.items()))]

    def test_values(self) -> None:
        """
        All that is told is there, and sums to what has happened.
        """
        client = self.browse()
        self.talk(client, b"question", b"the answer")
        self.leave(client)
        self.browse()
        self.browse(alpn=(b"h2",))
        for name, labels, value in (
            ("tlsproxy_sessions_started_total", {"route": "shop"}, 3),
            ("tlsproxy_sessions", {"route": "shop", "phase": "idle"}, 1),
            ("tlsproxy_sessions_ended_total", {"route": "shop", "outcome": "closed", "phase": "half_closed"}, 1),
            ("tlsproxy_sessions_ended_total", {"route": "shop", "outcome": "refused", "phase": "handshake"}, 1),
            ("tlsproxy_received_bytes_total", {"route": "shop"}, 8),
            ("tlsproxy_sent_bytes_total", {"route": "shop"}, 10),
            ("tlsproxy_handshakes_total", {"route": "shop", "side": "client", "kind": "full"}, 2),
            ("tlsproxy_handshakes_total", {"route": "mail", "side": "upstream", "kind": "resumed"}, 0),
            ("tlsproxy_handshake_versions_total", {"route": "shop", "side": "client", "version": "TLSv1.3"}, 2),
            (
                "tlsproxy_handshakes_failed_total",
                {"route": "shop", "side": "client", "reason": "sent no_application_protocol"},
                1,
            ),
            ("tlsproxy_dials_total", {"route": "shop", "upstream": "upstream.example:80", "result": "reached"}, 2),
            ("tlsproxy_upstream_sessions", {"route": "shop", "upstream": "upstream.example:80"}, 1),
            ("tlsproxy_ready", {}, 1),
            ("tlsproxy_draining", {}, 0),
            ("tlsproxy_process_limit_reached_total", {"limit": "descriptors"}, 0),
        ):
            self.assertEqual(value, self.value(name, **labels), name)
        samples = self.samples()
        started = sum(value for (name, _), value in samples.items() if name == "tlsproxy_sessions_started_total")
        over = sum(
            value
            for (name, _), value in samples.items()
            if name in ("tlsproxy_sessions_ended_total", "tlsproxy_sessions")
        )
        self.assertEqual((3, 3), (started, over))

    def test_everyPhase(self) -> None:
        """
        Each phase of each route is there from the start, so that nothing appears from nowhere.
        """
        found = {labels for name, labels in self.samples() if name == "tlsproxy_sessions"}
        self.assertEqual(
            {(("phase", phase), ("route", route)) for phase in PHASES for route in ("shop", "mail")}, found
        )

    def test_bounded(self) -> None:
        """
        Whatever clients do, there are no more series than before.
        """
        for name in ("a.example", "b.example"):
            client = self.browse(serverName=name)
            client.close()
            self.network.settle()
        before = set(self.samples())
        for number in range(20):
            client = self.browse(serverName=f"{number}.example")
            client.close()
            self.network.settle()
        self.assertEqual(before, set(self.samples()))

    def test_manyCertificates(self) -> None:
        """
        Of many certificates only some are told of, each once.
        """
        told = self.state.tell()
        (one,) = told["certificates"]
        told["certificates"] = [one | {"names": [f"{number // 2}.example"]} for number in range(1000)]
        names = [name for name, _ in self.samples(told) if name == "tlsproxy_certificate_not_after_seconds"]
        self.assertEqual(100, len(names))

    def test_enrolled(self) -> None:
        """
        What has come from a reverse proxy is told, as far as there is something.
        """
        told = self.state.tell()
        before = set(self.samples(told))
        told["renewals"] = [RENEWAL]
        samples = self.samples(told)
        label = (("route", "client-proxy"),)
        more = {name.removeprefix("tlsproxy_") for name, _ in set(samples) - before}
        self.assertEqual(
            {"enrollment_not_after_seconds", "enrollment_renewal_seconds", "mapping_version", "enrollment_failing"}
            | {"enrollment_renewals_total", "enrollment_mappings_total", "enrollment_failures_total"},
            {name for name in more if not name.endswith("_created")},
        )
        self.assertEqual(1796515200, samples["tlsproxy_enrollment_not_after_seconds", label])

    def test_hostileNames(self) -> None:
        """
        A name cannot break out of its label.
        """
        told = self.state.tell()
        name = 'a"} 1\nevil 1\\'
        told["routes"][0]["name"] = name
        self.assertIn(("tlsproxy_sent_bytes_total", (("route", name),)), self.samples(told))
        self.assertEqual([], [one for one, _ in self.samples(told) if one == "evil"])

    def test_missing(self) -> None:
        """
        Without what it takes there are none.
        """
        name = "prometheus_client.exposition"
        self.addCleanup(sys.modules.__setitem__, name, sys.modules[name])
        missing: Any = None
        sys.modules[name] = missing
        self.assertIsNone(expose(self.state.tell()))

    def test_reloads(self) -> None:
        """
        A reload that failed is told of.
        """
        told = self.state.tell()
        self.assertEqual(0, self.samples(told)["tlsproxy_config_reload_failed", ()])
        told["configuration"] |= {"generation": 3, "problems": ["x"]}
        samples = self.samples(told)
        values = [samples[f"tlsproxy_config_{name}", ()] for name in ("generation", "reload_failed")]
        self.assertEqual([3, 1], values)

    def test_elsewhere(self) -> None:
        """
        What the system does not tell is left out.
        """
        told = self.state.tell()
        told["process"]["descriptors"] = None
        names = [name for name, _ in self.samples(told)]
        self.assertNotIn("process_open_fds", names)
        self.assertIn("process_max_fds", names)
