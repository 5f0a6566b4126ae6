# -*- test-case-name: tests.test_routefile -*-
"""
L{tlsproxy.routefile}: the route that a program listens or connects by, from a file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import TCP
from tlsproxy.errors import ConfigurationError
from tlsproxy.routefile import checkParts, loadClientRoute, loadServerRoute
from tlsproxy.tls.development import writeDevelopmentFiles

OFFLOAD = """
[[route]]
name = "shop"
mode = "offload"
listen = "127.0.0.1:8443"
tls = { cert = "server.pem", key = "server-key.pem" }
"""
ENCRYPT = """
[[route]]
name = "out"
mode = "encrypt"
upstream = "localhost:9443"
upstream_tls = { ca = "ca.pem" }
"""
RULE = """
[[route.rule]]
sni = "old.example"
upstream = "127.0.0.1:8080"
"""


class RouteFileTests(SynchronousTestCase):
    """
    One route of a file.
    """

    def setUp(self) -> None:
        """
        Make a folder with certificates.
        """
        self.folder = Path(self.mktemp())
        writeDevelopmentFiles(self.folder, now=datetime.now(UTC))

    def file(self, text: str) -> str:
        """
        Write a file.
        """
        path = self.folder / "routes.toml"
        path.write_text(text, "utf-8")
        return str(path)

    def test_server(self) -> None:
        """
        A route that is listened by leaves its upstream out, since the program stands for it.
        """
        route = loadServerRoute(self.file(OFFLOAD), "shop")
        pattern: Any = route.pattern
        self.assertEqual(
            ("shop", TCP("127.0.0.1", 8443), "offload", None),
            (route.name, route.listen, pattern.mode, pattern.upstream),
        )

    def test_serverUpstream(self) -> None:
        """
        If it has one all the same, that is kept, for whoever uses the route to refuse it.
        """
        text = OFFLOAD.replace("tls =", 'upstream = "127.0.0.1:8080"\ntls =')
        pattern: Any = loadServerRoute(self.file(text), "shop").pattern
        self.assertEqual(TCP("127.0.0.1", 8080), pattern.upstream)

    def test_rules(self) -> None:
        """
        It may have rules.
        """
        route = loadServerRoute(self.file(OFFLOAD + RULE), "shop")
        pattern: Any = route.pattern
        self.assertEqual((None, 1), (pattern.upstream, len(route.rules)))

    def test_client(self) -> None:
        """
        A route that is connected by need not say where to listen, and may.
        """
        for text in (ENCRYPT, ENCRYPT.replace("mode", 'listen = "8080"\nmode')):
            route = loadClientRoute(self.file(text), "out")
            pattern: Any = route.pattern
            self.assertEqual((TCP("localhost", 9443), "encrypt"), (pattern.upstream, pattern.mode))

    def test_together(self) -> None:
        """
        One file may have routes of both kinds, and whole ones.
        """
        whole = '[[route]]\nname = "pass"\nmode = "passthrough"\nlisten = "1"\nupstream = "127.0.0.1:2"\n'
        tunnel = '[[route]]\nmode = "connect"\nlisten = "127.0.0.1:3"\ntargets = { allow = ["*.example:443"] }\n'
        file = self.file(OFFLOAD + ENCRYPT + whole + tunnel)
        self.assertEqual("shop", loadServerRoute(file, "shop").name)
        self.assertEqual("out", loadClientRoute(file, "out").name)
        self.assertEqual("connect", loadServerRoute(file, "connect").name)

    def test_needed(self) -> None:
        """
        What the program does not stand for cannot be left out.
        """
        file = self.file(OFFLOAD.replace('listen = "127.0.0.1:8443"\n', "") + ENCRYPT)
        problem = self.assertRaises(ValueError, loadServerRoute, file, "shop")
        self.assertEqual(f"{file}:2: route.listen: say where to listen, as in 8443", str(problem))
        file = self.file(ENCRYPT.replace('upstream = "localhost:9443"\n', "") + OFFLOAD)
        problem = self.assertRaises(ValueError, loadClientRoute, file, "out")
        self.assertIn(f"{file}:2: route.upstream: say what to dial", str(problem))

    def test_wrong(self) -> None:
        """
        All that is wrong with the file is told, each with its line.
        """
        file = self.file(OFFLOAD.replace("server.pem", "none.pem") + "[[route]]\nmode = 5\n" + 'x = ["route"]\n')
        problem = str(self.assertRaises(ValueError, loadServerRoute, file, "shop"))
        for line in (6, 8, 9):
            self.assertIn(f"{file}:{line}: ", problem)
        for text in ("route = 5", "route = [5]", "no TOML"):
            self.assertRaises(ValueError, loadServerRoute, self.file(text), "shop")
        self.assertRaises(ValueError, loadServerRoute, str(self.folder / "none.toml"), "shop")

    def test_check(self) -> None:
        """
        A file is checked as the endpoint of one of its routes has it: by the mode of that, another may be left out.
        """
        file = self.file(OFFLOAD + ENCRYPT)
        for name in ("shop", "out", None):
            self.assertEqual(2, len(checkParts(file, name).routes))
        for text, name, sentence in (
            (OFFLOAD, "blog", "there is no route 'blog'; its routes are: shop"),
            (OFFLOAD.replace("tls =", 'upstream = "1"\ntls ='), "shop", "the program itself stands for the upstream"),
            (ENCRYPT.replace("encrypt", "passthrough").replace("upstream_tls", "#"), "out", "it waits for a TLS hello"),
            ('[[route]]\nmode = "connect"\nlisten = "1"\ntargets.allow = "*:1"\n', "connect", "this one's is connect"),
        ):
            file = self.file(text)
            problem = str(self.assertRaises(ValueError, checkParts, file, name))
            self.assertTrue(problem.startswith(f"{file}: ") and sentence in problem, problem)
        for text, name in ((OFFLOAD.replace("listen", "#"), "shop"), (ENCRYPT.replace("upstream =", "#"), "out")):
            self.assertRaises(ConfigurationError, checkParts, self.file(text), name)
            self.assertEqual(1, len(checkParts(self.file(text)).routes))
        self.assertRaises(ConfigurationError, checkParts, self.file(OFFLOAD.replace("8443", "x")))

    def test_noSuchRoute(self) -> None:
        """
        A name that no route has is told, with the names that there are.
        """
        file = self.file(OFFLOAD + ENCRYPT)
        problem = self.assertRaises(ValueError, loadServerRoute, file, "blog")
        self.assertEqual(f"{file}: there is no route 'blog'; its routes are: shop, out", str(problem))

    def test_warnings(self) -> None:
        """
        What is doubtful with this route is logged, and nothing of the others.
        """
        events = EventLoggingObserver()
        globalLogPublisher.addObserver(events)
        self.addCleanup(globalLogPublisher.removeObserver, events)
        loose = ENCRYPT.replace('ca = "ca.pem"', 'auth = "none"')
        file = self.file(loose + loose.replace('"out"', '"away"'))
        loadClientRoute(file, "out")
        (event,) = (event for event in events if event["log_namespace"] == "tlsproxy.routefile")
        self.assertIn("route out: the upstream is not verified at all", event["sentence"])
