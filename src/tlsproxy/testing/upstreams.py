# -*- test-case-name: tests.testing.test_upstreams -*-
"""
The upstreams of a L{Network<tlsproxy.testing.network.Network>}: their names, their addresses, and what answers there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from tlsproxy.address import TCP, Address
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.testing.socketreactor import SocketReactor
from tlsproxy.testing.streampeers import Peer

__all__ = ["NamingReactor", "Upstream", "UpstreamDialer", "refusal"]


def refusal() -> Exception:
    """
    Make the error of a connection that is refused.
    """
    problem: Exception = error.getConnectError((errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)))
    return problem


@implementer(IHostResolution)
class _Resolution:
    """
    A question that was answered.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """
        See L{IHostResolution}.
        """


@implementer(IHostnameResolver)
class _Resolver:
    """
    Knows the names of the upstreams that there are.
    """

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}

    def resolveHostName(
        self, resolutionReceiver: IResolutionReceiver, hostName: str, *_: object, **__: object
    ) -> IHostResolution:
        """
        See L{IHostnameResolver}.
        """
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        for host in self.known.get(hostName, ()):
            resolutionReceiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, 0))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IReactorPluggableNameResolver)
class NamingReactor(SocketReactor):
    """
    A reactor that resolves names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver: IHostnameResolver = _Resolver()

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        See L{IReactorPluggableNameResolver}.
        """
        former, self.nameResolver = self.nameResolver, resolver
        return former


@implementer(IStreamClientEndpoint)
class Upstream:
    """
    Somewhere to dial, whose connections a test answers.

    It is registered under its address where L{Network.upstream} makes it, and it is an endpoint, too.

    @ivar address: Where it is.
    @ivar answers: Whether it takes a connection at once.
    @ivar refuses: Whether it refuses connections.
    @ivar cancelled: How many attempts were cancelled.
    @ivar waiting: The attempts that were not answered.
    @ivar peers: The other ends of those that were.
    """

    def __init__(
        self,
        network: Any,
        make: Callable[[Any], Peer] = Peer,
        answers: bool = True,
        address: str = "upstream.example:443",
    ) -> None:
        """
        @param network: The L{Network}, or a test that has one.
        @param make: What makes the peer of a connection from its socket.
        @param answers: Whether it takes a connection at once.
        @param address: What it is called.
        """
        self._network = network
        self._make = make
        self.address = address
        self.answers = answers
        self.refuses = False
        self.cancelled = 0
        self.waiting: list[tuple[IProtocolFactory, Deferred[IProtocol]]] = []
        self.peers: list[Any] = []

    def __str__(self) -> str:
        return self.address

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint}.
        """
        if self.refuses:
            return fail(refusal())
        attempt: Deferred[IProtocol] = Deferred(self._cancelled)
        self.waiting.append((protocolFactory, attempt))
        if self.answers:
            self.answer()
        return attempt

    def _cancelled(self, attempt: Deferred[IProtocol]) -> None:
        self.cancelled += 1
        self.waiting = [one for one in self.waiting if one[1] is not attempt]

    def answer(self) -> None:
        """
        Take the first connection that waits.
        """
        factory, attempt = self.waiting.pop(0)
        end: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        self.peers.append(self._network.attach(end, self._make, "tcp.Client"))
        attempt.callback(end)

    def fail(self, problem: Exception) -> None:
        """
        Refuse the first connection that waits.

        @param problem: Why, as an endpoint of Twisted tells it.
        """
        self.waiting.pop(0)[1].errback(problem)

    @property
    def peer(self) -> Any:
        """
        The other end of its only connection.
        """
        (peer,) = self.peers
        return peer

    @property
    def dialed(self) -> int:
        """
        How often it was dialed.
        """
        return len(self.peers) + len(self.waiting) + self.cancelled


@implementer(IStreamClientEndpoint)
class _Nobody:
    """
    An address at which no upstream is.
    """

    def __init__(self, where: object, problem: Exception) -> None:
        self._where = where
        self._problem = problem

    def __str__(self) -> str:
        return str(self._where)

    def connect(self, _: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint}.
        """
        return fail(self._problem)


class UpstreamDialer(Dialer):
    """
    Reaches the upstreams of a network, and nobody else.
    """

    def __init__(self, reactor: Any, upstreams: Mapping[str, Upstream]) -> None:
        """
        @param reactor: The reactor.
        @param upstreams: The upstreams that there are, by their addresses.
        """
        super().__init__(reactor)
        self._upstreams = upstreams

    def _at(self, where: object) -> IStreamClientEndpoint:
        """
        Find who is at an address.
        """
        return self._upstreams.get(str(where)) or _Nobody(where, refusal())

    async def dial(self, where: Address | IStreamClientEndpoint) -> End:
        """
        See L{Dialer.dial}.
        """
        if isinstance(where, TCP):
            await self.lookUp(where)
        return await super().dial(self._at(where) if isinstance(where, Address) else where)

    async def dialAddresses(self, where: TCP, addresses: Sequence[str]) -> End:
        """
        See L{Dialer.dialAddresses}.
        """
        return await super().dial(self._at(where))
