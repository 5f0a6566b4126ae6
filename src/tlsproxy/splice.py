# -*- test-case-name: tests.test_splice -*-
"""
From one plain socket to another by way of the kernel: splice(2) moves the bytes through a pipe, and not one of them
enters this process.

A pipe costs two descriptors and kernel memory, so a direction has one only while it holds bytes: it takes it from a
pool when its source is readable, and gives it back as soon as the sink has taken all.  An idle session has none.

Where there is no splice(2), where the sockets or the system refuse it, or where no descriptor is left for a pipe, the
direction copies, like any other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import Any, Final

from tlsproxy.direction import TURNS, Direction, Joint
from tlsproxy.end import End
from tlsproxy.interfaces import DRAINED, MORE, RESET, WANTS_WRITE

__all__ = ["Pipe", "Pool", "Splice"]

_CAPACITY: Final = 1 << 20
"""
How many bytes a pipe takes; it is counted in pages, and each segment of a TCP stream may take one.  The more at once,
the less often the other side has to be woken, which costs more than to move the bytes.
"""
_LEAST: Final = 1 << 16
"""What a pipe has to take, or to copy would cost less."""
_MOST: Final = _CAPACITY
"""How many bytes are asked for at once, which is also the most that a stalled sink leaves in a pipe."""
_FEW: Final = 1 << 17
"""How many are asked for where a stalled sink would leave them in memory."""
_IDLE: Final = 4
"""How many pipes are kept for the next use."""
_KEPT: Final = 32
"""
How many stalled sinks may keep a pipe.  A user's pipes may take 64 MiB on Linux (pipe-user-pages-soft), and then all
programs of that user get tiny ones.
"""
_REFUSALS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
"""What says that these descriptors cannot be spliced here, not that a connection is broken."""
_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)

_SIOCATMARK: Final = 0x8905  # <linux/sockios.h>

_splice: Any = getattr(os, "splice", None)


def _isUrgent(sock: socket.socket) -> bool:
    """
    Tell whether the next byte is an urgent one (RFC 9293, section 3.8.5).
    """
    try:
        return any(fcntl.ioctl(sock, _SIOCATMARK, bytes(4)))
    except OSError:
        return False


class Pipe:
    """
    A pipe of the kernel.

    @ivar reader: The descriptor that bytes come out of.
    @ivar writer: The descriptor that they go into.
    @ivar held: How many bytes are in it.
    """

    __slots__ = ("held", "reader", "writer")

    def __init__(self) -> None:
        """
        @raise OSError: No descriptor is left, or no memory for a pipe worth its while.
        """
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _CAPACITY)
        except OSError:
            # The pages that a user may have in pipes are used up, perhaps.
            if fcntl.fcntl(self.writer, fcntl.F_GETPIPE_SZ) < _LEAST:
                self.close()
                raise

    def close(self) -> None:
        """
        Drop it, and what is in it.
        """
        os.close(self.reader)
        os.close(self.writer)


class Pool:
    """
    Empty pipes.

    @ivar idle: Those that wait for their next use.
    @ivar kept: How many stalled sinks keep one.
    """

    def __init__(self) -> None:
        self.idle: list[Pipe] = []
        self.kept = 0

    def take(self) -> Pipe | None:
        """
        Take an empty pipe out.

        @return: The pipe, or L{None} where there is none.
        """
        try:
            return self.idle.pop() if self.idle else Pipe()
        except OSError:
            return None

    def give(self, pipe: Pipe) -> None:
        """
        Take a pipe back; one that still holds bytes is closed.
        """
        if pipe.held or len(self.idle) >= _IDLE:
            pipe.close()
        else:
            self.idle.append(pipe)


_pool: Final = Pool()


class Splice(Direction):
    """
    The bytes from one plain End to another.
    """

    __slots__ = ("_copies", "_pipe")

    def __init__(self, relay: Joint, source: End, sink: End) -> None:
        super().__init__(relay, source, sink)
        self._copies = _splice is None
        self._pipe: Pipe | None = None

    def carry(self) -> None:
        """
        The source is readable: have the kernel move what is there.
        """
        pipe = None if self._copies else _pool.take()
        if pipe is None:
            super().carry()
            return
        relay = self._relay
        relay.active = relay.clock.now
        source, sink = self.source.socket.fileno(), self.sink.socket.fileno()
        stream = self.source.reading
        most = _MOST if _pool.kept < _KEPT else _FEW
        for turn in range(TURNS):
            try:
                count = _splice(source, pipe.writer, most, flags=_FLAGS)
            except OSError as e:
                if e.errno != errno.EAGAIN and e.errno not in _REFUSALS:
                    stream.state, stream.problem = RESET, e.with_traceback(None)
                    break
                self._copies = e.errno != errno.EAGAIN
                count = 0 if self._copies or turn else self._again(pipe, most)
            if count <= 0:
                if turn == 0 and count == 0:
                    # The end of the stream, or what cannot be spliced, such as TCP's urgent data.  To read it tells,
                    # and takes it away: left there, the reactor would be told for ever, and the close be a reset.
                    _pool.give(pipe)
                    super().carry()
                    return
                stream.state = DRAINED
                break
            pipe.held = count
            sent = self._pour(pipe, sink)
            if sent != count:
                self._stalled(pipe, sent)
                return
            self.count += count
            if count < most:
                stream.state = DRAINED
                break
            stream.state = MORE
        _pool.give(pipe)
        if stream.state >= WANTS_WRITE:
            self._stopped()

    def _again(self, pipe: Pipe, most: int) -> int:
        """
        Nothing could be spliced from a source that was said to be readable.

        It may have been said in vain, and what comes right now is to be spliced as all else is.  Only where something
        lies there that still cannot be spliced, or an urgent byte comes next, it has to be read.

        @return: How many bytes were spliced now; 0 where to read tells what is there, C{-1} where nothing is.
        """
        source = self.source.socket
        try:
            if not source.recv(1, socket.MSG_PEEK):
                return 0
        except BlockingIOError:
            return 0 if _isUrgent(source) else -1
        except OSError:
            return 0
        try:
            spliced: int = _splice(source.fileno(), pipe.writer, most, flags=_FLAGS)
        except OSError:
            return 0
        return spliced

    def _pour(self, pipe: Pipe, sink: int) -> int:
        """
        Have the sink take what is in a pipe.

        @return: How many bytes it took, or C{-1} where it is broken.
        """
        try:
            sent: int = _splice(pipe.reader, sink, pipe.held, flags=_FLAGS)
        except BlockingIOError:
            return 0
        except OSError as e:
            if e.errno not in _REFUSALS:
                self.sink.writing.problem = e.with_traceback(None)
                return -1
            # From now on the bytes are copied, and these are the first.
            self._copies = True
            self._empty(pipe)
            return 0
        pipe.held -= sent
        return sent

    def _empty(self, pipe: Pipe) -> None:
        """
        Copy aside what is in a pipe.
        """
        data = os.read(pipe.reader, pipe.held)
        pipe.held -= len(data)
        self._unsent = memoryview(data)

    def _stalled(self, pipe: Pipe, sent: int) -> None:
        """
        The sink did not take all of what is in a pipe.
        """
        if sent < 0:
            _pool.give(pipe)
            self._broken()
            return
        self.count += sent
        if pipe.held and _pool.kept < _KEPT:
            self._pipe = pipe
            _pool.kept += 1
        else:
            if pipe.held:
                self._empty(pipe)
            _pool.give(pipe)
        self.wait()

    def _sendRest(self) -> int:
        pipe = self._pipe
        if pipe is None:
            return super()._sendRest()
        sent = self._pour(pipe, self.sink.socket.fileno())
        if not pipe.held:
            self._giveBack()
        return sent

    def _giveBack(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            _pool.kept -= 1
            _pool.give(pipe)

    @property
    def clogged(self) -> bool:
        """
        Whether bytes wait here for the sink.
        """
        return self._pipe is not None or self._unsent is not None

    def release(self) -> None:
        """
        Give up what still waits for the sink.
        """
        super().release()
        self._giveBack()
