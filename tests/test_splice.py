# -*- test-case-name: tests.test_splice -*-
"""
L{tlsproxy.splice}: pipes, where they are when nobody needs them, and that each byte comes through them once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import termios
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import splice
from tlsproxy.direction import Direction
from tlsproxy.splice import Pipe, Pool, Splice
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import Side, Streams, emptyPool, held, mostHeld

NO_SPLICE = "" if hasattr(os, "splice") else "this system has no splice(2)"


def openPipes() -> int:
    """
    Count the descriptors of pipes that this process has open.
    """
    count = 0
    for name in os.listdir("/dev/fd"):
        try:
            count += stat.S_ISFIFO(os.fstat(int(name)).st_mode)
        except OSError:
            pass  # It was that of the listing.
    return count


class Counted(SynchronousTestCase):
    """
    Tests that begin and end with no pipe.
    """

    if NO_SPLICE:
        skip = NO_SPLICE

    def setUp(self) -> None:
        """
        Count.
        """
        emptyPool()
        self.opened = openPipes()

    def new(self) -> int:
        """
        Count the descriptors of pipes that were opened since.
        """
        return openPipes() - self.opened


class PipeTests(Counted):
    """
    One pipe.
    """

    def test_descriptors(self) -> None:
        """
        A pipe never blocks, is not passed to other programs, and has room for more than is asked for at once.
        """
        pipe = Pipe()
        self.addCleanup(pipe.close)
        for descriptor in (pipe.reader, pipe.writer):
            self.assertFalse(os.get_blocking(descriptor))
            self.assertFalse(os.get_inheritable(descriptor))
        self.assertEqual(0, pipe.held)
        self.assertIn(fcntl.fcntl(pipe.reader, fcntl.F_GETPIPE_SZ), (splice._CAPACITY, 65536, 8192, 4096))

    def test_close(self) -> None:
        """
        It can be dropped with what is in it.
        """
        pipe = Pipe()
        os.write(pipe.writer, b"dropped")
        pipe.held = 7
        self.assertEqual(2, self.new())
        pipe.close()
        self.assertEqual(0, self.new())


class PoolTests(Counted):
    """
    Pipes that wait for their next use.
    """

    def test_again(self) -> None:
        """
        A pipe that is given back is taken again.
        """
        pool = Pool()
        pipe = pool.take()
        assert pipe is not None
        self.addCleanup(pipe.close)
        self.assertEqual([], pool.idle)
        pool.give(pipe)
        self.assertEqual([pipe], pool.idle)
        self.assertIs(pipe, pool.take())
        self.assertEqual(([], 2), (pool.idle, self.new()))

    def test_bounded(self) -> None:
        """
        Not more than a few are kept.
        """
        pool = Pool()
        pipes = [pool.take() for _ in range(splice._IDLE + 3)]
        self.assertEqual(2 * len(pipes), self.new())
        for pipe in pipes:
            assert pipe is not None
            pool.give(pipe)
        self.assertEqual((splice._IDLE, 2 * splice._IDLE), (len(pool.idle), self.new()))
        for pipe in pool.idle:
            pipe.close()
        self.assertEqual(0, self.new())

    def test_neverWithBytes(self) -> None:
        """
        One session's bytes never wait there for another session.
        """
        pool = Pool()
        pipe = pool.take()
        assert pipe is not None
        pipe.held = os.write(pipe.writer, b"secret")
        pool.give(pipe)
        self.assertEqual(([], 0), (pool.idle, self.new()))

    def test_noDescriptor(self) -> None:
        """
        Where no descriptor is left, there is no pipe, but for those that wait.
        """
        pool = Pool()
        pipe = pool.take()
        assert pipe is not None
        self.addCleanup(pipe.close)
        pool.give(pipe)

        def refuse(flags: int) -> tuple[int, int]:
            raise OSError(errno.EMFILE, "too many open files")

        self.patch(os, "pipe2", refuse)
        self.assertRaises(OSError, Pipe)
        self.assertIs(pipe, pool.take())
        self.assertIs(None, pool.take())


class SplicedStreams(Streams):
    """
    Two plain sides whose sockets hold little.

    @cvar room: The size of the buffers of our sockets, in bytes.
    """

    room = 20000
    if NO_SPLICE:
        skip = NO_SPLICE

    def setUp(self) -> None:
        """
        Count the pipes that there are without us.
        """
        super().setUp()
        self.opened = openPipes()

    def makeSmall(self, endBoth: bool = False, abortTruncated: bool = False) -> None:
        """
        Join two sides whose sockets hold little.
        """
        self.make(endBoth, abortTruncated)
        for side in self.sides:
            side.connected.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.room)

    def pipesHeld(self) -> int:
        """
        Count the pipes that are open and not in the pool.
        """
        descriptors = openPipes() - self.opened
        self.assertEqual(0, descriptors % 2)
        return descriptors // 2 - len(splice._pool.idle)

    def assertNoPipes(self) -> None:
        """
        The session is over, and all pipes are closed but those in the pool.
        """
        self.settle(lambda: self.relay.over)
        self.settle()
        self.assertEqual(0, self.pipesHeld())
        self.assertEqual([False, False], [direction.clogged for _, _, direction in self.ways()])

    def clog(self, first: int = 0, size: int = 1 << 20) -> tuple[Side, Side, Direction, bytes]:
        """
        Have a peer send to one that does not read.

        @return: The source, the sink, the direction, and all that is sent.
        """
        source, sink, direction = self.ways()[first]
        data = os.urandom(size)
        sink.peer.reading = False
        source.peer.write(data)
        self.settle(lambda: direction.clogged)
        self.settle()
        return source, sink, direction, data


class SpliceTests(SplicedStreams):
    """
    Where the pipes of a session are, and how many bytes it counts.
    """

    def spliced(self, direction: Direction) -> Splice:
        """
        Make sure that a direction splices.
        """
        assert isinstance(direction, Splice)
        self.assertFalse(direction._copies)
        return direction

    def test_manyStalled(self) -> None:
        """
        Where as many stalled sinks have a pipe as may, the next one's bytes are copied aside.
        """
        self.patch(splice, "_KEPT", 0)
        self.make()
        source, sink, direction, data = self.clog()
        self.assertTrue(direction.clogged)
        self.assertEqual((None, 0), (self.spliced(direction)._pipe, splice._pool.kept))
        sink.peer.reading = True
        self.settle(lambda: sink.peer.received == data)
        self.assertEqual(len(data), self.relay.outward.count)

    def test_noByteInTheProcess(self) -> None:
        """
        Between two plain sockets nothing is read, and nothing written.
        """
        self.make()
        for source, sink, direction in self.ways():

            def never(buffer: Any, count: int) -> int:
                raise AssertionError("the bytes are copied")

            direction._drain = never
            source.peer.write(b"by way of the kernel")
            self.settle(lambda sink=sink: sink.peer.received == b"by way of the kernel")  # type: ignore[misc]
            self.spliced(direction)

    def test_otherwise(self) -> None:
        """
        Where one side has TLS, nothing can be spliced.
        """
        for kinds in (("TLSv1.3", "plain"), ("plain", "TLSv1.3"), ("TLSv1.2", "TLSv1.2")):
            self.nearKind, self.farKind = kinds
            self.make()
            self.assertEqual([Direction, Direction], [type(direction) for _, _, direction in self.ways()])
            self.tearDown()
            self.setUp()

    def test_idle(self) -> None:
        """
        A session has no pipe while no byte moves, neither before the first nor after the last.
        """
        self.makeSmall()
        self.settle()
        self.assertEqual(0, self.pipesHeld())
        for turn in range(1, 6):
            for source, sink, _ in self.ways():
                source.peer.write(b"x" * 100)
                self.settle(lambda sink=sink, turn=turn: len(sink.peer.received) == 100 * turn)  # type: ignore[misc]
                self.assertEqual(0, self.pipesHeld())
        self.assertEqual(1, len(splice._pool.idle))

    def test_clogged(self) -> None:
        """
        A direction has one pipe while its sink is full, and gives it back when the sink has taken all.
        """
        self.makeSmall()
        _, far, outward, data = self.clog(0)
        self.assertEqual(1, self.pipesHeld())
        _, near, inward, back = self.clog(1)
        self.assertEqual(2, self.pipesHeld())
        far.peer.reading = True
        self.settle(lambda: far.peer.received == data)
        self.assertEqual((1, False, True), (self.pipesHeld(), outward.clogged, inward.clogged))
        near.peer.reading = True
        self.settle(lambda: near.peer.received == back)
        self.assertEqual((0, False), (self.pipesHeld(), inward.clogged))

    def test_manyClogged(self) -> None:
        """
        However many sinks were full at once, only a few pipes are kept.
        """
        relays = []
        for _ in range(splice._IDLE + 2):
            self.makeSmall()
            relays.append((self.clog(0), self.relay))
        self.assertEqual(len(relays), self.pipesHeld())
        for (_, sink, _, data), relay in relays:
            sink.peer.reading = True
            self.settle(lambda sink=sink, data=data: sink.peer.received == data)  # type: ignore[misc]
            relay.abort("torn down", "")
        self.settle()
        self.assertEqual((splice._IDLE, 0), (len(splice._pool.idle), self.pipesHeld()))
        self.outcomes = self.outcomes[:1]

    def test_counts(self) -> None:
        """
        What is counted is what the sink has taken; that, and what is held, is what the source gave.
        """
        self.makeSmall()
        source, sink, direction, data = self.clog()
        waiting = int.from_bytes(fcntl.ioctl(sink.peer.socket, termios.FIONREAD, bytes(4)), "little")
        unread = int.from_bytes(fcntl.ioctl(source.end.socket, termios.FIONREAD, bytes(4)), "little")
        self.assertEqual(waiting, direction.count)
        self.assertEqual(len(data) - len(source.peer.unsent) - unread, direction.count + held(direction))
        self.assertTrue(0 < held(direction) <= mostHeld(direction))
        sink.peer.reading = True
        self.settle(lambda: sink.peer.received == data)
        self.assertEqual(len(data), direction.count)

    def test_turns(self) -> None:
        """
        A source that gives all that is asked for is asked again, a few times at once, and the pipe is given back.
        """
        self.patch(splice, "_MOST", 1000)
        self.make()
        data = os.urandom(10500)
        self.near.peer.write(data)
        self.near.peer.pump()
        self.relay.outward.carry()
        self.assertEqual((4000, 0), (self.relay.outward.count, self.pipesHeld()))
        self.settle(lambda: self.far.peer.received == data)
        self.near.peer.write(bytes(2000))
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.assertEqual((12500, 12500), (self.relay.outward.count, len(self.far.peer.received)))

    @settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.lists(st.sampled_from([1, 2, 1000, 4096, 65536, 300000]), min_size=1, max_size=8),
        st.tuples(*[st.sampled_from([100, 4096, 65536, 1 << 20])] * 2),
        st.sampled_from([2048, 20000, 212992]),
        st.sampled_from([700, 4096, splice._MOST]),
    )
    def test_bulk(self, writes: list[int], steps: tuple[int, int], room: int, most: int) -> None:
        """
        Much data both ways through small sockets arrives as it was sent, in whatever pieces.
        """
        self.patch(splice, "_MOST", most)
        self.room = room
        self.makeSmall()
        sent = []
        for side, step in zip(self.sides, steps, strict=True):
            side.peer.step = step
            data = b"".join(os.urandom(size) for size in writes)
            side.peer.write(data)
            side.peer.end()
            sent.append(data)
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(sent == [self.far.peer.received, self.near.peer.received])
        self.assertEqual([len(data) for data in sent], [self.relay.outward.count, self.relay.inward.count])
        self.assertEqual(0, self.pipesHeld())
        self.assertOver("closed")
        self.tearDown()
        self.setUp()


class HalfTLSTests(SplicedStreams):
    """
    A side whose TLS has ended in one direction only.
    """

    nearKind = "TLSv1.3"

    def test_spliced(self) -> None:
        """
        The direction that is plain is spliced, the other one is not, and both go on to their ends.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        self.successResultOf(Deferred.fromCoroutine(self.near.end.endTLSWrite()))
        self.join()
        self.assertEqual((Direction, Splice), (type(self.relay.outward), type(self.relay.inward)))
        there, back = os.urandom(500000), os.urandom(500000)
        peer = self.near.peer
        assert isinstance(peer, TLSPeer)
        peer.write(there)
        peer.end()
        self.far.peer.write(back)
        self.far.peer.end()
        self.settle(lambda: self.relay.over and bool(peer.ended and self.far.peer.ended))
        self.assertTrue(there == self.far.peer.received)
        self.assertEqual((True, b""), (peer.told, peer.received))
        self.assertTrue(back == peer.plain)
        self.assertEqual((len(there), len(back)), (self.relay.outward.count, self.relay.inward.count))
        self.assertOver("closed")
