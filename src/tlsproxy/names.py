# -*- test-case-name: tests.test_names -*-
"""
The addresses of names.

The reactor's resolver is asked; what it says is remembered for a while, and sessions that want the same name at the
same time wait for the same answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from tlsproxy.wire.host import asciiName

__all__ = ["Names"]

_REMEMBERED: Final = 30.0
"""For how many seconds the addresses of a name are used again."""
_MOST_NAMES: Final = 1024
_MOST_ADDRESSES: Final = 32
"""How many addresses of one name are taken: who asks for the name may also be who answers for it."""
_PATIENCE: Final = 5.0
"""After how many seconds without an answer a question is asked again."""
_AT_ONCE: Final = 6
"""How many questions the resolver has at a time: each takes one of the reactor's ten threads, however slow it is."""
_LOST: Final = 60.0
"""After how many seconds a question without an answer does not count any more."""


@implementer(IResolutionReceiver)
class _Answer:
    """
    One question to the resolver.

    @ivar name: What is asked for.
    @ivar since: When it was asked; L{None} while it waits for its turn.
    @ivar waiting: Those who want to know.
    """

    def __init__(self, names: Names, name: str, waiting: list[Deferred[Sequence[str]]]) -> None:
        self._names = names
        self._found: dict[str, None] = {}
        self.name = name
        self.since: float | None = None
        self.waiting = waiting

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """
        See L{IResolutionReceiver}.
        """

    def addressResolved(self, address: IAddress) -> None:
        """
        Take one address.
        """
        if isinstance(address, (IPv4Address, IPv6Address)) and len(self._found) < _MOST_ADDRESSES:
            self._found[address.host] = None

    def resolutionComplete(self) -> None:
        """
        Tell all who wait.
        """
        self._names.answered(self, tuple(self._found))
        while self.waiting:
            one = self.waiting.pop(0)
            if self._found:
                one.callback(tuple(self._found))
            else:
                one.errback(DNSLookupError(f"{self.name} does not resolve"))


class Names:
    """
    Looks names up for a whole service.
    """

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: The reactor, with its resolver.
        """
        self._reactor = reactor
        self._known: dict[str, tuple[float, Sequence[str]]] = {}
        self._asked: dict[str, _Answer] = {}
        self._queue: deque[_Answer] = deque()
        self._running: set[_Answer] = set()

    async def lookUp(self, name: str) -> Sequence[str]:
        """
        Tell the addresses of a name.  The caller's deadline bounds the wait.

        @return: One address at least, in the order in which they are to be tried (RFC 6724).
        @raise DNSLookupError: There is none.
        @raise ValueError: It is no name that a host can have.
        """
        name = asciiName(name)
        until, addresses = self._known.get(name, (0.0, ()))
        now = self._reactor.seconds()
        if now < until:
            return addresses
        asked = self._asked.get(name)
        waiting = asked.waiting if asked is not None else []
        waiter: Deferred[Sequence[str]] = Deferred(waiting.remove)
        waiting.append(waiter)
        # Twisted's resolver that breaks, as for want of a descriptor, never answers.
        if asked is None or (asked.since is not None and now - asked.since >= _PATIENCE):
            self._asked[name] = answer = _Answer(self, name, waiting)
            self._queue.append(answer)
            self._ask(now)
        return await waiter

    def _ask(self, now: float) -> None:
        """
        Ask what is next, as far as the resolver may be asked.
        """
        if len(self._queue) > _MOST_NAMES:
            self._queue = deque(answer for answer in self._queue if self._isWanted(answer))
        self._running = {one for one in self._running if one.since is not None and now - one.since < _LOST}
        while self._queue and len(self._running) < _AT_ONCE:
            answer = self._queue.popleft()
            if self._isWanted(answer):
                answer.since = now
                self._running.add(answer)
                self._reactor.nameResolver.resolveHostName(answer, answer.name)

    def _isWanted(self, answer: _Answer) -> bool:
        """
        Tell whether anybody still wants to know, and forget the question if not.
        """
        if not answer.waiting and self._asked.get(answer.name) is answer:
            del self._asked[answer.name]
        return bool(answer.waiting)

    def knows(self, name: str) -> bool:
        """
        Tell whether the addresses of a name are remembered.
        """
        try:
            until, _ = self._known.get(asciiName(name), (0.0, ()))
        except ValueError:
            return False
        return bool(self._reactor.seconds() < until)

    def answered(self, answer: _Answer, addresses: Sequence[str]) -> None:
        """
        The resolver has answered.
        """
        self._running.discard(answer)
        name = answer.name
        asked = self._asked.get(name)
        if asked is not None and asked.waiting is answer.waiting:
            del self._asked[name]
        if addresses:
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            self._known[name] = self._reactor.seconds() + _REMEMBERED, addresses
        self._ask(self._reactor.seconds())

    def prefer(self, name: str, address: str) -> None:
        """
        Have an address that answered be tried first from now on.
        """
        until, addresses = self._known.get(asciiName(name), (0.0, ()))
        if address in addresses[1:]:
            self._known[asciiName(name)] = until, (address, *(other for other in addresses if other != address))

    def forget(self, name: str) -> None:
        """
        Ask anew next time.
        """
        self._known.pop(asciiName(name), None)
