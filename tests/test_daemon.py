# -*- test-case-name: tests.test_daemon -*-
"""
L{tlsproxy.daemon}: what the process does around its services.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

from attrs import evolve
from twisted.application.service import Application, IServiceCollection, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from tests.test_reloading import Told, configure
from tlsproxy.address import CannotListen
from tlsproxy.daemon import CannotStart, Daemon

NAMES = ("SIGHUP", "SIGINT", "SIGTERM")


class Running(Clock):
    """
    A reactor, in a process whose signals are not touched.

    @ivar pool: Its threads.
    @ivar steps: What has happened: signals blocked and unblocked, and what the test notes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[object] = []
        self.handlers: dict[str, Callable[..., object]] = {}
        self.stopped = 0
        self.pool = ThreadPool(0, 1)
        self.getThreadPool: Any = lambda: self.pool
        self._waiting: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def mask(self, how: int, signals: frozenset[signal.Signals]) -> None:
        """
        Stand for L{signal.pthread_sigmask}.
        """
        self.steps.append((how, *sorted(one.name for one in signals)))

    def handle(self, number: signal.Signals, handler: Callable[..., object]) -> None:
        """
        Stand for L{signal.signal}.
        """
        self.handlers[number.name] = handler

    def callWhenRunning(self, call: Callable[..., object], *arguments: Any) -> None:
        """
        Call it once it runs.
        """
        self._waiting.append((call, arguments))

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        """
        Call it in the next turn.
        """
        self.callLater(0, call, *arguments)

    def run(self) -> None:
        """
        Run.
        """
        self.steps.append("runs")
        for call, arguments in self._waiting:
            call(*arguments)

    def ask(self, name: str) -> None:
        """
        Send the process a signal.
        """
        self.handlers[name](0, None)
        self.advance(0)

    def stop(self) -> None:
        """
        Stop, which can be done once.
        """
        self.stopped += 1
        if self.stopped > 1:
            raise ReactorNotRunning()


class Drained(Service):
    """
    The service of some routes.

    @ivar sessions: What is open.
    @ivar drains: How many seconds each drain was given, and what it waits for.
    """

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.drains: list[tuple[float, Deferred[int]]] = []
        self.cuts = 0

    def drain(self, seconds: float) -> Deferred[int]:
        """
        Wait for the sessions.
        """
        self.drains.append((seconds, Deferred() if self.sessions else succeed(0)))
        return self.drains[-1][1]

    def end(self, cut: int) -> None:
        """
        They are over.
        """
        self.sessions = []
        self.drains[-1][1].callback(cut)

    def stopService(self) -> None:
        """
        Cut what is open.
        """
        super().stopService()
        self.cuts += 1


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
        super().startService()

    def _start(self, step: str) -> None:
        self._steps.append(step)
        if self._problem is not None:
            raise self._problem


class DaemonCase(SynchronousTestCase):
    """
    A test with a process.
    """

    def setUp(self) -> None:
        """
        Watch its log, its standard error, its signals and its end.
        """
        self.reactor = Running()
        self.patch(signal, "pthread_sigmask", self.reactor.mask)
        self.patch(signal, "signal", self.reactor.handle)
        self.atExit: list[Callable[[], object]] = []
        self.patch(atexit, "register", self.atExit.append)
        self.exits: list[int] = []
        self.patch(os, "_exit", self.exits.append)
        self.told = StringIO()
        self.patch(sys, "__stderr__", self.told)
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.notifier: Any = Told()
        self.proxy: Any = Drained()

    def daemon(
        self, problem: Exception | None = None, *, load: Any = None, journal: Any = None, **proxy: Any
    ) -> Daemon:
        """
        Make one, with a service.
        """
        configuration = evolve(configure("shop", **proxy), warnings=("it is late",))
        daemon = Daemon(self.reactor, self.proxy, configuration, load, self.notifier, journal)
        Noting(self.reactor.steps, problem).setServiceParent(daemon)
        return daemon

    def run_(self, **more: Any) -> Daemon:
        """
        Have one run.
        """
        daemon = self.daemon(**more)
        daemon.startService()
        self.reactor.run()
        return daemon

    def log(self) -> list[str | None]:
        """
        What the log says.
        """
        return [formatEvent(event) for event in self.events if event["log_namespace"].startswith("tlsproxy")]


class SignalTests(DaemonCase):
    """
    The signals that ask it for something.
    """

    held = (signal.SIG_BLOCK, *NAMES)
    heeded = (signal.SIG_UNBLOCK, *NAMES)

    def test_heldUntilHeeded(self) -> None:
        """
        They are held from before anything listens until they are heeded.
        """
        daemon = self.daemon()
        daemon.privilegedStartService()
        daemon.startService()
        self.assertEqual({}, self.reactor.handlers)
        self.reactor.run()
        self.assertEqual([self.held, "listens", "serves", "runs", self.heeded], self.reactor.steps)
        self.assertEqual({*NAMES}, {*self.reactor.handlers})

    def test_twist(self) -> None:
        """
        So they are where nothing is done while rights are still there.
        """
        self.daemon().startService()
        self.reactor.run()
        self.assertEqual([self.held, "serves", "runs", self.heeded], self.reactor.steps)

    def test_stop(self) -> None:
        """
        Either of two has it stop, whoever else does so, too.
        """
        for name in ("SIGTERM", "SIGINT"):
            self.reactor.stopped = 0
            self.run_()
            for count in (1, 2):
                self.reactor.ask(name)
                self.assertEqual(count, self.reactor.stopped)

    def test_reload(self) -> None:
        """
        C{SIGHUP} has it read all again, and fetch what others have.
        """
        asked: list[object] = []
        daemon = self.daemon()
        daemon.refreshing.append(lambda: asked.append("refresh"))
        self.patch(daemon.reloading, "reload", lambda: asked.append("reload"))
        daemon.startService()
        self.reactor.run()
        self.reactor.ask("SIGHUP")
        self.assertEqual(["reload", "refresh"], asked)

    def test_threads(self) -> None:
        """
        No thread of the pool takes a signal that is for the process, and none is waited for in the end.
        """
        self.run_().reloading.stop()
        self.reactor.steps.clear()
        thread = self.reactor.pool.threadFactory(target=lambda: self.reactor.steps.append("works"))
        thread.start()
        thread.join()
        self.assertTrue(thread.daemon)
        self.assertEqual([(signal.SIG_BLOCK, *NAMES), "works"], self.reactor.steps)

    def test_thread(self) -> None:
        """
        It is read in a thread of the reactor's own, so that all goes on meanwhile.
        """
        calls: list[Callable[[], object]] = []

        class Pool:
            """
            Threads that wait.
            """

            def callInThreadWithCallback(self, done: Callable[..., object], load: Callable[[], object]) -> None:
                """
                Note it.
                """
                calls.append(lambda: done(True, load()))

        routes: list[object] = []

        def reload(given: object) -> Deferred[None]:
            routes.append(given)
            return succeed(None)

        self.proxy.reload = reload
        other = configure("blog")
        daemon = self.run_(load=lambda: other)
        pool: Any = Pool()
        self.patch(self.reactor, "getThreadPool", lambda: pool)
        self.reactor.ask("SIGHUP")
        self.assertEqual([], routes)
        calls.pop()()
        self.reactor.advance(0)
        self.assertEqual(([other.routes], other), (routes, daemon.reloading.configuration))
        daemon.reloading.stop()


class LogTests(DaemonCase):
    """
    The log of the process.
    """

    def test_reopened(self) -> None:
        """
        C{SIGHUP} has it opened anew, and all read again; at the very end, what it holds back is told.
        """
        asked: list[str] = []

        class Moved:
            """
            A log whose file was moved away.
            """

            def reopen(self) -> None:
                """
                Note it.
                """
                asked.append("reopen")

            def close(self) -> None:
                """
                Note it.
                """
                asked.append("close")

        journal: Any = Moved()
        daemon = self.daemon(journal=journal)
        self.patch(daemon.reloading, "reload", lambda: asked.append("reload"))
        daemon.startService()
        self.reactor.run()
        self.reactor.ask("SIGHUP")
        self.assertEqual(["reopen", "reload"], asked)
        for call in self.atExit:
            call()
        self.assertEqual(["reopen", "reload", "close"], asked)

    def test_journal(self) -> None:
        """
        Where the configuration says how to log, the application that the process runs has that as its log; else it has
        what its runner gives it.
        """
        journal: Any = object()
        for given in (journal, None):
            application = Application("tlsproxy")
            daemon = self.daemon(journal=given)
            daemon.setServiceParent(application)
            self.assertIdentical(given, application.getComponent(ILogObserver, None))
            self.assertIn(daemon, list(IServiceCollection(application)))


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
                self.proxy = Drained()
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
