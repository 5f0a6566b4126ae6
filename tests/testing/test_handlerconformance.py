# -*- test-case-name: tests.testing.test_handlerconformance -*-
"""
L{tlsproxy.testing.handlerconformance}: sessions with handlers of several kinds keep the promises.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from tests.testing.shouting import Count, Fail, Hoard, Keep, Leave, Watch
from tlsproxy.handler import HandlerOptions
from tlsproxy.testing.handlerconformance import HandlerConformance, Streams, pairings


class WatchConformance(HandlerConformance):
    """
    Handlers that look, two of them.
    """

    handlers = (Watch(), Watch())


class LeaveConformance(HandlerConformance):
    """
    A handler that is done when it has seen some bytes.
    """

    handlers = (Leave(after=100),)


class KeepConformance(HandlerConformance):
    """
    A handler that keeps what comes, and gives it back in the next turn.
    """

    handlers = (Keep(), Watch())


globals().update(pairings(__name__, Streams, WatchConformance, prefix="Watch"))
globals().update(pairings(__name__, Streams, LeaveConformance, prefix="Leave"))
globals().update(pairings(__name__, Streams, KeepConformance, prefix="Keep"))


class FindingTests(SynchronousTestCase):
    """
    What the suite finds.
    """

    def found(self, *handlers: HandlerOptions) -> set[str]:
        """
        Run some tests.

        @return: The names of those that failed.
        """
        suite = type("Suite", (HandlerConformance,), {"handlers": handlers})
        case: Any = pairings(__name__, Streams, suite)["TLSv13ToTLSv13Tests"]
        failed = set()
        for name in ("test_twoWay", "test_halfClose", "test_truncation", "test_byteAtATime", "test_endBoth"):
            result = TestResult()
            case(name).run(result)
            if not result.wasSuccessful():
                failed.add(name)
        return failed

    def test_good(self) -> None:
        """
        Nothing, where the bytes pass unchanged.
        """
        self.assertEqual(set(), self.found(Watch()))

    def test_changes(self) -> None:
        """
        Bytes that were changed.
        """
        self.assertEqual({"test_twoWay", "test_byteAtATime"}, self.found(Count()) & {"test_twoWay", "test_byteAtATime"})

    def test_keeps(self) -> None:
        """
        Bytes that were kept for too long.
        """
        self.assertIn("test_twoWay", self.found(Hoard()))

    def test_failing(self) -> None:
        """
        A handler that fails.
        """
        self.assertIn("test_twoWay", self.found(Fail()))
        self.flushLoggedErrors(ZeroDivisionError)
