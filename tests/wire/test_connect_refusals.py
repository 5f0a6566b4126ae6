"""
Tests for what L{tlsproxy.wire.connect} refuses, and in which words.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_connect import connectTo
from tlsproxy.wire.connect import RequestReader, RequestRefused

REQUEST = "the client's request"
TUNNELS_ONLY = "this proxy makes tunnels (CONNECT) and forwards no plain HTTP requests"


class RefusalTestCase(SynchronousTestCase):
    """
    Checks of what is refused.
    """

    def assertRefused(self, wire: bytes | str, sentence: str, status: int = 400) -> None:
        """
        Check that some bytes are refused, and that the last of them is what gives the reason, not one before it.
        """
        wire = wire.encode() if isinstance(wire, str) else wire
        RequestReader().read(wire[:-1])
        refused = self.assertRaises(RequestRefused, RequestReader().read, wire)
        self.assertEqual((str(refused), refused.status), (sentence, status))
        self.assertEqual(refused.headers, (("Allow", "CONNECT"),) if status == 405 else ())


class RefusalTests(RefusalTestCase):
    """
    Which heads are refused.
    """

    def test_otherProtocols(self) -> None:
        """
        The first byte of a TLS hello or a SOCKS request is enough to tell it.
        """
        for first, name in ((b"\x16", "TLS"), (b"\4", "SOCKS4"), (b"\5", "SOCKS5")):
            self.assertRefused(first, f"the client speaks {name}, and this port wants plain HTTP")

    def test_noHTTP(self) -> None:
        """
        What does not begin with a word and a space is refused without waiting for a line.
        """
        for wire in (b" ", b"\t", b"\x80", b"{", b"(", b"CONNECT\t", b"CONN\xc3", b"GET/"):
            self.assertRefused(wire, "what the client sends does not begin like an HTTP request")

    def test_lineFeeds(self) -> None:
        """
        A line feed without its carriage return is refused at once, wherever it stands.
        """
        sentence = "the client ends a line with a line feed alone, without a carriage return"
        for wire in ("\n", "GET\n", "GET / HTTP/1.1\n", "GET / HTTP/1.1\r\nHost: a\n", "GET / HTTP/1.1\r\n\n"):
            self.assertRefused(wire, sentence)

    def test_carriageReturns(self) -> None:
        """
        A carriage return without its line feed is refused as soon as another byte follows.
        """
        sentence = f"{REQUEST} has a carriage return without a line feed"
        for wire in ("\rG", "GET\r ", "GET /\r ", "GET / HTTP/1.1\r\nA: b\r\r", "GET / HTTP/1.1\r\n\rX"):
            self.assertRefused(wire, sentence)

    def test_controlBytes(self) -> None:
        """
        Every control byte but the tab is refused at once.
        """
        for byte in (0, *range(1, 9), 11, 12, *range(14, 32), 127):
            sentence = f"{REQUEST} has the control byte 0x{byte:02x}"
            for before in ("GE", "GET /", "GET / HTTP/1.1\r\nHost: "):
                self.assertRefused(before + chr(byte), sentence)

    def test_folded(self) -> None:
        """
        A header line that goes on in the next one is refused.
        """
        sentence = f"{REQUEST} has a folded header line, which is obsolete"
        for wire in ("A: b\r\n c\r\n", "A: b\r\n\tc: d\r\n", "A: b\r\n \r\n", " Host: a\r\n"):
            self.assertRefused(f"GET / HTTP/1.1\r\n{wire}", sentence)

    def test_emptyLineFirst(self) -> None:
        """
        An empty line is not skipped.
        """
        self.assertRefused("\r\n", f"{REQUEST} begins with an empty line")

    def test_firstLine(self) -> None:
        """
        The first line is a method, a target and a version, with one space between them.
        """
        sentence = f"the first line of {REQUEST} is not METHOD TARGET HTTP/1.1"
        for line in (
            "GET",
            "GET ",
            "GET /",
            "GET  HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            "CONNECT a:1 b HTTP/1.1",
        ):
            self.assertRefused(f"{line}\r\n", sentence)

    def test_versions(self) -> None:
        """
        Only the versions 1.0 and 1.1 are spoken.
        """
        for version, shown in (
            *((same, same) for same in ("HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/1.10", "http/1.1", "HTTP/1")),
            ("HTTP/1.1\t", "HTTP/1.1\\t"),
            ("HTTP/1.\xb9", "HTTP/1.\\xc2\\xb9"),
            ("x" * 99, "x" * 37 + "..."),
        ):
            sentence = f"{REQUEST} has the version '{shown}', and not HTTP/1.1 or 1.0"
            self.assertRefused(f"CONNECT a:1 {version}\r\n", sentence)

    def test_http2(self) -> None:
        """
        The preface of HTTP/2 is told by its first line.
        """
        self.assertRefused("PRI * HTTP/2.0\r\n", "the client speaks HTTP/2, and this port speaks HTTP/1.1 only")

    def test_unknownMethods(self) -> None:
        """
        A method that is not known is not implemented; the case of its letters counts.
        """
        for method in ("BREW", "connect", "Get", "PROPFIND"):
            self.assertRefused(f"{method} a:1 HTTP/1.1\r\n", f"the client's method {method!r} is not known", 501)

    def test_plainRequests(self) -> None:
        """
        A request that is to be forwarded is told that nothing is forwarded.
        """
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
            for target in ("http://shop.example/", "HTTP://ann:secret@shop.example", "ftp://shop.example/a"):
                self.assertRefused(f"{method} {target} HTTP/1.1\r\n", TUNNELS_ONLY, 405)

    def test_otherMethods(self) -> None:
        """
        A known method that is of no use here is refused with the name of the one that is.
        """
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
            for target in ("/proxy.pac", "*"):
                sentence = f"this proxy makes tunnels (CONNECT) and takes no {method}"
                self.assertRefused(f"{method} {target} HTTP/1.1\r\n", sentence, 405)

    def test_noPath(self) -> None:
        """
        A GET or HEAD is of a path, with visible ASCII letters only.
        """
        for target in ("*", "shop.example:443", "proxy.pac", "?"):
            self.assertRefused(f"GET {target} HTTP/1.1\r\n", "the target of the client's GET is no path")
        for target in ("/\xfc", "/\t", "http://\xfc/"):
            sentence = f"the target of {REQUEST} has other than visible ASCII letters"
            self.assertRefused(f"HEAD {target} HTTP/1.1\r\n", sentence)

    def test_fieldLines(self) -> None:
        """
        A header line is a name that is a token, and then a colon without a space before it.
        """
        for line, sentence in (
            ("Host : a", "space between the name of a header field and its colon"),
            ("Host\t: a", "space between the name of a header field and its colon"),
            ("Host", "header line without a colon"),
            (": a", "header field with a malformed name"),
            ("Ho st: a", "header field with a malformed name"),
            ("H\xf6st: a", "header field with a malformed name"),
            ("H(o)st: a", "header field with a malformed name"),
        ):
            self.assertRefused(f"GET / HTTP/1.1\r\n{line}\r\n", f"{REQUEST} has a {sentence}")

    def test_bodies(self) -> None:
        """
        A request that announces a body is refused, an empty one as well.
        """
        for name in ("Content-Length", "Transfer-Encoding"):
            sentence = f"{REQUEST} has a {name}, and none may have a body here"
            for line in (f"{name}: 0", f"{name.upper()}: chunked", f"{name.lower()}:"):
                for start in ("GET /", "CONNECT a:1"):
                    self.assertRefused(f"{start} HTTP/1.1\r\n{line}\r\n", sentence)

    def test_fieldsTwice(self) -> None:
        """
        What can be there once only is refused when it comes again, the same included.
        """
        for name in ("Host", "Proxy-Authorization"):
            wire = f"CONNECT a:1 HTTP/1.1\r\n{name}: a\r\nX: y\r\n{name.upper()}: a\r\n"
            self.assertRefused(wire, f"{REQUEST} has the field {name} twice")

    def test_noHost(self) -> None:
        """
        HTTP/1.1 has a Host field.
        """
        for start in ("GET /", "CONNECT a:1"):
            sentence = f"{REQUEST} has no Host field, which HTTP/1.1 demands"
            self.assertRefused(f"{start} HTTP/1.1\r\nX: y\r\n\r\n", sentence)

    def test_otherHost(self) -> None:
        """
        The Host field names the target, as far as it goes.
        """
        sentence = "the client's Host field names another host or port than its CONNECT target"
        for target, said in (
            ("shop.example:443", "other.example:443"),
            ("shop.example:443", "other.example"),
            ("shop.example:443", "shop.example:80"),
            ("shop.example:443", "www.shop.example:443"),
            ("[::1]:443", "[::2]:443"),
            ("[::1]:443", "localhost:443"),
            ("192.0.2.1:443", "[::ffff:192.0.2.1]:443"),
        ):
            for version in ("1.0", "1.1"):
                self.assertRefused(connectTo(target, f"Host: {said}", version=version), sentence)

    def test_malformedHost(self) -> None:
        """
        The Host field is read like a target, for a path as well; for a CONNECT it is not empty.
        """
        for start in ("GET /", "CONNECT a:1"):
            for said, sentence in (
                ("a, a", "has the host 'a, a', which is neither a name nor an address"),
                ("ann@a", "has an @: no user and no password belong there"),
                ("a:", "has a colon and no port after it"),
                ("\xe4", "is not all ASCII: send the name in its ASCII form, which has xn-- in it"),
            ):
                wire = f"{start} HTTP/1.1\r\nHost: {said}\r\n\r\n"
                self.assertRefused(wire, f"the client's Host field {sentence}")
        self.assertRefused(connectTo("a:1", "Host: "), "the client's Host field is empty")

    def test_authorization(self) -> None:
        """
        Who the client says it is, is said in ASCII, so that it can be compared.
        """
        wire = connectTo("a:1", "Proxy-Authorization: Basic \xfc")
        self.assertRefused(wire, "the client's Proxy-Authorization field is not all ASCII")

    def test_secretsAreNotShown(self) -> None:
        """
        No sentence shows what may be a password.
        """
        for wire in (
            "CONNECT ann:secret@a:443 HTTP/1.1\r\n",
            "CONNECT http://ann:secret@a HTTP/1.1\r\n",
            "GET http://ann:secret@a HTTP/1.1\r\n",
            "GET http://ann:secret@a\r\n",
            "CONNECT a:1 HTTP/1.0\r\nProxy-Authorization : secret\r\n",
            "CONNECT a:1 HTTP/1.0\r\nProxy-Authorization: a\r\n secret\r\n",
            "CONNECT a:1 HTTP/1.0\r\nProxy-Authorization: a\r\nsecret\r\n",
            "CONNECT a:1 HTTP/1.0\r\nProxy-Authorization: secret\xfc\r\n\r\n",
            "CONNECT a:1 HTTP/1.0\r\nHost: ann:secret@a:1\r\n\r\n",
        ):
            refused = self.assertRaises(RequestRefused, RequestReader().read, wire.encode())
            self.assertNotIn("secret", str(refused))
