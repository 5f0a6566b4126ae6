# -*- test-case-name: tests.test_relay -*-
"""
L{tlsproxy.relay}: what sockets and OpenSSL do only on a bad day, done here by streams that are told to.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from OpenSSL import SSL

from tlsproxy.interfaces import DRAINED, ENDED, FAILED, RESET, TRUNCATED, WANTS_WRITE
from tlsproxy.plain import PlainStream
from tlsproxy.testing.streams import Side, Streams


class Moody:
    """
    A plain stream that does now and then what TLS does.  It implements L{tlsproxy.interfaces.Stream}.

    @ivar wants: How often reading is put off until the socket has taken bytes.
    @ivar behind: Whether it gives bytes before it is put off.
    @ivar endsLater: How often the end of writing is put off until then.
    @ivar last: The state that comes in place of the end, if any.
    @ivar takes: The most bytes that are written at a time; L{None} for no limit, C{-1} for a broken stream.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._inner = PlainStream(sock)
        self.state = DRAINED
        self.problem: Exception | None = None
        self.wants = 0
        self.behind = False
        self.endsLater = 0
        self.last = 0
        self.takes: int | None = None
        self.endings = 0

    def fill(self, buffer: Any) -> int:
        """
        Read, unless something has to be written first.
        """
        if self.wants:
            self.wants -= 1
            count = self._inner.fill(buffer) if self.behind else 0
            self.state = WANTS_WRITE
            return count
        count = self._inner.fill(buffer)
        self.state = self.last if self.last and self._inner.state == ENDED else self._inner.state
        return count

    def read(self, limit: int) -> bytes:
        """
        Not asked for here.
        """
        raise NotImplementedError

    def peek(self, limit: int) -> bytes:
        """
        Nor is this.
        """
        raise NotImplementedError

    def drain(self, buffer: Any, count: int) -> int:
        """
        Write the front of a buffer.
        """
        return self.send(buffer.view[:count])

    def send(self, data: bytes | memoryview) -> int:
        """
        Write as much as this stream takes.
        """
        if self.takes is not None:
            if self.takes <= 0:
                return self.takes
            data = data[: self.takes]
        return self._inner.send(data)

    def endWrite(self) -> bool:
        """
        Say that it ends, once the socket takes it.
        """
        if self.endsLater:
            self.endsLater -= 1
            return False
        self.endings += 1
        return True


class MoodyStreams(Streams):
    """
    Two sides with such streams.
    """

    def setUp(self) -> None:
        """
        Make both sides.
        """
        super().setUp()
        self.near = self.side("plain", near=True)
        self.far = self.side("plain", near=False)
        self.streams: list[Moody] = []
        for side in (self.near, self.far):
            stream = Moody(side.end.socket)
            side.end.stream = stream
            self.streams.append(stream)
        self.nearStream, self.farStream = self.streams

    def small(self, side: Side) -> None:
        """
        Have a side's socket hold little.
        """
        side.connected.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def writers(self) -> list[Any]:
        """
        Whose writing is waited for.
        """
        return list(self.loopback.reactor.getWriters())

    def bothWays(self, endBoth: bool = False, abortTruncated: bool = False) -> list[tuple[Side, Side, Moody, Moody]]:
        """
        Join, and name the directions: source, sink, and their streams.
        """
        self.join(endBoth, abortTruncated)
        return [
            (self.near, self.far, self.nearStream, self.farStream),
            (self.far, self.near, self.farStream, self.nearStream),
        ]


class MoodyTests(MoodyStreams):
    """
    A relay between two streams that are told to misbehave.
    """

    # -- reading that has to wait for writing -----------------------------------------------------------------------

    def test_wantsWriteOnBothSides(self) -> None:
        """
        Both sources may have to.
        """
        self.join()
        self.nearStream.wants = self.farStream.wants = 3
        for side in (self.near, self.far):
            side.peer.write(b"hello")
            side.peer.end()
        self.settle(lambda: self.relay.over)
        self.settle(lambda: self.near.peer.received == self.far.peer.received == b"hello")
        self.assertOver("closed")

    def test_wantsWriteWhileClogged(self) -> None:
        """
        A source may have to write while what goes to it waits for room; nothing is lost, and nothing spins.
        """
        self.join()
        data = bytes(range(256)) * 4096
        self.near.peer.reading = False
        self.far.peer.write(data)
        self.settle(lambda: self.relay.inward.clogged)
        self.nearStream.wants = 2
        self.near.peer.write(b"from near")
        self.settle(lambda: self.relay.outward.starved)
        self.assertNotIn(self.near.connected.transport, self.loopback.reactor.getReaders())
        self.near.peer.reading = True
        self.settle(lambda: self.near.peer.received == data)
        self.settle(lambda: self.far.peer.received == b"from near")
        self.assertEqual([], self.writers())

    def test_wantsWriteAfterHalfClose(self) -> None:
        """
        A source may have to write where the direction to it is over: its end is not told twice.
        """
        self.join()
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.farStream.wants = 2
        self.far.peer.write(b"late")
        self.settle(lambda: self.near.peer.received == b"late")
        self.far.peer.end()
        self.settle(lambda: self.near.peer.ended == "end")
        self.assertEqual(1, self.farStream.endings)
        self.assertOver("closed")

    def test_wantsWriteAfterABreak(self) -> None:
        """
        A sink that is broken and wants to write does not make the session look as if it had ended well.
        """
        self.join()
        self.farStream.takes = -1
        self.farStream.wants = 1
        self.near.peer.write(b"refused")
        self.settle()
        self.assertEqual([], [outcome for outcome, _ in self.outcomes if outcome != "reset"])
        self.far.peer.end()
        self.settle(lambda: self.relay.over)
        self.assertOver("reset")

    def test_staleEvent(self) -> None:
        """
        The reactor may tell that a source is readable when it is not asked any more: another event of the same turn
        has filled its sink, and what waits for that comes first.
        """
        self.join()
        data = os.urandom(400000)
        for side in (self.near, self.far):
            self.small(side)
            side.peer.reading = False
            side.peer.step = len(data)
        self.farStream.wants = 1
        self.far.peer.write(data)
        self.far.peer.pump()
        self.loopback.reactor.turn()
        self.assertTrue(self.relay.inward.starved)
        self.near.peer.write(data)
        self.near.peer.pump()
        self.loopback.first(self.far)
        self.loopback.reactor.turn()
        self.assertEqual((True, True), (self.relay.outward.clogged, self.relay.inward.clogged))
        for side in (self.near, self.far):
            side.peer.reading = True
            side.peer.end()
        self.settle(lambda: self.near.peer.ended == self.far.peer.ended == "end")
        self.assertEqual((len(data), len(data)), (len(self.near.peer.received), len(self.far.peer.received)))
        self.assertTrue(data == self.near.peer.received == self.far.peer.received)

    # -- ends that have to wait -------------------------------------------------------------------------------------

    def test_endLaterWhileStarved(self) -> None:
        """
        Two may wait for the same socket: the end to be sent, and what has to be read.
        """
        self.join()
        self.farStream.endsLater = 2
        self.farStream.wants = 4
        self.far.peer.write(b"answer")
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.settle(lambda: self.near.peer.received == b"answer")
        self.assertEqual([], self.writers())
        self.assertEqual(1, self.farStream.endings)

    def test_endOnceOnly(self) -> None:
        """
        Only what ended well is told as an end.
        """
        for how, endings in ((ENDED, 1), (TRUNCATED, 0)):
            self.nearStream.last = how
            self.join()
            self.near.peer.cut()
            self.settle(lambda: self.far.peer.ended == "end")
            self.assertEqual(endings, self.farStream.endings)
            self.tearDown()
            self.setUp()

    # -- what a source may say of its end ---------------------------------------------------------------------------

    def test_states(self) -> None:
        """
        Every state a source can end in has its outcome, and is told once.
        """
        for how, abortTruncated, outcome in (
            (RESET, False, "reset"),
            (FAILED, False, "reset"),
            (TRUNCATED, True, "truncated"),
        ):
            for first in (0, 1):
                self.streams[first].last = how
                source, sink, _, _ = self.bothWays(abortTruncated=abortTruncated)[first]
                source.peer.write(b"before")
                source.peer.cut()
                self.settle(lambda: self.relay.over)
                self.assertOver(outcome)
                self.assertEqual(0, self.halfClosed)
                self.assertLost(sink)
                self.assertLost(source)
                self.assertEqual(b"before", sink.peer.received)
                self.tearDown()
                self.setUp()

    def test_truncationOutcome(self) -> None:
        """
        A truncated session says so in its end, and who it was.
        """
        self.farStream.last = TRUNCATED
        self.join()
        self.near.peer.end()
        self.far.peer.cut()
        self.settle(lambda: self.relay.over)
        self.assertEqual([("truncated", "the upstream ended the stream without ending TLS")], self.outcomes)

    # -- sinks that break -------------------------------------------------------------------------------------------

    def test_broken(self) -> None:
        """
        A sink that takes no more ends the session as a reset, but not before what it said is delivered.
        """
        for first in (0, 1):
            source, sink, _, stream = self.bothWays()[first]
            stream.takes = -1
            source.peer.write(b"refused")
            self.settle()
            self.assertEqual([], self.outcomes)
            sink.peer.write(b"said before" * 1000)
            sink.peer.end()
            self.settle(lambda: self.relay.over)
            self.assertEqual([("reset", f"{sink.end.who} reset the connection")], self.outcomes)
            self.assertEqual(b"said before" * 1000, source.peer.received)
            self.assertEqual(0, self.streams[first].endings)
            self.assertLost(source)
            self.tearDown()
            self.setUp()

    def test_brokenWhileClogged(self) -> None:
        """
        What is on its way from a sink when it breaks is delivered, too, however slowly.
        """
        self.join()
        data = bytes(range(256)) * 2000
        self.small(self.near)
        self.near.peer.reading = False
        self.far.peer.write(data)
        self.settle(lambda: self.relay.inward.clogged)
        self.farStream.takes = -1
        self.near.peer.write(b"refused")
        self.settle()
        self.assertEqual([], self.outcomes)
        self.far.peer.end()
        self.near.peer.reading = True
        self.settle(lambda: self.relay.over)
        self.settle(lambda: self.near.peer.received == data)
        self.assertOver("reset")
        self.assertLost(self.near)

    def test_brokenAfterTheEnd(self) -> None:
        """
        So it is where the sink has ended its own direction before.
        """
        data = bytes(range(256)) * 300
        for kind in ("TLSv1.2", "TLSv1.3"):
            self.far = self.side(kind, near=False)
            self.join()
            self.small(self.near)
            self.near.peer.reading = False
            self.far.peer.step = 1 << 20
            self.far.peer.write(data)
            self.far.peer.end()
            self.far.peer.pump()
            self.settle(lambda: self.relay.inward.clogged and self.relay.inward.ended == ENDED)
            self.far.peer.close()
            self.near.peer.write(b"refused")
            self.settle(lambda: self.relay.outward.ended == RESET)
            self.assertEqual([], self.outcomes)
            self.near.peer.reading = True
            self.settle(lambda: self.relay.over)
            self.settle(lambda: self.near.peer.received == data)
            self.assertOver("reset")
            self.assertLost(self.near)
            self.tearDown()
            self.setUp()

    def test_bothBroken(self) -> None:
        """
        Both sinks may break.
        """
        self.join()
        self.nearStream.takes = self.farStream.takes = -1
        self.near.peer.write(b"refused")
        self.far.peer.write(b"refused")
        self.settle(lambda: self.relay.over)
        self.assertOver("reset")
        self.assertLost(self.near)
        self.assertLost(self.far)


class FailureTests(Streams):
    """
    What a relay says where TLS fails.
    """

    nearKind = "TLSv1.3"

    def test_reason(self) -> None:
        """
        A failure of TLS is told as one, in a sentence that names whose it is.
        """
        self.make()
        stream = self.near.end.tls
        assert stream is not None
        self.near.peer.unsent += b"\x17\x03\x03\x00\x40" + bytes(64)
        self.settle(lambda: self.relay.over)
        self.assertOver("failed")
        self.assertIn("the client", self.outcomes[0][1])
        self.assertIsInstance(stream.problem, SSL.Error)
