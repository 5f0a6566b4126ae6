# -*- test-case-name: tests.commands.test_check -*-
"""
Tests for L{tlsproxy.commands.check}: C{tlsproxy check} for people and for programs.

What it says of good and bad files at its plainest is tested by L{tests.test_cli}.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.configuring import ConfigurationTestCase
from tlsproxy.commands import check as module
from tlsproxy.commands.check import addArguments, check
from tlsproxy.reaching import Place, Unreached
from tlsproxy.testing.certificates import write
from tlsproxy.tls.development import writeDevelopmentFiles

FILE = """\
[proxy]

[[route]]
name = "shop"
mode = "offload"
listen = "127.0.0.1:8443"
upstream = "127.0.0.1:8080"
tls.cert = "both.pem"

[[route]]
name = "back"
mode = "encrypt"
listen = "127.0.0.1:8444"
upstream = "127.0.0.1:8081"
[route.upstream_tls]
auth = "none"
"""


class CheckTests(ConfigurationTestCase):
    """
    Tests for L{check}.
    """

    def setUp(self) -> None:
        """
        Go to the folder, whose certificates are valid now.
        """
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        writeDevelopmentFiles(Path("made"), names=["localhost"], now=datetime.now(UTC))
        write("both.pem", *((self.folder / "made" / name).read_bytes() for name in ("server.pem", "server-key.pem")))
        self.file(FILE)

    def run_(self, *words: str, file: str = "proxy.toml") -> tuple[int, str, str]:
        """
        Check a file.

        @return: The exit status, and what is printed on either stream.
        """
        parser = argparse.ArgumentParser()
        addArguments(parser)
        printed, told = io.StringIO(), io.StringIO()
        patches = self.patch(sys, "stdout", printed), self.patch(sys, "stderr", told)
        try:
            status = check(parser.parse_args([*words, file]))
        finally:
            for one in patches:
                one.restore()
        return status, printed.getvalue(), told.getvalue()

    def read(self, *words: str) -> tuple[int, dict[str, Any]]:
        """
        Check it for a program: all is one object on standard output.
        """
        status, printed, told = self.run_("--format", "json", *words)
        self.assertEqual("", told)
        found: dict[str, Any] = json.loads(printed)
        return status, found

    def test_warnings(self) -> None:
        """
        A warning has the line of its route.
        """
        status, printed, told = self.run_()
        self.assertEqual((0, "proxy.toml: good: shop, back\n"), (status, printed))
        self.assertTrue(told.startswith("proxy.toml:10: warning: route back: the upstream is not verified"), told)
        self.assertEqual(1, len(told.splitlines()))

    def test_pipe(self) -> None:
        """
        It is read once, so it may come by a pipe, and yet has lines.
        """
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        os.write(writing, FILE.replace("both.pem", f"{self.folder}/both.pem").encode())
        os.close(writing)
        file = f"/dev/fd/{reading}"
        status, _, told = self.run_(file=file)
        self.assertEqual(0, status, told)
        self.assertTrue(told.startswith(f"{file}:10: warning: route back: the upstream is not verified"), told)

    def test_explain(self) -> None:
        """
        When asked, it tells what each route comes to.
        """
        status, printed, _ = self.run_("--explain")
        self.assertEqual(0, status)
        for part in (
            "route shop: offload\n",
            "route back: encrypt\n",
            "cipher suites",
            "proxy.toml: good: shop, back\n",
        ):
            self.assertIn(part, printed)

    def test_JSON(self) -> None:
        """
        Programs get what is wrong with its place, what is doubtful, and what each route comes to.
        """
        status, found = self.read()
        self.assertEqual((0, True, [], "proxy.toml"), (status, found["good"], found["problems"], found["file"]))
        (warning,) = found["warnings"]
        self.assertEqual(("proxy.toml", 10), (warning["file"], warning["line"]))
        self.assertEqual(["shop", "back"], [route["name"] for route in found["routes"]])
        self.file(FILE.replace("8443", "84430").replace("both.pem", "none.pem"))
        status, found = self.read()
        self.assertEqual((1, False, False), (status, found["good"], "routes" in found))
        self.assertEqual(
            [("proxy.toml", 6, "route.listen"), ("proxy.toml", 8, "route.tls.cert")],
            [(one["file"], one["line"], one["key"]) for one in found["problems"]],
        )

    def test_notTOML(self) -> None:
        """
        A file that is none has the line as well, and one that is not there has none.
        """
        self.file("[proxy]\nwhat")
        status, found = self.read()
        self.assertEqual((1, 2), (status, found["problems"][0]["line"]))
        os.unlink("proxy.toml")
        status, found = self.read()
        self.assertEqual(
            (1, [{"sentence": "No such file or directory", "file": "proxy.toml"}]), (status, found["problems"])
        )
        self.assertEqual((1, "", "proxy.toml: No such file or directory\n"), self.run_())

    def test_endpoint(self) -> None:
        """
        A route that there is not is a problem, too.
        """
        status, found = self.read("--endpoint", "blog")
        self.assertEqual(1, status)
        self.assertEqual(
            ["there is no route 'blog'; its routes are: shop, back"], [one["sentence"] for one in found["problems"]]
        )

    def test_reach(self) -> None:
        """
        Nothing is reached for unless somebody asks for that; then what cannot be reached is a problem, with its line,
        of the rule or the table where the key is nowhere.
        """
        asked: list[bool] = []
        paths: list[tuple[str | int, ...]] = [("route", 1, "upstream"), ("route", 0, "rule", 7)]

        def reach(places: list[Place], connect: bool) -> list[Unreached]:
            asked.append(connect)
            return [Unreached(Place("x", path, places[0].where), "no") for path in paths]

        self.patch(module, "reach", reach)
        self.assertEqual((0, []), (self.run_()[0], asked))
        for word in ("--resolve", "--connect"):
            status, printed, told = self.run_(word)
            self.assertEqual((1, ""), (status, printed))
            self.assertEqual(["proxy.toml:14: route x: no", "proxy.toml:3: route x: no"], told.splitlines()[:2])
        self.assertEqual([False, True], asked)

    def test_weak(self) -> None:
        """
        What is weak in a certificate is a warning.
        """
        self.patch(module, "weaknesses", lambda route: ["it is weak"] if route.name == "shop" else [])
        self.assertIn("proxy.toml:3: warning: route shop: it is weak\n", self.run_()[2])
