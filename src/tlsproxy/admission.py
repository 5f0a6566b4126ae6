# -*- test-case-name: tests.test_admission -*-
"""
How much one client network may have of a route: sessions at once, and new ones a second.

What is known of a network takes the same few bytes however much it does, and networks that nobody hears of any more are
forgotten.  So memory is bounded by the sessions that are open, and by L{MOST} networks.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from tlsproxy.errors import AdmissionRefused
from tlsproxy.route import Route
from tlsproxy.wire.network import plainAddress

__all__ = ["BURST", "MOST", "Admission", "networkOf"]

MOST: Final = 65536
"""The most networks whose pace is remembered.  Where there are more, the one that was heard of the longest ago is
forgotten."""
BURST: Final = 5.0
"""A network that was silent may begin as many sessions at once as otherwise in so many seconds."""

Network = int | None


def networkOf(client: IAddress, ipv4: int, ipv6: int) -> Network:
    """
    Tell which network a client belongs to.

    @param ipv4: The length of the prefix of IPv4; IPv4 addresses that an IPv6 socket tells of count as such.
    @param ipv6: The length of the prefix of IPv6.
    @return: The prefix and the version, in one number, since there may be many; L{None} for all that has no IP address,
        as on Unix sockets.
    """
    if isinstance(client, (IPv4Address, IPv6Address)):
        try:
            address = plainAddress(str(client.host).partition("%")[0])
        except ValueError:
            return None  # Another transport than the kernel's may tell anything.
        length = ipv4 if address.version == 4 else ipv6
        return int(address) >> (address.max_prefixlen - length) << 1 | (address.version == 6)
    return None


class Admission:
    """
    Lets the clients of a route in, or not.

    @ivar reached: How often each limit has been reached: C{"max_client_connections"}, C{"max_client_handshakes"}.
    """

    def __init__(self, route: Route, reached: Counter[str]) -> None:
        """
        @param reached: Where that is counted.
        """
        self.reached = reached
        self._open: dict[Network, int] = {}
        self._of: dict[Any, Network] = {}
        # When each network would be at rest again, as if it had begun one session after the other at the pace that
        # it may: the "generic cell rate algorithm", which needs one number where a bucket of tokens needs two.
        self._paces: OrderedDict[Network, float] = OrderedDict()
        self._route = route

    @staticmethod
    def wanted(route: Route) -> bool:
        """
        Tell whether a route has such limits.
        """
        return bool(route.maxClientConnections or route.maxClientHandshakes)

    def change(self, route: Route) -> None:
        """
        Go by the limits of a route that has taken the place of the other.  What its clients have open still counts.
        """
        before = self._route
        self._route = route
        if (before.clientPrefixIpv4, before.clientPrefixIpv6) != (route.clientPrefixIpv4, route.clientPrefixIpv6):
            self._paces.clear()
            self._open.clear()
            for session in self._of:
                self._of[session] = network = self._network(session)
                self._open[network] = self._open.get(network, 0) + 1

    def _network(self, session: Any) -> Network:
        return networkOf(session.client, self._route.clientPrefixIpv4, self._route.clientPrefixIpv6)

    def admit(self, session: Any) -> None:
        """
        Let a session's client in, by the address that is told of it by now, and before anything is done for it.

        @param session: The L{tlsproxy.session.Session}.
        @raise AdmissionRefused: Its network has enough.  The connection is closed by then: to wait until the client
            has read that would leave it what it has too much of.
        """
        try:
            self._admit(session, session.keeper.reactor.seconds())
        except AdmissionRefused:
            session.phase = "route"
            session.near.finish(reset=True)
            raise

    def _admit(self, session: Any, now: float) -> None:
        self.release(session)  # Where it was taken before its client was told of.
        route, network = self._route, self._network(session)
        most = route.maxClientConnections
        if most and self._open.get(network, 0) >= most:
            self.reached["max_client_connections"] += 1
            raise AdmissionRefused(
                f"the client's network has {most} sessions open, as many as max_client_connections allows"
            )
        pace = route.maxClientHandshakes
        if pace and not self._inPace(network, pace, now):
            self.reached["max_client_handshakes"] += 1
            raise AdmissionRefused(
                f"the client's network begins more than {pace} sessions a second, which max_client_handshakes allows"
            )
        self.take(session)

    def take(self, session: Any) -> None:
        """
        Count a session that is open already.
        """
        self._of[session] = network = self._network(session)
        self._open[network] = self._open.get(network, 0) + 1

    def _inPace(self, network: Network, pace: int, now: float) -> bool:
        paces = self._paces
        rest = paces.get(network, now)
        if not now < rest <= now + BURST + 1e-6:
            rest = now  # Also where the clock was set back, and it would last for as long as that.
        rest += 1 / pace
        if rest - now > BURST + 1e-9:
            return False
        paces[network] = rest
        paces.move_to_end(network)
        # Two a time: whatever comes, it grows no further than to what is still at work.
        for _ in range(2):
            oldest = next(iter(paces))
            if paces[oldest] > now and len(paces) <= MOST:
                break
            del paces[oldest]
            if not paces:
                break
        return True

    def release(self, session: Any) -> None:
        """
        A session is over, whether or not it was let in.
        """
        if session not in self._of:
            return
        network = self._of.pop(session)
        left = self._open[network] - 1
        if left:
            self._open[network] = left
        else:
            del self._open[network]
