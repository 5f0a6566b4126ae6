"""
Tests for L{tlsproxy.datagram.probation}.
"""

from __future__ import annotations

from typing import Any

from tests.datagram.wires import EndCase
from tlsproxy.datagram.probation import MOST, SECONDS, UNPROVEN, Probation


class ProbationTests(EndCase):
    """
    An upstream's words to a client that has shown nothing.
    """

    def setUp(self) -> None:
        """
        Have one looked at.
        """
        super().setUp()
        self.carried: list[int] = []
        self.late: list[tuple[str, str]] = []
        self.probation = Probation(self.near, self.far, self.take, lambda *how: self.late.append(how))
        self.far.join(self.probation.carry)

    def take(self, datagram: Any, count: int) -> None:
        """
        Carry one.
        """
        self.carried.append(count)

    def test_bytes(self) -> None:
        """
        Only so much is carried.
        """
        for _ in range(20):
            self.give(self.far, b"\x16\xfe\xfd" + bytes(997))
        self.assertEqual(len(self.carried), MOST // 1000)
        self.assertEqual(self.near.dropped, {UNPROVEN: 20 - MOST // 1000})
        self.assertEqual(self.nearWire.done, [])

    def test_proven(self) -> None:
        """
        New keys, or data, prove a client, and from then on nothing is looked at.
        """
        ticket = b"\x16\xfe\xfd" + bytes(8) + b"\0\3new"
        for proof in (
            b"\x14" + bytes(50),
            b"\x17" + bytes(50),
            b"\x16\xfe\xfd\0\1" + bytes(50),
            ticket + b"\x14" + bytes(50),
        ):
            self.setUp()
            self.give(self.far, b"\x16\xfe\xfd" + bytes(97))
            self.give(self.far, proof)
            self.assertEqual(self.nearWire.done, [self.near])
            for _ in range(40):
                self.give(self.far, bytes(1000))
            self.assertEqual(len(self.carried), 42)
            self.reactor.advance(SECONDS)
            self.assertEqual(self.late, [])

    def test_late(self) -> None:
        """
        Who takes too long is given up.
        """
        self.reactor.advance(SECONDS)
        self.assertEqual(
            self.late, [("expired", "the client has not shown within 10 s that it gets what is sent to it")]
        )

    def test_end(self) -> None:
        """
        Once the session is over nobody waits any more.
        """
        self.probation.end()
        self.probation.end()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
