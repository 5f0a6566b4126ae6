# -*- test-case-name: tests.integration.test_examples -*-
"""
Every file in C{examples/} does what its first comment says.
"""

from __future__ import annotations

import sys

from tests.integration import test_gateway
from tests.integration.namespace import EXAMPLES, NamespaceTestCase
from tests.integration.running import TOOL, Child, Proxy

ELSEWHERE = {"gateway.toml": test_gateway.GatewayTests}
"""Examples that have a module of tests of their own."""


class ExampleTests(NamespaceTestCase):
    """
    The examples, each in a network of its own, since they name their ports.
    """

    def test_all(self) -> None:
        """
        No example is without a test.
        """
        for file in EXAMPLES.iterdir():
            if file.is_file():
                tested = file.name in ELSEWHERE or hasattr(self, f"test_{file.stem}")
                self.assertTrue(tested, f"{file.name} has no test")

    def test_check(self) -> None:
        """
        All configurations are good, and give rise to no warning.
        """
        self.run_([*TOOL, "devcert", "certs"])
        for file in EXAMPLES.glob("*.toml"):
            copy = self.folder / file.name
            copy.write_bytes(file.read_bytes())
            done = self.run_([*TOOL, "check", file.name])
            self.assertIn(b": good: ", done.stdout)
            self.assertEqual(b"", done.stderr)

    def page(self, servers: str) -> None:
        """
        Start an nginx with one page.
        """
        self.nginx(servers, self.inside)
        (self.folder / "www" / "index.html").write_text("Hello from nginx\n")

    def assertServed(self, version: bytes) -> None:
        """
        Fetch the page by the command of the example.
        """
        curl = ["curl", "--silent", "--show-error", "--cacert", "certs/ca.pem", "--write-out", "%{http_version}"]
        done = self.run_([*self.inside, *curl, "https://localhost:8443/"])
        self.assertEqual(b"Hello from nginx\n" + version, done.stdout)

    def test_offload(self) -> None:
        """
        C{offload.toml} puts TLS in front of nginx.
        """
        config = self.example("offload.toml")
        self.page("server { listen 127.0.0.1:8080; }")
        Proxy(self, self.folder, config, 1, self.inside)
        self.assertServed(b"1.1")

    def test_bridge(self) -> None:
        """
        C{bridge.toml} decrypts and encrypts again, and speaks HTTP/2 through.
        """
        config = self.example("bridge.toml")
        certs = self.folder / "certs"
        self.page(
            f"server {{ listen 127.0.0.1:9443 ssl http2; ssl_certificate {certs}/server.pem;"
            f" ssl_certificate_key {certs}/server-key.pem; }}"
        )
        Proxy(self, self.folder, config, 1, self.inside)
        self.assertServed(b"2")

    def test_embed(self) -> None:
        """
        C{embed.py} runs as it stands.
        """
        program = self.example("embed.py")
        self.page("server { listen 127.0.0.1:8080; }")
        running = Child(self, self.folder, "embed", [*self.inside, sys.executable, str(program)])
        curl = ["curl", "--silent", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
        done = self.run_([*self.inside, *curl, "--cacert", "certs/ca.pem", "https://localhost:8443/"])
        self.assertEqual(b"Hello from nginx\n", done.stdout, running.text())
        running.end()
        self.assertNotIn("Traceback", running.text())
