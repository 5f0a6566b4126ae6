"""
Compare tlsproxy with haproxy, nginx (stream), stunnel and hitch: what each costs for the same work.

Counts the CPU time and the memory of the proxy alone, in interleaved rounds, and prints tables in reStructuredText.
See README.rst beside this file for the method.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve
from jobs import HANDLED, OURS, STOCK, Peer
from measure import Bench, Running, bench
from peers import PEERS
from processes import Holding, ProcessError
from report import render
from results import Results, Run
from rows import CHOICES, FREE, HELD, LATENCY, OFFLOAD, ROWS, STALLED, Row
from work import QUICK, Work

_MEMORY_ROUNDS = 3

_OTHER_FILES = 1000
"""Enough for all that a proxy opens beside its connections."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _chooseRows(text: str) -> list[str]:
    """
    The rows of the given names, or whose names begin so where there is none of that name.
    """
    chosen = []
    for word in text.split(","):
        found = [name for name in CHOICES if name == word] or [name for name in CHOICES if name.startswith(word)]
        if not word or not found:
            raise argparse.ArgumentTypeError(f"no row {word!r}; there are {', '.join(CHOICES)}")
        chosen += found
    return [name for name in CHOICES if name in chosen]


def _choosePeers(text: str) -> list[Peer]:
    """
    The named peers, in the order of the tables. C{ours} is another name of the first.
    """
    words = [OURS if word == "ours" else word for word in text.split(",")]
    for word in words:
        if word not in {peer.name for peer in PEERS}:
            raise argparse.ArgumentTypeError(f"no proxy {word!r}; there are {', '.join(p.name for p in PEERS)}")
    return [peer for peer in PEERS if peer.name in words]


def _arguments(line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each number is taken (default: 7)")
    parser.add_argument(
        "--rows", type=_chooseRows, default=CHOICES, help=f"names or their beginnings, of {', '.join(CHOICES)}"
    )
    parser.add_argument("--only", type=_choosePeers, help="only these proxies, by name; ours is tlsproxy")
    parser.add_argument("--stock", action="store_true", help="add what Twisted alone offers")
    parser.add_argument("--handled", action="store_true", help="add tlsproxy with a handler that lets everything pass")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that all works")
    parser.add_argument("--bulk-mib", type=int, help="MiB of a bulk transfer (default: 1024)")
    parser.add_argument("--connections", type=int, help="new connections a round (default: 2000)")
    parser.add_argument("--requests", type=int, help="small requests a round (default: 50000)")
    parser.add_argument("--held", type=int, help="idle connections whose memory is read (default: 5000)")
    parser.add_argument("--tunnels", type=int, help="idle tunnels whose memory is read (default: 8000)")
    parser.add_argument("--seconds", type=float, help="how long a load at a fixed rate lasts (default: 5)")
    parser.add_argument("--no-pin", action="store_true", help="reserve no core for the proxy")
    parser.add_argument("--table", type=Path, help="write the tables to this file, too, for docs/benchmarks.rst")
    parser.add_argument(
        "--keep",
        type=Path,
        help="add these numbers to what earlier runs have kept in this file, and show all",
    )
    return parser.parse_args(line)


def _work(given: argparse.Namespace) -> Work:
    work = QUICK if given.quick else Work()
    changes = {
        "bulk": given.bulk_mib and given.bulk_mib << 20,
        "connections": given.connections,
        "requests": given.requests,
        "held": given.held,
        "tunnels": given.tunnels,
        "seconds": given.seconds,
    }
    return evolve(work, **{name: value for name, value in changes.items() if value is not None})


def _raiseFileLimit() -> int:
    """
    Let this process and all that it starts open as many files as they may.

    @return: how many connections, of two files each, a proxy can hold then.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return (most - _OTHER_FILES) // 2


def _peers(given: argparse.Namespace, results: Results) -> list[Peer]:
    """
    Those who take part, their versions noted.
    """
    asked = {STOCK: given.stock, HANDLED: given.handled}
    wanted = given.only or [peer for peer in PEERS if asked.get(peer.name, True)]
    found = []
    for peer in wanted:
        if shutil.which(peer.program) is None:
            _say(f"{peer.name} is not installed and left out")
            continue
        found.append(peer)
        results.versions[peer.name] = peer.version()
    return found


def _fail(results: Results, rows: Sequence[Row], peer: Peer, failure: Exception) -> None:
    _say(f"{peer.name} failed: {failure}")
    results.failures.update((row.name, peer.name) for row in rows)


def _startAll(
    stack: ExitStack, place: Bench, results: Results, peers: Sequence[Peer], rows: Sequence[Row]
) -> list[Running]:
    """
    Start each peer in each setting that the rows need, and warm it up.
    """
    running = []
    for setting in dict.fromkeys(row.setting for row in rows):
        for peer in peers:
            if setting.mode not in peer.modes:
                continue
            try:
                started = stack.enter_context(place.proxy(peer, setting))
                place.warmUp(started)
            except ProcessError as failure:
                _fail(results, [row for row in rows if row.setting == setting], peer, failure)
                continue
            if setting == OFFLOAD or (setting.mode == "bridge" and peer.name not in results.tickets):
                results.tickets[peer.name] = started.handshake.tickets
            running.append(started)
    return running


def _measureCPU(place: Bench, results: Results, run: Run, peers: Sequence[Peer], rows: Sequence[Row]) -> None:
    """
    All proxies run at the same time and work in turn: each row of each round goes through one after the other.
    """
    with ExitStack() as stack:
        running = _startAll(stack, place, results, peers, rows)
        for number in range(run.rounds):
            for row in rows:
                assert row.kind is not None
                said = []
                for proxy in running:
                    if proxy.setting != row.setting or results.failed(row, proxy.peer.name):
                        continue
                    try:
                        value = place.cpu(proxy, row.kind, run.work, row.clients)
                    except ProcessError as failure:
                        _fail(results, [row], proxy.peer, failure)
                        continue
                    results.add(row, proxy.peer.name, value)
                    said.append(f"{proxy.peer.name} {results.numbers(row, proxy.peer.name)[-1]:.3g}")
                _say(f"round {number + 1} of {run.rounds}, {row.name}: {', '.join(said)}")


def _measureLatency(place: Bench, results: Results, run: Run, peers: Sequence[Peer], words: Sequence[str]) -> None:
    """
    What each proxy adds to the time without one, at the same rate for all: half of what the slowest of them can do.
    """
    rows = [row for word in words for row in LATENCY[word].values()]
    with ExitStack() as stack:
        running = _startAll(stack, place, results, peers, rows)
        for word in words:
            doors = [place.direct(), *(proxy.door for proxy in running)]
            rate = min(place.peak(door, word, run.work) for door in doors) / 2
            direct: list[dict[str, float]] = []
            for number in range(run.rounds):
                said = []
                direct.append(place.latency(doors[0], word, rate, run.work))
                for proxy in running:
                    name = proxy.peer.name
                    try:
                        seen = place.latency(proxy.door, word, rate, run.work)
                    except ProcessError as failure:
                        _fail(results, list(LATENCY[word].values()), proxy.peer, failure)
                        continue
                    for of, row in LATENCY[word].items():
                        results.add(row, name, seen[of] - direct[-1][of])
                        said.append(f"{name} {of} {results.values[row.name][name][-1]:.3g}")
                _say(f"round {number + 1} of {run.rounds}, {word}: {', '.join(said)}")
            middle = {of: statistics.median(seen[of] for seen in direct) * 1e3 for of in LATENCY[word]}
            told = ", ".join(f"{of} {value:.3f} ms" for of, value in middle.items())
            results.notes[word] = f"{rate:.0f} a second, half of what the slowest can do.  Without a proxy: {told}."


def _measureMemory(place: Bench, results: Results, run: Run, peers: Sequence[Peer], rows: Sequence[str]) -> None:
    """
    A fresh process for each number.
    """
    for number in range(min(run.rounds, _MEMORY_ROUNDS)):
        for peer in peers:
            for name in (name for name in HELD if name in rows):
                _measureHeld(place, results, run.work, peer, name)
            if "stalled" in rows:
                try:
                    results.add(STALLED, peer.name, place.stalled(peer, run.work).rss)
                except ProcessError as failure:
                    _fail(results, [STALLED], peer, failure)
        _say(f"memory, round {number + 1}: done")


def _measureHeld(place: Bench, results: Results, work: Work, peer: Peer, name: str) -> None:
    rows = HELD[name]
    setting = next(iter(rows.values())).setting
    if setting.mode not in peer.modes:
        return
    try:
        idle, burst = place.held(peer, setting, work)
    except ProcessError as failure:
        _fail(results, list(rows.values()), peer, failure)
        return
    seen: dict[str, Holding] = {"idle": idle, "burst": burst}
    for (moment, counted), row in rows.items():
        results.add(row, peer.name, getattr(seen[moment], counted))


def _fills(word: str) -> frozenset[str]:
    """
    The names of the rows that a word of C{--rows} fills.
    """
    filled = [*HELD.get(word, {}).values(), *LATENCY.get(word, {}).values(), *([STALLED] if word == "stalled" else [])]
    return frozenset([word, *(row.name for row in filled)])


def main(line: Sequence[str]) -> int:
    """
    Measure what the command line asks for and print the tables.

    @return: 1 if a proxy failed at something, else 0.
    """
    given = _arguments(line)
    # Whoever ends this early shall find no proxy left running.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    work, holdable = _work(given), _raiseFileLimit()
    for word, what in (("tunnels-idle", "tunnels"), ("memory", "held")):
        if word in given.rows and getattr(work, what) > holdable:
            _say(f"{word}: only {holdable} connections, since the hard limit of open files allows no more")
            work = evolve(work, **{what: holdable})
    run = Run(tuple(given.rows), 1 if given.quick else given.rounds, work, pinned=not given.no_pin)
    if run.load > 0.5:
        _say(f"the load average is {run.load:.2f}: these numbers will be noise")
    results = Results()
    if given.keep:
        results = Results.load(given.keep, {word: _fills(word) for word in given.rows})
    peers = _peers(given, results)
    rows = [row for row in ROWS if row.kind and row.name in given.rows]
    with bench(run.pinned) as place:
        results.runs.append(evolve(run, pinned=place.proxyCores is not None))
        if rows:
            _measureCPU(place, results, run, peers, rows)
        if words := [word for word in LATENCY if word in given.rows]:
            _measureLatency(place, results, run, peers, words)
        if any(name in given.rows for name in FREE):
            _measureMemory(place, results, run, peers, given.rows)
    if given.keep:
        results.save(given.keep)
    text = render(results)
    print(text)
    if given.table:
        given.table.write_text(text)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
