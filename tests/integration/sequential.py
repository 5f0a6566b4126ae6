# -*- test-case-name: tests.integration -*-
"""
Sequential connect as the tests of it have it: three authorities, a client proxy and a reverse proxy, each ours or one
on Python's own library, and a destination.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.destination import Browser, Destination, browserContext, destinationContext
from tests.integration.running import Certificates, IntegrationTestCase, waitUntil
from tests.integration.stdlibproxies import ClientProxy, ServerProxy, Tunnel, outerContext

Grant = Callable[[str, str], bool]


def onlyAnn(who: str, what: str) -> bool:
    """
    Let one client in, to wherever it wants.
    """
    return who == "ann"


class SequentialTestCase(IntegrationTestCase):
    """
    A test with a DMZ.

    @ivar gate: The authority of the two proxies.
    @ivar shop: That of the destinations.
    @ivar people: That of the browsers.
    @ivar gatePEM: The certificate of the reverse proxy.
    @ivar annPEM: That of a client proxy.
    @ivar shopPEM: That of the destinations.
    @ivar browserPEM: That of the browser.
    @ivar malloryPEM: A good one as well, of somebody who may ask the destination, and not the reverse proxy.
    """

    def setUp(self) -> None:
        """
        Issue the certificates.
        """
        super().setUp()
        self.gate = Certificates(self.folder, "gate")
        self.shop = Certificates(self.folder, "shop")
        self.people = Certificates(self.folder, "people")
        self.gatePEM = self.gate.issue("gateway")
        self.annPEM = self.gate.issue("ann", ["ann.example"], commonName="ann")
        self.shopPEM = self.shop.issue("shopserver")
        self.browserPEM = self.people.issue("browser", ["browser.example"], commonName="browser")
        self.malloryPEM = self.people.issue("mallory", ["mallory.example"], commonName="mallory")

    def destination(self, version: str = "", group: str = "", required: bool = True) -> Destination:
        """
        Start a destination that demands a certificate.
        """
        return Destination(self, destinationContext(self.shopPEM, self.people.ca, version, group, required))

    def browserContext(self, version: str = "", certificate: Path | None = None) -> ssl.SSLContext:
        """
        Make what a browser speaks.
        """
        return browserContext(self.shop.ca, certificate or self.browserPEM, version)

    def stdlibServer(
        self,
        value: str = "handshake",
        targets: Callable[[str, str], bool] = lambda who, what: who == "ann",
        **more: Any,
    ) -> ServerProxy:
        """
        Start a reverse proxy that is not ours.
        """
        proxy = ServerProxy(outerContext(True, self.gatePEM, self.gate.ca), targets, value, **more)
        self.addCleanup(proxy.stop)
        return proxy

    def stdlibClient(self, upstream: int, wishes: str = "handshake, none", **more: Any) -> ClientProxy:
        """
        Start a client proxy that is not ours.
        """
        proxy = ClientProxy(outerContext(False, self.annPEM, self.gate.ca), upstream, wishes, **more)
        self.addCleanup(proxy.stop)
        return proxy

    def ended(self, proxy: ClientProxy | ServerProxy, number: int = 0) -> Tunnel:
        """
        Wait for the end of a tunnel.
        """
        return waitUntil(
            lambda: proxy.tunnels[number] if len(proxy.tunnels) > number and proxy.tunnels[number].outcome else None,
            f"the end of tunnel {number}: {proxy.troubles}",
            5,
        )

    def browse(
        self, proxy: int, destination: Destination, context: ssl.SSLContext | None = None, **more: Any
    ) -> Browser:
        """
        Have a browser connect to a destination.
        """
        browser = Browser(proxy, destination.port, context or self.browserContext(), **more)
        self.addCleanup(browser.close)
        return browser

    def sequentialServer(self, value: str = "handshake", **more: Any) -> dict[str, Any]:
        """
        A route of mode C{sequential-server}, which lets one client to all of loopback.
        """
        targets = ["localhost:*", "*.example:*", "127.0.0.0/8:*"]
        return {
            "mode": "sequential-server",
            "tls": {"cert": str(self.gatePEM), "client_ca": str(self.gate.ca)},
            "grant": [{"cn": ["ann"], "targets": targets}],
            **self._downgrade(value),
            **more,
        }

    def sequentialClient(
        self, upstream: int, value: str = "handshake", name: str = "cp", **more: Any
    ) -> dict[str, Any]:
        """
        A route of mode C{sequential-client}, which asks one reverse proxy for everything.

        @param upstream: Its port.
        """
        mapping = self.folder / f"{name}.mapping.toml"
        mapping.write_text(
            f'[[reverse_proxy]]\nname = "gate"\naddress = "localhost:{upstream}"\n'
            '[[map]]\nhosts = ["*:*"]\nvia = "gate"\n'
        )
        return {
            "name": name,
            "mode": "sequential-client",
            "mapping": str(mapping),
            "upstream_tls": {"ca": str(self.gate.ca), "cert": str(self.annPEM)},
            **self._downgrade(value),
            **more,
        }

    def _downgrade(self, value: str) -> dict[str, Any]:
        return {"downgrade": value, **({"unsafe_connect": True} if value == "connect" else {})}
