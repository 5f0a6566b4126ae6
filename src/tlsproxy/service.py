# -*- test-case-name: tests.test_service -*-
"""
The service: routes up, routes down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.address import CannotListen, listen, tellPeer
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.factory import RouteFactory
from tlsproxy.route import Route

__all__ = ["ProxyService"]

_log = Logger()


class ProxyService(Service):
    """
    Runs routes.

    @ivar factories: One L{RouteFactory} a route, in their order.
    @ivar ports: What is listened on: all of the routes' ports, or none.
    """

    def __init__(self, routes: Sequence[Route], reactor: Any, logged: bool = True) -> None:
        """
        @param routes: The routes.
        @param reactor: The reactor.
        @param logged: Whether each address that is listened on, and the end of each session, is logged.
        """
        deadlines, dialer = Deadlines(reactor), Dialer(reactor)
        self._reactor = reactor
        self._logged = logged
        self._listeners: list[tuple[str, int]] = []
        self.factories = [RouteFactory(route, reactor, deadlines, dialer, self._listeners, logged) for route in routes]
        self.ports: list[IListeningPort] = []

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
        if not self.ports:
            self._listen()
        super().startService()

    def _listen(self) -> None:
        for factory in self.factories:
            route = factory.route
            outcome: list[Any] = []
            listening = Deferred.fromCoroutine(listen(self._reactor, route.listen, factory)).addBoth(outcome.append)
            if not outcome:
                listening.cancel()
                outcome = [Failure(CannotListen(f"cannot listen on {route.listen} at once, as a service has to"))]
            if isinstance(outcome[0], Failure):
                self._stopListening()
                outcome[0].raiseException()
            self.ports += outcome[0]
            hosts = [port.getHost() for port in outcome[0]]
            self._listeners += [
                (host.host, host.port) for host in hosts if isinstance(host, (IPv4Address, IPv6Address))
            ]
            for port in outcome[0] if self._logged else ():
                where = tellPeer(port.getHost(), str(route.listen))
                _log.info("{route} ({mode}) listens on {where}", route=route.name, mode=route.pattern.mode, where=where)

    def _stopListening(self) -> Deferred[Any]:
        ports, self.ports = self.ports, []
        self._listeners.clear()
        return gatherResults([Deferred.fromCoroutine(_stopped(port)) for port in ports])

    def stopService(self) -> Deferred[Any]:
        """
        Stop listening, and cut what is still open.

        @return: Fires when nothing is listened on any more.
        """
        super().stopService()
        for factory in self.factories:
            for session in list(factory.sessions):
                session.stop()
        return self._stopListening()


async def _stopped(port: IListeningPort) -> None:
    stopping = port.stopListening()
    if isinstance(stopping, Deferred):
        await stopping
