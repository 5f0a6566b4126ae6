# -*- test-case-name: tests.handlers -*-
"""
What the tests of files of packets have in common.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.handlers.reading import packets
from tlsproxy.handlers.capture import Capture

NOW = 1_700_000_000_000_000_000


class CaptureCase(SynchronousTestCase):
    """
    A test of a file.

    @ivar folder: Where it lies.
    @ivar path: The file.
    @ivar seconds: The time.
    """

    def setUp(self) -> None:
        """
        Make the folder, and listen to the log.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.path = self.folder / "shop.pcapng"
        self.seconds = 100.0
        self._events = EventLoggingObserver()
        globalLogPublisher.addObserver(self._events)
        self.addCleanup(globalLogPublisher.removeObserver, self._events)
        self._seen = 0

    def capture(self, size: int = 0, keep: int = 5) -> Capture:
        """
        Make what writes the file.
        """
        return Capture(str(self.path), size, keep, lambda: NOW, lambda: self.seconds)

    def read(self, path: Path | None = None) -> list[bytes]:
        """
        Read the packets of a file.
        """
        return [packet.data for packet in packets((path or self.path).read_bytes())]

    def log(self) -> list[str]:
        """
        Take what was logged.
        """
        events = list(self._events)[self._seen :]
        self._seen += len(events)
        return [formatEvent(event) for event in events if event["log_namespace"].startswith("tlsproxy")]

    def failing(self, problem: int, allowed: int = 0) -> None:
        """
        Have the disk take only so many bytes more, in small pieces, and fail then.
        """
        write = os.write

        def fail(descriptor: int, data: Any) -> int:
            nonlocal allowed
            count = write(descriptor, bytes(data[: min(allowed, 700)])) if allowed else 0
            allowed -= count
            if not count:
                raise OSError(problem, os.strerror(problem))
            return count

        self.patch(os, "write", fail)
