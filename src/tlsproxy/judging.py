# -*- test-case-name: tests.test_judging -*-
"""
Asking again, of the sessions that are there when the routes change, whether they are still let in.

Most sessions go on by the route that they came by.  Those go on only if the new rules let them in, too, whose pattern
says so by a method C{whyNoMore}: what they were let in by may have been taken away, which is to take effect at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.logger import Logger

from tlsproxy.factory import RouteFactory
from tlsproxy.grants import Admitted
from tlsproxy.route import Route
from tlsproxy.session import Session

__all__ = ["REVOKED", "judgeAgain"]

_log = Logger()

REVOKED = "revoked"
"""The outcome of sessions that are not let in any more."""


def judgeAgain(factories: Iterable[RouteFactory], routes: Iterable[Route]) -> None:
    """
    Cut the sessions that the routes do not let in any more.

    @param factories: Those of all sessions that are there, whichever route they came by.
    @param routes: The routes that hold now; a session's is the one with the name of its own.
    """
    named: dict[str, Any] = {route.name: route.pattern for route in routes}
    for factory in factories:
        before: Any = factory.route.pattern
        if not hasattr(before, "whyNoMore"):
            continue
        pattern = named.get(factory.route.name)
        for session in list(factory.sessions):
            try:
                why = _whyNoMore(session, pattern if type(pattern) is type(before) else None)
            except Exception:
                _log.failure("{route}: a session could not be judged again", route=factory.route.name)
                why = "whether the client is still let in could not be told"
            if why:
                session.cut(REVOKED, why)
        watch = getattr(pattern, "watch", None)
        if watch is not None:
            watch(factory)


def _whyNoMore(session: Session, pattern: Any) -> str:
    """
    Say why a session is not let in any more.

    @param pattern: Whose rules hold now; L{None} where its route is gone.
    """
    if pattern is None:
        return "its route is gone"
    admitted = session.admitted = session.admitted or Admitted()
    if session.relay is None:
        admitted.successor = pattern  # What it still has to ask for, it asks there.
    return str(pattern.whyNoMore(admitted))
