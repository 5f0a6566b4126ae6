"""
Tests for L{tlsproxy.wire.headlines}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.headlines import Malformed, checkBytes, optionsOf, readField


class HeadlineTests(SynchronousTestCase):
    """
    The lines of a head.
    """

    def test_bytes(self) -> None:
        """
        A line has no control bytes but the tab, and ends with both bytes of its end.
        """
        for before, piece in (
            (b"", b"a\tb \xfc\r\n"),
            (b"a\r", b"\n"),
            (b"", b"a\r"),
            (b"\n", b"a"),
            (b"\r\n", b"\r\n"),
        ):
            checkBytes(before, piece, "the client", "request")
        for before, piece, sentence in (
            (b"", b"a\rb", "the client's request has a carriage return without a line feed"),
            (b"a\r", b"b", "the client's request has a carriage return without a line feed"),
            (b"", b"\n", "the client ends a line with a line feed alone, without a carriage return"),
            (b"a\r\n", b"b\n", "the client ends a line with a line feed alone, without a carriage return"),
            (b"", b"a\0", "the client's request has the control byte 0x00"),
        ):
            refused = self.assertRaises(Malformed, checkBytes, before, piece, "the client", "request")
            self.assertEqual(str(refused), sentence)

    def test_field(self) -> None:
        """
        The space around a value is no part of it, and names are in lower case.
        """
        self.assertEqual(readField(b"X-Y: \t a:b \t", "it"), (b"x-y", b"a:b"))
        self.assertEqual(readField(b"a:", "it"), (b"a", b""))

    def test_noField(self) -> None:
        """
        What is no field, or one that others may read differently, is refused.
        """
        for line, sentence in (
            (b" a: b", "it has a folded header line, which is obsolete"),
            (b"\ta: b", "it has a folded header line, which is obsolete"),
            (b"a", "it has a header line without a colon"),
            (b"a : b", "it has a space between the name of a header field and its colon"),
            (b": b", "it has a header field with a malformed name"),
            (b"a\xfc: b", "it has a header field with a malformed name"),
        ):
            self.assertEqual(str(self.assertRaises(Malformed, readField, line, "it")), sentence)

    def test_options(self) -> None:
        """
        Every Connection field counts, and letters are in lower case.
        """
        fields = [(b"connection", b"Close , X"), (b"x", b"y"), (b"connection", b"z")]
        self.assertEqual(optionsOf(fields), {b"close", b"x", b"z"})
        self.assertEqual(optionsOf([]), set())
