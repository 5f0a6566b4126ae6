# -*- test-case-name: tests.test_gate -*-
"""
What holds the ports of a service to the sessions that may be open at once.

At the limit nobody is turned away.  The ports pause, further clients wait in the kernel's queue, which a burst passes
through unharmed, and each session that ends lets one of them in.  That also bounds what a flood of connections can take
from those who are inside.

So it is where descriptors run out.  Nobody is accepted for whose upstream there would be none: what those who are
inside, and have no upstream yet, will take is not given away.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from tlsproxy.accepting import PAUSE, Accepting
from tlsproxy.descriptors import allowed, left
from tlsproxy.factory import RouteFactory

__all__ = ["Gate", "Gated", "Rarely"]

_log = Logger()

_ALL: Final = 64
"""More than are accepted in one turn."""
_AMPLE: Final = 8
"""A session has fewer descriptors, pipes included, ..."""
_OTHERS: Final = 256
"""... and what is no session has fewer: where the process may have more than that, nobody has to look."""
_AHEAD: Final = 128
"""How many more than are needed are looked for at most, so that nobody has to look again for a while."""
_SELDOM: Final = 10.0
"""Every how many seconds the same is told."""


class Gated(Protocol):
    """
    What has ports.

    @ivar factory: What makes sessions of their connections.
    @ivar ports: The ports.
    """

    factory: RouteFactory
    ports: list[IListeningPort]


class Rarely:
    """
    Tells whether to say once more what happens again and again.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}

    def due(self, what: str) -> bool:
        """
        Tell whether it is time to say something, which then counts as said.
        """
        now = self._clock.seconds()
        last = self._said.get(what)
        if last is not None and now - last < _SELDOM:
            return False
        self._said[what] = now
        return True


class Gate:
    """
    Holds all ports of a service, or of an endpoint.

    @ivar most: The most sessions at once, of all routes together; 0 for no limit.
    @ivar reached: How often each limit of the process was reached: C{"max_connections"}, and C{"descriptors"} for what
        the kernel could not give.
    """

    def __init__(self, clock: IReactorTime, factories: Callable[[], Iterable[RouteFactory]], most: int = 0) -> None:
        """
        @param clock: The reactor.
        @param factories: Tells what has sessions: of a route that was replaced, both.
        """
        self._factories = factories
        self.most = most
        self.reached: Counter[str] = Counter()
        self._rarely = Rarely(clock)
        self._doors: dict[Gated, list[Accepting]] = {}
        self._found = 0
        self._ahead = _AHEAD

    def open(self, entrance: Gated) -> bool:
        """
        Hold the ports of an entrance from now on.

        @return: Whether all can be paused.  Otherwise whoever comes by the others has to be turned away where L{room}
            is 0.
        """
        held = [port for port in entrance.ports if Accepting.takes(port)]
        room, full, enough = partial(self.room, entrance), partial(self.full, entrance), partial(self.enough, entrance)
        self._doors[entrance] = [Accepting(port, room, full, self._exhausted, enough) for port in held]
        return len(held) == len(entrance.ports)

    def close(self, entrance: Gated) -> None:
        """
        Hold them no longer, since they are closed.
        """
        for door in self._doors.pop(entrance, ()):
            door.close()

    def room(self, entrance: Gated) -> int:
        """
        Tell for how many clients there is room.
        """
        most = entrance.factory.route.maxConnections
        room = _ALL
        if most:
            name = entrance.factory.route.name
            room = min(room, most - sum(len(one.sessions) for one in self._factories() if one.route.name == name))
        if self.most:
            room = min(room, self.most - sum(len(one.sessions) for one in self._factories()))
        return room

    def enough(self, entrance: Gated, wanted: int) -> int:
        """
        Tell for how many clients there are descriptors, their upstreams' included.

        @param wanted: How many clients.
        @return: So many, or fewer.
        """
        every = list(self._factories())
        if _AMPLE * sum(len(one.sessions) for one in every) + _OTHERS < allowed():
            return wanted
        cost = entrance.factory.cost
        if self._found < cost * wanted:
            owed = sum(session.far is None for one in every for session in one.sessions)
            most = owed + cost * wanted + self._ahead
            found = left(most)
            if found < most:
                # To look for more than there are takes them all, for that moment, from whoever else wants one.
                self._found = self._ahead = 0
                return max(0, min(wanted, (found - owed) // cost))
            # Others than sessions take some as well.
            self._found = cost * wanted + self._ahead // 2
            self._ahead = min(_AHEAD, 2 * self._ahead + cost)
        self._found -= cost * wanted
        return wanted

    def full(self, entrance: Gated) -> None:
        """
        There is no room any more for who comes by an entrance: count it, and tell it.
        """
        factory = entrance.factory
        route, every = factory.route, list(self._factories())
        if self.most and sum(len(one.sessions) for one in every) >= self.most:
            self.reached["max_connections"] += 1
            what, most, count = "all routes", self.most, self.reached["max_connections"]
        else:
            factory.reached["max_connections"] += 1
            what, most, count = f"route {route.name}", route.maxConnections, factory.reached["max_connections"]
        if self._rarely.due(what):
            _log.warn(
                "{what}: {most} sessions are open, as many as max_connections allows; further clients wait until one "
                "ends (reached {count} times so far)",
                what=what,
                most=most,
                count=count,
            )

    def _exhausted(self, problem: OSError) -> None:
        self.reached["descriptors"] += 1
        if self._rarely.due("descriptors"):
            advice = ""
            if problem.errno == errno.EMFILE:
                advice = ": raise the limit of open files (LimitNOFILE=, ulimit -n), or set a lower max_connections"
            _log.warn(
                "clients cannot be accepted ({problem}), and wait for {pause:g} s each time{advice} "
                "(happened {count} times so far)",
                problem=problem.strerror,
                pause=PAUSE,
                advice=advice,
                count=self.reached["descriptors"],
            )

    def limit(self, most: int) -> None:
        """
        Have another limit of all routes together hold.
        """
        self.most = most
        self.ended()

    def ended(self) -> None:
        """
        A session is over, or a limit is another now: there may be room.
        """
        for doors in self._doors.values():
            for door in doors:
                if door.paused:
                    door.resume()

    @property
    def paused(self) -> int:
        """
        How many ports wait for room.
        """
        return sum(door.paused for doors in self._doors.values() for door in doors)
