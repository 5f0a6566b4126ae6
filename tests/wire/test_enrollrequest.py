# -*- test-case-name: tests.wire.test_enrollrequest -*-
"""
L{tlsproxy.wire.enrollrequest}: which requests there are, and the answers.
"""

from __future__ import annotations

from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.heads import mutated
from tlsproxy.wire.enrollrequest import (
    BY_CERTIFICATE,
    BY_TOKEN,
    EnrollRefused,
    EnrollRequest,
    EnrollRequestReader,
    answer,
)

NAME = "enroll.dmz.example"
PROOF = b64encode(bytes(range(32))).decode()
TOKEN = f'Authorization: TLSProxy-Token id="0123456789abcdef", proof="{PROOF}"'
TYPE = "Content-Type: application/pkcs10"
BODY = b"\x30\x03\x02\x01\x05"


def post(*fields: str, first: str = "POST /enroll HTTP/1.1", host: str = f"Host: {NAME}", body: bytes = BODY) -> bytes:
    """
    Write a request.
    """
    return "\r\n".join([first, *([host] if host else []), *fields, "", ""]).encode("latin-1") + body


GOOD = post(TYPE, "Content-Length: 5", TOKEN)
GET = post(first="GET /ca HTTP/1.1", body=b"")
WANTED = EnrollRequest("/enroll", BODY, "0123456789abcdef", bytes(range(32)))


def read(data: bytes, sizes: tuple[int, ...] = (), paths: dict[str, str] = BY_TOKEN) -> tuple[object, int]:
    """
    Read a request that comes in pieces.

    @param sizes: Of the pieces; the last one is what is left.
    @return: The request, or the status and reason of its refusal; and how many bytes were taken.
    """
    reader, taken, at = EnrollRequestReader(NAME, paths), 0, 0
    for size in (*sizes, len(data)):
        piece = data[at : at + size]
        at += len(piece)
        try:
            taken += reader.read(piece)
        except EnrollRefused as e:
            return (e.status, e.reason, str(e)), 0
        if reader.request is not None:
            return reader.request, taken
    return None, taken


class GoodTests(SynchronousTestCase):
    """
    Requests that are good.
    """

    def test_requests(self) -> None:
        """
        Each is read whole, and nothing behind it.
        """
        self.assertEqual((WANTED, len(GOOD)), read(GOOD))
        self.assertEqual((WANTED, len(GOOD)), read(GOOD + GOOD))
        self.assertEqual((EnrollRequest("/ca", b""), len(GET)), read(GET + b"x"))
        renew = post(TYPE, "Content-Length: 5", first="POST /renew HTTP/1.1")
        self.assertEqual((EnrollRequest("/renew", BODY), len(renew)), read(renew, paths=BY_CERTIFICATE))

    def test_pieces(self) -> None:
        """
        However it is cut.
        """
        for at in range(len(GOOD)):
            self.assertEqual((WANTED, len(GOOD)), read(GOOD + b"more", (at,)))
        self.assertEqual((WANTED, len(GOOD)), read(GOOD, (1,) * len(GOOD)))

    def test_spelling(self) -> None:
        """
        A port in Host, and the letters of names of fields and of hosts, make no difference.
        """
        for host in (f"Host: {NAME}:443", f"HOST: {NAME.upper()}", f"host:{NAME}"):
            self.assertEqual(WANTED, read(post(TYPE.lower(), "content-length:5", TOKEN, "X-More: y", host=host))[0])

    def test_secrets(self) -> None:
        """
        What may be a secret is not shown.
        """
        self.assertNotIn("proof=", repr(WANTED).replace("proof=''", ""))
        self.assertNotIn(repr(bytes(range(32))), repr(WANTED))


class RefusalTests(SynchronousTestCase):
    """
    Requests that are refused.
    """

    def test_refused(self) -> None:
        """
        Each with the status and the sentence that tells why, and the word that it is counted by.
        """
        length, large = "Content-Length: 5", "Content-Length: 16385"
        for data, status, reason, sentence in (
            (post(TYPE, length, TOKEN, first="POST /enroll HTTP/1.0"), 505, "malformed", "speaks HTTP/1.0"),
            (post(TYPE, length, TOKEN, first="POST /enroll HTTP/2.0"), 505, "malformed", "speaks HTTP/2.0"),
            (post(TYPE, length, TOKEN, first="POST /enroll"), 400, "malformed", "the first line"),
            (post(TYPE, length, TOKEN, first="POST  /enroll HTTP/1.1"), 400, "malformed", "the first line"),
            (post(TYPE, length, TOKEN, first="POST https://a/enroll HTTP/1.1"), 400, "malformed", "the first line"),
            (post(first="CONNECT shop.example:443 HTTP/1.1"), 405, "method", "there are no tunnels here"),
            (post(first="GET /enroll HTTP/1.1"), 405, "method", "/enroll takes POST only"),
            (post(first="POST /ca HTTP/1.1"), 405, "method", "/ca takes GET only"),
            (post(first="GET /proxy.pac HTTP/1.1"), 404, "path", "there is nothing here called '/proxy.pac'"),
            (post(first="GET /ca?a HTTP/1.1"), 404, "path", "there is nothing here called '/ca?a'"),
            (post(TYPE, length, TOKEN, host=""), 400, "malformed", "no Host field"),
            (post(TYPE, length, TOKEN, host="Host: dmz.example"), 421, "host", "names another server than its TLS"),
            (post(TYPE, length, TOKEN, host="Host: a@b"), 400, "malformed", "Host field"),
            (post(TYPE, length, TOKEN, f"Host: {NAME}"), 400, "malformed", "the field 'host' twice"),
            (post(TYPE, length, length, TOKEN), 400, "malformed", "the field 'content-length' twice"),
            (post(TYPE, TOKEN), 411, "malformed", "no Content-Length"),
            (post(TYPE, "Content-Length: 0", TOKEN), 400, "malformed", "no number above 0"),
            (post(TYPE, "Content-Length: 05", TOKEN), 400, "malformed", "no number above 0"),
            (post(TYPE, "Content-Length: +5", TOKEN), 400, "malformed", "is malformed"),
            (post(TYPE, "Content-Length: 5, 5", TOKEN), 400, "malformed", "more than one way"),
            (post(TYPE, large, TOKEN), 413, "size", "longer than 16384 bytes"),
            (post(TYPE, "Transfer-Encoding: chunked", TOKEN), 400, "malformed", "Transfer-Encoding"),
            (post(TYPE, length, "Transfer-Encoding: chunked", TOKEN), 400, "malformed", "Transfer-Encoding"),
            (post(TYPE, length, "Upgrade: h2c", TOKEN), 400, "malformed", "Upgrade"),
            (post(TYPE, length, "Expect: 100-continue", TOKEN), 417, "malformed", "leave Expect out"),
            (post(TYPE, length, "Origin: https://a.example", TOKEN), 403, "origin", "a web page asks"),
            (post(TYPE, length, "Origin: null", TOKEN), 403, "origin", "a web page asks"),
            (post("Content-Type: text/plain", length, TOKEN), 415, "type", "has to be of type application/pkcs10"),
            (post(length, TOKEN), 415, "type", "has to be of type application/pkcs10"),
            (post(TYPE, length), 401, "token", "shows no token"),
            (post("Content-Length: 5", first="GET /ca HTTP/1.1"), 400, "malformed", "a GET with a Content-Length"),
            (post(TYPE, length, "X: " + "y" * 8192, TOKEN), 431, "malformed", "longer than 8192 bytes"),
            (post(TYPE, length, " folded", TOKEN), 400, "malformed", "folded"),
            (post(TYPE, length, "X : y", TOKEN), 400, "malformed", "space"),
            (post(TYPE, length, "no colon", TOKEN), 400, "malformed", "without a colon"),
            (GOOD.replace(b"\r\n", b"\n"), 400, "malformed", "line feed alone"),
            (GOOD.replace(b"pkcs10", b"pkcs10\0"), 400, "malformed", "control byte"),
            (b"\x16\x03\x01", 400, "malformed", "does not begin like an HTTP request"),
            (b"\r\n" + GOOD, 400, "malformed", "does not begin like an HTTP request"),
            (b"get /ca HTTP/1.1\r\n\r\n", 400, "malformed", "does not begin like an HTTP request"),
        ):
            refusal, _ = read(data)
            assert isinstance(refusal, tuple), data
            self.assertEqual((status, reason), refusal[:2], data)
            self.assertIn(sentence, refusal[2])
            self.assertEqual(refusal, read(data, (1,) * len(data))[0], data)

    def test_methods(self) -> None:
        """
        Who uses the wrong method is told the right one (RFC 9110, section 15.5.6).
        """
        reader = EnrollRequestReader(NAME, BY_TOKEN)
        refusal = self.assertRaises(EnrollRefused, reader.read, post(first="PUT /ca HTTP/1.1"))
        self.assertEqual((("Allow", "GET"),), refusal.headers)

    def test_noName(self) -> None:
        """
        Without a server name there is no Host that fits.
        """
        reader = EnrollRequestReader(None, BY_TOKEN)
        self.assertEqual(421, self.assertRaises(EnrollRefused, reader.read, GET).status)


class PropertyTests(SynchronousTestCase):
    """
    What holds for any bytes.
    """

    @given(
        mutated([GOOD, GET], [b"\r\n", b" ", b"\n", b":", b"Content-Length: 5\r\n", b"Host: a\r\n", b"\t", b"0"]),
        st.lists(st.integers(0, 60), max_size=8),
    )
    def test_pieces(self, data: bytes, sizes: list[int]) -> None:
        """
        However they come, the same is made of them; only the declared error is raised.
        """
        self.assertEqual(read(data), read(data, tuple(sizes)))


class AnswerTests(SynchronousTestCase):
    """
    Answers.
    """

    def test_answer(self) -> None:
        """
        One is whole by itself, and nobody keeps it.
        """
        self.assertEqual(
            b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n"
            b"Cache-Control: no-store\r\nX: y\r\n\r\n{}",
            answer(201, b"{}", "application/json", [("X", "y")]),
        )
