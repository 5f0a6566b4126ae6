"""
Tests for L{tlsproxy.handlers.rate} in whole sessions.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.handler import FAR, NEAR
from tlsproxy.handlers.rate import Rate
from tlsproxy.testing import HandlerConformance, Streams, pairings, play


class RateConformance(HandlerConformance):
    """
    Sessions with a limit that is not met keep every promise, and leave nothing to the cycle collector.
    """

    handlers = (Rate(up=1 << 40, down=1 << 40),)


class UpConformance(HandlerConformance):
    """
    The same where one direction has no limit, and leaves the handler.
    """

    handlers = (Rate(up=1 << 40),)


globals().update(pairings(__name__, Streams, RateConformance, prefix="Both"))
globals().update(pairings(__name__, Streams, UpConformance, prefix="Up"))


class PlayTests(SynchronousTestCase):
    """
    What passes when.
    """

    def test_slow(self) -> None:
        """
        Bytes over the limit come later, in their order, and the end of the direction behind them.
        """
        for tls in ((), (NEAR,), (FAR,), (NEAR, FAR)):
            play(
                Rate(up=4, burst=8),
                [
                    ("client says", b"twelve bytes"),
                    "client ends",
                    ("upstream hears", b"twelve b"),
                    "upstream hears nothing",
                    ("upstream says", b"an answer that nobody limits"),
                    ("client hears", b"an answer that nobody limits"),
                    ("seconds pass", 0.25),
                    ("upstream hears", b"y"),
                    "upstream hears nothing",
                    ("seconds pass", 0.5),
                    ("upstream hears", b"te"),
                    "session goes on",
                    "upstream ends",
                    "client hears the end",
                    "session goes on",
                    ("seconds pass", 0.25),
                    ("upstream hears", b"s"),
                    "upstream hears the end",
                    ("session is", "closed"),
                ],
                tls=tls,
            )

    def test_reset(self) -> None:
        """
        A reset does not wait for what is held, and nothing is left behind.
        """
        play(
            Rate(down=1),
            [
                ("upstream says", b"four"),
                ("client hears", b"f"),
                ("seconds pass", 1.0),
                ("client hears", b"o"),
                "client resets",
                ("session is", "reset"),
                "upstream hears a reset",
            ],
        )

    def test_closeBoth(self) -> None:
        """
        Where the end of one direction ends both, what was held still comes.
        """
        play(
            Rate(up=2),
            [
                ("client says", b"four"),
                ("upstream hears", b"fo"),
                "upstream ends",
                ("seconds pass", 1.0),
                ("upstream hears", b"ur"),
                "upstream hears the end",
                "client hears the end",
                ("session is", "closed"),
            ],
            cut=False,
            close="both",
        )
