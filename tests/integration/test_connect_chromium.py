# -*- test-case-name: tests.integration.test_connect_chromium -*-
"""
Chromium loads a page by way of C{connect}.
"""

from __future__ import annotations

from typing import Any

from tests.integration.chromium import Chromium, hosts
from tests.integration.namespace import NamespaceTestCase
from tests.integration.running import Proxy, toml, waitUntil

ADDRESS = "10.9.8.7"
URL = "https://shop.example:9443/"
PAGE = "Hello at the end of a tunnel"


def told(proxy: Proxy) -> list[dict[str, str]]:
    """
    What the log tells of sessions for the page.
    """
    return [line for line in proxy.sessions() if line["target"] == "shop.example:9443"]


class BrowserTests(NamespaceTestCase):
    """
    A browser whose only way to C{shop.example} is the proxy: it knows no such name.
    """

    guard = 120.0

    def setUp(self) -> None:
        """
        Start nginx, and have a browser.
        """
        super().setUp()
        self.browser = Chromium(self, self.certificates.ca)
        self.run_([*self.inside, "ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"])
        shop = self.certificates.issue("shop", ["shop.example"])
        self.nginx(
            f"server {{ listen {ADDRESS}:9443 ssl; listen {ADDRESS}:9080;"
            f" ssl_certificate {shop}; ssl_certificate_key {shop}; }}",
            self.inside,
        )
        (self.folder / "www" / "index.html").write_text(f"<p>{PAGE}</p>\n")

    def start(self, **more: Any) -> Proxy:
        """
        Start the proxy on port 3128.
        """
        targets = {"allow": ["shop.example:9443"]}
        route = {"name": "connect", "mode": "connect", "listen": "127.0.0.1:3128", "targets": targets, **more}
        config = self.folder / "connect.toml"
        config.write_text(toml([route]), "utf-8")
        return Proxy(self, self.folder, config, 1, hosts(self, {"shop.example": ADDRESS, "localhost": "127.0.0.1"}))

    def assertTunneled(self, proxy: Proxy) -> dict[str, str]:
        """
        Expect a tunnel to have been made for the page.

        @return: What the log tells of it.
        """

        def used() -> list[dict[str, str]]:
            # A browser has errands of its own, and leaves some connections unused.
            return [line for line in told(proxy) if int(line["sent"]) > len(PAGE)]

        line = waitUntil(used, "the session of the page in the log")[0]
        self.assertEqual(f"{ADDRESS}:9443", line["upstream"])
        return line

    def test_plain(self) -> None:
        """
        The proxy is told as C{http://}.
        """
        proxy = self.start()
        self.assertIn(PAGE, self.browser.page(URL, "--proxy-server=http://127.0.0.1:3128"))
        self.assertTunneled(proxy)

    def test_overTLS(self) -> None:
        """
        The proxy is told as C{https://}, and speaks TLS around the tunnel.
        """
        proxy = self.start(tls={"cert": str(self.pem)})
        self.assertIn(PAGE, self.browser.page(URL, "--proxy-server=https://localhost:3128"))
        self.assertTrue(self.assertTunneled(proxy)["tls"].startswith("TLSv1.3/"))

    def test_certificate(self) -> None:
        """
        The browser shows its certificate to the proxy.
        """
        proxy = self.start(tls={"cert": str(self.pem), "client_ca": str(self.certificates.ca)})
        client = self.certificates.issue("client", ["ann.example"], commonName="ann")
        self.browser.show(client, "https://localhost:3128")
        self.assertIn(PAGE, self.browser.page(URL, "--proxy-server=https://localhost:3128"))
        self.assertIn("CN=ann", self.assertTunneled(proxy)["certificate"])

    def test_proxyFile(self) -> None:
        """
        The browser is told by the proxy's own file which way to go, on plain TCP.
        """
        proxy = self.start()
        self.assertIn(PAGE, self.browser.page(URL, "--proxy-pac-url=http://127.0.0.1:3128/proxy.pac"))
        self.assertTunneled(proxy)

    def test_proxyFileGoesAround(self) -> None:
        """
        By that file, a page by C{http://} is fetched without the proxy, which would not forward it.
        """
        proxy = self.start()
        way = ["--proxy-pac-url=http://127.0.0.1:3128/proxy.pac", f"--host-resolver-rules=MAP shop.example {ADDRESS}"]
        self.assertIn(PAGE, self.browser.page("http://shop.example:9080/", *way))
        line = waitUntil(
            lambda: [one for one in proxy.sessions() if one["outcome"] == "answered"], "the file's session"
        )
        self.assertEqual("the client asked for /proxy.pac", line[0]["reason"])
        self.assertNotIn("forwards no plain HTTP", proxy.text())

    def test_proxyFileOverTLS(self) -> None:
        """
        And so it is on TLS.
        """
        proxy = self.start(tls={"cert": str(self.pem)})
        self.assertIn(PAGE, self.browser.page(URL, "--proxy-pac-url=https://localhost:3128/proxy.pac"))
        self.assertTrue(self.assertTunneled(proxy)["tls"].startswith("TLSv1.3/"))

    def test_denied(self) -> None:
        """
        What the proxy denies is no page, nor is the proxy's sentence taken for one.
        """
        proxy = self.start(targets={"allow": ["shop.example:443"]})
        self.assertEqual("", self.browser.page(URL, "--proxy-server=http://127.0.0.1:3128"))
        denied = waitUntil(lambda: told(proxy), "the refused session in the log")
        self.assertEqual({("refused", "head")}, {(line["outcome"], line["phase"]) for line in denied})
