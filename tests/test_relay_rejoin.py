# -*- test-case-name: tests.test_relay_rejoin -*-
"""
A relay left and joined anew, per direction and at any byte, from handlers to a copy to a splice: whatever the moment,
each peer gets all that the other sent, in its order, and then the end that it was.

C{TLSPROXY_TEST_ROUNDS} says how many times as many rounds as usual to play.
"""

from __future__ import annotations

import os
import random
import socket
from typing import Any

from attrs import field, frozen

from tests.acting import Joined
from tlsproxy.direction import Direction
from tlsproxy.handler import INWARD, OUTWARD, Flow, HandlerOptions, ProtocolHandler, Session, Way
from tlsproxy.testing.handlerconformance import Streams, pairings
from tlsproxy.testing.streams import Side

ROUNDS = 200 * int(os.environ.get("TLSPROXY_TEST_ROUNDS", "1"))
"""How many rounds are played for each pairing."""
MOMENTS = 60
"""How many moves a round has."""
SIZES = (1, 2, 100, 1023, 1024, 16384, 16385, 70000, 200000)


@frozen(kw_only=True, eq=False)
class Fickle(HandlerOptions):
    """
    Lets everything pass, in its order, but now so and now so.
    """

    random: random.Random = field(factory=random.Random)
    made: list[FickleHandler] = field(factory=list)
    early: frozenset[Way] = frozenset()

    def handler(self, session: Session, flow: Flow) -> FickleHandler:
        """
        See L{HandlerOptions}.
        """
        made = FickleHandler(session, flow)
        made.random = self.random
        self.made.append(made)
        for way in self.early:
            made.step(way)
        return made


class FickleHandler(ProtocolHandler):
    """
    The handler of L{Fickle}.
    """

    random: random.Random

    def __init__(self, session: Session, flow: Flow) -> None:
        super().__init__(session, flow)
        self.kept: dict[Way, bytes] = {OUTWARD: b"", INWARD: b""}
        self.stepped: set[Way] = set()
        self.ending: set[Way] = set()

    def received(self, direction: Way, data: bytes) -> bytes | None:
        """
        Pass, keep, give back in pieces, pause, become done.
        """
        self.steer(direction)
        self.steer(self.random.choice([OUTWARD, INWARD]))
        if direction in self.stepped:
            return data  # What was kept was released before.
        roll = self.random.random()
        if roll < 0.2:
            self.kept[direction] += data
            return None
        whole, self.kept[direction] = self.kept[direction] + data, b""
        if roll < 0.3:
            middle = self.random.randrange(len(whole) + 1)
            self.flow.release(direction, whole[:middle])
            self.flow.release(direction, whole[middle:])
            return b""
        if roll < 0.35:
            self.step(direction)
        return whole

    def ended(self, direction: Way, how: str) -> None:
        """
        Give back what was kept, at once or later.
        """
        if self.random.random() < 0.3:
            self.flow.pause(direction)
            self.ending.add(direction)
            self.flow.callLater(0, self.late, direction)
        else:
            self.give(direction)

    def late(self, way: Way) -> None:
        """
        Give back, and let the end pass.
        """
        self.give(way)
        self.ending.discard(way)
        self.flow.resume(way)

    def steer(self, way: Way) -> None:
        """
        Pause now and then, and not for ever.
        """
        if self.random.random() < 0.1:
            self.flow.pause(way)
            if self.random.random() < 0.5:
                self.goOn(way)
            else:
                self.flow.callLater(0, self.goOn, way)

    def goOn(self, way: Way) -> None:
        """
        Resume, unless something still has to go before the end.
        """
        if way not in self.ending:
            self.flow.resume(way)

    def give(self, way: Way) -> None:
        """
        Give back what was kept.
        """
        kept, self.kept[way] = self.kept[way], b""
        if kept:
            self.flow.release(way, kept)

    def step(self, way: Way) -> None:
        """
        Step out.
        """
        if way not in self.stepped:
            self.give(way)
            self.stepped.add(way)
            self.flow.done(way)


class Rejoining(Joined):
    """
    Rounds of moves; to be mixed into L{Streams}.
    """

    def begin(self, seed: int) -> None:
        """
        Join two sides, with some handlers or none.
        """
        self.random = random.Random(seed)
        self.made: list[FickleHandler] = []
        self.handlers = tuple(
            Fickle(
                random=self.random,
                made=self.made,
                early=frozenset(self.random.sample([OUTWARD, INWARD], self.random.choice([0, 0, 0, 1, 2]))),
            )
            for _ in range(self.random.choice([0, 1, 1, 2, 3]))
        )
        self.sent: dict[Side, bytearray] = {}
        self.said: dict[Side, list[tuple[int, bytes]]] = {}
        self.ended: dict[Side, str] = {}
        self.out: dict[int, bool] = {}
        self.make()
        self.loopback.reactor.shuffle = self.random
        for side in self.sides:
            self.sent[side] = bytearray()
            self.said[side] = []
            room = self.random.choice([2048, 20000, 212992])
            side.connected.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)

    def makeHandlers(self) -> tuple[Any, ...]:
        """
        They have been made.
        """
        return self.handlers

    def way(self, number: int) -> Direction:
        """
        Find a direction as it is now.
        """
        return self.relay.inward if number else self.relay.outward

    def leave(self, number: int) -> None:
        """
        Leave a direction.
        """

        def left() -> None:
            direction = self.way(number)
            self.assertFalse(direction.clogged)
            self.assertEqual((0, True), (direction.ended, direction.paused))
            self.assertIs(False, self.out[number])
            self.out[number] = True

        self.out[number] = False
        self.relay.leave(self.way(number), left)

    def rejoin(self, number: int) -> None:
        """
        Join it anew, whether it has been left by now or not.
        """
        self.out.pop(number, None)
        self.relay.rejoin(self.way(number))

    def say(self, number: int) -> None:
        """
        Have somebody write to the sink of a direction that is left.
        """
        direction = self.way(number)
        if self.out.get(number) and not direction.ended and not self.relay.over:
            data = self.random.randbytes(self.random.choice([1, 50]))
            sink = self.sides[1 - number]
            sink.peer.reading = True
            while not direction.sink.writing.send(data):
                sink.peer.pump()
            self.said[sink].append((direction.count, data))

    def move(self) -> None:
        """
        Do something.
        """
        choose = self.random.choice
        side, number = choose(self.sides), choose([0, 1])
        what = choose(["write"] * 4 + ["turn"] * 6 + ["peer"] * 4 + ["leave", "rejoin", "handler", "step", "read"] * 2)
        if what == "write" and side not in self.ended and len(self.sent[side]) < 600000:
            data = self.random.randbytes(choose(SIZES))
            self.sent[side] += data
            side.peer.write(data)
        elif what == "turn":
            for _ in range(choose([1, 2, 5])):
                self.loopback.reactor.turn()
        elif what == "peer":
            side.peer.pump()
        elif what == "step":
            side.peer.step = choose([100, 5000, 65536])
        elif what == "read":
            side.peer.reading = choose([True, True, False])
        elif what == "leave":
            self.leave(number)
        elif what == "rejoin":
            self.say(number)
            self.rejoin(number)
        elif what == "handler" and self.made:
            way: Way = INWARD if number else OUTWARD
            handler = choose(self.made)
            if not self.way(number).ended:
                choose([handler.give, handler.step, handler.steer])(way)

    def end(self, side: Side) -> None:
        """
        Have a side end, well or not.
        """
        if side not in self.ended:
            self.ended[side] = self.random.choice(["end", "end", "truncated"])
            side.peer.end() if self.ended[side] == "end" else side.peer.cut()

    def play(self, seed: int) -> None:
        """
        Play one round.
        """
        self.begin(seed)
        ends = self.random.randrange(2 * MOMENTS)
        for number in range(MOMENTS):
            self.move()
            if number == ends:
                self.end(self.random.choice(self.sides))
        for side in self.sides:
            self.end(side)
            side.peer.reading = True
            side.peer.step = 65536
        for number in (0, 1):
            self.rejoin(number)
        self.settle(lambda: self.relay.over and all(side.peer.ended for side in self.sides))
        for number, (source, sink) in enumerate(((self.near, self.far), (self.far, self.near))):
            expected = bytes(self.sent[source])
            for place, data in reversed(self.said[sink]):
                expected = expected[:place] + data + expected[place:]
            self.assertTrue(expected == sink.peer.received, (seed, len(expected), len(sink.peer.received)))
            self.assertEqual(len(self.sent[source]), self.way(number).count)
            self.assertEqual(self.ending(source, sink, self.ended[source]), sink.peer.ended)
        cut = any(side.kind != "plain" and how == "truncated" for side, how in self.ended.items())
        self.assertOver("truncated" if cut else "closed")

    def test_anyMoment(self) -> None:
        """
        At whatever moments directions are left, joined anew, paused, and handlers become done, nothing is lost.
        """
        for number in range(ROUNDS):
            seed = number * 1000 + sum(type(self).__name__.encode())
            try:
                self.play(seed)
            except BaseException:
                print(f"{type(self).__name__}: seed {seed}")
                raise
            self.made.clear()
            self.tearDown()
            self.setUp()


globals().update(pairings(__name__, Streams, Rejoining))
