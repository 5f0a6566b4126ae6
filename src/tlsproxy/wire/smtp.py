# -*- test-case-name: tests.wire.test_smtp -*-
"""
As much of SMTP (RFC 5321) as it takes to stand between two who speak it until TLS runs (RFC 3207): the lines of
commands, replies of several lines, and what a reply to EHLO offers.

Where two readers could take a line for different things, it is refused: it ends with CR LF, and has neither of the two
elsewhere (RFC 5321, section 2.3.8).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from attrs import field, frozen

__all__ = [
    "LONGEST",
    "MOST_LINES",
    "Command",
    "LineCutter",
    "Malformed",
    "Reply",
    "ReplyReader",
    "readCommand",
    "verbOf",
]

LONGEST: Final = 1000
"""
The most bytes that a line may have.  RFC 5321, section 4.5.3.1, has 512 for most of them and lets extensions add to it.
"""

MOST_LINES: Final = 100
"""The most lines that a reply may have."""

_FORBIDDEN: Final = re.compile(rb"[\0-\x08\n-\x1f\x7f]")
_VERB: Final = re.compile(rb"([A-Za-z][A-Za-z0-9]*)(?=[ \r])")
_REPLY: Final = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?", re.DOTALL)
_KEYWORD: Final = re.compile(rb"[A-Za-z0-9-]*")


class Malformed(ValueError):
    """
    A line is none of SMTP.  The text says what is wrong with it, to go on after C{"the client's command"} or C{"the
    upstream's reply"}.
    """


def _inside(line: bytes) -> bytes:
    """
    Take the CR LF off a line.

    @raise Malformed: It has none, is too long, or has what no line may have.
    """
    if len(line) > LONGEST:
        raise Malformed(f"is longer than {LONGEST} bytes")
    if not line.endswith(b"\r\n"):
        raise Malformed("ends with a line feed alone" if line.endswith(b"\n") else "has no end")
    inside = line[:-2]
    strange = _FORBIDDEN.search(inside)
    if strange is not None:
        raise Malformed(f"has the control byte 0x{strange[0].hex()}")
    return inside


@frozen
class Command:
    """
    What a client says.

    @ivar verb: What it wants, in upper case; C{""} for a line that does not begin with a word.
    @ivar argument: What follows, without the spaces around it.
    @ivar line: The line as it came.
    """

    verb: str
    argument: bytes
    line: bytes = field(repr=False)


def verbOf(beginning: bytes | bytearray) -> str:
    """
    Tell the verb of a line that may not be whole.

    @return: The verb in upper case; C{""} where there is none, or none as yet.
    """
    found = _VERB.match(beginning)
    return found[0].decode("ascii").upper() if found is not None else ""


def readCommand(line: bytes) -> Command:
    """
    Read a command, RFC 5321 section 4.1.1.

    @param line: One whole line.
    @raise Malformed: It is no line of SMTP.
    """
    inside = _inside(line)
    verb = verbOf(line)
    return Command(verb, inside[len(verb) :].strip(b" \t"), line)


@frozen
class Reply:
    """
    What a server answers, RFC 5321 section 4.2.

    @ivar code: Three digits, the first of which says how it went: 2 and 3 well, 4 not now, 5 not at all.
    @ivar texts: What each of its lines says; at least one.
    """

    code: int
    texts: tuple[bytes, ...]

    def __str__(self) -> str:
        return f"{self.code} {self.texts[0].decode('utf-8', 'backslashreplace')}".rstrip()

    def encode(self, whole: bool = True) -> bytes:
        """
        Write it down.

        @param whole: Whether no further lines follow.
        """
        marks = [b"-"] * len(self.texts)
        if whole:
            marks[-1] = b" "
        return b"".join(b"%d%b%b\r\n" % (self.code, *line) for line in zip(marks, self.texts, strict=True))

    def offers(self, keyword: str) -> bool:
        """
        Tell whether this reply to EHLO offers an extension (RFC 5321, section 4.1.1.1).

        @param keyword: Its name in upper case.
        """
        return self.code == 250 and any(_keyword(text) == keyword for text in self.texts[1:])

    def offering(self, *more: bytes, without: Collection[str]) -> Reply:
        """
        Change what this reply to EHLO offers.

        @param more: What it offers besides.
        @param without: The keywords, in upper case, of what it offers no longer.
        """
        kept = [text for text in self.texts[1:] if _keyword(text) not in without]
        return Reply(self.code, (self.texts[0], *kept, *more))


def _keyword(text: bytes) -> str:
    """
    Tell which extension a line offers.  What is before RFC 2554 writes C{AUTH=LOGIN}, so an equals sign ends it, too.
    """
    found = _KEYWORD.match(text.lstrip(b" \t"))
    return found[0].decode("ascii").upper() if found is not None else ""


class ReplyReader:
    """
    Puts replies together from their lines.
    """

    def __init__(self) -> None:
        self._code = b""
        self._texts: list[bytes] = []

    def read(self, line: bytes) -> Reply | None:
        """
        Take the next line.

        @param line: One whole line.
        @return: The reply, if this was its last line.
        @raise Malformed: It is no line of a reply, or none of this one; the reader is of no further use.
        """
        found = _REPLY.fullmatch(_inside(line))
        if found is None:
            raise Malformed("does not begin with a code of three digits")
        code, mark, text = found.groups(b"")
        if self._texts and code != self._code:
            raise Malformed("changes its code from line to line")
        self._code = code
        self._texts.append(text)
        if mark == b"-":
            if len(self._texts) == MOST_LINES:
                raise Malformed(f"has more than {MOST_LINES} lines")
            return None
        return self.rest()

    def rest(self) -> Reply | None:
        """
        Take what has come of a reply of which more lines were to follow.

        @return: L{None} where nothing has.
        """
        if not self._texts:
            return None
        reply = Reply(int(self._code), tuple(self._texts))
        self._texts.clear()
        return reply


class LineCutter:
    """
    Cuts a stream into lines.

    @ivar held: What has come and was not cut off yet.
    """

    def __init__(self) -> None:
        self.held = bytearray()

    def add(self, data: bytes) -> None:
        """
        Take what comes next.
        """
        self.held += data

    def next(self) -> bytes | None:
        """
        Cut a line off.

        @return: The line with its LF; L{None} where it is not whole yet.
        @raise Malformed: It is too long.
        """
        end = self.held.find(b"\n", 0, LONGEST) + 1
        if not end:
            if len(self.held) >= LONGEST:
                raise Malformed(f"is longer than {LONGEST} bytes")
            return None
        line = bytes(self.held[:end])
        del self.held[:end]
        return line

    def rest(self) -> bytes:
        """
        Take all that is left.
        """
        rest = bytes(self.held)
        self.held.clear()
        return rest
