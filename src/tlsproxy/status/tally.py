# -*- test-case-name: tests.status.test_tally -*-
"""
What has become of all sessions so far: counted as it happens, and by nothing that a client can choose.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from attrs import Factory, define
from zope.interface import implementer

from tlsproxy.end import End
from tlsproxy.interfaces import FAR, NEAR, ISessionObserver
from tlsproxy.session import Session
from tlsproxy.tls.explain import ALERTS
from tlsproxy.tls.native import TLSConnection

__all__ = [
    "CHOSEN",
    "MANY",
    "OTHERS",
    "TARGETS",
    "Dials",
    "Handshakes",
    "RouteTally",
    "Tally",
    "droppedBy",
    "upstreamOf",
]

TARGETS: Final = "(targets of clients)"
"""Stands for the upstreams of a route whose clients say where to."""
CHOSEN: Final = "(chosen by the program)"
"""Stands for the upstreams of a route whose program says where to, by whatever a client may have said."""
OTHERS: Final = "(others)"
"""Stands for the upstreams of a route beyond L{MANY}."""
MANY: Final = 100
"""The most upstreams of a route that are told apart."""

_PHASES: Final = {"handshake": NEAR, "upstream_handshake": FAR}


@define
class Handshakes:
    """
    The handshakes of one side of a route.

    @ivar full: How many went the whole way.
    @ivar resumed: How many resumed an earlier session.
    @ivar versions: How many came to each version of TLS.
    @ivar groups: How many came to each key exchange group.
    @ivar failed: How many failed, by reason: an alert, or what became of the session.
    """

    full: int = 0
    resumed: int = 0
    versions: Counter[str] = Factory(Counter)
    groups: Counter[str] = Factory(Counter)
    failed: Counter[str] = Factory(Counter)

    def done(self, stream: TLSConnection) -> None:
        """
        One is done.
        """
        connection = stream.connection
        if stream.resumed():
            self.resumed += 1
        else:
            self.full += 1
        self.versions[connection.get_protocol_version_name()] += 1
        group = connection.get_group_name()
        if group:
            self.groups[group] += 1


@define
class Dials:
    """
    What was dialed.

    @ivar reached: How often it was reached.
    @ivar failed: How often it was not.
    """

    reached: int = 0
    failed: int = 0


@define
class RouteTally:
    """
    The sessions of a route.

    @ivar started: How many there were.
    @ivar ended: How many are over, by outcome and phase.
    @ivar received: The bytes that clients sent in sessions that are over.
    @ivar sent: The bytes that they were sent.
    @ivar dropped: How many datagrams were dropped in sessions that are over, by reason.
    @ivar handshakes: The handshakes by side.
    @ivar dials: The dials by upstream.
    """

    started: int = 0
    ended: Counter[tuple[str, str]] = Factory(Counter)
    received: int = 0
    sent: int = 0
    dropped: Counter[str] = Factory(Counter)
    handshakes: dict[str, Handshakes] = Factory(lambda: {NEAR: Handshakes(), FAR: Handshakes()})
    dials: dict[str, Dials] = Factory(dict)

    def dialsOf(self, session: Session) -> Dials:
        """
        Find what was dialed for a session.
        """
        name = upstreamOf(session)
        if name not in self.dials and len(self.dials) >= MANY:
            name = OTHERS
        return self.dials.setdefault(name, Dials())


def upstreamOf(session: Session) -> str:
    """
    Tell a session's upstream by a name that no client has chosen.
    """
    route = session.route
    if not getattr(route.pattern, "ruled", True):
        return TARGETS
    if route.chooseUpstream is not None:
        return CHOSEN
    return str(session.upstream)


def droppedBy(session: Session) -> Counter[str]:
    """
    Tell how many datagrams were dropped in a session, by reason; a stream drops none.
    """
    dropped: Counter[str] = Counter()
    for end in (session.near, session.far):
        dropped.update(getattr(end, "dropped", ()))
    return dropped


@implementer(ISessionObserver)
class Tally:
    """
    Counts.

    @ivar routes: What is counted, by the names of the routes.
    """

    def __init__(self) -> None:
        self.routes: dict[str, RouteTally] = {}
        self._at: dict[Session, str] = {}

    def of(self, name: str) -> RouteTally:
        """
        Find what is counted for a route.
        """
        tally = self.routes.get(name)
        if tally is None:
            tally = self.routes[name] = RouteTally()
        return tally

    def started(self, session: Session) -> None:
        """
        See L{ISessionObserver}.
        """
        self._at[session] = ""
        self.of(session.route.name).started += 1

    def entered(self, session: Session, phase: str) -> None:
        """
        See L{ISessionObserver}.
        """
        before = self._at.get(session)
        self._at[session] = phase
        if before == "dial" or before in _PHASES:
            self._passed(session, before)

    def _passed(self, session: Session, phase: str) -> None:
        """
        A phase has come to a good end.
        """
        tally = self.of(session.route.name)
        if phase == "dial":
            tally.dialsOf(session).reached += 1
            return
        end = self._end(session, phase)
        if end is not None and end.tls is not None:
            tally.handshakes[_PHASES[phase]].done(end.tls)

    def _end(self, session: Session, phase: str) -> End | None:
        return session.near if _PHASES[phase] == NEAR else session.far

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        See L{ISessionObserver}.
        """
        tally = self.of(session.route.name)
        last = self._at.pop(session, "")
        tally.ended[outcome, session.phase] += 1
        relay = session.relay
        if relay is not None:
            tally.received += relay.outward.count
            tally.sent += relay.inward.count
        tally.dropped.update(droppedBy(session))
        if last == "dial":
            if session.far is None:
                tally.dialsOf(session).failed += 1
            else:
                self._passed(session, last)
        elif last in _PHASES:
            end = self._end(session, last)
            tally.handshakes[_PHASES[last]].failed[_reason(end, outcome)] += 1


def _reason(end: Any, outcome: str) -> str:
    """
    Tell in a word why a handshake failed: by the alert, if there was one.
    """
    alert = end.tls.alert() if end is not None and end.tls is not None else None
    if alert is None:
        return outcome
    number, sent = alert
    return f"{'sent' if sent else 'received'} {ALERTS.get(number, 'another alert')}"
