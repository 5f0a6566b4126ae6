# -*- test-case-name: tests.integration.test_reloads_lose_nobody -*-
"""
Two hundred reloads under a stream of new TLS connections: none is refused, reset or failed, and what is under way goes
on.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import threading
from collections import Counter
from pathlib import Path

from tests.integration.running import IntegrationTestCase, Proxy, freePort, toml, waitUntil

RELOADS = 200
CLIENTS = 4
BETWEEN = 5
"""How many connections at least come between two reloads."""
SIZE = 100_000_000


class Stream(threading.Thread):
    """
    One client after the other.

    @ivar seen: How many have seen which certificate, by its serial number.
    @ivar failed: What went wrong.
    """

    def __init__(self, port: int, ca: Path) -> None:
        super().__init__(daemon=True)
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []
        self.over = threading.Event()
        self._port = port
        self._ca = ca

    def run(self) -> None:
        """
        Connect, ask, and leave, until it is over.
        """
        context = ssl.create_default_context(cafile=str(self._ca))
        while not self.over.wait(0.015):
            try:
                with socket.create_connection(("127.0.0.1", self._port), 20) as plain:
                    with context.wrap_socket(plain, server_hostname="localhost") as client:
                        certificate = client.getpeercert()
                        client.sendall(b"GET /small HTTP/1.0\r\n\r\n")
                        answer = b"".join(iter(lambda: client.recv(65536), b""))
                        client.unwrap()
                assert certificate is not None and answer.endswith(b"here"), answer
                self.seen[str(certificate["serialNumber"])] += 1
            except Exception as e:
                self.failed.append(repr(e))
                return


class ReloadsTests(IntegrationTestCase):
    """
    Reloads of a proxy that is busy.
    """

    def write(self, turn: int) -> None:
        """
        Write the configuration anew: another certificate, other limits, and every other time another route.
        """
        config = self.folder / "new.toml"
        tls = {"cert": str(self.folder / f"{'ab'[turn % 2]}.pem")}
        route = {"name": "web", "mode": "offload", "listen": f"127.0.0.1:{self.port}", "tls": tls}
        routes = [{**route, "upstream": f"127.0.0.1:{self.upstream}", "limits": {"idle": 100 + turn}}]
        if turn % 2:
            more = {"name": "more", "listen": f"127.0.0.1:{self.other}", "mode": "passthrough"}
            routes.insert(0, {**more, "upstream": f"127.0.0.1:{self.upstream}"})
        config.write_text(toml(routes))
        os.replace(config, self.folder / "config.toml")

    def test_reloads(self) -> None:
        """
        Clients come all the time and each is served, whichever certificate it sees; a large answer under way arrives
        whole; and afterward neither memory nor descriptors have grown.
        """
        for name in "ab":
            self.certificates.issue(name)
        self.port, self.other, self.upstream = freePort(), freePort(), freePort()
        block = os.urandom(1_000_000)
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.upstream}; location /small {{ return 200 here; }} location / {{ }} }}"
        )
        (self.folder / "www" / "large").write_bytes(block * (SIZE // len(block)))
        wanted = hashlib.sha256(block * (SIZE // len(block))).hexdigest()
        self.write(0)
        proxy = Proxy(self, self.folder, self.folder / "config.toml")
        base = proxy.descriptors()
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        large = context.wrap_socket(plain, server_hostname="localhost")
        self.addCleanup(large.close)
        large.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        head, _, rest = large.recv(65536).partition(b"\r\n\r\n")
        digest, received = hashlib.sha256(rest), len(rest)
        self.assertIn(b"200 OK", head)
        streams = [Stream(self.port, self.certificates.ca) for _ in range(CLIENTS)]
        for stream in streams:
            self.addCleanup(stream.over.set)
            stream.start()
        early = 0
        for turn in range(1, RELOADS + 1):
            self.write(turn)
            had = self.count(streams)
            proxy.process.send_signal(signal.SIGHUP)
            waitUntil(lambda: proxy.text().count("] reloaded: ") >= turn, f"reload {turn}")  # noqa: B023
            while received < SIZE * turn // RELOADS:
                data = large.recv(65536)
                self.assertTrue(data, received)
                digest.update(data)
                received += len(data)
            waitUntil(lambda: self.count(streams) >= had + BETWEEN, "further clients")  # noqa: B023
            if turn == RELOADS // 4:
                early = proxy.resident()
        for stream in streams:
            stream.over.set()
        for stream in streams:
            stream.join(20)
            self.assertFalse(stream.is_alive())
        self.assertEqual((wanted, b""), (digest.hexdigest(), large.recv(1)))
        large.unwrap().close()
        self.assertEqual([], [failure for stream in streams for failure in stream.failed])
        seen = sum((stream.seen for stream in streams), Counter())
        self.assertEqual(2, len(seen))
        self.assertTrue(min(seen.values()) > RELOADS, seen)
        waitUntil(lambda: proxy.descriptors() <= base + 2, "descriptors as few as before")
        self.assertTrue(proxy.resident() < early + 15_000_000, (early, proxy.resident()))
        self.assertEqual({"closed"}, {session["outcome"] for session in proxy.sessions()})

    def count(self, streams: list[Stream]) -> int:
        """
        How many clients were served; a failure is told at once.
        """
        self.assertEqual([], [failure for stream in streams for failure in stream.failed])
        return sum(stream.seen.total() for stream in streams)
