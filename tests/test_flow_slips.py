# -*- test-case-name: tests.test_flow_slips -*-
"""
L{tlsproxy.flow}: slips of a handler's author, each told in a sentence.
"""

from __future__ import annotations

import warnings
from typing import Any

from tests.acting import Acting, ActingCase
from tlsproxy.handler import FAR, OUTWARD, Way


class SlipTests(ActingCase):
    """
    Handlers that say what cannot be meant.
    """

    def test_returned(self) -> None:
        """
        What C{received} returns and is no bytes ends the session, with what it is and what it should be; a coroutine
        is closed, so that nobody complains that it was not awaited.
        """

        async def later() -> bytes:
            return b""

        def wrong(kind: str) -> Any:
            return {"a str": "text", "a bool": True, "a coroutine": later() if kind == "a coroutine" else None}[kind]

        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for kind in ("a str", "a bool", "a coroutine"):
                client = self.plain(self.act(received=lambda handler, way, data: wrong(kind), name="mine"))  # noqa: B023
                client.write(b"x")
                self.assertEqual(
                    ("failed", f"handler mine: received() returned {kind}: give back bytes, or None to keep them"),
                    self.ended(),
                )
                self.assertEqual(b"", self.upstream.peer.received)
                self.tearDown()
                self.setUp()
        self.assertEqual([], [str(one.message) for one in warned if "awaited" in str(one.message)])

    def test_released(self) -> None:
        """
        What is released and is no bytes is told where it is released.
        """

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            text: Any = "text"
            handler.flow.release(way, text)
            return data

        client = self.plain(self.act(received=received))
        client.write(b"x")
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(TypeError)
        self.assertEqual("release() was given a str: give bytes", str(failure.value))

    def test_directions(self) -> None:
        """
        A side is no direction, and neither is any other word, whatever is to be done there and whenever.
        """
        told: list[str] = []

        def slip(handler: Acting) -> None:
            flow: Any = handler.flow
            for act in (flow.done, flow.pause, flow.resume, lambda way: flow.release(way, b"x")):
                for wrong in (FAR, "outwards", None):
                    try:
                        # Not by assertRaises(), in which an exception and its frames would hold each other.
                        act(wrong)
                    except ValueError as e:
                        told.append(str(e))

        def received(handler: Acting, way: Way, data: bytes) -> bytes:
            slip(handler)
            return data

        client = self.plain(self.act(begin=slip, received=received))
        client.write(b"x")
        self.settle(lambda: self.upstream.peer.received == b"x")
        slip(self.made[0])
        self.assertEqual(36, len(told))
        self.assertEqual(
            ["'far' is no direction: OUTWARD or INWARD", "'outwards' is no direction: OUTWARD or INWARD"], told[:2]
        )
        self.made[0].flow.done(OUTWARD)
