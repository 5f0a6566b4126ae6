# -*- test-case-name: tests.enrolling.test_patience -*-
"""
L{tlsproxy.enrolling.patience}: when to try again, and when to tell of it.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.enrolling.patience import FIRST, LAST, Patience

LONG = 1e6


class PatienceTests(SynchronousTestCase):
    """
    Waiting.
    """

    def setUp(self) -> None:
        """
        Have a clock, and luck.
        """
        self.clock = Clock()
        self.luck = 0.5
        self.patience = Patience(self.clock.seconds, lambda: self.luck)

    def wait(self, life: float = LONG, least: float = 0.0) -> float:
        """
        Fail, and tell how long to wait.
        """
        self.patience.failed("no", life, least)
        return self.patience.until - self.clock.seconds()

    def test_doubles(self) -> None:
        """
        Each time it takes twice as long, up to a quarter of an hour, and from the start again once it has worked.
        """
        self.assertEqual([10, 20, 40, 80, 160, 320, 640, 900, 900], [self.wait() for _ in range(9)])
        for _ in range(5000):
            self.wait()
        self.assertEqual(LAST, self.wait())
        self.assertEqual(5010, self.patience.failures)
        self.assertEqual(5010, self.patience.succeeded())
        self.assertEqual((0.0, FIRST), (self.patience.until, self.wait()))
        self.patience.hurry()
        self.assertEqual((0.0, FIRST), (self.patience.until, self.wait()))

    def test_jitter(self) -> None:
        """
        Those that have failed together come again one by one.
        """
        self.luck = 0.0
        self.assertEqual(7.5, self.wait())
        self.luck = 1.0
        self.assertEqual(25.0, self.wait())

    def test_life(self) -> None:
        """
        What lives for a short time does not wait for long; whoever was told to wait does, within reason.
        """
        self.assertEqual(3.0, self.wait(60))
        self.assertEqual(100.0, self.wait(60, 100))
        self.assertEqual(LAST, self.wait(60, 1e9))

    def test_told(self) -> None:
        """
        The same is told once an hour, another failure at once, and the same again once it had worked.
        """
        told = self.patience.failed
        self.assertEqual([True, False, True, True], [told(one, LONG) for one in "aaba"])
        self.clock.advance(3599)
        self.assertFalse(told("a", LONG))
        self.clock.advance(1)
        self.assertTrue(told("a", LONG))
        self.assertEqual("a", self.patience.failure)
        self.patience.succeeded()
        self.assertEqual("", self.patience.failure)
        self.assertTrue(told("a", LONG))
