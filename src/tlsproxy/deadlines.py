# -*- test-case-name: tests.test_deadlines -*-
"""
Deadlines for very many sessions, swept coarsely.

A timer of the reactor for each phase of each session would cost more than the phases.  Here one timer serves all:
every session lies in the bucket of the tick at which it has to be looked at, and moving a deadline later, which is
what nearly always happens, touches nothing until that tick comes.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["GRANULARITY", "Deadlines", "Expiring"]

_log = Logger()

GRANULARITY: Final = 0.25
"""How often deadlines are looked at, in seconds: none is met later than this."""


class Expiring(Protocol):
    """
    Something with a deadline.

    @ivar bucket: The tick whose bucket holds it, C{0} for none; L{Deadlines} alone sets it.
    """

    bucket: int

    def deadline(self) -> float:
        """
        Tell the time, in seconds of the reactor's clock, after which it has expired, or infinity; it may have moved
        since last asked.
        """

    def expired(self) -> None:
        """
        Called once, after the deadline.  Before it returns, it may watch again.
        """


class Deadlines:
    """
    All deadlines of a service.

    @ivar now: The time of the last tick: a cheap clock for those who need no better.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._buckets: dict[int, dict[int, Expiring]] = {}
        self._timer: IDelayedCall | None = None
        self._tick = 0
        self.now = clock.seconds()

    def watch(self, one: Expiring) -> None:
        """
        Look after something from now on, or again after its deadline came nearer.
        """
        end = one.deadline()
        if end == math.inf:
            self.forget(one)
            return
        if self._timer is None:
            # Nobody was watched, so the cheap clock stood still.
            self.now = self._clock.seconds()
            self._tick = int(self.now / GRANULARITY)
            self._schedule()
        tick = max(int(end / GRANULARITY), self._tick) + 1
        if one.bucket:
            if one.bucket <= tick:
                return
            self.forget(one)
        one.bucket = tick
        self._buckets.setdefault(tick, {})[id(one)] = one

    def forget(self, one: Expiring) -> None:
        """
        Look after something no longer.
        """
        bucket = self._buckets.get(one.bucket)
        if bucket is not None:
            bucket.pop(id(one), None)
            if not bucket:
                del self._buckets[one.bucket]
        one.bucket = 0

    def rest(self) -> None:
        """
        Leave no timer behind where nobody is looked after.
        """
        if self._timer is not None and not self._buckets:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        self.now = self._clock.seconds()
        last = int(self.now / GRANULARITY)
        self._tick = last
        for tick in [tick for tick in self._buckets if tick <= last]:
            for one in list(self._buckets.get(tick, {}).values()):
                if one.bucket != tick:
                    continue  # The end of one before it was its end, too.
                self.forget(one)
                try:
                    if one.deadline() <= self.now:
                        one.expired()
                    else:
                        self.watch(one)
                except Exception:
                    _log.failure("the end of {one} met a bug of ours; the others go on", one=one)
        if self._buckets and self._timer is None:
            self._schedule()

    def _schedule(self) -> None:
        """
        Have the next tick swept when it comes.
        """
        self._timer = self._clock.callLater((self._tick + 1) * GRANULARITY - self.now, self._sweep)
