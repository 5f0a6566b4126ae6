# -*- test-case-name: tests.test_end -*-
"""
An L{End} holds one side of a session while it is set up: peeks, reads, writes, and puts TLS on and takes it off.

Nothing is read ahead.  A plain End takes from the kernel exactly what is used, and OpenSSL on a socket stops at the
end of a record.  So at any moment the next byte belongs to whoever comes next: TLS, plain, or a relay.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar
from weakref import ref

from OpenSSL import SSL

from tlsproxy.borrowed import Borrowed
from tlsproxy.errors import PeerEnded, PeerReset, SessionError
from tlsproxy.interfaces import DRAINED, ENDED, FAILED, TRUNCATED, WANTS_WRITE, Stream
from tlsproxy.loopbacktls import LoopbackTLS
from tlsproxy.plain import PlainStream
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.explain import explainFailure, explainHandshake
from tlsproxy.tls.native import Buffer, TLSConnection, TLSStream
from tlsproxy.wire.clienthello import ClientHello, ClientHelloReader
from tlsproxy.wire.proxyheader import ProxyHeader, ProxyHeaderReader

__all__ = ["End"]

T = TypeVar("T")
M = TypeVar("M", covariant=True)
_TLS = LoopbackTLS | TLSStream

_POLL: Final = 0.05
_peeked = Buffer(65536)
"""Where hellos are peeked into; it holds nothing between two calls."""


class _Reader(Protocol[M]):
    """
    What finds one message in the first bytes of a connection, or of what is left of it.
    """

    need: int

    def read(self, data: bytes | memoryview) -> M | None:
        """
        Look for it in all that came so far.
        """


def _seenBehind(sock: socket.socket) -> int:
    """
    Tell what lies behind the unread bytes: C{POLLRDHUP} for an end of the stream, C{POLLERR} for a reset.
    """
    poll = select.poll()
    poll.register(sock, getattr(select, "POLLRDHUP", 0))
    return next((events for _, events in poll.poll(0)), 0)


class End(Borrowed):
    """
    One side of a session.

    @ivar reading: How its bytes are read now.
    @ivar writing: How they are written: the same stream, but for a side whose TLS has ended in one direction only.
    @ivar goesOn: Asked when a joined side's TLS has ended by close_notify, whether the side goes on in plain.
    @ivar takeOff: How TLS is run, so that it can be taken off again: C{"socket"}, straight on the socket, or
        C{"loopback"}, see L{tlsproxy.loopbacktls}.  It holds for the next L{startTLS}.
    @ivar spoke: What TLS it has had that is to be told of after it is off; C{""} for none.
    @ivar unproven: As for L{tlsproxy.datagram.end.DatagramEnd}: who has connected gets what is sent to it.
    """

    reading: Stream
    writing: Stream
    goesOn: Callable[[], bool] | None = None
    spoke: str = ""
    unproven = False
    takeOff: str = "socket"
    _looped: Callable[[], LoopbackTLS | None] | None = None  # Once its sockets are closed, nothing need hold it.

    def __init__(self, who: str) -> None:
        super().__init__(who)
        self._onMade: Callable[[End], object] | None = None

    def whenMade(self, callback: Callable[[End], object]) -> End:
        """
        Have something called once the connection is made.
        """
        self._onMade = callback
        return self

    def connectionMade(self) -> None:
        """
        The transport is borrowed.
        """
        self.stream = PlainStream(self.socket)
        if self._onMade is not None:
            made, self._onMade = self._onMade, None
            made(self)

    def endedAs(self, state: int) -> int:
        """
        Tell how the stream that is read has really ended; it may go on in plain.
        """
        if state == ENDED and self.goesOn is not None and type(self.reading) is not PlainStream and self.goesOn():
            self.reading = PlainStream(self.socket)
            return DRAINED
        return super().endedAs(state)

    def overFor(self, reason: str) -> None:
        """
        Its session is over, for some reason.  A peer elsewhere hears nothing of that.
        """

    def refuse(self, alert: int) -> None:
        """
        Refuse the peer before its handshake has begun.

        @param alert: Why (RFC 8446, section 6).
        """
        self.writing.send(bytes((21, 3, 3, 0, 2, 2, alert)))

    async def peekHello(self) -> ClientHello:
        """
        Wait for the whole ClientHello and leave it where it is.

        @raise tlsproxy.wire.clienthello.HelloError: What comes is no ClientHello, or a doubtful one.
        @raise PeerEnded: The peer ended the stream first.
        @raise PeerReset: The peer reset the connection.
        """
        return await self._peekWhole(ClientHelloReader(), "hello")

    async def readProxyHeader(self) -> ProxyHeader:
        """
        Wait for a whole PROXY header and take it, and not one byte of what follows.

        @raise tlsproxy.wire.proxyheader.ProxyHeaderError: What comes is no such header, or a doubtful one.
        @raise PeerEnded: The peer ended the stream first.
        @raise PeerReset: The peer reset the connection.
        """
        header = await self._peekWhole(ProxyHeaderReader(), "PROXY header")
        left = header.length
        while left:
            taken = len(await self.read(left))  # It has been seen, so this waits for nothing.
            if not taken:
                raise PeerReset(f"{self.who} reset the connection behind its PROXY header")
            left -= taken
        return header

    async def _peekWhole(self, reader: _Reader[T], what: str) -> T:
        """
        Wait for a whole message and leave it where it is.

        @param what: What it is called in messages.
        """
        sock = self.socket
        seen = -1
        mark = 1

        def step() -> T | None:
            nonlocal seen, mark
            try:
                count = sock.recv_into(_peeked.view, 0, socket.MSG_PEEK)
            except BlockingIOError:
                raise SSL.WantReadError() from None
            except OSError:
                raise PeerReset(f"{self.who} reset the connection before its {what}") from None
            if count == seen:
                # SO_RCVLOWAT holds the reactor back until there is more, so as a rule this is the end of the stream.
                # But a Unix socket ignores it, and the kernel overrides it when memory is short.
                # As long as there are bytes to peek at, the kernel speaks of no reset.
                behind = _seenBehind(sock)
                if behind & select.POLLERR:
                    raise PeerReset(f"{self.who} reset the connection in the middle of its {what}")
                if behind:
                    raise PeerEnded(f"{self.who} ended the stream in the middle of its {what}")
                return None
            if count == 0:
                raise PeerEnded(f"{self.who} connected and ended the stream without a word")
            seen = count
            message = reader.read(_peeked.view[:count])
            if message is not None:
                return message
            if sock.family == socket.AF_UNIX:
                return None
            mark = reader.need
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
            raise SSL.WantReadError()

        try:
            while True:
                message = await self.until(step)
                if message is not None:
                    return message
                await self.sleep(_POLL)
        finally:
            if mark != 1 and not self.gone:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    async def startTLS(
        self, tls: ServerTLS | ClientTLS, alpn: Sequence[bytes] | None = None, serverName: str | None = None
    ) -> _TLS:
        """
        Upgrade this side to TLS.

        @param tls: The role to play, and what is wanted.
        @param alpn: The application protocols to offer as a client, or to choose from as a server that mirrors the
            upstream's choice; L{None} for those of C{tls}.
        @param serverName: As a server, the server name of the hello, if it has one: it chooses the certificate.
        @raise AdmissionRefused: C{tls} refuses that server name, and the client has not been told.
        @raise HandshakeFailed: With a sentence on why.
        @raise PeerEnded: The peer ended the stream in the middle of it.
        @raise PeerReset: The peer reset the connection.
        @raise SessionError: TLS is to be run by way of loopback, and that cannot be had.
        """
        kind: Callable[[SSL.Context, socket.socket, bool], _TLS] = TLSStream
        if self.takeOff == "loopback":
            kind = LoopbackTLS
        if isinstance(tls, ServerTLS):
            stream, name = tls.begin(kind, self.socket, serverName, alpn), ""
        else:
            stream, name = tls.begin(kind, self.socket, alpn), tls.name
        if isinstance(stream, LoopbackTLS):
            self._looped = ref(stream)
            stream.start(self.transport)

        def step() -> None:
            try:
                stream.handshake()
            except (SSL.WantReadError, SSL.WantWriteError):
                raise
            except Exception as e:
                raise explainHandshake(stream, e, self.who, name) from e

        self.stream = stream
        try:
            await self.until(step)
        except BaseException:
            self.released()
            raise
        return stream

    def released(self) -> None:
        """
        Nobody's TLS has a say any more: close what it has on 127.0.0.1.
        """
        looped = self._loopback()
        if looped is not None:
            looped.close()

    def comesElsewhere(self, writing: bool) -> bool:
        """
        Tell whether a step waits for TLS, and not for this socket.
        """
        stream = self.writing if writing else self.reading
        return isinstance(stream, LoopbackTLS) and stream.comesElsewhere(writing)

    def expectTLSEnd(self) -> None:
        """
        TLS is about to end in both directions: where it cannot bear that the peer is first, have it wait for us.
        """
        looped = self._loopback()
        if looped is not None:
            looped.expectEnd()

    def _loopback(self) -> LoopbackTLS | None:
        return self._looped() if self._looped is not None else None

    @property
    def stream(self) -> Stream:
        """
        How its bytes are read now; set, it holds for both directions.
        """
        return self.reading

    @stream.setter
    def stream(self, stream: Stream) -> None:
        self.reading = self.writing = stream

    @property
    def tls(self) -> _TLS | None:
        """
        The TLS of this side, if it has any now, in whichever direction.
        """
        for stream in (self.reading, self.writing):
            if isinstance(stream, _TLS):
                return stream
        return None

    def _stopped(self) -> None:
        """
        Tell by an exception what a stream's state means to set-up, unless it ended as it should.

        No local name holds the exception: whoever handles it should be able to forget it without a cycle being left.
        """
        state = self.reading.state
        if state == DRAINED:
            raise SSL.WantReadError()
        if state == WANTS_WRITE:
            raise SSL.WantWriteError()
        state = self.endedAs(state)
        if state == ENDED:
            return
        if state == TRUNCATED:
            raise PeerEnded(f"{self.who} ended the stream without ending TLS")
        if state == FAILED and isinstance(self.reading, TLSConnection):
            raise SessionError(explainFailure(self.reading, self.who))
        raise PeerReset(f"{self.who} reset the connection")

    async def read(self, limit: int) -> bytes:
        """
        Read what is there, or wait for it.

        @param limit: The most bytes to take; what is beyond stays for whoever comes next.
        @return: At least one byte, or none at the end of the stream.
        @raise SessionError: The stream was truncated, reset, or failed.
        """
        return await self.until(lambda: self._got(self.reading.read(limit)))

    async def peek(self, limit: int) -> bytes:
        """
        As L{read}, but leave the bytes where they are, for whoever comes next.

        What has been peeked may be less than what is there: of TLS, it is at most what is left of one record.
        """
        return await self.until(lambda: self._got(self.reading.peek(limit)))

    def _got(self, data: bytes) -> bytes:
        if not data:
            self._stopped()
        return data

    async def write(self, data: bytes) -> None:
        """
        Write all of some bytes.

        @raise PeerReset: The connection is broken.
        """
        left = memoryview(data)

        def step() -> None:
            nonlocal left
            sent = self.writing.send(left)
            if sent < 0:
                raise PeerReset(f"{self.who} does not take what is sent")
            left = left[sent:]
            if left:
                raise SSL.WantWriteError()

        if data:
            await self.until(step)

    async def endTLSWrite(self) -> None:
        """
        Flush and send close_notify: TLS ends toward the peer, and what is written next is plain.
        """

        def step() -> None:
            if not self.writing.endWrite():
                raise SSL.WantWriteError()

        await self.until(step)
        self.writing = PlainStream(self.socket)

    async def readToTLSEnd(self, most: int | None = None) -> bytes:
        """
        Take what the peer still sends inside TLS, up to its close_notify: what is read next is plain.

        @param most: The most bytes that there may be; where it is L{None}, memory is the caller's to bound: it decides
            when to stop waiting.
        @raise SessionError: The stream ended without close_notify, was reset, or failed; or there is more.
        """
        parts: list[bytes] = []
        count = 0
        while data := await self.read(16384):
            parts.append(data)
            count += len(data)
            if most is not None and count > most:
                raise SessionError(f"{self.who} sent more before the end of its TLS than it may")
        self.reading = PlainStream(self.socket)
        return b"".join(parts)

    async def stopTLS(self, most: int | None = None) -> bytes:
        """
        End TLS in both directions and go on in plain on the same socket, exactly at the boundary.

        Its deadline is that of the phase in which it is called.

        @param most: As for L{readToTLSEnd}.
        @return: What the peer still sent inside TLS.
        @raise SessionError: As L{readToTLSEnd}.
        """
        await self.endTLSWrite()
        return await self.readToTLSEnd(most)
