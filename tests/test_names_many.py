# -*- test-case-name: tests.test_names_many -*-
"""
Tests for L{tlsproxy.names}: more questions than the resolver has threads for.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import DNSLookupError

from tests.test_names import BOTH, NamesCase
from tlsproxy.names import _AT_ONCE


class ManyTests(NamesCase):
    """
    Many slow names at a time.
    """

    def test_bounded(self) -> None:
        """
        The resolver has few questions at a time; the next is asked when one is answered.
        """
        asking = [self.askLate(f"slow{number}.example") for number in range(_AT_ONCE + 2)]
        self.assertEqual(_AT_ONCE, len(self.resolver.asked))
        self.resolver.answer()
        self.assertEqual(_AT_ONCE + 1, len(self.resolver.asked))
        while self.resolver.waiting:
            self.resolver.answer()
        for one in asking:
            self.failureResultOf(one, DNSLookupError)
        self.assertEqual(_AT_ONCE + 2, len(self.resolver.asked))

    def test_gone(self) -> None:
        """
        What nobody wants to know any more is never asked, and others do not wait for it.
        """
        slow = [self.askLate(f"slow{number}.example") for number in range(_AT_ONCE)]
        left = [self.askLate(f"left{number}.example") for number in range(100)]
        last = self.askLate()
        for one in left:
            one.cancel()
            self.failureResultOf(one, CancelledError)
        self.resolver.answer()
        self.assertEqual("shop.example", self.resolver.asked[-1])
        while self.resolver.waiting:
            self.resolver.answer()
        self.assertEqual(BOTH, self.successResultOf(last))
        for one in slow:
            self.failureResultOf(one, DNSLookupError)
        self.assertEqual({}, self.names._asked)

    def test_lost(self) -> None:
        """
        Questions that are never answered do not keep others from being asked for ever.
        """
        lost = [self.askLate(f"lost{number}.example") for number in range(_AT_ONCE)]
        for one in lost:
            one.cancel()
            self.failureResultOf(one, CancelledError)
        self.resolver.waiting.clear()
        self.reactor.advance(61)
        self.resolver.quick = True
        self.assertEqual(BOTH, self.successResultOf(self.ask()))
        self.resolver.known["lost0.example"] = BOTH
        self.assertEqual(BOTH, self.successResultOf(self.ask("lost0.example")))

    def test_forgotten(self) -> None:
        """
        What nobody wants to know any more takes no memory for long, while the resolver is stuck.
        """
        slow = [self.askLate(f"slow{number}.example") for number in range(_AT_ONCE)]
        for number in range(3000):
            asking = self.askLate(f"gone{number}.example")
            asking.cancel()
            self.failureResultOf(asking, CancelledError)
        self.assertLess(len(self.names._queue) + len(self.names._asked), 2100)
        while self.resolver.waiting:
            self.resolver.answer()
        for one in slow:
            self.failureResultOf(one, DNSLookupError)
        self.assertEqual(({}, 0), (self.names._asked, len(self.names._queue)))
