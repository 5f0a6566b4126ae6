"""
Pairs of proxies that run, with a client before them and a backend behind.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve, frozen
from credentials import Credentials
from door import Door
from measure import Bench, freePort
from pairs import Leg, Pair
from processes import ProcessError, Program
from traffic import HOST, speech

_START = 20.0
_WORD = re.compile(r"\bdowngrade=(\S+)")


@frozen
class Way:
    """
    A near proxy, and how far it is from the far one.

    @param door: the way into it.
    @param near: its processes.
    """

    door: Door
    near: Program


@frozen
class RunningPair:
    """
    One far proxy, and a near one for each distance.

    @param pair: which.
    @param far: the far proxy's processes.
    @param ways: by the round trip between the two in milliseconds, or C{None} where nothing is between them.
    """

    pair: Pair
    far: Program
    ways: Mapping[float | None, Way]
    _log: Path

    def check(self) -> None:
        """
        See that each tunnel so far was what the pair is measured as.

        @raise ProcessError: if the far proxy's log tells of another moment of taking TLS off, or of none.
        """
        words = set(_WORD.findall(self._log.read_text(errors="replace")))
        if self.pair.downgrade and words != {self.pair.downgrade}:
            raise ProcessError(f"{self.far.name} tells of downgrades {sorted(words)}\n{self.far.said()}")


def start(
    stack: ExitStack, place: Bench, client: Credentials, pair: Pair, trips: Sequence[float | None]
) -> RunningPair:
    """
    Start a pair and wait until a first conversation through each of its ways succeeds.

    @param stack: what ends it.
    @param client: the near proxies' certificate.
    @param trips: the distances between the two, as L{RunningPair.ways} has them.
    @raise ProcessError: if it does not come up, or the client's TLS does not reach the backend.
    """
    shared, far = place.newFolder(pair.name), freePort()
    leg = Leg(0, far, far, place.backend["tls"], place.credentials["P-256"], client, shared, place.newFolder("far"))
    log = place.log(f"{pair.name}-far")
    program = Program(f"{pair.name}, far", pair.farCommand(leg), place.proxyCores, log)
    stack.callback(program.stop)
    _await(far, program)
    ways = {trip: _way(stack, place, pair, leg, trip) for trip in trips}
    return RunningPair(pair, program, ways, log)


def _way(stack: ExitStack, place: Bench, pair: Pair, leg: Leg, trip: float | None) -> Way:
    outward = leg.far if trip is None else _relay(stack, place, leg.far, trip)
    leg = evolve(leg, near=freePort(), outward=outward, folder=place.newFolder("near"))
    program = Program(f"{pair.name}, near", pair.nearCommand(leg), place.proxyCores, place.log(f"{pair.name}-near"))
    stack.callback(program.stop)
    door = Door(leg.near, leg.server.ca, target=leg.target if pair.tunnels else "")
    seen = place.firstConversation(program, door)
    if not seen.near == seen.far == speech("1.3", "P-256"):
        raise ProcessError(f"{pair.name}: {seen.near!r} at the client, {seen.far!r} at the backend")
    return Way(door, program)


def _relay(stack: ExitStack, place: Bench, far: int, trip: float) -> int:
    port = freePort()
    script = str(Path(__file__).with_name("delay.py"))
    command = [sys.executable, script, str(port), str(far), str(trip)]
    relay = Program("relay", command, place.loadCores, place.log("relay"), talks=True)
    stack.callback(relay.stop)
    relay.line(_START)
    return port


def _await(port: int, program: Program) -> None:
    """
    Wait until a proxy listens.
    """
    until = time.monotonic() + _START
    while True:
        program.members()
        try:
            socket.create_connection((HOST, port)).close()
            return
        except OSError as failure:
            if time.monotonic() > until:
                raise ProcessError(f"{program.name} does not listen\n{program.said()}") from failure
            time.sleep(0.1)
