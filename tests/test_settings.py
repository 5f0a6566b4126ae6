# -*- test-case-name: tests.test_settings -*-
"""
The keys of configurations, one by one.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from attrs import Attribute, fields
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.interfaces import PHASES
from tlsproxy.route import Limits
from tlsproxy.settings import (
    LATER_OPTIONS,
    OPTIONS,
    ProxySettings,
    RouteSettings,
    convert,
    kindOf,
    stateDirectory,
    suggest,
)
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy, snake

CLASSES: tuple[type[Any], ...] = (ProxySettings, RouteSettings, ServerPolicy, ClientPolicy, Limits)


def attribute(cls: type[Any], name: str) -> Attribute[Any]:
    """
    Find an attribute of a class.
    """
    found: Attribute[Any] = getattr(fields(cls), name)
    return found


class ConvertTests(SynchronousTestCase):
    """
    From what TOML gives to what the code takes.
    """

    def take(self, cls: type[Any], name: str, value: object) -> object:
        """
        Convert a value; files are in C{/etc}.
        """
        return convert(attribute(cls, name), value, lambda file: f"/etc/{file}")

    def assertRefused(self, cls: type[Any], name: str, value: object, sentence: str) -> None:
        """
        A value is refused with a sentence that says this.
        """
        told = str(self.assertRaises(ValueError, self.take, cls, name, value))
        self.assertIn(sentence, told)
        self.assertTrue(told.isprintable(), told)

    def test_wrongTypes(self) -> None:
        """
        Every key refuses what is of no type that it takes, and says what it takes.
        """
        for cls in CLASSES:
            for one in fields(cls):
                wrong: tuple[object, ...] = (True, [1], [[]], {"a": 1}, datetime.date(2026, 11, 20))
                for value in wrong:
                    told = str(self.assertRaises(ValueError, self.take, cls, one.name, value))
                    self.assertRegex(told, "^(give |several )", (cls, one.name, value))

    def test_strings(self) -> None:
        """
        A number is no string, however much it looks like what is meant.
        """
        self.assertRefused(ServerPolicy, "minVersion", 1.2, 'give a string, one of "1.2", "1.3", not a number')
        self.assertRefused(RouteSettings, "listen", 8443, "give a string, not a number")
        self.assertRefused(ServerPolicy, "cert", 1, "give a string, not a number")
        self.assertRefused(ServerPolicy, "alpn", 1, "give a string or a list of strings, not a number")

    def test_choices(self) -> None:
        """
        One of a few words is taken; another is refused with all of them, and with the one that it is like.
        """
        for name, good, bad in (("close", "both", "boht"), ("truncation", "abort", "aborted")):
            self.assertEqual(good, self.take(RouteSettings, name, good))
            self.assertRefused(RouteSettings, name, bad, f"do you mean {good}?")
        self.assertRefused(RouteSettings, "close", "never", '\'never\' is not one of "each", "both"')
        self.assertRefused(ServerPolicy, "minVersion", "1.1", 'is not one of "1.2", "1.3"')
        self.assertRefused(ServerPolicy, "clientAuth", "yes", 'is not one of "required", "optional", "none"')
        self.assertRefused(ProxySettings, "logLevel", "warning", "do you mean warn?")

    def test_later(self) -> None:
        """
        What is kept for later is refused as such.
        """
        for cls, name, value in (
            (ClientPolicy, "auth", "dane"),
            (ServerPolicy, "alpn", "mirror"),
            (ServerPolicy, "alpn", ["h2", "mirror"]),
            (ServerPolicy, "cert", "a.p12"),
            (ServerPolicy, "cert", ["a.pem", "b.pem"]),
            (RouteSettings, "mode", "sequential-client"),
            (RouteSettings, "upstream", [{"address": "a:1"}]),
        ):
            self.assertRefused(cls, name, value, "not yet supported")

    def test_seconds(self) -> None:
        """
        Limits are seconds from 0.
        """
        for phase in fields(Limits):
            self.assertEqual(0.0, self.take(Limits, phase.name, 0))
            self.assertEqual(2.5, self.take(Limits, phase.name, 2.5))
            for value in (-1, -0.1, float("nan"), float("inf"), float("-inf"), "5", True, [5], 10**400):
                self.assertRefused(Limits, phase.name, value, "give a number of seconds, 0 for no limit")

    def test_files(self) -> None:
        """
        Names of files become paths; C{system} is one only where it means something.
        """
        self.assertEqual(("system", "/etc/a.pem"), self.take(ClientPolicy, "ca", ["system", "a.pem"]))
        self.assertEqual(("/etc/a.pem",), self.take(ServerPolicy, "clientCa", "a.pem"))
        self.assertEqual(("/etc/system",), self.take(ServerPolicy, "clientCa", "system"))
        self.assertEqual("/etc/state", self.take(ProxySettings, "stateDir", "state"))
        for cls, name in ((ClientPolicy, "ca"), (ServerPolicy, "clientCa")):
            self.assertRefused(cls, name, [], "give one file at least")
        named: tuple[tuple[type[Any], str], ...] = (
            (ClientPolicy, "ca"),
            (ServerPolicy, "cert"),
            (ProxySettings, "stateDir"),
        )
        for owner, name in named:
            self.assertRefused(owner, name, "", "not an empty string")

    def test_certificate(self) -> None:
        """
        A certificate is one file, or one of the chain and one of the key.
        """
        files = {"chain": "a.pem", "key": "b.pem"}
        self.assertEqual(CertificateFiles("/etc/a.pem"), self.take(ServerPolicy, "cert", "a.pem"))
        self.assertEqual(CertificateFiles("/etc/a.pem"), self.take(ServerPolicy, "cert", ["a.pem"]))
        self.assertEqual(CertificateFiles("/etc/a.pem"), self.take(ServerPolicy, "cert", {"chain": "a.pem"}))
        self.assertEqual(CertificateFiles("/etc/a.pem", "/etc/b.pem"), self.take(ServerPolicy, "cert", [files]))
        self.assertRefused(ServerPolicy, "cert", {"key": "b.pem"}, "give a file, or {chain")
        self.assertRefused(ServerPolicy, "cert", {**files, "x": "y"}, "give a file, or {chain")
        self.assertRefused(ServerPolicy, "cert", {**files, "key": 1}, "give a string, not a number")
        self.assertRefused(ServerPolicy, "cert", [], "not an empty string")

    def test_lists(self) -> None:
        """
        What OpenSSL takes with colons between may be a list.
        """
        for name in ("ciphers", "ciphersuites", "groups"):
            self.assertEqual("A:B", self.take(ServerPolicy, name, "A:B"))
            self.assertEqual("A:B", self.take(ServerPolicy, name, ["A", "B"]))
        self.assertEqual(("h2",), self.take(ServerPolicy, "alpn", "h2"))
        self.assertEqual((), self.take(ServerPolicy, "alpn", []))


class TableTests(SynchronousTestCase):
    """
    The table of options.
    """

    def test_oneRule(self) -> None:
        """
        C{--x-y} is C{route.tls.x_y}, C{--upstream-x-y} is C{route.upstream_tls.x_y}, and every other option is a key
        of the route or of the process by its own name.
        """
        for name, option in OPTIONS.items():
            word = name.replace("-", "_")
            expected = {("route", word), ("proxy", word), ("route", "tls", word)}
            if name.startswith("upstream-"):
                expected = {("route", "upstream_tls", word.removeprefix("upstream_"))}
            self.assertIn(option.path, expected)

    def test_everyKey(self) -> None:
        """
        Every key has an option, with a word for what it takes and a line on what it is for.
        """
        paths = [option.path for option in OPTIONS.values()]
        self.assertEqual(len(paths), len(set(paths)))
        tables = (("proxy",), ("route",), ("route", "tls"), ("route", "upstream_tls"))
        for table, cls in zip(tables, CLASSES, strict=False):
            for one in fields(cls):
                self.assertIn((*table, snake(one.name)), paths)
        for option in OPTIONS.values():
            self.assertTrue(option.metavar and option.help and option.heading, option)
            self.assertNotIn("\n", option.help)

    def test_reserved(self) -> None:
        """
        No option has a word that is kept for later.
        """
        self.assertEqual(set(), LATER_OPTIONS & set(OPTIONS))
        for word in ("status", "handler", "workers", "max-connections", "allow-target", "allow-cn", "allow-all"):
            self.assertIn(word, LATER_OPTIONS)

    def test_limits(self) -> None:
        """
        The limits are the phases.
        """
        self.assertEqual(set(PHASES), {snake(one.name) for one in fields(Limits)})


class WordTests(SynchronousTestCase):
    """
    Words for people.
    """

    def test_suggest(self) -> None:
        """
        A word is suggested if it is near.
        """
        self.assertEqual("; do you mean bridge?", suggest("brigde", ["bridge", "offload"]))
        self.assertEqual("", suggest("tunnel", ["bridge", "offload"]))

    def test_kinds(self) -> None:
        """
        Whatever TOML may hold has a name.
        """
        now = datetime.datetime(2026, 11, 20)
        values: tuple[object, ...] = (True, 1, 1.0, "", [], {}, now, now.date(), now.time())
        for value in values:
            self.assertTrue(kindOf(value))


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

    def test_relative(self) -> None:
        """
        A relative folder becomes absolute at once, because a daemon changes its folder.
        """
        self.assertEqual(Path.cwd() / "state", stateDirectory("state"))
