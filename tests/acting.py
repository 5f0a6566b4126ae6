# -*- test-case-name: tests.test_handled -*-
"""
Protocol handlers that do what a test says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import Factory, frozen

from tlsproxy.handler import Flow, HandlerOptions, ProtocolHandler, Session, Side, Way
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.relay import Relay
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.handlerconformance import HandlerConformance
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer

__all__ = ["Act", "Acting", "ActingCase", "Joined"]

if TYPE_CHECKING:
    Joined = HandlerConformance
else:

    class Joined:
        """
        The sessions of L{HandlerConformance}, without its tests; to be mixed into
        L{Streams<tlsproxy.testing.streams.Streams>}.
        """

        handlers = ()
        join = HandlerConformance.join
        makeHandlers = HandlerConformance.makeHandlers
        ways = HandlerConformance.ways
        ending = HandlerConformance.ending


class Acting(ProtocolHandler):
    """
    A handler that does what its options say, and remembers what it was told.

    @ivar told: What was called, each with what it was called with.
    """

    def __init__(self, session: Session, flow: Flow, options: Act) -> None:
        super().__init__(session, flow)
        self.options = options
        self.told: list[tuple[str, ...]] = []
        self.got: dict[str, bytearray] = {"outward": bytearray(), "inward": bytearray()}
        options.made.append(self)
        if options.begin is not None:
            options.begin(self)

    async def negotiate(self, near: Side, far: Side) -> None:
        """
        Talk.
        """
        if self.options.talk is not None:
            await self.options.talk(self, near, far)

    def received(self, direction: Way, data: bytes) -> Any:
        """
        Take bytes.
        """
        self.got[direction] += data
        return data if self.options.received is None else self.options.received(self, direction, data)

    def ended(self, direction: Way, how: str) -> None:
        """
        Hear of an end.
        """
        self.told.append(("ended", direction, how))
        if self.options.ended is not None:
            self.options.ended(self, direction)

    def closed(self, outcome: str) -> None:
        """
        Hear of the end of all.
        """
        self.told.append(("closed", outcome))
        if self.options.closed is not None:
            self.options.closed(self)


@frozen(kw_only=True, eq=False)
class Act(HandlerOptions):
    """
    What such a handler does.

    @ivar made: The handlers that were made.
    @ivar begin: What it does when it is made.
    @ivar talk: What it does before the bytes flow.
    """

    name: str = "acting"
    made: list[Acting] = Factory(list)
    begin: Callable[[Acting], object] | None = None
    talk: Callable[[Acting, Side, Side], Any] | None = None
    received: Callable[[Acting, Way, bytes], object] | None = None
    ended: Callable[[Acting, Way], object] | None = None
    closed: Callable[[Acting], object] | None = None
    starts: frozenset[str] = frozenset()
    serverFirst: bool = False
    mostHeld: int = 1 << 20

    @property
    def startsTLS(self) -> frozenset[str]:
        """
        See L{HandlerOptions}.
        """
        return self.starts

    def handler(self, session: Session, flow: Flow) -> Acting:
        """
        See L{HandlerOptions}.
        """
        return Acting(session, flow, self)


class ActingCase(SessionCase):
    """
    A test with such handlers.

    @ivar made: Those that were made.
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        super().setUp()
        self.made: list[Acting] = []

    def act(self, **what: Any) -> Act:
        """
        Make a handler of a route.
        """
        return Act(made=self.made, **what)

    def plain(self, *handlers: Act, **route: Any) -> Any:
        """
        Have a client connect without TLS, through some handlers.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), handlers=handlers, **route)
        client = self.visit()
        self.settle()
        return client

    def offload(self, *handlers: Act, clients: str = "", make: Callable[[Any], Peer] = Browser, **route: Any) -> Any:
        """
        Have a client connect with TLS, which ends here.
        """
        self.serve(Offload(tls=serverTLS(clients=clients), upstream=self.upstream), handlers=handlers, **route)
        client = self.visit(make)
        self.settle()
        return client

    def bridge(
        self,
        *handlers: Act,
        make: Callable[[Any], Peer] = Browser,
        origin: Callable[[Any], Peer] = Origin,
        tls: Any = None,
        **route: Any,
    ) -> Any:
        """
        Have a client connect with TLS, and TLS toward the upstream.
        """
        self.upstream = Upstream(self, origin)
        pattern = Bridge(tls=tls or serverTLS(), upstream=self.upstream, upstreamTLS=clientTLS())
        self.serve(pattern, handlers=handlers, **route)
        client = self.visit(make)
        self.settle()
        return client

    @property
    def relay(self) -> Relay:
        """
        What carries the bytes of the only session.
        """
        relay = self.one().relay
        assert relay is not None
        return relay

    def ended(self) -> tuple[str, str]:
        """
        Tell with what outcome and reason the only session has ended.
        """
        self.settle()
        (event,) = self.told()
        self.assertEqual(set(), self.factory.sessions)
        return event["outcome"], event["reason"]

    def tearDown(self) -> None:
        """
        Hold nothing of a session.
        """
        self.settle()
        while self.network.sessions:
            self.network.sessions[0].stop()
        self.made.clear()
        super().tearDown()
