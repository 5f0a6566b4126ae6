# -*- test-case-name: tests.integration.test_dtls_on_a_bad_network -*-
"""
Where datagrams are lost, repeated, delayed and spoiled on the way, DTLS comes to be all the same, and what arrives is
what was sent, and comes once.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator

from tests.integration.datagramrelay import Relay, Terrible, perfect
from tests.integration.running import PATIENCE, Child, waitUntil
from tests.integration.test_datagrams_through_each_mode import DatagramTestCase, Echo

LIMITS = {"handshake": 40, "upstream_handshake": 40}
"""With what is repeated after 1, 2, 4 and 8 seconds, if four in a row are lost."""


class BadNetworkTests(DatagramTestCase):
    """
    A relay in the middle.
    """

    def assertGetsThrough(self, client: Child) -> None:
        """
        Assert that a client hears what it says, if it says it often enough.
        """
        seconds = time.monotonic()

        def answered() -> bool:
            nonlocal seconds
            if time.monotonic() >= seconds:
                seconds = time.monotonic() + 0.2
                self.say(client, "hello\n")
            return "\nhello" in client.text()

        waitUntil(answered, "an answer", 2 * PATIENCE)

    def test_clients(self) -> None:
        """
        C{openssl s_client} and C{gnutls-cli} reach C{offload} although a seventh is lost each way, in small datagrams.
        """
        route = self.offload(Echo(self).port, mtu=400, limits=LIMITS)
        proxy = self.proxy(*self.routes(route))
        relays = [Relay(self, proxy.port("offload"), Terrible(seed, 0.15, spoiled=0.05)) for seed in range(2)]
        clients = [self.openssl(relays[0].port), self.gnutls(relays[1].port)]
        for client, begun in zip(clients, ("Verify return code: 0", "Handshake was completed"), strict=True):
            client.waitFor(begun, 2 * PATIENCE)
            self.assertGetsThrough(client)

    def test_gateways(self) -> None:
        """
        Between two gateways an eighth is lost each way: of six clients each is heard, and what it hears is what it has
        said, in whatever order, and nothing twice.
        """
        black = self.proxy(*self.routes(self.offload(Echo(self).port, limits=LIMITS)))
        relay = Relay(self, black.port("offload"), Terrible(7, 0.12, spoiled=0.05))
        red = self.proxy(*self.routes(self.encrypt(relay.port, limits=LIMITS)))
        clients = [self.plain(red.port("encrypt")) for _ in range(6)]
        said: dict[socket.socket, list[bytes]] = {client: [] for client in clients}
        heard: dict[socket.socket, list[bytes]] = {client: [] for client in clients}
        end = time.monotonic() + 2 * PATIENCE
        while not all(len(one) >= 20 for one in heard.values()):
            self.assertLess(time.monotonic(), end, [len(one) for one in heard.values()])
            for client in clients:
                said[client].append(os.urandom(16 + 50 * (len(said[client]) % 20)))
                client.send(said[client][-1])
            until = time.monotonic() + 0.05
            while (left := until - time.monotonic()) > 0:
                for client in select.select(clients, [], [], left)[0]:
                    heard[client].append(client.recv(65536))
        for client in clients:
            self.assertEqual(len(set(heard[client])), len(heard[client]), "something came twice")
            self.assertEqual(set(), set(heard[client]) - set(said[client]), "something came that nobody has said")

    def test_intruder(self) -> None:
        """
        Whoever can send whatever he likes to both ends of an association, from the other's address, does not end it,
        and has nobody hear it: garbage, alerts, halves, all that was ever sent, and that with bits changed.
        """
        black = self.proxy(*self.routes(self.offload(Echo(self).port)))
        relay = Relay(self, black.port("offload"))
        red = self.proxy(*self.routes(self.encrypt(relay.port)))
        client = self.plain(red.port("encrypt"))
        self.assertEchoed(client, b"before")
        garbage = [os.urandom(size) for size in (1, 2, 12, 13, 14, 100, 1200, 16384)]
        alerts = [bytes((21, 0xFE, 0xFD, 0, epoch, 0, 0, 0, 0, 9, 9, 0, 2, 2, 40)) for epoch in (0, 1)]
        for _, datagram in list(relay.seen):
            changed = datagram[:-1] + bytes([datagram[-1] ^ 1])
            for one in (datagram, datagram[: len(datagram) // 2], changed, *garbage, *alerts):
                relay.inject(True, one)
                relay.inject(False, one)
            self.assertEchoed(client, datagram[:1000])
        self.assertEqual(([], []), (black.sessions(), red.sessions()))
        black.process.terminate()
        black.waitFor("stopping: waits")
        black.process.terminate()
        told = [proxy.session() for proxy in (red, black)]
        self.assertEqual(told[0]["received"], told[1]["received"])


class AnewTests(DatagramTestCase):
    """
    Several clients behind one address.
    """

    def test_replaced(self) -> None:
        """
        A client that begins anew from an address that has an association takes its place when its handshake is done,
        and not before, however far it is.
        """
        proxy = self.proxy(*self.routes(self.offload(Echo(self).port)))
        relay = Relay(self, proxy.port("offload"), one=True)
        first = self.openssl(relay.port)
        first.waitFor("Verify return code: 0")
        self.say(first, "from the first\n")
        first.waitFor("(?m)^from the first\r?$")
        quiet = iter(range(3))

        def stalled(outward: bool, datagram: bytes) -> Iterator[tuple[float, bytes]]:
            """
            Let both hellos of the other client through, and nothing more of its handshake.
            """
            if datagram[0] == 23 or not outward or (datagram[13] == 1 and next(quiet, None) is not None):
                yield from perfect(outward, datagram)

        relay.judge = stalled
        second = Child(self, self.folder, "second", self.opensslCommand(relay.port), spoken=True)
        waitUntil(lambda: len([1 for outward, one in relay.seen if outward and one[13] == 16]) > 1, "its key exchange")
        for number in range(3):
            self.say(first, f"still the first {number}\n")
            first.waitFor(f"(?m)^still the first {number}\r?$")
        self.assertEqual([], proxy.sessions())
        relay.judge = perfect
        second.waitFor("Verify return code: 0")
        self.say(second, "from the second\n")
        second.waitFor("(?m)^from the second\r?$")
        session = proxy.session()
        self.assertEqual("closed", session["outcome"])

    def opensslCommand(self, port: int) -> list[str]:
        """
        The command line of a client.
        """
        trust = ["-CAfile", str(self.certificates.ca), "-verify_return_error"]
        return ["openssl", "s_client", "-dtls", "-connect", f"127.0.0.1:{port}", *trust]

    def test_crashed(self) -> None:
        """
        A client that was killed comes again from the same address.
        """
        proxy = self.proxy(*self.routes(self.offload(Echo(self).port)))
        relay = Relay(self, proxy.port("offload"), one=True)
        for number in range(3):
            client = Child(self, self.folder, f"client{number}", self.opensslCommand(relay.port), spoken=True)
            client.waitFor("Verify return code: 0")
            self.say(client, f"life {number}\n")
            client.waitFor(f"(?m)^life {number}\r?$")
            client.process.kill()
        self.assertEqual(["closed"] * 2, [proxy.session(number)["outcome"] for number in range(2)])


class ComesBackTests(DatagramTestCase):
    """
    An upstream that is away for a while.
    """

    def test_upstream(self) -> None:
        """
        Where the upstream ends and comes back, clients in clear go on with it by their next datagram; while it is away
        each failure is told.
        """
        echo = Echo(self)
        black = self.proxy(*self.routes(self.offload(echo.port)))
        port = black.port("offload")
        red = self.proxy(*self.routes(self.encrypt(port)))
        client = self.plain(red.port("encrypt"))
        self.assertEchoed(client, b"first")
        black.process.terminate()
        black.waitFor("stopping: waits")
        black.process.terminate()
        self.assertEqual("closed", red.session()["outcome"])
        black.process.wait(PATIENCE)
        client.send(b"anybody?")
        self.assertIn("nobody listens there", red.session(1)["reason"])
        (again,) = self.routes(self.offload(echo.port))
        self.proxy({**again, "listen": f"udp:127.0.0.1:{port}"})
        self.assertEchoed(client, b"second")
