# -*- test-case-name: tests.testing.test_conformance -*-
"""
L{tlsproxy.testing.conformance}: the promises hold, and what breaks one is found.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.direction import Direction
from tlsproxy.relay import Relay
from tlsproxy.testing.conformance import PairingConformance, pairings
from tlsproxy.testing.streams import Streams

CASES: dict[str, Any] = pairings(__name__, Streams, PairingConformance)
FROM_TLS = "TLSv13ToPlainTests"
BOTH_TLS = "TLSv13ToTLSv13Tests"


def run(case: str, name: str) -> bool:
    """
    Run one test.

    @param case: The name of its class.
    @return: Whether it passed.
    """
    result = TestResult()
    CASES[case](name).run(result)
    return bool(result.wasSuccessful())


class ConformanceTests(SynchronousTestCase):
    """
    What the suite finds.
    """

    def test_kept(self) -> None:
        """
        The promises are kept.
        """
        for name in ("test_halfClose", "test_truncation", "test_bulkBothWays"):
            self.assertTrue(run(FROM_TLS, name), name)

    def test_endLost(self) -> None:
        """
        An end that is not passed on is found.
        """
        self.patch(Direction, "passEnd", lambda direction: None)
        self.assertFalse(run(FROM_TLS, "test_halfClose"))

    def test_laundered(self) -> None:
        """
        Truncation that is passed off as an end is found.
        """
        passEnd = Direction.passEnd

        def launder(direction: Direction) -> None:
            direction.ended = 3
            passEnd(direction)

        self.patch(Direction, "passEnd", launder)
        self.assertFalse(run(BOTH_TLS, "test_truncation"))

    def test_resetLost(self) -> None:
        """
        A reset that does not go on is found.
        """
        ended = Relay.ended

        def gentle(relay: Relay, direction: Direction) -> None:
            direction.ended = 3
            ended(relay, direction)

        self.patch(Relay, "ended", gentle)
        self.assertFalse(run("PlainToTLSv13Tests", "test_reset"))
