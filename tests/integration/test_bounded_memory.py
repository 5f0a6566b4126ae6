# -*- test-case-name: tests.integration.test_bounded_memory -*-
"""
A stalled reader stops its writer, and nothing grows with the transfer.
"""

from __future__ import annotations

import select
import threading

from OpenSSL import SSL

from tests.integration.passages import Pairing, PassageTestCase
from tests.integration.running import COPYING, waitUntil
from tests.integration.talking import Talker

PUSH = 100_000_000
MOST = 1 << 20
POOLED = 8
"""How many descriptors of pipes wait for their next use, at most."""


def push(talker: Talker, count: int) -> int:
    """
    Send without pause until nothing more is taken.

    @param count: How many bytes there are to send.
    @return: How many were taken.
    """
    block = bytes(1 << 16)
    sent = 0
    talker.socket.setblocking(False)
    while sent < count:
        try:
            sent += (talker.tls or talker.socket).send(block)
        except (BlockingIOError, SSL.WantWriteError):
            if not select.select([], [talker.socket], [], 1)[1]:
                break
    talker.socket.setblocking(True)
    return sent


def take(talker: Talker, count: int) -> None:
    """
    Read and forget.
    """
    while count and (data := talker.recv(min(count, 1 << 18))):
        count -= len(data)


class MemoryTests(PassageTestCase):
    """
    The memory and the descriptors of the proxy.
    """

    def stall(self, pairing: Pairing) -> None:
        """
        Push to a reader that does not read, in each direction.
        """
        self.start()
        sessions = [self.open(pairing) for _ in range(2)]
        # Whatever a session needs once has been needed before it is measured.
        for one, other in (sessions[0], sessions[0][::-1]):
            pushing = threading.Thread(target=one.send, args=(bytes(4_000_000),), daemon=True)
            pushing.start()
            take(other, 4_000_000)
            pushing.join()
        before = self.through.resident()
        for writer, reader in (sessions[1], sessions[0][::-1]):
            sent = push(writer, PUSH)
            self.assertLess(sent, PUSH)
            grown = self.through.resident() - before
            self.assertLess(grown, MOST)
            # What was held up goes on.
            reader.socket.setblocking(True)
            take(reader, sent // (1 << 16) * (1 << 16))
        self.assertLess(self.through.resident() - before, MOST)

    def test_offload(self) -> None:
        """
        In TLS toward the client.
        """
        self.stall(Pairing("offload", "1.3", ""))

    def test_encrypt(self) -> None:
        """
        In TLS toward the upstream.
        """
        self.stall(Pairing("encrypt", "", "1.3"))

    def test_bridge(self) -> None:
        """
        In TLS toward both.
        """
        self.stall(Pairing("bridge", "1.3", "1.3"))

    def test_passthrough(self) -> None:
        """
        In TLS that is not decrypted.
        """
        self.stall(Pairing("passthrough", "", "", "1.3"))

    def test_connect(self) -> None:
        """
        In a plain tunnel.
        """
        self.stall(Pairing("connect", "", ""))

    def test_copied(self) -> None:
        """
        In a plain tunnel, without splice(2).
        """
        self.program = COPYING
        self.stall(Pairing("connect", "", ""))

    def test_descriptors(self) -> None:
        """
        Many sessions, ended in all the ways there are, leave no descriptor behind.
        """
        self.start()
        base = self.through.descriptors()
        pairings = [pairing for pairing in self.pairings if "1.2" not in (pairing.near, pairing.far, pairing.inner)]
        count = 20 * 6
        for number in range(count):
            client, server = self.open(pairings[number // 6 % len(pairings)])
            ways = (client.endWrite, client.reset, server.reset, client.truncate, server.truncate, client.close)
            ways[number % 6]()
            client.close()
            server.close()
        waitUntil(lambda: len(self.through.sessions()) == count, "the end of all sessions")
        most = base + POOLED
        waitUntil(lambda: self.through.descriptors() <= most, f"the end of all descriptors beyond {most}")
