# -*- test-case-name: tests.tls.test_files -*-
"""
Files with certificates and keys, as they are on disk: read whole, with one clear sentence where that fails, and with a
stamp that tells whether they are still the same.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import time
from io import RawIOBase
from typing import NamedTuple

from attrs import field, frozen

from tlsproxy.tls.printing import printable

__all__ = ["CertificateProblem", "FileRead", "Stamp", "readFile", "readWhole", "stampOf"]

_SETTLED = 2_000_000_000
"""
Nanoseconds after which a file that is changed again gets another stamp, on every file system: some keep whole seconds
only, and some two.
"""

_LARGEST = 16 * 1024 * 1024  # bytes
_PATIENCE = 5.0  # seconds
_PAUSE = 0.01  # seconds
_PIECE = 65536

_EFFECTIVE = os.access in os.supports_effective_ids


class CertificateProblem(ValueError):
    """
    A file or a name cannot be used: one sentence, which names it as it was given and says what to do.
    """


class Stamp(NamedTuple):
    """
    What changes when a file is changed or replaced, or is given another mode or owner.
    """

    path: str
    mode: int
    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @property
    def settled(self) -> bool:
        """
        Whether a change from now on would show: in the very moment in which a file is written it can be written again,
        and look the same.
        """
        return time.time_ns() - max(self.modified, self.changed) > _SETTLED


def _stamp(path: str, found: os.stat_result) -> Stamp | None:
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stamp(path, found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def stampOf(path: str) -> Stamp | None:
    """
    Look at a file without reading it.

    @return: its stamp, or C{None} if it could not be read now, or is no regular file.
    """
    try:
        readable = os.access(path, os.R_OK, effective_ids=_EFFECTIVE)
        return _stamp(path, os.stat(path)) if readable else None
    except (OSError, ValueError):
        return None


@frozen
class FileRead:
    """
    A file as it was read.

    @ivar path: the path as given.
    @ivar data: its content.
    @ivar mode: its mode when it was read, with the file type.
    @ivar stamp: its stamp; C{None} if it is no regular file, or was changed while it was read or just before.
    """

    path: str
    data: bytes = field(repr=False)
    mode: int
    stamp: Stamp | None = None

    @property
    def name(self) -> str:
        """
        The path, safe to print.
        """
        return printable(self.path)

    @property
    def quoted(self) -> str:
        """
        The path, safe to print, as a word of a shell command.
        """
        return printable(shlex.quote(self.path))

    def openToOthers(self, content: str = "a private key") -> str | None:
        """
        Warn if others than the owner can reach the file, which is for files with a private key.

        @param content: what is secret in it, in words.

        @return: a sentence, or C{None} if all is well or if this is no regular file.
        """
        mode = stat.S_IMODE(self.mode)
        if not stat.S_ISREG(self.mode) or not mode & 0o077:
            return None
        return (
            f"{self.name} holds {content} and is open to others than its owner (mode {mode:04o}): "
            f"run chmod 600 {self.quoted}"
        )


def readWhole(path: str) -> tuple[bytes, os.stat_result, os.stat_result]:
    """
    Read a file, and come to an end with whatever somebody has put into its place: a process that waits for a pipe which
    nothing comes out of could not be stopped, and a device may go on for ever.

    @return: its content, and what the system says of it before that was read, and after.

    @raise OSError: if it cannot be read.
    @raise ValueError: if no file could have that path.
    """
    with open(path, "rb", buffering=0, opener=_opened) as file:
        # The open file is asked, not the path: the answer is about the bytes that are read.
        before = os.fstat(file.fileno())
        data = _content(file, before.st_mode)
        return data, before, os.fstat(file.fileno())


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _content(file: RawIOBase, mode: int) -> bytes:
    data = bytearray()
    end = time.monotonic() + _PATIENCE
    while True:
        piece = file.read(_PIECE)
        if piece:
            data += piece
            if len(data) > _LARGEST:
                raise OSError(errno.EFBIG, f"it has more than {_LARGEST >> 20} MiB")
        elif piece is not None and (data or not stat.S_ISFIFO(mode)):
            return bytes(data)
        elif time.monotonic() < end:
            time.sleep(_PAUSE)  # Who writes into a pipe may not have opened it.
        else:
            raise OSError(errno.ETIMEDOUT, f"it has no end within {_PATIENCE:g} s")


def readFile(path: str, wanted: str) -> FileRead:
    """
    Read a file.

    @param path: the file.
    @param wanted: what it should be, in words for the messages.

    @raise CertificateProblem: if it cannot be read.
    """
    try:
        data, before, after = readWhole(path)
    except (OSError, ValueError) as error:
        raise CertificateProblem(f"{printable(path)} {_whyUnreadable(error, wanted)}") from error
    stamp = _stamp(path, after)
    if stamp is not None and (stamp != _stamp(path, before) or not stamp.settled):
        stamp = None
    return FileRead(path, data, after.st_mode, stamp)


def _whyUnreadable(error: OSError | ValueError, wanted: str) -> str:
    """
    Say what is wrong with a path, and what to do about it.
    """
    match error:
        case FileNotFoundError():
            return f"does not exist: give the path of {wanted}"
        case IsADirectoryError():
            return f"is a directory: give the path of {wanted}"
        case PermissionError():
            return f"may not be read by user id {os.geteuid()}: change its owner or its permissions"
        case OSError():
            return f"cannot be read ({error.strerror}): give the path of {wanted}"
        case _:
            return f"is no path that can be opened: give the path of {wanted}"
