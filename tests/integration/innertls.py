# -*- test-case-name: tests.integration.test_sequential_stdlib -*-
"""
What a proxy has to see of the TLS inside its tunnel, read with nothing but Python's own library, and without a look at
how tlsproxy reads it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

UP, DOWN = 0, 1
"""From the client to the server, and back."""

MOST = 65536
"""Bytes that a handshake may have."""

_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The C{random} of a HelloRetryRequest (RFC 8446, section 4.1.3)."""

_SUITES_13 = (0x1301, 0x1302, 0x1303)
_SUITES_12 = frozenset(
    # DHE with RSA and DSS, ECDHE with ECDSA and RSA: AES-GCM, then ChaCha20, then CCM with whole tags.
    [0x009E, 0x009F, 0x00A2, 0x00A3, 0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9, 0xCCAA]
    + [0xC09E, 0xC09F, 0xC0AC, 0xC0AD]
)


class NotTLS(Exception):
    """
    It cannot be read.
    """


class _Fields(io.BytesIO):
    """
    A structure that is read from its start.
    """

    def take(self, count: int) -> bytes:
        taken = self.read(count)
        if len(taken) != count:
            raise NotTLS("a structure ends early")
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        return self.take(self.number(width))

    def extensions(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        rest = self.read()
        if rest:
            listed = _Fields(_Fields(rest).vector(2))
            while head := listed.read(2):
                kind = int.from_bytes(head, "big")
                if kind in found:
                    raise NotTLS("an extension comes twice")
                found[kind] = listed.vector(2)
        return found


def records(stream: bytes) -> Iterator[bytes]:
    """
    Cut bytes into whole TLS records.

    @raise NotTLS: They are none, or the last is not whole.
    """
    at = 0
    while at < len(stream):
        head = stream[at : at + 5]
        if len(head) < 5 or not 20 <= head[0] <= 23 or head[1] != 3:
            raise NotTLS(f"no record at byte {at}: {head!r}")
        end = at + 5 + int.from_bytes(head[3:], "big")
        if end > len(stream) or end - at - 5 > 16384 + 256:
            raise NotTLS(f"a record of {end - at} bytes at byte {at} of {len(stream)}")
        yield stream[at:end]
        at = end


def serverName(held: bytes, again: bool = False) -> str | None:
    """
    Read the server name of a client's first bytes.

    @param again: They follow a HelloRetryRequest: a ChangeCipherSpec and early data may come first.
    @return: It; nothing where the hello has none.
    @raise NotTLS: They are no hello.
    @raise EOFError: The hello is not whole.
    """
    message, at = b"", 0
    while again and held[at : at + 1] in (b"\x14", b"\x17") and len(held) >= at + 5:
        at += 5 + int.from_bytes(held[at + 3 : at + 5], "big")
    while True:
        if held[at : at + 1] in (b"\x14", b"\x17") and again and not message:
            raise EOFError
        if held[at : at + 1] not in (b"", b"\x16") or held[at + 1 : at + 2] not in (b"", b"\x03") or at > MOST:
            raise NotTLS("no ClientHello")
        size = int.from_bytes(held[at + 3 : at + 5], "big") if len(held) >= at + 5 else MOST
        message += held[at + 5 : at + 5 + size]
        if message[:1] not in (b"", b"\x01"):
            raise NotTLS("no ClientHello")
        if len(message) >= 4 and len(message) - 4 >= int.from_bytes(message[1:4], "big"):
            break
        if len(held) < at + 5 + size:
            raise EOFError
        at += 5 + size
    hello = _Fields(_Fields(message[1:]).vector(3))
    hello.take(34)
    for width in (1, 2, 1):
        hello.vector(width)
    names = hello.extensions().get(0)
    if names is None:
        return None
    name = _Fields(_Fields(names).vector(2))
    if name.number(1) != 0:
        raise NotTLS("a server name of another kind")
    return name.vector(2).decode("ascii").lower()


class _Side:
    """
    One direction.
    """

    def __init__(self) -> None:
        self.record = b""
        self.handshake = b""
        self.total = 0
        self.changed = False
        self.finished = False

    def missing(self) -> int:
        """
        How many bytes its record wants for certain.
        """
        if len(self.record) < 5:
            return 5 - len(self.record)
        return 5 + int.from_bytes(self.record[3:5], "big") - len(self.record)


class Watch:
    """
    Reads a handshake as it goes by, and tells from when on what flows is protected by keys that both sides have proven
    to share in this very handshake.

    @ivar safe: Whether it is; L{None} while that is open.
    @ivar version: C{"1.3"} or C{"1.2"}, once it is known.
    @ivar retried: Whether the server has sent a HelloRetryRequest.
    """

    def __init__(self) -> None:
        self.safe: bool | None = None
        self.version = ""
        self.retried = False
        self._suite = 0
        self._sides = (_Side(), _Side())

    def cut(self, direction: int, data: bytes) -> bytes:
        """
        Cut off what belongs to the record that the direction is in, and see it.
        """
        side = self._sides[direction]
        piece = b""
        while len(piece) < len(data) and (not piece or side.record):
            more = data[len(piece) : len(piece) + side.missing()]
            piece += more
            side.record += more
            if len(side.record) == 5 and (not 20 <= side.record[0] <= 23 or side.record[1] != 3):
                self.safe = False if self.safe is None else self.safe
            if side.missing() == 0:
                record, side.record = side.record, b""
                self._see(direction, record[0], record[5:])
        return piece

    def between(self, direction: int) -> bool:
        """
        Tell whether a direction is at the boundary of two records.
        """
        return not self._sides[direction].record

    def _see(self, direction: int, kind: int, body: bytes) -> None:
        if self.safe is not None:
            return
        side = self._sides[direction]
        side.total += len(body) if kind == 22 else 0
        try:
            if side.total > MOST:
                raise NotTLS("a handshake without end")
            if kind == 20:
                side.changed = self.version == "1.2"
            elif kind == 22 and side.changed:
                side.finished = True
            elif kind == 22:
                side.handshake += body
                if direction == DOWN and not self.version:
                    self._serverHello(side)
            elif kind == 21 or direction == DOWN:
                raise NotTLS("an alert, or a server's data before its handshake")
        except NotTLS:
            self.safe = False
        if all(one.finished for one in self._sides):
            self.safe = True

    def _serverHello(self, side: _Side) -> None:
        if len(side.handshake) < 4 or len(side.handshake) < 4 + int.from_bytes(side.handshake[1:4], "big"):
            return
        if side.handshake[0] != 2:
            raise NotTLS("no ServerHello")
        whole = _Fields(side.handshake[1:])
        hello = _Fields(whole.vector(3))
        version, unique = hello.number(2), hello.take(32)
        hello.vector(1)
        self._suite, compression = hello.number(2), hello.number(1)
        extensions = hello.extensions()
        last = not whole.read()
        if version != 0x0303 or compression:
            raise NotTLS("another version, or compression")
        if unique == _RETRY:
            if self.retried or not last:
                raise NotTLS("a second HelloRetryRequest")
            side.handshake, self.retried = b"", True
        elif 43 in extensions:
            self.version = "1.3"
            if extensions[43] != b"\x03\x04" or 51 not in extensions or self._suite not in _SUITES_13 or not last:
                raise NotTLS("not protected by fresh keys from here on")
            self.safe = True
        elif self._suite in _SUITES_12:
            self.version = "1.2"
        else:
            raise NotTLS("a suite that protects too little")


class Framing:
    """
    Sees to it that what goes by after the switch are TLS records.

    @ivar left: How many bytes are still looked at.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._part = b""
        self._changes = 0
        self.left = 1 << 20

    def see(self, data: bytes) -> None:
        """
        Look at the next bytes.

        @raise NotTLS: They are none.
        """
        if self.left <= 0:
            self._part = b""
            return
        self.left -= len(data)
        self._part += data
        while len(self._part) >= 5:
            kind, major, size = self._part[0], self._part[1], int.from_bytes(self._part[3:5], "big")
            if not 20 <= kind <= 23 or major != 3 or size > 16384 + 256:
                raise NotTLS("no record")
            if len(self._part) < 5 + size:
                return
            body, self._part = self._part[5 : 5 + size], self._part[5 + size :]
            if self._version == "1.3":
                self._changes += kind == 20
                if kind == 22 or (kind == 21 and size != 2) or self._changes > 1:
                    raise NotTLS("no record of a protected TLS 1.3 stream")
            elif kind == 22 and body[:1] == b"\x01" and int.from_bytes(body[1:4], "big") == size - 4:
                raise NotTLS("a ClientHello in clear")

    def end(self) -> None:
        """
        It has ended.

        @raise NotTLS: In the middle of a record.
        """
        if self._part and self.left > 0:
            raise NotTLS("it ended in the middle of a record")
