# -*- test-case-name: tests.test_relay_drains -*-
"""
L{tlsproxy.relay}: a peer that takes slowly what the kernel holds for it.
"""

from __future__ import annotations

from tlsproxy.testing.streams import Streams


class DrainsTests(Streams):
    """
    Bytes that have left the process and have not arrived.
    """

    def test_drains(self) -> None:
        """
        They count as moving while the peer takes of them, and no longer.
        """
        self.make()
        relay = self.relay
        self.assertFalse(relay.drains(), "there are none")
        self.near.peer.reading = False
        for number in range(1, 51):  # A Unix socket frees what is read piece by piece.
            self.far.peer.write(bytes(1000))
            self.settle(lambda number=number: relay.inward.count == 1000 * number)  # type: ignore[misc]
        self.assertTrue(relay.drains(), "nobody can tell yet")
        self.assertFalse(relay.drains(), "the peer takes none")
        self.near.peer.socket.recv(30000)
        self.assertTrue(relay.drains(), "the peer takes some")
        self.assertFalse(relay.drains(), "the peer has stopped")
        self.near.peer.socket.recv(30000)
        self.assertFalse(relay.drains(), "it has all")
