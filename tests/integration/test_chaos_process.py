# -*- test-case-name: tests.integration.test_chaos_process -*-
"""
What the system does to the proxy: no descriptors, no room on the disk of its log, no answer of the name server.  It
goes on with what it has, and once there is more again, so does all else.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from unittest import SkipTest

from OpenSSL import SSL

from tests.integration.chaos import NEAR_TLS, ChaosTestCase, ignoring
from tests.integration.chromium import overlay
from tests.integration.namespace import NamespaceTestCase
from tests.integration.running import PATIENCE, TWISTD, Child, Proxy, toml, waitUntil
from tests.integration.talking import Talker, clientContext, connect, echo
from tests.integration.test_splice_moves_bytes import FULL
from tests.peers import requirePeer

FEW = 48
"""How many descriptors a proxy has that is short of them."""

SILENT = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("hears", flush=True)
while True:
    server.recv(1000)
"""
"""A name server that never answers."""


def ask(client: Talker) -> None:
    """
    Ask, hear the echo, and end.
    """
    client.send(b"question")
    assert client.read(8) == b"question"
    client.endWrite()
    client.readAll()
    client.close()


class NoDescriptorsTests(ChaosTestCase):
    """
    A proxy that has run out of descriptors, in the modes that speak TLS with their clients.
    """

    modes = NEAR_TLS

    def test_clients(self) -> None:
        """
        Clients that say nothing take the last of them: sessions that stand go on, the proxy does not spin, and it
        serves again as soon as they leave.
        """
        self.start(["/bin/sh", "-c", f'ulimit -n {FEW} && exec "$0" "$@"'], limits={"hello": PATIENCE})
        kept = [self.open(mode) for mode in self.modes]
        silent = [connect(self, self.through.port(self.modes[number % 2])) for number in range(FEW)]
        # Each of them might need one for its upstream, so those who are accepted are about half as many.
        waitUntil(lambda: FULL in self.through.text(), "the end of the descriptors")
        for client in kept:
            client.send(b"question")
            self.assertEqual(b"question", client.read(8))
        before = self.cpu()
        time.sleep(1)
        self.assertLess(self.cpu() - before, 0.5)
        for client in silent:
            client.close()

        def served() -> bool:
            try:
                ask(self.open("offload"))
            except (AssertionError, OSError, SSL.Error):
                return False
            return True

        waitUntil(served, "a good client to be served")
        for client in kept:
            client.send(b"question")
            self.assertEqual(b"question", client.read(8))
            client.endWrite()
            self.assertEqual((b"", "ended"), (client.readAll(), client.how))
            client.close()
        waitUntil(lambda: self.through.descriptors() <= self.descriptors, "the end of all descriptors")
        lines = self.through.sessions()[2:]
        strange = [one for one in lines if (one["outcome"], one["phase"]) not in (("closed", ""), ("ended", "hello"))]
        self.assertEqual([], strange)
        self.assertEqual(3, sum(one["outcome"] == "closed" for one in lines))
        self.assertLessEqual(len(lines), len(silent) + 3)

    def cpu(self) -> float:
        """
        Tell how much processor time the proxy has had, in seconds.
        """
        words = Path(f"/proc/{self.through.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class FileProxy(Proxy):
    """
    A proxy that logs to a file system of its own.
    """

    @property
    def logs(self) -> Path:
        """
        Where that is found from outside.
        """
        return Path(f"/proc/{self.process.pid}/root{self._output.parent}/logs")

    def text(self) -> str:
        """
        What it has logged so far; before that, and after its end, what it has printed.
        """
        try:
            return (self.logs / "proxy.log").read_text("utf-8", "backslashreplace")
        except OSError:
            return super().text()


class FullDiskTests(ChaosTestCase):
    """
    A log on a disk that fills up.
    """

    def test_full(self) -> None:
        """
        Sessions go on without a line; once there is room, they have their lines again, and nothing else has happened.
        """
        (self.folder / "logs").mkdir()
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        script = 'mount -t tmpfs -o size=64k tmpfs logs && exec "$@"'
        prefix = [requirePeer("unshare"), *user, "--mount", "--", "/bin/sh", "-c", script, "sh"]
        tried = Child(self, self.folder, "tried", [*prefix, "true"])
        if tried.process.wait(PATIENCE):
            if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
                raise AssertionError(tried.text())
            raise SkipTest(f"this user may mount nothing: {tried.text()}")
        config = self.folder / "config.toml"
        config.write_text(toml([{"name": "offload", "listen": "127.0.0.1:0", **self.offload(self.plain.port)}]))
        program = [*TWISTD[:-1], "--logfile", "logs/proxy.log", TWISTD[-1]]
        self.through = FileProxy(self, self.folder, config, 1, prefix, program)
        base = self.through.descriptors()
        ask(self.open("offload"))
        self.through.session()
        filler = self.through.logs / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1000))
            except OSError:
                pass
        for _ in range(30):
            ask(self.open("offload"))
        # The last of them has had its chance of a line.
        waitUntil(lambda: self.through.descriptors() <= base, "the end of all descriptors")
        told = len(self.through.sessions())
        self.assertLess(told, 31)
        filler.unlink()
        for _ in range(3):
            ask(self.open("offload"))
        waitUntil(lambda: len(self.through.sessions()) >= told + 3, "lines")
        self.assertEqual(told + 3, len(self.through.sessions()))
        self.assertEqual({"closed"}, {line["outcome"] for line in self.through.sessions()})
        waitUntil(lambda: self.through.descriptors() <= base, "the end of all descriptors")


class NoNamesTests(NamespaceTestCase):
    """
    A name server that never answers.
    """

    def test_silent(self) -> None:
        """
        Who has to wait for a name waits until the limit, is told so, and keeps nobody waiting whose upstream has none.
        """
        deaf = Child(self, self.folder, "deaf", [*self.inside, sys.executable, "-c", SILENT])
        deaf.waitFor("^hears$")
        resolver, order = self.folder / "resolv.conf", self.folder / "nsswitch.conf"
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:3 attempts:1\n")
        order.write_text("hosts: dns\n")
        # A path of a Unix socket has to be short.  It is one file system, but another network.
        place = self.enterContext(tempfile.TemporaryDirectory())
        upstream = socket.socket(socket.AF_UNIX)
        self.addCleanup(upstream.close)
        upstream.bind(f"{place}/upstream")
        upstream.listen()
        limits = {"dial": 1.0}
        named = {**self.offload(0), "upstream": "away.example:80", "limits": limits}
        routes = [
            {**named, "name": "named", "listen": f"unix:{place}/named"},
            {"mode": "connect", "listen": f"unix:{place}/connect", "targets": {"allow": ["*.example:80"]}},
            {**self.offload(0), "name": "near", "listen": f"unix:{place}/near", "upstream": f"unix:{place}/upstream"},
        ]
        routes[1] |= {"name": "connect", "limits": limits}
        config = self.folder / "config.toml"
        config.write_text(toml(routes))
        places = {"/etc/resolv.conf": resolver, "/etc/nsswitch.conf": order}
        proxy = Proxy(self, self.folder, config, len(routes), overlay(self, places))
        before = proxy.descriptors()

        def enter(name: str) -> Talker:
            sock = socket.socket(socket.AF_UNIX)
            self.addCleanup(sock.close)
            sock.connect(f"{place}/{name}")
            return Talker(sock, None if name == "connect" else clientContext(self.certificates.ca))

        # With the tunnel more than there are threads to look up names, and no more than have a line each.
        waiting = [enter("named") for _ in range(10)]
        tunnel = enter("connect")
        tunnel.send(b"CONNECT away.example:80 HTTP/1.1\r\nHost: away.example\r\n\r\n")
        for _ in range(3):
            client = enter("near")
            sock, _ = upstream.accept()
            answers = threading.Thread(target=echo, args=(Talker(sock),))
            answers.start()
            ask(client)
            answers.join()
            sock.close()
        self.assertTrue(tunnel.readAll().startswith(b"HTTP/1.1 504 "))
        for client in [*waiting, tunnel]:
            ignoring(client)
            client.close()
        count = len(waiting) + 1 + 3
        waitUntil(lambda: len(proxy.sessions()) >= count, "the end of the sessions")
        lines = [(one["route"], one["outcome"], one["phase"], one["reason"]) for one in proxy.sessions()]
        late = ("expired", "dial", "the upstream did not answer within 1 s")
        expected = [("named", *late)] * len(waiting) + [("connect", *late), *[("near", "closed", "", "")] * 3]
        self.assertEqual(sorted(expected), sorted(lines))
        waitUntil(lambda: proxy.descriptors() <= before, f"the end of all descriptors beyond {before}")
