# -*- test-case-name: tests.test_service_reload -*-
"""
L{tlsproxy.service}: other routes take the place of those that there are.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, FirstError
from twisted.internet.error import CannotListenError
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.test_route import Pattern
from tests.test_service import Place, Port
from tlsproxy.address import CannotListen
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.route import Route
from tlsproxy.service import ProxyService


class Visit:
    """
    A session that ends when it is told to.
    """

    def __init__(self, factory: Any) -> None:
        self.keeper = factory
        factory.sessions.add(self)

    def end(self, outcome: str = "closed") -> None:
        """
        Be over.
        """
        self.keeper.sessions.discard(self)
        self.keeper.told(self, outcome)
        for observer in self.keeper.observers:
            observer.ended(self, outcome, "")

    def stop(self) -> None:
        """
        Be cut.
        """
        self.stopped = True


def route(name: str, place: Any) -> Route:
    """
    Make a route.
    """
    return Route(name=name, listen=place, pattern=Pattern())


class ReloadTests(SynchronousTestCase):
    """
    The routes of a service are changed.
    """

    def serve(self, *routes: Route, **more: Any) -> ProxyService:
        """
        Start a service.
        """
        service = ProxyService(routes, MemoryReactorClock(), **more)
        service.startService()
        return service

    def test_kept(self) -> None:
        """
        A route whose address stays keeps its port, which is neither closed nor listened on again, and has its clients
        go by the new route from then on; one that is the same object stays altogether.
        """
        shop, blog = route("shop", Place(Port(1))), route("blog", Place(Port(2)))
        service = self.serve(shop, blog)
        before, ports, entrance = service.factories, service.ports, shop.listen.factory  # type: ignore[union-attr]
        shop.listen.factory = None  # type: ignore[union-attr]
        change = route("shop", shop.listen)
        self.successResultOf(service.reload([change, blog]))
        self.assertIsNone(shop.listen.factory)  # type: ignore[union-attr]
        self.assertEqual((ports, [True, True]), (service.ports, [port.open for port in ports]))  # type: ignore[attr-defined]
        self.assertEqual([change, blog], service.routes)
        self.assertIs(service.factories[0], entrance.factory)
        self.assertIsNot(before[0], entrance.factory)
        self.assertIs(before[1], service.factories[1])

    def test_order(self) -> None:
        """
        Ports come in the order of the routes, however these are turned around, and each is found by its route's name.
        """
        shop, blog = route("shop", Place(Port(1))), route("blog", Place(Port(2)))
        service = self.serve(shop, blog)
        one, two = service.ports
        self.successResultOf(service.reload([blog, shop]))
        self.assertEqual(([two, one], [one], [two]), (service.ports, service.portsOf("shop"), service.portsOf("blog")))
        self.assertRaises(KeyError, service.portsOf, "wiki")

    def test_sameAddress(self) -> None:
        """
        Where several routes are written with the same address, as with ports that the kernel chooses, each name keeps
        its own port, and a new name takes what is left.
        """

        def routes(*names: str) -> list[Route]:
            return [Route(name=name, listen="127.0.0.1:0", pattern=Pattern()) for name in names]

        service = ProxyService(routes("shop", "blog"), MemoryReactorClock())
        ports: list[Any] = [Port(1), Port(2)]
        for entrance, port in zip(service._entrances, ports, strict=True):
            entrance.ports = [port]
        service._up = True
        self.successResultOf(service.reload(routes("blog", "wiki")))
        self.assertEqual(([ports[1]], [ports[0]]), (service.portsOf("blog"), service.portsOf("wiki")))

    def test_newBeforeOld(self) -> None:
        """
        What is new listens before what is gone is closed, and the Deferred waits for that.
        """
        old = Port(1, Deferred())
        service = self.serve(route("shop", Place(old)))
        seen: list[object] = []

        class Looking(Place):
            """
            Looks whether the other is still there.
            """

            def listen(self, factory: Any) -> Deferred[Any]:
                """
                Listen.
                """
                seen.append(old.open)
                return super().listen(factory)

        place = Looking(Port(2))
        reloading = service.reload([route("shop", place)])
        self.assertEqual(([True], False), (seen, old.open))
        self.assertNoResult(reloading)
        self.assertEqual([place.answer], service.ports)
        assert old.stopping is not None
        old.stopping.callback(None)
        self.successResultOf(reloading)

    def test_refused(self) -> None:
        """
        If one address cannot be listened on, it fails with the sentence, and all is as it was: what was opened is
        closed, nothing else is, and no route has changed.
        """
        old = Port(1)
        shop = route("shop", Place(old))
        service = self.serve(shop)
        (factory,), opened = service.factories, Port(2)
        taken = CannotListenError("127.0.0.1", 3, OSError(98, "Address already in use"))
        reloading = service.reload(
            [route("shop", shop.listen), route("blog", Place(opened)), route("wiki", Place(taken))]
        )
        self.assertIn("Address already in use", str(self.failureResultOf(reloading, CannotListen).value))
        self.assertEqual(([old], [shop], [factory]), (service.ports, service.routes, service.factories))
        self.assertEqual((True, False, [("127.0.0.1", 1)]), (old.open, opened.open, list(factory.listeners)))

    def test_nowhere(self) -> None:
        """
        A route that does not say where to listen changes nothing either.
        """
        service = self.serve(route("shop", Place(Port(1))))
        problem = self.failureResultOf(service.reload([route("wiki", None)]), CannotListen)
        self.assertEqual("route wiki says nowhere to listen: give it an address", str(problem.value))
        self.assertEqual(["shop"], [one.name for one in service.routes])

    def test_load(self) -> None:
        """
        Without routes, those are taken that C{load} gives; what it raises is what the Deferred fails with.
        """
        places = [Place(Port(1)), Place(Port(2))]
        answers: list[Any] = [[route("blog", places[1])], ConfigurationError([Problem("route.tls.cert", "is missing")])]

        def load() -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        service = self.serve(route("shop", places[0]), load=load)
        self.successResultOf(service.reload())
        self.assertEqual([places[1].answer], service.ports)
        problem = self.failureResultOf(service.reload(), ConfigurationError)
        self.assertEqual("route.tls.cert: is missing", str(problem.value))
        self.assertEqual((["blog"], True), ([one.name for one in service.routes], places[1].answer.open))

    def test_nothingToLoad(self) -> None:
        """
        Without routes and without C{load} it fails, and says what to do.
        """
        problem = self.failureResultOf(self.serve().reload(), ValueError)
        self.assertIn("give routes", str(problem.value))

    def test_stopped(self) -> None:
        """
        A service that is stopped, or was not started yet, takes routes for later.
        """
        service = ProxyService([], MemoryReactorClock())
        place = Place(Port(1))
        self.successResultOf(service.reload([route("shop", place)]))
        self.assertEqual((None, []), (place.factory, service.ports))
        service.startService()
        self.assertEqual([place.answer], service.ports)
        self.successResultOf(service.stopService())
        self.successResultOf(service.reload([*service.routes, route("blog", Place(Port(2)))]))
        self.assertEqual([], service.ports)
        service.startService()
        self.assertEqual(2, len(service.ports))

    def test_slow(self) -> None:
        """
        An endpoint may take its time, and the old routes serve meanwhile; a second reload waits for the first.
        """
        shop = route("shop", Place(Port(1)))
        service = self.serve(shop)
        slow: Deferred[Any] = Deferred()
        first = service.reload([shop, route("slow", Place(slow))])
        second = service.reload([shop])
        self.assertNoResult(first)
        self.assertNoResult(second)
        self.assertEqual([shop], service.routes)
        port = Port(2)
        slow.callback(port)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(([shop], False), (service.routes, port.open))

    def test_stopMeanwhile(self) -> None:
        """
        To stop the service cancels what still waits to listen, and closes what already did.
        """
        shop, opened = route("shop", Place(Port(1))), Port(2)
        service = self.serve(shop)
        cancelled: list[object] = []
        reloading = service.reload([route("fast", Place(opened)), route("slow", Place(Deferred(cancelled.append)))])
        self.successResultOf(service.stopService())
        self.failureResultOf(reloading, CancelledError)
        self.assertEqual((1, False, [], [shop]), (len(cancelled), opened.open, service.ports, service.routes))

    def test_cancel(self) -> None:
        """
        To cancel the reload leaves all as it was.
        """
        shop = route("shop", Place(Port(1)))
        service = self.serve(shop)
        reloading = service.reload([route("slow", Place(Deferred()))])
        reloading.cancel()
        self.failureResultOf(reloading, CancelledError)
        self.assertEqual(([shop], [shop.listen.answer]), (service.routes, service.ports))  # type: ignore[union-attr]
        self.successResultOf(service.reload([shop]))

    def test_cannotClose(self) -> None:
        """
        A port that fails to close is told in the log, and the new routes serve all the same.
        """
        broken = Deferred[None]()
        service = self.serve(route("shop", Place(Port(1, broken))))
        broken.errback(RuntimeError("it is stuck"))
        self.successResultOf(service.reload([route("blog", Place(Port(2)))]))
        self.assertEqual(1, len(self.flushLoggedErrors(FirstError)))
        self.assertEqual(["blog"], [one.name for one in service.routes])

    def test_giveUp(self) -> None:
        """
        Who no longer waits for a reload whose routes serve already does not keep what is gone from being closed.
        """
        cancelled: list[object] = []
        port = Port(1, Deferred(cancelled.append))
        service = self.serve(route("shop", Place(port)))
        loading = service.reload([route("blog", Place(Port(2)))])
        self.assertNoResult(loading)
        loading.cancel()
        self.successResultOf(loading)
        self.assertEqual(([], False, ["blog"]), (cancelled, port.open, [one.name for one in service.routes]))
        self.assertEqual([], self.flushLoggedErrors())

    def test_sessions(self) -> None:
        """
        Sessions stay with the route that they came by, which is forgotten with the last of them; until then the
        service knows and can stop them.
        """
        shop = route("shop", Place(Port(1)))
        service = self.serve(shop)
        (old,) = service.factories
        visits = [Visit(old), Visit(old)]
        self.successResultOf(service.reload([route("shop", shop.listen)]))
        self.assertEqual(({*visits}, {old}), ({*service.sessions}, service._retired))
        visits[0].end()
        self.assertEqual({old}, service._retired)
        visits[1].end()
        self.assertEqual((set(), []), (service._retired, service.sessions))
        last: Any = Visit(service.factories[0])
        self.successResultOf(service.reload([]))
        self.successResultOf(service.stopService())
        self.assertTrue(last.stopped)

    def test_counters(self) -> None:
        """
        A route that keeps its name goes on counting.
        """
        service = self.serve(route("shop", Place(Port(1))))
        service.factories[0].counters["closed", "idle"] = 3
        self.successResultOf(service.reload([route("shop", Place(Port(2))), route("blog", Place(Port(3)))]))
        self.assertEqual([3, 0], [factory.counters["closed", "idle"] for factory in service.factories])

    def test_limited(self) -> None:
        """
        What is open counts where a limit comes that was not there before, by its address of then; that of a route that
        was replaced before, too.
        """
        place = Place(Port(1))
        service = self.serve(route("shop", place))
        visits = []
        for _ in range(2):
            visit: Any = Visit(service.factories[0])
            visit.client = UNIXAddress(None)
            visits.append(visit)
            self.successResultOf(service.reload([route("shop", place)]))
        self.successResultOf(service.reload([evolve(route("shop", place), maxClientConnections=1)]))
        admission = service.factories[0].admission
        assert admission is not None
        self.assertEqual({None: 2}, admission._open)
        last = visits[1]
        last.client = IPv4Address("TCP", "192.0.2.1", 1)
        last.keeper.admission.admit(last)
        self.assertEqual([1, 1], [*admission._open.values()])
        for visit in visits:
            visit.keeper.admission.release(visit)
        self.assertEqual({}, admission._open)

    def test_listeners(self) -> None:
        """
        What this proxy listens on is known to all routes, and follows the change.
        """
        shop = route("shop", Place(Port(1)))
        local = route("local", Place(Port(4, host=UNIXAddress("/run/x"))))
        service = self.serve(shop, route("blog", Place(Port(2))))
        (known, _) = (factory.listeners for factory in service.factories)
        self.successResultOf(service.reload([route("shop", Place(Port(3))), local, shop]))
        self.assertEqual([("127.0.0.1", 1), ("127.0.0.1", 3)], sorted(known))
        self.assertIs(known, service.factories[0].listeners)

    def test_log(self) -> None:
        """
        The log tells what is listened on anew, under another name, and no more.
        """
        shop, blog, wiki = (route(name, Place(Port(number))) for number, name in enumerate(["shop", "blog", "wiki"], 1))
        service = self.serve(shop, blog)
        events = EventLoggingObserver()
        globalLogPublisher.addObserver(events)
        self.addCleanup(globalLogPublisher.removeObserver, events)
        self.successResultOf(service.reload([route("store", shop.listen), wiki]))
        told = [
            (one["route"], one["how"], one["where"]) for one in events if one["log_namespace"] == "tlsproxy.service"
        ]
        self.assertEqual(
            [
                ("blog", "listens no more on", "127.0.0.1:2"),
                ("store", "listens on", "127.0.0.1:1"),
                ("wiki", "listens on", "127.0.0.1:3"),
            ],
            told,
        )
        quiet = self.serve(shop, logged=False)
        del events._events[:]
        self.successResultOf(quiet.reload([wiki]))
        self.assertEqual([], list(events))
