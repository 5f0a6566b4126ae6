"""
Tests for L{tlsproxy.wire.answer}.
"""

from __future__ import annotations

import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.heads import mutated
from tlsproxy.wire.answer import AnswerReader, AnswerRefused

SQUID = (
    b"HTTP/1.1 403 Forbidden\r\n"
    b"Server: squid/5.7\r\n"
    b"Mime-Version: 1.0\r\n"
    b"Date: Sat, 28 Nov 2026 20:00:00 GMT\r\n"
    b"Content-Type: text/html;charset=utf-8\r\n"
    b"Content-Length: 3629\r\n"
    b"X-Squid-Error: ERR_ACCESS_DENIED 0\r\n"
    b"Vary: Accept-Language\r\n"
    b"Connection: keep-alive\r\n"
    b"\r\n"
)
SWITCHED = b"HTTP/1.1 200 OK\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: handshake\r\n\r\n"
HEADS = [
    SQUID,
    SWITCHED,
    b"HTTP/1.0 200 Connection established\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 502 No\r\nTransfer-Encoding: chunked\r\n\r\n",
]
PIECES = [b"\r\n", b"\r", b"\n", b" ", b":", b"\0", b"HTTP/1.1 ", b"200", b"TLS-Downgrade: none\r\n", b"\r\n\r\n", b","]
Told = tuple[int, str, bool, str | None, str, int | None, bool]


def told(reader: AnswerReader) -> Told:
    """
    List all that a reader tells.
    """
    return (
        reader.status,
        reader.reason,
        reader.established,
        reader.downgrade,
        reader.contentType,
        reader.length,
        reader.chunked,
    )


def readInPieces(wire: bytes, sizes: list[int]) -> tuple[Told | None, int, str]:
    """
    Read from bytes that come in pieces.

    @param sizes: Of the pieces; the last one is what is left.
    @return: What is told, how many bytes were taken, and the sentence of a refusal; nothing else then.
    """
    reader = AnswerReader()
    taken = at = 0
    for size in [*sizes, len(wire)]:
        piece = wire[at : at + size]
        at += len(piece)
        try:
            found = reader.read(piece)
        except AnswerRefused as e:
            return None, 0, str(e)
        taken += found
        if reader.status:
            break
        assert found == len(piece)
    return told(reader), taken, ""


class AnswerTests(SynchronousTestCase):
    """
    The head of an answer.
    """

    def readAll(self, wire: bytes | str) -> AnswerReader:
        """
        Read a head, and check that nothing beyond it is taken.
        """
        wire = wire.encode("latin-1") if isinstance(wire, str) else wire
        reader = AnswerReader()
        self.assertEqual(reader.read(wire + b"\x16\r\n"), len(wire))
        self.assertEqual(reader.read(b"\r\n\r\n"), 0)
        return reader

    def assertRefused(self, wire: bytes | str, sentence: str) -> None:
        """
        Check that some bytes are refused, and that the last of them is what gives the reason, not one before it.
        """
        wire = wire.encode("latin-1") if isinstance(wire, str) else wire
        AnswerReader().read(wire[:-1])
        self.assertEqual(str(self.assertRaises(AnswerRefused, AnswerReader().read, wire)), sentence)

    def test_established(self) -> None:
        """
        Every status of success makes a tunnel, and what is said of a body is ignored.
        """
        for status in (200, 201, 204, 299):
            for fields in ("", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: x\r\n"):
                reader = self.readAll(f"HTTP/1.1 {status} Fine\r\n{fields}\r\n")
                self.assertEqual(told(reader), (status, "Fine", True, None, "", None, False))

    def test_refusal(self) -> None:
        """
        Of another status one learns the reason, and of the body its type and its length.
        """
        self.assertEqual(
            told(self.readAll(SQUID)), (403, "Forbidden", False, None, "text/html;charset=utf-8", 3629, False)
        )
        reader = self.readAll("HTTP/1.0 502 Bad Gateway\r\n\r\n")
        self.assertEqual(told(reader), (502, "Bad Gateway", False, None, "", None, False))
        reader = self.readAll("HTTP/1.1 502 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.assertEqual((reader.length, reader.chunked), (None, True))

    def test_reason(self) -> None:
        """
        The reason may be left out, and is shown in letters that can be.
        """
        for said, reason in (("", ""), (" ", ""), (" a  b ", "a  b"), (" a\tb", "a?b"), (" \xfc", "\ufffd")):
            self.assertEqual(self.readAll(f"HTTP/1.1 403{said}\r\n\r\n").reason, reason)

    def test_downgrade(self) -> None:
        """
        One of the known words says what was chosen.
        """
        for value in ("handshake", "none", "connect"):
            head = f"HTTP/1.1 200 OK\r\nTLS-DOWNGRADE:  {value} \r\nConnection: x, tls-downgrade\r\n\r\n"
            self.assertEqual(self.readAll(head).downgrade, value)

    def test_noDowngrade(self) -> None:
        """
        Anything else that stands there is refused.
        """
        for value in ("", "later", "Handshake", "handshake, none", "none;q=1", "n\xf6ne"):
            self.assertRefused(
                f"HTTP/1.1 200 OK\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: {value}\r\n\r\n",
                "the proxy's answer has a TLS-Downgrade field that is not one of connect, handshake, none",
            )
        self.assertRefused(
            "HTTP/1.1 200 OK\r\nTLS-Downgrade: none\r\nTLS-Downgrade: none\r\n",
            "the proxy's answer has the field TLS-Downgrade twice",
        )
        self.assertRefused(
            "HTTP/1.1 200 OK\r\nTLS-Downgrade: none\r\n\r\n",
            "the proxy's answer has a TLS-Downgrade field that Connection does not name",
        )

    def test_interim(self) -> None:
        """
        Some interim answers are skipped, with all that stands in them.
        """
        interim = "HTTP/1.1 100 Continue\r\nTLS-Downgrade: x\r\nContent-Length: 3\r\n\r\n"
        reader = self.readAll(interim * 4 + "HTTP/1.1 403 No\r\n\r\n")
        self.assertEqual(told(reader), (403, "No", False, None, "", None, False))
        self.assertRefused(interim * 5, "the proxy sent more than 4 interim answers")
        self.assertRefused(
            "HTTP/1.1 101 Switching Protocols\r\n", "the proxy switches to a protocol that was not asked for"
        )

    def test_noHTTP(self) -> None:
        """
        What does not begin like an answer is refused without waiting for a line.
        """
        for wire in ("\x16", "S", "HTTP/2", "\r", "\n", "HTTP/x", "http"):
            wire = wire[: next(n for n in range(1, 8) if wire[:n] != "HTTP/1."[:n])]
            self.assertRefused(wire, "what the proxy answers does not begin like HTTP/1.1")

    def test_start(self) -> None:
        """
        The first line has a version, a status and a reason, with one space between them.
        """
        for line in (
            *("HTTP/1.2 200 OK", "HTTP/1.10 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK"),
            *("HTTP/1.1 600 OK", "HTTP/1.1 099 OK", "HTTP/1.1\t200 OK", "HTTP/1.1 200\tOK", "HTTP/1.1 ", "HTTP/1.1"),
        ):
            self.assertRefused(f"{line}\r\n", "the first line of the proxy's answer is not HTTP/1.1 STATUS REASON")

    def test_lines(self) -> None:
        """
        Lines that two readers may take differently are refused.
        """
        for rest, sentence in (
            ("\n", "the proxy ends a line with a line feed alone, without a carriage return"),
            ("\r\nA: b\n", "the proxy ends a line with a line feed alone, without a carriage return"),
            ("\rA", "the proxy's answer has a carriage return without a line feed"),
            ("\r\nA\0", "the proxy's answer has the control byte 0x00"),
            ("\r\n A: b\r\n", "the proxy's answer has a folded header line, which is obsolete"),
            ("\r\nA\r\n", "the proxy's answer has a header line without a colon"),
            ("\r\nA : b\r\n", "the proxy's answer has a space between the name of a header field and its colon"),
            ("\r\n(: b\r\n", "the proxy's answer has a header field with a malformed name"),
        ):
            self.assertRefused(f"HTTP/1.1 200 OK{rest}", sentence)

    def test_bodies(self) -> None:
        """
        A body has one length, or none.
        """
        for fields, sentence in (
            ("Content-Length: 1\r\nContent-Length: 1\r\n", "has the field Content-Length twice"),
            ("Transfer-Encoding: a\r\nTransfer-Encoding: b\r\n", "has the field Transfer-Encoding twice"),
            ("Content-Type: a\r\ncontent-type: b\r\n", "has the field Content-Type twice"),
            ("Content-Length: -1\r\n\r\n", "has a Content-Length that is no number"),
            ("Content-Length: 1, 1\r\n\r\n", "has a Content-Length that is no number"),
            ("Content-Length: \xb2\r\n\r\n", "has a Content-Length that is no number"),
            ("Content-Length: 1234567890123456\r\n\r\n", "has a Content-Length that is no number"),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "has both a Content-Length and a Transfer-Encoding",
            ),
        ):
            self.assertRefused(f"HTTP/1.1 502 No\r\n{fields}", f"the proxy's answer {sentence}")

    def test_longest(self) -> None:
        """
        A head of exactly the limit is read, and one byte more is refused before it comes.
        """
        begin = b"HTTP/1.1 200 OK\r\nA: "
        for more in (0, 1):
            wire = begin + b"a" * (8192 - len(begin) - 4 + more) + b"\r\n\r\n"
            if not more:
                self.assertEqual(self.readAll(wire).status, 200)
            else:
                self.assertRefused(wire[:8192], "the head of the proxy's answer is longer than 8192 bytes")

    @settings(deadline=None)
    @given(head=st.sampled_from(HEADS), sizes=st.lists(st.integers(0, 60)), after=st.binary(max_size=20))
    def test_anyCutting(self, head: bytes, sizes: list[int], after: bytes) -> None:
        """
        However a good head is cut, the same comes out of it, and the same bytes are taken.
        """
        found, taken, sentence = readInPieces(head + after, sizes)
        self.assertEqual((found, taken, sentence), (readInPieces(head, [])[0], len(head), ""))

    @settings(deadline=None, max_examples=500)
    @given(wire=mutated(HEADS, PIECES) | st.binary(max_size=100), sizes=st.lists(st.integers(0, 30)))
    def test_anyBytes(self, wire: bytes, sizes: list[int]) -> None:
        """
        Whatever comes, nothing but a refusal is raised, in a sentence that can be shown, and the way it is cut makes no
        difference to the verdict.
        """
        found, taken, sentence = readInPieces(wire, [])
        self.assertEqual(readInPieces(wire, sizes), (found, taken, sentence))
        self.assertEqual(readInPieces(wire, [1] * len(wire)), (found, taken, sentence))
        self.assertTrue(sentence.isascii() and sentence.isprintable() and len(sentence) < 200)

    @settings(deadline=None, max_examples=300)
    @given(wire=mutated(HEADS, PIECES))
    def test_othersReadTheSame(self, wire: bytes) -> None:
        """
        Another reader finds the tunnel, or the refusal, at the same byte.
        """
        found, taken, _ = readInPieces(wire, [])
        if found is None or not found[0]:
            return
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="CONNECT", target="a:1", headers=[("Host", "a:1")]))
        client.send(h11.EndOfMessage())
        client.receive_data(wire)
        try:
            event = client.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = client.next_event()
        except h11.RemoteProtocolError:
            # It takes less than is taken here, of fields that do not matter here.
            return
        assert isinstance(event, h11.Response)
        self.assertEqual(event.status_code, found[0])
        if found[2]:
            self.assertIs(client.next_event(), h11.PAUSED)
            self.assertEqual(client.trailing_data[0], wire[taken:])
