"""
Tests for L{tlsproxy.datagram.passed}.
"""

from __future__ import annotations

import errno

from tests.datagram.test_proof import DATA, FINISHED, asking
from tests.datagram.wires import EndCase
from tests.wire.test_dtlsoutside import message, record
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.passed import MOST_WAITING, UNPROVEN, PassedEnd
from tlsproxy.datagram.proof import FACTOR
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.wire.dtlshello import DTLSHello, readHello
from tlsproxy.wire.dtlsoutside import CLEAR, HELLO

FLIGHT = [record(22, message(11, bytes(275))) for _ in range(19)]
FLIGHT.append(record(22, message(11, bytes(250))) + record(22, message(14)))
"""What a server says, 300 bytes each."""


class PassedTests(EndCase):
    """
    A client, and what an upstream has for it.
    """

    end: PassedEnd

    def setUp(self) -> None:
        """
        Have a client say hello.
        """
        super().setUp()
        self.over: list[tuple[str, str]] = []
        self.proofs = 0
        hello, datagram = self.says()
        self.end = PassedEnd(self.reactor, self.nearWire, hello)
        self.end.onProven = self.proven
        self.end.onEnd = lambda *how: self.over.append(how)
        self.far.onEnd = lambda *how: self.over.append(how)
        self.end.upstream, self.far.doubted = self.far, True
        self.give(self.end, datagram)
        self.size = len(datagram)

    def says(self, name: str = "shop.example", alpn: tuple[str, ...] = ()) -> tuple[DTLSHello, bytes]:
        """
        Make a hello.
        """
        connection = self.client(name=name, alpn=alpn).begin(DTLSConnection, 1200)
        try:
            connection.handshake()
        except Exception:
            pass
        (datagram,) = connection.output()
        return readHello(datagram), datagram

    def proven(self) -> None:
        """
        Count proofs.
        """
        self.proofs += 1

    def answer(self, *datagrams: bytes) -> list[bool]:
        """
        Have the upstream say something.
        """
        told = []
        for datagram in datagrams:
            self.buffer.view[: len(datagram)] = datagram
            told.append(self.end.emit(self.buffer, len(datagram)))
        return told

    @property
    def got(self) -> int:
        """
        How many bytes the client got.
        """
        return sum(map(len, self.nearWire.sent))

    def test_limited(self) -> None:
        """
        A client gets a few times what it has sent, and more when it has sent more, in the order in which it came.
        """
        self.answer(*FLIGHT)
        self.assertTrue(FACTOR * self.size - 300 < self.got <= FACTOR * self.size, self.got)
        before = self.got
        self.answer(record(21, b"\2\x28"))  # It would fit, and may not overtake.
        self.assertEqual(self.got, before)
        self.give(self.end, record(22, message(16, bytes(175))))
        self.assertTrue(before < self.got <= FACTOR * (self.size + 200))
        self.assertTrue(self.end.unproven)
        self.assertEqual((self.proofs, self.nearWire.done), (0, []))

    def test_waiting(self) -> None:
        """
        What waits is bounded, in bytes and in number.
        """
        told = self.answer(*(FLIGHT * 5))
        self.assertTrue(told.count(True) <= (MOST_WAITING + FACTOR * self.size) // 300 + 1)
        self.assertEqual(self.end.dropped, {UNPROVEN: told.count(False)})
        self.setUp()
        told = self.answer(*(b"x" * 60 for _ in range(100)))
        self.assertEqual(told.count(True), FACTOR * self.size // 60 + 64)
        self.end.finish()
        self.assertEqual((len(self.end._waiting), self.nearWire.closed), (0, [self.end]))

    def test_cookie(self) -> None:
        """
        Once a client has brought back its cookie nothing holds it up.
        """
        self.answer(asking(b"cookie"))
        self.assertEqual(len(self.nearWire.sent), 1)
        self.buffer.view[: self.size] = self.says()[1]
        self.end.heard(self.buffer, self.size, HELLO | CLEAR, b"cookie")
        self.assertEqual((self.end.unproven, self.proofs, self.nearWire.done), (False, 1, [self.end]))
        self.answer(*FLIGHT)
        self.assertEqual(len(self.nearWire.sent), 21)
        self.give(self.end, DATA)
        self.assertEqual(len(self.heard(self.end)), 3)
        self.assertEqual(self.proofs, 1)

    def test_handshake(self) -> None:
        """
        So it is when the upstream has believed its handshake; what waits comes first.
        """
        self.answer(*FLIGHT)
        self.give(self.end, FINISHED)
        self.assertTrue(self.end.unproven)
        self.answer(FINISHED)
        self.assertEqual(list(self.nearWire.sent), [*FLIGHT, FINISHED])
        self.assertEqual(self.proofs, 1)

    def test_isFor(self) -> None:
        """
        The same name and the same protocols lead to the same upstream.
        """
        self.assertTrue(self.end.isFor(self.says()[0]))
        self.assertFalse(self.end.isFor(self.says("desk.example")[0]))
        self.assertFalse(self.end.isFor(self.says(alpn=("coap",))[0]))

    def test_nobodyThere(self) -> None:
        """
        The network is believed until the upstream has said something.
        """
        self.far.unreachable(errno.ECONNREFUSED)
        self.assertEqual(self.over, [("failed", "the upstream does not take datagrams: nobody listens there")])
        self.setUp()
        self.answer(asking(b"cookie"))
        self.far.unreachable(errno.ECONNREFUSED)
        self.assertEqual((self.over, self.far.dropped), ([], {"unanswered": 1}))

    def test_refused(self) -> None:
        """
        A client can be told by an alert, which is smaller than what it has sent.
        """
        self.end.refuse(112)
        (alert,) = self.nearWire.sent
        self.assertEqual((alert[0], alert[-2:]), (21, b"\2\x70"))
        self.assertIsInstance(self.end, DatagramEnd)
