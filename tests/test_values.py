# -*- test-case-name: tests.test_values -*-
"""
The values of configurations, one by one.
"""

from __future__ import annotations

import datetime
from typing import Any

from attrs import Attribute, fields
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.route import Limits
from tlsproxy.settings import ProxySettings, RouteSettings, RuleSettings, TargetSettings
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, NSSDatabase, PKCS12File, ServerPolicy
from tlsproxy.values import convert, kindOf, suggest

CLASSES: tuple[type[Any], ...] = (
    ProxySettings,
    RouteSettings,
    RuleSettings,
    TargetSettings,
    ServerPolicy,
    ClientPolicy,
    Limits,
)


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
                for value in wrong[one.metadata.get("kind") == "boolean" :]:
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
        self.assertEqual("close", self.take(RuleSettings, "refuse", "close"))
        self.assertRefused(RuleSettings, "refuse", "reset", '\'reset\' is not one of "alert", "close"')
        self.assertRefused(RuleSettings, "refuse", "", '\'\' is not one of "alert", "close"')

    def test_booleans(self) -> None:
        """
        What is true or false is written without quotes, and in no other way.
        """
        for value in (True, False):
            self.assertIs(value, self.take(RouteSettings, "requireTls", value))
        for text in ("yes", "true", ""):
            self.assertRefused(RouteSettings, "requireTls", text, f"give true or false, not the string {text!r}")
        self.assertRefused(RouteSettings, "requireTls", 0, "give true or false, not a number")
        self.assertRefused(RouteSettings, "requireTls", [True], "give true or false, not a list")

    def test_later(self) -> None:
        """
        What is kept for later is refused as such.
        """
        for cls, name, value in (
            (ClientPolicy, "auth", "dane"),
            (RouteSettings, "mode", "intercept"),
            (RouteSettings, "upstream", [{"address": "a:1"}]),
            (RuleSettings, "upstream", ["a:1", "b:1"]),
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
        self.assertEqual("/etc/users", self.take(RouteSettings, "users", "users"))
        for cls, name in ((ClientPolicy, "ca"), (ServerPolicy, "clientCa")):
            self.assertRefused(cls, name, [], "give one file at least")
        named: tuple[tuple[type[Any], str], ...] = (
            (ClientPolicy, "ca"),
            (ServerPolicy, "cert"),
            (ProxySettings, "stateDir"),
            (RouteSettings, "users"),
        )
        for owner, name in named:
            self.assertRefused(owner, name, "", "not an empty string")

    def test_certificate(self) -> None:
        """
        A certificate is one file, or one of the chain and one of the key; or one in the form of PKCS#12, which its name
        tells or the key, and one of its password.
        """
        files = {"chain": "a.pem", "key": "b.pem"}
        store = {"pkcs12": "a.bin", "password_file": "p.txt"}
        for given, read in (
            ("a.pem", CertificateFiles("/etc/a.pem")),
            ({"chain": "a.pem"}, CertificateFiles("/etc/a.pem")),
            (files, CertificateFiles("/etc/a.pem", "/etc/b.pem")),
            ("a.p12", PKCS12File("/etc/a.p12")),
            ("a.pfx", PKCS12File("/etc/a.pfx")),
            ({"pkcs12": "a.bin"}, PKCS12File("/etc/a.bin")),
            (store, PKCS12File("/etc/a.bin", "/etc/p.txt")),
            ("nss:a", NSSDatabase("/etc/a")),
            ({"nss": "a"}, NSSDatabase("/etc/a")),
            ({"nss": "a", "nickname": "N", "password_file": "p"}, NSSDatabase("/etc/a", "N", "/etc/p")),
        ):
            for policy in (ServerPolicy, ClientPolicy):
                self.assertEqual((read,), self.take(policy, "cert", given))
                self.assertEqual((read,), self.take(policy, "cert", [given]))
                self.assertEqual((read, read), self.take(policy, "cert", [given, given]))
        for cls in (ServerPolicy, ClientPolicy):
            for wrong in ({"key": "b.pem"}, {"password_file": "p.txt"}, {**files, "x": "y"}, {**files, **store}, {}):
                self.assertRefused(cls, "cert", wrong, "give a file, {chain = ")
            self.assertRefused(cls, "cert", {**files, "key": 1}, "give a string, not a number")
            self.assertRefused(cls, "cert", [], "give one certificate")

    def test_several(self) -> None:
        """
        Where several strings may stand, one may do without the list; commas divide nothing.
        """
        for cls in (RuleSettings, TargetSettings):
            for one in fields(cls):
                if one.metadata.get("kind") == "list":
                    self.assertEqual(("a,b",), self.take(cls, one.name, "a,b"))
                    self.assertEqual(("a", "b"), self.take(cls, one.name, ["a", "b"]))
                    self.assertEqual((), self.take(cls, one.name, []))
                    self.assertRefused(cls, one.name, {"a": 1}, "give a string or a list of strings, not a table")
                    self.assertRefused(cls, one.name, ["a", 1], "give a string, not a number")

    def test_lists(self) -> None:
        """
        What OpenSSL takes with colons between may be a list.
        """
        for name in ("ciphers", "ciphersuites", "groups"):
            self.assertEqual("A:B", self.take(ServerPolicy, name, "A:B"))
            self.assertEqual("A:B", self.take(ServerPolicy, name, ["A", "B"]))
        self.assertEqual(("h2",), self.take(ServerPolicy, "alpn", "h2"))
        self.assertEqual((), self.take(ServerPolicy, "alpn", []))


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
        self.assertEqual("", suggest("1.1", ["1.2", "1.3"]))
        self.assertEqual("; do you mean --deny-target?", suggest("deny-targets", ["deny-target"], "--"))

    def test_suggestTheirs(self) -> None:
        """
        What other proxies call a thing leads to what it is called here, wherever there is such a word.
        """
        options = ["unsafe-connect", "deny-target", "allow-target", "upstream", "client-ca", "upstream-ca", "cert"]
        for word, meant in (
            ("connect", "--upstream"),
            ("target", "--upstream or --allow-target"),
            ("CAfile", "--client-ca or --upstream-ca"),
            ("ssl_certificate", "--cert"),
        ):
            self.assertEqual(f"; do you mean {meant}?", suggest(word, options, "--"))
        self.assertEqual("; do you mean ca?", suggest("cafile", ["ca", "cert", "auth"]))
        self.assertEqual("", suggest("cafile", ["hello", "head"]))

    def test_suggestUnsafe(self) -> None:
        """
        What is unsafe is suggested only to those who begin with that word.
        """
        self.assertEqual("", suggest("connects", ["unsafe_connect"]))
        self.assertEqual("; do you mean unsafe_connect?", suggest("unsafe_conect", ["unsafe_connect"]))

    def test_kinds(self) -> None:
        """
        Whatever TOML may hold has a name.
        """
        now = datetime.datetime(2026, 11, 20)
        values: tuple[object, ...] = (True, 1, 1.0, "", [], {}, now, now.date(), now.time())
        for value in values:
            self.assertTrue(kindOf(value))
