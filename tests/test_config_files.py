# -*- test-case-name: tests.test_config_files -*-
"""
Configuration files: what is told of them, and of the files that they name.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

from cryptography import x509

from tests.configuring import ConfigurationTestCase
from tlsproxy.config import loadFile
from tlsproxy.errors import ConfigurationError
from tlsproxy.testing.certificates import NOW, certify, write
from tlsproxy.watching import signatureOf

GOOD = """\
[[route]]
mode = "bridge"
listen = "127.0.0.1:8443"
upstream = "origin.example:443"
[route.tls]
cert = "server.pem"
[route.upstream_tls]
ca = "ca.pem"
"""


class FileTests(ConfigurationTestCase):
    """
    A file as a whole.
    """

    def test_good(self) -> None:
        """
        A good file is read; what it names lies beside it, wherever the process runs.
        """
        configuration = loadFile(self.file(GOOD), NOW)
        self.assertEqual((["bridge"], ()), ([route.name for route in configuration.routes], configuration.warnings))

    def test_files(self) -> None:
        """
        What it was read from is told: the file itself and all that it names; so it is where it is bad, for whatever
        reason.
        """
        file = self.file(GOOD)
        files = {file, *(str(self.folder / name) for name in ("server.pem", "ca.pem"))}
        configuration = loadFile(file, NOW)
        self.assertEqual({name: signatureOf(name) for name in files}, configuration.files)
        self.assertEqual(["bridge"], [*configuration.tables])
        self.file(GOOD.replace("8443", "x"))
        self.assertEqual(files, {*self.assertRaises(ConfigurationError, loadFile, file, NOW).files})
        for content in (b"=", b"\xff", b"a = " + b"[" * 100_000):
            Path(file).write_bytes(content)
            problem = self.assertRaises(ConfigurationError, loadFile, file, NOW)
            self.assertEqual({file: signatureOf(file)}, problem.files)
        os.unlink(file)
        self.assertEqual({file: None}, self.assertRaises(ConfigurationError, loadFile, file, NOW).files)

    def test_documented(self) -> None:
        """
        The example of the documentation is good.
        """
        page = (Path(__file__).parent.parent / "docs" / "configuration.rst").read_text("utf-8")
        example = page.partition(".. code-block:: toml\n")[2].partition("\nThe command line")[0]
        configuration = loadFile(self.file(dedent(example)), NOW)
        names = ["shop", "front", "back", "sorted", "tunnels", "dmz"]
        self.assertEqual(names, [route.name for route in configuration.routes])

    def test_sequential(self) -> None:
        """
        So are those of the page on sequential connect, with the mapping and the proxy on the way.
        """
        page = (Path(__file__).parent.parent / "docs" / "sequential.rst").read_text("utf-8")
        blocks = [dedent(one) for one in re.findall(r"(?ms)^\.\. code-block:: toml\n\n((?:    .*?\n|\n)+)", page)]
        server, client, mapping, through = blocks
        (self.folder / "mapping.toml").write_text(mapping)
        (self.folder / "proxy-password.txt").write_text("secret\n")
        (self.folder / "identities").mkdir()
        for name in ("dmz.pem", "identities/one.pem"):
            write(str(self.folder / name), self.server.pem(), self.server.keyPEM())
        for name in ("client-proxies.pem", "dmz-ca.pem"):
            write(str(self.folder / name), self.ca.pem())
        client = client.replace("[route.upstream_tls]", through + "[route.upstream_tls]")
        for text, mode in ((server, "sequential-server"), (client, "sequential-client")):
            (route,) = loadFile(self.file(text), NOW).routes
            self.assertEqual(mode, route.pattern.mode)

    def test_documentedRules(self) -> None:
        """
        So is the example of rules, on the page of modes.
        """
        page = (Path(__file__).parent.parent / "docs" / "modes.rst").read_text("utf-8")
        example = page.partition(".. code-block:: toml\n")[2].partition("\n- The first")[0]
        (route,) = loadFile(self.file(dedent(example)), NOW).routes
        self.assertEqual(["", "", "", "close"], [rule.refuse for rule in route.rules])

    def test_now(self) -> None:
        """
        Certificates have to be valid at the time given; without one it is now.
        """
        file = self.file(GOOD)
        self.assertEqual(1, len(loadFile(file).routes))
        (warning,) = loadFile(file, NOW + timedelta(days=36500)).warnings
        self.assertIn("HAS EXPIRED", warning)

    def test_relative(self) -> None:
        """
        Relative paths start from the file's folder, also where the file itself is named relatively or by a link.
        """
        below = self.folder / "below"
        below.mkdir()
        self.file(GOOD.replace('"server.pem"', '"../server.pem"').replace('"ca.pem"', '"../ca.pem"'), "below/p.toml")
        (self.folder / "link.toml").symlink_to(below / "p.toml")
        loadFile(str(self.folder / "link.toml"), NOW)
        loadFile(os.path.relpath(below / "p.toml"), NOW)

    def test_absolute(self) -> None:
        """
        Absolute paths stay what they are.
        """
        self.file(GOOD.replace("server.pem", f"{self.folder}/server.pem"))
        loadFile(str(self.folder / "proxy.toml"), NOW)

    def test_byteOrderMark(self) -> None:
        """
        The mark that some editors put first does no harm.
        """
        loadFile(self.file("\ufeff" + GOOD), NOW)

    def test_unreadable(self) -> None:
        """
        A file that is not there, is none, or is no text, is told by name.
        """
        (self.folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
        for name, sentence in (
            ("nothing.toml", "No such file or directory"),
            ("", "Is a directory"),
            ("binary.toml", "it is not UTF-8 text"),
        ):
            file = str(self.folder / name)
            error = self.assertRaises(ConfigurationError, loadFile, file, NOW)
            self.assertEqual([f"{file}: {sentence}"], list(map(str, error.problems)))

    def test_syntax(self) -> None:
        """
        What is not TOML is told with its line.
        """
        self.assertRegex(self.fileProblems('[proxy]\n\nlog_level "warn"\n')[0], "^3: it is not TOML: ")
        self.assertRegex(self.fileProblems("[proxy]\nlog_level = \n[[route]]\n")[0], "^2: it is not TOML: ")
        self.assertRegex(self.fileProblems('[proxy]\nlog_level = """')[0], "^2: it is not TOML: ")
        self.assertRegex(self.fileProblems("[proxy]\n[proxy]\n")[0], "^2: it is not TOML: ")

    def test_empty(self) -> None:
        """
        A file that says nothing lacks a route.
        """
        self.assertEqual(["1: route: give at least one route, each under [[route]]"], self.fileProblems(""))

    def test_tooDeep(self) -> None:
        """
        A file whose brackets have no end is refused like any other.
        """
        file = self.file("x = " + "[" * 100000)
        error = self.assertRaises(ConfigurationError, loadFile, file, NOW)
        self.assertEqual(1, len(error.problems))

    def test_allAtOnce(self) -> None:
        """
        All that is wrong is told at once, each with the file, the line and the key.
        """
        problems = self.fileProblems(
            dedent(
                """\
                surplus = 1
                [proxy]
                log_level = "loud"
                workers = 4

                [[route]]
                mode = "offload"
                listen = "99999"
                close = "never"
                [route.tls]
                cert = "nothing.pem"
                key = "key.pem"
                min_version = 1.2
                [route.limits]
                idle = -1
                idel = 5

                [[route]]
                name = "second"
                upstream = "unix:"

                [[route]]
                mode = "encrypt"
                listen = "127.0.0.1:8443"
                upstream = "host:443"
                tls.cert = "server.pem"
                [route.upstream_tls]
                ca = ["ca.pem", "key.pem"]
                ciphers = "NONSENSE"
                """
            )
        )
        self.assertEqual(
            [
                (1, "surplus"),
                (3, "proxy.log_level"),
                (4, "proxy.workers"),
                (6, "route.upstream"),
                (8, "route.listen"),
                (9, "route.close"),
                (11, "route.tls.cert"),
                (13, "route.tls.min_version"),
                (15, "route.limits.idle"),
                (16, "route.limits.idel"),
                (18, "route.listen"),
                (18, "route.mode"),
                (20, "route.upstream"),
                (26, "route.tls"),
                (28, "route.upstream_tls.ca"),
                (29, "route.upstream_tls.ciphers"),
            ],
            sorted((int(problem.split(":")[0]), problem.split(": ")[1]) for problem in problems),
        )

    def test_sameLines(self) -> None:
        """
        Dotted keys, inline tables and arrays have lines as well.
        """
        problems = self.fileProblems(
            dedent(
                """\
                route = [
                    {mode = "offload", listen = "127.0.0.1:1", upstream = "h:1",
                """
            ).rstrip("\n")
            + ' tls = {cert = "server.pem", alpn = [\n\n1]}},\n\n{mode = "bridge"}]\n'
        )
        self.assertEqual(
            [(2, "route.tls.alpn"), (6, "route.listen"), (6, "route.tls.cert"), (6, "route.upstream")],
            sorted((int(problem.split(":")[0]), problem.split(": ")[1]) for problem in problems),
        )


class CertificateTests(ConfigurationTestCase):
    """
    The files that a configuration names.
    """

    def test_apart(self) -> None:
        """
        Chain and key may be two files, named beside each other or as parts.
        """
        self.build(self.document(tls={"cert": "chain.pem", "key": "key.pem"}))
        self.build(self.document(tls={"cert": {"chain": "chain.pem", "key": "key.pem"}}))
        self.build(self.document(upstream_tls={"cert": "chain.pem", "key": "key.pem"}))

    def test_key(self) -> None:
        """
        A key belongs to a certificate, and is given once.
        """
        for table in ("tls", "upstream_tls"):
            document = self.document("offload" if table == "tls" else "encrypt", **{table: {"key": "key.pem"}})
            document["route"][0][table].pop("cert", None)
            self.assertIn("a key needs its certificate", self.problems(document)[f"route[0].{table}.key"])
        twice = {"cert": {"chain": "chain.pem", "key": "key.pem"}, "key": "key.pem"}
        self.assertProblem("route[0].tls.key", "given twice", self.document(tls=twice))
        self.assertProblem("route[0].tls.key", "give a string", self.document(tls={"cert": "chain.pem", "key": 5}))

    def test_missing(self) -> None:
        """
        A route that speaks TLS with clients needs a certificate.
        """
        self.assertProblem("route[0].tls.cert", "a certificate is needed", self.document(tls={"cert": None}))
        self.assertProblem("route[0].tls.cert", "a certificate is needed", self.document("offload", tls=None))

    def test_unusable(self) -> None:
        """
        A file that is not there, lacks what it should hold, or does not match is told by name.
        """
        other = certify("other.example", self.ca)
        write(str(self.folder / "other-key.pem"), other.keyPEM())
        write(str(self.folder / "empty.pem"))
        for tls, sentence in (
            ({"cert": "nothing.pem"}, "nothing.pem does not exist"),
            ({"cert": ".", "key": "key.pem"}, "is a directory"),
            ({"cert": "empty.pem"}, "empty.pem holds no certificate"),
            ({"cert": "key.pem"}, "key.pem holds no certificate"),
            ({"cert": "chain.pem"}, "chain.pem holds no private key"),
            ({"cert": "chain.pem", "key": "nothing.pem"}, "nothing.pem does not exist"),
            ({"cert": "chain.pem", "key": "ca.pem"}, "ca.pem holds no private key"),
            ({"cert": "chain.pem", "key": "other-key.pem"}, "does not match the certificate"),
        ):
            self.assertProblem("route[0].tls.cert", sentence, self.document(tls=tls))
            self.assertProblem("route[0].upstream_tls.cert", sentence, self.document(upstream_tls=tls))

    def test_authorities(self) -> None:
        """
        A file of CAs has to be there and to hold certificates.
        """
        for files, sentence in (("nothing.pem", "does not exist"), (["ca.pem", "key.pem"], "holds no CA certificate")):
            for table, key in (("tls", "client_ca"), ("upstream_tls", "ca")):
                problems = self.problems(self.document(**{table: {key: files}}))
                self.assertEqual([f"route[0].{table}.{key}"], list(problems))
                self.assertIn(sentence.replace("CA ", ""), problems[f"route[0].{table}.{key}"])

    def test_expired(self) -> None:
        """
        An expired certificate is a loud warning, which names the route and the file.
        """
        names = [x509.DNSName("old.example")]
        old = certify("old.example", self.ca, begins=NOW - timedelta(days=9), ends=NOW - timedelta(days=1), names=names)
        write(str(self.folder / "old.pem"), old.pem(), old.keyPEM())
        (warning,) = self.build(self.document(tls={"cert": "old.pem"})).warnings
        self.assertTrue(warning.startswith(f"route bridge: {self.folder}/old.pem HAS EXPIRED"), warning)
        self.assertOneSentence(warning)

    def test_open(self) -> None:
        """
        A key that others can read is a warning.
        """
        write(str(self.folder / "server.pem"), self.server.pem(), self.server.keyPEM(), mode=0o644)
        (warning,) = self.build(self.document(tls={"cert": "server.pem"})).warnings
        self.assertIn("is open to others than its owner (mode 0644)", warning)

    def test_unverified(self) -> None:
        """
        An upstream that is not verified is a loud warning.
        """
        (warning,) = self.build(self.document(upstream_tls={"auth": "none"})).warnings
        self.assertIn("route bridge: the upstream is not verified at all", warning)


class CombinationTests(ConfigurationTestCase):
    """
    Keys that do not go together.
    """

    def test_unused(self) -> None:
        """
        TLS that a mode does not speak is refused, and told once.
        """
        self.assertProblem(
            "route[0].tls", "mode encrypt speaks no TLS with its clients", self.document("encrypt", tls={"cert": "x"})
        )
        self.assertProblem(
            "route[0].upstream_tls",
            "mode offload speaks no TLS with its upstream",
            self.document("offload", upstream_tls={"ca": "x"}),
        )

    def test_clientAuth(self) -> None:
        """
        Client certificates are asked for only with CAs to check them, and CAs are given only to be used.
        """
        for auth in ("required", "optional"):
            self.assertProblem("route[0].tls.client_ca", "no CA is named", self.document(tls={"client_auth": auth}))
            self.build(self.document(tls={"client_auth": auth, "client_ca": "ca.pem"}))
        self.assertProblem(
            "route[0].tls.client_auth",
            "leaves client_ca without a use",
            self.document(tls={"client_auth": "none", "client_ca": "ca.pem"}),
        )
        self.build(self.document(tls={"client_auth": "none"}))

    def test_versions(self) -> None:
        """
        The oldest version cannot be above the newest.
        """
        for table in ("tls", "upstream_tls"):
            wrong = {"min_version": "1.3", "max_version": "1.2"}
            self.assertProblem(
                f"route[0].{table}.min_version", "min_version is above max_version", self.document(**{table: wrong})
            )

    def test_words(self) -> None:
        """
        Words that OpenSSL does not know are told at their key.
        """
        for key, value in (("ciphers", "NONSENSE"), ("ciphersuites", "NONSENSE"), ("groups", "NONSENSE")):
            for table in ("tls", "upstream_tls"):
                self.assertProblem(f"route[0].{table}.{key}", "NONSENSE", self.document(**{table: {key: value}}))
        self.assertProblem("route[0].tls.alpn", "is no ALPN protocol name", self.document(tls={"alpn": "x" * 256}))

    def test_bridgeALPN(self) -> None:
        """
        A bridge has no application protocols of its own to offer.
        """
        self.assertProblem(
            "route[0].upstream_tls.alpn", "what its client negotiated", self.document(upstream_tls={"alpn": ["h2"]})
        )

    def test_hostName(self) -> None:
        """
        A name that no certificate can show is told.
        """
        self.assertProblem(
            "route[0].upstream_tls.name", "is no host name", self.document(upstream_tls={"name": "a..b"})
        )
