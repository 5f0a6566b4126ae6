# -*- test-case-name: tests.integration.test_handlers_installed -*-
"""
A handler of another package, installed beside tlsproxy: found by its name, and run in real sessions.
"""

from __future__ import annotations

import os

from tests.integration.running import TOOL, TWISTD, Child, IntegrationTestCase
from tests.integration.talking import Listener, clientContext, connect

PLUGIN = """\
from tlsproxy.plugin import HandlerFactory

shout = HandlerFactory("shout", "shouting.Shout", "makes letters large")
lost = HandlerFactory("lost", "nowhere.Lost", "is not there")
"""

MODULE = """\
from attrs import frozen

from tlsproxy.handler import OUTWARD, HandlerOptions, ProtocolHandler, option


@frozen(kw_only=True)
class Shout(HandlerOptions):
    mark: str = option("", "what to say after each piece")

    def handler(self, session, flow):
        return Shouter(session, flow, self.mark.encode())


class Shouter(ProtocolHandler):
    def __init__(self, session, flow, mark):
        super().__init__(session, flow)
        self.mark = mark

    def received(self, direction, data):
        return data.upper() + self.mark if direction == OUTWARD else data
"""


class InstalledTests(IntegrationTestCase):
    """
    A package in a folder of its own.
    """

    def setUp(self) -> None:
        """
        Install it.
        """
        super().setUp()
        self.place = self.folder / "place"
        plugins = self.place / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "shout_plugin.py").write_text(PLUGIN, "utf-8")
        (self.place / "shouting.py").write_text(MODULE, "utf-8")
        paths = [str(self.place), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.prefix = ("env", f"PYTHONPATH={os.pathsep.join(paths)}")

    def spoil(self) -> None:
        """
        Put a plugin beside it that cannot be imported.
        """
        (self.place / "twisted" / "plugins" / "spoiled_plugin.py").write_text("import nothing_of_the_kind\n", "utf-8")

    def test_listed(self) -> None:
        """
        C{tlsproxy handlers} lists it with its options, what cannot be used with the reason, and nothing else.
        """
        self.spoil()
        done = self.run_((*self.prefix, *TOOL, "handlers"))
        self.assertEqual(b"", done.stderr)
        lines = done.stdout.decode().splitlines()
        place = lines.index("shout: makes letters large")
        self.assertEqual("  mark=TEXT                     what to say after each piece", lines[place + 1])
        self.assertIn(
            "handler 'lost' of twisted.plugins.shout_plugin cannot be used: "
            "ModuleNotFoundError: No module named 'nowhere'",
            lines,
        )
        spoiled = self.place / "twisted" / "plugins" / "spoiled_plugin.py"
        self.assertIn(
            "twisted.plugins.spoiled_plugin cannot be imported: "
            f"ModuleNotFoundError: No module named 'nothing_of_the_kind' ({spoiled}:1)",
            lines,
        )
        self.assertTrue(any(line.startswith("rate: ") for line in lines), lines)

    def test_checked(self) -> None:
        """
        C{tlsproxy check} checks its options, and tells nothing of a plugin that has nothing to do with it.
        """
        self.spoil()
        for mark, status in (('"!"', 0), ("5", 1)):
            (self.folder / "proxy.toml").write_text(
                '[[route]]\nmode = "passthrough"\nlisten = "127.0.0.1:0"\nupstream = "127.0.0.1:1"\n'
                f'[[route.handler]]\nname = "shout"\nmark = {mark}\n',
                "utf-8",
            )
            done = self.run_((*self.prefix, *TOOL, "check", "proxy.toml"), status=status)
            told = b"proxy.toml:7: route.handler.mark: give a string, not a number\n" if status else b""
            self.assertEqual(told, done.stderr)

    def exchange(self, port: int, listener: Listener) -> None:
        """
        Say something through the proxy.
        """
        client = connect(self, port)
        client.startTLS(clientContext(self.certificates.ca))
        client.send(b"hello")
        server = listener.accept()
        self.assertEqual(b"HELLO!:", server.read(7))
        server.send(b"answer")
        self.assertEqual(b"answer", client.read(6))
        client.endWrite()
        self.assertEqual((b"", "ended"), (server.readAll(), server.how))
        server.endWrite()
        self.assertEqual((b"", "ended"), (client.readAll(), client.how))

    def test_sessions(self) -> None:
        """
        It stands in the sessions of a route that a file tells.
        """
        listener = Listener(self)
        route = self.offload(listener.port, handler=[{"name": "shout", "mark": "!:"}])
        proxy = self.proxy(route, prefix=self.prefix)
        self.exchange(proxy.port("offload"), listener)
        self.assertEqual("closed", proxy.session()["outcome"])

    def test_commandLine(self) -> None:
        """
        It stands in the sessions of a route that a command line tells.
        """
        listener = Listener(self)
        words = ["--mode", "offload", "--listen", "127.0.0.1:0", "--upstream", f"127.0.0.1:{listener.port}"]
        command = [*self.prefix, *TWISTD, *words, "--cert", str(self.pem), "--handler", r"shout:mark=!\:"]
        proxy = Child(self, self.folder, "words", command)
        port = int(proxy.waitFor(r"\] offload \(\w+\) listens on .*:(\d+)$")[1])
        self.exchange(port, listener)
        proxy.waitFor(r"outcome=closed$")
        proxy.end()
