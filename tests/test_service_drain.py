# -*- test-case-name: tests.test_service_drain -*-
"""
L{tlsproxy.service}: it stops accepting, and waits for what is still open.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.test_service import Place, Port
from tests.test_service_reload import Visit, route
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.service import ProxyService


class Open(Visit):
    """
    A session that ends when it is stopped.
    """

    def __init__(self, service: ProxyService) -> None:
        super().__init__(service.factories[0])
        self.route = service.routes[0]

    def stop(self) -> None:
        """
        Be cut.
        """
        self.end("stopped")


@implementer(ISessionObserver)
class Notes:
    """
    What an observer saw.
    """

    def __init__(self) -> None:
        self.seen: list[object] = []

    def started(self, session: object) -> None:
        """
        Note it.
        """
        self.seen.append(session)

    def entered(self, session: object, phase: str) -> None:
        """
        Note it.
        """
        self.seen.append(phase)

    def ended(self, session: object, outcome: str, reason: str) -> None:
        """
        Note it.
        """
        self.seen.append(outcome)


class Stuck(Open):
    """
    A session that cannot be stopped.
    """

    def stop(self) -> None:
        """
        Fail.
        """
        raise RuntimeError("it does not stop")


class DrainTests(SynchronousTestCase):
    """
    A service ends gently.
    """

    def serve(self, port: Port, **more: Any) -> Any:
        """
        Start a service.
        """
        self.clock = MemoryReactorClock()
        service = ProxyService([route("shop", Place(port))], self.clock, **more)
        service.startService()
        return service

    def test_nobody(self) -> None:
        """
        Where nothing is open, it is over when the ports are closed.
        """
        port = Port(1, Deferred())
        service = self.serve(port)
        draining = service.drain(30)
        self.assertEqual((False, False, []), (port.open, service.running, service.ports))
        self.assertNoResult(draining)
        assert port.stopping is not None
        port.stopping.callback(None)
        self.assertEqual((0, []), (self.successResultOf(draining), self.clock.getDelayedCalls()))

    def test_byThemselves(self) -> None:
        """
        It waits for every session that is open, those of a route that is gone included, and for no other.
        """
        service = self.serve(Port(1))
        gone = Open(service)
        self.successResultOf(service.reload([route("blog", Place(Port(2)))]))
        visits = [gone, Open(service)]
        draining = service.drain()
        later = Open(service)
        for visit in visits:
            self.assertNoResult(draining)
            visit.end()
        self.assertEqual((0, [later]), (self.successResultOf(draining), service.sessions))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_cut(self) -> None:
        """
        What is open after so many seconds is cut, and counted.
        """
        service = self.serve(Port(1))
        one, _, _ = Open(service), Open(service), Open(service)
        draining = service.drain(30)
        self.clock.advance(29)
        one.end()
        self.assertNoResult(draining)
        self.clock.advance(1)
        self.assertEqual((2, []), (self.successResultOf(draining), service.sessions))

    def test_stop(self) -> None:
        """
        To stop the service meanwhile cuts what is left, and ends the wait.
        """
        service = self.serve(Port(1))
        Open(service)
        draining = service.drain(30)
        self.successResultOf(service.stopService())
        self.assertEqual((1, []), (self.successResultOf(draining), self.clock.getDelayedCalls()))

    def test_stuck(self) -> None:
        """
        A session that fails when it is cut keeps no other from being cut, nor the wait from its end.
        """
        service = self.serve(Port(1))
        _, _, _ = Open(service), Stuck(service), Open(service)
        draining = service.drain(30)
        self.clock.advance(30)
        self.assertEqual((3, 1), (self.successResultOf(draining), len(service.sessions)))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_cancelAtOnce(self) -> None:
        """
        A wait that is cancelled in the turn in which it begins lets the ports close all the same.
        """
        cancelled: list[object] = []
        for begin in (ProxyService.drain, ProxyService.stopService):
            service = self.serve(Port(1, Deferred(cancelled.append)))
            waiting: Deferred[Any] = begin(service)
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.assertEqual([], cancelled)

    def test_cancel(self) -> None:
        """
        Who waits no longer has cut nothing.
        """
        service = self.serve(Port(1))
        visit = Open(service)
        draining = service.drain(30)
        draining.cancel()
        self.failureResultOf(draining, CancelledError)
        self.assertEqual(([visit], []), (service.sessions, self.clock.getDelayedCalls()))
        visit.end()

    def test_again(self) -> None:
        """
        A service that was drained can be started again, and drained twice at once.
        """
        service = self.serve(Port(1))
        visit = Open(service)
        first, second = service.drain(), service.drain(5)
        visit.end()
        self.assertEqual([0, 0], [self.successResultOf(first), self.successResultOf(second)])
        service.startService()
        self.assertEqual((True, 1), (service.running, len(service.ports)))

    def test_never(self) -> None:
        """
        A service that never started has nothing to wait for.
        """
        service = ProxyService([route("shop", Place(Port(1)))], MemoryReactorClock())
        self.assertEqual(0, self.successResultOf(service.drain()))

    def test_observers(self) -> None:
        """
        The observers of the service see the sessions of all its routes, later ones included.
        """
        notes = Notes()
        service = self.serve(Port(1), observers=[notes])
        self.successResultOf(service.reload([route("blog", Place(Port(2)))]))
        Open(service).end()
        self.assertEqual(["closed"], notes.seen)
