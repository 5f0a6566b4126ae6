# -*- test-case-name: tests.test_endpointstrings -*-
"""
L{tlsproxy.endpointstrings}: C{tlsproxy:FILE:NAME} in any Twisted program.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString, quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.test_routefile import ENCRYPT, OFFLOAD
from tlsproxy.endpoints import RouteClientEndpoint, RouteServerEndpoint
from tlsproxy.endpointstrings import RouteEndpointParser
from tlsproxy.tls.development import writeDevelopmentFiles


class RouteEndpointParserTests(SynchronousTestCase):
    """
    What reads the strings.
    """

    def file(self, name: str = "routes.toml") -> str:
        """
        Write a file with a route of each kind.
        """
        folder = Path(self.mktemp())
        writeDevelopmentFiles(folder, now=datetime.now(UTC))
        path = folder / name
        path.write_text(OFFLOAD + ENCRYPT, "utf-8")
        return str(path)

    def test_interfaces(self) -> None:
        """
        It reads the strings of servers and of clients, and is a plugin.
        """
        parser = RouteEndpointParser()
        for interface in (IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor):
            self.assertTrue(verifyObject(interface, parser))

    def test_found(self) -> None:
        """
        Twisted finds it, once in each role, and no plugin failed to import.
        """
        for interface in (IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor):
            plugins: Any = getPlugins(interface)
            found = [one for one in plugins if one.prefix == "tlsproxy"]
            self.assertEqual(1, len(found))
        self.assertEqual([], self.flushLoggedErrors())

    def test_strings(self) -> None:
        """
        A string leads to the route of the file, however the file is called.
        """
        for name in ("routes.toml", "a:b=c.toml"):
            file = quoteStringArgument(self.file(name)).replace("=", "\\=")
            server = serverFromString(MemoryReactorClock(), f"tlsproxy:{file}:shop")
            client = clientFromString(MemoryReactorClock(), f"tlsproxy:{file}:out")
            self.assertEqual((RouteServerEndpoint, RouteClientEndpoint), (type(server), type(client)))

    def test_wrong(self) -> None:
        """
        What is wrong is told by a sentence: with the string, with the file, or with the route.
        """
        file = self.file()
        whole = f"{file}.whole"
        Path(whole).write_text(ENCRYPT.replace("mode", 'listen = "8080"\nmode'), "utf-8")
        for parse, text, why in (
            (serverFromString, "tlsproxy:", "give tlsproxy:FILE:NAME"),
            (serverFromString, f"tlsproxy:{file}", "give tlsproxy:FILE:NAME"),
            (serverFromString, f"tlsproxy:{file}:shop:8443", "give tlsproxy:FILE:NAME"),
            (clientFromString, f"tlsproxy:{file}:name=out", "give tlsproxy:FILE:NAME"),
            (serverFromString, f"tlsproxy:{file}:blog", "there is no route 'blog'"),
            (serverFromString, f"tlsproxy:{file}:out", "say where to listen"),
            (clientFromString, f"tlsproxy:{file}:shop", "say what to dial"),
            (clientFromString, f"tlsproxy:{file}.no:shop", "No such file"),
            (serverFromString, f"tlsproxy:{whole}:out", "of mode offload, and this one's is encrypt"),
        ):
            problem = self.assertRaises(ValueError, parse, MemoryReactorClock(), text)
            self.assertIn(why, str(problem), text)

    def test_light(self) -> None:
        """
        A program that has no use for it does not load what it takes.
        """
        code = (
            "import sys; from twisted.internet.endpoints import serverFromString; "
            "serverFromString(None, 'haproxy:tcp:1'); print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        self.assertIn("twisted.plugins", done.stdout, done.stderr)
        loaded = {"tlsproxy.endpoints", "tlsproxy.routefile", "tlsproxy.session"} & set(done.stdout.split())
        self.assertEqual(set(), loaded)
