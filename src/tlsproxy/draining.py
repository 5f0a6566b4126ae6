# -*- test-case-name: tests.test_draining -*-
"""
Waiting for sessions to be over, and having them stop.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tlsproxy.session import Session

__all__ = ["Draining", "stopSession"]

_log = Logger(namespace="tlsproxy.service")


class Draining:
    """
    What waits for some sessions to be over.

    @ivar over: Fires when they are, with the number of those that were cut.
    """

    def __init__(self, sessions: Iterable[Session]) -> None:
        self._sessions = set(sessions)
        self._cut = 0
        self.over: Deferred[int] = Deferred()
        if not self._sessions:
            self.over.callback(0)

    def ended(self, session: Session, outcome: str) -> None:
        """
        A session is over.
        """
        if session not in self._sessions:
            return
        self._sessions.discard(session)
        self._cut += outcome == "stopped"
        if not self._sessions and not self.over.called:
            self.over.callback(self._cut)

    def cut(self) -> None:
        """
        End what is left.
        """
        for session in list(self._sessions):
            if not stopSession(session):
                self.ended(session, "stopped")  # Nobody else would tell.


def stopSession(session: Session) -> bool:
    """
    Have a session stop.

    @return: Whether it could.  If not, that must not keep the others from it.
    """
    try:
        session.stop()
    except Exception:
        _log.failure("{route}: a session could not be stopped", route=session.route.name)
        return False
    return True
