# -*- test-case-name: tests.test_handler -*-
"""
L{tlsproxy.handler}: what the author of a handler starts from.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from tests.acting import ActingCase
from tlsproxy import handler
from tlsproxy.handler import (
    FAR,
    INWARD,
    NEAR,
    OUTWARD,
    Flow,
    HandlerOptions,
    ProtocolHandler,
    Session,
    Side,
    Way,
    option,
)
from tlsproxy.interfaces import IHandlerOptions, IProtocolHandler, ISessionObserver
from tlsproxy.patterns.passthrough import Passthrough


@frozen(kw_only=True)
class Shift(HandlerOptions):
    """
    Adds a number to each byte of the client's.
    """

    by: int = option(1, "how much")

    def handler(self, session: Session, flow: Flow) -> Shifting:
        """
        See L{HandlerOptions.handler}.
        """
        return Shifting(session, flow, self.by)


class Shifting(ProtocolHandler):
    """
    The handler of L{Shift}.
    """

    def __init__(self, session: Session, flow: Flow, by: int) -> None:
        super().__init__(session, flow)
        self._by = by

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Add.
        """
        return bytes((each + self._by) % 256 for each in data) if direction == OUTWARD else data


@frozen(kw_only=True)
class Other(HandlerOptions):
    """
    Says otherwise of all that options say.
    """

    name = "other"
    startsTLS = frozenset({NEAR, FAR})
    serverFirst = True
    datagrams = True
    mostHeld = 7


class OptionsTests(SynchronousTestCase):
    """
    The base class of options.
    """

    def test_interface(self) -> None:
        """
        They provide what routes need.
        """
        self.assertTrue(verifyObject(IHandlerOptions, Shift()))
        self.assertTrue(verifyObject(IHandlerOptions, Other()))

    def test_defaults(self) -> None:
        """
        A class that says nothing has its own name, starts no TLS, does not wait for the upstream, knows no datagrams,
        and may hold 1 MiB; and each can be said otherwise by an attribute.
        """
        facts = [(one.name, one.startsTLS, one.serverFirst, one.datagrams, one.mostHeld) for one in (Shift(), Other())]
        self.assertEqual([("Shift", frozenset(), False, False, 1 << 20), ("other", {NEAR, FAR}, True, True, 7)], facts)

    def test_asOptions(self) -> None:
        """
        Held where options are expected to be equal and hashable, they are.
        """
        self.assertEqual(({Shift(by=2)}, True), ({Shift(by=2), Shift(by=2)}, Shift(by=1) == Shift()))

    def test_noHandler(self) -> None:
        """
        A class that does not say what its handlers are says so.
        """
        problem = self.assertRaises(NotImplementedError, Other().handler, Any, Any)
        self.assertEqual("Other makes no handler: it lacks the method handler(session, flow)", str(problem))

    def test_names(self) -> None:
        """
        All that an author needs is in one module.
        """
        self.assertEqual([], [name for name in handler.__all__ if not hasattr(handler, name)])
        self.assertEqual(("near", "far", "outward", "inward"), (NEAR, FAR, OUTWARD, INWARD))
        self.assertTrue(callable(Side.startTLS))


class ForgottenTests(SynchronousTestCase):
    """
    A class of options without its decorator.
    """

    def test_forgotten(self) -> None:
        """
        To make an instance of it is refused, with the sentence on what to write, whether options are given or not.
        """

        class Bare(HandlerOptions):
            every: int = option(1, "every how many letters")

        for given in ({}, {"every": 2}):
            error = self.assertRaises(TypeError, Bare, **given)
            self.assertEqual(
                "Bare has options, but is no attrs class of its own: write @attrs.frozen(kw_only=True) above it",
                str(error),
            )


class HandlerTests(ActingCase):
    """
    The base class of handlers.
    """

    def test_interface(self) -> None:
        """
        It is a handler.
        """
        self.assertTrue(verifyClass(IProtocolHandler, ProtocolHandler))

    def test_passes(self) -> None:
        """
        By itself it lets everything pass, and everything end.
        """
        session: Any = object()
        flow: Any = object()
        plain = ProtocolHandler(session, flow)
        self.assertEqual((session, flow), (plain.session, plain.flow))
        side: Any = object()
        self.assertIs(None, self.successResultOf(Deferred.fromCoroutine(plain.negotiate(side, side))))
        self.assertEqual(b"data", plain.received(OUTWARD, b"data"))
        plain.ended(INWARD, "ended")
        plain.closed("closed")

    def test_inARoute(self) -> None:
        """
        Options in a route make one handler for each session.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), handlers=[Shift(), Shift(by=2)])
        for number in range(2):
            client = self.visit()
            client.write(b"abc")
            self.settle(lambda number=number: self.upstream.peers[number].received == b"def")  # type: ignore[misc]
            self.upstream.peers[number].write(b"abc")
            self.settle(lambda client=client: client.received == b"abc")  # type: ignore[misc]


class ObserverTests(ActingCase):
    """
    Those who see the sessions of a route.
    """

    def observer(self, fails: bool = False) -> Any:
        """
        Make somebody who remembers what was told, and perhaps fails at it.
        """
        told: list[Any] = []

        class Observer:
            def started(self, session: Any) -> None:
                told.append(("started", session.phase))
                self.fail()

            def entered(self, session: Any, phase: str) -> None:
                told.append((phase, session.phase))
                self.fail()

            def ended(self, session: Any, outcome: str, reason: str) -> None:
                told.append(("ended", outcome, reason))
                self.fail()

            def fail(self) -> None:
                if fails:
                    raise ValueError("on purpose")

        observer: Any = Observer()
        observer.told = told
        return observer

    def test_told(self) -> None:
        """
        They are told of the beginning, each phase and the end, in this order; one who fails changes nothing.
        """
        failing, seeing = self.observer(True), self.observer()
        self.assertEqual({"started", "entered", "ended"}, set(ISessionObserver.names()))
        client = self.plain(self.act(), observers=[failing, seeing])
        client.end()
        self.upstream.peer.end()
        self.assertEqual(("closed", ""), self.ended())
        phases = ["dial", "negotiate", "idle", "half_closed"]
        expected = [("started", ""), *[(phase, phase) for phase in phases], ("ended", "closed", "")]
        self.assertEqual([expected, expected], [failing.told, seeing.told])
        self.assertEqual(len(expected), len(self.flushLoggedErrors(ValueError)))

    def test_stops(self) -> None:
        """
        One may stop a session at any moment, also at its very beginning.
        """
        for word in ("started", "dial", "negotiate", "idle"):
            observer = self.observer()

            def stop(session: Any, phase: str = "started", word: str = word) -> None:
                if phase == word:
                    session.stop()

            observer.started = observer.entered = stop
            self.plain(self.act(), observers=[observer])
            self.assertEqual(("stopped", "the service stopped"), self.ended())
            self.forget()
