# -*- test-case-name: tests.tls.test_datagrams -*-
"""
DTLS 1.2 (RFC 6347) of one association, in memory: datagrams in, datagrams out.

Several associations share one UDP socket, so OpenSSL gets none.  What comes is put into its memory one datagram at a
time, and read until nothing more is there; what it has to say is taken out and cut into datagrams, which memory does
not keep apart.  It drops by itself what is replayed, tampered with, or no record at all.

Who accepts has seen to it that the client is where it says to be: its hello comes with a cookie that was verified.  So
the cookie is believed here.  OpenSSL asked for one with C{DTLSv1_listen}, since only so it takes a hello that is not
the first.

@var SMALLEST_MTU: OpenSSL cuts a handshake no smaller, in bytes of a datagram's payload.
@var LARGEST_MTU: The most that a datagram can carry (RFC 768), in bytes.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL, _util

from tlsproxy.tls.native import RECORD, Buffer, TLSConnection, seeBindings
from tlsproxy.wire.dtls import CHANGE_CIPHER_SPEC, HANDSHAKE, recut

__all__ = ["LARGEST_MTU", "SMALLEST_MTU", "DTLSConnection", "TooLarge", "believeCookies"]

_lib: Any = _util.lib
_ffi: Any = _util.ffi

seeBindings(("BIO_read", "BIO_write", "DTLS_get_data_mtu", "SSL_read", "SSL_write"))

SMALLEST_MTU: Final = 256
LARGEST_MTU: Final = 65507

_HEADER: Final = 13  # of a record (RFC 6347, section 4.1)

_BIO_read = _lib.BIO_read
_BIO_write = _lib.BIO_write
_SSL_read = _lib.SSL_read
_SSL_write = _lib.SSL_write

_space: Final = Buffer(65536)
"""What is read comes here first; it holds nothing between two calls."""


class TooLarge(ValueError):
    """
    A datagram is larger than what the path to the peer can carry.
    """


def believeCookies(context: SSL.Context) -> None:
    """
    Have a server's context take any cookie for good.
    """
    asking = SSL.OP_COOKIE_EXCHANGE
    assert asking is not None  # pyOpenSSL has it since DTLS is in it.
    context.set_options(asking)
    context.set_cookie_generate_callback(lambda connection: b"any")
    context.set_cookie_verify_callback(lambda connection, cookie: True)


def _goesBeyond(datagram: bytes | memoryview) -> bool:
    """
    Tell whether a datagram has a record that is not of a handshake.
    """
    at = 0
    while at + _HEADER <= len(datagram):
        if datagram[at] not in (CHANGE_CIPHER_SPEC, HANDSHAKE):
            return True
        at += _HEADER + (datagram[at + 11] << 8 | datagram[at + 12])
    return False


class DTLSConnection(TLSConnection):
    """
    One association.

    @ivar largest: The most that one datagram can carry now, in bytes; 0 before the handshake is done.
    @ivar more: Whether what L{open} was given last may hold more than it has returned, or, once the handshake is done,
        whether something has come with it that is to be read.
    """

    __slots__ = ("_from", "_into", "_listening", "_mtu", "largest", "more")

    def __init__(self, context: SSL.Context, mtu: int, server: bool) -> None:
        """
        @param mtu: The most that a datagram may carry, all of DTLS included, in bytes.
        """
        super().__init__(context, None, server)
        self._into, self._from = self.connection._into_ssl, self.connection._from_ssl
        self._listening = server
        self.largest = 0
        self.more = False
        self.setMTU(mtu)

    @property
    def mtu(self) -> int:
        """
        The most that a datagram may carry, all of DTLS included, in bytes.
        """
        return self._mtu

    def setMTU(self, mtu: int) -> None:
        """
        Have no datagram be larger from now on, handshakes that are repeated included.

        @param mtu: As L{mtu}; beyond L{SMALLEST_MTU} and L{LARGEST_MTU} those hold.
        """
        self._mtu = max(SMALLEST_MTU, min(mtu, LARGEST_MTU))
        self.connection.set_ciphertext_mtu(self._mtu)
        if self.largest:
            self._measure()

    def _measure(self) -> None:
        self.largest = min(RECORD, self.connection.get_cleartext_mtu())

    # -- handshake and timers ---------------------------------------------------------------------------------------

    def receive(self, datagram: bytes | memoryview) -> None:
        """
        Take a datagram that has come.  It has to be dealt with, by L{handshake} or L{read}, before the next.
        """
        self.more = self.more or _goesBeyond(datagram)
        _BIO_write(self._into, _ffi.from_buffer(datagram), len(datagram))

    def handshake(self) -> None:
        """
        Go on with the handshake as far as it can be had now.

        @raise SSL.WantReadError: More has to come from the peer.
        @raise SSL.Error: As L{TLSConnection.handshake}.
        """
        if self._listening:
            self.connection.DTLSv1_listen()
            self._listening = False
        super().handshake()
        self._measure()

    def timeout(self) -> float | None:
        """
        Tell when something has to be said again, unless something comes before.

        @return: In how many seconds of the real time; L{None} for never.
        """
        left: float | None = self.connection.DTLSv1_get_timeout()
        return left

    def handleTimeout(self) -> bool:
        """
        Say again what was said last, if it is time.

        @return: Whether it was.  Where it has been said too often, it is not, and the next L{handshake} fails.
        """
        try:
            again: bool = self.connection.DTLSv1_handle_timeout()
        except SSL.WantReadError:
            return False  # pyOpenSSL finds no other word for that.
        return again

    def output(self) -> list[bytes]:
        """
        Take what is to be sent.

        @return: The datagrams.
        """
        parts: list[bytes] = []
        count: int
        while (count := _BIO_read(self._from, _space._pointer, _space.size)) > 0:
            parts.append(bytes(_space.view[:count]))
        return recut(b"".join(parts), self._mtu) if parts else parts

    # -- one by one -------------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        """
        Read one datagram's worth of what the peer has sent.

        @return: L{None} where nothing more is there; C{state} tells why.
        """
        count = self.fill(_space)
        return bytes(_space.view[:count]) if count else None

    def write(self, data: bytes) -> None:
        """
        Send some bytes as one datagram.  Without any, nothing is sent.

        @raise TooLarge: There are more than C{largest}.
        """
        if len(data) > self.largest:
            raise TooLarge(f"a datagram of {len(data)} bytes is too large: the path carries {self.largest}")
        if data:
            count = _SSL_write(self._ssl, _ffi.from_buffer(data), len(data))
            if count <= 0:
                self._failed(count)

    # -- without a copy ---------------------------------------------------------------------------------------------

    def open(self, datagram: Buffer, count: int, clear: Buffer) -> int:
        """
        Take a datagram that has come, and read the first of what it holds.

        @param datagram: What has it in its front.
        @param count: How long it is.
        @param clear: What is read into.
        @return: How many bytes came.  Where it is 0, C{state} tells why, and there may be L{output}; otherwise there
            is none, and L{fill} reads on where C{more} says so.
        """
        _BIO_write(self._into, datagram._pointer, count)
        came: int = _SSL_read(self._ssl, clear._pointer, RECORD)
        if came > 0:
            view = datagram.view
            self.more = (view[11] << 8 | view[12]) + _HEADER != count
            return came
        self._stopped(came)
        return 0

    def fill(self, buffer: Buffer) -> int:
        """
        Read one datagram's worth into the front of a buffer.

        @return: As L{open}.
        """
        count: int = _SSL_read(self._ssl, buffer._pointer, RECORD)
        if count > 0:
            return count
        self._stopped(count)
        return 0

    def seal(self, clear: Buffer, count: int, datagram: Buffer) -> int:
        """
        Make a datagram of some bytes.

        @param clear: What has them in its front.
        @param count: How many, from 1 to C{largest}.
        @param datagram: What it is made in.
        @return: How long it is; C{-1} where the connection is broken.
        """
        written = _SSL_write(self._ssl, clear._pointer, count)
        if written <= 0:
            self._failed(written)
            return -1
        made: int = _BIO_read(self._from, datagram._pointer, datagram.size)
        return made
