# -*- test-case-name: tests.wire.test_enrollrequest -*-
"""
A request for enrollment, and the answers: HTTP/1.1 (RFC 9112), one request a connection.

There is one way to frame a request here: a head of known fields, each once, and behind it as many bytes as its
Content-Length says.  Everything that two readers could take for different things is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import h11
from attrs import field, frozen

from tlsproxy.wire.enrolling import AUTHORITY, ENROLL, LARGEST, MAPPING, RENEW, REQUESTS
from tlsproxy.wire.headlines import Malformed, checkBytes, readField
from tlsproxy.wire.hostport import RequestRefused, parseAuthority, quoted
from tlsproxy.wire.proof import PROOF_LENGTH

__all__ = ["BY_CERTIFICATE", "BY_TOKEN", "CHALLENGE", "EnrollRefused", "EnrollRequest", "EnrollRequestReader", "answer"]

BY_TOKEN: Final = {AUTHORITY: "GET", ENROLL: "POST"}
"""What is to be had without a certificate, and by which method."""
BY_CERTIFICATE: Final = {RENEW: "POST", MAPPING: "GET"}
"""What is to be had with one."""
CHALLENGE: Final = (("WWW-Authenticate", "TLSProxy-Token"),)
"""What an answer of status 401 has to have (RFC 9110, section 11.6.1)."""

_LINE: Final = re.compile(r"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.1")
_AUTHORIZATION: Final = re.compile(r'TLSProxy-Token id="([0-9a-f]{16})", proof="([A-Za-z0-9+/]{43}=)"')
_LENGTH: Final = re.compile(r"[1-9][0-9]{0,8}")


class EnrollRefused(RequestRefused):
    """
    A request for enrollment is refused.

    @ivar reason: Why, in a word for counters.
    @ivar log: Why, one sentence for the log, which may tell more than the client learns.
    """

    def __init__(
        self,
        reason: str,
        sentence: str,
        status: int = 400,
        headers: tuple[tuple[str, str], ...] = (),
        log: str = "",
    ) -> None:
        super().__init__(sentence, status, headers)
        self.reason = reason
        self.log = log or sentence


@frozen
class EnrollRequest:
    """
    What a client proxy asks for.

    @ivar path: One of those that there are; the method is the one for it.
    @ivar body: What stands behind the head.
    @ivar token: What its token is called; C{""} for none.
    @ivar proof: What shows that it has it.
    """

    path: str
    body: bytes = field(repr=False)
    token: str = ""
    proof: bytes = field(default=b"", repr=False)


class EnrollRequestReader:
    """
    Reads one request, however it is cut, in time that grows with its bytes alone.

    @cvar LIMIT: The most bytes a head may have.
    @ivar request: What is asked for, once all of it is there.
    @ivar target: What is asked for, as sent, as soon as the first line is there.
    """

    LIMIT: Final = 8192

    def __init__(self, serverName: str | None, paths: Mapping[str, str]) -> None:
        """
        @param serverName: The server name that the client's TLS is for.
        @param paths: What is to be had, and by which method.
        """
        self.request: EnrollRequest | None = None
        self.target = ""
        self._serverName = serverName
        self._paths = paths
        self._head = bytearray()
        self._line = 0  # Where in the head the line begins that is not yet whole.
        self._method = ""
        self._fields: dict[bytes, bytes] = {}
        self._length = -1  # Of the body; less than none while the head is not whole.
        self._body = bytearray()

    def read(self, data: bytes) -> int:
        """
        Take the next bytes of the connection.

        @return: How many of them belong to the request; all, until L{request} is set, and then no more.  What follows
            is not even looked at.
        @raise EnrollRefused: No request will come out of this; the reader is of no further use.
        """
        taken = 0
        while self.request is None and taken < len(data):
            if self._length < 0:
                end = data.find(b"\n", taken) + 1 or len(data)
                end = min(end, taken + self.LIMIT - len(self._head))
                self._take(data[taken:end])
            else:
                end = min(len(data), taken + self._length - len(self._body))
                self._body += data[taken:end]
            taken = end
            if self._length >= 0 and len(self._body) == self._length:
                self.request = self._whole()
            elif self._length < 0 and len(self._head) == self.LIMIT:
                raise EnrollRefused(
                    "malformed", f"the head of the client's request is longer than {self.LIMIT} bytes", 431
                )
        return taken

    def _take(self, piece: bytes) -> None:
        """
        Take a piece of one line of the head in; the line ends with it or goes on after it.
        """
        if not self._head and not 65 <= piece[0] <= 90:
            raise EnrollRefused("malformed", "what the client sends does not begin like an HTTP request")
        try:
            checkBytes(self._head, piece, "the client", "request")
        except Malformed as e:
            raise EnrollRefused("malformed", str(e)) from None
        self._head += piece
        if not piece.endswith(b"\n"):
            return
        line = bytes(self._head[self._line : -2])
        self._line = len(self._head)
        if not self._method:
            self._readStart(line.decode("latin-1"))
        elif line:
            self._readField(line)
        else:
            self._readHead()

    def _readStart(self, line: str) -> None:
        """
        Read the first line, RFC 9112 section 3.
        """
        method, _, rest = line.partition(" ")
        self.target, _, version = rest.rpartition(" ")
        if version != "HTTP/1.1" and re.fullmatch(r"HTTP/[0-9]\.[0-9]", version):
            raise EnrollRefused("malformed", f"the client speaks {version}, and not HTTP/1.1", 505)
        if method == "CONNECT":
            raise EnrollRefused("method", "there are no tunnels here, only what client proxies enroll by", 405)
        found = _LINE.fullmatch(line)
        if found is None:
            raise EnrollRefused("malformed", "the first line of the client's request is not METHOD /PATH HTTP/1.1")
        self._method = method
        wanted = self._paths.get(self.target)
        if wanted is None:
            raise EnrollRefused("path", f"there is nothing here called {quoted(self.target)}", 404)
        if method != wanted:
            raise EnrollRefused("method", f"{self.target} takes {wanted} only", 405, (("Allow", wanted),))

    def _readField(self, line: bytes) -> None:
        try:
            name, value = readField(line, "the client's request")
        except Malformed as e:
            raise EnrollRefused("malformed", str(e)) from None
        if name in self._fields:
            raise EnrollRefused("malformed", f"the client's request has the field {quoted(name.decode())} twice")
        self._fields[name] = value

    def _readHead(self) -> None:
        """
        Have h11 read the head, see that it found the same in it, and find out how long the body is.
        """
        if b"host" not in self._fields:
            raise EnrollRefused("malformed", "the client's request has no Host field, which HTTP/1.1 demands")
        if b"transfer-encoding" in self._fields or b"upgrade" in self._fields:
            raise EnrollRefused("malformed", "the client's request has a Transfer-Encoding or Upgrade field")
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(bytes(self._head))
        try:
            event = connection.next_event()
        except h11.ProtocolError:
            # Its own words may show a secret.
            raise EnrollRefused("malformed", "the client's request is malformed") from None
        start = self._method.encode(), self.target.encode()
        if not isinstance(event, h11.Request) or (event.method, event.target) != start:
            raise EnrollRefused("malformed", "the client's request can be understood in more than one way")
        if dict(event.headers) != self._fields:
            raise EnrollRefused(
                "malformed", "the client's request has fields that can be understood in more than one way"
            )
        self._checkHost()
        if b"origin" in self._fields:
            raise EnrollRefused("origin", "a web page asks, and none may", 403)
        if b"expect" in self._fields:
            raise EnrollRefused("malformed", "nothing is told before the request is whole: leave Expect out", 417)
        self._length = self._lengthOf(self._fields.get(b"content-length"))

    def _lengthOf(self, given: bytes | None) -> int:
        if self._method == "GET":
            if given is not None:
                raise EnrollRefused("malformed", "the client's request is a GET with a Content-Length")
            return 0
        if given is None:
            raise EnrollRefused("malformed", "the client's request has no Content-Length", 411)
        text = given.decode("latin-1")
        if not _LENGTH.fullmatch(text):
            raise EnrollRefused("malformed", "the Content-Length of the client's request is no number above 0")
        if int(text) > LARGEST:
            raise EnrollRefused("size", f"the body of the client's request is longer than {LARGEST} bytes", 413)
        if self._fields.get(b"content-type", b"").lower() != REQUESTS.encode():
            raise EnrollRefused("type", f"the body of the client's request has to be of type {REQUESTS}", 415)
        return int(text)

    def _checkHost(self) -> None:
        """
        Hold the Host field against the server name, RFC 9110 section 7.4.
        """
        try:
            host, _ = parseAuthority(self._fields[b"host"].decode("latin-1"), "the client's Host field")
        except RequestRefused as e:
            raise EnrollRefused("malformed", str(e)) from None
        if host != self._serverName:
            raise EnrollRefused("host", "the client's Host field names another server than its TLS does", 421)

    def _whole(self) -> EnrollRequest:
        body, token, proof = bytes(self._body), "", b""
        if self.target == ENROLL:
            found = _AUTHORIZATION.fullmatch(self._fields.get(b"authorization", b"").decode("latin-1"))
            if found is not None:
                token, proof = found[1], b64decode(found[2])
            if len(proof) != PROOF_LENGTH:
                raise EnrollRefused("token", "the client shows no token, or not as it has to", 401, CHALLENGE)
        return EnrollRequest(self.target, body, token, proof)


def answer(status: int, body: bytes, contentType: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """
    Make a whole answer, after which the connection is closed.

    @param headers: Names and values of more fields.
    """
    fields = [
        ("Content-Type", contentType),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        *headers,
    ]
    lines = [f"HTTP/1.1 {status:d} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
