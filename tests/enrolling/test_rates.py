# -*- test-case-name: tests.enrolling.test_rates -*-
"""
L{tlsproxy.enrolling.rates}: how often client proxies may ask.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.enrolling.rates import Rates


class RatesTests(SynchronousTestCase):
    """
    Rates.
    """

    def asks(self, rates: Rates, now: float, host: str = "192.0.2.1", ipv4: int = 32) -> float:
        """
        Have a client ask.
        """
        kind = IPv6Address if ":" in host else IPv4Address
        return rates.wait(kind("TCP", host, 1), ipv4, 64, now)

    def test_one(self) -> None:
        """
        A network may ask so often at once, and then at its pace.
        """
        rates = Rates(1000, 10)
        self.assertEqual([0.0] * 10, [self.asks(rates, 5) for _ in range(10)])
        self.assertAlmostEqual(6, self.asks(rates, 5))
        self.assertAlmostEqual(1, self.asks(rates, 10))
        self.assertEqual(0, self.asks(rates, 11))
        self.assertGreater(self.asks(rates, 11), 0)
        self.assertEqual([0.0] * 10, [self.asks(rates, 100) for _ in range(10)])

    def test_all(self) -> None:
        """
        So may all together, however many networks they are.
        """
        rates = Rates(20, 10)
        self.assertEqual([0.0] * 20, [self.asks(rates, 5, f"192.0.2.{number}") for number in range(20)])
        self.assertAlmostEqual(3, self.asks(rates, 5, "192.0.2.77"))
        self.assertEqual(0, self.asks(rates, 8, "192.0.2.77"))

    def test_refusedCostsNothing(self) -> None:
        """
        Who is refused does not use up what others, or itself, may have.
        """
        rates = Rates(20, 10)
        for _ in range(1000):
            self.asks(rates, 5)
        self.assertEqual(0, self.asks(rates, 5, "192.0.2.2"))
        self.assertEqual(0, self.asks(rates, 11))

    def test_networks(self) -> None:
        """
        A network is a prefix; whoever has no address is one, too.
        """
        rates = Rates(1000, 1)
        self.assertEqual(0, self.asks(rates, 5, "192.0.2.1", 24))
        self.assertGreater(self.asks(rates, 5, "192.0.2.200", 24), 0)
        self.assertEqual(0, self.asks(rates, 5, "2001:db8::1"))
        self.assertGreater(self.asks(rates, 5, "2001:db8::ffff"), 0)
        self.assertEqual(0, rates.wait(UNIXAddress("/a"), 32, 64, 5))
        self.assertGreater(rates.wait(UNIXAddress("/b"), 32, 64, 5), 0)

    def test_clockSetBack(self) -> None:
        """
        Where the clock is set back, nobody waits for it to be where it was.
        """
        rates = Rates(10, 5)
        for number in range(10):
            self.asks(rates, 100_000, f"192.0.2.{number // 5}")
        self.assertEqual([0.0] * 5, [self.asks(rates, 5) for _ in range(5)])
        self.assertAlmostEqual(12, self.asks(rates, 5))
        self.assertEqual([0.0] * 5, [self.asks(rates, 5, "192.0.2.77") for _ in range(5)])
        self.assertAlmostEqual(6, self.asks(rates, 5, "192.0.2.88"))

    def test_memory(self) -> None:
        """
        However many networks come, no more are remembered than all together may ask.
        """
        rates = Rates(60, 10)
        for number in range(100_000):
            self.asks(rates, number / 1000, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        self.assertLessEqual(len(rates), 130)
        self.asks(rates, 1000)
        self.asks(rates, 2000)
        self.assertLessEqual(len(rates), 130)
