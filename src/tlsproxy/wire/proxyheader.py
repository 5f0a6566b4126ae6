# -*- test-case-name: tests.wire.test_proxyheader -*-
"""
The PROXY protocol (HAProxy's C{proxy-protocol.txt}): the header in front of a connection's bytes, by which a balancer
tells who its client is.

Version 1 is a line of text, version 2 is binary.  What two readers could take differently is refused: numbers with
zeros in front, addresses with a zone, lengths that do not fit, a combination of family and transport that the document
does not list.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from contextlib import suppress
from typing import Final

from attrs import frozen
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from tlsproxy.wire.crc32c import crc32c
from tlsproxy.wire.network import plainAddress
from tlsproxy.wire.proxytlv import NOTHING_TOLD, ProxyHeaderError, Vectors, readVectors, writeVectors

__all__ = ["ProxyHeader", "ProxyHeaderError", "ProxyHeaderReader", "writeLine", "writeBinary"]

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_WORD: Final = b"PROXY "
_UNKNOWN: Final = b"PROXY UNKNOWN\r\n"
_LONGEST_LINE: Final = 107  # bytes, CRLF included
_LONGEST: Final = 16384  # bytes of a binary header: a client's certificate may be in it
_HEAD: Final = struct.Struct("!12sBBH")
_PORTS: Final = struct.Struct("!HH")
_CHECKSUM: Final = struct.Struct("!BHI")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}", re.ASCII)
_PATH: Final = 108  # bytes of the path of a Unix socket

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED: Final = 0x00
_TCP4, _TCP6, _UNIX = 0x11, 0x21, 0x31
_SIZES: Final = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 2 * _PATH, 0x32: 2 * _PATH}
"""How many bytes the two addresses take, by family and transport."""

_NONE: Final = "what comes first is no PROXY header, which the balancer has to send here"


@frozen
class ProxyHeader:
    """
    What a header tells.  An IPv4-mapped IPv6 address is told as the IPv4 one.

    @ivar version: 1 or 2.
    @ivar source: Where the client is; L{None} where the balancer speaks for itself, or does not know.
    @ivar destination: Where it has connected; L{None} likewise.
    @ivar vectors: What else is told.
    @ivar length: How many bytes the header takes.
    """

    version: int
    source: IAddress | None
    destination: IAddress | None
    vectors: Vectors
    length: int


class ProxyHeaderReader:
    """
    Reads one header out of the first bytes of a connection, however they are cut.

    @ivar need: How many bytes, counted from the first of the connection, must be there before L{read} can get further.
    """

    def __init__(self) -> None:
        self.need = 1

    def read(self, data: bytes | memoryview) -> ProxyHeader | None:
        """
        Look for the header in all that came so far.

        @param data: Everything from the first byte of the connection on; it may go on past the header.
        @return: The header, or L{None} while more than C{data} is needed; then L{need} is more than C{len(data)}.
        @raise ProxyHeaderError: No header will come out of this.
        """
        if len(data) < self.need:
            return None
        start = bytes(data[: _HEAD.size])
        if start[:12] == _SIGNATURE[: len(start)]:
            return self._readBinary(data, start)
        if start[: len(_WORD)] == _WORD[: len(start)]:
            return self._readLine(bytes(data[:_LONGEST_LINE]))
        raise ProxyHeaderError(_NONE)

    def _readLine(self, line: bytes) -> ProxyHeader | None:
        end = line.find(b"\r")
        if end < 0 or end + 1 == len(line):
            if b"\n" in line or len(line) == _LONGEST_LINE:
                raise ProxyHeaderError(f"the PROXY header has no CR and LF within {_LONGEST_LINE} bytes")
            self.need = len(line) + 1
            return None
        if line[end + 1] != 10 or b"\n" in line[:end]:
            raise ProxyHeaderError("the PROXY header has a CR or an LF by itself")
        source, destination = _parseLine(line[:end])
        return ProxyHeader(1, source, destination, NOTHING_TOLD, end + 2)

    def _readBinary(self, data: bytes | memoryview, start: bytes) -> ProxyHeader | None:
        if len(start) < _HEAD.size:
            self.need = len(start) + 1 if len(start) < len(_SIGNATURE) else _HEAD.size
            return None
        _, command, family, length = _HEAD.unpack(start)
        if command not in (_LOCAL, _PROXY):
            raise ProxyHeaderError(f"the PROXY header has version and command 0x{command:02x}, which there is not")
        if family not in _SIZES and command == _PROXY:
            raise ProxyHeaderError(f"the PROXY header has family and transport 0x{family:02x}, which there is not")
        if command == _PROXY and length < _SIZES[family]:
            raise ProxyHeaderError("the PROXY header is too short for its addresses")
        whole = _HEAD.size + length
        if whole > _LONGEST:
            raise ProxyHeaderError(f"the PROXY header has {whole} bytes, more than {_LONGEST}")
        if len(data) < whole:
            self.need = whole
            return None
        if command == _LOCAL or family == _UNSPECIFIED:
            # Nothing of what follows has a meaning.
            return ProxyHeader(2, None, None, NOTHING_TOLD, whole)
        return _parseBinary(bytes(data[:whole]), family)


def _parseLine(line: bytes) -> tuple[IAddress | None, IAddress | None]:
    words = line.split(b" ")
    if len(words) > 1 and words[1] == b"UNKNOWN":
        return None, None  # Whatever else the line says has no meaning.
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyHeaderError('the PROXY header is neither of TCP4 with its four words, nor of TCP6, nor "UNKNOWN"')
    family: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address] = (
        ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    )
    try:
        source, destination, sourcePort, destinationPort = (word.decode("ascii") for word in words[2:])
        for host in (source, destination):
            if "%" in host:
                raise ValueError("a zone is another machine's")
            family(host)
        for port in (sourcePort, destinationPort):
            if not _PORT.fullmatch(port) or int(port) > 65535:
                raise ValueError("no port")
    except ValueError:
        raise ProxyHeaderError("the PROXY header has an address or a port that is none") from None
    return _address("TCP", source, int(sourcePort)), _address("TCP", destination, int(destinationPort))


def _parseBinary(data: bytes, family: int) -> ProxyHeader:
    size = _SIZES[family]
    start, end = _HEAD.size, _HEAD.size + size
    vectors, checksum = readVectors(data, end)
    if checksum:
        zeroed = data[:checksum] + bytes(4) + data[checksum + 4 :]
        if crc32c(zeroed) != int.from_bytes(data[checksum : checksum + 4], "big"):
            raise ProxyHeaderError("the PROXY header does not fit its checksum")
    source: IAddress
    destination: IAddress
    if size == _SIZES[_UNIX]:
        source, destination = _path(data[start : start + _PATH]), _path(data[start + _PATH : end])
    else:
        transport = "UDP" if family & 0x0F == 2 else "TCP"
        width = (size - _PORTS.size) // 2
        ports = _PORTS.unpack_from(data, end - _PORTS.size)
        hosts = (str(ipaddress.ip_address(data[at : at + width])) for at in (start, start + width))
        source, destination = (_address(transport, host, port) for host, port in zip(hosts, ports, strict=True))
    return ProxyHeader(2, source, destination, vectors, len(data))


def _address(transport: str, host: str, port: int) -> IAddress:
    plain = plainAddress(host)
    kind = IPv4Address if plain.version == 4 else IPv6Address
    return kind(transport, str(plain), port)  # type: ignore[arg-type]


def _path(field: bytes) -> UNIXAddress:
    # An abstract name starts with a zero.
    name = field.rstrip(b"\0") if field[:1] == b"\0" else field.partition(b"\0")[0]
    return UNIXAddress(name or None)


# -- writing ----------------------------------------------------------------------------------------------------------


def _hosts(
    source: IAddress, destination: IAddress
) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ipaddress.IPv4Address | ipaddress.IPv6Address] | None:
    """
    Bring two addresses into one family, IPv4 if both can be.
    """
    plain = []
    for one in (source, destination):
        host = one.host.partition("%")[0] if isinstance(one, (IPv4Address, IPv6Address)) else ""
        with suppress(ValueError):
            plain.append(plainAddress(host))
    if len(plain) != 2:
        return None
    if {one.version for one in plain} == {4, 6}:
        plain = [ipaddress.IPv6Address(f"::ffff:{one}") if one.version == 4 else one for one in plain]
    return plain[0], plain[1]


def _ports(*addresses: IAddress) -> list[int]:
    return [int(getattr(one, "port", 0)) & 0xFFFF for one in addresses]


def writeLine(source: IAddress, destination: IAddress) -> bytes:
    """
    Write a header of version 1.

    @param source: Where the client is.
    @param destination: Where it has connected.
    """
    hosts = _hosts(source, destination)
    if hosts is None:
        return _UNKNOWN
    words = [f"::ffff:{mapped}" if (mapped := getattr(one, "ipv4_mapped", None)) else str(one) for one in hosts]
    line = ["PROXY", f"TCP{hosts[0].version}", *words, *map(str, _ports(source, destination))]
    return " ".join(line).encode("ascii") + b"\r\n"


def writeBinary(
    source: IAddress, destination: IAddress, vectors: Vectors = NOTHING_TOLD, checksum: bool = False
) -> bytes:
    """
    Write a header of version 2.  One without addresses, as of a connection of this program's own, tells nothing else.

    @param source: Where the client is.
    @param destination: Where it has connected.
    @param vectors: What else to tell.
    @param checksum: Whether a checksum is added.
    @raise ProxyHeaderError: It would be too long.
    """
    hosts = _hosts(source, destination)
    if hosts is not None:
        family = _TCP4 if hosts[0].version == 4 else _TCP6
        addresses = hosts[0].packed + hosts[1].packed + _PORTS.pack(*_ports(source, destination))
    elif isinstance(source, UNIXAddress) and isinstance(destination, UNIXAddress):
        family = _UNIX
        addresses = b"".join((one.name or b"")[:_PATH].ljust(_PATH, b"\0") for one in (source, destination))
    else:
        return _HEAD.pack(_SIGNATURE, _LOCAL, _UNSPECIFIED, 0)
    told = addresses + writeVectors(vectors)
    length = len(told) + (_CHECKSUM.size if checksum else 0)
    if length > 0xFFFF:
        raise ProxyHeaderError("what the PROXY header has to tell is too long for it")
    header = _HEAD.pack(_SIGNATURE, _PROXY, family, length) + told
    if checksum:
        header += _CHECKSUM.pack(0x03, 4, crc32c(header + _CHECKSUM.pack(0x03, 4, 0)))
    return header
