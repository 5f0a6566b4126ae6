# -*- test-case-name: tests.wire.test_framing -*-
"""
Whether bytes are the records of a TLS connection that is protected already (RFC 8446, section 5, and RFC 5246, section
6.2), told from the headers of the records.

It protects from nothing by itself: who can write to the connection can write such headers.  It makes sure that no other
protocol, and no new TLS handshake that can be read, passes where TLS was agreed.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Framing", "FramingViolation"]

_CHANGE_CIPHER_SPEC: Final = 20
_ALERT: Final = 21
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23

_HEAD: Final = 5  # bytes of a record's header
_OPENING: Final = 6  # bytes of a hello that are looked at: type, length and version
_SHORTEST_HELLO: Final = 38  # a version, a random, and three lists
_MOST: Final = 16384 + 256  # RFC 8446, section 5.2; in TLS 1.2 no cipher that is let through adds more either
_TAG: Final = 16  # bytes, the shortest that any cipher adds

# The least and the most bytes of a record, by its type.  In TLS 1.3 a record that is protected looks like application
# data and has its true type inside; what is left in plain has one size.  In TLS 1.2 everything is protected, and only
# application data may be empty inside.
_SIZES: Final = {
    0x0304: {_APPLICATION_DATA: (_TAG + 1, _MOST), _CHANGE_CIPHER_SPEC: (1, 1), _ALERT: (2, 2)},
    0x0303: {
        _APPLICATION_DATA: (_TAG, _MOST),
        _CHANGE_CIPHER_SPEC: (_TAG + 1, _MOST),
        _ALERT: (_TAG + 1, _MOST),
        _HANDSHAKE: (_TAG + 1, _MOST),
    },
}


class FramingViolation(ValueError):
    """
    The bytes are not what a protected TLS connection has.  The sentence says what is wrong with them.
    """


class Framing:
    """
    Looks over the bytes of one direction, from a record's beginning on.

    @ivar checked: How many bytes are in order.  Of a chunk with a violation those are that come before the record with
        it; where that record began in an earlier chunk, none.
    """

    def __init__(self, version: int) -> None:
        """
        @param version: The TLS version that was agreed, C{0x0303} or C{0x0304}.
        @raise ValueError: It is another one.
        """
        if version not in _SIZES:
            raise ValueError(f"there are no rules for the TLS version 0x{version:04x}")
        self.checked = 0
        self._sizes = _SIZES[version]
        self._least = self._sizes[_APPLICATION_DATA][0]
        self._sealed = version == 0x0303
        self._left = 0  # bytes of the record that is under way that need no look
        self._head = bytearray()  # the bytes of a record that do need one
        self._changed = False  # whether there was a ChangeCipherSpec
        self._violation = ""

    @property
    def atBoundary(self) -> bool:
        """
        Whether a whole number of records has passed.
        """
        return not self._left and not self._head

    def check(self, data: bytes | memoryview) -> None:
        """
        Look over the next bytes.

        @raise FramingViolation: They are not in order, and neither is anything after them.
        """
        size = len(data)
        at = self._left
        if at >= size:
            self._left = at - size
            self.checked += size
            return
        if self._violation:
            raise FramingViolation(self._violation)
        start = at
        try:
            # The usual record first: in few steps, and past its content.
            while at < size:
                start = at
                if size - at >= _HEAD and data[at] == _APPLICATION_DATA and data[at + 1] == 3 and not self._head:
                    length = data[at + 3] << 8 | data[at + 4]
                    if self._least <= length <= _MOST:
                        at += _HEAD + length
                        continue
                at = self._look(data, at)
        except FramingViolation as e:
            self._violation = str(e)
            self._left = 0
            self.checked += start
            raise
        self._left = at - size
        self.checked += size

    def _look(self, data: bytes | memoryview, at: int) -> int:
        """
        Look at the beginning of a record byte by byte.

        @param at: Where to go on.
        @return: Where the record ends, or where C{data} does if that comes before all was seen that has to be.
        @raise FramingViolation: As L{check}.
        """
        head = self._head
        while at < len(data):
            head.append(data[at])
            at += 1
            if self._judge(head):
                at += _HEAD + (head[3] << 8 | head[4]) - len(head)
                head.clear()
                break
        return at

    def _judge(self, head: bytearray) -> bool:
        """
        Judge the last byte that came.

        @param head: The record so far.
        @return: Whether nothing more of this record needs a look.
        @raise FramingViolation: As L{check}.
        """
        kind, seen = head[0], len(head)
        if seen == 1:
            if kind not in self._sizes:
                raise FramingViolation(f"a byte 0x{kind:02x} stands where a protected TLS record must begin")
            if kind == _CHANGE_CIPHER_SPEC and self._changed:
                raise FramingViolation("a second ChangeCipherSpec came")
        elif seen == 2 and head[1] != 3:
            raise FramingViolation(f"a TLS record has the version 0x{head[1]:02x}, and not 0x03, in front")
        elif seen == 4 and head[3] > _MOST >> 8:
            raise FramingViolation(f"a TLS record is longer than {_MOST} bytes")
        elif seen == _HEAD:
            least, most = self._sizes[kind]
            length = head[3] << 8 | head[4]
            if not least <= length <= most:
                raise FramingViolation(f"a TLS record of type {kind} has {length} bytes, and not {least} to {most}")
            return kind != (_HANDSHAKE if self._sealed else _CHANGE_CIPHER_SPEC)
        elif seen == _HEAD + 1 and kind == _CHANGE_CIPHER_SPEC:
            if head[_HEAD] != 1:
                raise FramingViolation(f"a ChangeCipherSpec has the value {head[_HEAD]}, and not 1")
            self._changed = True
            return True
        elif seen > _HEAD:
            return self._isNoHello(head[_HEAD:])
        return False

    def _isNoHello(self, opening: bytearray) -> bool:
        """
        Tell from the beginning of a handshake record whether it is protected, or else begins a ClientHello.  It may go
        on in other records, or end before its own does.

        @return: L{False} as long as there is no telling.
        @raise FramingViolation: It is a ClientHello.
        """
        if opening[0] != 1 or (len(opening) > 4 and opening[4] != 3):
            return True
        if len(opening) > 3 and int.from_bytes(opening[1:4], "big") < _SHORTEST_HELLO:
            return True
        if len(opening) < _OPENING:
            return False
        if opening[5] > 4:
            return True
        raise FramingViolation("a new TLS handshake begins, in plain")
