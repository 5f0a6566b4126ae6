# -*- test-case-name: tests.tls.test_native -*-
"""
TLS on a socket, by the private bindings of pyOpenSSL, which L{tlsproxy.tls.datagrams} and L{tlsproxy.tls.peers} alone
touch, too.

pyOpenSSL's public C{recv} and C{send} allocate a buffer and copy the bytes on every call, tell "nothing there yet" by
an exception, and say nothing of how a connection ended.  A proxy calls them for each record, so this module calls
C{SSL_read} and C{SSL_write} itself, straight on the socket and on one L{Buffer} that is used again and again.

Two facts of OpenSSL rule the code:

  - On a socket OpenSSL reads the five bytes of a record's header and then exactly the record, so what follows a
    close_notify stays in the kernel, and a read with room for a whole record never leaves a part of one behind.
  - With C{OP_IGNORE_UNEXPECTED_EOF} a bare end of stream and an authenticated close_notify give the same result.
    Only the info callback tells them apart: it hears of the alert, if there was one.

@var RECORD: The most plaintext in one TLS record (RFC 8446 section 5.1), in bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Final

from OpenSSL import SSL, _util

from tlsproxy.interfaces import (
    DRAINED,
    ENDED,
    FAILED,
    MORE,
    RESET,
    TRUNCATED,
    WANTS_WRITE,
)

__all__ = [
    "RECORD",
    "Buffer",
    "TLSConnection",
    "TLSStream",
    "seeBindings",
    "setGroups",
    "shareTrust",
]

_lib: Any = _util.lib
_ffi: Any = _util.ffi

_NEEDED: Final = (
    "ERR_clear_error",
    "SSL_CTX_get_cert_store",
    "SSL_CTX_set1_curves_list",
    "SSL_CTX_set_cert_store",
    "SSL_get_error",
    "SSL_get_verify_result",
    "SSL_peek",
    "SSL_pending",
    "SSL_read",
    "SSL_session_reused",
    "SSL_set_info_callback",
    "SSL_write",
    "X509_STORE_up_ref",
    "X509_verify_cert_error_string",
)


def seeBindings(needed: Sequence[str]) -> None:
    """
    See that the bindings have what is needed of them.

    @raise ImportError: They lack some of it.
    """
    missing = [name for name in needed if not hasattr(_lib, name)]
    if missing:
        raise ImportError(
            "tlsproxy does not fit this release of pyOpenSSL and cryptography: "
            f"their bindings lack {', '.join(missing)}. Install the releases that tlsproxy's requirements name."
        )


seeBindings(_NEEDED)

RECORD: Final = 16384

_SHORT: Final = 1024
"""A record with less than this many bytes is not one of a long transfer."""

_SSL_peek = _lib.SSL_peek
_SSL_read = _lib.SSL_read
_SSL_write = _lib.SSL_write
_SSL_get_error = _lib.SSL_get_error
_WANT_READ = _lib.SSL_ERROR_WANT_READ
_WANT_WRITE = _lib.SSL_ERROR_WANT_WRITE
_ZERO_RETURN = _lib.SSL_ERROR_ZERO_RETURN

# Values of <openssl/ssl.h> that the bindings do not name.
_CB_ALERT: Final = 0x4000
_CB_READ_ALERT: Final = 0x4004
_CLOSE_NOTIFY: Final = 0x100  # level warning (1), description 0

# The last alert that any connection of this process sent or received: (SSL *, where, level and description).  The
# callback runs inside the call that handles the alert, and all calls are made by the one reactor thread, so whoever
# made the call reads it right after.
_lastAlert: tuple[Any, int, int] | None = None


@_ffi.callback("void (*)(const SSL *, int, int)")  # type: ignore[untyped-decorator]
def _noteAlert(ssl: Any, where: int, value: int) -> None:
    global _lastAlert
    if where & _CB_ALERT:
        _lastAlert = (ssl, where, value)


class Buffer:
    """
    A piece of memory that sockets and OpenSSL read into and write from without a copy.

    @ivar size: Its length in bytes, at least one record.
    @ivar view: All of it.
    """

    __slots__ = ("_memory", "_pointer", "size", "view")

    def __init__(self, size: int) -> None:
        if size < RECORD:
            raise ValueError(f"a buffer holds at least one record of {RECORD} bytes, not {size}")
        self.size = size
        self._memory = bytearray(size)
        self.view = memoryview(self._memory)
        self._pointer = _ffi.from_buffer(self._memory)


class TLSConnection:
    """
    TLS of one connection, whoever moves its records: what it tells of itself.

    @ivar connection: The pyOpenSSL connection, for all that its public methods tell.
    @ivar state: What the last read met, one of the states of L{tlsproxy.interfaces}.
    @ivar problem: What went wrong where C{state} is C{FAILED} or C{RESET}, without its traceback, which would hold
        this.
    @ivar writeEnded: Whether our close_notify is on its way.
    """

    __slots__ = ("_ending", "_ssl", "connection", "problem", "state", "writeEnded")

    def __init__(self, context: SSL.Context, sock: socket.socket | None, server: bool) -> None:
        """
        @param sock: What OpenSSL reads and writes; L{None} for memory.
        """
        global _lastAlert
        _lastAlert = None  # It may be one of a connection that was where this one is now.
        self.connection = SSL.Connection(context, sock)
        self._ssl = self.connection._ssl
        self.state = DRAINED
        self.problem: Exception | None = None
        self.writeEnded = self._ending = False
        _lib.SSL_set_info_callback(self._ssl, _noteAlert)
        if server:
            self.connection.set_accept_state()
        else:
            self.connection.set_connect_state()

    def handshake(self) -> None:
        """
        Go on with the handshake as far as it can be had now.

        @raise SSL.WantReadError: More has to come from the peer.
        @raise SSL.WantWriteError: The socket is full.
        @raise SSL.Error: The handshake failed; L{alert} tells which alert was sent or received.
        """
        global _lastAlert
        _lastAlert = None
        try:
            self.connection.do_handshake()
        except SSL.SysCallError:
            _lib.ERR_clear_error()
            raise
        self.settle()

    def settle(self) -> None:
        """
        See at the end of the handshake that the peer's certificate has been judged.

        @raise HandshakeFailed: It has not.
        """
        own = self.connection.get_app_data()
        if own is not None and own.judgement is not None:
            own.judgement.settled(self.connection.get_peer_certificate(as_cryptography=True) is not None)

    def alert(self) -> tuple[int, bool] | None:
        """
        Tell the alert that this connection's last call sent or received.

        @return: Its description (RFC 8446 section 6) and whether we sent it, or L{None} if there was none.
        """
        if _lastAlert is None or _lastAlert[0] != self._ssl:
            return None
        return _lastAlert[2] & 0xFF, _lastAlert[1] != _CB_READ_ALERT

    def resumed(self) -> bool:
        """
        Tell whether the handshake resumed an earlier session.
        """
        return bool(_lib.SSL_session_reused(self._ssl))

    def verifyProblem(self) -> str | None:
        """
        Tell why the peer's certificate was not accepted, in OpenSSL's words.
        """
        code = _lib.SSL_get_verify_result(self._ssl)
        if code == 0:
            return None
        return str(_ffi.string(_lib.X509_verify_cert_error_string(code)).decode("ascii", "replace"))

    def endWrite(self) -> bool:
        """
        Send close_notify, once: the direction to the peer ends here, and the other goes on.

        @return: Whether it is on its way; if not, call again when the socket takes bytes.
        """
        if self.writeEnded:
            return True
        if self._ending:
            # Where it has met the bare end of the peer's stream meanwhile, OpenSSL has forgotten that it has begun.
            self.connection.set_shutdown(self.connection.get_shutdown() | SSL.SENT_SHUTDOWN)
        self._ending = True
        try:
            # A second call after success would read, and fail on the data that the peer may still send.
            self.connection.shutdown()
        except SSL.WantWriteError:
            return False
        except SSL.Error as e:
            _lib.ERR_clear_error()
            if self.state < ENDED:
                # OpenSSL reads no more either.  A peer that ended before it went is no cause for complaint.
                self.state, self.problem = RESET, e.with_traceback(None)
        self.writeEnded = True
        return True

    def _stopped(self, result: int) -> None:
        global _lastAlert
        if self.state >= ENDED:
            return  # How a stream stopped for good is told once: an alert is heard once, and a broken one forgets why.
        error = _SSL_get_error(self._ssl, result)
        if error == _WANT_READ:
            self.state = DRAINED
        elif error == _WANT_WRITE:
            self.state = WANTS_WRITE
        elif error == _ZERO_RETURN:
            told = _lastAlert
            _lastAlert = None
            if told is not None and told[0] == self._ssl and told[1:] == (_CB_READ_ALERT, _CLOSE_NOTIFY):
                self.state = ENDED
            else:
                self.state = TRUNCATED
        else:
            self._failed(result)

    def _failed(self, result: int) -> None:
        try:
            self.connection._raise_ssl_error(self._ssl, result)
        except SSL.SysCallError as e:
            # Only the other errors are taken out of the thread's queue, and the next to fail would be given this one.
            _lib.ERR_clear_error()
            self.state, self.problem = RESET, e.with_traceback(None)
        except SSL.Error as e:
            self.state, self.problem = FAILED, e.with_traceback(None)


class TLSStream(TLSConnection):
    """
    TLS on a non-blocking socket.

    It implements L{tlsproxy.interfaces.Stream}, and the steps that set a connection up.
    """

    __slots__ = ()

    def fill(self, buffer: Buffer) -> int:
        """
        Read whole records into the front of a buffer until it is full or nothing more is there.

        A short record ends a message, as a rule, so nothing is looked for behind it; the reactor tells if more is
        there.

        @return: How many bytes came; C{state} tells why it stopped.
        """
        ssl, pointer, filled = self._ssl, buffer._pointer, 0
        room = buffer.size
        count: int
        while room >= RECORD:
            count = _SSL_read(ssl, pointer + filled, room)
            if count <= 0:
                self._stopped(count)
                return filled
            filled += count
            if count < _SHORT:
                self.state = DRAINED
                return filled
            room -= count
        self.state = MORE
        return filled

    def read(self, limit: int) -> bytes:
        """
        Read at most one record.

        @param limit: The most bytes to return.
        @return: At least one byte, or none where the stream has stopped; C{state} tells why.
        """
        return self._take(_SSL_read, limit)

    def peek(self, limit: int) -> bytes:
        """
        As L{read}, but leave the bytes inside OpenSSL, where the next one to read finds them.
        """
        return self._take(_SSL_peek, limit)

    def _take(self, take: Any, limit: int) -> bytes:
        room = min(limit, RECORD)
        space = _ffi.new("char[]", room)
        count = take(self._ssl, space, room)
        if count > 0:
            self.state = MORE
            return bytes(_ffi.buffer(space, count))
        self._stopped(count)
        return b""

    def drain(self, buffer: Buffer, count: int) -> int:
        """
        Write the front of a buffer.

        @return: How many bytes were taken: fewer than C{count} where the socket is full, C{-1} where the connection
            is broken.
        """
        taken = _SSL_write(self._ssl, buffer._pointer, count)
        return count if taken == count else self._write(buffer._pointer, count, taken)

    def send(self, data: bytes | memoryview) -> int:
        """
        Write some bytes.

        What was not taken has to come first in the next call: a record of it may already be on its way.

        @return: As L{drain}.
        """
        if not data:
            return 0  # To OpenSSL that is an error.
        pointer = _ffi.from_buffer(data)
        return self._write(pointer, len(data), _SSL_write(self._ssl, pointer, len(data)))

    def _write(self, pointer: Any, count: int, taken: int) -> int:
        """
        Go on with writing after the first attempt.

        @param taken: What came of it.
        """
        ssl, sent = self._ssl, 0
        while taken > 0:
            sent += taken
            if sent == count:
                return sent
            taken = _SSL_write(ssl, pointer + sent, count - sent)
        if _SSL_get_error(ssl, taken) == _WANT_WRITE:
            return sent
        self._failed(taken)
        return -1

    def pending(self) -> int:
        """
        Tell how many decrypted bytes wait inside OpenSSL, of which the reactor cannot know.
        """
        return int(_lib.SSL_pending(self._ssl))


def setGroups(context: SSL.Context, groups: str) -> None:
    """
    Set the key exchange groups of a context, most wanted first.

    @param groups: Their names with colons between, as OpenSSL spells them.
    @raise ValueError: OpenSSL does not know one of them.
    """
    # No name at all is taken too, and leaves a context with which every handshake fails.
    if not groups.strip() or _lib.SSL_CTX_set1_curves_list(context._context, groups.encode("ascii", "replace")) != 1:
        _lib.ERR_clear_error()
        raise ValueError(f"OpenSSL does not know one of the groups {groups!r}")


def shareTrust(context: SSL.Context, other: SSL.Context) -> None:
    """
    Have a context trust what another trusts, CRLs included, now and later: both have one store.
    """
    store = _lib.SSL_CTX_get_cert_store(other._context)
    _lib.X509_STORE_up_ref(store)
    _lib.SSL_CTX_set_cert_store(context._context, store)
