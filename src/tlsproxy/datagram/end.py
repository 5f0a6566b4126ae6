# -*- test-case-name: tests.datagram.test_end -*-
"""
A L{DatagramEnd} holds one side of a session on UDP, in clear or in DTLS.

It is to patterns what L{tlsproxy.end.End} is: what is called the same does the same.  A datagram is never cut, and two
never become one.  What the path, the kernel or the peer does not take is dropped and counted, as the network would.

A held side keeps what comes, up to a bound, until it is joined.  Its DTLS, if it has any, is alive meanwhile: it opens
what comes, and repeats what was lost.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from tlsproxy.datagram.sending import FULL, TOO_LARGE, UNANSWERED, Sender, Wire
from tlsproxy.errors import AdmissionRefused, DialFailed, PeerEnded, PeerReset
from tlsproxy.interfaces import DRAINED, ENDED
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.tls.explain import explainFailure, explainHandshake
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.dtlshello import DTLSHello
from tlsproxy.wire.hellobody import ClientHello

__all__ = ["SHAKING_MTU", "DatagramEnd"]

SHAKING_MTU: Final = 1200
"""What nearly any path carries, and no handshake takes more for one datagram, in bytes."""
_LOWEST: Final = 548
"""What is left of the 576 bytes that every host takes (RFC 791) beside the headers of IPv4 and UDP."""
_LOCAL: Final = 16384
"""A link that carries more is this machine's own, and all of the path."""
_TRIES: Final = 2
"""After so many repetitions in vain what is sent is made smaller."""

_MOST_KEPT: Final = 64
_MOST_BYTES: Final = 65536
_ALERT: Final = bytes((21, 0xFE, 0xFD, 0, 0))
_FATAL: Final = 2
_MOST_SHAKING: Final = 1 << 18
"""More bytes than any handshake takes, repetitions included: OpenSSL keeps what comes too early."""

_clear: Final = Buffer(65536)
"""What is opened comes here; it holds nothing between two calls."""


class DatagramEnd(Sender):
    """
    One side of a session.

    @ivar reactor: The reactor.
    @ivar spoke: As for L{tlsproxy.end.End}.
    @ivar dtlsHello: The client's hello, where the client speaks DTLS.
    @ivar unproven: Whether nobody has seen to it that the client is where it says.
    @ivar doubted: Whether the peer has sent nothing so far, and has to be there: the network's word is taken for it.
    @ivar through: The routes that lead to it, where it was dialed.
    @ivar take: What is called with each datagram in clear: a buffer that has it in its front, and its length.
    @ivar onEnd: Called once when the association ends by the peer's will, or for want of a peer, with the outcome and
        the reason.
    @ivar state: As for L{tlsproxy.interfaces.Stream}.
    """

    spoke = ""
    unproven = doubted = False
    through: tuple[str, ...] = ()
    take: Callable[[Buffer, int], object]

    def __init__(
        self,
        who: str,
        reactor: Any,
        wire: Wire,
        mtu: int = SHAKING_MTU,
        dtlsHello: DTLSHello | None = None,
    ) -> None:
        """
        @param mtu: The most that a datagram with DTLS may carry, in bytes.  Less is found out, and, from
            L{SHAKING_MTU}, so is more where all of the path is this machine's own.
        """
        super().__init__(who, wire)
        self.dtlsHello = dtlsHello
        self.take = self.keep
        self.onEnd: Callable[[str, str], object] | None = None
        self.reactor = reactor
        self.mtu = mtu
        self._kept: list[bytes] = []
        self._keptBytes = self._shakingBytes = 0
        self._shaking: Deferred[DTLSConnection] | None = None
        self._name = ""
        self._timer: IDelayedCall | None = None
        self._tries = 0

    # -- what comes -------------------------------------------------------------------------------------------------

    def came(self, datagram: Buffer, count: int) -> None:
        """
        A datagram has come.

        @param datagram: What has it in its front.
        @param count: Its length.
        """
        connection = self.tls
        if connection is None:
            self.take(datagram, count)
            return
        if self._shaking is not None:
            self._shakingBytes += count
            if self._shakingBytes > _MOST_SHAKING:
                self.dropped[FULL] += 1
                return
            connection.receive(datagram.view[:count])
            self._shake(connection, self._shaking)
            return
        if not count or connection.state >= ENDED:
            return  # OpenSSL reads nothing more, and would only keep it.
        clear = connection.open(datagram, count, _clear)
        while clear:
            self.take(_clear, clear)
            if not connection.more or self.gone:
                return
            clear = connection.fill(_clear)
        self._looked(connection)

    def _looked(self, connection: DTLSConnection) -> None:
        """
        Nothing more is there to be read: see whether OpenSSL has something to say, and whether the peer has ended.
        """
        self.say(connection)
        if connection.state == ENDED:
            self.over("closed", "")
        elif connection.state > ENDED:
            self.over("failed", explainFailure(connection, self.who))

    def keep(self, datagram: Buffer, count: int) -> None:
        """
        Nobody takes what comes: keep it.
        """
        if len(self._kept) >= _MOST_KEPT or self._keptBytes + count > _MOST_BYTES:
            self.dropped[FULL] += 1
            return
        self._kept.append(bytes(datagram.view[:count]))
        self._keptBytes += count

    def _unkept(self) -> list[bytes]:
        kept, self._kept, self._keptBytes = self._kept, [], 0
        return kept

    def join(self, take: Callable[[Buffer, int], object]) -> None:
        """
        Have something take what comes, and first what has come already.
        """
        for datagram in self._unkept():
            _clear.view[: len(datagram)] = datagram
            take(_clear, len(datagram))
            if self.gone:
                return
        self.take = take
        self.wire.watch()
        if self.tls is not None and self.tls.state >= ENDED:
            self._looked(self.tls)

    def unreachable(self, code: int) -> None:
        """
        The network tells that what was sent has not arrived (RFC 1122, section 4.1.3.3).  Anybody can say so; before
        the handshake is done it is believed, as nothing else would tell.  That something was too large for the path
        (RFC 1191, section 4) says the contrary: somebody is there, and what is repeated is made smaller.

        @param code: The C{errno}.
        """
        if code == errno.EMSGSIZE:
            self._narrow(self.wire.pathMTU())
            if self._shaking is None:
                self.dropped[TOO_LARGE] += 1
            return
        why = "nobody listens there" if code == errno.ECONNREFUSED else "there is no way to it"
        problem = DialFailed(f"{self.who} does not take datagrams: {why}")
        if self._shaking is not None:
            self._fail(problem)
        elif self.doubted:
            self.over(problem.outcome, str(problem))
        else:
            self.dropped[UNANSWERED] += 1

    def over(self, outcome: str, reason: str) -> None:
        """
        The association has ended, and not by our will.
        """
        told, self.onEnd = self.onEnd, None
        if told is not None:
            told(outcome, reason)

    def replaced(self, why: str = "began anew from the same address") -> None:
        """
        Another association has its place, as nobody has the keys of this one any more.
        """
        reason = f"{self.who} {why}"
        self._fail(PeerEnded(reason))
        told = self.onEnd
        self._leave()
        if told is not None:
            told("closed", reason)

    # -- what is sent -----------------------------------------------------------------------------------------------

    @property
    def writing(self) -> DatagramEnd:
        """
        What is written to.
        """
        return self

    @property
    def state(self) -> int:
        """
        How far it has come.
        """
        return DRAINED if self.tls is None else self.tls.state

    def refuse(self, alert: int) -> None:
        """
        Refuse a client before its handshake has begun.

        @param alert: Why (RFC 5246, section 7.2).
        """
        if self.dtlsHello is not None and not self.gone:
            number = self.dtlsHello.recordSequence.to_bytes(6, "big")
            self.transmit(_ALERT + number + bytes((0, 2, _FATAL, alert)))

    # -- set-up -----------------------------------------------------------------------------------------------------

    async def peekHello(self) -> ClientHello:
        """
        Tell the client's hello.

        @raise AdmissionRefused: It has none.
        """
        if self.dtlsHello is None:
            raise AdmissionRefused(f"{self.who} has sent no DTLS hello")
        return self.dtlsHello.hello

    async def startTLS(
        self, tls: ServerTLS | ClientTLS, alpn: Sequence[bytes] | None = None, serverName: str | None = None
    ) -> DTLSConnection:
        """
        Start DTLS.

        @param tls: The role to play, and what is wanted.
        @param alpn: As for L{tlsproxy.end.End.startTLS}.
        @param serverName: The same.
        @raise AdmissionRefused: C{tls} refuses that server name, and the client has not been told.
        @raise HandshakeFailed: With a sentence on why.
        @raise DialFailed: Nobody is there.
        @raise PeerEnded: The peer ended the association in the middle of it.
        """
        if self.gone:
            raise PeerReset(f"{self.who} is gone")
        mtu = min(self.mtu, SHAKING_MTU)
        if isinstance(tls, ServerTLS):
            self.tls = connection = tls.begin(DTLSConnection, mtu, serverName, alpn)
        else:
            self.tls = connection = tls.begin(DTLSConnection, mtu, alpn)
            self._name = tls.name
        shaking: Deferred[DTLSConnection] = Deferred(self._cancelled)
        self._shaking = shaking
        early = self._unkept()
        self.wire.watch()
        if isinstance(tls, ClientTLS):
            self._shake(connection, shaking)
        for datagram in early:
            if self._shaking is not None:
                connection.receive(datagram)
                self._shake(connection, self._shaking)
        return await shaking

    def _shake(self, connection: DTLSConnection, shaking: Deferred[DTLSConnection]) -> None:
        """
        Go on with the handshake.
        """
        try:
            connection.handshake()
        except SSL.WantReadError:
            pass
        except Exception as e:
            problem = explainHandshake(connection, e, self.who, self._name)
            self.say(connection)
            self._fail(problem)
            return
        else:
            self._shaken(connection, shaking)
            return
        self.say(connection)
        if self._timer is None and self._shaking is not None:
            self._schedule(connection)

    def _shaken(self, connection: DTLSConnection, shaking: Deferred[DTLSConnection]) -> None:
        """
        The handshake is done.
        """
        self.say(connection)
        if self._shaking is None:
            return  # The network has just told that nobody is there.
        self._rested()
        known = self.wire.pathMTU() if self.mtu == SHAKING_MTU else 0
        connection.setMTU(known if known > _LOCAL else self.mtu)
        self.wire.settled(self)
        # OpenSSL keeps the room for a record from a read in vain on, so there is none unless something may be there.
        while connection.more and (clear := connection.fill(_clear)):
            self.take(_clear, clear)
        shaking.callback(connection)

    def _schedule(self, connection: DTLSConnection) -> None:
        """
        See that what is not answered is repeated.
        """
        left = connection.timeout()
        if left is not None:
            self._timer = self.reactor.callLater(left, self._late)

    def _late(self) -> None:
        """
        Something may have to be repeated.
        """
        self._timer = None
        connection, shaking = self.tls, self._shaking
        if connection is None or shaking is None:
            return
        if not connection.timeout():
            self._tries += 1
            if self._tries == _TRIES and connection.mtu > _LOWEST:
                self.narrow(connection, _LOWEST)
            connection.handleTimeout()
            self._shake(connection, shaking)
        else:
            self._schedule(connection)

    def _fail(self, problem: Exception) -> None:
        shaking = self._shaking
        self._rested()
        if shaking is not None:
            shaking.errback(problem)

    def _cancelled(self, _: object) -> None:
        self._rested()

    def _rested(self) -> None:
        """
        The handshake is over, in whatever way.
        """
        self._shaking = None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # -- the end ----------------------------------------------------------------------------------------------------

    def finish(self, reset: bool = False) -> None:
        """
        Let it go, with a close_notify where there is DTLS.

        @param reset: It makes no difference to datagrams.
        """
        if not self.gone:
            self.endWrite()
            self._leave()

    def _leave(self) -> None:
        if self.gone:
            return
        self.gone = True
        self.take = _ignore
        self.onEnd = None
        waiting = self._shaking
        self._rested()
        self._unkept()
        self.wire.close(self)
        if waiting is not None:
            waiting.errback(PeerEnded("the session is over"))

    linger = finish
    """An alert is on its way as soon as it is sent."""

    def overFor(self, reason: str) -> None:
        """
        Its session is over, for some reason.
        """


def _ignore(datagram: Buffer, count: int) -> None:
    """
    Take what comes after the end.
    """
