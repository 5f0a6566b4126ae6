"""
Tests for L{tlsproxy.wire.smtp}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.smtp import (
    LONGEST,
    MOST_LINES,
    LineCutter,
    Malformed,
    Reply,
    ReplyReader,
    readCommand,
    verbOf,
)

HELLO = [b"250-mail.example at your service\r\n", b"250-SIZE 1000\r\n", b"250-starttls\r\n", b"250 AUTH PLAIN\r\n"]


def readReply(*lines: bytes) -> Reply:
    """
    Read one reply, which has just these lines.
    """
    reader = ReplyReader()
    for line in lines[:-1]:
        assert reader.read(line) is None
    reply = reader.read(lines[-1])
    assert reply is not None
    return reply


class CommandTests(SynchronousTestCase):
    """
    What clients say.
    """

    def test_parts(self) -> None:
        """
        A command is its verb, in whatever case, and the rest without the spaces around it (RFC 5321, section 2.4).
        """
        for line, verb, argument in (
            (b"EHLO client.example\r\n", "EHLO", b"client.example"),
            (b"ehlo  client.example \t\r\n", "EHLO", b"client.example"),
            (b"StartTLS\r\n", "STARTTLS", b""),
            (b"STARTTLS \r\n", "STARTTLS", b""),
            (b"STARTTLS now\r\n", "STARTTLS", b"now"),
            (b"MAIL FROM:<\xc3\xbc@example.org> SMTPUTF8\r\n", "MAIL", b"FROM:<\xc3\xbc@example.org> SMTPUTF8"),
            (b"X2 y\r\n", "X2", b"y"),
        ):
            command = readCommand(line)
            self.assertEqual((verb, argument, line), (command.verb, command.argument, command.line))

    def test_noWord(self) -> None:
        """
        A line that begins with no word has no verb, and is no reason to refuse it.
        """
        for line in (b"\r\n", b" EHLO x\r\n", b"\xc3\xbc x\r\n", b"EHLO\tx\r\n", b"EHLO:x\r\n", b"7\r\n"):
            self.assertEqual("", readCommand(line).verb, line)

    def test_malformed(self) -> None:
        """
        A line that two readers could cut in different ways is refused, and so are control bytes and great length.
        """
        for line, sentence in (
            (b"STARTTLS\n", "ends with a line feed alone"),
            (b"STARTTLS", "has no end"),
            (b"STARTTLS\r", "has no end"),
            (b"STARTTLS\rMAIL\r\n", "has the control byte 0x0d"),
            (b"STARTTLS\r\r\n", "has the control byte 0x0d"),
            (b"STARTTLS\nMAIL\r\n", "has the control byte 0x0a"),
            (b"START\0TLS\r\n", "has the control byte 0x00"),
            (b"EHLO \x7f\r\n", "has the control byte 0x7f"),
            (b"EHLO " + b"x" * LONGEST + b"\r\n", f"is longer than {LONGEST} bytes"),
        ):
            with self.assertRaises(Malformed) as caught:
                readCommand(line)
            self.assertEqual(sentence, str(caught.exception))

    def test_longest(self) -> None:
        """
        A line may be as long as the limit says.
        """
        line = b"NOOP " + b"x" * (LONGEST - 7) + b"\r\n"
        self.assertEqual(LONGEST, len(readCommand(line).line))

    def test_beginning(self) -> None:
        """
        The verb of a line is told as soon as it is certain.
        """
        for beginning, verb in (
            (b"", ""),
            (b"MAI", ""),
            (b"MAIL", ""),
            (b"mail ", "MAIL"),
            (b"DATA\r", "DATA"),
            (b"\x16\x03\x01", ""),
        ):
            self.assertEqual(verb, verbOf(beginning))


class ReplyTests(SynchronousTestCase):
    """
    What servers answer.
    """

    def test_oneLine(self) -> None:
        """
        A reply of one line is a code and a text, which may be missing (RFC 5321, section 4.2).
        """
        self.assertEqual(Reply(220, (b"mail.example ready",)), readReply(b"220 mail.example ready\r\n"))
        self.assertEqual(Reply(250, (b"",)), readReply(b"250\r\n"))
        self.assertEqual("220 mail.example", str(readReply(b"220 mail.example\r\n")))
        self.assertEqual("250", str(readReply(b"250\r\n")))

    def test_severalLines(self) -> None:
        """
        All lines of a reply but the last have a hyphen behind the code, and it is written as it was read.
        """
        reply = readReply(*HELLO)
        self.assertEqual((250, 4), (reply.code, len(reply.texts)))
        self.assertEqual(b"".join(HELLO), reply.encode())
        self.assertEqual(b"220-\r\n220 x\r\n", readReply(b"220-\r\n", b"220 x\r\n").encode())

    def test_nextReply(self) -> None:
        """
        A reader that has read a reply reads the next one.
        """
        reader = ReplyReader()
        self.assertEqual([None, Reply(250, (b"a", b"b"))], [reader.read(b"250-a\r\n"), reader.read(b"250 b\r\n")])
        self.assertEqual(Reply(354, (b"go",)), reader.read(b"354 go\r\n"))

    def test_half(self) -> None:
        """
        What has come of a reply can be taken, and written so that nobody takes it for whole.
        """
        reader = ReplyReader()
        self.assertIsNone(reader.rest())
        for line in HELLO[:2]:
            reader.read(line)
        half = reader.rest()
        assert half is not None
        self.assertEqual(b"".join(HELLO[:2]), half.encode(whole=False))
        self.assertIsNone(reader.rest())
        self.assertEqual(Reply(354, (b"go",)), reader.read(b"354 go\r\n"))
        self.assertIsNone(reader.rest())

    def test_malformed(self) -> None:
        """
        A line that is none of a reply, or none of this reply, is refused.
        """
        for lines, sentence in (
            ([b"hello\r\n"], "does not begin with a code of three digits"),
            ([b"150 x\r\n"], "does not begin with a code of three digits"),
            ([b"2500 x\r\n"], "does not begin with a code of three digits"),
            ([b"250_x\r\n"], "does not begin with a code of three digits"),
            ([b"\r\n"], "does not begin with a code of three digits"),
            ([b"250-x\r\n", b"220 y\r\n"], "changes its code from line to line"),
            ([b"250 x\n"], "ends with a line feed alone"),
            ([b"250 x\r250 y\r\n"], "has the control byte 0x0d"),
            ([b"250 " + b"x" * LONGEST + b"\r\n"], f"is longer than {LONGEST} bytes"),
        ):
            reader = ReplyReader()
            for line in lines[:-1]:
                reader.read(line)
            error = self.assertRaises(Malformed, reader.read, lines[-1])
            self.assertEqual(sentence, str(error))

    def test_endless(self) -> None:
        """
        A reply without an end is given up.
        """
        reader = ReplyReader()
        for _ in range(MOST_LINES - 1):
            reader.read(b"250-and\r\n")
        error = self.assertRaises(Malformed, reader.read, b"250-so on\r\n")
        self.assertEqual(f"has more than {MOST_LINES} lines", str(error))

    def test_longest(self) -> None:
        """
        A reply may have as many lines as the limit says.
        """
        reply = readReply(*[b"250-x\r\n"] * (MOST_LINES - 1), b"250 x\r\n")
        self.assertEqual(MOST_LINES, len(reply.texts))


class OfferTests(SynchronousTestCase):
    """
    What replies to EHLO offer.
    """

    def test_offers(self) -> None:
        """
        An extension is offered by its keyword, in whatever case, in any line but the first.
        """
        reply = readReply(*HELLO)
        self.assertEqual((True, True, True), tuple(map(reply.offers, ("STARTTLS", "SIZE", "AUTH"))))
        self.assertFalse(reply.offers("MAIL.EXAMPLE"))
        self.assertFalse(reply.offers("PIPELINING"))
        self.assertFalse(readReply(b"250 STARTTLS\r\n").offers("STARTTLS"))
        self.assertFalse(readReply(b"250-x\r\n", b"250 XSTARTTLS\r\n").offers("STARTTLS"))
        self.assertFalse(readReply(b"250-x\r\n", b"250 STARTTLS-X\r\n").offers("STARTTLS"))

    def test_refusalOffersNothing(self) -> None:
        """
        Only a reply that says yes offers anything.
        """
        self.assertFalse(readReply(b"550-no\r\n", b"550 STARTTLS\r\n").offers("STARTTLS"))

    def test_offering(self) -> None:
        """
        Offers are taken out wherever they stand and however often, and others put behind; the rest is left as it is.
        """
        reply = readReply(
            b"250-x\r\n", b"250-AUTH=LOGIN\r\n", b"250-STARTTLS\r\n", b"250-Size\r\n", b"250 auth PLAIN\r\n"
        )
        self.assertEqual(
            b"250-x\r\n250-Size\r\n250 STARTTLS\r\n",
            reply.offering(b"STARTTLS", without=("AUTH", "STARTTLS")).encode(),
        )
        self.assertEqual(b"250 x\r\n", reply.offering(without=("AUTH", "STARTTLS", "SIZE")).encode())


class CutterTests(SynchronousTestCase):
    """
    Lines out of a stream.
    """

    def test_lines(self) -> None:
        """
        Lines come out whole, and the rest when it is asked for.
        """
        cutter = LineCutter()
        cutter.add(b"one\r\ntw")
        self.assertEqual((b"one\r\n", None), (cutter.next(), cutter.next()))
        cutter.add(b"o\nthree")
        self.assertEqual((b"two\n", None), (cutter.next(), cutter.next()))
        self.assertEqual((b"three", b""), (cutter.rest(), cutter.rest()))

    def test_tooLong(self) -> None:
        """
        A line that is too long is refused before it is whole.
        """
        cutter = LineCutter()
        cutter.add(b"x" * (LONGEST - 1))
        self.assertIsNone(cutter.next())
        cutter.add(b"\n")
        self.assertEqual(b"x" * (LONGEST - 1) + b"\n", cutter.next())
        cutter.add(b"x" * LONGEST)
        self.assertRaises(Malformed, cutter.next)
        cutter.add(b"\n")
        self.assertRaises(Malformed, cutter.next)


PIECES = [
    b"\r\n",
    b"\r",
    b"\n",
    b" ",
    b"-",
    b"250",
    b"250-",
    b"220 ",
    b"EHLO x",
    b"STARTTLS",
    b"\0",
    b"\xff",
    b"a" * 400,
]
likely = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join) | st.binary(max_size=60)


class PropertyTests(SynchronousTestCase):
    """
    What holds for any bytes.
    """

    @settings(deadline=None)
    @given(wire=likely, sizes=st.lists(st.integers(1, 30)))
    def test_anyCutting(self, wire: bytes, sizes: list[int]) -> None:
        """
        However a stream is cut, the same lines come out of it, and with the rest they are all of it.
        """

        def cut(sizes: list[int]) -> tuple[list[bytes], bytes]:
            cutter, lines, at = LineCutter(), [], 0
            for size in [*sizes, len(wire)]:
                cutter.add(wire[at : at + size])
                at += size
                try:
                    while (line := cutter.next()) is not None:
                        lines.append(line)
                except Malformed:
                    return lines, b""
            return lines, cutter.rest()

        lines, rest = cut([])
        self.assertEqual((lines, rest), cut(sizes))
        if rest:
            self.assertEqual(wire, b"".join(lines) + rest)

    @settings(deadline=None, max_examples=300)
    @given(lines=st.lists(likely.map(lambda line: line + b"\r\n"), max_size=5))
    def test_anyReply(self, lines: list[bytes]) -> None:
        """
        Whatever comes, nothing but L{Malformed} is raised; a reply that is written is read again as the same.
        """
        reader = ReplyReader()
        for line in lines:
            try:
                reply = reader.read(line)
            except Malformed as e:
                self.assertTrue(str(e).isascii() and str(e).isprintable())
                return
            if reply is not None:
                again = reply.encode().splitlines(keepends=True)
                self.assertEqual(reply, readReply(*again))
                self.assertTrue(reply.offering(b"X", without=("STARTTLS",)).encode().endswith(b" X\r\n"))

    @settings(deadline=None, max_examples=300)
    @given(line=likely)
    def test_anyCommand(self, line: bytes) -> None:
        """
        Whatever comes, nothing but L{Malformed} is raised, and what is let through is one line for every reader.
        """
        try:
            command = readCommand(line)
        except Malformed:
            return
        self.assertEqual(line, command.line)
        self.assertEqual([line[:-2]], line.splitlines() if line.isascii() else [line[:-2]])
        self.assertEqual(command.verb, verbOf(line))
