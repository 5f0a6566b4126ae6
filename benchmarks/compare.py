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
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve
from measure import Bench, Running, Work, bench
from peers import HANDLED, OURS, PEERS, STOCK, Peer
from processes import Holding, ProcessError
from report import HELD, ROWS, STALLED, Results, Row, render

_MEMORY_ROUNDS = 3
_QUICK = Work(bulk=64 << 20, connections=100, requests=2000, held=100, tunnels=1000)
_FREE = (*HELD, "stalled")
"""The rows that start a fresh process for each number."""

_OTHER_FILES = 1000
"""Enough for all that a proxy opens beside its connections."""

_CHOICES = [row.name for row in ROWS if row.kind] + list(_FREE)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _chooseRows(text: str) -> list[str]:
    """
    The rows whose names begin with one of the given words.
    """
    chosen = []
    for word in text.split(","):
        found = [name for name in _CHOICES if name.startswith(word)]
        if not word or not found:
            raise argparse.ArgumentTypeError(f"no row {word!r}; there are {', '.join(_CHOICES)}")
        chosen += found
    return [name for name in _CHOICES if name in chosen]


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
        "--rows", type=_chooseRows, default=_CHOICES, help=f"names or their beginnings, of {', '.join(_CHOICES)}"
    )
    parser.add_argument("--only", type=_choosePeers, help="only these proxies, by name; ours is tlsproxy")
    parser.add_argument("--stock", action="store_true", help="add what Twisted alone offers")
    parser.add_argument("--handled", action="store_true", help="add tlsproxy with a handler that lets everything pass")
    parser.add_argument("--quick", action="store_true", help="one small round, to see that all works")
    parser.add_argument("--bulk-mib", type=int, help="MiB of a bulk transfer (default: 1024)")
    parser.add_argument("--connections", type=int, help="new connections a round (default: 2000)")
    parser.add_argument("--clients", type=int, help="how many of them at a time (default: 4)")
    parser.add_argument("--requests", type=int, help="small requests a round (default: 50000)")
    parser.add_argument("--held", type=int, help="idle connections whose memory is read (default: 2000)")
    parser.add_argument("--tunnels", type=int, help="idle tunnels whose memory is read (default: 8000)")
    parser.add_argument("--no-pin", action="store_true", help="reserve no core for the proxy")
    parser.add_argument("--output", type=Path, help="write the tables to this file, too")
    return parser.parse_args(line)


def _work(given: argparse.Namespace) -> Work:
    work = _QUICK if given.quick else Work()
    changes = {
        "bulk": given.bulk_mib and given.bulk_mib << 20,
        "connections": given.connections,
        "clients": given.clients,
        "requests": given.requests,
        "held": given.held,
        "tunnels": given.tunnels,
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
    Start each peer in each mode that the rows need, and warm it up.
    """
    running = []
    for mode in dict.fromkeys(row.mode for row in rows):
        for peer in peers:
            if mode not in peer.modes:
                continue
            try:
                started = stack.enter_context(place.proxy(peer, mode))
                place.warmUp(started)
            except ProcessError as failure:
                _fail(results, [row for row in rows if row.mode == mode], peer, failure)
                continue
            results.handshakes[peer.name, mode] = started.handshake
            running.append(started)
    return running


def _measureCPU(place: Bench, results: Results, peers: Sequence[Peer], rows: Sequence[Row]) -> None:
    """
    All proxies run at the same time and work in turn: each row of each round goes through one after the other.
    """
    with ExitStack() as stack:
        running = _startAll(stack, place, results, peers, rows)
        for number in range(results.rounds):
            for row in rows:
                assert row.kind is not None
                said = []
                for proxy in running:
                    if proxy.mode != row.mode or results.failed(row, proxy.peer.name):
                        continue
                    try:
                        value = place.cpu(proxy, row.kind, results.work)
                    except ProcessError as failure:
                        _fail(results, [row], proxy.peer, failure)
                        continue
                    results.add(row, proxy.peer.name, value)
                    said.append(f"{proxy.peer.name} {results.numbers(row, proxy.peer.name)[-1]:.3g}")
                _say(f"round {number + 1} of {results.rounds}, {row.name}: {', '.join(said)}")


def _measureMemory(place: Bench, results: Results, peers: Sequence[Peer], rows: Sequence[str]) -> None:
    """
    A fresh process for each number.
    """
    for number in range(min(results.rounds, _MEMORY_ROUNDS)):
        for peer in peers:
            for name in (name for name in HELD if name in rows):
                _measureHeld(place, results, peer, name)
            if "stalled" in rows:
                try:
                    results.add(STALLED, peer.name, place.stalled(peer, results.work).rss)
                except ProcessError as failure:
                    _fail(results, [STALLED], peer, failure)
        _say(f"memory, round {number + 1}: done")


def _measureHeld(place: Bench, results: Results, peer: Peer, name: str) -> None:
    rows = HELD[name]
    mode = next(iter(rows.values())).mode
    if mode not in peer.modes:
        return
    try:
        idle, burst = place.held(peer, mode, results.work)
    except ProcessError as failure:
        _fail(results, list(rows.values()), peer, failure)
        return
    seen: dict[str, Holding] = {"idle": idle, "burst": burst}
    for (moment, counted), row in rows.items():
        results.add(row, peer.name, getattr(seen[moment], counted))


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
    if "tunnels-idle" in given.rows and work.tunnels > holdable:
        _say(f"only {holdable} idle tunnels: the hard limit of open files allows no more")
        work = evolve(work, tunnels=holdable)
    results = Results(1 if given.quick else given.rounds, work, not given.no_pin)
    if results.load > 0.5:
        _say(f"the load average is {results.load:.2f}: these numbers will be noise")
    peers = _peers(given, results)
    rows = [row for row in ROWS if row.kind and row.name in given.rows]
    with bench(not given.no_pin) as place:
        results.pinned = place.proxyCores is not None
        if rows:
            _measureCPU(place, results, peers, rows)
        if any(name in given.rows for name in _FREE):
            _measureMemory(place, results, peers, given.rows)
    text = render(results)
    print(text)
    if given.output:
        given.output.write_text(text)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
