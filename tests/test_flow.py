# -*- test-case-name: tests.test_flow -*-
"""
L{tlsproxy.flow}: what handlers can do besides, and what becomes of their mistakes.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred

from tests.acting import Act, Acting, ActingCase
from tlsproxy.errors import AdmissionRefused, PeerEnded
from tlsproxy.flow import Flow
from tlsproxy.handler import INWARD, OUTWARD, Way

FAILED = ("failed", "handler acting failed; its traceback is in the log")


class Mistake(Exception):
    """
    What a handler of these tests does wrong.
    """


def fail(*_: object) -> None:
    """
    Make a mistake.
    """
    raise Mistake("on purpose")


class MistakeTests(ActingCase):
    """
    Handlers that raise exceptions.
    """

    def goesOn(self) -> None:
        """
        Another session of the route is not touched.
        """
        self.assertEqual(1, len(self.factory.sessions))
        self.one().stop()
        self.settle()

    def test_everywhere(self) -> None:
        """
        An exception in any of a handler's methods ends this session and no other; the reason names the handler, and
        the log has the traceback.
        """

        def later(handler: Acting) -> None:
            handler.flow.callLater(1, fail)

        def watched(handler: Acting) -> None:
            async def talk() -> None:
                await handler.session.near.sleep(1)
                fail()

            handler.flow.watch(talk())

        async def negotiate(handler: Acting, near: Any, far: Any) -> None:
            fail()

        for what in (
            {"begin": fail},
            {"talk": negotiate},
            {"received": fail},
            {"ended": fail},
            {"begin": later},
            {"begin": watched},
        ):
            other = self.plain(self.act())
            client = self.plain(self.act(), self.act(**what, name="mine"))
            client.write(b"x")
            client.end()
            self.after(1.25)
            (event,) = self.told()
            self.assertEqual(
                ("failed", "handler mine failed; its traceback is in the log"), (event["outcome"], event["reason"])
            )
            self.assertEqual(1, len(self.flushLoggedErrors(Mistake)))
            made = [told for one in self.made for told in one.told if told[0] == "closed"]
            self.assertEqual([("closed", "failed")] * (1 if what == {"begin": fail} else 2), made)
            self.assertEqual("", other.ended)
            self.tearDown()
            self.setUp()

    def test_closed(self) -> None:
        """
        One in C{closed} is logged, and keeps nobody else from being told.
        """
        client = self.plain(self.act(closed=fail), self.act())
        client.end()
        self.upstream.peer.end()
        self.assertEqual(("closed", ""), self.ended())
        self.assertEqual(1, len(self.flushLoggedErrors(Mistake)))
        self.assertEqual(("closed", "closed"), self.made[1].told[-1])

    def test_errorsOfSessions(self) -> None:
        """
        An error made for sessions has its own outcome and sentence, and no traceback.
        """

        def refuse(*_: object) -> None:
            raise AdmissionRefused("it is not polite")

        def end(*_: object) -> None:
            raise PeerEnded("it went away")

        for received, outcome, reason in (
            (refuse, "refused", "handler acting: it is not polite"),
            (end, "ended", "handler acting: it went away"),
        ):
            client = self.plain(self.act(received=received))
            client.write(b"x")
            self.assertEqual((outcome, reason), self.ended())
            self.assertEqual([("closed", outcome)], self.made[0].told)
            self.tearDown()
            self.setUp()

    def test_halfMade(self) -> None:
        """
        What a handler has begun before it failed to be made is over with it.
        """
        ran: list[str] = []

        async def talk() -> None:
            try:
                await Deferred()
            except CancelledError:
                ran.append("cancelled")

        def begin(handler: Acting) -> None:
            handler.flow.callLater(1, ran.append, "late")
            handler.flow.watch(talk())
            fail()

        self.plain(self.act(begin=begin))
        self.after(2)
        self.assertEqual((["cancelled"], FAILED), (ran, self.ended()))
        self.flushLoggedErrors(Mistake)

    def test_noHandler(self) -> None:
        """
        Options that make no handler end their sessions with a word on what is missing.
        """

        @frozen(kw_only=True)
        class Nothing(Act):
            def handler(self, session: Any, flow: Any) -> Any:
                return None

        self.plain(Nothing())
        self.assertEqual(FAILED, self.ended())
        (failure,) = self.flushLoggedErrors(TypeError)
        self.assertEqual("handler() has returned None, which has no method negotiate", str(failure.value))

    def test_duringSetUp(self) -> None:
        """
        A task that fails at once while the session is still set up, before and after that has waited for something.
        """

        async def wrong() -> None:
            fail()

        async def early(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.watch(wrong())
            await near.readLine()

        async def late(handler: Acting, near: Any, far: Any) -> None:
            await near.readLine()
            handler.flow.watch(wrong())
            await near.readLine()

        async def last(handler: Acting, near: Any, far: Any) -> None:
            await near.readLine()
            handler.flow.watch(wrong())

        for talk in (early, late, last):
            client = self.plain(self.act(talk=talk))
            client.write(b"line\n")
            self.assertEqual(FAILED, self.ended())
            self.assertEqual(1, len(self.flushLoggedErrors(Mistake)))
            self.tearDown()
            self.setUp()

    def test_unheeded(self) -> None:
        """
        A handler that takes the end of its session for a failure of something else does not keep it alive.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            for _ in range(3):
                try:
                    await near.readLine()
                except Exception:
                    pass

        self.plain(self.act(talk=talk), negotiate=5)
        self.after(6)
        self.assertEqual(("expired", "the talk before TLS did not end within 5 s"), self.ended())


class LaterTests(ActingCase):
    """
    Timers and tasks.
    """

    def test_callLater(self) -> None:
        """
        A call comes in its time, with its arguments, or not at all where it is cancelled.
        """
        self.plain(self.act())
        flow = self.made[0].flow
        came: list[float] = []
        call = flow.callLater(1, lambda word: came.append(flow.seconds()), "word")
        cancelled = flow.callLater(1, fail)
        self.assertTrue(call.active() and cancelled.active())
        cancelled.cancel()
        begun = flow.seconds()
        self.after(2)
        self.assertEqual(([begun + 1], False), (came, call.active()))

    def test_manyCalls(self) -> None:
        """
        Calls that are cancelled over and over leave nothing behind.
        """
        self.plain(self.act())
        flow = self.made[0].flow
        for _ in range(1000):
            flow.callLater(60, fail).cancel()
            self.assertLess(len(flow._calls), 30)
        for _ in range(1000):
            flow.callLater(0, int)
        self.after(1)
        self.assertEqual(set(), flow._calls)

    def test_end(self) -> None:
        """
        At the end of the session timers and tasks are cancelled, and what is asked for later does not happen.
        """
        ended: list[str] = []

        async def wait(word: str) -> None:
            try:
                await Deferred()
            finally:
                ended.append(word)

        def closed(handler: Acting) -> None:
            handler.flow.callLater(0, fail)
            handler.flow.watch(wait("late"))
            handler.flow.release(INWARD, b"too late")
            handler.flow.pause(OUTWARD)
            handler.flow.resume(OUTWARD)
            handler.flow.refuse("too late", b"too late")

        client = self.plain(self.act(closed=closed))
        flow = self.made[0].flow
        call = flow.callLater(10, fail)
        flow.watch(wait("early"))
        client.end()
        self.upstream.peer.end()
        self.assertEqual(("closed", ""), self.ended())
        self.assertEqual((["early", "late"], False), (ended, call.active()))
        flow.release(OUTWARD, b"later still")
        flow.watch(wait("later still"))
        self.assertFalse(flow.callLater(0, fail).active())
        self.assertEqual((b"", b""), (client.received, self.upstream.peer.received))
        self.after(11)

    def test_failsWhenCancelled(self) -> None:
        """
        A task that makes a mistake when it is cancelled at the end has that logged, and what it releases then is not
        sent.
        """

        async def wait(flow: Flow) -> None:
            try:
                await Deferred()
            finally:
                flow.release(INWARD, b"late")
                flow.callLater(0, fail)
                fail()

        client = self.plain(self.act())
        self.made[0].flow.watch(wait(self.made[0].flow))
        client.end()
        self.upstream.peer.end()
        self.assertEqual(("closed", ""), self.ended())
        self.assertEqual(1, len(self.flushLoggedErrors(Mistake)))

    def test_deferred(self) -> None:
        """
        A Deferred can be watched, too; that the handler cancels its task is no failure.
        """
        self.plain(self.act())
        flow = self.made[0].flow
        first: Deferred[None] = Deferred()
        flow.watch(first)
        first.cancel()
        second: Deferred[None] = Deferred()
        flow.watch(second)
        self.settle()
        self.assertEqual(1, len(self.factory.sessions))
        second.errback(Mistake())
        self.assertEqual(FAILED, self.ended())
        self.flushLoggedErrors(Mistake)

    def test_taskReleases(self) -> None:
        """
        A task may hold bytes and give them back in its own time.
        """

        async def slowly(handler: Acting, way: Way, data: bytes) -> None:
            handler.flow.pause(way)
            await handler.session.near.sleep(2)
            handler.flow.release(way, data)
            handler.flow.resume(way)

        client = self.plain(self.act(received=lambda handler, *what: handler.flow.watch(slowly(handler, *what))))
        client.write(b"slow")
        client.end()
        self.after(1)
        self.assertEqual(b"", self.upstream.peer.received)
        self.after(2)
        self.assertEqual((b"slow", "end"), (self.upstream.peer.received, self.upstream.peer.ended))
