"""
Dialing in tests: names resolve, and connections are made, when a test says so.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet import error, tcp, unix
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

from tlsproxy import eyeballs
from tlsproxy.address import TCP, Address
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.errors import DialFailed, forgetFrames
from tlsproxy.testing.socketreactor import KINDS, SocketReactor, unixPair

__all__ = [
    "SHOP",
    "Attempt",
    "ConnectCase",
    "DialCase",
    "DialReactor",
    "Resolver",
    "Straight",
    "assertNoGarbage",
    "forget",
    "refusal",
]

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
class Resolver:
    """
    A resolver that knows what a test has told it.

    @ivar known: The addresses of names.
    @ivar asked: The names that were asked for.
    @ivar quick: Whether it answers at once.
    @ivar waiting: Who has no answer yet, and for which name.
    """

    def __init__(self) -> None:
        self.known: dict[str, Sequence[str]] = {}
        self.asked: list[str] = []
        self.quick = True
        self.waiting: list[tuple[str, IResolutionReceiver]] = []

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
        self.waiting.append((hostName, resolutionReceiver))
        if self.quick:
            self.answer()
        return resolution

    def answer(self) -> None:
        """
        Answer the oldest question.
        """
        name, receiver = self.waiting.pop(0)
        for host in self.known.get(name, ()):
            kind = IPv6Address if ":" in host else IPv4Address
            receiver.addressResolved(kind("TCP", host, 0))
        receiver.resolutionComplete()


class Attempt:
    """
    An attempt of an endpoint to connect; it is its own connector.

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
        protocol.makeConnection(transport)


class Straight:
    """
    An attempt to connect to an address.

    @ivar address: Where to.
    @ivar over: Whether it was answered or called off.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.over = False
        self.result: Deferred[None] = Deferred(self._cancelled)

    def _cancelled(self, _: object) -> None:
        self.over = True

    def answer(self) -> None:
        """
        Connect.
        """
        self.over = True
        self.result.callback(None)

    def refuse(self, code: int = errno.ECONNREFUSED) -> None:
        """
        Do not connect.
        """
        self.over = True
        self.result.errback(refusal(code))


@implementer(IReactorPluggableNameResolver)
class DialReactor(SocketReactor):
    """
    A reactor on which to dial.

    @ivar nameResolver: Its resolver.
    @ivar attempts: All attempts of endpoints to connect by TCP.
    @ivar sockets: The other ends of those that were answered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = Resolver()
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


def forget(failure: Failure) -> None:
    """
    Take an error as a session does: its sentence is enough.
    """
    forgetFrames(failure.value)
    failure.tb = None


def assertNoGarbage(case: SynchronousTestCase, work: Callable[[], object]) -> None:
    """
    Some work leaves nothing to the cycle collector.
    """
    work()  # Whatever is made once and for all.
    gc.collect()
    gc.disable()
    case.addCleanup(gc.enable)
    work()
    case.assertEqual(0, gc.collect())


class ConnectCase(SynchronousTestCase):
    """
    Connecting on a reactor that does as it is told.

    @ivar straight: All attempts to connect to an address.
    @ivar atOnce: What comes at once of those that are not waited for, by address; 0 is a connection.
    """

    def setUp(self) -> None:
        """
        Make a reactor.
        """
        self.reactor: Any = DialReactor()
        self.resolver: Resolver = self.reactor.nameResolver
        self.straight: list[Straight] = []
        self.atOnce: dict[str, int] = {}
        self.ends: list[End] = []

        async def connect(reactor: Any, address: str, port: int, end: End) -> End:
            self.assertIs(self.reactor, reactor)
            attempt = Straight((address, port))
            self.straight.append(attempt)
            if address in self.atOnce:
                attempt.answer()
                if self.atOnce[address]:
                    raise refusal(self.atOnce[address])
            await attempt.result
            ours, theirs = unixPair()
            self.reactor.sockets.append(theirs)
            peer: tuple[Any, ...] = (address, port, 0, 0) if ":" in address else (address, port)
            end.makeConnection(tcp.Server(ours, end, peer, cast(tcp.Port, None), 0, reactor))
            return end

        self.patch(eyeballs, "connect", connect)

    def trying(self) -> list[Straight]:
        """
        Tell which attempts to connect to an address are under way.
        """
        return [attempt for attempt in self.straight if not attempt.over]

    def tried(self) -> list[str]:
        """
        Tell to which addresses it was tried to connect since this was asked last.
        """
        tried = [attempt.address[0] for attempt in self.straight]
        self.straight = self.trying()
        return tried

    def done(self, dialing: Deferred[End]) -> End:
        """
        Take the End that dialing came to.
        """
        end = self.successResultOf(dialing)
        self.assertIsInstance(end, End)
        self.assertEqual("the upstream", end.who)
        self.ends.append(end)
        return end

    def host(self, dialing: Deferred[End]) -> str:
        """
        Tell the address that dialing came to.
        """
        peer = self.done(dialing).peer()
        assert isinstance(peer, (IPv4Address, IPv6Address))
        return peer.host

    def hangUp(self) -> None:
        """
        End all connections.
        """
        for end in self.ends:
            end.finish()
        self.ends.clear()
        self.reactor.advance(0)
        for sock in self.reactor.sockets:
            sock.close()
        self.reactor.sockets.clear()

    def assertNothingLeft(self) -> None:
        """
        Nothing is under way, and the reactor has nothing more to do.
        """
        self.assertEqual([], self.trying())
        self.assertEqual([], self.reactor.removeAll() + self.reactor.getDelayedCalls())

    def tearDown(self) -> None:
        """
        Nothing is left.
        """
        self.hangUp()
        self.assertNothingLeft()


class DialCase(ConnectCase):
    """
    Dialing on a reactor that does as it is told.
    """

    def setUp(self) -> None:
        """
        Make a dialer.
        """
        super().setUp()
        self.resolver.known["shop.example"] = ["192.0.2.1", "2001:db8::1"]
        self.dialer = Dialer(self.reactor)

    def dial(self, where: Address | IStreamClientEndpoint = SHOP) -> Deferred[End]:
        """
        Begin to dial.
        """
        return Deferred.fromCoroutine(self.dialer.dial(where))

    def failed(self, dialing: Deferred[Any]) -> str:
        """
        Take the sentence that dialing came to.
        """
        return str(self.failureResultOf(dialing, DialFailed).value)

    def open(self) -> list[Attempt]:
        """
        Tell which attempts of endpoints are under way.
        """
        return [attempt for attempt in self.reactor.attempts if not attempt.over]

    def remember(self, *addresses: str) -> None:
        """
        Have the addresses of a name remembered.
        """
        self.resolver.known["shop.example"] = addresses
        self.successResultOf(Deferred.fromCoroutine(self.dialer.lookUp(SHOP)))

    def assertNothingLeft(self) -> None:
        """
        Nothing is under way, and the reactor has nothing more to do.
        """
        self.assertEqual([], self.open())
        super().assertNothingLeft()
