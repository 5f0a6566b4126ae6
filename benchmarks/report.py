"""
The tables: medians, ratios, spread, goals and versions, in reStructuredText.
"""

from __future__ import annotations

import os
import platform
import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from goals import goals
from jobs import OURS
from peers import PEERS
from results import Results, Run
from rows import ROWS, Row

NONE = "n/a"
"""What stands where there is no number."""


def number(value: float | None) -> str:
    """
    Three digits that count.
    """
    if value is None:
        return NONE
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def ratio(value: float | None, by: float | None) -> str:
    """
    One number divided by another.
    """
    return f"{value / by:.2f}" if value is not None and by is not None and by > 0 else NONE


def spread(numbers: Sequence[float]) -> str:
    """
    How far numbers lie apart: the largest less the smallest, by the median.
    """
    middle = statistics.median(numbers) if numbers else 0
    return f"{(max(numbers) - min(numbers)) / middle * 100:.0f} %" if middle > 0 and len(numbers) > 1 else NONE


def table(title: str, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
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


def machine() -> str:
    """
    What all of it ran on.
    """
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}"


def _of(run: Run) -> str:
    """
    When and how a part of the rows was measured.
    """
    work = run.work
    cores = "a core of its own for the proxy" if run.pinned else "no core reserved for the proxy"
    return wrapped(
        f"- {run.date}, {', '.join(run.rows)}: {cores}; load average {run.load:.2f} before the start; medians of "
        f"{run.rounds} interleaved rounds (memory: of at most 3 fresh processes), each of "
        f"{work.bulk / (1 << 20):.0f} MiB each way, {work.connections} new connections, {work.requests} requests, "
        f"{work.held} idle connections, {work.tunnels} idle tunnels, {work.seconds:g} s at a fixed rate."
    )


def wrapped(text: str) -> str:
    """
    A paragraph, or an entry of a list, in lines.
    """
    return (
        textwrap.fill(text, 120, subsequent_indent="  " if text.startswith("-") else "", break_on_hyphens=False) + "\n"
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

    def known(row: Row, name: str) -> bool:
        return bool(results.numbers(row, name)) or results.failed(row, name)

    names = [peer.name for peer in PEERS if any(known(row, peer.name) for row in ROWS)]
    others = [name for name in names if name != OURS]
    rows = [row for row in ROWS if any(known(row, name) for name in names)]

    def cells(row: Row, value: Callable[[Row, str], str], of: Sequence[str]) -> list[str]:
        return ["failed" if results.failed(row, name) else value(row, name) for name in of]

    medians = [[row.name, row.unit, *cells(row, lambda r, n: number(results.median(r.name, n)), names)] for row in rows]
    ratios = [
        [
            row.name,
            *cells(row, lambda r, n: ratio(results.median(r.name, OURS), results.median(r.name, n)), others),
            ratio(results.median(row.name, OURS), results.best(row.name)),
        ]
        for row in rows
        if results.numbers(row, OURS)
    ]
    spreads = [[row.name, *cells(row, lambda r, n: spread(results.numbers(r, n)), names)] for row in rows]
    parts = [
        wrapped(
            f"{machine()}.  One worker each, no log; TLS 1.3, X25519, AES-256-GCM, an EC P-256 certificate and no "
            "resumption where a row's name does not say otherwise."
        ),
        "".join(map(_of, results.runs)),
        table("CPU time, added latency and memory of the proxy alone, medians", ["work", "unit", *names], medians),
    ]
    if ratios and others:
        parts.append(table(f"{OURS} divided by the others: less is better", ["work", *others, "best of these"], ratios))
    if any(run.rounds > 1 for run in results.runs):
        parts.append(table("Spread: largest less smallest, by the median", ["work", *names], spreads))
    if results.notes:
        parts.append("".join(wrapped(f"- {word}: {note}") for word, note in results.notes.items()))
    aimed = [(text, number(value), "yes" if met else "no") for text, value, met in goals(results)]
    if aimed:
        parts.append(table("Goals", ["goal", "measured", "met"], aimed))
    parts.append(_versions(results, names))
    return "\n".join(parts)


def _versions(results: Results, names: Sequence[str]) -> str:
    """
    Who took part, on which TLS library, and how many tickets each sends to a new client.
    """
    lines = [
        [name, version.program, version.library, str(results.tickets.get(name, NONE))]
        for name in names
        for version in [results.versions[name]]
    ]
    return table("Versions", ["proxy", "version", "TLS library", "tickets"], lines)
