# -*- test-case-name: tests.datagram.test_port -*-
"""
A UDP socket with very many associations, one for each address that something comes from.

Cookies before state
====================

Where clients speak DTLS, the first hello of each is answered with a cookie, and not one bit of it is kept (RFC 6347,
section 4.2.1).  Only a hello that brings its cookie back, and so comes from where it says, makes an association.  See
L{tlsproxy.datagram.hellos}.

A client may begin anew, after a crash, from an address that has an association (section 4.2.8).  Its new association
stands beside the old one until its handshake is done, so that nobody can end an association without the keys of it.
The two are told apart by their records: what is in clear, and the handshake, belongs to the new one.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableDescriptor,
    IListeningPort,
    IReadDescriptor,
)
from twisted.logger import Logger
from zope.interface import implementer

from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.hellos import Hellos
from tlsproxy.datagram.passing import GARBAGE, Passing
from tlsproxy.datagram.path import Address, addressOf, dontFragment
from tlsproxy.datagram.sending import FULL
from tlsproxy.datagram.sharing import Network, Shared, Terms
from tlsproxy.datagram.source import ROOM, Ancillary, asksForSource, sourceOf
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.cookies import Cookies
from tlsproxy.wire.dtls import ALERT, APPLICATION_DATA, HANDSHAKE
from tlsproxy.wire.dtlshello import DTLSHello

__all__ = ["BATCH", "FULL", "GARBAGE", "HALF_OPEN", "DatagramPort"]

_log = Logger()

BATCH: Final = 64
"""How many datagrams are taken in one turn of the reactor at most."""

HALF_OPEN: Final = "half-open"
"""There are as many handshakes under way as there may be."""

_CLIENT_HELLO: Final = 1
_MESSAGE: Final = 13  # where the type of a handshake message stands
_received: Final = Buffer(65536)
"""What comes is read into it; it holds nothing between two calls."""


@implementer(IHalfCloseableDescriptor, IListeningPort, IReadDescriptor)
class DatagramPort:
    """
    Listens on a UDP socket.

    @ivar socket: It.
    @ivar terms: What holds for its associations; it may be set anew.
    @ivar ends: The associations, by the addresses of their peers.
    @ivar pending: Those whose handshake is under way where there is another already.
    @ivar halfOpen: Those whose peers have not done their handshakes, the oldest first, and their networks.
    @ivar reactor: The reactor.
    @ivar accept: Called with each new association.
    @ivar listening: Whether it takes new ones.
    @ivar dropped: How many datagrams were dropped that belong to no association, by reason.
    @ivar asked: How many cookies were handed out.
    """

    def __init__(
        self,
        reactor: Any,
        sock: socket.socket,
        accept: Callable[[DatagramEnd], object],
        cookies: Cookies,
        terms: Terms,
    ) -> None:
        """
        @param sock: It is bound, and does not block.
        @param accept: Called with each new association.
        @param cookies: What proves that clients are where they say.
        @param terms: What holds for associations.
        """
        self.socket = sock
        self.ends: dict[Address, DatagramEnd] = {}
        self.pending: dict[Address, DatagramEnd] = {}
        self.dropped: Counter[str] = Counter()
        self.asked = 0
        self.reactor = reactor
        self.accept = accept
        self.terms = terms
        self.halfOpen: dict[DatagramEnd, Network] = {}
        self._local: Address = sock.getsockname()
        self.listening = False
        self._reading = False
        self._closing: IDelayedCall | None = None
        self._told: Ancillary = ()
        self._receive = self._receiveTold if asksForSource(sock) else sock.recvfrom_into
        self._passing = Passing(self, _received)
        self._hellos = Hellos(self, cookies, self._local, _received)
        dontFragment(sock)

    # -- IListeningPort ---------------------------------------------------------------------------------------------

    def startListening(self) -> None:
        """
        Look for what comes.  A port that was stopped, and is not closed yet, begins again.
        """
        self.listening = True
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.cancel()
        if not self._reading:
            self._reading = True
            self.reactor.addReader(self)

    def stopListening(self) -> None:
        """
        Take no new association.  The socket is closed with the last of them.
        """
        self.listening = False
        self._maybeClose()

    def getHost(self) -> IAddress:
        """
        Tell where it listens.
        """
        return addressOf(self._local)

    def _maybeClose(self) -> None:
        if self.listening or self.ends or self.pending or not self._reading:
            return
        self._reading = False
        self._hellos.stop()
        self.reactor.removeReader(self)
        # In a later turn: the reactor may hold an event for this descriptor.
        self._closing = self.reactor.callLater(0, self._close)

    def _close(self) -> None:
        self._closing = None
        self.socket.close()

    @property
    def closed(self) -> bool:
        """
        Whether its socket is closed.
        """
        return self.socket.fileno() < 0

    def end(self) -> int:
        """
        Stop, end all associations, and close the socket at once, so that another may have the address.

        @return: How many associations that were.
        """
        self.listening = False
        left = [*self.pending.values(), *self.ends.values()]
        for one in left:
            one.over("closed", "another route has to have the port")
            one.finish()
        self._maybeClose()
        if self._closing is not None:
            self._closing.cancel()
            self._close()
        return len(left)

    # -- IReadDescriptor --------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """
        Tell the descriptor.
        """
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """
        Tell what Twisted's own log calls it.
        """
        return f"UDP port {self._local[1]}"

    def connectionLost(self, reason: object) -> None:
        """
        The reactor is stopping, or has found the descriptor dead.
        """
        self._reading = self.listening = False
        self._hellos.stop()
        self.reactor.removeReader(self)
        self.socket.close()

    def readConnectionLost(self, reason: object) -> None:
        """
        The kernel has something to tell, and no datagram: reactors that poll take that for an end.
        """
        if self._reading:
            self.reactor.addReader(self)
            self.doRead()

    def writeConnectionLost(self, reason: object) -> None:
        """
        There is no such thing.
        """

    def doRead(self) -> None:
        """
        Something has come.
        """
        receive, view, ends, dtls = self._receive, _received.view, self.ends, self.terms.dtls
        passing = self._passing if self.terms.hellos else None
        for _ in range(BATCH):
            try:
                count, address = receive(view)
            except BlockingIOError:
                return
            except OSError:
                continue  # It is about something that was sent to somebody.
            end = ends.get(address)
            try:
                if passing is not None:
                    passing.came(end, count, address)
                elif end is None:
                    self._stranger(count, address)
                elif dtls and view[0] == HANDSHAKE and not (view[3] or view[4]):
                    self._inClear(end, count, address)
                elif self.pending and address in self.pending and view[0] != APPLICATION_DATA:
                    self._forPending(end, count, address)
                else:
                    end.came(_received, count)
            except Exception:
                # It would take the port from all the others.
                _log.failure("an association met a bug of ours; the others go on")
                broken = end or ends.get(address)
                if broken is not None:
                    broken.finish()

    def _receiveTold(self, view: memoryview) -> tuple[int, Address]:
        """
        Receive a datagram, and note where it was sent to.
        """
        count, self._told, _, address = self.socket.recvmsg_into((view,), ROOM)
        return count, address

    # -- who comes --------------------------------------------------------------------------------------------------

    def _stranger(self, count: int, address: Address) -> None:
        """
        Something has come from where there is no association.
        """
        if not self.listening:
            return
        hello = None
        if self.terms.dtls:
            read = self._hellos.read(count, address)
            if read is None:
                return
            hello, count = read
        if len(self.ends) >= self.terms.most:
            self.dropped[FULL] += 1
            return
        if hello is not None and not self.hasRoom(address):
            return
        self._begin(self.ends, count, address, hello)

    def hasRoom(self, address: Address, current: DatagramEnd | None = None) -> bool:
        """
        Tell whether one more handshake may be under way.  Where there are too many, a network that has at least two
        more of them than the newcomer's loses its oldest, so that nobody can keep all others out.

        @param current: One that would be over then.
        """
        halfOpen, gathered = self.halfOpen, self._hellos.gathered
        if len(halfOpen) + len(gathered) - (current in halfOpen) < self.terms.halfOpen:
            return True
        counts = Counter([*halfOpen.values(), *[hello.network for hello in gathered.values()]])
        most, count = counts.most_common(1)[0] if counts else ((0, 0), 0)
        if count < counts[self.terms.network(address)] + 2:
            self.dropped[HALF_OPEN] += 1
            return False
        if not self._hellos.giveUp(most):
            oldest = next(end for end, network in halfOpen.items() if network == most)
            oldest.replaced("has not done its handshake, and gave way to others")
        return True

    def _begin(self, where: dict[Address, DatagramEnd], count: int, address: Address, hello: DTLSHello | None) -> None:
        end = DatagramEnd("the client", self.reactor, self.wire(address), self.terms.mtu, hello)
        where[address] = end
        if hello is not None:
            self.halfOpen[end] = self.terms.network(address)
        end.came(_received, count)
        self.accept(end)

    def wire(self, address: Address) -> Shared:
        """
        Make what a new association uses.
        """
        return Shared(self, address, sourceOf(self._told))

    def _inClear(self, end: DatagramEnd, count: int, address: Address) -> None:
        """
        Part of a handshake has come from where there is an association: it may be for that, or for a new one.
        """
        pending = self.pending.get(address)
        current = pending or end
        if count <= _MESSAGE or _received.view[_MESSAGE] != _CLIENT_HELLO:
            current.came(_received, count)
            return
        known = current.dtlsHello
        read = self._hellos.read(count, address, known)
        if read is None:
            return
        hello, count = read
        if known is not None and known.parameters == hello.parameters:
            if current in self.halfOpen:
                current.came(_received, count)  # It is repeated.
            return
        if not self.listening or not self.hasRoom(address, current):
            return
        if pending is None and end not in self.halfOpen:
            self._begin(self.pending, count, address, hello)
            return
        # What was under way is not heard of any more.
        where = self.ends if pending is None else self.pending
        current.replaced()
        self._begin(where, count, address, hello)

    def _forPending(self, end: DatagramEnd, count: int, address: Address) -> None:
        """
        What has come is no application data, and there are two associations.
        """
        view = _received.view
        protected = view[3] or view[4]
        chosen = end if view[0] == ALERT and protected else self.pending[address]
        chosen.came(_received, count)

    def settled(self, address: Address, end: DatagramEnd) -> None:
        """
        The handshake of an association is done.
        """
        self.halfOpen.pop(end, None)
        if self.pending.get(address) is end:
            del self.pending[address]
            old, self.ends[address] = self.ends.get(address), end
            if old is not None:
                old.replaced()

    def forget(self, address: Address, end: DatagramEnd) -> None:
        """
        An association is over.
        """
        self.halfOpen.pop(end, None)
        for where in (self.ends, self.pending):
            if where.get(address) is end:
                del where[address]
        pending = self.pending.pop(address, None) if address not in self.ends else None
        if pending is not None:
            self.ends[address] = pending
        self._maybeClose()
