# -*- test-case-name: tests.status.test_process -*-
"""
L{tlsproxy.status.process}
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.status.process import Lag, descriptors, mostDescriptors, residentBytes


class ProcessTests(SynchronousTestCase):
    """
    What the system tells of this process.
    """

    def test_descriptors(self) -> None:
        """
        Each descriptor counts.
        """
        before = descriptors()
        assert before is not None
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
        try:
            self.assertEqual(before + 10, descriptors())
        finally:
            for one in opened:
                os.close(one)

    def test_most(self) -> None:
        """
        The limit is that which holds now, if there is one.
        """
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.assertEqual(most, mostDescriptors())
        self.patch(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.assertIsNone(mostDescriptors())

    def test_resident(self) -> None:
        """
        The memory is some megabytes, and not all there is.
        """
        resident = residentBytes()
        assert resident is not None
        self.assertTrue(1 << 22 < resident < 1 << 40, resident)

    def test_elsewhere(self) -> None:
        """
        Where the system does not tell, nobody is misled.
        """

        def fail(*_: object) -> None:
            raise FileNotFoundError

        self.patch(os, "listdir", fail)
        self.patch(Path, "read_text", fail)
        self.assertEqual((None, None), (descriptors(), residentBytes()))


class LagTests(SynchronousTestCase):
    """
    How late the reactor is.
    """

    def test_late(self) -> None:
        """
        It is told how late it was last and, for a minute, at worst.
        """
        clock = Clock()
        lag = Lag(clock)
        self.assertEqual((0.0, 0.0), (lag.last, lag.worst))
        lag.start()
        clock.advance(0.5)
        self.assertEqual((0.0, 0.0), (lag.last, lag.worst))
        clock.advance(2.0)
        self.assertEqual((1.5, 1.5), (lag.last, lag.worst))
        clock.advance(0.5)
        self.assertEqual((0.0, 1.5), (lag.last, lag.worst))
        for _ in range(130):
            clock.advance(0.5)
        self.assertEqual((0.0, 0.0), (lag.last, lag.worst))
        lag.stop()
        lag.stop()
        self.assertEqual([], clock.getDelayedCalls())
