# -*- test-case-name: tests.wire.test_enrolltoken -*-
"""
Tests for L{tlsproxy.wire.enrolltoken}.
"""

from __future__ import annotations

import re
import string

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.enrolltoken import Token

AUTHORITY, SIGNER = b"\xfb" * 32, b"\x7e" * 32
TOKEN = Token("00ff00ff00ff00ff", bytes(range(32)), AUTHORITY, SIGNER)
WORD = str(TOKEN)
LETTERS = string.ascii_letters + string.digits + "-_"
PREFIX = "tlsproxy-token-1."
hashes = st.binary(min_size=32, max_size=32)
spaces = st.text(" \t\r\n", max_size=5)


class TokenTests(SynchronousTestCase):
    """
    Tokens, whole and otherwise.
    """

    def refusal(self, text: str) -> str:
        """
        Have a text refused.

        @return: The sentence, which shows nothing of the secret.
        """
        told = str(self.assertRaises(ValueError, Token.parse, text))
        for start in range(len(PREFIX), len(text) - 8):
            self.assertNotIn(text[start : start + 8], told)
        return told

    def test_form(self) -> None:
        """
        A token is one word, which needs no quotes anywhere and fits a line of 161 characters.
        """
        self.assertRegex(WORD, r"^tlsproxy-token-1\.[A-Za-z0-9_-]{144}$")

    def test_fixed(self) -> None:
        """
        What is written today is read in years.
        """
        text = (
            "tlsproxy-token-1.AP8A_wD_AP8AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7"
            "-_v7fn5-fn5-fn5-fn5-fn5-fn5-fn5-fn5-fn5-fn5-fn7XCeoy"
        )
        self.assertEqual(TOKEN, Token.parse(text))
        self.assertEqual(text, str(TOKEN))

    def test_new(self) -> None:
        """
        Each new token has an id and a secret of its own.
        """
        made = [Token.new(AUTHORITY, SIGNER) for _ in range(100)]
        self.assertEqual(100, len({one.id for one in made}))
        self.assertEqual(100, len({one.secret for one in made}))
        self.assertTrue(all(re.fullmatch("[0-9a-f]{16}", one.id) and len(one.secret) == 32 for one in made))
        self.assertEqual({(AUTHORITY, SIGNER)}, {(one.authorityPin, one.signerPin) for one in made})

    @given(
        id=st.binary(min_size=8, max_size=8),
        secret=hashes,
        authority=hashes,
        signer=hashes,
        before=spaces,
        after=spaces,
    )
    def test_readBack(self, id: bytes, secret: bytes, authority: bytes, signer: bytes, before: str, after: str) -> None:
        """
        Every token is read as what it was written from, whatever white space is around it.
        """
        token = Token(id.hex(), secret, authority, signer)
        self.assertEqual(token, Token.parse(before + str(token) + after))

    def test_secretIsNotShown(self) -> None:
        """
        What a program shows of a token tells its id, and nothing of the secret.
        """
        shown = repr(TOKEN)
        self.assertIn("00ff00ff00ff00ff", shown)
        self.assertNotIn("secret", shown)
        self.assertNotIn(WORD[40:50], shown)

    @given(length=st.integers(0, len(WORD) - 1))
    def test_truncated(self, length: int) -> None:
        """
        A token that was cut is told from none.
        """
        told = self.refusal(WORD[:length])
        self.assertEqual(length >= len(PREFIX), told == "the token is not whole: take all of its one line")

    @given(position=st.integers(len(PREFIX), len(WORD) - 1), letter=st.sampled_from(LETTERS))
    def test_mistyped(self, position: int, letter: str) -> None:
        """
        One wrong letter is noticed, wherever it is.
        """
        assume(WORD[position] != letter)
        self.assertIn("not whole", self.refusal(WORD[:position] + letter + WORD[position + 1 :]))

    @given(position=st.integers(len(PREFIX), len(WORD) - 2))
    def test_swapped(self, position: int) -> None:
        """
        So are two letters in the wrong order.
        """
        first, second = WORD[position], WORD[position + 1]
        assume(first != second)
        self.assertIn("not whole", self.refusal(WORD[:position] + second + first + WORD[position + 2 :]))

    @given(position=st.integers(1, len(WORD) - 1), space=st.sampled_from(" \n\t\u00a0\u200b\0"))
    def test_brokenLine(self, position: int, space: str) -> None:
        """
        White space within a token is none of it.
        """
        self.refusal(WORD[:position] + space + WORD[position:])

    @given(more=st.text(LETTERS + "=+/.", min_size=1, max_size=20))
    def test_longer(self, more: str) -> None:
        """
        Nor is what follows it, padding included.
        """
        self.assertIn("not whole", self.refusal(WORD + more))

    @given(text=st.one_of(st.text(max_size=300), st.text(LETTERS, max_size=300).map(PREFIX.__add__)))
    def test_otherWords(self, text: str) -> None:
        """
        Any other text is refused in one sentence.
        """
        told = self.refusal(text)
        self.assertTrue(told.isprintable())
        self.assertNotIn("\n", told)

    def test_otherKinds(self) -> None:
        """
        What begins otherwise is no token: an id alone, one of another version, one in capitals.
        """
        for text in ("", TOKEN.id, WORD.replace("-1.", "-2."), WORD.upper(), "Bearer " + WORD, WORD[len(PREFIX) :]):
            self.assertEqual("it is no token: one begins with tlsproxy-token-1.", self.refusal(text))

    def test_two(self) -> None:
        """
        Two tokens are not one.
        """
        self.refusal(f"{WORD}\n{WORD}\n")
