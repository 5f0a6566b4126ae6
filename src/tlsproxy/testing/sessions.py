# -*- test-case-name: tests.testing.test_sessions -*-
"""
A test case for whole sessions.

Whatever a test does to its sessions, L{SessionCase} looks at its end that each has told its end once, and that nothing
of them is left: no session, deadline, timer, selectable or socket, and nothing for the cycle collector.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.factory import RouteFactory
from tlsproxy.loopbacktls import LoopbackTLS
from tlsproxy.route import Limits, Route
from tlsproxy.session import Session
from tlsproxy.testing.network import LINGER, Network
from tlsproxy.testing.socketreactor import Connected
from tlsproxy.testing.streampeers import Browser, Origin, Peer
from tlsproxy.testing.upstreams import Upstream
from tlsproxy.tls.native import TLSStream

__all__ = ["LINGER", "Browser", "Origin", "SessionCase", "Upstream"]


class SessionCase(SynchronousTestCase):
    """
    A test with sessions.

    @cvar tcp: Whether the sockets are TCP's, which can be reset at any time.
    @ivar network: What the sessions run on.
    @ivar upstream: Somewhere to dial.
    @ivar factory: What the route is served by that was served last.
    @ivar phases: The phases that were entered, in their order.
    """

    tcp: ClassVar[bool] = False
    factory: RouteFactory

    def setUp(self) -> None:
        """
        Make all but the route.
        """
        self.network = Network(self.tcp)
        # Routes of these tests have endpoints to dial, or see to names and addresses themselves.
        self.network.dialer = Dialer(self.network.reactor)
        self.phases: list[str] = []
        self.upstream = Upstream(self.network)
        enter = Session.enter

        def noted(session: Session, phase: str) -> None:
            self.phases.append(phase)
            enter(session, phase)

        self.patch(Session, "enter", noted)
        # Until the test is over, see run(): trial runs what addCleanup() is given before tearDown() looks.
        gc.disable()
        # Held, and not only their ids: one that dies meanwhile would lend its id to what is left by this test.
        self._before = self._mine()

    def run(self, result: Any = None) -> Any:
        """
        Run it, with the cycle collector at rest from L{setUp} to the very end.
        """
        try:
            return super().run(result)
        finally:
            gc.enable()

    def _mine(self) -> list[object]:
        return [one for one in gc.get_objects() if type(one) in (Session, End, TLSStream, LoopbackTLS)]

    @property
    def reactor(self) -> Any:
        """
        The reactor.
        """
        return self.network.reactor

    @property
    def deadlines(self) -> Deadlines:
        """
        The deadlines of all sessions.
        """
        return self.network.deadlines

    @property
    def peers(self) -> list[Peer]:
        """
        The other ends of all connections.
        """
        return self.network.peers

    @property
    def connections(self) -> dict[Peer, Connected]:
        """
        Our end of each connection.
        """
        return self.network.connections

    @property
    def events(self) -> list[LogEvent]:
        """
        All that was logged.
        """
        return self.network.events

    def serve(self, pattern: Any, logged: bool = True, **route: Any) -> RouteFactory:
        """
        Have a route with a pattern.

        @param pattern: The pattern.
        @param logged: Whether the end of each session is logged.
        @param route: Further attributes of the route; limits, too.
        """
        limits = Limits(**{name: route.pop(name) for name in list(route) if hasattr(Limits(), name)})
        made = Route(name="shop", listen="8443", pattern=pattern, limits=limits, **route)
        self.factory = self.network.serve(made, logged)
        return self.factory

    def attach(self, end: End, make: Callable[[Any], Peer], kind: str) -> Peer:
        """
        Connect an End with a peer.
        """
        return self.network.attach(end, make, kind)

    def visit(self, make: Callable[[Any], Peer] = Peer) -> Any:
        """
        Have a client connect.
        """
        return self.network.connect(make, to=self.factory)

    def settle(self, done: Callable[[], bool] | None = None) -> None:
        """
        Let everything happen that can happen without time passing.

        @param done: What has to be true in the end.
        """
        self.network.settle(done)

    def finished(self) -> None:
        """
        Let everything happen until a session has told its end.
        """
        before = len(self.told())
        self.settle(lambda: len(self.told()) > before or not self.factory.sessions)

    def after(self, seconds: float) -> None:
        """
        Let time pass, as finely as deadlines are looked at.
        """
        self.network.advance(seconds)

    def one(self) -> Session:
        """
        The only session that is not over.
        """
        (session,) = self.factory.sessions
        return session

    def told(self) -> list[LogEvent]:
        """
        What was logged of ends of sessions.
        """
        return self.network.told()

    def lines(self) -> list[str]:
        """
        As L{told}, as it is read.
        """
        return self.network.lines()

    def assertOver(self, outcome: str, phase: str, reason: str = "") -> None:
        """
        All sessions are over, and the only one has told of it in this way.
        """
        self.assertEqual(set(), self.factory.sessions)
        (event,) = self.told()
        self.assertEqual((outcome, phase, reason), (event["outcome"], event["phase"], event["reason"]))
        self.assertEqual({(outcome, phase): 1}, dict(self.factory.counters))

    def forget(self) -> None:
        """
        Forget all sessions so far, which are over, so that the next one is the only one.
        """
        self.network.checkEnds()
        self.network.forget()

    def aborted(self, peer: Peer) -> bool:
        """
        Whether our side reset the connection with a peer; it has to be closed.
        """
        self.assertEqual(1, len(self.connections[peer].losses))
        return self.network.aborted(peer)

    def tearDown(self) -> None:
        """
        Whatever happened, nothing is left.
        """
        try:
            self.settle()
            self.network.checkEnds()
        except BaseException:
            self.network.abandon()
            raise
        self.network.close()
        self.upstream = Upstream(self.network)
        before = {id(one) for one in self._before}
        left = [one for one in self._mine() if id(one) not in before]
        self._before.clear()
        self.assertEqual([], left, "garbage is left")
