# -*- test-case-name: tests.test_gate -*-
"""
L{tlsproxy.gate}
"""

from __future__ import annotations

import errno
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.test_accepting import Port
from tests.test_route import Pattern
from tests.test_service import Place
from tests.test_service import Port as Other
from tlsproxy import gate
from tlsproxy.accepting import PAUSE, Accepting
from tlsproxy.entrance import Entrance
from tlsproxy.gate import Rarely
from tlsproxy.route import Route
from tlsproxy.service import ProxyService


class RarelyTests(SynchronousTestCase):
    """
    What happens again and again.
    """

    def test_due(self) -> None:
        """
        Each thing is said the first time, and then every ten seconds at most.
        """
        clock = Clock()
        rarely = Rarely(clock)
        self.assertEqual([True, False, True], [rarely.due(what) for what in ("x", "x", "y")])
        clock.advance(9.9)
        self.assertFalse(rarely.due("x"))
        clock.advance(0.1)
        self.assertTrue(rarely.due("x"))


class GateTests(SynchronousTestCase):
    """
    A service whose ports are held.
    """

    def setUp(self) -> None:
        """
        Watch the log, and have ports in memory be borrowed.
        """
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.patch(Accepting, "takes", staticmethod(lambda port: isinstance(port, Listening)))
        self.allowed = self.left = 1_000_000
        self.looked: list[int] = []
        self.patch(gate, "allowed", lambda: self.allowed)
        self.patch(gate, "left", self.look)
        self.clock = Clock()

    def look(self, most: int) -> int:
        """
        Tell how many descriptors are left.
        """
        self.looked.append(most)
        return min(most, self.left)

    def serve(self, most: int = 0, **routes: int) -> ProxyService:
        """
        Run a service.

        @param most: How many sessions it may have.
        @param routes: How many each route may have.
        """
        self.ports = {name: Listening() for name in routes}
        self.routes = [
            Route(name=name, listen=Place(self.ports[name]), pattern=Pattern(), maxConnections=each)
            for name, each in routes.items()
        ]
        service = ProxyService(self.routes, self.clock, False, maxConnections=most)
        for factory in service.factories:
            factory.buildProtocol = take(factory)  # type: ignore[method-assign]
            factory._direct = True
        service.startService()
        for port, place in zip(self.ports.values(), self.routes, strict=True):
            where: Any = place.listen
            port.factory = where.factory
        return service

    def come(self, name: str, count: int) -> None:
        """
        Have clients come.
        """
        port = self.ports[name]
        port.socket.waiting += [("192.0.2.1", 1)] * count
        self.turn()

    def turn(self) -> None:
        """
        Let the reactor turn.
        """
        for _ in range(20):
            for port in self.ports.values():
                port.turn()

    def end(self, service: ProxyService, number: int, count: int = 1) -> None:
        """
        Have sessions of a route end.
        """
        factory = service.factories[number]
        for _ in range(count):
            session: Any = factory.sessions.pop()
            service._ended(session, "closed")
        self.turn()

    def counts(self, service: ProxyService) -> list[int]:
        """
        How many sessions each route has.
        """
        return [len(factory.sessions) for factory in service.factories]

    def told(self) -> list[str]:
        """
        What was logged, all of it as warnings.
        """
        self.assertEqual({LogLevel.warn}, {event["log_level"] for event in self.events} or {LogLevel.warn})
        texts = [str(formatEvent(event)) for event in self.events]
        del self.events._events[:]
        return texts

    def test_none(self) -> None:
        """
        Where nothing limits them, all are let in.
        """
        service = self.serve(shop=0, blog=0)
        self.come("shop", 500)
        self.assertEqual([500, 0], self.counts(service))
        self.assertEqual(([], 0, {}), (self.told(), service.gate.paused, dict(service.gate.reached)))

    def test_route(self) -> None:
        """
        A route has as many sessions as it may; each that ends lets one in; other routes are not concerned.
        """
        service = self.serve(shop=3, blog=0)
        self.come("shop", 10)
        self.come("blog", 10)
        self.assertEqual(([3, 10], 1), (self.counts(service), service.gate.paused))
        self.end(service, 0, 2)
        self.assertEqual([3, 10], self.counts(service))
        self.assertEqual(5, len(self.ports["shop"].socket.waiting))
        self.assertEqual({"max_connections": 2}, dict(service.factories[0].reached))
        self.assertEqual(
            [
                "route shop: 3 sessions are open, as many as max_connections allows; further clients wait until one "
                "ends (reached 1 times so far)"
            ],
            self.told(),
        )
        self.clock.advance(60)
        self.end(service, 0)
        (told,) = self.told()
        self.assertIn("(reached 3 times so far)", told)
        for _ in range(7):
            self.end(service, 0)
        self.assertEqual(([0, 10], 0), (self.counts(service), service.gate.paused))

    def test_all(self) -> None:
        """
        All routes together have as many sessions as they may, and whichever ends lets anybody in.
        """
        service = self.serve(5, shop=3, blog=0)
        self.come("shop", 4)
        self.come("blog", 4)
        self.assertEqual([3, 2], self.counts(service))
        self.assertEqual({"max_connections": 1}, dict(service.gate.reached))
        self.end(service, 1)
        self.assertEqual([3, 2], self.counts(service))
        self.end(service, 0)
        self.assertEqual(5, sum(self.counts(service)))
        self.assertIn("all routes: 5 sessions are open", " ".join(self.told()))

    def test_limit(self) -> None:
        """
        Another limit of all routes together holds at once.
        """
        service = self.serve(2, shop=0)
        self.come("shop", 5)
        service.gate.limit(4)
        self.turn()
        self.assertEqual([4], self.counts(service))
        service.gate.limit(3)
        self.end(service, 0)
        self.assertEqual([3], self.counts(service))
        service.gate.limit(0)
        self.turn()
        self.assertEqual(([4], 0), (self.counts(service), service.gate.paused))

    def test_reload(self) -> None:
        """
        Sessions of the route that was replaced count, and another limit holds at once.
        """
        service = self.serve(shop=3)
        self.come("shop", 9)
        (before,) = service.factories
        (route,) = self.routes
        self.successResultOf(service.reload([evolve(route, maxConnections=5)]))
        (after,) = service.factories
        after.buildProtocol = take(after)  # type: ignore[method-assign]
        self.turn()
        self.assertEqual((3, 2), (len(before.sessions), len(after.sessions)))
        self.successResultOf(service.reload([evolve(route, maxConnections=4)]))
        service._ended(after.sessions.pop(), "closed")
        self.turn()
        self.assertEqual([0], self.counts(service))
        service._ended(after.sessions.pop(), "closed")
        (last,) = service.factories
        last.buildProtocol = take(last)  # type: ignore[method-assign]
        service._ended(before.sessions.pop(), "closed")
        self.turn()
        self.assertEqual((2, 2), (len(before.sessions), len(last.sessions)))

    def test_exhausted(self) -> None:
        """
        What the kernel cannot give is counted, and told every ten seconds at most, with what helps.
        """
        service = self.serve(shop=0)
        for _ in range(100):
            self.ports["shop"].socket.waiting = [errno.EMFILE]
            self.turn()
            self.ports["shop"].reactor.advance(PAUSE)
        self.assertEqual({"descriptors": 100}, dict(service.gate.reached))
        self.assertEqual(
            [
                "clients cannot be accepted (Too many open files), and wait for 0.2 s each time: raise the limit of "
                "open files (LimitNOFILE=, ulimit -n), or set a lower max_connections (happened 1 times so far)"
            ],
            self.told(),
        )
        self.clock.advance(10)
        self.ports["shop"].socket.waiting = [errno.ENOMEM]
        self.turn()
        self.assertEqual(
            [
                "clients cannot be accepted (Cannot allocate memory), and wait for 0.2 s each time (happened 101 times "
                "so far)"
            ],
            self.told(),
        )
        self.successResultOf(service.stopService())
        self.assertEqual([], self.ports["shop"].reactor.getDelayedCalls())

    def test_upstreams(self) -> None:
        """
        Where descriptors run out, none is taken by a client that an upstream will need.
        """
        service = self.serve(shop=0, blog=0)
        self.allowed, self.left = 48, 11
        # Each takes one at once, as the test tells, and another later.
        factory: Any = service.factories[0]
        make = factory.buildProtocol

        def taking(address: Any) -> Any:
            self.left -= 1
            return make(address)

        factory.buildProtocol = taking
        self.come("shop", 9)
        self.assertEqual(([5, 0], 6), (self.counts(service), self.left))
        self.assertEqual({"descriptors": 1}, dict(service.gate.reached))
        self.assertIn("clients cannot be accepted (Too many open files), and wait", self.told()[0])
        # One dials, and one leaves.
        one, other, *_ = service.factories[0].sessions
        dialed: Any = one
        dialed.far, self.left = object(), 5
        self.ports["shop"].reactor.advance(PAUSE)
        self.turn()
        self.assertEqual([5, 0], self.counts(service))
        service._ended(other, "closed")
        service.factories[0].sessions.discard(other)
        self.left += 1
        self.ports["shop"].reactor.advance(PAUSE)
        self.turn()
        self.assertEqual(([5, 0], 5), (self.counts(service), self.left))

    def test_pipes(self) -> None:
        """
        A session whose client comes by no plain socket takes two more.
        """
        service = self.serve(shop=0)
        (factory,) = service.factories
        factory._direct = False
        self.allowed, self.left = 48, 3
        self.come("shop", 2)
        self.assertEqual([0], self.counts(service))
        self.left = 4
        self.ports["shop"].reactor.advance(PAUSE)
        self.turn()
        self.assertEqual([1], self.counts(service))

    def test_ample(self) -> None:
        """
        Nobody looks while the sessions are few, and hardly anybody while many descriptors are left.
        """
        service = self.serve(shop=0)
        self.allowed = 1024
        self.come("shop", 96)
        self.assertEqual([], self.looked)
        self.assertEqual([96], self.counts(service))
        for _ in range(100):
            self.come("shop", 1)
        self.assertEqual([196], self.counts(service))
        self.assertLess(len(self.looked), 8)

    def test_modest(self) -> None:
        """
        Where few are left, no more are looked for than are needed: for that moment nobody else could have one.
        """
        service = self.serve(shop=0)
        self.allowed, self.left = 48, 40
        self.come("shop", 1)
        self.assertEqual(([130], [1]), (self.looked, self.counts(service)))
        for _ in range(3):
            self.come("shop", 1)
        self.assertEqual([130, 5, 6, 13], self.looked)
        self.assertEqual([4], self.counts(service))

    def test_otherPorts(self) -> None:
        """
        A port that cannot be paused has those turned away for whom there is no room.
        """
        place = Place(Other(1))
        service = ProxyService(
            [Route(name="shop", listen=place, pattern=Pattern(), maxConnections=1)], self.clock, False
        )
        (factory,) = service.factories
        factory.buildProtocol = take(factory)  # type: ignore[method-assign]
        service.startService()
        first = place.factory.buildProtocol(None)
        first.makeConnection(None)
        self.assertIsNone(place.factory.buildProtocol(None))
        self.assertEqual({"max_connections": 1}, dict(factory.reached))
        factory.sessions.clear()
        self.assertIsNotNone(place.factory.buildProtocol(None))

    def test_ownGate(self) -> None:
        """
        An entrance that belongs to no service holds its port by itself.
        """
        port = Listening()
        route = Route(name="shop", listen=Place(port), pattern=Pattern(), maxConnections=2)
        (factory,) = ProxyService([route], self.clock).factories
        entrance = Entrance(factory)
        factory.buildProtocol = take(factory)  # type: ignore[method-assign]
        place: Any = route.listen
        self.successResultOf(Deferred.fromCoroutine(entrance.open(self.clock)))
        port.factory = place.factory
        self.ports = {"shop": port}
        self.come("shop", 5)
        self.assertEqual(2, len(factory.sessions))
        factory.sessions.pop()
        entrance.rest()
        self.turn()
        self.assertEqual((2, 2), (len(factory.sessions), len(port.socket.waiting)))


class Listening(Port):
    """
    A port of a service.
    """

    factory: Any = None

    def getHost(self) -> object:
        """
        It has no address that matters.
        """
        return None

    def stopListening(self) -> None:
        """
        End.
        """
        self.disconnecting = True


class Session:
    """
    A session of a route: nothing but that it is there.
    """

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.route = factory.route
        self.far: Any = None

    def makeConnection(self, transport: Any) -> None:
        """
        Begin.
        """
        self.factory.sessions.add(self)

    def stop(self) -> None:
        """
        End.
        """
        self.factory.sessions.discard(self)


def take(factory: Any) -> Any:
    """
    Make a session of each connection of a route.
    """
    return lambda _: Session(factory)
