# -*- test-case-name: tests.patterns.test_sequentialserver -*-
"""
Tunnels that certificates are granted, in tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from attrs import evolve

from tests.patterns.connecting import TARGET, ConnectCase, ask
from tlsproxy.grants import Grant
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import NOW, authority, certificate, serverTLS
from tlsproxy.testing.sessions import Browser
from tlsproxy.tls.authorization import Allowed
from tlsproxy.tls.certificates import Identity

__all__ = ["ANN", "GrantCase", "grantFor", "hello", "shortLived"]

ANN = "ann"
"""Whom the grant of most tests is for, by the common name."""


def grantFor(*names: str, targets: Sequence[str] = ("shop.example:443",), **more: Any) -> Grant:
    """
    Make a grant for common names of the authority of tests.
    """
    allowed = Allowed(cn=frozenset(names or (ANN,)))
    return Grant(issuers=(authority().certificate,), allowed=allowed, targets=targets, **more)


def hello(serverName: str = "shop.example") -> bytes:
    """
    Make what a browser says first inside the tunnel.
    """
    browser = Browser(None, serverName=serverName)
    browser._handshake()
    return bytes(browser.unsent)


def shortLived(name: str, seconds: float) -> Identity:
    """
    Issue a certificate that ends soon after the time of the tests.
    """
    lifetime = timedelta(seconds=seconds)
    return authority().issue(commonName=name, names=(), server=False, client=True, lifetime=lifetime, now=NOW)


class GrantCase(ConnectCase):
    """
    A test of tunnels that certificates are granted.
    """

    def grant(self, *grants: Grant, deny: Iterable[str] = (), allow: Iterable[str] = (), **more: Any) -> None:
        """
        Serve in this mode.

        @param grants: Who may reach what; Ann shop.example by default.
        @param deny: What nobody may.
        @param allow: What anybody may at most.
        @param more: Further attributes of the pattern, and limits.
        """
        pattern = SequentialServer(
            tls=more.pop("tls", serverTLS(clients="required", alpn=SequentialServer.alpn)),
            grants=grants or (grantFor(),),
            targets=Targets(allow=list(allow), deny=list(deny)),
            now=lambda: NOW,
        )
        known = {key: more.pop(key) for key in ("how",) if key in more}
        self.serve(evolve(pattern, **known), **more)
        self.factory.listeners = ()

    def comes(self, request: bytes = b"", identity: Identity | None = None, **browser: Any) -> Any:
        """
        Have a client connect, and send something.

        @param request: That; by default what asks for the target.
        @param identity: What it shows; Ann's certificate by default.
        """
        shown = identity or certificate(ANN)
        return self.asks(request or ask(), partial(Browser, identity=shown, **browser))

    def stands(self, target: str = TARGET, **client: Any) -> Any:
        """
        Have a tunnel.

        @return: The client.
        """
        client_ = self.comes(ask(target), **client)
        self.settle(lambda: b"\r\n\r\n" in client_.received)
        return client_
