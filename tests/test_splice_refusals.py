# -*- test-case-name: tests.test_splice_refusals -*-
"""
L{tlsproxy.splice}: whatever the system refuses, and whenever it does, the bytes are copied, and none is lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_splice import Counted, SplicedStreams
from tlsproxy import splice
from tlsproxy.splice import Pipe, Splice
from tlsproxy.testing.streams import emptyPool, held, mostHeld

REFUSALS = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


class Refusing:
    """
    Stands in for C{os.splice}, and refuses from some call on.

    @ivar why: The error that it refuses with, if it does.
    @ivar inward: From which call into a pipe on, counted from 0; L{None} for never.
    @ivar outward: From which call out of one on.
    @ivar calls: How many calls there were into a pipe, and out of one.
    """

    def __init__(self, why: int, inward: int | None = None, outward: int | None = None) -> None:
        self.why = why
        self.inward = inward
        self.outward = outward
        self.calls = [0, 0]

    def __call__(self, source: int, sink: int, most: int, *, flags: int) -> int:
        """
        Splice, or refuse.
        """
        out = stat.S_ISFIFO(os.fstat(source).st_mode)
        first = self.outward if out else self.inward
        self.calls[out] += 1
        if first is not None and self.calls[out] > first:
            raise OSError(self.why, os.strerror(self.why))
        return os.splice(source, sink, most, flags=flags)


class Refusals(SplicedStreams):
    """
    Sessions with a system that refuses.
    """

    def refuse(self, why: int, inward: int | None = None, outward: int | None = None) -> Refusing:
        """
        Have splice(2) refused.
        """
        refusing = Refusing(why, inward, outward)
        self.patch(splice, "_splice", refusing)
        return refusing

    def limit(self) -> Callable[[bool], None]:
        """
        Have the descriptors used up, or not.
        """
        make = os.pipe2
        full = True

        def pipe2(flags: int) -> tuple[int, int]:
            if full:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return make(flags)

        def setFull(now: bool) -> None:
            nonlocal full
            full = now

        self.patch(os, "pipe2", pipe2)
        return setFull

    def exchange(self) -> None:
        """
        Send much both ways to the ends, past readers that rest at first, and check that all arrived.
        """
        self.makeSmall()
        sent = []
        for side in self.sides:
            data = os.urandom(300000)
            side.peer.reading = False
            side.peer.write(data)
            side.peer.end()
            sent.append(data)
        self.settle()
        for _, _, direction in self.ways():
            self.assertTrue(0 < held(direction) <= mostHeld(direction))
        for side in self.sides:
            side.peer.reading = True
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(sent == [self.far.peer.received, self.near.peer.received])
        self.assertEqual([300000, 300000], [self.relay.outward.count, self.relay.inward.count])
        self.assertOver("closed")
        self.assertEqual(0, self.pipesHeld())

    def again(self) -> None:
        """
        Check what is checked at the end of a test, and begin anew.
        """
        self.tearDown()
        self.setUp()


class RefusalTests(Refusals):
    """
    A system without splice(2), or one that does not splice these sockets.
    """

    def test_in(self) -> None:
        """
        Sockets that cannot be spliced from are read, from the first byte on or from a later one.
        """
        for why in REFUSALS:
            for call in (0, 1, 3):
                refusing = self.refuse(why, inward=call)
                self.exchange()
                self.assertTrue(call <= refusing.calls[0] <= call + 2)
                self.again()

    def test_out(self) -> None:
        """
        Sockets that cannot be spliced to are written, and what is in the pipe by then comes first.
        """
        for why in REFUSALS:
            for call in (0, 1, 3, 6):
                refusing = self.refuse(why, outward=call)
                self.exchange()
                self.assertTrue(call <= refusing.calls[1] <= call + 2)
                self.again()

    def test_both(self) -> None:
        """
        Once refused, splice(2) is not tried again.
        """
        refusing = self.refuse(errno.EPERM, 0, 0)
        self.exchange()
        self.assertEqual([2, 0], refusing.calls)

    def test_inAgain(self) -> None:
        """
        So it is where a source was spliced from just before.
        """
        self.patch(splice, "_MOST", 1000)
        self.refuse(errno.EINVAL, inward=2)
        self.make()
        data = os.urandom(7000)
        self.near.peer.write(data)
        self.settle(lambda: self.far.peer.received == data)
        self.assertEqual((7000, 0), (self.relay.outward.count, self.pipesHeld()))

    def test_outWhileClogged(self) -> None:
        """
        What waits in a pipe for a sink that cannot be spliced to any more is taken out of it, and goes on waiting.
        """
        refusing = self.refuse(errno.EINVAL)
        self.makeSmall()
        _, sink, direction, data = self.clog()
        assert isinstance(direction, Splice)
        before = held(direction)
        counted = direction.count
        refusing.outward = refusing.calls[1]
        direction.flush()
        self.assertEqual((before, counted, True), (held(direction), direction.count, direction.clogged))
        self.assertEqual((None, 0), (direction._pipe, self.pipesHeld()))
        sink.peer.reading = True
        self.settle(lambda: sink.peer.received == data)
        self.assertEqual(len(data), direction.count)
        self.assertTrue(direction._copies)

    def test_pipeIsEmpty(self) -> None:
        """
        A pipe that was read empty carries nothing into the next session.
        """
        refusing = self.refuse(errno.EINVAL, outward=0)
        self.make()
        self.near.peer.write(b"of the first session")
        self.settle(lambda: self.far.peer.received == b"of the first session")
        refusing.outward = None
        relay, near, far = self.relay, self.near, self.far
        self.make()
        self.near.peer.write(b"of the second")
        self.settle(lambda: self.far.peer.received == b"of the second")
        self.assertEqual((b"", b"of the first session"), (near.peer.received, far.peer.received))
        self.assertEqual([], self.outcomes)
        relay.abort("torn down", "")
        self.outcomes.clear()

    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.sampled_from(REFUSALS),
        st.one_of(st.none(), st.integers(0, 30)),
        st.one_of(st.none(), st.integers(0, 60)),
        st.sampled_from([2048, 20000, 212992]),
        st.sampled_from([700, 4096, splice._MOST]),
        st.lists(st.tuples(st.booleans(), st.integers(1, 90000), st.booleans()), max_size=12),
    )
    def test_atAnyTime(
        self,
        why: int,
        inward: int | None,
        outward: int | None,
        room: int,
        most: int,
        moves: list[tuple[bool, int, bool]],
    ) -> None:
        """
        It may be refused at any time.
        """
        self.patch(splice, "_MOST", most)
        self.room = room
        self.refuse(why, inward, outward)
        self.makeSmall()
        sent = dict.fromkeys(self.sides, b"")
        for near, size, reads in moves:
            side = self.near if near else self.far
            data = os.urandom(size)
            sent[side] += data
            side.peer.write(data)
            side.peer.reading = reads
            self.settle()
        for side in self.sides:
            side.peer.reading = True
            side.peer.end()
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        for source, sink, direction in self.ways():
            self.assertTrue(sent[source] == sink.peer.received)
            self.assertEqual(len(sent[source]), direction.count)
        self.assertEqual(0, self.pipesHeld())
        self.again()


class ShortageTests(Refusals):
    """
    A system that runs out of descriptors, or of room for pipes.
    """

    def test_noDescriptor(self) -> None:
        """
        Without a descriptor for a pipe the bytes are copied, which nobody sees.
        """
        self.limit()
        self.exchange()
        self.assertEqual([], splice._pool.idle)

    def test_descriptorsAgain(self) -> None:
        """
        As soon as there is one, they are spliced again.
        """
        setFull = self.limit()
        refusing = self.refuse(0)
        self.makeSmall()
        total = b""
        for full, calls in ((True, 0), (False, 1), (False, 2)):
            setFull(full)
            total += b"more"
            self.near.peer.write(b"more")
            self.settle(lambda: self.far.peer.received == total)  # noqa: B023
            self.assertEqual(calls, refusing.calls[1])
        self.assertEqual(len(total), self.relay.outward.count)

    def test_shortWhileClogged(self) -> None:
        """
        What was left over by copying is sent before what is spliced next, and the other way round.
        """
        setFull = self.limit()
        self.makeSmall()
        total = b""
        for full in (True, False, True, False):
            setFull(full)
            if full:
                emptyPool()
            source, sink, direction, data = self.clog(0, 150000)
            total += data
            self.assertEqual(not full, direction._unsent is None)
            sink.peer.reading = True
            self.settle(lambda sink=sink, total=total: sink.peer.received == total)  # type: ignore[misc]
        self.assertEqual(len(total), self.relay.outward.count)

    def test_tinyPipes(self) -> None:
        """
        Where a user's share of pipes is used up, bytes are copied: a tiny pipe would cost more.
        """
        real = fcntl.fcntl

        def refuse(descriptor: int, command: int, argument: Any = 0) -> Any:
            if command != fcntl.F_SETPIPE_SZ:
                return real(descriptor, command, argument)
            real(descriptor, command, 4096)  # The least there is.
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        self.patch(fcntl, "fcntl", refuse)
        self.exchange()
        self.assertEqual([], splice._pool.idle)


class SmallPipeTests(Counted):
    """
    A pipe that cannot be made as large as it should be.
    """

    def refuse(self, size: int) -> None:
        """
        Have pipes be of one size, whatever is asked for.
        """
        real = fcntl.fcntl

        def fixed(descriptor: int, command: int, argument: Any = 0) -> Any:
            if command == fcntl.F_SETPIPE_SZ:
                real(descriptor, command, size)
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            return real(descriptor, command, argument)

        self.patch(fcntl, "fcntl", fixed)

    def test_usual(self) -> None:
        """
        One of the usual size is good enough.
        """
        self.refuse(65536)
        pipe = Pipe()
        self.assertEqual((2, 0), (self.new(), pipe.held))
        pipe.close()
        self.assertEqual(0, self.new())

    def test_tiny(self) -> None:
        """
        A tiny one is not, and no descriptor is lost over it.
        """
        self.refuse(4096)
        self.assertRaises(PermissionError, Pipe)
        self.assertEqual(0, self.new())
