"""
What the load client and the backend say to each other through a proxy.

Every conversation is a row of orders. An order is 64 bytes from the client: a verb and a number, padded with zeros.

 - C{get n}: the backend answers with n bytes, small and at once.
 - C{down n}: the backend sends n bytes as fast as the proxy takes them.
 - C{up n}: n bytes follow the order; once all are there the backend answers with 64 bytes.
 - C{tell}: the backend answers with 64 bytes that name the TLS version and cipher of its own connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from functools import cache
from pathlib import Path

from attrs import frozen

ORDER_SIZE = 64
"""Bytes in an order, and in the short answers to C{up} and C{tell}."""

REPLY = 64
"""Bytes that a new connection is answered with."""

RESPONSE = 200
"""Bytes that a small request is answered with."""

GROUP = "X25519"
SUITE = "TLS_AES_256_GCM_SHA384"
CIPHERS = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
"""The same for TLS 1.2, for either kind of key."""
HOST = "127.0.0.1"
NAME = "localhost"

_ORDER = struct.Struct(">4sQ52x")
_PIECE = 1 << 20
_PAGES = 128 << 20
_random = os.urandom(_PIECE)


class TrafficError(Exception):
    """
    The bytes that came are not the bytes that were due: nothing measured here may be used.
    """


@frozen
class Order:
    """
    One request of the client to the backend.

    @param verb: C{get}, C{down}, C{up} or C{tell}.
    @param size: how many bytes are asked for or announced.
    """

    verb: str
    size: int

    def toBytes(self) -> bytes:
        """
        The order as it goes over the wire.
        """
        return _ORDER.pack(self.verb.encode("ascii"), self.size)

    @classmethod
    def fromBytes(cls, data: bytes) -> Order:
        """
        Read an order.

        @param data: exactly L{ORDER_SIZE} bytes.
        """
        verb, size = _ORDER.unpack(data)
        return cls(verb.rstrip(b"\0").decode("ascii"), size)


def readExactly(connection: socket.socket, size: int) -> bytes:
    """
    Read C{size} bytes from a blocking connection.

    @raise TrafficError: if the connection ends before.
    """
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise TrafficError(f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def drain(connection: socket.socket, size: int) -> None:
    """
    Read C{size} bytes from a blocking connection and forget them.

    @raise TrafficError: if the connection ends before.
    """
    view = memoryview(bytearray(_PIECE))
    left = size
    while left:
        got = connection.recv_into(view[: min(left, _PIECE)])
        if not got:
            raise TrafficError(f"the connection ended {left} bytes before its end")
        left -= got


def push(connection: socket.socket, size: int) -> None:
    """
    Send C{size} bytes on a blocking connection: from the page cache if it is plain, in large pieces if it is TLS.
    """
    if isinstance(connection, ssl.SSLSocket):
        view = memoryview(_random)
        for start in range(0, size, _PIECE):
            connection.sendall(view[: min(_PIECE, size - start)])
        return
    source = _pages()
    done = 0
    while done < size:
        offset = done % _PAGES
        done += os.sendfile(connection.fileno(), source, offset, min(size - done, _PIECE, _PAGES - offset))


@cache
def _pages() -> int:
    """
    A file in memory, made once and larger than the processor's caches: what comes from a network is in none of them,
    and a proxy that copies must not find it there.
    """
    source = os.memfd_create("push")
    for _ in range(_PAGES // _PIECE):
        os.write(source, _random)
    return source


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def clientContext(ca: Path, version: str = "1.3") -> ssl.SSLContext:
    """
    One version of TLS, and X25519 only if it is 1.3; verifies chain and name. By itself it resumes no session.

    @param ca: the file of the root certificate.
    @param version: one of L{VERSIONS}.
    """
    context = ssl.create_default_context(cafile=str(ca))
    return _narrow(context, version)


def serverContext(chain: Path, key: Path) -> ssl.SSLContext:
    """
    TLS 1.3 and X25519 only.

    @param chain: the file of the server's certificate.
    @param key: the file of its private key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return _narrow(context, "1.3")


def _narrow(context: ssl.SSLContext, version: str) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.set_ciphers(CIPHERS)
    # Where TLS 1.2 is spoken the groups have to name the curve of the certificate, too; the proxies leave no choice.
    if version == "1.3":
        with contextlib.suppress(ssl.SSLError):  # Some versions of the module know no groups but curves of NIST's.
            context.set_ecdh_curve(GROUP)
    return context


def speech(version: str, key: str) -> str:
    """
    What L{speaks} says where a version and a kind of key are used as asked for.
    """
    cipher = SUITE if version == "1.3" else CIPHERS.split(":")[key == "RSA-2048"]
    return f"TLSv{version} {cipher}"


def speaks(connection: socket.socket) -> str:
    """
    TLS version and cipher of a connection, or C{plain}.
    """
    if not isinstance(connection, ssl.SSLSocket):
        return "plain"
    cipher = connection.cipher()
    return f"{connection.version()} {cipher[0] if cipher else 'without a cipher'}"
