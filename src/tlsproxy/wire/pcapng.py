# -*- test-case-name: tests.wire.test_pcapng -*-
"""
The blocks of a pcapng file (draft-ietf-opsawg-pcapng), as Wireshark reads them.

A file is a row of sections.  Each begins with a Section Header Block, describes its interfaces, and then has packets;
so a whole section may be appended to a file that ends with a whole block.  All numbers are written with their lowest
byte first, on every machine, because some readers want the same order in all sections of a file.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["HEADER", "LINKTYPE_RAW", "SNAP", "interface", "isSection", "packet", "section", "whole"]

LINKTYPE_RAW: Final = 101
"""Packets begin with their IPv4 or IPv6 header."""
SNAP: Final = 262144
"""The most bytes that are kept of a packet."""
HEADER: Final = 12
"""As many bytes of a file tell what it is."""

_SECTION: Final = 0x0A0D0D0A  # Section Header Block
_INTERFACE: Final = 1  # Interface Description Block
_PACKET: Final = 6  # Enhanced Packet Block
_MAGIC: Final = 0x1A2B3C4D
_END: Final = 0  # opt_endofopt
_COMMENT: Final = 1  # opt_comment
_USERAPPL: Final = 4  # shb_userappl
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_NANOSECONDS: Final = b"\x09"  # 10 to the power of -9
_LONGEST: Final = 65532  # bytes of an option: the most whose length, padded, fits

_start: Final = struct.Struct("<III")
_packet: Final = struct.Struct("<IIIIIII")
_option: Final = struct.Struct("<HH")
_length: Final = struct.Struct("<I")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_DONE: Final = _option.pack(_END, 0)


def _options(*options: tuple[int, bytes]) -> bytes:
    """
    Write a list of options; those that are empty are left out.
    """
    parts = []
    for code, value in options:
        if value:
            parts += [_option.pack(code, len(value)), value, _PADDING[len(value) & 3]]
    return b"".join([*parts, _DONE]) if parts else b""


def _text(text: str) -> bytes:
    """
    Write a text of an option, as much of it as an option can have.
    """
    data = text.encode("utf-8", "replace")
    return data if len(data) <= _LONGEST else data[:_LONGEST].decode("utf-8", "ignore").encode("utf-8")


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return b"".join((struct.pack("<II", kind, length), body, _length.pack(length)))


def section(application: str) -> bytes:
    """
    Begin a section: a Section Header Block.

    @param application: What writes it.
    """
    # The length of the section is not known beforehand: -1.
    return _block(_SECTION, struct.pack("<IHHq", _MAGIC, 1, 0, -1) + _options((_USERAPPL, _text(application))))


def interface(name: str) -> bytes:
    """
    Describe an interface, the next one of the section, whose packets are raw IP and whose times are nanoseconds: an
    Interface Description Block.
    """
    options = _options((_IF_NAME, _text(name)), (_IF_TSRESOL, _NANOSECONDS))
    return _block(_INTERFACE, struct.pack("<HHI", LINKTYPE_RAW, 0, SNAP) + options)


def packet(number: int, time: int, header: bytes, data: bytes | memoryview = b"", comment: str = "") -> bytes:
    """
    Write a packet: an Enhanced Packet Block.

    @param number: The interface: 0 for the first of the section.
    @param time: Nanoseconds since 1970.
    @param header: The packet's first bytes.
    @param data: The others; together they are no more than L{SNAP}.
    @param comment: What to tell of it.
    """
    size = len(header) + len(data)
    padding = _PADDING[size & 3]
    options = _options((_COMMENT, _text(comment))) if comment else b""
    length = 32 + size + len(padding) + len(options)
    return b"".join(
        (
            _packet.pack(_PACKET, length, number, time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF, size, size),
            header,
            data,
            padding,
            options,
            _length.pack(length),
        )
    )


def isSection(beginning: bytes) -> bool:
    """
    Tell whether a file begins as one does to which sections can be appended.

    @param beginning: At least its first L{HEADER} bytes.
    """
    if len(beginning) < HEADER:
        return False
    kind, _, magic = _start.unpack_from(beginning)
    return (kind, magic) == (_SECTION, _MAGIC)


def whole(data: bytes) -> int:
    """
    Tell how many bytes at the beginning of some data are whole blocks.

    Where a block ends is told by its beginning alone: what a block holds can look like the end of one.

    @param data: What begins with a block.
    """
    read, place, size = _length.unpack_from, 0, len(data)
    while place + 12 <= size:
        (length,) = read(data, place + 4)
        end = place + length
        if length < 12 or length % 4 or end > size or read(data, end - 4) != (length,):
            break
        place = end
    return place
