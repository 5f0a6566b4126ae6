"""
The tables: medians, ratios, spread, goals and versions, in reStructuredText.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from attrs import Factory, define, frozen
from measure import Handshake, Work
from peers import HANDLED, OURS, PEERS, SPLICING, STOCK, Version

_APART = (OURS, HANDLED, SPLICING, STOCK)
"""Who is not one of the four."""
_NONE = "n/a"


@frozen
class Row:
    """
    One line of the tables.

    @param name: what C{--rows} calls it.
    @param unit: of its numbers; less is better in all of them.
    @param mode: what the proxies do; see L{peers.Job}.
    @param kind: the load, or C{None} for a row that is summed or read from memory.
    @param parts: the rows that this one sums, round by round.
    """

    name: str
    unit: str
    mode: str
    kind: str | None = None
    parts: tuple[str, ...] = ()


def _pair(name: str, mode: str) -> tuple[Row, Row, Row]:
    down, up = f"{name}-down", f"{name}-up"
    return (
        Row(down, "s/GiB", mode, "down"),
        Row(up, "s/GiB", mode, "up"),
        Row(f"{name}, sum", "s", mode, parts=(down, up)),
    )


UNITS = {"s/GiB": 1.0, "ms": 1e3, "µs": 1e6, "KiB each": 1 / 1024, "KiB": 1 / 1024, "each": 1.0}
"""How many of a row's unit are in one second, byte or piece."""

HELD = {
    "memory": {
        ("idle", "rss"): Row("memory idle, RSS", "KiB each", "offload"),
        ("idle", "pss"): Row("memory idle, PSS", "KiB each", "offload"),
        ("burst", "rss"): Row("memory burst, RSS", "KiB each", "offload"),
        ("burst", "pss"): Row("memory burst, PSS", "KiB each", "offload"),
    },
    "tunnels-idle": {
        ("idle", "rss"): Row("tunnels idle, RSS", "KiB each", "connect"),
        ("idle", "pss"): Row("tunnels idle, PSS", "KiB each", "connect"),
        ("idle", "descriptors"): Row("tunnels idle, files", "each", "connect"),
        ("burst", "rss"): Row("tunnels burst, RSS", "KiB each", "connect"),
        ("burst", "descriptors"): Row("tunnels burst, files", "each", "connect"),
    },
}
"""What the rows of these names in C{--rows} fill: by moment and by what is counted."""

STALLED = Row("stalled, RSS", "KiB", "offload")

ROWS = (
    *_pair("bulk", "offload"),
    Row("connections", "ms", "offload", "connections"),
    Row("requests", "µs", "offload", "requests"),
    *_pair("encrypt", "encrypt"),
    *_pair("bridge", "bridge"),
    *_pair("passthrough", "passthrough"),
    Row("passes", "µs", "passthrough", "connections"),
    *_pair("tunnel", "connect"),
    Row("tunnels", "µs", "connect", "connections"),
    *HELD["memory"].values(),
    STALLED,
    *HELD["tunnels-idle"].values(),
)
"""All rows in the order of the tables."""


@define
class Results:
    """
    What was measured, and where.

    @ivar rounds: how many were asked for.
    @ivar work: the size of one measurement.
    @ivar pinned: whether proxies had a core of their own.
    @ivar values: the numbers of each row and proxy, one a round.
    @ivar failures: rows and proxies that did not get through.
    @ivar versions: of each proxy.
    @ivar handshakes: of each proxy and mode.
    @ivar load: the load average before the start.
    """

    rounds: int
    work: Work
    pinned: bool
    values: dict[str, dict[str, list[float]]] = Factory(dict)
    failures: set[tuple[str, str]] = Factory(set)
    versions: dict[str, Version] = Factory(dict)
    handshakes: dict[tuple[str, str], Handshake] = Factory(dict)
    load: float = Factory(lambda: os.getloadavg()[0])

    def add(self, row: Row, name: str, value: float) -> None:
        """
        Keep the number of one round.

        @param value: in seconds, bytes or pieces.
        """
        self.values.setdefault(row.name, {}).setdefault(name, []).append(value * UNITS[row.unit])

    def numbers(self, row: Row, name: str) -> list[float]:
        """
        The numbers of a row and proxy, one a round; none if any round failed.
        """
        if row.parts:
            each = [self.numbers(_rowNamed(part), name) for part in row.parts]
            return [sum(pair) for pair in zip(*each, strict=True)] if all(each) else []
        if (row.name, name) in self.failures:
            return []
        return self.values.get(row.name, {}).get(name, [])

    def median(self, row: str, name: str) -> float | None:
        """
        The median of a row and proxy.
        """
        numbers = self.numbers(_rowNamed(row), name)
        return statistics.median(numbers) if numbers else None

    def best(self, row: str) -> float | None:
        """
        The smallest median among the others, what Twisted alone offers left out.
        """
        others = [self.median(row, name) for name in self.versions if name not in (OURS, HANDLED, STOCK)]
        return min((value for value in others if value is not None), default=None)

    def failed(self, row: Row, name: str) -> bool:
        """
        Whether any part of a row failed.
        """
        return any((part, name) in self.failures for part in row.parts or (row.name,))


def _rowNamed(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def _number(value: float | None) -> str:
    """
    Three digits that count.
    """
    if value is None:
        return _NONE
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _ratio(value: float | None, by: float | None) -> str:
    return f"{value / by:.2f}" if value is not None and by is not None and by > 0 else _NONE


def _table(title: str, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """
    A simple table, wide enough for its longest cells.
    """
    body = [list(line) for line in lines]
    widths = [max(len(line[column]) for line in [heads, *body]) for column in range(len(heads))]
    rule = "  ".join("=" * width for width in widths)

    def written(line: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()

    text = [rule, written(heads), rule, *map(written, body), rule]
    return f".. table:: {title}\n\n" + "\n".join("   " + line for line in text) + "\n"


def _goals(results: Results) -> list[tuple[str, str, str]]:
    """
    What this project holds itself to, as far as it was measured. Nobody is the best of four unless all four ran.
    """
    median = results.median
    lines = []

    def best(row: str) -> float | None:
        everyone = all(median(row, peer.name) is not None for peer in PEERS if peer.name not in _APART)
        return results.best(row) if everyone else None

    def ratio(text: str, row: str, by: float | None, most: float, strictly: bool = False, who: str = OURS) -> None:
        value = median(row, who)
        if value is not None and by:
            found = value / by
            lines.append((text, f"{found:.2f}", "yes" if found < most or (found == most and not strictly) else "no"))

    def limit(text: str, row: str, most: float) -> None:
        value = median(row, OURS)
        if value is not None:
            lines.append((text, _number(value), "yes" if value <= most else "no"))

    ratio("offload, down and up: at most 1.05 of the best of four", "bulk, sum", best("bulk, sum"), 1.05)
    ratio("encrypt, down and up: at most 1.05 of the best of four", "encrypt, sum", best("encrypt, sum"), 1.05)
    ratio("bridge, down and up: at most 1.7 of our offload", "bridge, sum", median("bulk, sum", OURS), 1.7)
    ratio("new connection: at most 1.4 of haproxy", "connections", median("connections", "haproxy"), 1.4)
    ratio("new connection: below stunnel", "connections", median("connections", "stunnel"), 1.0, True)
    ratio("small request: at most 1.8 of haproxy", "requests", median("requests", "haproxy"), 1.8)
    ratio("small request: below stunnel", "requests", median("requests", "stunnel"), 1.0, True)
    for name, text in (("passthrough", "passthrough"), ("tunnel", "tunnel of CONNECT")):
        row = f"{name}, sum"
        ratio(f"{text}, down and up: at most 0.3 of nginx", row, median(row, "nginx"), 0.3)
        ratio(f"{text}, down and up: at most 1.0 of haproxy", row, median(row, "haproxy"), 1.0)
    ratio("new passthrough connection: at most 2.3 of haproxy", "passes", median("passes", "haproxy"), 2.3)
    for row in ("bulk, sum", "encrypt, sum", "bridge, sum"):
        work = row.partition(",")[0].replace("bulk", "offload")
        text = f"{work}, down and up, through a handler that lets all pass: at most 1.15 of without"
        ratio(text, row, median(row, OURS), 1.15, who=HANDLED)
    limit("idle connection, both sides: at most 36 KiB of RSS", "memory idle, RSS", 36)
    limit("the same after a burst of 60 kB", "memory burst, RSS", 36)
    limit("a reader that stalls a push of 100 MB: below 1024 KiB", "stalled, RSS", 1023.99)
    limit("idle tunnel, both sides: at most 12 KiB of RSS", "tunnels idle, RSS", 12)
    # A spare kernel pipe or two are nobody's.
    limit("descriptors of an idle tunnel: 2", "tunnels idle, files", 2.005)
    return lines


def _where(results: Results) -> str:
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    cores = "a core of its own for the proxy" if results.pinned else "no core reserved for the proxy"
    work = results.work
    return (
        f"Measured on {datetime.date.today().isoformat()}: {model}, {os.cpu_count()} cores, {kernel}; {cores}; "
        f"load average {results.load:.2f} before the start.\n"
        f"Medians of {results.rounds} interleaved rounds (memory: of at most 3 fresh processes). One round is "
        f"{work.bulk / (1 << 20):.0f} MiB each way, {work.connections} new connections, {work.requests} requests over "
        f"{work.keptAlive} connections, {work.held} idle connections, {work.tunnels} idle tunnels.\n"
        "TLS 1.3, X25519, TLS_AES_256_GCM_SHA384, EC P-256 certificate, one worker, no log, no resumption.\n"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def render(results: Results) -> str:
    """
    Everything, to be printed or included in a page.
    """
    names = list(results.versions)
    others = [name for name in names if name != OURS]
    rows = [row for row in ROWS if any(results.numbers(row, name) or results.failed(row, name) for name in names)]

    def cells(row: Row, value: Callable[[Row, str], str], of: Sequence[str]) -> list[str]:
        return ["failed" if results.failed(row, name) else value(row, name) for name in of]

    def spread(row: Row, name: str) -> str:
        numbers = results.numbers(row, name)
        middle = statistics.median(numbers) if numbers else 0
        return f"{(max(numbers) - min(numbers)) / middle * 100:.0f} %" if middle > 0 and len(numbers) > 1 else _NONE

    medians = [
        [row.name, row.unit, *cells(row, lambda r, n: _number(results.median(r.name, n)), names)] for row in rows
    ]
    ratios = [
        [
            row.name,
            *cells(row, lambda r, n: _ratio(results.median(r.name, OURS), results.median(r.name, n)), others),
            _ratio(results.median(row.name, OURS), results.best(row.name)),
        ]
        for row in rows
        if results.numbers(row, OURS)
    ]
    spreads = [[row.name, *cells(row, spread, names)] for row in rows]
    parts = [
        _where(results),
        _table("CPU time and memory of the proxy alone, medians", ["work", "unit", *names], medians),
    ]
    if ratios and others:
        parts.append(
            _table(f"{OURS} divided by the others: less is better", ["work", *others, "best of these"], ratios)
        )
    if results.rounds > 1:
        parts.append(_table("Spread: largest less smallest, by the median", ["work", *names], spreads))
    goals = _goals(results)
    if goals:
        parts.append(_table("Goals", ["goal", "measured", "met"], goals))
    parts.append(_versions(results.versions, results.handshakes))
    return "\n".join(parts)


def _versions(versions: Mapping[str, Version], handshakes: Mapping[tuple[str, str], Handshake]) -> str:
    """
    Who took part, on which TLS library, and how many tickets each sends to a new client.
    """
    lines = []
    for name, version in versions.items():
        seen = handshakes.get((name, "offload")) or handshakes.get((name, "bridge"))
        lines.append([name, version.program, version.library, str(seen.tickets) if seen else _NONE])
    return _table("Versions", ["proxy", "version", "TLS library", "tickets"], lines)
