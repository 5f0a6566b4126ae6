# -*- test-case-name: tests.wire.test_enrollanswer -*-
"""
L{tlsproxy.wire.enrollanswer}: the answer of a reverse proxy to a client proxy.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.answer import AnswerRefused
from tlsproxy.wire.enrollanswer import LARGEST_ANSWER, EnrollAnswerReader, IssuedAnswer, readIssued

GOOD: dict[str, Any] = {"certificate": "C", "mapping": "m\u00fc\n", "server_name": "dmz.example", "renew_after": 5}


def head(*fields: str, status: str = "200 OK") -> bytes:
    """
    Make a head.
    """
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


class ReaderTests(SynchronousTestCase):
    """
    Answers, up to their ends.
    """

    def refused(self, *pieces: bytes) -> str:
        """
        Read what is refused.

        @return: Why.
        """
        reader = EnrollAnswerReader()
        with self.assertRaises(AnswerRefused) as caught:
            for piece in pieces:
                reader.read(piece)
        self.assertTrue(str(caught.exception).isprintable())
        return str(caught.exception)

    @given(st.lists(st.integers(1, 40)))
    def test_chunks(self, sizes: list[int]) -> None:
        """
        However it is cut, it is read the same.
        """
        whole = head("Content-Length: 5", "Retry-After: 7", "CONTENT-TYPE:  Text/Plain; charset=utf-8") + b"hello"
        reader = EnrollAnswerReader()
        for size in [*sizes, len(whole)]:
            self.assertEqual(not whole, reader.whole)
            reader.read(whole[:size])
            whole = whole[size:]
        self.assertTrue(reader.whole)
        self.assertEqual(
            (200, "text/plain", 7, b"hello"), (reader.status, reader.contentType, reader.retryAfter, bytes(reader.body))
        )

    def test_empty(self) -> None:
        """
        A body may be empty, and a field may be absent or say what nobody understands.
        """
        reader = EnrollAnswerReader()
        reader.read(head("Content-Length: 0", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", status="429"))
        self.assertTrue(reader.whole)
        self.assertEqual((429, "", None), (reader.status, reader.contentType, reader.retryAfter))

    def test_wrong(self) -> None:
        """
        What is in doubt is refused.
        """
        for words, *pieces in (
            ("does not begin like HTTP/1.1", b"SSH"),
            ("does not begin like HTTP/1.1", b"HTTP/1.0 200 OK\r\n"),
            ("the first line", head("Content-Length: 0", status="100 Continue")),
            ("the first line", head("Content-Length: 0", status="2000")),
            ("does not say how long", head()),
            ("does not say how long", head("Content-Length: -1")),
            ("does not say how long", head("Content-Length: +1")),
            ("does not say how long", head("Content-Length: 1, 1")),
            ("twice", head("Content-Length: 1", "content-length: 1")),
            ("twice", head("X: 1", "x: 2", "Content-Length: 1")),
            ("encoded", head("Content-Length: 1", "Transfer-Encoding: chunked")),
            ("encoded", head("Content-Length: 1", "Content-Encoding: gzip")),
            ("longer than", head(f"Content-Length: {LARGEST_ANSWER + 1}")),
            ("longer than 8192", head("X: " + "y" * 8192)),
            ("longer than 8192", b"HTTP/1.1 200 OK\r\n", b"X" * 8176),
            ("folded", head("X: y", " z", "Content-Length: 0")),
            ("without a colon", head("X")),
            ("line feed alone", b"HTTP/1.1 200 OK\nX: y\r\n\r\n"),
            ("control byte", head("X: \0")),
            ("behind its end", head("Content-Length: 1") + b"xy"),
            ("behind its end", head("Content-Length: 1"), b"x", b"y"),
        ):
            self.assertIn(words, self.refused(*pieces), pieces)

    @given(st.binary(max_size=300), st.integers(1, 50))
    def test_anything(self, data: bytes, size: int) -> None:
        """
        Whatever comes is read, waited for, or refused.
        """
        for begin in (b"", b"HTTP/1.1 200 OK\r\n", head("Content-Length: 9")[:-2]):
            reader = EnrollAnswerReader()
            whole = begin + data
            try:
                for at in range(0, len(whole), size):
                    reader.read(whole[at : at + size])
            except AnswerRefused:
                pass


class IssuedTests(SynchronousTestCase):
    """
    What is given.
    """

    def test_good(self) -> None:
        """
        All is taken as it is; what is unknown is left alone.
        """
        told = readIssued(json.dumps({**GOOD, "more": [1]}).encode())
        self.assertEqual(IssuedAnswer(b"C", "m\u00fc\n".encode(), "dmz.example", 5.0), told)
        self.assertNotIn("m\u00fc", repr(told))

    def test_wrong(self) -> None:
        """
        What is not what it should be is refused.
        """
        bad: list[tuple[str, bytes]] = [
            ("is not JSON", b""),
            ("is not JSON", b"\xff"),
            ("is not JSON", b"[" * 100000),
            ("no JSON object", b"[]"),
            ("twice", b'{"a": 1, "a": 1}'),
            ("NaN", b'{"a": NaN}'),
        ]
        changes: list[tuple[str, dict[str, Any]]] = [
            ("no certificate", {"certificate": None}),
            ("no certificate", {"certificate": ""}),
            ("of more than", {"certificate": "x" * 65537}),
            ("no mapping", {"mapping": ["x"]}),
            ("is no text", {"mapping": "\ud800"}),
            ("server_name", {"server_name": "UPPER.example"}),
            ("server_name", {"server_name": "a b"}),
            ("server_name", {"server_name": "127.0.0.1"}),
            ("server_name", {"server_name": "dmz.example."}),
            ("renew_after", {"renew_after": "5"}),
            ("renew_after", {"renew_after": True}),
            ("renew_after", {"renew_after": -1}),
            ("renew_after", {"renew_after": 1e400}),
        ]
        bad += [(words, json.dumps({**GOOD, **change}).encode()) for words, change in changes[:-1]]
        bad.append(("renew_after", json.dumps(GOOD).replace('"renew_after": 5', '"renew_after": 1e400').encode()))
        for words, body in bad:
            with self.assertRaises(AnswerRefused) as caught:
                readIssued(body)
            self.assertIn(words, str(caught.exception))

    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """
        Whatever comes is refused in a sentence.
        """
        with self.assertRaises(AnswerRefused):
            readIssued(data)
