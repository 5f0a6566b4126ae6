# -*- test-case-name: tests.integration.test_writing_handlers -*-
"""
Whoever follows the page on protocol handlers gets what it promises: its files run, their tests pass, and the package
that it ends with is installed, found, and used.
"""

from __future__ import annotations

import re
import shutil
import socket
from textwrap import dedent
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.installing import ROOT, InstallationTestCase
from tests.integration.running import Child
from tests.integration.talking import Server, Talker
from tlsproxy.errors import Answered
from tlsproxy.handler import FAR, NEAR, HandlerOptions, ProtocolHandler
from tlsproxy.testing import Row, play

HANDLERS = ROOT / "examples" / "handlers"
PACKAGE = ROOT / "examples" / "handler-package"
PAGE = ROOT / "docs" / "writing-handlers.rst"
BOX = ROOT / "docs" / "handlers.rst"


def pythonIn(page: str, start: str) -> str:
    """
    Find the piece of Python in a page that starts with a line.
    """
    for piece in page.split(".. code-block:: python\n")[1:]:
        code = dedent(re.split(r"\n(?=\S)", piece, maxsplit=1)[0]).strip()
        if code.startswith(start):
            return code + "\n"
    raise AssertionError(f"no Python in the page starts with {start!r}")


class PageTests(SynchronousTestCase):
    """
    The page and the files that it shows.
    """

    def test_showsAll(self) -> None:
        """
        Each file of the examples is shown on the page, and each file on the page exists.
        """
        shown = [(PAGE.parent / name).resolve() for name in re.findall(r"literalinclude:: (\S+)", PAGE.read_text())]
        self.assertEqual([], [str(path) for path in shown if not path.is_file()])
        self.assertEqual([], [path.name for path in HANDLERS.glob("*.py") if path not in shown])

    def test_talk(self) -> None:
        """
        The talk of the page is one for each mode that has TLS, lets a client go, and falls for no injection.
        """
        names: dict[str, Any] = {"Answered": Answered}
        exec(pythonIn(PAGE.read_text(), "async def negotiate"), names)
        talking = type("Talking", (ProtocolHandler,), {"negotiate": names["negotiate"]})

        @frozen(kw_only=True)
        class Talk(HandlerOptions):
            startsTLS = frozenset({NEAR, FAR})
            handler = staticmethod(talking)

        ask: Row = ("client says", b"STARTTLS\r\n")
        near: list[Row] = [ask, ("client hears", b"go ahead\r\n"), "client starts TLS"]
        far: list[Row] = [("upstream hears", b"STARTTLS\r\n"), ("upstream says", b"ok\r\n"), "upstream starts TLS"]
        then: list[Row] = [("client says", b"secret"), ("upstream hears", b"secret")]
        play(Talk(), [*near, *then], tls=[NEAR])
        play(Talk(), [*far, *then], tls=[FAR])
        play(Talk(), [*near, *far, *then], tls=[NEAR, FAR])
        goodbye: list[Row] = [("client says", b"QUIT\r\n"), ("client hears", b"goodbye\r\n"), "client hears the end"]
        play(Talk(), [*goodbye, ("session is", "answered"), "upstream is not dialed"], tls=[NEAR])
        more: Row = ("client says", b"more\r\n")
        play(Talk(), [*near[:2], more, ("session is", "refused", "the client does not speak TLS")], tls=[NEAR])
        more = ("upstream says", b"ok\r\nmore\r\n")
        problem = self.assertRaises(AssertionError, play, Talk(), [far[0], more, "session goes on"], tls=[FAR])
        self.assertIn("the session is over: failed, the upstream does not speak TLS", str(problem))

    def test_inTheBox(self) -> None:
        """
        The handlers in the box are imported from where their page says.
        """
        names: dict[str, Any] = {}
        exec(pythonIn(BOX.read_text(), "from pathlib"), names)
        self.assertEqual(["rate", "tap"], [options.name for options in names["handlers"]])


class ExampleTests(InstallationTestCase):
    """
    The examples, with an installed tlsproxy.
    """

    def setUp(self) -> None:
        """
        Install tlsproxy.
        """
        super().setUp()
        self.install(str(self.checkout))

    def test_steps(self) -> None:
        """
        The tests of each step pass, run as the page says.
        """
        for file in HANDLERS.glob("*.py"):
            shutil.copy(file, self.elsewhere)
        steps = sorted(file.stem for file in HANDLERS.glob("test_*.py"))
        self.assertIn("OK", self.run_("-c", "import sys; sys.path.insert(0, '.')\n" + _TRIAL, *steps))

    def test_package(self) -> None:
        """
        The package is installed, its tests pass, C{tlsproxy} lists its handler, and C{twistd} uses it.
        """
        copy = self.place / "package"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "_trial_temp*"))
        self.install(str(copy))
        self.run_("-m", "twisted.trial", str(copy / "tests" / "test_verbs.py"))
        tool = str(self.python.parent / "tlsproxy")
        listed = self.call(tool, "handlers")
        self.assertRegex(listed, r"(?m)^verbs\b.*lets only some commands")
        self.assertIn("the commands that a client may give", listed)
        self.assertUsed()

    def test_editable(self) -> None:
        """
        The package can be worked on where it is.
        """
        copy = self.place / "package"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "_trial_temp*"))
        self.install("--editable", str(copy))
        self.assertIn("\nverbs", "\n" + self.call(str(self.python.parent / "tlsproxy"), "handlers"))

    def assertUsed(self) -> None:
        """
        Have C{twistd} run a route with the handler.
        """

        def answer(talker: Talker) -> None:
            while line := talker.recv():
                talker.send(b"+OK " + line)

        server = Server(self, answer)
        command = [str(self.python), "-c", "from twisted.scripts.twistd import run; run()", "-n", "tlsproxy"]
        command += ["--mode", "passthrough", "--require-tls", "false", "--listen", "127.0.0.1:0"]
        command += ["--upstream", f"127.0.0.1:{server.port}", "--handler", "verbs:allow=STAT:allow=QUIT"]
        proxy = Child(self, self.elsewhere, "proxy", command)
        port = int(proxy.waitFor(r"listens on 127.0.0.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"STAT\r\n")
            self.assertEqual(b"+OK STAT\r\n", client.recv(100))
            client.sendall(b"DELE 1\r\n")
            self.assertEqual(b"-ERR not here\r\n", client.recv(100))
            self.assertEqual(b"", client.recv(100))
        line = proxy.waitFor(r".*outcome=refused.*")[0]
        self.assertIn('reason="handler verbs: the client gives a command that is not allowed"', line)


_TRIAL = "from twisted.scripts.trial import run; run()"
