# -*- test-case-name: tests.test_lifetimes -*-
"""
L{tlsproxy.lifetimes}: a session ends with the certificates that opened it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.lifetimes import endWith, wallClock
from tlsproxy.testing.certificates import NOW, certify


class _Session:
    """
    A session that notes when it is to end.
    """

    def __init__(self) -> None:
        self.keeper = self
        self.reactor = Clock()
        self.ends: list[tuple[float, str]] = []

    def endBy(self, when: float, reason: str) -> None:
        """
        Note it.
        """
        self.ends.append((when, reason))


class LifetimeTests(SynchronousTestCase):
    """
    When it ends.
    """

    def test_first(self) -> None:
        """
        The first certificate to end counts, whichever it is, in the time of the reactor's clock.
        """
        session: Any = _Session()
        session.reactor.advance(1000)
        short, long = (certify("x", ends=NOW + timedelta(seconds=seconds)).certificate for seconds in (60, 90))
        for certificates in ([short, long], [long, short]):
            endWith(session, certificates, NOW)
        self.assertEqual([(1060.0, "the certificate that opened the tunnel has expired")] * 2, session.ends)

    def test_wallClock(self) -> None:
        """
        Certificates go by the time of the day.
        """
        self.assertLess(abs(wallClock() - datetime.now(UTC)), timedelta(seconds=60))
