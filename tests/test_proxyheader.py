# -*- test-case-name: tests.test_proxyheader -*-
"""
L{tlsproxy.proxyheader}; see L{tests.test_foreign_wrappers} for the connections that it belongs to.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import tellPeer
from tlsproxy.proxyheader import SECONDS, ProxyHeader, isRight

BALANCER = IPv4Address("TCP", "10.0.0.7", 4711)
V2 = V2Parser.PREFIX
GOOD = (
    b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n",
    b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50112 443\r\n",
    b"PROXY UNKNOWN whatever it says\r\n",
    V2 + b"\x21\x11\x00\x0c" + bytes((192, 0, 2, 7, 198, 51, 100, 1, 195, 192, 1, 187)),
    V2 + b"\x21\x21\x00\x24" + bytes(36),
    V2 + b"\x21\x31\x00\xd8" + b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0"),
    V2 + b"\x20\x00\x00\x00",
)
NO_ADDRESSES = (
    b"PROXY TCP4 a:b 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 a:b 1 2\r\n",
    b"PROXY TCP4 \x1b[31mRED 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 x\nshop\toutcome=closed 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 fe80::1%\x1b[31m ::1 1 2\r\n",
    b"PROXY TCP6 ::1 ::1%1 1 2\r\n",
    b"PROXY TCP4  5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 99999999 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1_0 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 010 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
)
NOT_READ = (
    b"PROXY TCP4 \xff\xfe 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 x 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 " + b"1" * 5000 + b" 2\r\n",
)
NO_HEADERS = (
    b"PROXY TCP9 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4\r\n",
    b"PROXY " + b"A" * 200,
    b"GET / HTTP/1.0\r\n\r\n",
    V2 + b"\x21\x11\x00\x02" + bytes(2),
    V2 + b"\x2f\x11\x00\x0c" + bytes(12),
)


class Taker(Protocol):
    """
    What is behind the wrapper, and asks for the header as soon as bytes come.
    """

    def __init__(self) -> None:
        self.header: Any = None
        self.took: list[tuple[bool, bytes]] = []
        self.fails = False

    def dataReceived(self, data: bytes) -> None:
        """
        Note it.
        """
        if self.fails:
            raise KeyError("a bug")
        self.took.append((self.header.believed(), data))


class ProxyHeaderTests(SynchronousTestCase):
    """
    L{ProxyHeader}
    """

    def setUp(self) -> None:
        """
        Listen to the log.
        """
        self.events: list[Any] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def connect(self) -> HAProxyProtocolWrapper:
        """
        Have somebody connect.
        """
        self.events.clear()
        self.clock = Clock()
        self.told: list[str] = []
        self.taker = Taker()
        factory: Any = HAProxyWrappingFactory(Factory())
        wrapper = HAProxyProtocolWrapper(factory, self.taker)
        self.header = self.taker.header = ProxyHeader(
            self.clock, wrapper, lambda: self.told.append("came"), lambda: self.told.append("refused")
        )
        wrapper.makeConnection(StringTransport(peerAddress=BALANCER))
        return wrapper

    def said(self) -> list[str | None]:
        """
        What the log was told.
        """
        return [formatEvent(event) for event in self.events]

    def test_right(self) -> None:
        """
        A header that is right is believed, alone, in pieces, and with bytes behind it.
        """
        for good in GOOD:
            for pieces in ([good], [good[:16], good[16:]], [good + b"hello"]):
                wrapper = self.connect()
                for piece in pieces:
                    if piece:
                        wrapper.dataReceived(piece)
                self.assertEqual((["came"], True, []), (self.told, self.header.believed(), self.said()), good)
                self.assertEqual([(True, b"hello")] if len(pieces[0]) > len(good) else [], self.taker.took)
                self.header.stop()
                self.assertEqual([], self.clock.getDelayedCalls())

    def refuse(self, wrong: bytes, why: str) -> None:
        """
        Send what is wrong, in every way; it is refused once, the log says why, once, and nobody gets anything of it.
        """
        for behind in (b"", b"hello"):
            wrapper = self.connect()
            wrapper.dataReceived(wrong + behind)
            wrapper.dataReceived(GOOD[0] + b"and more")
            believed = {self.header.believed(), *(whether for whether, _ in self.taker.took)}
            self.assertEqual({False}, believed, wrong)
            self.assertEqual(["refused"], [word for word in self.told if word != "came"], wrong)
            self.assertEqual([f"10.0.0.7:4711 {why}"], self.said(), wrong)
            self.assertEqual([], self.clock.getDelayedCalls())

    def test_noAddresses(self) -> None:
        """
        Addresses and ports that are none are refused, and so is whatever another reader could take otherwise.
        """
        for wrong in NO_ADDRESSES:
            if wrong.startswith(b"PROXY TCP4  "):
                # An empty word moves the others up.
                self.assertNotEqual([], V1Parser.parse(wrong[:-2]))
            self.check(wrong)

    def check(self, wrong: bytes) -> None:
        """
        Refuse what names no address.
        """
        self.refuse(wrong, "sent a PROXY header with an address or a port that is none")

    def test_notRead(self) -> None:
        """
        What Twisted's parser raises is nobody's traceback.
        """
        for wrong in NOT_READ:
            self.refuse(wrong, "sent a PROXY header that cannot be read")

    def test_noHeaders(self) -> None:
        """
        What is no header at all is refused with a sentence, too.
        """
        for wrong in NO_HEADERS:
            self.refuse(wrong, "sent no PROXY header: only a balancer that sends one may connect here")

    def test_late(self) -> None:
        """
        A header that does not come in time is refused, and comes too late then.
        """
        wrapper = self.connect()
        wrapper.dataReceived(GOOD[0][:20])
        self.clock.advance(SECONDS)
        wrapper.dataReceived(GOOD[0][20:])
        self.assertEqual((["refused"], False), (self.told, self.header.believed()))
        self.assertEqual(["10.0.0.7:4711 did not send a PROXY header within 5 s"], self.said())

    def test_notItsBug(self) -> None:
        """
        What is raised by whoever takes the bytes behind a header is not taken for a wrong header.
        """
        wrapper = self.connect()
        self.taker.fails = True
        self.assertRaises(KeyError, wrapper.dataReceived, GOOD[0] + b"hello")
        self.assertEqual([], self.said())

    def test_stop(self) -> None:
        """
        When nobody waits any more, the wrapper is what it was.
        """
        wrapper = self.connect()
        for _ in range(2):
            self.header.stop()
        self.assertEqual(([], False), (self.clock.getDelayedCalls(), self.header.believed()))
        wrapper.dataReceived(GOOD[0])
        self.assertEqual(([], []), (self.told, self.said()))

    @given(st.binary(max_size=80))
    def test_anything(self, rest: bytes) -> None:
        """
        Whatever stands in a header: no error comes of it, and what is believed can be told in a log.
        """
        wrapper = self.connect()
        wrapper.dataReceived(b"PROXY TCP4 " + rest + b"\r\n")
        self.assertEqual(1, len(self.told) - self.told.count("came") + self.header.believed())
        if self.header.believed():
            self.assertTrue(tellPeer(wrapper.getPeer()).isprintable())
        self.header.stop()


class IsRightTests(SynchronousTestCase):
    """
    L{isRight}
    """

    def test_isRight(self) -> None:
        """
        It goes by all that the header says.
        """

        class Info:
            header = b"PROXY TCP6 ::1 ::2 3 4"
            source: Any = IPv6Address("TCP", "::1", 3)
            destination: Any = IPv6Address("TCP", "::2", 4)

        info: Any = Info
        self.assertTrue(isRight(info))
        Info.header += b" "
        self.assertFalse(isRight(info))
        Info.source = Info.destination = UNIXAddress(b"\x1b")
        self.assertTrue(isRight(info))
