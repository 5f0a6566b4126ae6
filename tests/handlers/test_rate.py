"""
Tests for L{tlsproxy.handlers.rate}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.handlers.flows import FakeFlow
from tlsproxy.handlers.rate import Limiter, Rate
from tlsproxy.interfaces import INWARD, OUTWARD, Way

_PATTERN = bytes(range(251))


class Source:
    """
    Gives a handler bytes, as much as it takes, and keeps what goes on, and when.

    @ivar passed: How many bytes have gone on by when.
    """

    def __init__(self, direction: Way, chunks: list[int], **options: int) -> None:
        self.flow = FakeFlow()
        self.flow.onResume = self.give
        self.direction = direction
        self.left = [(_PATTERN * (size // 251 + 1))[:size] for size in chunks]
        self.given = bytearray()
        self._counted = self._count = 0
        self.passed: list[tuple[float, bytes]] = self.flow.released[direction]
        self.handler = Limiter(None, self.flow, Rate(**options))  # type: ignore[arg-type]
        self.mostHeld = 0
        self.give(direction)

    def give(self, direction: Way) -> None:
        """
        Give it all that it takes now.
        """
        assert direction == self.direction
        while self.left and direction not in self.flow.paused:
            data = self.left.pop(0)
            self.given += data
            passed = self.handler.received(direction, data)
            if passed is not None:
                assert passed
                self.passed.append((self.flow.clock.seconds(), passed))
            self.mostHeld = max(self.mostHeld, len(self.given) - self.count)

    @property
    def count(self) -> int:
        """
        How many bytes have gone on.
        """
        for _, data in self.passed[self._counted :]:
            self._count += len(data)
            self._counted += 1
        return self._count

    def until(self, seconds: float) -> int:
        """
        Let time pass, and tell how many bytes have gone on by then.
        """
        clock = self.flow.clock
        while (calls := clock.getDelayedCalls()) and calls[0].getTime() <= seconds:
            clock.advance(calls[0].getTime() - clock.seconds())
        clock.advance(max(0, seconds - clock.seconds()))
        return self.count


class RateTests(SynchronousTestCase):
    """
    How many bytes pass by when.
    """

    def test_burst(self) -> None:
        """
        What is within the burst passes at once and as it is.
        """
        source = Source(OUTWARD, [400, 600], up=1000)
        self.assertEqual([len(data) for _, data in source.passed], [400, 600])
        self.assertFalse(source.flow.clock.getDelayedCalls())

    def test_exact(self) -> None:
        """
        At any time the bytes are within one burst of the rate times the time, and never more.
        """
        source = Source(INWARD, [16384] * 100, down=10000, burst=3000)
        for tenth in range(1, 600):
            count = source.until(tenth / 10)
            self.assertLessEqual(count, 3000 + 1000 * tenth)
            self.assertGreaterEqual(count, 1000 * tenth)
        self.assertEqual(b"".join(data for _, data in source.passed), source.given[: source.count])

    def test_oneByteASecond(self) -> None:
        """
        One byte a second is possible, with one call a second.
        """
        source = Source(OUTWARD, [20], up=1)
        self.assertEqual([source.until(second) for second in (0, 0.9, 1, 1.9, 2, 10)], [1, 1, 2, 2, 3, 11])
        self.assertEqual([when for when, _ in source.passed], list(range(11)))

    def test_noBusyTimers(self) -> None:
        """
        However fast it is, bytes that wait are looked after at most twenty times a second.
        """
        source = Source(OUTWARD, [16384] * 10000, up=10_000_000, burst=1_000_000)
        source.until(10.0)
        self.assertGreaterEqual(source.count, 100_000_000)
        self.assertLessEqual(len({when for when, _ in source.passed}), 202)

    def test_holdsOneChunk(self) -> None:
        """
        It never holds more than one chunk, and nothing once that has passed.
        """
        source = Source(OUTWARD, [5000] * 5, up=1000)
        source.until(100)
        self.assertEqual((source.count, source.flow.paused), (25000, set()))
        self.assertLessEqual(source.mostHeld, 5000)
        self.assertFalse(source.flow.clock.getDelayedCalls())

    def test_smallPieces(self) -> None:
        """
        What waits is not copied for each of many small pieces that are let pass.
        """
        source = Source(OUTWARD, [16384], up=10**9, burst=1)
        held = source.handler._allowances[OUTWARD].held
        for _ in range(100):
            source.until(source.flow.clock.seconds() + 1e-9)
        self.assertGreater(source.count, 50)
        self.assertTrue(source.handler._allowances[OUTWARD].held is held)
        source.until(1)
        self.assertEqual(b"".join(data for _, data in source.passed), source.given)

    def test_pauseSaves(self) -> None:
        """
        A pause saves up to one burst, and no more.
        """
        source = Source(OUTWARD, [1000], up=1000)
        source.until(100)
        source.left = [bytes(1500)]
        source.give(OUTWARD)
        self.assertEqual(source.count, 2000)
        self.assertEqual(source.until(100.5), 2500)

    def test_moreWhilePaused(self) -> None:
        """
        Bytes that come although the direction is paused keep their place.
        """
        source = Source(OUTWARD, [1500], up=1000)
        self.assertIsNone(source.handler.received(OUTWARD, b"x" * 500))
        source.given += b"x" * 500
        source.until(1)
        self.assertEqual(b"".join(data for _, data in source.passed), source.given)

    def test_noLimit(self) -> None:
        """
        A direction without a limit is left at once, before a byte has come.
        """
        for options, done in (({"up": 5}, {INWARD}), ({"down": 5}, {OUTWARD}), ({"up": 5, "down": 5}, set())):
            flow: Any = FakeFlow()
            Rate(**options).handler(None, flow)  # type: ignore[arg-type]
            self.assertEqual(flow.finished, done)

    def test_directionsApart(self) -> None:
        """
        Each direction has an allowance of its own.
        """
        flow: Any = FakeFlow()
        handler = Rate(up=10, down=20).handler(None, flow)  # type: ignore[arg-type]
        self.assertEqual(handler.received(OUTWARD, b"o" * 30), b"o" * 10)
        self.assertEqual(handler.received(INWARD, b"i" * 30), b"i" * 20)
        flow.clock.pump([0.1] * 6)
        self.assertEqual(b"".join(data for _, data in flow.released[INWARD]), b"i" * 10)
        self.assertEqual(flow.paused, {OUTWARD})

    def test_ended(self) -> None:
        """
        What is held when a direction is ended all the same goes on before the end.
        """
        source = Source(OUTWARD, [1500], up=1000)
        source.until(0.2)
        source.handler.ended(OUTWARD, "truncated")
        self.assertEqual(b"".join(data for _, data in source.passed), source.given)
        source.handler.ended(OUTWARD, "ended")
        source.handler.closed("closed")

    @given(
        chunks=st.lists(st.integers(1, 3000) | st.integers(1, 30), max_size=8),
        rate=st.integers(100, 100000),
        burst=st.integers(0, 5000),
        start=st.floats(0, 1e9),
        pauses=st.lists(st.floats(0, 3), max_size=8),
    )
    @example(chunks=[29, 10, 1, 29, 24], rate=363, burst=1, start=138662496.2919112, pauses=[])
    def test_anything(self, chunks: list[int], rate: int, burst: int, start: float, pauses: list[float]) -> None:
        """
        Whatever the rate, the burst, the chunks and the clock, all bytes pass in their order, and between any two
        times no more than the rate and one burst.
        """
        source = Source(OUTWARD, [], up=rate, burst=burst)
        source.until(start)
        for number, size in enumerate(chunks):
            source.left.append((_PATTERN * 12)[number : number + size])
            source.give(OUTWARD)
            if number < len(pauses):
                source.until(source.flow.clock.seconds() + pauses[number])
        source.until(source.flow.clock.seconds() + sum(chunks) / rate + 1)
        self.assertEqual(b"".join(data for _, data in source.passed), source.given)
        self.assertEqual(len(source.given), sum(chunks))
        count = 0
        least = 0.0
        for when, data in source.passed:
            # How far the bytes are before the rate: nowhere by more than a burst over where they were least so.
            least = min(least, count - (when - start) * rate)
            count += len(data)
            self.assertLessEqual(count - (when - start) * rate - least, (burst or rate) + 0.01 + start * 1e-15 * rate)


class OptionsTests(SynchronousTestCase):
    """
    What can be wrong with the options.
    """

    def test_wrong(self) -> None:
        """
        What cannot be a limit is told in a sentence.
        """
        for options, sentence in (
            ({}, "there is nothing to limit: give up or down, in bytes a second"),
            ({"burst": 5}, "there is nothing to limit: give up or down, in bytes a second"),
            ({"up": -1}, "up: -1 is no number of bytes: give 0 or more"),
            ({"up": 1, "burst": -1}, "burst: -1 is no number of bytes: give 0 or more"),
            ({"up": 10**400}, "up: no network is that fast: give at most 1000000000000000, or 0 for no limit"),
            (
                {"up": 1, "down": 10**15 + 1},
                "down: no network is that fast: give at most 1000000000000000, or 0 for no limit",
            ),
            (
                {"up": 1, "burst": 10**5000},
                "burst: no network is that fast: give at most 1000000000000000, or 0 for no limit",
            ),
        ):
            problem = self.assertRaises(ValueError, Rate, **options)
            self.assertEqual(str(problem), sentence)

    def test_most(self) -> None:
        """
        The greatest limits can be counted with.
        """
        source = Source(OUTWARD, [5000] * 5, up=10**15, burst=10**15)
        source.until(1e9)
        source.left = [bytes(5000)]
        source.give(OUTWARD)
        self.assertEqual(source.count, 30000)

    def test_name(self) -> None:
        """
        It is called as in configurations.
        """
        self.assertEqual(Rate(up=1).name, "rate")
