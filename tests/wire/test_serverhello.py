"""
Tests for L{tlsproxy.wire.serverhello}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import numbers, vector
from tests.wire.flights import RETRY, Pair, records, serverHello
from tlsproxy.interfaces import INWARD
from tlsproxy.wire.serverhello import ServerHello, ServerHelloError, readServerHello

GOOD = serverHello(sessionID=bytes(32))[4:]


class ServerHelloTests(SynchronousTestCase):
    """
    ServerHellos, taken apart.
    """

    def answers(self, pair: Pair) -> list[ServerHello]:
        """
        Have a pair shake hands, and read the hellos of its server.
        """
        pair.shake()
        wires = [each for way, data in pair.flights if way == INWARD for each in records(data)]
        return [readServerHello(wire[9:]) for wire in wires if wire[0] == 22 and wire[5] == 2]

    def assertRefused(self, body: bytes, sentence: str) -> None:
        """
        Check that a hello is refused.
        """
        self.assertEqual(str(self.assertRaises(ServerHelloError, readServerHello, body)), sentence)

    def test_three(self) -> None:
        """
        OpenSSL's choice of TLS 1.3.
        """
        (found,) = self.answers(Pair(SSL.TLS1_3_VERSION))
        self.assertEqual((found.version, found.selected, found.legacyVersion), (0x0304, 0x0304, 0x0303))
        self.assertEqual((found.cipherSuite, found.compression, found.retry), (0x1302, 0, False))
        self.assertEqual((sorted(found.extensions), found.downgraded), ([43, 51], False))
        self.assertEqual(len(found.sessionID), 32)
        self.assertIsNotNone(found.group)

    def test_retry(self) -> None:
        """
        OpenSSL's request for another hello.
        """
        first, second = self.answers(Pair(SSL.TLS1_3_VERSION, group="secp384r1"))
        self.assertEqual((first.retry, first.group, first.version), (True, 24, 0x0304))
        self.assertEqual((second.retry, second.group, second.version), (False, 24, 0x0304))

    def test_two(self) -> None:
        """
        OpenSSL's choice of TLS 1.2, where that is all it may choose.
        """
        (found,) = self.answers(Pair(SSL.TLS1_2_VERSION, suites=b"ECDHE-ECDSA-AES128-GCM-SHA256"))
        self.assertEqual((found.version, found.selected, found.legacyVersion), (0x0303, None, 0x0303))
        self.assertEqual((found.cipherSuite, found.group, found.retry), (0xC02B, None, False))

    def test_downgraded(self) -> None:
        """
        A server that was made to choose less says so.
        """
        for mark in (b"DOWNGRD\1", b"DOWNGRD\0"):
            self.assertTrue(readServerHello(serverHello(random=bytes(24) + mark)[4:]).downgraded)
        self.assertFalse(readServerHello(serverHello(random=bytes(24) + b"DOWNGRD\2")[4:]).downgraded)

    def test_noExtensions(self) -> None:
        """
        Before TLS 1.3 there may be no extensions.
        """
        self.assertEqual(readServerHello(GOOD[:70]).extensions, ())
        self.assertEqual(readServerHello(GOOD[:70] + b"\0\0").extensions, ())

    def test_cutShort(self) -> None:
        """
        Any other part of a hello is none, and neither is one with something after it.
        """
        for end in range(len(GOOD)):
            if end != 70:
                self.assertRaises(ServerHelloError, readServerHello, GOOD[:end])
        self.assertRaises(ServerHelloError, readServerHello, GOOD + b"\0")

    def test_malformed(self) -> None:
        """
        What is wrong is said.
        """
        early = "the server's hello is malformed: it ends too early"
        self.assertRefused(b"", early)
        self.assertRefused(GOOD[:34] + b"\x21" + bytes(60), early)
        self.assertRefused(GOOD + b"\0", "the server's hello is malformed: the extension block does not end with it")
        for extensions, sentence in (
            ([(5, b""), (5, b"")], "the server's hello has the extension 5 twice"),
            ([(43, b"\3")], "the server's hello has a malformed version"),
            ([(43, b"\3\4\0")], "the server's hello has a malformed version"),
            ([(51, b"\0\x1d")], "the server's hello has a malformed key share"),
            ([(51, b"\0\x1d\0\0")], "the server's hello has a malformed key share"),
            ([(51, b"\0\x1d\0\2x")], "the server's hello has a malformed key share"),
            ([(51, b"\0\x1d\0\1xy")], "the server's hello has a malformed key share"),
        ):
            self.assertRefused(serverHello(version=None, group=None, extensions=extensions)[4:], sentence)
        for content in (b"", b"\0", b"\0\x1d\0\1x"):
            self.assertRefused(
                serverHello(random=RETRY, group=None, extensions=[(51, content)])[4:],
                "the server's request for another hello has a malformed group",
            )
        for block in (b"\0", b"\0\5\0", b"\0\5\0\1"):
            self.assertRefused(
                GOOD[:70] + vector(2, block), "the server's hello is malformed: its last extension ends too late"
            )

    @given(at=st.integers(0, len(GOOD)), length=st.integers(0, 4), put=st.binary(max_size=6))
    def test_anything(self, at: int, length: int, put: bytes) -> None:
        """
        Whatever comes, nothing but a refusal is raised, and what is read stands there.
        """
        body = GOOD[:at] + put + GOOD[at + length :]
        try:
            found = readServerHello(body)
        except ServerHelloError:
            return
        self.assertTrue(body.startswith(numbers([found.legacyVersion])))
        self.assertIn(vector(1, found.sessionID) + numbers([found.cipherSuite]), body)
        self.assertEqual(found.retry, body[2:34] == RETRY)
