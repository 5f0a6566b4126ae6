# -*- test-case-name: tests.wire.test_clienthello -*-
"""
The TLS ClientHello, read from bytes that were peeked and not yet consumed.

A proxy must know who a client asks for before any TLS code runs, and it must not guess: another reader of the same
bytes (OpenSSL here, or the server behind a proxy that passes the bytes on) has to understand them the same way.  So
everything that two readers could take differently is refused, see RFC 8446 (4.1.2, 4.2, 5.1) and RFC 5246 (7.4.1.2).
"""

from __future__ import annotations

from tlsproxy.wire.hellobody import (
    ILLEGAL_PARAMETER,
    PROTOCOL_VERSION,
    RECORD_OVERFLOW,
    TLS_MAJOR,
    UNEXPECTED_MESSAGE,
    ClientHello,
    HelloError,
    readBody,
)

__all__ = ["ClientHello", "ClientHelloReader", "HelloError"]

# Record types.
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _APPLICATION_DATA, _HEARTBEAT = 20, 21, 22, 23, 24

_CLIENT_HELLO = 1
_HEAD = 5  # bytes of a record's header
_OPENING = 4  # bytes of a handshake message's header
_FRAGMENT = 16384  # bytes a record may carry in plain, RFC 8446 section 5.1

_HTTP_STARTS = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI ",
)


class ClientHelloReader:
    """
    Reads one ClientHello out of the first bytes of a connection, however they are cut into segments and records.

    Each whole record is looked at once, so the work grows with the bytes and not with the number of calls.

    @cvar LIMIT: The most bytes a hello may take on the wire.
    @ivar need: How many bytes, counted from the first of the connection, must be there before L{read} can get further.
        Fewer bytes could neither end the hello nor give a new reason to refuse it, so it is safe to
        sleep until they are there.
    """

    LIMIT = 65536

    def __init__(self) -> None:
        self.need = 1
        self._taken = 0  # bytes of whole records
        self._message = bytearray()  # what those records carried
        self._size: int | None = None  # of the whole message, once its opening is there

    def read(self, data: bytes | bytearray | memoryview) -> ClientHello | None:
        """
        Look for the hello in all that came so far.

        @param data: Everything from the first byte of the connection on; it may go on past the hello.
        @return: The hello, or L{None} while more than C{data} is needed; then L{need} is more than C{len(data)}.
        @raise HelloError: No hello will come out of this.
        """
        if len(data) < self.need:
            return None
        while self._size is None or len(self._message) < self._size:
            missing = self._takeRecord(data)
            if missing:
                self.need = missing
                return None
        return readBody(bytes(self._message[_OPENING:]), self._taken)

    def _takeRecord(self, data: bytes | bytearray | memoryview) -> int:
        """
        Take the next record in.

        @return: 0, or how many bytes must be there to get further.
        @raise HelloError: The record is no part of a hello.
        """
        start = self._taken
        head = bytes(data[start : start + _HEAD])
        if head and head[0] != _HANDSHAKE:
            raise _otherThanHello(bytes(data[start : start + 8]), first=start == 0)
        if len(head) > 1 and head[1] != TLS_MAJOR:
            raise HelloError(f"the client's TLS record has the version 0x{head[1:3].hex()}", PROTOCOL_VERSION)
        if len(head) < _HEAD:
            # Each of the first two may be the last that a client who speaks something else sends before it waits.
            return start + (_HEAD if len(head) > 1 else len(head) + 1)
        length = int.from_bytes(head[3:], "big")
        if length == 0:
            raise HelloError("the client sent an empty TLS record", UNEXPECTED_MESSAGE)
        if length > _FRAGMENT:
            raise HelloError(f"the client's TLS record is too long: {length} bytes", RECORD_OVERFLOW)
        body, end = start + _HEAD, start + _HEAD + length
        if self._size is None:
            self._readOpening(bytes(data[body : min(body + _OPENING, end)]))
        if self._size is not None:
            self._checkSize(self._size, length, end)
        elif len(data) < end:
            started = self._message or len(data) > body
            return min(body + (_OPENING if started else 1) - len(self._message), end)
        if len(data) < end:
            return end
        self._message += data[body:end]
        self._taken = end
        return 0

    def _readOpening(self, fragment: bytes) -> None:
        """
        Learn the size of the message, when enough of it is there.

        @param fragment: What can be seen of the next record's content, a few bytes of it at most.
        @raise HelloError: The message is not a ClientHello.
        """
        opening = bytes(self._message) + fragment
        if opening and opening[0] != _CLIENT_HELLO:
            raise HelloError(
                f"the client began with a TLS handshake message of type {opening[0]}, not with a hello",
                UNEXPECTED_MESSAGE,
            )
        if len(opening) >= _OPENING:
            self._size = _OPENING + int.from_bytes(opening[1:_OPENING], "big")

    def _checkSize(self, size: int, length: int, end: int) -> None:
        """
        Refuse a record that leads past the end of the hello, or a hello past the limit.

        @param size: Of the whole message, in bytes.
        @param length: Of the next record's content, in bytes.
        @param end: Where that record ends on the wire.
        @raise HelloError: In both cases.
        """
        rest = size - len(self._message) - length
        if rest < 0:
            raise HelloError("other bytes follow the client's hello in its last TLS record", UNEXPECTED_MESSAGE)
        records = (rest + _FRAGMENT - 1) // _FRAGMENT
        if end + rest + _HEAD * records > self.LIMIT:
            raise HelloError(f"the client's hello takes more than {self.LIMIT} bytes", ILLEGAL_PARAMETER)


def _otherThanHello(start: bytes, first: bool) -> HelloError:
    """
    Say what it is that does not start like a handshake record.

    @param start: Its first bytes, as far as they are there, eight at most.
    @param first: Whether they are the first of the connection.
    """
    kind, major = start[0], start[1:2]
    if first and (
        kind not in (_CHANGE_CIPHER_SPEC, _ALERT, _APPLICATION_DATA, _HEARTBEAT) or major not in (b"", b"\3")
    ):
        # Two letters are too few to tell a method.
        if len(start) > 2 and any(method.startswith(start[: len(method)]) for method in _HTTP_STARTS):
            return HelloError("the client speaks plain HTTP, not TLS; have it ask for https://", plainHTTP=True)
        if start.startswith(b"SSH-"):
            return HelloError("the client speaks SSH, not TLS")
        if kind & 0x80 and start[2:3] == b"\1":
            return HelloError("the client sent an SSLv2 hello, which is obsolete", PROTOCOL_VERSION)
        return HelloError("the client does not speak TLS")
    if kind == _ALERT:
        # Of an alert whose last byte is not there yet, its name is not worth waiting for.
        which = f"the TLS alert {start[6]}" if start[3:5] == b"\0\2" and len(start) > 6 else "a TLS alert"
        return HelloError(f"the client sent {which} before its hello was whole", UNEXPECTED_MESSAGE)
    return HelloError(f"the client sent a TLS record of type {kind} before its hello was whole", UNEXPECTED_MESSAGE)
