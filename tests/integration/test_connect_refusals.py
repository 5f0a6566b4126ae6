# -*- test-case-name: tests.integration.test_connect_refusals -*-
"""
What C{connect} does not do, it tells by a status and a sentence, to curl as to everybody.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL

from tests.integration.running import IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Listener, clientContext, connect


class RefusalTests(IntegrationTestCase):
    """
    A proxy whose clients ask for what they do not get.
    """

    def start(self, allow: Sequence[str] = ("127.0.0.1:*",), **more: Any) -> tuple[Proxy, int]:
        """
        Start the proxy.

        @return: It, and its port.
        """
        proxy = self.proxy({"mode": "connect", "targets": {"allow": list(allow)}, **more})
        return proxy, proxy.port("connect")

    def curl(self, port: int, url: str, *options: str, status: int = 56) -> tuple[str, str]:
        """
        Run curl.

        @return: What it has read, and what it complains about.
        """
        command = ["curl", "--silent", "--show-error", "--noproxy", "", "--proxy", f"http://127.0.0.1:{port}"]
        done = self.run_([*command, *options, url], status=status)
        return done.stdout.decode(), done.stderr.decode()

    def assertTold(self, proxy: Proxy, number: int, *told: str) -> None:
        """
        Expect the log to tell of a session: its outcome, phase and reason.
        """
        line = proxy.session(number)
        self.assertEqual(told, (line["outcome"], line["phase"], line["reason"]))

    def ask(self, port: int, data: bytes, context: SSL.Context | None = None) -> tuple[str, str]:
        """
        Send something, and read to the end.

        @return: The first line of the answer, and its body.
        """
        client = connect(self, port, context)
        client.send(data)
        head, _, body = client.readAll().decode().partition("\r\n\r\n")
        self.assertEqual("ended", client.how)
        lines = head.split("\r\n")
        self.assertIn("Connection: close", lines)
        self.assertIn(f"Content-Length: {len(body)}", lines)
        return lines[0], body

    def test_denied(self) -> None:
        """
        A target that is not on the list, or is denied, is 403; nobody connects with it, and curl says so.
        """
        target = Listener(self)
        proxy, port = self.start(["127.0.0.1:1"])
        _, complaint = self.curl(port, f"https://127.0.0.1:{target.port}/")
        self.assertIn("CONNECT tunnel failed, response 403", complaint)
        where = f"127.0.0.1:{target.port}"
        self.assertTold(proxy, 0, "refused", "head", f"{where} is not in [route.targets] allow")
        answer = self.ask(port, f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        self.assertEqual(("HTTP/1.1 403 Forbidden", f"this proxy does not allow a tunnel to {where}\n"), answer)
        self.assertFalse(target.waiting())

    def test_refused(self) -> None:
        """
        A target that refuses connections is 502.
        """
        proxy, port = self.start()
        target = freePort()
        _, complaint = self.curl(port, f"https://127.0.0.1:{target}/")
        self.assertIn("CONNECT tunnel failed, response 502", complaint)
        self.assertTold(proxy, 0, "failed", "dial", f"the upstream 127.0.0.1:{target} refuses connections")

    def test_dead(self) -> None:
        """
        A target that does not answer, because its backlog is full, is 504 when the limit of C{dial} is over.
        """
        hole = socket.socket()
        self.addCleanup(hole.close)
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        for _ in range(3):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        proxy, port = self.start(limits={"dial": 1.0})
        _, complaint = self.curl(port, f"https://127.0.0.1:{hole.getsockname()[1]}/")
        self.assertIn("CONNECT tunnel failed, response 504", complaint)
        self.assertTold(proxy, 0, "expired", "dial", "the upstream did not answer within 1 s")

    def test_slow(self) -> None:
        """
        A request that is not whole in time is 408, on plain TCP and on TLS, and so is none at all.
        """
        proxy = self.proxy(
            {"name": "one", "mode": "connect", "targets": {"allow": ["*:443"]}, "limits": {"head": 1.0}},
            {
                "name": "two",
                "mode": "connect",
                "targets": {"allow": ["*:443"]},
                "limits": {"head": 1.0},
                "tls": {"cert": str(self.pem)},
            },
        )
        told = ("HTTP/1.1 408 Request Timeout", "the request did not come in time\n")
        for name, context in (("one", None), ("two", clientContext(self.certificates.ca))):
            for data in (b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop", b"C"):
                self.assertEqual(told, self.ask(proxy.port(name), data, context))
        for number in range(4):
            reason = "the client did not send a whole request within 1 s"
            self.assertTold(proxy, number, "expired", "head", reason)

    def test_long(self) -> None:
        """
        A request of more than 8 KiB is 431.
        """
        proxy, port = self.start()
        _, complaint = self.curl(port, "https://127.0.0.1/", "--proxy-header", f"X-Long: {'a' * 9000}")
        self.assertIn("CONNECT tunnel failed, response 431", complaint)
        reason = "the head of the client's request is longer than 8192 bytes"
        self.assertTold(proxy, 0, "refused", "head", reason)

    def test_plainHTTP(self) -> None:
        """
        A page by C{http://} is not forwarded, which is 405, and curl shows the sentence that says so.
        """
        target = Listener(self)
        proxy, port = self.start()
        sentence = "this proxy makes tunnels (CONNECT) and forwards no plain HTTP requests"
        page, _ = self.curl(port, f"http://127.0.0.1:{target.port}/", "--include", status=0)
        self.assertTrue(page.startswith("HTTP/1.1 405 Method Not Allowed\r\n"), page)
        self.assertIn("\r\nAllow: CONNECT\r\n", page)
        self.assertTrue(page.endswith(f"\r\n\r\n{sentence}\n"), page)
        self.assertTold(proxy, 0, "refused", "head", sentence)
        self.assertFalse(target.waiting())

    def test_otherRequests(self) -> None:
        """
        Other paths are 404, other methods 405, unknown ones 501, and what is in doubt is 400.
        """
        _, port = self.start()
        host = b"Host: 127.0.0.1\r\n\r\n"
        for request, status in (
            (b"GET / HTTP/1.1\r\n" + host, 404),
            (b"GET /proxy.pac.bak HTTP/1.1\r\n" + host, 404),
            (b"POST /proxy.pac HTTP/1.1\r\n" + host, 405),
            (b"BREW /proxy.pac HTTP/1.1\r\n" + host, 501),
            (b"CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n", 400),
            (b"CONNECT 127.1:443 HTTP/1.0\r\n\r\n", 400),
            (b"CONNECT 127.0.0.1:443 HTTP/1.0\n\n", 400),
            (b"CONNECT 127.0.0.1 HTTP/1.0\r\n\r\n", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ):
            line, body = self.ask(port, request)
            self.assertTrue(line.startswith(f"HTTP/1.1 {status} "), (request, line))
            self.assertRegex(body, r"\A[^\n]+[^\n.]\n\Z")

    def test_wrongScheme(self) -> None:
        """
        curl that takes the proxy for one with TLS, or for one without, and the other way round, is told what it is.
        """
        proxy = self.proxy(
            {"name": "one", "mode": "connect", "targets": {"allow": ["*:443"]}},
            {"name": "two", "mode": "connect", "targets": {"allow": ["*:443"]}, "tls": {"cert": str(self.pem)}},
        )
        self.curl(0, "https://shop.example/", "--proxy", f"https://localhost:{proxy.port('one')}", status=35)
        self.assertTold(proxy, 0, "refused", "head", "the client speaks TLS, and this port wants plain HTTP")
        _, complaint = self.curl(0, "https://shop.example/", "--proxy", f"http://localhost:{proxy.port('two')}")
        self.assertIn("CONNECT tunnel failed, response 400", complaint)
        self.assertEqual(("refused", "hello"), (proxy.session(1)["outcome"], proxy.session(1)["phase"]))

    def test_socks(self) -> None:
        """
        curl that takes it for a SOCKS proxy finds none, and the log tells what the client wants.
        """
        proxy, _ = self.start()
        port = proxy.port("connect")
        for number, (kind, words) in enumerate((("socks5h", "SOCKS5"), ("socks4a", "SOCKS4"))):
            self.curl(0, "https://shop.example/", "--proxy", f"{kind}://127.0.0.1:{port}", status=97)
            self.assertTold(
                proxy, number, "refused", "head", f"the client speaks {words}, and this port wants plain HTTP"
            )
