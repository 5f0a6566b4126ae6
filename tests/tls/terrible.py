"""
Two ends of DTLS with a terrible network in between, at whose mercy they are: it loses, doubles, delays, and damages
what it carries.  All of it happens in no time: the clock jumps to whatever happens next.

The idea is that of python-trio's tests.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define
from OpenSSL import SSL

from tests.tls.opensslclock import OpenSSLClock, stoppedClock
from tests.tls.pairs import PairCase
from tlsproxy.testing.certificates import NOW, Holder
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy


@define
class Weather:
    """
    What a network does to what it carries, each with a probability of its own.

    @ivar loss: How much is lost.
    @ivar doubling: How much comes twice.
    @ivar damage: How much has one bit changed, or is cut off.
    @ivar delay: The most seconds that something is on its way; what is sent later may come earlier.
    @ivar narrow: The most bytes that a datagram may have.
    """

    loss: float = 0.0
    doubling: float = 0.0
    damage: float = 0.0
    delay: float = 0.0
    narrow: int = 65507


class Party:
    """
    One end.

    @ivar connection: Its DTLS.
    @ivar heard: What the other has said, one by one.
    @ivar done: Whether the handshake is done.
    @ivar problem: How it has failed, if it has.
    """

    def __init__(self, connection: DTLSConnection) -> None:
        self.connection = connection
        self.heard: list[bytes] = []
        self.done = False
        self.problem: Exception | None = None
        self.alert: tuple[int, bool] | None = None

    def go(self) -> None:
        """
        Do what can be done.
        """
        if not self.done and self.problem is None:
            try:
                self.connection.handshake()
            except SSL.WantReadError:
                return
            except Exception as e:
                self.problem, self.alert = e, self.connection.alert()
                return
            self.done = True
        while self.problem is None and (datagram := self.connection.read()) is not None:
            self.heard.append(datagram)


class TerribleNetwork:
    """
    What is between two ends.

    @ivar sent: All that was handed to it, and by which end: C{"server"} or C{"client"}.
    @ivar lost: How many datagrams it has lost.
    """

    def __init__(
        self, clock: OpenSSLClock, server: DTLSConnection, client: DTLSConnection, weather: Weather, seed: int
    ):
        self.clock, self.weather = clock, weather
        self.server, self.client = Party(server), Party(client)
        self.sent: list[tuple[str, bytes]] = []
        self.lost = 0
        self._random = Random(seed)
        self._flying: list[tuple[float, int, Party, bytes]] = []

    def _carry(self, sender: Party, datagram: bytes) -> None:
        """
        Take a datagram, and do to it what the weather says.
        """
        weather, random = self.weather, self._random
        self.sent.append(("server" if sender is self.server else "client", datagram))
        if random.random() < weather.loss or len(datagram) > weather.narrow:
            self.lost += 1
            return
        for _ in range(2 if random.random() < weather.doubling else 1):
            carried = bytearray(datagram)
            if random.random() < weather.damage:
                carried[random.randrange(len(carried))] ^= 1 << random.randrange(8)
                if random.random() < 0.3:
                    del carried[random.randrange(1, len(carried) + 1) :]
            to = self.client if sender is self.server else self.server
            when = self.clock.now + random.random() * weather.delay
            heapq.heappush(self._flying, (when, len(self.sent), to, bytes(carried)))

    def inject(self, to: Party, datagram: bytes) -> None:
        """
        Bring something that nobody has sent.
        """
        to.connection.receive(datagram)
        to.go()
        self.flush()

    def flush(self) -> None:
        """
        Take what the two have to say.
        """
        for party in (self.client, self.server):
            for datagram in party.connection.output():
                self._carry(party, datagram)

    def run(self, until: Callable[[], bool], seconds: float = 600.0) -> bool:
        """
        Let time pass.

        @param until: What is waited for.
        @param seconds: For how long.
        @return: Whether it has come about.
        """
        end = self.clock.now + seconds
        self.client.go()
        self.flush()
        while not until():
            timers = [
                (self.clock.now + left, party)
                for party in (self.client, self.server)
                if party.problem is None and (left := party.connection.timeout()) is not None
            ]
            ring, party = min(timers, key=lambda timer: timer[0], default=(float("inf"), self.client))
            if self._flying and self._flying[0][0] <= min(ring, end):
                when, _, party, datagram = heapq.heappop(self._flying)
                self.clock.now = max(self.clock.now, when)
                party.connection.receive(datagram)
            elif ring <= end:
                self.clock.now = ring
                party.connection.handleTimeout()
            else:
                self.clock.now = end
                return until()
            party.go()
            self.flush()
        return True

    def shake(self) -> bool:
        """
        Let both get through the handshake.

        @return: Whether they did, in good time.
        """
        return self.run(lambda: self.server.done and self.client.done)


class DatagramCase(PairCase):
    """
    A test with two ends of DTLS, for which time stands still.

    @ivar clock: That of OpenSSL.
    """

    def setUp(self) -> None:
        """
        Stop the clock.
        """
        super().setUp()
        stopped = stoppedClock()
        self.clock = stopped.__enter__()
        self.addCleanup(stopped.__exit__, None, None, None)

    def server(self, identity: Identity | Holder | None = None, **policy: Any) -> ServerTLS:
        """
        As L{PairCase.server}, for DTLS.
        """
        files = policy.pop("cert", None) or self.keep("server", identity or self.issued("shop.example"))
        tls = ServerTLS.load(ServerPolicy(cert=files, **policy), now=NOW, datagrams=True)
        self.atTestTime(tls.context)
        return tls

    def client(self, host: str = "shop.example", identity: Identity | Holder | None = None, **policy: Any) -> ClientTLS:
        """
        As L{PairCase.client}, for DTLS.
        """
        if identity is not None:
            policy["cert"] = self.keep("client", identity)
        tls = ClientTLS.load(ClientPolicy(**{"ca": (self.anchor,), **policy}), host, now=NOW, datagrams=True)
        self.atTestTime(tls.context)
        return tls

    def network(
        self,
        weather: Weather | None = None,
        server: ServerTLS | None = None,
        client: ClientTLS | None = None,
        name: str | None = "shop.example",
        mtu: int = 1200,
        seed: int = 0,
    ) -> TerribleNetwork:
        """
        Put two ends and a network together.

        @param name: The server name by which the server chooses.
        """
        here = (server or self.server()).begin(DTLSConnection, mtu, name)
        there = (client or self.client()).begin(DTLSConnection, mtu)
        return TerribleNetwork(self.clock, here, there, weather or Weather(), seed)

    def shaken(self, **more: Any) -> TerribleNetwork:
        """
        The same, with the handshake done.
        """
        network = self.network(**more)
        self.assertTrue(network.shake(), (network.server.problem, network.client.problem))
        return network
