# -*- test-case-name: tests.enrolling.test_patience -*-
"""
When to try again what has failed, and when to tell of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["FIRST", "LAST", "Patience"]

FIRST: Final = 10.0
"""After how many seconds what has failed is tried again; each time twice as many."""
LAST: Final = 900.0
"""The most of these."""

_SHARE: Final = 20
"""Of what lives for a short time, they are no more than this part of its life."""
_REMIND: Final = 3600.0
"""After how many seconds the same failure is told again."""
_DOUBLINGS: Final = 10


class Patience:
    """
    Waits longer and longer.

    @ivar until: Before this, nothing is tried again, in seconds that have passed; 0 for at once.
    @ivar attempts: How many in a row have failed.
    @ivar failure: Why the last one did; C{""} where it did not.
    @ivar failures: How many ever have.
    """

    def __init__(self, seconds: Callable[[], float], jitter: Callable[[], float]) -> None:
        """
        @param seconds: Tells the seconds that have passed.
        @param jitter: Gives a random number from 0 to 1: those that have failed together are not to come together.
        """
        self._seconds = seconds
        self._jitter = jitter
        self._told = ("", 0.0)
        self.until = 0.0
        self.attempts = self.failures = 0
        self.failure = ""

    def failed(self, sentence: str, life: float, least: float = 0.0) -> bool:
        """
        Something has failed.

        @param sentence: Why.
        @param life: For how many seconds that lives which is at stake.
        @param least: How long to wait at least, as far as that is no more than L{LAST}.
        @return: Whether to tell of it: not so where the same has just been told.
        """
        passed = self._seconds()
        delay = min(FIRST * 2 ** min(self.attempts, _DOUBLINGS), LAST, life / _SHARE)
        self.until = passed + max(delay * (0.75 + self._jitter() / 2), min(least, LAST))
        self.attempts += 1
        self.failures += 1
        self.failure = sentence
        told, when = self._told
        if sentence == told and passed - when < _REMIND:
            return False
        self._told = sentence, passed
        return True

    def hurry(self) -> None:
        """
        Try at once, as what was in the way may be gone.
        """
        self.until, self.attempts = 0.0, 0

    def succeeded(self) -> int:
        """
        It has worked.

        @return: How many attempts before have failed.
        """
        before = self.attempts
        self.hurry()
        self.failure, self._told = "", ("", 0.0)
        return before
