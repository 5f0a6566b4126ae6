# -*- test-case-name: tests.integration.test_fetching -*-
"""
A program's HTTP client through the program's own C{encrypt}, and real servers behind it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from tests.integration.running import IntegrationTestCase, freePort, toml
from tests.integration.talking import Listener
from tests.peers import requireModule

PROGRAM = str(Path(__file__).with_name("fetching.py"))


class FetchTests(IntegrationTestCase):
    """
    C{treq}, with the endpoint of a route.
    """

    def setUp(self) -> None:
        """
        Have an nginx with a few pages.
        """
        requireModule("treq")
        super().setUp()
        self.port = freePort()

    def serve(self, extra: str = "") -> None:
        """
        Start nginx.
        """
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.port} ssl; ssl_certificate {self.pem}; ssl_certificate_key {self.pem};"
            f" client_max_body_size 2m; {extra}"
            ' location = /who { return 200 "$scheme $connection $ssl_client_s_dn $http_host\\n"; }'
            f" location = /up {{ proxy_pass https://127.0.0.1:{self.port}/length; }}"
            ' location = /length { client_max_body_size 2m; return 200 "$content_length bytes"; } }'
        )
        (self.folder / "www" / "large").write_bytes(b"0123456789" * 300_000)

    def fetch(self, *urls: str, **more: Any) -> tuple[list[str], str]:
        """
        Fetch pages.

        @param more: Keys of C{[route.upstream_tls]}; other ones of the route are in C{route}.
        @return: What the program printed, and what it logged.
        """
        route = more.pop("route", {})
        tls = {"ca": str(self.certificates.ca), "name": "localhost", **more}
        whole = {"name": "out", "mode": "encrypt", "upstream": f"127.0.0.1:{self.port}", "upstream_tls": tls, **route}
        (self.folder / "routes.toml").write_text(toml([whole]), "utf-8")
        done = self.run_([sys.executable, PROGRAM, "routes.toml", "out", *urls])
        logged = done.stderr.decode()
        self.assertNotRegex(logged, "Traceback|Unhandled")
        return done.stdout.decode().splitlines(), logged

    def test_pages(self) -> None:
        """
        Pages come over verified TLS, large ones whole, several on one connection; each connection is a line in the log.
        """
        self.serve()
        base = f"http://localhost:{self.port}"
        printed, logged = self.fetch(f"{base}/who", f"{base}/who", f"{base}/large", f"={base}/up")
        self.assertRegex(printed[0], rf"^200 \d+ https \d+ +localhost:{self.port}$")
        self.assertEqual(printed[0], printed[1])
        self.assertEqual("200 3000000 " + "0123456789" * 4, printed[2])
        self.assertEqual("200 13 1000000 bytes", printed[3])
        (line,) = re.findall(r"\bout client=.* outcome=.*", logged)
        self.assertRegex(line, rf"upstream=127\.0\.0\.1:{self.port} upstream_tls=TLSv1\.\d/\S+ in=\d{{7}} out=\d{{7}} ")
        # Not every nginx ends TLS where its client has.
        self.assertRegex(line, "outcome=(closed|truncated)")

    def test_clientCertificate(self) -> None:
        """
        The program is who the route's certificate says.
        """
        self.serve(f"ssl_client_certificate {self.certificates.ca}; ssl_verify_client on;")
        pem = self.certificates.issue("ann", ["ann.example"], commonName="Ann")
        printed, _ = self.fetch(f"http://localhost:{self.port}/who", cert=str(pem))
        self.assertIn("CN=Ann", printed[0])

    def test_wrongName(self) -> None:
        """
        A server whose certificate is for another name gets not one byte of the request, and the error is the sentence
        that the log has.
        """
        self.serve()
        printed, logged = self.fetch(f"http://localhost:{self.port}/who", name="shop.example")
        self.assertRegex(printed[0], "^CannotConnect: .*shop.example")
        reason = re.findall(r'outcome=failed phase=upstream_handshake reason="(.*)"', logged)
        self.assertEqual([printed[0].partition(": ")[2].replace('"', "'")], reason)

    def test_wrongCA(self) -> None:
        """
        A server of an authority that is not trusted is none either.
        """
        self.serve()
        printed, _ = self.fetch(f"http://localhost:{self.port}/who", ca="system")
        self.assertRegex(printed[0], "^CannotConnect: .*certificate")

    def test_refused(self) -> None:
        """
        Where nobody listens, the error says so.
        """
        printed, logged = self.fetch(f"http://localhost:{self.port}/who")
        self.assertEqual([f"CannotConnect: the upstream 127.0.0.1:{self.port} refuses connections"], printed)
        self.assertRegex(logged, "outcome=failed phase=dial")

    def test_silent(self) -> None:
        """
        A server that does not finish its handshake is given up at the deadline of the route.
        """
        listener = Listener(self)
        self.port = listener.port
        printed, _ = self.fetch(f"http://localhost:{self.port}/who", route={"limits": {"upstream_handshake": 0.5}})
        self.assertEqual(["CannotConnect: the upstream did not finish the TLS handshake within 0.5 s"], printed)
