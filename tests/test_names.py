# -*- test-case-name: tests.test_names -*-
"""
Tests for L{tlsproxy.names}.
"""

from __future__ import annotations

import errno
import gc
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet._resolver import GAIResolver
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.dialing import DialReactor, Resolver, assertNoGarbage, forget
from tlsproxy.names import Names

BOTH = ("192.0.2.1", "2001:db8::1", "192.0.2.2")


class MemoryPool:
    """
    Threads that are none.
    """

    def callInThreadWithCallback(self, onResult: Any, work: Callable[..., object], *args: object) -> None:
        """
        See L{twisted.python.threadpool.ThreadPool}.
        """
        try:
            result = work(*args)
        except OSError:
            onResult(False, Failure())
        else:
            onResult(True, result)


class NamesCase(SynchronousTestCase):
    """
    Names of which one resolves.
    """

    def setUp(self) -> None:
        """
        Make a resolver.
        """
        self.reactor: Any = DialReactor()
        self.resolver: Resolver = self.reactor.nameResolver
        self.resolver.known["shop.example"] = BOTH
        self.names = Names(self.reactor)

    def ask(self, name: str = "shop.example") -> Deferred[Sequence[str]]:
        """
        Begin to ask for the addresses of a name.
        """
        return Deferred.fromCoroutine(self.names.lookUp(name))

    def askLate(self, name: str = "shop.example") -> Deferred[Sequence[str]]:
        """
        Ask, and get no answer for now.
        """
        self.resolver.quick = False
        asking = self.ask(name)
        self.assertNoResult(asking)
        return asking

    def look(self, name: str = "shop.example") -> tuple[str, ...]:
        """
        Ask and be told at once.
        """
        addresses: Sequence[str] = self.successResultOf(self.ask(name))
        return tuple(addresses)

    def tearDown(self) -> None:
        """
        No timer is left.
        """
        self.assertEqual([], self.reactor.getDelayedCalls())


class AskingTests(NamesCase):
    """
    What the resolver is asked, and what becomes of its answer.
    """

    def test_resolved(self) -> None:
        """
        The addresses are told in the resolver's order, of both families.
        """
        self.assertEqual(BOTH, self.look())
        self.assertEqual(["shop.example"], self.resolver.asked)

    def test_twice(self) -> None:
        """
        An address that the resolver tells twice is told once.
        """
        self.resolver.known["shop.example"] = ["192.0.2.1", "2001:db8::1", "192.0.2.1"]
        self.assertEqual(("192.0.2.1", "2001:db8::1"), self.look())

    def test_otherAddresses(self) -> None:
        """
        An address that is not of the internet is of no use.
        """
        asking = self.askLate()
        (_, receiver) = self.resolver.waiting[0]
        receiver.addressResolved(cast(IAddress, UNIXAddress(b"/socket")))
        self.resolver.answer()
        self.assertEqual(BOTH, self.successResultOf(asking))

    def test_asciiForm(self) -> None:
        """
        The resolver gets the form of the name that DNS knows, and all ways to write it are one name.
        """
        self.resolver.known["xn--bcher-kva.example"] = BOTH
        for name in ("bücher.example", "BÜCHER.Example", "bücher.example.", "xn--bcher-kva.example"):
            self.assertEqual(BOTH, self.look(name))
            self.assertTrue(self.names.knows(name), name)
        self.assertEqual(["xn--bcher-kva.example"], self.resolver.asked)

    def test_noName(self) -> None:
        """
        The resolver is not asked for what can be no name.
        """
        for name in ("", ".", "a..b", f"{'a' * 64}.example", "localhost\0.example"):
            self.failureResultOf(self.ask(name), ValueError)
            self.assertFalse(self.names.knows(name))
        self.assertEqual([], self.resolver.asked)

    def test_noAddress(self) -> None:
        """
        A name without an address does not resolve.  That is not remembered.
        """
        for _ in range(2):
            problem = self.failureResultOf(self.ask("nobody.example"), DNSLookupError).value
            self.assertIn("nobody.example does not resolve", str(problem))
            self.assertFalse(self.names.knows("nobody.example"))
        self.assertEqual(["nobody.example"] * 2, self.resolver.asked)

    def test_oneQuestion(self) -> None:
        """
        All who want a name at the same time wait for one answer; another name is another question.
        """
        asking = [self.askLate(name) for name in ("shop.example", "Shop.Example.", "shop.example")]
        other = self.askLate("nobody.example")
        self.assertEqual(["shop.example", "nobody.example"], self.resolver.asked)
        self.resolver.answer()
        self.assertEqual([BOTH] * 3, [self.successResultOf(one) for one in asking])
        self.assertNoResult(other)
        self.resolver.answer()
        self.failureResultOf(other, DNSLookupError)

    def test_oneRefusal(self) -> None:
        """
        None of them is left waiting when there is no address, and each has an error of its own.
        """
        asking = [self.askLate("nobody.example") for _ in range(3)]
        self.resolver.answer()
        problems = [self.failureResultOf(one, DNSLookupError).value for one in asking]
        self.assertEqual(3, len(set(map(id, problems))))

    def test_cancelled(self) -> None:
        """
        Who does not want to wait any longer leaves the others waiting.
        """
        first, second, third = self.askLate(), self.askLate(), self.askLate()
        for one in (first, third):
            one.cancel()
            self.failureResultOf(one, CancelledError)
        self.assertNoResult(second)
        self.resolver.answer()
        self.assertEqual(BOTH, self.successResultOf(second))

    def test_allCancelled(self) -> None:
        """
        An answer for which nobody waits any more is remembered.
        """
        asking = self.askLate()
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.resolver.answer()
        self.assertEqual(BOTH, self.look())
        self.assertEqual(["shop.example"], self.resolver.asked)

    def test_manyCancelled(self) -> None:
        """
        Those who have stopped waiting take no memory, however long the answer takes.
        """

        def count() -> int:
            return sum(type(one) is Deferred for one in gc.get_objects())

        gc.collect()  # What other tests have left.
        asking = self.askLate()
        before = count()
        for _ in range(100):
            self.askLate().addErrback(forget).cancel()
        self.assertEqual(before, count())
        self.resolver.answer()
        self.successResultOf(asking)

    def test_cancelledByAnother(self) -> None:
        """
        One who is told may have others stop waiting, and those that still wait are told, too.
        """
        first, second, third = self.askLate(), self.askLate(), self.askLate()
        first.addCallback(lambda addresses: second.cancel())
        self.resolver.answer()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(BOTH, self.successResultOf(third))
        self.successResultOf(first)

    def test_askedWhileTelling(self) -> None:
        """
        Who asks while the others are told knows at once.
        """
        first = self.askLate()
        first.addCallback(lambda _: self.look())
        self.resolver.answer()
        self.assertEqual(BOTH, self.successResultOf(first))
        self.assertEqual(["shop.example"], self.resolver.asked)

    def test_askedWhileRefusing(self) -> None:
        """
        Who asks while the others are told that there is no address asks anew.
        """
        first, second = self.askLate("nobody.example"), self.askLate("nobody.example")
        again: list[Deferred[Sequence[str]]] = []
        first.addErrback(lambda _: again.append(self.askLate("nobody.example")))
        self.resolver.answer()
        self.failureResultOf(second, DNSLookupError)
        self.assertEqual(["nobody.example"] * 2, self.resolver.asked)
        self.resolver.known["nobody.example"] = BOTH
        self.resolver.answer()
        self.assertEqual(BOTH, self.successResultOf(again[0]))

    def test_noAnswer(self) -> None:
        """
        A resolver that has broken over a question is asked again, for those who come later and those who still wait.
        """
        first = self.askLate()
        self.reactor.advance(4.9)
        second = self.askLate()
        self.assertEqual(["shop.example"], self.resolver.asked)
        self.reactor.advance(0.1)
        third, fourth = self.askLate(), self.askLate()
        self.assertEqual(["shop.example"] * 2, self.resolver.asked)
        self.resolver.waiting.pop(0)
        self.resolver.answer()
        self.assertEqual([BOTH] * 4, [self.successResultOf(one) for one in (first, second, third, fourth)])

    def test_lateAnswer(self) -> None:
        """
        An answer that comes after the question was asked again is as good, and one more harms nobody.
        """
        first = self.askLate()
        self.reactor.advance(60)
        second = self.askLate()
        self.resolver.answer()
        self.assertEqual([BOTH] * 2, [self.successResultOf(one) for one in (first, second)])
        self.names.forget("shop.example")
        third = self.askLate()
        self.assertEqual(["shop.example"] * 3, self.resolver.asked)
        self.resolver.known["shop.example"] = []
        self.resolver.answer()
        self.assertNoResult(third)
        fourth = self.askLate()
        self.assertEqual(["shop.example"] * 3, self.resolver.asked)
        self.resolver.known["shop.example"] = BOTH
        self.resolver.answer()
        self.assertEqual([BOTH] * 2, [self.successResultOf(one) for one in (third, fourth)])

    def test_broken(self) -> None:
        """
        Twisted's own resolver is such a one where the system fails it, as for want of a descriptor.
        """
        results: list[Any] = [OSError(errno.EMFILE, "Too many open files")]

        def getaddrinfo(*question: Any, **more: Any) -> Any:
            if results:
                raise results.pop()
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

        self.reactor.callFromThread = lambda call, *args: call(*args)
        self.reactor.nameResolver = GAIResolver(self.reactor, cast(Any, MemoryPool), getaddrinfo)
        first = self.ask()
        self.reactor.advance(5)
        self.assertEqual(("192.0.2.1",), self.look())
        self.assertEqual(("192.0.2.1",), self.successResultOf(first))
        gc.collect()
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class RememberingTests(NamesCase):
    """
    What is remembered of a name.
    """

    def test_remembered(self) -> None:
        """
        Its addresses are used again for half a minute.
        """
        self.assertFalse(self.names.knows("shop.example"))
        self.look()
        self.resolver.known["shop.example"] = ["192.0.2.9"]
        self.reactor.advance(29.9)
        self.assertTrue(self.names.knows("shop.example"))
        self.assertEqual(BOTH, self.look())
        self.reactor.advance(0.1)
        self.assertFalse(self.names.knows("shop.example"))
        self.assertEqual(("192.0.2.9",), self.look())
        self.assertEqual(["shop.example"] * 2, self.resolver.asked)

    def test_fromTheAnswer(self) -> None:
        """
        The half minute begins with the answer.
        """
        self.askLate().addErrback(lambda _: None)
        self.reactor.advance(20)
        self.resolver.answer()
        self.reactor.advance(29.9)
        self.assertTrue(self.names.knows("shop.example"))

    def test_forgotten(self) -> None:
        """
        What has failed is asked for anew, in whichever way its name is written.
        """
        for name in ("shop.example", "SHOP.example."):
            self.look()
            self.names.forget(name)
            self.assertFalse(self.names.knows("shop.example"))
        self.names.forget("shop.example")
        self.look()
        self.assertEqual(["shop.example"] * 3, self.resolver.asked)

    def test_preferred(self) -> None:
        """
        The address that answered comes first from now on, the others in their order behind it.
        """
        self.look()
        self.names.prefer("Shop.example", "192.0.2.2")
        self.assertEqual(("192.0.2.2", "192.0.2.1", "2001:db8::1"), self.look())
        self.names.prefer("shop.example", "192.0.2.1")
        self.assertEqual(("192.0.2.1", "192.0.2.2", "2001:db8::1"), self.look())
        self.assertEqual(["shop.example"], self.resolver.asked)

    def test_preferredNoLonger(self) -> None:
        """
        That an address answered does not make it last longer.
        """
        self.look()
        self.reactor.advance(29)
        self.names.prefer("shop.example", "192.0.2.2")
        self.reactor.advance(1)
        self.assertEqual(BOTH, self.look())

    def test_preferredElsewhere(self) -> None:
        """
        Only what the resolver has told can be preferred: a name gets no address from anywhere else.
        """
        self.names.prefer("shop.example", "192.0.2.1")
        self.assertFalse(self.names.knows("shop.example"))
        self.look()
        self.names.prefer("shop.example", "192.0.2.9")
        self.names.prefer("shop.example", "192.0.2.1")
        self.assertEqual(BOTH, self.look())

    def test_bounded(self) -> None:
        """
        The names that are remembered are bounded in number, and the last one is always among them.
        """
        for index in range(1500):
            name = f"{index}.example"
            self.resolver.known[name] = ["192.0.2.1"]
            self.look(name)
            self.assertTrue(self.names.knows(name))
            if index in (1024, 1499):
                self.assertLessEqual(sum(self.names.knows(f"{other}.example") for other in range(1500)), 1024)

    def test_freed(self) -> None:
        """
        No question leaves anything to the cycle collector.
        """

        def work() -> None:
            self.resolver.quick = False
            for name in ("shop.example", "nobody.example"):
                asking, cancelled = self.ask(name), self.ask(name)
                cancelled.cancel()
                self.resolver.answer()
                for one in (asking, cancelled):
                    one.addErrback(forget)
            self.names.forget("shop.example")

        assertNoGarbage(self, work)
