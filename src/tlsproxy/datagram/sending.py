# -*- test-case-name: tests.datagram.test_sending -*-
"""
What is sent on one side of a session on UDP, in clear or in DTLS.

Each datagram is sent at once, or dropped and counted, as the network would.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.tls.explain import explainFailure
from tlsproxy.tls.native import Buffer

__all__ = ["EMPTY", "FULL", "TOO_LARGE", "UNANSWERED", "Sender", "Wire"]

_log = Logger()

FULL: Final = "full"
"""The kernel has no room for a datagram, or too many wait here."""
TOO_LARGE: Final = "too large"
"""A datagram is more than the path carries."""
UNANSWERED: Final = "unanswered"
"""Nobody is there to take a datagram, says the network."""
EMPTY: Final = "empty"
"""A datagram without a byte, which DTLS cannot carry."""

_BUSY: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})

_clear: Final = Buffer(65536)
_sealed: Final = Buffer(1 << 17)
"""What is to be sent comes here, in clear and as DTLS; they hold nothing between two calls."""


class Wire(Protocol):
    """
    How one side's datagrams come and go.
    """

    @property
    def send(self) -> Callable[[memoryview | bytes], object]:
        """
        What sends one: what it raises is an C{OSError}.
        """

    def peer(self) -> IAddress:
        """
        The address of the other end.
        """

    def host(self) -> IAddress:
        """
        Our own address.
        """

    def pathMTU(self) -> int:
        """
        The most that a datagram to there may carry as far as the kernel knows, in bytes; 0 where it does not.
        """

    def watch(self) -> None:
        """
        Look for what comes from now on.
        """

    def settled(self, end: Any) -> None:
        """
        The peer has done its handshake.
        """

    def close(self, end: Any) -> None:
        """
        Neither look for what comes any more, nor send.
        """


class Sender:
    """
    Sends datagrams to one peer.

    @ivar who: What the peer is called in messages: C{"the client"} or C{"the upstream"}.
    @ivar gone: Whether it is over.
    @ivar tls: The DTLS of this side, if it has any.
    @ivar wire: How datagrams come and go.
    @ivar mtu: The most that a datagram with DTLS may carry, in bytes.
    @ivar dropped: How many datagrams to this side, or from it, were dropped, by reason.
    """

    mtu: int

    def __init__(self, who: str, wire: Wire) -> None:
        self.who = who
        self.gone = False
        self.tls: DTLSConnection | None = None
        self.wire = wire
        self.dropped: Counter[str] = Counter()
        self._transmit = wire.send
        self._told = False

    def emit(self, clear: Buffer, count: int) -> bool:
        """
        Send one datagram.

        @param clear: What has it in its front.
        @param count: Its length.
        @return: Whether it is on its way; if not, it is dropped, and counted.
        """
        connection = self.tls
        if connection is None:
            view = clear.view[:count]
        elif 0 < count <= connection.largest:
            made = connection.seal(clear, count, _sealed)
            if made < 0:
                self.over("failed", explainFailure(connection, self.who))
                return False
            view = _sealed.view[:made]
        else:
            return self._drop(TOO_LARGE if count else EMPTY, count)
        try:
            self._transmit(view)
        except OSError as e:
            reason = self._unsent(e, view)
            return not reason or self._drop(reason, count)
        return True

    def send(self, data: bytes) -> int:
        """
        Send one datagram, as a stream takes bytes.

        @return: How many bytes are on their way.
        """
        if len(data) > _clear.size:
            self._drop(TOO_LARGE, len(data))
            return 0
        _clear.view[: len(data)] = data
        return len(data) if self.emit(_clear, len(data)) else 0

    async def write(self, data: bytes) -> None:
        """
        Send one datagram.
        """
        self.send(data)

    def say(self, connection: DTLSConnection) -> None:
        """
        Send what OpenSSL has to say.  What is not sent is repeated, if need be.
        """
        for datagram in connection.output():
            self.transmit(datagram)

    def transmit(self, datagram: bytes) -> None:
        """
        Send a datagram that is none of the session's own.
        """
        try:
            self._transmit(datagram)
        except OSError as e:
            self._unsent(e, datagram)

    def _unsent(self, problem: OSError, datagram: bytes | memoryview, again: bool = True) -> str:
        """
        The kernel does not take a datagram.

        @return: Why it is not sent; C{""} where it is, after all.
        """
        code = problem.errno or 0
        if code == errno.EMSGSIZE:
            carries = self.wire.pathMTU()
            self._narrow(carries)
            if not again or len(datagram) > carries:
                return TOO_LARGE
            # It was about an earlier one, and this one has not been sent.
            return self._sentAgain(datagram)
        if code in _BUSY:
            return FULL
        if not again:
            return UNANSWERED
        self.unreachable(code)
        if self.gone:
            return UNANSWERED
        # The same.
        return self._sentAgain(datagram)

    def _sentAgain(self, datagram: bytes | memoryview) -> str:
        """
        Send what was kept from being sent by what the network had to tell.

        @return: As L{_unsent}.
        """
        try:
            self._transmit(datagram)
        except OSError as e:
            return self._unsent(e, datagram, again=False)
        return ""

    def _drop(self, reason: str, count: int) -> bool:
        self.dropped[reason] += 1
        if reason == TOO_LARGE and not self._told:
            self._told = True
            _log.info(
                "a datagram of {count} bytes to {who} is dropped, since the path carries {largest}, and so are all as "
                "large that follow",
                count=count,
                who=self.who,
                largest=self.tls.largest if self.tls is not None else self.wire.pathMTU() or "less",
            )
        return False

    def _narrow(self, mtu: int) -> None:
        """
        The path carries less than was thought.

        @param mtu: How much, in bytes; 0 where nobody knows.
        """
        if self.tls is not None and 0 < mtu < self.tls.mtu:
            self.narrow(self.tls, mtu)

    def narrow(self, connection: DTLSConnection, mtu: int) -> None:
        """
        Have datagrams be no larger from now on.
        """
        self.mtu = mtu
        connection.setMTU(mtu)

    def endWrite(self) -> bool:
        """
        Send close_notify, if there is DTLS.
        """
        connection = self.tls
        if connection is not None and connection.largest and not connection.writeEnded:
            connection.endWrite()
            self.say(connection)
        return True

    def unreachable(self, code: int) -> None:
        """
        The network tells that what was sent has not arrived.

        @param code: The C{errno}.
        """
        raise NotImplementedError

    def over(self, outcome: str, reason: str) -> None:
        """
        The association has ended, and not by our will.
        """
        raise NotImplementedError

    def peer(self) -> IAddress:
        """
        The address of the other end.
        """
        return self.wire.peer()

    def host(self) -> IAddress:
        """
        Our own address.
        """
        return self.wire.host()
