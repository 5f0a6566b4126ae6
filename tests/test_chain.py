# -*- test-case-name: tests.test_chain -*-
"""
L{tlsproxy.chain}: what becomes of a session whose handlers fail in ways that nobody expects.
"""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.acting import ActingCase
from tlsproxy.chain import Chain
from tlsproxy.errors import PeerEnded, SessionError, forgetFrames
from tlsproxy.handler import INWARD, OUTWARD

FAILED = ("failed", "handler acting failed; its traceback is in the log")


def fail(*_: object) -> None:
    """
    Make a mistake.
    """
    raise ValueError("on purpose")


class ChainTests(SynchronousTestCase):
    """
    A chain without a session.
    """

    def test_blame(self) -> None:
        """
        The name of the handler is in the reason, and the outcome is the error's.
        """
        chain = Chain("shop", fail, fail)
        error = SessionError("it is wrong")
        blamed = chain.blamed("mine", error)
        self.assertEqual(("failed", "handler mine: it is wrong"), (blamed.outcome, str(blamed)))
        blamed = chain.blamed("mine", PeerEnded("it went"))
        self.assertEqual(("ended", "handler mine: it went"), (blamed.outcome, str(blamed)))

    def test_empty(self) -> None:
        """
        Without handlers nobody has a say.
        """
        chain = Chain("shop", fail, fail)
        self.assertFalse(chain.handles(OUTWARD))
        chain.close("closed")
        self.assertTrue(chain.over)


class NoExceptionTests(ActingCase):
    """
    Handlers that raise what is no L{Exception}, as libraries do to end a program, or a task.
    """

    def leave(self, *_: Any) -> Any:
        """
        Raise the next of them.
        """
        raise self.problem

    def test_each(self) -> None:
        """
        Each of them ends its session, from wherever it comes, and tells who raised it.
        """
        wheres: tuple[dict[str, Any], ...] = (
            {"begin": self.leave},
            {"talk": self.leave},
            {"received": self.leave},
            {"begin": lambda handler: handler.flow.callLater(1, self.leave)},
        )
        for problem in (SystemExit(0), asyncio.CancelledError(), BaseException("odd")):
            for where in wheres:
                self.problem = problem
                client = self.plain(self.act(**where))
                client.write(b"x")
                self.settle()
                self.after(1)
                self.assertEqual(FAILED, self.ended(), (problem, where))
                self.flushLoggedErrors(type(problem))
                self.forget()

    def test_closed(self) -> None:
        """
        Raised at the end of a session, they do not keep it from being over.
        """
        self.problem = SystemExit(0)
        client = self.plain(self.act(closed=self.leave))
        client.end()
        self.upstream.peer.end()
        self.assertEqual(("closed", ""), self.ended())
        self.flushLoggedErrors(SystemExit)

    def tearDown(self) -> None:
        """
        Hold no traceback.
        """
        self.problem = Exception()
        super().tearDown()

    problem: BaseException = Exception()


class EndlessTests(ActingCase):
    """
    Handlers that do not come to an end.
    """

    def test_pingPong(self) -> None:
        """
        Two that answer each other's bytes at once are stopped, and one of them is named.
        """

        def answer(handler: Any, direction: Any, data: bytes) -> bytes:
            handler.flow.release(INWARD if direction == OUTWARD else OUTWARD, data)
            return data

        client = self.plain(self.act(received=answer), self.act(received=answer))
        client.write(b"ping")
        self.assertEqual(FAILED, self.ended())
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("handlers answer each other's bytes without end", failure.getErrorMessage())
        del failure

    def test_stubborn(self) -> None:
        """
        A talk that takes its cancellation for something else, and goes on waiting, does not outlive its limit.
        """
        waiting: list[Deferred[None]] = []

        async def talk(handler: Any, near: Any, far: Any) -> None:
            while len(waiting) < 3:
                waiting.append(Deferred())
                try:
                    await waiting[-1]
                except CancelledError as e:
                    forgetFrames(e)  # Twisted would hold them in a circle of its own.

        client = self.plain(self.act(talk=talk), negotiate=2.0)
        self.after(3)
        self.assertEqual(("expired", "the talk before TLS did not end within 2 s"), self.ended())
        self.settle(lambda: self.aborted(client))
        while not waiting[-1].called:
            waiting[-1].callback(None)
        self.settle()
