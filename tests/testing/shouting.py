# -*- test-case-name: tests.testing.test_table -*-
"""
Handlers to test tests with.
"""

from __future__ import annotations

from attrs import field, frozen

from tlsproxy.handler import (
    FAR,
    INWARD,
    NEAR,
    OUTWARD,
    Flow,
    HandlerOptions,
    ProtocolHandler,
    Session,
    Side,
    Way,
    option,
)

__all__ = ["Count", "Fail", "Hoard", "Keep", "Leave", "Shout", "Upgrade", "Watch"]


@frozen(kw_only=True)
class Watch(HandlerOptions):
    """
    Looks, and does nothing.
    """

    def handler(self, session: Session, flow: Flow) -> ProtocolHandler:
        """
        See L{HandlerOptions.handler}.
        """
        return ProtocolHandler(session, flow)


@frozen(kw_only=True)
class Leave(HandlerOptions):
    """
    Looks, and is done after some bytes.
    """

    after: int = option(0, "how many bytes to look at")

    def handler(self, session: Session, flow: Flow) -> Leaving:
        """
        See L{HandlerOptions.handler}.
        """
        return Leaving(session, flow, self.after)


class Leaving(ProtocolHandler):
    """
    The handler of L{Leave}.
    """

    def __init__(self, session: Session, flow: Flow, after: int) -> None:
        super().__init__(session, flow)
        self._left: dict[Way, int] = {OUTWARD: after, INWARD: after}

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Count down.
        """
        self._left[direction] -= len(data)
        if self._left[direction] <= 0:
            self.flow.done(direction)
        return data


@frozen(kw_only=True)
class Keep(HandlerOptions):
    """
    Keeps what comes until the next turn of the reactor.
    """

    def handler(self, session: Session, flow: Flow) -> Keeping:
        """
        See L{HandlerOptions.handler}.
        """
        return Keeping(session, flow)


class Keeping(ProtocolHandler):
    """
    The handler of L{Keep}.
    """

    def received(self, direction: Way, data: bytes) -> None:
        """
        Keep it, and have no more come meanwhile.
        """
        self.flow.pause(direction)
        self.flow.callLater(0, self._later, direction, data)

    def _later(self, direction: Way, data: bytes) -> None:
        self.flow.release(direction, data)
        self.flow.resume(direction)


@frozen(kw_only=True)
class Hoard(HandlerOptions):
    """
    Keeps what comes until it has ten bytes.
    """

    def handler(self, session: Session, flow: Flow) -> Hoarding:
        """
        See L{HandlerOptions.handler}.
        """
        return Hoarding(session, flow)


class Hoarding(ProtocolHandler):
    """
    The handler of L{Hoard}.
    """

    def __init__(self, session: Session, flow: Flow) -> None:
        super().__init__(session, flow)
        self._kept: dict[Way, bytes] = {OUTWARD: b"", INWARD: b""}

    def received(self, direction: Way, data: bytes) -> bytes | None:
        """
        Give up ten bytes at a time.
        """
        kept = self._kept[direction] + data
        if len(kept) < 10:
            self._kept[direction] = kept
            return None
        self._kept[direction] = b""
        return kept


@frozen(kw_only=True)
class Shout(HandlerOptions):
    """
    Makes what the client says upper case.
    """

    def handler(self, session: Session, flow: Flow) -> Shouting:
        """
        See L{HandlerOptions.handler}.
        """
        return Shouting(session, flow)


class Shouting(ProtocolHandler):
    """
    The handler of L{Shout}.
    """

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Shout.
        """
        if b"!" in data:
            self.flow.refuse("the client shouts itself", b"do not shout\r\n")
            return b""
        return data.upper() if direction == OUTWARD else data


@frozen(kw_only=True)
class Count(HandlerOptions):
    """
    Numbers what it gets; all sessions of a route count together.
    """

    counts: dict[Way, int] = field(init=False, factory=lambda: {OUTWARD: 0, INWARD: 0})

    def handler(self, session: Session, flow: Flow) -> Counting:
        """
        See L{HandlerOptions.handler}.
        """
        return Counting(session, flow, self.counts)


class Counting(ProtocolHandler):
    """
    The handler of L{Count}.
    """

    def __init__(self, session: Session, flow: Flow, counts: dict[Way, int]) -> None:
        super().__init__(session, flow)
        self._counts = counts

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Count.
        """
        self._counts[direction] += 1
        return data + str(self._counts[direction]).encode()


@frozen(kw_only=True)
class Fail(HandlerOptions):
    """
    Makes a mistake.
    """

    def handler(self, session: Session, flow: Flow) -> Failing:
        """
        See L{HandlerOptions.handler}.
        """
        return Failing(session, flow)


class Failing(ProtocolHandler):
    """
    The handler of L{Fail}.
    """

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Fail.
        """
        raise ZeroDivisionError("a mistake")


@frozen(kw_only=True)
class Upgrade(HandlerOptions):
    """
    Has both sides start TLS after one line in clear.
    """

    @property
    def startsTLS(self) -> frozenset[str]:
        """
        See L{HandlerOptions.startsTLS}.
        """
        return frozenset({NEAR, FAR})

    def handler(self, session: Session, flow: Flow) -> Upgrading:
        """
        See L{HandlerOptions.handler}.
        """
        return Upgrading(session, flow)


class Upgrading(ProtocolHandler):
    """
    The handler of L{Upgrade}.
    """

    async def negotiate(self, near: Side, far: Side) -> None:
        """
        The client asks, and gets it; then the upstream is asked.
        """
        if near.owed:
            await near.readLine()
            await near.write(b"go ahead\r\n")
            await near.startTLS()
        if far.owed:
            await far.write(b"STARTTLS\r\n")
            await far.readLine()
            await far.startTLS()
