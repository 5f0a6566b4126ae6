# -*- test-case-name: tests.datagram.test_passing -*-
"""
A port whose clients' DTLS is passed on: which association a datagram belongs to, where only hellos can be read.

Only the upstream can ask a client for a cookie, so the hello makes an association before the client has shown that it
is where it says.  How many of those there are, and how many come a second, is bounded; where there are too many the
oldest gives way, so that others get through in a flood.

A hello leads to an upstream.  One that asks for something else than the first of its association makes another one
beside it, with its own rules and its own upstream, which takes the place of the first when its client has shown that
it is there: it may be another client, behind an address translator, or a liar.  So no upstream gets a hello that the
rules have not led to it, and nobody loses an association to somebody who cannot read what is sent to it.

No datagram is passed on that holds a hello and something else.  Fragments of a hello wait here until there is all of
it, so that all goes one way.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

from attrs import define, field

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.paces import Paces
from tlsproxy.datagram.passed import PassedEnd
from tlsproxy.datagram.path import Address
from tlsproxy.datagram.sending import FULL, Wire
from tlsproxy.datagram.sharing import Network, Terms
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.dtlshello import DTLSHello, FragmentedHello, HelloPieces, readHello
from tlsproxy.wire.dtlsoutside import CLEAR, FINISHING, HELLO, outside
from tlsproxy.wire.hellobody import HelloError

__all__ = ["GARBAGE", "PACE", "UNFINISHED", "Passing"]

GARBAGE: Final = "garbage"
"""What is no hello, from where there is no association; or what is no hello and nothing else, and holds one."""
PACE: Final = "too many a second"
"""A hello of more new clients than there may be a second."""
UNFINISHED: Final = "unfinished"
"""A part of a hello whose rest has not come."""

_MOST_PARTS: Final = 256
_MOST_BYTES: Final = 4 << 20
_SECONDS: Final = 5.0
"""Of how many hellos parts are kept, how many bytes in all, and for how long."""


class Door(Protocol):
    """
    What this needs of a port.
    """

    accept: Callable[[DatagramEnd], object]
    reactor: Any
    terms: Terms
    listening: bool
    ends: dict[Address, DatagramEnd]
    pending: dict[Address, DatagramEnd]
    halfOpen: dict[DatagramEnd, Network]
    dropped: Counter[str]

    def wire(self, address: Address) -> Wire:
        """
        Make what a new association uses.
        """


@define(eq=False)
class _Part:
    """
    A part of a hello.

    @ivar since: When something was last added, in seconds of the reactor's clock.
    @ivar size: How many bytes it takes.
    """

    since: float
    pieces: HelloPieces = field(factory=HelloPieces)
    size: int = 0


class Passing:
    """
    Sees to what comes to a port.
    """

    def __init__(self, port: Door, received: Buffer) -> None:
        """
        @param received: What has each datagram in its front.
        """
        self._port = port
        self._received = received
        self._paces = Paces(port.reactor.seconds)
        self._parts: OrderedDict[Address, _Part] = OrderedDict()
        self._bytes = 0
        self._turn = 0

    def came(self, end: DatagramEnd | None, count: int, address: Address) -> None:
        """
        A datagram has come.

        @param end: The association of its sender, if there is one.
        """
        port, received = self._port, self._received
        if end is not None and not isinstance(end, PassedEnd):
            end.came(received, count)  # It began when the port had other terms.
            return
        seen = outside(received.view[:count])
        if seen & HELLO:
            self._hello(end, count, address)
        elif end is None:
            port.dropped[GARBAGE] += 1
        else:
            pending = port.pending.get(address) if port.pending else None
            if isinstance(pending, PassedEnd) and pending.turn > end.turn and seen & (CLEAR | FINISHING):
                end = pending
            end.heard(received, count, seen)

    def _hello(self, end: PassedEnd | None, count: int, address: Address) -> None:
        """
        Something has come that holds a hello, or a part of one.
        """
        port = self._port
        if end is None:
            if not port.listening:
                return
            if not self._paces.open:
                port.dropped[PACE] += 1
                return
        datagram = bytes(self._received.view[:count])
        datagrams = [datagram]
        try:
            hello = readHello(datagram)
        except FragmentedHello:
            part = self._gather(address, datagram)
            if part is None:
                return
            hello, datagrams = part
        except HelloError:
            port.dropped[GARBAGE] += 1
            return
        for one in (port.pending.get(address), end):
            if isinstance(one, PassedEnd) and one.isFor(hello):
                break
        else:
            one = self._begin(end, address, hello)
            if one is None:
                return
        fresh = one.turn == 0
        self._turn += 1
        one.turn = self._turn
        for datagram in datagrams:
            self._received.view[: len(datagram)] = datagram
            one.heard(self._received, len(datagram), HELLO | CLEAR, hello.cookie if datagram is datagrams[-1] else b"")
        if fresh:
            port.accept(one)

    def _gather(self, address: Address, datagram: bytes) -> tuple[DTLSHello, list[bytes]] | None:
        """
        Put a hello together.

        @return: It, and the datagrams that it came in; L{None} while some of it is missing.
        """
        now = self._port.reactor.seconds()
        known, hello = self._forget(address), None
        for part in (known, _Part(now)):  # Another hello may have begun.
            try:
                if part is not None:
                    hello = part.pieces.take(datagram)
                    break
            except HelloError:
                pass
        else:
            self._port.dropped[GARBAGE] += 1
            return None
        if hello is not None:
            return hello, part.pieces.datagrams
        part.since, part.size = now, sum(map(len, part.pieces.datagrams))
        self._parts[address] = part
        self._bytes += part.size
        while (
            len(self._parts) > _MOST_PARTS
            or self._bytes > _MOST_BYTES
            or next(iter(self._parts.values())).since < now - _SECONDS
        ):
            self._forget(next(iter(self._parts)))
            self._port.dropped[UNFINISHED] += 1
        return None

    def _forget(self, address: Address) -> _Part | None:
        part = self._parts.pop(address, None)
        if part is not None:
            self._bytes -= part.size
        return part

    def _begin(self, end: PassedEnd | None, address: Address, hello: DTLSHello) -> PassedEnd | None:
        """
        Make an association, which nobody has been told of so far.

        @param end: The one that there is already, if any.
        @return: L{None} where it would be one too many.
        """
        port = self._port
        if not port.listening:
            return None
        if end is None and len(port.ends) >= port.terms.most:
            port.dropped[FULL] += 1
            return None
        if not self._paces.take(port.terms.network(address), port.terms.pace):
            port.dropped[PACE] += 1
            return None
        before = port.pending.get(address)
        if before is not None:
            before.replaced()
        while len(port.halfOpen) >= port.terms.halfOpen:
            oldest = next(iter(port.halfOpen))
            oldest.over("refused", "the client has not shown that it gets what is sent to it, and gave way to others")
            oldest.finish()
        fresh = PassedEnd(port.reactor, port.wire(address), hello, strict=end is not None)
        # The other one may have been the oldest.
        where = port.pending if address in port.ends else port.ends
        where[address] = fresh
        port.halfOpen[fresh] = port.terms.network(address)
        return fresh
