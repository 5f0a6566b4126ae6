# -*- test-case-name: tests.test_splice_wakes -*-
"""
L{tlsproxy.splice}, when the reactor says that a source is readable and it is not, or not yet.
"""

from __future__ import annotations

import errno
from typing import Any

from tests.test_splice import SplicedStreams
from tlsproxy import splice


class WakeTests(SplicedStreams):
    """
    A readiness that was told in vain.
    """

    def inVain(self, times: int, first: Any = bool) -> list[int]:
        """
        Have nothing to be spliced for some attempts.

        @param first: Called at the first of them.
        @return: Gets what each attempt was to take.
        """
        attempts: list[int] = []
        real = splice._splice

        def late(source: int, sink: int, count: int, flags: int) -> int:
            attempts.append(count)
            if len(attempts) <= times:
                if len(attempts) == 1:
                    first()
                raise BlockingIOError(errno.EAGAIN, "nothing is there")
            moved: int = real(source, sink, count, flags=flags)
            return moved

        self.patch(splice, "_splice", late)
        return attempts

    def never(self) -> None:
        """
        Have it fail to copy.
        """

        def never(buffer: Any, count: int) -> int:
            raise AssertionError("the bytes are copied")

        for _, _, direction in self.ways():
            direction._drain = never

    def test_justThen(self) -> None:
        """
        What comes right after the look for it is spliced as all else is.
        """
        self.make()
        self.never()
        source, sink, direction = self.ways()[0]
        attempts = self.inVain(1, lambda: source.peer.socket.send(b"just then"))
        direction.carry()
        self.settle(lambda: sink.peer.received == b"just then")
        self.assertEqual(9, direction.count)
        self.assertGreaterEqual(len(attempts), 3)

    def test_nothing(self) -> None:
        """
        Where nothing comes, nothing is read, and no pipe is held.
        """
        self.make()
        self.never()
        _, sink, direction = self.ways()[0]
        attempts = self.inVain(0)
        direction.carry()
        self.assertEqual((1, 0, 0), (len(attempts), direction.count, self.pipesHeld()))
        self.settle()
        self.assertEqual(b"", sink.peer.received)

    def test_unspliceable(self) -> None:
        """
        What lies there and cannot be spliced is copied.
        """
        self.make()
        source, sink, direction = self.ways()[0]
        attempts = self.inVain(2, lambda: source.peer.socket.send(b"by hand"))
        direction.carry()
        self.settle(lambda: sink.peer.received == b"by hand")
        self.assertEqual(2, len(attempts))
        source.peer.write(b", and by way of the kernel")
        self.settle(lambda: sink.peer.received == b"by hand, and by way of the kernel")
        self.assertGreater(len(attempts), 2)
