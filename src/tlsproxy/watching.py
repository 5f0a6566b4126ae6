# -*- test-case-name: tests.test_watching -*-
"""
Seeing that files have changed.

They are looked at by the clock.  What the kernel would tell by itself it does not tell of network file systems, nor of
what a link leads to, and it would have to be asked for each folder on the way.

A network file system may hang, and then whoever asks it anything hangs with it.  So a thread looks, and everything else
goes on meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

__all__ = ["Elsewhere", "Signature", "Watch", "inPlace", "signatureOf", "signaturesOf"]

_log = Logger()

_T = TypeVar("_T")

Signature = tuple[int, int, int, int, int]
"""What tells two states of a file apart: its times of change, its size, its number and its file system."""

_TICK: Final = 0.5
"""How often there is a look, in seconds."""
_GLANCE: Final = 2000
"""The most files that are looked at in one tick, which takes some milliseconds."""
_LONGEST: Final = 6
"""After how many ticks of change upon change it is told all the same."""
_PATIENCE: Final = 5.0
"""How long a look may take, in seconds, before it is told that it takes so long."""


class Elsewhere(Protocol):
    """
    What has something done, best in a thread of its own, and tells what came of it.
    """

    def __call__(self, work: Callable[[], _T], /) -> Deferred[_T]:
        """
        Have it done.
        """


def inPlace(work: Callable[[], _T]) -> Deferred[_T]:
    """
    Do something in the thread of the reactor, which waits for it.
    """
    done: Deferred[_T] = Deferred()
    done.addCallback(lambda _: work())
    done.callback(None)  # type: ignore[arg-type]
    return done


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


def _glance(
    folders: Mapping[str, Iterable[str]], before: Mapping[str, Signature | None], some: Iterable[str]
) -> tuple[dict[str, Signature | None], dict[str, Signature | None]]:
    """
    Look at folders, at the files in those that have changed, and at some files besides.

    @param folders: The folders, each with the files in it.
    @param before: How those folders were that have been looked at.
    @param some: The files.
    @return: How the folders are, and how the files are.
    """
    seen = {folder: signatureOf(folder) for folder in folders}
    due = [path for folder in before if seen[folder] != before[folder] for path in folders[folder]]
    return seen, {path: signatureOf(path) for path in (*due, *some)}


class Watch:
    """
    Looks at files.

    Of very many, some are looked at in each tick, in turn.  Their folders come first, if those are fewer, because who
    writes files well renames them into their place, which changes the folder.

    @ivar known: The files, each with how it was at the last look.
    """

    def __init__(self, clock: IReactorTime, changed: Callable[[], object], elsewhere: Elsewhere = inPlace) -> None:
        """
        @param clock: The clock.
        @param changed: Called when something has changed, and one tick has passed without another change: what belongs
            together, such as a certificate and its key, is then there.
        @param elsewhere: Has the files looked at, best in a thread of its own.
        """
        self._clock = clock
        self._changed = changed
        self._elsewhere = elsewhere
        self.known: dict[str, Signature | None] = {}
        self._folders: dict[str, list[str]] = {}
        self._seen: dict[str, Signature | None] = {}
        self._turn: list[str] = []
        self._waited = 0
        self._runs = False
        self._timer: IDelayedCall | None = None
        # What is looked at now, if anything; of that which is no more asked for, the answer is not heeded.
        self._looking: object = None
        self._asked: object = None
        self._late: IDelayedCall | None = None
        self._hangs = False

    def look(self, files: Mapping[str, Signature | None]) -> None:
        """
        Look at these files from now on.

        @param files: Each with how it was when it was read.
        """
        self.known = dict(files)
        self._folders = {}
        self._seen = {}
        self._turn = []
        self._asked = None
        if len(files) > _GLANCE:
            for path in files:
                self._folders.setdefault(os.path.dirname(path), []).append(path)
            if len(self._folders) > _GLANCE // 2:
                self._folders = {}

    def start(self) -> None:
        """
        Begin.
        """
        self._runs = True
        if self._timer is None and self._looking is None:
            self._timer = self._clock.callLater(_TICK, self._tick)

    def stop(self) -> None:
        """
        Look no more.  A look that hangs is left alone.
        """
        self._runs = False
        self._asked = None
        for timer in (self._timer, self._late):
            if timer is not None:
                timer.cancel()
        self._timer = self._late = None
        self._waited = 0

    def _tick(self) -> None:
        """
        Look at what is due.
        """
        self._timer = None
        if not self._turn:
            self._turn = list(self.known)
        some = _GLANCE - len(self._folders)
        due = self._turn[-some:]
        del self._turn[-some:]
        self._asked = self._looking = look = object()
        self._late = self._clock.callLater(_PATIENCE, self._hang)
        # It has what it needs, since all of it may be another until it is done.
        looking = self._elsewhere(partial(_glance, dict(self._folders), dict(self._seen), due))
        looking.addBoth(self._looked, look)

    def _hang(self) -> None:
        self._late = None
        self._hangs = True
        _log.warn(
            "a file system does not answer, so files that change are not noticed until it does; what was read before "
            "goes on"
        )

    def _looked(self, found: object, look: object) -> None:
        """
        It has been looked.
        """
        self._looking = None
        late, self._late = self._late, None
        if late is not None:
            late.cancel()
        if self._hangs:
            self._hangs = False
            if self._runs:
                _log.warn("the file system answers again, and files that change are noticed")
        if look is self._asked:
            self._heed(found)
        if self._runs:
            self.start()

    def _heed(self, found: object) -> None:
        changed = False
        if isinstance(found, Failure):
            _log.failure("files could not be looked at", found)
        elif isinstance(found, tuple):
            self._seen, files = found
            for path, signature in files.items():
                if signature != self.known[path]:
                    self.known[path] = signature
                    changed = True
        if changed or self._waited:
            self._waited += 1
        if self._waited and (not changed or self._waited > _LONGEST):
            self._waited = 0
            self._changed()
