# -*- test-case-name: tests.integration.test_client_proxy_refusals -*-
"""
Whatever a reverse proxy does wrong, or refuses, the browser is told in one sentence, and its host is never reached
directly.
"""

from __future__ import annotations

import socket
import ssl
import struct
from datetime import timedelta
from typing import Any

from tests.integration.clientproxying import SHOP, ClientProxyCase, answerOf, says, tunnelTo
from tests.integration.running import Certificates, freePort
from tests.integration.talking import Listener, Server, Talker


def resets(near: ssl.SSLSocket) -> None:
    """
    Reset the connection.
    """
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()


def ends(near: ssl.SSLSocket) -> None:
    """
    End it without a word.
    """
    near.unwrap()


class AnswerTests(ClientProxyCase):
    """
    A reverse proxy that the client proxy has shaken hands with.
    """

    def test_told(self) -> None:
        """
        The browser gets its status, or one of the same kind, and its sentence; or ours where it says none.
        """
        for said, status, body in (
            (answerOf(b"403 Forbidden", b"not you\n"), "403 Forbidden", "the reverse proxy dmz says: not you"),
            (
                answerOf(b"502 Bad Gateway", b"it is\n down"),
                "502 Bad Gateway",
                "the reverse proxy dmz says: it is down",
            ),
            (answerOf(b"504 Late", b"late"), "504 Gateway Timeout", "the reverse proxy dmz says: late"),
            (answerOf(b"407 Password", b"who?"), "403 Forbidden", "the reverse proxy dmz says: who?"),
            (answerOf(b"500 Oh", b"x\x1b[31m\xff"), "502 Bad Gateway", "the reverse proxy dmz says: x\\x1b[31m\ufffd"),
            (answerOf(b"302 There", b""), "502 Bad Gateway", "the reverse proxy dmz answers with the status 302"),
            (answerOf(b"403 No", b"y" * 2000), "403 Forbidden", "the reverse proxy dmz answers with the status 403"),
            (
                b"HTTP/1.1 403 No\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>x",
                "403 Forbidden",
                "the reverse proxy dmz answers with the status 403",
            ),
        ):
            reverse = self.reverse(says(said))
            proxy = self.start(reverse.port)
            self.assertEqual((f"HTTP/1.1 {status}", f"{body}\n"), self.ask(proxy))
            line = proxy.session()
            self.assertEqual(body, line["reason"].replace("\\\\", "\\"))
            self.assertIn(line["outcome"], ("refused", "failed"))

    def test_wrong(self) -> None:
        """
        What is no answer, or one to something else than was asked, makes no tunnel.
        """
        known = b"Connection: TLS-Downgrade\r\nTLS-Downgrade: "
        old, new = ("http/1.1",), ("tlsproxy-seq/1",)
        cases: tuple[tuple[Any, tuple[str, ...], str], ...] = (
            (says(b"SSH-2.0-x\r\n"), old, "does not answer as a proxy does"),
            (says(b"HTTP/1.1 200 OK\r\n" + known + b"handshake\r\n\r\n"), old, "in a way that was not offered"),
            (says(b"HTTP/1.1 200 OK\r\n" + known + b"connect\r\n\r\n"), new, "in a way that was not offered"),
            (says(b"HTTP/1.1 200 OK\r\n" + known + b"later\r\n\r\n"), new, "does not answer as a proxy does"),
            (says(b"HTTP/1.1 200 OK\r\nX"), old, "ended the stream before its answer was whole"),
            (ends, old, "ended the stream before its answer was whole; perhaps it does not accept our certificate"),
            (resets, old, "reset the connection; perhaps it does not accept our certificate"),
        )
        for behave, alpn, words in cases:
            reverse = self.reverse(behave, alpn=alpn)
            proxy = self.start(reverse.port)
            status, body = self.ask(proxy)
            self.assertEqual("HTTP/1.1 502 Bad Gateway", status)
            self.assertIn(words, body)
            self.assertTrue(body.startswith("the reverse proxy dmz "), body)

    def test_silent(self) -> None:
        """
        One that says nothing is 504 when the limit is over.
        """
        reverse = self.reverse(lambda near: near.recv(1))
        proxy = self.start(reverse.port, limits={"negotiate": 1.0})
        told = ("HTTP/1.1 504 Gateway Timeout", "the reverse proxy dmz did not answer in time\n")
        self.assertEqual(told, self.ask(proxy))
        self.assertEqual(("expired", "negotiate"), (proxy.session()["outcome"], proxy.session()["phase"]))


class HandshakeTests(ClientProxyCase):
    """
    A reverse proxy that the client proxy does not get to speak with.
    """

    def refused(self, port: int, status: str, *words: str, **more: Any) -> None:
        """
        Ask, and be refused.
        """
        proxy = self.start(port, **more)
        told, body = self.ask(proxy)
        self.assertEqual(f"HTTP/1.1 {status}", told)
        for one in words:
            self.assertIn(one, body)
        self.assertTrue(body.startswith("the reverse proxy "), body)
        self.assertEqual(1, body.count("\n"), body)

    def test_certificates(self) -> None:
        """
        One that does not accept our certificate says so by an alert, which comes after the handshake: that is 403.
        """
        strangers = Certificates(self.folder, "strangers")
        unknown = strangers.issue("unknown")
        expired = self.staff.issue("expired", age=timedelta(days=50))
        reverse = self.reverse(tunnelTo(1))
        for certificate, words in (
            (str(unknown), "it does not know the CA that issued our certificate"),
            (str(expired), "it finds our certificate expired"),
        ):
            self.refused(reverse.port, "403 Forbidden", words, upstream={"cert": certificate})
        config = {"ca": str(self.dmz.ca)}
        mapping = str(self.folder / "mapping.toml")
        proxy = self.proxy({"mode": "sequential-client", "mapping": mapping, "upstream_tls": config})
        status, body = self.ask(proxy)
        self.assertEqual("HTTP/1.1 403 Forbidden", status)
        self.assertIn("it demands a certificate and was shown none", body)
        self.assertEqual([], reverse.heads)

    def test_wrongServer(self) -> None:
        """
        One whose certificate is of another CA, for another name, or too old, gets nothing of us: 502.
        """
        for certificate, words in (
            (self.certificates.issue("other"), "'s certificate is refused: "),
            (self.dmz.issue("name", ["other.example"]), "it is not for localhost; it is for other.example"),
            (self.dmz.issue("old", age=timedelta(days=50)), "certificate has expired"),
        ):
            reverse = self.reverse(tunnelTo(1), certificate=certificate)
            self.refused(reverse.port, "502 Bad Gateway", words)
            self.assertEqual([], reverse.heads)

    def test_down(self) -> None:
        """
        One that is down, or speaks no TLS, or ends the handshake: 502; one that is silent: 504.  The host is never
        reached in another way.
        """
        self.refused(freePort(), "502 Bad Gateway", "refuses connections")
        self.refused(
            Server(self, lambda talker: talker.send(b"SSH-2.0-x\r\n")).port, "502 Bad Gateway", "does not speak TLS"
        )

        def close(talker: Talker) -> None:
            talker.recv()

        self.refused(Server(self, close).port, "502 Bad Gateway", "in the middle of the TLS handshake")
        silent = Listener(self)
        words = "the reverse proxy dmz did not finish the TLS handshake in time"
        self.refused(silent.port, "504 Gateway Timeout", words, limits={"upstream_handshake": 1.0})

    def test_addresses(self) -> None:
        """
        A mapped address goes by way of the reverse proxy, too, and is not dialed.
        """
        reverse = self.reverse(says(answerOf(b"403 No", b"no")))
        proxy = self.start(reverse.port)
        for asked, sent in (("192.0.2.9:443", "192.0.2.9:443"), ("[::ffff:192.0.2.9]:443", "192.0.2.9:443")):
            self.assertEqual("HTTP/1.1 403 Forbidden", self.ask(proxy, asked)[0])
            self.assertTrue(reverse.heads[-1].startswith(f"CONNECT {sent} HTTP/1.1\r\n"), reverse.heads)

    def test_page(self) -> None:
        """
        A browser finds a file here that sends it to this proxy with what is mapped, and with nothing else.
        """
        proxy = self.start(freePort())
        port = proxy.port("sequential-client")
        done = self.run_(["curl", "--silent", "--noproxy", "*", f"http://127.0.0.1:{port}/proxy.pac"])
        script = done.stdout.decode() + (
            ";function isInNet(a, n, m) { function num(x) { return x.split('.').reduce(function(s, p)"
            " { return s * 256 + +p; }, 0); } return ((num(a) & num(m)) >>> 0) === ((num(n) & num(m)) >>> 0); }"
        )
        asked = {
            "https://shop.bank.invalid/x": True,
            "https://SHOP.Bank.invalid:443/": True,
            "https://shop.bank.invalid:444/": False,
            "http://shop.bank.invalid/": False,
            "wss://shop.bank.invalid/": True,
            "https://a.shop.bank.invalid/": False,
            "https://192.0.2.77/": True,
            "https://192.0.3.77/": False,
            "https://[2001:db8::1]/": False,
            "https://elsewhere.example/": False,
        }
        for url in asked:
            host = url.split("/")[2].rsplit(":", 1)[0] if not url.split("/")[2].startswith("[") else "2001:db8::1"
            script += f"console.log(FindProxyForURL({url!r}, {host!r}));"
        found = self.run_(["node", "-e", script]).stdout.decode().split("\n")[:-1]
        expected = [f"PROXY 127.0.0.1:{port}" if mapped else "DIRECT" for mapped in asked.values()]
        self.assertEqual(expected, found, list(asked))
        self.assertIn(SHOP.split(":")[0].split(".", 1)[1].replace(".", "\\\\."), done.stdout.decode())
