# -*- test-case-name: tests.status.test_state -*-
"""
The state of a proxy at one moment, as plain values.

It is put together when somebody asks, so that it costs nothing in between; only what is over has to be counted when it
happens, see L{tlsproxy.status.tally}.  Whatever a client says, or who it is, has no place here: those who watch a
machine are more than those who may read its log.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime

from tlsproxy import __version__
from tlsproxy.address import tellPeer
from tlsproxy.factory import RouteFactory
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.service import ProxyService
from tlsproxy.session import Session
from tlsproxy.status.expiries import Expiries
from tlsproxy.status.process import Lag, descriptors, mostDescriptors, residentBytes
from tlsproxy.status.tally import MANY, OTHERS, Dials, Handshakes, RouteTally, Tally, droppedBy, upstreamOf
from tlsproxy.tls.printing import printable

__all__ = ["Enrollments", "Reloads", "State"]


class Reloads(Protocol):
    """
    What knows how often, and how, the configuration was read.

    @ivar generation: How many configurations have held so far.
    @ivar last: How the last reload went: when that was (C{at}, in seconds since the epoch), and what was wrong
        (C{problems}, one sentence each); L{None} where there was none.
    """

    generation: int
    last: Any


class Enrollments(Protocol):
    """
    What looks after the enrollments of routes.
    """

    def tell(self) -> list[dict[str, Any]]:
        """
        Tell of each, as plain values.
        """


class State:
    """
    Tells the state of a proxy.

    @ivar service: The service of its routes.
    @ivar tally: What was counted.
    @ivar lag: How late the reactor is.
    """

    def __init__(
        self,
        service: ProxyService,
        tally: Tally,
        lag: Lag,
        clock: IReactorTime,
        reloads: Reloads | None = None,
        enrollments: Enrollments | None = None,
    ) -> None:
        """
        @param clock: The reactor.
        @param reloads: What reads the configuration again, if anything does.
        @param enrollments: What looks after the enrollments of routes, if anything does.
        """
        self._enrollments = enrollments
        self._reloads = reloads
        self._expiries = Expiries()
        self.service = service
        self.tally = tally
        self.lag = lag
        self._clock = clock
        self._began = clock.seconds()
        self._started = time.time()

    def unready(self) -> str:
        """
        Tell why no new clients should be sent here; C{""} where they should.
        """
        if self.service.running and self.service.ports:
            return ""
        count = len(self.service.sessions)
        if not self.service.running and count:
            return f"draining: {count} {'session is' if count == 1 else 'sessions are'} still open"
        return "not listening"

    def tell(self) -> dict[str, Any]:
        """
        Tell all.
        """
        service = self.service
        unready = self.unready()
        live: defaultdict[str, list[Session]] = defaultdict(list)
        for session in service.sessions:
            live[session.route.name].append(session)
        factories = {factory.route.name: factory for factory in service.factories}
        names = dict.fromkeys([*factories, *live])
        for gone in self.tally.routes.keys() - names.keys():
            del self.tally.routes[gone]
        return {
            "ready": not unready,
            "reason": unready,
            "draining": unready.startswith("draining"),
            "process": self._process(sum(map(len, live.values()))),
            "configuration": self._configuration(),
            "routes": [self._route(name, factories.get(name), live[name]) for name in names],
            "certificates": self._expiries.tell(factories.values()),
            "renewals": [] if self._enrollments is None else self._enrollments.tell(),
        }

    def _process(self, sessions: int) -> dict[str, Any]:
        gate = self.service.gate
        return {
            "version": __version__.public(),
            "libssl": SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode("ascii", "replace"),
            "python": sys.version.partition(" ")[0],
            "pid": os.getpid(),
            "started": datetime.fromtimestamp(self._started, UTC).isoformat(timespec="seconds"),
            "uptime_seconds": round(self._clock.seconds() - self._began, 3),
            "sessions": sessions,
            "max_connections": gate.most,
            "limits_reached": {
                "max_connections": gate.reached["max_connections"],
                "descriptors": gate.reached["descriptors"],
            },
            "ports_paused": gate.paused,
            "descriptors": descriptors(),
            "max_descriptors": mostDescriptors(),
            "resident_bytes": residentBytes(),
            "loop_lag_seconds": round(self.lag.last, 6),
            "loop_lag_worst_seconds": round(self.lag.worst, 6),
        }

    def _configuration(self) -> dict[str, Any]:
        last = self._reloads.last if self._reloads is not None else None
        return {
            "generation": self._reloads.generation if self._reloads is not None else 1,
            "reloaded": None if last is None else datetime.fromtimestamp(last.at, UTC).isoformat(timespec="seconds"),
            "problems": [] if last is None else [printable(problem) for problem in last.problems],
        }

    def _route(self, name: str, factory: RouteFactory | None, live: list[Session]) -> dict[str, Any]:
        tally = self.tally.of(name)
        relays = [session.relay for session in live if session.relay is not None]
        told: dict[str, Any] = {
            "name": name,
            "mode": factory.route.pattern.mode if factory is not None else live[0].route.pattern.mode,
            "listen": [tellPeer(port.getHost(), str(factory.route.listen)) for port in self._ports(name, factory)]
            if factory is not None
            else [],
            "started": tally.started,
            "sessions": len(live),
            "max_connections": factory.route.maxConnections if factory is not None else 0,
            "phases": dict(Counter(session.phase for session in live)),
            "ended": _ended(tally),
            "received_bytes": tally.received + sum(relay.outward.count for relay in relays),
            "sent_bytes": tally.sent + sum(relay.inward.count for relay in relays),
            "dropped_datagrams": self._dropped(name, factory, live),
            "limits_reached": dict(factory.reached) if factory is not None else {},
            "handshakes": _handshakes(tally.handshakes[NEAR]),
            "upstream_handshakes": _handshakes(tally.handshakes[FAR]),
            "upstreams": _upstreams(tally, live),
        }
        desk = getattr(factory.route.pattern, "desk", None) if factory is not None else None
        if factory is not None and desk is not None:
            told["enrollments"] = _enrollments(factory)
            told["mapping_version"] = None if desk.facts is None else desk.facts.version
            told["mapping_not_after"] = None if desk.facts is None else desk.facts.expires.isoformat(timespec="seconds")
        return told

    def _dropped(self, name: str, factory: RouteFactory | None, live: list[Session]) -> dict[str, int]:
        dropped = Counter(self.tally.of(name).dropped)
        for session in live:
            dropped.update(droppedBy(session))
        for port in self._ports(name, factory) if factory is not None else ():
            dropped.update(getattr(port, "dropped", ()))
        return dict(dropped)

    def _ports(self, name: str, factory: RouteFactory) -> Iterable[Any]:
        try:
            return self.service.portsOf(name)
        except KeyError:
            return ()


def _ended(tally: RouteTally) -> dict[str, dict[str, int]]:
    ended: dict[str, dict[str, int]] = {}
    for (outcome, phase), count in tally.ended.items():
        ended.setdefault(outcome, {})[phase] = count
    return ended


def _enrollments(factory: RouteFactory) -> dict[str, dict[str, int]]:
    told: dict[str, dict[str, int]] = {"done": {}, "refused": {}}
    for (kind, word), count in factory.enrolled.items():
        told[kind][word] = count
    return told


def _handshakes(handshakes: Handshakes) -> dict[str, Any]:
    return {
        "full": handshakes.full,
        "resumed": handshakes.resumed,
        "versions": dict(handshakes.versions),
        "groups": dict(handshakes.groups),
        "failed": dict(handshakes.failed),
    }


def _upstreams(tally: RouteTally, live: Iterable[Session]) -> list[dict[str, Any]]:
    dials: Mapping[str, Dials] = tally.dials
    open_: Counter[str] = Counter()
    for session in live:
        if session.far is not None:
            name = upstreamOf(session)
            open_[name if name in dials or len(dials) < MANY else OTHERS] += 1
    return [
        {
            "address": printable(name),
            "sessions": open_[name],
            "reached": dials[name].reached if name in dials else 0,
            "failed": dials[name].failed if name in dials else 0,
        }
        for name in dict.fromkeys([*dials, *open_])
    ]
