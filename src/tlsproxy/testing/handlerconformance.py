# -*- test-case-name: tests.testing.test_handlerconformance -*-
"""
What every session promises, with protocol handlers in it that pass all bytes on unchanged.

A handler that only looks, or counts, or slows down, must not break what the session does without it: half-close,
truncation, resets, back-pressure, bytes one at a time.  Its author has that tested by one class and one line::

    class WatchConformance(HandlerConformance):
        handlers = (Watch(),)

    globals().update(pairings(__name__, Streams, WatchConformance))

which makes a test case for each pairing of plain, TLS 1.2 and TLS 1.3.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, has
from zope.interface import implementer

from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.factory import RouteFactory
from tlsproxy.interfaces import IHandlerOptions, IPattern, ISessionObserver
from tlsproxy.relay import Relay
from tlsproxy.route import Route
from tlsproxy.session import Session
from tlsproxy.testing.conformance import PairingConformance
from tlsproxy.testing.streams import Side, Streams, pairings

__all__ = ["HandlerConformance", "Streams", "pairings"]


@implementer(IPattern)
class _SetUp:
    """
    The pattern of a session whose sides are there already.
    """

    mode = "test"

    def __init__(self, far: End) -> None:
        self._far = far

    async def open(self, session: Session) -> tuple[End, End]:
        """
        See L{IPattern}.
        """
        session.far = self._far
        return session.near, self._far


@implementer(ISessionObserver)
class _Observer:
    """
    Tells a test how its session goes.
    """

    def __init__(self, case: Streams) -> None:
        self._case = case

    def started(self, session: Session) -> None:
        """
        See L{ISessionObserver}.
        """

    def entered(self, session: Session, phase: str) -> None:
        """
        See L{ISessionObserver}.
        """
        if phase == "half_closed":
            self._case.halfClosed += 1

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        See L{ISessionObserver}.
        """
        self._case.outcomes.append((outcome, reason))


class _Current:
    """
    A direction of a relay, which may be joined anew at any moment.
    """

    def __init__(self, relay: Relay, name: str) -> None:
        self._relay = relay
        self._name = name

    @property
    def current(self) -> Any:
        """
        What it is now.
        """
        return getattr(self._relay, self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)


class HandlerConformance(PairingConformance):
    """
    The promises of L{PairingConformance}, in a whole session with handlers; to be mixed into L{Streams}.

    @cvar handlers: The options of the handlers, the one nearest the client first.  Each test has them made anew.
    """

    handlers: tuple[Any, ...] = ()

    def makeHandlers(self) -> tuple[IHandlerOptions, ...]:
        """
        Make the options of the handlers, for one session.
        """
        return tuple(evolve(each) if has(type(each)) else each for each in self.handlers)

    def join(self, endBoth: bool = False, abortTruncated: bool = False) -> None:
        """
        Make a session of both sides.
        """
        route = Route(
            name="conformance",
            listen="8443",
            pattern=_SetUp(self.far.end),
            handlers=self.makeHandlers(),
            close="both" if endBoth else "each",
            truncation="abort" if abortTruncated else "tell",
            observers=(_Observer(self),),
        )
        reactor = self.loopback.reactor
        session = Session(
            RouteFactory(route, reactor, Deadlines(reactor), Dialer(reactor), logged=False), self.near.end
        )
        session.start()
        assert session.relay is not None, self.outcomes
        self.relay = session.relay

    def ways(self) -> list[tuple[Side, Side, Any]]:
        """
        Both directions: source, sink, and what is between, which handlers may have joined anew.
        """
        outward, inward = _Current(self.relay, "outward"), _Current(self.relay, "inward")
        return [(self.near, self.far, outward), (self.far, self.near, inward)]
