# -*- test-case-name: tests.wire.test_segments -*-
"""
A TCP connection that never was: segments that carry the bytes of a session, for programs that read captured packets.

It has a beginning and an end, loses nothing and repeats nothing, and all its checksums are right.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.wire.network import plainAddress

__all__ = ["MOST", "Conversation", "Station", "addressOf"]

MOST: Final = 32768
"""The most bytes of data in a segment."""
_ACKNOWLEDGED: Final = 32
"""After as many segments the other side acknowledges them, if it had nothing to say by itself."""

# RFC 9293, section 3.1
_FIN: Final = 0x01
_SYN: Final = 0x02
_RST: Final = 0x04
_PSH: Final = 0x08
_ACK: Final = 0x10
_TCP: Final = 6
_HOPS: Final = 64
_WINDOW: Final = 65535
_OPTIONS: Final = struct.pack(">BBHBBBB", 2, 4, MOST, 1, 3, 3, 14)
"""Of a SYN: the maximum segment size, and the greatest window scale (RFC 7323), so that no window is ever full."""

_SLICE: Final = 2048
_OPPOSITE: Final[Mapping[Way, Way]] = {OUTWARD: INWARD, INWARD: OUTWARD}
_ipv4: Final = struct.Struct(">BBHIBBH8sHHIIBBHHH")
_ipv6: Final = struct.Struct(">IHBB32sHHIIBBHHH")


Station = tuple[IPv4Address | IPv6Address | None, int]
"""An address and a port; L{None} for an address that is not known."""


def addressOf(host: str) -> IPv4Address | IPv6Address | None:
    """
    Read an address, an IPv4 one inside an IPv6 one as itself.

    @return: L{None} where it is none.
    """
    try:
        return plainAddress(host.partition("%")[0])
    except ValueError:
        return None


def _sum(data: bytes | memoryview) -> int:
    """
    Add up 16-bit words as the Internet checksum does (RFC 1071).

    A number leaves the same remainder modulo 65535 as the sum of its words.  Long numbers are added much faster than
    they are divided, so the bytes are cut into a few of them.
    """
    total = 0
    for start in range(0, len(data), _SLICE):
        piece = data[start : start + _SLICE]
        number = int.from_bytes(piece, "big")
        total += number << 8 if len(piece) & 1 else number
    return total % 65535


class _Half:
    """
    One direction.

    @ivar next: The number of its next byte.
    @ivar unseen: How many of its segments the other side has not acknowledged.
    """

    __slots__ = ("addresses", "next", "ports", "unseen")

    def __init__(self, addresses: bytes, ports: tuple[int, int], number: int) -> None:
        self.addresses = addresses
        self.ports = ports
        self.next = number & 0xFFFFFFFF
        self.unseen = 0


class Conversation:
    """
    The segments of one connection, to be made in the order in which things happen.
    """

    __slots__ = ("_halves", "_total", "_v4")

    def __init__(
        self,
        client: Station,
        server: Station,
        numbers: tuple[int, int] = (0, 0),
    ) -> None:
        """
        @param client: Where the client is; an address that is not known becomes one of zeros.
        @param server: Where the server is.
        @param numbers: Where the client and the server begin to count their bytes; any number.
        """
        self._v4 = not any(isinstance(host, IPv6Address) for host, _ in (client, server))
        near, far = self._packed(client[0]), self._packed(server[0])
        self._halves: Mapping[Way, _Half] = {
            OUTWARD: _Half(near + far, (client[1], server[1]), numbers[0]),
            INWARD: _Half(far + near, (server[1], client[1]), numbers[1]),
        }
        # What all checksums have in common, whatever the direction.
        self._total = _sum(near + far)

    def _packed(self, host: IPv4Address | IPv6Address | None) -> bytes:
        if host is None:
            return bytes(4 if self._v4 else 16)
        if self._v4 or isinstance(host, IPv6Address):
            return host.packed
        return ip_address(f"::ffff:{host}").packed

    def _segment(self, way: Way, flags: int, data: bytes | memoryview = b"", options: bytes = b"") -> bytes:
        """
        Make the headers of a segment.
        """
        half, other = self._halves[way], self._halves[_OPPOSITE[way]]
        number, acknowledged = half.next, 0
        if flags & _ACK:
            acknowledged = other.next
            other.unseen = 0
        source, target = half.ports
        offset = 20 + len(options)
        length = offset + len(data)
        total = (
            *(self._total, _TCP, length, source, target, number, acknowledged, offset << 10 | flags, _WINDOW),
            *(_sum(options), _sum(data)),
        )
        tcp = source, target, number, acknowledged, offset << 2, flags, _WINDOW, -sum(total) % 65535, 0
        # What takes a place among the numbers: the bytes, a SYN, and a FIN.
        half.next = number + len(data) + (1 if flags & (_SYN | _FIN) else 0) & 0xFFFFFFFF
        if not self._v4:
            return _ipv6.pack(6 << 28, length, _TCP, _HOPS, half.addresses, *tcp) + options
        length += 20
        check = -(0x4500 + length + 0x4000 + (_HOPS << 8 | _TCP) + self._total) % 65535
        return _ipv4.pack(0x45, 0, length, 0x4000, _HOPS, _TCP, check, half.addresses, *tcp) + options

    def open(self) -> Iterator[bytes]:
        """
        Make the three segments with which a connection begins.
        """
        yield self._segment(OUTWARD, _SYN, options=_OPTIONS)
        yield self._segment(INWARD, _SYN | _ACK, options=_OPTIONS)
        yield self._segment(OUTWARD, _ACK)

    def send(self, way: Way, data: bytes) -> Iterator[tuple[bytes, bytes | memoryview]]:
        """
        Make the segments that carry some bytes.

        @return: Of each the headers, and what comes after them.
        """
        half = self._halves[way]
        view: bytes | memoryview = data if len(data) <= MOST else memoryview(data)
        for start in range(0, len(data), MOST):
            piece = view if view is data else view[start : start + MOST]
            yield self._segment(way, _PSH | _ACK, piece), piece
            half.unseen += 1
            if half.unseen >= _ACKNOWLEDGED:
                yield self.acknowledge(_OPPOSITE[way]), b""

    def acknowledge(self, way: Way) -> bytes:
        """
        Make a segment that acknowledges all that came the other way.
        """
        return self._segment(way, _ACK)

    def end(self, way: Way) -> bytes:
        """
        Make the segment that ends a direction.
        """
        return self._segment(way, _FIN | _ACK)

    def reset(self, way: Way) -> bytes:
        """
        Make the segment that resets the connection.
        """
        return self._segment(way, _RST | _ACK)
