# -*- test-case-name: tests.wire.test_answer -*-
"""
The head of the answer to a CONNECT, HTTP/1.x (RFC 9112, sections 2.2, 4 and 5, and RFC 9110, section 9.3.6).

Where the tunnel begins depends on it, so what two readers could take differently is refused.
"""

from __future__ import annotations

import re
from typing import Final

from tlsproxy.wire.downgrade import FIELD, VALUES
from tlsproxy.wire.headlines import Malformed, checkBytes, optionsOf, readField

__all__ = ["AnswerReader", "AnswerRefused"]

_START: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*))?", re.DOTALL)
_BEGINNING: Final = b"HTTP/1."
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_FIELD: Final = FIELD.lower().encode()
_ONCE: Final = {
    _FIELD: FIELD,
    b"content-length": "Content-Length",
    b"content-type": "Content-Type",
    b"transfer-encoding": "Transfer-Encoding",
}
_MOST_INTERIM: Final = 4
_WHAT: Final = "the proxy's answer"


class AnswerRefused(ValueError):
    """
    What came is no answer to a CONNECT, or not one beyond doubt.  The sentence says what is wrong with it.
    """


class AnswerReader:
    """
    Reads the head of one answer, however it is cut, and skips the interim ones (RFC 9110, section 15.2) before it.

    @cvar LIMIT: The most bytes that all heads together may have.
    @ivar status: The status code, once the head is whole; 0 before.
    @ivar reason: The words behind it, printable, C{""} for none.
    @ivar downgrade: What was chosen of our wishes; L{None} if the answer says nothing of it.
    @ivar contentType: The field Content-Type, C{""} for none.
    @ivar length: How many bytes the body has; L{None} if it goes on to the end of the connection or C{chunked} says
        more.  What is C{established} has none.
    @ivar chunked: Whether the body has a transfer coding.
    """

    LIMIT = 8192

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.downgrade: str | None = None
        self.contentType = ""
        self.length: int | None = None
        self.chunked = False
        self._size = 0  # of all heads
        self._line = bytearray()  # the line that is not yet whole
        self._started: tuple[int, str] | None = None  # the status and the reason of the head under way
        self._fields: list[tuple[bytes, bytes]] = []
        self._interim = 0

    @property
    def established(self) -> bool:
        """
        Whether the tunnel stands: any status 2xx says so, RFC 9110 section 9.3.6.
        """
        return 200 <= self.status < 300

    def read(self, data: bytes) -> int:
        """
        Take the next bytes of the connection.

        @return: How many of them belong to the head; all, until L{status} is set, and then no more.  What follows is
            not even looked at.
        @raise AnswerRefused: No answer will come out of this; the reader is of no further use.
        """
        taken = 0
        most = min(len(data), self.LIMIT - self._size)
        try:
            while not self.status and taken < most:
                end = data.find(b"\n", taken, most) + 1 or most
                self._take(data[taken:end])
                self._size += end - taken
                taken = end
        except Malformed as e:
            raise AnswerRefused(str(e)) from None
        if not self.status and self._size == self.LIMIT:
            raise AnswerRefused(f"the head of {_WHAT} is longer than {self.LIMIT} bytes")
        return taken

    def _take(self, piece: bytes) -> None:
        """
        Take a piece of one line in; the line ends with it or goes on after it.

        @raise Malformed: It has bytes that no line has.
        @raise AnswerRefused: It is not in order.
        """
        line = self._line
        if self._started is None and not _alike(line[: len(_BEGINNING)] + piece[: len(_BEGINNING)], _BEGINNING):
            raise AnswerRefused("what the proxy answers does not begin like HTTP/1.1")
        checkBytes(line, piece, "the proxy", "answer")
        line += piece
        if not piece.endswith(b"\n"):
            return
        whole = bytes(line[:-2])
        line.clear()
        if self._started is None:
            self._started = self._readStart(whole)
        elif whole:
            self._readField(whole)
        else:
            self._readWhole(*self._started)

    def _readStart(self, line: bytes) -> tuple[int, str]:
        """
        Read the status line, RFC 9112 section 4.
        """
        found = _START.fullmatch(line)
        if found is None:
            raise AnswerRefused(f"the first line of {_WHAT} is not HTTP/1.1 STATUS REASON")
        status = int(found[1])
        if status == 101:
            raise AnswerRefused("the proxy switches to a protocol that was not asked for")
        reason = (found[2] or b"").decode("ascii", "replace")
        return status, "".join(letter if letter.isprintable() else "?" for letter in reason).strip()

    def _readField(self, line: bytes) -> None:
        """
        Read the line of a field.
        """
        name, value = readField(line, _WHAT)
        if name in _ONCE and name in dict(self._fields):
            raise AnswerRefused(f"{_WHAT} has the field {_ONCE[name]} twice")
        if name in _ONCE or name == b"connection":
            self._fields.append((name, value))

    def _readWhole(self, status: int, reason: str) -> None:
        """
        Conclude, or go on behind an interim answer.
        """
        if status < 200:
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise AnswerRefused(f"the proxy sent more than {_MOST_INTERIM} interim answers")
            self._started = None
            self._fields.clear()
            return
        fields = dict(self._fields)
        if _FIELD in fields:
            self.downgrade = self._readChoice(fields[_FIELD])
        # RFC 9110, section 9.3.6: what says something of a body must be ignored where the tunnel stands.
        if status >= 300:
            self._readBody(fields)
        self.contentType = fields.get(b"content-type", b"").decode("latin-1")
        self.reason = reason
        self.status = status

    def _readChoice(self, value: bytes) -> str:
        """
        Read what was chosen.
        """
        if _FIELD not in optionsOf(self._fields):
            raise AnswerRefused(f"{_WHAT} has a {FIELD} field that Connection does not name")
        chosen = value.decode("latin-1")
        if chosen not in VALUES:
            raise AnswerRefused(f"{_WHAT} has a {FIELD} field that is not one of {', '.join(sorted(VALUES))}")
        return chosen

    def _readBody(self, fields: dict[bytes, bytes]) -> None:
        """
        Learn what there is of a body, RFC 9112 section 6.
        """
        self.chunked = b"transfer-encoding" in fields
        if b"content-length" not in fields:
            return
        if self.chunked:
            raise AnswerRefused(f"{_WHAT} has both a Content-Length and a Transfer-Encoding")
        if not _LENGTH.fullmatch(fields[b"content-length"]):
            raise AnswerRefused(f"{_WHAT} has a Content-Length that is no number")
        self.length = int(fields[b"content-length"])


def _alike(data: bytes | bytearray, beginning: bytes) -> bool:
    """
    Tell whether the one begins with the other, as far as both go.
    """
    return data[: len(beginning)] == beginning[: len(data)]
