# -*- test-case-name: tests.test_daemon -*-
"""
L{tlsproxy.daemon}: the end of the process, and what it says of itself until then.
"""

from __future__ import annotations

import os
import signal
import sys
from io import StringIO
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred

from tests.test_daemon import NAMES, DaemonCase, Drained
from tests.test_reloading import configure
from tlsproxy.daemon import Daemon


class StopTests(DaemonCase):
    """
    Its end.
    """

    def stopping(self, *sessions: str, **more: Any) -> tuple[Daemon, Deferred[None]]:
        """
        Have one that is about to stop.
        """
        daemon = self.run_(**more)
        self.proxy.sessions = [*sessions]
        self.assertFalse(daemon.draining)
        stopping = daemon.stopService()
        self.assertTrue(daemon.draining)
        return daemon, stopping

    def end(self) -> list[int]:
        """
        Have the interpreter end.

        @return: The exit status that it is given, if any.
        """
        for call in self.atExit:
            call()
        return self.exits

    def test_nobody(self) -> None:
        """
        Without sessions it stops at once, and the exit status is the runner's: 0.
        """
        _, stopping = self.stopping()
        self.successResultOf(stopping)
        self.assertEqual(([], "stopping: no session is open"), (self.end(), self.log()[-1]))

    def test_threads(self) -> None:
        """
        It waits for no thread, such as one that waits for a name server, nor does the interpreter.
        """
        _, stopping = self.stopping("a")
        pool = self.reactor.pool
        begun, done = Event(), Event()

        def wait() -> None:
            begun.set()
            done.wait()

        pool.start()
        pool.callInThread(wait)
        begun.wait()
        (thread,) = pool.threads
        self.addCleanup(thread.join)
        self.addCleanup(done.set)
        self.assertTrue(thread.daemon)
        self.proxy.end(0)
        self.successResultOf(stopping)
        pool.stop()
        self.assertTrue(thread.is_alive())

    def test_drained(self) -> None:
        """
        It waits for sessions, all other services being there still; that they end by themselves is good.
        """
        daemon, stopping = self.stopping("a", "b")
        self.assertEqual(("stopping: waits up to 30 s for 2 sessions", 30.0), (self.log()[-1], self.proxy.drains[0][0]))
        self.assertNoResult(stopping)
        self.assertTrue(all(service.running for service in daemon))
        self.proxy.end(0)
        self.successResultOf(stopping)
        self.assertFalse(any(service.running for service in daemon))
        self.assertEqual(([], "stopped: all sessions ended by themselves"), (self.end(), self.log()[-1]))

    def test_cut(self) -> None:
        """
        Where some had to be cut, their descriptors are closed before it is over, and the exit status is 1.
        """
        _, stopping = self.stopping("a", drain=5.0)
        self.proxy.end(1)
        self.assertNoResult(stopping)
        self.reactor.advance(0)
        self.successResultOf(stopping)
        self.assertEqual(([1], "stopped: 1 session had to be cut"), (self.end(), self.log()[-1]))
        self.assertEqual(5.0, self.proxy.drains[0][0])

    def test_held(self) -> None:
        """
        No signal is heeded any more when all is over, so that none changes the exit status.
        """
        _, stopping = self.stopping("a")
        heeded = self.reactor.steps[-1]
        self.assertEqual((signal.SIG_UNBLOCK, *NAMES), heeded)
        self.proxy.end(0)
        self.successResultOf(stopping)
        self.assertEqual((signal.SIG_BLOCK, *NAMES), self.reactor.steps[-1])

    def test_again(self) -> None:
        """
        A second signal cuts what is left.
        """
        self.stopping("a")
        self.assertEqual(0, self.proxy.cuts)
        self.reactor.ask("SIGTERM")
        self.assertEqual((1, 0), (self.proxy.cuts, self.reactor.stopped))

    def test_late(self) -> None:
        """
        A session that was on its way in is waited for, too, for as long as there is time.
        """
        _, stopping = self.stopping("a")
        self.reactor.advance(10)
        self.proxy.sessions = ["b"]
        self.proxy.drains[0][1].callback(0)
        self.assertEqual(20.0, self.proxy.drains[1][0])
        self.assertNoResult(stopping)
        self.proxy.end(0)
        self.successResultOf(stopping)

    def test_live(self) -> None:
        """
        The time is what the last reload says.
        """
        daemon = self.run_()
        daemon.reloading.configuration = configure("shop", drain=7.0)
        self.proxy.sessions = ["a"]
        daemon.stopService()
        self.assertEqual(7.0, self.proxy.drains[0][0])

    def test_noOutput(self) -> None:
        """
        That nothing can be printed any more does not change the exit status.
        """
        daemon = self.run_()
        daemon.status = 1
        closed = StringIO()
        closed.close()
        self.patch(sys, "stdout", closed)
        self.assertEqual([1], self.end())


class ToldTests(DaemonCase):
    """
    What it says of itself.
    """

    def test_ready(self) -> None:
        """
        Systemd is told when it runs and when it stops, and nothing after that.
        """
        daemon = self.daemon(drain=1.0)
        daemon.startService()
        self.assertEqual([], self.notifier.words)
        self.reactor.run()
        self.assertEqual(["READY=1", "STATUS=serves 1 route"], self.notifier.words)
        self.successResultOf(daemon.stopService())
        words = ["STOPPING=1", "STATUS=stopping, no session is open", "EXTEND_TIMEOUT_USEC=11000000", "closed"]
        self.assertEqual(words, self.notifier.words[2:])

    def test_alive(self) -> None:
        """
        It is told by the clock that the reactor turns, until all is over.
        """
        self.notifier.watchdog = 5.0
        daemon = self.run_()
        self.proxy.sessions = ["a"]
        stopping = daemon.stopService()
        for _ in range(4):
            self.reactor.advance(5)
        self.assertEqual(5, self.notifier.words.count("WATCHDOG=1"))
        self.proxy.end(0)
        self.successResultOf(stopping)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_environment(self) -> None:
        """
        Where nobody says otherwise, who is told is what the environment says, and no child of ours.
        """
        environ = {"NOTIFY_SOCKET": "/nobody/there"}
        self.patch(os, "environ", environ)
        Daemon(self.reactor, self.proxy, configure("shop"))
        self.assertEqual({}, environ)

    def test_warnings(self) -> None:
        """
        What is doubtful is told at the start, unless it is to be silent.
        """
        for level, told in (("warn", ["warning: it is late"]), ("error", [])):
            del self.events._events[:]
            self.proxy = Drained()
            self.daemon(logLevel=level).startService()
            self.assertEqual(told, self.log())

    def test_unreadable(self) -> None:
        """
        So are files that it can no longer read, as after it has changed its user; but not those that were not there.
        """
        folder = self.mktemp()
        os.mkdir(folder)
        files: dict[str, Any] = {f"{folder}/key.pem": (0,) * 5, f"{folder}/other.pem": None}
        self.daemon(files=files).startService()
        words = f"warning: what was read at the start cannot be read any more, so no reload can: {folder}/key.pem"
        self.assertEqual(words, self.log()[-1])
