# -*- test-case-name: tests.test_tap_handlers -*-
"""
Handlers on the command line.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from tests.shouting import Needy, Quiet, Shout, installed
from tests.test_tap import FULL, CommandLineTestCase
from tlsproxy import tap
from tlsproxy.config import build


class HandlerTests(CommandLineTestCase):
    """
    C{--handler}.
    """

    def setUp(self) -> None:
        """
        Have handlers.
        """
        super().setUp()
        self.patch(tap, "build", partial(build, installed=installed(self)))

    def words(self, *handlers: str, mode: str = "bridge") -> tuple[str, ...]:
        """
        Write a command line with handlers.
        """
        return ("--mode", mode, *FULL[mode], *(word for one in handlers for word in ("--handler", one)))

    def handlers(self, *handlers: str) -> tuple[object, ...]:
        """
        Read a command line with handlers.
        """
        return self.configuration(*self.words(*handlers)).routes[0].handlers

    def test_order(self) -> None:
        """
        The handlers come in the order in which they are given.
        """
        self.assertEqual((Quiet(), Shout(), Quiet()), self.handlers("quiet", "shout", "quiet"))

    def test_types(self) -> None:
        """
        The values are what their types say, though all of a command line is text.
        """
        (read,) = self.handlers(
            "shout:every=2:pause=1.5:pitch=1e3:loud=false:tune=falling:key=3:others=a:others=b:bars=7:most_bytes=2k"
        )
        expected = Shout(
            every=2,
            pause=1.5,
            pitch=1000.0,
            loud=False,
            tune="falling",
            key=3,
            others=("a", "b"),
            bars=(7,),
            mostBytes="2k",  # type: ignore[arg-type]
        )
        self.assertEqual(expected, read)

    def test_documented(self) -> None:
        """
        The example of the documentation is good.
        """
        self.patch(tap, "build", build)
        page = (Path(__file__).parent.parent / "docs" / "configuration.rst").read_text("utf-8")
        command = page.partition("nearest the client::\n\n")[2].partition("\n\n")[0]
        words = shlex.split(command.replace("\\\n", ""))
        self.assertEqual(["twistd", "-n", "tlsproxy"], words[:3])
        (route,) = self.configuration(*words[3:]).routes
        self.assertEqual(["Rate", "Tap"], [type(one).__name__ for one in route.handlers])
        self.assertFalse((self.folder / "shop.pcapng").exists())

    def test_escapes(self) -> None:
        """
        A colon in a value is written with a backslash; an equals sign needs none.
        """
        (read,) = self.handlers(r"shout:word=a\:b=c")
        self.assertEqual(Shout(word="a:b=c"), read)

    def test_paths(self) -> None:
        """
        A path starts from the current folder.
        """
        self.assertEqual((Needy(file=self.folder / "notes", most=1),), self.handlers("needy:file=notes:most=1"))

    def test_wrong(self) -> None:
        """
        All that is wrong is told at once, each at its handler and option.
        """
        bad = "shout:every=x:loud=yes:word=a:word=b"
        self.assertEqual(
            [
                f"--handler {bad}: every: give a whole number, not the string 'x'",
                f"--handler {bad}: loud: give true or false, not the string 'yes'",
                f"--handler {bad}: word: it is given 2 times; give it once",
                "--handler shuot: there is no handler 'shuot'; do you mean shout?; "
                "installed: needy, quiet, shout, start",
                "--handler needy:most=1: file: handler needy needs it: where to write",
                "--handler shout:word=hush: word is hush, which cannot be shouted",
            ],
            self.refused(
                1,
                *self.words(
                    "shout:every=x:loud=yes:word=a:word=b", "shuot", "needy:most=1", "quiet", "shout:word=hush"
                ),
            ),
        )
        self.assertEqual(
            ["--handler start: mode passthrough starts no TLS, and handler start wants to"],
            self.refused(1, *self.words("start", mode="passthrough")),
        )
        self.assertRefused(1, "--handler : say which handler; installed: needy", *self.words(""))

    def test_usage(self) -> None:
        """
        A word that cannot be understood ends with status 2.
        """
        self.assertRefused(2, "--handler quiet:x: give KEY=VALUE, not 'x'", *self.words("shout", "quiet:x"))
        self.assertRefused(2, "--handler quiet:name=x: the handler's name stands in front", *self.words("quiet:name=x"))
        self.assertRefused(2, "--handler needs a value after it", "--mode", "bridge", "--handler")
        self.assertRefused(2, "--config takes no --handler beside it", "--config", "x.toml", "--handler", "quiet")
        self.assertRefused(2, "there is no option --handlers; do you mean --handler?", "--handlers", "quiet")

    def test_noDemo(self) -> None:
        """
        A demo takes no handlers: with one, what is missing is told.
        """
        told = self.refused(1, "--mode", "bridge", "--handler", "quiet")
        self.assertEqual("--listen: say where to listen, as in 8443", told[0])

    def test_help(self) -> None:
        """
        The option is told, and what lists the handlers.
        """
        text = tap.Options().getUsage()
        self.assertIn("--handler NAME:KEY=VALUE", text)
        self.assertIn("tlsproxy handlers", text)
