# -*- test-case-name: tests.test_direction -*-
"""
L{tlsproxy.direction}: one way through a session, between streams that do what sockets and OpenSSL do only on a bad day.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_relay import MoodyStreams
from tlsproxy.deadlines import Deadlines
from tlsproxy.direction import TURNS, Direction
from tlsproxy.interfaces import ENDED, FAILED, MORE, RESET, TRUNCATED
from tlsproxy.testing.streams import held, mostHeld


class Told:
    """
    What stands in for the relay.  It implements L{tlsproxy.direction.Joint}.

    @ivar told: What it was told, in order: a word, and the state in which the source had ended.
    @ivar cuts: Whether it ends all when a source ends.
    """

    def __init__(self, clock: Deadlines) -> None:
        self.clock = clock
        self.active = -1.0
        self.over = False
        self.told: list[tuple[str, int | str]] = []
        self.cuts = False

    def ended(self, direction: Direction) -> None:
        """
        A source has ended.
        """
        self.told.append(("ended", direction.ended))
        self.over = self.cuts

    def passed(self, direction: Direction) -> None:
        """
        Its end is passed on.
        """
        self.told.append(("passed", direction.ended))

    def broken(self, direction: Direction) -> None:
        """
        A sink takes no more.
        """
        self.told.append(("broken", direction.ended))

    def replace(self, direction: Direction) -> None:
        """
        A direction may go on in another way.
        """
        self.told.append(("replace", direction.ended))

    def abort(self, outcome: str, reason: str) -> None:
        """
        The session is cut.
        """
        self.told.append((outcome, reason))
        self.over = True


class DirectionTests(MoodyStreams):
    """
    From near to far, with nobody at the other direction.
    """

    def setUp(self) -> None:
        """
        Make a direction.
        """
        super().setUp()
        self.joint = Told(Deadlines(self.loopback.reactor))
        self.direction = Direction(self.joint, self.near.end, self.far.end)
        self.direction.opposite = Direction(self.joint, self.far.end, self.near.end)
        self.direction.opposite.opposite = self.direction

    def tearDown(self) -> None:
        """
        Nothing is written for ever.
        """
        self.farStream.takes = None
        super().tearDown()

    def send(self, data: bytes) -> None:
        """
        Have the near peer send, and the reactor not look yet.
        """
        self.near.peer.write(data)
        self.near.peer.pump()

    def clog(self, data: bytes) -> None:
        """
        Send something to a sink that takes nothing.
        """
        self.farStream.takes = 0
        self.send(data)
        self.direction.start(True)
        self.assertTrue(self.direction.clogged)

    def reading(self) -> bool:
        """
        Tell whether the reactor looks after the source.
        """
        return self.near.connected.transport in self.loopback.reactor.getReaders()

    def test_start(self) -> None:
        """
        What is there already is moved at once, where that is wanted, and by the reactor otherwise.
        """
        self.send(b"early")
        self.direction.start(False)
        self.assertEqual((0, True), (self.direction.count, self.reading()))
        self.direction.start(True)
        self.assertEqual((5, True), (self.direction.count, self.reading()))
        self.settle(lambda: self.far.peer.received == b"early")
        self.assertEqual([], self.joint.told)

    def test_active(self) -> None:
        """
        The session knows when a byte last moved, read or written.
        """
        self.joint.clock.now = 100.0
        self.clog(b"x")
        self.assertEqual(100.0, self.joint.active)
        self.joint.clock.now = 200.0
        self.assertEqual(100.0, self.joint.active)
        self.farStream.takes = None
        self.settle(lambda: self.far.peer.received == b"x")
        self.assertEqual(200.0, self.joint.active)

    def test_fair(self) -> None:
        """
        A source that never runs dry lets others have the reactor now and then.
        """

        def fill(buffer: Any) -> int:
            self.nearStream.state = MORE
            return int(buffer.size)

        self.direction._fill = fill
        self.direction._drain = lambda buffer, count: count
        self.direction.start(True)
        self.assertEqual(TURNS * 131072, self.direction.count)

    # -- sinks that are full ----------------------------------------------------------------------------------------

    def test_held(self) -> None:
        """
        One buffer is held at most, whatever the sink takes; the source is not read meanwhile; the last byte arrives.
        """
        data = bytes(range(256)) * 2048
        self.clog(data)
        self.assertFalse(self.reading())
        self.assertTrue(0 < held(self.direction) <= mostHeld(self.direction))
        self.farStream.takes = 777
        self.settle(lambda: self.far.peer.received == data)
        self.assertEqual((len(data), True), (self.direction.count, self.reading()))
        self.assertEqual([], self.writers())

    def test_aside(self) -> None:
        """
        What waits in one direction is not touched by the bytes of another.
        """
        self.clog(b"first")
        self.far.peer.write(b"other way")
        self.direction.opposite.start(False)
        self.farStream.takes = 0
        self.far.peer.pump()
        self.direction.opposite.carry()
        self.near.peer.pump()
        self.assertEqual(b"other way", self.near.peer.received)
        self.farStream.takes = None
        self.settle(lambda: self.far.peer.received == b"first")

    def test_release(self) -> None:
        """
        What waits can be given up.
        """
        self.clog(b"in vain")
        self.direction.release()
        self.assertEqual((False, 0), (self.direction.clogged, held(self.direction)))

    @settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.lists(st.sampled_from([1, 2, 700, 16384, 131072, 200000]), min_size=1, max_size=6),
        st.lists(st.sampled_from([0, 1, 3, 500, 16384, 140000]), max_size=12),
    )
    def test_anyPieces(self, writes: list[int], takes: list[int]) -> None:
        """
        However the bytes come and go, they arrive in order and are counted once.
        """
        data = b"".join(bytes([number]) * size for number, size in enumerate(writes))
        self.near.peer.write(data)
        self.near.peer.cut()
        self.direction.start(False)
        for most in takes:
            self.farStream.takes = most
            self.near.peer.pump()
            self.loopback.reactor.turn()
            self.far.peer.pump()
        self.farStream.takes = None
        self.settle(lambda: bool(self.far.peer.ended))
        self.assertTrue(data == self.far.peer.received)
        self.assertEqual(len(data), self.direction.count)
        self.assertEqual([("ended", ENDED), ("passed", ENDED)], self.joint.told)
        self.tearDown()
        self.setUp()

    # -- ends -------------------------------------------------------------------------------------------------------

    def test_ends(self) -> None:
        """
        However a source ends, that is told first, and then passed on; only a good end is an end to the sink's stream.
        """
        for how, endings in ((ENDED, 1), (TRUNCATED, 0), (RESET, 0), (FAILED, 0)):
            self.nearStream.last = how
            self.send(b"all")
            self.near.peer.cut()
            self.near.peer.pump()
            self.direction.start(False)
            self.settle(lambda: self.far.peer.ended == "end")
            self.assertEqual((b"all", endings), (self.far.peer.received, self.farStream.endings))
            self.assertEqual([("ended", how), ("passed", how)], self.joint.told)
            self.assertEqual((True, False), (self.direction.over, self.reading()))
            self.tearDown()
            self.setUp()

    def test_endCut(self) -> None:
        """
        An end on which the session is cut is not passed on.
        """
        self.joint.cuts = True
        self.near.peer.cut()
        self.near.peer.pump()
        self.direction.start(True)
        self.settle()
        self.assertEqual(([("ended", ENDED)], False), (self.joint.told, self.direction.over))
        self.assertEqual(("", 0), (self.far.peer.ended, self.farStream.endings))

    def test_endBehindBytes(self) -> None:
        """
        An end that is known while bytes still wait is told, and passed on behind them.
        """

        def fill(buffer: Any) -> int:
            buffer.view[:4] = b"last"
            self.nearStream.state = ENDED
            return 4

        self.direction._fill = fill
        self.farStream.takes = 0
        self.direction.start(True)
        self.assertEqual(([("ended", ENDED)], True), (self.joint.told, self.direction.clogged))
        self.farStream.takes = 1
        self.settle(lambda: self.far.peer.ended == "end")
        self.assertEqual(b"last", self.far.peer.received)
        self.assertEqual([("ended", ENDED), ("passed", ENDED)], self.joint.told)
        self.assertEqual([], self.writers())

    def test_endLater(self) -> None:
        """
        A close_notify that the socket does not take is sent when it does, and the FIN behind it.
        """
        self.farStream.endsLater = 3
        self.near.peer.write(b"all")
        self.near.peer.end()
        self.direction.start(True)
        self.settle(lambda: self.far.peer.ended == "end")
        self.assertEqual((b"all", 1), (self.far.peer.received, self.farStream.endings))
        self.assertEqual([], self.writers())

    def test_lastEnd(self) -> None:
        """
        Where the other direction is over, too, no FIN is sent: closing sends it.
        """
        self.direction.opposite.over = True
        self.near.peer.end()
        self.direction.start(True)
        self.settle()
        self.assertEqual(("", True), (self.far.peer.ended, self.direction.over))
        self.assertEqual([("ended", ENDED), ("passed", ENDED)], self.joint.told)

    def test_endAfterABreak(self) -> None:
        """
        The end of a source that is broken the other way is a reset.
        """
        self.direction.opposite.ended = RESET
        self.near.peer.end()
        self.direction.start(True)
        self.settle()
        self.assertEqual([("ended", ENDED), ("reset", "the client reset the connection")], self.joint.told)
        self.assertEqual("", self.far.peer.ended)

    # -- sinks that break -------------------------------------------------------------------------------------------

    def test_broken(self) -> None:
        """
        A sink that takes nothing any more is told at once, and its source is not read again.
        """
        self.farStream.takes = -1
        self.send(b"refused")
        self.direction.start(True)
        self.assertEqual([("broken", RESET)], self.joint.told)
        self.assertEqual((True, 0, False), (self.direction.over, self.direction.count, self.direction.clogged))
        self.assertEqual((False, []), (self.reading(), self.writers()))

    def test_breaksWhileFlushed(self) -> None:
        """
        A sink may break on what was left over for it.
        """
        self.clog(b"left over")
        self.farStream.takes = 4
        self.direction.flush()
        self.farStream.takes = -1
        self.direction.flush()
        self.assertEqual([("broken", RESET)], self.joint.told)
        self.assertEqual((4, 0, False), (self.direction.count, held(self.direction), self.direction.clogged))
        self.assertEqual((False, []), (self.reading(), self.writers()))

    # -- reading that has to wait for writing -----------------------------------------------------------------------

    def test_wantsWrite(self) -> None:
        """
        A source that has to write before it can be read is read when it has written.
        """
        self.nearStream.wants = 2
        self.send(b"after the key update")
        self.direction.start(True)
        self.assertEqual((True, False), (self.direction.starved, self.reading()))
        self.assertEqual([self.near.connected.transport], self.writers())
        self.settle(lambda: self.far.peer.received == b"after the key update")
        self.assertEqual((False, []), (self.direction.starved, self.writers()))
        self.send(b"!")
        self.settle(lambda: self.far.peer.received[-1:] == b"!")

    def test_wantsWriteBehindBytes(self) -> None:
        """
        It may have to write behind bytes that the sink does not take; those come first all the same.
        """
        data = bytes(range(256)) * 700
        self.nearStream.wants, self.nearStream.behind = 1, True
        self.clog(data)
        self.assertTrue(self.direction.starved)
        self.loopback.reactor.turn()
        self.assertEqual((True, False), (self.direction.clogged, self.direction.starved))
        self.assertTrue(0 < held(self.direction) <= mostHeld(self.direction))
        self.assertFalse(self.reading())
        self.farStream.takes = None
        self.settle(lambda: self.far.peer.received == data)
        self.assertEqual((len(data), []), (self.direction.count, self.writers()))
