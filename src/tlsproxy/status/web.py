# -*- test-case-name: tests.status.test_web -*-
"""
The web server of the status pages.

It answers a few questions and takes nothing: what is not C{GET} or C{HEAD} is refused, and so is a request with a body,
a long one, and one that takes its time.  There are a few connections at once; one more takes the place of the oldest,
as otherwise whoever holds them all would keep out those who look whether the proxy is well.  A page of somebody else's
in a browser on this machine must not read it either: a name that it has had resolve to loopback ("DNS rebinding") is
refused, and nothing allows another origin to look at an answer.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request

from tlsproxy.status.metrics import CONTENT_TYPE, MISSING, expose
from tlsproxy.status.page import POLICY, page
from tlsproxy.status.state import State

__all__ = ["MOST", "PATIENCE", "StatusFactory", "hostIs"]

_log = Logger()

MOST: Final = 32
"""The most connections at once."""
PATIENCE: Final = 30.0
"""How many seconds a connection lasts at most, whatever it is busy with."""
_IDLE: Final = 10.0
_TOO_LARGE: Final = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TEXT: Final = "text/plain; charset=utf-8"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "tlsproxy",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Answer = tuple[int, str, bytes]
"""A status, a type, and a body."""


def hostIs(header: str, allowed: frozenset[str]) -> bool:
    """
    Tell whether a C{Host} (RFC 9110, section 7.2) is one that no name server can make a page's own: an address, or a
    name that is allowed.
    """
    host, colon, port = header.rpartition(":")
    if not colon or header.endswith("]"):
        host, port = header, ""
    if port and not (port.isascii() and port.isdigit()):
        return False
    try:
        if host.startswith("["):
            return host.endswith("]") and bool(ipaddress.IPv6Address(host[1:-1]))
        ipaddress.IPv4Address(host)
    except ValueError:
        return host.lower().removesuffix(".") in allowed
    return True


class _Request(Request):
    """
    A question.
    """

    channel: _Channel
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """
        Nobody is to send us a body.
        """
        super().gotLength(0)
        if length != 0:
            self._refused = True
            self.channel.transport.write(_TOO_LARGE)
            self.channel.transport.loseConnection()

    def process(self) -> None:
        """
        Answer it.
        """
        if self._refused:
            return
        try:
            code, kind, body = self.channel.site.answer(self)
        except Exception:
            _log.failure("a status page met a bug of ours")
            code, kind, body = 500, _TEXT, b"tlsproxy itself failed; its traceback is in the log\n"
        self.setResponseCode(code)
        for name, value in _HEADERS.items():
            self.setHeader(name, value)
        self.setHeader("Content-Type", kind)
        self.setHeader("Content-Length", str(len(body)))
        if code == 405:
            self.setHeader("Allow", "GET, HEAD")
        if self.method != b"HEAD":
            self.write(body)
        self.finish()


class _Channel(HTTPChannel):
    """
    A connection.
    """

    requestFactory = _Request
    maxHeaders = 100
    abortTimeout = 1
    transport: Any
    timeOut: Any
    callLater: Any
    site: StatusFactory
    _end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """
        It has begun.
        """
        super().connectionMade()
        self._end = self.site.reactor.callLater(PATIENCE, self.abort)
        self.site.connections[self] = None

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """
        Tell whether another question may follow.  One that was sent before this one has been answered may not: a
        thousand fit into what is read at once, and all of them would be answered in one turn of the reactor, into
        memory.
        """
        if not super().checkPersistence(request, version):
            return False
        if self._buffer:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        return True

    def abort(self) -> None:
        """
        End it at once.
        """
        self.site.connections.pop(self, None)
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It is over.
        """
        self.site.connections.pop(self, None)
        end, self._end = self._end, None
        if end is not None and end.active():
            end.cancel()
        super().connectionLost(reason)


class StatusFactory(HTTPFactory):
    """
    Tells the state of a proxy.

    @ivar connections: Those that are open, the oldest in front.
    """

    noisy = False

    def __init__(self, state: State, reactor: Any, names: frozenset[str] | None) -> None:
        """
        @param state: The state.
        @param reactor: The reactor.
        @param names: The names that it may be asked by, beside any address; L{None} for all, where it is not only this
            machine that reaches it.
        """
        super().__init__(timeout=_IDLE, reactor=reactor)
        self._state = state
        self._names = names
        self.connections: dict[_Channel, None] = {}
        self._pages: dict[bytes, Callable[[], Answer]] = {
            b"/": self._page,
            b"/healthz": lambda: (200, _TEXT, b"alive\n"),
            b"/readyz": self._ready,
            b"/status.json": self._json,
            b"/metrics": self._metrics,
        }

    def startFactory(self) -> None:
        """
        There is no log of requests, and nothing to do for one.
        """

    def stopFactory(self) -> None:
        """
        Likewise.
        """

    def log(self, request: Request) -> None:
        """
        Likewise.
        """

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """
        Take a connection.
        """
        if len(self.connections) >= MOST:
            next(iter(self.connections)).abort()
        channel = _Channel()
        channel.site = self
        channel.factory = self
        channel.callLater = self.reactor.callLater
        channel.timeOut = self.timeOut
        return channel

    def closeAll(self) -> None:
        """
        End all connections.
        """
        for channel in list(self.connections):
            channel.abort()

    # -- answers ------------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """
        Answer a request.
        """
        if request.method not in (b"GET", b"HEAD"):
            return 405, _TEXT, b"only GET and HEAD are answered\n"
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        if self._names is not None and (hosts or request.clientproto != b"HTTP/1.0"):
            if len(hosts) != 1 or not hostIs(hosts[0].decode("latin-1"), self._names):
                return 403, _TEXT, b"ask by an address, or by localhost: this is not the place of another name\n"
        found = self._pages.get(request.uri.partition(b"?")[0])
        if found is None:
            return 404, _TEXT, b"there are /healthz, /readyz, /status.json, /metrics and /\n"
        return found()

    def _ready(self) -> Answer:
        why = self._state.unready()
        return (503, _TEXT, f"{why}\n".encode()) if why else (200, _TEXT, b"ready\n")

    def _json(self) -> Answer:
        return 200, "application/json", json.dumps(self._state.tell(), indent=1).encode() + b"\n"

    def _metrics(self) -> Answer:
        exposed = expose(self._state.tell())
        if exposed is None:
            return 501, _TEXT, f"{MISSING}\n".encode()
        return 200, CONTENT_TYPE, exposed

    def _page(self) -> Answer:
        return 200, "text/html; charset=utf-8", page(self._state.tell()).encode()
