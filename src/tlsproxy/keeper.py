# -*- test-case-name: tests.test_keeper -*-
"""
Who accepts connections, as the sessions that are made of them know it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from tlsproxy.admission import Admission
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.route import Route

__all__ = ["Keeper"]


class Keeper(Protocol):
    """
    What a session needs of whoever accepted it.

    @ivar route: The route it came by.
    @ivar reactor: The reactor.
    @ivar deadlines: The deadlines of all sessions.
    @ivar dialer: What dials.
    @ivar seconds: The limit of each phase.
    @ivar listeners: What this proxy listens on: hosts and ports.
    @ivar observers: Who sees the sessions.
    @ivar admission: What a client network may have; L{None} where nothing limits that.
    @ivar sessions: Its sessions that are not over.
    @ivar enrolled: What became of requests for enrollment, by C{"done"} or C{"refused"} and a word.
    """

    route: Route
    reactor: Any
    deadlines: Deadlines
    dialer: Dialer
    seconds: dict[str, float]
    listeners: Sequence[tuple[str, int]]
    observers: tuple[ISessionObserver, ...]
    admission: Admission | None
    sessions: set[Any]
    enrolled: Counter[tuple[str, str]]

    def ended(self, session: Any, outcome: str, reason: str) -> None:
        """
        A L{session<tlsproxy.session.Session>} is over.
        """
