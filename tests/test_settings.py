# -*- test-case-name: tests.test_settings -*-
"""
The keys of configurations, and the options made of them.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

from attrs import NOTHING, Factory, fields, make_class
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import ConfigurationError
from tlsproxy.interfaces import PHASES
from tlsproxy.route import Limits
from tlsproxy.settings import (
    LATER,
    LATER_MODES,
    LATER_OPTIONS,
    MODES,
    OPTIONS,
    ProxySettings,
    RouteSettings,
    RuleSettings,
    TargetSettings,
    metavar,
    stateDirectory,
    written,
)
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy, snake
from tlsproxy.tls.policy import option as attribute

TABLES: dict[tuple[str, ...], type[Any]] = {
    ("proxy",): ProxySettings,
    ("route",): RouteSettings,
    ("route", "targets"): TargetSettings,
    ("route", "tls"): ServerPolicy,
    ("route", "upstream_tls"): ClientPolicy,
}


class TableTests(SynchronousTestCase):
    """
    The table of options.
    """

    def test_oneRule(self) -> None:
        """
        C{--x-y} is C{route.tls.x_y}, C{--upstream-x-y} is C{route.upstream_tls.x_y}, C{--x-target} is
        C{route.targets.x}, and every other option is a key of the route or of the process by its own name.
        """
        for name, option in OPTIONS.items():
            word = name.replace("-", "_")
            expected = {("route", word), ("proxy", word), ("route", "tls", word)}
            if name.endswith("-target"):
                expected = {("route", "targets", word.removesuffix("_target"))}
            if name.startswith("upstream-"):
                expected = {("route", "upstream_tls", word.removeprefix("upstream_"))}
            self.assertIn(option.path, expected)

    def test_everyKey(self) -> None:
        """
        Every key has an option, with a word for what it takes and a line on what it is for; but the limit of all routes
        together has none, since a command line has one route.
        """
        paths = [option.path for option in OPTIONS.values()]
        self.assertEqual(len(paths), len(set(paths)))
        for table, cls in TABLES.items():
            for one in fields(cls):
                if one.metadata.get("kind") == "tables":
                    continue
                given = one.metadata.get("option") != ""
                self.assertEqual(given, (*table, snake(one.name)) in paths, one.name)
        for option in OPTIONS.values():
            self.assertTrue(option.metavar and option.help and option.heading, option)
            self.assertNotIn("\n", option.help)

    def test_rules(self) -> None:
        """
        Rules are for files: no option is for them, and each of their keys has a line on what it is for.
        """
        self.assertEqual([], [name for name, option in OPTIONS.items() if "rule" in option.path])
        for one in fields(RuleSettings):
            self.assertTrue(one.metadata["help"])
            self.assertNotIn("\n", one.metadata["help"])

    def test_defaults(self) -> None:
        """
        What holds without an option is told as it would be written.
        """
        for name, default in (("require-tls", "true"), ("close", "each"), ("users", ""), ("allow-target", "")):
            self.assertEqual(default, OPTIONS[name].default)
        self.assertEqual("true|false", OPTIONS["require-tls"].metavar)

    def test_lists(self) -> None:
        """
        What can be given again says so.
        """
        again = {name for name, option in OPTIONS.items() if "repeat for more" in option.help}
        self.assertLessEqual(
            {"cert", "client-ca", "allow-cn", "pins", "upstream-ca", "upstream-cert", "deny-target"}, again
        )
        self.assertFalse({"alpn", "groups", "key", "listen"} & again)

    def test_modes(self) -> None:
        """
        No mode is there and kept for later, and each has one line.
        """
        self.assertEqual(set(), set(MODES) & set(LATER_MODES))
        for help in MODES.values():
            self.assertTrue(40 < len(help) < 106 and help.isprintable() and not help.endswith("."), help)

    def test_keptKeys(self) -> None:
        """
        No key is there and kept for later.
        """
        for table, cls in TABLES.items():
            self.assertEqual(set(), LATER[".".join(table)] & {snake(one.name) for one in fields(cls)})
        self.assertEqual(set(), LATER["route"] & {"tls", "upstream_tls", "limits", "rule", "targets", "handler"})

    def test_reserved(self) -> None:
        """
        No option has a word that is kept for later.
        """
        self.assertEqual(set(), LATER_OPTIONS & set(OPTIONS))
        self.assertIn("workers", LATER_OPTIONS)

    def test_written(self) -> None:
        """
        A default of any type is told as it would be given, and one that nobody could give is not told.
        """
        for default, text in (
            ("x", "x"),
            (True, "true"),
            (100_000_000, "100000000"),
            (1e9, "1000000000"),
            (0.25, "0.25"),
            (("a", "b"), "a,b"),
            ((4, 4), "4,4"),
            (Path("x/y"), "x/y"),
            (None, ""),
            (NOTHING, ""),
            (Factory(list), ""),
        ):
            self.assertEqual(text, written(default))

    def test_metavars(self) -> None:
        """
        What an option takes is told by its own word, its kind, or its choices.
        """
        for made, word in (
            (attribute(1, "", metavar="BYTES", kind="file"), "BYTES"),
            (attribute("", "", kind="file"), "FILE"),
            (attribute(1, "", choices=(1, 2)), "1|2"),
            (attribute(1, ""), "NUMBER"),
        ):
            self.assertEqual(word, metavar(fields(make_class("Made", {"it": made})).it, "NUMBER"))

    def test_limits(self) -> None:
        """
        The limits are the phases.
        """
        self.assertEqual(set(PHASES), {snake(one.name) for one in fields(Limits)})


class StateDirectoryTests(SynchronousTestCase):
    """
    Where the state is kept.
    """

    def setUp(self) -> None:
        """
        Start from an environment that says nothing.
        """
        for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
            self.environ(name, "")
        self.environ("HOME", "/home/example")

    def environ(self, name: str, value: str) -> None:
        """
        Set a variable of the environment for this test.
        """
        self.patch(os, "environ", {**os.environ, name: value})

    def test_order(self) -> None:
        """
        The configuration comes first, then systemd's word, then the XDG folder, then the home.
        """
        self.assertEqual(Path("/home/example/.local/state/tlsproxy"), stateDirectory(""))
        self.environ("XDG_STATE_HOME", "/xdg")
        self.assertEqual(Path("/xdg/tlsproxy"), stateDirectory(""))
        self.environ("STATE_DIRECTORY", "/var/lib/tlsproxy:/var/lib/other")
        self.assertEqual(Path("/var/lib/tlsproxy"), stateDirectory(""))
        self.assertEqual(Path("/srv/state"), stateDirectory("/srv/state"))

    def test_homeless(self) -> None:
        """
        A user who has no home, and no name either, as in many a container, has a folder all the same.
        """

        def nobody(number: int) -> None:
            raise KeyError(number)

        self.patch(os, "environ", {})
        self.patch(pwd, "getpwuid", nobody)
        self.assertEqual(Path("/var/lib/tlsproxy"), stateDirectory(""))

    def test_nobodysHome(self) -> None:
        """
        A home that nobody has is told, with its key.
        """
        problem = self.assertRaises(ConfigurationError, stateDirectory, "~nobody-has-this-name/x").problems[0]
        self.assertEqual("proxy.state_dir", problem.key)
        self.assertIn("'~nobody-has-this-name/x' starts from a home that nobody has", problem.sentence)

    def test_relative(self) -> None:
        """
        A relative folder becomes absolute at once, because a daemon changes its folder.
        """
        self.assertEqual(Path.cwd() / "state", stateDirectory("state"))
