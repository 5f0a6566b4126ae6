# -*- test-case-name: tests.status.test_process -*-
"""
How the process is: its descriptors, its memory, and how late the reactor comes to what is due.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Lag", "descriptors", "mostDescriptors", "residentBytes"]

_EVERY: Final = 0.5
"""Every how many seconds the reactor is asked how late it is."""
_REMEMBERED: Final = 120
"""How many answers are remembered: those of a minute."""


def descriptors() -> int | None:
    """
    Count the open descriptors of this process; L{None} where the system does not tell.
    """
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # The one that lists them is closed by now.
    except OSError:
        return None


def mostDescriptors() -> int | None:
    """
    Tell how many this process may have; L{None} for any number.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if most == resource.RLIM_INFINITY else most


def residentBytes() -> int | None:
    """
    Tell how much memory this process has, in bytes; L{None} where the system does not tell.
    """
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None


class Lag:
    """
    How late the reactor comes to what is due.

    @ivar last: How late it was last, in seconds.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """
        @param clock: The reactor.
        """
        self._clock = clock
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self._late: deque[float] = deque(maxlen=_REMEMBERED)
        self.last = 0.0

    def start(self) -> None:
        """
        Begin to ask.
        """
        self._due = self._clock.seconds() + _EVERY
        self._call = self._clock.callLater(_EVERY, self._ask)

    def _ask(self) -> None:
        self.last = max(0.0, self._clock.seconds() - self._due)
        self._late.append(self.last)
        self.start()

    @property
    def worst(self) -> float:
        """
        How late it was at worst in the last minute, in seconds.
        """
        return max(self._late, default=0.0)

    def stop(self) -> None:
        """
        Ask no more.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
