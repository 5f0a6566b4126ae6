# -*- test-case-name: tests.test_service_repeats -*-
"""
What a service has not told one by one is summed up before it is gone.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.test_repeats import Failed
from tests.test_service import Place, Port
from tests.test_service_reload import Visit, route
from tlsproxy.repeats import LINES, Repeated
from tlsproxy.service import ProxyService
from tlsproxy.sessionline import summed


class ServiceTests(SynchronousTestCase):
    """
    A service that stops, or changes, in the middle of a flood.
    """

    def setUp(self) -> None:
        """
        Serve, with some failures that had no line.
        """
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.clock = MemoryReactorClock()
        self.service = ProxyService([route("shop", Place(Port(1)))], self.clock)
        self.service.startService()
        self.flood(self.service.factories[0])

    def flood(self, factory: Any) -> None:
        """
        Let sessions fail.
        """
        for _ in range(LINES + 5):
            factory.repeats.hasLine(Failed(), "failed", "no")

    def summed(self) -> list[tuple[str, int]]:
        """
        What was summed up, for which route.
        """
        return [(event["route"], event["repeated"]) for event in self.events if "repeated" in event]

    def assertRested(self) -> None:
        """
        All is told, and told once, and when the service is stopped, no timer is left.
        """
        self.assertEqual([("shop", 5)], self.summed())
        self.service.stopService()
        self.assertEqual(([("shop", 5)], []), (self.summed(), self.clock.getDelayedCalls()))

    def test_stop(self) -> None:
        """
        It is summed up when the service stops.
        """
        self.service.stopService()
        self.assertRested()

    def test_drain(self) -> None:
        """
        So it is at the end of a drain.
        """
        self.successResultOf(self.service.drain())
        self.assertRested()

    def test_retired(self) -> None:
        """
        So it is when a route is gone, and with it its last session.
        """
        visits = [Visit(self.service.factories[0]), Visit(self.service.factories[0])]
        self.successResultOf(self.service.reload([route("blog", Place(Port(2)))]))
        visits.pop().end()
        self.assertEqual([], self.summed())
        visits.pop().end()
        self.assertRested()

    def test_gone(self) -> None:
        """
        So it is at once when a route without sessions is gone.
        """
        self.successResultOf(self.service.reload([]))
        self.assertRested()

    def test_lines(self) -> None:
        """
        The number of lines is the service's to choose.
        """
        service = ProxyService([route("blog", Place(Port(2)))], self.clock, lines=0)
        self.flood(service.factories[0])
        service.stopService()
        self.assertEqual([], self.summed())
        self.service.stopService()


class LineTests(SynchronousTestCase):
    """
    Tests for L{summed}.
    """

    def line(self, **more: Any) -> str:
        """
        Write a sum.
        """
        facts = {"outcome": "failed", "phase": "dial", "reason": "no", "count": 2, "seconds": 10.2, "addresses": 2}
        form, told = summed("my shop", Repeated(**{**facts, "more": False, **more}))
        return formatEvent({"log_format": form, **told})

    def test_words(self) -> None:
        """
        It reads as a sentence, and then as any line of a session.
        """
        self.assertEqual(
            '"my shop" the last failure repeated 2 times in 10 s, from 2 addresses: '
            'outcome=failed phase=dial reason="no"',
            self.line(),
        )
        self.assertIn("repeated once in 10 s, from 1 address: ", self.line(count=1, addresses=1))
        line = self.line(count=1_234_567, addresses=1000, more=True)
        self.assertIn("1,234,567 times in 10 s, from 1000 or more addresses", line)

    def test_hostile(self) -> None:
        """
        What strangers say cannot break it.
        """
        line = self.line(reason='x"\n[fake] \x1b[2J' + "y" * 1000)
        self.assertTrue(line.isprintable() and len(line) < 700)
        self.assertEqual(4, line.count('"'))
