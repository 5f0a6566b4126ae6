# -*- test-case-name: tests.wire.test_hellobody -*-
"""
What a ClientHello says, the same over TLS and DTLS.

Another reader of the same bytes has to understand them the same way.  So everything that two readers could take
differently is refused, see RFC 8446 (4.1.2, 4.2) and RFC 5246 (7.4.1.2).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from attrs import frozen

__all__ = [
    "DECODE_ERROR",
    "DTLS_MAJOR",
    "ILLEGAL_PARAMETER",
    "PROTOCOL_VERSION",
    "RECORD_OVERFLOW",
    "TLS_MAJOR",
    "UNEXPECTED_MESSAGE",
    "ClientHello",
    "HelloError",
    "readBody",
    "vector",
]

# The alerts of RFC 8446, section 6.
UNEXPECTED_MESSAGE: Final = 10
RECORD_OVERFLOW: Final = 22
ILLEGAL_PARAMETER: Final = 47
DECODE_ERROR: Final = 50
PROTOCOL_VERSION: Final = 70

TLS_MAJOR: Final = 0x03
DTLS_MAJOR: Final = 0xFE  # its versions count downward, RFC 6347 section 4.1

# Extension types.
_SERVER_NAME = 0
_SUPPORTED_GROUPS = 10
_SIGNATURE_ALGORITHMS = 13
_ALPN = 16
_PRE_SHARED_KEY = 41
_SUPPORTED_VERSIONS = 43

_TLS_1_2 = 0x0303
_DTLS_1_2 = 0xFEFD
_GREASE = frozenset(0x0A0A + 0x1010 * n for n in range(16))
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789-_.:"
_EXTENSION_HEAD = struct.Struct(">HH").unpack_from
_USUAL = 512  # bytes of a list that is kept: longer ones are made up to fill the memory
_CUT_SHORT = "the client's hello is malformed: the last extension ends too late"


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
    @ivar versions: The versions of TLS or DTLS offered, most wanted first.  A client that lists none has one here, the
        highest that its C{legacyVersion} can mean.
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


def vector(data: bytes, at: int, width: int, what: str) -> tuple[bytes, int]:
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
        raise HelloError(f"the client's hello is malformed: the {what} ends too late", DECODE_ERROR)
    return data[start:end], end


def _lastVector(data: bytes, at: int, width: int, what: str) -> bytes:
    """
    Read a vector that ends where C{data} does; see L{vector}.

    @return: Its content.
    @raise HelloError: It ends elsewhere.
    """
    content, end = vector(data, at, width, what)
    if end < len(data):
        raise HelloError(f"the client's hello is malformed: the {what} ends too early", DECODE_ERROR)
    return content


def _numbers(content: bytes, what: str) -> tuple[int, ...]:
    """
    Read a list of two-byte numbers, without those of RFC 8701.

    @param what: What the list is, for people.
    @raise HelloError: It is empty, or half a number is left.
    """
    if not content:
        raise HelloError(f"the client's hello is malformed: the {what} is empty", DECODE_ERROR)
    if len(content) % 2:
        raise HelloError(f"the client's hello is malformed: the {what} has an odd length", DECODE_ERROR)
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
            raise HelloError(_CUT_SHORT, DECODE_ERROR)
        kind, length = _EXTENSION_HEAD(block, at)
        at = start + length
        if at > end:
            raise HelloError(_CUT_SHORT, DECODE_ERROR)
        if kind in found:
            raise HelloError(f"the client's hello has the extension {kind} twice", ILLEGAL_PARAMETER)
        found[kind] = block[start:at]
    # RFC 8446, section 4.2.11.
    if _PRE_SHARED_KEY in found and next(reversed(found)) != _PRE_SHARED_KEY:
        raise HelloError("in the client's hello the pre-shared key is not the last extension", ILLEGAL_PARAMETER)
    return found


def _serverName(content: bytes) -> str:
    """
    Read the extension of RFC 6066, section 3.

    @raise HelloError: It is malformed, or holds anything but one host name.
    """
    names = _lastVector(content, 0, 2, "list of server names")
    if not names:
        raise HelloError("the client's hello is malformed: the list of server names is empty", DECODE_ERROR)
    if names[0] != 0:
        raise HelloError(f"the client names its server by the unknown type {names[0]}", ILLEGAL_PARAMETER)
    name, end = vector(names, 1, 2, "server name")
    if end < len(names):
        raise HelloError("the client's hello has more than one server name", ILLEGAL_PARAMETER)
    if not name:
        raise HelloError("the client's hello has an empty server name", ILLEGAL_PARAMETER)
    if len(name) > 255:
        raise HelloError(f"the client's server name is too long: {len(name)} bytes", ILLEGAL_PARAMETER)
    lowered = name.lower()
    if lowered.translate(None, _NAME_BYTES):
        raise HelloError(f"the client's server name {name!r} is no host name", ILLEGAL_PARAMETER)
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
        name, at = vector(names, at, 1, "last application protocol")
        if not name:
            raise HelloError("the client's hello has an empty application protocol", DECODE_ERROR)
        found.append(name)
    if not found:
        raise HelloError("the client's hello is malformed: the list of application protocols is empty", DECODE_ERROR)
    return tuple(found)


def readBody(body: bytes, wireLength: int, major: int = TLS_MAJOR) -> ClientHello:
    """
    Take a whole ClientHello apart.

    @param body: The message without its opening, and in DTLS without its cookie.
    @param wireLength: How many bytes it took on the wire.
    @param major: The first byte that its version has to have, L{TLS_MAJOR} or L{DTLS_MAJOR}.
    @raise HelloError: It is malformed or doubtful.
    """
    sessionID, at = vector(body, 34, 1, "session id")
    suites, at = vector(body, at, 2, "list of cipher suites")
    compressions, at = vector(body, at, 1, "list of compression methods")
    # Before TLS 1.3 a hello may end here.
    found = _extensions(_lastVector(body, at, 2, "extension block")) if at < len(body) else {}

    def listed(kind: int, width: int, what: str) -> tuple[int, ...]:
        return _numbers(_lastVector(found[kind], 0, width, what), what) if kind in found else ()

    legacyVersion = int.from_bytes(body[:2], "big")
    if legacyVersion >> 8 != major:
        raise HelloError(f"the client's hello has the version 0x{legacyVersion:04x}", PROTOCOL_VERSION)
    if len(sessionID) > 32:
        raise HelloError(f"the client's session id is too long: {len(sessionID)} bytes", DECODE_ERROR)
    if 0 not in compressions:
        raise HelloError("the client insists on compression", ILLEGAL_PARAMETER)
    versions = listed(_SUPPORTED_VERSIONS, 1, "list of versions")
    if not versions:
        if _SUPPORTED_VERSIONS in found:
            raise HelloError("the client offers no version of TLS", PROTOCOL_VERSION)
        # RFC 8446, section 4.2.1, and RFC 9147, section 5.3: what is above 1.2 must be listed.
        versions = (min(legacyVersion, _TLS_1_2) if major == TLS_MAJOR else max(legacyVersion, _DTLS_1_2),)
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
