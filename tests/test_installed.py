# -*- test-case-name: tests.test_installed -*-
"""
Finding the handlers that are installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

import twisted.plugins
from tests.shouting import Quiet, Shout, installed
from tlsproxy import installed as looking
from tlsproxy.installed import Installed, sentenceOf
from tlsproxy.tls.policy import option
from twisted import plugin

ONE = 'from tlsproxy.plugin import HandlerFactory\none = HandlerFactory("{name}", "{where}", "does something")\n'


@frozen(kw_only=True)
class Named(Quiet):
    """
    An option that takes the handler's own word.
    """

    name: str = option("", "what it is called")


class FindTests(SynchronousTestCase):
    """
    Handlers by their names.
    """

    def refused(self, found: Installed, name: str) -> str:
        """
        Ask for a handler that cannot be used.

        @return: Why.
        """
        return str(self.assertRaises(ValueError, found.find, name))

    def test_found(self) -> None:
        """
        A handler is found with the class of its options and with what can be told to it.
        """
        there = installed(self)
        found = there.find("shout")
        self.assertIs(Shout, found.options)
        self.assertEqual(("shout", "makes letters large"), (found.name, found.help))
        self.assertTrue(found.module.endswith(".shouting"), found.module)
        self.assertEqual(found.module, there.module("shout"))
        self.assertEqual(["every", "pause", "pitch"], [one.key for one in found.keys][:3])
        self.assertEqual(("needy", "quiet", "shout", "start"), there.names)
        self.assertEqual((), there.broken)

    def test_unknown(self) -> None:
        """
        For a name that nobody has, the one that is meant is told, and all that there are.
        """
        there = installed(self)
        self.assertEqual(
            "there is no handler 'shuot'; do you mean shout?; installed: needy, quiet, shout, start",
            self.refused(there, "shuot"),
        )
        self.assertEqual("there is no handler 'x'; none is installed", self.refused(installed(self, other=""), "x"))

    def test_twice(self) -> None:
        """
        Of two handlers with one name none is used, since nobody knows which one is meant; the others are.
        """
        one, other = (
            ONE.format(name="x", where="tests.shouting.Quiet"),
            ONE.format(name="y", where="tests.shouting.Quiet"),
        )
        there = installed(self, first=one, second=one, third=other)
        self.assertRegex(
            self.refused(there, "x"),
            r"^there are several handlers 'x', of \S+\.first and \S+\.second: leave one of them installed$",
        )
        self.assertEqual("y", there.find("y").name)

    def test_handedOn(self) -> None:
        """
        A handler that one plugin module has from another is the same handler.
        """
        there = installed(
            self, first=ONE.format(name="x", where="tests.shouting.Quiet"), second="from .first import one\n"
        )
        self.assertEqual("x", there.find("x").name)

    def test_broken(self) -> None:
        """
        A module that cannot be imported spoils no other; it is told where a name is asked for that may be its.
        """
        there = installed(
            self, good=ONE.format(name="x", where="tests.shouting.Quiet"), bad="import no_such_module_at_all\n"
        )
        self.assertEqual("x", there.find("x").name)
        (sentence,) = there.broken
        self.assertRegex(sentence, r"^\S+\.bad cannot be imported: ModuleNotFoundError: No module named 'no_such_")
        self.assertTrue(self.refused(there, "y").endswith(f"installed: x; {sentence}"))
        # Twisted logs it, too.
        self.assertEqual(1, len(self.flushLoggedErrors(ModuleNotFoundError)))

    def test_leaving(self) -> None:
        """
        A module that would end the program where it is imported ends nothing, and spoils no other.
        """
        for number, statement in enumerate(("raise SystemExit(0)", "raise BaseException('odd')")):
            there = installed(self, good=ONE.format(name="x", where="tests.shouting.Quiet"), bad=statement + "\n")
            self.assertEqual("x", there.find("x").name)
            (sentence,) = there.broken
            self.assertIn(".bad cannot be imported: " + ("SystemExit", "BaseException")[number], sentence)
            self.flushLoggedErrors(SystemExit, BaseException)

    def test_gone(self) -> None:
        """
        A module that could be imported once, when Twisted noted what is in it, and no more, is told as well.
        """
        source = "import sys\nassert not hasattr(sys, 'goneInATest'), 'gone'\n"
        there = installed(self, bad=source + ONE.format(name="x", where="tests.shouting.Quiet"))
        self.assertEqual(("x",), there.names)
        package = sys.modules[there.module("x").rpartition(".")[0]]
        del sys.modules[there.module("x")]
        delattr(package, "bad")
        self.addCleanup(delattr, sys, "goneInATest")
        setattr(sys, "goneInATest", True)  # noqa: B010
        again = Installed(package)
        self.assertEqual((), again.names)
        self.assertRegex(again.broken[0], r"\.bad cannot be imported: AssertionError: gone \(\S+/bad\.py:2\)$")

    def test_unusable(self) -> None:
        """
        A handler whose class cannot be had is told by its name and its module, with the reason, when it is asked for.
        """
        for where, why in (
            ("no_such_module_at_all.Options", "ModuleNotFoundError: No module named 'no_such_module_at_all'$"),
            ("tests.shouting.Nothing", "AttributeError: module 'tests.shouting' has no attribute"),
            ("tests.shouting.size", "tests.shouting.size is no attrs class that provides IHandlerOptions"),
            ("tlsproxy.route.Limits", "tlsproxy.route.Limits is no attrs class that provides IHandlerOptions"),
            ("tests.test_installed.Named", "one of its options is called name"),
        ):
            there = installed(self, one=ONE.format(name="x", where=where))
            self.assertEqual(("x",), there.names)
            self.assertRegex(self.refused(there, "x"), r"^handler 'x' of \S+\.one cannot be used: " + why)

    def test_places(self) -> None:
        """
        What keeps a handler's module from being imported is told with its file and line, however deep that is.
        """
        head = (
            "from attrs import frozen\nfrom tlsproxy.handler import HandlerOptions, option\nfrom attrs import NOTHING\n"
        )
        for number, (source, why) in enumerate(
            (
                ("x = 1\n\ny = 1 / 0\n", r"ZeroDivisionError: division by zero \(\S+/{}\.py:3\)"),
                ("\nx = = 1\n", r"SyntaxError: invalid syntax \(\S+/{}\.py:2\)"),
                ("import no_such_module_at_all\n", r"ModuleNotFoundError: No module .* \(\S+/{}\.py:1\)"),
                ("from tests.shouting import size\nsize('4')\n", r"'4' does not end in k \(.+/shouting\.py:\d+\)"),
                ("class Options: pass\n", r"\S+\.Options is no attrs class that provides IHandlerOptions"),
                (
                    f"{head}@frozen\nclass Options(HandlerOptions):\n"
                    "    one: int = option(1, 'one')\n    two: int = option(NOTHING, 'two')\n",
                    r"the class Options has an option without a default: write @attrs.frozen\(kw_only=True\) above it "
                    r"\(.+/{}\.py:4\)",
                ),
                (
                    f"{head}class Options(HandlerOptions):\n    one: int = option(1, 'one')\n",
                    r"Options has options, but is no attrs class of its own: write @attrs.frozen\(kw_only=True\) above "
                    r"it",
                ),
            )
        ):
            module = f"module{number}"
            there = installed(self, **{module: source})
            package = there._package.__name__
            path = Path(str(there._package.__file__)).parent
            # The plugin is in another package than the handler, as it has to be.
            plugins = installed(self, one=ONE.format(name="x", where=f"{package}.{module}.Options"))
            self.assertTrue((path / f"{module}.py").exists())
            self.assertRegex(self.refused(plugins, "x"), f"^handler 'x' of \\S+ cannot be used: {why.format(module)}$")

    def test_otherFactory(self) -> None:
        """
        Any factory will do that keeps to the interface; one that does not is told.
        """
        source = (
            "from tlsproxy.interfaces import IProtocolHandlerFactory\nfrom zope.interface import implementer\n"
            "@implementer(IProtocolHandlerFactory)\nclass Own:\n"
            "    help = 'h'\n    def __init__(self, name, found): self.name, self.found = name, found\n"
            "    def options(self): return self.found()\n"
            "good = Own('good', lambda: __import__('tests.shouting').shouting.Quiet)\n"
            "none = Own('none', lambda: None)\n"
            "worse = Own('worse', lambda: 1 / 0)\n"
        )
        there = installed(self, own=source)
        self.assertEqual("good", there.find("good").name)
        self.assertIn("None is no attrs class that provides IHandlerOptions", self.refused(there, "none"))
        self.assertIn("cannot be used: ZeroDivisionError: division by zero (", self.refused(there, "worse"))

    def test_lazily(self) -> None:
        """
        Nothing is looked for until a handler is asked for, and then once.
        """
        asked: list[ModuleType] = []

        def counted(package: ModuleType) -> Any:
            asked.append(package)
            return plugin.getCache(package)

        self.patch(looking, "getCache", counted)
        there = installed(self)
        self.assertEqual([], asked)
        there.find("shout")
        there.find("quiet")
        self.assertEqual(1, len(asked))

    def test_inTheBox(self) -> None:
        """
        The handlers that come with tlsproxy can all be used.
        """
        there = Installed()
        own = [name for name in there.names if there.module(name) == f"{twisted.plugins.__name__}.tlsproxy_plugin"]
        self.assertEqual(["rate", "starttls-smtp", "tap"], own)
        for name in own:
            found = there.find(name)
            self.assertTrue(found.help.isprintable() and not found.help.endswith("."))
            for one in found.keys:
                self.assertTrue(one.help.isprintable() and not one.help.endswith("."), one)


class SentenceTests(SynchronousTestCase):
    """
    Exceptions in one line.
    """

    def test_lines(self) -> None:
        """
        What people are meant to read is told as it is, anything else with its kind, all of it on one line.
        """
        for problem, sentence in (
            (ValueError("give less"), "give less"),
            (TypeError("'x' must be <class 'int'>", "attribute", int, "y"), "'x' must be <class 'int'>"),
            (ValueError(), "ValueError"),
            (KeyError("x"), "KeyError: x"),
            (RuntimeError("one\n  two\x1b[1m"), "RuntimeError: one two [1m"),
            (FileNotFoundError(2, "No such file", "x"), "x: No such file"),
        ):
            self.assertEqual(sentence, sentenceOf(problem))
