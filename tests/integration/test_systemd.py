# -*- test-case-name: tests.integration.test_systemd -*-
"""
Under systemd: its sockets are used and left alone, and it is told how the process is.

There is no systemd here.  C{systemd-socket-activate} hands over sockets in its place, and a socket stands for what it
listens on.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.integration.running import PATIENCE, TOOL, TWISTD, Child, IntegrationTestCase, freePort, toml, waitUntil
from tests.peers import requirePeer

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "systemd"


class SystemdTests(IntegrationTestCase):
    """
    The proxy with what systemd gives it.
    """

    def setUp(self) -> None:
        """
        Have an upstream that greets, and what stands for systemd.
        """
        super().setUp()
        # The path of a socket is short.
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        self.short = Path(short.name)
        self.port = freePort()
        self.upstream = freePort()
        self.nginx(f"server {{ listen 127.0.0.1:{self.upstream}; return 200 here; }}")
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.settimeout(PATIENCE)

    def route(self, name: str, listen: str) -> dict[str, object]:
        """
        A route.
        """
        return {**self.passthrough(self.upstream), "require_tls": False, "name": name, "listen": listen}

    def start(self, *routes: dict[str, object], listen: Sequence[str], names: str, notify: str = "") -> Child:
        """
        Start the proxy with sockets, and connect to the first so that it is started indeed.
        """
        self.config(*routes)
        activate = [requirePeer("systemd-socket-activate"), *(f"--listen={one}" for one in listen)]
        activate += [f"--fdname={names}"] if names else []
        activate += [f"-ENOTIFY_SOCKET={notify}", "-EWATCHDOG_USEC=400000"] if notify else []
        child = Child(self, self.folder, "systemd", [*activate, *TWISTD, "--config", "config.toml"])
        child.waitFor("Listening on .* as 3")
        return child

    def config(self, *routes: dict[str, object]) -> None:
        """
        Write the configuration.
        """
        new = self.folder / "new.toml"
        new.write_text("[proxy]\nwatch = false\ndrain = 0.2\n" + toml(routes))
        os.replace(new, self.folder / "config.toml")

    def fetch(self, where: int | str) -> None:
        """
        Connect, and get the answer.
        """
        client = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
        with client:
            client.settimeout(PATIENCE)
            client.connect(("127.0.0.1", where) if isinstance(where, int) else where)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.assertTrue(b"".join(iter(lambda: client.recv(65536), b"")).endswith(b"here"))

    def test_sockets(self) -> None:
        """
        A TCP socket is taken by its name and a Unix socket by its index; the Unix socket is as it was when the proxy
        has stopped.
        """
        path = self.short / "s"
        child = self.start(
            self.route("web", "systemd:domain=INET:name=web"),
            self.route("local", "systemd:domain=UNIX:index=1"),
            listen=[f"127.0.0.1:{self.port}", str(path)],
            names="web:local",
        )
        path.chmod(0o600)
        before = path.stat()
        self.fetch(self.port)
        self.fetch(str(path))
        self.assertEqual(0, child.end(), child.text())
        after = path.stat()
        self.assertEqual((before.st_ino, stat.S_IMODE(before.st_mode)), (after.st_ino, stat.S_IMODE(after.st_mode)))

    def test_again(self) -> None:
        """
        A socket that no route has any more is still there when one wants it again.
        """
        listen = "systemd:domain=INET:name=web"
        child = self.start(self.route("web", listen), listen=[f"127.0.0.1:{self.port}"], names="web")
        self.fetch(self.port)
        for turn, routes in enumerate(([self.route("other", "127.0.0.1:0")], [self.route("web", listen)]) * 2, 1):
            self.config(*routes)
            child.process.send_signal(signal.SIGHUP)
            waitUntil(lambda: child.text().count("] reloaded: ") == turn, f"reload {turn}")  # noqa: B023
        self.fetch(self.port)
        self.assertEqual(0, child.end(), child.text())

    def test_wrong(self) -> None:
        """
        A socket that is not there, or another than was meant, is told.
        """
        for listen, sentence in (
            ("systemd:domain=INET:name=wbe", "systemd has not handed over such a socket"),
            ("systemd:domain=INET6:index=0", "systemd has handed over a socket of domain INET there"),
        ):
            child = self.start(self.route("web", listen), listen=[f"127.0.0.1:{self.port}"], names="web")
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE):
                self.assertEqual(1, child.process.wait(PATIENCE), child.text())
            self.assertIn(f"tlsproxy: cannot listen on {listen}: {sentence}\n", child.text())

    def hears(self, *words: str) -> None:
        """
        Wait until something is told.
        """
        while True:
            told = self.systemd.recv(4096).decode().split("\n")
            if all(any(re.fullmatch(word, one) for one in told) for word in words):
                return

    def test_notify(self) -> None:
        """
        It is told when the proxy is ready, is alive, reloads and stops, by a name in the file system or without one.
        """
        for address in (str(self.short / "n"), f"\0tlsproxy-{os.getpid()}"):
            self.systemd.close()
            self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.systemd.settimeout(PATIENCE)
            self.systemd.bind(address)
            child = self.start(
                self.route("web", "systemd:domain=INET:index=0"),
                listen=[f"127.0.0.1:{self.port}"],
                names="web",
                notify=address.replace("\0", "@"),
            )
            self.fetch(self.port)
            self.hears("READY=1", "STATUS=serves 1 route")
            self.hears("WATCHDOG=1")
            self.hears("WATCHDOG=1")
            child.process.send_signal(signal.SIGHUP)
            self.hears("RELOADING=1", r"MONOTONIC_USEC=\d+")
            self.hears("READY=1", "STATUS=serves 1 route")
            (self.folder / "config.toml").write_text("[[route]]\nmode = 'x'\n")
            child.process.send_signal(signal.SIGHUP)
            self.hears("READY=1", "STATUS=serves 1 route of before the last reload, which failed: .*config.toml:2: .*")
            self.assertEqual(0, child.end(), child.text())
            self.hears("STOPPING=1", "STATUS=stopping, no session is open", r"EXTEND_TIMEOUT_USEC=10200000")

    def test_example(self) -> None:
        """
        The units are good in the eyes of C{systemd-analyze}, and what they start serves on what they listen on.
        """
        self.run_([*TOOL, "devcert", "certs"])
        for file in EXAMPLE.iterdir():
            text = file.read_text()
            program = self.folder / "twistd"
            program.write_text(f'#!/bin/sh\nexec {shlex.join(TWISTD[:3])} "$@"\n')
            program.chmod(0o755)
            text = text.replace("/opt/tlsproxy/bin/twistd", str(program))
            text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.upstream}")
            (self.folder / file.name).write_text(text.replace("/etc/tlsproxy/", f"{self.folder}/"))
        units = [str(self.folder / f"tlsproxy.{kind}") for kind in ("service", "socket")]
        verified = self.run_([requirePeer("systemd-analyze"), "verify", "--man=no", *units])
        self.assertEqual(b"", verified.stderr)
        command = re.findall(r"^ExecStart=(.*)$", Path(units[0]).read_text(), re.MULTILINE)
        listens = re.findall(r"^ListenStream=(.*)$", Path(units[1]).read_text(), re.MULTILINE)
        self.assertEqual(2, len(listens))
        path = self.short / "s"
        activate = [requirePeer("systemd-socket-activate"), f"--listen=[::]:{self.port}", f"--listen={path}"]
        child = Child(
            self, self.folder, "example", [*activate, "--fdname=tlsproxy.socket:tlsproxy.socket", *command[0].split()]
        )
        child.waitFor("Listening on .* as 4")
        curl = ["curl", "--silent", "--show-error", "--cacert", "certs/ca.pem", f"https://localhost:{self.port}/"]
        self.assertEqual(b"here", self.run_(curl).stdout)
        self.assertEqual(0, child.end(), child.text())
        self.assertTrue(path.exists())
