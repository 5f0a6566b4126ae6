# -*- test-case-name: tests.test_factory -*-
"""
What makes a route listen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, cast

from attrs import asdict
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from tlsproxy.address import UDP, isDirect
from tlsproxy.admission import Admission
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.sharing import Terms
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.foreign import Foreign
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.repeats import LINES, Repeated, Repeats
from tlsproxy.route import Route
from tlsproxy.session import Session
from tlsproxy.sessionline import factsOf, formatOf, summed
from tlsproxy.tls.policy import snake

__all__ = ["RouteFactory"]

_log = Logger(namespace="tlsproxy.session")


class RouteFactory(Factory[Protocol]):
    """
    Makes a route listen: each connection becomes a session.

    @ivar route: The route.
    @ivar reactor: The reactor.
    @ivar seconds: The limit of each phase.
    @ivar sessions: Those that are not over.
    @ivar counters: How many sessions came to which outcome in which phase.
    @ivar reached: How often each limit of the route was reached, by its key.
    @ivar enrolled: What became of requests for enrollment, by C{"done"} or C{"refused"} and a word.
    @ivar admission: What its clients may have; L{None} where nothing limits that.
    @ivar listeners: What this proxy listens on, hosts and ports; the same list for all routes of a service.
    @ivar logged: Whether each session's end is logged.
    @ivar observers: Who sees the sessions: those given here, and the route's.
    @ivar repeats: Which of the failures have a line of their own.
    """

    noisy = False

    def __init__(
        self,
        route: Route,
        reactor: Any,
        deadlines: Deadlines,
        dialer: Dialer,
        listeners: Sequence[tuple[str, int]] = (),
        logged: bool = True,
        observers: Sequence[ISessionObserver] = (),
        lines: int = LINES,
    ) -> None:
        """
        @param lines: How many failures of one kind are logged one by one in a short time; 0 for all.
        @raise ValueError: Nobody would get anywhere by this route.
        """
        pattern: Any = route.pattern
        if getattr(pattern, "upstream", self) is None and not route.rules and route.chooseUpstream is None:
            raise ValueError(
                f"route {route.name}: its pattern has no upstream, and neither rules nor chooseUpstream say one"
            )
        self.route = route
        self.reactor = reactor
        self.deadlines = deadlines
        self.dialer = dialer
        self.listeners = listeners
        self.logged = logged
        self._direct = isDirect(route.listen)
        self.observers = (*observers, *route.observers)
        self.repeats = Repeats(reactor, deadlines, self._sumUp, lines)
        self.sessions: set[Session] = set()
        self.counters: Counter[tuple[str, str]] = Counter()
        self.reached: Counter[str] = Counter()
        self.enrolled: Counter[tuple[str, str]] = Counter()
        self.admission = Admission(route, self.reached) if Admission.wanted(route) else None
        self.seconds: dict[str, float] = {snake(name): limit for name, limit in asdict(route.limits).items()}

    def succeed(self, other: RouteFactory, retired: Iterable[RouteFactory] = ()) -> None:
        """
        Go on counting where another stops, whose route this one's takes the place of.

        @param retired: Others that have sessions still, among them those whose place that one had taken.
        """
        other.counters.update(self.counters)
        self.counters, self.reached, self.enrolled = other.counters, other.reached, other.enrolled
        if other.admission is not None:
            # Also where nothing is limited any more: it may be again, and then what is open counts.
            self.admission = other.admission
            self.admission.change(self.route)
        elif self.admission is not None:
            self.admission.reached = other.reached
            # What is open counts, also where nothing was limited when it came.
            for one in {other, *retired}:
                if one.route.name == self.route.name and one.admission is None:
                    one.admission = self.admission
                    for session in one.sessions:
                        self.admission.take(session)

    @property
    def cost(self) -> int:
        """
        How many descriptors a session takes: one for each side, a pipe where its client comes by what is no plain
        socket, and what its pattern takes besides.
        """
        besides: int = getattr(self.route.pattern, "descriptors", 0)
        if isinstance(self.route.listen, UDP):
            return 1 + besides
        return (2 if self._direct else 4) + besides

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        Take a connection.
        """
        if self._direct:
            return End("the client").whenMade(self.accept)
        return Foreign(self.reactor, "the client", self.accept)

    @property
    def terms(self) -> Terms:
        """
        What holds for the associations of its clients, where these send datagrams.
        """
        route = self.route
        dtls = getattr(route.pattern, "tls", None) is not None
        return Terms(
            dtls=dtls,
            hellos=route.pattern.mode == "passthrough",
            mtu=route.mtu,
            most=route.maxConnections or Terms().most,
            pace=route.maxClientHandshakes or Terms().pace,
            prefixes=(route.clientPrefixIpv4, route.clientPrefixIpv6),
        )

    def accept(self, near: End | DatagramEnd) -> None:
        """
        Make a session of a connection, or an association, that is made.
        """
        # An association has all that a session needs of an End.
        session = Session(self, cast(End, near))
        self.sessions.add(session)
        session.start()

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        A session is over.
        """
        self.sessions.discard(session)
        self.counters[outcome, session.phase] += 1
        if self.admission is not None:
            self.admission.release(session)
        if not self.logged:
            return
        # Whatever came to carry bytes has its line.  To be answered by the proxy itself takes no password, and to send
        # it a hello in another's name takes nothing.
        if (session.relay is None or session.near.unproven) and not self.repeats.hasLine(session, outcome, reason):
            return
        facts = factsOf(session, outcome, reason, self.reactor.seconds())
        _log.info(formatOf(facts), **facts)

    def _sumUp(self, repeated: Repeated) -> None:
        """
        Log what had no line.
        """
        form, facts = summed(self.route.name, repeated)
        _log.info(form, **facts)
