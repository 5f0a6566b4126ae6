"""
Tests for what L{tlsproxy.wire.dtlshello} refuses.
"""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.dtlshellos import USUAL, body, cut, fragment, record, wholeHello
from tests.wire.realdtlshellos import COOKIE
from tlsproxy.wire.clienthello import HelloError
from tlsproxy.wire.dtlshello import FragmentedHello, HelloPieces, helloVerifyRequest, readHello

GOOD = wholeHello()


class RefusalTests(SynchronousTestCase):
    """
    What is refused, with which sentence and alert.
    """

    def assertRefused(self, datagram: bytes, sentence: str, alert: int | None) -> None:
        """
        Fail unless both readers refuse a datagram alike.
        """
        for read in (readHello, HelloPieces().take):
            error = self.assertRaises(HelloError, read, datagram)
            self.assertEqual((str(error), error.alert), (sentence, alert))
            self.assertNotIsInstance(error, FragmentedHello)

    def test_noDTLS(self) -> None:
        """
        What is not records of DTLS is refused with what is wrong with it, and without an alert.
        """
        for datagram, why in (
            (b"", "the datagram is empty"),
            (b"GET / HTTP/1.1", "a byte 0x47 stands where a DTLS record must begin"),
            (b"\x16\3\1" + bytes(60), "the DTLS record has the version 0x0301"),
            (GOOD[:-1], "the datagram ends within a DTLS record"),
            (GOOD + b"\x16", "the datagram ends within the header of a DTLS record"),
        ):
            self.assertRefused(datagram, f"the client does not speak DTLS: {why}", None)

    def test_otherRecords(self) -> None:
        """
        A record that belongs after a handshake, or to another one, is refused.
        """
        self.assertRefused(
            record(fragment(body()), epoch=1),
            "the client sent a DTLS record of epoch 1 and has no association",
            10,
        )
        for payload, type, what in (
            (b"\1\0", 21, "the DTLS alert 0"),
            (b"\2", 21, "a DTLS record of type 21"),
            (b"data", 23, "a DTLS record of type 23"),
            (b"\1", 20, "a DTLS record of type 20"),
        ):
            self.assertRefused(record(payload, type=type), f"the client sent {what} before its hello", 10)

    def test_otherMessages(self) -> None:
        """
        A handshake message that is no ClientHello is refused.
        """
        for kind in (0, 2, 3, 20):
            self.assertRefused(
                record(fragment(body(), kind=kind)),
                f"the client began with a DTLS handshake message of type {kind}, not with a hello",
                10,
            )

    def test_header(self) -> None:
        """
        A message whose header is cut off, or tells lengths that cannot be, is refused.
        """
        content = body()
        for payload, sentence, alert in (
            (b"", "the client's hello is cut off within its header", 50),
            (fragment(content)[:11], "the client's hello is cut off within its header", 50),
            (fragment(content)[:-1], "a fragment of the client's hello ends after its record does", 50),
            (fragment(content) + b"x", "other bytes follow the client's hello in its DTLS record", 10),
            (fragment(content) * 2, "other bytes follow the client's hello in its DTLS record", 10),
            (fragment(content, 1, len(content)), "a fragment of the client's hello ends after the hello does", 50),
            (fragment(content, 0, 10), "a fragment of the client's hello ends after the hello does", 50),
            (fragment(b"", 0, 10), "a fragment of the client's hello is empty", 50),
            (fragment(b""), "a fragment of the client's hello is empty", 50),
            (fragment(bytes(16373)), "the client's DTLS record is too long: 16385 bytes", 22),
            (fragment(content, sequence=3), "the client's hello has the message number 3", 47),
        ):
            self.assertRefused(record(payload), sentence, alert)

    def test_body(self) -> None:
        """
        What is wrong with the hello itself is told as of TLS, and so it is of the cookie.
        """
        content = body(COOKIE)
        for wrong, sentence, alert in (
            (content[:20], "the client's hello is malformed: the session id ends too late", 50),
            (content[:35], "the client's hello is malformed: the cookie ends too late", 50),
            (content[:50], "the client's hello is malformed: the cookie ends too late", 50),
            (content[:70], "the client's hello is malformed: the list of cipher suites ends too late", 50),
            (content[:74], "the client's hello is malformed: the list of compression methods ends too late", 50),
            (content + b"x", "the client's hello is malformed: the extension block ends too early", 50),
            (body(version=0x0303), "the client's hello has the version 0x0303", 70),
            (body(sessionID=bytes(33)), "the client's session id is too long: 33 bytes", 50),
            (body(extensions=USUAL * 2), "the client's hello has the extension 0 twice", 47),
            (body(compressions=b"\1"), "the client insists on compression", 47),
        ):
            self.assertRefused(wholeHello(wrong), sentence, alert)

    def test_anotherRecord(self) -> None:
        """
        Where a hello is to be alone in its datagram, whatever else is in it is refused.
        """
        for more in (GOOD, wholeHello(body(COOKIE)), cut(body(), [40])[0]):
            error = self.assertRaises(HelloError, readHello, GOOD + more)
            self.assertEqual(str(error), "other bytes follow the client's hello in its datagram")
            self.assertEqual(error.alert, 10)


class AnyBytesTests(SynchronousTestCase):
    """
    What holds for any bytes.
    """

    def read(self, datagram: bytes) -> None:
        """
        Read a datagram both ways; fail unless both end as declared, and alike where it holds a whole hello.
        """
        pieces = HelloPieces()
        try:
            whole = readHello(datagram)
        except FragmentedHello:
            with contextlib.suppress(HelloError):
                pieces.take(datagram)
        except HelloError as error:
            self.assertIn(error.alert, (None, 10, 22, 47, 50, 70))
            with contextlib.suppress(HelloError):
                pieces.take(datagram)
        else:
            self.assertEqual(pieces.take(datagram), whole)
            with contextlib.suppress(HelloError):
                self.assertLessEqual(len(helloVerifyRequest(whole, COOKIE)), len(datagram))
        self.assertLessEqual(len(pieces.datagrams), 1)

    @settings(deadline=None, max_examples=300)
    @given(
        changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3),
        length=st.integers(0, 300),
        sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    )
    def test_mutated(self, changes: list[tuple[int, int]], length: int, sizes: list[int]) -> None:
        """
        A hello with some bytes changed, its end cut off, or in fragments, is read or refused.
        """
        for wire in (GOOD, b"".join(cut(body(COOKIE), sizes))):
            mutable = bytearray(wire)
            for at, value in changes:
                mutable[at % len(mutable)] = value
            self.read(bytes(mutable))
            self.read(bytes(mutable[:length]))

    @settings(deadline=None, max_examples=300)
    @given(content=st.binary(max_size=120), cookie=st.binary(max_size=40), before=st.integers(0, 120))
    def test_anyBody(self, content: bytes, cookie: bytes, before: int) -> None:
        """
        So it is where only what is inside is wrong.
        """
        self.read(wholeHello(body(cookie)[:before] + content))

    @given(data=st.binary(max_size=100), before=st.sampled_from([b"", b"\x16\xfe\xff" + bytes(8), GOOD, GOOD[:25]]))
    def test_arbitrary(self, data: bytes, before: bytes) -> None:
        """
        So it is with any bytes at all.
        """
        self.read(before + data)
