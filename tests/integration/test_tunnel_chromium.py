# -*- test-case-name: tests.integration.test_tunnel_chromium -*-
"""
Chromium reaches a server through C{passthrough}, by the name in its hello.
"""

from __future__ import annotations

from tests.integration.chromium import Chromium
from tests.integration.namespace import NamespaceTestCase
from tests.integration.running import Proxy, waitUntil

CONFIG = """
[[route]]
name = "front"
mode = "passthrough"
listen = "127.0.0.1:8443"
[[route.rule]]
sni = "shop.example"
upstream = "127.0.0.1:9443"
[[route.rule]]
refuse = "alert"
"""


class BrowserTests(NamespaceTestCase):
    """
    A browser that takes the proxy for the server.
    """

    guard = 120.0

    def test_passthrough(self) -> None:
        """
        The page of a name that a rule knows is loaded from behind the proxy, with the certificate of that server; any
        other name is answered by an alert.
        """
        browser = Chromium(self, self.certificates.ca)
        shop = self.certificates.issue("shop", ["shop.example", "other.example"])
        self.nginx(
            f"server {{ listen 127.0.0.1:9443 ssl http2; ssl_certificate {shop}; ssl_certificate_key {shop}; }}",
            self.inside,
        )
        (self.folder / "www" / "index.html").write_text("<p>Hello from behind</p>\n")
        config = self.folder / "front.toml"
        config.write_text(CONFIG)
        proxy = Proxy(self, self.folder, config, 1, self.inside)

        def told(name: str) -> dict[str, str]:
            return waitUntil(lambda: [line for line in proxy.sessions() if line["sni"] == name], f"{name} in the log")[
                0
            ]

        mapped = "--host-resolver-rules=MAP *.example 127.0.0.1"
        self.assertIn("Hello from behind", browser.page("https://shop.example:8443/", mapped))
        line = told("shop.example")
        self.assertEqual(("h2,http/1.1", "-", "127.0.0.1:9443"), (line["alpn"], line["tls"], line["upstream"]))
        self.assertEqual("", browser.page("https://other.example:8443/", mapped))
        line = told("other.example")
        self.assertEqual(("refused", "-"), (line["outcome"], line["upstream"]))
