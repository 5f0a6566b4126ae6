# -*- test-case-name: tests.test_reading -*-
"""
Reading tables, and collecting what is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.address import Endpoint, Unix
from tlsproxy.config import build
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.patterns.offload import Offload
from tlsproxy.reading import Reader, spell
from tlsproxy.settings import RouteSettings, RuleSettings, TargetSettings
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, NSSDatabase, PKCS12File, ServerPolicy


class ReaderTests(ConfigurationTestCase):
    """
    One reader.
    """

    def setUp(self) -> None:
        """
        Read from the folder.
        """
        super().setUp()
        self.reader = Reader(self.folder)

    def told(self) -> list[tuple[str, str]]:
        """
        What the reader has found to be wrong.
        """
        return [(problem.key, problem.sentence) for problem in self.reader.problems]

    def test_tell(self) -> None:
        """
        Of one key only the first problem is told, and nothing of what is below it; a key of a like name is another.
        """
        for path in ("route[0].tls", "route[0].tls", "route[0].tls.cert", "route[0].tlsx", "route[0]", "route[1].tls"):
            self.reader.tell(path, f"wrong at {path}")
        self.assertEqual(["route[0].tls", "route[0].tlsx", "route[0]", "route[1].tls"], [key for key, _ in self.told()])

    def test_attempt(self) -> None:
        """
        What an attempt raises is told: several problems each at its own key, one sentence at the key given.
        """

        def several() -> None:
            raise ConfigurationError([Problem("a.b", "one"), Problem("a.c", "two")])

        def single() -> None:
            raise ValueError("three")

        self.assertEqual(5, self.reader.attempt("a", lambda: 5))
        self.assertIsNone(self.reader.attempt("a.x", several))
        self.assertIsNone(self.reader.attempt("a.d", single))
        self.assertEqual([("a.b", "one"), ("a.c", "two"), ("a.d", "three")], self.told())

    def test_each(self) -> None:
        """
        Of several values those that can be read are, and what is wrong with the others is told together.
        """
        self.assertEqual((1, 2), self.reader.each(("1", "2"), "a", int))
        self.assertEqual([], self.told())
        self.assertEqual((3,), self.reader.each(("x", "3", "y"), "a", int))
        ((key, sentence),) = self.told()
        self.assertEqual("a", key)
        self.assertRegex(sentence, "'x'; .*'y'$")

    def test_bugs(self) -> None:
        """
        Any other error is no problem of the configuration.
        """
        self.assertRaises(ZeroDivisionError, self.reader.attempt, "a", lambda: 1 / 0)

    def test_resolve(self) -> None:
        """
        Relative paths start from the folder, absolute ones stay, and a home is found.
        """
        self.patch(os, "environ", {**os.environ, "HOME": "/home/example"})
        self.assertEqual(f"{self.folder}/a/b", self.reader.resolve("a/b"))
        self.assertEqual("/a/b", self.reader.resolve("/a/b"))
        self.assertEqual("/home/example/b", self.reader.resolve("~/b"))
        self.assertRaises(ValueError, self.reader.resolve, "~nobody-has-this-name/b")

    def test_settings(self) -> None:
        """
        A table comes into its class; what is wrong with it is told key by key, and left at its default.
        """
        table: dict[str, Any] = {"mode": "bridge", "require_tls": 1, "users": "u", "close": "never", "rule": [], "x": 1}
        read = self.reader.settings(RouteSettings, table, "route[3]", {"rule": None})
        self.assertEqual(RouteSettings(mode="bridge", users=f"{self.folder}/u"), read)
        self.assertEqual(["route[3].require_tls", "route[3].close", "route[3].x"], [key for key, _ in self.told()])

    def test_elsewhere(self) -> None:
        """
        A key that belongs into a table beside which it stands is told with that table.
        """
        for mode, key, owners in (
            ("offload", "cert", "tls.cert"),
            ("offload", "key", "tls.key"),
            ("offload", "bogus", ""),
            ("encrypt", "ca", "upstream_tls.ca"),
            ("bridge", "alpn", "tls.alpn or upstream_tls.alpn"),
            ("offload", "idle", "limits.idle"),
            ("connect", "allow", "targets.allow"),
            ("", "cert", "tls.cert or upstream_tls.cert"),
        ):
            document = {"route": [{"mode": mode, key: "x"}]}
            problem = self.assertRaises(ConfigurationError, build, document, self.folder, NOW)
            sentences = [one.sentence for one in problem.problems if one.key == f"route[0].{key}"]
            self.assertEqual(["there is no such key" + (f"; do you mean {owners}?" if owners else "")], sentences)

    def test_noTable(self) -> None:
        """
        What is no table is told, and read as an empty one.
        """
        for value, kind in (([], "a list"), ("x", "a string"), (1, "a number"), (True, "true or false")):
            self.reader.problems.clear()
            self.assertEqual(TargetSettings(), self.reader.settings(TargetSettings, value, "route[0].targets"))
            self.assertEqual([("route[0].targets", f"give a table, not {kind}")], self.told())

    def test_suggestions(self) -> None:
        """
        An unknown key is told with the one that is meant, spelled as TOML does.
        """
        self.reader.settings(RuleSettings, {"clients": "x", "a b": 1, "refuze": "alert"}, "route[0].rule[2]")
        self.assertEqual(
            [
                ("route[0].rule[2].clients", "there is no such key; do you mean client?"),
                ('route[0].rule[2]."a b"', "there is no such key"),
                ("route[0].rule[2].refuze", "there is no such key; do you mean refuse?"),
            ],
            self.told(),
        )

    def test_pair(self) -> None:
        """
        A key beside its certificate makes a pair of files, and so does the file of a password.
        """
        c, k = f"{self.folder}/c", f"{self.folder}/k"
        for key, given, read in (
            ("key", "c", CertificateFiles(c, k)),
            ("key", {"chain": "c"}, CertificateFiles(c, k)),
            ("cert_password_file", "c", PKCS12File(c, k)),
            ("cert_password_file", "c.p12", PKCS12File(f"{c}.p12", k)),
            ("cert_password_file", {"pkcs12": "c"}, PKCS12File(c, k)),
            ("cert_password_file", "nss:c", NSSDatabase(c, None, k)),
            ("cert_password_file", {"nss": "c", "nickname": "N"}, NSSDatabase(c, "N", k)),
        ):
            table = {"cert": given, key: "k"}
            self.assertEqual((read,), self.reader.settings(ServerPolicy, table, "route[0].tls").cert)
            self.assertEqual((read,), self.reader.settings(ClientPolicy, table, "route[0].upstream_tls").cert)
        self.assertEqual([], self.told())

    def test_noPair(self) -> None:
        """
        What belongs to no certificate, to one of several, or to one that has it already, is told.
        """
        for table, key, sentence in (
            ({"key": "k"}, "key", "a key needs its certificate beside it: give cert, too"),
            (
                {"cert_password_file": "k"},
                "cert_password_file",
                "a password needs its certificate beside it: give cert, too",
            ),
            ({"cert": ["c", "d"], "key": "k"}, "key", "say of which certificate: write it inside cert, as in {chain"),
            ({"cert": {"chain": "c", "key": "x"}, "key": "k"}, "key", "it is given twice"),
            ({"cert": "nss:c", "key": "k"}, "key", "an NSS database holds its keys itself: leave this out"),
            ({"cert": "c.p12", "key": "k"}, "key", "a PKCS#12 file holds its key itself: leave this out"),
            (
                {"cert": {"pkcs12": "c", "password_file": "p"}, "cert_password_file": "k"},
                "cert_password_file",
                "it is given twice",
            ),
            ({"cert": "c", "key": "k", "cert_password_file": "p"}, "cert_password_file", "it is the password of a PK"),
            ({"cert": "c", "key": 1}, "key", "give a string, not a number"),
        ):
            self.reader.problems.clear()
            self.reader.settings(ServerPolicy, table, "route[0].tls")
            [(place, told)] = self.told()
            self.assertEqual(f"route[0].tls.{key}", place)
            self.assertIn(sentence, told)

    def test_spell(self) -> None:
        """
        A key is written with quotes where TOML needs them.
        """
        for key, spelled in (
            ("a-b_1", "a-b_1"),
            ("", '""'),
            ("a.b", '"a.b"'),
            ("a\n", '"a\\n"'),
            ("\xe9", '"\\u00e9"'),
        ):
            self.assertEqual(spelled, spell(key))

    def test_base(self) -> None:
        """
        The folder is kept as it is given.
        """
        self.assertEqual(Path("x"), Reader(Path("x")).base)


class AddressTests(ConfigurationTestCase):
    """
    Where to listen and what to dial.
    """

    def test_missing(self) -> None:
        """
        Both have to be given.
        """
        self.assertProblem("route[0].listen", "say where to listen", self.document(listen=None))
        self.assertProblem("route[0].upstream", "say what to dial", self.document(upstream=None))
        self.assertProblem("route[0].listen", "say where to listen", self.document(listen=""))

    def test_wrong(self) -> None:
        """
        What cannot be an address is told before anything starts.
        """
        for key, text, sentence in (
            ("listen", "99999", "ports go from 0 to 65535"),
            ("listen", "tcp:99999", "ports go from 0 to 65535"),
            ("listen", "ssl:8443", "the mode sets up TLS by itself"),
            ("listen", "unix:~nobody-has-this-name/x", "a home that nobody has"),
            ("listen", f"unix:/{'x' * 107}", "too long for a Unix socket"),
            ("upstream", f"unix:{'x' * 107}", "too long for a Unix socket"),
            ("upstream", "host:99999", "ports go from 0 to 65535"),
            ("upstream", "tcp:host:99999", "ports go from 0 to 65535"),
            ("upstream", "tls:host:443", "the mode sets up TLS by itself"),
            ("upstream", "0", "port 0"),
        ):
            self.assertProblem(f"route[0].{key}", sentence, self.document(**{key: text}))

    def test_unix(self) -> None:
        """
        The path of a Unix socket starts from the file's folder.
        """
        route = self.build(self.document("offload", listen="unix:run/in", upstream="unix:/run/out")).routes[0]
        self.assertEqual(Unix(f"{self.folder}/run/in"), route.listen)
        assert isinstance(route.pattern, Offload)
        self.assertEqual(Unix("/run/out"), route.pattern.upstream)

    def test_endpoints(self) -> None:
        """
        Twisted's endpoints may be given.
        """
        route = self.build(self.document("offload", listen="tcp:0:interface=127.0.0.1", upstream="tcp:h:80")).routes[0]
        self.assertEqual(Endpoint("tcp:0:interface=127.0.0.1"), route.listen)

    def test_unresolved(self) -> None:
        """
        A name that does not resolve now may do so later.
        """
        self.build(self.document(upstream="nowhere.invalid:443"))
