# -*- test-case-name: tests.integration.test_coap_over_dtls -*-
"""
CoAP over DTLS (RFC 7252, section 9) goes through each mode: libcoap's client and server, with OpenSSL and with GnuTLS.
"""

from __future__ import annotations

from tests.integration.running import Child, freePort, waitUntil
from tests.integration.test_datagrams_through_each_mode import LOOPBACK, DatagramTestCase
from tests.peers import requirePeer

LIBRARIES = ("openssl", "gnutls")
BODY = "a body of several blocks, " * 200


class CoAPTests(DatagramTestCase):
    """
    What is put is got again, in blocks.
    """

    def server(self, library: str) -> int:
        """
        Start a server.

        @param library: C{notls} for one in clear as well.
        @return: Its port; that for DTLS is the next.
        """
        port = freePort()
        files = ["-c", str(self.pem), "-j", str(self.pem), "-R", str(self.certificates.ca)]
        command = [requirePeer(f"coap-server-{library}"), "-A", LOOPBACK, "-p", str(port)]
        Child(self, self.folder, f"server-{library}", [*command, *([] if library == "notls" else files)])
        client = [requirePeer("coap-client-notls"), "-B", "1", f"coap://{LOOPBACK}:{port}/"]
        waitUntil(lambda: b"test server" in self.run_(client, status=None).stdout, "the server")
        return port

    def assertKept(self, library: str, scheme: str, port: int) -> None:
        """
        Put something, and get it again.
        """
        where = f"{scheme}://{LOOPBACK}:{port}/example_data"
        files = ["-c", str(self.pem), "-j", str(self.pem), "-R", str(self.certificates.ca)]
        client = [requirePeer(f"coap-client-{library}"), "-B", "10", *([] if library == "notls" else files)]
        (self.folder / "body").write_text(f"{library} {port} {BODY}")
        self.run_([*client, "-m", "put", "-b", "512", "-f", "body", where])
        got = self.run_([*client, "-b", "512", where])
        self.assertTrue(f"{library} {port} {BODY}" in got.stdout.decode(), (where, got.stdout[:99], got.stderr[:999]))

    def test_modes(self) -> None:
        """
        Each client reaches each server by C{bridge} and C{passthrough}, a server in clear by C{offload}, and without
        DTLS of its own one that has it by C{encrypt}.
        """
        servers = {library: self.server(library) + 1 for library in LIBRARIES}
        plain = self.server("notls")
        routes = [{**self.offload(plain), "name": "offload"}]
        for library, port in servers.items():
            own = {"cert": str(self.pem)}  # These servers demand one.
            far = (self.bridge(port, upstream_tls=own), self.encrypt(port, upstream_tls=own), self.passthrough(port))
            for route in far:
                routes.append({**route, "name": f"{route['mode']}-{library}"})
        proxy = self.proxy(*self.routes(*routes))
        for client in LIBRARIES:
            self.assertKept(client, "coaps", proxy.port("offload"))
            self.assertKept("notls", "coap", proxy.port(f"encrypt-{client}"))
            for server in servers:
                self.assertKept(client, "coaps", proxy.port(f"bridge-{server}"))
                self.assertKept(client, "coaps", proxy.port(f"passthrough-{server}"))
