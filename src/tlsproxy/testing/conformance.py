# -*- test-case-name: tests.testing.test_conformance -*-
"""
What every pairing of two kinds of End promises, on whatever sockets and whatever reactor.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import Side, Streams, held, mostHeld, pairings

__all__ = ["PairingConformance", "pairings"]

if TYPE_CHECKING:
    _Mixin = Streams
else:
    _Mixin = object


def eachWay(test: Callable[[PairingConformance, int], None]) -> Callable[[PairingConformance], None]:
    """
    Run a test once for each direction, each time with a new pairing.

    @param test: It takes the direction, as a place in L{Streams.ways}.
    """

    @functools.wraps(test)
    def both(self: PairingConformance) -> None:
        test(self, 0)
        self.tearDown()
        self.setUp()
        test(self, 1)

    return both


class PairingConformance(_Mixin):
    """
    The promises; to be mixed into L{Streams}.
    """

    amount = 1 << 20

    def bulk(self, seed: int, size: int | None = None) -> bytes:
        """
        Make bytes that do not repeat.
        """
        return random.Random(seed).randbytes(self.amount if size is None else size)

    def ending(self, source: Side, sink: Side, how: str) -> str:
        """
        Tell how a peer should see the end of a stream.

        @param how: How it ended: C{"end"} or C{"truncated"}.
        """
        return "truncated" if how == "truncated" and source.kind != "plain" != sink.kind else "end"

    def test_twoWay(self) -> None:
        """
        Bytes come through both ways, again and again.
        """
        self.make()
        for turn in range(1, 4):
            for source, sink, direction in self.ways():
                source.peer.write(b"ping")
                self.settle(lambda sink=sink, turn=turn: sink.peer.received == b"ping" * turn)  # type: ignore[misc]
                self.assertEqual(4 * turn, direction.count)

    def test_greetingBeforeTheJoin(self) -> None:
        """
        What an upstream said before the join is delivered.
        """
        self.make(early=b"220 welcome\r\n")
        self.settle(lambda: self.near.peer.received == b"220 welcome\r\n")

    def test_restOfARecord(self) -> None:
        """
        What set-up left of a record goes on, without another byte from the peer.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        for side in (self.near, self.far):
            side.peer.write(b"set-up|the rest")
            taken = Deferred.fromCoroutine(side.end.read(7))
            self.settle(functools.partial(getattr, taken, "called"))
            self.assertEqual(b"set-up|", self.successResultOf(taken))
        self.join()
        self.settle(lambda: self.near.peer.received == self.far.peer.received == b"the rest")

    @eachWay
    def test_halfClose(self, first: int) -> None:
        """
        The end of a direction is passed on, and an answer that comes long after it arrives whole.
        """
        self.make()
        source, sink, direction = self.ways()[first]
        question, answer = self.bulk(1), self.bulk(2)
        source.peer.write(question)
        source.peer.end()
        self.settle(lambda: sink.peer.ended == "end")
        self.assertEqual(question, sink.peer.received)
        self.assertEqual(1, self.halfClosed)
        self.loopback.advance(30)
        self.settle()
        sink.peer.write(answer)
        self.settle(lambda: len(source.peer.received) == len(answer))
        self.assertEqual(("", []), (source.peer.ended, self.outcomes))
        sink.peer.end()
        self.settle(lambda: source.peer.ended == "end")
        self.assertEqual(answer, source.peer.received)
        self.settle(lambda: self.relay.over)
        self.assertEqual([("closed", "")], self.outcomes)
        self.assertEqual(len(question), direction.count)

    @eachWay
    def test_cloggedWriter(self, first: int) -> None:
        """
        A peer that does not read stops the one that writes to it; the other direction goes on; nothing is lost.
        """
        self.make()
        data = self.bulk(3, 4 << 20)
        source, sink, direction = self.ways()[first]
        sink.peer.reading = False
        source.peer.write(data)
        self.settle(lambda: direction.clogged)
        self.settle()
        self.assertTrue(source.peer.unsent)
        self.assertNotIn(source.connected.transport, self.loopback.reactor.getReaders())
        self.assertIn(sink.connected.transport, self.loopback.reactor.getWriters())
        self.assertTrue(0 < held(direction) <= mostHeld(direction))
        sink.peer.write(b"meanwhile")
        self.settle(lambda: source.peer.received[-9:] == b"meanwhile")
        sink.peer.reading = True
        self.settle(lambda: len(sink.peer.received) >= len(data))
        self.assertEqual(data, sink.peer.received[-len(data) :])
        self.assertFalse(direction.clogged)

    def test_cloggedBothWays(self) -> None:
        """
        Two peers that write and do not read stop each other, and when they read again nothing is lost.
        """
        self.make()
        data = self.bulk(4, 4 << 20)
        for side in (self.near, self.far):
            side.peer.reading = False
            side.peer.write(data)
        self.settle(lambda: self.relay.outward.clogged and self.relay.inward.clogged)
        for side in (self.near, self.far):
            side.peer.end()
        self.near.peer.reading = True
        self.settle(lambda: len(self.near.peer.received) == len(data))
        self.far.peer.reading = True
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(data == self.near.peer.received == self.far.peer.received)
        self.assertOver("closed")

    @eachWay
    def test_endWhileClogged(self, first: int) -> None:
        """
        An end that comes while its sink is full waits behind the bytes.
        """
        self.make()
        source, sink, direction = self.ways()[first]
        data = self.bulk(5, 3 << 20)
        sink.peer.reading = False
        source.peer.write(data)
        source.peer.end()
        self.settle(lambda: direction.clogged)
        self.assertEqual(0, direction.ended)
        sink.peer.reading = True
        self.settle(lambda: sink.peer.ended == "end")
        self.assertEqual(data, sink.peer.received)

    @eachWay
    def test_reset(self, first: int) -> None:
        """
        A reset goes on as a reset.
        """
        self.make()
        source, sink, _ = self.ways()[first]
        # A Unix socket is reset by being closed with bytes unread.
        source.peer.reading = False
        sink.peer.write(b"never read")
        self.settle(lambda: self.ways()[1 - first][2].count == 10)
        source.peer.reset()
        self.settle(lambda: self.relay.over)
        self.assertOver("reset")
        self.assertIn(source.end.who, self.outcomes[0][1])
        self.assertLost(sink)

    @eachWay
    def test_brokenSink(self, first: int) -> None:
        """
        What a plain peer said before it went away is delivered, even where writing to it fails first.  TLS cannot be
        read any more once a write has failed, so there it is enough that the session is reset.
        """
        self.make()
        source, sink, _ = self.ways()[first]
        source.peer.write(b"more")
        sink.peer.write(b"last words")
        self.loopback.first(source)
        source.peer.pump()
        sink.peer.pump()
        sink.peer.close()
        if sink.kind == "plain":
            self.settle(lambda: source.peer.received == b"last words")
        for _ in range(50):
            if self.relay.over:
                break
            source.peer.write(b"more")
            self.settle()
        self.assertOver("reset")
        self.assertIn(sink.end.who, self.outcomes[0][1])
        self.settle(lambda: bool(source.connected.losses))
        self.assertTrue(source.aborted)

    @eachWay
    def test_truncation(self, first: int) -> None:
        """
        A stream that ends without its close_notify goes on as what it was, and the other direction goes on.
        """
        self.make()
        source, sink, _ = self.ways()[first]
        source.peer.write(b"half a sent")
        source.peer.cut()
        expected = self.ending(source, sink, "truncated")
        self.settle(lambda: bool(sink.peer.ended))
        self.assertEqual((b"half a sent", expected), (sink.peer.received, sink.peer.ended))
        self.loopback.advance(30)
        late = self.bulk(6)
        sink.peer.write(late)
        sink.peer.end()
        self.settle(lambda: bool(source.peer.ended))
        self.assertEqual("end", source.peer.ended)
        self.assertEqual(late, source.peer.received)
        self.settle(lambda: self.relay.over)
        self.assertOver("closed" if source.kind == "plain" else "truncated")

    @eachWay
    def test_truncationAborts(self, first: int) -> None:
        """
        Where it is wanted, truncated TLS resets the session; a plain stream cannot be truncated.
        """
        self.make(abortTruncated=True)
        source, sink, _ = self.ways()[first]
        source.peer.write(b"half a sent")
        source.peer.cut()
        if source.kind == "plain":
            self.settle(lambda: sink.peer.ended == "end")
            self.assertEqual([], self.outcomes)
        else:
            self.settle(lambda: self.relay.over)
            self.assertOver("truncated")
            self.assertLost(sink)

    def test_byteAtATime(self) -> None:
        """
        Peers that send and read single bytes, or nearly so, lose none.
        """
        self.make()
        data = self.bulk(7, 300)
        for side in (self.near, self.far):
            side.peer.step = self.loopback.smallest
            side.peer.write(data)
            side.peer.end()
        self.settle(lambda: self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(data == self.near.peer.received == self.far.peer.received)

    def test_simultaneousClose(self) -> None:
        """
        Both peers may end at once.
        """
        self.make()
        for side in (self.near, self.far):
            side.peer.write(b"goodbye")
            side.peer.end()
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(self.near.peer.received == self.far.peer.received == b"goodbye")
        self.assertOver("closed")

    def test_bulkBothWays(self) -> None:
        """
        Much data both ways at once arrives as it was sent.
        """
        self.make()
        there, back = self.bulk(8, 3 << 20), self.bulk(9, 3 << 20)
        self.near.peer.write(there)
        self.far.peer.write(back)
        self.near.peer.end()
        self.far.peer.end()
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(there == self.far.peer.received)
        self.assertTrue(back == self.near.peer.received)
        self.assertEqual((len(there), len(back)), (self.relay.outward.count, self.relay.inward.count))

    @eachWay
    def test_endBoth(self, first: int) -> None:
        """
        Where it is wanted, the end of one direction ends both: what was cut is not passed off as an end.
        """
        self.make(endBoth=True)
        source, sink, _ = self.ways()[first]
        source.peer.write(b"that is all")
        source.peer.end()
        self.settle(lambda: self.relay.over and bool(self.near.peer.ended and self.far.peer.ended))
        self.assertEqual((b"that is all", "end"), (sink.peer.received, sink.peer.ended))
        self.assertEqual("end" if source.kind == "plain" else "truncated", source.peer.ended)
        self.assertOver("closed")

    def test_endBothWhileClogged(self) -> None:
        """
        Where one end ends both, bytes that already are on their way the other way are delivered first.
        """
        self.make(endBoth=True)
        data = self.bulk(10, 2 << 20)
        self.near.peer.reading = False
        self.far.peer.write(data)
        self.settle(lambda: self.relay.inward.clogged)
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.near.peer.reading = True
        self.settle(lambda: self.relay.over and bool(self.near.peer.ended))
        self.assertOver("closed")
        self.assertEqual(self.relay.inward.count, len(self.near.peer.received))
        self.assertTrue(data.startswith(self.near.peer.received))

    @eachWay
    def test_lostFromOutside(self, first: int) -> None:
        """
        A connection that the reactor finds dead ends the session as a reset.
        """
        self.make()
        source, sink, _ = self.ways()[first]
        source.connected.transport.connectionLost(_LOST)
        self.settle(lambda: self.relay.over)
        self.assertOver("reset")
        self.assertLost(sink)

    def test_lostBeforeTheStart(self) -> None:
        """
        A side that is lost before it is joined ends the session, too.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        self.far.connected.transport.connectionLost(_LOST)
        self.join()
        self.assertOver("reset")
        self.assertLost(self.near)

    def test_abort(self) -> None:
        """
        A session that is cut resets both sides, and is told once.
        """
        self.make()
        self.relay.abort("expired", "no byte moved")
        self.relay.abort("stopped", "the service stopped")
        self.assertEqual([("expired", "no byte moved")], self.outcomes)
        self.assertLost(self.near)
        self.assertLost(self.far)

    def test_abortWhileClogged(self) -> None:
        """
        A session whose directions both are stuck can be cut.
        """
        self.make()
        for side in (self.near, self.far):
            side.peer.reading = False
            side.peer.write(self.bulk(11, 3 << 20))
        self.settle(lambda: self.relay.outward.clogged and self.relay.inward.clogged)
        self.relay.abort("expired", "no byte moved")
        self.assertLost(self.near)
        self.assertLost(self.far)

    @eachWay
    def test_garbage(self, first: int) -> None:
        """
        A record that does not verify ends the session: its sender gets an alert, and the other side a reset.
        """
        self.make()
        source, sink, _ = self.ways()[first]
        if source.kind != "plain":
            assert isinstance(source.peer, TLSPeer)
            source.peer.write(b"good")
            source.peer.writePlain(b"\x17\x03\x03\x00\x40" + bytes(64))
            self.settle(lambda: self.relay.over)
            self.assertOver("failed")
            self.settle(lambda: sink.peer.received == b"good")
            self.assertLost(sink)
            self.settle(lambda: source.peer.ended == "failed")


_LOST = Failure(error.ConnectionLost())
