# -*- test-case-name: tests.test_plain -*-
"""
A socket without TLS, as a L{tlsproxy.interfaces.Stream}.
"""

from __future__ import annotations

import socket

from tlsproxy.interfaces import DRAINED, ENDED, MORE, RESET
from tlsproxy.tls.native import Buffer

__all__ = ["PlainStream"]


class PlainStream:
    """
    A socket without TLS.  It implements L{tlsproxy.interfaces.Stream}.

    @ivar state: What the last read met.
    @ivar problem: What went wrong, if anything, without its traceback, which would hold this stream.
    """

    __slots__ = ("_socket", "problem", "state")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.state = DRAINED
        self.problem: Exception | None = None

    def fill(self, buffer: Buffer) -> int:
        """
        Read once into the front of a buffer.
        """
        try:
            count = self._socket.recv_into(buffer.view)
        except BlockingIOError:
            self.state = DRAINED
            return 0
        except OSError as e:
            self.state, self.problem = RESET, e.with_traceback(None)
            return 0
        if count == 0:
            self.state = ENDED
        else:
            self.state = DRAINED if count < buffer.size else MORE
        return count

    def read(self, limit: int) -> bytes:
        """
        Read once.

        @param limit: The most bytes to return.
        @return: At least one byte, or none where the stream has stopped; C{state} tells why.
        """
        return self._take(limit, 0)

    def peek(self, limit: int) -> bytes:
        """
        As L{read}, but leave the bytes in the kernel.
        """
        return self._take(limit, socket.MSG_PEEK)

    def _take(self, limit: int, flags: int) -> bytes:
        try:
            data = self._socket.recv(limit, flags)
        except BlockingIOError:
            self.state = DRAINED
            return b""
        except OSError as e:
            self.state, self.problem = RESET, e.with_traceback(None)
            return b""
        self.state = ENDED if not data else MORE if len(data) == limit else DRAINED
        return data

    def drain(self, buffer: Buffer, count: int) -> int:
        """
        Write the front of a buffer.
        """
        return self.send(buffer.view[:count])

    def send(self, data: bytes | memoryview) -> int:
        """
        Write some bytes.
        """
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as e:
            self.problem = e.with_traceback(None)
            return -1

    def endWrite(self) -> bool:
        """
        A plain stream has no words for its end: its FIN is all.
        """
        return True
