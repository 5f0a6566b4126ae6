# -*- test-case-name: tests.test_entrance -*-
"""
What listens for a route.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from tlsproxy.address import TCP, UDP, CannotListen, Endpoint, Unix, listen, tellPeer
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.listening import listenForDatagrams
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.factory import RouteFactory
from tlsproxy.gate import Gate
from tlsproxy.route import Route
from tlsproxy.session import Session

__all__ = ["Entrance", "Served", "listenerOf", "stopPort", "tellListening"]

_log = Logger(namespace="tlsproxy.service")


class Served(RouteFactory):
    """
    A route's factory that tells when a session is over.

    @ivar told: Called with the session and its outcome.
    """

    told: Callable[[Session, str], object]

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        A session is over.
        """
        try:
            super().ended(session, outcome, reason)
        finally:
            self.told(session, outcome)  # Or somebody would wait for ever.


class Entrance(Factory[Any]):
    """
    What stands between a listening port and a route, so that another route may take the place while the port stays.

    @ivar ports: What is listened on; several where a host has several addresses, none before and after.
    """

    noisy = False

    def __init__(self, factory: RouteFactory, gate: Gate | None = None, left: set[DatagramPort] | None = None) -> None:
        """
        @param gate: What holds its ports to the sessions that may be open at once; L{None} for one of its own.
        @param left: The ports for datagrams that were stopped, and may not be closed yet: the same for all entrances
            of a service.
        """
        self._factory = factory
        self.ports: list[IListeningPort] = []
        self._gate = gate
        self._guarded = False
        self._left = set() if left is None else left

    @property
    def factory(self) -> RouteFactory:
        """
        The route's factory, which makes a session of each connection; it may be set anew.
        """
        return self._factory

    @factory.setter
    def factory(self, factory: RouteFactory) -> None:
        self._factory = factory
        for port in self.ports:
            if isinstance(port, DatagramPort):
                port.terms = factory.terms

    def acceptDatagrams(self, near: DatagramEnd) -> None:
        """
        Take an association, or let it go where it is one too many.
        """
        if self._gate is not None and self._gate.room(self) <= 0:
            self._gate.full(self)
            near.finish()
        else:
            self._factory.accept(near)

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        """
        Take a connection.

        @return: L{None} where it is one too many, and has come by a port of a kind that cannot be paused.
        """
        if self._guarded and self._gate is not None and self._gate.room(self) <= 0:
            self._gate.full(self)
            return None
        return self.factory.buildProtocol(addr)

    def logPrefix(self) -> str:
        """
        Tell what Twisted's own log calls it.
        """
        return f"route {self.factory.route.name}"

    async def open(self, reactor: Any) -> None:
        """
        Listen where the route says.

        @raise CannotListen: With a sentence on why.
        """
        route = self.factory.route
        if route.listen is None:
            raise CannotListen(f"route {route.name} says nowhere to listen: give it an address")
        if isinstance(route.listen, UDP):
            self.ports = self._openForDatagrams(reactor, route.listen)
        else:
            self.ports = list(await listen(reactor, route.listen, self))
        if self._gate is None:
            self._gate = Gate(reactor, lambda: (self.factory,))
        self._guarded = not self._gate.open(self)

    def _openForDatagrams(self, reactor: Any, where: UDP) -> list[IListeningPort]:
        try:
            ports = listenForDatagrams(reactor, where, self._factory.terms, self.acceptDatagrams, self._left)
        except OSError as e:
            raise CannotListen(f"cannot listen on {where}: {e.strerror or e}") from e
        self._left.difference_update(ports)
        return [*ports]

    def overlaps(self, other: Entrance) -> bool:
        """
        Tell whether another cannot listen for as long as this one does, as far as that can be told by ports and paths.
        """
        where = other.factory.route.listen
        if isinstance(where, UDP) != any(isinstance(port, DatagramPort) for port in self.ports):
            return False
        if isinstance(where, (TCP, UDP)):
            wanted = {str(where.port)}
        elif isinstance(where, Unix):
            wanted = {os.path.abspath(where.path)}
        elif isinstance(where, Endpoint):
            words = {one.rpartition("=")[2] for one in where.description.replace("\\", "").split(":")}
            wanted = words | {os.path.abspath(word) for word in words}
        else:
            return False
        return any(_placeOf(port) in wanted for port in self.ports)

    @property
    def isFile(self) -> bool:
        """
        Whether it listens on Unix sockets.
        """
        return any(isinstance(port.getHost(), UNIXAddress) for port in self.ports)

    def close(self) -> list[Deferred[Any]]:
        """
        Listen no more.

        @return: One for each port, which fires when it is closed.
        """
        ports, self.ports = self.ports, []
        if self._gate is not None:
            self._gate.close(self)
        closing = [Deferred.fromCoroutine(stopPort(port)) for port in ports]
        self._left.update(port for port in ports if isinstance(port, DatagramPort))
        for port in [port for port in self._left if port.closed]:
            self._left.discard(port)
        self.rest()
        return closing

    def rest(self) -> None:
        """
        A session or a port is over, and others may have its place.
        """
        if self._gate is not None:
            self._gate.ended()


def _placeOf(port: IListeningPort) -> str:
    """
    Tell what of its address nobody else can have on this machine.
    """
    host = port.getHost()
    if isinstance(host, (IPv4Address, IPv6Address)):
        return str(host.port)
    return os.path.abspath(os.fsdecode(host.name)) if isinstance(host, UNIXAddress) and host.name else ""


def listenerOf(port: IListeningPort) -> tuple[str, int] | None:
    """
    Tell where streams can be opened to a port; L{None} where that is nowhere in the network.
    """
    host = port.getHost()
    if isinstance(host, (IPv4Address, IPv6Address)) and host.type == "TCP":
        return host.host, host.port
    return None


async def stopPort(port: IListeningPort) -> None:
    """
    Have a port stop, and wait for it.  To cancel that is to wait no longer: the port stops all the same.
    """
    stopping = port.stopListening()
    if isinstance(stopping, Deferred):
        # Twisted's port stops in a later turn, and would go on for ever, and deaf, if its own Deferred were cancelled.
        stopped: Deferred[Any] = Deferred()
        stopping.chainDeferred(stopped)
        await stopped


def tellListening(route: Route, ports: Iterable[IListeningPort], how: str = "listens on") -> None:
    """
    Log where a route listens, or no longer does.
    """
    for port in ports:
        where = tellPeer(port.getHost(), str(route.listen))
        if isinstance(port, DatagramPort):
            where = f"udp:{where}"
        _log.info("{route} ({mode}) {how} {where}", route=route.name, mode=route.pattern.mode, how=how, where=where)
