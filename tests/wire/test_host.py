# -*- test-case-name: tests.wire.test_host -*-
"""
Tests for L{tlsproxy.wire.host}.
"""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.host import asciiName, isLiteral


class IsLiteralTests(SynchronousTestCase):
    """
    L{isLiteral}
    """

    def test_addresses(self) -> None:
        """
        Addresses of both families are literals, and a zone may follow.
        """
        for host in ("127.0.0.1", "::1", "2001:DB8::1", "::ffff:192.0.2.1", "fe80::1%lo"):
            self.assertTrue(isLiteral(host), host)

    def test_names(self) -> None:
        """
        Names, and what only looks like an address, are none.
        """
        for host in ("", "localhost", "1.2.3", "1.2.3.4.5", "127.1", "0x7f.0.0.1", "[::1]", "127.0.0.01", "１27.0.0.1"):
            self.assertFalse(isLiteral(host), host)


class AsciiNameTests(SynchronousTestCase):
    """
    L{asciiName}
    """

    def assertRefused(self, name: str, sentence: str) -> None:
        """
        A name is refused, in the same words each time.
        """
        for _ in range(2):
            self.assertEqual(sentence, str(self.assertRaises(ValueError, asciiName, name)))

    def test_plain(self) -> None:
        """
        A name of ASCII letters stays as it is, but for letter case and the final dot.
        """
        for name in ("shop.example", "Shop.EXAMPLE", "shop.example.", "SHOP.example."):
            self.assertEqual("shop.example", asciiName(name))
        for name in ("localhost", "a_b.example", "xn--bcher-kva.example", "3com.example"):
            self.assertEqual(name, asciiName(name))

    def test_otherAlphabets(self) -> None:
        """
        Other letters get their ASCII form, however they are composed and in whichever case.
        """
        for name in ("bücher.example", "BÜCHER.example", "bu\u0308cher.example", "bücher.example.", "bücher。example"):
            self.assertEqual("xn--bcher-kva.example", asciiName(name))
        self.assertEqual("xn--zca.example", asciiName("ß.example"))

    def test_again(self) -> None:
        """
        What is in that form already stays in it.
        """
        self.assertEqual("xn--bcher-kva.example", asciiName(asciiName("bücher.example")))

    def test_addresses(self) -> None:
        """
        An address is returned as it is.
        """
        for address in ("127.0.0.1", "::1", "2001:DB8::1", "fe80::1%lo"):
            self.assertEqual(address, asciiName(address))

    def test_lengths(self) -> None:
        """
        DNS has its bounds on labels and names (RFC 1035, section 2.3.4).
        """
        label = "a" * 63
        longest = f"{label}.{label}.{label}.{'a' * 61}"
        self.assertEqual(longest, asciiName(f"{longest}."))
        for name in (f"{label}a.example", f"{longest}a", f"{'a.' * 127}a"):
            self.assertRefused(name, f"{name!r} is no host name")

    def test_noLabel(self) -> None:
        """
        Something has to stand before, between and after the dots; only one dot may end a name.
        """
        for name in ("", ".", "..", ".example", "a..example", "shop.example.."):
            self.assertRefused(name, f"{name!r} is no host name")

    def test_noLetters(self) -> None:
        """
        No host has blanks or control characters in its name.  The C library ends a name at a NUL, and would look up
        what stands before it.
        """
        for name in ("localhost\0.example", "localhost\0", "a b.example", "a\n.example", "a\x7f.example"):
            self.assertRefused(name, f"{name!r} is no host name")

    def test_noSuchLetters(self) -> None:
        """
        Of other letters, not all are allowed, nor are labels whose ASCII form is too long; the sentence tells why.
        """
        for name in ("\u200d.example", "\ud800.example", "-ä.example", f"{'ä' * 70}.example"):
            first, second = (str(self.assertRaises(ValueError, asciiName, name)) for _ in range(2))
            self.assertRegex(first, f"^{re.escape(repr(name))} is no host name: .+[^.]$")
            self.assertEqual(first, second)

    @settings(deadline=None)
    @given(st.text(max_size=80))
    def test_any(self, name: str) -> None:
        """
        Whatever a name is, it is refused with a sentence or comes out in ASCII, in a form that stays the same.
        """
        try:
            found = asciiName(name)
        except ValueError as e:
            self.assertIn("is no host name", str(e))
            return
        self.assertTrue(found.isascii())
        self.assertEqual(found, asciiName(found))
