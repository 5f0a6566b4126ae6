# -*- test-case-name: tests.wire.test_crc32c -*-
"""
CRC32C, the checksum of RFC 9260, appendix A, which no module of Python's has.
"""

from __future__ import annotations

from typing import Final

__all__ = ["crc32c"]

_POLYNOMIAL: Final = 0x82F63B78  # 0x1EDC6F41 with its bits turned around


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE: Final = tuple(map(_entry, range(256)))


def crc32c(data: bytes | bytearray) -> int:
    """
    Sum up some bytes.
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
