# -*- test-case-name: tests.test_datagramtables -*-
"""
What the table of a route may not say where its sides are datagrams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from tlsproxy.datagram.address import UDP, parseUDP
from tlsproxy.handlertables import Told
from tlsproxy.reading import Reader
from tlsproxy.route import DATAGRAM_MODES
from tlsproxy.settings import RouteSettings
from tlsproxy.wire.host import isLiteral

__all__ = ["tellDatagrams"]

_PREFIX: Final = "udp:"
_LOCAL: Final = "localhost"
_NO_HEADER: Final = "a PROXY header goes before a stream, and not before datagrams"
_NOT_OF_DATAGRAMS: Final = {
    "accept_proxy": _NO_HEADER,
    "send_proxy": _NO_HEADER,
    "send_proxy_tlvs": _NO_HEADER,
    "close": "datagrams have no end of one direction, and DTLS closes both at once",
    "truncation": "datagrams have no end that could be cut off",
}
"""Keys of a route that only streams have a use for, and why."""


def tellDatagrams(
    reader: Reader, settings: RouteSettings, table: Mapping[str, Any], path: str, handlers: Sequence[Told]
) -> None:
    """
    Tell what is wrong with a route one of whose sides, or both, are datagrams.

    @param reader: Collects what is wrong.
    @param table: The table of the route.
    @param path: The key of it.
    @param handlers: Its protocol handlers.
    """
    listens = settings.listen.startswith(_PREFIX)
    upstreams = list(_upstreams(settings, table))
    if not listens and not any(upstream.startswith(_PREFIX) for _, upstream in upstreams):
        if "mtu" in table:
            reader.tell(f"{path}.mtu", "it is about datagrams, and this route has streams: leave this out")
        return
    if settings.mode not in DATAGRAM_MODES:
        # Where such a mode has an upstream, that is told already.
        if listens:
            reader.tell(f"{path}.listen", f"mode {settings.mode} carries streams, and no datagrams: leave udp: out")
        return
    for key, upstream in upstreams:
        if upstream.startswith(_PREFIX) != listens:
            reader.tell(f"{path}.{key}", _whyApart(settings.mode, listens))
        elif _inCircle(settings.listen, upstream):
            reader.tell(f"{path}.{key}", f"{upstream} is where this route listens, so it would go in a circle")
    if listens:
        _tellKeys(reader, settings, table, path)
        _tellTLS(reader, table, path)
        _tellHandlers(reader, handlers)


def _upstreams(settings: RouteSettings, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """
    Find what a route dials.

    @return: The key of each, and where it is.
    """
    if settings.upstream:
        yield "upstream", settings.upstream
    rules = table.get("rule")
    for position, rule in enumerate(rules if isinstance(rules, list) else ()):
        upstream = rule.get("upstream") if isinstance(rule, Mapping) else None
        if isinstance(upstream, str) and upstream:
            yield f"rule[{position}].upstream", upstream


def _inCircle(listen: str, upstream: str) -> bool:
    """
    Tell whether an upstream is the very place that is listened on, as far as that can be told without a network.
    """
    try:
        ours, theirs = parseUDP(listen), parseUDP(upstream)
    except ValueError:
        return False  # That is told elsewhere.
    if ours.port != theirs.port or not ours.port:
        return False
    theirs = UDP(theirs.host or _LOCAL, theirs.port)
    return ours.host.lower() == theirs.host.lower() or any(
        one == other or (other.is_loopback and one.is_unspecified and one.version == other.version)
        for one in map(ip_address, _literals(ours.host))
        for other in map(ip_address, _literals(theirs.host))
    )


def _literals(host: str) -> Sequence[str]:
    """
    Tell the addresses of a host that need no looking up.
    """
    if not host:
        return "0.0.0.0", "::"
    if host.lower() == _LOCAL:
        return "127.0.0.1", "::1"
    return (host,) if isLiteral(host) else ()


def _whyApart(mode: str, listens: bool) -> str:
    """
    Say why two sides cannot be joined.

    @param listens: Whether the clients' is the one of datagrams.
    """
    if mode == "bridge":
        near, far = ("DTLS", "TLS") if listens else ("TLS", "DTLS")
    else:
        near, far = ("datagrams", "a stream") if listens else ("a stream", "datagrams")
    what = "write udp:HOST:PORT here" if listens else 'write listen = "udp:PORT"'
    return f"{near} toward the clients and {far} toward the upstream cannot be joined: {what}, too"


def _tellKeys(reader: Reader, settings: RouteSettings, table: Mapping[str, Any], path: str) -> None:
    for key, why in _NOT_OF_DATAGRAMS.items():
        if key in table:
            reader.tell(f"{path}.{key}", f"{why}: leave this out")
    if settings.mode == "passthrough" and not settings.requireTls:
        reader.tell(
            f"{path}.require_tls", "whose datagrams are passed on is known by the hello of DTLS only: leave this out"
        )


def _tellTLS(reader: Reader, table: Mapping[str, Any], path: str) -> None:
    """
    Tell what is asked of DTLS that it has not.
    """
    for name in ("tls", "upstream_tls"):
        policy = table.get(name)
        if not isinstance(policy, Mapping):
            continue
        # Of the policy itself that cannot be told: it is the default.
        if policy.get("max_version") == "1.3":
            reader.tell(f"{path}.{name}.max_version", "there is no DTLS 1.3 here: leave this out")


def _tellHandlers(reader: Reader, handlers: Sequence[Told]) -> None:
    for handler in handlers:
        if not handler.datagrams:
            reader.tell(handler.path, f"handler {handler.name} takes streams only, and this route has datagrams")
        elif handler.startsTLS or handler.serverFirst:
            reader.tell(handler.path, f"handler {handler.name} acts before TLS, and DTLS is there from the beginning")
