"""
Tests for L{tlsproxy.handlers.tap} in whole sessions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.handlers.reading import packets, segment, streams
from tlsproxy.handler import FAR, NEAR
from tlsproxy.handlers.tap import Tap
from tlsproxy.interfaces import IHandlerOptions
from tlsproxy.testing import HandlerConformance, Streams, pairings, play


class TapConformance(HandlerConformance):
    """
    Sessions with a tap keep every promise, and leave nothing to the cycle collector.
    """

    def makeHandlers(self) -> tuple[IHandlerOptions, ...]:
        """
        Make a tap with a file of its own.
        """
        case: Any = self
        path = Path(case.mktemp())
        path.parent.mkdir(parents=True, exist_ok=True)
        return (Tap(pcap=path),)


globals().update(pairings(__name__, Streams, TapConformance))


class PlayTests(SynchronousTestCase):
    """
    What sessions leave in the file.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        self.path = Path(self.mktemp()).resolve()
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def test_comments(self) -> None:
        """
        The first packet tells what was negotiated on both sides, the last one how the session ended; that is so for
        each session, however its bytes were cut.
        """
        play(
            Tap(pcap=self.path, port=80),
            [
                ("client says", b"question"),
                ("upstream hears", b"question"),
                ("upstream says", b"answer"),
                ("client hears", b"answer"),
                "client ends",
                "upstream hears the end",
                "upstream ends",
                "client hears the end",
                ("session is", "closed"),
            ],
            tls=(NEAR, FAR),
        )
        found = packets(self.path.read_bytes())
        comments = [packet.comment for packet in found if packet.comment]
        self.assertEqual(len(comments), 4)
        for comment in comments[::2]:
            self.assertRegex(
                comment,
                r"^route=play client=127\.0\.0\.1:\d+ sni=shop\.example tls=TLSv1\.3/\w+"
                r" upstream=upstream\.example:443 upstream_tls=TLSv1\.3/\w+$",
            )
        self.assertEqual(comments[1::2], ["route=play outcome=closed"] * 2)
        starts = [place for place, packet in enumerate(found) if packet.comment.startswith("route=play client")]
        for part in (found[: starts[1]], found[starts[1] :]):
            said = streams([segment(packet.data) for packet in part])
            self.assertEqual(said, (b"question", b"answer"))

    def test_soon(self) -> None:
        """
        After a second it is in the file, although the session goes on.
        """
        play(
            Tap(pcap=self.path),
            [("client says", b"question"), ("upstream hears", b"question"), ("seconds pass", 1.1), "session goes on"],
            cut=False,
        )
        self.assertIn(b"question", self.path.read_bytes())

    def test_refusedClients(self) -> None:
        """
        A session that did not come to its bytes is not in the file.
        """
        play(
            Tap(pcap=self.path),
            ["client ends", "upstream is not dialed", "client hears the end", ("session is", "refused")],
            authorize=lambda session: False,
            cut=False,
        )
        self.assertFalse(self.path.exists())
