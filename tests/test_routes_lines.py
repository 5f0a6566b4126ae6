# -*- test-case-name: tests.test_routes_lines -*-
"""
Where in a file it is told what is wrong with rules, targets and users.
"""

from __future__ import annotations

import io
import sys
from textwrap import dedent

from tests.configuring import ConfigurationTestCase
from tlsproxy.cli import main
from tlsproxy.config import loadFile
from tlsproxy.testing.certificates import NOW

BAD = """\
[[route]]
name = "front"
mode = "passthrough"
listen = "127.0.0.1:1"
require_tls = "yes"

[[route.rule]]
sni = "good.example"
upstream = "ab.example:1"

[[route.rule]]
sni = [
    "a.example",
    "a..b",
]
upstream = "ab.example:1"

[[route.rule]]
client = "192.0.2.0/24"

[[route.rule]]
upstream = "cd.example:1"

[[route.rule]]
snii = "a.example"
refuse = "reset"

[[route]]
name = "back"
mode = "encrypt"
listen = "127.0.0.1:2"
rule = [
    {client = "192.0.2.1", upstream = "ab.example:1"},
    {client = "192.0.2.2", upstream = "unix:/x"},
    {alpn = "h2", refuse = "alert"},
]
upstream_tls.ca = "ca.pem"

[[route]]
name = "tunnel"
mode = "connect"
listen = "127.0.0.1:3"
upstream = "ab.example:1"
users = "nothing"
[route.targets]
allow = [
    "[1]:443",
]
deny = "a:b:c"
dney = "x"
[route.upstream_tls]
ca = "ca.pem"
[[route.rule]]
refuse = "close"

[[route]]
name = "nothing"
mode = "connect"
listen = "127.0.0.1:4"
"""

LINES = [
    (5, "route.require_tls"),
    (12, "route.rule.sni"),
    (18, "route.rule"),
    (24, "route.rule"),
    (25, "route.rule.snii"),
    (26, "route.rule.refuse"),
    (34, "route.rule.upstream"),
    (35, "route.rule.alpn"),
    (35, "route.rule.refuse"),
    (43, "route.upstream"),
    (44, "route.users"),
    (46, "route.targets.allow"),
    (49, "route.targets.deny"),
    (50, "route.targets.dney"),
    (51, "route.upstream_tls"),
    (53, "route.rule"),
    (56, "route.targets.allow"),
]


class LineTests(ConfigurationTestCase):
    """
    Lines and keys.
    """

    def test_allAtOnce(self) -> None:
        """
        All that is wrong is told at once, each with the line of the very rule, list or key.
        """
        problems = self.fileProblems(BAD)
        places = sorted((int(problem.split(":")[0]), problem.split(": ")[1]) for problem in problems)
        self.assertEqual(LINES, places)

    def test_check(self) -> None:
        """
        C{tlsproxy check} tells the same.
        """
        told = io.StringIO()
        self.patch(sys, "stderr", told)
        file = self.file(BAD)
        self.assertEqual(1, main(["check", file]))
        told.seek(0)
        self.assertEqual(
            [(file, line, key) for line, key in LINES],
            sorted((name, int(line), key[1:]) for name, line, key, *_ in (one.split(":") for one in told)),
        )

    def test_brackets(self) -> None:
        """
        A sentence keeps the brackets of what it quotes.
        """
        text = '[[route]]\nmode = "connect"\nlisten = "127.0.0.1:1"\ntargets.allow = "[1]:443"\n'
        (problem,) = self.fileProblems(text)
        self.assertTrue(problem.startswith("4: route.targets.allow: '[1]:443': brackets hold"), problem)

    def test_numbers(self) -> None:
        """
        A key that looks like a position is found as well, and one that looks like a path.
        """
        text = dedent(
            """\
            [[route]]
            mode = "passthrough"
            listen = "127.0.0.1:1"
            [[route.rule]]
            upstream = "ab.example:1"

            7 = 1
            "a.b" = 1
            "c[0]" = 1
            """
        )
        self.assertEqual(
            ["7: route.rule.7", '8: route.rule."a.b"', '9: route.rule."c[0]"'],
            [problem.rpartition(": ")[0] for problem in self.fileProblems(text)],
        )

    def test_good(self) -> None:
        """
        A file of both modes is read; the users' file lies beside it.
        """
        text = dedent(
            """\
            [[route]]
            name = "front"
            mode = "passthrough"
            listen = "127.0.0.1:1"
            [[route.rule]]
            sni = "**.example"
            upstream = "ab.example:1"
            [[route.rule]]
            refuse = "alert"

            [[route]]
            name = "tunnel"
            mode = "connect"
            listen = "192.0.2.1:3"
            users = "below/users.txt"
            [route.targets]
            allow = ["*.example:443"]
            """
        )
        (self.folder / "below").mkdir()
        (self.folder / "users.txt").rename(self.folder / "below" / "users.txt")
        configuration = loadFile(self.file(text), NOW)
        self.assertEqual([2, 0], [len(route.rules) for route in configuration.routes])
        (warning,) = configuration.warnings
        self.assertTrue(warning.startswith("route tunnel: passwords cross the network in clear"), warning)
