# -*- test-case-name: tests.test_handled_conformance -*-
"""
L{tlsproxy.handled}: a session keeps its promises with handlers in it that step out at whatever byte.
"""

from __future__ import annotations

import random

from attrs import field, frozen

from tlsproxy.handler import INWARD, OUTWARD, Flow, HandlerOptions, ProtocolHandler, Session, Way
from tlsproxy.testing.handlerconformance import HandlerConformance, Streams, pairings


@frozen(kw_only=True, eq=False)
class StepOut(HandlerOptions):
    """
    Has a say in so many bytes each way, and not in one more.

    @ivar most: The most that may be; how many it is, is chosen for each session.
    """

    most: int
    random: random.Random = field(factory=lambda: random.Random(7))

    def handler(self, session: Session, flow: Flow) -> ProtocolHandler:
        """
        See L{HandlerOptions.handler}.
        """
        return SteppingOut(session, flow, {way: self.random.randrange(self.most + 1) for way in (OUTWARD, INWARD)})


class SteppingOut(ProtocolHandler):
    """
    The handler of L{StepOut}.
    """

    def __init__(self, session: Session, flow: Flow, left: dict[Way, int]) -> None:
        super().__init__(session, flow)
        self.left = left
        for way in (OUTWARD, INWARD):
            if not left[way]:
                flow.done(way)

    def received(self, direction: Way, data: bytes) -> bytes | None:
        """
        Keep what comes for a moment, give back its beginning, and be done at the very byte.
        """
        here, self.left[direction] = self.left[direction], max(0, self.left[direction] - len(data))
        if self.left[direction]:
            return data
        self.flow.release(direction, data[:here])
        self.flow.done(direction)
        return data[here:]


class AtOnceConformance(HandlerConformance):
    """
    Handlers that are done before the first byte.
    """

    handlers = (StepOut(most=0), StepOut(most=0))


class FirstByteConformance(HandlerConformance):
    """
    Handlers that are done at the first byte, or before.
    """

    handlers = (StepOut(most=1), StepOut(most=1))


class AnyByteConformance(HandlerConformance):
    """
    Handlers that are done at any byte, soon and late.
    """

    handlers = (StepOut(most=300000), StepOut(most=20), StepOut(most=2 << 20))


globals().update(pairings(__name__, Streams, AtOnceConformance, prefix="AtOnce"))
globals().update(pairings(__name__, Streams, FirstByteConformance, prefix="FirstByte"))
globals().update(pairings(__name__, Streams, AnyByteConformance, prefix="AnyByte"))
