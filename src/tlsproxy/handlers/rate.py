# -*- test-case-name: tests.handlers.test_rate -*-
"""
The handler C{rate}: lets only so many bytes a second pass, for each session and direction by itself.

An allowance grows with time up to the burst, and bytes use it up.  What goes beyond it is held, and its direction is
not read until all of it has passed; so a session holds no more than was read at once.
"""

from __future__ import annotations

from math import ulp
from typing import Final

from attrs import frozen

from tlsproxy.handler import INWARD, OUTWARD, Flow, HandlerOptions, ProtocolHandler, Session, Way, option

__all__ = ["Limiter", "Rate"]

_TICK: Final = 0.05
"""Seconds that bytes wait at least once they have to wait, so that they do not trickle."""
_MOST: Final = 10**15
"""The most bytes a second, and at once: more than any network has, and few enough to be counted in fractions."""


@frozen(kw_only=True)
class Rate(HandlerOptions):
    """
    The options of C{rate}.
    """

    up: int = option(0, "bytes a second from the client to the upstream; 0: no limit")
    down: int = option(0, "bytes a second from the upstream to the client; 0: no limit")
    burst: int = option(0, "bytes that may pass at once after a pause; 0: as many as in a second")

    def __attrs_post_init__(self) -> None:
        for name, value in (("up", self.up), ("down", self.down), ("burst", self.burst)):
            if value < 0:
                raise ValueError(f"{name}: {value} is no number of bytes: give 0 or more")
            if value > _MOST:
                raise ValueError(f"{name}: no network is that fast: give at most {_MOST}, or 0 for no limit")
        if not self.up and not self.down:
            raise ValueError("there is nothing to limit: give up or down, in bytes a second")

    @property
    def name(self) -> str:
        """
        See L{HandlerOptions}.
        """
        return "rate"

    def handler(self, session: Session, flow: Flow) -> Limiter:
        """
        See L{HandlerOptions}.
        """
        return Limiter(session, flow, self)


class _Allowance:
    """
    What may pass in one direction: a token bucket.

    @ivar held: What may not pass yet, and before it what has passed meanwhile.
    """

    __slots__ = ("_at", "_burst", "_left", "_passed", "_rate", "held")

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left: float = burst
        self._at = now
        self._passed = 0
        self.held = b""

    def next(self, now: float) -> bytes:
        """
        Take what may pass now of what is held.
        """
        start = self._passed
        taken = self.take(len(self.held) - start, now)
        if start + taken == len(self.held):
            return self.rest()
        # A small burst makes many small pieces: what stays is not copied for each.
        self._passed += taken
        return self.held[start : self._passed]

    def rest(self) -> bytes:
        """
        Take all that is held.
        """
        rest = self.held[self._passed :]
        self.held, self._passed = b"", 0
        return rest

    def take(self, wanted: int, now: float) -> int:
        """
        Use up the allowance, as far as it goes.

        @return: How many bytes may pass.
        """
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        # What is added up in fractions may lack a trifle of a whole byte.
        taken = min(wanted, int(self._left + 1e-6))
        self._left -= taken
        return taken

    def wait(self) -> float:
        """
        Tell how long to wait until some bytes may pass again, in seconds.
        """
        worth = min(self._burst, max(1, self._rate * _TICK))
        # A clock that shows a large number does not move by less, and it would be the same time for ever.
        return max(ulp(self._at), (worth - self._left) / self._rate)


class Limiter(ProtocolHandler):
    """
    Limits one session.
    """

    def __init__(self, session: Session, flow: Flow, options: Rate) -> None:
        """
        @param options: What to limit it to.
        """
        super().__init__(session, flow)
        self._allowances: dict[Way, _Allowance] = {}
        rates: dict[Way, int] = {OUTWARD: options.up, INWARD: options.down}
        for direction, rate in rates.items():
            if rate:
                self._allowances[direction] = _Allowance(rate, options.burst or rate, flow.seconds())
            else:
                flow.done(direction)

    def received(self, direction: Way, data: bytes) -> bytes | None:
        """
        See L{tlsproxy.interfaces.IProtocolHandler}.
        """
        allowance = self._allowances[direction]
        if allowance.held:
            allowance.held += data
            return None
        taken = allowance.take(len(data), self.flow.seconds())
        if taken == len(data):
            return data
        allowance.held = data[taken:]
        self.flow.pause(direction)
        self.flow.callLater(allowance.wait(), self._goOn, direction)
        return data[:taken] or None

    def _goOn(self, direction: Way) -> None:
        """
        Some time has passed: let pass what may.
        """
        flow, allowance = self.flow, self._allowances[direction]
        flow.release(direction, allowance.next(flow.seconds()))
        if allowance.held:
            flow.callLater(allowance.wait(), self._goOn, direction)
        else:
            flow.resume(direction)

    def ended(self, direction: Way, how: str) -> None:
        """
        See L{tlsproxy.interfaces.IProtocolHandler}.
        """
        rest = self._allowances[direction].rest()
        if rest:
            # The end waits for what is held, unless the other direction has ended both.
            self.flow.release(direction, rest)

    def closed(self, outcome: str) -> None:
        """
        See L{tlsproxy.interfaces.IProtocolHandler}.
        """
        self._allowances.clear()
