# -*- test-case-name: tests.wire.test_connect -*-
"""
The head of an HTTP/1.x request to a proxy that makes tunnels, and the answers to it.

What is asked for here is dialled, so everything that two readers could take for different things is refused: in the
grammar of the message (RFC 9112, sections 2.2, 3 and 5), in that of the target (RFC 9110, section 9.3.6, and RFC 3986,
section 3.2), and between the target and the Host field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

import h11
from attrs import field, frozen

from tlsproxy.wire.downgrade import FIELD, choiceFields, parseWishes, wishFields
from tlsproxy.wire.headlines import Malformed, checkBytes, optionsOf, readField
from tlsproxy.wire.hostport import RequestRefused, parseAuthority, quoted

__all__ = [
    "ESTABLISHED",
    "Request",
    "RequestReader",
    "RequestRefused",
    "connectHead",
    "establishedHead",
    "parseAuthority",
    "response",
]

ESTABLISHED: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
"""
The answer to a CONNECT whose tunnel stands.  The next byte belongs to the tunnel, RFC 9110 section 9.3.6.
"""

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_NOT_OF_A_TOKEN = re.compile(rb"[^-!#$%&'*+.^_`|~0-9A-Za-z]")
_VISIBLE = re.compile(r"[!-~]+")
_FIELD_VALUE = re.compile(r"[\t -~]*")

_CONTROL = re.compile(rb"[\0-\x08\n-\x1f\x7f]")

# By the first byte.
_OTHER_PROTOCOLS = {b"\x16": "TLS", b"\4": "SOCKS4", b"\5": "SOCKS5"}

_METHODS = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"])
_TUNNELS_ONLY = (("Allow", "CONNECT"),)
_BODY_FIELDS = {b"content-length": "Content-Length", b"transfer-encoding": "Transfer-Encoding"}
_ONCE = {b"host": "Host", b"proxy-authorization": "Proxy-Authorization", FIELD.lower().encode(): FIELD}


@frozen
class Request:
    """
    What a client asks for.

    @ivar method: C{"CONNECT"}, or C{"GET"} or C{"HEAD"} for a path on the proxy itself.
    @ivar target: The request's target as sent.
    @ivar host: Whom to CONNECT to: a name in lower case, or an IP address in its canonical form and without brackets;
        else C{""}.
    @ivar port: Where to CONNECT to, 1 to 65535; else 0.
    @ivar authority: The Host field as sent, C{""} for none.
    @ivar authorization: The Proxy-Authorization field, C{""} for none.  A secret, so it is not shown with the rest.
    @ivar downgrade: The downgrades that the client wishes for, the strongest wish first; L{None} if it does not speak
        of any.
    """

    method: str
    target: str
    host: str
    port: int
    authority: str
    authorization: str = field(repr=False)
    downgrade: tuple[str, ...] | None = None


class RequestReader:
    """
    Reads the head of one request, however it is cut, in time that grows with its bytes alone.

    @cvar LIMIT: The most bytes a head may have.
    @ivar request: What the client asks for, once its head is whole.
    @ivar target: Its target, as sent, as soon as the first line is.
    """

    LIMIT = 8192

    def __init__(self) -> None:
        self.request: Request | None = None
        self.target = ""
        self._head = bytearray()
        self._line = 0  # where in the head the line begins that is not yet whole
        self._inMethod = True
        self._start: tuple[str, str, str] | None = None  # the parts of the first line
        self._wanted = ("", 0)  # the host and the port to connect to
        self._seen: set[bytes] = set()  # the names in _ONCE that came

    @property
    def bodyless(self) -> bool:
        """
        Whether an answer has no body, as one to a HEAD has none (RFC 9110, section 9.3.2).
        """
        return self._head.startswith(b"HEAD ")

    def read(self, data: bytes) -> int:
        """
        Take the next bytes of the connection.

        @return: How many of them belong to the head; all, until L{request} is set, and then no more.  What follows
            is not even looked at.
        @raise RequestRefused: No request will come out of this; the reader is of no further use.
        """
        if self.request is not None:
            return 0
        data = data[: self.LIMIT - len(self._head)]
        taken = 0
        while self.request is None and taken < len(data):
            end = data.find(b"\n", taken) + 1 or len(data)
            self._take(data[taken:end])
            taken = end
        if self.request is None and len(self._head) == self.LIMIT:
            raise RequestRefused(f"the head of the client's request is longer than {self.LIMIT} bytes", 431)
        return taken

    def _take(self, piece: bytes) -> None:
        """
        Take a piece of one line in; the line ends with it or goes on after it.
        """
        if self._inMethod:
            self._checkMethod(piece)
        try:
            checkBytes(self._head, piece, "the client", "request")
        except Malformed as e:
            raise RequestRefused(str(e)) from None
        self._head += piece
        if not piece.endswith(b"\n"):
            return
        line = bytes(self._head[self._line : -2])
        self._line = len(self._head)
        if self._start is None:
            self._start = self._readStart(line.decode("latin-1"))
        elif line:
            self._readField(line)
        else:
            self.request = self._readWhole(*self._start)

    def _checkMethod(self, piece: bytes) -> None:
        """
        Refuse at once what does not begin with a word and a space.
        """
        strange = _NOT_OF_A_TOKEN.search(piece)
        if strange is None:
            return
        self._inMethod = False
        begun = self._head or strange.start()
        if not begun and strange[0] in _OTHER_PROTOCOLS:
            raise RequestRefused(f"the client speaks {_OTHER_PROTOCOLS[strange[0]]}, and this port wants plain HTTP")
        # Control bytes and ends of lines have sentences of their own.
        if not _CONTROL.match(strange[0]) and not (begun and strange[0] == b" "):
            raise RequestRefused("what the client sends does not begin like an HTTP request")

    def _readStart(self, line: str) -> tuple[str, str, str]:
        """
        Read the first line, RFC 9112 section 3.

        @return: Its three parts.
        @raise RequestRefused: It is malformed, or asks for something that is not to be had here.
        """
        if not line:
            raise RequestRefused("the client's request begins with an empty line")
        parts = line.split(" ")
        if len(parts) != 3 or not all(parts):
            raise RequestRefused("the first line of the client's request is not METHOD TARGET HTTP/1.1")
        method, self.target, version = parts
        if method == "PRI":
            raise RequestRefused("the client speaks HTTP/2, and this port speaks HTTP/1.1 only")
        if version not in ("HTTP/1.0", "HTTP/1.1"):
            raise RequestRefused(f"the client's request has the version {quoted(version)}, and not HTTP/1.1 or 1.0")
        if method not in _METHODS:
            raise RequestRefused(f"the client's method {quoted(method)} is not known", 501)
        if method == "CONNECT":
            what = "the client's CONNECT target"
            host, port = parseAuthority(self.target, what)
            if port is None:
                raise RequestRefused(f"{what} names no port: it takes HOST:PORT, as in shop.example:443")
            self._wanted = host, port
        else:
            _checkPath(method, self.target)
        return method, self.target, version

    def _readField(self, line: bytes) -> None:
        """
        Look at the line of a field, RFC 9112 section 5, for what can be told from this line alone.

        @raise RequestRefused: It is malformed, or a field that must not be there.
        """
        try:
            name, _ = readField(line, "the client's request")
        except Malformed as e:
            raise RequestRefused(str(e)) from None
        if name in _BODY_FIELDS:
            raise RequestRefused(f"the client's request has a {_BODY_FIELDS[name]}, and none may have a body here")
        if name in _ONCE:
            if name in self._seen:
                raise RequestRefused(f"the client's request has the field {_ONCE[name]} twice")
            self._seen.add(name)

    def _readWhole(self, method: str, target: str, version: str) -> Request:
        """
        Have h11 read the head, and see that it found the same in it.

        @raise RequestRefused: It did not, or the fields do not fit the request.
        """
        if version == "HTTP/1.1" and b"host" not in self._seen:
            raise RequestRefused("the client's request has no Host field, which HTTP/1.1 demands")
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(bytes(self._head))
        try:
            event = connection.next_event()
        except h11.ProtocolError:
            # Its own words may show a secret.
            raise RequestRefused("the client's request is malformed") from None
        start = method.encode(), target.encode(), version.removeprefix("HTTP/").encode()
        if not isinstance(event, h11.Request) or (event.method, event.target, event.http_version) != start:
            raise RequestRefused("the client's request can be understood in more than one way")
        fields = dict(event.headers)
        self._checkHost(method, fields)
        if not fields.get(b"proxy-authorization", b"").isascii():
            raise RequestRefused("the client's Proxy-Authorization field is not all ASCII")
        authority, authorization = (
            fields.get(name, b"").decode("latin-1") for name in (b"host", b"proxy-authorization")
        )
        wishes = self._readWishes(event.headers)
        return Request(method, target, *self._wanted, authority, authorization, wishes)

    def _readWishes(self, fields: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...] | None:
        """
        Read the field TLS-Downgrade.  It is for the next hop alone, and says so in Connection, RFC 9110 section 7.6.1.

        @raise RequestRefused: It is malformed, or does not say so.
        """
        wanted = FIELD.lower().encode()
        for name, value in fields:
            if name == wanted:
                if wanted not in optionsOf(fields):
                    raise RequestRefused(f"the client's request has a {FIELD} field that Connection does not name")
                return parseWishes(value.decode("latin-1"))
        return None

    def _checkHost(self, method: str, fields: Mapping[bytes, bytes]) -> None:
        """
        Hold the Host field against the target, RFC 9112 section 3.2.

        @raise RequestRefused: They differ, or there is no telling.
        """
        said = fields.get(b"host")
        if said is None or (not said and method != "CONNECT"):
            return
        host, port = parseAuthority(said.decode("latin-1"), "the client's Host field")
        if method == "CONNECT" and (host != self._wanted[0] or port not in (None, self._wanted[1])):
            raise RequestRefused("the client's Host field names another host or port than its CONNECT target")


def _checkPath(method: str, target: str) -> None:
    """
    Refuse what is not a GET or HEAD of a path (RFC 9112, section 3.2.1).
    """
    if not _VISIBLE.fullmatch(target):
        raise RequestRefused("the target of the client's request has other than visible ASCII letters")
    if "://" in target and not target.startswith("/"):
        sentence = "this proxy makes tunnels (CONNECT) and forwards no plain HTTP requests"
        raise RequestRefused(sentence, 405, _TUNNELS_ONLY)
    if method not in ("GET", "HEAD"):
        raise RequestRefused(f"this proxy makes tunnels (CONNECT) and takes no {method}", 405, _TUNNELS_ONLY)
    if not target.startswith("/"):
        raise RequestRefused(f"the target of the client's {method} is no path")


def connectHead(host: str, port: int, wishes: Sequence[str] = (), authorization: str = "") -> bytes:
    """
    Make the head of a CONNECT, RFC 9110 section 9.3.6.

    @param host: A name, or an IP address without brackets.
    @param wishes: The downgrades to ask for, the strongest wish first; none for a proxy that knows nothing of them.
    @param authorization: The value of Proxy-Authorization; no such field if empty.
    @raise ValueError: What is to become a part of it cannot be one.
    """
    authority = f"[{host}]:{port:d}" if ":" in host else f"{host}:{port:d}"
    parseAuthority(authority, "the target of a request")
    fields = [("Host", authority)]
    if wishes:
        fields += wishFields(wishes)
    if authorization:
        fields.append(("Proxy-Authorization", authorization))
    return _headOf(f"CONNECT {authority} HTTP/1.1", fields)


def establishedHead(downgrade: str | None = None) -> bytes:
    """
    Make the answer to a CONNECT whose tunnel stands.

    @param downgrade: What was chosen of the client's wishes; L{None} for one that had none.
    @raise ValueError: That is no downgrade.
    """
    return ESTABLISHED if downgrade is None else _headOf("HTTP/1.1 200 Connection established", choiceFields(downgrade))


def response(
    status: int,
    sentence: str,
    headers: Sequence[tuple[str, str]] = (),
    contentType: str = "text/plain; charset=utf-8",
    bodyless: bool = False,
) -> bytes:
    """
    Make a whole answer, after which the connection is closed.

    @param status: Its status code, one that answers may have a body with.
    @param sentence: Its body, which gets a newline at the end.
    @param headers: Names and values of more fields.
    @param bodyless: Whether the body is only announced, as for HEAD.
    @raise ValueError: The status has no name, or what is to become a field cannot be one.
    """
    body = f"{sentence}\n".encode("utf-8", "backslashreplace")
    fields = [("Content-Type", contentType), ("Content-Length", str(len(body))), ("Connection", "close"), *headers]
    head = _headOf(f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}", fields)
    return head if bodyless else head + body


def _headOf(start: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """
    Put a head together.

    @raise ValueError: What is to become a field cannot be one.
    """
    lines = [start]
    for name, value in fields:
        if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"the field {name!r} of a head is malformed")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")
