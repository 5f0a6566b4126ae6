# -*- test-case-name: tests.test_sequentialtables -*-
"""
From the tables of a route of a sequential mode to what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tlsproxy.downgrade import Downgrade
from tlsproxy.enrolltables import EnrollReader
from tlsproxy.granttables import readGrants
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.reading import Reader
from tlsproxy.settings import RouteSettings
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tunneltables import readTargets

__all__ = ["readDowngrade", "readSequentialServer"]


def readDowngrade(
    reader: Reader, settings: RouteSettings, path: str, tls: ServerTLS | ClientTLS | None, warnings: list[str]
) -> Downgrade:
    """
    Read when and how the TLS between two proxies comes off.

    @param reader: Collects what is wrong.
    @param settings: The route's own keys.
    @param path: The key of the route.
    @param tls: The TLS between the proxies, as far as that could be read.
    @param warnings: Gets what is doubtful.
    """
    value = settings.downgrade
    if value == "connect" and not settings.unsafeConnect:
        reader.tell(
            f"{path}.downgrade",
            '"connect" lets whoever can write to the connection between the proxies take it over: write "handshake", '
            "or add unsafe_connect = true",
        )
        value = "handshake"
    elif value == "connect":
        warnings.append(
            'downgrade = "connect" is unsafe: whoever can write to the connection between the proxies can take a '
            'tunnel over, and speak to its destination in the proxy\'s name: write "handshake"'
        )
    elif settings.unsafeConnect:
        warnings.append('unsafe_connect = true does nothing without downgrade = "connect": leave it out')
    if value != "none" and tls is not None and tls.policy.maxVersion == "1.2":
        warnings.append(
            'with max_version = "1.2" the TLS between the proxies never comes off: leave that out, or write '
            'downgrade = "none"'
        )
    return Downgrade(value=value, takeOff=settings.takeOff, framing=settings.framing)


def readSequentialServer(
    reader: Reader,
    settings: RouteSettings,
    table: Mapping[str, Any],
    path: str,
    tls: ServerTLS | None,
    warnings: list[str],
    enrolling: EnrollReader,
) -> SequentialServer | None:
    """
    Read what mode C{sequential-server} takes.

    @param reader: Collects what is wrong.
    @param settings: The route's own keys.
    @param table: The route's table.
    @param path: The key of it.
    @param tls: Its TLS toward clients, as far as that could be read.
    @param warnings: Gets what is doubtful.
    @param enrolling: Reads where client proxies enroll.
    @return: L{None} where something is wrong with it.
    """
    how = readDowngrade(reader, settings, path, tls, warnings)
    targets = readTargets(reader, table, path, warnings, needed=False)
    grants = readGrants(reader, table.get("grant"), f"{path}.grant", tls, warnings)
    desk = None
    if "enroll" in table:
        name = settings.name or settings.mode
        desk = enrolling.read(table["enroll"], f"{path}.enroll", name, tls, grants)
        if desk is None:
            return None
    if tls is None or not tls.knowsEverybody or not grants:
        return None  # Which has been told.
    return SequentialServer(tls=tls, grants=grants, targets=targets, how=how, desk=desk)
