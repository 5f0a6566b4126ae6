"""
Load in an open loop: it begins at a fixed rate, whatever has become of what began before.

Each time is counted from the moment at which something was due, and not from when the client came to it: where answers
are late, what is due meanwhile waits as well, and its waiting counts.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence

from door import Door
from steps import Crew, Steps, finish, leave, read
from traffic import REPLY, RESPONSE, Order, TrafficError

Told = Mapping[str, float]
"""What a load has to tell."""

_LEAD = 0.1
_PATIENCE = 60.0
_HEAD = 0.1
"""The part at the beginning that is left out of the percentiles, since all is cold then."""


def _percentiles(times: Sequence[float]) -> Told:
    ordered = sorted(times[int(len(times) * _HEAD) :])
    return {f"p{of}": ordered[min(len(ordered) - 1, len(ordered) * of // 100)] for of in (0, 50, 99)}


def pacedConnections(door: Door, count: int, rate: float) -> Told:
    """
    New connections, each with one exchange of 64 bytes, timed from the moment it was due to the last of these bytes.

    @param count: how many.
    @param rate: how many are due each second.
    @return: seconds: C{p0}, which is the least, C{p50} and C{p99}.
    """
    crew = Crew()
    times: list[float] = []

    def visit(due: float) -> Steps[None]:
        connection = yield from door.enter()
        connection.send(Order("get", REPLY).toBytes())
        yield from read(connection, REPLY)
        times.append(time.monotonic() - due)
        yield from leave(connection)

    start = time.monotonic() + _LEAD
    for number in range(count):
        due = start + number / rate
        while (left := due - time.monotonic()) > 0:
            crew.turn(left)
        crew.start(visit(due))
    crew.finish()
    return _percentiles(times)


def pacedRequests(door: Door, count: int, rate: float, clients: int) -> Told:
    """
    Small requests over connections that stay, each sent by one that has nothing under way.

    @param count: how many requests.
    @param rate: how many are due each second.
    @param clients: how many connections.
    @return: seconds, as C{p0}, C{p50} and C{p99}, and how many all of them took, as C{seconds}.
    @raise TrafficError: if a connection ends, or nothing is answered any more.
    """
    request = Order("get", RESPONSE).toBytes()
    idle: deque[socket.socket] = deque()
    for _ in range(clients):
        connection = door.open()
        connection.setblocking(False)
        idle.append(connection)
    busy: dict[socket.socket, tuple[float, int]] = {}
    dues: deque[float] = deque()
    times: list[float] = []
    begun = 0
    start = time.monotonic() + _LEAD
    while len(times) < count:
        now = time.monotonic()
        while begun < count and (due := start + begun / rate) <= now:
            dues.append(due)
            begun += 1
        while dues and idle:
            connection = idle.popleft()
            connection.send(request)
            busy[connection] = dues.popleft(), RESPONSE
        left = start + begun / rate - time.monotonic() if begun < count else _PATIENCE
        # Of all ways to wait this one alone is exact to microseconds.
        ready, _, _ = select.select(busy, [], [], max(0.0, left))
        if not ready and begun == count:
            raise TrafficError(f"no answer for {_PATIENCE:.0f} s")
        for connection in ready:
            due, missing = busy[connection]
            try:
                data = connection.recv(missing)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            if not data:
                raise TrafficError("a connection ended")
            if len(data) < missing:
                busy[connection] = due, missing - len(data)
                continue
            times.append(time.monotonic() - due)
            del busy[connection]
            idle.append(connection)
    seconds = time.monotonic() - start
    for connection in idle:
        finish(leave(connection))
    return {**_percentiles(times), "seconds": seconds}
