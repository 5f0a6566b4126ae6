# -*- test-case-name: tests.integration.test_sequential_precedents_client -*-
"""
The same faults at the other end: a client proxy whose reverse proxy misbehaves does not pass that on to the browser.
"""

from __future__ import annotations

from typing import Any

from tests.integration.handmade import Hand, InnerBytes, data, grant
from tests.integration.sequential import SequentialTestCase
from tests.integration.stdlibproxies import outerContext
from tests.integration.talking import Listener, Talker, connect

_MARK = data(40, 3)
_OK = b"HTTP/1.1 200 "


class ClientProxyCase(SequentialTestCase):
    """
    A client proxy between a browser and a reverse proxy that are both in the hands of the test.
    """

    def openClient(self, upstream: int) -> int:
        """
        Start the client proxy.

        @return: Its port.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        """
        Start it, and the reverse proxy.
        """
        super().setUp()
        self.listener = Listener(self)
        self.port = self.openClient(self.listener.port)
        self.inner = InnerBytes(self.shopPEM)
        self.context = outerContext(True, self.gatePEM, self.gate.ca)

    def asked(self, value: str = "handshake") -> tuple[Talker, Hand]:
        """
        Have a browser ask, and be granted a tunnel.

        @return: The browser, and the reverse proxy's side.
        """
        browser = connect(self, self.port)
        browser.send(b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\nX-Secret: mine\r\n\r\n")
        return browser, grant(self, self.listener.accept().socket, self.context, value)

    def tunnel(self, value: str = "handshake") -> tuple[Talker, Hand]:
        """
        Make a tunnel.
        """
        browser, hand = self.asked(value)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = browser.read(1)
            self.assertTrue(more, head)
            head += more
        self.assertTrue(head.startswith(_OK), head)
        return browser, hand

    def greeted(self, browser: Talker, hand: Hand) -> None:
        """
        Have the browser say hello.
        """
        browser.send(self.inner.hello)
        self.assertEqual(self.inner.hello, hand.read(len(self.inner.hello)))

    def cut(self, browser: Talker, hand: Hand) -> None:
        """
        Expect that the browser gets nothing more.
        """
        self.assertNotIn(_MARK, browser.readAll())
        hand.readAll()


class _Client:
    """
    What went wrong.
    """

    def test_oneSegment(self: Any) -> None:
        """
        The ServerHello, the end of TLS, and the plain bytes behind may come in one segment, or cut anywhere.
        """
        whole = self.inner.serverHello + self.inner.rest
        for step in (0, 1, 7, 24, 100):
            browser, hand = self.tunnel()
            self.greeted(browser, hand)
            hand.together(self.inner.serverHello, self.inner.rest, step)
            self.assertEqual(whole, browser.read(len(whole)))
            hand.readEnd()
            browser.send(self.inner.finished)
            self.assertEqual(self.inner.finished, hand.readPlain(len(self.inner.finished)))

    def test_nothingIsWrittenAfterTheEnd(self: Any) -> None:
        """
        After its close_notify nothing comes from the client proxy but what the browser says.
        """
        for forged in (b"", data(19), b"\x15\x03\x03\x00\x02\x02\x28", b"HTTP/1.1 200 OK\r\n\r\n" * 4):
            browser, hand = self.tunnel()
            self.greeted(browser, hand)
            hand.together(self.inner.serverHello, self.inner.rest)
            browser.read(len(self.inner.serverHello + self.inner.rest))
            hand.readEnd()
            browser.send(self.inner.finished)
            self.assertEqual(self.inner.finished, hand.readPlain(len(self.inner.finished)))
            if forged:
                hand.plain(forged)
            else:
                browser.endWrite()
            browser.close()
            self.assertEqual(b"", hand.readAll())

    def test_peerSkipsItsEnd(self: Any) -> None:
        """
        Plain bytes without a close_notify before them are not passed on.
        """
        browser, hand = self.tunnel()
        self.greeted(browser, hand)
        hand.send(self.inner.serverHello)
        hand.plain(_MARK)
        self.cut(browser, hand)

    def test_earlyEnd(self: Any) -> None:
        """
        Nor are they behind an end before its time.
        """
        for inside in (b"", self.inner.serverHello[:40]):
            browser, hand = self.tunnel()
            self.greeted(browser, hand)
            hand.together(inside, _MARK)
            self.cut(browser, hand)
        browser, hand = self.tunnel("none")
        self.greeted(browser, hand)
        hand.together(self.inner.serverHello, _MARK)
        self.cut(browser, hand)

    def test_wordThatNobodyAsked(self: Any) -> None:
        """
        A reverse proxy that answers with more than was asked for is not gone on with.
        """
        for value in ("connect", "handshake, none", "everything"):
            browser, hand = self.asked(value)
            self.assertFalse(browser.readAll().startswith(_OK))
            self.assertNotIn(b"\x16\x03\x01", hand.readAll())

    def test_headIsItsOwn(self: Any) -> None:
        """
        Nothing of the browser's headers crosses.
        """
        _, hand = self.tunnel()
        self.assertNotIn(b"Secret", hand.answer)
        self.assertIn(b"\r\nTLS-Downgrade: handshake, none\r\n", hand.answer)
        self.assertIn(b"\r\nConnection: TLS-Downgrade\r\n", hand.answer)


class StdlibClientProxyTests(_Client, ClientProxyCase):
    """
    The client proxy on Python's own library.
    """

    def openClient(self, upstream: int) -> int:
        """
        Start it.
        """
        return self.stdlibClient(upstream).port


class ClientProxyTests(_Client, ClientProxyCase):
    """
    Ours.
    """

    def openClient(self, upstream: int) -> int:
        """
        Start it.
        """
        return self.proxy(self.sequentialClient(upstream)).port("cp")


class LoopbackClientProxyTests(ClientProxyCase):
    """
    Ours, which takes its TLS off by way of a socket on loopback.
    """

    def openClient(self, upstream: int) -> int:
        """
        Start it.
        """
        return self.proxy(self.sequentialClient(upstream, take_off="loopback")).port("cp")

    def test_all(self) -> None:
        """
        None of these faults.
        """
        for name, fault in vars(_Client).items():
            if name.startswith("test_"):
                fault(self)
