# -*- test-case-name: tests.integration.test_log -*-
"""
The log goes where it is told to, as it is told to, and the proxy serves on whatever becomes of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.running import PATIENCE, TWISTD, IntegrationTestCase, freePort, toml, waitUntil
from tests.integration.talking import Server, clientContext, connect, echo
from tlsproxy.repeats import LINES

TWIST = (sys.executable, "-c", "from twisted.application.twist._twist import Twist; Twist.main()", "tlsproxy")
DAEMON = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile=twistd.pid", "tlsproxy")


class LogTests(IntegrationTestCase):
    """
    The process and its log.
    """

    def setUp(self) -> None:
        """
        Have something to serve, at a port that does not have to be read in the log.
        """
        super().setUp()
        self.server = Server(self, echo)
        self.port = freePort()

    def start(
        self, proxy: str, program: Sequence[str] = TWISTD, stdout: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """
        Start it, and wait until it serves.

        @param proxy: What C{[proxy]} says.
        """
        route = self.offload(self.server.port, name="shop", listen=f"127.0.0.1:{self.port}")
        (self.folder / "config.toml").write_text(f"[proxy]\n{proxy}\n{toml([route])}")
        with (self.folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*program, "--config", "config.toml"], cwd=self.folder, stdout=stdout, stderr=stderr
            )
        self.addCleanup(self._end, process)
        waitUntil(self._served, "the proxy")
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()

    def _served(self) -> bool:
        try:
            self.talk()
        except ConnectionRefusedError:
            return False
        return True

    def talk(self, count: int = 1) -> None:
        """
        Be served.
        """
        for _ in range(count):
            client = connect(self, self.port, clientContext(self.certificates.ca))
            client.send(b"word")
            self.assertEqual(b"word", client.read(4))
            client.endWrite()
            self.assertEqual(b"", client.readAll())
            client.close()

    def objects(self, file: str = "proxy.log") -> list[dict[str, Any]]:
        """
        Read a log of JSON: whole lines.
        """
        path = self.folder / file
        text = path.read_text("ascii") if path.exists() else ""
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def closed(self, file: str = "proxy.log") -> list[dict[str, Any]]:
        """
        Find the sessions in it that went well.
        """
        return [one for one in self.objects(file) if one.get("outcome") == "closed"]

    def stop(self, process: subprocess.Popen[bytes], pid: int = 0) -> None:
        """
        End it as an operator does.
        """
        os.kill(pid or process.pid, signal.SIGTERM)
        process.wait(PATIENCE)

    def test_JSON(self) -> None:
        """
        One object a line, from the first to the last, for what Twisted says as well, however it is run; and nothing is
        anywhere else.
        """
        for program in (TWISTD, TWIST):
            process = self.start('log = "proxy.log"\nlog_format = "json"', program, subprocess.PIPE)
            self.talk(3)
            waitUntil(lambda: len(self.closed()) >= 4, "the sessions")
            self.stop(process)
            self.assertEqual((b"", ""), (process.communicate()[0], (self.folder / "stderr").read_text()))
            objects = self.objects()
            session = self.closed()[-1]
            self.assertEqual(
                ("session", "info", "shop", "localhost", "TLSv1.3", 4, 4),
                tuple(session[key] for key in ("event", "level", "route", "sni", "tls_version", "in", "out")),
            )
            self.assertRegex(session["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual(1, sum(one.get("how") == "listens on" for one in objects))
            self.assertIn("Main loop terminated.", [one["message"] for one in objects if one["event"] == "log"])
            self.assertEqual([], list(self.folder.glob("twistd.log*")))
            (self.folder / "proxy.log").unlink()

    def test_text(self) -> None:
        """
        Text has the form of C{twistd}'s own log, on any stream.
        """
        process = self.start('log = "stdout"', stdout=subprocess.PIPE)
        self.talk()
        self.stop(process)
        lines = process.communicate()[0].decode().splitlines()
        form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[^]]+\] "
        self.assertEqual([], [line for line in lines if not re.match(form, line)])
        session = form + r"shop client=127\.0\.0\.1:\d+ sni=localhost .* outcome=closed$"
        self.assertEqual(2, len([line for line in lines if re.match(session, line)]))

    def test_daemon(self) -> None:
        """
        A daemon goes on in a new file after the old one was moved away.
        """
        parent = self.start('log = "proxy.log"\nlog_format = "json"', DAEMON)
        pid = int(waitUntil(lambda: (self.folder / "twistd.pid").read_text(), "the pid"))
        self.addCleanup(self._kill, pid)
        self.assertEqual(0, parent.wait(PATIENCE))
        log, old = self.folder / "proxy.log", self.folder / "proxy.log.1"
        log.rename(old)

        def moved() -> bool:
            self.talk()
            return len(self.closed()) > 0

        waitUntil(moved, "the new file")
        self.assertTrue(self.closed("proxy.log.1"))
        self.assertEqual([], list(self.folder.glob("twistd.log*")))
        os.kill(pid, signal.SIGTERM)
        waitUntil(lambda: not (self.folder / "twistd.pid").exists(), "the end")

    def _kill(self, pid: int) -> None:
        if (self.folder / "twistd.pid").exists():
            os.kill(pid, signal.SIGKILL)

    def test_hangUp(self) -> None:
        """
        C{SIGHUP} has the log go on in a new file, whether or not there is anything to tell there yet.
        """
        process = self.start('log = "proxy.log"\nlog_format = "json"')
        log = self.folder / "proxy.log"
        log.rename(self.folder / "proxy.log.1")
        process.send_signal(signal.SIGHUP)
        waitUntil(log.exists, "the new file")
        self.talk()
        waitUntil(self.closed, "the session")
        self.stop(process)

    def test_stalled(self) -> None:
        """
        Whoever reads the log and stops to do so stops nobody; what was lost is told afterward.
        """
        process = self.start('log = "stdout"\nlog_format = "json"', stdout=subprocess.PIPE)
        assert process.stdout is not None
        # Some 64 KiB fit into the pipe.
        self.talk(200)
        os.set_blocking(process.stdout.fileno(), False)
        before = process.stdout.read()
        self.talk()
        after = waitUntil(process.stdout.read, "the log")
        lines = [json.loads(line) for line in (before + after).splitlines() if _isWhole(line)]
        lost = [one for one in lines if "lost" in one]
        self.assertEqual(1, len(lost), after)
        self.assertTrue(10 < lost[0]["lost"] < 200, lost)
        self.assertEqual("its reader does not keep up", lost[0]["reason"])
        self.stop(process)
        self.assertEqual(
            "tlsproxy: lines of the log are lost: its reader does not keep up\n", (self.folder / "stderr").read_text()
        )

    def test_full(self) -> None:
        """
        On a full disk the proxy serves on, and says so once.
        """
        process = self.start('log = "/dev/full"')
        self.talk(20)
        self.stop(process)
        self.assertEqual(
            "tlsproxy: lines of the log are lost: No space left on device\n", (self.folder / "stderr").read_text()
        )

    def test_flood(self) -> None:
        """
        A flood of bad handshakes leaves a few lines, and how many there were; who is served has a line each.
        """
        process = self.start('log = "proxy.log"\nlog_format = "json"')
        for _ in range(300):
            client = connect(self, self.port)
            client.send(b"garbage\r\n")
            client.readAll()
            client.close()
        self.talk(30)
        waitUntil(lambda: len(self.closed()) >= 31, "the sessions")
        self.stop(process)
        refused = [one for one in self.objects() if one.get("outcome") == "refused"]
        told = [one for one in refused if one["event"] == "session"]
        repeated = [one for one in refused if one["event"] == "repeated"]
        self.assertEqual(300, len(told) + sum(one["repeated"] for one in repeated))
        # It may take longer than one span on a slow machine.
        self.assertTrue(LINES <= len(told) <= LINES + 3, len(told))
        self.assertEqual({"the client does not speak TLS"}, {one["reason"] for one in repeated})
        self.assertEqual({1}, {one["addresses"] for one in repeated})

    def test_refused(self) -> None:
        """
        A log that cannot be is told before anything starts, and starts nothing.
        """
        for words, status, sentence in (
            (["--log", "none/proxy.log"], 1, "there is no folder"),
            (["--log", "syslog:lokal0"], 1, "is no facility of syslog"),
            (["--log-format", "xml"], 1, "is not one of"),
        ):
            done = self.run_([*TWISTD, "--mode", "offload", "--state-dir", "state", *words], status=status)
            (line,) = done.stderr.decode().splitlines()
            self.assertTrue(line.startswith(f"tlsproxy: {words[0]}: ") and sentence in line, line)
        program = [part if part != "-n" else "--logfile=x" for part in TWISTD]
        done = self.run_([*program, "--mode", "offload", "--state-dir", "state", "--log", "y"], status=1)
        self.assertIn(b"tlsproxy: --log: twistd is told how to log by its own --logfile: leave one", done.stderr)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(self.folder / "socket"))
        routes = toml([self.offload(1, name="web", listen="127.0.0.1:0")])
        (self.folder / "config.toml").write_text(f'[proxy]\nlog = "socket"\n{routes}')
        done = self.run_([*TWISTD, "--config", "config.toml"], status=1)
        self.assertEqual(
            f"tlsproxy: config.toml:2: proxy.log: {self.folder}/socket: No such device or address\n",
            done.stderr.decode(),
        )
        self.assertEqual([], [path for path in ("x", "y", "twistd.log") if Path(self.folder, path).exists()])


def _isWhole(line: bytes) -> bool:
    return line.startswith(b"{") and line.endswith(b"}")
