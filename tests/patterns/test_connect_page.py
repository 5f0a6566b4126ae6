# -*- test-case-name: tests.patterns.test_connect_page -*-
"""
L{tlsproxy.patterns.connect}: the file for browsers, C{/proxy.pac}.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import formatEvent

from tests.patterns.connecting import ConnectCase
from tlsproxy.repeats import LINES, Repeats
from tlsproxy.testing.sessions import Browser
from tlsproxy.testing.streampeers import Peer
from tlsproxy.wire.pac import PAC_TYPE, pacFile


class PageTests(ConnectCase):
    """
    What the proxy serves itself.
    """

    tcp = True

    def page(self, first: str, host: str = "proxy.example:8443", tls: bool = False) -> Any:
        """
        Ask for something, with more behind it.

        @return: What L{got} does.
        """
        self.proxy(tls=tls)
        request = f"{first}\r\nHost: {host}\r\nUser-Agent: x\r\n\r\n".encode()
        client = self.asks(request + bytes(100000), Browser if tls else Peer)
        answer = self.got(client)
        client.close()
        self.settle()
        self.assertFalse(self.aborted(client))
        self.assertEqual([], self.dialed)
        return answer

    def assertServed(self, answer: Any, authority: str, secure: bool) -> None:
        """
        It is the file.
        """
        status, fields, body = answer
        self.assertEqual((200, PAC_TYPE), (status, fields["content-type"]))
        self.assertEqual((pacFile(authority, secure) + "\n").encode(), body)
        self.assertEqual(str(len(body)), fields["content-length"])
        self.assertOver("answered", "head", "the client asked for /proxy.pac")

    def test_plain(self) -> None:
        """
        Over plain TCP, it names a plain proxy at the address that the browser knows.
        """
        answer = self.page("GET /proxy.pac HTTP/1.1")
        self.assertServed(answer, "proxy.example:8443", False)
        self.assertIn(b'"PROXY proxy.example:8443"', answer[2])

    def test_secure(self) -> None:
        """
        Over TLS, it names one that speaks TLS.
        """
        answer = self.page("GET /proxy.pac HTTP/1.1", tls=True)
        self.assertServed(answer, "proxy.example:8443", True)
        self.assertIn(b'"HTTPS proxy.example:8443"', answer[2])

    def test_query(self) -> None:
        """
        What stands behind a question mark is of no interest.
        """
        self.assertServed(self.page("GET /proxy.pac?version=2 HTTP/1.1"), "proxy.example:8443", False)

    def test_head(self) -> None:
        """
        HEAD gets the same fields, and no body.
        """
        status, fields, body = self.page("HEAD /proxy.pac HTTP/1.1")
        self.assertEqual((200, b""), (status, body))
        self.assertEqual(str(len(pacFile("proxy.example:8443", False)) + 1), fields["content-length"])

    def test_line(self) -> None:
        """
        The line says that the client was answered, and that nothing was dialed.
        """
        self.page("GET /proxy.pac HTTP/1.1")
        (line,) = self.lines()
        self.assertIn(" upstream=- ", line)
        self.assertIn(' outcome=answered phase=head reason="the client asked for /proxy.pac"', line)
        self.assertNotIn("target=", line)

    def test_flood(self) -> None:
        """
        Nobody fills the disk by asking for it: it takes no password.
        """
        self.proxy()
        self.factory.repeats = Repeats(self.reactor, self.deadlines, self.factory._sumUp)
        for _ in range(LINES + 3):
            client = self.asks(b"GET /proxy.pac HTTP/1.1\r\nHost: proxy.example\r\n\r\n")
            self.got(client)
            client.close()
            self.settle()
        self.after(11)
        self.assertEqual(LINES, len(self.lines()))
        (event,) = [one for one in self.events if "repeated" in one]
        self.assertIn(
            " the last answer repeated 3 times in 10 s, from 1 address: outcome=answered ",
            formatEvent(event),
        )
        self.network.forget()

    def test_noHost(self) -> None:
        """
        Without a Host there is nothing to write into it.
        """
        self.proxy()
        client = self.asks(b"GET /proxy.pac HTTP/1.0\r\n\r\n")
        body = "the proxy's own address is empty"
        self.assertAnswered(client, 400, body, "refused", "head", body)

    def test_hostileHost(self) -> None:
        """
        What is no host does not get into the script.
        """
        self.proxy()
        client = self.asks(b'GET /proxy.pac HTTP/1.1\r\nHost: x";alert(1)//\r\n\r\n')
        status, _, body = self.got(client)
        self.assertEqual(400, status)
        self.assertNotIn(b"alert(1)\n", body)
