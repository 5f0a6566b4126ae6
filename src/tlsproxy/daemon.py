# -*- test-case-name: tests.test_daemon -*-
"""
The process of C{twistd tlsproxy}: what it does around its services, from the start to the end.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, Final, TypeVar

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogLevel

from tlsproxy.address import CannotListen
from tlsproxy.config import Configuration
from tlsproxy.logs.journal import Journal
from tlsproxy.logs.starting import keepLog
from tlsproxy.reloading import Reloading, unreadable
from tlsproxy.sdnotify import Notifier
from tlsproxy.service import ProxyService
from tlsproxy.tls.printing import few, printable

__all__ = ["CannotStart", "Daemon"]

_log = Logger()

_T = TypeVar("_T")

_STOPPING: Final = frozenset({signal.SIGINT, signal.SIGTERM})
"""The signals that ask a process to stop."""
_HEEDED: Final = _STOPPING | {signal.SIGHUP}
"""All signals that mean something."""


class _Forsaken(Thread):
    """
    A thread that the end of the process does not wait for: one that waits for a name server, or for a disk, cannot be
    told to stop.

    It takes no signal that is for the process.  One that the main thread holds back in the end, when its handlers are
    gone, would come by way of any other thread.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(daemon=True, **more)

    def run(self) -> None:
        """
        Work.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        super().run()


class CannotStart(SystemExit, Exception):
    """
    The command cannot start, and the process ends with status 1.

    As a L{SystemExit} it ends C{twistd -n} and C{twist} without a traceback.  As an L{Exception} it has C{twistd} tell
    the process that started the daemon, and remove its pidfile.

    @ivar sentence: Why.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(1)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class Daemon(MultiService):
    """
    All services of the command, and what the process does about them.

    Where one cannot listen, the process ends with the sentence.  C{SIGHUP} reloads, and opens the log anew.  C{SIGTERM}
    and C{SIGINT} have it stop, which waits for the sessions as long as C{drain} of the configuration says; a second one
    cuts them.  The exit status is 0, or 1 where sessions were cut.

    @ivar draining: Whether it is about to stop.
    @ivar reloading: What reads the configuration again.
    @ivar refreshing: Called when somebody asks for a reload, and not where files have changed.
    @ivar status: The exit status.
    """

    def __init__(
        self,
        reactor: Any,
        proxy: ProxyService,
        configuration: Configuration,
        load: Callable[[], Configuration] | None = None,
        notifier: Notifier | None = None,
        journal: Journal | None = None,
    ) -> None:
        """
        @param reactor: The reactor.
        @param proxy: The service of the routes, which becomes one of this one's.
        @param configuration: What it was made of.
        @param load: Reads the configuration again; L{None} where there is nothing to read.
        @param notifier: Who is told how we are; L{None} for whom the environment says.
        @param journal: What keeps the log, where that is not left to C{twistd} or C{twist}.
        """
        super().__init__()
        self.journal = journal
        self._reactor = reactor
        self._proxy = proxy
        self._notifier = notifier or Notifier(os.environ)
        self._holding = False
        self._pool: Any = None
        self._beat: IDelayedCall | None = None
        self._level = LogLevel.levelWithName(configuration.proxy.logLevel)
        inThread = self._inThread
        self.reloading = Reloading(proxy, configuration, load, reactor, self._notifier, inThread, inThread)
        self.refreshing: list[Callable[[], object]] = []
        self.draining = False
        self.status = 0
        proxy.setServiceParent(self)

    def _inThread(self, work: Callable[[], _T], /) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)

    # -- start ------------------------------------------------------------------------------------------------------

    def setServiceParent(self, parent: Any) -> None:
        """
        Become what an application runs, and keep its log.
        """
        keepLog(parent, self.journal)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """
        Listen.

        @raise CannotStart: An address cannot be listened on.
        """
        self._holdSignals()
        self._orExit(super().privilegedStartService)

    def startService(self) -> None:
        """
        Serve.

        @raise CannotStart: An address cannot be listened on.
        """
        self._holdSignals()
        configuration = self.reloading.configuration
        for warning in configuration.warnings:
            self._say(LogLevel.warn, "warning: {sentence}", sentence=warning)
        self._orExit(super().startService)
        # It may have another user by now, or another root.
        lost = unreadable(name for name, signature in configuration.files.items() if signature is not None)
        if lost:
            words = "warning: what was read at the start cannot be read any more, so no reload can: {files}"
            self._say(LogLevel.warn, words, files=few(lost, printable))
        self.reloading.start()

    def _holdSignals(self) -> None:
        """
        Have the kernel keep what asks us for something until we heed it.

        That is when the reactor runs, which it does some time after the first address is listened on, and after the
        process that starts a daemon has ended.  A signal in between would end the process on the spot, and its pidfile
        and its sockets in the file system would stay.
        """
        if not self._holding:
            self._holding = True
            signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
            self._reactor.callWhenRunning(self._run)

    def _orExit(self, start: Callable[[], None]) -> None:
        try:
            start()
        except (CannotListen, CannotListenError) as e:
            _log.error("{problem}", problem=str(e))
            # twistd has put its log in the place of sys.stderr.
            print(f"tlsproxy: {e}", file=sys.__stderr__)
            raise CannotStart(str(e)) from None

    def _run(self) -> None:
        """
        The reactor runs.
        """
        # Nobody is to wait for them in the end: the interpreter would, and so would the reactor, see _stop.
        self._pool = self._reactor.getThreadPool()
        self._pool.threadFactory = _Forsaken
        # Its own handlers have the runner end the process by the signal, however well it has stopped.
        for asking in _STOPPING:
            self._heed(asking, self.stop)
        self._heed(signal.SIGHUP, self._hangUp)
        atexit.register(self._exit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEEDED)
        self._notifier.tell("READY=1", f"STATUS={self.reloading.status()}")
        if self._notifier.watchdog:
            self._live()

    def _heed(self, number: signal.Signals, act: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(act))

    def _hangUp(self) -> None:
        if self.journal is not None:
            self.journal.reopen()
        self.reloading.reload()
        for refresh in self.refreshing:
            refresh()

    def _live(self) -> None:
        """
        Tell that the reactor does its turns.
        """
        self._notifier.tell("WATCHDOG=1")
        self._beat = self._reactor.callLater(self._notifier.watchdog, self._live)

    def _say(self, level: Any, words: str, **facts: object) -> None:
        if level >= self._level:
            _log.emit(level, words, **facts)

    # -- stop -------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """
        Have the process stop; at the second time, cut what is still open.
        """
        if self.draining:
            self._say(LogLevel.info, "asked to stop again: what is still open is cut")
            self._proxy.stopService()
            return
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            pass  # Somebody else has asked.

    def stopService(self) -> Deferred[None]:
        """
        Let nobody in any more, wait for the sessions, and then stop all services.
        """
        self.draining = True
        self.reloading.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        seconds = self.reloading.configuration.proxy.drain
        microseconds = int(seconds * 1e6) + 10_000_000
        count = len(self._proxy.sessions)
        words = f"waits up to {seconds:g} s for {count} session{'s' * (count != 1)}" if count else "no session is open"
        self._say(LogLevel.info, "stopping: {what}", what=words)
        self._notifier.tell("STOPPING=1", f"STATUS=stopping, {words}", f"EXTEND_TIMEOUT_USEC={microseconds}")
        end = self._reactor.seconds() + seconds
        cut = 0
        while True:
            cut += await self._proxy.drain(max(0.0, end - self._reactor.seconds()))
            if not self._proxy.sessions:
                break  # Otherwise one was on its way in.
        if cut:
            self.status = 1
            words = f"{cut} session{'s' * (cut != 1)} had to be cut"
            self._say(LogLevel.warn, "stopped: {what}", what=words)
            # Their descriptors are closed in a later turn, after which there may be none.
            await deferLater(self._reactor, 0, bool)
        elif count:
            self._say(LogLevel.info, "stopped: all sessions ended by themselves")
        await maybeDeferred(super().stopService)
        beat, self._beat = self._beat, None
        if beat is not None and beat.active():
            beat.cancel()
        self._notifier.close()
        if self._pool is not None:
            # There is no session left, and no reload, for which what they do could be of use.
            self._pool.threads.clear()
        # The interpreter gives up our handlers before it ends, and would end by the signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)

    def _exit(self) -> None:
        """
        The interpreter ends.  The runner knows no status of its own, so what is not good is told here.
        """
        if self.journal is not None:
            self.journal.close()
        if self.status:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(self.status)
