# -*- test-case-name: tests.test_eyeballs -*-
"""
Happy eyeballs (RFC 8305): of several addresses, the first that answers.

The families take turns, and the next address is tried when the last one has failed, or has not answered for a quarter
of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from tlsproxy.connecting import connect
from tlsproxy.end import End
from tlsproxy.errors import forgetFrames

__all__ = ["connectFirst", "inTurn"]

_DELAY: Final = 0.25
"""RFC 8305, section 5: the Connection Attempt Delay, in seconds."""


def inTurn(addresses: Sequence[str]) -> list[str]:
    """
    Have the families take turns, the family of the first address first (RFC 8305, section 4).
    """
    first = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    second = [address for address in addresses if address not in first]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


class _Race:
    """
    Attempts that race each other.

    @ivar won: The End that was connected first.
    """

    def __init__(self, reactor: Any, addresses: Sequence[str], port: int) -> None:
        self._reactor = reactor
        self._port = port
        self._left = inTurn(addresses)
        self._running: list[Deferred[End]] = []
        self._timer: IDelayedCall | None = None
        self._first: Deferred[End] | None = None
        self._problem: Failure | None = None
        self.won: Deferred[End] = Deferred(lambda _: self._stop())

    def next(self) -> None:
        """
        Try the next address.
        """
        self._pause()
        attempt = Deferred.fromCoroutine(connect(self._reactor, self._left.pop(0), self._port, End("the upstream")))
        self._running.append(attempt)
        self._first = self._first or attempt
        if self._left:
            self._timer = self._reactor.callLater(_DELAY, self.next)
        attempt.addCallbacks(self._connected, self._failed, (attempt,), errbackArgs=(attempt,))

    def _connected(self, end: End, attempt: Deferred[End]) -> None:
        self._running.remove(attempt)
        self._stop()
        self.won.callback(end)

    def _failed(self, problem: Failure, attempt: Deferred[End]) -> None:
        if isinstance(problem.value, (CancelledError, error.ConnectError)):
            # Its frames hold it in turn, and the winner.
            forgetFrames(problem.value)
            problem.tb = None
        if attempt not in self._running:
            return  # It was called off.
        self._running.remove(attempt)
        if attempt is self._first:
            # What became of the most wanted address says most.
            self._problem = problem
        if self._left:
            # In a turn of its own: many may fail at once.
            self._pause()
            self._timer = self._reactor.callLater(0, self.next)
        elif not self._running:
            told, self._problem = self._problem, None
            self.won.errback(told)

    def _stop(self) -> None:
        self._pause()
        self._left = []
        running, self._running = self._running, []
        for attempt in running:
            attempt.cancel()

    def _pause(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


async def connectFirst(reactor: Any, addresses: Sequence[str], port: int) -> End:
    """
    Connect to whichever address answers first.

    @param addresses: One IPv4 or IPv6 address at least, the most wanted first.
    @return: The upstream's End, held.
    @raise twisted.internet.error.ConnectError: None answered; the error is that of the most wanted.
    """
    if len(addresses) == 1:
        return await connect(reactor, addresses[0], port, End("the upstream"))
    race = _Race(reactor, addresses, port)
    race.next()
    return await race.won
