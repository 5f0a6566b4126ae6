"""
Compare DTLS of tlsproxy with that of socat: what a round trip, a handshake and an association cost.

Counts the CPU time and memory of the proxy alone, in interleaved rounds, with one client, and with many, which socat
cannot serve. See README.rst beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import signal
import socket
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which

from attrs import Factory, define
from dtlsload import CIPHER, LOOPBACK, SIZE, Client, context, roundTrips
from measure import Bench, bench
from peers import ask, find, oursVersion, twistd
from processes import ProcessError, Program
from report import NONE, machine, number, ratio, spread, table, wrapped

_OURS, _SOCAT = "tlsproxy", "socat"
_ONE, _MANY, _SHAKE, _SHAKE_MANY, _MEMORY = (
    "round trip, 1 client",
    "round trip, many clients",
    "handshake, 1 client",
    "handshake, many clients",
    "memory an association",
)
_UNITS = {_ONE: "µs", _MANY: "µs", _SHAKE: "ms", _SHAKE_MANY: "ms", _MEMORY: "KiB"}
_START = 20.0
_WARM_UP = 0.2


@define
class _Numbers:
    """
    What was measured: the numbers of each row and proxy, one a round.
    """

    values: dict[tuple[str, str], list[float]] = Factory(dict)
    failures: list[str] = Factory(list)

    def add(self, row: str, name: str, value: float) -> None:
        """
        Keep the number of one round.
        """
        self.values.setdefault((row, name), []).append(value)

    def median(self, row: str, name: str) -> float | None:
        """
        The median of a row and proxy.
        """
        numbers = self.values.get((row, name))
        return statistics.median(numbers) if numbers else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments(line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each number is taken (default: 5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long datagrams go around (default: 5)")
    parser.add_argument("--clients", type=int, default=100, help="how many are many (default: 100)")
    parser.add_argument("--quick", action="store_true", help="one round of a second, to see that all works")
    parser.add_argument("--no-pin", action="store_true", help="reserve no core for the proxies")
    parser.add_argument("--table", type=Path, help="write the tables to this file, too")
    given = parser.parse_args(line)
    if given.quick:
        given.rounds, given.seconds = 1, 1.0
    return given


def _freePort() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind((LOOPBACK, 0))
        return int(found.getsockname()[1])


def _command(name: str, place: Bench, port: int, upstream: int) -> list[str]:
    own = place.credentials["P-256"]
    if name == _SOCAT:
        files = f"cert={own.chain},key={own.key},verify=0,cipher={CIPHER.decode()}"
        return [_SOCAT, f"OPENSSL-DTLS-SERVER:{port},bind={LOOPBACK},{files}", f"UDP:{LOOPBACK}:{upstream}"]
    config = place.newFolder("dtls") / "dtls.toml"
    config.write_text(
        f'[proxy]\nlog_level = "warn"\n[[route]]\nname = "dtls"\nmode = "offload"\nlisten = "udp:{LOOPBACK}:{port}"\n'
        f'upstream = "udp:{LOOPBACK}:{upstream}"\ntls = {{cert = "{own.chain}", key = "{own.key}", '
        f'ciphers = "{CIPHER.decode()}"}}\n'
    )
    return [twistd(), "-n", "--pidfile=", "tlsproxy", "--config", str(config)]


@contextmanager
def _proxy(name: str, place: Bench, upstream: int) -> Iterator[tuple[Program, int]]:
    """
    A proxy of one route, at work when its port is bound.
    """
    port = _freePort()
    program = Program(name, _command(name, place, port, upstream), place.proxyCores, place.log(name))
    try:
        end = time.monotonic() + _START
        while True:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((LOOPBACK, port))
                except OSError:
                    break
            program.members()
            if time.monotonic() > end:
                raise ProcessError(f"{name} does not listen\n{program.said()}")
            time.sleep(0.02)
        yield program, port
    finally:
        program.stop()


def _round(numbers: _Numbers, name: str, place: Bench, upstream: int, count: int, seconds: float) -> None:
    """
    Take each number of one proxy once, each time with as many clients.
    """
    many = count > 1
    with ExitStack() as stack:
        program, port = stack.enter_context(_proxy(name, place, upstream))
        if name == _OURS:  # What it does for its first client only is none of what is counted.
            first = Client(context(), port)
            roundTrips([first], _WARM_UP)
            first.close()
        members = program.members()
        start, held = program.settledCPU(members), program.holds()
        clients = []
        for _ in range(count):
            clients.append(Client(context(), port))
            stack.callback(clients[-1].close)
        roundTrips(clients, 0)  # The upstream's side is set up after the handshake.
        shaken = program.settledCPU(members)
        numbers.add(_SHAKE_MANY if many else _SHAKE, name, (shaken - start) * 1e3 / count)
        if many:
            numbers.add(_MEMORY, name, held.growth(program.holds(), count).pss / 1024)
        roundTrips(clients, _WARM_UP)
        before = program.settledCPU(members)
        done = roundTrips(clients, seconds)
        numbers.add(_MANY if many else _ONE, name, (program.settledCPU(members) - before) * 1e6 / done)


def _goals(numbers: _Numbers) -> list[tuple[str, str, str]]:
    """
    What this project holds itself to, as far as it was measured.
    """
    one, many, socat, memory = (
        numbers.median(row, name) for row, name in ((_ONE, _OURS), (_MANY, _OURS), (_ONE, _SOCAT), (_MEMORY, _OURS))
    )
    found = []
    for text, value, by, most in (
        ("round trip, 1 client: at most 2.5 of socat's", one, socat, 2.5),
        ("round trip, many clients: at most 0.7 of that with 1", many, one, 0.7),
        ("memory an association: at most 40 KiB", memory, 1.0, 40.0),
    ):
        if value is not None and by:
            found.append((text, f"{value / by:.2f}", "yes" if value / by <= most else "no"))
    return found


def _render(numbers: _Numbers, given: argparse.Namespace, pinned: bool, load: float, names: Sequence[str]) -> str:
    """
    Everything, as tables in reStructuredText.
    """
    cores = "a core of its own for the proxy" if pinned else "no core reserved for the proxy"
    rows = [row for row in _UNITS if any((row, name) in numbers.values for name in names)]
    parts = [
        wrapped(
            f"{machine()}.  {datetime.date.today().isoformat()}: {cores}; load average {load:.2f} before the start; "
            f"medians of {given.rounds} interleaved rounds, each of {given.seconds:g} s with datagrams of {SIZE} "
            f"bytes, one under way for each client; many clients are {given.clients}.  DTLS 1.2, {CIPHER.decode()}, "
            "an EC P-256 certificate, no resumption, plain UDP to the upstream.  A handshake is with all that a new "
            "client costs, and socat's, which asks for no cookie, is that of a process that serves one client."
        ),
        table(
            "CPU time and memory of the proxy alone, medians",
            ["work", "unit", *names, "ratio"],
            [
                [
                    row,
                    _UNITS[row],
                    *(number(numbers.median(row, name)) for name in names),
                    ratio(numbers.median(row, _OURS), numbers.median(row, _SOCAT)),
                ]
                for row in rows
            ],
        ),
    ]
    if given.rounds > 1:
        lines = [[row, *(spread(numbers.values.get((row, name), [])) for name in names)] for row in rows]
        parts.append(table("Spread: largest less smallest, by the median", ["work", *names], lines))
    if aimed := _goals(numbers):
        parts.append(table("Goals", ["goal", "measured", "met"], aimed))
    said, own = ask(_SOCAT, "-V") if _SOCAT in names else "", oursVersion()
    versions = [[_OURS, own.program, own.library]]
    if said:
        library = re.search(r"OpenSSL [\d.]+\w*", ask("openssl", "version"))
        versions.append([_SOCAT, find(r"socat version ([\d.]+)", said), library[0] if library else NONE])
    parts.append(table("Versions", ["proxy", "version", "TLS library"], versions))
    return "\n".join(parts)


def main(line: Sequence[str]) -> int:
    """
    Measure what the command line asks for and print the tables.

    @return: 1 if a proxy failed at something, else 0.
    """
    given = _arguments(line)
    # Whoever ends this early shall find no proxy left running.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(1))
    load = os.getloadavg()[0]
    if load > 0.5:
        _say(f"the load average is {load:.2f}: these numbers will be noise")
    names = [_OURS, *([_SOCAT] if which(_SOCAT) else [])]
    numbers = _Numbers()
    with bench(not given.no_pin) as place, ExitStack() as stack:
        command = [sys.executable, str(Path(__file__).parent / "dtlsload.py")]
        echo = Program("echo", command, place.loadCores, place.log("echo"), talks=True)
        stack.callback(echo.stop)
        upstream = int(echo.line(_START))
        for turn in range(given.rounds):
            for name, count in [(name, 1) for name in names] + [(_OURS, given.clients)]:
                try:
                    _round(numbers, name, place, upstream, count, given.seconds)
                except ProcessError as failure:
                    _say(f"{name} failed: {failure}")
                    numbers.failures.append(name)
            _say(f"round {turn + 1} of {given.rounds} is done")
        pinned = place.proxyCores is not None
    text = _render(numbers, given, pinned, load, names)
    print(text)
    if given.table:
        given.table.write_text(text)
    return 1 if numbers.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
