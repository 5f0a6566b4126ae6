# -*- test-case-name: tests.integration.test_sequential_stdlib -*-
"""
Two proxies on nothing but Python's own library understand each other, by what is written about the protocol alone.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.destination import body
from tests.integration.innertls import DOWN, UP, records
from tests.integration.sequential import SequentialTestCase
from tests.integration.stdlibouter import RecordOuter, SocketOuter
from tests.integration.wiretap import Wire

INDEPENDENT = ("innertls", "stdlibheads", "stdlibouter", "stdlibproxies")
BULK = 3_000_000


class IndependenceTests(SynchronousTestCase):
    """
    They share nothing with what they are to judge.
    """

    def test_imports(self) -> None:
        """
        They import Python's own library and each other, and nothing else.
        """

        def imported(module: str) -> Iterator[str]:
            for node in ast.walk(ast.parse((Path(__file__).parent / f"{module}.py").read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    yield from (name.name for name in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield node.module or ""

        own = {f"tests.integration.{name}" for name in INDEPENDENT}
        for module in INDEPENDENT:
            others = {name for name in imported(module) if name.partition(".")[0] not in sys.stdlib_module_names}
            self.assertEqual(set(), others - own)


class StandardLibraryTests(SequentialTestCase):
    """
    A browser, these two with a wire between them, and a destination that demands the browser's certificate.
    """

    def passes(self, version: str, switched: bool, value: str = "handshake", group: str = "", **more: object) -> Wire:
        """
        Have a browser fetch two pages, and see whether the TLS between the proxies was taken off.

        @return: The wire.
        """
        destination = self.destination(version, group)
        server = self.stdlibServer(value)
        wire = Wire(self, server.port)
        client = self.stdlibClient(wire.port, f"{value}, none" if value != "none" else "none", **more)
        browser = self.browse(client.port, destination)
        self.assertEqual(body("browser", 300), browser.get(300))
        self.assertEqual(body("browser", BULK), browser.get(BULK))
        browser.end()
        (visit,) = destination.over()
        self.assertEqual(("browser", 2, "ended"), (visit.client, len(visit.requests), visit.how))
        self.assertEqual(["ann"], server.clients)
        for proxy in (client, server):
            tunnel = self.ended(proxy)
            self.assertEqual(("ended", [UP, DOWN] if switched else []), (tunnel.outcome, tunnel.switched))
        wire.wait()
        for data in wire.legs[0].passed:
            self.assertGreater(len(list(records(bytes(data)))), 3)
        return wire

    def test_handshake13(self) -> None:
        """
        It comes off after a ServerHello of TLS 1.3.
        """
        self.passes("1.3", True)

    def test_retry(self) -> None:
        """
        Not after a HelloRetryRequest, but after the ServerHello that follows.
        """
        self.passes("1.3", True, group="secp384r1")

    def test_handshake12(self) -> None:
        """
        It comes off once both have proven their keys in TLS 1.2.
        """
        self.passes("1.2", True)

    def test_none(self) -> None:
        """
        It stays where that is agreed.
        """
        for version in ("1.2", "1.3"):
            self.passes(version, False, "none")

    def test_connect(self) -> None:
        """
        It comes off at once where that is agreed.
        """
        self.passes("1.3", True, "connect")

    def test_resumed(self) -> None:
        """
        It comes off in resumed sessions of either version, too.
        """
        for version in ("1.2", "1.3"):
            destination = self.destination(version)
            server = self.stdlibServer()
            client = self.stdlibClient(server.port)
            context = self.browserContext()
            first = self.browse(client.port, destination, context)
            first.get()
            session = first.tls.session
            first.end()
            again = self.browse(client.port, destination, context, session=session)
            self.assertEqual(body("browser", BULK), again.get(BULK))
            again.end()
            self.assertEqual([False, True], [visit.resumed for visit in destination.over()])
            for number in (0, 1):
                self.assertEqual([UP, DOWN], self.ended(client, number).switched)

    def test_eitherWay(self) -> None:
        """
        The client proxy can wait for the other's close_notify in C{unwrap}, or not.
        """
        for kind in (SocketOuter, RecordOuter):
            self.passes("1.3", True, kind=kind)

    def test_curl(self) -> None:
        """
        curl shows its certificate to nginx at the other end.
        """
        from tests.integration.running import freePort

        port = freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {self.shopPEM};"
            f" ssl_certificate_key {self.shopPEM}; ssl_client_certificate {self.people.ca}; ssl_verify_client on;"
            ' location / { return 200 "$ssl_client_s_dn"; } }'
        )
        server = self.stdlibServer()
        client = self.stdlibClient(server.port)
        done = self.run_(
            ["curl", "-sS", "--noproxy", "", "--proxy", f"http://127.0.0.1:{client.port}", "--cacert"]
            + [str(self.shop.ca), "--cert", str(self.browserPEM), f"https://localhost:{port}/"]
        )
        self.assertEqual(b"CN=browser", done.stdout)
        self.assertEqual([UP, DOWN], self.ended(server).switched)
