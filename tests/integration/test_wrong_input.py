# -*- test-case-name: tests.integration.test_wrong_input -*-
"""
What is wrong ends C{twistd tlsproxy} and C{twist tlsproxy} with a sentence and an exit status: no traceback, no usage
text, nothing left listening, no process left behind.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from tests.integration.running import TWISTD, IntegrationTestCase, freePort, toml, waitUntil
from tlsproxy.settings import MODES

DAEMON = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile=proxy.pid")
TWIST = (sys.executable, "-m", "twisted", "tlsproxy")


class WrongInputTests(IntegrationTestCase):
    """
    Real processes that cannot start.
    """

    def setUp(self) -> None:
        """
        Take a port.
        """
        super().setUp()
        self.holder = socket.socket()
        self.addCleanup(self.holder.close)
        self.holder.bind(("127.0.0.1", 0))
        self.holder.listen()
        self.taken: int = self.holder.getsockname()[1]

    def config(self, *ports: int) -> str:
        """
        Write a configuration with a route on each of these ports.
        """
        routes = [self.offload(1, name=f"r{number}", listen=f"127.0.0.1:{port}") for number, port in enumerate(ports)]
        (self.folder / "proxy.toml").write_text(toml(routes), "utf-8")
        return "proxy.toml"

    def told(self, status: int, *command: str) -> list[str]:
        """
        Run a command that cannot start.

        @param status: Its exit status.
        @return: The lines of its standard error.
        """
        done = self.run_(command, status=status)
        for stream in (done.stdout, done.stderr):
            self.assertNotIn(b"Traceback", stream)
            self.assertNotIn(b"Usage", stream)
        return done.stderr.decode().splitlines()

    def assertFree(self, port: int) -> None:
        """
        Nobody listens on a port, or soon nobody: a daemon removes its pidfile before it is gone.
        """

        def free() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) != 0

        waitUntil(free, f"the end of listening on {port}")

    def test_usage(self) -> None:
        """
        A command line that cannot be understood ends with 2, under C{twistd} as under C{twist}.
        """
        for words, sentence in (
            (("--bogus",), "tlsproxy: there is no option --bogus"),
            (
                ("--mode", "brigde"),
                f"tlsproxy: --mode 'brigde' is not one of {', '.join(MODES)}; do you mean bridge?",
            ),
            ((), f"tlsproxy: say which mode: --mode {'|'.join(MODES)}, or --config FILE.toml"),
        ):
            for program in (TWISTD, TWIST):
                self.assertEqual([sentence], self.told(2, *program, *words))

    def test_configuration(self) -> None:
        """
        A configuration that is bad ends with 1, with all that is wrong.
        """
        self.config(99999, 5)
        with (self.folder / "proxy.toml").open("a") as file:
            file.write("bogus = 1\n")
        for program in (TWISTD, TWIST, (*DAEMON, "tlsproxy")):
            first, second = self.told(1, *program, "--config", "proxy.toml")
            self.assertRegex(first, r"^tlsproxy: proxy.toml:5: route.listen: '127.0.0.1:99999': '99999' is no port")
            self.assertRegex(second, r"^tlsproxy: proxy.toml:\d+: route.tls.bogus: there is no such key$")
        self.assertFree(5)

    def test_taken(self) -> None:
        """
        A port that is taken ends the process with 1 and one sentence, and no other route goes on.
        """
        free = freePort()
        self.config(free, self.taken)
        sentence = f"tlsproxy: cannot listen on 127.0.0.1:{self.taken}: Address already in use"
        pidfile = ("--pidfile=proxy.pid",)
        for program in (TWISTD, (*TWISTD[:-2], *pidfile, TWISTD[-1]), TWIST):
            self.assertEqual([sentence], self.told(1, *program, "--config", "proxy.toml"))
            self.assertFree(free)
        self.assertFalse((self.folder / "proxy.pid").exists())

    def test_takenDaemon(self) -> None:
        """
        A daemon tells the process that starts it, which ends with 1; neither a process nor a pidfile is left.
        """
        free = freePort()
        self.config(free, self.taken)
        told = self.told(1, *DAEMON, "--logfile=log", "tlsproxy", "--config", "proxy.toml")
        self.assertIn(f"cannot listen on 127.0.0.1:{self.taken}", told[0])
        log = (self.folder / "log").read_text()
        self.assertIn(f"cannot listen on 127.0.0.1:{self.taken}: Address already in use", log)
        self.assertNotIn("Traceback", log)
        waitUntil(lambda: not (self.folder / "proxy.pid").exists(), "the removal of the pidfile")
        self.assertFree(free)

    def test_daemon(self) -> None:
        """
        A daemon that can listen does so before the process that starts it ends, and stops when it is told to.
        """
        free = freePort()
        self.config(free)
        self.run_((*DAEMON, "--logfile=log", "tlsproxy", "--config", "proxy.toml"))
        pid = int((self.folder / "proxy.pid").read_text())
        self.addCleanup(self._end, pid)
        with socket.create_connection(("127.0.0.1", free), 5):
            pass
        os.kill(pid, signal.SIGTERM)
        waitUntil(lambda: not (self.folder / "proxy.pid").exists(), "the removal of the pidfile")
        self.assertFree(free)

    def test_stoppedAtOnce(self) -> None:
        """
        A signal that comes before the reactor heeds any waits until it does: nothing is left behind.
        """
        free = freePort()
        self.config(free)
        code = (
            "import os; from twisted.internet import reactor; from twisted.scripts.twistd import run; "
            "heeding = reactor.run; "
            "reactor.run = lambda *a, **k: (os.kill(os.getpid(), 15), heeding(*a, **k)); run()"
        )
        words = ("--pidfile=proxy.pid", "--logfile=log", "tlsproxy", "--config", "proxy.toml")
        self.run_((sys.executable, "-c", code, *words))
        waitUntil(lambda: not (self.folder / "proxy.pid").exists(), "the removal of the pidfile")
        self.assertFree(free)

    def _end(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def test_unixSockets(self) -> None:
        """
        A Unix socket that somebody listens on is left to them; one that nobody does makes room, and is removed at the
        end.
        """
        # The folder of the test may be too deep for the path of a Unix socket.
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        path = f"{short.name}/s"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            config = self.folder / "unix.toml"
            config.write_text(toml([self.offload(1, name="u", listen=f"unix:{path}")]), "utf-8")
            (told,) = self.told(1, *TWISTD, "--config", "unix.toml")
            self.assertEqual(f"tlsproxy: cannot listen on unix:{path}: Address already in use", told)
        proxy = self.proxy(self.offload(1, listen=f"unix:{path}"))
        proxy.end()
        self.assertFalse(Path(path).exists())
