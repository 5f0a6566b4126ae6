# -*- test-case-name: tests.test_watching -*-
"""
Seeing that files have changed.

They are looked at by the clock.  What the kernel would tell by itself it does not tell of network file systems, nor of
what a link leads to, and it would have to be asked for each folder on the way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Signature", "Watch", "signatureOf", "signaturesOf"]

Signature = tuple[int, int, int, int, int]
"""What tells two states of a file apart: its times of change, its size, its number and its file system."""

_TICK: Final = 0.5
"""How often there is a look, in seconds."""
_GLANCE: Final = 2000
"""The most files that are looked at in one tick, which takes some milliseconds."""
_LONGEST: Final = 6
"""After how many ticks of change upon change it is told all the same."""


def signatureOf(path: str) -> Signature | None:
    """
    Look at a file, or at what a link leads to.

    @return: L{None} where there is none, or none that can be reached.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    # A change of rights alone may make a file readable.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def signaturesOf(path: str) -> dict[str, Signature | None]:
    """
    Look at a file, or at a folder and all that is right inside.
    """
    found = {path: signatureOf(path)}
    try:
        names = os.listdir(path)
    except (OSError, ValueError):
        return found  # It is no folder.
    for name in names:
        inside = os.path.join(path, name)
        found[inside] = signatureOf(inside)
    return found


class Watch:
    """
    Looks at files.

    Of very many, some are looked at in each tick, in turn.  Their folders come first, if those are fewer, because who
    writes files well renames them into their place, which changes the folder.

    @ivar known: The files, each with how it was at the last look.
    """

    def __init__(self, clock: IReactorTime, changed: Callable[[], object]) -> None:
        """
        @param clock: The clock.
        @param changed: Called when something has changed, and one tick has passed without another change: what belongs
            together, such as a certificate and its key, is then there.
        """
        self._clock = clock
        self._changed = changed
        self.known: dict[str, Signature | None] = {}
        self._folders: dict[str, list[str]] = {}
        self._turn: list[str] = []
        self._waited = 0
        self._timer: IDelayedCall | None = None

    def look(self, files: Mapping[str, Signature | None]) -> None:
        """
        Look at these files from now on.

        @param files: Each with how it was when it was read.
        """
        self.known = dict(files)
        self._folders = {}
        self._turn = []
        if len(files) > _GLANCE:
            for path in files:
                self._folders.setdefault(os.path.dirname(path), []).append(path)
            if len(self._folders) > _GLANCE // 2:
                self._folders = {}
        self._seen = {folder: signatureOf(folder) for folder in self._folders}

    def start(self) -> None:
        """
        Begin.
        """
        if self._timer is None:
            self._timer = self._clock.callLater(_TICK, self._tick)

    def stop(self) -> None:
        """
        Look no more.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._waited = 0

    def _tick(self) -> None:
        self._timer = None
        changed = self._glance()
        if changed or self._waited:
            self._waited += 1
        if self._waited and (not changed or self._waited > _LONGEST):
            self._waited = 0
            self._changed()
        self.start()

    def _glance(self) -> bool:
        """
        Look at what is due.

        @return: Whether anything has changed.
        """
        due: list[str] = []
        for folder, before in self._seen.items():
            found = signatureOf(folder)
            if found != before:
                self._seen[folder] = found
                due += self._folders[folder]
        if not self._turn:
            self._turn = list(self.known)
        some = _GLANCE - len(self._seen)
        due += self._turn[-some:]
        del self._turn[-some:]
        changed = False
        for path in due:
            found = signatureOf(path)
            if found != self.known[path]:
                self.known[path] = found
                changed = True
        return changed
