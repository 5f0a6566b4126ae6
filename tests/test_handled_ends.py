# -*- test-case-name: tests.test_handled_ends -*-
"""
L{tlsproxy.handled}: how directions end in which handlers have a say.
"""

from __future__ import annotations

import os
from typing import Any

from tests.acting import Acting, ActingCase
from tests.test_relay import Moody
from tlsproxy.handler import INWARD, OUTWARD, Way


class EndTests(ActingCase):
    """
    What handlers hear of ends, and when.
    """

    def test_told(self) -> None:
        """
        Each direction's end is told once, in the order in which the handlers stand, and goes on then; half-closed, the
        other direction goes on.
        """
        order: list[str] = []
        acts = [
            self.act(ended=lambda _, way: order.append(f"first {way}")),
            self.act(ended=lambda _, way: order.append(f"second {way}")),
        ]
        for begin in (self.plain, self.bridge):
            client = begin(*acts)
            client.write(b"question")
            client.end()
            self.settle(lambda: self.upstream.peer.ended == "end")
            self.after(30)
            self.upstream.peer.write(b"answer")
            self.upstream.peer.end()
            self.settle(lambda client=client: client.ended == "end")  # type: ignore[misc]
            self.assertEqual((b"question", b"answer"), (self.upstream.peer.received, client.received))
            self.assertEqual(["first outward", "second outward", "second inward", "first inward"], order)
            expected = [("ended", OUTWARD, "ended"), ("ended", INWARD, "ended"), ("closed", "closed")]
            self.assertEqual([expected, expected], [one.told for one in self.made])
            self.assertEqual(("closed", ""), self.ended())
            order.clear()
            self.made.clear()
            self.forget()

    def test_truncated(self) -> None:
        """
        TLS that is cut off is told as that, goes on as that, and is no end of the other direction.
        """
        client = self.bridge(self.act())
        client.write(b"half a sent")
        client.cut()
        self.settle(lambda: self.upstream.peer.ended == "truncated")
        self.assertEqual([("ended", OUTWARD, "truncated")], self.made[0].told)
        self.upstream.peer.write(b"late")
        self.upstream.peer.end()
        self.settle(lambda: client.received == b"late")
        self.assertEqual(("truncated", "the client ended the stream without ending TLS"), self.ended())
        self.assertEqual(("closed", "truncated"), self.made[0].told[-1])

    def test_truncationAborts(self) -> None:
        """
        Where it is wanted it cuts the session, whatever handlers hold.
        """
        client = self.bridge(self.act(received=lambda *_: None), truncation="abort")
        client.write(b"half a sent")
        self.settle()
        client.cut()
        self.assertEqual(("truncated", "the client ended the stream without ending TLS"), self.ended())
        self.assertEqual([("closed", "truncated")], self.made[0].told)

    def test_lastWords(self) -> None:
        """
        What a handler releases when it hears of an end goes before the end; later handlers see it, and what it holds
        still is dropped.
        """

        def ended(handler: Acting, way: Way) -> None:
            if way == OUTWARD:
                handler.flow.release(way, bytes(handler.got[way]) + b".")

        client = self.plain(
            self.act(received=lambda *_: None, ended=ended),
            self.act(received=lambda _, __, data: data.upper()),
            self.act(),
        )
        client.write(b"kept")
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.assertEqual(b"KEPT.", self.upstream.peer.received)
        self.assertEqual([("ended", OUTWARD, "ended")], self.made[2].told)
        self.upstream.peer.write(b"dropped")
        self.upstream.peer.end()
        self.settle(lambda: client.ended == "end")
        self.assertEqual((b"", ("closed", "")), (client.received, self.ended()))

    def test_lastWordsClog(self) -> None:
        """
        However much that is.
        """
        data = os.urandom(3 << 20)
        acts = self.act(ended=lambda handler, way: handler.flow.release(way, data)), self.act()
        client = self.bridge(*acts)
        self.upstream.peer.reading = False
        client.end()
        self.settle(lambda: self.relay.outward.clogged)
        self.upstream.peer.reading = True
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.assertTrue(data == self.upstream.peer.received == self.made[1].got[OUTWARD])

    def test_endWaits(self) -> None:
        """
        The end of a paused direction waits; meanwhile its handler can release what it holds.
        """

        def ended(handler: Acting, way: Way) -> None:
            handler.flow.pause(way)
            handler.flow.callLater(1, handler.flow.release, way, b"one ")
            handler.flow.callLater(2, handler.flow.release, way, b"two")
            handler.flow.callLater(3, handler.flow.resume, way)

        for begin in (self.plain, self.bridge):
            client = begin(self.act(ended=ended), self.act())
            client.end()
            for received, told in ((b"", ""), (b"one ", ""), (b"one two", ""), (b"one two", "end")):
                self.after(0.9)
                self.assertEqual((received, told), (self.upstream.peer.received, self.upstream.peer.ended))
            self.assertEqual([("ended", OUTWARD, "ended")], self.made[0].told)
            self.tearDown()
            self.setUp()

    def test_pausedBeforeTheEnd(self) -> None:
        """
        So it is where the direction is paused when the end comes with the last bytes.
        """

        def received(handler: Acting, way: Way, data: bytes) -> None:
            handler.flow.pause(way)
            handler.flow.callLater(1, handler.flow.release, way, data)
            handler.flow.callLater(2, handler.flow.resume, way)

        for begin in (self.plain, self.bridge):
            client = begin(self.act(received=received))
            client.write(b"last words")
            client.end()
            self.after(0.5)
            self.assertEqual([], self.made[0].told)
            self.after(1)
            self.assertEqual((b"last words", ""), (self.upstream.peer.received, self.upstream.peer.ended))
            self.after(1)
            self.assertEqual((b"last words", "end"), (self.upstream.peer.received, self.upstream.peer.ended))
            self.tearDown()
            self.setUp()

    def test_doneAtTheEnd(self) -> None:
        """
        A handler may become done when it hears of the end, or in place of resuming.
        """

        def ended(handler: Acting, way: Way) -> None:
            handler.flow.pause(way)
            handler.flow.callLater(1, handler.flow.done, way)

        client = self.plain(self.act(ended=ended), self.act(ended=lambda handler, way: handler.flow.done(way)))
        client.write(b"x")
        client.end()
        self.settle()
        self.assertEqual("", self.upstream.peer.ended)
        self.after(1)
        self.assertEqual((b"x", "end"), (self.upstream.peer.received, self.upstream.peer.ended))

    def test_releaseAfterTheEnd(self) -> None:
        """
        Behind the end nothing can follow: to try ends the session.
        """
        client = self.plain(self.act())
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.made[0].flow.callLater(0, self.made[0].flow.release, OUTWARD, b"late")
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("the outward direction has ended, so no more bytes can follow", str(failure.value))

    def test_closeBoth(self) -> None:
        """
        Where one end ends both, it may come while a handler of the other direction is at work: whoever has heard of
        the end gets no bytes any more.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == OUTWARD:
                handler.flow.resume(INWARD)
            return data

        def last(handler: Acting, way: Way, data: bytes) -> bytes:
            self.assertEqual([], [told for told in handler.told if told[1] == way])
            return data

        def begin(handler: Acting) -> None:
            handler.flow.pause(INWARD)

        for start in (self.plain, self.bridge):
            client = start(self.act(begin=begin, received=received), self.act(received=last), close="both")
            self.upstream.peer.end()
            self.settle()
            client.write(b"question")
            self.settle(lambda: bool(self.told()))
            self.assertEqual(("closed", ""), self.ended())
            self.assertEqual(b"question", self.upstream.peer.received)
            self.assertEqual(["ended", "ended", "closed"], [told[0] for told in self.made[1].told])
            self.tearDown()
            self.setUp()


class BreakTests(ActingCase):
    """
    Sessions that break, on sockets that can be reset.
    """

    tcp = True

    def test_reset(self) -> None:
        """
        A reset is told by the end of all, not as an end, and goes on as a reset.
        """
        client = self.plain(self.act(received=lambda *_: None))
        client.write(b"held")
        self.settle(lambda: bool(self.made[0].got[OUTWARD]))
        client.reset()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("reset", "the client reset the connection"), self.ended())
        self.assertEqual([("closed", "reset")], self.made[0].told)
        self.settle(lambda: self.upstream.peer.ended == "reset")

    def test_resetWhilePaused(self) -> None:
        """
        The reactor tells of a reset even where nobody reads, on most systems; otherwise the idle limit does.
        """
        client = self.plain(self.act(begin=lambda handler: handler.flow.pause(OUTWARD)), idle=10)
        self.reactor.lose(self.connections[client].transport)
        self.assertEqual(("reset", "the client reset the connection"), self.ended())


class BrokenSinkTests(ActingCase):
    """
    Streams that do what sockets do on a bad day.
    """

    def moody(self, *handlers: Any, **route: Any) -> tuple[Any, Moody, Moody]:
        """
        Have a session with such streams.

        @return: The client, and the streams of both sides.
        """
        self.upstream.answers = False
        client = self.plain(*handlers, **route)
        streams = []

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            for end in (handler.session.near, handler.session.far):
                assert end is not None
                end.stream = Moody(end.socket)
                streams.append(end.stream)

        handlers[0].made.clear()
        object.__setattr__(handlers[0], "talk", talk)
        self.upstream.answer()
        self.settle()
        near, far = streams
        return client, near, far

    def test_broken(self) -> None:
        """
        What a sink said before it broke is seen by the handlers, and delivered; then all is reset.
        """
        client, _, far = self.moody(self.act())
        far.takes = -1
        client.write(b"refused")
        self.settle()
        self.assertEqual([], self.told())
        self.upstream.peer.write(b"said before" * 1000)
        self.upstream.peer.end()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("reset", "the upstream reset the connection"), self.ended())
        self.assertEqual(b"said before" * 1000, client.received)
        self.assertEqual([("closed", "reset")], self.made[0].told)

    def test_brokenByAnAnswer(self) -> None:
        """
        A sink may break while handlers are at work on what it says.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == INWARD:
                for _ in range(3):
                    handler.flow.release(OUTWARD, b"acknowledged")
            return data

        client, _, far = self.moody(self.act(received=received), self.act())
        far.takes = -1
        data = os.urandom(400000)
        self.upstream.peer.write(data)
        self.upstream.peer.end()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("reset", "the upstream reset the connection"), self.ended())
        self.assertTrue(data == client.received)

    def test_brokenByLastWords(self) -> None:
        """
        Or while they hear of an end.
        """

        def ended(handler: Acting, way: Way) -> None:
            handler.flow.release(INWARD, b"goodbye")
            handler.flow.release(OUTWARD, b"goodbye")

        client, near, _ = self.moody(self.act(ended=ended), self.act())
        near.takes = -1
        client.end()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("reset", "the client reset the connection"), self.ended())

    def test_starved(self) -> None:
        """
        A source whose TLS has to write before it can be read is waited for, also by handlers that pause and become
        done meanwhile.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            handler.flow.pause(way)
            handler.flow.callLater(0, handler.flow.resume, way)
            return data

        client, near, far = self.moody(self.act(received=received))
        for behind in (False, True):
            near.behind = far.behind = behind
            near.wants = far.wants = 3
            client.write(b"question ")
            self.upstream.peer.write(b"answer ")
            self.settle()
        self.assertEqual((b"answer answer ", b"question question "), (client.received, self.upstream.peer.received))
        near.wants = 2
        self.made[0].flow.done(OUTWARD)
        client.write(b"more")
        client.end()
        self.upstream.peer.end()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(b"question question more", self.upstream.peer.received)
        self.assertEqual(("closed", ""), self.ended())

    def test_pausedWhileStarved(self) -> None:
        """
        A source that is paused while its TLS waits to write is not read when it could be.
        """
        client, near, _ = self.moody(self.act())
        near.wants = 1
        client.write(b"question")
        client.pump()
        self.reactor.turn()
        self.assertTrue(self.relay.outward.starved)
        self.made[0].flow.pause(OUTWARD)
        self.settle()
        self.assertEqual(b"", self.made[0].got[OUTWARD])
        self.made[0].flow.resume(OUTWARD)
        self.settle(lambda: self.upstream.peer.received == b"question")

    def test_doneWhileTheOtherWasStarved(self) -> None:
        """
        What was waited for may have a handler become done in the direction whose sink has just become writable.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == OUTWARD:
                handler.flow.done(INWARD)
            return data

        client, near, _ = self.moody(self.act(received=received))
        near.wants = 1
        client.write(b"question")
        self.settle(lambda: self.upstream.peer.received == b"question")
        data = os.urandom(2 << 20)
        self.upstream.peer.write(data)
        self.upstream.peer.end()
        self.settle(lambda: client.received == data)
        self.assertEqual("end", client.ended)

    def test_failedRecord(self) -> None:
        """
        A record that does not verify ends the session, and no handler hears of an end.
        """
        client = self.bridge(self.act())
        client.write(b"good")
        client.writePlain(b"\x17\x03\x03\x00\x40" + bytes(64))
        self.settle(lambda: bool(self.told()))
        self.assertEqual("failed", self.ended()[0])
        self.assertEqual([("closed", "failed")], self.made[0].told)
        self.assertEqual(b"good", self.made[0].got[OUTWARD])
