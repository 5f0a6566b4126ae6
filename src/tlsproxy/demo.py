# -*- test-case-name: tests.test_demo -*-
"""
What a mode does when it is given nothing: a proxy on loopback with a certificate of its own, and something behind it.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from attrs import evolve
from twisted.application.internet import StreamServerEndpointService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorSocket, IStreamServerEndpoint
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from tlsproxy.route import Route
from tlsproxy.tls.development import developmentClient, developmentServer

__all__ = ["Demo"]

_PORTS: Final = {
    "offload": 8443,
    "encrypt": 8080,
    "bridge": 8443,
    "passthrough": 8443,
    "connect": 3128,
    "sequential-client": 3128,
    "sequential-server": 8443,
}
_WORDS: Final = {
    "offload": "TLS from you to the proxy, plain from there to the origin",
    "encrypt": "plain from you to the proxy, TLS from there to the origin",
    "bridge": "TLS from you to the proxy, and TLS of its own from there to the origin",
    "passthrough": "TLS from you to the origin, and a proxy between them that only reads the hello",
    "connect": "TLS from you to the origin, in a tunnel through the proxy",
    "sequential-client": "TLS from you to the origin, in a tunnel through this client proxy and a reverse proxy, "
    "whose own TLS is taken off once yours protects all that follows",
    "sequential-server": "TLS from you to the origin, in a tunnel through the reverse proxy, inside TLS with a "
    "certificate of yours",
}


def _hold(wanted: int = 0) -> socket.socket:
    """
    Listen on a port of loopback, so that it is still ours when somebody else starts a demo, too.

    @param wanted: The port to prefer; where it is taken, the kernel chooses.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", wanted))
        held.listen()
    except OSError:
        held.close()
        if not wanted:
            raise
        return _hold()
    held.setblocking(False)
    return held


@implementer(IStreamServerEndpoint)
class _Held:
    """
    The endpoint of a socket that listens already.
    """

    def __init__(self, held: socket.socket) -> None:
        self._held = held

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """
        Accept on it.
        """
        from twisted.internet import reactor

        port = cast(IReactorSocket, reactor).adoptStreamPort(self._held.fileno(), socket.AF_INET, protocolFactory)
        self._held.close()
        return succeed(port)


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
        self._client = self._mapping = ""
        if mode in ("sequential-client", "sequential-server"):
            self._client = str(developmentClient(state, now=now)[1])
        self._sockets = _hold(_PORTS[mode]), _hold(), _hold(), _hold()
        self._listen, self._secure, self._reverse, self._plain = (held.getsockname()[1] for held in self._sockets)
        if mode == "sequential-client":
            self._mapping = self._writeMapping(state)
        self.origin = StreamServerEndpointService(_Held(self._sockets[-1]), Site(_Greeting(mode)))
        authority, shown = shlex.quote(str(self._authority)), shlex.quote(self._client)
        trusting, proxied = f"curl --cacert {authority}", "--noproxy ''"
        commands = {
            "encrypt": f"curl http://127.0.0.1:{self._listen}/",
            "passthrough": f"{trusting} https://localhost:{self._listen}/",
            "connect": f"{trusting} {proxied} --proxy http://127.0.0.1:{self._listen} https://127.0.0.1:{self._secure}/",
            "sequential-client": f"{trusting} {proxied} --proxy http://127.0.0.1:{self._listen} "
            f"https://127.0.0.1:{self._secure}/",
            "sequential-server": f"{trusting} {proxied} --proxy-cacert {authority} --proxy-cert {shown} "
            f"--proxy https://127.0.0.1:{self._listen} https://127.0.0.1:{self._secure}/",
        }
        command = commands.get(mode, f"{trusting} https://127.0.0.1:{self._listen}/")
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
        secure = f"127.0.0.1:{self._secure}"
        if self._mode == "offload":
            return {"route": [route | {"upstream": f"127.0.0.1:{self._plain}", "tls": tls}]}
        more: dict[str, dict[str, Any]] = {
            "encrypt": {"upstream": secure, "upstream_tls": upstreamTLS},
            "bridge": {"upstream": secure, "tls": tls, "upstream_tls": upstreamTLS},
            "passthrough": {"rule": [{"sni": "localhost", "upstream": secure}]},
            "connect": {"targets": {"allow": [secure]}},
            "sequential-client": {
                "mapping": self._mapping,
                "upstream_tls": {"ca": str(self._authority), "cert": self._client},
            },
            "sequential-server": self._reverseProxy(),
        }
        origin = {
            "name": "demo-origin",
            "mode": "offload",
            "listen": secure,
            "upstream": f"127.0.0.1:{self._plain}",
            "tls": tls,
        }
        routes = [route | more[self._mode], origin]
        if self._mode == "sequential-client":
            reverse = {
                "name": "demo-reverse-proxy",
                "mode": "sequential-server",
                "listen": f"127.0.0.1:{self._reverse}",
            }
            routes.append(reverse | self._reverseProxy())
        return {"route": routes}

    def _reverseProxy(self) -> dict[str, Any]:
        """
        Write what a reverse proxy has that lets the demo's client reach the origin.
        """
        return {
            "tls": {"cert": str(self._certificate), "client_ca": str(self._authority)},
            "grant": [{"dns": ["localhost"], "targets": [f"127.0.0.1:{self._secure}"]}],
        }

    def _writeMapping(self, state: Path) -> str:
        """
        Write what the demo's client proxy reaches by way of the demo's reverse proxy.

        @return: The file.
        """
        mapping = state / f"demo-mapping-{self._listen}.toml"
        mapping.write_text(
            f'[[reverse_proxy]]\nname = "demo"\naddress = "127.0.0.1:{self._reverse}"\n\n'
            f'[[map]]\nhosts = ["127.0.0.1:{self._secure}"]\nvia = "demo"\n'
        )
        return str(mapping)

    def held(self, routes: Sequence[Route]) -> tuple[Route, ...]:
        """
        Have the routes of the document listen on the sockets that are held for them.
        """
        return tuple(evolve(route, listen=_Held(held)) for route, held in zip(routes, self._sockets, strict=False))

    def close(self) -> None:
        """
        Give the sockets back that nobody has taken.
        """
        for held in self._sockets:
            held.close()
