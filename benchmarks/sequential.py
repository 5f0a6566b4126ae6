"""
Compare tlsproxy's two sequential modes with pairs of stunnel and of ssh: what TLS inside a tunnel costs each proxy.

Counts the CPU time of the proxy at the backend (RP) and of the one at the client (CP), each alone, in interleaved
rounds, and the time to the first byte of a new tunnel with a distance between the two. See README.rst beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve, frozen
from credentials import Credentials, issueClient
from jobs import Setting
from measure import Bench, bench
from pairs import LOOPBACK, NONE, OURS, PAIRS, SOCKET, STUNNEL, Pair, missing
from processes import ProcessError
from report import NONE as NOTHING
from report import machine, number, ratio, spread, table, wrapped
from results import Results
from rows import Row, pair
from running import RunningPair, start
from work import QUICK, WARM_UP, Work

_SETTING = Setting("sequential")
_FAR = pair("RP", _SETTING)
_NEAR = pair("CP", _SETTING)
_HERE = Row("first byte, no distance", "ms", _SETTING)
_AWAY = Row("first byte, at a distance", "ms", _SETTING)
_TRIPS = Row("round trips to first byte", "trips", _SETTING)
_BULK = (*_FAR, *_NEAR)
_FIRST = (_HERE, _AWAY, _TRIPS)

_RATE = 8.0
"""Tunnels a second whose first byte is timed: few enough that none meets another."""

_NOISE = 0.2
"""What of a round trip is left to chance where they are counted by time."""

_GOALS = (("its CPU with none", NONE, 0.35), ("stunnel's", STUNNEL, 0.3))
"""What RP may take for a transfer: at most a part of what it takes, or another."""


@frozen
class _Plan:
    """
    What is to be measured.

    @param rounds: how often.
    @param work: how much at a time.
    @param trip: milliseconds of a round trip between the two proxies.
    @param parts: C{bulk}, C{first-byte} or both.
    """

    rounds: int
    work: Work
    trip: float
    parts: tuple[str, ...]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _choose(among: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def chosen(text: str) -> tuple[str, ...]:
        words = text.split(",")
        for word in words:
            if word not in among:
                raise argparse.ArgumentTypeError(f"no {word!r}; there are {', '.join(among)}")
        return tuple(name for name in among if name in words)

    return chosen


def _arguments(line: Sequence[str]) -> argparse.Namespace:
    parts, names = ("bulk", "first-byte"), [one.name for one in PAIRS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each number is taken (default: 5)")
    parser.add_argument("--rows", type=_choose(parts), default=parts, help="bulk, first-byte or both (the default)")
    parser.add_argument("--only", type=_choose(names), default=names, help=f"some of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that all works")
    parser.add_argument("--bulk-mib", type=int, help="MiB of a bulk transfer (default: 1024)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long tunnels are timed (default: 3)")
    parser.add_argument("--round-trip", type=float, default=50.0, help="between CP and RP, in ms (default: 50)")
    parser.add_argument("--no-pin", action="store_true", help="reserve no core for the proxies")
    parser.add_argument("--table", type=Path, help="write the tables to this file, too")
    return parser.parse_args(line)


def _plan(given: argparse.Namespace) -> _Plan:
    work = QUICK if given.quick else evolve(Work(), seconds=given.seconds)
    if given.bulk_mib:
        work = evolve(work, bulk=given.bulk_mib << 20)
    return _Plan(1 if given.quick else given.rounds, work, given.round_trip, given.rows)


def _pairs(names: Sequence[str], results: Results) -> list[Pair]:
    """
    Those who take part, their versions noted.
    """
    found = []
    for one in PAIRS:
        if one.name not in names:
            continue
        if gone := missing(one):
            _say(f"{one.name} is left out: {' and '.join(gone)} not installed")
            continue
        found.append(one)
        results.versions[one.name] = one.version()
    return found


def _fail(results: Results, rows: Sequence[Row], one: Pair, failure: Exception) -> None:
    _say(f"{one.name} failed: {failure}")
    results.failures.update((row.name, one.name) for row in rows if not row.parts)


def _startAll(
    stack: ExitStack,
    place: Bench,
    client: Credentials,
    results: Results,
    pairs: Sequence[Pair],
    trips: Sequence[float | None],
    rows: Sequence[Row],
) -> list[RunningPair]:
    """
    Start each pair and send a little of both kinds of work through it.
    """
    running = []
    for one in pairs:
        try:
            started = start(stack, place, client, one, trips)
            for way in started.ways.values():
                for kind in ("down", "up", "connections"):
                    place.costs([started.far, way.near], way.door, kind, WARM_UP.arguments(kind, _SETTING.mode))
            started.check()
        except ProcessError as failure:
            _fail(results, rows, one, failure)
            continue
        running.append(started)
    return running


def _measureBulk(place: Bench, client: Credentials, results: Results, plan: _Plan, pairs: Sequence[Pair]) -> None:
    """
    All pairs run at the same time and work in turn.
    """
    with ExitStack() as stack:
        running = _startAll(stack, place, client, results, pairs, [None], _BULK)
        for turn in range(plan.rounds):
            for far, near in zip(_FAR[:2], _NEAR[:2], strict=True):
                said = []
                for one in running:
                    name = one.pair.name
                    if results.failed(far, name):
                        continue
                    try:
                        costs = _bulk(place, one, far.kind or "", plan.work)
                    except ProcessError as failure:
                        _fail(results, [far, near], one.pair, failure)
                        continue
                    for row, cost in zip((far, near), costs, strict=True):
                        results.add(row, name, cost)
                    said.append(f"{name} {costs[0]:.3g}+{costs[1]:.3g}")
                _say(f"round {turn + 1} of {plan.rounds}, {far.kind}, RP+CP: {', '.join(said)}")


def _bulk(place: Bench, one: RunningPair, kind: str, work: Work) -> list[float]:
    """
    One transfer.

    @return: what it cost RP and CP, in seconds for each GiB.
    """
    way = one.ways[None]
    costs = place.costs([one.far, way.near], way.door, kind, work.arguments(kind, _SETTING.mode))
    one.check()
    return [cost / work.amount(kind) for cost in costs]


def _measureFirst(place: Bench, client: Credentials, results: Results, plan: _Plan, pairs: Sequence[Pair]) -> None:
    """
    New tunnels at a slow pace, through the same relay with a distance and with none.
    """
    with ExitStack() as stack:
        fresh = [one for one in pairs if one.fresh]
        running = _startAll(stack, place, client, results, fresh, [0.0, plan.trip], _FIRST)
        for turn in range(plan.rounds):
            said = []
            for one in running:
                name = one.pair.name
                if results.failed(_HERE, name):
                    continue
                try:
                    here, away = (
                        place.latency(one.ways[trip].door, "latency-connections", _RATE, plan.work)
                        for trip in (0.0, plan.trip)
                    )
                    one.check()
                except ProcessError as failure:
                    _fail(results, _FIRST, one.pair, failure)
                    continue
                # What disturbs a tunnel makes it slower, so the fastest tells best how often it waits.
                trips = (away["p0"] - here["p0"]) * 1000 / plan.trip
                for row, value in zip(_FIRST, (here["p50"], away["p50"], trips), strict=True):
                    results.add(row, name, value)
                said.append(f"{name} {here['p50'] * 1e3:.1f} and {away['p50'] * 1e3:.1f} ms, {trips:.2f} round trips")
            _say(f"round {turn + 1} of {plan.rounds}, first byte: {'; '.join(said)}")


def _more(results: Results, row: Row, name: str) -> float | None:
    """
    How much more one pair takes than stunnel's.
    """
    value, by = results.median(row, name), results.median(row, STUNNEL)
    return None if value is None or by is None else value - by


def _goals(results: Results) -> list[tuple[str, str, str]]:
    """
    What this project holds itself to, as far as it was measured.
    """
    found = []
    for name in (SOCKET, LOOPBACK):
        for of, other, most in _GOALS:
            value, by = results.median(_FAR[2], name), results.median(_FAR[2], other)
            if value is not None and by:
                text = f"RP's CPU, {name}: at most {most:g} of {of}"
                found.append((text, f"{value / by:.2f}", "yes" if value / by <= most else "no"))
    for name in OURS:
        more, late = (_more(results, row, name) for row in (_TRIPS, _HERE))
        if more is not None and late is not None:
            text = f"first byte, {name}: at most one round trip more than stunnel's pair"
            said = f"{more:+.2f}, and {late:+.1f} ms"
            found.append((text, said, "yes" if more <= 1 + _NOISE else "no"))
    return found


def _render(results: Results, plan: _Plan, pinned: bool, load: float) -> str:
    """
    Everything, as tables in reStructuredText.
    """
    names = list(results.versions)
    rows = [
        row
        for row in (*_BULK, *_FIRST)
        if any(results.numbers(row, name) or results.failed(row, name) for name in names)
    ]

    def cells(row: Row, value: Callable[[str], str]) -> list[str]:
        return ["failed" if results.failed(row, name) else value(name) for name in names]

    def median(row: Row) -> list[str]:
        return cells(row, lambda name: number(results.median(row, name)))

    def divided(row: Row, other: str) -> list[str]:
        return cells(row, lambda name: ratio(results.median(row, name), results.median(row, other)))

    def apart(row: Row) -> list[str]:
        return cells(row, lambda name: spread(results.numbers(row, name)))

    cores = "a core of their own for the proxies" if pinned else "no core reserved for the proxies"
    parts = [
        wrapped(
            f"{machine()}.  {datetime.date.today().isoformat()}: {cores}; load average {load:.2f} before the start; "
            f"medians of {plan.rounds} interleaved rounds, each of {plan.work.bulk / (1 << 20):.0f} MiB each way and "
            f"of {plan.work.seconds:g} s with {_RATE:g} new tunnels each; {plan.trip:g} ms for a round trip at a "
            "distance.  TLS 1.3 inside, and between the proxies TLS 1.3, X25519, AES-256-GCM, EC P-256 certificates on "
            "both sides and no resumption."
        ),
        table(
            "CPU time of each proxy alone, time to first byte, medians",
            ["work", "unit", *names],
            [[row.name, row.unit, *median(row)] for row in rows],
        ),
        table(
            "Divided by others: less is better",
            ["work", "by", *names],
            [
                [row.name, other, *divided(row, other)]
                for row in rows
                for other in (NONE, STUNNEL)
                if row is not _TRIPS and results.numbers(row, other)
            ],
        ),
    ]
    if plan.rounds > 1:
        lines = [[row.name, *apart(row)] for row in rows]
        parts.append(table("Spread: largest less smallest, by the median", ["work", *names], lines))
    if aimed := _goals(results):
        parts.append(table("Goals", ["goal", "measured", "met"], aimed))
    versions = [[name, version.program, version.library] for name, version in results.versions.items()]
    parts.append(table("Versions", ["pair", "version", "TLS library"], versions or [[NOTHING] * 3]))
    return "\n".join(parts)


def main(line: Sequence[str]) -> int:
    """
    Measure what the command line asks for and print the tables.

    @return: 1 if a pair failed at something, else 0.
    """
    given = _arguments(line)
    # Whoever ends this early shall find no proxy left running.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(1))
    plan, load = _plan(given), os.getloadavg()[0]
    if load > 0.5:
        _say(f"the load average is {load:.2f}: these numbers will be noise")
    results = Results()
    pairs = _pairs(given.only, results)
    with bench(not given.no_pin) as place:
        client = issueClient(place.folder)
        if "bulk" in plan.parts:
            _measureBulk(place, client, results, plan, pairs)
        if "first-byte" in plan.parts:
            _measureFirst(place, client, results, plan, pairs)
        pinned = place.proxyCores is not None
    text = _render(results, plan, pinned, load)
    print(text)
    if given.table:
        given.table.write_text(text)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
