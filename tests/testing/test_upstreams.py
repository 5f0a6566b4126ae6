# -*- test-case-name: tests.testing.test_upstreams -*-
"""
L{tlsproxy.testing.upstreams}
"""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver, IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tlsproxy.address import TCP, Address, Unix
from tlsproxy.end import End
from tlsproxy.errors import DialFailed
from tlsproxy.testing.network import Network
from tlsproxy.testing.upstreams import Upstream


class DialTests(SynchronousTestCase):
    """
    What a network's dialer reaches.
    """

    def setUp(self) -> None:
        """
        Have a network with some upstreams.
        """
        self.network = Network()
        self.addCleanup(self.network.close)

    def dial(self, where: Address | IStreamClientEndpoint) -> Deferred[End]:
        """
        Dial.
        """
        return Deferred.fromCoroutine(self.network.dialer.dial(where))

    def failed(self, dialing: Deferred[Any]) -> str:
        """
        Tell why it did not work.
        """
        return str(self.failureResultOf(dialing, DialFailed).value)

    def finish(self, dialing: Deferred[End]) -> None:
        """
        It has worked.
        """
        self.successResultOf(dialing).finish()

    def test_addresses(self) -> None:
        """
        An upstream is found by its address, of whatever kind, and as an endpoint.
        """
        for text, address in (
            ("shop.example:443", TCP("shop.example", 443)),
            ("192.0.2.7:25", TCP("192.0.2.7", 25)),
            ("[2001:db8::1]:25", TCP("2001:db8::1", 25)),
            ("unix:/run/shop", Unix("/run/shop")),
        ):
            upstream = self.network.upstream(text)
            self.finish(self.dial(address))
            self.finish(self.dial(upstream))
            self.assertEqual((2, text), (upstream.dialed, str(upstream)))

    def test_nobody(self) -> None:
        """
        Nobody is at another address, and another name does not resolve; it is told as it would be of a real one.
        """
        self.network.upstream("shop.example:443")
        for where, why in (
            (TCP("shop.example", 80), "the upstream shop.example:80 refuses connections"),
            (TCP("192.0.2.7", 80), "the upstream 192.0.2.7:80 refuses connections"),
            (TCP("other.example", 443), "the upstream other.example:443 has a name that does not resolve"),
        ):
            self.assertEqual(why, self.failed(self.dial(where)))

    def test_names(self) -> None:
        """
        A name has the addresses that the test gives it.
        """
        self.network.upstream("shop.example:443", hosts=["192.0.2.7", "2001:db8::7"])
        found = Deferred.fromCoroutine(self.network.dialer.lookUp(TCP("shop.example", 443)))
        self.assertEqual(("192.0.2.7", "2001:db8::7"), self.successResultOf(found))
        where = TCP("shop.example", 443)
        self.finish(Deferred.fromCoroutine(self.network.dialer.dialAddresses(where, ("192.0.2.7",))))

    def test_refuses(self) -> None:
        """
        An upstream may refuse.
        """
        self.network.upstream("shop.example:443").refuses = True
        self.assertEqual(
            "the upstream shop.example:443 refuses connections", self.failed(self.dial(TCP("shop.example", 443)))
        )

    def test_late(self) -> None:
        """
        An upstream may let an attempt wait, then answer it or not; an attempt may be called off.
        """
        upstream = self.network.upstream("shop.example:443")
        upstream.answers = False
        first, second, third = (self.dial(TCP("shop.example", 443)) for _ in range(3))
        self.assertNoResult(first)
        upstream.answer()
        self.finish(first)
        upstream.fail(error.TimeoutError())
        self.assertEqual("the upstream shop.example:443 does not answer", self.failed(second))
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertEqual((1, 1, []), (len(upstream.peers), upstream.cancelled, upstream.waiting))

    def test_interfaces(self) -> None:
        """
        All is what it says.
        """
        verifyObject(IStreamClientEndpoint, Upstream(self.network))
        verifyObject(IReactorPluggableNameResolver, self.network.reactor)
        resolver = self.network.reactor.nameResolver
        self.assertIs(resolver, self.network.reactor.installNameResolver(resolver))
