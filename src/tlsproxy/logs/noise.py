# -*- test-case-name: tests.logs.test_noise -*-
"""
The same trouble again and again, such as no descriptors left, is told a few times and then summed up.

This is for what is told beside the sessions, which L{tlsproxy.repeats} looks after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define
from twisted.logger import LogLevel, formatEvent

__all__ = ["Noise"]

_SPAN: Final = 10.0
_TOLD: Final = 10
_KINDS: Final = 100
_TROUBLE: Final = frozenset({LogLevel.warn, LogLevel.error, LogLevel.critical})
_NO_DESCRIPTORS: Final = (
    "the process has no descriptors left, so connections are closed as they come: let it open more files "
    "(LimitNOFILE= of systemd, ulimit -n), or have fewer sessions (max_connections)"
)


@define(slots=True)
class _Kind:
    """
    Events that say the same.

    @ivar heading: Who says it, and how much it matters.  The event itself is not kept: a failure holds on to whatever
        failed.
    """

    heading: dict[str, Any]
    what: str
    told: int = 0
    held: int = 0


class Noise:
    """
    Holds back what has been told often enough.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: Tells the time.
        """
        self._seconds = seconds
        self._kinds: dict[object, _Kind] = {}
        self._since = 0.0

    @property
    def pending(self) -> bool:
        """
        Whether there is something that L{due} has to look at.
        """
        return bool(self._kinds)

    def heard(self, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """
        Tell what to log of an event.

        @return: The event, or what says the same more clearly; L{None} where it has been said often enough.
        """
        form, key = event.get("log_format"), None
        if isinstance(form, str) and "EMFILE" in form and str(event.get("log_namespace")).startswith("twisted."):
            # Twisted tells it in four steps, of which one is enough.
            if not form.startswith("EMFILE encountered"):
                return None
            event = {**_heading(event), "log_level": LogLevel.error, "log_format": _NO_DESCRIPTORS}
            form = _NO_DESCRIPTORS
        if event.get("log_level") in _TROUBLE or "log_failure" in event:
            key = event.get("log_namespace"), form, getattr(event.get("log_failure"), "type", None)
            if "{log_text}" in str(form) or len(self._kinds) >= _KINDS:
                key = event.get("log_namespace"), "", None
        if key is None:
            return event
        if not self._kinds:
            self._since = self._seconds()
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(_heading(event), formatEvent(dict(event)))
        if kind.told < _TOLD:
            kind.told += 1
            return event
        kind.held += 1
        kind.heading["log_time"] = event.get("log_time")
        return None

    def due(self, now: bool = False) -> list[dict[str, Any]]:
        """
        Sum up what was held back, once its time has come.

        @param now: Whether it has come in any case.
        """
        seconds = self._seconds() - self._since
        if seconds < _SPAN and not now:
            return []
        before, self._kinds = self._kinds, {}
        return [
            {
                **kind.heading,
                "log_format": "the like of this was told {held} times more within {seconds:.0f} s: {what}",
                "held": kind.held,
                "seconds": seconds,
                "what": kind.what,
            }
            for kind in before.values()
            if kind.held
        ]


def _heading(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in ("log_time", "log_level", "log_namespace")}
