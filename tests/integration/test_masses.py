# -*- test-case-name: tests.integration.test_masses -*-
"""
Thousands that stall do not keep others from being served, and what many leave behind is nothing.

C{TLSPROXY_MASSES=1} has 100,000 connections made in a row, otherwise it is 40,000.
"""

from __future__ import annotations

import os
import socket
import time
from itertools import chain
from typing import Any

from tests.integration.running import PATIENCE, IntegrationTestCase, Proxy, raiseDescriptors, waitUntil
from tests.integration.talking import Listener, Server, Talker, connect, echo
from tests.integration.test_bounded_memory import POOLED
from tests.integration.test_every_phase_ends import hello
from tests.integration.test_splice_moves_bytes import fill
from tlsproxy.wire.connect import ESTABLISHED

STALLED = 2000
"""How many stall in each way."""

IN_A_ROW = 50_000 if os.environ.get("TLSPROXY_MASSES") == "1" else 20_000
"""How many connections are made in each mode."""
AT_ONCE = 50
WARM_UP = 1000
MOST_EACH = 160 << 10
"""How many bytes a reader that has stalled may cost the proxy: one buffer, and what a session takes."""
MOST_IN_PIPES = 2 * (32 + 4)
"""How many descriptors of pipes it may have, with bytes in them or waiting for their next use."""
GROWTH = 1 << 20
"""How many bytes the proxy may have more after all of them than after the first thousand."""
PROMPTLY = 10.0
"""Seconds for all that are served in between."""


class StalledTests(IntegrationTestCase):
    """
    Those who stall.
    """

    guard = 120.0

    def setUp(self) -> None:
        """
        Start a proxy with limits that nobody meets.
        """
        super().setUp()
        raiseDescriptors(8 * STALLED)
        self.quick = Server(self, echo)
        self.slow = Listener(self, 1024)
        limits = {"hello": self.guard, "head": self.guard}
        tunnels = self.connect(self.quick.port, limits=limits)
        tunnels["targets"]["allow"].append(f"127.0.0.1:{self.slow.port}")
        self.through: Proxy = self.proxy(self.passthrough(self.quick.port, limits=limits), tunnels)
        self.base = self.through.descriptors()

    def assertServes(self) -> None:
        """
        Expect others to be served.
        """
        began = time.monotonic()
        for _ in range(20):
            client = connect(self, self.through.port("passthrough"))
            client.send(data := hello())
            self.assertEqual(data, client.read(len(data)))
            client.close()
            client = connect(self, self.through.port("connect"))
            client.askTunnel(self.quick.port)
            client.send(b"question")
            self.assertEqual(b"question", client.read(8))
            client.close()
        self.assertLess(time.monotonic() - began, PROMPTLY)

    def stall(self, route: str, data: bytes) -> list[socket.socket]:
        """
        Send something, and no more.
        """
        port = self.through.port(route)
        sockets = []
        for _ in range(STALLED):
            sock = socket.create_connection(("127.0.0.1", port))
            self.addCleanup(sock.close)
            sock.send(data)
            sockets.append(sock)
        waitUntil(lambda: self.through.descriptors() >= self.base + STALLED, "the clients that stall")
        return sockets

    def tunnels(self) -> list[tuple[socket.socket, socket.socket]]:
        """
        Make tunnels whose clients do not read.
        """
        port = self.through.port("connect")
        sockets = []
        for _ in range(STALLED):
            near = socket.socket()
            self.addCleanup(near.close)
            # Otherwise the kernel holds megabytes for each.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            near.connect(("127.0.0.1", port))
            client = Talker(near)
            client.askTunnel(self.slow.port)
            far = self.slow.accept().socket
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            far.setblocking(False)
            sockets.append((near, far))
        return sockets

    def test_hellos(self) -> None:
        """
        Two thousand that sent half a hello.
        """
        self.gone(self.stall("passthrough", hello()[:-1]))

    def test_heads(self) -> None:
        """
        Two thousand that sent half a request.
        """
        self.gone(self.stall("connect", b"CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n"))

    def test_readers(self) -> None:
        """
        Two thousand tunnels whose clients do not read.
        """
        tunnels = self.tunnels()
        memory = self.through.resident()

        def stalled() -> bool:
            return not sum(fill(far) for _, far in tunnels)

        waitUntil(stalled, "the end of what the proxy takes")
        self.assertGreaterEqual(self.through.descriptors(), self.base + 2 * STALLED + 2)
        self.assertLessEqual(self.through.descriptors(), self.base + 2 * STALLED + MOST_IN_PIPES)
        self.assertLess(self.through.resident() - memory, STALLED * MOST_EACH)
        self.gone(list(chain(*tunnels)))

    def gone(self, sockets: list[socket.socket]) -> None:
        """
        Expect others to be served before those who stall go, and nothing to be left when they have.
        """
        self.assertServes()
        for sock in sockets:
            sock.close()
        most = self.base + POOLED
        waitUntil(lambda: self.through.descriptors() <= most, f"the end of all descriptors beyond {most}")


class RowTests(IntegrationTestCase):
    """
    Many connections, one after the other.
    """

    guard = 300.0

    def setUp(self) -> None:
        """
        Make the upstream.
        """
        super().setUp()
        self.upstream = socket.socket()
        self.addCleanup(self.upstream.close)
        self.upstream.bind(("127.0.0.1", 0))
        self.upstream.listen(1024)
        self.upstream.settimeout(PATIENCE)
        self.far: int = self.upstream.getsockname()[1]

    def batch(self, port: int, opening: bytes, passed: bytes, answer: bytes) -> None:
        """
        Make some connections at once, and end them.

        @param opening: What each client sends.
        @param passed: What of it the upstream has to get.
        @param answer: What each client has to get.
        """
        clients = []
        for _ in range(AT_ONCE):
            clients.append(client := socket.create_connection(("127.0.0.1", port), PATIENCE))
            client.send(opening)
        for _ in clients:
            server, _ = self.upstream.accept()
            server.settimeout(PATIENCE)
            got = server.recv(len(passed), socket.MSG_WAITALL)
            if got != passed:
                self.fail(f"{got!r} came")
            server.send(b"bye")
            server.close()
        for client in clients:
            got = b""
            while data := client.recv(1000):
                got += data
            if got != answer:
                self.fail(f"{got!r} came")
            client.close()

    def row(self, route: dict[str, Any], opening: bytes, passed: bytes, answer: bytes) -> None:
        """
        Make all of them.
        """
        proxy = self.proxy(route)
        port = proxy.port(route["mode"])
        for _ in range(WARM_UP // AT_ONCE):
            self.batch(port, opening, passed, answer)
        base, memory = proxy.descriptors(), proxy.resident()
        for _ in range((IN_A_ROW - WARM_UP) // AT_ONCE):
            self.batch(port, opening, passed, answer)
        waitUntil(lambda: proxy.text().count(" outcome=") == IN_A_ROW, "the end of all sessions")
        waitUntil(lambda: proxy.descriptors() <= base, f"the end of all descriptors beyond {base}")
        self.assertLess(proxy.resident() - memory, GROWTH)
        self.assertEqual(IN_A_ROW, proxy.text().count(" outcome=closed"))

    def test_passthrough(self) -> None:
        """
        By C{passthrough}, each with a hello.
        """
        data = hello()
        rule = {"sni": "localhost", "upstream": f"127.0.0.1:{self.far}"}
        self.row({"mode": "passthrough", "rule": [rule]}, data, data, b"bye")

    def test_connect(self) -> None:
        """
        By C{connect}.
        """
        head = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % self.far
        self.row(self.connect(self.far), head + b"hi", b"hi", ESTABLISHED + b"bye")
