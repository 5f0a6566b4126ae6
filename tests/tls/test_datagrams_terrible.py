"""
Tests for L{tlsproxy.tls.datagrams} on a terrible network.
"""

from __future__ import annotations

from attrs import evolve

from tests.tls.terrible import DatagramCase, TerribleNetwork, Weather

STORM = Weather(loss=0.25, doubling=0.25, damage=0.1, delay=3.0)


class TerribleTests(DatagramCase):
    """
    Whatever a network does, but for losing everything, a handshake comes to its end.
    """

    def setUp(self) -> None:
        """
        Make both sides once.
        """
        super().setUp()
        self.ours = self.server(alpn="coap", clientCa=(self.anchor,))
        self.theirs = self.client(alpn="coap", identity=self.issued("somebody.example"))

    def through(self, weather: Weather, seeds: int = 10, mtu: int = 1200) -> list[TerribleNetwork]:
        """
        Let handshakes go through some weather, and then what the two have to say through better.
        """
        networks = []
        for seed in range(seeds):
            network = self.network(weather, self.ours, self.theirs, mtu=mtu, seed=seed)
            self.assertTrue(network.shake(), (seed, weather, network.server.problem, network.client.problem))
            self.assertTrue(all(len(datagram) <= mtu for _, datagram in network.sent))
            network.weather = Weather()
            for party in (network.server, network.client):
                party.connection.write(b"hello")
            self.assertTrue(
                network.run(lambda network=network: bool(network.server.heard and network.client.heard))  # type: ignore[misc]
            )
            self.assertEqual(network.server.heard, [b"hello"])
            self.assertEqual(network.client.heard, [b"hello"])
            networks.append(network)
        return networks

    def test_loss(self) -> None:
        """
        Up to half of all datagrams may get lost.
        """
        for loss in (0.1, 0.25, 0.5):
            networks = self.through(Weather(loss=loss), 15)
            self.assertTrue(any(network.lost for network in networks))

    def test_tinyAndLossy(self) -> None:
        """
        So they may where each flight takes many datagrams.
        """
        for loss in (0.0, 0.1, 0.3):
            self.through(Weather(loss=loss, narrow=256), 8, mtu=256)

    def test_doubling(self) -> None:
        """
        All may come twice, at other times.
        """
        self.through(Weather(doubling=1.0, delay=0.5))

    def test_disorder(self) -> None:
        """
        What was sent first may come last, or when nobody waits for it any more.
        """
        for delay in (0.5, 1.5, 5.0):
            self.through(Weather(delay=delay))

    def test_storm(self) -> None:
        """
        All of that may happen at once.
        """
        for mtu in (256, 1200):
            self.through(evolve(STORM, damage=0.0), 15, mtu)

    def test_damage(self) -> None:
        """
        Damage may break a handshake, as nothing proves yet who says what; but it ends by a failure, and not by two who
        are at one about something else than was said.
        """
        done = 0
        for seed in range(30):
            network = self.network(STORM, self.ours, self.theirs, seed=seed)
            network.run(lambda network=network: network.server.done and network.client.done)  # type: ignore[misc]
            if not (network.server.done and network.client.done):
                self.assertTrue(network.server.problem or network.client.problem)
                continue
            done += 1
            chosen = [one.connection.connection.get_alpn_proto_negotiated() for one in (network.server, network.client)]
            self.assertEqual(chosen, [b"coap", b"coap"])
        self.assertTrue(done > 5, done)

    def test_datagrams(self) -> None:
        """
        What is said arrives as it was said, in any order, once, or not at all.
        """
        network = self.shaken(server=self.ours, client=self.theirs)
        network.weather = Weather(loss=0.3, doubling=0.5, damage=0.2, delay=1.0)
        said = [f"number {number}".encode() * (number % 90 + 1) for number in range(200)]
        said = [data[:1163] for data in said]
        for data in said:
            network.client.connection.write(data)
            network.run(lambda: False, 0.05)
        network.run(lambda: False, 10)
        heard = network.server.heard
        self.assertEqual(len(heard), len(set(heard)))
        self.assertTrue(set(heard) <= set(said))
        self.assertTrue(60 < len(heard) < 200, len(heard))
        self.assertTrue(heard != [data for data in said if data in heard])  # Nothing puts them in order.

    def test_nobody(self) -> None:
        """
        Where nothing at all comes through, a client says its hello again and again, and less and less often.
        """
        network = self.network(Weather(loss=1.0), self.ours, self.theirs)
        self.assertFalse(network.run(lambda: network.client.done, 200))
        self.assertEqual(len(network.sent), 9)
