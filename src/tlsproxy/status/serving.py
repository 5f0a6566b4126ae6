# -*- test-case-name: tests.status.test_serving -*-
"""
The service that tells the state of a proxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.accepting import Accepting
from tlsproxy.address import TCP, Address, CannotListen, listen, tellPeer
from tlsproxy.entrance import stopPort
from tlsproxy.service import ProxyService
from tlsproxy.status.process import Lag
from tlsproxy.status.state import Enrollments, Reloads, State
from tlsproxy.status.tally import Tally
from tlsproxy.status.web import StatusFactory

__all__ = ["StatusService"]

_log = Logger()


class StatusService(Service):
    """
    Tells the state of a proxy by HTTP, from the start to the end of the process.

    @ivar ports: What it listens on.
    """

    def __init__(
        self,
        where: Address,
        private: bool,
        service: ProxyService,
        tally: Tally,
        reactor: Any,
        logged: bool = True,
        reloads: Reloads | None = None,
        enrollments: Enrollments | None = None,
    ) -> None:
        """
        @param where: Where to listen.
        @param private: Whether nobody but this machine gets there; then browsers on it are taken care of.
        @param service: The service of the routes.
        @param tally: What counts their sessions: an observer of that service.
        @param reactor: The reactor.
        @param logged: Whether it is logged where it listens.
        @param reloads: What reads the configuration again, if anything does.
        @param enrollments: What looks after the enrollments of routes, if anything does.
        """
        self._where = where
        self._reactor = reactor
        self._logged = logged
        self._lag = Lag(reactor)
        names = {"localhost", *([where.host.lower()] if isinstance(where, TCP) else [])}
        state = State(service, tally, self._lag, reactor, reloads, enrollments)
        self._factory = StatusFactory(state, reactor, frozenset(names) if private else None)
        self._accepting: list[Accepting] = []
        self.ports: Sequence[IListeningPort] = ()

    def privilegedStartService(self) -> None:
        """
        Listen while we still may.

        @raise CannotListen: With a sentence on why.
        """
        self._listen()
        super().privilegedStartService()

    def startService(self) -> None:
        """
        Serve.

        @raise CannotListen: With a sentence on why.
        """
        if not self.ports:
            self._listen()
        self._lag.start()
        super().startService()

    def _listen(self) -> None:
        outcome: list[Any] = []
        opening = Deferred.fromCoroutine(listen(self._reactor, self._where, self._factory)).addBoth(outcome.append)
        if not outcome:
            opening.cancel()
            raise CannotListen(f"status: cannot listen on {self._where} at once, as a service has to")
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        self.ports = outcome[0]
        self._accepting = [Accepting(port) for port in self.ports if Accepting.takes(port)]
        for port in self.ports if self._logged else ():
            _log.info("the status of the proxy is told on {where}", where=tellPeer(port.getHost(), str(self._where)))

    def stopService(self) -> Deferred[Any]:
        """
        Tell nothing any more.
        """
        if self.running:
            super().stopService()
            self._lag.stop()
        for accepting in self._accepting:
            accepting.close()
        ports, self.ports = self.ports, ()
        stopping = gatherResults([Deferred.fromCoroutine(stopPort(port)) for port in ports], consumeErrors=True)
        self._factory.closeAll()
        return stopping
