# -*- test-case-name: tests.test_sequentialtables -*-
"""
From the tables of a route of a sequential mode to what it is made of.
"""

from __future__ import annotations

from tlsproxy.downgrade import Downgrade
from tlsproxy.reading import Reader
from tlsproxy.settings import RouteSettings

__all__ = ["readDowngrade"]


def readDowngrade(reader: Reader, settings: RouteSettings, path: str, warnings: list[str]) -> Downgrade:
    """
    Read when and how the TLS between two proxies comes off.

    @param reader: Collects what is wrong.
    @param settings: The route's own keys.
    @param path: The key of the route.
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
    return Downgrade(value=value, takeOff=settings.takeOff, framing=settings.framing)
