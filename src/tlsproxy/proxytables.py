# -*- test-case-name: tests.test_proxytables -*-
"""
From the keys of a route that are about PROXY headers to what the route has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tlsproxy.address import Address, Endpoint, Unix
from tlsproxy.balancers import ANYBODY, UNIX, Balancers
from tlsproxy.reading import Reader
from tlsproxy.route import SENDABLE
from tlsproxy.settings import RouteSettings
from tlsproxy.values import suggest
from tlsproxy.wire.network import parseNetwork

__all__ = ["readBalancers", "readSent"]


def readBalancers(
    reader: Reader, settings: RouteSettings, table: Mapping[str, Any], path: str, listen: Address | None
) -> Balancers | None:
    """
    Read from where PROXY headers are taken.

    @param reader: Collects what is wrong.
    @param listen: Where the route listens; L{None} where that could not be read.
    @return: L{None} where clients connect by themselves.
    """
    place = f"{path}.accept_proxy"
    if "accept_proxy" not in table:
        return ANYBODY if _stands(listen, "haproxy") else None
    if table["accept_proxy"] in ("", []):
        # It could be read as "nobody" as well as "everybody".
        reader.tell(place, 'give one network at least, or "unix", or leave this out')
        return None
    texts = [text for text in settings.acceptProxy if text != UNIX]
    networks = reader.each(texts, place, parseNetwork)
    unix = len(texts) < len(settings.acceptProxy)
    if (isinstance(listen, Unix) or _stands(listen, "unix")) and not unix:
        reader.tell(place, f'{listen} is a Unix socket, by which nobody comes from a network: write "unix"')
    return Balancers(networks, unix)


def _stands(listen: Address | None, kind: str) -> bool:
    """
    Tell whether an endpoint is of some kind, or wraps one.
    """
    return isinstance(listen, Endpoint) and bool(re.match(rf"(haproxy:)?{kind}:", listen.description))


def readSent(reader: Reader, settings: RouteSettings, table: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """
    Read what a PROXY header of version 2 tells upstreams.

    @param reader: Collects what is wrong.
    """
    place = f"{path}.send_proxy_tlvs"
    told = settings.sendProxyTlvs
    if "send_proxy_tlvs" in table and settings.sendProxy != "v2":
        reader.tell(place, 'only a PROXY header of version 2 tells more: write send_proxy = "v2", or leave this out')
    for word in told:
        if word not in SENDABLE:
            known = ", ".join(f'"{one}"' for one in SENDABLE)
            reader.tell(place, f"{word!r} is not one of {known}{suggest(word, SENDABLE)}")
            return ()
    if "client-cert" in told and "ssl" not in told:
        reader.tell(place, '"client-cert" is a part of "ssl": give both')
    return told
