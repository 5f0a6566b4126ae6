# -*- test-case-name: tests.test_relay_interleavings -*-
"""
Whatever two peers do, and in whatever order the reactor hears of it, each gets a beginning of what the other sent, and
all of it where both ended as they should.
"""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlsproxy.testing import conformance, streams

if TYPE_CHECKING:
    _Mixin = streams.Streams
else:
    _Mixin = object

_moves = st.one_of(
    st.tuples(st.just("write"), st.booleans(), st.sampled_from([1, 100, 1023, 1024, 16384, 16385, 70000, 140000])),
    st.tuples(st.just("step"), st.booleans(), st.sampled_from([1, 5, 700, 9000, 65536])),
    st.tuples(st.sampled_from(["stop", "read", "end"]), st.booleans(), st.just(0)),
    st.tuples(st.sampled_from(["turn", "turn", "peer"]), st.booleans(), st.integers(1, 4)),
)
_breaks = st.one_of(_moves, st.tuples(st.sampled_from(["cut", "close", "lose", "abort"]), st.booleans(), st.just(0)))

_settings = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


class Interleavings(_Mixin):
    """
    Moves in any order; to be mixed into L{streams.Streams}.
    """

    def begin(self, seed: int, room: int, endBoth: bool = False, abortTruncated: bool = False) -> None:
        """
        Join two sides whose sockets hold little.

        @param seed: For the order of events.
        @param room: The size of the buffers of our sockets, in bytes.
        """
        self.make(endBoth, abortTruncated)
        self.loopback.reactor.shuffle = random.Random(seed)
        self.sent = {side: bytearray() for side in self.sides}
        self.ended: dict[streams.Side, str] = {}
        for side in self.sides:
            side.connected.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)

    def move(self, what: str, near: bool, number: int) -> None:
        """
        Do one thing.
        """
        side = self.near if near else self.far
        peer = side.peer
        gone = peer.socket.fileno() < 0
        if what == "write" and side not in self.ended and len(self.sent[side]) < 400000:
            data = random.Random(number).randbytes(number)
            self.sent[side] += data
            peer.write(data)
        elif what == "step":
            peer.step = number
        elif what in ("stop", "read"):
            peer.reading = what == "read"
        elif what in ("end", "cut") and side not in self.ended:
            self.ended[side] = what
            peer.end() if what == "end" else peer.cut()
        elif what == "close" and not gone:
            self.ended[side] = "close"
            peer.close()
        elif what == "lose" and not side.end.gone:
            self.loopback.reactor.lose(side.connected.transport)
        elif what == "abort":
            self.relay.abort("expired", "a test")
        elif what == "turn":
            for _ in range(number):
                self.loopback.reactor.turn()
        elif what == "peer":
            for _ in range(number):
                peer.pump()

    def finish(self) -> None:
        """
        Let all that is left happen.
        """
        for side in self.sides:
            side.peer.reading = True
            side.peer.step = 65536
        self.settle()
        for source, sink in ((self.near, self.far), (self.far, self.near)):
            self.assertTrue(self.sent[source].startswith(sink.peer.received))

    def again(self) -> None:
        """
        Check what is checked at the end of a test, and begin anew.
        """
        self.tearDown()
        self.setUp()

    @_settings
    @given(st.lists(_moves, max_size=40), st.integers(0, 9), st.sampled_from([2048, 20000, 212992]))
    def test_orderlyPeers(self, moves: list[tuple[str, bool, int]], seed: int, room: int) -> None:
        """
        Where both end as they should, nothing is lost and nothing is reset.
        """
        self.begin(seed, room)
        for move in moves:
            self.move(*move)
        for side in self.sides:
            self.move("end", side is self.near, 0)
        self.finish()
        for source, sink in ((self.near, self.far), (self.far, self.near)):
            self.assertTrue(self.sent[source] == sink.peer.received)
            self.assertEqual("end", sink.peer.ended)
        self.assertEqual([("closed", "")], self.outcomes)
        self.again()

    @_settings
    @given(
        st.lists(_breaks, max_size=40),
        st.integers(0, 9),
        st.sampled_from([2048, 20000, 212992]),
        st.booleans(),
        st.booleans(),
    )
    def test_disorderlyPeers(
        self, moves: list[tuple[str, bool, int]], seed: int, room: int, endBoth: bool, abortTruncated: bool
    ) -> None:
        """
        Whatever breaks, no end is told that nobody sent, and all is let go once.
        """
        self.begin(seed, room, endBoth, abortTruncated)
        for move in moves:
            self.move(*move)
        self.finish()
        for source, sink in ((self.near, self.far), (self.far, self.near)):
            if sink.kind != "plain" and sink.peer.ended == "end":
                # A close_notify says that all is there, and only the one who sent it all may say so.
                said = self.ended.get(source)
                self.assertIn(said, ("end",) if source.kind != "plain" else ("end", "cut", "close"))
                if said != "close":
                    self.assertTrue(self.sent[source] == sink.peer.received)
        self.again()


globals().update(conformance.pairings(__name__, streams.Streams, Interleavings))
