# -*- test-case-name: tests.test_tunneltables -*-
"""
From the tables of a route whose clients name the target to its pattern.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from tlsproxy.address import Address
from tlsproxy.listening import isPrivate
from tlsproxy.passwords import Users
from tlsproxy.patterns.connect import Connect
from tlsproxy.reading import Reader
from tlsproxy.settings import RouteSettings, TargetSettings
from tlsproxy.targets import Target, Targets, parseTarget
from tlsproxy.tls.contexts import ServerTLS

__all__ = ["readConnect", "readTargets", "warnEverywhere"]


def readTargets(
    reader: Reader, table: Mapping[str, Any], path: str, warnings: list[str], needed: bool = True
) -> Targets:
    """
    Read C{[route.targets]}.

    @param table: The route's.
    @param path: The key of that.
    @param warnings: Gets what is doubtful.
    @param needed: Whether nothing can be reached without it.
    """
    lists = reader.settings(TargetSettings, table.get("targets", {}), f"{path}.targets")
    if needed and not lists.allow:
        reader.tell(f"{path}.targets.allow", "say what clients may ask for, as in *.example.com:443")
    allow = reader.each(lists.allow, f"{path}.targets.allow", lambda text: parseTarget(text, True))
    deny = reader.each(lists.deny, f"{path}.targets.deny", lambda text: parseTarget(text, False))
    warnEverywhere(allow, "[route.targets]", warnings)
    return Targets(allow=allow, deny=deny)


def readConnect(
    reader: Reader,
    settings: RouteSettings,
    table: Mapping[str, Any],
    path: str,
    listen: Address | None,
    tls: ServerTLS | None,
    warnings: list[str],
) -> Connect:
    """
    Read what mode C{connect} takes.

    @param reader: Collects what is wrong.
    @param settings: The route's own keys.
    @param table: The route's table.
    @param path: The key of it.
    @param listen: Where it listens, as far as that could be read.
    @param tls: Its TLS toward clients, if any.
    @param warnings: Gets what is doubtful.
    """
    found: list[str] = []
    targets = readTargets(reader, table, path, found)
    users = None
    if settings.users:
        reader.files.see([settings.users])
        users = reader.attempt(f"{path}.users", lambda: Users.load(settings.users))
        warnings += users.warnings if users is not None else ()
    warnings += found
    if listen is not None and not isPrivate(listen):
        if settings.users and "tls" not in table:
            warnings.append("passwords cross the network in clear: give it a cert, or listen on loopback")
        elif not settings.users and not (tls is not None and tls.knowsEverybody):
            warnings.append("whoever reaches the proxy may use it: give it users, or client_ca")
    return Connect(targets=targets, tls=tls, users=users)


def _holdsLoopback(target: Target) -> bool:
    """
    Tell whether a network is so large that this machine is in it without having been meant.
    """
    network = target.network
    if isinstance(network, ipaddress.IPv4Network):
        return network.prefixlen < 8 and ipaddress.IPv4Address("127.0.0.1") in network
    return network is not None and network.prefixlen < 64 and ipaddress.IPv6Address("::1") in network


def warnEverywhere(targets: Iterable[Target], where: str, warnings: list[str]) -> None:
    """
    Warn of targets that lead back to this machine without having been meant to.

    @param where: Where they stand.
    @param warnings: Gets it.
    """
    warnings += [
        f"{target} of {where} allows loopback, cloud metadata and this proxy's own ports, too: "
        "for all other hosts, write *:PORT"
        for target in targets
        if _holdsLoopback(target)
    ]
