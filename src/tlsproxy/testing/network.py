# -*- test-case-name: tests.testing.test_network -*-
"""
A network for tests: routes, their clients and their upstreams in one process, and a clock that stands still.

No packet leaves the process, no name is looked up, and nothing waits: connections are socket pairs, names and addresses
are what the test has said, and time passes when the test says so.  What runs on it is the real thing, from the accepted
connection to the line in the log.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final

from twisted.internet import error
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import FailTest
from zope.interface import implementer

from tlsproxy.address import TCP, asAddress
from tlsproxy.deadlines import GRANULARITY, Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.factory import RouteFactory
from tlsproxy.route import Route
from tlsproxy.session import Session
from tlsproxy.testing.listener import Listener
from tlsproxy.testing.socketreactor import ADDRESS, Connected, connect, tcpPair, unixPair
from tlsproxy.testing.streampeers import Peer
from tlsproxy.testing.upstreams import NamingReactor, Upstream, UpstreamDialer
from tlsproxy.wire.host import isLiteral

__all__ = ["LINGER", "Network"]

LINGER: Final = 2.5
"""After this, in seconds, a side that lingers is closed."""

_RESOLVED: Final = "192.0.2.1"


@implementer(ILogObserver)
class _Observer:
    """
    Keeps what is logged.
    """

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


class _Served(RouteFactory):
    """
    A route of a network, which remembers what was logged of the ends of sessions.
    """

    logs: Sequence[LogEvent]
    told: list[LogEvent]

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        A session is over.
        """
        before = len(self.logs)
        super().ended(session, outcome, reason)
        self.told += [each for each in self.logs[before:] if each["log_namespace"] == "tlsproxy.session"]


def _sockaddr(host: str, port: int) -> tuple[Any, ...]:
    return (host, port, 0, 0) if ":" in host else (host, port)


class Network:
    """
    Routes, clients, upstreams, and the time.

    A L{ProxyService<tlsproxy.service.ProxyService>} runs on it if it is made with its C{reactor} and C{dialer}, and
    with routes that listen on a L{Listener}.

    To be closed after the test: C{self.addCleanup(network.close)}, or C{with Network() as network:}.

    @ivar reactor: The reactor that all of it runs on; its C{seconds} tell the time.
    @ivar deadlines: The deadlines of all sessions.
    @ivar dialer: What dials the upstreams.
    @ivar upstreams: The upstreams that there are, by their addresses.
    @ivar factories: What the routes are served by.
    @ivar peers: The other ends of all connections, clients and upstreams.
    @ivar connections: Our end of each.
    @ivar accepted: How many clients have connected.
    @ivar events: All that was logged, oldest first.
    """

    def __init__(self, tcp: bool = False) -> None:
        """
        @param tcp: Whether connections are TCP's on loopback, which may take its real time.
        """
        self.tcp = tcp
        self.reactor: Any = NamingReactor()
        self.deadlines = Deadlines(self.reactor)
        self.upstreams: dict[str, Upstream] = {}
        self.dialer: Dialer = UpstreamDialer(self.reactor, self.upstreams)
        self.factories: list[RouteFactory] = []
        self.peers: list[Peer] = []
        self.connections: dict[Peer, Connected] = {}
        self.accepted = 0
        self._told: list[LogEvent] = []
        self._observer = _Observer()
        self.events = self._observer.events
        globalLogPublisher.addObserver(self._observer)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if problem is None:
            self.close()
        else:
            self.abandon()

    # -- who is there -------------------------------------------------------------------------------------------------

    def serve(self, route: Route, logged: bool = True) -> RouteFactory:
        """
        Serve a route: L{connect} reaches it from now on.

        @param route: The route.  Where it listens does not matter.
        @param logged: Whether the end of each session is logged.
        @return: What serves it: its C{sessions} are those that are not over, its C{counters} tell of the others.
        """
        # Each session tells of its end, however many there are.
        factory = _Served(route, self.reactor, self.deadlines, self.dialer, logged=logged, lines=0)
        factory.logs, factory.told = self.events, self._told
        self.factories.append(factory)
        return factory

    def upstream(
        self, where: str, make: Callable[..., Peer] = Peer, *, hosts: Sequence[str] = (_RESOLVED,), **how: Any
    ) -> Upstream:
        """
        Have an upstream.  Connections to other addresses are refused, and other names do not resolve.

        @param where: Its address, as in a route: C{"upstream.example:443"}, C{"192.0.2.1:25"}, C{"unix:/run/x"}.
        @param make: Whom its connections lead to: L{Peer}, or L{Origin<tlsproxy.testing.streampeers.Origin>} for TLS.
        @param hosts: The addresses of its name, if it is at one.
        @param how: Further arguments of C{make}.
        """
        address = asAddress(where)
        if isinstance(address, TCP) and address.host and not isLiteral(address.host):
            self.reactor.nameResolver.known[address.host] = hosts
        self.upstreams[str(address)] = upstream = Upstream(self, partial(make, **how), address=str(address))
        return upstream

    def connect(
        self,
        make: Callable[..., Peer] = Peer,
        *,
        to: RouteFactory | Listener | None = None,
        address: tuple[str, int] = ADDRESS,
        **how: Any,
    ) -> Any:
        """
        Have a client connect.

        @param make: Who: L{Peer} for a client in plain, L{Browser<tlsproxy.testing.streampeers.Browser>} for TLS.
        @param to: Which route it gets to, as L{serve} has returned it, or where a service listens; L{None} for the
            route that was served last.
        @param address: Where it is, host and port.
        @param how: Further arguments of C{make}.
        @return: The client.
        """
        to = self.factories[-1] if to is None else to
        end = to.buildProtocol(None)
        self.accepted += to in self.factories
        return self.attach(end, partial(make, **how), "tcp.Server", address)

    def attach(
        self, end: Any, make: Callable[[Any], Peer], kind: str = "tcp.Server", address: tuple[str, int] = ADDRESS
    ) -> Peer:
        """
        Connect an End of ours with a peer.

        @param end: The End.
        @param make: What makes the peer from its socket.
        @param kind: One of L{KINDS<tlsproxy.testing.socketreactor.KINDS>}.
        @param address: Where the peer is.
        """
        ours, theirs = tcpPair() if self.tcp else unixPair()
        peer = make(theirs)
        self.peers.append(peer)
        self.connections[peer] = connect(self.reactor, end, ours, kind, _sockaddr(*address))
        return peer

    # -- what happens -------------------------------------------------------------------------------------------------

    def settle(self, done: Callable[[], bool] | None = None) -> None:
        """
        Let everything happen that can happen without time passing.

        @param done: What has to be true in the end.
        @raise FailTest: It is not.
        """
        for attempt in range(500):
            while any([self.reactor.pump(), *[peer.pump() for peer in self.peers]]):
                pass
            if done is None or done():
                return
            if not self.tcp:
                break
            select.select([], [], [], attempt / 10000)  # Loopback may take its time where the machine is busy.
        raise FailTest("all is quiet, and what was to come has not come")

    def advance(self, seconds: float) -> None:
        """
        Let time pass, as finely as deadlines are looked at.
        """
        end = self.reactor.seconds() + seconds
        while (left := end - self.reactor.seconds()) > 0:
            self.reactor.advance(min(GRANULARITY, left))
            self.settle()

    def reset(self, peer: Peer) -> None:
        """
        Reset a peer's connection.
        """
        if self.tcp:
            peer.reset()
        else:
            # A Unix socket knows no reset but for bytes that nobody reads.
            peer.close()
            self.reactor.lose(self.connections[peer].transport)
        self.settle()

    def aborted(self, peer: Peer) -> bool:
        """
        Tell whether our side has reset the connection with a peer.
        """
        losses = self.connections[peer].losses
        return bool(losses) and losses[0].check(error.ConnectionAborted) is not None

    # -- what came of it ----------------------------------------------------------------------------------------------

    @property
    def sessions(self) -> list[Session]:
        """
        The sessions that are not over, of all routes.
        """
        return [session for factory in self.factories for session in factory.sessions]

    def told(self) -> list[LogEvent]:
        """
        Give the events by which sessions of the routes that are served here have told of their ends: C{outcome},
        C{phase}, C{reason} and all else that the line in the log says.
        """
        return list(self._told)

    def lines(self) -> list[str]:
        """
        Give those lines as they are read.
        """
        return [formatEvent(each) for each in self.told()]

    def counted(self) -> int:
        """
        Tell how many sessions were counted as over.
        """
        return sum(sum(factory.counters.values()) for factory in self.factories)

    def forget(self) -> None:
        """
        Forget the sessions that are over, and all that was logged.
        """
        self.accepted = len(self.sessions)
        for factory in self.factories:
            factory.counters.clear()
        self._told.clear()
        self.events.clear()

    # -- the end ------------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """
        Leave everything as it is, where a test has failed anyway: close the sockets, and see to no order.
        """
        globalLogPublisher.removeObserver(self._observer)
        for session in self.sessions:
            session.stop()
        for peer in self.peers:
            peer.close()
        try:
            self.advance(LINGER + GRANULARITY)
        except AssertionError:
            pass  # What failed has been told already.
        for transport in self.reactor.removeAll():
            transport.connectionLost(Failure(error.ConnectionLost()))

    def close(self) -> None:
        """
        End what has not ended, and see that nothing is left of it: no session, deadline, timer, selectable or socket.

        @raise FailTest: Something is left, or a session has not told of its end, or has told of it twice.
        """
        try:
            self.settle()
            for session in self.sessions:
                session.stop()
            self.settle()
            self.checkEnds()
            for peer in self.peers:
                peer.pump()
                peer.close()
            self.settle()
            # Whoever lingers gives up, and the sweep finds nobody any more.
            self.advance(LINGER + GRANULARITY)
            _nothing("selectables are left", self.reactor.removeAll())
            _nothing("timers are left", [str(call) for call in self.reactor.getDelayedCalls()])
            _nothing("sockets are left", [one for one in self.connections.values() if len(one.losses) != 1])
        finally:
            globalLogPublisher.removeObserver(self._observer)
            for peer in self.peers:
                peer.close()
        self.peers.clear()
        self.connections.clear()
        self.upstreams.clear()
        self.events.clear()

    def checkEnds(self) -> None:
        """
        See that all sessions are over, and that each has told its end once.

        @raise FailTest: It is not so.
        """
        _nothing("sessions are left", self.sessions)
        if self.counted() != self.accepted:
            raise FailTest(f"{self.accepted} clients have connected, and {self.counted()} sessions have ended")
        told = len(self._told)
        if all(factory.logged for factory in self.factories) and told != self.accepted:
            raise FailTest(f"{self.accepted} sessions have ended, and {told} have told of it")


def _nothing(problem: str, left: Sequence[object]) -> None:
    if left:
        raise FailTest(f"{problem}: {', '.join(map(str, left))}")
