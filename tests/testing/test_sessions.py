# -*- test-case-name: tests.testing.test_sessions -*-
"""
L{tlsproxy.testing.sessions}: a case whose sessions end as they should passes, and others fail.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.testing.sessions import SessionCase


class _Example(SessionCase):
    """
    Tests, good ones and bad ones.
    """

    keep: list[Any] = []

    def open(self) -> Any:
        """
        Have one session.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), idle=5)
        client = self.visit()
        self.settle()
        return client

    def good(self) -> None:
        """
        It ends.
        """
        self.open().end()
        self.upstream.peer.end()
        self.finished()
        self.assertOver("closed", "half_closed")
        self.assertEqual(["dial", "idle", "half_closed"], self.phases)
        self.forget()
        self.assertEqual([], self.lines())

    def late(self) -> None:
        """
        Its time is over.
        """
        client = self.open()
        self.after(5.5)
        self.assertOver("expired", "idle", "no byte moved within 5 s")
        self.assertTrue(self.aborted(client))

    def left(self) -> None:
        """
        It does not end.
        """
        self.open()
        self.assertEqual("idle", self.one().phase)

    def garbage(self) -> None:
        """
        It ends, and something of it waits for the cycle collector.
        """
        client = self.open()
        circle: list[Any] = [self.one()]
        circle.append(circle)
        client.close()
        self.upstream.peer.close()

    def lent(self) -> None:
        """
        The same, where sessions that there were before are gone by then.
        """
        self.keep.clear()
        self.garbage()

    def kept(self) -> None:
        """
        Something of it is kept elsewhere.
        """
        self.good()
        self.network.reactor.callLater(100, int)


class _Allocating(_Example):
    """
    One whose cleanups would set off the collector.
    """

    def setUp(self) -> None:
        """
        Add them before all others, so that they come last.
        """
        self.addCleanup(lambda: [[] for _ in range(100_000)])
        super().setUp()


class SessionCaseTests(SynchronousTestCase):
    """
    L{SessionCase}
    """

    def run_(self, name: str, case: type[_Example] = _Example) -> str:
        """
        Run one of the tests.

        @return: What is wrong with it; C{""} for nothing.
        """
        result = TestResult()
        case(name).run(result)
        gc.collect()
        self.assertTrue(gc.isenabled())
        return "".join(str(problem) for _, problem in [*result.failures, *result.errors])

    def test_good(self) -> None:
        """
        Tests whose sessions are over pass.
        """
        self.assertEqual("", self.run_("good"))
        self.assertEqual("", self.run_("late"))

    def test_left(self) -> None:
        """
        A session that goes on fails its test.
        """
        self.assertIn("sessions are left", self.run_("left"))

    def test_garbage(self) -> None:
        """
        So does one of which something is left to the cycle collector.
        """
        self.assertIn("garbage is left", self.run_("garbage"))

    def test_garbageDuringCleanup(self) -> None:
        """
        It does, however much is made and thrown away before the look at it.
        """
        self.assertIn("garbage is left", self.run_("garbage", _Allocating))

    def test_garbageInPlaceOfOthers(self) -> None:
        """
        It does, too, where what is left lies in memory that had been another session's.
        """
        self.addCleanup(_Example.keep.clear)
        other = _Example("good")
        other.setUp()
        self.addCleanup(gc.enable)
        self.addCleanup(other.doCleanups)
        for _ in range(20):
            other.open()
            _Example.keep.append(other.one())
            for peer in other.peers:
                peer.close()
            other.settle()
            other.forget()
        other.network.close()
        self.assertIn("garbage is left", self.run_("lent"))

    def test_kept(self) -> None:
        """
        So does a timer.
        """
        self.assertIn("timers are left", self.run_("kept"))
