# -*- test-case-name: tests.tls.test_demands -*-
"""
Which certificate a client has to show, by the server name that it asks for.

A client that names no server can speak of any once it is in; so it is asked for the most that anybody is asked for, and
refused where there is no such thing.  So is one that asks for a name that nobody has thought of, unless the route says
what is asked of all others.
"""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from tlsproxy.tls.parameters import Checks
from tlsproxy.tls.policy import HostPolicy, ServerPolicy
from tlsproxy.tls.verification import Verification, readClients
from tlsproxy.wire.network import matchesName, parseNamePattern

__all__ = ["Demand", "Demands", "readDemands", "speaksForOthers"]


@frozen
class Demand:
    """
    What is asked of some clients.

    @ivar sni: The server names that they ask for, as patterns; none where it is for all others.
    @ivar verification: What their certificates have to be; L{None} where none are asked for.
    """

    sni: tuple[str, ...]
    verification: Verification | None

    @property
    def asks(self) -> str:
        """
        Whether certificates are C{"required"}, C{"optional"} or C{"none"}.
        """
        if self.verification is None:
            return "none"
        return "required" if self.verification.demanded else "optional"

    def covers(self, other: Demand) -> bool:
        """
        Tell whether whoever is let in by this is let in by another as well.
        """
        if other.verification is None:
            return True
        if self.verification is None or (other.verification.demanded and not self.verification.demanded):
            return False
        return self.verification.within(other.verification)


@frozen
class Demands:
    """
    What is asked of all clients.

    @ivar own: What is asked of those that no other is for.
    @ivar hosts: What is asked of those who ask for certain names; the first that matches counts.
    @ivar said: Whether somebody has said what C{own} is.
    @ivar strictest: The one of them that asks for as much as each of the others, if any does.
    """

    own: Demand
    hosts: tuple[Demand, ...] = ()
    said: bool = True
    strictest: Demand | None = field(init=False)

    @strictest.default
    def _findStrictest(self) -> Demand | None:
        return next((one for one in self.all if all(one.covers(other) for other in self.all)), None)

    def find(self, serverName: str | None) -> Demand | None:
        """
        Find what is asked of a client.

        @param serverName: The server name that it asks for, if any.
        @return: L{None} where it is to be refused.
        """
        if serverName is not None:
            for each in self.hosts:
                if any(matchesName(pattern, serverName) for pattern in each.sni):
                    return each
            if self.said:
                return self.own
        return self.strictest

    @property
    def all(self) -> tuple[Demand, ...]:
        """
        All of them, C{own} in front.
        """
        return (self.own, *self.hosts)

    @property
    def everybody(self) -> bool:
        """
        Whether nobody is let in without a certificate.
        """
        return all(each.asks == "required" for each in self._used)

    @property
    def anybody(self) -> bool:
        """
        Whether some clients are asked for no certificate.
        """
        return any(each.asks == "none" for each in self._used)

    @property
    def _used(self) -> tuple[Demand, ...]:
        return self.all if self.said else self.hosts or self.all

    @property
    def required(self) -> bool:
        """
        Whether any client needs a certificate.
        """
        return any(each.asks == "required" for each in self.all)


def readDemands(policy: ServerPolicy, checks: Checks, now: datetime) -> tuple[Demands, list[str]]:
    """
    Read what is asked of clients.

    @param checks: Collects what is wrong with the policy.
    @return: That, and what is doubtful.
    """
    own, warnings = readClients(policy, checks, now)
    hosts: list[Demand] = []
    for position, host in enumerate(policy.host):
        inner = Checks(f"{checks.section}.host[{position}]")
        verification, doubts = readClients(host, inner, now)
        hosts.append(Demand(_patterns(host, inner), verification))
        checks.problems += inner.problems
        warnings += doubts
    said = speaksForOthers(policy)
    demands = Demands(Demand((), own), tuple(hosts), said)
    if demands.strictest is None and not checks.problems:
        warnings.append(
            f"a client that names no server{'' if said else ', or one that is not listed,'} is refused, since neither "
            "[route.tls] nor any [[route.tls.host]] asks for as much as all the others"
        )
    return demands, warnings


def speaksForOthers(policy: ServerPolicy) -> bool:
    """
    Tell whether a policy says itself what is asked of clients that none of its hosts is for.
    """
    return any(getattr(policy, name) for name in ("clientCa", "clientAuth", "crl", "pins"))


def _patterns(host: HostPolicy, checks: Checks) -> tuple[str, ...]:
    if not host.sni:
        checks.tell("sni", "say for which server names")
    found = [checks.attempt("sni", lambda word=word: parseNamePattern(word)) for word in host.sni]  # type: ignore[misc]
    return tuple(each for each in found if each is not None)
