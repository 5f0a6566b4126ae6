# -*- test-case-name: tests.test_daemon -*-
"""
L{tlsproxy.daemon}: what the process does around its services.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

from twisted.application.service import Service
from twisted.internet.error import CannotListenError
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import CannotListen
from tlsproxy.daemon import CannotStart, Daemon


class Starting:
    """
    A reactor that is about to run, in a process whose signals are not touched.

    @ivar steps: What has happened: signals blocked and unblocked, and what the test notes.
    """

    def __init__(self) -> None:
        self.steps: list[object] = []
        self._waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def mask(self, how: int, signals: frozenset[signal.Signals]) -> None:
        """
        Stand for L{signal.pthread_sigmask}.
        """
        self.steps.append((how, *sorted(one.name for one in signals)))

    def callWhenRunning(self, call: Callable[..., object], *arguments: Any) -> None:
        """
        Call it once it runs.
        """
        self._waiting.append((call, arguments))

    def run(self) -> None:
        """
        Run.
        """
        self.steps.append("runs")
        for call, arguments in self._waiting:
            call(*arguments)


class Noting(Service):
    """
    A service that notes its start, or fails at it.
    """

    def __init__(self, steps: list[object], problem: Exception | None = None) -> None:
        self._steps = steps
        self._problem = problem

    def privilegedStartService(self) -> None:
        """
        Note it.
        """
        self._start("listens")

    def startService(self) -> None:
        """
        Note it.
        """
        self._start("serves")

    def _start(self, step: str) -> None:
        self._steps.append(step)
        if self._problem is not None:
            raise self._problem


class DaemonCase(SynchronousTestCase):
    """
    A test with a process that starts.
    """

    def setUp(self) -> None:
        """
        Watch its log, its standard error and its signals.
        """
        self.reactor = Starting()
        self.patch(signal, "pthread_sigmask", self.reactor.mask)
        self.told = StringIO()
        self.patch(sys, "__stderr__", self.told)
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def daemon(self, problem: Exception | None = None) -> Daemon:
        """
        Make one, with a service.
        """
        daemon = Daemon(self.reactor)
        Noting(self.reactor.steps, problem).setServiceParent(daemon)
        return daemon


class SignalTests(DaemonCase):
    """
    The signals that ask it to stop.
    """

    held = (signal.SIG_BLOCK, "SIGINT", "SIGTERM")
    heeded = (signal.SIG_UNBLOCK, "SIGINT", "SIGTERM")

    def test_heldUntilHeeded(self) -> None:
        """
        They are held from before anything listens until the reactor runs, which heeds them.
        """
        daemon = self.daemon()
        daemon.privilegedStartService()
        daemon.startService()
        self.reactor.run()
        self.assertEqual([self.held, "listens", "serves", "runs", self.heeded], self.reactor.steps)

    def test_twist(self) -> None:
        """
        So they are where nothing is done while rights are still there.
        """
        self.daemon().startService()
        self.reactor.run()
        self.assertEqual([self.held, "serves", "runs", self.heeded], self.reactor.steps)


class CannotStartTests(DaemonCase):
    """
    What cannot start.
    """

    def test_cannotListen(self) -> None:
        """
        An address that cannot be listened on ends the process with status 1 and the sentence, however it is started.
        """
        for problem in (
            CannotListen("cannot listen on 80: Permission denied"),
            CannotListenError("127.0.0.1", 80, OSError(13, "Permission denied")),
        ):
            for start in ("privilegedStartService", "startService"):
                ended = self.assertRaises(CannotStart, getattr(self.daemon(problem), start))
                self.assertIsInstance(ended, SystemExit)
                self.assertEqual((1, str(problem), str(problem)), (ended.code, ended.sentence, str(ended)))
                self.assertTrue(ended.__suppress_context__)
                self.assertEqual(f"tlsproxy: {problem}\n", self.told.getvalue())
                self.told.truncate(self.told.seek(0))
                last = [event for event in self.events if event["log_namespace"].startswith("tlsproxy")][-1]
                self.assertEqual((LogLevel.error, "tlsproxy.daemon"), (last["log_level"], last["log_namespace"]))

    def test_otherErrors(self) -> None:
        """
        Any other error is a bug and keeps its traceback.
        """
        self.assertRaises(ZeroDivisionError, self.daemon(ZeroDivisionError()).privilegedStartService)
