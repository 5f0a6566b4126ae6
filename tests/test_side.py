# -*- test-case-name: tests.test_side -*-
"""
L{tlsproxy.side}: what a handler can do with the two sides before the bytes flow.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.acting import Acting, ActingCase
from tlsproxy.errors import SessionError
from tlsproxy.handler import FAR, INWARD, NEAR, OUTWARD
from tlsproxy.testing.sessions import Browser, Origin

CLEAR = partial(Browser, clear=True)
"""A client that begins in clear."""
CLEAR_ORIGIN = partial(Origin, clear=True)
"""An upstream that does."""


class ReadingTests(ActingCase):
    """
    Reading and writing: no more is taken than is asked for.
    """

    def talk(self, talk: Any, offload: bool = False) -> Any:
        """
        Have a client talk with a handler.
        """

        async def told(handler: Acting, near: Any, far: Any) -> None:
            handler.got[INWARD] += repr(await talk(near)).encode()

        return (self.offload if offload else self.plain)(self.act(talk=told))

    def test_readLine(self) -> None:
        """
        A line is taken with its LF, and not one byte behind it: what follows is the first that flows.
        """

        async def talk(near: Any) -> list[bytes]:
            return [await near.readLine(), await near.readLine(), await near.readLine(5)]

        for offload in (False, True):
            client = self.talk(talk, offload)
            for part in (b"HELO a\r", b"\n\n12", b"34\nthe ", b"rest"):
                client.write(part)
                self.settle()
            self.assertEqual(repr([b"HELO a\r\n", b"\n", b"1234\n"]), self.made[0].got[INWARD].decode())
            self.settle(lambda: self.upstream.peer.received == b"the rest")
            self.assertEqual(b"the rest", self.made[0].got[OUTWARD])
            self.tearDown()
            self.setUp()

    def test_readLineLimits(self) -> None:
        """
        A line of more bytes than it may have ends the session, at the first byte too many or the first that says so; so
        does one that is cut off.  At the end of the stream there is none.
        """

        async def talk(near: Any) -> bytes:
            line: bytes = await near.readLine(5)
            return line

        for offload in (False, True):
            for said, reason in (
                (b"12345", "handler acting: the client sent a line of more than 5 bytes"),
                (b"12345\n", "handler acting: the client sent a line of more than 5 bytes"),
                (b"123", "handler acting: the client ended the stream in the middle of a line"),
            ):
                client = self.talk(talk, offload)
                client.write(said)
                client.end()
                self.assertEqual(("failed", reason), self.ended())
                self.tearDown()
                self.setUp()
            self.talk(talk, offload).end()
            self.settle()
            self.assertEqual(b"b''", self.made[0].got[INWARD])
            self.tearDown()
            self.setUp()

    def test_readExactly(self) -> None:
        """
        So many bytes are read, and not one more; or none at all.
        """

        async def talk(near: Any) -> list[bytes]:
            return [await near.readExactly(0), await near.readExactly(3), await near.readExactly(2)]

        for offload in (False, True):
            client = self.talk(talk, offload)
            for part in (b"1", b"2345", b"67"):
                client.write(part)
                self.settle()
            self.assertEqual(b"[b'', b'123', b'45']", self.made[0].got[INWARD])
            self.assertEqual(b"67", self.upstream.peer.received)
            self.tearDown()
            self.setUp()
            client = self.talk(talk, offload)
            client.write(b"12")
            client.end()
            self.assertEqual(("failed", "handler acting: the client ended the stream after 2 of 3 bytes"), self.ended())
            self.tearDown()
            self.setUp()

    def test_peekAndRead(self) -> None:
        """
        What is peeked stays, and what is read is taken; the end is no byte.
        """

        async def talk(near: Any) -> list[bytes]:
            return [
                await near.peek(2),
                await near.peek(),
                await near.read(1),
                await near.read(),
                await near.read(),
            ]

        for offload in (False, True):
            client = self.talk(talk, offload)
            client.write(b"abc")
            client.end()
            self.settle()
            self.assertEqual(b"[b'ab', b'abc', b'a', b'bc', b'']", self.made[0].got[INWARD])
            self.tearDown()
            self.setUp()

    def test_nothingAskedFor(self) -> None:
        """
        To ask for no byte is a mistake, since none is what the end looks like.
        """

        async def talk(near: Any) -> int:
            wrong = 0
            for ask in (near.read, near.peek, near.readLine):
                try:
                    await ask(0)
                except ValueError:
                    wrong += 1
            return wrong

        self.talk(talk)
        self.assertEqual(b"3", self.made[0].got[INWARD])

    def test_write(self) -> None:
        """
        However much is written, it is written when that ends.
        """
        data = bytes(range(256)) * 8192

        async def talk(near: Any) -> None:
            await near.write(b"")
            await near.write(data)

        for offload in (False, True):
            client = self.talk(talk, offload)
            client.reading = False
            self.settle()
            client.reading = True
            self.settle(lambda client=client: client.received == data)  # type: ignore[misc]
            self.tearDown()
            self.setUp()

    def test_gone(self) -> None:
        """
        That a peer resets or cuts off the connection is not the handler's mistake, and is told as what it is.
        """

        async def talk(near: Any) -> None:
            await near.readLine()

        client = self.talk(talk)
        self.network.reset(client)
        self.assertEqual(("reset", "the client reset the connection"), self.ended())
        self.tearDown()
        self.setUp()
        client = self.talk(talk, True)
        client.cut()
        self.assertEqual(("ended", "the client ended the stream without ending TLS"), self.ended())

    def test_forgotten(self) -> None:
        """
        A handler may handle what a peer did, and then nothing waits for the cycle collector.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            try:
                await near.readLine()
            except SessionError:
                handler.told.append(("handled",))

        client = self.offload(self.act(talk=talk))
        client.cut()
        self.settle(lambda: ("handled",) in self.made[0].told)

    def test_oneThingAtATime(self) -> None:
        """
        Of one side only one thing can be asked at a time; of both sides, it can.
        """

        async def wrong(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.watch(near.read())
            await near.read()

        async def right(handler: Acting, near: Any, far: Any) -> None:
            handler.got[INWARD] += b"".join(
                await gatherResults([Deferred.fromCoroutine(one.read()) for one in (near, far)])
            )

        client = self.plain(self.act(talk=right))
        for peer in (client, self.upstream.peer):
            peer.write(b"x")
            self.settle()
        self.assertEqual(b"xx", self.made[0].got[INWARD])
        self.tearDown()
        self.setUp()
        self.plain(self.act(talk=wrong))
        self.assertEqual("failed", self.ended()[0])
        self.assertEqual(1, len(self.flushLoggedErrors()))

    def test_leftBehind(self) -> None:
        """
        A talk that ends while something it has begun still waits for a side is a mistake.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            handler.flow.watch(near.readLine())

        self.plain(self.act(talk=talk))
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("something still waits to read from the client, or to write to it", str(failure.value))

    def test_tooLate(self) -> None:
        """
        When the bytes flow, the sides are of no use any more.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            async def later() -> None:
                await handler.session.near.sleep(1)
                await near.read()

            handler.flow.watch(later())

        self.plain(self.act(talk=talk))
        self.after(2)
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("the talk with the client is over: its bytes go to received()", str(failure.value))

    def test_modesTLS(self) -> None:
        """
        TLS that the mode starts by itself is not the handler's to start, and it is told what to say to have it.
        """

        def starting(side: str, starts: str) -> Any:
            async def talk(handler: Acting, near: Any, far: Any) -> None:
                await {NEAR: near, FAR: far}[side].startTLS()

            return self.act(talk=talk, starts=frozenset(starts.split()))

        itself = (
            "the mode starts the TLS with {} by itself: for a handler to start it, name {} in the handler's startsTLS"
        )
        for serve, side, starts, sentence in (
            (self.offload, NEAR, "", itself.format("the client", "NEAR")),
            (self.offload, NEAR, "far", itself.format("the client", "NEAR")),
            (self.bridge, FAR, "", itself.format("the upstream", "FAR")),
            (self.offload, FAR, "far", "mode offload has no TLS toward the upstream that a handler can start"),
        ):
            serve(starting(side, starts))
            self.assertEqual("failed", self.ended()[0])
            (failure,) = self.flushLoggedErrors(RuntimeError)
            self.assertEqual(sentence, str(failure.value))
            self.tearDown()
            self.setUp()

        async def waive(handler: Acting, near: Any, far: Any) -> None:
            near.waive()
            await near.startTLS()

        self.offload(self.act(talk=waive, starts=frozenset({NEAR})), make=CLEAR)
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("TLS with the client was waived", str(failure.value))

    def test_deadline(self) -> None:
        """
        The talk has a deadline; a client that is kept waiting in clear is reset.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await near.readLine()

        client = self.plain(self.act(talk=talk), negotiate=7)
        client.write(b"never a whole line")
        self.after(6)
        self.assertEqual([], self.told())
        self.after(2)
        self.assertEqual(("expired", "the talk before TLS did not end within 7 s"), self.ended())
        self.assertTrue(self.aborted(client))
        self.assertEqual([("closed", "expired")], self.made[0].told)
