# -*- test-case-name: tests.test_upstreamproxy -*-
"""
L{tlsproxy.upstreamproxy}: reaching a host through a proxy.
"""

from __future__ import annotations

from typing import Any

from tests.test_asking import Asks
from tlsproxy.address import TCP
from tlsproxy.testing.sessions import SessionCase
from tlsproxy.upstreamproxy import UpstreamProxy

WHERE = TCP("dmz.example", 443)


class AskTests(SessionCase):
    """
    What such a proxy is told, and what it says.
    """

    def talk(self, proxy: UpstreamProxy, *steps: tuple[bytes, bytes]) -> tuple[bytes, str]:
        """
        Have it answer.

        @param steps: What it waits for, and what it says then.
        @return: What the host sent, and what the log says.
        """
        pattern = Asks(upstream=self.upstream, ask=lambda far: proxy.ask(far, WHERE))
        self.serve(pattern)
        client = self.visit()
        self.settle()
        peer: Any = self.upstream.peers[-1]
        for wanted, said in steps:
            self.settle(lambda: peer.received == wanted)  # noqa: B023
            peer.received.clear()
            peer.write(said)
        self.settle(lambda: bool(self.told()))
        client.close()
        peer.close()
        self.settle()
        reason = self.told()[-1]["reason"]
        self.forget()
        return (pattern.found[1] if pattern.found else b""), reason

    def test_http(self) -> None:
        """
        An HTTP proxy is asked by CONNECT, with a password where there is one.
        """
        head = b"CONNECT dmz.example:443 HTTP/1.1\r\nHost: dmz.example:443\r\n"
        proxy = UpstreamProxy.parse("http://proxy.example:3128")
        self.assertEqual(b"far", self.talk(proxy, (head + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\nfar"))[0])
        self.assertEqual("http://proxy.example:3128", str(proxy))
        secret = UpstreamProxy(scheme="http", address=WHERE, user="ann", password="secret")
        field = b"Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n"
        answer = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n"
        give = "give USER@ before its host in upstream_proxy, and upstream_proxy_password_file"
        for one, sent, status, words in (
            (secret, field, b"407 Who", "the proxy does not accept the user's name and password"),
            (proxy, b"\r\n", b"407 Who", f"the proxy wants a user's name and password: {give}"),
            (proxy, b"\r\n", b"503 Full", "the proxy answers with the status 503"),
        ):
            self.assertEqual((b"", words), self.talk(one, (head + sent, answer % status)))

    def test_socks(self) -> None:
        """
        A SOCKS5 proxy is asked in its way; what follows its answer is the host's.
        """
        request = b"\5\1\0\3\x0bdmz.example\x01\xbb"
        proxy = UpstreamProxy.parse("socks5://proxy.example:1080")
        answer = b"\5\0\0\3\2ab\0\1far"
        self.assertEqual(b"far", self.talk(proxy, (b"\5\1\0", b"\5\0"), (request, answer))[0])
        secret = UpstreamProxy(scheme="socks5", address=WHERE, user="ann", password="secret")
        steps = ((b"\5\2\0\2", b"\5\2"), (b"\1\3ann\6secret", b"\1\0"), (request, answer))
        self.assertEqual(b"far", self.talk(secret, *steps)[0])
        self.assertEqual("the proxy met a timeout", self.talk(proxy, (b"\5\1\0", b"\5\0"), (request, b"\5\6\0\1"))[1])
