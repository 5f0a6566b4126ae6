"""
Tests of L{tlsproxy.wire.connect} with heads that clients have sent.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_connect import readHead
from tlsproxy.wire.connect import Request, RequestReader, RequestRefused

_CHROMIUM = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/156.0.0.0 Safari/537.36"
)
_ANN = "Basic YW5uOnNlY3JldA=="

CLIENTS: dict[str, tuple[bytes, Request]] = {
    "chromium": (
        b"CONNECT shop.example:443 HTTP/1.1\r\n"
        b"Host: shop.example:443\r\n"
        b"Proxy-Connection: keep-alive\r\n"
        b"User-Agent: %b\r\n"
        b"\r\n" % _CHROMIUM.encode(),
        Request("CONNECT", "shop.example:443", "shop.example", 443, "shop.example:443", ""),
    ),
    "chromium, for its configuration": (
        b"GET /proxy.pac HTTP/1.1\r\n"
        b"Host: 127.0.0.1:3128\r\n"
        b"Connection: keep-alive\r\n"
        b"User-Agent: %b\r\n"
        b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
        b"\r\n" % _CHROMIUM.encode(),
        Request("GET", "/proxy.pac", "", 0, "127.0.0.1:3128", ""),
    ),
    "curl -x": (
        b"CONNECT shop.example:8443 HTTP/1.1\r\n"
        b"Host: shop.example:8443\r\n"
        b"Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"
        b"User-Agent: curl/7.88.1\r\n"
        b"Proxy-Connection: Keep-Alive\r\n"
        b"\r\n",
        Request("CONNECT", "shop.example:8443", "shop.example", 8443, "shop.example:8443", _ANN),
    ),
    "curl -x, to an address": (
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"
        b"Host: [2001:db8::1]:443\r\n"
        b"User-Agent: curl/7.88.1\r\n"
        b"Proxy-Connection: Keep-Alive\r\n"
        b"\r\n",
        Request("CONNECT", "[2001:db8::1]:443", "2001:db8::1", 443, "[2001:db8::1]:443", ""),
    ),
    "curl --proxy1.0": (
        b"CONNECT shop.example:443 HTTP/1.0\r\n"
        b"Host: shop.example:443\r\n"
        b"User-Agent: curl/7.88.1\r\n"
        b"Proxy-Connection: Keep-Alive\r\n"
        b"\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "shop.example:443", ""),
    ),
    "curl -I": (
        b"HEAD /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:3128\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        Request("HEAD", "/proxy.pac", "", 0, "127.0.0.1:3128", ""),
    ),
    "git": (
        b"CONNECT shop.example:443 HTTP/1.1\r\n"
        b"Host: shop.example:443\r\n"
        b"User-Agent: git/2.39.5\r\n"
        b"Proxy-Connection: Keep-Alive\r\n"
        b"\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "shop.example:443", ""),
    ),
    "java": (
        b"CONNECT shop.example:443 HTTP/1.1\r\n"
        b"User-Agent: Java/17.0.15\r\n"
        b"Host: shop.example\r\n"
        b"Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\n"
        b"Proxy-Connection: keep-alive\r\n"
        b"\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "shop.example", ""),
    ),
    "openssl s_client -proxy": (
        b"CONNECT shop.example:443 HTTP/1.0\r\n"
        b"Proxy-Connection: Keep-Alive\r\n"
        b"Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"
        b"\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "", _ANN),
    ),
    "python 3.11": (
        b"CONNECT shop.example:443 HTTP/1.0\r\n\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "", ""),
    ),
    "python 3.13": (
        b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "shop.example:443", ""),
    ),
    "wget": (
        b"CONNECT shop.example:443 HTTP/1.1\r\nUser-Agent: Wget/1.21.3\r\nHost: shop.example:443\r\n\r\n",
        Request("CONNECT", "shop.example:443", "shop.example", 443, "shop.example:443", ""),
    ),
}
"""
What each client sent, and what it wants.
"""


class ClientTests(SynchronousTestCase):
    """
    Clients people use.
    """

    def test_understood(self) -> None:
        """
        What a client wants is told.
        """
        for head, request in CLIENTS.values():
            self.assertEqual(readHead(head), request)

    def test_plainRequest(self) -> None:
        """
        curl, sent to the proxy with a plain URL, is told why that does not work.
        """
        head = (
            b"GET http://shop.example/ HTTP/1.1\r\n"
            b"Host: shop.example\r\n"
            b"User-Agent: curl/7.88.1\r\n"
            b"Accept: */*\r\n"
            b"Proxy-Connection: Keep-Alive\r\n"
            b"\r\n"
        )
        refused = self.assertRaises(RequestRefused, RequestReader().read, head)
        self.assertIn("CONNECT", str(refused))
        self.assertEqual((refused.status, refused.headers), (405, (("Allow", "CONNECT"),)))

    def test_proxysOwnName(self) -> None:
        """
        A program that names the proxy itself in the Host field, as node does when it is not told what to put there, is
        refused.
        """
        head = b"CONNECT shop.example:443 HTTP/1.1\r\nHost: 127.0.0.1:3128\r\nConnection: keep-alive\r\n\r\n"
        refused = self.assertRaises(RequestRefused, RequestReader().read, head)
        self.assertIn("Host field", str(refused))
