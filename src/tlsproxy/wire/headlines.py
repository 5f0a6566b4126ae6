# -*- test-case-name: tests.wire.test_headlines -*-
"""
The lines in the head of an HTTP/1.x message (RFC 9112, sections 2.2 and 5), read so that no two readers can take them
for different things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["Malformed", "checkBytes", "optionsOf", "readField"]

_NOT_OF_A_TOKEN: Final = re.compile(rb"[^-!#$%&'*+.^_`|~0-9A-Za-z]")
# A carriage return at the end of what is there is judged by the byte that follows.
_FORBIDDEN: Final = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Malformed(ValueError):
    """
    A head is malformed.  The sentence says what is wrong with it, and shows nothing of what may be a secret.
    """


def checkBytes(before: bytes | bytearray, piece: bytes, who: str, what: str) -> None:
    """
    Refuse the bytes that no line has.

    @param before: What came before of the head.
    @param piece: What comes now, and goes no further than to the end of a line.
    @param who: Whose head it is, as C{"the client"}.
    @param what: What it is the head of, as C{"request"}.
    @raise Malformed: There is a control byte, or a CR without LF, or the reverse.
    """
    strange = _FORBIDDEN.search((b"\r" if before.endswith(b"\r") else b"") + piece)
    if strange is None:
        return
    if strange[0] == b"\r":
        raise Malformed(f"{who}'s {what} has a carriage return without a line feed")
    if strange[0] == b"\n":
        raise Malformed(f"{who} ends a line with a line feed alone, without a carriage return")
    raise Malformed(f"{who}'s {what} has the control byte 0x{strange[0].hex()}")


def readField(line: bytes, where: str) -> tuple[bytes, bytes]:
    """
    Read the line of a field.

    @param line: The line without its end.
    @param where: Where it stands, as C{"the client's request"}.
    @return: The name in lower case, and the value without the space around it.
    @raise Malformed: It is none, or one in a form that is obsolete.
    """
    if line[:1] in (b" ", b"\t"):
        raise Malformed(f"{where} has a folded header line, which is obsolete")
    name, colon, value = line.partition(b":")
    if not colon:
        raise Malformed(f"{where} has a header line without a colon")
    if name.endswith((b" ", b"\t")):
        raise Malformed(f"{where} has a space between the name of a header field and its colon")
    if not name or _NOT_OF_A_TOKEN.search(name):
        raise Malformed(f"{where} has a header field with a malformed name")
    return name.lower(), value.strip(b" \t")


def optionsOf(fields: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """
    Tell which fields are for the next hop alone, by the Connection fields (RFC 9110, section 7.6.1).

    @param fields: Names, in lower case, and values.
    @return: Names in lower case.
    """
    return {
        option.strip(b" \t").lower() for name, value in fields if name == b"connection" for option in value.split(b",")
    }
