"""
Tests for L{tlsproxy.wire.dtlsoutside}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.dtlsoutside import ASKING as SERVER_ASKS
from tlsproxy.wire.dtlsoutside import CLEAR, FINISHING, HELLO, KEYED, NEWER, askedFor, outside


def record(kind: int, payload: bytes = b"", epoch: int = 0) -> bytes:
    """
    Write a record.
    """
    head = bytes([kind, 0xFE, 0xFD]) + epoch.to_bytes(2, "big") + bytes(6)
    return head + len(payload).to_bytes(2, "big") + payload


def message(kind: int, body: bytes = b"") -> bytes:
    """
    Write a handshake message in one fragment.
    """
    size = len(body).to_bytes(3, "big")
    return bytes([kind]) + size + bytes(5) + size + body


HELLO_RECORD = record(22, message(1, b"hello"))
ASKING = record(22, message(3, b"\xfe\xff\x06cookie"))


class OutsideTests(SynchronousTestCase):
    """
    Datagrams of both sides.
    """

    def test_kinds(self) -> None:
        """
        What is in clear is told from what keys protect, and a handshake from all else.
        """
        for datagram, seen in (
            (HELLO_RECORD, HELLO | CLEAR),
            (record(22, message(16, b"key")), CLEAR),
            (record(20, b"\1"), CLEAR),
            (record(21, b"\2\x28"), CLEAR),
            (record(22, b"finished", 1), FINISHING),
            (record(23, b"data", 1), KEYED),
            (record(21, b"alert", 256), KEYED),
            (record(22, message(16)) + record(20, b"\1") + record(22, b"finished", 1), CLEAR | FINISHING),
            (b"\x19\xfe\xfd with a connection ID", KEYED),
            (b"\x2f a record of DTLS 1.3", NEWER | KEYED),
            (b"\x2e one of its handshake", NEWER | FINISHING),
            (record(22, message(2, b"hello") + message(14)), CLEAR | SERVER_ASKS),
            (record(22, message(14) + message(1)), CLEAR | SERVER_ASKS | HELLO),
            (record(22, message(14), 1), FINISHING),
            (record(22, message(11, message(14))), CLEAR),
            (b"junk", CLEAR),
            (b"\x16\xfe\xfd", CLEAR),
            (b"", 0),
        ):
            self.assertEqual(outside(datagram), seen, datagram)
            self.assertEqual(outside(memoryview(datagram)), seen, datagram)

    def test_hiddenHello(self) -> None:
        """
        A hello is seen wherever it stands.
        """
        for datagram in (
            record(23, b"data", 1) + HELLO_RECORD,
            record(20, b"\1") + HELLO_RECORD,
            record(22, message(16, b"key") + message(1, b"hello")),
            record(22, b"\1"),
            record(22) + HELLO_RECORD[:20],
        ):
            self.assertTrue(outside(datagram) & HELLO, datagram)

    def test_noHello(self) -> None:
        """
        Nothing else is taken for one.
        """
        for datagram in (
            record(22, message(16, message(1))),
            record(23, message(1), 1),
            record(22, message(1), 1),
            record(20, message(1)),
            record(22, message(2) + b"\x0b"),
            record(22),
        ):
            self.assertFalse(outside(datagram) & HELLO, datagram)

    def test_askedFor(self) -> None:
        """
        The cookie of a HelloVerifyRequest is found.
        """
        self.assertEqual(askedFor(ASKING), b"cookie")
        self.assertEqual(askedFor(memoryview(ASKING)), b"cookie")
        for other in (
            HELLO_RECORD,
            ASKING[:-1],
            ASKING[:20],
            b"",
            record(23, ASKING[13:], 1),
            record(22, ASKING[13:], 1),
        ):
            self.assertEqual(askedFor(other), b"")

    @given(st.binary(max_size=300), st.sampled_from((b"", HELLO_RECORD, ASKING, record(22, b"", 0))))
    def test_anything(self, junk: bytes, before: bytes) -> None:
        """
        Whatever comes is looked at in the end.
        """
        seen = outside(before + junk)
        self.assertTrue(0 <= seen <= HELLO | CLEAR | FINISHING | KEYED | SERVER_ASKS | NEWER)
        self.assertTrue(seen & HELLO or before != HELLO_RECORD)
        askedFor(before + junk)
