# -*- test-case-name: tests.integration.test_client_proxy_through -*-
"""
A client proxy reaches its reverse proxy through a proxy that is there already, which looks the name up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.integration.clientproxying import ClientProxyCase, page, tunnelTo
from tests.integration.running import Proxy, freePort
from tests.integration.talking import Server, Talker, serverContext
from tests.patterns.connecting import PASSWORD, userLine

NAME = "dmz.nowhere.invalid"
"""A reverse proxy that only the proxy in between knows."""


def exactly(talker: Talker, count: int) -> bytes:
    """
    Read so many bytes.
    """
    return talker.read(count)


class ThroughTests(ClientProxyCase):
    """
    Both kinds of proxies.
    """

    def setUp(self) -> None:
        """
        Start the reverse proxy, and what it leads to.
        """
        super().setUp()
        origin = Server(self, page, serverContext(self.certificates.issue("shop", ["shop.bank.invalid"])))
        certificate = self.dmz.issue("through", [NAME])
        self.behind = self.reverse(tunnelTo(origin.port), certificate=certificate)

    def through(self, upstreamProxy: str, password: bytes = b"") -> Proxy:
        """
        Start the client proxy.
        """
        more = {}
        if password:
            file = self.folder / "password"
            file.write_bytes(password + b"\n")
            file.chmod(0o600)
            more["upstream_proxy_password_file"] = str(file)
        mapping = self.folder / "through.toml"
        mapping.write_text(
            f'[[reverse_proxy]]\nname = "dmz"\naddress = "{NAME}:443"\n'
            '[[map]]\nhosts = "*.bank.invalid:443"\nvia = "dmz"\n'
        )
        tls = {"ca": str(self.dmz.ca), "cert": str(self.identity)}
        route = {"mode": "sequential-client", "mapping": str(mapping), "upstream_tls": tls}
        return self.proxy({**route, "upstream_proxy": upstreamProxy, **more})

    def socks(self, *steps: tuple[int, bytes]) -> tuple[Server, list[bytes]]:
        """
        Start a SOCKS5 proxy that says what it is told to say.

        @param steps: How much it reads, and what it answers then; behind the last it leads to the reverse proxy.
        @return: It, and what it has read.
        """
        heard: list[bytes] = []

        def serve(talker: Talker) -> None:
            for count, answer in steps:
                heard.append(exactly(talker, count))
                talker.send(answer)
            with socket.create_connection(("127.0.0.1", self.behind.port), 20) as far:
                _pass(talker.socket, far)

        return Server(self, serve), heard

    def test_http(self) -> None:
        """
        An HTTP proxy is given the name as it is, and user and password where it wants them; nothing of that goes on.
        """
        heads: list[bytes] = []

        def serve(talker: Talker) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += talker.read(1)
            heads.append(head)
            talker.send(b"HTTP/1.0 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", self.behind.port), 20) as far:
                _pass(talker.socket, far)

        proxy = self.through(f"http://ann@127.0.0.1:{Server(self, serve).port}", b"secret")
        self.assertEqual(("hello\n", ""), self.fetch(proxy))
        self.assertEqual(
            f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n",
            heads[0].decode(),
        )
        self.assertEqual(f"{NAME}:443", proxy.session()["upstream"])
        self.assertNotIn("secret", proxy.text())

    def test_ours(self) -> None:
        """
        Mode connect is such a proxy: a wrong password, a target that it does not allow, and one that is down are told.
        """
        users = self.folder / "users"
        users.write_bytes(userLine() + b"\n")
        between = self.proxy({"mode": "connect", "targets": {"allow": ["*.other.invalid:443"]}, "users": str(users)})
        where = f"127.0.0.1:{between.port('connect')}"
        for password, words in (
            (b"wrong", "does not accept the user's name and password"),
            (PASSWORD.encode(), f"says: this proxy does not allow a tunnel to {NAME}:443"),
        ):
            status, body = self.ask(self.through(f"http://alice@{where}", password))
            self.assertEqual("HTTP/1.1 502 Bad Gateway", status)
            self.assertEqual(f"the upstream_proxy {where} {words}\n", body)
        status, body = self.ask(self.through(f"http://{where}"))
        self.assertIn("wants a user's name and password", body)
        status, body = self.ask(self.through(f"socks5://127.0.0.1:{freePort()}"))
        self.assertEqual("HTTP/1.1 502 Bad Gateway", status)
        self.assertIn("the upstream_proxy 127.0.0.1:", body)
        self.assertIn("refuses connections", body)

    def test_socks(self) -> None:
        """
        A SOCKS5 proxy is given the name as it is, with or without a password; what it sends behind its answer is the
        reverse proxy's.
        """
        request = bytes((5, 1, 0, 3, len(NAME))) + NAME.encode() + b"\x01\xbb"
        bound = b"\5\0\0\3\4name\0\1"
        server, heard = self.socks((3, b"\5\0"), (len(request), bound))
        self.assertEqual(("hello\n", ""), self.fetch(self.through(f"socks5://127.0.0.1:{server.port}")))
        self.assertEqual([b"\5\1\0", request], heard)
        server, heard = self.socks((4, b"\5\2"), (12, b"\1\0"), (len(request), b"\5\0\0\1" + bytes(6)))
        proxy = self.through(f"socks5://ann@127.0.0.1:{server.port}", b"secret")
        self.assertEqual("hello\n", self.fetch(proxy)[0])
        self.assertEqual([b"\5\2\0\2", b"\1\3ann\6secret", request], heard)

    def test_wrongSocks(self) -> None:
        """
        What such a proxy answers otherwise is told in a sentence.
        """
        request = 5 + len(NAME) + 2
        for steps, status, words in (
            (((3, b"HTTP/1.1 400"),), "502 Bad Gateway", "does not speak SOCKS5"),
            (((3, b"\5\xff"),), "502 Bad Gateway", "wants a user's name and password"),
            (((3, b"\5\0"), (request, b"\5\5\0\1" + bytes(6))), "502 Bad Gateway", "was refused the connection"),
            (((3, b"\5\0"), (request, b"\5\6\0\1" + bytes(6))), "504 Gateway Timeout", "met a timeout"),
            (((3, b"\5\0"), (request, b"\5\2\0\1" + bytes(6))), "502 Bad Gateway", "does not allow that"),
        ):
            server, _ = self.socks(*steps)
            proxy = self.through(f"socks5://127.0.0.1:{server.port}")
            told = f"the upstream_proxy 127.0.0.1:{server.port} {words}\n"
            self.assertEqual((f"HTTP/1.1 {status}", told), self.ask(proxy))
        server = Server(self, _ending(3))
        status, body = self.ask(self.through(f"socks5://127.0.0.1:{server.port}"))
        self.assertEqual("HTTP/1.1 502 Bad Gateway", status)
        self.assertIn("ended the stream in the middle of its answer", body)


def _ending(count: int) -> Callable[[Talker], None]:
    def serve(talker: Talker) -> None:
        exactly(talker, count)
        talker.endWrite()

    return serve


def _pass(one: socket.socket, other: socket.socket) -> None:
    """
    Pass bytes on, both ways, until one side ends.
    """
    import select

    one.settimeout(20)
    while True:
        for ready, sink in ((one, other), (other, one)):
            if ready in select.select([one, other], [], [], 20)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                sink.sendall(data)
