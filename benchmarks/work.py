"""
How much of each kind of work one measurement is.
"""

from __future__ import annotations

import math

from attrs import frozen

_STALLED = 100 * 1000 * 1000
_GIB = 1 << 30
_PACED_CLIENTS = 64


@frozen
class Work:
    """
    Sizes.

    @param bulk: bytes of a bulk transfer.
    @param connections: new connections.
    @param requests: small requests.
    @param held: idle connections whose memory is read.
    @param tunnels: idle tunnels whose memory and descriptors are read.
    @param seconds: how long a load lasts that comes at a fixed rate.
    """

    bulk: int = _GIB
    connections: int = 2000
    requests: int = 50_000
    held: int = 5000
    tunnels: int = 8000
    seconds: float = 5.0

    def holdable(self, mode: str) -> int:
        """
        How many connections are held in a mode.
        """
        return self.tunnels if mode == "connect" else self.held

    def arguments(self, kind: str, mode: str, clients: int = 1, rate: float = 0.0) -> list[str]:
        """
        The load client's options for a kind of load.

        @param clients: how many connections or requests at a time.
        @param rate: how many begin each second, of those that come at a rate; C{inf} for as many as can.
        """
        if kind in ("down", "up"):
            return ["--size", str(self.bulk)]
        if kind in ("connections", "resumed"):
            return ["--count", str(self.connections), "--clients", str(clients)]
        if kind == "requests":
            return ["--count", str(self.requests), "--clients", str(clients)]
        if kind in ("paced-connections", "paced-requests"):
            count = self.requests if math.isinf(rate) else max(10, int(rate * self.seconds))
            return ["--count", str(count), "--rate", str(rate), "--clients", str(_PACED_CLIENTS)]
        if kind == "hold":
            return ["--count", str(self.holdable(mode))]
        return ["--size", str(_STALLED)]

    def amount(self, kind: str) -> float:
        """
        How much one load of a kind is: GiB, connections or requests.
        """
        if kind in ("connections", "resumed"):
            return self.connections
        return self.requests if kind in ("requests", "paced-requests") else self.bulk / _GIB


WARM_UP = Work(bulk=1 << 20, connections=4, requests=64)
"""What each proxy does once before anything is counted."""

QUICK = Work(bulk=64 << 20, connections=100, requests=2000, held=100, tunnels=1000, seconds=1.0)
"""Enough to see that all works."""
