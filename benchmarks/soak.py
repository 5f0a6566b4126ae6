"""
Hours of everyday life for one tlsproxy, in minutes: does its memory grow, and does it keep what it should give back?

Good and bad clients come through offload, bridge and passthrough of one process, and SIGHUP reloads it, where it heeds
that. After each batch all leave, and once the process is at rest its memory and descriptors are read. See README.rst
beside this file for the bars.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import frozen
from door import Door
from measure import Bench, bench
from peers import twistd
from processes import ProcessError, Program
from traffic import HOST, NAME
from visiting import Visitors

_BATCH = 8.0
_RELOAD_EVERY = 30.0
_START = 20.0
_REST = 90.0
_BAR = 1.0
"""MB by which memory may rise in an hour."""

_POOLED = 8
"""Descriptors of pipes that wait for their next use, at most."""

_TROUBLE = re.compile(r"Traceback|Unhandled|#critical|#error")


@frozen
class Sample:
    """
    The process at rest.

    @param seconds: since the start.
    @param rss: resident bytes.
    @param sockets: how many it has open.
    @param descriptors: all that it has open, these included.
    """

    seconds: float
    rss: int
    sockets: int
    descriptors: int


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _sample(pid: int, began: float) -> Sample:
    folder = Path(f"/proc/{pid}/fd")
    kinds = []
    for name in os.listdir(folder):
        try:
            kinds.append(os.readlink(folder / name))
        except FileNotFoundError:
            continue
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    sockets = sum(kind.startswith("socket:") for kind in kinds)
    return Sample(time.monotonic() - began, int(found[1]) * 1024, sockets, len(kinds))


def _heedsHangUp(pid: int) -> bool:
    """
    Whether a process has a handler for SIGHUP, which otherwise ends it.
    """
    found = re.search(r"SigCgt:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return found is not None and bool(int(found[1], 16) >> (signal.SIGHUP - 1) & 1)


class Soak:
    """
    The proxy, and what it has to bear.

    @ivar samples: what was read of it.
    @ivar log: the file of its log.
    @ivar reloads: how often it was told to reload.
    """

    def __init__(self, stack: ExitStack, place: Bench, clients: int) -> None:
        self._place = place
        self._ports = {name: _freePort() for name in ("offload", "bridge", "passthrough")}
        self._config = place.folder / "soak.toml"
        self.log = place.folder / "soak.log"
        self.reloads = 0
        self.samples: list[Sample] = []
        self._configure()
        command = [twistd(), "-n", "--pidfile=", "tlsproxy", "--config", str(self._config)]
        self._program = Program("tlsproxy", command, None, self.log)
        stack.callback(self._program.stop)
        ca = place.credentials["P-256"].ca
        self.doors = {name: Door(port, ca) for name, port in self._ports.items()}
        self._visitors = Visitors(self.doors, clients)
        self._pid = self._waitForStart()
        self._began = self._reloaded = time.monotonic()

    def _configure(self) -> None:
        """
        Write the configuration, each time with something else in it.
        """
        own, backend = self._place.credentials["P-256"], self._place.backend
        near = f'[route.tls]\ncert = "{own.chain}"\nkey = "{own.key}"\n'
        far = f'[route.upstream_tls]\nca = "{own.ca}"\nname = "{NAME}"\n'
        routes = {
            "offload": (f'upstream = "{HOST}:{backend["plain"]}"\n', near),
            "bridge": (f'upstream = "{HOST}:{backend["tls"]}"\n', near + far),
            "passthrough": ("", f'[[route.rule]]\nsni = "{NAME}"\nupstream = "{HOST}:{backend["tls"]}"\n'),
        }
        lines = []
        for name, (keys, tables) in routes.items():
            lines.append(f'[[route]]\nname = "{name}"\nmode = "{name}"\nlisten = "{HOST}:{self._ports[name]}"\n{keys}')
            lines.append(f"[route.limits]\nidle = {600.0 + self.reloads % 2}\n{tables}")
        self._config.write_text("\n".join(lines))

    def _waitForStart(self) -> int:
        until = time.monotonic() + _START
        while self.log.read_text().count(" listens on ") < len(self.doors):
            if time.monotonic() > until:
                raise ProcessError(f"tlsproxy does not listen\n{self._program.said()}")
            time.sleep(0.1)
        (pid,) = self._program.members()
        return pid

    def run(self, minutes: float) -> None:
        """
        One batch after the other, and a sample after each.

        @raise ProcessError: if the proxy dies, or does not come to rest.
        """
        self.samples.append(_sample(self._pid, self._began))
        heeds = _heedsHangUp(self._pid)
        _say("SIGHUP every half minute" if heeds else "this version heeds no SIGHUP, so none is sent")
        while time.monotonic() - self._began < minutes * 60:
            if heeds and time.monotonic() - self._reloaded > _RELOAD_EVERY:
                self._reloaded = time.monotonic()
                self.reloads += 1
                self._configure()
                # In the midst of the next batch.
                threading.Timer(_BATCH / 2, os.kill, (self._pid, signal.SIGHUP)).start()
            self._visitors.batch(_BATCH)
            self._rest()
            self.samples.append(sample := _sample(self._pid, self._began))
            _say(
                f"{sample.seconds:5.0f} s: {sample.rss / 1e6:.2f} MB, {sample.sockets} sockets, "
                f"{sample.descriptors} descriptors, {sum(self._visitors.visits.values())} visits, "
                f"{len(self._visitors.failures)} of them failed"
            )

    def _rest(self) -> None:
        """
        Wait until all sessions are over.
        """
        until = time.monotonic() + _REST
        while _sample(self._pid, self._began).sockets > self.samples[0].sockets:
            self._program.members()
            if time.monotonic() > until:
                return
            time.sleep(0.1)
        self._program.settledCPU(self._program.members())

    def verdict(self) -> list[tuple[bool, str]]:
        """
        What is held to be good, and whether it is.
        """
        first, last = self.samples[0], self.samples[-1]
        warm = [sample for sample in self.samples if sample.seconds >= last.seconds / 4]
        slope, error = _slope([sample.seconds / 3600 for sample in warm], [sample.rss / 1e6 for sample in warm])
        sockets = {sample.sockets for sample in self.samples}
        descriptors = [sample.descriptors for sample in self.samples]
        log = self.log.read_text(errors="replace")
        trouble = _TROUBLE.search(log)
        told = dict.fromkeys(("offload", "bridge"), 0)
        for name in told:
            told[name] = len(re.findall(rf" {name} client=.* outcome=closed", log))
        good = {name: self._visitors.good[name] for name in told}
        visits, failures = sum(self._visitors.visits.values()), self._visitors.failures
        return [
            (
                slope < _BAR,
                f"memory rises by {slope:.2f} MB an hour, give or take {error:.2f} (bar: below {_BAR:g}); "
                f"{first.rss / 1e6:.1f} MB at the start, {warm[0].rss / 1e6:.1f} warm, {last.rss / 1e6:.1f} in the end",
            ),
            (sockets == {first.sockets}, f"sockets at rest: {', '.join(map(str, sorted(sockets)))}"),
            (
                max(descriptors) <= first.descriptors + _POOLED,
                f"descriptors at rest: {min(descriptors)} to {max(descriptors)}, {first.descriptors} at the start, of "
                f"which up to {_POOLED} more may be pipes for the next use",
            ),
            (not failures, f"{visits} visits, {len(failures)} failures {failures[:3] or ''}".rstrip()),
            (told == good, f"sessions that the log tells to have been closed: {told}; good visits: {good}"),
            (trouble is None, "the log has " + (f"{trouble[0]!r}" if trouble else "no error of the proxy's own")),
            (True, f"{self.reloads} reloads"),
        ]


def _slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """
    Fit a line by least squares.

    @return: how much C{y} rises for each C{x}, and the standard error of that.
    """
    if len(x) < 3:
        return math.nan, math.nan
    line = statistics.linear_regression(x, y)
    left = sum((line.slope * a + line.intercept - b) ** 2 for a, b in zip(x, y, strict=True)) / (len(x) - 2)
    return line.slope, math.sqrt(left / (statistics.variance(x) * (len(x) - 1)))


def _freePort() -> int:
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port: int = reserved.getsockname()[1]
        return port


def main(line: Sequence[str]) -> int:
    """
    Run, and tell the verdict.

    @return: 1 if one bar is not met, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    parser.add_argument("--clients", type=int, default=8, help="how many clients at a time (default: 8)")
    parser.add_argument("--samples", type=Path, help="write the samples to this file, comma-separated")
    parser.add_argument("--log", type=Path, help="keep the log of the proxy in this file")
    given = parser.parse_args(line)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(1))
    with ExitStack() as stack:
        place = stack.enter_context(bench(False))
        soak = Soak(stack, place, given.clients)
        soak.run(given.minutes)
        found = soak.verdict()
        if given.log:
            given.log.write_bytes(soak.log.read_bytes())
    if given.samples:
        rows = [f"{one.seconds:.1f},{one.rss},{one.sockets},{one.descriptors}" for one in soak.samples]
        given.samples.write_text("\n".join(["seconds,rss,sockets,descriptors", *rows]) + "\n")
    for good, text in found:
        print(f"{'good' if good else 'BAD'}: {text}")
    passed = all(good for good, _ in found)
    print("passed" if passed else "failed")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
