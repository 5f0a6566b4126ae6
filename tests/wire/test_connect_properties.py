"""
Tests for what holds for L{tlsproxy.wire.connect} on any bytes.
"""

from __future__ import annotations

import ipaddress
from http.server import BaseHTTPRequestHandler
from io import BytesIO

import h11
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.heads import mutated
from tests.wire.test_connect import connectTo
from tests.wire.test_connect_clients import CLIENTS
from tlsproxy.wire.connect import Request, RequestReader, RequestRefused, response

HEADS = [head for head, _ in CLIENTS.values()]
PIECES = [
    *(b"\r\n", b"\r", b"\n", b" ", b"\t", b"\0", b":", b"@", b"%", b"[", b"]", b".", b"0", b"-", b"\xe9", b"\x7f"),
    *(b"\r\n\r\n", b" HTTP/1.1", b"CONNECT ", b"GET ", b"//", b"Host: ", b"Host:a\r\n", b"Content-Length: 1\r\n"),
    *(b"Proxy-Authorization: x\r\n", b":443", b"::1", b"127.1", b"0x7f", b"http://", b"\r\n x", b"X : y\r\n"),
]


# Made of what heads are made of.
likely = st.lists(st.sampled_from([*PIECES, b"shop.example", b"HTTP/1.0", b"a"]), max_size=20).map(b"".join)
anything = mutated(HEADS, PIECES) | likely | st.binary(max_size=200)
hosts = st.text("abAZ019.-_x[]:%@/f", min_size=1, max_size=16)


def readInPieces(wire: bytes, sizes: list[int]) -> tuple[Request | None, int, tuple[str, int] | None]:
    """
    Read from bytes that come in pieces.

    @param sizes: Of the pieces; the last one is what is left.
    @return: The request, how many bytes were taken, and the sentence and status of a refusal.  The count is 0 then.
    """
    reader = RequestReader()
    taken = at = 0
    for size in [*sizes, len(wire)]:
        piece = wire[at : at + size]
        at += len(piece)
        try:
            found = reader.read(piece)
        except RequestRefused as e:
            return None, 0, (str(e), e.status)
        taken += found
        if reader.request is not None:
            break
        assert found == len(piece)
    return reader.request, taken, None


class ServersReading(BaseHTTPRequestHandler):
    """
    Reads a head the way that the standard library's server does.
    """

    def __init__(self, head: bytes) -> None:
        self.rfile = BytesIO(head)
        self.wfile = BytesIO()
        self.client_address = ("", 0)
        self.raw_requestline = self.rfile.readline()
        self.understood = self.parse_request()

    def log_message(self, format: str, *args: object) -> None:
        """
        Keep silent.
        """


class PropertyTests(SynchronousTestCase):
    """
    What holds for any bytes.
    """

    @settings(deadline=None)
    @given(head=st.sampled_from(HEADS), sizes=st.lists(st.integers(0, 60)), after=st.binary(max_size=20))
    def test_anyCutting(self, head: bytes, sizes: list[int], after: bytes) -> None:
        """
        However a good head is cut, the same request comes out of it, and the same bytes are taken.
        """
        request, taken, refused = readInPieces(head + after, sizes)
        self.assertEqual((request, taken, refused), (*readInPieces(head, [])[:2], None))
        self.assertEqual(taken, len(head))

    @settings(deadline=None, max_examples=500)
    @given(wire=anything, sizes=st.lists(st.integers(0, 30)))
    def test_anyBytes(self, wire: bytes, sizes: list[int]) -> None:
        """
        Whatever comes, nothing but a refusal is raised, and the way it is cut makes no difference to the verdict.
        """
        whole = readInPieces(wire, [])
        self.assertEqual(readInPieces(wire, sizes), whole)
        self.assertEqual(readInPieces(wire, [1] * len(wire)), whole)

    @settings(deadline=None)
    @given(wire=anything)
    def test_refusalsCanBeSent(self, wire: bytes) -> None:
        """
        The sentence of a refusal is short and printable, and an answer can be made of it.
        """
        refused = readInPieces(wire, [])[2]
        if refused is not None:
            sentence, status = refused
            self.assertTrue(sentence.isascii() and sentence.isprintable(), sentence)
            self.assertLess(len(sentence), 250)
            self.assertEqual(response(status, sentence).count(b"\n"), 6)

    @settings(deadline=None, max_examples=500)
    @given(wire=mutated(HEADS, PIECES) | likely)
    def test_othersReadTheSame(self, wire: bytes) -> None:
        """
        What is let through ends with an empty line, and two other readers find the same in it.
        """
        request, taken, _ = readInPieces(wire, [])
        if request is None:
            return
        head = wire[:taken]
        self.assertEqual(head.index(b"\r\n\r\n") + 4, len(head))
        event = h11.Connection(h11.SERVER)
        event.receive_data(head)
        seen = event.next_event()
        assert isinstance(seen, h11.Request)
        self.assertEqual((seen.method.decode(), seen.target.decode()), (request.method, request.target))
        server = ServersReading(head)
        self.assertTrue(server.understood)
        # Of a path with two slashes in front that server drops one.
        path = "/" + request.target.lstrip("/") if request.target.startswith("//") else request.target
        self.assertEqual((server.command, server.path), (request.method, path))
        self.assertEqual(server.rfile.read(), b"")
        for name, value in (
            ("Host", request.authority),
            ("Proxy-Authorization", request.authorization),
        ):
            self.assertEqual(server.headers.get_all(name, [""]), [value])

    @settings(deadline=None, max_examples=500)
    @given(host=hosts, port=st.integers(1, 65535))
    def test_hostIsClear(self, host: str, port: int) -> None:
        """
        A host that is let through is an address in its canonical form, or a name that nobody takes for one; and it is
        let through again.
        """
        request, _, refused = readInPieces(connectTo(f"{host}:{port}"), [])
        if request is None:
            self.assertIsNotNone(refused)
            return
        self.assertEqual(request.port, port)
        try:
            address = ipaddress.ip_address(request.host)
        except ValueError:
            self.assertRegex(request.host, r"\A(?:[a-z0-9_-]+\.)*(?![0-9]+\Z|0x[0-9a-f]*\Z)[a-z0-9_-]+\Z")
            self.assertEqual(request.host, host.lower())
        else:
            self.assertEqual(request.host, str(address))
        again = f"[{request.host}]" if ":" in request.host else request.host
        found = readInPieces(connectTo(f"{again}:{port}"), [])[0]
        assert found is not None
        self.assertEqual((found.host, found.port), (request.host, port))
