# -*- test-case-name: tests.test_draining -*-
"""
L{tlsproxy.draining}: waiting for sessions to be over.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.trial.unittest import SynchronousTestCase

from tests.test_service_reload import Visit
from tlsproxy.draining import Draining, stopSession


@define
class Named:
    """
    What a message needs of a route.
    """

    name: str = "shop"


class Stuck:
    """
    A session that cannot be stopped.
    """

    route = Named()

    def stop(self) -> None:
        """
        Fail.
        """
        raise RuntimeError("it is stuck")


class Keeping:
    """
    As much of a factory as a visit needs.
    """

    observers = ()

    def __init__(self) -> None:
        self.sessions: set[object] = set()


class DrainingTests(SynchronousTestCase):
    """
    Some sessions.
    """

    def visits(self, count: int) -> list[Any]:
        """
        Make some.
        """
        return [Visit(Keeping()) for _ in range(count)]

    def test_nobody(self) -> None:
        """
        Without any it is over at once.
        """
        self.assertEqual(0, self.successResultOf(Draining([]).over))

    def test_over(self) -> None:
        """
        It is over with the last of them, whoever else ends, and counts those that were stopped.
        """
        one, two, other = self.visits(3)
        draining = Draining([one, two])
        draining.ended(other, "stopped")
        draining.ended(one, "closed")
        self.assertNoResult(draining.over)
        draining.ended(two, "stopped")
        draining.ended(two, "stopped")
        self.assertEqual(1, self.successResultOf(draining.over))

    def test_cut(self) -> None:
        """
        To cut stops all that are left; those that cannot be stopped are not waited for.
        """
        one, two = self.visits(2)
        stuck: Any = Stuck()
        draining = Draining([one, two, stuck])
        draining.ended(one, "closed")
        draining.cut()
        self.assertEqual((False, True), (hasattr(one, "stopped"), two.stopped))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertNoResult(draining.over)
        draining.ended(two, "stopped")
        self.assertEqual(2, self.successResultOf(draining.over))

    def test_stopSession(self) -> None:
        """
        Whether a session could be stopped is told.
        """
        (one,) = self.visits(1)
        stuck: Any = Stuck()
        self.assertEqual((True, False), (stopSession(one), stopSession(stuck)))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
