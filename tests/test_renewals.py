# -*- test-case-name: tests.test_renewals -*-
"""
L{tlsproxy.renewals}: the service that looks after the enrollments of routes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.enrolling.enrolled import EnrolledCase, mappingOf
from tests.mappingsigning import facts, signed
from tests.test_route import Pattern
from tlsproxy import renewals
from tlsproxy.address import TCP
from tlsproxy.enrolling.folder import Enrolled, Folder
from tlsproxy.mapping import Mapping
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.renewals import Renewals, checkWhole
from tlsproxy.route import Route
from tlsproxy.signedmapping import MappingProblem
from tlsproxy.upstreamproxy import UpstreamProxy


class Alarm:
    """
    Calls nothing, and tells whether it would.
    """

    def __init__(self, reactor: Any, call: Callable[[], object]) -> None:
        self.call = call
        self.on = False

    def start(self) -> None:
        """
        Be on.
        """
        self.on = True

    def stop(self) -> None:
        """
        Be off.
        """
        self.on = False


class Kept:
    """
    What looks after a folder, and only notes that it should.
    """

    def __init__(self, folder: Folder, reactor: object, fetch: object, **how: Any) -> None:
        self.name = folder.path.name
        self.how = how
        self.done: list[str] = []

    def start(self) -> None:
        """
        Note it.
        """
        self.done.append("start")

    def stop(self) -> None:
        """
        Note it.
        """
        self.done.append("stop")

    def look(self) -> None:
        """
        Note it.
        """
        self.done.append("look")

    def refresh(self) -> None:
        """
        Note it.
        """
        self.done.append("refresh")

    def tell(self) -> dict[str, Any]:
        """
        Tell little.
        """
        return {"name": self.name}


class RenewalsTests(EnrolledCase):
    """
    Which folders are looked after.
    """

    def setUp(self) -> None:
        """
        Have nothing really done.
        """
        super().setUp()
        self.kept: list[Kept] = []
        self.alarms: list[Alarm] = []
        self.reloads: list[str] = []

        def make(*given: Any, **how: Any) -> Kept:
            self.kept.append(Kept(*given, **how))
            return self.kept[-1]

        self.patch(renewals, "Renewal", make)

    def alarm(self, reactor: Any, call: Callable[[], object]) -> Alarm:
        """
        Make an alarm.
        """
        self.alarms.append(Alarm(reactor, call))
        return self.alarms[-1]

    def route(self, name: str, folder: str, proxy: UpstreamProxy | None = None) -> Route:
        """
        Make a route.

        @param folder: Its folder; C{""} for none.
        """
        kept = Enrolled.read(self.folder)
        enrolled = Enrolled(Folder(self.path / folder), kept.certificate, kept.trust, kept.url) if folder else None
        pattern = SequentialClient(mapping=Mapping(entries=()), enrolled=enrolled, upstreamProxy=proxy)
        return Route(name=name, pattern=pattern)

    def service(self, *routes: Route, level: Any = LogLevel.info) -> Renewals:
        """
        Make the service.
        """
        return Renewals(self.clock, routes, lambda: self.reloads.append("reload"), level, self.alarm)

    def done(self) -> dict[str, list[str]]:
        """
        Take what was done with each folder.
        """
        done = {one.name: one.done for one in self.kept if one.done}
        for one in self.kept:
            one.done = []
        return done

    def test_routes(self) -> None:
        """
        Each folder is looked after once, whatever routes go by it, and no others; each way to get there is a way of its
        own.
        """
        others = Route(name="other", pattern=Pattern())
        proxy = UpstreamProxy(scheme="http", address=TCP("192.0.2.1", 1))
        service = self.service(
            self.route("a", "one"), self.route("b", "one"), self.route("c", ""), self.route("d", "one", proxy), others
        )
        self.assertEqual(["one", "one"], [one.name for one in self.kept])
        self.assertEqual([{"route": "a", "name": "one"}, {"route": "d", "name": "one"}], service.tell())
        self.assertEqual({}, self.done())
        service.startService()
        self.assertEqual({"one": ["refresh", "start"]}, self.done())
        service.stopService()
        self.assertEqual({"one": ["stop"]}, self.done())

    def test_follows(self) -> None:
        """
        After a reload, those that stay are looked at, those that are new are begun with, and those that are gone are
        left alone.
        """
        service = self.service(self.route("a", "one"), self.route("b", "two"))
        service.startService()
        self.done()
        service.follow([self.route("b", "two"), self.route("c", "three")])
        expected = {"one": ["stop"], "two": ["start", "look"], "three": ["start", "look"]}
        self.assertEqual(expected, self.done())
        service.refresh()
        self.assertEqual({"two": ["refresh"], "three": ["refresh"]}, self.done())
        service.stopService()
        service.follow([self.route("a", "one")])
        self.assertEqual({"two": ["stop", "stop"], "three": ["stop", "stop"]}, self.done())

    def test_alarm(self) -> None:
        """
        What calls from outside is there while there is something to call.
        """
        service = self.service()
        service.startService()
        self.assertEqual([], self.alarms)
        service.follow([self.route("a", "one")])
        service.follow([self.route("a", "one")])
        self.assertEqual([True], [one.on for one in self.alarms])
        self.done()
        self.alarms[0].call()
        self.assertEqual({"one": ["look"]}, self.done())
        service.follow([])
        self.assertEqual([False], [one.on for one in self.alarms])
        service.follow([self.route("a", "one")])
        service.stopService()
        self.assertEqual([False, False], [one.on for one in self.alarms])

    def test_told(self) -> None:
        """
        Changes have the routes read again, and what is below the level of the log is not logged.
        """
        events = EventLoggingObserver()
        globalLogPublisher.addObserver(events)
        self.addCleanup(globalLogPublisher.removeObserver, events)
        self.service(self.route("a", "one"), level=LogLevel.warn)
        how = self.kept[0].how
        how["changed"]()
        self.assertEqual(["reload"], self.reloads)
        how["say"](LogLevel.info, "{what} is so", what="all")
        how["say"](LogLevel.error, "{what} is bad", what="all")
        told = [(event["log_namespace"], formatEvent(event)) for event in events]
        self.assertEqual([("tlsproxy.renewals", "all is bad")], told)
        self.assertEqual((0.0, True), (how["jitter"]() // 1, how["now"]().tzinfo is not None))
        self.assertGreater(how["seconds"](), 0)


class CheckTests(SynchronousTestCase):
    """
    Mappings that are good, but for what they say.
    """

    def test_whole(self) -> None:
        """
        What cannot be done is told before it is taken.
        """
        checkWhole(mappingOf(1))
        problem = self.assertRaises(MappingProblem, checkWhole, signed(facts(), body="[[map]]\nhosts = 5\n"))
        self.assertIn("hosts: give", str(problem))
        self.assertTrue(str(problem).isprintable())


class AlarmTests(SynchronousTestCase):
    """
    The thread that calls.
    """

    def test_calls(self) -> None:
        """
        It calls by way of the reactor, until it is stopped.
        """
        self.patch(renewals, "_EVERY", 0.001)
        called = threading.Event()

        class Reactor:
            def callFromThread(self, call: Callable[[], object]) -> None:
                call()

        alarm = renewals._Alarm(Reactor(), called.set)
        self.assertTrue(alarm.daemon)
        alarm.start()
        self.assertTrue(called.wait(10))
        alarm.stop()
        alarm.join(10)
        self.assertFalse(alarm.is_alive())
