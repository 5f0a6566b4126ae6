# -*- test-case-name: tests.wire.test_clienthello -*-
"""
The TLS ClientHello, read from bytes that were peeked and not yet consumed.

A proxy must know who a client asks for before any TLS code runs, and it must not guess: another reader of the same
bytes (OpenSSL here, or the server behind a proxy that passes the bytes on) has to understand them the same way.  So
everything that two readers could take differently is refused, see RFC 8446 (4.1.2, 4.2, 5.1) and RFC 5246 (7.4.1.2).
"""

from __future__ import annotations

import struct
from functools import lru_cache

from attrs import frozen

__all__ = ["ClientHello", "ClientHelloReader", "HelloError"]

# The alerts of RFC 8446, section 6.
_UNEXPECTED_MESSAGE = 10
_RECORD_OVERFLOW = 22
_ILLEGAL_PARAMETER = 47
_DECODE_ERROR = 50
_PROTOCOL_VERSION = 70

# Record types.
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _APPLICATION_DATA, _HEARTBEAT = 20, 21, 22, 23, 24

_CLIENT_HELLO = 1
_HEAD = 5  # bytes of a record's header
_OPENING = 4  # bytes of a handshake message's header
_FRAGMENT = 16384  # bytes a record may carry in plain, RFC 8446 section 5.1

# Extension types.
_SERVER_NAME = 0
_SUPPORTED_GROUPS = 10
_SIGNATURE_ALGORITHMS = 13
_ALPN = 16
_PRE_SHARED_KEY = 41
_SUPPORTED_VERSIONS = 43

_TLS_1_2 = 0x0303
_GREASE = frozenset(0x0A0A + 0x1010 * n for n in range(16))
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789-_.:"
_EXTENSION_HEAD = struct.Struct(">HH").unpack_from
_USUAL = 512  # bytes of a list that is kept: longer ones are made up to fill the memory
_CUT_SHORT = "the client's hello is malformed: the last extension ends too late"
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


class HelloError(ValueError):
    """
    What the client sent is not a ClientHello, or not one beyond doubt.  The sentence says what is wrong with it.

    @ivar alert: The TLS alert that tells the client, or L{None} for a client that does not speak TLS.
    @ivar plainHTTP: Whether the client speaks HTTP without TLS.
    """

    def __init__(self, sentence: str, alert: int | None = None, plainHTTP: bool = False) -> None:
        super().__init__(sentence)
        self.alert = alert
        self.plainHTTP = plainHTTP


@frozen
class ClientHello:
    """
    What a client offers.  The reserved values of RFC 8701 (GREASE) are left out of every field of numbers.

    @ivar serverName: The host name the client asks for (RFC 6066, section 3) in lower case, otherwise as sent; L{None}
        when it names none.
    @ivar alpn: The application protocols (RFC 7301), most wanted first; empty when there is no such extension.
    @ivar versions: The TLS versions offered, most wanted first.  A client that lists none has one here, the highest
        that its C{legacyVersion} can mean.
    @ivar groups: The key exchange groups, most wanted first.
    @ivar cipherSuites: The cipher suites, most wanted first.
    @ivar extensions: The types of the extensions, in the order sent.
    @ivar signatureAlgorithms: The signature schemes, most wanted first.
    @ivar legacyVersion: The version field of the message itself.
    @ivar wireLength: How many bytes the hello takes on the wire, with the headers of its records.
    """

    serverName: str | None
    alpn: tuple[bytes, ...]
    versions: tuple[int, ...]
    groups: tuple[int, ...]
    cipherSuites: tuple[int, ...]
    extensions: tuple[int, ...]
    signatureAlgorithms: tuple[int, ...]
    legacyVersion: int
    wireLength: int


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
        return _parse(bytes(self._message[_OPENING:]), self._taken)

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
        if len(head) > 1 and head[1] != 3:
            raise HelloError(f"the client's TLS record has the version 0x{head[1:3].hex()}", _PROTOCOL_VERSION)
        if len(head) < _HEAD:
            # Each of the first two may be the last that a client who speaks something else sends before it waits.
            return start + (_HEAD if len(head) > 1 else len(head) + 1)
        length = int.from_bytes(head[3:], "big")
        if length == 0:
            raise HelloError("the client sent an empty TLS record", _UNEXPECTED_MESSAGE)
        if length > _FRAGMENT:
            raise HelloError(f"the client's TLS record is too long: {length} bytes", _RECORD_OVERFLOW)
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
                _UNEXPECTED_MESSAGE,
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
            raise HelloError("other bytes follow the client's hello in its last TLS record", _UNEXPECTED_MESSAGE)
        records = (rest + _FRAGMENT - 1) // _FRAGMENT
        if end + rest + _HEAD * records > self.LIMIT:
            raise HelloError(f"the client's hello takes more than {self.LIMIT} bytes", _ILLEGAL_PARAMETER)


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
            return HelloError("the client sent an SSLv2 hello, which is obsolete", _PROTOCOL_VERSION)
        return HelloError("the client does not speak TLS")
    if kind == _ALERT:
        # Of an alert whose last byte is not there yet, its name is not worth waiting for.
        which = f"the TLS alert {start[6]}" if start[3:5] == b"\0\2" and len(start) > 6 else "a TLS alert"
        return HelloError(f"the client sent {which} before its hello was whole", _UNEXPECTED_MESSAGE)
    return HelloError(f"the client sent a TLS record of type {kind} before its hello was whole", _UNEXPECTED_MESSAGE)


def _vector(data: bytes, at: int, width: int, what: str) -> tuple[bytes, int]:
    """
    Read a vector (RFC 8446, section 3.4).

    @param at: Where its length stands.
    @param width: Of that length, in bytes.
    @param what: What the vector is, for people.
    @return: Its content, and where it ends.
    @raise HelloError: It ends after C{data} does.
    """
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if end > len(data):
        raise HelloError(f"the client's hello is malformed: the {what} ends too late", _DECODE_ERROR)
    return data[start:end], end


def _lastVector(data: bytes, at: int, width: int, what: str) -> bytes:
    """
    Read a vector that ends where C{data} does; see L{_vector}.

    @return: Its content.
    @raise HelloError: It ends elsewhere.
    """
    content, end = _vector(data, at, width, what)
    if end < len(data):
        raise HelloError(f"the client's hello is malformed: the {what} ends too early", _DECODE_ERROR)
    return content


def _numbers(content: bytes, what: str) -> tuple[int, ...]:
    """
    Read a list of two-byte numbers, without those of RFC 8701.

    @param what: What the list is, for people.
    @raise HelloError: It is empty, or half a number is left.
    """
    if not content:
        raise HelloError(f"the client's hello is malformed: the {what} is empty", _DECODE_ERROR)
    if len(content) % 2:
        raise HelloError(f"the client's hello is malformed: the {what} has an odd length", _DECODE_ERROR)
    return _remembered(content) if len(content) <= _USUAL else _unpacked(content)


def _unpacked(content: bytes) -> tuple[int, ...]:
    return tuple([n for n in struct.unpack(f">{len(content) // 2}H", content) if n not in _GREASE])


_remembered = lru_cache(maxsize=512)(_unpacked)
"""Clients of one make send the same lists every time."""


def _extensions(block: bytes) -> dict[int, bytes]:
    """
    Take the extensions apart.

    @return: Type to content, in the order sent.
    @raise HelloError: One comes twice, is cut short, or stands where it must not.
    """
    found: dict[int, bytes] = {}
    at, end = 0, len(block)
    while at < end:
        start = at + 4
        if start > end:
            raise HelloError(_CUT_SHORT, _DECODE_ERROR)
        kind, length = _EXTENSION_HEAD(block, at)
        at = start + length
        if at > end:
            raise HelloError(_CUT_SHORT, _DECODE_ERROR)
        if kind in found:
            raise HelloError(f"the client's hello has the extension {kind} twice", _ILLEGAL_PARAMETER)
        found[kind] = block[start:at]
    # RFC 8446, section 4.2.11.
    if _PRE_SHARED_KEY in found and next(reversed(found)) != _PRE_SHARED_KEY:
        raise HelloError("in the client's hello the pre-shared key is not the last extension", _ILLEGAL_PARAMETER)
    return found


def _serverName(content: bytes) -> str:
    """
    Read the extension of RFC 6066, section 3.

    @raise HelloError: It is malformed, or holds anything but one host name.
    """
    names = _lastVector(content, 0, 2, "list of server names")
    if not names:
        raise HelloError("the client's hello is malformed: the list of server names is empty", _DECODE_ERROR)
    if names[0] != 0:
        raise HelloError(f"the client names its server by the unknown type {names[0]}", _ILLEGAL_PARAMETER)
    name, end = _vector(names, 1, 2, "server name")
    if end < len(names):
        raise HelloError("the client's hello has more than one server name", _ILLEGAL_PARAMETER)
    if not name:
        raise HelloError("the client's hello has an empty server name", _ILLEGAL_PARAMETER)
    if len(name) > 255:
        raise HelloError(f"the client's server name is too long: {len(name)} bytes", _ILLEGAL_PARAMETER)
    lowered = name.lower()
    if lowered.translate(None, _NAME_BYTES):
        raise HelloError(f"the client's server name {name!r} is no host name", _ILLEGAL_PARAMETER)
    return lowered.decode("ascii")


def _protocols(content: bytes) -> tuple[bytes, ...]:
    """
    Read the extension of RFC 7301, section 3.1.

    @raise HelloError: It is malformed, or holds no protocol or an empty one.
    """
    names = _lastVector(content, 0, 2, "list of application protocols")
    found = []
    at = 0
    while at < len(names):
        name, at = _vector(names, at, 1, "last application protocol")
        if not name:
            raise HelloError("the client's hello has an empty application protocol", _DECODE_ERROR)
        found.append(name)
    if not found:
        raise HelloError("the client's hello is malformed: the list of application protocols is empty", _DECODE_ERROR)
    return tuple(found)


def _parse(body: bytes, wireLength: int) -> ClientHello:
    """
    Take a whole ClientHello apart.

    @param body: The message without its opening.
    @param wireLength: How many bytes it took on the wire.
    @raise HelloError: It is malformed or doubtful.
    """
    sessionID, at = _vector(body, 34, 1, "session id")
    suites, at = _vector(body, at, 2, "list of cipher suites")
    compressions, at = _vector(body, at, 1, "list of compression methods")
    # Before TLS 1.3 a hello may end here.
    found = _extensions(_lastVector(body, at, 2, "extension block")) if at < len(body) else {}

    def listed(kind: int, width: int, what: str) -> tuple[int, ...]:
        return _numbers(_lastVector(found[kind], 0, width, what), what) if kind in found else ()

    legacyVersion = int.from_bytes(body[:2], "big")
    if legacyVersion >> 8 != 3:
        raise HelloError(f"the client's hello has the version 0x{legacyVersion:04x}", _PROTOCOL_VERSION)
    if len(sessionID) > 32:
        raise HelloError(f"the client's session id is too long: {len(sessionID)} bytes", _DECODE_ERROR)
    if 0 not in compressions:
        raise HelloError("the client insists on compression", _ILLEGAL_PARAMETER)
    versions = listed(_SUPPORTED_VERSIONS, 1, "list of versions")
    if not versions:
        if _SUPPORTED_VERSIONS in found:
            raise HelloError("the client offers no version of TLS", _PROTOCOL_VERSION)
        # RFC 8446, section 4.2.1: what is above TLS 1.2 must be listed.
        versions = (min(legacyVersion, _TLS_1_2),)
    return ClientHello(
        serverName=_serverName(found[_SERVER_NAME]) if _SERVER_NAME in found else None,
        alpn=_protocols(found[_ALPN]) if _ALPN in found else (),
        versions=versions,
        groups=listed(_SUPPORTED_GROUPS, 2, "list of groups"),
        cipherSuites=_numbers(suites, "list of cipher suites"),
        extensions=tuple([kind for kind in found if kind not in _GREASE]),
        signatureAlgorithms=listed(_SIGNATURE_ALGORITHMS, 2, "list of signature algorithms"),
        legacyVersion=legacyVersion,
        wireLength=wireLength,
    )
