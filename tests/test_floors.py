# -*- test-case-name: tests.test_floors -*-
"""
The source stands on five floors, and every module imports from its own floor or from one below it.

The floors and the rules are in L{tests.floors}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.floors import (
    NATIVE,
    Module,
    cyclesAmong,
    doorImports,
    floorOf,
    loudImports,
    parse,
    privateUses,
    reactorImports,
    readSource,
    upward,
)


class FloorTests(SynchronousTestCase):
    """
    The floors of the source as it is.
    """

    def setUp(self) -> None:
        """
        Read the source.
        """
        self.modules = readSource()

    def assertNone(self, rule: Callable[[Module], Iterable[str]]) -> None:
        """
        Hold every module to a rule.

        @param rule: what finds the complaints about one module.
        """
        complaints = [each for module in self.modules.values() for each in rule(module)]
        self.assertEqual([], complaints, "\n" + "\n".join(complaints))

    def test_everyModuleHasAFloor(self) -> None:
        """
        No module is left out of the table.
        """
        self.assertIn("tlsproxy", self.modules)
        self.assertEqual([], [name for name in self.modules if floorOf(name) is None])

    def test_downward(self) -> None:
        """
        A module imports from its own floor and from the floors below it, and only what exists.
        """
        self.assertNone(lambda module: upward(module, self.modules))

    def test_noCycles(self) -> None:
        """
        No module imports itself by way of others.
        """
        self.assertEqual([], cyclesAmong(self.modules))

    def test_lowFloorsAreQuiet(self) -> None:
        """
        Words and TLS know no reactor and no transport.
        """
        self.assertNone(loudImports)

    def test_reactorIsPassedIn(self) -> None:
        """
        Importing a module installs no reactor.
        """
        self.assertNone(reactorImports)

    def test_onlyDoorsDecide(self) -> None:
        """
        Command line options, services, signals and the search for plugins belong to floor 4.
        """
        self.assertNone(doorImports)

    def test_onePrivateDoor(self) -> None:
        """
        One module alone reaches into pyOpenSSL.
        """
        self.assertNone(privateUses)


class RuleTests(SynchronousTestCase):
    """
    The rules themselves find what they are for.
    """

    def assertFound(self, rule: Callable[[Module], Iterable[str]], name: str, text: str, count: int = 1) -> None:
        """
        Hold a piece of source to a rule.

        @param rule: what finds the complaints about one module.
        @param name: the name that the piece of source goes by.
        @param text: the source.
        @param count: how many complaints there should be.
        """
        self.assertEqual(count, len(list(rule(parse(name, text)))), text)

    def test_upward(self) -> None:
        """
        An import from above is found, be it absolute, relative, of a name inside a module, or inside a function; one
        of a module that does not exist is found as well; one from below is none.
        """
        modules = {name: parse(name, "") for name in ("tlsproxy.end", "tlsproxy.route", "tlsproxy.patterns.bridge")}

        def rule(module: Module) -> Iterator[str]:
            return upward(module, modules)

        for text in (
            "import tlsproxy.route",
            "from tlsproxy import route",
            "from tlsproxy.route import Route",
            "from .route import Route",
            "from . import route",
            "def f():\n    from tlsproxy.route import Route",
            "from tlsproxy.nowhere import Thing",
        ):
            self.assertFound(rule, "tlsproxy.end", text)
        self.assertFound(rule, "tlsproxy.patterns.bridge", "from ..end import End", 0)
        self.assertFound(rule, "tlsproxy.patterns.bridge", "from ..route import Route", 0)

    def test_cycles(self) -> None:
        """
        A ring of imports is found; modules that only import from it are not part of it.
        """
        texts = {
            "tlsproxy.a": "from tlsproxy.b import x",
            "tlsproxy.b": "from tlsproxy.c import x",
            "tlsproxy.c": "from tlsproxy import a",
            "tlsproxy.d": "from tlsproxy.a import x",
        }
        modules = {name: parse(name, text) for name, text in texts.items()}
        self.assertEqual(["tlsproxy.a", "tlsproxy.b", "tlsproxy.c"], cyclesAmong(modules))

    def test_loud(self) -> None:
        """
        A reactor, a transport, or a way to wait for a socket is found on floors 0 and 1, and is allowed above.
        """
        for text in (
            "from twisted.internet import reactor",
            "from twisted.internet.tcp import Server",
            "import twisted.internet.endpoints",
            "import select",
        ):
            self.assertFound(loudImports, "tlsproxy.wire.records", text)
            self.assertFound(loudImports, "tlsproxy.end", text, 0)
        self.assertFound(loudImports, "tlsproxy.errors", "from twisted.internet.interfaces import ITransport", 0)

    def test_reactor(self) -> None:
        """
        The reactor is found at the top, in a class, and under a condition, but is allowed inside a function.
        """
        line = "from twisted.internet import reactor"
        for text in (line, f"class A:\n    {line}", f"if True:\n    {line}", "import twisted.internet.reactor"):
            self.assertFound(reactorImports, "tlsproxy.tap", text)
        self.assertFound(reactorImports, "tlsproxy.tap", f"def makeService():\n    {line}", 0)

    def test_doors(self) -> None:
        """
        What belongs to the doors is found below them; a plugin may be declared anywhere.
        """
        for text in (
            "from twisted.python import usage",
            "from twisted.application.service import Service",
            "import signal",
            "from twisted.plugin import getPlugins",
            "import twisted.plugin",
        ):
            self.assertFound(doorImports, "tlsproxy.route", text)
            self.assertFound(doorImports, "tlsproxy.tap", text, 0)
        self.assertFound(doorImports, "tlsproxy.interfaces", "from twisted.plugin import IPlugin", 0)

    def test_private(self) -> None:
        """
        A private name of pyOpenSSL is found however it is reached, outside the modules that may.
        """
        for text in (
            "from OpenSSL._util import lib",
            "from OpenSSL.SSL import _lib",
            "from OpenSSL import SSL\nSSL._ffi.NULL",
            "self._connection._ssl",
            "getattr(connection, '_ssl')",
            "context._context",
        ):
            self.assertFound(privateUses, "tlsproxy.tls.contexts", text)
            for name in NATIVE:
                self.assertFound(privateUses, name, text, 0)
        self.assertFound(privateUses, "tlsproxy.end", "self._context = other.context", 0)
