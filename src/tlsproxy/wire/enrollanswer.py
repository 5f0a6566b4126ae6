# -*- test-case-name: tests.wire.test_enrollanswer -*-
"""
The answer of a reverse proxy to a client proxy that wants a certificate or a mapping: HTTP/1.1 (RFC 9112) with a length
and nothing else to frame it, and, where a certificate comes, JSON (RFC 8259).

The whole of it comes from a peer that may be broken, so all of it is bounded, and what is in any doubt is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from attrs import field, frozen

from tlsproxy.wire.answer import AnswerRefused
from tlsproxy.wire.headlines import Malformed, checkBytes, readField
from tlsproxy.wire.network import isName

__all__ = ["LARGEST_ANSWER", "EnrollAnswerReader", "IssuedAnswer", "readIssued"]

LARGEST_ANSWER: Final = 2 * 1024 * 1024
"""The most bytes that the body of an answer may have: a mapping of 1 MiB, written as JSON, and a certificate."""

_BEGINNING: Final = b"HTTP/1.1 "
_START: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_NUMBER: Final = re.compile(rb"[0-9]{1,9}")
_END: Final = b"\r\n\r\n"
_WHAT: Final = "the answer"
_LONGEST_LIFE: Final = 400 * 86400
_LARGEST_CERTIFICATE: Final = 65536


class EnrollAnswerReader:
    """
    Reads one answer, however it is cut.

    @cvar LIMIT: The most bytes that the head may have.
    @ivar status: The status code, once the head is whole; 0 before.
    @ivar contentType: The media type, in lower case and without parameters; C{""} for none.
    @ivar retryAfter: After how many seconds to ask again; L{None} where it does not say.
    @ivar body: What has come of the body.
    @ivar whole: Whether all has come.
    """

    LIMIT: Final = 8192

    def __init__(self) -> None:
        self.status = 0
        self.contentType = ""
        self.retryAfter: int | None = None
        self.body = bytearray()
        self._length = 0
        self._head = bytearray()

    @property
    def whole(self) -> bool:
        """
        Whether all has come.
        """
        return bool(self.status) and len(self.body) == self._length

    def read(self, data: bytes) -> None:
        """
        Take the next bytes of the connection.

        @raise AnswerRefused: No answer will come out of this; the reader is of no further use.
        """
        if not self.status:
            data = self._readHead(data)
        if self.status:
            if len(self.body) + len(data) > self._length:
                raise AnswerRefused(f"{_WHAT} goes on behind its end")
            self.body += data

    def _readHead(self, data: bytes) -> bytes:
        """
        Take what belongs to the head.

        @return: What does not.
        """
        head = self._head
        before = max(0, len(head) - len(_END))
        head += data[: self.LIMIT + 1]
        rest = data[self.LIMIT + 1 :]
        if head[: len(_BEGINNING)] != _BEGINNING[: len(head)]:
            raise AnswerRefused(f"{_WHAT} does not begin like HTTP/1.1")
        end = head.find(_END, before)
        if end < 0 or end + len(_END) > self.LIMIT:
            if len(head) > self.LIMIT or end >= 0:
                raise AnswerRefused(f"the head of {_WHAT} is longer than {self.LIMIT} bytes")
            return b""
        rest = bytes(head[end + len(_END) :]) + rest
        del head[end:]
        try:
            checkBytes(b"", bytes(head), "the reverse proxy", "answer")
            self._understand(bytes(head).split(b"\r\n"))
        except Malformed as e:
            raise AnswerRefused(str(e)) from None
        return rest

    def _understand(self, lines: list[bytes]) -> None:
        """
        Learn from the head what there is.
        """
        found = _START.fullmatch(lines[0])
        if found is None:
            raise AnswerRefused(f"the first line of {_WHAT} is not HTTP/1.1 STATUS REASON")
        fields: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, value = readField(line, _WHAT)
            if name in fields:
                raise AnswerRefused(f"{_WHAT} has a header field twice")
            fields[name] = value
        if b"transfer-encoding" in fields or b"content-encoding" in fields:
            raise AnswerRefused(f"{_WHAT} is encoded, which was not asked for")
        length = fields.get(b"content-length", b"")
        if not _NUMBER.fullmatch(length):
            raise AnswerRefused(f"{_WHAT} does not say how long it is")
        self._length = int(length)
        if self._length > LARGEST_ANSWER:
            raise AnswerRefused(f"{_WHAT} is longer than {LARGEST_ANSWER} bytes")
        after = fields.get(b"retry-after", b"")
        self.retryAfter = int(after) if _NUMBER.fullmatch(after) else None
        kind = fields.get(b"content-type", b"").decode("latin-1")
        self.contentType = kind.partition(";")[0].strip().lower()
        self.status = int(found[1])


@frozen
class IssuedAnswer:
    """
    What a client proxy is given.

    @ivar certificate: Its certificate, as PEM.
    @ivar mapping: The signed mapping, byte for byte.
    @ivar serverName: The name that the reverse proxy shows from now on.
    @ivar renewAfter: After how many seconds to have the certificate renewed.
    """

    certificate: bytes
    mapping: bytes = field(repr=False)
    serverName: str
    renewAfter: float


def readIssued(body: bytes) -> IssuedAnswer:
    """
    Read the body of an answer with a certificate.  What it has beside that is left alone.

    @raise AnswerRefused: It is none.  Whether what it holds is any good is not looked at.
    """
    try:
        told = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except AnswerRefused:
        raise
    except (ValueError, RecursionError):
        raise AnswerRefused(f"{_WHAT} is not JSON") from None
    if not isinstance(told, dict):
        raise AnswerRefused(f"{_WHAT} is no JSON object")
    certificate, mapping = _text(told, "certificate"), _text(told, "mapping")
    if len(certificate) > _LARGEST_CERTIFICATE:
        raise AnswerRefused(f"{_WHAT} has a certificate of more than {_LARGEST_CERTIFICATE} bytes")
    name = _text(told, "server_name").decode()
    if not name.isascii() or not isName(name) or name != name.lower() or name.endswith("."):
        raise AnswerRefused(f"{_WHAT} has a server_name that is no DNS name in lower case")
    after = told.get("renew_after")
    if isinstance(after, bool) or not isinstance(after, (int, float)) or not 0 <= after <= _LONGEST_LIFE:
        raise AnswerRefused(f"{_WHAT} does not say in renew_after after how many seconds to renew")
    return IssuedAnswer(certificate, mapping, name, float(after))


def _text(told: dict[str, Any], key: str) -> bytes:
    value = told.get(key)
    if not isinstance(value, str) or not value:
        raise AnswerRefused(f"{_WHAT} has no {key}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise AnswerRefused(f"{_WHAT} has a {key} that is no text") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise AnswerRefused(f"{_WHAT} says something twice")
    return members


def _refuse(word: str) -> float:
    raise AnswerRefused(f"{_WHAT} has {word} in it, which is no JSON")
