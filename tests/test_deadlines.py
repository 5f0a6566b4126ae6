# -*- test-case-name: tests.test_deadlines -*-
"""
L{tlsproxy.deadlines}
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.deadlines import GRANULARITY, Deadlines


class Timed:
    """
    Something with a deadline.
    """

    def __init__(self, clock: Clock, end: float, then: Callable[[], None] | None = None) -> None:
        self.bucket = 0
        self.end = end
        self.asked = 0
        self.ends: list[float] = []
        self._clock = clock
        self._then = then

    def deadline(self) -> float:
        """
        As it was set.
        """
        self.asked += 1
        return self.end

    def expired(self) -> None:
        """
        Note when.
        """
        self.ends.append(self._clock.seconds())
        if self._then is not None:
            self._then()


class DeadlinesTests(SynchronousTestCase):
    """
    L{Deadlines}
    """

    def setUp(self) -> None:
        """
        A clock that began some time ago, and not at a tick.
        """
        self.clock = Clock()
        self.clock.advance(1000.1)
        self.deadlines = Deadlines(self.clock)

    def watched(self, seconds: float, then: Callable[[], None] | None = None) -> Timed:
        """
        Watch something from now on.
        """
        one = Timed(self.clock, self.clock.seconds() + seconds, then)
        self.deadlines.watch(one)
        return one

    def passes(self, seconds: float) -> None:
        """
        Let time pass in small steps.
        """
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def assertMet(self, one: Timed) -> None:
        """
        It expired once, not early, and late by no more than the granularity.
        """
        self.assertEqual(1, len(one.ends))
        self.assertGreaterEqual(one.ends[0], one.end)
        self.assertLessEqual(one.ends[0], one.end + GRANULARITY + 0.051)

    def test_once(self) -> None:
        """
        A deadline is met once, never early and hardly late; then nothing is left.
        """
        one = self.watched(5)
        self.passes(30)
        self.assertMet(one)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(0, one.bucket)

    def test_many(self) -> None:
        """
        Thousands of deadlines are met, each in its time, with one timer.
        """
        chance = random.Random(1)
        every = []
        for _ in range(3000):
            every.append(self.watched(chance.uniform(0, 8)))
            if chance.random() < 0.02:
                self.clock.advance(0.01)
            self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.passes(12)
        for one in every:
            self.assertMet(one)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_passed(self) -> None:
        """
        A deadline that lies in the past is met at the next tick.
        """
        one = self.watched(-3)
        self.assertEqual([], one.ends)
        self.passes(1)
        self.assertEqual(1, len(one.ends))

    def test_lazilyMoved(self) -> None:
        """
        A deadline that moves on costs nothing until it would have been met, however often it moves.
        """
        one = self.watched(10)
        for _ in range(8):
            self.passes(1)
            one.end = self.clock.seconds() + 10
        self.assertEqual(1, one.asked)
        self.passes(30)
        self.assertMet(one)
        self.assertLess(one.asked, 6)

    def test_watchedAgain(self) -> None:
        """
        To watch what is watched already, with a later deadline, changes nothing but the deadline.
        """
        one = self.watched(2)
        one.end += 3
        self.deadlines.watch(one)
        self.passes(10)
        self.assertMet(one)

    def test_nearer(self) -> None:
        """
        A deadline that came nearer is met in its new time.
        """
        one = self.watched(600)
        one.end = self.clock.seconds() + 2
        self.deadlines.watch(one)
        self.passes(5)
        self.assertMet(one)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_forget(self) -> None:
        """
        What is forgotten does not expire, and to forget it twice does no harm.
        """
        one, other = self.watched(2), self.watched(2)
        self.deadlines.forget(one)
        self.deadlines.forget(one)
        self.passes(5)
        self.assertEqual([], one.ends)
        self.assertMet(other)

    def test_allForgotten(self) -> None:
        """
        Where nothing is left to watch, the timer stops by itself, and starts again when it is needed.
        """
        self.deadlines.forget(self.watched(2))
        self.passes(1)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.passes(100)
        one = self.watched(2)
        self.assertEqual(self.clock.seconds(), self.deadlines.now)
        self.passes(5)
        self.assertMet(one)

    def test_forgottenByAnother(self) -> None:
        """
        One's end may be another's, in the same tick, and each expires at most once.
        """
        pair: list[Timed] = []

        def forgetBoth() -> None:
            for one in pair:
                self.deadlines.forget(one)

        pair += [self.watched(2, forgetBoth), self.watched(2, forgetBoth)]
        self.passes(5)
        self.assertEqual(1, sum(len(one.ends) for one in pair))

    def test_oneRaises(self) -> None:
        """
        One whose end fails is told in the log, and keeps no other from its own, nor the clock from going on.
        """

        def fail() -> None:
            raise RuntimeError("it does not end")

        every = [self.watched(2), self.watched(2, fail), self.watched(2), self.watched(4)]
        self.passes(8)
        for one in every:
            self.assertMet(one)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_again(self) -> None:
        """
        Something may be watched anew from within its own end.
        """

        def again() -> None:
            if len(one.ends) < 3:
                one.end = self.clock.seconds() + 2
                self.deadlines.watch(one)

        one = self.watched(2, again)
        self.passes(20)
        self.assertEqual(3, len(one.ends))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_never(self) -> None:
        """
        What has no deadline does not expire, and no timer runs for it; it may have a deadline later.
        """
        one = self.watched(math.inf)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.clock.advance(100000)
        one.end = self.clock.seconds() + 2
        self.deadlines.watch(one)
        self.passes(5)
        self.assertMet(one)

    def test_noLongerAny(self) -> None:
        """
        A deadline may turn into none.
        """
        one = self.watched(2)
        one.end = math.inf
        self.deadlines.watch(one)
        self.passes(5)
        self.assertEqual([], one.ends)
        self.deadlines.forget(one)
        self.passes(1)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_late(self) -> None:
        """
        A reactor that was busy for long meets all that has passed meanwhile at once.
        """
        every = [self.watched(seconds) for seconds in range(20)]
        self.clock.advance(60)
        self.assertEqual([1] * 20, [len(one.ends) for one in every])

    def test_cheapClock(self) -> None:
        """
        While anything is watched, the cheap clock lags by one tick at most.
        """
        self.watched(50)
        for _ in range(100):
            self.clock.advance(0.07)
            self.assertLessEqual(self.clock.seconds() - self.deadlines.now, GRANULARITY + 0.07)

    def test_rest(self) -> None:
        """
        At rest no timer is left behind, unless somebody is looked after; later ones are looked after all the same.
        """
        one = self.watched(2)
        self.deadlines.rest()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        self.deadlines.forget(one)
        for _ in range(2):
            self.deadlines.rest()
            self.assertEqual([], self.clock.getDelayedCalls())
        self.passes(1)
        other = self.watched(1)
        self.passes(2)
        self.assertMet(other)
