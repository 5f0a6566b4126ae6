# -*- test-case-name: tests.integration.test_sequential_precedents -*-
"""
What went wrong where others took TLS off a connection does not go wrong here: FTP's C{CCC} command (RFC 4217), and the
"vision" of XTLS.  Each test is a fault that one of their implementations had.
"""

from __future__ import annotations

import ssl
import threading
from typing import Any

from tests.integration.handmade import SUITE, Hand, InnerBytes, ask, data
from tests.integration.sequential import SequentialTestCase
from tests.integration.stdlibouter import Cut
from tests.integration.stdlibproxies import outerContext
from tests.integration.talking import Listener, Talker

_MARK = data(40, 3)


class ReverseProxyCase(SequentialTestCase):
    """
    A reverse proxy between a client proxy and a destination that are both in the hands of the test.
    """

    def openServer(self, value: str = "handshake") -> int:
        """
        Start the reverse proxy.

        @return: Its port.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        """
        Start it, and the destination.
        """
        super().setUp()
        self.far = Listener(self)
        self.port = self.openServer()
        self.inner = InnerBytes(self.shopPEM)
        self.context = outerContext(False, self.annPEM, self.gate.ca)

    def tunnel(self, wishes: str = "handshake, none", **more: Any) -> tuple[Hand, Talker]:
        """
        Make a tunnel.

        @return: The client proxy's side, and the destination's.
        """
        hand = ask(self, self.port, more.pop("context", self.context), f"localhost:{self.far.port}", wishes)
        self.assertTrue(hand.answer.startswith(b"HTTP/1.1 200 "), hand.answer)
        return hand, self.far.accept()

    def greeted(self, hand: Hand, far: Talker, inner: InnerBytes | None = None) -> None:
        """
        Have the inner handshake come to where the server has answered.
        """
        inner = inner or self.inner
        hand.send(inner.hello)
        self.assertEqual(inner.hello, far.read(len(inner.hello)))
        far.send(inner.serverHello)
        self.assertEqual(inner.serverHello, hand.read(len(inner.serverHello)))

    def switched(self) -> tuple[Hand, Talker]:
        """
        Make a tunnel, and take the TLS off.
        """
        hand, far = self.tunnel()
        self.greeted(hand, far)
        hand.readEnd()
        hand.endWrite()
        return hand, far

    def stays(self, hand: Hand, far: Talker) -> None:
        """
        Expect a tunnel to be one, and inside TLS.
        """
        for number in range(3):
            one = data(500, number)
            far.send(one)
            self.assertEqual(one, hand.read(len(one)))
            hand.send(one)
            self.assertEqual(one, far.read(len(one)))

    def withoutProtocol(self) -> ssl.SSLContext:
        """
        Make what a client proxy speaks that offers no protocol.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(self.annPEM)
        context.load_verify_locations(self.gate.ca)
        return context

    def cut(self, hand: Hand, far: Talker) -> None:
        """
        Expect that the destination gets nothing more, and nobody what was not for them.
        """
        self.assertEqual(b"", far.readAll())
        self.assertNotIn(_MARK, hand.readAll())


class _Vision:
    """
    What went wrong with XTLS.
    """

    def test_neverGuessed(self: Any) -> None:
        """
        What passes does not take TLS off where nobody has asked for that, however much it looks like a handshake.
        """
        for wishes in ("none", ""):
            hand, far = self.tunnel(wishes)
            self.greeted(hand, far)
            self.stays(hand, far)

    def test_nothingIsLeftInTheBuffers(self: Any) -> None:
        """
        The last bytes inside TLS, its end, and the first bytes in plain may come in one segment, or cut anywhere.
        """
        for step in (0, 1, 7, 24, 100):
            hand, far = self.tunnel()
            self.greeted(hand, far)
            far.send(_MARK)
            hand.readEnd()
            early, late = data(3000, 1), data(5000, 2)
            hand.together(early, late, step)
            self.assertEqual(early + late, far.read(len(early + late)))
            self.assertEqual(_MARK, hand.readPlain(len(_MARK)))

    def test_outerOfAnotherVersion(self: Any) -> None:
        """
        TLS 1.2 between the proxies is refused, or stays.
        """
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            hand, far = self.tunnel()
        except (ssl.SSLError, Cut, OSError):
            return
        self.greeted(hand, far)
        self.stays(hand, far)

    def test_outerOfAnotherProtocol(self: Any) -> None:
        """
        Who does not offer the protocol cannot get what comes with it.
        """
        for alpn in (["http/1.1"], []):
            own = outerContext(False, self.annPEM, self.gate.ca, alpn) if alpn else self.withoutProtocol()
            hand, far = self.tunnel(context=own)
            self.greeted(hand, far)
            self.stays(hand, far)

    def test_weakSuites(self: Any) -> None:
        """
        TLS stays around suites with short tags, or none.
        """
        for suite in (0x1304, 0x1305, 0xC0B4, 0x0000):
            hand, far = self.tunnel()
            hello = bytearray(self.inner.serverHello)
            hello[SUITE : SUITE + 2] = suite.to_bytes(2, "big")
            hand.send(self.inner.hello)
            self.assertEqual(self.inner.hello, far.read(len(self.inner.hello)))
            far.send(bytes(hello))
            self.assertEqual(hello, hand.read(len(hello)))
            self.stays(hand, far)

    def test_wholeRecordsOnly(self: Any) -> None:
        """
        A ServerHello takes TLS off when its record is whole, however it comes, and if nothing else is in the record.
        """
        hand, far = self.tunnel()
        hand.send(self.inner.hello)
        for at in range(len(self.inner.serverHello)):
            far.send(self.inner.serverHello[at : at + 1])
        self.assertEqual(self.inner.serverHello, hand.read(len(self.inner.serverHello)))
        hand.readEnd()

        message = self.inner.serverHello[5:]
        first = b"\x16\x03\x03" + (60).to_bytes(2, "big") + message[:60]
        second = b"\x16\x03\x03" + (len(message) - 60).to_bytes(2, "big") + message[60:]
        hand, far = self.tunnel()
        hand.send(self.inner.hello)
        far.send(first + second + _MARK)
        self.assertEqual(first + second, hand.read(len(first + second)))
        hand.readEnd()
        self.assertEqual(_MARK, hand.readPlain(len(_MARK)))

        more = b"\x08\x00\x00\x02\x00\x00"
        coalesced = b"\x16\x03\x03" + (len(message) + len(more)).to_bytes(2, "big") + message + more
        hand, far = self.tunnel()
        hand.send(self.inner.hello)
        self.assertEqual(self.inner.hello, far.read(len(self.inner.hello)))
        far.send(coalesced)
        self.assertEqual(coalesced, hand.read(len(coalesced)))
        self.stays(hand, far)

    def test_allIsWrittenBefore(self: Any) -> None:
        """
        TLS comes off behind early data that a slow destination has not read yet, and not before.
        """
        hand, far = self.tunnel()
        self.greeted(hand, far)
        hand.readEnd()
        early = [data(16000, number) for number in range(300)]

        def send() -> None:
            hand.send(*early)
            hand.together(b"", _MARK)

        sending = threading.Thread(target=send)
        sending.start()
        far.send(self.inner.rest)
        self.assertEqual(self.inner.rest, hand.readPlain(len(self.inner.rest)))
        sending.join(0.3)
        whole = b"".join(early) + _MARK
        self.assertEqual(whole, far.read(len(whole)))
        sending.join()

    def test_eachDirectionByItself(self: Any) -> None:
        """
        One direction goes on inside TLS, to the end of a record at least, while the other is plain.
        """
        hand, far = self.tunnel()
        self.greeted(hand, far)
        hand.readEnd()
        early = data(5000)
        for at in range(0, len(early), 1000):
            far.send(data(100, at))
            self.assertEqual(data(100, at), hand.readPlain(105))
            hand.send(early[at : at + 1000])
            self.assertEqual(early[at : at + 1000], far.read(len(early[at : at + 1000])))
        hand.together(b"", _MARK)
        self.assertEqual(_MARK, far.read(len(_MARK)))

    def test_nothingIsWrittenAfterTheEnd(self: Any) -> None:
        """
        Once TLS has ended it writes nothing more, whatever comes and however all ends: no alert, no second end.
        """

        def fin(hand: Hand, far: Talker) -> None:
            hand.sock.shutdown(1)

        def farFin(hand: Hand, far: Talker) -> None:
            far.endWrite()

        def garbage(hand: Hand, far: Talker) -> None:
            hand.plain(b"GET / HTTP/1.1\r\n\r\n" * 10)

        def forged(hand: Hand, far: Talker) -> None:
            hand.plain(data(19))

        def farReset(hand: Hand, far: Talker) -> None:
            far.reset()

        for early in (True, False):
            for act in (fin, farFin, garbage, forged, farReset):
                hand, far = self.tunnel()
                self.greeted(hand, far)
                hand.readEnd()
                if not early:
                    hand.endWrite()
                far.send(_MARK)
                self.assertEqual(_MARK, hand.readPlain(len(_MARK)))
                act(hand, far)
                far.close()
                self.assertEqual(b"", hand.readAll())

    def test_noneStaysInside(self: Any) -> None:
        """
        Tunnels with and without TLS around them go on side by side.
        """
        kept, kept2 = self.tunnel("none")
        self.greeted(kept, kept2)
        hand, far = self.switched()
        self.stays(kept, kept2)
        hand.plain(_MARK)
        self.assertEqual(_MARK, far.read(len(_MARK)))
        self.stays(kept, kept2)

    def test_garbageAfterTheInnerEnd(self: Any) -> None:
        """
        What is no TLS goes nowhere, however long the session was one.
        """
        hand, far = self.switched()
        hand.plain(self.inner.finished, data(19))
        self.assertEqual(self.inner.finished + data(19), far.read(len(self.inner.finished + data(19))))
        hand.plain(b"GET / HTTP/1.1\r\n\r\n")
        self.cut(hand, far)


class _ClearCommandChannel:
    """
    What went wrong with C{CCC}.
    """

    def test_peerSkipsItsEnd(self: Any) -> None:
        """
        Plain bytes without a close_notify before them are no part of the tunnel.
        """
        hand, far = self.tunnel()
        self.greeted(hand, far)
        hand.plain(_MARK)
        self.cut(hand, far)

    def test_endIsNoPlaintext(self: Any) -> None:
        """
        The proxies' own close_notify is not taken for bytes of the tunnel, neither way.
        """
        hand, far = self.switched()
        far.send(_MARK)
        self.assertEqual(_MARK, hand.readPlain(len(_MARK)))
        hand.plain(self.inner.finished)
        hand.sock.shutdown(1)
        self.assertEqual(self.inner.finished, far.readAll())

    def test_demandIsNotBypassed(self: Any) -> None:
        """
        An end of TLS before its time is an end, and nothing behind it gets through.
        """
        hand, far = self.tunnel()
        hand.together(b"", _MARK)
        self.cut(hand, far)

        hand, far = self.tunnel()
        hand.together(self.inner.hello, _MARK)
        self.assertEqual(self.inner.hello, far.read(len(self.inner.hello)))
        self.cut(hand, far)

        hand, far = self.tunnel("none")
        self.greeted(hand, far)
        hand.together(b"", _MARK)
        self.cut(hand, far)

    def test_endInTheMiddle(self: Any) -> None:
        """
        Nor does TLS come off in the middle of a record.
        """
        hand, far = self.tunnel()
        self.greeted(hand, far)
        hand.together(data(100)[:50], data(100)[50:] + _MARK)
        self.assertEqual(data(100)[:50], far.read(50))
        self.cut(hand, far)

    def test_bareEnd(self: Any) -> None:
        """
        The end of the TCP stream is not the end of TLS.
        """
        hand, far = self.tunnel()
        self.greeted(hand, far)
        hand.sock.shutdown(1)
        self.assertEqual(b"", far.readAll())
        far.close()


class StdlibReverseProxyTests(_Vision, _ClearCommandChannel, ReverseProxyCase):
    """
    The reverse proxy on Python's own library.
    """

    def openServer(self, value: str = "handshake") -> int:
        """
        Start it.
        """
        return self.stdlibServer(value).port


class ReverseProxyTests(_Vision, _ClearCommandChannel, ReverseProxyCase):
    """
    Ours.
    """

    def openServer(self, value: str = "handshake") -> int:
        """
        Start it.
        """
        self.proxied = self.proxy(self.sequentialServer(value))
        return self.proxied.port("sequential-server")


class LoopbackReverseProxyTests(ReverseProxyCase):
    """
    Ours, which takes its TLS off by way of a socket on loopback.
    """

    def openServer(self, value: str = "handshake") -> int:
        """
        Start it.
        """
        return self.proxy(self.sequentialServer(value, take_off="loopback")).port("sequential-server")

    def test_all(self) -> None:
        """
        None of these faults.
        """
        for name, fault in [*vars(_Vision).items(), *vars(_ClearCommandChannel).items()]:
            if name.startswith("test_"):
                self.context = outerContext(False, self.annPEM, self.gate.ca)
                fault(self)
