# -*- test-case-name: tests.test_repeats -*-
"""
What fails again and again in the same way is told once in a while, with a count.

Whoever connects can make a session fail, as often as it likes.  A line for each would fill the disk, and hide what else
is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from tlsproxy.deadlines import Deadlines

__all__ = ["LINES", "SPAN", "Repeated", "Repeats"]

LINES: Final = 10
"""How many lines of one kind are told in a span, where nobody says otherwise."""
SPAN: Final = 10.0
"""The time after which what was not told is summed up, in seconds."""

_FAMILY: Final = 3
"""How many times as many lines those that differ in their reason alone have together: strangers choose names."""
_REASONS: Final = 32
"""How many reasons are told apart."""
_TOLD: Final = 3
"""How many of them are summed up one by one; the rest together."""
_MOST_ADDRESSES: Final = 1000
_OTHERS: Final = "various"


@frozen
class Repeated:
    """
    What was not told.

    @ivar outcome: How the sessions ended.
    @ivar phase: In which phase.
    @ivar reason: Why.
    @ivar count: How many there were.
    @ivar seconds: In which time.
    @ivar addresses: From how many addresses they came.
    @ivar more: Whether there may have been more addresses than that.
    """

    outcome: str
    phase: str
    reason: str
    count: int
    seconds: float
    addresses: int
    more: bool


class _Session(Protocol):
    phase: str

    @property
    def client(self) -> Any: ...


@define(slots=True)
class _Kind:
    """
    Failures that have all in common.

    @ivar left: How many lines it still has.
    """

    left: int
    count: int = 0
    addresses: set[str] = field(factory=set)


@define(slots=True)
class _Family:
    """
    Failures that differ in their reason alone.

    @ivar each: How many lines a new reason has.
    @ivar left: How many lines it still has.
    """

    each: int
    left: int
    kinds: dict[str, _Kind] = field(factory=dict)


class Repeats:
    """
    Tells of a route's failures which have their line, and sums up the others.

    A kind that was summed up has no line of its own in the next span, and so on until it has come to an end.

    @ivar bucket: See L{tlsproxy.deadlines.Expiring}.
    """

    bucket = 0

    def __init__(
        self, clock: Any, deadlines: Deadlines, sumUp: Callable[[Repeated], object], lines: int = LINES
    ) -> None:
        """
        @param clock: The reactor, or another clock.
        @param deadlines: Looks after the end of a span.
        @param sumUp: Is told, at the end of a span, of what had no line.
        @param lines: How many lines of one kind are told in a span; 0 for all.
        """
        self._clock = clock
        self._deadlines = deadlines
        self._sumUp = sumUp
        self._lines = lines
        self._since = -SPAN
        self._families: dict[tuple[str, str], _Family] = {}

    def hasLine(self, session: _Session, outcome: str, reason: str) -> bool:
        """
        Count a failure, and tell whether it has a line of its own.

        @param session: Whose.
        @param outcome: The one word for it.
        @param reason: The sentence.
        """
        lines = self._lines
        if not lines:
            return True
        now = self._clock.seconds()
        if not self.bucket and now >= self._since + SPAN:
            # Nothing was held back, so nobody waits for the end of the span.
            self._families.clear()
            self._since = now
        family = self._families.get((outcome, session.phase))
        if family is None:
            family = self._families[outcome, session.phase] = _Family(lines, lines * _FAMILY)
        kinds = family.kinds
        kind = kinds.get(reason)
        if kind is None:
            if len(kinds) >= _REASONS:
                reason = _OTHERS
            kind = kinds.setdefault(reason, _Kind(family.each if reason != _OTHERS else 0))
        if kind.left and family.left:
            kind.left -= 1
            family.left -= 1
            return True
        kind.count += 1
        if not self.bucket:
            self._deadlines.watch(self)
        if len(kind.addresses) < _MOST_ADDRESSES:
            kind.addresses.add(str(getattr(session.client, "host", "")))
        return False

    def deadline(self) -> float:
        """
        When the span is over.
        """
        return self._since + SPAN

    def expired(self) -> None:
        """
        The span is over: sum up, and go on with what may not have come to an end.
        """
        before, self._families = self._families, {}
        now = self._clock.seconds()
        seconds, self._since = now - self._since, now
        for (outcome, phase), family in before.items():
            untold = {reason: kind for reason, kind in family.kinds.items() if kind.count}
            if untold:
                self._families[outcome, phase] = _Family(1, self._lines, {reason: _Kind(0) for reason in untold})
                self._sumUpAll(outcome, phase, untold, seconds)

    def _sumUpAll(self, outcome: str, phase: str, untold: dict[str, _Kind], seconds: float) -> None:
        first = sorted(untold, key=lambda reason: -untold[reason].count)
        if len(first) > _TOLD:
            first.sort(key=_OTHERS.__eq__)
        for reason in first[:_TOLD]:
            self._sumUp(_repeated(outcome, phase, reason, [untold[reason]], seconds))
        if len(first) > _TOLD:
            rest = [untold[reason] for reason in first[_TOLD:]]
            self._sumUp(_repeated(outcome, phase, _OTHERS, rest, seconds))

    def close(self) -> None:
        """
        Sum up what there is, because nobody will later.
        """
        if self.bucket:
            self._deadlines.forget(self)
            self.expired()
            self._families.clear()


def _repeated(outcome: str, phase: str, reason: str, kinds: list[_Kind], seconds: float) -> Repeated:
    addresses: set[str] = set().union(*(kind.addresses for kind in kinds))
    more = any(len(kind.addresses) >= _MOST_ADDRESSES for kind in kinds)
    return Repeated(outcome, phase, reason, sum(kind.count for kind in kinds), seconds, len(addresses), more)
