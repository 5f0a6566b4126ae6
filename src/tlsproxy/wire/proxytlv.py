# -*- test-case-name: tests.wire.test_proxytlv -*-
"""
What a PROXY header of version 2 tells beside the addresses: vectors of a type, a length and a value (section 2.2 of
HAProxy's C{proxy-protocol.txt}).

A type that is known may stand there once, or two readers could believe different ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import field, frozen

__all__ = ["LONGEST_UNIQUE_ID", "NOTHING_TOLD", "ProxyHeaderError", "ToldTLS", "Vectors", "readVectors", "writeVectors"]

_ALPN: Final = 0x01
_AUTHORITY: Final = 0x02
_CRC32C: Final = 0x03
_NOOP: Final = 0x04
_UNIQUE_ID: Final = 0x05
_SSL: Final = 0x20

_KNOWN: Final = {
    _ALPN: "application protocol",
    _AUTHORITY: "authority",
    _CRC32C: "checksum",
    _UNIQUE_ID: "unique ID",
    _SSL: "account of TLS",
}

# The parts of an account of TLS, each with the attribute of ToldTLS that holds it.
_WORDS: Final = {
    0x21: "version",
    0x22: "commonName",
    0x23: "cipher",
    0x24: "signatureAlgorithm",
    0x25: "keyAlgorithm",
    0x26: "group",
    0x27: "signatureScheme",
}
_CERTIFICATE: Final = 0x28

_HEAD: Final = struct.Struct("!BH")
_TLS_HEAD: Final = struct.Struct("!BI")
_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 0x01, 0x02, 0x04
_UNVERIFIED: Final = 1
"""Any number but 0 says that no certificate was verified."""

LONGEST_UNIQUE_ID: Final = 128  # bytes


class ProxyHeaderError(ValueError):
    """
    What came is no PROXY header, or a doubtful one; or what is to be sent fits into none.
    """


@frozen(kw_only=True)
class ToldTLS:
    """
    What is told of the TLS between a client and the proxy that it has reached.

    @ivar version: As in C{TLSv1.3}.
    @ivar cipher: The cipher suite, in OpenSSL's words.
    @ivar group: The key exchange group, likewise.
    @ivar signatureAlgorithm: What the proxy's own certificate was signed with, as in C{RSA-SHA256}.
    @ivar keyAlgorithm: What key it has, as in C{EC256}.
    @ivar signatureScheme: What the handshake was signed with.
    @ivar shown: Whether the client has shown a certificate.
    @ivar verified: Whether that was verified.
    @ivar commonName: The common name in it.
    @ivar certificate: All of it, in DER.
    """

    version: str = ""
    cipher: str = ""
    group: str = ""
    signatureAlgorithm: str = ""
    keyAlgorithm: str = ""
    signatureScheme: str = ""
    shown: bool = False
    verified: bool = False
    commonName: str = ""
    certificate: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class Vectors:
    """
    What a header tells beside the addresses.

    @ivar alpn: The application protocol; C{b""} where it is not told.
    @ivar authority: The name that the client asks for, as TLS has it in its server name; C{""} where it is not told.
    @ivar uniqueId: What the connection is called through all proxies; C{b""} where it is not told.
    @ivar tls: The client's TLS; L{None} where it is not told, or where there is none.
    @ivar others: All others, each with its type.
    """

    alpn: bytes = b""
    authority: str = ""
    uniqueId: bytes = b""
    tls: ToldTLS | None = None
    others: tuple[tuple[int, bytes], ...] = ()


NOTHING_TOLD: Final = Vectors()


def _each(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """
    Find the vectors: each one's type, and where its value starts and ends.
    """
    while start < end:
        if end - start < _HEAD.size:
            raise ProxyHeaderError("the PROXY header ends in the middle of a TLV")
        kind, length = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        if length > end - start:
            raise ProxyHeaderError("the PROXY header has a TLV that goes on past its end")
        yield kind, start, start + length
        start += length


def _text(value: bytes, what: str) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():
        raise ProxyHeaderError(f"the PROXY header has {what} that is no text")
    return text


def readVectors(data: bytes, start: int) -> tuple[Vectors, int]:
    """
    Read the vectors of a header.

    @param data: The whole header.
    @param start: Where they begin.
    @return: They, and where the value of the checksum stands; 0 where there is none.
    @raise ProxyHeaderError: With a sentence on what is wrong.
    """
    checksum = 0
    found: dict[int, bytes] = {}
    others: list[tuple[int, bytes]] = []
    for kind, begin, end in _each(data, start, len(data)):
        if kind in found:
            raise ProxyHeaderError(f"the PROXY header tells its {_KNOWN[kind]} twice")
        value = data[begin:end]
        if kind == _CRC32C:
            if len(value) != 4:
                raise ProxyHeaderError("the PROXY header has a checksum that is not of four bytes")
            checksum = begin
        if kind in _KNOWN:
            found[kind] = value
        elif kind != _NOOP:
            others.append((kind, value))
    uniqueId = found.get(_UNIQUE_ID, b"")
    if len(uniqueId) > LONGEST_UNIQUE_ID:
        raise ProxyHeaderError(f"the PROXY header has a unique ID of more than {LONGEST_UNIQUE_ID} bytes")
    vectors = Vectors(
        alpn=found.get(_ALPN, b""),
        authority=_text(found.get(_AUTHORITY, b""), "an authority"),
        uniqueId=uniqueId,
        tls=_readTLS(found[_SSL]) if _SSL in found else None,
        others=tuple(others),
    )
    return vectors, checksum


def _readTLS(data: bytes) -> ToldTLS | None:
    if len(data) < _TLS_HEAD.size:
        raise ProxyHeaderError("the PROXY header has an account of TLS that is too short")
    flags, verify = _TLS_HEAD.unpack_from(data)
    words: dict[str, str] = {}
    certificate = None
    for kind, begin, end in _each(data, _TLS_HEAD.size, len(data)):
        name = _WORDS.get(kind)
        if (name in words) or (kind == _CERTIFICATE and certificate is not None):
            raise ProxyHeaderError("the PROXY header tells one thing of TLS twice")
        if name is not None:
            words[name] = _text(data[begin:end], "a word on TLS")
        elif kind == _CERTIFICATE:
            certificate = data[begin:end]
    if not flags & _CLIENT_SSL:
        return None
    shown = bool(flags & (_CLIENT_CERT_CONN | _CLIENT_CERT_SESS))
    return ToldTLS(shown=shown, verified=shown and verify == 0, certificate=certificate or b"", **words)


def _join(vectors: Iterable[tuple[int, bytes]]) -> bytes:
    parts = []
    for kind, value in vectors:
        if len(value) > 0xFFFF:
            raise ProxyHeaderError("what the PROXY header has to tell is too long for it")
        parts.append(_HEAD.pack(kind, len(value)) + value)
    return b"".join(parts)


def writeVectors(vectors: Vectors) -> bytes:
    """
    Write the vectors of a header.  What there is nothing to tell of is left out.

    @raise ProxyHeaderError: They are too long.
    """
    told = [
        (_ALPN, vectors.alpn),
        (_AUTHORITY, vectors.authority.encode("utf-8", "surrogatepass")),
        (_UNIQUE_ID, vectors.uniqueId[:LONGEST_UNIQUE_ID]),
        (_SSL, _writeTLS(vectors.tls) if vectors.tls is not None else b""),
    ]
    return _join([(kind, value) for kind, value in told if value] + list(vectors.others))


def _writeTLS(tls: ToldTLS) -> bytes:
    # A session that carries a certificate over to the next connection is never resumed.
    flags = _CLIENT_SSL | (_CLIENT_CERT_CONN | _CLIENT_CERT_SESS if tls.shown else 0)
    parts = [(kind, getattr(tls, name).encode("utf-8", "surrogatepass")) for kind, name in _WORDS.items()]
    parts.append((_CERTIFICATE, tls.certificate))
    verify = 0 if tls.shown and tls.verified else _UNVERIFIED
    return _TLS_HEAD.pack(flags, verify) + _join((kind, value) for kind, value in parts if value)
