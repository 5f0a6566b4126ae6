# -*- test-case-name: tests.integration.test_sequential_stdlib -*-
"""
Proxies on nothing but Python's own library understand each other, by what is written about the protocol alone; ours
understand them, and each other.
"""

from __future__ import annotations

import ast
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.destination import Browser, Destination, body
from tests.integration.innertls import DOWN, UP, records
from tests.integration.running import freePort
from tests.integration.sequential import SequentialTestCase
from tests.integration.stdlibouter import RecordOuter, SocketOuter
from tests.integration.wiretap import Leg, Wire

INDEPENDENT = ("innertls", "stdlibheads", "stdlibouter", "stdlibproxies")
BULK = 1_500_000


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


class PairCase(SequentialTestCase):
    """
    A browser, two proxies with a wire between them, and a destination that demands the browser's certificate.
    """

    def openServers(self, values: Sequence[str]) -> Sequence[int]:
        """
        Start reverse proxies that grant this much.

        @return: Their ports.
        """
        return [self.stdlibServer(value).port for value in values]

    def openClients(self, upstreams: Mapping[str, int]) -> Sequence[int]:
        """
        Start client proxies that want this much.

        @return: Their ports.
        """
        return [
            self.stdlibClient(upstream, f"{value}, none" if value != "none" else "none").port
            for value, upstream in upstreams.items()
        ]

    def start(self, *values: str) -> None:
        """
        Start both for each value.
        """
        self.wires = {value: Wire(self, port) for value, port in zip(values, self.openServers(values), strict=True)}
        ports = self.openClients({value: wire.port for value, wire in self.wires.items()})
        self.clients = dict(zip(values, ports, strict=True))
        self.tap = Wire(self, 0)

    def through(self, value: str, destination: Destination, session: ssl.SSLSession | None = None) -> Leg:
        """
        Have a browser fetch two pages, and say good-bye.

        @param session: What it resumes.
        @return: What has passed between the proxies.
        """
        # Whoever listens on the wire behind the reverse proxy has what the destination says.
        self.tap.to = destination.port
        browser = Browser(self.clients[value], self.tap.port, self.context, session)
        self.addCleanup(browser.close)
        self.assertEqual(body("browser", 300), browser.get(300))
        self.assertEqual(body("browser", BULK), browser.get(BULK))
        self.session = browser.tls.session
        browser.end()
        visit = destination.over()[-1]
        self.assertEqual(("browser", 2, "ended"), (visit.client, len(visit.requests), visit.how))
        self.assertEqual(session is not None, visit.resumed)
        self.wires[value].wait()
        self.tap.wait()
        return self.wires[value].legs[-1]

    def passes(self, version: str, value: str = "handshake", group: str = "", resumed: bool = False) -> None:
        """
        Expect all that passes between the proxies to be TLS, and the TLS between them to be taken off where that is
        agreed: then the records are the very ones of the browser and the destination.
        """
        destination = self.destination(version, group)
        self.context = self.browserContext()
        if resumed:
            self.through(value, destination)
        leg = self.through(value, destination, self.session if resumed else None)
        for way in (UP, DOWN):
            outside, inside = (bytes(one.passed[way]) for one in (leg, self.tap.legs[-1]))
            kept, own = list(records(outside)), list(records(inside))
            same = 0
            while same < len(own) and kept[-1 - same] == own[-1 - same]:
                same += 1
            # All that follows the hellos is the same, and nothing else; in TLS 1.2, all that follows the proofs.
            kept13 = 3 if group else 1
            kept12 = [one[0] for one in own].index(20) + 2
            first = {"none": len(own), "connect": 0}.get(value, kept13 if version == "1.3" else kept12)
            self.assertEqual(same, len(own) - first, (way, [(one[0], len(one)) for one in own[:8]]))
            self.assertEqual(value == "connect", any(own[0] == one for one in kept))
        self.assertEqual(["FIN", "FIN"], leg.ends)


class _Pairs:
    """
    What all pairs do.
    """

    def test_passes(self: Any) -> None:
        """
        TLS comes off after a ServerHello of TLS 1.3, not after a HelloRetryRequest but after the ServerHello that
        follows, and in TLS 1.2 once both have proven their keys; in resumed sessions, too.  It stays where that is
        agreed, and comes off at once where that is.
        """
        self.start("handshake", "none", "connect")
        self.passes("1.3")
        self.passes("1.3", resumed=True)
        self.passes("1.3", group="secp384r1")
        self.passes("1.2")
        self.passes("1.2", resumed=True)
        self.curl()
        for version in ("1.2", "1.3"):
            self.passes(version, "none")
            self.passes(version, "connect")

    def curl(self: Any) -> None:
        """
        Have curl show its certificate to nginx at the other end.
        """
        port = freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {self.shopPEM};"
            f" ssl_certificate_key {self.shopPEM}; ssl_client_certificate {self.people.ca}; ssl_verify_client on;"
            " ssl_protocols TLSv1.2 TLSv1.3;"
            ' location / { return 200 "$ssl_client_s_dn"; } }'
        )
        done = self.run_(
            ["curl", "-sS", "--noproxy", "", "--proxy", f"http://127.0.0.1:{self.clients['handshake']}", "--cacert"]
            + [str(self.shop.ca), "--cert", str(self.browserPEM), f"https://localhost:{port}/"]
        )
        self.assertEqual(b"CN=browser", done.stdout)


class StdlibTests(_Pairs, PairCase):
    """
    Python's own library on both sides.
    """

    def test_eitherWay(self) -> None:
        """
        The client proxy can wait for the other's close_notify in C{unwrap}, or not.
        """
        for kind in (SocketOuter, RecordOuter):
            self.kind = kind
            self.start("handshake")
            self.passes("1.3")

    kind: type[SocketOuter] | type[RecordOuter] = SocketOuter

    def openClients(self, upstreams: Mapping[str, int]) -> Sequence[int]:
        """
        Start them.
        """
        return [self.stdlibClient(upstream, value, kind=self.kind).port for value, upstream in upstreams.items()]


class OurServer(PairCase):
    """
    Mixed into a test, has the reverse proxies be ours.
    """

    takeOff = "socket"

    def openServers(self, values: Sequence[str]) -> Sequence[int]:
        """
        Start them.
        """
        routes = [self.sequentialServer(value, name=value, take_off=self.takeOff) for value in values]
        proxy = self.proxy(*routes)
        return [proxy.port(value) for value in values]


class OurClient(PairCase):
    """
    Mixed into a test, has the client proxies be ours.
    """

    takeOffThere = "socket"

    def openClients(self, upstreams: Mapping[str, int]) -> Sequence[int]:
        """
        Start them.
        """
        more = {"take_off": self.takeOffThere}
        proxy = self.proxy(*(self.sequentialClient(port, value, value, **more) for value, port in upstreams.items()))
        return [proxy.port(value) for value in upstreams]


class ServerTests(_Pairs, OurServer):
    """
    Our reverse proxy, and another client proxy.
    """


class LoopbackServerTests(_Pairs, OurServer):
    """
    The same by way of a socket on loopback.
    """

    takeOff = "loopback"


class ClientTests(_Pairs, OurClient):
    """
    Our client proxy, and another reverse proxy.
    """


class LoopbackClientTests(_Pairs, OurClient):
    """
    The same by way of a socket on loopback.
    """

    takeOffThere = "loopback"


class BothTests(_Pairs, OurServer, OurClient):
    """
    Ours on both sides.
    """


class LoopbackTests(_Pairs, OurServer, OurClient):
    """
    Ours on both sides, by way of loopback on both.
    """

    takeOff = takeOffThere = "loopback"


class MixedTests(_Pairs, OurServer, OurClient):
    """
    Ours on both sides, by way of loopback on one.
    """

    takeOff = "loopback"


class OtherwiseMixedTests(_Pairs, OurServer, OurClient):
    """
    Ours on both sides, by way of loopback on the other.
    """

    takeOffThere = "loopback"
