# -*- test-case-name: tests.tls.test_rounds -*-
"""
How much work a PKCS#12 file makes, as it says itself.

Its keys are derived from the password in rounds, as many as the file says (RFC 7292, appendix B; RFC 8018, sections 6
and 7; RFC 9579), and the library stops all threads of the process for that long.  So the numbers are read first.

Files are DER, and those of some programs are BER, which the library takes as well.  What is itself encrypted tells
nothing: a file that asks for more inside of that is not seen through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["roundsOf"]

_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_OBJECT: Final = 0x06
_SEQUENCE: Final = 0x30
_CONSTRUCTED: Final = 0x20

_PKCS5: Final = bytes.fromhex("2a864886f70d0105")
_PKCS12: Final = bytes.fromhex("2a864886f70d010c01")
_PASSWORD_BASED: Final = frozenset(
    {
        *(_PKCS12 + bytes([last]) for last in range(1, 7)),
        *(_PKCS5 + bytes([last]) for last in (1, 3, 4, 6, 10, 11)),
        _PKCS5 + bytes([12]),
    }
)
"""
The schemes of RFC 7292, PBES1, and PBKDF2: each has a salt, and then the number of its rounds.
"""
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")

_DEEPEST: Final = 32
_MOST: Final = 100_000
"""How many elements a file may have; one certificate has some 150."""
_LARGEST: Final = 1 << 62


class _Element(NamedTuple):
    """
    An element of BER.

    @ivar tag: Its first byte.
    @ivar content: What is in it; nothing where it has parts.
    @ivar parts: The elements that are in it.
    """

    tag: int
    content: memoryview
    parts: list[_Element]


class _Reader:
    """
    Reads BER (ITU-T X.690).
    """

    def __init__(self) -> None:
        self._count = 0

    def read(self, data: memoryview, at: int, depth: int) -> tuple[_Element, int]:
        """
        Read an element.

        @param at: Where it begins.
        @param depth: How many it is in.
        @return: It, and where the next begins.
        @raise ValueError: There is none.
        @raise IndexError: The same: it begins where there is nothing.
        """
        self._count += 1
        if self._count > _MOST or depth > _DEEPEST:
            raise ValueError("it has too many parts")
        tag, length = data[at], data[at + 1]
        at += 2
        if tag & 0x1F == 0x1F:
            raise ValueError("it has a tag that nothing in PKCS#12 has")
        if length == 0x80:
            return self._untilMark(tag, data, at, depth)
        if length > 0x80:
            size = length - 0x80
            if len(data) - at < size or size > 8:
                raise ValueError("it has no length")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if length > len(data) - at:
            raise ValueError("it is cut off")
        content = data[at : at + length]
        parts = []
        if tag & _CONSTRUCTED:
            inside = 0
            while inside < length:
                part, inside = self.read(content, inside, depth + 1)
                parts.append(part)
        return _Element(tag, content[:0] if parts else content, parts), at + length

    def _untilMark(self, tag: int, data: memoryview, at: int, depth: int) -> tuple[_Element, int]:
        """
        Read an element that does not tell its length.
        """
        if not tag & _CONSTRUCTED:
            raise ValueError("it has no length")
        parts: list[_Element] = []
        while True:
            part, at = self.read(data, at, depth + 1)
            if part.tag == 0:
                return _Element(tag, data[:0], parts), at
            parts.append(part)


def roundsOf(data: bytes) -> int:
    """
    Tell for how many rounds of key derivation a PKCS#12 file asks, all together.  Those of scrypt (RFC 7914) are told
    by what they cost: about one for each block of each.

    @raise ValueError: It is no such file.
    """
    reader = _Reader()
    try:
        top, _ = reader.read(memoryview(data), 0, 0)
    except IndexError:
        raise ValueError("it is cut off") from None
    if top.tag != _SEQUENCE or len(top.parts) < 2:
        raise ValueError("it is something else")
    count = 0
    if len(top.parts) > 2:
        count += _number(top.parts[2], 2)
    for element in _within(top, reader, 0):
        if element.tag == _SEQUENCE and len(element.parts) > 1 and element.parts[0].tag == _OBJECT:
            scheme, parameters = bytes(element.parts[0].content), element.parts[1]
            if scheme in _PASSWORD_BASED:
                count += _number(parameters, 1)
            elif scheme == _SCRYPT:
                count += _number(parameters, 1) * _number(parameters, 2) * _number(parameters, 3)
    return min(count, _LARGEST)


def _number(element: _Element, position: int) -> int:
    """
    Tell what number one of the parts of an element is; 0 where it is none.
    """
    if position < len(element.parts) and element.parts[position].tag == _INTEGER:
        return min(max(int.from_bytes(element.parts[position].content, "big", signed=True), 0), _LARGEST)
    return 0


def _within(element: _Element, reader: _Reader, depth: int) -> Iterator[_Element]:
    """
    Find an element and all that are in it, in octets that are elements themselves as well.
    """
    yield element
    if element.tag & ~_CONSTRUCTED != _OCTETS:
        for part in element.parts:
            yield from _within(part, reader, depth + 1)
        return
    octets = _octets(element)
    try:
        inner, _ = reader.read(octets, 0, depth + 1)
    except (ValueError, IndexError):
        return  # Octets may be anything, such as a salt.
    yield from _within(inner, reader, depth + 1)


def _octets(element: _Element) -> memoryview:
    """
    Put octets together that come in pieces.
    """
    if not element.parts:
        return element.content
    return memoryview(b"".join(_octets(part) for part in element.parts))
