# -*- test-case-name: tests.test_reaching -*-
"""
Whether what a configuration names can be reached: asked by C{tlsproxy check}, on request, and by nothing else.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from attrs import frozen
from OpenSSL import SSL

from tlsproxy.address import TCP, UDP, Unix
from tlsproxy.interfaces import FAR
from tlsproxy.route import Route
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.explain import explainHandshake
from tlsproxy.wire.host import isLiteral

__all__ = ["Place", "Unreached", "placesOf", "reach"]

_AT_ONCE: Final = 16
_SECONDS: Final = 5.0
"""How long one address may take to answer."""

Path = tuple[str | int, ...]
"""The way to a key of a document."""


@frozen
class Place:
    """
    Something that a route dials, or listens on.

    @ivar route: The name of the route.
    @ivar path: The key that says so.
    @ivar where: What it is.
    @ivar tls: The TLS that it has to speak, if any.
    @ivar dialed: Whether it is dialed, and not listened on.
    """

    route: str
    path: Path
    where: TCP | UDP | Unix
    tls: ClientTLS | None = None
    dialed: bool = True


@frozen
class Unreached:
    """
    What cannot be reached.

    @ivar place: What.
    @ivar sentence: Why.
    """

    place: Place
    sentence: str


def placesOf(routes: Sequence[Route]) -> list[Place]:
    """
    Find what some routes name.  Endpoints of Twisted are known to Twisted alone, and are left out.
    """
    found = []
    for number, route in enumerate(routes):
        pattern: Any = route.pattern
        tls = getattr(pattern, "upstreamTLS", None)
        if any(FAR in one.startsTLS for one in route.handlers):
            tls = None  # It does not speak TLS at once.
        key: Path = ("route", number)
        if isinstance(route.listen, (TCP, UDP)):
            found.append(Place(route.name, (*key, "listen"), route.listen, dialed=False))
        upstream = getattr(pattern, "upstream", None)
        if isinstance(upstream, (TCP, UDP, Unix)):
            found.append(Place(route.name, (*key, "upstream"), upstream, tls))
        through = getattr(pattern, "upstreamProxy", None)
        if through is not None:
            # It looks the names of reverse proxies up, and they are not reached without it.
            found.append(Place(route.name, (*key, "upstream_proxy"), through.address))
        for via in getattr(getattr(pattern, "mapping", None), "reverseProxies", ()) if through is None else ():
            found.append(Place(route.name, (*key, "mapping"), via.address, via.tls))
        for position, rule in enumerate(route.rules):
            if isinstance(rule.upstream, (TCP, UDP, Unix)):
                its = (rule.upstreamTLS or tls) if tls is not None else None
                found.append(Place(route.name, (*key, "rule", position, "upstream"), rule.upstream, its))
    return found


def reach(places: Sequence[Place], connect: bool) -> list[Unreached]:
    """
    See which places cannot be reached.

    @param connect: Whether they are connected with, in TLS where they have to speak it, and not looked up only.
    """
    asked = [place for place in places if place.dialed or not connect]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(_connect if connect else _resolve, asked))
    return [Unreached(place, sentence) for place, sentence in zip(asked, answers, strict=True) if sentence]


def _resolve(place: Place) -> str:
    where = place.where
    if isinstance(where, Unix) or not where.host or isLiteral(where.host):
        return ""
    try:
        socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return f"{where} has a name that does not resolve"
    return ""


def _connect(place: Place) -> str:
    unresolved = _resolve(place)
    where = place.where
    if unresolved or isinstance(where, UDP):
        return unresolved  # Whether anybody gets datagrams, nobody says before they are answered.
    try:
        if isinstance(where, Unix):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(_SECONDS)
            sock.connect(where.path)
        else:
            sock = socket.create_connection((where.host or "localhost", where.port), _SECONDS)
    except TimeoutError:
        return f"{where} does not answer within {_SECONDS:g} s"
    except OSError as e:
        return f"{where} cannot be reached: {e.strerror or e}"
    with sock:
        return _shakeHands(sock, place.tls, where) if place.tls is not None else ""


def _shakeHands(sock: socket.socket, tls: ClientTLS, where: object) -> str:
    sock.settimeout(None)
    seconds = struct.pack("ll", int(_SECONDS), 0)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, seconds)
    stream = tls.connect(sock)
    try:
        stream.handshake()
    except (SSL.WantReadError, SSL.WantWriteError):
        return f"{where} does not finish the TLS handshake within {_SECONDS:g} s"
    except Exception as e:
        return f"{where}: {explainHandshake(stream, e, 'the upstream', tls.name)}"
    return ""
