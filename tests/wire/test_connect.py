"""
Tests for L{tlsproxy.wire.connect}.
"""

from __future__ import annotations

from unittest.mock import Mock

import h11
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.connect import ESTABLISHED, Request, RequestReader, RequestRefused, response

CONNECT = (
    b"CONNECT Shop.Example:443 HTTP/1.1\r\n"
    b"Host: shop.example:443\r\n"
    b"Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n"
    b"User-Agent: curl/8.5.0\r\n"
    b"\r\n"
)


def readHead(wire: bytes) -> Request:
    """
    Read a whole head in one go.

    @raise AssertionError: It goes on, or ends before C{wire} does.
    """
    reader = RequestReader()
    taken = reader.read(wire)
    assert taken == len(wire), taken
    assert reader.request is not None
    return reader.request


def connectTo(target: str, *fields: str, version: str = "1.0") -> bytes:
    """
    Write the head of a CONNECT; of version 1.0, where a Host field is not demanded.
    """
    return "\r\n".join([f"CONNECT {target} HTTP/{version}", *fields, "", ""]).encode()


class RequestTests(SynchronousTestCase):
    """
    What L{Request} tells about a request.
    """

    def test_everything(self) -> None:
        """
        Every field of a CONNECT is told.
        """
        self.assertEqual(
            readHead(CONNECT),
            Request(
                method="CONNECT",
                target="Shop.Example:443",
                host="shop.example",
                port=443,
                authority="shop.example:443",
                authorization="Basic YW5uOnNlY3JldA==",
            ),
        )

    def test_bare(self) -> None:
        """
        HTTP/1.0 needs no fields, and those that are not there are empty.
        """
        self.assertEqual(readHead(connectTo("a:1")), Request("CONNECT", "a:1", "a", 1, "", ""))

    def test_path(self) -> None:
        """
        A GET or HEAD of a path has a target, and nobody to connect to.
        """
        for method in ("GET", "HEAD"):
            head = f"{method} /proxy.pac?a=http://b HTTP/1.1\r\nHost: proxy.example:3128\r\n\r\n".encode()
            self.assertEqual(readHead(head), Request(method, "/proxy.pac?a=http://b", "", 0, "proxy.example:3128", ""))

    def test_pathWithoutHost(self) -> None:
        """
        A path may be asked for with an empty Host field, and in HTTP/1.0 with none.
        """
        for head in (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
            self.assertEqual(readHead(head).authority, "")

    def test_secretIsNotShown(self) -> None:
        """
        What is logged of a request does not tell the password.
        """
        shown = repr(readHead(CONNECT))
        self.assertIn("shop.example", shown)
        self.assertNotIn("YW5u", shown)

    def test_hosts(self) -> None:
        """
        Names are in lower case, and addresses in their one canonical form.
        """
        for target, host in (
            ("SHOP.Example:443", "shop.example"),
            ("_sip._tls.a-b.example:443", "_sip._tls.a-b.example"),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example"),
            ("localhost:443", "localhost"),
            ("1.example:443", "1.example"),
            ("1x:443", "1x"),
            ("0xg:443", "0xg"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:DB8:0:0::1]:443", "2001:db8::1"),
            ("[::1]:443", "::1"),
            (f"{'a' * 63}:443", "a" * 63),
            (f"{'a.' * 126}a:443", "a." * 126 + "a"),
        ):
            request = readHead(connectTo(target))
            self.assertEqual((request.host, request.port, request.target), (host, 443, target))

    def test_ports(self) -> None:
        """
        All ports from 1 to 65535 can be asked for.
        """
        self.assertEqual([readHead(connectTo(f"a:{port}")).port for port in (1, 80, 65535)], [1, 80, 65535])

    def test_sameHost(self) -> None:
        """
        The Host field may be written differently than the target, and may leave the port out.
        """
        for target, said in (
            ("shop.example:443", "SHOP.example:443"),
            ("shop.example:443", "shop.example"),
            ("[2001:db8::1]:443", "[2001:0DB8::0:1]:443"),
            ("[2001:db8::1]:443", "[2001:db8:0::1]"),
            ("192.0.2.1:443", "192.0.2.1"),
        ):
            for version in ("1.0", "1.1"):
                request = readHead(connectTo(target, f"Host: {said}", version=version))
                self.assertEqual(request.authority, said)

    def test_values(self) -> None:
        """
        Space around a value is no part of it, names are known in any case, and other fields do not matter.
        """
        head = connectTo("a:1", "PROXY-AUTHORIZATION: \t one  two\t ", "X-Empty:", "user-agent:x", "Connection: close")
        self.assertEqual(readHead(head).authorization, "one  two")

    def test_anyLetters(self) -> None:
        """
        Fields that do not matter may have letters of any encoding.
        """
        head = connectTo("a:1").replace(b"\r\n\r\n", b"\r\nUser-Agent: caf\xe9\r\n\r\n")
        self.assertEqual(readHead(head).host, "a")


class ReaderTests(SynchronousTestCase):
    """
    Which bytes L{RequestReader} takes.
    """

    def test_notOneByteMore(self) -> None:
        """
        What follows the head stays with the caller.
        """
        for after in (b"\x16\x03\x01", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\n", bytes(RequestReader.LIMIT)):
            reader = RequestReader()
            self.assertEqual(reader.read(CONNECT + after), len(CONNECT))
            self.assertIsNotNone(reader.request)

    def test_byteByByte(self) -> None:
        """
        A head may come in single bytes, and is whole with the last one only.
        """
        reader = RequestReader()
        for at in range(len(CONNECT)):
            self.assertIsNone(reader.request)
            self.assertEqual(reader.read(CONNECT[at : at + 1]), 1)
        self.assertEqual(reader.request, readHead(CONNECT))

    def test_afterTheHead(self) -> None:
        """
        Once the head is whole, nothing more is taken.
        """
        reader = RequestReader()
        reader.read(CONNECT)
        self.assertEqual(reader.read(CONNECT), 0)

    def test_nothing(self) -> None:
        """
        No bytes are no harm.
        """
        reader = RequestReader()
        self.assertEqual(reader.read(b""), 0)
        self.assertIsNone(reader.request)

    def test_longest(self) -> None:
        """
        A head of exactly the limit is read.
        """
        head = connectTo("a:1", "X: ")
        head = head.replace(b"X: ", b"X: " + b"x" * (RequestReader.LIMIT - len(head)))
        self.assertEqual(len(head), RequestReader.LIMIT)
        self.assertEqual(readHead(head).host, "a")

    def test_tooLong(self) -> None:
        """
        A longer head is refused as soon as that is certain, in a line and between lines.
        """
        for start in (b"GET", b"GET /", b"GET / HTTP/1.1\r\nX: "):
            reader = RequestReader()
            reader.read(start + b"x" * (RequestReader.LIMIT - len(start) - 1))
            refused = self.assertRaises(RequestRefused, reader.read, b"x")
            self.assertEqual(
                (str(refused), refused.status), ("the head of the client's request is longer than 8192 bytes", 431)
            )
        lines = b"X: x\r\n" * RequestReader.LIMIT
        refused = self.assertRaises(RequestRefused, RequestReader().read, b"GET / HTTP/1.1\r\n" + lines)
        self.assertEqual(refused.status, 431)


class SecondReaderTests(SynchronousTestCase):
    """
    h11 has the last word on a head.
    """

    def test_h11Refuses(self) -> None:
        """
        What h11 does not like is refused, and not in its words, which may tell a secret.
        """
        self.patch(h11.Connection, "next_event", Mock(side_effect=h11.RemoteProtocolError("illegal: secret")))
        refused = self.assertRaises(RequestRefused, readHead, CONNECT)
        self.assertEqual((str(refused), refused.status), ("the client's request is malformed", 400))

    def test_h11Differs(self) -> None:
        """
        What h11 reads differently is refused.
        """
        fields = [("Host", "shop.example")]
        for event in (
            h11.NEED_DATA,
            h11.Request(method="CONNECT", target="shop.example:443", headers=fields),
            h11.Request(method="GET", target="Shop.Example:443", headers=fields),
            h11.Request(method="CONNECT", target="Shop.Example:443", headers=fields, http_version="1.0"),
        ):
            self.patch(h11.Connection, "next_event", Mock(return_value=event))
            refused = self.assertRaises(RequestRefused, readHead, CONNECT)
            self.assertEqual(str(refused), "the client's request can be understood in more than one way")


class ResponseTests(SynchronousTestCase):
    """
    Tests for the answers.
    """

    def test_established(self) -> None:
        """
        The answer of success has no body and no length of one, and the tunnel begins after it.
        """
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="CONNECT", target="a:1", headers=[("Host", "a:1")]))
        client.send(h11.EndOfMessage())
        client.receive_data(ESTABLISHED + b"\x16")
        event = client.next_event()
        assert isinstance(event, h11.Response)
        self.assertEqual((event.status_code, list(event.headers)), (200, []))
        self.assertIs(client.next_event(), h11.PAUSED)
        self.assertEqual(client.trailing_data, (b"\x16", False))

    def test_whole(self) -> None:
        """
        An answer says what it is, how long, and that the connection ends; the sentence is its body.
        """
        self.assertEqual(
            response(407, "say who you are", [("Proxy-Authenticate", 'Basic realm="proxy"')]),
            b"HTTP/1.1 407 Proxy Authentication Required\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: 16\r\n"
            b"Connection: close\r\n"
            b'Proxy-Authenticate: Basic realm="proxy"\r\n'
            b"\r\n"
            b"say who you are\n",
        )

    def test_bodyless(self) -> None:
        """
        The answer to HEAD is that to GET without its body.
        """
        whole, head = response(200, "\xfc", contentType="a/b"), response(200, "\xfc", contentType="a/b", bodyless=True)
        self.assertEqual(whole, head + b"\xc3\xbc\n")
        self.assertIn(b"\r\nContent-Type: a/b\r\nContent-Length: 3\r\n", head)

    def test_anySentence(self) -> None:
        """
        A sentence may have any letters and lines: it stands in the body only.
        """
        wire = response(400, "a\r\n\r\nb\udcff")
        self.assertTrue(wire.endswith(b"\r\n\r\na\r\n\r\nb\\udcff\n"))
        self.assertIn(b"\r\nContent-Length: 13\r\n", wire)

    def test_noInjection(self) -> None:
        """
        What cannot be a field is refused, and not repaired.
        """
        for name, value in (
            ("", "x"),
            ("X ", "x"),
            ("X:", "x"),
            ("X\r\nY", "x"),
            ("X", "x\r\nSet-Cookie: y"),
            ("X", "x\n"),
            ("X", "\r"),
            ("X", "\0"),
            ("X", "\xfc"),
        ):
            self.assertRaises(ValueError, response, 403, "no", [(name, value)])
        self.assertRaises(ValueError, response, 200, "no", contentType="a/b\r\nX: y")

    def test_unknownStatus(self) -> None:
        """
        A status without a name is refused.
        """
        self.assertRaises(ValueError, response, 299, "no")
