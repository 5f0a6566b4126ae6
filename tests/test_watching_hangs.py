# -*- test-case-name: tests.test_watching_hangs -*-
"""
L{tlsproxy.watching}: a file system that does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import watching
from tlsproxy.watching import Signature, Watch

T = TypeVar("T")


class Pool:
    """
    Threads that do nothing until they are told.

    @ivar waiting: What they have to do, and whom to tell.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """
        Have something done.
        """
        done: Deferred[T] = Deferred()
        self.waiting.append((work, done))
        return done

    def work(self) -> None:
        """
        Do what there is to do.
        """
        waiting, self.waiting = self.waiting, []
        for work, done in waiting:
            maybeDeferred(work).chainDeferred(done)


class HangingTests(SynchronousTestCase):
    """
    Looking in a thread, at a file system that may hang.
    """

    def setUp(self) -> None:
        """
        Look at one file.
        """
        self.disk: dict[str, Signature | None] = {"/a": (0,) * 5, "/b": (0,) * 5}
        self.patch(watching, "signatureOf", self.disk.get)
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.clock = Clock()
        self.pool = Pool()
        self.told: list[float] = []
        self.watch = Watch(self.clock, lambda: self.told.append(self.clock.seconds()), self.pool)
        self.watch.look({"/a": (0,) * 5})
        self.watch.start()

    def pass_(self, ticks: int) -> None:
        """
        Let time pass, and the threads do nothing.
        """
        self.clock.pump([0.5] * ticks)

    def turn(self, ticks: int) -> None:
        """
        Let time pass, and the threads do what there is to do.
        """
        for _ in range(ticks):
            self.pass_(1)
            self.pool.work()

    def log(self) -> list[str]:
        """
        What was logged since the last time.
        """
        told = [str(formatEvent(event)) for event in self.events]
        del self.events._events[:]
        return told

    def test_elsewhere(self) -> None:
        """
        Nothing is looked at but in a thread, and what has changed is told as ever.
        """
        asked = []

        def look(path: str) -> Signature | None:
            asked.append(path)
            return self.disk[path]

        self.patch(watching, "signatureOf", look)
        self.pass_(1)
        self.assertEqual(([], 1), (asked, len(self.pool.waiting)))
        self.pool.work()
        self.assertEqual(["/a"], asked)
        self.disk["/a"] = (1,) * 5
        self.turn(4)
        self.assertEqual([1.5], self.told)
        self.assertEqual([], self.log())

    def test_hangs(self) -> None:
        """
        Of a file system that hangs no more is asked meanwhile, and it is told once that it hangs, and once that it
        does not any more; what has changed meanwhile is then seen.
        """
        self.pass_(1)
        self.pass_(9)
        self.assertEqual([], self.log())
        self.pass_(60)
        self.assertEqual(1, len(self.pool.waiting))
        self.assertEqual(
            [
                "a file system does not answer, so files that change are not noticed until it does; what was read "
                "before goes on"
            ],
            self.log(),
        )
        self.disk["/a"] = (1,) * 5
        self.pool.work()
        self.assertEqual(["the file system answers again, and files that change are noticed"], self.log())
        self.turn(3)
        self.assertEqual(1, len(self.told))
        self.assertEqual([], self.log())

    def test_stop(self) -> None:
        """
        To stop while it hangs leaves no timer, and what is answered later is not heeded; to start again asks no more
        until then.
        """
        for seconds in (1, 20):
            self.pass_(seconds)
            self.watch.stop()
            self.assertEqual([], self.clock.getDelayedCalls())
            self.disk["/a"] = (seconds,) * 5
            self.watch.start()
            self.pass_(2)
            self.assertEqual(1, len(self.pool.waiting))
            self.watch.stop()
            self.pool.work()
            self.assertEqual(([], []), (self.told, self.clock.getDelayedCalls()))
            self.watch.look({"/a": self.disk["/a"]})
            self.watch.start()
        self.turn(4)
        self.assertEqual([], self.told)
        self.assertEqual(1, len(self.log()))

    def test_others(self) -> None:
        """
        What is answered of files that nobody asks for any more is not heeded.
        """
        self.pass_(1)
        self.disk["/a"] = None
        self.watch.look({"/b": (0,) * 5})
        self.pool.work()
        self.turn(5)
        self.assertEqual(([], {"/b": (0,) * 5}), (self.told, self.watch.known))
        self.disk["/b"] = None
        self.turn(3)
        self.assertEqual(1, len(self.told))

    def test_bug(self) -> None:
        """
        A bug is told, and the next look is another.
        """
        self.patch(watching, "signatureOf", lambda _: 1 // 0)
        self.turn(2)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.patch(watching, "signatureOf", self.disk.get)
        self.disk["/a"] = None
        self.turn(3)
        self.assertEqual(1, len(self.told))
