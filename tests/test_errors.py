# -*- test-case-name: tests.test_errors -*-
"""
L{tlsproxy.errors}
"""

from __future__ import annotations

import gc
import weakref

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import errors
from tlsproxy.errors import (
    AdmissionRefused,
    Answered,
    ConfigurationError,
    DialFailed,
    HandshakeFailed,
    NegotiationFailed,
    PeerEnded,
    PeerReset,
    Problem,
    SessionError,
    TLSProxyError,
    WrongTransport,
    forgetFrames,
)


class ErrorsTests(SynchronousTestCase):
    """
    What can go wrong.
    """

    def test_oneTree(self) -> None:
        """
        Every error of ours can be caught as one.
        """
        raised = [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)]
        for kind in raised:
            if kind is not Problem:
                self.assertTrue(issubclass(kind, TLSProxyError), kind)

    def test_outcomes(self) -> None:
        """
        Each way for a session to fail has the word by which it is logged and counted.
        """
        self.assertEqual(
            {
                SessionError: "failed",
                AdmissionRefused: "refused",
                HandshakeFailed: "failed",
                Answered: "answered",
                DialFailed: "failed",
                NegotiationFailed: "failed",
                PeerEnded: "ended",
                PeerReset: "reset",
            },
            {
                kind: kind.outcome
                for kind in vars(errors).values()
                if isinstance(kind, type) and issubclass(kind, SessionError)
            },
        )
        self.assertFalse(issubclass(WrongTransport, SessionError))

    def test_status(self) -> None:
        """
        An upstream that does not answer is told apart from one that does, and says no.
        """
        self.assertEqual([502, 504], [DialFailed("refused").status, DialFailed("silent", 504).status])
        self.assertEqual("silent", str(DialFailed("silent", 504)))

    def test_problem(self) -> None:
        """
        A problem names its key, where it has one.
        """
        self.assertEqual("route.tls.cert: no such file", str(Problem("route.tls.cert", "no such file")))
        self.assertEqual("nothing to do", str(Problem("", "nothing to do")))

    def test_allProblems(self) -> None:
        """
        A configuration error tells everything at once, and keeps it apart.
        """
        problems = [Problem("a", "is bad"), Problem("b", "is worse")]
        error = ConfigurationError(problems)
        self.assertEqual("a: is bad; b: is worse", str(error))
        self.assertEqual(tuple(problems), error.problems)


class Held:
    """
    What a frame holds.
    """


class ForgetFramesTests(SynchronousTestCase):
    """
    L{forgetFrames}
    """

    def test_freed(self) -> None:
        """
        What the frames of an exception held is freed without the cycle collector, though the exception is kept.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        kept: list[BaseException] = []
        seen: list[weakref.ref[Held]] = []

        def inner() -> None:
            held = Held()
            seen.append(weakref.ref(held))
            raise ValueError("first")

        def outer() -> None:
            try:
                inner()
            except ValueError as e:
                raise SessionError("second") from e

        async def work() -> None:
            try:
                outer()
            except SessionError as e:
                kept.append(e)
                forgetFrames(e)

        self.successResultOf(Deferred.fromCoroutine(work()))
        self.assertEqual("second", str(kept[0]))
        self.assertIsNone(seen[0]())

    def test_none(self) -> None:
        """
        No exception has no frames.
        """
        forgetFrames(None)
