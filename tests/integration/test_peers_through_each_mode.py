# -*- test-case-name: tests.integration.test_peers_through_each_mode -*-
"""
C{curl}, C{openssl s_client} and Python's C{ssl} work through each mode against nginx.
"""

from __future__ import annotations

import http.client
import os
import ssl

from tests.integration.running import IntegrationTestCase, freePort

PAGE = os.urandom(100_000).hex().encode()

GET = b"GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n"


class PeerTests(IntegrationTestCase):
    """
    An nginx that speaks HTTP/1.1 in plain, HTTP/2 in plain, and both in TLS.
    """

    def setUp(self) -> None:
        """
        Start nginx.
        """
        super().setUp()
        self.plain, self.plainH2, self.secure = freePort(), freePort(), freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.plain}; }}"
            f"server {{ listen 127.0.0.1:{self.plainH2} http2; }}"
            f"server {{ listen 127.0.0.1:{self.secure} ssl http2; ssl_protocols TLSv1.2 TLSv1.3;"
            f" ssl_certificate {self.pem}; ssl_certificate_key {self.pem}; }}"
        )
        (self.folder / "www" / "page").write_bytes(PAGE)

    def curl(self, url: str, *options: str) -> str:
        """
        Fetch the page.

        @return: The HTTP version that was spoken.
        """
        command = ["curl", "--silent", "--show-error", "--cacert", str(self.certificates.ca), "--output", "page"]
        done = self.run_([*command, "--write-out", "%{http_version}", *options, url])
        self.assertEqual(PAGE, (self.folder / "page").read_bytes())
        return done.stdout.decode()

    def openssl(self, port: int, *options: str) -> None:
        """
        Fetch the page with C{openssl s_client}.
        """
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-ign_eof"]
        trust = ["-CAfile", str(self.certificates.ca), "-verify_return_error", "-verify_hostname", "localhost"]
        done = self.run_([*command, "-quiet", *trust, *options], GET)
        self.assertEqual(PAGE, done.stdout.partition(b"\r\n\r\n")[2])

    def python(self, port: int, version: ssl.TLSVersion) -> None:
        """
        Fetch the page twice on one connection with Python's C{ssl}.
        """
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        context.minimum_version = context.maximum_version = version
        self.http(http.client.HTTPSConnection("localhost", port, context=context))

    def http(self, connection: http.client.HTTPConnection) -> None:
        """
        Fetch the page twice on one connection.
        """
        self.addCleanup(connection.close)
        for _ in range(2):
            connection.request("GET", "/page")
            self.assertEqual(PAGE, connection.getresponse().read())

    def everyClient(self, port: int) -> None:
        """
        Fetch the page with each client that speaks HTTP/1.1 in TLS.
        """
        self.assertEqual("1.1", self.curl(f"https://localhost:{port}/page", "--http1.1"))
        self.openssl(port, "-tls1_2")
        self.openssl(port, "-tls1_3")
        self.python(port, ssl.TLSVersion.TLSv1_2)
        self.python(port, ssl.TLSVersion.TLSv1_3)

    def test_offload(self) -> None:
        """
        TLS from the client, HTTP/1.1 and HTTP/2 in plain to nginx.
        """
        proxy = self.proxy(
            self.offload(self.plain, name="one", tls={"alpn": ["http/1.1"]}),
            self.offload(self.plainH2, name="two", tls={"alpn": ["h2"]}),
        )
        self.everyClient(proxy.port("one"))
        self.assertEqual("2", self.curl(f"https://localhost:{proxy.port('two')}/page"))

    def test_encrypt(self) -> None:
        """
        HTTP/1.1 and HTTP/2 in plain from the client, TLS to nginx.
        """
        proxy = self.proxy(
            self.encrypt(self.secure, name="one"),
            self.encrypt(self.secure, name="two", upstream_tls={"alpn": ["h2"]}),
        )
        one, two = proxy.port("one"), proxy.port("two")
        self.assertEqual("1.1", self.curl(f"http://localhost:{one}/page"))
        self.assertEqual("2", self.curl(f"http://localhost:{two}/page", "--http2-prior-knowledge"))
        self.http(http.client.HTTPConnection("127.0.0.1", one))

    def test_bridge(self) -> None:
        """
        TLS from the client, TLS to nginx, and HTTP/2 where both speak it.
        """
        proxy = self.proxy(self.bridge(self.secure, tls={"alpn": ["h2", "http/1.1"]}))
        port = proxy.port("bridge")
        self.everyClient(port)
        self.assertEqual("2", self.curl(f"https://localhost:{port}/page"))

    def test_passthrough(self) -> None:
        """
        TLS with nginx itself, in HTTP/1.1 and HTTP/2.
        """
        port = self.proxy(self.passthrough(self.secure)).port("passthrough")
        self.everyClient(port)
        self.assertEqual("2", self.curl(f"https://localhost:{port}/page"))

    def test_pair(self) -> None:
        """
        C{encrypt} behind C{offload}: the clients that speak TLS reach nginx's TLS through both.
        """
        secure = self.encrypt(self.secure, listen=f"127.0.0.1:{(middle := freePort())}")
        proxy = self.proxy(self.offload(middle), secure)
        self.everyClient(proxy.port("offload"))
