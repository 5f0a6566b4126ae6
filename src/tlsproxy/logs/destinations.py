# -*- test-case-name: tests.logs.test_destinations -*-
"""
Where the lines of a log go: into a file, to a stream of the process, to syslog.

Nothing here ever waits.  A line that cannot be written at once is lost, which is the better of two evils: whoever reads
the log slowly must not slow down those who are served.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import syslog
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["FACILITIES", "Destination", "FileLog", "StreamLog", "SyslogLog", "destinationFor", "parseDestination"]

FACILITIES: Final = {
    name: getattr(syslog, f"LOG_{name.upper()}")
    for name in ("daemon", "user", "auth", "mail", "syslog", *(f"local{number}" for number in range(8)))
}
"""The facilities of syslog that a log may have."""
_STREAMS: Final = {"stdout": 1, "stderr": 2}
_SOCKETS: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")
_PIECE: Final = 4096
"""As much as a pipe that can be written to takes at once (PIPE_BUF, pipe(7))."""
_LOOK: Final = 1.0
"""How often it is looked whether a file is still the one of that name, or whether syslog is there again, in seconds."""
_MODE: Final = 0o640


class Destination(Protocol):
    """
    Where lines go.
    """

    def write(self, line: bytes, priority: int) -> None:
        """
        Write a line, at once or not at all.

        @param line: The line, and its end.
        @param priority: How much it matters, as syslog has it.
        @raise OSError: It could not be written.
        """

    def reopen(self) -> None:
        """
        Open anew what may have been moved away.

        @raise OSError: It could not be opened; what was open stays so.
        """

    def close(self) -> None:
        """
        Write no more.
        """


def parseDestination(text: str, resolve: Callable[[str], str]) -> str:
    """
    Read where a log is to go.

    @param text: C{stdout}, C{stderr}, C{syslog}, C{syslog:FACILITY}, or the name of a file.
    @param resolve: Makes a path of what a file is called.
    @return: The same, with the file's whole path.
    @raise ValueError: It is nothing of that.
    """
    name, colon, facility = text.partition(":")
    if not text or text in _STREAMS:
        return text
    if name == "syslog":
        if colon and facility not in FACILITIES:
            raise ValueError(f"{facility!r} is no facility of syslog: give one of {', '.join(FACILITIES)}")
        return text
    path = resolve(text)
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: give the name of a file")
    if not os.path.isdir(os.path.dirname(path)):
        raise ValueError(f"{path}: there is no folder {os.path.dirname(path)}")
    return path


def destinationFor(text: str, complain: Callable[[str], object]) -> Destination:
    """
    Open where a log goes.

    @param text: As L{parseDestination} gives it.
    @param complain: Is told what is wrong, where no line is lost by it.
    @raise OSError: A file cannot be opened.
    """
    if text in _STREAMS:
        return StreamLog(_STREAMS[text])
    name, _, facility = text.partition(":")
    if name == "syslog":
        return SyslogLog(FACILITIES[facility or "daemon"])
    return FileLog(text, complain)


class FileLog:
    """
    A file, which others may move away.

    Where nobody says so, that is found out within a second of the next line.  A link is followed only where it was one
    from the start: whoever may move the file away could else have us write into any other that we may write to.
    """

    def __init__(
        self, path: str, complain: Callable[[str], object], seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """
        @param path: Its path.
        @param complain: Is told where it cannot be opened anew, and the old one is written to.
        @param seconds: Tells the time.
        @raise OSError: It cannot be opened.
        """
        self.path = path
        self._complain = complain
        self._seconds = seconds
        self._descriptor = -1
        self._torn = False
        self._follow = 0 if os.path.islink(path) else os.O_NOFOLLOW
        self.reopen()

    def reopen(self) -> None:
        """
        Open the file of that name.
        """
        self._look = self._seconds() + _LOOK
        # Not to wait is for what is no plain file, such as a pipe with a name.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        flags |= self._follow
        descriptor = os.open(self.path, flags, _MODE)
        self.close()
        self._descriptor = descriptor
        self._torn = False
        here = os.fstat(descriptor)
        self._which = here.st_dev, here.st_ino

    def write(self, line: bytes, priority: int) -> None:
        """
        Append a line.
        """
        if self._seconds() >= self._look:
            self._lookAgain()
        if self._torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._torn = written < len(line)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _lookAgain(self) -> None:
        self._look = self._seconds() + _LOOK
        try:
            there = os.stat(self.path)
            if (there.st_dev, there.st_ino) == self._which:
                return
        except OSError:
            pass
        try:
            self.reopen()
        except OSError as e:
            self._complain(f"{self.path} cannot be opened anew, the log goes on in the old file: {e.strerror}")

    def close(self) -> None:
        """
        Close the file.
        """
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StreamLog:
    """
    A stream that the process was started with.

    It belongs to others, too, so it cannot be told not to wait; it is asked first, and gets no more than fits.
    """

    def __init__(self, descriptor: int) -> None:
        """
        @param descriptor: Its descriptor, which stays open.
        """
        self._descriptor = descriptor
        self._torn = False
        self._poll: select.poll | None = None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    def write(self, line: bytes, priority: int) -> None:
        """
        Write a line, as far as it fits.
        """
        if self._torn:
            line = b"\n" + line
        rest = memoryview(line)
        while rest:
            if self._poll is not None and not self._writable(self._poll):
                raise BlockingIOError(errno.EAGAIN, "its reader does not keep up")
            written = os.write(self._descriptor, rest[:_PIECE])
            rest = rest[written:]
            self._torn = bool(rest)

    @staticmethod
    def _writable(poll: select.poll) -> bool:
        return any(events & (select.POLLOUT | select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))

    def reopen(self) -> None:
        """
        There is nothing to open.
        """

    def close(self) -> None:
        """
        It is not ours to close.
        """


class SyslogLog:
    """
    The syslog of this machine: one datagram a line, in the form of the C library.
    """

    def __init__(
        self, facility: int, paths: tuple[str, ...] = _SOCKETS, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """
        @param facility: One of L{FACILITIES}.
        @param paths: Where it may listen.
        @param seconds: Tells the time.
        """
        self._facility = facility
        self._paths = paths
        self._seconds = seconds
        self._socket: socket.socket | None = None
        self._why: OSError | None = None
        self._look = 0.0
        self._stamped = 0
        self._head = ""

    def write(self, line: bytes, priority: int) -> None:
        """
        Send a line; further lines in it, such as a traceback's, are sent one by one.
        """
        head = b"<%d>%s" % (self._facility | priority, self._stamp())
        for one in line.rstrip(b"\n").split(b"\n"):
            self._send(head + one)

    def _send(self, datagram: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.send(datagram)
                return
            except BlockingIOError:
                raise BlockingIOError(errno.EAGAIN, "syslog does not keep up") from None
            except OSError as e:
                if e.errno == errno.EMSGSIZE:
                    raise
                self._look = 0.0  # It was started anew.
        self.reopen()
        assert self._socket is not None
        self._socket.send(datagram)

    def reopen(self) -> None:
        """
        Connect with it.
        """
        if self._why is not None and self._seconds() < self._look:
            raise self._why
        self.close()
        self._look, self._why = self._seconds() + _LOOK, None
        for path in self._paths:
            connecting = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                connecting.connect(path)
            except OSError as e:
                connecting.close()
                self._why = self._why or OSError(e.errno, f"syslog cannot be reached at {path}: {e.strerror}")
            else:
                self._socket, self._why = connecting, None
                return
        if self._why is not None:
            raise self._why

    def _stamp(self) -> bytes:
        now = int(time.time())
        if now != self._stamped:
            self._stamped = now
            at = time.localtime(now)
            month = "JanFebMarAprMayJunJulAugSepOctNovDec"[at.tm_mon * 3 - 3 : at.tm_mon * 3]  # In no other language.
            clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
            self._head = f"{month} {at.tm_mday:2} {clock} tlsproxy[{os.getpid()}]: "
        return self._head.encode("ascii")

    def close(self) -> None:
        """
        Disconnect.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None
