# -*- test-case-name: tests.test_service -*-
"""
The service: routes up, routes changed, routes down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, FirstError, fail, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.address import CannotListen
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.draining import Draining, stopSession
from tlsproxy.entrance import Entrance, Served, listenerOf, tellListening
from tlsproxy.factory import RouteFactory
from tlsproxy.gate import Gate
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.judging import judgeAgain
from tlsproxy.repeats import LINES
from tlsproxy.route import Route
from tlsproxy.session import Session

__all__ = ["ProxyService"]

_log = Logger()


class ProxyService(Service):
    """
    Runs routes.

    @ivar gate: What holds their ports to the sessions that may be open at once.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        reactor: Any,
        logged: bool = True,
        *,
        observers: Iterable[ISessionObserver] = (),
        load: Callable[[], Sequence[Route]] | None = None,
        dialer: Dialer | None = None,
        maxConnections: int = 0,
        lines: int = LINES,
    ) -> None:
        """
        @param routes: The routes; none is fine, too: L{reload} brings others.
        @param reactor: The reactor.
        @param logged: Whether each address that is listened on, and the end of each session, is logged.
        @param observers: Who sees the sessions of all routes.
        @param load: What gives L{reload} its routes; what it raises is what L{reload} fails with.
        @param dialer: What reaches the upstreams, where that is not left to the service.
        @param maxConnections: The most sessions at once, of all routes together; 0 for no limit.
        @param lines: How many failures of one kind are logged one by one in a short time; 0 for all.
        """
        self._reactor = reactor
        self._logged = logged
        self._observers = tuple(observers)
        self._load = load
        self._lines = lines
        self._deadlines, self._dialer = Deadlines(reactor), dialer or Dialer(reactor)
        self._listeners: list[tuple[str, int]] = []
        self._up = False
        self._retired: set[RouteFactory] = set()
        self._drains: list[Draining] = []
        self._changing = DeferredLock()
        self._opening: Deferred[None] | None = None
        self.gate = Gate(reactor, self._serving, maxConnections)
        self._left: set[DatagramPort] = set()
        self._entrances = [Entrance(self._serve(route), self.gate, self._left) for route in routes]

    def _serve(self, route: Route) -> RouteFactory:
        factory = Served(
            route,
            self._reactor,
            self._deadlines,
            self._dialer,
            self._listeners,
            self._logged,
            self._observers,
            self._lines,
        )
        factory.told = self._ended
        return factory

    # -- what there is ----------------------------------------------------------------------------------------------

    @property
    def factories(self) -> Sequence[RouteFactory]:
        """
        One for each route, in their order.
        """
        return [entrance.factory for entrance in self._entrances]

    @property
    def routes(self) -> list[Route]:
        """
        The routes.
        """
        return [factory.route for factory in self.factories]

    @property
    def ports(self) -> list[IListeningPort]:
        """
        What is listened on: all of the routes' ports, in the order of the routes, or none.
        """
        return [port for entrance in self._entrances for port in entrance.ports]

    def portsOf(self, name: str) -> list[IListeningPort]:
        """
        Tell what a route listens on: C{portsOf("shop")[0].getHost().port} is the port that the kernel chose.

        @param name: The name of the route.
        @raise KeyError: There is no such route.
        """
        for entrance in self._entrances:
            if entrance.factory.route.name == name:
                return list(entrance.ports)
        raise KeyError(f"there is no route {name!r}")

    @property
    def sessions(self) -> list[Session]:
        """
        All sessions that are not over, those of routes that are no more included.
        """
        return [session for factory in self._serving() for session in factory.sessions]

    def _serving(self) -> list[RouteFactory]:
        return [*(entrance.factory for entrance in self._entrances), *self._retired]

    # -- up and down ------------------------------------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """
        Listen while we still may: on every route's address, before any route serves.

        @raise CannotListen: With a sentence on why.  Nothing is left listening.
        """
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Serve.  Some runners never call L{privilegedStartService}, so this listens for want of it.

        @raise CannotListen: With a sentence on why.  Nothing is left listening.
        """
        if not self._up:
            self._listen()
        super().startService()

    def _listen(self) -> None:
        for entrance in self._entrances:
            outcome: list[Any] = []
            opening = Deferred.fromCoroutine(entrance.open(self._reactor)).addBoth(outcome.append)
            if not outcome:
                opening.cancel()
                where = entrance.factory.route.listen
                outcome = [Failure(CannotListen(f"cannot listen on {where} at once, as a service has to"))]
            if isinstance(outcome[0], Failure):
                self._stopListening()
                outcome[0].raiseException()
            self._tellOpened(entrance)
        self._up = True

    def _tellOpened(self, entrance: Entrance) -> None:
        self._listeners += filter(None, map(listenerOf, entrance.ports))
        if self._logged:
            tellListening(entrance.factory.route, entrance.ports)

    def _close(self, entrances: Iterable[Entrance]) -> Deferred[Any]:
        closing = []
        for entrance in entrances:
            for port in entrance.ports:
                listener = listenerOf(port)
                if listener in self._listeners:
                    self._listeners.remove(listener)
            closing += entrance.close()
        return gatherResults(closing, consumeErrors=True).addErrback(_given)

    def _stopListening(self) -> Deferred[Any]:
        self._up = False
        if self._opening is not None:
            self._opening.cancel()
        return self._close(self._entrances)

    def stopService(self) -> Deferred[Any]:
        """
        Stop listening, and cut what is still open.

        @return: Fires when nothing is listened on any more.  To cancel it is to wait no longer.
        """
        super().stopService()
        for session in self.sessions:
            stopSession(session)
        stopping = self._stopListening()
        self._rest()
        return stopping

    def _rest(self) -> None:
        for factory in (*self.factories, *self._retired):
            factory.repeats.close()
            rest = getattr(factory.route.pattern, "rest", None)
            if rest is not None:
                rest()
        self._deadlines.rest()

    def drain(self, seconds: float | None = None) -> Deferred[int]:
        """
        Stop listening, and wait until what is still open has ended by itself.  The service counts as stopped from
        the start.

        @param seconds: How long to wait; what is open then is cut.  L{None} waits for as long as the limits of the
            routes allow.
        @return: Fires when nothing is listened on any more and the last session is over, with the number of those that
            were cut.  To cancel it is to wait no longer; nothing is cut by that.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._drain(seconds))

    async def _drain(self, seconds: float | None) -> int:
        closing = self._stopListening()
        draining = Draining(self.sessions)
        self._drains.append(draining)
        timer = None if seconds is None else self._reactor.callLater(seconds, draining.cut)
        try:
            cut = await draining.over
            await closing
        finally:
            self._drains.remove(draining)
            if timer is not None and timer.active():
                timer.cancel()
            self._rest()
        return cut

    def _ended(self, session: Session, outcome: str) -> None:
        for draining in list(self._drains):
            draining.ended(session, outcome)
        for factory in list(self._retired):
            if not factory.sessions:
                self._retired.discard(factory)
                factory.repeats.close()
        self.gate.ended()
        if not self._up:
            self._rest()

    # -- change -----------------------------------------------------------------------------------------------------

    def reload(self, routes: Sequence[Route] | None = None) -> Deferred[None]:
        """
        Put other routes into the place of those that there are.

        Where the address of a route stays as it is written, its socket stays, and nobody is refused for a moment.  What
        is new is listened on before anything that is gone is closed, unless that is in its way.  Sessions go on by the
        route that they came by, but for those of a sequential mode that the new routes would not let through: they are
        cut.  A route that keeps its name goes on counting.  A service that is stopped takes the routes for when it is
        started.

        @param routes: The routes; L{None} asks the C{load} that the service was made with.
        @return: Fires when the new routes serve and what is gone is closed.  It fails where an address cannot be
            listened on, with what C{load} raises, or cancelled where the service is stopped meanwhile; then everything
            is as it was.
        """
        if routes is None and self._load is None:
            return fail(ValueError("there is nothing to load routes with: give routes, or make the service with load"))
        return self._changing.run(lambda: Deferred.fromCoroutine(self._reload(routes)))

    async def _reload(self, given: Sequence[Route] | None) -> None:
        routes = list(self._load() if given is None and self._load is not None else given or ())
        kept = _match(routes, self._entrances)
        before = {factory.route.name: factory for factory in self.factories}
        plan: list[tuple[Entrance, RouteFactory]] = []
        for route, entrance in zip(routes, kept, strict=True):
            if entrance is not None and entrance.factory.route is route:
                factory = entrance.factory
            else:
                factory = self._serve(route)
            plan.append((entrance or Entrance(factory, self.gate, self._left), factory))
        fresh = [entrance for (entrance, _), had in zip(plan, kept, strict=True) if had is None]
        gone = [entrance for entrance in self._entrances if entrance not in kept]
        if self._up:
            self._opening = Deferred.fromCoroutine(self._openAll(fresh, gone))
            try:
                await self._opening
            finally:
                self._opening = None
        for entrance in gone:
            self._retire(entrance.factory)
            if self._logged:
                tellListening(entrance.factory.route, entrance.ports, "listens no more on")
        for entrance, factory in plan:
            old = before.get(factory.route.name, factory)
            if old is not factory:
                factory.succeed(old, self._retired)
            if entrance.factory is not factory:
                renamed = entrance.factory.route.name != factory.route.name
                self._retire(entrance.factory)
                entrance.factory = factory
                if renamed and self._logged:
                    tellListening(factory.route, entrance.ports)
        self._entrances = [entrance for entrance, _ in plan]
        judgeAgain(self._serving(), routes)
        self.gate.ended()  # Or rather, there may be another limit.
        for entrance in fresh if self._up else ():
            self._tellOpened(entrance)
        try:
            await self._close(gone)
        except CancelledError:
            pass  # All is done but for the wait.
        except Exception:
            _log.failure("an address that no route has any more could not be closed")

    async def _openAll(self, entrances: Sequence[Entrance], gone: Sequence[Entrance]) -> None:
        """
        Have all of them listen, or none.

        @param gone: Those that will listen no more, and make room where they are in the way.
        """
        closed: list[Entrance] = []
        try:
            for entrance in entrances:
                await self._open(entrance, gone, closed)
        except BaseException as e:
            for entrance in entrances:
                self._retire(entrance.factory)
            closing = self._close(entrances).addErrback(lambda _: None)
            if closed and isinstance(e, CannotListen):
                await closing
                for entrance in closed:
                    await entrance.open(self._reactor)
                    self._tellOpened(entrance)
            raise

    async def _open(self, entrance: Entrance, gone: Sequence[Entrance], closed: list[Entrance]) -> None:
        inTheWay = [one for one in gone if one.ports and one.overlaps(entrance)]
        if not any(one.isFile for one in inTheWay):  # Which to try would leave its lock behind.
            try:
                await entrance.open(self._reactor)
                return
            except CannotListen:
                if not inTheWay:
                    raise
        # The same place in another spelling.
        for one in inTheWay:
            if self._logged:
                tellListening(one.factory.route, one.ports, "listens no more on")
        closed += inTheWay
        await self._close(inTheWay)
        await entrance.open(self._reactor)

    def _retire(self, factory: RouteFactory) -> None:
        """
        Let the sessions of a route go on that is no more.
        """
        if factory.sessions:
            self._retired.add(factory)
        else:
            factory.repeats.close()


def _given(failure: Failure) -> Failure:
    """
    Tell who has given up waiting from what has failed.
    """
    if isinstance(failure.value, FirstError) and failure.value.subFailure.check(CancelledError):
        return failure.value.subFailure
    return failure


def _match(routes: Sequence[Route], entrances: Sequence[Entrance]) -> list[Entrance | None]:
    """
    Find what listens already where some routes want to: by the address, and among several of the same, by the name.

    @return: For each route its entrance, or L{None}.
    """
    left = list(entrances)
    found: list[Entrance | None] = [None] * len(routes)
    for byName in (True, False):
        for position, route in enumerate(routes):
            for entrance in left:
                old = entrance.factory.route
                if found[position] is None and old.listen == route.listen and (old.name == route.name or not byName):
                    found[position] = entrance
                    left.remove(entrance)
                    break
    return found
