# -*- test-case-name: tests.test_clientroutes -*-
"""
L{tlsproxy.clientroutes}: client proxies among routes.
"""

from __future__ import annotations

from tests.commands.tool import ToolTestCase
from tlsproxy.clientroutes import addressOf, clientRoute
from tlsproxy.errors import ConfigurationError

OTHER = '[[route]]\nname = "other"\nmode = "passthrough"\nlisten = "127.0.0.1:1"\nupstream = "127.0.0.1:2"\n'


class RouteTests(ToolTestCase):
    """
    Which route is meant.
    """

    def found(self, file: str, name: str | None = None) -> str | None:
        """
        Find one.
        """
        return clientRoute(file, name)[0].name

    def test_one(self) -> None:
        """
        The only client proxy is meant, or the one that is named.
        """
        file = self.configure(OTHER, self.client())
        self.assertEqual("cp", self.found(file))
        self.assertEqual("cp", self.found(file, "cp"))
        file = self.configure(self.client(), self.client("127.0.0.1:3129", "cp2"))
        self.assertEqual("cp2", self.found(file, "cp2"))
        problem = str(self.assertRaises(ValueError, clientRoute, file, None))
        self.assertIn("several routes of mode sequential-client: give --route, one of cp, cp2", problem)

    def test_none(self) -> None:
        """
        Where there is none of the mode, or of the name, that is told.
        """
        file = self.configure(OTHER)
        self.assertIn("no route of mode seq", str(self.assertRaises(ValueError, clientRoute, file, None)))
        self.assertIn("called 'other'", str(self.assertRaises(ValueError, clientRoute, file, "other")))
        self.assertRaises(ConfigurationError, clientRoute, self.configure("["), None)

    def test_address(self) -> None:
        """
        Browsers find it at a port of loopback, and nowhere else.
        """
        for listen in ("127.0.0.1:3128", "[::1]:3128", "localhost:3128"):
            self.assertEqual(listen, addressOf(clientRoute(self.configure(self.client(listen)), None)[0]))
        for listen, words in (
            ("unix:socket", "browsers cannot use"),
            ("127.0.0.1:0", "another one at each start"),
            ("tcp:3128:interface=127.0.0.1", "listen on HOST:PORT"),
        ):
            route = clientRoute(self.configure(self.client(listen)), None)[0]
            self.assertIn(words, str(self.assertRaises(ValueError, addressOf, route)))
