"""
What can be measured: each line of the tables, what load it is, and what a proxy is set up for.
"""

from __future__ import annotations

from attrs import frozen
from jobs import Setting

PARALLEL = (1, 32, 256)
"""How many connections or requests are under way at a time."""

_SOME = 32
_FEW = 4


@frozen
class Row:
    """
    One line of the tables.

    @param name: what C{--rows} calls it.
    @param unit: of its numbers; less is better in all of them.
    @param setting: what the proxies are set up for.
    @param kind: the load, or C{None} for a row that is summed, timed or read from memory.
    @param clients: how many connections or requests at a time.
    @param parts: the rows that this one sums, round by round.
    """

    name: str
    unit: str
    setting: Setting
    kind: str | None = None
    clients: int = 1
    parts: tuple[Row, ...] = ()


OFFLOAD = Setting("offload")
TLS12 = Setting("offload", "1.2")
RSA = Setting("offload", key="RSA-2048")
TLS12_RSA = Setting("offload", "1.2", "RSA-2048")
PASSTHROUGH = Setting("passthrough")
CONNECT = Setting("connect")


def pair(name: str, setting: Setting) -> tuple[Row, Row, Row]:
    """
    A bulk transfer in both directions, and the sum of them.
    """
    down, up = Row(f"{name}-down", "s/GiB", setting, "down"), Row(f"{name}-up", "s/GiB", setting, "up")
    return down, up, Row(f"{name}, sum", "s", setting, parts=(down, up))


UNITS = {"s/GiB": 1.0, "ms": 1e3, "µs": 1e6, "KiB each": 1 / 1024, "KiB": 1 / 1024, "each": 1.0, "trips": 1.0}
"""How many of a row's unit are in one second, byte or piece."""

HELD = {
    "memory": {
        ("idle", "rss"): Row("memory idle, RSS", "KiB each", OFFLOAD),
        ("idle", "pss"): Row("memory idle, PSS", "KiB each", OFFLOAD),
        ("burst", "rss"): Row("memory burst, RSS", "KiB each", OFFLOAD),
        ("burst", "pss"): Row("memory burst, PSS", "KiB each", OFFLOAD),
    },
    "tunnels-idle": {
        ("idle", "rss"): Row("tunnels idle, RSS", "KiB each", CONNECT),
        ("idle", "pss"): Row("tunnels idle, PSS", "KiB each", CONNECT),
        ("idle", "descriptors"): Row("tunnels idle, files", "each", CONNECT),
        ("burst", "rss"): Row("tunnels burst, RSS", "KiB each", CONNECT),
        ("burst", "descriptors"): Row("tunnels burst, files", "each", CONNECT),
    },
}
"""What the rows of these names in C{--rows} fill: by moment and by what is counted."""

STALLED = Row("stalled, RSS", "KiB", OFFLOAD)

PACED = {
    "latency-connections": ("connections", "paced-connections"),
    "latency-requests": ("paced-requests", "paced-requests"),
}
"""Rows of added latency: the load that finds out how much is possible, and the one of half of that."""

LATENCY = {
    name: {of: Row(f"{name}, {of}", unit, OFFLOAD) for of in ("p50", "p99")}
    for name, unit in (("latency-connections", "ms"), ("latency-requests", "µs"))
}
"""What these rows fill, by percentile."""

ROWS = (
    *pair("bulk", OFFLOAD),
    *pair("bulk-tls12", TLS12),
    *(Row(f"connections-{clients}", "ms", OFFLOAD, "connections", clients) for clients in PARALLEL),
    Row("connections-rsa", "ms", RSA, "connections", _SOME),
    Row("connections-tls12", "ms", TLS12, "connections", _SOME),
    Row("connections-tls12-rsa", "ms", TLS12_RSA, "connections", _SOME),
    Row("resumed", "ms", OFFLOAD, "resumed", _SOME),
    Row("resumed-tls12", "ms", TLS12, "resumed", _SOME),
    *(Row(f"requests-{clients}", "µs", OFFLOAD, "requests", clients) for clients in PARALLEL),
    Row("requests-tls12", "µs", TLS12, "requests", _SOME),
    *(row for rows in LATENCY.values() for row in rows.values()),
    *pair("encrypt", Setting("encrypt")),
    *pair("bridge", Setting("bridge")),
    *pair("passthrough", PASSTHROUGH),
    Row("passes", "µs", PASSTHROUGH, "connections", _FEW),
    *pair("tunnel", CONNECT),
    Row("tunnels", "µs", CONNECT, "connections", _FEW),
    *HELD["memory"].values(),
    STALLED,
    *HELD["tunnels-idle"].values(),
)
"""All rows in the order of the tables."""

FREE = (*HELD, "stalled")
"""The rows that start a fresh process for each number."""

CHOICES = tuple([row.name for row in ROWS if row.kind] + [*LATENCY, *FREE])
"""What can be asked for."""


def rowNamed(name: str) -> Row:
    """
    Find a row.
    """
    return next(row for row in ROWS if row.name == name)
