# -*- test-case-name: tests.test_service -*-
"""
Routes up, routes down, without a network: the reactor is one in memory, and addresses are endpoints.
"""

from __future__ import annotations

from typing import Any

from attrs import field, mutable
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.test_route import Pattern
from tlsproxy.address import CannotListen
from tlsproxy.route import Route
from tlsproxy.service import ProxyService


@implementer(IListeningPort)
@mutable(eq=False)
class Port:
    """
    A port in memory.

    @ivar open: Whether it listens.
    @ivar stopping: What its end waits for.
    @ivar host: Its address, if that is not on loopback.
    """

    number: int
    stopping: Deferred[None] | None = None
    open: bool = True
    host: IAddress | None = None

    def startListening(self) -> None:
        """
        It has done so.
        """

    def stopListening(self) -> Deferred[None] | None:
        """
        End.
        """
        self.open = False
        return self.stopping

    def getHost(self) -> IAddress:
        """
        Its address.
        """
        return self.host or IPv4Address("TCP", "127.0.0.1", self.number)


@implementer(IStreamServerEndpoint)
@mutable(eq=False)
class Place:
    """
    An endpoint in memory.

    @ivar answer: What comes of listening: a port, an error, or a Deferred of either.
    @ivar factory: What was listened with.
    """

    answer: Any
    factory: Any = field(default=None)

    def listen(self, factory: Any) -> Deferred[Any]:
        """
        Listen.
        """
        self.factory = factory
        if isinstance(self.answer, Deferred):
            return self.answer
        if isinstance(self.answer, Exception):
            raise self.answer
        return succeed(self.answer)


class Stopped:
    """
    A session that notes that it was stopped.
    """

    stopped = False

    def stop(self) -> None:
        """
        Note it.
        """
        self.stopped = True


class Broken:
    """
    A session that cannot be stopped.
    """

    def __init__(self, route: Route) -> None:
        self.route = route

    def stop(self) -> None:
        """
        Fail.
        """
        raise RuntimeError("it does not stop")


class ProxyServiceTests(SynchronousTestCase):
    """
    The service of some routes.
    """

    def service(self, *answers: Any, logged: bool = True) -> ProxyService:
        """
        Make a service with a route for each answer.
        """
        self.places = [Place(answer) for answer in answers]
        routes = [
            Route(name=f"route{number}", listen=place, pattern=Pattern()) for number, place in enumerate(self.places)
        ]
        return ProxyService(routes, MemoryReactorClock(), logged)

    def refused(self) -> CannotListenError:
        """
        What Twisted raises for an address that is taken.
        """
        return CannotListenError("127.0.0.1", 1, OSError(98, "Address already in use"))

    def test_privileged(self) -> None:
        """
        All routes listen before rights are dropped, once, each with its own factory.
        """
        one, two = Port(1), Port(2)
        service = self.service(one, two)
        service.privilegedStartService()
        self.assertEqual([one, two], service.ports)
        self.assertEqual(service.factories, [place.factory.factory for place in self.places])
        service.startService()
        self.assertEqual([one, two], service.ports)
        self.assertTrue(service.running)

    def test_unprivileged(self) -> None:
        """
        A runner that only starts services has the routes listen as well.
        """
        service = self.service(Port(1))
        service.startService()
        self.assertEqual(1, len(service.ports))

    def test_refused(self) -> None:
        """
        If one address is taken, nothing is left listening, and the error is a sentence.
        """
        first = Port(1)
        for start in ("privilegedStartService", "startService"):
            service = self.service(first, self.refused(), Port(3))
            problem = self.assertRaises(CannotListen, getattr(service, start))
            self.assertIn("Address already in use", str(problem))
            self.assertEqual((False, [], None), (first.open, service.ports, self.places[2].factory))
            self.assertFalse(service.running)

    def test_tooLate(self) -> None:
        """
        An endpoint that takes its time is refused, as a service has to listen at once; its work is cancelled.
        """
        cancelled: list[object] = []
        service = self.service(Port(1), Deferred(cancelled.append))
        problem = self.assertRaises(CannotListen, service.privilegedStartService)
        self.assertIn("at once", str(problem))
        self.assertEqual((1, []), (len(cancelled), service.ports))

    def test_stop(self) -> None:
        """
        A stopped service listens no more when its Deferred fires, and its sessions are told to stop.
        """
        slow = Port(1, Deferred())
        fast = Port(2)
        service = self.service(slow, fast)
        service.startService()
        session: Any = Stopped()
        service.factories[1].sessions.add(session)
        stopping = service.stopService()
        self.assertNoResult(stopping)
        assert slow.stopping is not None
        slow.stopping.callback(None)
        self.successResultOf(stopping)
        self.assertEqual(
            (False, False, True, False, []), (slow.open, fast.open, session.stopped, service.running, service.ports)
        )

    def test_stopGetsPast(self) -> None:
        """
        A session that fails when it is stopped is told in the log, and keeps neither the others nor the ports open.
        """
        port = Port(1)
        service = self.service(port)
        service.startService()
        (factory,) = service.factories
        every: list[Any] = [Stopped(), Broken(factory.route), Stopped()]
        factory.sessions.update(every)
        self.successResultOf(service.stopService())
        self.assertEqual((False, True, True), (port.open, every[0].stopped, every[2].stopped))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_stopBeforeStart(self) -> None:
        """
        A service that never started can be stopped.
        """
        self.successResultOf(self.service(Port(1)).stopService())

    def test_again(self) -> None:
        """
        A stopped service can be started again.
        """
        service = self.service(Port(1))
        service.startService()
        self.successResultOf(service.stopService())
        service.startService()
        self.assertEqual(1, len(service.ports))

    def test_listeners(self) -> None:
        """
        Every route knows what all of them listen on, on IP, as long as they do.
        """
        sixth = Port(2, host=IPv6Address("TCP", "::", 8443))
        service = self.service(Port(1), sixth, Port(3, host=UNIXAddress("/run/x")))
        first, _, last = service.factories
        self.assertEqual([], list(first.listeners))
        service.privilegedStartService()
        for _ in range(2):
            service.startService()
            self.assertEqual([("127.0.0.1", 1), ("::", 8443)], list(first.listeners))
            self.assertIs(first.listeners, last.listeners)
            self.successResultOf(service.stopService())
            self.assertEqual([], list(first.listeners))

    def test_listenersOfNone(self) -> None:
        """
        A service that could not listen on all leaves none.
        """
        service = self.service(Port(1), self.refused())
        self.assertRaises(CannotListen, service.startService)
        self.assertEqual([], list(service.factories[0].listeners))

    def test_log(self) -> None:
        """
        What is listened on is logged, unless nothing is to be.
        """
        events = EventLoggingObserver()
        globalLogPublisher.addObserver(events)
        self.addCleanup(globalLogPublisher.removeObserver, events)
        self.service(Port(8443), logged=False).startService()
        self.service(Port(8443)).startService()
        (event,) = (event for event in events if event["log_namespace"] == "tlsproxy.service")
        self.assertEqual(("route0", "127.0.0.1:8443"), (event["route"], event["where"]))
