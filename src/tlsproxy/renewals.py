# -*- test-case-name: tests.test_renewals -*-
"""
The service that looks after the enrollments of routes.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger, LogLevel

from tlsproxy.dial import Dialer
from tlsproxy.enrolling.asking import Asking
from tlsproxy.enrolling.fetching import Fetching
from tlsproxy.enrolling.folder import Folder
from tlsproxy.enrolling.renewal import Renewal
from tlsproxy.errors import ConfigurationError
from tlsproxy.mappingfile import checkSigned
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.route import Route
from tlsproxy.signedmapping import MappingProblem
from tlsproxy.upstreamproxy import UpstreamProxy

__all__ = ["Renewals", "checkWhole"]

_log = Logger()

_EVERY: Final = 60.0

_Kept = tuple[str, UpstreamProxy | None]


def checkWhole(data: bytes) -> None:
    """
    See that all that a signed mapping says can be done.

    @raise MappingProblem: It cannot.
    """
    try:
        checkSigned("", [], data)
    except ConfigurationError as e:
        problem = e.problems[0]
        raise MappingProblem(": ".join(filter(None, (problem.key, problem.sentence)))) from None


class _Alarm(Thread):
    """
    Calls something once in a while, whatever happens to the clock: timers of the reactor go by the time of day, and
    wait for as long as that was set back.
    """

    def __init__(self, reactor: Any, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._reactor = reactor
        self._call = call
        self._off = Event()

    def run(self) -> None:
        """
        Wait, and call.
        """
        # They are for the process, and not for this thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        while not self._off.wait(_EVERY):
            self._reactor.callFromThread(self._call)

    def stop(self) -> None:
        """
        Call no more.
        """
        self._off.set()


class Renewals(Service):
    """
    Looks after all folders that routes have their certificates from.
    """

    def __init__(
        self,
        reactor: Any,
        routes: Iterable[Route],
        changed: Callable[[], object],
        level: Any = LogLevel.info,
        alarm: Callable[[Any, Callable[[], object]], Any] = _Alarm,
    ) -> None:
        """
        @param reactor: The reactor.
        @param routes: The routes.
        @param changed: Called when files have changed that routes are made of.
        @param level: The least level that is logged.
        @param alarm: Makes what calls something once in a while, once it is started and until it is stopped.
        """
        self._reactor = reactor
        self._changed = changed
        self._level = level
        self._alarm = alarm
        self._wakes: Any = None
        self._dialer = Dialer(reactor)
        self._renewals: dict[_Kept, tuple[Renewal, list[str]]] = {}
        self.follow(routes)

    def startService(self) -> None:
        """
        Look after them from now on, and fetch their mappings once.
        """
        super().startService()
        self.refresh()
        for renewal, _ in self._renewals.values():
            renewal.start()
        self._setAlarm()

    def stopService(self) -> None:
        """
        Look after nothing any more.
        """
        super().stopService()
        for renewal, _ in self._renewals.values():
            renewal.stop()
        self._setAlarm()

    def refresh(self) -> None:
        """
        Fetch the mappings soon, because somebody asks for it.
        """
        for renewal, _ in self._renewals.values():
            renewal.refresh()

    def follow(self, routes: Iterable[Route]) -> None:
        """
        Look after the folders of these routes, and of no others.
        """
        before, self._renewals = self._renewals, {}
        for route in routes:
            pattern = route.pattern
            if not isinstance(pattern, SequentialClient) or pattern.enrolled is None:
                continue
            folder, proxy = pattern.enrolled.folder, pattern.upstreamProxy
            kept = str(folder.path.absolute()), proxy
            if kept not in self._renewals:
                known = before.pop(kept, None)
                self._renewals[kept] = (self._make(folder, proxy) if known is None else known[0]), []
            self._renewals[kept][1].append(route.name)
        for renewal, _ in before.values():
            renewal.stop()
        if self.running:
            for renewal, _ in self._renewals.values():
                renewal.start()
                renewal.look()
            self._setAlarm()

    def _make(self, folder: Folder, proxy: UpstreamProxy | None) -> Renewal:
        def say(level: Any, words: str, **facts: object) -> None:
            if level >= self._level:
                _log.emit(level, words, **facts)

        return Renewal(
            folder,
            self._reactor,
            Fetching(folder, lambda enrollment: Asking(self._reactor, self._dialer, enrollment.where, proxy)),
            now=lambda: datetime.now(UTC),
            seconds=time.monotonic,
            jitter=random.random,
            say=say,
            changed=self._changed,
            check=checkWhole,
        )

    def _setAlarm(self) -> None:
        if self.running and self._renewals and self._wakes is None:
            self._wakes = self._alarm(self._reactor, self._look)
            self._wakes.start()
        elif not (self.running and self._renewals) and self._wakes is not None:
            self._wakes.stop()
            self._wakes = None

    def _look(self) -> None:
        for renewal, _ in self._renewals.values():
            renewal.look()

    def tell(self) -> list[dict[str, Any]]:
        """
        Tell how the enrollments are, each with the first of its routes.
        """
        return [{"route": names[0], **renewal.tell()} for renewal, names in self._renewals.values()]
