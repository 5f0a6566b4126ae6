# -*- test-case-name: tests.test_cli -*-
"""
The C{tlsproxy} tool.
"""

from __future__ import annotations

import io
import os
import sys

from tests.configuring import ConfigurationTestCase
from tlsproxy import __version__
from tlsproxy.cli import main
from tlsproxy.testing.certificates import write

GOOD = """\
[[route]]
name = "shop"
mode = "offload"
listen = "127.0.0.1:8443"
upstream = "127.0.0.1:8080"
tls.cert = "server.pem"
"""


class ToolTests(ConfigurationTestCase):
    """
    The commands and their exit statuses.
    """

    def setUp(self) -> None:
        """
        Go to the folder.
        """
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        # Its certificates are valid at the time of the tests of the day, so they are made anew.
        self.assertEqual((0, 5, ""), self.counted("devcert", "made"))

    def run_(self, *words: str) -> tuple[int, str, str]:
        """
        Run the tool.

        @return: Its exit status, and what it printed on either stream.
        """
        printed, told = io.StringIO(), io.StringIO()
        with_ = self.patch(sys, "stdout", printed), self.patch(sys, "stderr", told)
        try:
            status = main(words)
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 0
        finally:
            for one in with_:
                one.restore()
        return status, printed.getvalue(), told.getvalue()

    def counted(self, *words: str) -> tuple[int, int, str]:
        """
        Run the tool.

        @return: Its exit status, how many lines it printed, and what it complained of.
        """
        status, printed, told = self.run_(*words)
        return status, len(printed.splitlines()), told

    def test_checkGood(self) -> None:
        """
        A good file is called good, with its routes.
        """
        self.file(GOOD.replace("server.pem", "both.pem"))
        write("both.pem", *((self.folder / "made" / name).read_bytes() for name in ("server.pem", "server-key.pem")))
        self.assertEqual((0, "proxy.toml: good: shop\n", ""), self.run_("check", "proxy.toml"))

    def test_checkWarnings(self) -> None:
        """
        What is doubtful is told on the other stream, and the file is good all the same.
        """
        self.file(GOOD.replace("server.pem", "both.pem"))
        write(
            "both.pem",
            *((self.folder / "made" / name).read_bytes() for name in ("server.pem", "server-key.pem")),
            mode=0o644,
        )
        status, printed, told = self.run_("check", "proxy.toml")
        self.assertEqual((0, "proxy.toml: good: shop\n"), (status, printed))
        self.assertRegex(told, r"^proxy.toml:1: warning: route shop: .*both.pem holds a private key and is open .*\n$")

    def test_checkWarningOfTheProcess(self) -> None:
        """
        What is doubtful about the whole process is told with the line of its key.
        """
        (self.folder / "made" / "both.pem").write_bytes(
            b"".join((self.folder / "made" / name).read_bytes() for name in ("server.pem", "server-key.pem"))
        )
        (self.folder / "made" / "both.pem").chmod(0o600)
        self.file('[proxy]\ndrain = 5\nstatus = "0.0.0.0:0"\n' + GOOD.replace("server.pem", "made/both.pem"))
        status, _, told = self.run_("check", "proxy.toml")
        self.assertEqual(0, status)
        self.assertRegex(told, r"^proxy.toml:3: warning: status: whoever reaches 0\.0\.0\.0:0 sees .*\n$")

    def test_checkBad(self) -> None:
        """
        All that is wrong is told, each with file, line and key, and nothing else.
        """
        self.file(GOOD.replace("8443", "84430").replace("server.pem", "nothing.pem"))
        status, printed, told = self.run_("check", "proxy.toml")
        self.assertEqual((1, ""), (status, printed))
        listen, cert = told.splitlines()
        self.assertTrue(listen.startswith("proxy.toml:4: route.listen: '127.0.0.1:84430': "), told)
        self.assertTrue(cert.startswith("proxy.toml:6: route.tls.cert: "), told)

    def test_checkEndpoint(self) -> None:
        """
        A file for programs is checked as they have it, and where nothing else is wrong, that is what is told.
        """
        write("both.pem", *((self.folder / "made" / name).read_bytes() for name in ("server.pem", "server-key.pem")))
        text = GOOD.replace("server.pem", "both.pem").replace('upstream = "127.0.0.1:8080"\n', "")
        self.file(text)
        self.assertEqual((0, "proxy.toml: good: shop\n", ""), self.run_("check", "--endpoint", "shop", "proxy.toml"))
        status, printed, told = self.run_("check", "proxy.toml")
        self.assertEqual((1, ""), (status, printed))
        self.assertEqual(
            [
                "proxy.toml:1: route.upstream: say what to dial, as in HOST:PORT",
                "proxy.toml: it is good for programs that use tlsproxy:FILE:NAME as an endpoint; for these, give check "
                "--endpoint NAME",
            ],
            told.splitlines(),
        )
        status, printed, told = self.run_("check", "--endpoint", "blog", "proxy.toml")
        self.assertEqual(
            (1, "", "proxy.toml: there is no route 'blog'; its routes are: shop\n"), (status, printed, told)
        )
        self.file(text.replace("8443", "x"))
        for words in (("check", "proxy.toml"), ("check", "--endpoint", "shop", "proxy.toml")):
            status, printed, told = self.run_(*words)
            self.assertEqual((1, "", False), (status, printed, "it is good" in told))

    def test_checkMissing(self) -> None:
        """
        A file that is not there is bad.
        """
        self.assertEqual((1, "", "nothing.toml: No such file or directory\n"), self.run_("check", "nothing.toml"))

    def test_checkHandlers(self) -> None:
        """
        Handlers are checked like all else.
        """
        self.file(
            '[[route]]\nmode = "passthrough"\nlisten = "127.0.0.1:8443"\nupstream = "a.example:443"\n'
            '[[route.handler]]\nname = "rate"\nup = "fast"\n[[route.handler]]\nname = "starttls-smtp"\n'
        )
        self.assertEqual(
            (
                1,
                "",
                "proxy.toml:7: route.handler.up: give a whole number, not the string 'fast'\n"
                "proxy.toml:9: route.handler.name: "
                "mode passthrough starts no TLS, and handler starttls-smtp wants to\n",
            ),
            self.run_("check", "proxy.toml"),
        )

    def test_usage(self) -> None:
        """
        A command line that cannot be understood ends with status 2 and one sentence.
        """
        for words in (
            (),
            ("cheque",),
            ("check",),
            ("check", "a", "b"),
            ("devcert",),
            ("--bogus",),
            ("check", "-x", "a"),
            ("passwd",),
            ("passwd", "alice", "open sesame"),
        ):
            status, printed, told = self.run_(*words)
            self.assertEqual((2, ""), (status, printed), words)
            self.assertRegex(told, r"^tlsproxy.*: .*; see tlsproxy.* --help\n$")

    def test_nobodyReads(self) -> None:
        """
        Whoever stops reading, as C{head} does, causes no traceback, nor anything else at the exit.
        """
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "w") as gone:
            patched = self.patch(sys, "stdout", gone)
            try:
                self.assertEqual(1, main(["handlers"]))
                print("more", flush=True)
            finally:
                patched.restore()

    def test_full(self) -> None:
        """
        That what is printed cannot be written is told, and causes no traceback, nor anything else at the exit.
        """
        told = io.StringIO()
        with open("/dev/full", "w") as full:
            patched = self.patch(sys, "stdout", full), self.patch(sys, "stderr", told)
            try:
                self.assertEqual(1, main(["handlers"]))
                print("more", flush=True)
            finally:
                for one in patched:
                    one.restore()
        self.assertEqual("tlsproxy: the standard output cannot be written: No space left on device\n", told.getvalue())

    def test_help(self) -> None:
        """
        The help names the commands, and each command's help what it does.
        """
        status, printed, told = self.run_("--help")
        self.assertEqual((0, ""), (status, told))
        for command in ("check", "devcert", "passwd"):
            self.assertIn(command, printed)
            self.assertEqual((0, ""), self.run_(command, "--help")[::2])

    def test_version(self) -> None:
        """
        The version is tlsproxy's.
        """
        self.assertEqual((0, f"tlsproxy {__version__.public()}\n", ""), self.run_("--version"))
