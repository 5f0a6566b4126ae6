# -*- test-case-name: tests.test_splice_endings -*-
"""
L{tlsproxy.splice}: however a session ends while pipes are full, no descriptor stays behind, and what was said before
the end arrives.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.python.failure import Failure

from tests.test_splice import SplicedStreams, openPipes
from tlsproxy import splice
from tlsproxy.interfaces import ENDED, RESET
from tlsproxy.testing.streams import Loopback, TCPLoopback


class EndingTests(SplicedStreams):
    """
    Sessions between Unix sockets.
    """

    def fill(self) -> None:
        """
        Have both directions hold a full pipe.
        """
        self.makeSmall()
        for first in (0, 1):
            self.clog(first)
        self.assertEqual(2, self.pipesHeld())

    def eachEnding(self, cut: Callable[[int], None], outcome: str) -> None:
        """
        End sessions whose pipes are full, by what either side does.
        """
        for first in (0, 1):
            self.fill()
            idle = list(splice._pool.idle)
            cut(first)
            self.assertNoPipes()
            self.assertOver(outcome)
            # What held a byte of this session is used for no other.
            self.assertEqual(idle, splice._pool.idle)
            self.tearDown()
            self.setUp()

    # -- with full pipes --------------------------------------------------------------------------------------------

    def test_abort(self) -> None:
        """
        A session is cut.
        """
        self.eachEnding(lambda _: self.relay.abort("expired", "no byte moved"), "expired")

    def test_lost(self) -> None:
        """
        The reactor finds a connection dead.
        """

        def lose(first: int) -> None:
            self.ways()[first][0].connected.transport.connectionLost(Failure(error.ConnectionLost()))

        self.eachEnding(lose, "reset")

    def test_close(self) -> None:
        """
        A peer goes away without reading what is on its way to it.
        """
        self.eachEnding(lambda first: self.ways()[first][0].peer.close(), "reset")

    def test_reset(self) -> None:
        """
        A peer resets its connection.
        """
        self.eachEnding(lambda first: self.ways()[first][0].peer.reset(), "reset")

    def test_truncationAborts(self) -> None:
        """
        A plain stream cannot be truncated, so the bytes in the pipe arrive even where truncation cuts sessions.
        """
        self.makeSmall(abortTruncated=True)
        source, sink, direction, data = self.clog()
        source.peer.cut()
        sink.peer.reading = True
        self.settle(lambda: sink.peer.ended == "end")
        self.assertEqual((data, len(data)), (sink.peer.received, direction.count))
        self.assertEqual(([], 0), (self.outcomes, self.pipesHeld()))

    def test_endBoth(self) -> None:
        """
        Where one end ends both, what is in a pipe the other way is delivered first.
        """
        self.makeSmall(endBoth=True)
        _, far, outward, data = self.clog()
        self.far.peer.end()
        self.settle(lambda: self.near.peer.ended == "end")
        far.peer.reading = True
        self.settle(lambda: bool(far.peer.ended))
        self.assertNoPipes()
        self.assertOver("closed")
        self.assertTrue(data.startswith(far.peer.received))
        self.assertEqual(outward.count, len(far.peer.received))

    def test_halfClose(self) -> None:
        """
        An end waits behind what is in the pipe, and an answer that comes long after it arrives whole.
        """
        for first in (0, 1):
            self.makeSmall()
            source, sink, direction, data = self.clog(first)
            source.peer.end()
            self.settle()
            self.assertEqual((1, "", 0), (self.pipesHeld(), sink.peer.ended, self.halfClosed))
            sink.peer.reading = True
            self.settle(lambda sink=sink: sink.peer.ended == "end")  # type: ignore[misc]
            self.assertEqual((data, len(data)), (sink.peer.received, direction.count))
            self.assertEqual((0, 1), (self.pipesHeld(), self.halfClosed))
            answer = os.urandom(300000)
            sink.peer.write(answer)
            sink.peer.end()
            self.settle(lambda source=source: source.peer.ended == "end")  # type: ignore[misc]
            self.assertEqual(answer, source.peer.received)
            self.assertNoPipes()
            self.assertOver("closed")
            self.tearDown()
            self.setUp()

    def test_resetBehindBytes(self) -> None:
        """
        A source that is reset while its sink is full: the sink gets a beginning of what was sent, and no end.
        """
        for first in (0, 1):
            self.makeSmall()
            source, sink, direction, data = self.clog(first)
            source.peer.reading = False
            sink.peer.write(b"never read")
            self.settle()
            source.peer.reset()
            sink.peer.reading = True
            self.settle(lambda: self.relay.over)
            self.assertNoPipes()
            self.assertOver("reset")
            self.assertLost(sink)
            self.assertTrue(data.startswith(sink.peer.received))
            self.assertNotEqual(ENDED, direction.ended)
            self.tearDown()
            self.setUp()

    # -- sinks that break -------------------------------------------------------------------------------------------

    def test_brokenFull(self) -> None:
        """
        A sink that breaks while the pipe to it is full: what it said before arrives, and the pipe is closed.
        """
        for first in (0, 1):
            for asked in (True, False):
                self.makeSmall()
                source, sink, direction, _ = self.clog(first)
                sink.peer.write(b"last words")
                sink.peer.pump()
                sink.peer.close()
                if asked:
                    direction.flush()  # The reactor may hear of the room before it hears of the words.
                    self.assertEqual((0, RESET, False), (self.pipesHeld(), direction.ended, direction.clogged))
                self.settle(lambda source=source: source.peer.received == b"last words")  # type: ignore[misc]
                self.assertNoPipes()
                self.assertOver("reset")
                self.assertIn(sink.end.who, self.outcomes[0][1])
                self.assertLost(source)
                self.assertIsInstance(sink.end.writing.problem or sink.end.reading.problem, OSError)
                self.tearDown()
                self.setUp()

    def test_brokenBehindMuch(self) -> None:
        """
        What it said before may be more than its own sink takes at once.
        """
        self.makeSmall()
        near, far, outward, _ = self.clog()
        _, _, inward, back = self.clog(1, 200000)
        far.peer.reading = False
        while far.peer.unsent:
            near.peer.reading = True
            near.peer.pump()
            near.peer.reading = False
            self.loopback.reactor.turn()
            far.peer.pump()
        far.peer.close()
        self.assertTrue(inward.clogged)
        outward.flush()
        self.assertEqual((RESET, []), (outward.ended, self.outcomes))
        near.peer.reading = True
        self.settle(lambda: near.peer.received == back)
        self.assertNoPipes()
        self.assertOver("reset")
        self.assertEqual(len(back), inward.count)

    # -- errors of the system ---------------------------------------------------------------------------------------

    def test_errorIn(self) -> None:
        """
        A source that fails is reset, and the pipe, still empty, goes back.
        """
        for why in (errno.ECONNRESET, errno.ETIMEDOUT, errno.EPIPE):
            self.makeSmall()

            def fail(*_: Any, flags: int, why: int = why) -> int:
                raise OSError(why, os.strerror(why))

            self.patch(splice, "_splice", fail)
            self.near.peer.write(b"unread")
            self.assertNoPipes()
            self.assertOver("reset")
            problem = self.near.end.reading.problem
            assert isinstance(problem, OSError)
            self.assertEqual((why, None), (problem.errno, problem.__traceback__))
            self.patch(splice, "_splice", os.splice)
            self.tearDown()
            self.setUp()

    def test_descriptors(self) -> None:
        """
        Many sessions that end with full pipes leave none behind.
        """
        before = openPipes()
        for _ in range(20):
            self.fill()
            self.relay.abort("expired", "no byte moved")
            self.settle()
            self.tearDown()
            self.setUp()
        self.assertEqual(before, openPipes())


class BrokenTests(SplicedStreams):
    """
    Unix sockets, which tell at once that nobody is there.
    """

    def test_brokenAtOnce(self) -> None:
        """
        A sink that is broken when the first byte comes: the pipe it came in is closed.
        """
        for first in (0, 1):
            self.makeSmall()
            source, sink, direction = self.ways()[first]
            sink.peer.write(b"last words")
            sink.peer.pump()
            source.peer.write(b"refused")
            source.peer.pump()
            sink.peer.close()
            self.loopback.first(source)
            self.loopback.reactor.turn()
            self.assertEqual((RESET, 0), (direction.ended, direction.count))
            self.assertEqual(0, self.pipesHeld())
            self.settle(lambda source=source: source.peer.received == b"last words")  # type: ignore[misc]
            self.assertNoPipes()
            self.assertOver("reset")
            self.assertLost(source)
            self.tearDown()
            self.setUp()


class TCPEndingTests(EndingTests):
    """
    Sessions between TCP sockets.
    """

    def makeLoopback(self) -> Loopback:
        """
        TCP.
        """
        return TCPLoopback()
