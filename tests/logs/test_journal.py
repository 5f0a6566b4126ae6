# -*- test-case-name: tests.logs.test_journal -*-
"""
Tests for L{tlsproxy.logs.journal}: the log never fails and never waits, and tells what it has lost.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.logs.test_lines import Unspeakable
from tlsproxy.logs.journal import Complaints, Journal
from tlsproxy.logs.lines import JSONLines, Lines, TextLines


class Kept:
    """
    A destination that keeps its lines, or fails.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.problem: OSError | None = None
        self.reopened = 0
        self.closed = False

    def write(self, line: bytes, priority: int) -> None:
        """
        Keep a line.
        """
        if self.problem is not None:
            raise self.problem
        self.lines.append((priority, line.decode("utf-8")))

    def reopen(self) -> None:
        """
        Note it.
        """
        if self.problem is not None:
            raise self.problem
        self.reopened += 1

    def close(self) -> None:
        """
        Note it.
        """
        self.closed = True


class JournalTests(SynchronousTestCase):
    """
    Tests for L{Journal}.
    """

    def setUp(self) -> None:
        """
        Log by way of one.
        """
        self.now = 0.0
        self.kept = Kept()
        self.complaints: list[str] = []
        self.log("info")

    def log(self, level: str, lines: Lines | None = None) -> None:
        """
        Log otherwise.
        """
        self.journal = Journal(
            self.kept,
            lines or TextLines(),
            LogLevel.levelWithName(level),
            self.complaints.append,
            lambda: self.now,
        )
        publisher = LogPublisher(self.journal)
        self.ours = Logger("tlsproxy.x", observer=publisher)
        self.session = Logger("tlsproxy.session", observer=publisher)
        self.theirs = Logger("twisted.x", observer=publisher)

    @property
    def told(self) -> list[str]:
        """
        What the lines say.
        """
        return [line.partition("] ")[2].rstrip("\n") for _, line in self.kept.lines]

    def test_interface(self) -> None:
        """
        It is an observer.
        """
        verifyObject(ILogObserver, self.journal)

    def test_levels(self) -> None:
        """
        The level is that of what tlsproxy logs; what others log is not held back.  Each has its priority.
        """
        self.log("warn")
        for logger in (self.ours, self.session, self.theirs):
            for name in ("debug", "info", "warn", "error", "critical"):
                logger.emit(LogLevel.levelWithName(name), "{name}", name=name)
        priorities = [priority for priority, _ in self.kept.lines]
        self.assertEqual([4, 3, 2, 4, 3, 2, 7, 6, 4, 3, 2], priorities)

    def test_lost(self) -> None:
        """
        Lines that cannot be written are counted, which is told as soon as there is a line that can; nobody who logs
        hears of it, but who looks after the process does.
        """
        self.session.info("one")
        self.kept.problem = OSError(28, "No space left on device")
        for _ in range(1234):
            self.session.info("lost")
        self.kept.problem = None
        self.session.info("two")
        self.session.info("three")
        self.assertEqual(
            ["one", "1234 lines of this log were lost: No space left on device", "two", "three"], self.told
        )
        self.assertEqual({"lines of the log are lost: No space left on device"}, set(self.complaints))
        self.assertEqual(0, self.journal.lost)

    def test_lostJSON(self) -> None:
        """
        As JSON, the number is one.
        """
        self.log("info", JSONLines())
        self.kept.problem = OSError(28, "No space left on device")
        self.session.info("lost")
        self.kept.problem = None
        self.session.info("two")
        self.assertIn('"lost":1,"reason":"No space left on device"', self.kept.lines[0][1])

    def test_unspeakable(self) -> None:
        """
        An event that cannot be told does not keep the others from it.
        """
        self.ours.info("{x}", x=Unspeakable())
        self.journal({"log_format": Unspeakable(), "log_level": LogLevel.info, "log_namespace": Unspeakable()})
        self.ours.info("two")
        self.assertEqual(("two", 3), (self.told[-1], len(self.told)))

        def broken(event: Any) -> str:
            if event["log_format"] == "one":
                raise ZeroDivisionError
            return str(event)

        self.log("info", broken)
        self.ours.info("one")
        self.assertIn("'what': 'ZeroDivisionError'", self.kept.lines[-1][1])

    def test_surrogates(self) -> None:
        """
        Text that UTF-8 does not have is written all the same.
        """
        self.ours.info("{x}", x="a\udcffb")
        self.assertEqual([r"a\udcffb"], self.told)

    def test_noise(self) -> None:
        """
        The same trouble again and again is summed up, and sessions are not taken for that.
        """
        for _ in range(100):
            self.theirs.error("no luck")
        self.now = 12.0
        for _ in range(20):
            self.session.warn("a session")
        self.assertEqual(10 + 1 + 20, len(self.told))
        self.assertIn("told 90 times more within 12 s: no luck", self.told[10])

    def test_close(self) -> None:
        """
        At the end, what was held back is told.
        """
        for _ in range(11):
            self.theirs.error("no luck")
        self.journal.close()
        self.assertIn("told 1 times more", self.told[-1])
        self.assertTrue(self.kept.closed)

    def test_reopen(self) -> None:
        """
        It is opened anew when told to; that it cannot be is complained of.
        """
        self.journal.reopen()
        self.assertEqual((1, []), (self.kept.reopened, self.complaints))
        self.kept.problem = OSError(13, "Permission denied")
        self.journal.reopen()
        self.assertEqual(["the log cannot be opened anew: Permission denied"], self.complaints)


class ComplaintTests(SynchronousTestCase):
    """
    Tests for L{Complaints}.
    """

    def setUp(self) -> None:
        """
        Complain into a pipe.
        """
        self.now = 0.0
        self.reader, writer = os.pipe()
        for end in (self.reader, writer):
            self.addCleanup(os.close, end)
        os.set_blocking(self.reader, False)
        self.complaints = Complaints(writer, lambda: self.now)

    def test_once(self) -> None:
        """
        The same is told once a minute, and something else besides.
        """
        for step in range(120):
            self.now = step
            self.complaints("no space")
        self.complaints("no rights")
        told = os.read(self.reader, 1000).decode()
        self.assertEqual(["tlsproxy: no space"] * 2 + ["tlsproxy: no rights"], told.splitlines())

    def test_nobodyListens(self) -> None:
        """
        Where nobody reads, or nobody is there, that is not waited for.
        """
        for step in range(10_000):
            self.complaints("x" * 1000 + str(step))
        Complaints(12345)("nobody is there")
