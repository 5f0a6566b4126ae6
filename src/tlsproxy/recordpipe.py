# -*- test-case-name: tests.test_recordpipe -*-
"""
A pipe of TLS records between a peer's socket and a TLS library that reads and writes a socket of its own.

From the peer's socket exactly one record is taken at a time, and not one byte more: it is for whoever feeds the pipe to
say when the next one may be.  To the peer all bytes go on as they come, as far as its socket takes them; what is left
is one read of the pipe at most, and the pipe is not read before that is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from twisted.internet import tcp
from twisted.python.failure import Failure

from tlsproxy.borrowed import Borrowed
from tlsproxy.interfaces import DRAINED, RESET, TRUNCATED
from tlsproxy.tls.native import RECORD, Buffer

__all__ = ["RecordPipe"]

_HEADER: Final = 5
_TYPES: Final = range(20, 24)  # RFC 8446, section 5.1
_LONGEST: Final = RECORD + 256  # RFC 8446, section 5.2

_passing = Buffer(32768)
"""Where the bytes to the peer pass through; it holds nothing between two calls."""


class _Writer(Protocol):
    """
    Who writes into the pipe.

    @ivar written: How many bytes it has written.
    """

    written: int


def _ignore() -> None:
    """
    What progress is to a pipe that is closed.
    """


class RecordPipe:
    """
    The pipe, and the socket at this end of it.

    @ivar fed: How many bytes of the peer were given to the pipe.
    @ivar broken: Whether the peer's socket takes nothing any more.
    @ivar doubtful: Whether the last record that was taken is none, but for its first bytes.
    @ivar sealed: Whether nothing may go to the peer any more, whatever still comes.
    @ivar state: Why there was no record, where there was none: one of the states of L{tlsproxy.interfaces}.
    @ivar problem: What went wrong with the peer's socket, if anything, without its traceback.
    """

    __slots__ = (
        "_delivered",
        "_mouth",
        "_part",
        "_progress",
        "_socket",
        "_unfed",
        "_unsent",
        "_writer",
        "broken",
        "doubtful",
        "fed",
        "problem",
        "sealed",
        "state",
    )

    def __init__(self, sock: socket.socket, writer: _Writer) -> None:
        """
        @param sock: The peer's socket.
        @param writer: Who is at the other end of the pipe.
        """
        self._socket = sock
        self._writer = writer
        self._progress: Callable[[], None] = _ignore
        self._mouth: Borrowed | None = None
        self._part = bytearray()  # Of a record.
        self._unfed = b""  # Of one that the pipe has not taken.
        self._unsent = memoryview(b"")
        self._delivered = self.fed = 0
        self.broken = self.doubtful = self.sealed = False
        self.state = DRAINED
        self.problem: Exception | None = None

    def start(self, reactor: Any, sock: socket.socket, progress: Callable[[], None]) -> None:
        """
        Begin.

        @param sock: This end of the pipe, connected or on its way.
        @param progress: Called when something may have gone on.
        """
        self._progress = progress
        self._mouth = mouth = Borrowed("TLS on loopback")
        transport: Any = tcp.Server(sock, mouth, ("", 0), cast(tcp.Port, None), 0, reactor)
        transport.repstr = "<pipe to TLS on loopback>"
        mouth.makeConnection(transport)
        mouth.onLost = self._lost
        transport.doRead, transport.doWrite = self._readable, self._writable

    def close(self) -> None:
        """
        Close this end.
        """
        mouth, self._mouth = self._mouth, None
        self._progress = _ignore
        if mouth is not None:
            mouth.onLost = None
            mouth.finish(reset=True)  # Which leaves no port behind that is not free for a minute.

    def _lost(self, _: Failure) -> None:
        progress = self._progress
        self.close()
        progress()

    # -- from the peer ----------------------------------------------------------------------------------------------

    def take(self) -> bytes | None:
        """
        Take one record from the peer's socket.

        @return: It, or the header alone of what is none; L{None} if it is not whole yet, or never will be.
        """
        part = self._part
        while True:
            length = int.from_bytes(part[3:_HEADER], "big")
            whole = _HEADER + (length if len(part) >= _HEADER else 0)
            if len(part) >= _HEADER:
                self.doubtful = part[0] not in _TYPES or part[1] != 3 or length > _LONGEST
                if self.doubtful or len(part) == whole:
                    self._part = bytearray()
                    return bytes(part)
            try:
                data = self._socket.recv(whole - len(part))
            except BlockingIOError:
                self.state = DRAINED
                return None
            except OSError as e:
                self.state, self.problem = RESET, e.with_traceback(None)
                return None
            if not data:
                self.state = TRUNCATED
                return None
            part += data

    def feed(self, record: bytes) -> None:
        """
        Give a record to the pipe, which has taken the one before.
        """
        self.fed += len(record)
        self._unfed = record
        self._pour()

    def _pour(self) -> None:
        mouth = self._mouth
        if mouth is None:
            return
        try:
            self._unfed = self._unfed[mouth.socket.send(self._unfed) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unfed = b""  # It is closed: reading it tells.
        if self._unfed:
            mouth.transport.startWriting()

    def _writable(self) -> None:
        mouth = self._mouth
        if mouth is not None:
            mouth.transport.stopWriting()
            self._pour()
            self._progress()

    # -- to the peer ------------------------------------------------------------------------------------------------

    def forward(self, readable: bool = False) -> bool:
        """
        Pass on what has been written, as far as it is there.

        @param readable: Whether there is something to be read for sure, be it the end.
        @return: Whether the peer's socket has taken it.
        """
        mouth = self._mouth
        while True:
            if self._unsent:
                self._unsent = self._unsent[self._put(self._unsent) :]
                if self._unsent:
                    return False
                if mouth is not None:
                    mouth.transport.startReading()
            if mouth is None or (self._delivered >= self._writer.written and not readable):
                return True
            try:
                count = mouth.socket.recv_into(_passing.view)
            except BlockingIOError:
                return True
            except OSError:
                count = 0
            if not count:
                self.close()
                return True
            taken = self._put(_passing.view[:count])
            if taken < count:
                self._unsent = memoryview(bytes(_passing.view[taken:count]))
                mouth.transport.stopReading()
                return False

    @property
    def backlog(self) -> int:
        """
        How many bytes of what was written are not on the peer's socket.
        """
        return self._writer.written - self._delivered

    @property
    def through(self) -> bool:
        """
        Whether all that was written is on the peer's socket.
        """
        return not self._unsent and (self._mouth is None or self._delivered >= self._writer.written)

    def _put(self, data: memoryview) -> int:
        taken = len(data)
        if not self.broken and not self.sealed:
            try:
                taken = self._socket.send(data)
            except BlockingIOError:
                return 0
            except OSError as e:
                self.broken, self.problem = True, e.with_traceback(None)
        self._delivered += taken
        return taken

    def _readable(self) -> None:
        progress = self._progress
        self.forward(True)
        progress()
