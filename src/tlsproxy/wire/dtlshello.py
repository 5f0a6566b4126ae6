# -*- test-case-name: tests.wire.test_dtlshello -*-
"""
The ClientHello of DTLS, and the HelloVerifyRequest that asks who sent it to show that it gets what is sent back (RFC
6347, sections 4.2.1 and 4.2.2; the first hello of DTLS 1.3 has the same form, RFC 9147, section 5.3).

A hello is read out of one datagram without a trace of it being kept, as anybody can write anybody's address on one.
One that comes in fragments can be put together only by whoever keeps the first of them; what has to be known to ask its
sender for a cookie is in the first fragment alone.
"""

from __future__ import annotations

import struct
from bisect import insort
from operator import attrgetter
from typing import Final

from attrs import frozen

from tlsproxy.wire.dtls import ALERT, HANDSHAKE, HEAD, Record, RecordError, records
from tlsproxy.wire.hellobody import (
    DECODE_ERROR,
    DTLS_MAJOR,
    ILLEGAL_PARAMETER,
    PROTOCOL_VERSION,
    RECORD_OVERFLOW,
    UNEXPECTED_MESSAGE,
    ClientHello,
    HelloError,
    readBody,
    vector,
)

__all__ = [
    "DTLSHello",
    "FragmentedHello",
    "HelloPieces",
    "HelloStart",
    "helloVerifyRequest",
    "readHello",
    "readStart",
]

_CLIENT_HELLO: Final = 1
_HELLO_VERIFY_REQUEST: Final = 3
_DTLS_1_0: Final = b"\xfe\xff"  # the version of every HelloVerifyRequest, RFC 6347 section 4.2.1
_OPENING: Final = 12  # bytes of a handshake message's header
_FRAGMENT: Final = 16384  # bytes that a record may carry in plain
_LAST_HELLO: Final = 2  # one after a HelloVerifyRequest, and one after a HelloRetryRequest
_RECORDS: Final = 16  # more than any client puts into one datagram of its hello; each costs time
_AFTER_RANDOM: Final = 34  # where what follows the version and the random begins
_SESSION_ID: Final = 32  # bytes of one at most
_HEADER: Final = struct.Struct(">B3sH3s3s")  # type, length, message_seq, fragment_offset, fragment_length


class FragmentedHello(HelloError):
    """
    A hello does not come in one piece.
    """


@frozen
class HelloStart:
    """
    What a ClientHello of DTLS begins with, which is in its first fragment.

    @ivar cookie: The cookie that it gives back; C{b""} for none.
    @ivar sequence: The number of the message, 0 for a client's first (RFC 6347, section 4.2.2).
    @ivar recordSequence: The number of its record, or of its first.
    @ivar opening: The version, the random and the session id as they were sent.
    @ivar wireLength: How many bytes all of it took on the wire that has come so far.
    """

    cookie: bytes
    sequence: int
    recordSequence: int
    opening: bytes
    wireLength: int


@frozen
class DTLSHello(HelloStart):
    """
    A ClientHello, and what is of DTLS in it.

    @ivar hello: What the client offers; its versions are those of DTLS, C{0xFEFD} for 1.2.
    @ivar parameters: The version, the random, the session id, the cipher suites and the compression methods as they
        were sent: what a client must repeat beside its cookie (RFC 6347, section 4.2.1).
    """

    hello: ClientHello
    parameters: bytes


@frozen
class _Fragment:
    """
    A part of a hello, or all of it.

    @ivar size: Of the whole message, without its header.
    @ivar sequence: The number of the message.
    @ivar offset: Where the part begins.
    @ivar content: The part.
    @ivar recordSequence: The number of its record.
    """

    size: int
    sequence: int
    offset: int
    content: bytes
    recordSequence: int


_offset: Final = attrgetter("offset")


def readHello(datagram: bytes) -> DTLSHello:
    """
    Read a datagram that holds one ClientHello, and nothing else.

    @raise FragmentedHello: It holds a part of one, and as far as it goes nothing is wrong with it.
    @raise HelloError: It holds something else, or one that is malformed or doubtful.
    """
    fragments = _fragments(datagram)
    first = fragments[0]
    if len(first.content) < first.size:
        raise FragmentedHello("the client's hello comes in fragments")
    if len(fragments) > 1:
        raise HelloError("other bytes follow the client's hello in its datagram", UNEXPECTED_MESSAGE)
    return _whole(first, first.content, len(datagram))


def readStart(datagram: bytes) -> HelloStart:
    """
    Read what a hello begins with, out of a datagram that holds its first fragment.

    @raise FragmentedHello: It holds another part of a hello, or too little of the first.
    @raise HelloError: It holds something else, or what is malformed.
    """
    first = _fragments(datagram)[0]
    body = first.content
    # Two lengths and what they tell have to be there, too.
    if first.offset or len(body) <= _AFTER_RANDOM or len(body) <= (at := _AFTER_RANDOM + 1 + body[_AFTER_RANDOM]):
        raise FragmentedHello("the first part of the client's hello is missing")
    if len(body) < at + 1 + body[at]:
        raise FragmentedHello("the first part of the client's hello ends within its cookie")
    if body[0] != DTLS_MAJOR:
        raise HelloError(f"the client's hello has the version 0x{body[:2].hex()}", PROTOCOL_VERSION)
    if at - _AFTER_RANDOM - 1 > _SESSION_ID:
        raise HelloError(f"the client's session id is too long: {at - _AFTER_RANDOM - 1} bytes", DECODE_ERROR)
    cookie, _ = vector(body, at, 1, "cookie")
    return HelloStart(cookie, first.sequence, first.recordSequence, body[:at], len(datagram))


def _fragments(datagram: bytes) -> list[_Fragment]:
    """
    Take a datagram apart that should hold parts of one hello.

    @return: One at least.
    @raise HelloError: It holds something else.
    """
    try:
        found = records(datagram, _RECORDS)
    except RecordError as e:
        raise HelloError(f"the client does not speak DTLS: {e}") from None
    return [_fragment(record) for record in found]


def _fragment(record: Record) -> _Fragment:
    """
    Read the record of a part.

    @raise HelloError: It holds something else.
    """
    if record.epoch:
        raise HelloError(
            f"the client sent a DTLS record of epoch {record.epoch} and has no association", UNEXPECTED_MESSAGE
        )
    payload = record.payload
    if record.type != HANDSHAKE:
        what = f"the DTLS alert {payload[1]}" if record.type == ALERT and len(payload) == 2 else ""
        what = what or f"a DTLS record of type {record.type}"
        raise HelloError(f"the client sent {what} before its hello", UNEXPECTED_MESSAGE)
    if len(payload) > _FRAGMENT:
        raise HelloError(f"the client's DTLS record is too long: {len(payload)} bytes", RECORD_OVERFLOW)
    if payload and payload[0] != _CLIENT_HELLO:
        raise HelloError(
            f"the client began with a DTLS handshake message of type {payload[0]}, not with a hello",
            UNEXPECTED_MESSAGE,
        )
    if len(payload) < _OPENING:
        raise HelloError("the client's hello is cut off within its header", DECODE_ERROR)
    _, size, sequence, offset, length = _HEADER.unpack_from(payload)
    part = _Fragment(
        int.from_bytes(size, "big"),
        sequence,
        int.from_bytes(offset, "big"),
        payload[_OPENING:],
        record.sequence,
    )
    length = int.from_bytes(length, "big")
    if length > len(part.content):
        raise HelloError("a fragment of the client's hello ends after its record does", DECODE_ERROR)
    if length < len(part.content):
        raise HelloError("other bytes follow the client's hello in its DTLS record", UNEXPECTED_MESSAGE)
    if part.offset + length > part.size:
        raise HelloError("a fragment of the client's hello ends after the hello does", DECODE_ERROR)
    if not length:
        raise HelloError("a fragment of the client's hello is empty", DECODE_ERROR)
    if sequence > _LAST_HELLO:
        raise HelloError(f"the client's hello has the message number {sequence}", ILLEGAL_PARAMETER)
    return part


def _whole(first: _Fragment, body: bytes, wireLength: int) -> DTLSHello:
    """
    Read a whole hello.

    @param first: Its first part, or one with its numbers.
    @raise HelloError: It is malformed or doubtful.
    """
    _, at = vector(body, _AFTER_RANDOM, 1, "session id")
    cookie, after = vector(body, at, 1, "cookie")
    bare = body[:at] + body[after:]
    _, end = vector(bare, at, 2, "list of cipher suites")
    _, end = vector(bare, end, 1, "list of compression methods")
    hello = readBody(bare, wireLength, DTLS_MAJOR)
    return DTLSHello(cookie, first.sequence, first.recordSequence, bare[:at], wireLength, hello, bare[:end])


def helloVerifyRequest(hello: HelloStart, cookie: bytes) -> bytes:
    """
    Write the datagram that gives a client its cookie, RFC 6347, section 4.2.1.

    It is never longer than what it answers, so that nobody gains by having it sent to somebody else.

    @param cookie: At most 255 bytes, and 32 for the oldest clients.
    @raise HelloError: The hello is shorter than its answer would be, which no real one is.
    """
    body = _DTLS_1_0 + bytes([len(cookie)]) + cookie
    size = len(body).to_bytes(3, "big")
    message = _HEADER.pack(_HELLO_VERIFY_REQUEST, size, 0, bytes(3), size) + body
    # The number of the record should be the client's own, and the next record of the server's should follow it.  But
    # OpenSSL begins with 1, so a client that has had to repeat its hello would take the ServerHello for a repetition.
    # So the first answer has 0.  The second, to a cookie that has grown old, needs a number that is not used up.
    number = hello.recordSequence if hello.cookie else 0
    head = bytes([HANDSHAKE]) + _DTLS_1_0 + number.to_bytes(8, "big")
    answer = head + len(message).to_bytes(2, "big") + message
    if len(answer) > hello.wireLength:
        raise HelloError(
            f"the client's hello takes {hello.wireLength} bytes, fewer than the {len(answer)} of its answer",
            ILLEGAL_PARAMETER,
        )
    return answer


class HelloPieces:
    """
    Puts a hello together from fragments, in whatever order they come, and however often.

    What is kept grows with what came, and never with what is announced.

    @cvar LIMIT: The most bytes of all datagrams, unless less is wanted.
    @cvar PIECES: The most fragments.
    @ivar datagrams: Those that brought something new, in the order in which they came.
    """

    LIMIT: Final = 65536
    PIECES: Final = 64

    def __init__(self, limit: int = LIMIT) -> None:
        """
        @param limit: The most bytes of all datagrams.
        """
        self._limit = limit
        self.datagrams: list[bytes] = []
        self._pieces: list[_Fragment] = []
        self._taken = 0  # bytes of the datagrams

    def take(self, datagram: bytes) -> DTLSHello | None:
        """
        Take the next datagram in.

        @return: The hello, or L{None} while some of it is missing.
        @raise HelloError: Something is wrong with the datagram, or with the hello that it completes.  Of such a
            datagram nothing is kept, so whoever thinks that another sent it may go on.
        """
        fresh = list(self._pieces)
        for fragment in _fragments(datagram):
            if _isNew(fragment, fresh):
                insort(fresh, fragment, key=_offset)
            if len(fresh) > self.PIECES:
                raise HelloError(f"the client's hello comes in more than {self.PIECES} fragments", ILLEGAL_PARAMETER)
        if len(fresh) == len(self._pieces):
            return None
        taken = self._taken + len(datagram)
        if taken > self._limit or fresh[0].size + HEAD + _OPENING > self._limit:
            raise HelloError(f"the client's hello takes more than {self._limit} bytes", ILLEGAL_PARAMETER)
        body = _joined(fresh)
        hello = None if len(body) < fresh[0].size else _whole(fresh[0], body, taken)
        self._pieces, self._taken = fresh, taken
        self.datagrams.append(datagram)
        return hello

    def whole(self) -> bytes:
        """
        Write the datagram of a hello that came whole.  It has the number of the first fragment's record.  The handshake
        is bound to messages as they are without being cut, RFC 6347, section 4.2.6, so nobody can tell the difference.

        All of its fragments have to be there, and to fit into one record.
        """
        first, body = self._pieces[0], _joined(self._pieces)
        size = len(body).to_bytes(3, "big")
        message = _HEADER.pack(_CLIENT_HELLO, size, first.sequence, bytes(3), size) + body
        head = bytes([HANDSHAKE]) + _DTLS_1_0 + first.recordSequence.to_bytes(8, "big")
        return head + len(message).to_bytes(2, "big") + message


def _isNew(fragment: _Fragment, pieces: list[_Fragment]) -> bool:
    """
    Tell whether a fragment brings bytes that are not there.

    @param pieces: What is there, in the order of where it begins.
    @raise HelloError: It contradicts them.
    """
    missing = len(fragment.content)
    covered = fragment.offset
    for piece in pieces:
        if (piece.size, piece.sequence) != (fragment.size, fragment.sequence):
            raise HelloError("the fragments of the client's hello are not of one message", ILLEGAL_PARAMETER)
        start = max(piece.offset, fragment.offset)
        end = min(piece.offset + len(piece.content), fragment.offset + len(fragment.content))
        if start >= end:
            continue
        ours, theirs = start - fragment.offset, start - piece.offset
        if fragment.content[ours : ours + end - start] != piece.content[theirs : theirs + end - start]:
            raise HelloError("two fragments of the client's hello contradict each other", ILLEGAL_PARAMETER)
        missing -= max(0, end - max(start, covered))
        covered = max(covered, end)
    return missing > 0


def _joined(pieces: list[_Fragment]) -> bytes:
    """
    Put parts together as far as there is no gap.

    @param pieces: In the order of where they begin.
    """
    body = bytearray()
    for piece in pieces:
        if piece.offset > len(body):
            break
        body += piece.content[len(body) - piece.offset :]
    return bytes(body)
