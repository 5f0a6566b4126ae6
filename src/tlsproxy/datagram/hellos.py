# -*- test-case-name: tests.datagram.test_hellos -*-
"""
The hellos that come to a port whose clients speak DTLS with us: who has sent one is asked to show that it gets what is
sent there, and what has shown that is read.

A hello may come in fragments (RFC 6347, section 4.2.3).  The first one alone is answered with a cookie, and none is
kept.  Only the first fragment of a hello that brings its cookie back, and so comes from where it says, has the others
gathered for a while; what comes before it comes again, as nothing answers.  How many hellos are gathered is bounded
like handshakes that are under way, and together with them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Protocol

from attrs import define
from twisted.internet.interfaces import IDelayedCall

from tlsproxy.datagram.passing import GARBAGE, UNFINISHED
from tlsproxy.datagram.path import Address
from tlsproxy.datagram.sending import Wire
from tlsproxy.datagram.sharing import Network, Terms
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.cookies import Cookies
from tlsproxy.wire.dtls import HANDSHAKE
from tlsproxy.wire.dtlshello import (
    DTLSHello,
    FragmentedHello,
    HelloPieces,
    HelloStart,
    helloVerifyRequest,
    readHello,
    readStart,
)
from tlsproxy.wire.hellobody import HelloError

__all__ = ["FRAGMENTED", "SECONDS", "Hellos"]

FRAGMENTED: Final = "fragmented"
"""A part of a hello, and the first part with its cookie has not come before."""
SECONDS: Final = 10.0
"""For how long the fragments of a hello are gathered."""

_MOST_BYTES: Final = 16384  # So a whole hello fits into a record; real ones are far smaller.
_CLIENT_HELLO: Final = 1
_MESSAGE: Final = 13  # where the type of a handshake message stands


class Door(Protocol):
    """
    What this needs of a port.
    """

    asked: int
    dropped: Counter[str]
    reactor: Any
    terms: Terms

    def wire(self, address: Address) -> Wire:
        """
        Make what a new association uses.
        """

    def hasRoom(self, address: Address) -> bool:
        """
        Tell whether one more handshake may be under way; where there is none, that is counted.
        """


@define(eq=False)
class _Gathered:
    """
    What there is of a hello.

    @ivar network: Where it comes from.
    @ivar start: What it begins with.
    @ivar first: The datagram with the first fragment.
    @ivar pieces: All of them.
    @ivar expiring: What gives it up.
    """

    network: Network
    start: HelloStart
    first: bytes
    pieces: HelloPieces
    expiring: IDelayedCall


class Hellos:
    """
    Reads them.

    @ivar gathered: Those that are not whole, the oldest first.
    """

    def __init__(self, port: Door, cookies: Cookies, local: Address, received: Buffer) -> None:
        """
        @param cookies: What proves that clients are where they say.
        @param local: Where the port is.
        @param received: What has each datagram in its front.
        """
        self._port = port
        self._cookies = cookies
        self._local = local[:2]
        self._received = received
        self.gathered: dict[Address, _Gathered] = {}

    def read(self, count: int, address: Address, current: DTLSHello | None = None) -> tuple[DTLSHello, int] | None:
        """
        Read what has come, and see that its sender gets what is sent there; if it has not shown that, ask it to.

        @param count: Its length.
        @param current: The hello of the association that is there already.
        @return: The hello, and the length of its datagram, which was put into the place of the last fragment's.
        """
        view, cookies, dropped = self._received.view, self._cookies, self._port.dropped
        if count <= _MESSAGE or view[0] != HANDSHAKE or view[_MESSAGE] != _CLIENT_HELLO:
            dropped[GARBAGE] += 1
            return None
        datagram = bytes(view[:count])
        try:
            start, hello = self._opened(datagram)
            if cookies.holds(address[:2], self._local, start):
                if hello is None:
                    return self._gather(address, datagram, start, current)
                self.forget(address)
                return hello, count
            answer = helloVerifyRequest(start, cookies.make(address[:2], self._local, start))
        except FragmentedHello:
            if address in self.gathered:
                return self._add(address, datagram)
            dropped[FRAGMENTED] += 1
            return None
        except HelloError:
            dropped[GARBAGE] += 1
            return None
        self._port.asked += 1
        try:
            self._port.wire(address).send(answer)
        except OSError:
            pass  # It asks again.
        return None

    def _opened(self, datagram: bytes) -> tuple[HelloStart, DTLSHello | None]:
        """
        Read what a hello begins with, and all of it if it is there.

        @raise FragmentedHello: It is another part of one.
        @raise HelloError: It is none.
        """
        try:
            hello = readHello(datagram)
        except FragmentedHello:
            return readStart(datagram), None
        return hello, hello

    def _gather(
        self, address: Address, datagram: bytes, start: HelloStart, current: DTLSHello | None
    ) -> tuple[DTLSHello, int] | None:
        """
        A first fragment has come from where it says.

        @return: As L{read}.
        @raise HelloError: Something is wrong with it.
        """
        known = self.gathered.get(address)
        if known is not None and _alike(known.start, start):
            return self._add(address, datagram)
        if current is not None and _alike(current, start):
            return None  # It is repeated.
        pieces = HelloPieces(_MOST_BYTES)
        hello = pieces.take(datagram)
        self.forget(address)
        if hello is not None:
            return self._put(hello, pieces)
        port = self._port
        if port.hasRoom(address):
            expiring = port.reactor.callLater(SECONDS, self._expire, address)
            self.gathered[address] = _Gathered(port.terms.network(address), start, datagram, pieces, expiring)
        return None

    def _add(self, address: Address, datagram: bytes) -> tuple[DTLSHello, int] | None:
        """
        Another fragment has come.

        @return: As L{read}.
        """
        gathered = self.gathered[address]
        # Only of the first it is known who has sent it.  So where others do not belong together, the last one counts.
        for others in (gathered.pieces, HelloPieces(_MOST_BYTES)):
            try:
                if others is not gathered.pieces:
                    others.take(gathered.first)
                hello = others.take(datagram)
                break
            except HelloError:
                pass
        else:
            self._port.dropped[GARBAGE] += 1
            return None
        gathered.pieces = others
        if hello is None:
            return None
        self.forget(address)
        return self._put(hello, others)

    def _put(self, hello: DTLSHello, pieces: HelloPieces) -> tuple[DTLSHello, int]:
        """
        Have a hello stand there as if it had come whole, since OpenSSL takes no other that is not the first.
        """
        datagram = pieces.whole()
        self._received.view[: len(datagram)] = datagram
        return hello, len(datagram)

    def giveUp(self, network: Network) -> bool:
        """
        Forget the oldest of a network.

        @return: Whether there was one.
        """
        for address, gathered in self.gathered.items():
            if gathered.network == network:
                self._expire(address)
                return True
        return False

    def _expire(self, address: Address) -> None:
        self._port.dropped[UNFINISHED] += 1
        self.forget(address)

    def forget(self, address: Address) -> None:
        """
        Forget what there is of a hello, if there is any.
        """
        gathered = self.gathered.pop(address, None)
        if gathered is not None and gathered.expiring.active():
            gathered.expiring.cancel()

    def stop(self) -> None:
        """
        Forget all.
        """
        for address in list(self.gathered):
            self.forget(address)


def _alike(one: HelloStart, other: HelloStart) -> bool:
    """
    Tell whether two hellos are the same, as far as their first fragments tell.
    """
    return (one.opening, one.cookie) == (other.opening, other.cookie)
