# -*- test-case-name: tests.logs.test_noise -*-
"""
Tests for L{tlsproxy.logs.noise}: trouble that goes on does not flood the log.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

from twisted.logger import LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.logs.noise import Noise


class NoiseTests(SynchronousTestCase):
    """
    Tests for L{Noise}.
    """

    def setUp(self) -> None:
        """
        Make one.
        """
        self.now = 0.0
        self.noise = Noise(lambda: self.now)

    def hear(self, count: int = 1, **event: Any) -> int:
        """
        Let something be told.

        @return: How often it is.
        """
        event = {"log_namespace": "x", "log_level": LogLevel.error, "log_format": "no {what}", "what": "luck"} | event
        return sum(self.noise.heard(event) is not None for _ in range(count))

    def test_trouble(self) -> None:
        """
        The same trouble is told ten times, and then, when ten seconds are over, how often it was repeated.
        """
        self.assertEqual(10, self.hear(1000))
        self.assertEqual([], self.noise.due())
        self.now = 12
        (one,) = self.noise.due()
        self.assertEqual("the like of this was told 990 times more within 12 s: no luck", formatEvent(one))
        self.assertEqual((LogLevel.error, "x"), (one["log_level"], one["log_namespace"]))
        self.assertEqual((False, [], 1), (self.noise.pending, self.noise.due(), self.hear()))

    def test_failures(self) -> None:
        """
        Tracebacks are trouble at any level, and those of different errors differ.
        """
        for error in (ValueError(), KeyError()):
            self.assertEqual(10, self.hear(100, log_level=LogLevel.info, log_failure=Failure(error)))

    def test_letsGo(self) -> None:
        """
        What failed is not held on to, whenever the next sum may be.
        """

        class Failing(Exception):
            pass

        error = Failing()
        left = ref(error)
        self.hear(100, log_failure=Failure(error))
        del error
        gc.collect()
        self.assertIdentical(None, left())
        self.assertEqual(1, len(self.noise.due(now=True)))

    def test_other(self) -> None:
        """
        What is no trouble is always told.
        """
        self.assertEqual(1000, self.hear(1000, log_level=LogLevel.info))
        self.assertFalse(self.noise.pending)

    def test_manyKinds(self) -> None:
        """
        There is an end to the kinds that are told apart.
        """
        self.assertTrue(sum(self.hear(1, log_format=f"no {number}") for number in range(10_000)) <= 110)

    def test_legacy(self) -> None:
        """
        What programs of old tell has one format, whatever it says.
        """
        self.assertEqual(10, sum(self.hear(1, log_format="{log_text}", log_text=str(each)) for each in range(99)))

    def test_noDescriptors(self) -> None:
        """
        Of the four things that Twisted tells of each connection that finds no descriptor left, one is told, in a
        sentence that says what to do; and that not too often.
        """
        told = []
        for _ in range(100):
            for form in (
                "EMFILE encountered; releasing reserved file descriptor.",
                "EMFILE recovery: Closed socket from {address}",
                "Re-reserving EMFILE recovery file descriptor.",
            ):
                event = {"log_namespace": "twisted.internet.tcp.Port", "log_level": LogLevel.info, "log_format": form}
                told.append(self.noise.heard(event))
        events = [one for one in told if one is not None]
        self.assertEqual(10, len(events))
        self.assertIn("has no descriptors left", formatEvent(dict(events[0])))
        self.assertIn("LimitNOFILE", formatEvent(dict(events[0])))
        (one,) = self.noise.due(now=True)
        self.assertIn("told 90 times more", formatEvent(one))
