# -*- test-case-name: tests.handlers -*-
"""
A reader of captured packets, independent of what writes them: pcapng blocks, IP, and TCP.

It takes only what is right, and raises L{AssertionError} at the first thing that is not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from attrs import frozen

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


@frozen
class Packet:
    """
    A packet of a file.

    @ivar interface: The name of its interface.
    @ivar time: Nanoseconds since 1970.
    @ivar data: The packet.
    @ivar comment: What is told of it.
    """

    interface: str
    time: int
    data: bytes
    comment: str


@frozen
class Segment:
    """
    A TCP segment.
    """

    source: str
    target: str
    number: int
    acknowledged: int
    flags: int
    data: bytes

    @property
    def next(self) -> int:
        """
        The number of what comes after it.
        """
        return self.number + len(self.data) + bool(self.flags & (SYN | FIN)) & 0xFFFFFFFF


def options(body: bytes) -> dict[int, bytes]:
    """
    Read a list of options.
    """
    found: dict[int, bytes] = {}
    while body:
        code, length = struct.unpack_from("<HH", body)
        if not code:
            assert body == bytes(4), body
            break
        found[code] = body[4 : 4 + length]
        padded = 4 + length + -length % 4
        assert not any(body[4 + length : padded])
        body = body[padded:]
    return found


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Cut a file into its blocks: the type and the body of each.
    """
    place = 0
    while place < len(data):
        kind, length = struct.unpack_from("<II", data, place)
        assert length % 4 == 0 and length >= 12, (place, length)
        assert struct.unpack_from("<I", data, place + length - 4) == (length,), place
        yield kind, data[place + 8 : place + length - 4]
        place += length
    assert place == len(data)


def packets(data: bytes) -> list[Packet]:
    """
    Read a file.
    """
    found = []
    names: list[str] | None = None
    for kind, body in blocks(data):
        if kind == 0x0A0D0D0A:
            assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
            assert options(body[16:])[4].startswith(b"tlsproxy"), body
            names = []
            continue
        assert names is not None
        if kind == 1:
            assert struct.unpack_from("<HHI", body) == (101, 0, 262144)
            described = options(body[8:])
            assert described[9] == b"\x09"
            names.append(described[2].decode())
            continue
        assert kind == 6, kind
        number, high, low, captured, original = struct.unpack_from("<IIIII", body)
        assert captured == original
        packet, rest = body[20 : 20 + captured], body[20 + captured :]
        padding = -captured % 4
        assert not any(rest[:padding])
        comment = options(rest[padding:]).get(1, b"").decode()
        found.append(Packet(names[number], high << 32 | low, packet, comment))
    return found


def _verify(data: bytes) -> None:
    """
    Check the Internet checksum of what includes it.
    """
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF, hex(total)


def segment(packet: bytes) -> Segment:
    """
    Read a packet.
    """
    if packet[0] >> 4 == 4:
        assert packet[0] == 0x45
        _verify(packet[:20])
        (length,) = struct.unpack_from(">H", packet, 2)
        assert length == len(packet)
        addresses, tcp, kind = packet[12:20], packet[20:], packet[9]
    else:
        assert packet[0] >> 4 == 6
        length, kind = struct.unpack_from(">HB", packet, 4)
        addresses, tcp = packet[8:40], packet[40:]
        assert length == len(tcp)
    assert kind == 6
    _verify(addresses + struct.pack(">II", 6, len(tcp)) + tcp)
    half = len(addresses) // 2
    ports = struct.unpack_from(">HH", tcp)
    source, target = (
        f"{ip_address(one)}:{port}" for one, port in zip((addresses[:half], addresses[half:]), ports, strict=True)
    )
    number, acknowledged, offset, flags = struct.unpack_from(">IIBB", tcp, 4)
    return Segment(source, target, number, acknowledged, flags, tcp[offset >> 2 :])


def streams(segments: Sequence[Segment]) -> tuple[bytes, bytes]:
    """
    Follow one connection from its SYN: nothing is missing, repeated, out of order, or acknowledged before it was sent.

    @return: What the client and the server said.
    """
    first, second, third = segments[:3]
    assert (first.flags, second.flags, third.flags) == (SYN, SYN | ACK, ACK)
    client = first.source
    expected = {first.source: first.number, second.source: second.number}
    said = {first.source: b"", second.source: b""}
    for one in segments:
        assert one.number == expected[one.source], one
        expected[one.source] = one.next
        assert {one.source, one.target} == set(said)
        said[one.source] += one.data
        if one is not first:
            assert one.flags & ACK and one.acknowledged == expected[one.target], one
    return said.pop(client), said.popitem()[1]
