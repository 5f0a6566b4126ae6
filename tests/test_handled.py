# -*- test-case-name: tests.test_handled -*-
"""
L{tlsproxy.handled}: the bytes of a session, by way of handlers.
"""

from __future__ import annotations

import os
from typing import Any

from tests.acting import Acting, ActingCase
from tlsproxy.handled import Handled
from tlsproxy.handler import INWARD, OUTWARD, Way


class PassingTests(ActingCase):
    """
    What goes through, and in what order.
    """

    def test_unchanged(self) -> None:
        """
        What a handler returns as it came is what arrives, both ways, with and without TLS.
        """
        for begin in (self.plain, self.offload, self.bridge):
            client = begin(self.act())
            question, answer = os.urandom(600000), os.urandom(500000)
            client.write(question)
            self.upstream.peer.write(answer)
            self.settle(lambda client=client, answer=answer: client.received == answer)  # type: ignore[misc]
            self.assertTrue(question == self.upstream.peer.received == self.made[0].got[OUTWARD])
            self.assertTrue(answer == self.made[0].got[INWARD])
            self.assertIs(Handled, type(self.relay.outward))
            self.assertEqual((600000, 500000), (self.relay.outward.count, self.relay.inward.count))
            self.tearDown()
            self.setUp()

    def test_changed(self) -> None:
        """
        What it returns in place of them goes on, and nothing goes on for no bytes.
        """
        client = self.plain(self.act(received=lambda _, way, data: data.upper() if way == OUTWARD else b""))
        client.write(b"question")
        self.upstream.peer.write(b"answer")
        self.settle(lambda: self.upstream.peer.received == b"QUESTION")
        self.assertEqual(b"", client.received)

    def test_order(self) -> None:
        """
        The first handler of a route is the one nearest the client.
        """
        first = self.act(received=lambda _, __, data: data + b"1")
        second = self.act(received=lambda _, __, data: data + b"2")
        client = self.plain(first, second)
        client.write(b"there")
        self.settle(lambda: self.upstream.peer.received == b"there12")
        self.upstream.peer.write(b"back")
        self.settle(lambda: client.received == b"back21")

    def test_kept(self) -> None:
        """
        What it keeps goes on when it gives it back: from a call, or with later bytes.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes | None:
            if data == b"one":
                return None
            if data == b"two":
                handler.flow.release(way, b"one")
                return data
            handler.flow.callLater(1, handler.flow.release, way, data)
            return None

        client = self.plain(self.act(received=received))
        for said, arrived in ((b"one", b""), (b"two", b"onetwo"), (b"three", b"onetwo")):
            client.write(said)
            self.settle()
            self.assertEqual(arrived, self.upstream.peer.received)
        self.after(1)
        self.assertEqual(b"onetwothree", self.upstream.peer.received)

    def test_answer(self) -> None:
        """
        A handler may answer by itself: its answer passes the earlier handlers, and not itself or later ones.
        """

        def answer(handler: Acting, way: Way, data: bytes) -> bytes:
            if way == OUTWARD:
                handler.flow.release(INWARD, b"answer")
            return data

        acts = [self.act(received=lambda _, __, data: data + b"."), self.act(received=answer), self.act()]
        client = self.plain(*acts)
        client.write(b"x")
        self.settle(lambda: client.received == b"answer.")
        self.assertEqual([b"answer", b"", b""], [one.got[INWARD] for one in self.made])
        self.assertEqual(b"x.", self.upstream.peer.received)

    def test_bytesOnly(self) -> None:
        """
        Bytes of other types are taken as they are then; what is none ends the session.
        """
        mine = bytearray(b"mine")

        def received(handler: Acting, way: Way, data: bytes) -> object:
            if data == b"text":
                return "text"
            handler.flow.release(way, memoryview(mine))
            mine.append(33)
            return mine

        client = self.plain(self.act(received=received))
        client.write(b"x")
        self.settle(lambda: self.upstream.peer.received == b"minemine!")
        client.write(b"text")
        why = "handler acting: received() returned a str: give back bytes, or None to keep them"
        self.assertEqual(("failed", why), self.ended())

    def test_manyReleases(self) -> None:
        """
        Very many releases of one byte each do not nest, and none is lost, wherever they stand.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            for number in range(len(data)):
                handler.flow.release(way, data[number : number + 1])
            return b""

        client = self.plain(self.act(received=received), self.act())
        data = os.urandom(100000)
        self.upstream.peer.reading = False
        client.write(data)
        self.settle()
        self.upstream.peer.reading = True
        self.settle(lambda: self.upstream.peer.received == data)

    def test_restOfARecord(self) -> None:
        """
        What set-up has left of a record is not forgotten where a handler has the direction wait at the beginning.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.pause(OUTWARD)
            handler.flow.callLater(1, handler.flow.resume, OUTWARD)
            self.assertEqual(b"early", await near.readExactly(5))

        client = self.offload(self.act(talk=talk))
        client.write(b"early and late")
        self.settle()
        self.assertEqual(b"", self.upstream.peer.received)
        self.after(1)
        self.assertEqual(b" and late", self.upstream.peer.received)

    def test_restOfARecordOnRelease(self) -> None:
        """
        Nor where it goes on because of what an earlier handler has released.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.pause(OUTWARD)
            self.assertEqual(b"early", await near.readExactly(5))

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            handler.flow.resume(OUTWARD)
            return data

        client = self.offload(self.act(), self.act(talk=talk, received=received))
        client.write(b"early and late")
        self.settle()
        self.made[0].flow.release(OUTWARD, b"go")
        self.settle(lambda: self.upstream.peer.received == b"go and late")


class BoundTests(ActingCase):
    """
    What a handler may hold.
    """

    def test_most(self) -> None:
        """
        It may hold so many bytes, and not one more, in each direction.
        """
        client = self.plain(self.act(received=lambda *_: None, mostHeld=10), self.act())
        client.write(b"0123456789")
        self.upstream.peer.write(b"0123456789")
        self.settle()
        self.assertEqual(1, len(self.factory.sessions))
        client.write(b"x")
        self.assertEqual(("failed", "handler acting held more than 10 bytes"), self.ended())
        self.assertEqual([b"", b"0123456789"], [self.made[1].got[way] for way in (OUTWARD, INWARD)])
        self.assertEqual((b"", b""), (client.received, self.upstream.peer.received))

    def test_givenBack(self) -> None:
        """
        What it has given back is not counted any more, however it has.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes | None:
            if data == b"release":
                handler.flow.release(way, bytes(6))
                return None
            return None if data == b"keep" else bytes(11)

        client = self.plain(self.act(received=received, mostHeld=12))
        for word in (b"keep", b"keep", b"return", b"keep", b"keep", b"keep", b"return", b"keep", b"release", b"keep"):
            client.write(word)
            self.settle()
            self.assertEqual(1, len(self.factory.sessions), word)
        client.write(b"keep")
        self.assertEqual("failed", self.ended()[0])

    def test_madeUp(self) -> None:
        """
        A handler that makes up more bytes than the sink takes is ended.
        """

        def begin(handler: Acting) -> None:
            handler.flow.callLater(0.5, more, handler)

        def more(handler: Acting) -> None:
            handler.flow.release(INWARD, bytes(100000))
            handler.flow.callLater(0, more, handler)

        client = self.plain(self.act(begin=begin, mostHeld=1000))
        client.reading = False
        self.after(1)
        self.assertEqual(("failed", "handlers made more bytes than the client takes"), self.ended())
