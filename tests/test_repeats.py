# -*- test-case-name: tests.test_repeats -*-
"""
Tests for L{tlsproxy.repeats}: a flood of failures does not fill the log, and none is lost to the count.
"""

from __future__ import annotations

from collections import Counter

from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.deadlines import Deadlines
from tlsproxy.repeats import LINES, SPAN, Repeated, Repeats


@define
class Failed:
    """
    A session that failed.
    """

    phase: str = "handshake"
    client: IAddress = IPv4Address("TCP", "192.0.2.1", 4321)


class RepeatsTests(SynchronousTestCase):
    """
    Tests for L{Repeats}.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.clock = Clock()
        self.summed: list[Repeated] = []
        self.repeats = self.made()

    def made(self, lines: int = LINES) -> Repeats:
        """
        Make another one.
        """
        return Repeats(self.clock, Deadlines(self.clock), self.summed.append, lines)

    def fail_(self, count: int = 1, reason: str = "no", outcome: str = "failed", session: Failed | None = None) -> int:
        """
        Let sessions fail.

        @return: How many of them have a line.
        """
        return sum(self.repeats.hasLine(session or Failed(), outcome, reason) for _ in range(count))

    def later(self, seconds: float = SPAN) -> None:
        """
        Let time pass.
        """
        for _ in range(int(seconds * 4) + 2):
            self.clock.advance(0.25)

    def test_few(self) -> None:
        """
        What fails now and then has its line each time, and nothing is summed up.
        """
        for _ in range(5):
            self.assertEqual(LINES, self.fail_(LINES))
            self.later()
        self.assertEqual([], self.summed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_many(self) -> None:
        """
        The first ones have their lines, the others are summed up with how many they were, and from where.
        """
        self.assertEqual(LINES, self.fail_(LINES))
        for number in range(17):
            client = IPv4Address("TCP", f"192.0.2.{number}", 1000 + number)
            self.assertEqual(0, self.fail_(2, session=Failed(client=client)))
        self.later()
        (one,) = self.summed
        self.assertEqual(
            ("failed", "handshake", "no", 34, 17, False),
            (one.outcome, one.phase, one.reason, one.count, one.addresses, one.more),
        )
        self.assertTrue(SPAN <= one.seconds < SPAN + 1, one)

    def test_goesOn(self) -> None:
        """
        As long as it goes on there is one sum a span and no other line; once it has stopped for a span, it has lines
        again.
        """
        self.fail_(100)
        for _ in range(3):
            self.later()
            self.assertEqual(0, self.fail_(50))
        self.later()
        self.assertEqual([90, 50, 50, 50], [one.count for one in self.summed])
        self.later()
        self.assertEqual(4, len(self.summed))
        self.assertEqual(1, self.fail_())

    def test_kinds(self) -> None:
        """
        Another outcome, phase or reason is another kind.
        """
        self.fail_(100)
        self.assertEqual(1, self.fail_(reason="maybe"))
        self.assertEqual(1, self.fail_(outcome="refused"))
        self.assertEqual(1, self.fail_(session=Failed("dial")))

    def test_manyReasons(self) -> None:
        """
        Strangers who make every failure look like the first of its kind do not get a line each, now or later, and few
        sums are made of it; other kinds of failures are told all the same.
        """
        for span in range(3):
            lines = sum(self.fail_(reason=f"asks for {span}.{number}.example") for number in range(10_000))
            self.assertTrue(lines <= 3 * LINES, lines)
            self.later()
        self.assertTrue(len(self.summed) <= 12, len(self.summed))
        self.assertTrue(30_000 - 90 <= sum(one.count for one in self.summed), self.summed)
        self.assertEqual(3, sum(one.reason == "various" for one in self.summed))
        self.assertEqual(1, self.fail_(session=Failed("dial")))

    def test_manyAddresses(self) -> None:
        """
        Addresses are counted up to a thousand.
        """
        self.fail_(LINES)
        for number in range(2000):
            self.fail_(session=Failed(client=IPv4Address("TCP", f"10.0.{number // 256}.{number % 256}", 1)))
        self.later()
        self.assertEqual([(2000, 1000, True)], [(one.count, one.addresses, one.more) for one in self.summed])

    def test_unix(self) -> None:
        """
        Clients without an address count as one.
        """
        self.fail_(LINES + 5, session=Failed(client=UNIXAddress(None)))
        self.later()
        self.assertEqual([(5, 1)], [(one.count, one.addresses) for one in self.summed])

    def test_all(self) -> None:
        """
        With no number of lines, all have one.
        """
        self.repeats = self.made(0)
        self.assertEqual(1000, self.fail_(1000))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_close(self) -> None:
        """
        At the end, what there is is summed up, and no timer is left.
        """
        deadlines = Deadlines(self.clock)
        self.repeats = Repeats(self.clock, deadlines, self.summed.append)
        self.fail_(LINES + 7)
        self.repeats.close()
        self.repeats.close()
        deadlines.rest()
        self.assertEqual(([7], []), ([one.count for one in self.summed], self.clock.getDelayedCalls()))
        self.assertEqual(1, self.fail_())

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.integers(0, 12))))
    def test_nothingIsLost(self, steps: list[tuple[str, str, int]]) -> None:
        """
        Each failure has a line or is counted in a sum, whatever comes when.
        """
        self.setUp()
        failed: Counter[str] = Counter()
        told: Counter[str] = Counter()
        for outcome, reason, seconds in steps:
            failed[outcome] += 15
            told[outcome] += self.fail_(15, reason, outcome)
            self.later(seconds)
        self.repeats.close()
        for one in self.summed:
            told[one.outcome] += one.count
        self.assertEqual(failed, told)
