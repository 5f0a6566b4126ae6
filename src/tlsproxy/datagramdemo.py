# -*- test-case-name: tests.test_datagramdemo -*-
"""
What a mode does when it is told no more than a UDP port: a proxy of DTLS on loopback, and behind it something that
sends back what it gets.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorSocket
from twisted.internet.protocol import DatagramProtocol

from tlsproxy.route import Route
from tlsproxy.tls.development import developmentServer

if TYPE_CHECKING:
    from tlsproxy.demo import Demo

__all__ = ["DatagramDemo", "Echo", "findDemo"]

_HOST: Final = "127.0.0.1"
_WORDS: Final = {
    "offload": "DTLS from you to the proxy, plain datagrams from there to the origin",
    "encrypt": "plain datagrams from you to the proxy, DTLS from there to the origin",
    "bridge": "DTLS from you to the proxy, and DTLS of its own from there to the origin",
}
_PORT: Final = re.compile(r"udp:(\d{1,5})", re.ASCII)
_MOST: Final = 65535


def findDemo(mode: str, listen: str, state: Path, now: datetime) -> Demo | DatagramDemo | None:
    """
    Find the demo of a mode that is told nothing, or no more than where to listen.

    @param mode: One of L{tlsproxy.settings.MODES}.
    @param listen: Where; C{""} if that is not told.  Only a UDP port leaves a demo, which is then one over datagrams.
    @param state: The state directory.
    @param now: The time that certificates have to be valid at.
    @return: L{None} where there is none.
    @raise CertificateProblem: The state directory cannot be used.
    """
    if not listen:
        from tlsproxy.demo import Demo  # It brings a web server along, which nobody else needs.

        return Demo(mode, state, now)
    found = _PORT.fullmatch(listen) if mode in _WORDS else None
    if found is None or int(found[1]) > _MOST:
        return None
    return DatagramDemo(mode, int(found[1]), state, now)


def _hold() -> socket.socket:
    """
    Take a UDP port of loopback.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    held.bind((_HOST, 0))
    held.setblocking(False)
    return held


class Echo(DatagramProtocol):
    """
    Sends each datagram back to where it came from.  It never sends more than it gets.
    """

    noisy = False

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """
        Send it back.
        """
        assert self.transport is not None
        self.transport.write(datagram, addr)


class _Origin(Service):
    """
    What stands behind the proxy.
    """

    def __init__(self, held: socket.socket) -> None:
        """
        @param held: Where it is; it is closed when somebody listens there.
        """
        self._held = held
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """
        Listen.
        """
        from twisted.internet import reactor

        super().startService()
        adopt = cast(IReactorSocket, reactor).adoptDatagramPort
        self._port = adopt(self._held.fileno(), socket.AF_INET, Echo(), _MOST)
        self._held.close()

    def stopService(self) -> Deferred[None] | None:
        """
        Listen no more.
        """
        super().stopService()
        port, self._port = self._port, None
        return port.stopListening() if port is not None else None


class DatagramDemo:
    """
    A mode's demo over datagrams.

    @ivar lines: What to tell the person who started it.
    @ivar origin: The service behind the proxy.
    """

    def __init__(self, mode: str, port: int, state: Path, now: datetime) -> None:
        """
        @param mode: C{offload}, C{encrypt} or C{bridge}.
        @param port: The port of loopback to listen on; 0 for any.
        @param state: The state directory, where the development CA is kept.
        @param now: The time that certificates have to be valid at.
        @raise CertificateProblem: The state directory cannot be used.
        """
        self._mode = mode
        self._authority, self._certificate = developmentServer(state, now=now)
        self._held = _hold()
        # These two are given up again for the routes, which bind their ports themselves.
        spare = _hold(), _hold()
        self._secure, chosen = (held.getsockname()[1] for held in spare)
        for held in spare:
            held.close()
        self._listen = port or chosen
        self.origin = _Origin(self._held)
        said = "(echo hello; sleep 1) |"
        trusting = f"-CAfile {shlex.quote(str(self._authority))} -verify_return_error -verify_ip {_HOST}"
        command = f"{said} openssl s_client -dtls -brief -connect {_HOST}:{self._listen} {trusting}"
        if mode == "encrypt":
            command = f"{said} nc -u -w 1 {_HOST} {self._listen}"
        intro = f"Demo of mode {mode} over UDP: {_WORDS[mode]}, which sends them back."
        self.lines = (intro, "Paste this into another terminal:", "", f"  {command}", "")

    def document(self, limits: Mapping[str, Any]) -> dict[str, Any]:
        """
        Write the demo's configuration.

        @param limits: The deadlines of the demonstrated route.
        """
        plain, secure = f"udp:{_HOST}:{self._held.getsockname()[1]}", f"udp:{_HOST}:{self._secure}"
        tls = {"cert": str(self._certificate)}
        route: dict[str, Any] = {
            "name": self._mode,
            "mode": self._mode,
            "listen": f"udp:{_HOST}:{self._listen}",
            "limits": dict(limits),
        }
        if self._mode != "encrypt":
            route["tls"] = tls
        if self._mode == "offload":
            return {"route": [route | {"upstream": plain}]}
        route |= {"upstream": secure, "upstream_tls": {"ca": str(self._authority), "name": "localhost"}}
        origin = {"name": "demo-origin", "mode": "offload", "listen": secure, "upstream": plain, "tls": tls}
        return {"route": [route, origin]}

    def held(self, routes: Sequence[Route]) -> tuple[Route, ...]:
        """
        The routes of the document bind their ports themselves.
        """
        return tuple(routes)

    def close(self) -> None:
        """
        Give the socket back that nobody has taken.
        """
        self._held.close()
