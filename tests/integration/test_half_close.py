# -*- test-case-name: tests.integration.test_half_close -*-
"""
The end of one direction is passed on, and the other direction goes on until its own end.
"""

from __future__ import annotations

import os
import time

from tests.integration.passages import Copying, PassageTestCase

LATE = os.urandom(300_000)
"""A late answer: more than one read takes, and less than sockets hold."""


class HalfCloseTests(PassageTestCase):
    """
    Every pairing of plain, TLS 1.2 and TLS 1.3.
    """

    def test_nearEndsFirst(self) -> None:
        """
        The client's end arrives as an end, and the late answer arrives whole and ends as it should.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.send(b"request")
                client.endWrite()
                self.assertEqual((b"request", "ended"), (server.readAll(), server.how))
                server.send(LATE)
                server.endWrite()
                self.assertEqual((LATE, "ended"), (client.readAll(), client.how))
                line = self.line()
                self.assertEqual(("closed", ""), (line["outcome"], line["reason"]))
                if not pairing.inner:
                    self.assertEqual(("7", str(len(LATE))), (line["received"], line["sent"]))

    def test_farEndsFirst(self) -> None:
        """
        The same with the upstream's end first.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.send(b"request")
                self.assertEqual(b"request", server.read(7))
                server.send(b"answer")
                server.endWrite()
                self.assertEqual((b"answer", "ended"), (client.readAll(), client.how))
                client.send(LATE)
                client.endWrite()
                self.assertEqual((LATE, "ended"), (server.readAll(), server.how))
                self.assertEqual("closed", self.line()["outcome"])

    def test_closeNotifyAlone(self) -> None:
        """
        A close_notify is an end by itself: no FIN has to follow it.
        """
        self.start()
        for pairing in self.pairings:
            if pairing.near or pairing.inner:
                with self.session(pairing) as (client, server):
                    client.endTLS()
                    self.assertEqual((b"", "ended"), (server.readAll(), server.how))
                    server.send(LATE)
                    server.endWrite()
                    self.assertEqual((LATE, "ended"), (client.readAll(), client.how))
                    if pairing.inner:
                        client.close()  # Only who decrypts knows that it has ended.
                    self.assertEqual("closed", self.line()["outcome"])

    def test_secondsLater(self) -> None:
        """
        The other direction goes on seconds later, with both ends waiting in between.
        """
        self.start()
        sessions = [(pairing, *self.open(pairing)) for pairing in self.pairings]
        for _, client, server in sessions:
            client.endWrite()
            self.assertEqual((b"", "ended"), (server.readAll(), server.how))
            server.send(b"first")
        time.sleep(3)
        for pairing, client, server in sessions:
            server.send(LATE)
            server.endWrite()
            self.assertEqual((b"first" + LATE, "ended"), (client.readAll(), client.how), pairing)

    def test_simultaneous(self) -> None:
        """
        Both sides end at once, and nothing is lost.
        """
        self.start()
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.send(b"from the client")
                server.send(b"from the upstream")
                client.endWrite()
                server.endWrite()
                self.assertEqual((b"from the client", "ended"), (server.readAll(), server.how))
                self.assertEqual((b"from the upstream", "ended"), (client.readAll(), client.how))
                self.assertEqual("closed", self.line()["outcome"])

    def test_closeBothNear(self) -> None:
        """
        With C{close = "both"} the client's end ends the session: all it had sent arrives, and its own side is closed.
        """
        self.start(close="both")
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                client.send(LATE)
                client.endWrite()
                self.assertEqual((LATE, "ended"), (server.readAll(), server.how))
                self.assertEqual(b"", client.readAll())
                self.assertEqual("closed", self.line()["outcome"])

    def test_closeBothFar(self) -> None:
        """
        With C{close = "both"} the upstream's end does the same.
        """
        self.start(close="both")
        for pairing in self.pairings:
            with self.session(pairing) as (client, server):
                server.send(LATE)
                server.endWrite()
                self.assertEqual((LATE, "ended"), (client.readAll(), client.how))
                self.assertEqual(b"", server.readAll())
                self.assertEqual("closed", self.line()["outcome"])


class CopiedTests(Copying, HalfCloseTests):
    """
    The same without splice(2).
    """
