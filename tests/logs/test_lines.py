# -*- test-case-name: tests.logs.test_lines -*-
"""
Tests for L{tlsproxy.logs.lines}: whatever is told, and whoever said it, a line is one line, and valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.logs.lines import LONGEST, JSONLines, TextLines

NOW = 1_793_000_000.98765

SESSION: Mapping[str, Any] = {
    "log_time": NOW,
    "log_level": LogLevel.info,
    "log_namespace": "tlsproxy.session",
    "log_format": "{route} client={client} seconds={seconds:.3f}",
    "route": '"my shop"',
    "client": "192.0.2.1:4321",
    "user": "",
    "sni": "-",
    "tls": "TLSv1.3/TLS_AES_256_GCM_SHA384/http/1.1",
    "target": "",
    "upstream": "10.0.0.1:80",
    "upstreamTLS": "TLSv1.2/ECDHE-RSA-AES128-GCM-SHA256",
    "via": "192.0.2.9:1",
    "uniqueId": "0123456789abcdef",
    "certificate": "CN=ann, issued by CN=Example CA, until 2027-01-01",
    "received": 5,
    "sent": 7,
    "seconds": 1.5004,
    "outcome": "closed",
    "phase": "idle",
    "reason": "",
    "ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1",
    "versions": "1.3,1.2",
    "groups": "-",
    "alpn": "h2,http/1.1",
}


class Unspeakable:
    """
    What cannot be written.
    """

    def __repr__(self) -> str:
        raise ValueError("no words")

    __str__ = __format__ = __repr__  # type: ignore[assignment]


def failure() -> Failure:
    """
    Fail with a text that tries to be more than one line.
    """
    try:
        raise ValueError("one\n2026 [fake] two\x1b[2J\ud800")
    except ValueError:
        return Failure()


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**5000),
    st.floats(),
    st.text(st.characters()),
    st.text(st.characters(categories=["Cs", "Cc", "Zl", "Zp"])),
    st.binary(),
    st.builds(Unspeakable),
    st.lists(st.integers()),
)
KEYS = st.one_of(st.text(st.characters()), st.sampled_from(["time", "level", "message", "log_time", "tls", "alpn"]))
NAMESPACES = st.sampled_from(["tlsproxy.session", "tlsproxy.x", "twisted.internet", None, "\ud800\n"])
EVENTS = st.builds(
    lambda facts, namespace, form, level: {
        **facts,
        "log_namespace": namespace,
        "log_format": form,
        "log_level": level,
    },
    st.dictionaries(KEYS, ANYTHING),
    NAMESPACES,
    st.one_of(st.text(st.characters()), st.sampled_from(["{time} {tls}", "{x()}", "{", "{alpn!r:>9}"]), ANYTHING),
    st.sampled_from([*LogLevel.iterconstants(), None]),
)


class TextTests(SynchronousTestCase):
    """
    Tests for L{TextLines}.
    """

    def test_asTwistds(self) -> None:
        """
        Lines look as they do in the log of C{twistd}, those of sessions and all others, with tracebacks.
        """
        lines = TextLines()
        event = {"log_time": NOW, "log_level": LogLevel.warn, "log_namespace": "x", "log_format": "a\n{b}", "b": 1}
        for one in (
            dict(SESSION),
            event,
            {**event, "log_system": "-"},
            {**event, "log_time": NOW + 3600.5},
            {**event, "log_failure": Failure(ValueError("no"))},
        ):
            self.assertEqual(formatEventAsClassicLogText(one), lines(one) + "\n")
        self.assertIn('"my shop" client=192.0.2.1:4321 seconds=1.500', lines(SESSION))

    def test_nothing(self) -> None:
        """
        Where there is nothing to tell, there is no line.
        """
        self.assertEqual("", TextLines()({"log_time": NOW}))

    def test_hostile(self) -> None:
        """
        What a stranger said stays on its line, and does nothing to a terminal.
        """
        said = "x\r\n2026 [fake] y\x1b[2J\x9b\u2028\u202e\x00"
        line = TextLines()({"log_format": "{said}", "said": said, "log_namespace": "n\x1b", "log_time": NOW})
        self.assertEqual(2, len(line.splitlines()))
        self.assertIn(r" [n\x1b#-] x\r" + "\n\t2026 [fake] y" + r"\x1b[2J\x9b\u2028\u202e\x00", line)

    def test_long(self) -> None:
        """
        What is too long is cut.
        """
        line = TextLines()({"log_format": "{said}", "said": "x" * 10_000_000, "log_time": NOW})
        self.assertTrue(len(line) < LONGEST + 200)
        self.assertTrue(line.endswith("x... and 9967232 characters more"), line[-50:])

    @given(EVENTS)
    def test_anything(self, event: dict[str, Any]) -> None:
        """
        Whatever the event, there is a line of text that can be written, or none.
        """
        line = TextLines()(event)
        line.encode("utf-8", "backslashreplace")
        for rest in line.split("\n")[1:]:
            self.assertTrue(rest.startswith("\t"), rest)
        self.assertNotIn("\r", line)


class JSONTests(SynchronousTestCase):
    """
    Tests for L{JSONLines}.
    """

    def read(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        Write an event, and read it as strict readers do.
        """

        def no(name: str) -> None:
            raise AssertionError(name)

        line = JSONLines()(event)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        found = json.loads(line, parse_constant=no)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
        assert isinstance(found, dict)
        return found

    def test_session(self) -> None:
        """
        A session's object has what its line has, each thing by itself, numbers as numbers, and nothing that is not
        known.
        """
        self.assertEqual(
            {
                "time": "2026-10-26T07:33:20.987Z",
                "level": "info",
                "namespace": "tlsproxy.session",
                "event": "session",
                "route": "my shop",
                "client": "192.0.2.1:4321",
                "tls_version": "TLSv1.3",
                "tls_cipher": "TLS_AES_256_GCM_SHA384",
                "tls_alpn": "http/1.1",
                "upstream": "10.0.0.1:80",
                "upstream_tls_version": "TLSv1.2",
                "upstream_tls_cipher": "ECDHE-RSA-AES128-GCM-SHA256",
                "via": "192.0.2.9:1",
                "id": "0123456789abcdef",
                "client_cert": "CN=ann, issued by CN=Example CA, until 2027-01-01",
                "in": 5,
                "out": 7,
                "seconds": 1.5004,
                "outcome": "closed",
                "phase": "idle",
                "ja4": "t13d1516h2_8daaf6152771_e5627efa2ab1",
                "versions": ["1.3", "1.2"],
                "alpn": ["h2", "http/1.1"],
            },
            self.read(SESSION),
        )

    def test_other(self) -> None:
        """
        Any other event has its sentence; ours have what is in it by itself, too.
        """
        event = {
            "log_time": NOW,
            "log_level": LogLevel.info,
            "log_namespace": "tlsproxy.service",
            "log_format": "{route} listens on {where}",
            "route": "shop",
            "where": "[::1]:443",
        }
        heading = {"time": "2026-10-26T07:33:20.987Z", "level": "info", "event": "log"}
        sentence = {"message": "shop listens on [::1]:443"}
        self.assertEqual(
            {**heading, "namespace": "tlsproxy.service", **sentence, "route": "shop", "where": "[::1]:443"},
            self.read(event),
        )
        self.assertEqual(
            {**heading, "namespace": "twisted.x", **sentence}, self.read({**event, "log_namespace": "twisted.x"})
        )

    def test_traceback(self) -> None:
        """
        A failure has its traceback.
        """
        found = self.read({"log_format": "oh", "log_level": LogLevel.critical, "log_failure": failure()})
        self.assertEqual(("oh", "critical", None), (found["message"], found["level"], found["time"]))
        self.assertIn("builtins.ValueError: one\n2026 [fake] two", found["traceback"])

    def test_nothing(self) -> None:
        """
        Where there is nothing to tell, there is no object.
        """
        self.assertEqual("", JSONLines()({"log_time": NOW, "log_level": LogLevel.info}))

    def test_legacy(self) -> None:
        """
        What programs of old log has a level, too.
        """
        event = {"log_format": "{log_text}", "log_text": "x", "log_system": "-", "isError": 0}
        self.assertEqual(("info", "x"), (self.read(event)["level"], self.read(event)["message"]))
        self.assertEqual("critical", self.read({**event, "isError": 1})["level"])

    def test_reserved(self) -> None:
        """
        No fact of an event takes the place of what every object has.
        """
        event = {"log_format": "x", "log_namespace": "tlsproxy.x", "log_time": NOW, "time": "y", "message": "z"}
        self.assertEqual(("2026-10-26T07:33:20.987Z", "x"), tuple(self.read(event)[key] for key in ("time", "message")))

    def test_times(self) -> None:
        """
        Times are written in UTC, to the millisecond, as RFC 3339 has it.
        """
        lines = JSONLines()
        for when in (0, NOW, NOW + 0.001, NOW + 1, 4e9):
            time = json.loads(lines({"log_format": "x", "log_time": when}))["time"]
            self.assertTrue(time.endswith("Z") and len(time) == 24, time)
            self.assertTrue(abs(datetime.fromisoformat(time).timestamp() - when) <= 0.001, time)

    @given(EVENTS)
    def test_anything(self, event: dict[str, Any]) -> None:
        """
        Whatever the event, the object is valid JSON in ASCII on one line, or there is none.
        """
        if JSONLines()(event):
            self.read(event)

    @given(st.dictionaries(st.sampled_from(sorted(SESSION)), ANYTHING))
    def test_anySession(self, facts: dict[str, Any]) -> None:
        """
        The same for what strangers say in a session.
        """
        self.read({**SESSION, **{name: fact for name, fact in facts.items() if not name.startswith("log_")}})
