"""
Tests for L{tlsproxy.tls.printing}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.printing import few, printable, shortPrintable


class PrintableTests(SynchronousTestCase):
    """
    Tests for L{printable}.
    """

    def test_plain(self) -> None:
        """
        Letters, spaces and signs of any language stay.
        """
        self.assertEqual(printable("/etc/b\xfccher no. 1.pem"), "/etc/b\xfccher no. 1.pem")

    def test_escaped(self) -> None:
        """
        Control characters, changes of writing direction and undecodable bytes are escaped.
        """
        self.assertEqual(printable("a\nb\x1b\u202e\udcff"), "a\\nb\\x1b\\u202e\\udcff")


class ShortPrintableTests(SynchronousTestCase):
    """
    Tests for L{shortPrintable}.
    """

    def test_asIs(self) -> None:
        """
        A name that people can read stays as it is, up to 120 characters.
        """
        for name in ("shop.example", "b\xfccher", 'it\'s "quoted"', "x" * 120):
            self.assertEqual(shortPrintable(name), name)

    def test_cut(self) -> None:
        """
        A longer one is cut, and ends in dots.
        """
        self.assertEqual(shortPrintable("x" * 121), "x" * 117 + "...")

    def test_escaped(self) -> None:
        """
        What moves the cursor, ends the line or turns the writing around is escaped.
        """
        self.assertEqual(shortPrintable("a\r\n\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}"), "a\\r\\n\\x1b[2J\\u202e")
        self.assertTrue(len(shortPrintable("\U000e0001" * 1000)) < 1300)


class FewTests(SynchronousTestCase):
    """
    Tests for L{few}.
    """

    def test_all(self) -> None:
        """
        Up to four names are listed.
        """
        self.assertEqual(few([]), "")
        self.assertEqual(few(["a"]), "a")
        self.assertEqual(few(["a", "b", "c", "d"]), "a, b, c, d")

    def test_more(self) -> None:
        """
        Of more than that the first four are, and the rest is counted.
        """
        self.assertEqual(few("abcde"), "a, b, c, d and 1 more")
        self.assertEqual(few(str(number) for number in range(1004)), "0, 1, 2, 3 and 1000 more")

    def test_safe(self) -> None:
        """
        Each is made safe to print.
        """
        self.assertEqual(few(["a\n", "x" * 200]), "a\\n, " + "x" * 117 + "...")

    def test_whole(self) -> None:
        """
        Paths, which the operator chose, are not cut.
        """
        path = "/" + "x" * 200 + "\n/mapping.signed"
        self.assertEqual(few([path], printable), "/" + "x" * 200 + "\\n/mapping.signed")
