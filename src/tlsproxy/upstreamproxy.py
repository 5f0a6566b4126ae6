# -*- test-case-name: tests.test_upstreamproxy -*-
"""
Reaching a host through a proxy that is there already: HTTP CONNECT (RFC 9110, section 9.3.6), or SOCKS5 (RFC 1928).

The name of the host is the proxy's to look up.  Nothing is read ahead, so what follows belongs to the tunnel.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from attrs import field, frozen

from tlsproxy.address import TCP
from tlsproxy.asking import askForTunnel
from tlsproxy.end import End
from tlsproxy.errors import DialFailed, PeerEnded
from tlsproxy.wire.connect import RequestRefused, connectHead, parseAuthority
from tlsproxy.wire.socks5 import (
    Reply,
    Socks5Error,
    connectRequest,
    credentials,
    greeting,
    readMethod,
    readVerdict,
)

__all__ = ["UpstreamProxy"]

_SCHEMES: Final = ("http", "socks5")
_PORTS: Final = {"http": 3128, "socks5": 1080}
_USER: Final = re.compile(r"[!-~]+")


@frozen(kw_only=True)
class UpstreamProxy:
    """
    Such a proxy.

    @ivar scheme: What it speaks: C{"http"} or C{"socks5"}.
    @ivar address: Where it is.
    @ivar user: Who we are to it; C{""} for nobody.
    @ivar password: The user's password, if any.
    """

    scheme: str
    address: TCP
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    @classmethod
    def parse(cls, text: str) -> UpstreamProxy:
        """
        Read C{http://USER@HOST:PORT} or C{socks5://USER@HOST:PORT}, where the user may be left out.

        @raise ValueError: One sentence on what is wrong.
        """
        scheme, found, rest = text.partition("://")
        if not found or scheme.lower() not in _SCHEMES:
            raise ValueError(f"{text!r}: give http://HOST:PORT or socks5://HOST:PORT")
        user, at, where = rest.rpartition("@")
        if ":" in user:
            raise ValueError("no password stands here, where everybody reads it: give upstream_proxy_password_file")
        if at and not _USER.fullmatch(user):
            raise ValueError(f"{text!r}: before the @ stands the name of a user, in visible ASCII letters")
        try:
            host, port = parseAuthority(where.removesuffix("/"), "the proxy's address")
        except RequestRefused as e:
            raise ValueError(f"{text!r}: {e}") from None
        if port is None:
            raise ValueError(f"{text!r}: say which port, as in {scheme}://{host}:{_PORTS[scheme.lower()]}")
        return cls(scheme=scheme.lower(), address=TCP(host, port), user=user)

    async def ask(self, proxy: End, where: TCP) -> None:
        """
        Have the proxy connect with a host.  The caller's deadline bounds all of it.

        @param proxy: The connection with the proxy; afterwards it is one with the host.
        @raise DialFailed: The proxy refuses, or answers otherwise than it should.
        @raise SessionError: The connection ended or was reset.
        """
        if self.scheme == "socks5":
            try:
                await self._askSocks(proxy, where)
            except Socks5Error as e:
                raise DialFailed(f"{proxy.who} {e}", 504 if e.late else 502) from None
            return
        secret = b64encode(f"{self.user}:{self.password}".encode()).decode("ascii") if self.user else ""
        head = connectHead(where.host, where.port, authorization=f"Basic {secret}" if secret else "")
        answer = await askForTunnel(proxy, head)
        if answer.status == 407:
            wanted = "does not accept the user's name and password"
            if not self.user:
                wanted = (
                    "wants a user's name and password: give USER@ before its host in upstream_proxy, and "
                    "upstream_proxy_password_file"
                )
            raise DialFailed(f"{proxy.who} {wanted}")
        if not answer.established:
            raise DialFailed(f"{proxy.who} {answer.words}", 504 if answer.status == 504 else 502)

    async def _askSocks(self, proxy: End, where: TCP) -> None:
        authenticates = bool(self.user)
        await proxy.write(greeting(authenticates))
        if readMethod(await _exactly(proxy, 2), authenticates):
            await proxy.write(credentials(self.user, self.password))
            readVerdict(await _exactly(proxy, 2))
        await proxy.write(connectRequest(where.host, where.port))
        reply = Reply()
        while reply.need:
            reply.read(await _exactly(proxy, reply.need))


async def _exactly(end: End, count: int) -> bytes:
    """
    Read so many bytes, and not one more.
    """
    data = b""
    while len(data) < count:
        piece = await end.read(count - len(data))
        if not piece:
            raise PeerEnded(f"{end.who} ended the stream in the middle of its answer")
        data += piece
    return data
