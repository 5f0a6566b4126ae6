# -*- test-case-name: tests.test_relay_leave -*-
"""
L{tlsproxy.relay}: directions that are left and joined anew, one moment at a time.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import Deferred

from tests.acting import Act, Acting, Joined
from tlsproxy.direction import Direction
from tlsproxy.handled import Handled
from tlsproxy.handler import INWARD, OUTWARD, Way
from tlsproxy.splice import Splice
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import Streams


class LeaveTests(Streams):
    """
    Between two plain sides, without handlers.
    """

    def setUp(self) -> None:
        """
        Count how often a direction was left.
        """
        super().setUp()
        self.lefts = 0

    def left(self) -> None:
        """
        A direction was left.
        """
        self.lefts += 1

    def test_left(self) -> None:
        """
        What was read before is delivered, and nothing is read after; the other direction goes on; joined anew, what
        waited comes.
        """
        self.make()
        self.near.peer.write(b"before ")
        self.settle()
        direction = self.relay.outward
        self.relay.leave(direction, self.left)
        self.relay.leave(direction, self.left)
        self.assertEqual(2, self.lefts)
        self.near.peer.write(b"behind")
        self.near.peer.end()
        self.far.peer.write(b"answer")
        self.settle(lambda: self.near.peer.received == b"answer")
        self.assertEqual((b"before ", 0), (self.far.peer.received, direction.ended))
        self.assertEqual(3, self.far.end.writing.send(b"and"))
        for _ in range(2):
            self.relay.rejoin(direction)
        self.settle(lambda: self.far.peer.received == b"before andbehind")
        self.assertEqual(("end", 13), (self.far.peer.ended, self.relay.outward.count))
        self.assertIs(direction, self.relay.outward)

    def test_clogged(self) -> None:
        """
        Where the sink is full, the direction is left when that has taken all; or not at all, if it is joined anew
        before.
        """
        self.make()
        data = os.urandom(5 << 20)
        for joins in (True, False):
            self.far.peer.reading = False
            self.near.peer.write(data)
            self.settle(lambda: self.relay.outward.clogged)
            self.relay.leave(self.relay.outward, self.left)
            if joins:
                self.relay.rejoin(self.relay.outward)
            self.settle()
            self.assertEqual(0, self.lefts)
            self.far.peer.reading = True
            self.settle()
            self.assertEqual(0 if joins else 1, self.lefts)
        self.assertTrue(self.near.peer.unsent)
        self.relay.rejoin(self.relay.outward)
        self.settle(lambda: self.far.peer.received == data + data)

    def test_joinedBeforeItIsLeft(self) -> None:
        """
        Who has joined it anew before it was left hears nothing of that later.
        """
        self.make()
        self.far.peer.reading = False
        self.near.peer.write(bytes(3 << 20))
        self.settle(lambda: self.relay.outward.clogged)
        self.relay.leave(self.relay.outward, self.left)
        self.relay.rejoin(self.relay.outward)
        self.relay.outward.pause()
        self.far.peer.reading = True
        self.settle(lambda: not self.relay.outward.clogged)
        self.assertEqual(0, self.lefts)

    def test_ended(self) -> None:
        """
        A direction that has ended, or whose session is over, is not left any more, and nothing comes of joining it.
        """
        self.make()
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.relay.leave(self.relay.outward, self.left)
        self.relay.rejoin(self.relay.outward)
        self.far.peer.end()
        self.settle(lambda: self.relay.over)
        self.relay.leave(self.relay.inward, self.left)
        self.relay.rejoin(self.relay.inward)
        self.assertEqual(0, self.lefts)
        self.assertOver("closed")

    def test_breaks(self) -> None:
        """
        A direction that is left while its session breaks stays so.
        """
        for rejoins in (False, True):
            self.make()
            self.far.peer.reading = False
            self.near.peer.write(bytes(3 << 20))
            self.settle(lambda: self.relay.outward.clogged)
            self.relay.leave(self.relay.outward, self.left)
            self.loopback.reactor.lose(self.far.connected.transport)
            if rejoins:
                self.relay.rejoin(self.relay.outward)
            self.settle()
            self.assertEqual(0, self.lefts)
            self.assertOver("reset")
            self.tearDown()
            self.setUp()


class HandledLeaveTests(Joined, Streams):
    """
    With handlers.
    """

    nearKind = "TLSv1.3"

    def setUp(self) -> None:
        """
        Remember the handlers.
        """
        super().setUp()
        self.made: list[Acting] = []

    def begin(self, *acts: dict[str, Any]) -> None:
        """
        Join with some handlers.
        """
        self.handlers = tuple(Act(made=self.made, **what) for what in acts)
        self.make()

    def makeHandlers(self) -> tuple[Any, ...]:
        """
        They are made.
        """
        return self.handlers

    def tearDown(self) -> None:
        """
        Hold nothing.
        """
        super().tearDown()
        self.made.clear()

    def test_releasedMeanwhile(self) -> None:
        """
        What a handler releases while its direction is left waits until that is joined anew.
        """
        self.begin({"received": lambda *_: None}, {})
        self.near.peer.write(b"held")
        self.settle(lambda: bool(self.made[0].got[OUTWARD]))
        self.relay.leave(self.relay.outward, lambda: None)
        self.made[0].flow.release(OUTWARD, b"he")
        self.made[0].flow.release(OUTWARD, b"ld")
        self.settle()
        self.assertEqual(b"", self.far.peer.received)
        self.relay.rejoin(self.relay.outward)
        self.settle(lambda: self.far.peer.received == b"held")

    def test_cutMeanwhile(self) -> None:
        """
        Or until its session ends because the other direction has.
        """
        self.handlers = (Act(made=self.made),)
        self.make(endBoth=True)
        self.relay.leave(self.relay.outward, lambda: None)
        self.made[0].flow.release(OUTWARD, b"last words")
        self.far.peer.end()
        self.settle(lambda: self.relay.over)
        self.settle(lambda: self.far.peer.received == b"last words")

    def test_doneMeanwhile(self) -> None:
        """
        Handlers that become done meanwhile are not there any more when it is joined anew.
        """
        self.begin({})
        self.relay.leave(self.relay.outward, lambda: None)
        former = self.relay.outward
        self.made[0].flow.release(OUTWARD, b"last ")
        self.made[0].flow.done(OUTWARD)
        self.assertIs(Handled, type(self.relay.outward))
        self.relay.rejoin(former)
        self.assertIs(Direction, type(self.relay.outward))
        self.near.peer.write(b"words")
        self.settle(lambda: self.far.peer.received == b"last words")
        self.relay.leave(former, lambda: None)  # Whoever still knows the former one means the direction.
        self.assertTrue(self.relay.outward.paused)
        self.relay.rejoin(former)
        self.assertEqual((b"", False), (self.made[0].got[OUTWARD], self.relay.outward.paused))

    def test_leftByAHandler(self) -> None:
        """
        A direction that is left while a handler is at work on its bytes lets those go first.
        """
        lefts: list[int] = []

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            before = len(lefts)
            self.relay.leave(self.relay.outward, lambda: lefts.append(len(self.far.peer.received)))
            self.assertEqual(before, len(lefts))
            return data

        self.begin({"received": received}, {})
        self.far.end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for clogs in (False, True):
            self.far.peer.reading = not clogs
            data = os.urandom(1000000 if clogs else 10)
            self.near.peer.write(data)
            self.settle()
            self.assertEqual(1, len(lefts))
            self.far.peer.reading = True
            self.settle()
            self.assertEqual(2 if clogs else 1, len(lefts))
            self.assertEqual(len(self.made[1].got[OUTWARD]), len(self.far.peer.received))
            self.assertEqual(clogs, len(data) > len(self.made[1].got[OUTWARD]))
            self.relay.rejoin(self.relay.outward)
            self.settle()

    def test_paused(self) -> None:
        """
        Joined anew, a direction that a handler has paused waits for that handler.
        """
        self.begin({})
        flow = self.made[0].flow
        flow.pause(OUTWARD)
        self.relay.leave(self.relay.outward, lambda: None)
        self.relay.rejoin(self.relay.outward)
        self.near.peer.write(b"x")
        self.settle()
        self.assertEqual(b"", self.far.peer.received)
        self.relay.leave(self.relay.outward, lambda: None)
        flow.resume(OUTWARD)
        self.settle()
        self.assertEqual((b"", b""), (self.far.peer.received, self.made[0].got[OUTWARD]))
        self.relay.rejoin(self.relay.outward)
        self.settle(lambda: self.far.peer.received == b"x")

    def test_shed(self) -> None:
        """
        While both directions are left a side may end its TLS; joined anew with no handler left, the kernel moves what
        follows, beginning at the first byte behind TLS.
        """
        self.begin({})
        peer = self.near.peer
        assert isinstance(peer, TLSPeer)
        peer.write(b"inside")
        self.settle(lambda: self.far.peer.received == b"inside")
        for direction in (self.relay.outward, self.relay.inward):
            self.relay.leave(direction, lambda: None)
        peer.write(b"|last")
        peer.endTLS()
        peer.writePlain(b"outside")
        self.far.peer.write(b"answer")
        stopped = Deferred.fromCoroutine(self.near.end.stopTLS())
        self.settle(lambda: stopped.called and peer.told)
        self.assertEqual((b"|last", b""), (self.successResultOf(stopped), bytes(peer.plain)))
        for way in (OUTWARD, INWARD):
            self.made[0].flow.done(way)
        for direction in (self.relay.outward, self.relay.inward):
            self.relay.rejoin(direction)
        self.assertEqual([Splice, Splice], [type(self.relay.outward), type(self.relay.inward)])
        self.settle(lambda: self.far.peer.received == b"insideoutside" and peer.plain == b"answer")
