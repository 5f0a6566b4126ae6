# -*- test-case-name: tests.test_admission -*-
"""
L{tlsproxy.admission}
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.test_route import Pattern
from tlsproxy.admission import BURST, MOST, Admission, networkOf
from tlsproxy.errors import AdmissionRefused
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.service import ProxyService
from tlsproxy.testing.listener import Listener
from tlsproxy.testing.sessions import SessionCase


def ip(host: str) -> IAddress:
    """
    An address of a client.
    """
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 4321)


class NetworkTests(SynchronousTestCase):
    """
    Which network a client belongs to.
    """

    def same(self, one: str, other: str, ipv4: int = 32, ipv6: int = 64) -> bool:
        """
        Tell whether two clients are of one network.
        """
        return networkOf(ip(one), ipv4, ipv6) == networkOf(ip(other), ipv4, ipv6)

    def test_prefixes(self) -> None:
        """
        Clients are of one network where the first bits of their addresses are the same, as many as the prefix has.
        """
        self.assertTrue(self.same("192.0.2.1", "192.0.2.1"))
        self.assertFalse(self.same("192.0.2.1", "192.0.2.2"))
        self.assertTrue(self.same("192.0.2.1", "192.0.2.254", ipv4=24))
        self.assertFalse(self.same("192.0.2.1", "192.0.3.1", ipv4=24))
        self.assertTrue(self.same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"))
        self.assertFalse(self.same("2001:db8::1", "2001:db8:0:1::1"))
        self.assertFalse(self.same("2001:db8::1", "2001:db8::2", ipv6=128))

    def test_mapped(self) -> None:
        """
        An IPv4 client counts by its own address, also where a socket of both families has taken it.
        """
        self.assertTrue(self.same("192.0.2.1", "::ffff:192.0.2.1"))
        self.assertFalse(self.same("::ffff:192.0.2.1", "::ffff:192.0.2.2"))

    def test_families(self) -> None:
        """
        The same bits of another family are another network.
        """
        self.assertFalse(self.same("0.0.0.1", "::1", ipv4=32, ipv6=128))

    def test_zones(self) -> None:
        """
        A zone does not matter.
        """
        self.assertTrue(self.same("fe80::1%eth0", "fe80::2%eth1"))

    def test_others(self) -> None:
        """
        All clients without an IP address count as one, also where a transport of somebody's tells nonsense.
        """
        self.assertIsNone(networkOf(UNIXAddress("/run/x"), 32, 64))
        self.assertIsNone(networkOf(IPv4Address("TCP", "nowhere", 1), 32, 64))

    @given(st.ip_addresses(), st.integers(1, 32), st.integers(1, 128))
    def test_any(self, address: Any, ipv4: int, ipv6: int) -> None:
        """
        Any address belongs to some network.
        """
        self.assertIsNotNone(networkOf(ip(str(address)), ipv4, ipv6))


class End:
    """
    As much of an End as there has to be.

    @ivar finished: Whether it was reset.
    """

    finished = False

    def finish(self, reset: bool) -> None:
        """
        Note it.
        """
        self.finished = reset


class Client:
    """
    As much of a session as there has to be.
    """

    def __init__(self, host: str, clock: Clock) -> None:
        self.client = ip(host)
        self.phase = ""
        self.near = End()
        self.reactor = clock

    @property
    def keeper(self) -> Client:
        """
        What has its reactor.
        """
        return self


class AdmissionTests(SynchronousTestCase):
    """
    What a client network may have.
    """

    def setUp(self) -> None:
        """
        Have a clock.
        """
        self.clock = Clock()
        self.clock.advance(1000)

    def admission(self, **limits: int) -> Admission:
        """
        Make one.
        """
        self.reached: Counter[str] = Counter()
        self.route = Route(name="shop", pattern=Pattern(), **limits)  # type: ignore[arg-type]
        return Admission(self.route, self.reached)

    def come(self, admission: Admission, host: str = "192.0.2.1") -> Client | None:
        """
        Have a client come.

        @return: It, where it was let in.
        """
        client = Client(host, self.clock)
        try:
            admission.admit(client)
        except AdmissionRefused:
            self.assertEqual(("route", True), (client.phase, client.near.finished))
            return None
        self.assertEqual(("", False), (client.phase, client.near.finished))
        return client

    def burst(self, admission: Admission, host: str = "192.0.2.1", count: int = 100) -> int:
        """
        Have many clients come at once.

        @return: How many were let in.
        """
        return sum(self.come(admission, host) is not None for _ in range(count))

    def test_wanted(self) -> None:
        """
        A route without such limits has none of it.
        """
        for limits, wanted in (
            ({}, False),
            ({"maxConnections": 1}, False),
            ({"maxClientConnections": 1}, True),
            ({"maxClientHandshakes": 1}, True),
        ):
            self.admission(**limits)
            self.assertEqual(wanted, Admission.wanted(self.route))

    def test_open(self) -> None:
        """
        A network has as many sessions as it may, and more once some are over; others are not concerned.
        """
        admission = self.admission(maxClientConnections=2)
        first = self.come(admission)
        self.assertEqual(1, self.burst(admission))
        self.assertEqual(2, self.burst(admission, "192.0.2.2"))
        self.assertEqual({"max_client_connections": 99 + 98}, dict(self.reached))
        admission.release(first)
        self.assertEqual(1, self.burst(admission))

    def test_sentence(self) -> None:
        """
        Who is refused, and by what, is said in a sentence.
        """
        for limits, sentence in (
            (
                {"maxClientConnections": 1},
                "the client's network has 1 sessions open, as many as max_client_connections allows",
            ),
            (
                {"maxClientHandshakes": 1},
                "the client's network begins more than 1 sessions a second, which max_client_handshakes allows",
            ),
        ):
            admission = self.admission(**limits)
            self.burst(admission)
            problem = self.assertRaises(AdmissionRefused, admission.admit, Client("192.0.2.1", self.clock))
            self.assertEqual(sentence, str(problem))

    def test_releasedOnce(self) -> None:
        """
        A session that was not let in, or is over already, gives nothing back.
        """
        admission = self.admission(maxClientConnections=1)
        client = self.come(admission)
        admission.release(Client("192.0.2.1", self.clock))
        self.assertIsNone(self.come(admission))
        admission.release(client)
        admission.release(client)
        self.assertEqual(1, self.burst(admission))
        self.assertEqual((1, 1), (len(admission._open), len(admission._of)))

    def test_nothingLeft(self) -> None:
        """
        A network that has nothing open takes no memory.
        """
        admission = self.admission(maxClientConnections=5)
        clients = [self.come(admission, f"192.0.2.{number}") for number in range(100)]
        for client in clients:
            admission.release(client)
        self.assertEqual(({}, {}), (admission._open, admission._of))

    def test_pace(self) -> None:
        """
        A network begins what it may in five seconds at once, and after that goes on at its pace.
        """
        admission = self.admission(maxClientHandshakes=4)
        self.assertEqual(20, self.burst(admission))
        self.assertEqual(20, self.burst(admission, "192.0.2.2"))
        self.assertEqual({"max_client_handshakes": 160}, dict(self.reached))
        self.clock.advance(0.2)
        self.assertEqual(0, self.burst(admission))
        self.clock.advance(0.05)
        self.assertEqual(1, self.burst(admission))
        self.clock.advance(1)
        self.assertEqual(4, self.burst(admission))
        self.clock.advance(3600)
        self.assertEqual(20, self.burst(admission))
        self.clock.rightNow -= 7200  # Where it is set back, nobody waits for it to be where it was.
        self.assertEqual(20, self.burst(admission))

    def test_refusedPaysNothing(self) -> None:
        """
        Who goes on knocking is let in as soon as who waits.
        """
        admission = self.admission(maxClientHandshakes=1)
        self.burst(admission)
        for _ in range(10):
            self.clock.advance(0.125)
            self.burst(admission, count=50)
        self.assertEqual(5 + 1, len(admission._of))

    def test_bothLimits(self) -> None:
        """
        Who has too much open does not pay for what it is refused.
        """
        admission = self.admission(maxClientConnections=1, maxClientHandshakes=1)
        first = self.come(admission)
        self.burst(admission)
        admission.release(first)
        self.assertIsNotNone(self.come(admission))
        self.assertEqual({"max_client_connections": 100}, dict(self.reached))

    def test_bounded(self) -> None:
        """
        However many networks come, no more are remembered than may be, and at rest they are forgotten.
        """
        admission = self.admission(maxClientHandshakes=1)
        for number in range(MOST + 100):
            client = self.come(admission, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
            admission.release(client)
        self.assertEqual(MOST, len(admission._paces))
        self.clock.advance(BURST + 1)
        for number in range(MOST):
            admission.release(self.come(admission, "192.0.2.1" if number % 6 else "192.0.2.2"))
            self.clock.advance(1)
        self.assertLess(len(admission._paces), 3)

    @given(st.integers(1, 9), st.lists(st.tuples(st.floats(0, 3), st.integers(1, 40)), max_size=20))
    def test_anyPace(self, pace: int, visits: list[tuple[float, int]]) -> None:
        """
        However clients come, in no span of time more are let in than its seconds and the burst allow.
        """
        self.clock = Clock()
        admission = self.admission(maxClientHandshakes=pace)
        letIn: list[tuple[float, int]] = []
        for seconds, count in visits:
            self.clock.advance(seconds)
            letIn.append((self.clock.seconds(), self.burst(admission, count=count)))
        for first, (start, _) in enumerate(letIn):
            for last in range(first, len(letIn)):
                span = letIn[last][0] - start
                total = sum(one for _, one in letIn[first : last + 1])
                self.assertLessEqual(total, pace * (BURST + span) + 1e-3)

    def test_change(self) -> None:
        """
        Where the route is replaced, what is open counts on, by the prefix that holds now.
        """
        admission = self.admission(maxClientConnections=2)
        first = self.come(admission, "192.0.2.1")
        self.come(admission, "192.0.2.2")
        admission.change(evolve(self.route, maxClientConnections=1))
        self.assertIsNone(self.come(admission, "192.0.2.1"))
        admission.change(evolve(self.route, clientPrefixIpv4=24, maxClientConnections=2))
        self.assertIsNone(self.come(admission, "192.0.2.3"))
        admission.release(first)
        self.assertIsNotNone(self.come(admission, "192.0.2.3"))


class RouteTests(SessionCase):
    """
    Routes with such limits.
    """

    def test_refused(self) -> None:
        """
        A client that its network has enough without is closed before anything is read of it or done for it.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), maxClientConnections=1)
        first = self.visit()
        self.settle(lambda: self.upstream.dialed == 1)
        second = self.visit()
        self.settle()
        (event,) = self.told()
        self.assertEqual(("refused", "route"), (event["outcome"], event["phase"]))
        self.assertEqual(
            "the client's network has 1 sessions open, as many as max_client_connections allows", event["reason"]
        )
        self.assertTrue(self.aborted(second))
        self.assertEqual(1, self.upstream.dialed)
        self.assertEqual({("refused", "route"): 1}, dict(self.factory.counters))
        self.assertEqual({"max_client_connections": 1}, dict(self.factory.reached))
        first.close()
        self.upstream.peer.close()
        self.settle()
        assert self.factory.admission is not None
        self.assertEqual({}, self.factory.admission._open)

    def test_none(self) -> None:
        """
        A route without such limits has nothing of the kind.
        """
        self.assertIsNone(self.serve(Passthrough(upstream=self.upstream, requireTLS=False)).admission)


class ReloadTests(SynchronousTestCase):
    """
    Such limits and a service that takes other routes.
    """

    def test_reload(self) -> None:
        """
        A route that keeps its name goes on counting, also what its clients have open.
        """
        route = Route(name="shop", listen=Listener(), pattern=Pattern(), maxClientConnections=1)
        service = ProxyService([route], Clock())
        (before,) = service.factories
        before.reached["max_client_connections"] = 7
        self.successResultOf(service.reload([evolve(route, maxClientConnections=2)]))
        (after,) = service.factories
        assert after.admission is not None
        self.assertIs(before.admission, after.admission)
        self.assertEqual((2, 7), (after.admission._route.maxClientConnections, after.reached["max_client_connections"]))
        # Nor does it forget that while nothing is limited.
        after.admission.admit(Client("192.0.2.1", Clock()))
        self.successResultOf(service.reload([evolve(route, maxClientConnections=0)]))
        self.successResultOf(service.reload([route]))
        (again,) = service.factories
        assert again.admission is not None
        self.assertEqual((7, 7), (again.reached["max_client_connections"], again.admission.reached.total()))
        self.assertRaises(AdmissionRefused, again.admission.admit, Client("192.0.2.1", Clock()))

    def test_limited(self) -> None:
        """
        A route that had no limit goes on counting how often one was reached.
        """
        route = Route(name="shop", listen=Listener(), pattern=Pattern())
        service = ProxyService([route], Clock())
        service.factories[0].reached["max_client_connections"] = 7
        self.successResultOf(service.reload([evolve(route, maxClientConnections=1)]))
        (after,) = service.factories
        assert after.admission is not None
        self.assertEqual(7, after.admission.reached.total())
