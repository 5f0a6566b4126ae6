# -*- test-case-name: tests.test_parting -*-
"""
Tests for L{tlsproxy.parting}; sessions that do so are in L{tests.test_session} and L{tests.test_session_deadlines}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.parting import part


class _End:
    """
    An End that notes what becomes of it.
    """

    def __init__(self, tls: bool = False, gone: bool = False) -> None:
        self.tls = object() if tls else None
        self.gone = gone
        self.became = ""

    def finish(self, reset: bool = False) -> None:
        """
        Close.
        """
        self.became = "reset" if reset else "closed"

    def linger(self) -> None:
        """
        Send a FIN.
        """
        self.became = "lingers"


class PartTests(SynchronousTestCase):
    """
    L{part}.
    """

    def part(
        self, phase: str, outcome: str, told: bool = True, answered: bool = False, tls: bool = False
    ) -> tuple[str, str]:
        """
        Part, and tell what became of both sides.

        @param tls: Whether the client's side has TLS.
        """
        near: Any = _End(tls)
        far: Any = _End()
        part(near, (far,), phase, outcome, told, answered)
        return near.became, far.became

    def test_notLetIn(self) -> None:
        """
        Who is not let in gets an end, and whoever is dropped later a reset, which can be told from an end.
        """
        for phase in ("hello", "head", "route"):
            self.assertEqual(("lingers", "reset"), self.part(phase, "refused"))
            self.assertEqual(("lingers", "reset"), self.part(phase, "ended"))
        self.assertEqual(("reset", "reset"), self.part("dial", "failed"))
        self.assertEqual(("reset", "reset"), self.part("hello", "failed"))

    def test_told(self) -> None:
        """
        Whoever was told why can read it: in its own protocol, by an alert, or in a talk before TLS.
        """
        self.assertEqual(("lingers", "reset"), self.part("dial", "failed", answered=True))
        self.assertEqual(("lingers", "reset"), self.part("handshake", "failed", tls=True))
        self.assertEqual(("lingers", "reset"), self.part("negotiate", "failed"))
        self.assertEqual(("reset", "reset"), self.part("negotiate", "failed", told=False))
        self.assertEqual(("reset", "reset"), self.part("negotiate", "expired"))

    def test_stalled(self) -> None:
        """
        Who kept us waiting gets no further time, and nobody does when the service stops; unless it was answered.
        """
        for phase, outcome in (("hello", "expired"), ("handshake", "expired"), ("dial", "stopped")):
            self.assertEqual(("reset", "reset"), self.part(phase, outcome, tls=True))
            self.assertEqual(("lingers", "reset"), self.part(phase, outcome, tls=True, answered=True))
        self.assertEqual(("lingers", "reset"), self.part("upstream_handshake", "expired", tls=True))

    def test_gone(self) -> None:
        """
        A side that is gone is left alone.
        """
        gone: Any = _End(gone=True)
        part(gone, (), "hello", "refused", True, False)
        self.assertEqual("", gone.became)
