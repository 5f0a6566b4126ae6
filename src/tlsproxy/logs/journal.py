# -*- test-case-name: tests.logs.test_journal -*-
"""
What keeps the log: an observer of events that never fails, and never waits.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import ILogObserver, LogLevel
from zope.interface import implementer

from tlsproxy.logs.destinations import Destination
from tlsproxy.logs.lines import Lines
from tlsproxy.logs.noise import Noise

__all__ = ["Complaints", "Journal"]

_PRIORITIES: Final = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""The priorities of syslog."""
_AGAIN: Final = 60.0
"""The time after which the same complaint is told again, in seconds."""


@implementer(ILogObserver)
class Journal:
    """
    Writes events as lines to a destination.

    A line that cannot be written is lost and counted; the log tells how many as soon as it is written again.

    @ivar lost: How many lines are lost that nobody has been told of.
    """

    def __init__(
        self,
        destination: Destination,
        lines: Lines,
        level: Any,
        complain: Callable[[str], object],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param destination: Where the lines go.
        @param lines: Makes them.
        @param level: The least level that tlsproxy itself logs.
        @param complain: Is told what is wrong with the log.
        @param seconds: Tells the time.
        """
        self._destination = destination
        self._lines = lines
        self._told = frozenset(one for one in LogLevel.iterconstants() if one >= level)
        self._complain = complain
        self._noise = Noise(seconds)
        self.lost = 0
        self._why = ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        """
        Log an event.
        """
        namespace = event.get("log_namespace")
        if isinstance(namespace, str) and namespace.startswith("tlsproxy"):
            if event.get("log_level") not in self._told:
                return
        if self._noise.pending:
            for summary in self._noise.due():
                self._write(summary)
        if namespace == "tlsproxy.session":
            self._write(event)
        elif (quiet := self._noise.heard(event)) is not None:
            self._write(quiet)

    def _write(self, event: Mapping[str, Any]) -> None:
        try:
            line = self._lines(event)
        except Exception as e:
            line = self._lines(_event(LogLevel.error, "an event cannot be told: {what}", what=type(e).__name__))
        if not line:
            return
        level = event.get("log_level")
        try:
            if self.lost:
                missing = _event(
                    LogLevel.warn, "{lost} lines of this log were lost: {reason}", lost=self.lost, reason=self._why
                )
                self._destination.write(_encoded(self._lines(missing)), _PRIORITIES["warn"])
                self.lost = 0
            self._destination.write(_encoded(line), _PRIORITIES[level.name] if level is not None else 6)
        except OSError as e:
            self.lost += 1
            self._why = e.strerror or str(e)
            self._complain(f"lines of the log are lost: {self._why}")

    def reopen(self) -> None:
        """
        Open the log's file anew, after it was moved away.  What cannot be opened is told, and the old one kept.
        """
        try:
            self._destination.reopen()
        except OSError as e:
            self._complain(f"the log cannot be opened anew: {e.strerror or e}")

    def close(self) -> None:
        """
        Tell what is still to be told, and write no more.
        """
        for summary in self._noise.due(now=True):
            self._write(summary)
        self._destination.close()


def _event(level: Any, form: str, **facts: object) -> dict[str, Any]:
    return {
        "log_time": time.time(),
        "log_level": level,
        "log_namespace": "tlsproxy.logs",
        "log_format": form,
        **facts,
    }


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


class Complaints:
    """
    Tells on standard error what is wrong with the log itself, each thing once in a while.
    """

    def __init__(self, descriptor: int = 2, seconds: Callable[[], float] = time.monotonic) -> None:
        """
        @param descriptor: Where to tell it.
        @param seconds: Tells the time.
        """
        self._descriptor = descriptor
        self._seconds = seconds
        self._told: dict[str, float] = {}

    def __call__(self, sentence: str) -> None:
        """
        Tell it, unless it has been told a short while ago.
        """
        now = self._seconds()
        if now < self._told.get(sentence, 0.0):
            return
        self._told = {one: until for one, until in self._told.items() if now < until}
        self._told[sentence] = now + _AGAIN
        try:
            if select.select([], [self._descriptor], [], 0)[1]:
                os.write(self._descriptor, f"tlsproxy: {sentence}\n".encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            pass  # Nobody is there to be told.
