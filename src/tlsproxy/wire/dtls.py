# -*- test-case-name: tests.wire.test_dtls -*-
"""
The records of DTLS 1.2 in their datagrams (RFC 6347, section 4.1).

A datagram holds whole records, and several may be in one.  The protected records of DTLS 1.3 (RFC 9147, section 4) and
those with a connection ID (RFC 9146) have another form, and are refused.
"""

from __future__ import annotations

import struct
from typing import Final

from attrs import frozen

from tlsproxy.wire.hellobody import DTLS_MAJOR

__all__ = [
    "ALERT",
    "APPLICATION_DATA",
    "CHANGE_CIPHER_SPEC",
    "HANDSHAKE",
    "HEAD",
    "Record",
    "RecordError",
    "records",
    "recut",
]

# The types of records.
CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23
_HEARTBEAT: Final = 24
_WITH_CONNECTION_ID: Final = 25
_UNIFIED: Final = range(0x20, 0x40)  # what a protected record of DTLS 1.3 begins with

HEAD: Final = 13
"""Bytes of a record's header."""
_MOST: Final = 16384 + 2048  # bytes that a record may carry, RFC 6347 section 4.1.2
_HEADER: Final = struct.Struct(">BHHHIH")  # type, version, epoch, sequence number in two parts, length


class RecordError(ValueError):
    """
    A datagram does not hold records of DTLS 1.2, and nothing else.  The sentence says what is wrong with it.
    """


@frozen
class Record:
    """
    A record.

    @ivar type: Its type.
    @ivar version: The version in its header.
    @ivar epoch: Which keys protect it; 0 for none.
    @ivar sequence: Its number within the epoch, 48 bits.
    @ivar payload: What it carries, protected or not.
    """

    type: int
    version: int
    epoch: int
    sequence: int
    payload: bytes


def records(datagram: bytes, most: int = 65536) -> tuple[Record, ...]:
    """
    Take a datagram apart.

    @param most: How many records there may be.
    @return: Its records, one at least.
    @raise RecordError: It holds anything else.
    """
    found: list[Record] = []
    at = 0
    while at < len(datagram) or not found:
        if len(found) >= most:
            raise RecordError(f"the datagram holds more than {most} DTLS records")
        end = _end(datagram, at)
        type, version, epoch, high, low, _ = _HEADER.unpack_from(datagram, at)
        found.append(Record(type, version, epoch, high << 32 | low, datagram[at + HEAD : end]))
        at = end
    return tuple(found)


def _end(data: bytes, at: int) -> int:
    """
    Find the end of a record.

    @param at: Where it begins.
    @raise RecordError: It is none.
    """
    if at >= len(data):
        raise RecordError("the datagram is empty")
    type = data[at]
    if not CHANGE_CIPHER_SPEC <= type <= _HEARTBEAT:
        if type == _WITH_CONNECTION_ID:
            raise RecordError("the DTLS record has a connection ID, which is not supported")
        if type in _UNIFIED:
            raise RecordError("the record is none of DTLS 1.2; it may be one of DTLS 1.3, which is not supported")
        raise RecordError(f"a byte 0x{type:02x} stands where a DTLS record must begin")
    if len(data) - at < HEAD:
        raise RecordError("the datagram ends within the header of a DTLS record")
    if data[at + 1] != DTLS_MAJOR:
        raise RecordError(f"the DTLS record has the version 0x{data[at + 1 : at + 3].hex()}")
    length = data[at + 11] << 8 | data[at + 12]
    if length > _MOST:
        raise RecordError(f"the DTLS record is too long: {length} bytes")
    end = at + HEAD + length
    if end > len(data):
        raise RecordError("the datagram ends within a DTLS record")
    return end


def recut(data: bytes, most: int) -> list[bytes]:
    """
    Cut what a DTLS library wrote into datagrams, as memory has lost where one ended.

    As many records go into a datagram as fit, but for those of application data, each of which is alone, so that two of
    a program's datagrams never become one.  No record is cut: one that is larger than C{most} is alone, too.

    @param data: Whole records, one after the other; it may be empty.
    @param most: The most bytes of a datagram.
    @raise RecordError: It is not records.
    """
    size = len(data)
    if size > HEAD and data[0] == APPLICATION_DATA and HEAD + (data[11] << 8 | data[12]) == size:
        return [data]  # The usual: what a program wrote.
    datagrams = []
    start = at = 0  # Of the datagram, and of the record.
    while at < size:
        end = _end(data, at)
        alone = data[at] == APPLICATION_DATA
        if at > start and (alone or end - start > most):
            datagrams.append(data[start:at])
            start = at
        if alone:
            datagrams.append(data[at:end])
            start = end
        at = end
    if at > start:
        datagrams.append(data[start:at])
    return datagrams
