# -*- test-case-name: tests.integration.test_sequential_chromium -*-
"""
Chromium reaches destinations behind a DMZ, with a certificate of its own for each, by way of both proxies; and without
a client proxy, by the reverse proxy alone.
"""

from __future__ import annotations

import base64
from pathlib import Path

from tests.integration.chromium import Chromium
from tests.integration.dmz import CP, GATE, PORT, RP, DMZTestCase
from tests.integration.running import Proxy, waitUntil

SHOP_URL, BANK_URL = f"https://shop.example:{PORT}/", f"https://bank.example:{PORT}/"


class BrowserTests(DMZTestCase):
    """
    A browser on the client proxy's host, where no destination is known.
    """

    def setUp(self) -> None:
        """
        Start the reverse proxy, and have a browser.
        """
        super().setUp()
        self.reverse = self.startReverse()
        self.browser = Chromium(self, self.shop.ca)
        self.browser.trust(self.vault.ca)
        self.browser.trust(self.gate.ca)
        self.browser.show(self.browserPEM, SHOP_URL)
        self.browser.show(self.clerkPEM, BANK_URL)

    def assertTunneled(self, proxy: Proxy, target: str, downgrade: str) -> None:
        """
        Expect the log to tell of a tunnel in which a page came, and whose it was: the client proxy's.
        """

        def told() -> list[dict[str, str]]:
            # A browser has errands of its own, and leaves some connections unused.
            return [one for one in proxy.sessions() if one["target"] == target and int(one["sent"]) > 2500]

        line = waitUntil(told, f"the tunnel to {target} in the log")[0]
        if proxy is self.reverse:
            self.assertIn("CN=ann", line["certificate"])
        self.assertRegex(proxy.text(), rf"target={target} .*downgrade={downgrade}")
        for name in ("CN=browser", "CN=clerk"):
            self.assertNotIn(name, proxy.text())

    def test_bothProxies(self) -> None:
        """
        The destinations see the browser's certificates, each the one of its own authority; the reverse proxy sees the
        client proxy's.  Their TLS is taken off.
        """
        client = self.startClient()
        way = f"--proxy-server=http://127.0.0.1:{CP}"
        self.assertIn("shop greets CN=browser of CN=test people", self.browser.page(SHOP_URL, way))
        self.assertIn("bank greets CN=clerk of CN=test clerks", self.browser.page(BANK_URL, way))
        for target in (f"shop.example:{PORT}", f"bank.example:{PORT}"):
            for proxy in (self.reverse, client):
                self.assertTunneled(proxy, target, "handshake")

    def test_reverseProxyAlone(self) -> None:
        """
        A browser that is told by a PAC file of an C{HTTPS} proxy needs no client proxy: it shows one certificate to
        the reverse proxy, and another one to the destination.
        """
        self.browser.show(self.annPEM, f"https://gate.example:{RP}")
        script = f'function FindProxyForURL(url, host) {{ return "HTTPS gate.example:{RP}"; }}'
        pac = f"data:application/x-ns-proxy-autoconfig;base64,{base64.b64encode(script.encode()).decode()}"
        page = self.browser.page(SHOP_URL, f"--proxy-pac-url={pac}", f"--host-resolver-rules=MAP gate.example {GATE}")
        self.assertIn("shop greets CN=browser of CN=test people", page)
        self.assertTunneled(self.reverse, f"shop.example:{PORT}", "none")

    def test_curl(self) -> None:
        """
        So it is with curl, through both or through the reverse proxy alone.
        """
        client = self.startClient()
        self.assertIn("shop greets CN=browser", self.curl(SHOP_URL, self.browserPEM))
        self.assertIn("bank greets CN=clerk", self.curl(BANK_URL, self.clerkPEM))
        for proxy in (self.reverse, client):
            self.assertTunneled(proxy, f"bank.example:{PORT}", "handshake")
        self.assertIn("shop greets CN=browser", self.curl(SHOP_URL, self.browserPEM, *self.straight(self.annPEM)))
        # With the other's certificate the bank lets nobody in, and nor does it without any.
        self.assertNotIn("bank greets CN", self.curl(BANK_URL, self.browserPEM, status=None))

    def straight(self, certificate: Path) -> list[str]:
        """
        The options of curl for the reverse proxy alone.
        """
        way = ["--proxy", f"https://gate.example:{RP}", "--resolve", f"gate.example:{RP}:{GATE}"]
        return [*way, "--proxy-cacert", str(self.gate.ca), "--proxy-cert", str(certificate)]
