# -*- test-case-name: tests.test_sdnotify -*-
"""
Telling systemd how the process is, in the words of sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

from twisted.logger import Logger

__all__ = ["Notifier", "now"]

_log = Logger()


def now() -> str:
    """
    Tell the time as systemd wants it with C{RELOADING=1}.
    """
    return f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


class Notifier:
    """
    Tells whoever has started the process, if that wants to be told.

    @ivar watchdog: Every how many seconds it wants to hear that we are alive, as a precaution twice as often as it
        says; 0 for never.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """
        @param environ: The environment.  What is found there is taken out, so that no child of ours tells in our place.
        """
        path = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", "")
        self._socket: socket.socket | None = None
        self.watchdog = 0.0
        self._connect(path)
        if path and process in ("", str(os.getpid())) and microseconds.isdecimal():
            self.watchdog = int(microseconds) / 2e6

    def _connect(self, path: str) -> None:
        if not path:
            return
        # Now, while the path can still be reached: the process may yet change its root, and its user.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
        except (OSError, ValueError) as e:
            sock.close()
            _log.warn("systemd cannot be told how we are: NOTIFY_SOCKET={path}: {why}", path=path, why=str(e))
        else:
            self._socket = sock

    def tell(self, *words: str) -> None:
        """
        Tell something, and wait for nobody.

        @param words: Assignments, as in C{READY=1}, in one line each.
        """
        if self._socket is None:
            return
        try:
            self._socket.send("\n".join(word.replace("\n", " ") for word in words).encode("utf-8", "replace"))
        except BlockingIOError:
            pass  # It has enough to read.
        except OSError as e:
            _log.warn("systemd can no longer be told how we are: {why}", why=e.strerror or str(e))
            self.close()

    def close(self) -> None:
        """
        Tell nothing more.
        """
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
