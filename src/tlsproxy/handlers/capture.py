# -*- test-case-name: tests.handlers.test_capture -*-
"""
A file of packets that many sessions write to.

What they write is gathered in memory and goes to the file many packets at a time.  The file is opened for that, locked,
looked at and closed again, so nothing goes wrong if somebody moves or removes it in between, or another process writes
to it, too: where the file is not as it was left, what is new in it is walked through block by block, and a new section
of pcapng begins.  A write that fails is undone up to the last whole block.  Nothing that happens to the file is told to
the sessions.

What is written is as secret as what passes: the file is made for its owner alone, and one that strangers own, can read
or have put there as a link to another is not written to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from weakref import WeakValueDictionary

from twisted.logger import Logger

from tlsproxy import __version__
from tlsproxy.errors import TLSProxyError
from tlsproxy.wire.pcapng import HEADER, interface, isSection, packet, section, whole

__all__ = ["LEAST", "Capture", "captureAt"]

LEAST: Final = 1_000_000
"""The least bytes after which a file may be replaced: more than is written at once."""

_GATHERED: Final = 262144
"""As many bytes are gathered before they are written."""
_MOST_GATHERED: Final = 4 * _GATHERED
"""As many may be gathered while another process has the file."""
_AGAIN: Final = 1.0
"""Seconds after which a file that could not be written is tried again."""
_TELL: Final = 60.0
"""Seconds after which it is told again that a file cannot be written."""
_PIECE: Final = 1 << 20
"""As many bytes of a file are looked at in one go: more than a block has."""
_MOST_WALKED: Final = 1 << 28
"""The most bytes of a file that are walked through, in up to half a second, before it is added to."""
_MODE: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_log = Logger()


class _Unfit(TLSProxyError):
    """
    A file is not one to write packets to.
    """


class Capture:
    """
    A file of packets.

    @ivar path: The file.
    @ivar size: The most bytes that it may have before a new one takes its place; 0 for any number.
    @ivar keep: How many files that were full are kept: C{FILE.1} is the newest of them.
    @ivar now: The time of the packets, in nanoseconds since 1970.
    @ivar lost: How many packets could not be written since the file could be written last.
    @ivar begun: How many sessions have been begun in it.
    """

    def __init__(
        self,
        path: str,
        size: int = 0,
        keep: int = 5,
        now: Callable[[], int] = time.time_ns,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.size = size
        self.keep = keep
        self.now = now
        self.lost = self.begun = 0
        self._seconds = seconds
        self._interfaces: dict[str, int] = {}
        self._start = b""
        self._blocks: list[bytes] = []
        self._gathered = 0
        self._packets = 0
        self._known = (-1, -1, 0)  # The file, and up to where it is known to have whole blocks.
        self._inside = False  # Whether a section of ours ends there.
        self._again: float | None = None
        self._told = 0.0

    def interface(self, name: str) -> int:
        """
        Find the number of an interface, or give it one.
        """
        number = self._interfaces.get(name)
        if number is None:
            # It has to be described at the beginning of the section.
            self.flush()
            self._inside = False
            number = self._interfaces[name] = len(self._interfaces)
            self._start = section(f"tlsproxy {__version__.public()}") + b"".join(map(interface, self._interfaces))
        return number

    def add(self, number: int, header: bytes, data: bytes | memoryview = b"", comment: str = "") -> bool:
        """
        Write a packet, now or later.

        @param number: The number of its interface.
        @param header: Its headers.
        @param data: What comes after them.
        @param comment: What to tell of it.
        @return: Whether it is the first that has not been written, so that L{flush} should be called in a while.
        """
        block = packet(number, self.now(), header, data, comment)
        blocks = self._blocks
        blocks.append(block)
        self._packets += 1
        self._gathered += len(block)
        if self._gathered >= _GATHERED:
            self.flush()
            return False
        return len(blocks) == 1

    def flush(self) -> bool:
        """
        Write what was gathered.  What cannot be written is counted as lost.

        @return: Whether nothing is left to be written, as it is only while another process writes.
        """
        if not self._blocks:
            return True
        if self._again is not None and self._seconds() < self._again:
            self._lose()
            return True
        data = b"".join(self._blocks)
        try:
            self._write(data)
        except BlockingIOError:
            # Another process has it.  It should not have it for long.
            self._blocks = [data]
            if self._gathered >= _MOST_GATHERED:
                self._failed("another process has it locked")
        except OSError as e:
            self._failed("it is a symbolic link" if e.errno == errno.ELOOP else e.strerror or str(e))
        except _Unfit as e:
            self._failed(str(e))
        except Exception as e:
            # Also a name that no file can have is nothing to the sessions.
            self._failed(f"{type(e).__name__}: {e}")
        else:
            self._empty()
            if self._again is not None:
                _log.info("{path} is written to again; {lost} packets were lost", path=self.path, lost=self.lost)
                self._again = None
                self.lost = 0
        return not self._blocks

    def _empty(self) -> None:
        self._blocks = []
        self._gathered = self._packets = 0

    def _lose(self) -> None:
        self.lost += self._packets
        self._empty()

    def _failed(self, problem: str) -> None:
        now = self._seconds()
        self._lose()
        if self._again is None or now >= self._told + _TELL:
            _log.warn(
                "packets cannot be written to {path}, {lost} are lost: {problem}; the sessions go on, and it is tried "
                "again every second",
                path=self.path,
                lost=self.lost,
                problem=problem,
            )
            self._told = now
        self._again = now + _AGAIN

    # -- the file ---------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        """
        Append whole blocks to the file.
        """
        # A second time where a file has just been replaced, and further ones where other processes do that, too.
        for _ in range(5):
            descriptor = os.open(self.path, _MODE, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._append(descriptor, data):
                    return
            finally:
                os.close(descriptor)
        raise _Unfit("other processes keep replacing it")

    def _append(self, descriptor: int, data: bytes) -> bool:
        """
        Append whole blocks to the open file.

        @return: Whether that was done; if not, another file has its name by now.
        """
        status = os.fstat(descriptor)
        self._check(status)
        try:
            named = os.lstat(self.path)
        except FileNotFoundError:
            return False
        if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
            return False
        size = status.st_size
        if (status.st_dev, status.st_ino, size) != self._known:
            self._inside = False
            if not self._endsWhole(descriptor, status):
                self._replace()
                return False
            self._known = status.st_dev, status.st_ino, size
        if not self._inside:
            data = self._start + data
        if self.size and size and size + len(data) > self.size:
            self._replace()
            return False
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        self._known = status.st_dev, status.st_ino, size + len(data)
        self._inside = True
        return True

    def _check(self, status: os.stat_result) -> None:
        """
        Make sure that the file is one to write secrets to.
        """
        if not stat.S_ISREG(status.st_mode):
            raise _Unfit("it is no regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise _Unfit(f"it belongs to another user, of number {status.st_uid}")
        if status.st_nlink > 1:
            raise _Unfit("it is the same file as another, by a hard link")
        if status.st_mode & 0o007:
            raise _Unfit("everybody may open it, and it would hold what TLS protects: chmod o= it")

    def _endsWhole(self, descriptor: int, status: os.stat_result) -> bool:
        """
        Tell whether a file that somebody else has written to last ends with a whole block, as far as can be told soon.
        """
        size = status.st_size
        if size and not isSection(os.pread(descriptor, HEADER, 0)):
            raise _Unfit("it is no pcapng file as tlsproxy writes it, and is left alone")
        device, inode, place = self._known
        if (device, inode) == (status.st_dev, status.st_ino) and self._isWhole(descriptor, place, size):
            return True
        # Another file, or another in its place.
        return self._isWhole(descriptor, 0, size)

    def _isWhole(self, descriptor: int, place: int, size: int) -> bool:
        """
        Tell whether there are just whole blocks between two places of a file.

        The last bytes alone do not tell, since a client can choose what they are after a cut.
        """
        if size - place > _MOST_WALKED:
            return False
        while place < size:
            count = whole(os.pread(descriptor, min(_PIECE, size - place), place))
            if not count:
                return False
            place += count
        return place == size

    def _replace(self) -> None:
        """
        Make room for a new file.
        """
        with suppress(FileNotFoundError):
            if not self.keep:
                os.unlink(self.path)
        for number in range(self.keep - 1, -1, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number}" if number else self.path, f"{self.path}.{number + 1}")


_captures: Final[WeakValueDictionary[str, Capture]] = WeakValueDictionary()


def captureAt(path: str | os.PathLike[str], size: int, keep: int) -> Capture:
    """
    Find the one L{Capture} of a file, however many routes name it; the last who asks decides on its size.

    @param path: The file, whether it is there or not.
    @param size: See L{Capture.size}.
    @param keep: See L{Capture.keep}.
    """
    folder, name = os.path.split(os.path.abspath(path))
    key = os.path.join(os.path.realpath(folder), name)
    capture = _captures.get(key)
    if capture is None:
        capture = _captures[key] = Capture(key, size, keep)
    capture.size, capture.keep = size, keep
    return capture
