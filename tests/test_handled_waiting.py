# -*- test-case-name: tests.test_handled_waiting -*-
"""
L{tlsproxy.handled}: handlers that have a direction wait, and handlers that step out.
"""

from __future__ import annotations

import os
from typing import Any

from tests.acting import Acting, ActingCase
from tlsproxy.direction import Direction
from tlsproxy.handled import Handled
from tlsproxy.handler import INWARD, OUTWARD, Way
from tlsproxy.splice import Splice


class WaitingTests(ActingCase):
    """
    Handlers that have a direction wait.
    """

    def test_pause(self) -> None:
        """
        A paused direction's source is not read, so that its peer has to wait; resumed, nothing is lost.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if not handler.told:
                handler.flow.pause(way)
                handler.told.append(("paused",))
            return data

        for begin in (self.plain, self.bridge):
            client = begin(self.act(received=received), self.act())
            client.step = 1 << 20
            data = os.urandom(2 << 20)
            client.write(data)
            client.end()
            self.settle()
            self.assertTrue(client.unsent)
            seen = len(self.upstream.peer.received)
            self.assertTrue(0 < seen <= 131072)
            self.upstream.peer.write(b"the other direction goes on")
            self.settle(lambda client=client: bool(client.received))  # type: ignore[misc]
            self.made[1].flow.resume(OUTWARD)  # It has not paused it.
            self.settle()
            self.assertEqual(seen, len(self.upstream.peer.received))
            self.made[0].flow.resume(OUTWARD)
            self.settle(lambda data=data: self.upstream.peer.received == data)  # type: ignore[misc]
            self.assertEqual("end", self.upstream.peer.ended)
            self.tearDown()
            self.setUp()

    def test_pauseAndResumeAtOnce(self) -> None:
        """
        Both may come before the handler returns, again and again.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            for _ in range(3):
                handler.flow.pause(way)
                handler.flow.pause(way)
                handler.flow.resume(way)
            return data

        for begin in (self.plain, self.offload):
            client = begin(self.act(received=received), self.act(received=received))
            data = os.urandom(1 << 20)
            client.write(data)
            client.end()
            self.settle(lambda data=data: self.upstream.peer.received == data)  # type: ignore[misc]
            self.assertEqual("end", self.upstream.peer.ended)
            self.tearDown()
            self.setUp()

    def test_resumeFromTheOther(self) -> None:
        """
        A handler may wait in one direction for what comes in the other.
        """

        def begin(handler: Acting) -> None:
            handler.flow.pause(INWARD)

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == OUTWARD:
                handler.flow.resume(INWARD)
            else:
                handler.flow.pause(INWARD)
            return data

        client = self.plain(self.act(begin=begin, received=received))
        self.upstream.peer.write(b"answer 1")
        self.settle()
        self.assertEqual(b"", client.received)
        client.write(b"question 1")
        self.settle(lambda: client.received == b"answer 1")
        self.upstream.peer.write(b"answer 2")
        self.settle()
        self.assertEqual((b"answer 1", b"question 1"), (client.received, self.upstream.peer.received))

    def test_pauseWhileClogged(self) -> None:
        """
        A direction may be paused and resumed while its sink is full.
        """
        client = self.plain(self.act())
        client.step = 1 << 20
        data = os.urandom(3 << 20)
        self.upstream.peer.reading = False
        client.write(data)
        self.settle(lambda: self.relay.outward.clogged)
        outward: Any = self.relay.outward
        self.assertFalse(outward._later)
        flow = self.made[0].flow
        flow.pause(OUTWARD)
        self.upstream.peer.reading = True
        self.settle()
        self.assertEqual(self.made[0].got[OUTWARD], self.upstream.peer.received)
        self.assertTrue(client.unsent)
        self.upstream.peer.reading = False
        flow.resume(OUTWARD)
        self.settle(lambda: self.relay.outward.clogged)
        flow.pause(OUTWARD)
        flow.resume(OUTWARD)
        self.upstream.peer.reading = True
        self.settle(lambda: self.upstream.peer.received == data)

    def test_answerWhileClogged(self) -> None:
        """
        What is released while the sink is full waits behind what was read, in its order.
        """
        client = self.plain(self.act())
        data = os.urandom(2 << 20)
        client.reading = False
        self.upstream.peer.write(data)
        self.settle(lambda: self.relay.inward.clogged)
        seen = len(self.made[0].got[INWARD])
        for word in (b"one", b"two"):
            self.made[0].flow.release(INWARD, word)
        client.reading = True
        self.settle(lambda: len(client.received) == len(data) + 6)
        self.assertTrue(data[:seen] + b"onetwo" + data[seen:] == client.received)

    def test_answerClogsAtTheStart(self) -> None:
        """
        An answer to what comes first may be more than the sink takes: the direction's own bytes wait for it.
        """
        answer = os.urandom(900000)

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == OUTWARD:
                handler.flow.release(INWARD, answer)
            return data

        self.upstream.answers = False
        client = self.plain(self.act(received=received, mostHeld=1))
        client.write(b"x")
        client.reading = False
        self.settle()
        self.upstream.answer()
        data = os.urandom(2 << 20)
        self.upstream.peer.write(data)
        self.settle()
        client.reading = True
        self.settle(lambda: client.received == answer + data)

    def test_idle(self) -> None:
        """
        A session whose handler has it wait for ever ends like any other that stands still.
        """
        client = self.plain(self.act(received=lambda handler, way, _: handler.flow.pause(way)), idle=10)
        client.write(b"x")
        self.after(11)
        self.assertEqual(("expired", "no byte moved within 10 s"), self.ended())
        self.assertEqual([("closed", "expired")], self.made[0].told)


class DoneTests(ActingCase):
    """
    Handlers that step out.
    """

    def kinds(self) -> tuple[type, type]:
        """
        Tell by what means both directions go.
        """
        return type(self.relay.outward), type(self.relay.inward)

    def test_beforeTheJoin(self) -> None:
        """
        A handler that is done before the bytes flow costs nothing.
        """

        def begin(handler: Acting) -> None:
            handler.flow.pause(OUTWARD)
            handler.flow.done(OUTWARD)

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.done(INWARD)

        client = self.plain(self.act(begin=begin, talk=talk))
        self.assertEqual((Splice, Splice), self.kinds())
        client.write(b"question")
        self.settle(lambda: self.upstream.peer.received == b"question")
        self.assertEqual(b"", self.made[0].got[OUTWARD])
        self.tearDown()
        self.setUp()
        self.bridge(self.act(begin=begin, talk=talk))
        self.assertEqual((Direction, Direction), self.kinds())

    def test_inTheMiddle(self) -> None:
        """
        What a handler returns when it has become done goes on, and what comes later passes it by; the bytes go by the
        kernel when the last is done.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            if data == b"last":
                handler.flow.done(way)
                handler.flow.done(way)
            return data

        client = self.plain(self.act(received=received), self.act(received=received))
        client.write(b"last")
        self.settle(lambda: self.upstream.peer.received == b"last")
        self.assertEqual((Splice, Handled), self.kinds())
        client.write(b" and more")
        self.settle(lambda: self.upstream.peer.received == b"last and more")
        self.assertEqual([b"last", b"last"], [one.got[OUTWARD] for one in self.made])
        self.made[1].flow.done(INWARD)
        self.assertEqual((Splice, Handled), self.kinds())
        self.made[0].flow.done(INWARD)
        self.assertEqual((Splice, Splice), self.kinds())
        self.made[0].flow.pause(INWARD)
        self.made[0].flow.resume(INWARD)
        self.upstream.peer.write(b"back")
        self.upstream.peer.end()
        client.end()
        self.settle(lambda: client.received == b"back")
        self.assertEqual(("closed", ""), self.ended())
        self.assertEqual([[("closed", "closed")]] * 2, [one.told for one in self.made])

    def test_whileClogged(self) -> None:
        """
        Where the sink is full, the change waits until it has taken what is left, and not a byte is lost.
        """
        client = self.plain(self.act())
        data = os.urandom(3 << 20)
        self.upstream.peer.reading = False
        client.write(data)
        client.end()
        self.settle(lambda: self.relay.outward.clogged)
        self.made[0].flow.done(OUTWARD)
        self.assertIs(Handled, self.kinds()[0])
        count = len(self.made[0].got[OUTWARD])
        self.upstream.peer.reading = True
        self.settle(lambda: self.upstream.peer.received == data)
        self.assertIs(Splice, self.kinds()[0])
        self.assertEqual((count, len(data)), (len(self.made[0].got[OUTWARD]), self.relay.outward.count))

    def test_holding(self) -> None:
        """
        Who still holds bytes cannot be done, for nobody would ever see them.
        """

        def received(handler: Acting, way: Way, data: bytes) -> None:
            handler.flow.callLater(0, handler.flow.done, way)

        client = self.plain(self.act(received=received))
        client.write(b"abc")
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("handler acting is done outward, but still holds 3 bytes", str(failure.value))

    def test_keepsAndIsDone(self) -> None:
        """
        Nor can who becomes done keep what it is just given; but it may return that with what it has held.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes | None:
            if data == b"some":
                return None
            handler.flow.done(way)
            return b"some" + data if data == b"more" else None

        client = self.plain(self.act(received=received))
        for word in (b"some", b"more"):
            client.write(word)
            self.settle()
        self.assertEqual((b"somemore", Splice), (self.upstream.peer.received, self.kinds()[0]))
        self.upstream.peer.write(b"lost")
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("handler acting is done inward, and yet keeps bytes", str(failure.value))

    def test_pauseOfWhoIsDone(self) -> None:
        """
        A handler that is done has nobody wait, even while others are not.
        """
        client = self.plain(self.act(), self.act())
        one, other = self.made
        one.flow.done(OUTWARD)
        one.flow.pause(OUTWARD)
        other.flow.pause(OUTWARD)
        other.flow.resume(OUTWARD)
        client.write(b"x")
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.assertEqual(b"x", self.upstream.peer.received)

    def test_releaseOfWhoIsDone(self) -> None:
        """
        A handler that is done cannot send bytes there any more.
        """
        self.plain(self.act())
        flow = self.made[0].flow
        flow.done(OUTWARD)
        flow.release(INWARD, b"this way it can")
        flow.callLater(0, flow.release, OUTWARD, b"late")
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertIn("is done outward, so it cannot release", str(failure.value))
