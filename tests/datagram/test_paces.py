"""
Tests for L{tlsproxy.datagram.paces}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.datagram.paces import ALL, BURST, Paces


class PacesTests(SynchronousTestCase):
    """
    Networks that begin much.
    """

    def setUp(self) -> None:
        """
        Make the clock.
        """
        self.clock = Clock()
        self.clock.advance(1000)
        self.paces = Paces(self.clock.seconds)

    def took(self, times: int, pace: int, network: object = "one") -> int:
        """
        Tell how many of some are taken.
        """
        return sum(self.paces.take(network, pace) for _ in range(times))

    def test_network(self) -> None:
        """
        A network has its burst, and then its pace; another one is not hindered.
        """
        self.assertEqual(self.took(100, 10), int(10 * BURST))
        self.assertEqual(self.took(10, 10, "other"), 10)
        self.clock.advance(1)
        self.assertEqual(self.took(100, 10), 10)
        self.clock.advance(60)
        self.assertEqual(self.took(100, 10), int(10 * BURST))

    def test_all(self) -> None:
        """
        All together have theirs, and what is refused by that is counted for nobody.
        """
        taken = sum(self.paces.take(number, 10) for number in range(10 * ALL))
        self.assertEqual((taken, self.paces.open), (ALL, False))
        self.assertEqual(self.took(100, 10, 10 * ALL - 1), 0)
        self.clock.advance(1)
        self.assertTrue(self.paces.open)
        self.assertEqual(self.took(100, 10, 10 * ALL - 1), int(10 * BURST))
        self.assertEqual(sum(self.paces.take(number, 10) for number in range(10 * ALL)), ALL - int(10 * BURST))

    def test_memory(self) -> None:
        """
        Networks that nobody hears of any more are forgotten.
        """
        for number in range(20_000):
            self.paces.take(number, 25)
            self.clock.advance(0.01)
        self.assertTrue(len(self.paces._networks) < 10, len(self.paces._networks))
