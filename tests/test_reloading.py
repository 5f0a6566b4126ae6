# -*- test-case-name: tests.test_reloading -*-
"""
L{tlsproxy.reloading}: reading the configuration again while the process runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.test_route import Pattern
from tests.test_watching import FilesCase
from tlsproxy import watching
from tlsproxy.address import CannotListen
from tlsproxy.config import Configuration
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.reloading import Reloading, changes, unreadable
from tlsproxy.route import Route
from tlsproxy.settings import ProxySettings
from tlsproxy.watching import inPlace

OLD = (0,) * 5
NEW = (1,) * 5


def configure(*names: str, files: dict[str, Any] | None = None, **proxy: Any) -> Configuration:
    """
    Make a configuration of routes.
    """
    return Configuration(
        proxy=ProxySettings(**proxy),
        routes=tuple(Route(name=name, pattern=Pattern()) for name in names),
        warnings=(),
        tables={name: {"name": name} for name in names},
        files=files or {},
    )


class Proxy:
    """
    A service of routes.
    """

    def __init__(self) -> None:
        self.routes: list[list[str]] = []
        self.answer: Deferred[None] = succeed(None)

    def reload(self, routes: Any) -> Deferred[None]:
        """
        Take others.
        """
        self.routes.append([route.name for route in routes])
        return self.answer


class Told:
    """
    Notes what systemd would be told.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.watchdog = 0.0

    def close(self) -> None:
        """
        Note that nothing more is told.
        """
        self.words.append("closed")

    def tell(self, *words: str) -> None:
        """
        Note it, without the time.
        """
        self.words += [word for word in words if not word.startswith("MONOTONIC")]


class ReloadingTests(SynchronousTestCase):
    """
    Reloads of a service that only notes them.
    """

    def setUp(self) -> None:
        """
        Have a configuration of one file.
        """
        self.clock = Clock()
        self.proxy: Any = Proxy()
        self.notifier: Any = Told()
        self.answers: list[Configuration | Exception] = []
        self.disk: dict[str, Any] = {"/f": OLD}
        self.patch(watching, "signatureOf", self.disk.get)
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.first = configure("shop", files={"/f": OLD})

    def load(self) -> Configuration:
        """
        Read what comes next.
        """
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def start(self, elsewhere: Any = inPlace, load: bool = True) -> Reloading:
        """
        Start.
        """
        how = self.load if load else None
        reloading = Reloading(self.proxy, self.first, how, self.clock, self.notifier, elsewhere)
        reloading.start()
        self.addCleanup(reloading.stop)
        return reloading

    def log(self) -> list[tuple[str, str]]:
        """
        What the log has since last asked.
        """
        told: list[tuple[str, str]] = [(event["log_level"].name, formatEvent(event)) for event in self.events]
        del self.events._events[:]
        return told

    def bad(self, *sentences: str, files: dict[str, Any] | None = None) -> ConfigurationError:
        """
        Make what a bad configuration raises.
        """
        return ConfigurationError([Problem("", sentence) for sentence in sentences], files or {"/f": self.disk["/f"]})

    def pass_(self, seconds: float) -> None:
        """
        Let time pass.
        """
        for _ in range(int(seconds * 10)):
            self.clock.advance(0.1)

    def test_asked(self) -> None:
        """
        Whoever asks for it gets it, with what has changed in the log.
        """
        reloading = self.start()
        second = configure("shop", "blog", files={"/f": NEW})
        self.answers += [second, second]
        reloading.reload()
        self.assertEqual([("info", "reloaded: routes added: blog; files changed: /f")], self.log())
        self.assertEqual(
            ([["shop", "blog"]], 2, second), (self.proxy.routes, reloading.generation, reloading.configuration)
        )
        assert reloading.last is not None
        self.assertEqual((), reloading.last.problems)
        reloading.reload()
        self.assertEqual([("info", "reloaded: nothing has changed")], self.log())
        told = ["RELOADING=1", "READY=1", "STATUS=serves 2 routes"]
        self.assertEqual(told * 2, self.notifier.words)

    def test_followers(self) -> None:
        """
        Whoever else goes by the configuration is told of each that comes to hold.
        """
        told: list[Configuration] = []
        reloading = self.start()
        reloading.followers.append(told.append)
        second = configure("blog")
        self.answers += [self.bad("wrong"), second]
        reloading.reload()
        self.assertEqual([], told)
        reloading.reload()
        self.assertEqual([second], told)

    def test_watched(self) -> None:
        """
        So does a file that changes.
        """
        self.start()
        self.answers.append(configure("shop", files={"/f": NEW}))
        self.disk["/f"] = NEW
        self.pass_(1.9)
        self.assertEqual([("info", "reloaded: files changed: /f")], self.log())
        self.pass_(10)
        self.assertEqual([], self.log())

    def test_bad(self) -> None:
        """
        A bad one changes nothing; each problem has its line.
        """
        reloading = self.start()
        self.answers.append(self.bad("one", "two"))
        reloading.reload()
        lines = ["not reloaded: one", "not reloaded: two", "not reloaded: what was read before goes on"]
        self.assertEqual([("error", line) for line in lines], self.log())
        self.assertEqual(([], 1, self.first), (self.proxy.routes, reloading.generation, reloading.configuration))
        assert reloading.last is not None
        self.assertEqual(("one", "two"), reloading.last.problems)
        status = "STATUS=serves 1 route of before the last reload, which failed: one"
        self.assertEqual(["RELOADING=1", "READY=1", status], self.notifier.words)

    def test_mended(self) -> None:
        """
        What is wrong right after a change, and right soon after, is not told.
        """
        self.start()
        self.answers += [self.bad("half", files={"/f": NEW}), configure("shop", files={"/f": NEW})]
        self.disk["/f"] = NEW
        self.pass_(1.5)
        self.disk["/f"] = (2,) * 5
        self.pass_(1.5)
        self.assertEqual([("info", "reloaded: files changed: /f")], self.log())

    def test_notMended(self) -> None:
        """
        It is told when nobody mends it, and only once.
        """
        self.start()
        self.answers += [self.bad("wrong", files={"/f": NEW}), self.bad("wrong", files={"/f": NEW})]
        self.disk["/f"] = NEW
        self.pass_(10)
        lines = ["not reloaded: wrong", "not reloaded: what was read before goes on"]
        self.assertEqual([("error", line) for line in lines], self.log())

    def test_askedMeanwhile(self) -> None:
        """
        Who asks for it wants to know at once.
        """
        reloading = self.start()
        self.answers += [self.bad("wrong", files={"/f": NEW}), self.bad("wrong", files={"/f": NEW})]
        self.disk["/f"] = NEW
        self.pass_(1.5)
        self.assertEqual([], self.log())
        reloading.reload()
        self.assertEqual(2, len(self.log()))
        self.pass_(10)
        self.assertEqual([], self.log())

    def test_comesBack(self) -> None:
        """
        A file that a bad one lacks is looked out for, as is what holds.
        """
        reloading = self.start()
        self.answers += [self.bad("missing", files={"/g": None})]
        reloading.reload()
        self.log()
        self.answers.append(configure("shop", files={"/f": OLD, "/g": NEW}))
        self.disk["/g"] = NEW
        self.pass_(2)
        self.assertEqual([("info", "reloaded: nothing has changed")], self.log())
        self.answers.append(configure("shop", files={"/f": NEW}))
        self.disk["/f"] = NEW
        self.pass_(2)
        self.assertEqual([("info", "reloaded: files changed: /f")], self.log())

    def test_otherFile(self) -> None:
        """
        A bad one may not come to all its files; that one of those has changed, too, is no reason to read for ever.
        """
        self.first = configure("shop", files={"/f": OLD, "/g": OLD})
        self.disk["/g"] = OLD
        self.start()
        self.answers += [self.bad("wrong", files={"/f": NEW}), self.bad("wrong", files={"/f": NEW})]
        self.disk["/f"] = self.disk["/g"] = NEW
        self.pass_(10)
        self.assertEqual(2, len(self.log()))

    def test_cannotListen(self) -> None:
        """
        Where an address cannot be listened on, the old goes on, too.
        """
        reloading = self.start()
        self.answers.append(configure("blog"))
        self.proxy.answer = fail(CannotListen("cannot listen on 80: Permission denied"))
        reloading.reload()
        self.assertEqual("not reloaded: cannot listen on 80: Permission denied", self.log()[0][1])
        self.assertEqual(self.first, reloading.configuration)

    def test_bug(self) -> None:
        """
        A bug of ours is told with its traceback, and nothing is lost by it.
        """
        reloading = self.start()
        self.answers += [ZeroDivisionError(), configure("shop")]
        reloading.reload()
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        assert reloading.last is not None
        self.assertIn("itself failed", reloading.last.problems[0])
        reloading.reload()
        self.assertEqual(2, reloading.generation)

    def test_meanwhile(self) -> None:
        """
        What is asked for while something is being read is done after that, once.
        """
        waiting: list[Deferred[Configuration]] = []

        def later(load: Callable[[], Configuration]) -> Deferred[Configuration]:
            waiting.append(Deferred())
            return waiting[-1]

        reloading = self.start(later)
        for _ in range(5):
            reloading.reload()
        self.assertEqual(1, len(waiting))
        waiting[0].callback(configure("a"))
        self.assertEqual((2, [["a"]]), (len(waiting), self.proxy.routes))
        waiting[1].callback(configure("b"))
        self.assertEqual((2, [["a"], ["b"]]), (len(waiting), self.proxy.routes))

    def test_stop(self) -> None:
        """
        Once it is stopped, nothing happens any more, whatever was under way.
        """
        waiting: Deferred[Configuration] = Deferred()
        reloading = self.start(lambda load: waiting)
        reloading.reload()
        reloading.stop()
        reloading.reload()
        waiting.callback(configure("a"))
        self.assertEqual(([], [], []), (self.proxy.routes, self.log(), self.clock.getDelayedCalls()))

    def test_stopPatient(self) -> None:
        """
        Nor does it where something was wrong and not told yet.
        """
        reloading = self.start()
        self.answers.append(self.bad("wrong"))
        self.disk["/f"] = NEW
        self.pass_(1.5)
        reloading.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_watch(self) -> None:
        """
        Whether files are looked at may change with a reload.
        """
        self.first = configure("shop", files={"/f": OLD}, watch=False)
        reloading = self.start()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.answers += [configure("shop", files={"/f": OLD}), self.first]
        reloading.reload()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))
        reloading.reload()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_nothingToRead(self) -> None:
        """
        A demo looks at nothing, and says that there is nothing to read.
        """
        reloading = self.start(load=False)
        reloading.reload()
        ((level, sentence),) = self.log()
        self.assertEqual(("warn", [], 1), (level, self.clock.getDelayedCalls(), reloading.generation))
        self.assertIn("demo", sentence)

    def test_warnings(self) -> None:
        """
        What is doubtful is told when it is new.
        """
        self.first = evolve(self.first, warnings=("old",))
        reloading = self.start()
        self.answers.append(evolve(self.first, warnings=("old", "new")))
        reloading.reload()
        self.assertEqual([("warn", "warning: new")], [line for line in self.log() if line[0] == "warn"])

    def test_restart(self) -> None:
        """
        What can change only with a restart is told, and what was before holds; the rest holds.
        """
        reloading = self.start()
        self.answers.append(configure("shop", files={"/f": OLD}, logLevel="error", stateDir="/s", drain=5.0))
        reloading.reload()
        lines = [line for line in self.log() if line[0] == "warn"]
        keys = ("state_dir", "log_level")
        self.assertEqual([("warn", f"{key} of [proxy] has changed, which needs a restart") for key in keys], lines)
        self.assertEqual(5.0, reloading.configuration.proxy.drain)

    def test_logLevel(self) -> None:
        """
        It says no more than it was told to.
        """
        for level, count in (("debug", 3), ("info", 3), ("warn", 2), ("error", 2)):
            self.first = configure("shop", files={"/f": OLD}, logLevel=level)
            reloading = self.start()
            self.answers += [self.first, self.bad("wrong")]
            reloading.reload()
            reloading.reload()
            self.assertEqual(count, len(self.log()))
            reloading.stop()

    def test_levels(self) -> None:
        """
        The levels are those of the log.
        """
        self.assertEqual(["debug", "info", "warn", "error", "critical"], [one.name for one in LogLevel.iterconstants()])


class ChangesTests(SynchronousTestCase):
    """
    What is new in a configuration.
    """

    def test_changes(self) -> None:
        """
        Routes and files are told, each by what became of it.
        """
        before = configure("a", "b", "c", files={"/1": OLD, "/2": OLD, "/3": OLD})
        after = configure("b", "c", "d", files={"/1": OLD, "/2": NEW, "/4": NEW})
        after = evolve(after, tables={**after.tables, "c": {"name": "c", "close": "both"}})
        expected = ["routes added: d", "routes removed: a", "routes changed: c", "files changed: /2"]
        self.assertEqual((expected, []), (changes(before, after), changes(after, after)))

    def test_longPath(self) -> None:
        """
        A path is told to its end, where the file's name is.
        """
        path = f"/{'x' * 200}/shop.pem"
        before, after = configure("a", files={path: OLD}), configure("a", files={path: NEW})
        self.assertEqual([f"files changed: {path}"], changes(before, after))


class UnreadableTests(FilesCase):
    """
    Files that may no longer be read.
    """

    def test_unreadable(self) -> None:
        """
        They are told, and so are those that cannot be reached.
        """
        good, gone = self.file("a"), str(self.folder / "gone")
        closed = self.file("b")
        asked: list[tuple[object, ...]] = []
        access = os.access

        def look(path: str, mode: int, **more: object) -> bool:
            asked.append((mode, more))
            return path != closed and access(path, mode)

        self.patch(os, "access", look)
        self.assertEqual([closed, gone], unreadable([good, closed, gone]))
        # What counts is the user that the process acts as.
        self.assertEqual({(os.R_OK, True)}, {(mode, more["effective_ids"]) for mode, more in asked})  # type: ignore[index]
