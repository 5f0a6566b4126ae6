# -*- test-case-name: tests.test_wholefiles -*-
"""
Files that are written whole or not at all, whenever the machine stops.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["createFile", "replaceFile"]


def createFile(path: Path, data: bytes, mode: int) -> None:
    """
    Write a file that did not exist.

    @param mode: Its mode, whatever the process takes away of the modes of files.
    @raise FileExistsError: It exists, or a symbolic link of that name.
    @raise OSError: It cannot be written.
    """
    temporary = _written(path, data, mode)
    try:
        os.link(temporary, path)
    finally:
        temporary.unlink()
    _settle(path.parent)


def replaceFile(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """
    Write a file so that who reads it finds the old one or the new one.

    @param mode: As for L{createFile}.
    @param owner: The user and the group that it belongs to; L{None} for those of the process.
    @raise OSError: It cannot be written.
    """
    temporary = _written(path, data, mode, owner)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    _settle(path.parent)


def _written(path: Path, data: bytes, mode: int, owner: tuple[int, int] | None = None) -> Path:
    """
    Write a file beside the one that is meant.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _settle(folder: Path) -> None:
    """
    Have the names in a folder on disk, too.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
