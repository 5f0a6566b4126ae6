# -*- test-case-name: tests.integration.test_mapped_never_direct -*-
"""
What is mapped is never reached directly by a browser: not while the client proxy is down, and not while the reverse
proxy is, though the browser could.
"""

from __future__ import annotations

import json
from base64 import b64encode

from tests.integration.chromium import Chromium
from tests.integration.dmz import CP, PORT, SHOP, DMZTestCase
from tests.integration.running import TOOL, waitUntil
from tests.peers import requirePeer
from tlsproxy.browserpolicies import CHROMIUM

URL = f"https://shop.example:{PORT}/"
GREETING = "shop greets"


class BrowserTests(DMZTestCase):
    """
    A browser that knows the destination's address, has a certificate for it, and would be let in.
    """

    def setUp(self) -> None:
        """
        Have the browser, and start the client proxy.
        """
        super().setUp()
        self.browser = Chromium(self, self.shop.ca)
        self.browser.show(self.browserPEM, URL)
        self.browser.know({"shop.example": SHOP, "localhost": "127.0.0.1"})
        self.client = self.startClient()
        self.config = str(self.folder / "cp.toml")

    def apply(self) -> None:
        """
        Set the browser's proxy by its policies.
        """
        root = self.folder / "root"
        root.mkdir()
        self.run_([*TOOL, "browser", "--config", self.config, "--apply", "--root", str(root)])
        self.browser.manage("tlsproxy.json", (root / CHROMIUM).read_text())

    def assertNotReached(self, *flags: str) -> None:
        """
        Expect no page, and no packet to or from where it is.
        """
        self.assertEqual("", self.browser.page(URL, *flags))
        self.assertEqual("", self.packets())

    def packets(self) -> str:
        """
        Tell what has passed between anybody and the destination.
        """
        command = [requirePeer("tcpdump"), "-n", "-r", str(self.capture), f"tcp port {PORT} and host {SHOP}"]
        return self.run_(command).stdout.decode()

    def test_direct(self) -> None:
        """
        Without any setting the browser goes there directly: nothing else keeps it from that.
        """
        self.assertIn(GREETING, self.browser.page(URL))
        waitUntil(self.packets, "the packets of a page that came directly")

    def test_managed(self) -> None:
        """
        Set by policy, it goes by way of both proxies.
        """
        self.apply()
        self.startReverse()
        self.assertIn(GREETING, self.browser.page(URL))
        waitUntil(
            lambda: [one for one in self.client.sessions() if one["target"] == f"shop.example:{PORT}"], "the tunnel"
        )

    def test_clientProxyDown(self) -> None:
        """
        While the client proxy is down, and with it the PAC file, a browser that is set by policy reaches nothing.
        """
        self.apply()
        self.client.end()
        self.assertNotReached()

    def test_reverseProxyDown(self) -> None:
        """
        While the reverse proxy is down, the browser is told so by the client proxy, and does not look for another way.
        """
        self.apply()
        self.assertNotReached()
        self.assertIn("dial", self.client.text())

    def test_fileOutlivesTheProxy(self) -> None:
        """
        A browser that has the PAC file and finds the proxy down reaches nothing: the file names no other way.
        """
        text = self.run_([*TOOL, "pac", "--config", self.config]).stdout
        self.client.end()
        pac = b64encode(text).decode()
        self.assertNotReached(f"--proxy-pac-url=data:application/x-ns-proxy-autoconfig;base64,{pac}")

    def test_taken(self) -> None:
        """
        The browser takes all of the policy: by itself it goes directly where it cannot load the PAC file.
        """
        self.client.end()
        url = f"http://127.0.0.1:{CP}/proxy.pac"
        settings = {"ProxySettings": {"ProxyMode": "pac_script", "ProxyPacUrl": url}}
        self.browser.manage("tlsproxy.json", json.dumps(settings))
        self.assertIn(GREETING, self.browser.page(URL))
