# -*- test-case-name: tests.enrolling.test_rates -*-
"""
How often client proxies may ask: in all, and those of one network.

Only who is let in is remembered, and for a minute; so what all may do together bounds the memory, too.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted.internet.interfaces import IAddress

from tlsproxy.admission import MOST, networkOf

__all__ = ["SPAN", "Rates"]

SPAN: Final = 60.0
"""What rates are told for, in seconds.  Who was silent for as long may ask as often at once."""


class Rates:
    """
    Lets requests in, or not.

    What is kept is when each would be at rest again, as if it had asked at the pace that it may: the "generic cell rate
    algorithm".
    """

    def __init__(self, most: int, mostOfOne: int) -> None:
        """
        @param most: How many requests there may be in L{SPAN} in all.
        @param mostOfOne: How many of one client network.
        """
        self._all, self._one = SPAN / most, SPAN / mostOfOne
        self._rest = 0.0
        self._rests: OrderedDict[int | None, float] = OrderedDict()

    def wait(self, client: IAddress, ipv4: int, ipv6: int, now: float) -> float:
        """
        Let a request in.

        @param client: Whose.
        @param ipv4: The length of the prefix that makes a network of IPv4.
        @param ipv6: The same for IPv6.
        @param now: The time, in seconds of the reactor's clock.
        @return: 0 where it is let in; else after how many seconds another may be.
        """
        network = networkOf(client, ipv4, ipv6)
        rests = self._rests
        one = _later(rests.get(network, now), now) + self._one
        all = _later(self._rest, now) + self._all
        over = max(one, all) - now - SPAN
        if over > 1e-9:
            return over
        rests[network], self._rest = one, all
        rests.move_to_end(network)
        # Two a time: whatever comes, it grows no further than to what is still at work.
        for _ in range(2):
            oldest = next(iter(rests))
            if rests[oldest] > now and len(rests) <= MOST:
                break
            del rests[oldest]
        return 0.0

    def __len__(self) -> int:
        """
        Tell how many networks are remembered.
        """
        return len(self._rests)


def _later(rest: float, now: float) -> float:
    # What is further away was noted down before the clock was set back, and would last for as long as that.
    return rest if now < rest <= now + SPAN + 1e-6 else now
