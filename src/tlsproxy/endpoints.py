# -*- test-case-name: tests.test_endpoints -*-
"""
Routes as endpoints: a Twisted program listens through C{offload}, and connects through C{encrypt}, in its own process.

The program's own protocol stands in the place of the upstream or of the client.  All else is as with any session: the
rules, the deadlines, the handlers, the hooks, the observers, and the line in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import isawaitable
from typing import Any, Final

from attrs import evolve
from twisted.internet.address import HostnameAddress, UNIXAddress
from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tlsproxy.address import TCP, Address, Unix
from tlsproxy.application import Application, fromProtocol, toProtocol
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.entrance import Entrance, Served, tellListening
from tlsproxy.errors import DialFailed, SessionError, TLSProxyError
from tlsproxy.factory import RouteFactory
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.session import Session

__all__ = ["CannotConnect", "RouteClientEndpoint", "RouteServerEndpoint"]

_log = Logger()

_APPLICATION: Final = "this-program"
"""What the log calls the program itself, where a session has the program's own protocol on a side."""


class CannotConnect(TLSProxyError, ConnectError):
    """
    A session could not be set up for a program that wanted to connect.

    @ivar outcome: One word, as in the log.
    @ivar phase: What it was at, one of L{tlsproxy.interfaces.PHASES}.
    """

    def __init__(self, outcome: str, phase: str, reason: str) -> None:
        super().__init__(None, reason)
        self.outcome = outcome
        self.phase = phase
        self._reason = reason

    def __str__(self) -> str:
        return self._reason


# -- listening --------------------------------------------------------------------------------------------------------


@implementer(IStreamClientEndpoint)
class _Application:
    """
    The program's own protocol, as what one session dials.
    """

    def __init__(self, session: Session, factory: IProtocolFactory) -> None:
        self._session: Session | None = session
        self._factory = factory

    def __str__(self) -> str:
        return _APPLICATION

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        See L{IStreamClientEndpoint}.
        """
        return maybeDeferred(self._connect)

    def _connect(self) -> End:
        # The session notes what it has dialed, and that must not hold it in turn.
        session, self._session = self._session, None
        assert session is not None
        try:
            return toProtocol(session.keeper.reactor, self._factory, session.near)
        except SessionError:
            raise
        except Exception:
            _log.failure("{route}: the program's {factory} failed", route=session.route.name, factory=self._factory)
            raise DialFailed("the program itself failed; its traceback is in the log") from None


class _Door(Entrance):
    """
    What listens for a program, whose own factory is told of it as by any port.
    """

    def __init__(self, factory: RouteFactory, application: IProtocolFactory) -> None:
        super().__init__(factory)
        self._application = application

    def logPrefix(self) -> str:
        """
        Tell what Twisted's own log calls it: the same as without us.
        """
        if ILoggingContext.providedBy(self._application):
            return self._application.logPrefix()
        return type(self._application).__name__

    def startFactory(self) -> None:
        """
        The first port listens.
        """
        self._application.doStart()

    def stopFactory(self) -> None:
        """
        The last port is closed.
        """
        self._application.doStop()

    def rest(self) -> None:
        """
        A session or a port is over: leave no timer behind that nobody needs.
        """
        super().rest()
        if not self.ports:
            self.factory.deadlines.rest()


@implementer(IListeningPort)
class _Ports:
    """
    All that a route listens on, as one port.
    """

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._host = entrance.ports[0].getHost()

    def startListening(self) -> None:
        """
        See L{IListeningPort}.
        """
        for port in self._entrance.ports:
            port.startListening()

    def stopListening(self) -> Deferred[Any]:
        """
        Listen no more.  Sessions go on, as connections do with any port.
        """
        return gatherResults(self._entrance.close(), consumeErrors=True)

    def getHost(self) -> Any:
        """
        Tell the address; the first, where there are several.
        """
        return self._host


@implementer(IStreamServerEndpoint)
class RouteServerEndpoint:
    """
    Listens where a route says, and hands the client of each session, once it is let in, to the program's own protocol.
    """

    def __init__(
        self, route: Route, reactor: Any, *, logged: bool = True, observers: Iterable[ISessionObserver] = ()
    ) -> None:
        """
        @param route: The route: of mode C{offload}, and without an upstream; its rules and its C{chooseUpstream} may
            send some clients elsewhere.
        @param reactor: The reactor.
        @param logged: Whether the address that is listened on, and the end of each session, is logged.
        @param observers: Who sees the sessions, beside the route's own.
        @raise ValueError: This route cannot be listened by, with a sentence on why.
        """
        pattern = route.pattern
        if not isinstance(pattern, Offload):
            raise ValueError(
                f"route {route.name}: a program listens by a route of mode offload, and this one's is {pattern.mode}"
            )
        if pattern.upstream is not None:
            raise ValueError(f"route {route.name}: the program itself stands for the upstream: leave that out")
        if route.listen is None:
            raise ValueError(f"route {route.name}: say where to listen")
        if any(rule.unconditional for rule in route.rules):
            raise ValueError(
                f"route {route.name}: no client gets to the program, since a rule without conditions matches all"
            )
        if route.sendProxy:
            raise ValueError(f"route {route.name}: a program's transport tells it of the client: leave sendProxy out")
        self._route, self._reactor = route, reactor
        self._logged, self._observers = logged, tuple(observers)
        self._deadlines, self._dialer = Deadlines(reactor), Dialer(reactor)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        See L{IStreamServerEndpoint}.
        """
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, application: IProtocolFactory) -> IListeningPort:
        route = evolve(self._route, chooseUpstream=_chooser(self._route, application))
        factory = Served(route, self._reactor, self._deadlines, self._dialer, (), self._logged, self._observers)
        door = _Door(factory, application)
        factory.told = lambda session, outcome: door.rest()
        await door.open(self._reactor)
        if self._logged:
            tellListening(route, door.ports)
        return _Ports(door)


def _chooser(route: Route, application: IProtocolFactory) -> Callable[[Session], Any]:
    """
    Have a session connected with the program where neither the route's own hook nor a rule has it otherwise.
    """
    asked = route.chooseUpstream

    async def choose(session: Session) -> Address | IStreamClientEndpoint | None:
        chosen = asked(session) if asked is not None else None
        if isawaitable(chosen):
            chosen = await chosen
        if chosen is None and not any(rule.matches(session.hello, session.near.peer) for rule in route.rules):
            return _Application(session, application)
        return chosen

    return choose


# -- connecting -------------------------------------------------------------------------------------------------------


class _Attempt:
    """
    A connection of the program's through a route.

    @ivar session: The session, once there is one.
    @ivar done: Fires with the program's protocol when it is connected.
    """

    session: Session

    def __init__(self, factory: IProtocolFactory, application: Application) -> None:
        self._factory = factory
        self._application = application
        self.done: Deferred[IProtocol] = Deferred(self._cancelled)

    def stands(self) -> None:
        """
        The session is set up: connect the program, before a byte moves.
        """
        session = self.session
        far = session.far
        assert far is not None
        if self._told():
            return  # The program has given up, and may do so, too, whenever it is asked for something below.
        try:
            protocol = self._factory.buildProtocol(far.peer())
            if self._told():
                return
            if protocol is None:
                raise NoProtocol()
            self._application.connect(protocol, far)
        except Exception:
            # Not in the middle of what the session does now.
            session.keeper.reactor.callLater(0, session.cut, "failed", "the program itself failed")
            if self._told():
                _log.failure("{route}: the program's {factory} failed", route=session.route.name, factory=self._factory)
            else:
                self.done.errback(Failure())
        else:
            if not self._told():
                self.done.callback(protocol)

    def _told(self) -> bool:
        return bool(self.done.called)

    def ended(self, outcome: str, reason: str) -> None:
        """
        The session is over.
        """
        if not self._told():
            self.done.errback(CannotConnect(outcome, self.session.phase, reason))
        self._factory.doStop()

    def _cancelled(self, done: Deferred[IProtocol]) -> None:
        done.errback(ConnectingCancelledError(_addressOf(self.session.upstream)))
        self.session.cut("stopped", "the program gave the connection up")


@implementer(ISessionObserver)
class _Attempts:
    """
    The connections that a program waits for, or has.

    @ivar by: Each by the End of its near side.
    """

    def __init__(self) -> None:
        self.by: dict[End, _Attempt] = {}

    def started(self, session: Session) -> None:
        """
        See L{ISessionObserver}.
        """
        self.by[session.near].session = session

    def entered(self, session: Session, phase: str) -> None:
        """
        See L{ISessionObserver}.
        """
        if phase == "idle" and session.near in self.by:
            self.by[session.near].stands()

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        See L{ISessionObserver}.
        """
        self.by.pop(session.near).ended(outcome, reason)
        session.keeper.deadlines.rest()


def _addressOf(upstream: object) -> IAddress:
    if isinstance(upstream, TCP):
        return HostnameAddress(upstream.host.encode("idna"), upstream.port)
    return UNIXAddress(upstream.path if isinstance(upstream, Unix) else None)


@implementer(IStreamClientEndpoint)
class RouteClientEndpoint:
    """
    Connects the program's own protocol with a route's upstream: when the TLS toward it stands, and its certificate and
    name are verified.
    """

    def __init__(
        self, route: Route, reactor: Any, *, logged: bool = True, observers: Iterable[ISessionObserver] = ()
    ) -> None:
        """
        @param route: The route: of mode C{encrypt}, or C{passthrough} that demands no TLS; its C{listen} has no use.
        @param reactor: The reactor.
        @param logged: Whether the end of each session is logged.
        @param observers: Who sees the sessions, beside the route's own.
        @raise ValueError: This route cannot be connected by, with a sentence on why.
        """
        pattern = route.pattern
        if isinstance(pattern, Passthrough) and pattern.requireTLS:
            raise ValueError(
                f"route {route.name}: it waits for a TLS hello, which a program sends only after it is connected: "
                "have it demand no TLS"
            )
        if not isinstance(pattern, (Encrypt, Passthrough)):
            raise ValueError(
                f"route {route.name}: a program connects by a route of mode encrypt or passthrough, and this one's is "
                f"{pattern.mode}"
            )
        self._reactor = reactor
        self._attempts = _Attempts()
        self._factory = RouteFactory(
            route, reactor, Deadlines(reactor), Dialer(reactor), (), logged, (*observers, self._attempts)
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint}.

        @return: Fires with the program's protocol when it is connected.  It fails with L{CannotConnect}, which says
            what the log says; to cancel it cuts the session.
        """
        try:
            near, application = fromProtocol(self._reactor, "the program")
        except SessionError as e:
            return fail(CannotConnect(e.outcome, "dial", str(e)))
        self._attempts.by[near] = attempt = _Attempt(protocolFactory, application)
        protocolFactory.doStart()
        self._factory.accept(near)
        return attempt.done
