# -*- test-case-name: tests.integration.test_dtls_floods -*-
"""
Whoever writes others' addresses on what he sends has nothing kept for him, and nothing sent to them that is longer.
"""

from __future__ import annotations

import os
import random
import socket
import struct

from tests.integration.datagramrelay import Relay
from tests.integration.running import PATIENCE, waitUntil
from tests.integration.test_datagrams_through_each_mode import LOOPBACK, DatagramTestCase, Echo

CLIENTS = 100_000
ROOM = 3 << 20
"""What the proxy's memory may grow by meanwhile, in bytes: a byte a client would be less than that."""
_RANDOM = 27  # where the client's random begins, behind the headers of record and message and the version
_BATCH = 100
_IP_PKTINFO = 8  # of Linux; Python has no name for it


class FloodTests(DatagramTestCase):
    """
    Clients that are not there.
    """

    def setUp(self) -> None:
        """
        Start a proxy, and see what a client's first hello looks like.
        """
        super().setUp()
        self.echo = Echo(self)
        self.through = self.proxy(*self.routes(self.offload(self.echo.port)))
        self.port = self.through.port("offload")
        relay = Relay(self, self.port)
        client = self.openssl(relay.port)
        client.waitFor("Verify return code: 0")
        assert client.process.stdin is not None
        client.process.stdin.close()
        self.assertEqual("closed", self.through.session()["outcome"])
        self.seen = [datagram for outward, datagram in relay.seen if outward]
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("0.0.0.0", 0))
        self.socket.settimeout(PATIENCE)

    def send(self, number: int, datagram: bytes) -> None:
        """
        Send something from one of very many addresses of loopback.
        """
        source = struct.pack("=I4s4s", 0, bytes((127, 1 + (number >> 16), number >> 8 & 255, number & 255)), bytes(4))
        self.socket.sendmsg([datagram], [(socket.IPPROTO_IP, _IP_PKTINFO, source)], 0, (LOOPBACK, self.port))

    def assertOpen(self) -> None:
        """
        Assert that a client who is there is let in, and that he is the first after the one before the flood.
        """
        told = len(self.through.sessions())
        client = self.openssl(self.port)
        client.waitFor("Verify return code: 0")
        self.say(client, "hello\n")
        client.waitFor("(?m)^hello\r?$")
        assert client.process.stdin is not None
        client.process.stdin.close()
        self.assertEqual("closed", self.through.session(told)["outcome"])

    def test_hellos(self) -> None:
        """
        First hellos from 100,000 addresses are answered with a cookie each, by less than was sent; memory stays as it
        is, nothing is dialed, and who is there is let in.
        """
        hello = self.seen[0]
        descriptors = self.through.descriptors()
        sent = got = answers = before = 0
        for start in range(0, CLIENTS, _BATCH):
            if start == CLIENTS // 10:
                before = self.through.resident()
            for number in range(start, start + _BATCH):
                self.send(number, hello[:_RANDOM] + os.urandom(28) + hello[_RANDOM + 28 :])
                sent += len(hello)
            for _ in range(_BATCH):
                answer = self.socket.recv(65536)
                self.assertLess(len(answer), len(hello))
                got, answers = got + len(answer), answers + 1
        self.assertEqual(CLIENTS, answers)
        self.assertLess(got, sent / 2)
        self.assertLess(self.through.resident() - before, ROOM)
        self.assertEqual((descriptors, 1), (self.through.descriptors(), len(self.through.sessions())))
        self.assertEqual(set(), self.echo.peers)
        self.assertOpen()

    def test_garbage(self) -> None:
        """
        What is no hello is not answered: garbage, halves of hellos, other records, and what another client has sent,
        with its cookie.
        """
        chance = random.Random(4)
        before = self.through.resident()
        for number in range(10_000):
            base = chance.choice(self.seen[1:])
            kinds = (
                chance.randbytes(chance.randrange(1500)),
                base[: chance.randrange(len(base))],
                bytes((chance.choice([*range(22), *range(23, 256)]),)) + base[1:],
                base[:13] + bytes((2 + chance.randrange(250),)) + base[14:],
            )
            self.send(number, kinds[number % len(kinds)])
        self.socket.settimeout(0.5)
        self.assertRaises(TimeoutError, self.socket.recv, 65536)
        # The cookie of another address is none; there is a new one for it.
        self.send(1, self.seen[1])
        self.assertEqual(3, self.socket.recv(65536)[13])
        waitUntil(lambda: self.through.resident() - before < ROOM, "memory as it was")
        self.assertEqual((set(), 1), (self.echo.peers, len(self.through.sessions())))
        self.assertOpen()
