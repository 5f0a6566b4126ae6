# -*- test-case-name: tests.test_chain -*-
"""
The protocol handlers of one session, in their order, and what becomes of the session when one fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.errors import SessionError, forgetFrames
from tlsproxy.flow import Flow, Joined
from tlsproxy.interfaces import IHandlerOptions, IProtocolHandler, Way

__all__ = ["Chain"]

_log = Logger()

_METHODS: Final = tuple(IProtocolHandler.names())


class Chain:
    """
    The handlers of one session.

    @ivar links: The handlers, each with its flow, the one nearest the client first.
    @ivar relay: What carries the bytes, once it does.
    @ivar over: Whether the session is over.
    @ivar answer: Tells the client something, before the bytes flow, with which its session ends.
    @ivar depth: How many releases are under way, each inside of another.
    """

    __slots__ = ("_cut", "_route", "answer", "depth", "links", "over", "relay")

    def __init__(self, route: str, cut: Callable[[str, str], None], answer: Callable[[bytes], None]) -> None:
        """
        @param route: What the route is called in logs.
        @param cut: Ends the session, with the outcome in one word and the reason in one sentence.
        """
        self._route = route
        self._cut = cut
        self.answer = answer
        self.links: list[tuple[Flow, IProtocolHandler]] = []
        self.relay: Joined | None = None
        self.over = False
        self.depth = 0

    def add(self, options: IHandlerOptions, session: object, reactor: Any) -> None:
        """
        Make the next handler.

        @raise SessionError: It could not be made.
        """
        name, flow = type(options).__name__, None
        try:
            name = options.name
            flow = Flow(self, name, options.mostHeld, reactor)
            handler = options.handler(session, flow)
            lacking = [method for method in _METHODS if not callable(getattr(handler, method, None))]
            if lacking:
                raise TypeError(f"handler() has returned {handler!r}, which has no method {lacking[0]}")
        except BaseException as e:
            if flow is not None:
                flow.close()
            raise self.blamed(name, e) from None
        self.links.append((flow, handler))

    def handles(self, way: Way) -> bool:
        """
        Tell whether any handler has a say in a direction.
        """
        return any(way not in flow._done for flow, _ in self.links)

    def fail(self, name: str, problem: BaseException) -> None:
        """
        A handler has raised an exception: end its session.
        """
        outcome, reason = self.blame(name, problem)
        if not self.over:
            self._cut(outcome, reason)

    def blamed(self, name: str, problem: BaseException) -> SessionError:
        """
        Make of an exception of a handler what ends the set-up of its session.
        """
        outcome, reason = self.blame(name, problem)
        blamed = SessionError(reason)
        blamed.outcome = outcome
        return blamed

    def blame(self, name: str, problem: BaseException) -> tuple[str, str]:
        """
        Say what an exception of a handler means to its session: the outcome and the reason.
        """
        if isinstance(problem, SessionError):
            outcome, reason = problem.outcome, f"handler {name}: {problem}"
        else:
            outcome, reason = "failed", f"handler {name} failed; its traceback is in the log"
            failure = Failure(problem)
            _log.failure("{route}: handler {handler} failed", failure, route=self._route, handler=name)
            failure.cleanFailure()
        forgetFrames(problem)
        return outcome, reason

    def close(self, outcome: str) -> None:
        """
        The session is over.
        """
        self.over = True
        links, self.links, self.relay = self.links, [], None
        for flow, handler in links:
            flow.close()
            try:
                handler.closed(outcome)
            except BaseException as e:
                self.blame(flow.name, e)
        del self._cut, self.answer
