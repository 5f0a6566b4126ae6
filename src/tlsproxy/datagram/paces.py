# -*- test-case-name: tests.datagram.test_paces -*-
"""
How many new clients a second there may be, in all and of one network, where each costs something before it has shown
that it is where it says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["ALL", "BURST", "Paces"]

ALL: Final = 250
"""How many there may be a second in all, and as many at once after a second of silence."""
BURST: Final = 5.0
"""A network that was silent may begin as many at once as otherwise in so many seconds."""
_SLACK: Final = 1e-9


class Paces:
    """
    Keeps clients to their paces.

    What is remembered is when each would be at rest again, as if it had come one client after the other at the pace
    that it may (the "generic cell rate algorithm").
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: The clock.
        """
        self._seconds = seconds
        self._rest = 0.0
        self._networks: OrderedDict[Hashable, float] = OrderedDict()

    @property
    def open(self) -> bool:
        """
        Whether there may be one more in all.
        """
        return self._rest - self._seconds() + 1 / ALL <= 1 + _SLACK

    def take(self, network: Hashable, pace: int) -> bool:
        """
        Count one more, if there may be one.

        @param network: Where it comes from.
        @param pace: How many a second that may be of one network.
        """
        now, networks = self._seconds(), self._networks
        rest = max(networks.get(network, now), now) + 1 / pace
        if not self.open or rest - now > BURST + _SLACK:
            return False
        self._rest = max(self._rest, now) + 1 / ALL
        networks[network] = rest
        networks.move_to_end(network)
        # Two a time: it grows no further than to what is still at work, which all together bound.
        for _ in range(2):
            oldest = next(iter(networks))
            if networks[oldest] > now:
                break
            del networks[oldest]
        return True
