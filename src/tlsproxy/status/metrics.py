# -*- test-case-name: tests.status.test_metrics -*-
"""
The state of a proxy as Prometheus reads it.

Labels are words of ours and of the configuration: there are never more series than those can make, whatever clients do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tlsproxy.interfaces import PHASES

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["CONTENT_TYPE", "MISSING", "expose"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MISSING: Final = 'metrics need the package prometheus_client: pip install "tlsproxy[status]"'
_CERTIFICATES: Final = 100
"""The most certificates that are told of: those that expire first."""


class _State:
    """
    A collector of what was told already.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """
        Give each metric.
        """
        yield from _process(self._told)
        yield from _sessions(self._told["routes"])
        yield from _handshakes(self._told["routes"])
        yield from _upstreams(self._told["routes"])
        yield from _enrollments(self._told["routes"])
        yield from _certificates(self._told["certificates"])
        yield from _renewals(self._told["renewals"])
        yield from _mappings([*self._told["renewals"], *self._told["routes"]])


def _metric(
    kind: str, name: str, help: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(f"tlsproxy_{name}", help, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _process(told: Mapping[str, Any]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    process = told["process"]
    words = ("version", "libssl", "python")
    yield _metric("gauge", "info", "What runs", words, [(tuple(process[word] for word in words), 1)])
    yield _metric("gauge", "ready", "Whether it takes new clients", (), [((), told["ready"])])
    yield _metric("gauge", "draining", "Whether it waits for its last sessions", (), [((), told["draining"])])
    for name, key, help in (
        ("loop_lag_seconds", "loop_lag_seconds", "How late the event loop was last"),
        ("loop_lag_worst_seconds", "loop_lag_worst_seconds", "How late it was at worst within a minute"),
        ("max_connections", "max_connections", "Sessions that all routes together may have; 0 for no limit"),
        ("ports_paused", "ports_paused", "Ports that wait for a session to end"),
    ):
        yield _metric("gauge", name, help, (), [((), process[key])])
    configuration = told["configuration"]
    generation, failed = configuration["generation"], bool(configuration["problems"])
    yield _metric("gauge", "config_generation", "Configurations that have held so far", (), [((), generation)])
    yield _metric("gauge", "config_reload_failed", "Whether the last reload failed", (), [((), failed)])
    reached = [((limit,), count) for limit, count in process["limits_reached"].items()]
    yield _metric(
        "counter", "process_limit_reached", "How often a limit of the process was reached", ("limit",), reached
    )
    started = datetime.fromisoformat(process["started"]).timestamp()
    # By the names that Prometheus has for any process.
    for name, help, value in (
        ("process_start_time_seconds", "Start time of the process since the epoch", started),
        ("process_open_fds", "Number of open file descriptors", process["descriptors"]),
        ("process_max_fds", "Maximum number of open file descriptors", process["max_descriptors"]),
        ("process_resident_memory_bytes", "Resident memory size", process["resident_bytes"]),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, help, value=value)


def _sessions(routes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    def rows(key: str) -> list[tuple[tuple[str, ...], float]]:
        return [((route["name"],), route[key]) for route in routes]

    phases = [((route["name"], phase), route["phases"].get(phase, 0)) for route in routes for phase in PHASES]
    yield _metric("gauge", "sessions", "Sessions that are open, by phase", ("route", "phase"), phases)
    limit = "Sessions that a route may have; 0 for no limit"
    yield _metric("gauge", "route_max_connections", limit, ("route",), rows("max_connections"))
    yield _metric("counter", "sessions_started", "Sessions that have begun", ("route",), rows("started"))
    ended = [
        ((route["name"], outcome, phase), n)
        for route in routes
        for outcome, phases in route["ended"].items()
        for phase, n in phases.items()
    ]
    help = "Sessions that are over, by what became of them and in which phase"
    yield _metric("counter", "sessions_ended", help, ("route", "outcome", "phase"), ended)
    yield _metric("counter", "received_bytes", "Bytes that clients have sent", ("route",), rows("received_bytes"))
    yield _metric("counter", "sent_bytes", "Bytes that clients were sent", ("route",), rows("sent_bytes"))
    dropped = [((route["name"], why), n) for route in routes for why, n in route["dropped_datagrams"].items()]
    help = "Datagrams that were dropped"
    yield _metric("counter", "dropped_datagrams", help, ("route", "reason"), dropped)
    reached = [((route["name"], limit), n) for route in routes for limit, n in route["limits_reached"].items()]
    yield _metric("counter", "limit_reached", "How often a limit was reached", ("route", "limit"), reached)


def _handshakes(routes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    sides = (("client", "handshakes"), ("upstream", "upstream_handshakes"))

    def rows(*keys: str) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((route["name"], side, word), n)
            for route in routes
            for side, key in sides
            for word, n in ((one, route[key][one]) for one in keys)
        ]

    def words(key: str) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((route["name"], side, word), n)
            for route in routes
            for side, table in sides
            for word, n in route[table][key].items()
        ]

    labels = ("route", "side")
    yield _metric("counter", "handshakes", "TLS handshakes done", (*labels, "kind"), rows("full", "resumed"))
    yield _metric("counter", "handshake_versions", "They by TLS version", (*labels, "version"), words("versions"))
    yield _metric("counter", "handshake_groups", "They by key exchange group", (*labels, "group"), words("groups"))
    yield _metric("counter", "handshakes_failed", "TLS handshakes that failed", (*labels, "reason"), words("failed"))


def _upstreams(routes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    def rows(key: str, *more: str) -> list[tuple[tuple[str, ...], float]]:
        return [((route["name"], one["address"], *more), one[key]) for route in routes for one in route["upstreams"]]

    labels = ("route", "upstream")
    yield _metric("gauge", "upstream_sessions", "Sessions with an upstream", labels, rows("sessions"))
    dials = rows("reached", "reached") + rows("failed", "failed")
    yield _metric("counter", "dials", "Connections to an upstream that were tried", (*labels, "result"), dials)


def _enrollments(routes: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    def rows(kind: str) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((route["name"], word), n)
            for route in routes
            for word, n in route.get("enrollments", {}).get(kind, {}).items()
        ]

    done = "What client proxies got that enroll: certificates and what goes with them"
    yield _metric("counter", "enrollments", done, ("route", "result"), rows("done"))
    yield _metric("counter", "enrollments_refused", "Why they got nothing", ("route", "reason"), rows("refused"))


def _certificates(certificates: list[Mapping[str, Any]]) -> Iterator[Metric]:
    first: dict[tuple[str, ...], float] = {}
    for one in certificates:
        labels = one["route"], one["side"], one["names"][0]
        first.setdefault(labels, datetime.fromisoformat(one["not_after"]).timestamp())
    help = "When a certificate expires, since the epoch; of many only those that expire first"
    rows = list(first.items())[:_CERTIFICATES]
    yield _metric("gauge", "certificate_not_after_seconds", help, ("route", "side", "certificate"), rows)


def _times(told: Iterable[Mapping[str, Any]], key: str) -> list[tuple[tuple[str, ...], float]]:
    return [
        ((one.get("route", one.get("name", "")),), datetime.fromisoformat(one[key]).timestamp())
        for one in told
        if one.get(key)
    ]


def _mappings(told: list[Mapping[str, Any]]) -> Iterator[Metric]:
    """
    Tell of signed mappings, those that were fetched and those that are handed out.
    """
    label = ("route",)
    ends = _times(told, "mapping_not_after")
    if ends:
        help = "When the signed mapping expires, since the epoch"
        yield _metric("gauge", "mapping_not_after_seconds", help, label, ends)
    versions = [
        ((one.get("route", one.get("name", "")),), one["mapping_version"])
        for one in told
        if one.get("mapping_version") is not None
    ]
    if versions:
        yield _metric("gauge", "mapping_version", "Version of the signed mapping", label, versions)


def _renewals(enrollments: list[Mapping[str, Any]]) -> Iterator[Metric]:
    def rows(key: str) -> list[tuple[tuple[str, ...], float]]:
        return [((one["route"],), one[key]) for one in enrollments]

    if not enrollments:
        return
    label = ("route",)
    for name, key, help in (
        ("enrollment_not_after_seconds", "certificate_not_after", "When the enrolled certificate expires"),
        ("enrollment_renewal_seconds", "renewal", "When the enrolled certificate is to be renewed"),
    ):
        yield _metric("gauge", name, f"{help}, since the epoch", label, _times(enrollments, key))
    failing = [((one["route"],), float(bool(one["last_failure"]))) for one in enrollments]
    yield _metric(
        "gauge", "enrollment_failing", "Whether what was last asked of the reverse proxy failed", label, failing
    )
    for name, help in (
        ("renewals", "Certificates that were renewed"),
        ("mappings", "Mappings that were taken"),
        ("failures", "Attempts that failed"),
    ):
        yield _metric("counter", f"enrollment_{name}", help, label, rows(name))


def expose(told: Mapping[str, Any]) -> bytes | None:
    """
    Write the metrics.

    @param told: What L{tlsproxy.status.state.State} tells.
    @return: The text; L{None} where what it takes is not installed.
    """
    try:
        from prometheus_client.exposition import generate_latest
    except ImportError:
        return None
    collector: Any = _State(told)
    return generate_latest(collector)
