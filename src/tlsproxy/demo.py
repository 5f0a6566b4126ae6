# -*- test-case-name: tests.test_demo -*-
"""
What a mode does when it is given nothing: a proxy on loopback with a certificate of its own, and something behind it.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twisted.application.internet import TCPServer
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tlsproxy.tls.development import developmentServer

__all__ = ["Demo"]

_PORTS: Final = {"offload": 8443, "encrypt": 8080, "bridge": 8443}
_WORDS: Final = {
    "offload": "TLS from you to the proxy, plain from there to the origin",
    "encrypt": "plain from you to the proxy, TLS from there to the origin",
    "bridge": "TLS from you to the proxy, and TLS of its own from there to the origin",
}


def _freePort(wanted: int = 0) -> int:
    """
    Find a port of loopback that nobody has.

    @param wanted: The one to prefer.
    """
    with socket.socket() as probe, socket.socket() as other:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe = other
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Greeting(Resource):
    """
    One page that tells how it was reached.
    """

    isLeaf = True

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode = mode

    def render_GET(self, request: Request) -> bytes:
        """
        Answer.
        """
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return f"Hello from the demo origin, by way of tlsproxy in mode {self._mode}: {_WORDS[self._mode]}.\n".encode()


class Demo:
    """
    A mode's demo.

    @ivar lines: What to tell the person who started it.
    @ivar origin: The service behind the proxy.
    """

    def __init__(self, mode: str, state: Path, now: datetime) -> None:
        """
        @param mode: One of L{tlsproxy.settings.MODES}.
        @param state: The state directory, where the development CA is kept.
        @param now: The time that certificates have to be valid at.
        @raise CertificateProblem: The state directory cannot be used.
        """
        self._mode = mode
        self._authority, self._certificate = developmentServer(state, now=now)
        self._listen, self._plain, self._secure = _freePort(_PORTS[mode]), _freePort(), _freePort()
        self.origin = TCPServer(self._plain, Site(_Greeting(mode)), interface="127.0.0.1")
        if mode == "encrypt":
            command = f"curl http://127.0.0.1:{self._listen}/"
        else:
            command = f"curl --cacert {shlex.quote(str(self._authority))} https://127.0.0.1:{self._listen}/"
        intro = f"Demo of mode {mode}: {_WORDS[mode]}."
        self.lines = (intro, "Paste this into another terminal:", "", f"  {command}", "")

    def document(self, limits: Mapping[str, Any]) -> dict[str, Any]:
        """
        Write the demo's configuration.

        @param limits: The deadlines of the demonstrated route.
        """
        tls = {"cert": str(self._certificate)}
        upstreamTLS = {"ca": str(self._authority), "name": "localhost"}
        route: dict[str, Any] = {
            "name": self._mode,
            "mode": self._mode,
            "listen": f"127.0.0.1:{self._listen}",
            "limits": dict(limits),
        }
        if self._mode != "encrypt":
            route["tls"] = tls
        if self._mode == "offload":
            return {"route": [route | {"upstream": f"127.0.0.1:{self._plain}"}]}
        origin = {
            "name": "demo-origin",
            "mode": "offload",
            "listen": f"127.0.0.1:{self._secure}",
            "upstream": f"127.0.0.1:{self._plain}",
            "tls": tls,
        }
        return {"route": [route | {"upstream": f"127.0.0.1:{self._secure}", "upstream_tls": upstreamTLS}, origin]}
