# -*- test-case-name: tests.status.test_web -*-
"""
L{tlsproxy.status.web}
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.status.watching import WatchedCase
from tlsproxy.status import web
from tlsproxy.status.web import MOST, PATIENCE, StatusFactory, hostIs

HERE = frozenset({"localhost", "status.internal"})


class HostTests(SynchronousTestCase):
    """
    By what name somebody asks.
    """

    def test_good(self) -> None:
        """
        Addresses, and the names that are allowed, with a port or without.
        """
        for host in (
            "localhost",
            "LocalHost:9090",
            "localhost.:9090",
            "127.0.0.1",
            "192.0.2.1:1",
            "[::1]",
            "[::1]:9090",
            "status.internal:9090",
        ):
            self.assertTrue(hostIs(host, HERE), host)

    def test_bad(self) -> None:
        """
        Names that somebody else may have resolve to here, and whatever only looks like an address.
        """
        for host in (
            "",
            ":",
            ":9090",
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f000001",
            "2130706433",
            "localhost:9090.evil.example",
            "localhost: 1",
            "evil.example:127.0.0.1",
            "[::1",
            "::1",
            "[::1].evil.example",
            "[::1]evil.example:1",
            "[evil.example]",
            "127.0.0.1:evil",
            "user@localhost",
            "localhost\u212a",
        ):
            self.assertFalse(hostIs(host, HERE), host)

    @given(st.text())
    def test_anything(self, host: str) -> None:
        """
        Whatever it is, there is an answer.
        """
        hostIs(host, HERE)


class WebTests(WatchedCase):
    """
    The web server.
    """

    def setUp(self) -> None:
        """
        Have one.
        """
        super().setUp()
        self.site = StatusFactory(self.state, self.network.reactor, HERE)

    def connect(self) -> Any:
        """
        Connect.
        """
        channel = self.site.buildProtocol(None)
        if channel is not None:
            transport = Transport(channel)
            channel.makeConnection(transport)
            self.addCleanup(transport.lose)
        return channel

    def ask(self, request: bytes) -> bytes:
        """
        Send something, and take all that comes back.
        """
        channel = self.connect()
        channel.dataReceived(request)
        return bytes(channel.transport.value())

    def get(
        self, path: str, *headers: str, method: str = "GET", host: str = "localhost"
    ) -> tuple[int, dict[str, str], bytes]:
        """
        Ask for something.
        """
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        head, _, body = self.ask("\r\n".join(lines).encode("latin-1")).partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        return (
            int(first.split()[1]),
            {name.lower(): value for name, value in (one.split(": ", 1) for one in rest)},
            body,
        )

    def test_pages(self) -> None:
        """
        Each page is of its type, and none is kept, sniffed, framed, or read by another origin.
        """
        for path, kind, text in (
            ("/", "text/html; charset=utf-8", b"<h1>tlsproxy"),
            ("/?x", "text/html; charset=utf-8", b"<h1>tlsproxy"),
            ("/healthz", "text/plain; charset=utf-8", b"alive\n"),
            ("/readyz", "text/plain; charset=utf-8", b"ready\n"),
            ("/status.json", "application/json", b'"ready": true'),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8", b"tlsproxy_ready 1.0\n"),
        ):
            code, headers, body = self.get(path)
            self.assertEqual((200, kind, str(len(body))), (code, headers["content-type"], headers["content-length"]))
            self.assertIn(text, body)
            for name, value in (
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("cross-origin-resource-policy", "same-origin"),
                ("server", "tlsproxy"),
            ):
                self.assertEqual(value, headers[name])
            self.assertIn("default-src 'none'", headers["content-security-policy"])
            self.assertNotIn("access-control-allow-origin", headers)

    def test_json(self) -> None:
        """
        The state is told whole.
        """
        told = json.loads(self.get("/status.json")[2])
        self.assertEqual(["shop", "mail"], [route["name"] for route in told["routes"]])

    def test_head(self) -> None:
        """
        C{HEAD} is answered as C{GET}, but for the body.
        """
        code, headers, body = self.get("/healthz", method="HEAD")
        self.assertEqual((200, "6", b""), (code, headers["content-length"], body))

    def test_draining(self) -> None:
        """
        While it drains, it lives, and is not ready; all the rest is answered.
        """
        client = self.browse()
        draining = self.service.drain()
        code, _, body = self.get("/readyz")
        self.assertEqual((503, b"draining: 1 session is still open\n"), (code, body))
        for path in ("/", "/healthz", "/status.json", "/metrics"):
            self.assertEqual(200, self.get(path)[0])
        self.leave(client)
        self.successResultOf(draining)

    def test_otherMethods(self) -> None:
        """
        Nothing can be changed.
        """
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"):
            code, headers, _ = self.get("/status.json", method=method)
            self.assertEqual((405, "GET, HEAD"), (code, headers["allow"]))

    def test_otherPaths(self) -> None:
        """
        There is nothing else, however it is written.
        """
        for path in (
            "/x",
            "//",
            "/status.json/",
            "/../healthz",
            "/%68ealthz",
            "*",
            "http://localhost/healthz",
            "/HEALTHZ",
        ):
            self.assertEqual(404, self.get(path)[0], path)

    def test_hosts(self) -> None:
        """
        Whoever asks by another name is told nothing, and so is who says two.
        """
        for path in ("/", "/status.json", "/metrics", "/healthz"):
            code, _, body = self.get(path, host="evil.example")
            self.assertEqual((403, False), (code, b"shop" in body))
        self.assertEqual(403, self.get("/", "Host: localhost")[0])
        self.assertEqual(200, self.get("/", host="status.internal")[0])
        self.assertIn(b" 403 ", self.ask(b"GET / HTTP/1.1\r\n\r\n"))
        self.assertEqual(403, self.get("/", host="\xff\xfe")[0])  # That is no UTF-8.
        self.assertIn(b" 200 ", self.ask(b"GET /healthz HTTP/1.0\r\n\r\n"))
        self.assertIn(b" 403 ", self.ask(b"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n"))

    def test_anyName(self) -> None:
        """
        Where others reach it, they do by whatever name it has.
        """
        self.site = StatusFactory(self.state, self.network.reactor, None)
        self.assertEqual(200, self.get("/", host="proxy7.example:9090")[0])

    def test_bodies(self) -> None:
        """
        A request with a body is refused before the body has come.
        """
        for field in ("Content-Length: 1000000000", "Content-Length: 1", "Transfer-Encoding: chunked"):
            channel = self.connect()
            channel.dataReceived(f"POST / HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n".encode())
            self.assertTrue(channel.transport.value().startswith(b"HTTP/1.1 413 "))
            self.assertTrue(channel.transport.disconnecting)
        answer = self.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        self.assertEqual(1, answer.count(b"HTTP/1.1 "))

    def test_long(self) -> None:
        """
        So is a head that is too long, or has too many fields.
        """
        for request in (
            b"GET /" + b"x" * 100000,
            b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 100000,
            b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 5000,
        ):
            channel = self.connect()
            channel.dataReceived(request)
            self.assertTrue(channel.transport.disconnecting)
            self.assertNotIn(b" 200 ", channel.transport.value())

    def test_slow(self) -> None:
        """
        A connection that is idle is closed, and one that sends byte by byte in the end, too.
        """
        idle, slow = self.connect(), self.connect()
        for second in range(int(PATIENCE)):
            self.assertFalse(slow.transport.gone)
            slow.dataReceived(b"G" if second == 0 else b"x")
            self.network.reactor.advance(1)
        self.assertEqual((True, True), (idle.transport.gone, slow.transport.gone))
        self.assertEqual({}, self.site.connections)

    def test_many(self) -> None:
        """
        There are only so many connections at once, and who holds them all keeps nobody out: the oldest has to go.
        """
        first, second, *others = [self.connect() for _ in range(MOST)]
        self.assertEqual(200, self.get("/healthz")[0])
        self.assertEqual((True, False), (first.transport.gone, second.transport.gone))
        self.assertEqual(MOST, len(self.site.connections))
        self.connect()
        self.assertEqual((True, False), (second.transport.gone, others[0].transport.gone))
        self.site.closeAll()
        self.assertEqual({}, self.site.connections)

    def test_again(self) -> None:
        """
        A connection serves several questions.
        """
        channel = self.connect()
        for count in range(1, 4):
            channel.dataReceived(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(count, channel.transport.value().count(b"HTTP/1.1 200 "))

    def test_ahead(self) -> None:
        """
        Questions that are sent before the first has its answer get none: many fit into one read.
        """
        question = b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for request in (question * 1000, question + b"G"):
            channel = self.connect()
            channel.dataReceived(request)
            answer = channel.transport.value()
            self.assertEqual(1, answer.count(b"HTTP/1.1 "))
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertTrue(channel.transport.disconnecting)

    def test_bug(self) -> None:
        """
        A bug of ours is told in the log, and not to who asks.
        """
        self.patch(self.state, "tell", lambda: 1 / 0)
        code, _, body = self.get("/status.json")
        self.assertEqual((500, b"tlsproxy itself failed; its traceback is in the log\n"), (code, body))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_missing(self) -> None:
        """
        Without the package for metrics it is said what to install, and all else is there.
        """
        self.patch(web, "expose", lambda told: None)
        code, _, body = self.get("/metrics")
        self.assertEqual(501, code)
        self.assertIn(b'pip install "tlsproxy[status]"', body)
        self.assertEqual(200, self.get("/status.json")[0])

    def test_anything(self) -> None:
        """
        Whatever comes, nothing breaks.
        """

        @settings(max_examples=50)
        @given(st.lists(st.binary(max_size=50) | st.sampled_from([b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"])))
        def check(parts: list[bytes]) -> None:
            channel = self.connect()
            for part in parts:
                if not channel.transport.disconnecting:
                    channel.dataReceived(part)
            channel.transport.lose()

        check()
        self.assertEqual([], self.flushLoggedErrors())


class Transport(StringTransport):
    """
    A connection in memory, which ends as one of the kernel's does.

    @ivar gone: Whether it is over.
    """

    def __init__(self, channel: Any) -> None:
        super().__init__()
        self._channel = channel
        self.gone = False

    def lose(self) -> None:
        """
        It is over.
        """
        if not self.gone:
            self.gone = True
            self._channel.connectionLost(Failure(ConnectionError("it is over")))

    def abortConnection(self) -> None:
        """
        End at once.
        """
        super().abortConnection()
        self.lose()
