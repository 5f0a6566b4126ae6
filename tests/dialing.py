"""
Dialing in tests: names resolve, and connections are made, when a test says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet import error, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.socketreactor import KINDS, SocketReactor, connect, unixPair
from tlsproxy import dial
from tlsproxy.address import TCP, Address
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.errors import DialFailed

__all__ = ["SHOP", "Attempt", "DialCase", "DialReactor", "refusal"]

SHOP = TCP("shop.example", 443)


@implementer(IHostResolution)
class _Resolution:
    """
    A resolution under way.
    """

    name = "a name"

    def cancel(self) -> None:
        """
        See L{IHostResolution}.
        """


@implementer(IHostnameResolver)
class _Resolver:
    """
    A resolver that knows what a test has told it.

    @ivar known: The addresses of names.
    @ivar asked: The names that were asked for.
    @ivar quick: Whether it answers at once.
    """

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        self.quick = True

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """
        See L{IHostnameResolver}.
        """
        self.asked.append(hostName)
        resolution = _Resolution()
        resolutionReceiver.resolutionBegan(resolution)
        if self.quick:
            for host in self.known.get(hostName, ()):
                kind = IPv6Address if ":" in host else IPv4Address
                resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
            resolutionReceiver.resolutionComplete()
        return resolution


class Attempt:
    """
    An attempt to connect; it is its own connector.

    @ivar address: Where to.
    @ivar over: Whether it was answered or stopped.
    """

    def __init__(self, reactor: DialReactor, host: str, port: int, factory: Any) -> None:
        self._reactor = reactor
        self._factory = factory
        self.address = host, port
        self.over = False
        factory.doStart()
        factory.startedConnecting(self)

    def getDestination(self) -> IAddress:
        """
        See L{twisted.internet.interfaces.IConnector}.
        """
        return IPv4Address("TCP", *self.address)

    def stopConnecting(self) -> None:
        """
        See L{twisted.internet.interfaces.IConnector}.
        """
        self.fail(error.UserError())

    def fail(self, problem: Exception) -> None:
        """
        Do not connect.
        """
        self.over = True
        self._factory.clientConnectionFailed(self, Failure(problem))

    def answer(self) -> None:
        """
        Connect.
        """
        self.over = True
        protocol = self._factory.buildProtocol(None)
        ours, theirs = unixPair()
        self._reactor.sockets.append(theirs)
        make, kind = KINDS["tcp.Client"]
        transport = make(kind, ours, protocol, self._reactor)
        transport.realAddress = self.address
        if ":" in self.address[0]:
            transport._addressType = IPv6Address
        protocol.makeConnection(transport)


@implementer(IReactorPluggableNameResolver)
class DialReactor(SocketReactor):
    """
    A reactor on which to dial.

    @ivar nameResolver: Its resolver.
    @ivar attempts: All attempts to connect by TCP.
    @ivar sockets: The other ends of those that were answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = _Resolver()
        self.attempts: list[Attempt] = []
        self.sockets: list[Any] = []

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """
        See L{IReactorPluggableNameResolver}.
        """
        raise NotImplementedError

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float | None = 30, bindAddress: Any = None
    ) -> Attempt:
        """
        See L{twisted.internet.interfaces.IReactorTCP}.
        """
        self.attempts.append(Attempt(self, host, port, factory))
        return self.attempts[-1]

    def connectUNIX(self, address: str, factory: Any, timeout: float | None = 30, checkPID: bool = False) -> Any:
        """
        See L{twisted.internet.interfaces.IReactorUNIX}.
        """
        connector = unix.Connector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector


def refusal(code: int) -> Exception:
    """
    Make the error of Twisted for one of the kernel.
    """
    problem: Exception = error.getConnectError((code, os.strerror(code)))
    return problem


class DialCase(SynchronousTestCase):
    """
    Dialing on a reactor that does as it is told.

    @ivar straight: The addresses that were dialed straight, and what comes of each.
    """

    def setUp(self) -> None:
        """
        Make a dialer.
        """
        self.reactor: Any = DialReactor()
        self.resolver = self.reactor.nameResolver
        self.resolver.known["shop.example"] = ["192.0.2.1", "2001:db8::1"]
        self.dialer = Dialer(self.reactor)
        self.straight: list[tuple[tuple[str, int], Deferred[None]]] = []
        self.ends: list[End] = []

        async def straight(reactor: Any, address: str, port: int, end: End) -> End:
            self.assertIs(self.reactor, reactor)
            answer: Deferred[None] = Deferred()
            self.straight.append(((address, port), answer))
            await answer
            ours, theirs = unixPair()
            self.reactor.sockets.append(theirs)
            connect(self.reactor, end, ours)
            return end

        self.patch(dial, "connect", straight)

    def dial(self, where: Address | IStreamClientEndpoint = SHOP) -> Deferred[End]:
        """
        Begin to dial.
        """
        return Deferred.fromCoroutine(self.dialer.dial(where))

    def done(self, dialing: Deferred[End]) -> End:
        """
        Take the End that dialing came to.
        """
        end = self.successResultOf(dialing)
        self.assertIsInstance(end, End)
        self.assertEqual("the upstream", end.who)
        self.ends.append(end)
        return end

    def failed(self, dialing: Deferred[End]) -> str:
        """
        Take the sentence that dialing came to.
        """
        return str(self.failureResultOf(dialing, DialFailed).value)

    def open(self) -> list[Attempt]:
        """
        Tell which attempts are under way.
        """
        return [attempt for attempt in self.reactor.attempts if not attempt.over]

    def remember(self, address: str = "192.0.2.1") -> None:
        """
        Have an address of a name remembered.
        """
        self.resolver.known["shop.example"] = [address]
        dialing = self.dial()
        self.reactor.attempts[-1].answer()
        self.done(dialing)

    def tearDown(self) -> None:
        """
        Nothing is left.
        """
        for end in self.ends:
            end.finish()
        self.reactor.advance(0)
        for sock in self.reactor.sockets:
            sock.close()
        self.assertEqual([], self.open())
        self.assertEqual([], self.reactor.removeAll() + self.reactor.getDelayedCalls())
