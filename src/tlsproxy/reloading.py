# -*- test-case-name: tests.test_reloading -*-
"""
Reading the configuration again while the process runs, because somebody asks for it or because files have changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from attrs import fields, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel

from tlsproxy.address import CannotListen
from tlsproxy.config import Configuration
from tlsproxy.errors import ConfigurationError
from tlsproxy.sdnotify import Notifier, now
from tlsproxy.service import ProxyService
from tlsproxy.settings import ProxySettings
from tlsproxy.tls.policy import snake
from tlsproxy.tls.printing import few, printable
from tlsproxy.watching import Elsewhere, Watch, inPlace

__all__ = ["Reload", "Reloading", "changes", "unreadable"]

_log = Logger()

_PATIENCE: Final = 2.0
"""For how many seconds what is wrong with files that have just changed is not told: somebody may be about it."""

_EFFECTIVE: Final = os.access in os.supports_effective_ids
"""Whether the system tells what the user may do that the process acts as."""


@frozen(kw_only=True)
class Reload:
    """
    How a reload went.

    @ivar at: When it was over, in seconds since the epoch.
    @ivar problems: What was wrong, one sentence each; none where it was good.
    """

    at: float
    problems: tuple[str, ...] = ()


class Reloading:
    """
    Reads the configuration again, and has the routes follow it.

    @ivar configuration: What holds.
    @ivar generation: How many configurations have held so far.
    @ivar last: How the last reload went; L{None} where there was none.
    @ivar followers: Called with each configuration that comes to hold.
    """

    def __init__(
        self,
        proxy: ProxyService,
        configuration: Configuration,
        load: Callable[[], Configuration] | None,
        clock: Any,
        notifier: Notifier,
        elsewhere: Elsewhere = inPlace,
        looking: Elsewhere = inPlace,
    ) -> None:
        """
        @param proxy: The service of the routes.
        @param configuration: What it was made of.
        @param load: Reads the configuration, or raises L{ConfigurationError}; L{None} where there is nothing to read.
        @param clock: The reactor.
        @param notifier: Who is told.
        @param elsewhere: Has the configuration read, best in a thread of its own.
        @param looking: Has the files looked at, the same way.
        """
        self.configuration = configuration
        self.generation = 1
        self.last: Reload | None = None
        self.followers: list[Callable[[Configuration], object]] = []
        self._started = configuration.proxy
        self._proxy = proxy
        self._load = load
        self._clock = clock
        self._notifier = notifier
        self._elsewhere = elsewhere
        self._watch = Watch(clock, self._changed, looking)
        self._wanted: bool | None = None
        self._again: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._stopped = False

    def start(self) -> None:
        """
        Look at the files from now on.
        """
        self._look(self.configuration.files)

    def stop(self) -> None:
        """
        Read nothing any more.
        """
        self._stopped = True
        self._watch.stop()
        self._rest()
        if self._running is not None:
            self._running.cancel()

    def _rest(self) -> None:
        again, self._again = self._again, None
        if again is not None:
            again.cancel()

    def _look(self, files: Mapping[str, Any]) -> None:
        self._watch.look(files)
        if self._load is not None and self.configuration.proxy.watch and not self._stopped:
            self._watch.start()
        else:
            self._watch.stop()

    # -- reloading --------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """
        Read all again, because somebody asks for it.  What is asked while it is being read is done after that.
        """
        if self._load is None:
            self._say(LogLevel.warn, "there is nothing to read again: a demo has no configuration")
            return
        self._begin(patient=False)

    def _changed(self) -> None:
        self._begin(patient=True)

    def _tired(self) -> None:
        self._again = None
        self._begin(patient=False)

    def _begin(self, patient: bool) -> None:
        if self._stopped:
            return
        self._rest()
        self._wanted = patient and self._wanted is not False
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._all())
            self._running.addBoth(self._done)

    def _done(self, _: object) -> None:
        self._running = None

    async def _all(self) -> None:
        while self._wanted is not None and not self._stopped:
            patient, self._wanted = self._wanted, None
            self._notifier.tell("RELOADING=1", now())
            try:
                await self._once(patient)
            except CancelledError:
                return
            self._notifier.tell("READY=1", f"STATUS={self.status()}")

    async def _once(self, patient: bool) -> None:
        """
        Reload.

        @param patient: Whether what is wrong may be about to be mended, and is told only if it is not.
        """
        assert self._load is not None
        files: Mapping[str, Any] = {}
        try:
            configuration = await self._elsewhere(self._load)
            if self._stopped:
                return
            files = configuration.files
            await self._proxy.reload(configuration.routes)
        except CancelledError:
            raise
        except ConfigurationError as e:
            files = e.files
            problems = tuple(map(str, e.problems))
        except (CannotListen, CannotListenError) as e:
            problems = (str(e),)
        except Exception:
            _log.failure("a reload met a bug of ours")
            problems = ("tlsproxy itself failed; its traceback is in the log",)
        else:
            self._adopt(configuration)
            return
        # What was missing may come back, and what holds may be put back.
        self._look({**self._watch.known, **files})
        if patient:
            self._again = self._clock.callLater(_PATIENCE, self._tired)
            return
        self.last = Reload(at=time.time(), problems=problems)
        for problem in problems:
            self._say(LogLevel.error, "not reloaded: {problem}", problem=problem)
        self._say(LogLevel.error, "not reloaded: what was read before goes on")

    def _adopt(self, configuration: Configuration) -> None:
        """
        Another configuration holds.
        """
        before, self.configuration = self.configuration, configuration
        self.generation += 1
        self.last = Reload(at=time.time())
        self._look(configuration.files)
        for follow in self.followers:
            follow(configuration)
        what = changes(before, configuration)
        self._say(LogLevel.info, "reloaded: {what}", what="; ".join(what) or "nothing has changed")
        for warning in configuration.warnings:
            if warning not in before.warnings:
                self._say(LogLevel.warn, "warning: {sentence}", sentence=warning)
        for attribute in fields(ProxySettings):
            one = attribute.name
            if getattr(self._started, one) != getattr(configuration.proxy, one) and not attribute.metadata.get("live"):
                self._say(LogLevel.warn, "{key} of [proxy] has changed, which needs a restart", key=snake(one))

    def _say(self, level: Any, words: str, **facts: object) -> None:
        if level >= LogLevel.levelWithName(self._started.logLevel):
            _log.emit(level, words, **facts)

    def status(self) -> str:
        """
        Tell in a line how it is.
        """
        count = len(self.configuration.routes)
        routes = f"{count} route" if count == 1 else f"{count} routes"
        if self.last is not None and self.last.problems:
            return f"serves {routes} of before the last reload, which failed: {self.last.problems[0]}"
        return f"serves {routes}"


def changes(before: Configuration, after: Configuration) -> list[str]:
    """
    Tell what is new in a configuration.
    """
    told = []
    for what, names in (
        ("routes added", [name for name in after.tables if name not in before.tables]),
        ("routes removed", [name for name in before.tables if name not in after.tables]),
        ("routes changed", [one for one, it in after.tables.items() if before.tables.get(one, it) != it]),
        ("files changed", [one for one, it in after.files.items() if before.files.get(one, it) != it]),
    ):
        if names:
            told.append(f"{what}: {few(names, printable)}")
    return told


def unreadable(files: Iterable[str]) -> list[str]:
    """
    Find the files that are there, or cannot be reached any more, and that the process may not read.
    """
    return [file for file in files if not os.access(file, os.R_OK, effective_ids=_EFFECTIVE)]
