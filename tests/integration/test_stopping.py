# -*- test-case-name: tests.integration.test_stopping -*-
"""
The end of the process: it lets nobody in any more, waits for those who are there, and its exit status tells whether
somebody had to be cut.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Sequence

from tests.integration.running import PATIENCE, TWISTD, Child, IntegrationTestCase, freePort, toml, waitUntil

TWIST = (sys.executable, "-m", "twisted", "--log-format=text", "tlsproxy")
DAEMON = (*TWISTD[:3], "--pidfile=proxy.pid", "--logfile=log", "tlsproxy")


class StoppingTests(IntegrationTestCase):
    """
    A proxy with a session that stops.
    """

    def setUp(self) -> None:
        """
        Have an upstream that says nothing.
        """
        super().setUp()
        self.upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.upstream.close)
        self.upstream.settimeout(PATIENCE)
        self.port = freePort()

    def words(self, *more: str) -> list[str]:
        """
        A command line.
        """
        far = f"--upstream=127.0.0.1:{self.upstream.getsockname()[1]}"
        return ["--mode=passthrough", "--require-tls=false", f"--listen=127.0.0.1:{self.port}", far, *more]

    def start(self, *more: str, program: Sequence[str] = TWISTD) -> Child:
        """
        Start the proxy.
        """
        child = Child(self, self.folder, "proxy", [*program, *self.words(*more)])
        child.waitFor("listens on")
        return child

    def session(self) -> tuple[socket.socket, socket.socket]:
        """
        Have a session.

        @return: Its client and its upstream.
        """
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.addCleanup(client.close)
        far, _ = self.upstream.accept()
        self.addCleanup(far.close)
        far.settimeout(PATIENCE)
        self.speak(client, far)
        return client, far

    def speak(self, client: socket.socket, far: socket.socket) -> None:
        """
        See that bytes pass in both directions.
        """
        client.sendall(b"ping")
        self.assertEqual(b"ping", far.recv(100))
        far.sendall(b"pong")
        self.assertEqual(b"pong", client.recv(100))

    def test_drain(self) -> None:
        """
        After either signal nobody is let in, who is there is served to the end, and the exit status is 0, by either
        runner.
        """
        for program in (TWISTD, TWIST):
            for asking in (signal.SIGTERM, signal.SIGINT):
                child = self.start(program=program)
                client, far = self.session()
                child.process.send_signal(asking)
                child.waitFor("stopping: waits up to 30 s for 1 session$")
                waitUntil(self._refused, "the end of listening")
                self.speak(client, far)
                client.close()
                self.assertEqual(b"", far.recv(1))
                far.close()
                self.assertEqual(0, child.process.wait(PATIENCE), child.text())
                self.assertIn("stopped: all sessions ended by themselves", child.text())
                self.assertNotIn("Traceback", child.text())

    def _refused(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False

    def test_late(self) -> None:
        """
        Who is there longer than it waits is reset, and the exit status is 1, by either runner.
        """
        for program in (TWISTD, TWIST):
            child = self.start("--drain=0.3", program=program)
            client, far = self.session()
            child.process.send_signal(signal.SIGTERM)
            for one in (client, far):
                self.assertRaises(ConnectionResetError, one.recv, 1)
            self.assertEqual(1, child.process.wait(PATIENCE), child.text())
            self.assertIn("stopped: 1 session had to be cut", child.text())

    def test_again(self) -> None:
        """
        A second signal cuts at once who is there.
        """
        child = self.start("--drain=600")
        client, _ = self.session()
        child.process.send_signal(signal.SIGTERM)
        child.waitFor("stopping: waits up to 600 s")
        child.process.send_signal(signal.SIGTERM)
        self.assertRaises(ConnectionResetError, client.recv, 1)
        self.assertEqual(1, child.process.wait(PATIENCE), child.text())

    def test_lateSignals(self) -> None:
        """
        Signals change nothing any more when all is over, up to the very end, also where there are threads.
        """
        config = self.folder / "late.toml"
        config.write_text(toml([self.offload(1, name="late", listen="127.0.0.1:0")]), "utf-8")
        for number in range(8):
            child = Child(self, self.folder, f"late{number}", [*TWISTD, "--config", "late.toml"])
            child.waitFor("listens on")
            os.kill(child.process.pid, signal.SIGHUP)  # It is read in a thread.
            child.waitFor("reloaded")
            os.kill(child.process.pid, signal.SIGTERM)
            while child.process.poll() is None:
                child.process.send_signal(signal.SIGINT)
                time.sleep(0.001)
            self.assertEqual(0, child.process.returncode, child.text())

    def test_setUp(self) -> None:
        """
        A client of whom nothing is known yet may go on, too.
        """
        tls = ("--mode=offload", f"--listen=127.0.0.1:{self.port}", f"--cert={self.pem}", *self.words()[3:])
        child = Child(self, self.folder, "proxy", [*TWISTD, *tls])
        child.waitFor("listens on")
        descriptors = f"/proc/{child.process.pid}/fd"
        before = len(os.listdir(descriptors))
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.addCleanup(plain.close)
        waitUntil(lambda: len(os.listdir(descriptors)) > before, "its connection")
        child.process.send_signal(signal.SIGTERM)
        child.waitFor("stopping: waits up to 30 s for 1 session$")
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        client = context.wrap_socket(plain, server_hostname="localhost")
        self.addCleanup(client.close)
        far, _ = self.upstream.accept()
        self.addCleanup(far.close)
        far.settimeout(PATIENCE)
        self.speak(client, far)
        far.close()
        self.assertEqual(b"", client.recv(1))
        client.close()
        self.assertEqual(0, child.process.wait(PATIENCE), child.text())

    def test_unix(self) -> None:
        """
        A Unix socket of ours is gone from the file system.
        """
        path = self.folder / "s"
        child = Child(
            self,
            self.folder,
            "proxy",
            [*TWISTD, "--mode=passthrough", f"--listen=unix:{os.path.relpath(path, self.folder)}", self.words()[3]],
        )
        child.waitFor("listens on")
        self.assertTrue(path.exists())
        self.assertEqual(0, child.end(), child.text())
        self.assertFalse(path.exists())

    def test_daemon(self) -> None:
        """
        A daemon ends so, too: it has removed its pidfile.
        """
        self.run_((*DAEMON, *self.words("--drain=0.3")))
        pidfile = self.folder / "proxy.pid"
        pid = int(pidfile.read_text())
        client, _ = self.session()
        os.kill(pid, signal.SIGTERM)
        self.assertRaises(ConnectionResetError, client.recv, 1)
        waitUntil(lambda: not pidfile.exists(), "the removal of the pidfile")
        waitUntil(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
        self.assertIn("1 session had to be cut", (self.folder / "log").read_text())
