# -*- test-case-name: tests.integration.test_reset -*-
"""
A reset goes on as a reset, and is told.
"""

from __future__ import annotations

from tests.integration.passages import Copying, PassageTestCase


class ResetTests(PassageTestCase):
    """
    Every pairing, both ways.
    """

    def test_nearResets(self) -> None:
        """
        The client's reset reaches the upstream.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.send(b"request")
                self.assertEqual(b"request", server.read(7))
                client.reset()
                self.assertEqual((b"", "reset"), (server.readAll(), server.how))
                line = self.line()
                self.assertEqual(("reset", "the client reset the connection"), (line["outcome"], line["reason"]))

    def test_farResets(self) -> None:
        """
        The upstream's reset reaches the client.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.send(b"request")
                self.assertEqual(b"request", server.read(7))
                server.reset()
                self.assertEqual((b"", "reset"), (client.readAll(), client.how))
                line = self.line()
                self.assertEqual(("reset", "the upstream reset the connection"), (line["outcome"], line["reason"]))

    def test_resetAfterHalfClose(self) -> None:
        """
        A side that ended its direction, and one whose peer did, can still reset.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.endWrite()
                self.assertEqual((b"", "ended"), (server.readAll(), server.how))
                server.reset()
                self.assertEqual((b"", "reset"), (client.readAll(), client.how))
                self.assertEqual("reset", self.line()["outcome"])
            with self.session(pairing) as (client, server):
                server.endWrite()
                self.assertEqual((b"", "ended"), (client.readAll(), client.how))
                client.reset()
                self.assertEqual((b"", "reset"), (server.readAll(), server.how))
                self.assertEqual("reset", self.line()["outcome"])

    def test_sentBeforeTheReset(self) -> None:
        """
        What the upstream sent before it closed a connection with unread bytes, which resets it, is not swallowed.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                server.send(b"answer")
                self.assertEqual(b"answer", client.read(6))
                client.send(b"nobody reads this")
                server.socket.recv(1, 2)  # It is there, and stays there.
                server.close()
                self.assertEqual((b"", "reset"), (client.readAll(), client.how))
                self.assertEqual("reset", self.line()["outcome"])


class CopiedTests(Copying, ResetTests):
    """
    The same without splice(2).
    """
