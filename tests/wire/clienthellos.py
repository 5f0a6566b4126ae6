"""
ClientHellos made to order, right ones and wrong ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve

from tlsproxy.wire.clienthello import ClientHello, ClientHelloReader

SERVER_NAME = 0
SUPPORTED_GROUPS = 10
SIGNATURE_ALGORITHMS = 13
ALPN = 16
PADDING = 21
PRE_SHARED_KEY = 41
SUPPORTED_VERSIONS = 43
ENCRYPTED_CLIENT_HELLO = 0xFE0D

Extension = tuple[int, bytes]


def vector(width: int, content: bytes) -> bytes:
    """
    Put the length before some content.

    @param width: Of the length, in bytes.
    """
    return len(content).to_bytes(width, "big") + content


def numbers(values: Iterable[int]) -> bytes:
    """
    Write two bytes for each number.
    """
    return b"".join(value.to_bytes(2, "big") for value in values)


def serverName(*names: bytes, kind: int = 0) -> Extension:
    """
    Make the extension of RFC 6066, section 3.

    @param kind: The type of each name; 0 is a host name.
    """
    return SERVER_NAME, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names))


def alpn(*protocols: bytes) -> Extension:
    """
    Make the extension of RFC 7301.
    """
    return ALPN, vector(2, b"".join(vector(1, protocol) for protocol in protocols))


def groups(*values: int) -> Extension:
    """
    Make the extension of RFC 8446, section 4.2.7.
    """
    return SUPPORTED_GROUPS, vector(2, numbers(values))


def signatureAlgorithms(*values: int) -> Extension:
    """
    Make the extension of RFC 8446, section 4.2.3.
    """
    return SIGNATURE_ALGORITHMS, vector(2, numbers(values))


def versions(*values: int) -> Extension:
    """
    Make the extension of RFC 8446, section 4.2.1.
    """
    return SUPPORTED_VERSIONS, vector(1, numbers(values))


def helloMessage(
    extensions: Sequence[Extension] | None = (),
    *,
    legacyVersion: int = 0x0303,
    sessionID: bytes = b"",
    cipherSuites: bytes = numbers([0x1301, 0xC02F]),
    compressions: bytes = b"\0",
    rest: bytes = b"",
    size: int | None = None,
    kind: int = 1,
) -> bytes:
    """
    Make the handshake message of a ClientHello, without records.

    @param extensions: Types and contents; L{None} leaves the whole block out.
    @param cipherSuites: The content of that list.
    @param compressions: The content of that list.
    @param rest: Bytes after all that belongs there, within the message.
    @param size: Fill up to so many bytes in all, by padding (RFC 7685) at the end.
    @param kind: The type of the message.
    """
    body = numbers([legacyVersion]) + bytes(range(32))
    body += vector(1, sessionID) + vector(2, cipherSuites) + vector(1, compressions)
    if extensions is not None:
        block = b"".join(numbers([number]) + vector(2, content) for number, content in extensions)
        if size is not None:
            block += numbers([PADDING]) + vector(2, bytes(size - 4 - len(body) - 2 - len(block) - 4))
        body += vector(2, block)
    return bytes([kind]) + vector(3, body + rest)


def cutInRecords(message: bytes, sizes: int | Sequence[int] = 16384, version: int = 0x0301) -> bytes:
    """
    Put a message into handshake records.

    @param sizes: How many bytes go into each record; of a list the last number stays for all that follow.
    @param version: The version in each record's header.
    """
    cuts = [sizes] if isinstance(sizes, int) else list(sizes)
    wire = b""
    while message:
        size = cuts.pop(0) if len(cuts) > 1 else cuts[0]
        wire += b"\x16" + numbers([version]) + vector(2, message[:size])
        message = message[size:]
    return wire


def buildClientHello(
    extensions: Sequence[Extension] | None = (),
    *,
    legacyVersion: int = 0x0303,
    sessionID: bytes = b"",
    cipherSuites: bytes = numbers([0x1301, 0xC02F]),
    compressions: bytes = b"\0",
    rest: bytes = b"",
    size: int | None = None,
    kind: int = 1,
    cut: int | Sequence[int] = 16384,
    recordVersion: int = 0x0301,
) -> bytes:
    """
    Make a ClientHello as it goes over the wire; see L{helloMessage} for the other parameters.

    @param cut: How many bytes of it go into each record, as in L{cutInRecords}.
    @param recordVersion: The version in each record's header.
    """
    message = helloMessage(
        extensions,
        legacyVersion=legacyVersion,
        sessionID=sessionID,
        cipherSuites=cipherSuites,
        compressions=compressions,
        rest=rest,
        size=size,
        kind=kind,
    )
    return cutInRecords(message, cut, recordVersion)


def readAll(wire: bytes) -> ClientHello | None:
    """
    Read from all the bytes at once.
    """
    return ClientHelloReader().read(wire)


def lengthless(hello: ClientHello | None) -> ClientHello:
    """
    Make hellos equal that differ only in how they were cut.
    """
    assert hello is not None
    return evolve(hello, wireLength=0)


# What a browser might offer.
USUAL = [
    (0x1A1A, b""),
    serverName(b"Shop.Example"),
    groups(0x2A2A, 0x11EC, 29, 23),
    signatureAlgorithms(0x0403, 0x0804),
    alpn(b"h2", b"http/1.1"),
    versions(0x3A3A, 0x0304, 0x0303),
    (ENCRYPTED_CLIENT_HELLO, bytes(120)),
    (0xFAFA, b"\0"),
    (PRE_SHARED_KEY, bytes(50)),
]
GOOD = buildClientHello(USUAL, sessionID=bytes(32), cipherSuites=numbers([0x4A4A, 0x1301, 0xC02B]))
