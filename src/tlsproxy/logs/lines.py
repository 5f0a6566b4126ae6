# -*- test-case-name: tests.logs.test_lines -*-
"""
What an event looks like in the log: as text in the form of C{twistd}, or as one JSON object.

Much of what is told was said by strangers.  Whatever it is, a line is one line, and the object is valid JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from twisted.logger import formatEvent, formatTime
from twisted.python.failure import Failure

from tlsproxy.tls.policy import snake

__all__ = ["LONGEST", "JSONLines", "Lines", "TextLines"]

LONGEST: Final = 32_768
"""The most characters of one text in a line."""

_LAST: Final = 1e11
"""What is no time any more."""
_SESSION: Final = "tlsproxy.session"
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_RENAMED: Final = {"received": "in", "sent": "out", "certificate": "client_cert", "uniqueId": "id"}
_LISTS: Final = frozenset({"versions", "groups", "alpn"})
_UNSAID: Final = frozenset({"addressWord", "end", "times", "more"})
"""Parts of sentences, which are no facts."""

Lines = Callable[[Mapping[str, Any]], str]
"""What makes a line of an event, without its end; C{""} where there is nothing to tell."""


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... and {len(text) - LONGEST} characters more"


def _word(named: object) -> str:
    try:
        return str(named)
    except Exception:
        return "UNFORMATTABLE"


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _message(event: Mapping[str, Any]) -> str:
    if event.get("log_namespace") == _SESSION:
        # A session's own formats are plain, so what is fastest will do.
        try:
            return str(event["log_format"]).format_map(event)
        except Exception:
            pass
    return formatEvent(dict(event))


def _traceback(event: Mapping[str, Any]) -> str:
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return ""
    try:
        return str(failure.getTraceback())
    except Exception:
        return "a traceback that cannot be told"


class TextLines:
    """
    Lines of text, each with its time, as C{twistd} writes them.
    """

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""

    def __call__(self, event: Mapping[str, Any]) -> str:
        """
        Write an event.
        """
        text = _message(event)
        traceback = _traceback(event)
        if traceback:
            text = f"{text}\n{traceback}"
        if not text:
            return ""
        text = _CONTROLS.sub(_escape, _cut(text)).replace("\n", "\n\t")
        return f"{self._time(event)} [{self._source(event)}] {text}"

    def _time(self, event: Mapping[str, Any]) -> str:
        when = event.get("log_time")
        if not isinstance(when, (int, float)) or not 0 <= when < _LAST:
            return "-"
        if int(when) != self._second:
            self._second, self._stamp = int(when), formatTime(when)
        return self._stamp

    def _source(self, event: Mapping[str, Any]) -> str:
        system = event.get("log_system")
        if system is None:
            level = event.get("log_level")
            system = f"{_word(event.get('log_namespace', '-'))}#{level.name if level is not None else '-'}"
        return _CONTROLS.sub(_escape, _word(system)).replace("\n", "\\n")


class JSONLines:
    """
    One JSON object a line.
    """

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""
        self._dump: Callable[[object], str] = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode

    def __call__(self, event: Mapping[str, Any]) -> str:
        """
        Write an event.
        """
        level = event.get("log_level")
        namespace = event.get("log_namespace")
        known: dict[str, Any] = {
            "time": self._time(event.get("log_time")),
            "level": level.name if level is not None else _levelOf(event),
            "namespace": _SURROGATES.sub("\ufffd", _word(namespace or event.get("log_system") or "-")),
        }
        if namespace == _SESSION and "log_failure" not in event:
            known["event"] = "repeated" if "repeated" in event else "session"
            known |= _facts(event)
        else:
            known["event"] = "log"
            message, traceback = _message(event), _traceback(event)
            if not message and not traceback:
                return ""
            known["message"] = _text(message)
            if isinstance(namespace, str) and namespace.startswith("tlsproxy"):
                known |= {name: fact for name, fact in _facts(event).items() if name not in known}
            if traceback:
                known["traceback"] = _text(traceback)
        return self._dump(known)

    def _time(self, when: object) -> str | None:
        """
        Write a time as RFC 3339 has it, in UTC and with milliseconds.
        """
        if not isinstance(when, (int, float)) or not 0 <= when < _LAST:
            return None
        second = int(when)
        if second != self._second:
            self._second = second
            self._stamp = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._stamp}{int((when - second) * 1000):03}Z"


def _levelOf(event: Mapping[str, Any]) -> str:
    return "critical" if event.get("isError") else "info"


def _text(text: str) -> str:
    if len(text) > LONGEST:
        text = _cut(text)
    # Half of a pair is no character, and many readers of JSON refuse it.
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _facts(event: Mapping[str, Any]) -> dict[str, Any]:
    """
    Gather what an event tells beside its sentence: all that is a text, a number, or true or false.
    """
    facts: dict[str, Any] = {}
    for name, value in event.items():
        if name.startswith("log_") or name in _UNSAID:
            continue
        if isinstance(value, str):
            if value and value != "-":
                _tell(facts, _keyOf(name), _bare(_text(value)))
        elif isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**63):
            facts[_keyOf(name)] = value
        elif isinstance(value, float) and math.isfinite(value):
            facts[_keyOf(name)] = round(value, 6)
    return facts


@lru_cache(256)
def _keyOf(name: str) -> str:
    """
    Tell what a fact is called.
    """
    if name in _RENAMED:
        return _RENAMED[name]
    return _SURROGATES.sub("\ufffd", snake(name.replace("TLS", "Tls")))


def _bare(text: str) -> str:
    """
    Take the quotation marks off that keep a text of several words together on a line.
    """
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _tell(facts: dict[str, Any], key: str, value: str) -> None:
    if key in ("tls", "upstream_tls"):
        version, _, rest = value.partition("/")
        cipher, _, alpn = rest.partition("/")
        facts[f"{key}_version"] = version
        if cipher:
            facts[f"{key}_cipher"] = cipher
        if alpn:
            facts[f"{key}_alpn"] = _bare(alpn)
    elif key in _LISTS:
        facts[key] = value.split(",")
    else:
        facts[key] = value
