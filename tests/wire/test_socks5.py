# -*- test-case-name: tests.wire.test_socks5 -*-
"""
L{tlsproxy.wire.socks5}: the client's side of SOCKS5.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.socks5 import Reply, Socks5Error, connectRequest, credentials, greeting, readMethod, readVerdict

GOOD = (
    b"\5\0\0\1\x7f\0\0\1\0\x50",
    b"\5\0\0\4" + bytes(16) + b"\0\x50",
    b"\5\0\0\3\x05proxy\0\x50",
    b"\5\0\0\3\0\0\x50",
)
"""Answers with an address of each kind."""


class WordTests(SynchronousTestCase):
    """
    What is sent, and short answers.
    """

    def test_sent(self) -> None:
        """
        The bytes are those of the RFCs; a name goes to the proxy as it is.
        """
        self.assertEqual((b"\5\1\0", b"\5\2\0\2"), (greeting(False), greeting(True)))
        self.assertEqual(b"\1\3ann\6secret", credentials("ann", "secret"))
        self.assertEqual(b"\5\1\0\3\x0bdmz.example\x01\xbb", connectRequest("dmz.example", 443))
        self.assertEqual(b"\5\1\0\1\xc0\0\2\1\x01\xbb", connectRequest("192.0.2.1", 443))
        self.assertEqual(b"\5\1\0\4" + bytes(15) + b"\1\x01\xbb", connectRequest("::1", 443))

    def test_unsendable(self) -> None:
        """
        What has no place in them is refused.
        """
        for user, password in (("", "x"), ("x", ""), ("x" * 256, "x"), ("x", "x" * 256)):
            self.assertRaises(ValueError, credentials, user, password)
        for host in ("", "x" * 256, "m\xfcnchen.example"):
            self.assertRaises(ValueError, connectRequest, host, 443)

    def test_methods(self) -> None:
        """
        The proxy chooses one of the offered ways, or it is said what it does.
        """
        self.assertEqual((True, False), (readMethod(b"\5\2", True), readMethod(b"\5\0", True)))
        self.assertFalse(readMethod(b"\5\0", False))
        for answer, authenticates, words in (
            (b"HT", True, "does not speak SOCKS5"),
            (b"\4\0", True, "does not speak SOCKS5"),
            (b"\5\xff", False, "wants a user's name and password"),
            (b"\5\xff", True, "takes neither a password nor none"),
            (b"\5\2", False, "chooses a way to authenticate that was not offered"),
            (b"\5\1", True, "chooses a way to authenticate that was not offered"),
        ):
            self.assertEqual(words, str(self.assertRaises(Socks5Error, readMethod, answer, authenticates)))

    def test_verdicts(self) -> None:
        """
        A password is right, or it is not.
        """
        readVerdict(b"\1\0")
        self.assertIn("does not accept", str(self.assertRaises(Socks5Error, readVerdict, b"\1\1")))
        self.assertIn("something else", str(self.assertRaises(Socks5Error, readVerdict, b"\5\0")))


class ReplyTests(SynchronousTestCase):
    """
    The answer to a request.
    """

    def read(self, data: bytes, size: int = 100) -> tuple[Reply, bytes]:
        """
        Give a reader what it wants, in pieces.

        @return: It, and what is left.
        """
        reply = Reply()
        while reply.need and data:
            piece = data[: min(size, reply.need)]
            reply.read(piece)
            data = data[len(piece) :]
        return reply, data

    @given(st.sampled_from(GOOD), st.integers(1, 30), st.binary(max_size=20))
    def test_whole(self, answer: bytes, size: int, behind: bytes) -> None:
        """
        However it is cut, it is read to its end, and not one byte of what follows.
        """
        reply, left = self.read(answer + behind, size)
        self.assertEqual((0, behind), (reply.need, left))

    def test_refused(self) -> None:
        """
        A refusal is told by what the proxy says.
        """
        for code, words, late in (
            (1, "failed for a reason that it does not tell", False),
            (2, "does not allow that", False),
            (5, "was refused the connection", False),
            (6, "met a timeout", True),
            (99, "refuses, with the code 99", False),
        ):
            error = self.assertRaises(Socks5Error, self.read, bytes((5, code, 0, 1)) + bytes(6))
            self.assertEqual((words, late), (str(error), error.late))

    def test_strange(self) -> None:
        """
        What is no answer is refused at the first byte that shows it; a reader is not given more than it wants.
        """
        for data in (b"H", b"\4\0\0\1", b"\5\0\1\1", b"\5\0\0\2", b"\5\0\0\0"):
            self.assertEqual("does not answer in SOCKS5", str(self.assertRaises(Socks5Error, self.read, data)))
        self.assertRaises(ValueError, Reply().read, bytes(5))

    @given(st.binary(max_size=300), st.integers(1, 40))
    def test_anything(self, data: bytes, size: int) -> None:
        """
        Whatever comes, nothing is raised but what is declared.
        """
        try:
            reply, left = self.read(data, size)
        except Socks5Error:
            return
        self.assertTrue(not reply.need or not left)
