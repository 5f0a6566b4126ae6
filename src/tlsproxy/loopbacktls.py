# -*- test-case-name: tests.test_loopbacktls -*-
"""
TLS by way of loopback: run by a library that only knows a socket, and taken off again.

Such a library reads as much as its socket has, so what follows the end of TLS would be lost in it.  Therefore it gets
a socket of its own, accepted on 127.0.0.1 (L{tlsproxy.stocktls}), and between that and the socket of the peer is a pipe
of records.  From the peer's socket one TLS record is read and not one byte more; it is given to TLS, and the next one
only once TLS has swallowed that, and has not ended.  So what follows the peer's close_notify is still in the kernel,
and whoever reads the peer's socket next, in plain, begins with the right byte.  To the peer all bytes go on as they
come.

Twisted's TLS answers a close_notify at once with its own, and is over then in both directions.  Where TLS is to be
taken off, L{LoopbackTLS.expectEnd} has the peer's next record wait until our own close_notify is sent.  Elsewhere the
peer's close_notify ends both directions, and what is sent after it fails: half-close is nothing for this way.

In place of the kernel's word that a socket is ready there is that of TLS: when it has swallowed, written or ended, the
C{doRead} or C{doWrite} of the End's transport is called.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from OpenSSL import SSL

from tlsproxy.errors import SessionError
from tlsproxy.interfaces import DRAINED, ENDED, FAILED, MORE, RESET, WANTS_WRITE
from tlsproxy.recordpipe import RecordPipe
from tlsproxy.selfconnection import Door, meet
from tlsproxy.stocktls import StockTLS
from tlsproxy.tls.native import RECORD, Buffer, TLSConnection

__all__ = ["LoopbackTLS"]

_MOST: Final = 1 << 17
"""How many bytes of TLS may wait for the peer's socket before the peer is read no more, because TLS answers it."""
_SHORT: Final = 1024
"""A record with less than this many bytes is not one of a long transfer."""


class LoopbackTLS(TLSConnection):
    """
    TLS by way of loopback.  It implements L{tlsproxy.interfaces.Stream}.

    What C{send} and C{drain} have not taken has to come first in the next call, as with OpenSSL: a record of it may be
    on its way.
    """

    __slots__ = (
        "__weakref__",
        "_alert",
        "_awaitsInput",
        "_awaitsOutput",
        "_busy",
        "_door",
        "_expects",
        "_offered",
        "_pipe",
        "_server",
        "_tls",
        "_transport",
    )

    def __init__(self, context: SSL.Context, sock: socket.socket, server: bool) -> None:
        super().__init__(context, None, server)
        self._server = server
        self._alert: tuple[int, bool] | None = None
        self._tls = StockTLS()
        self._pipe = RecordPipe(sock, self._tls)
        self._transport: Any = None
        self._door: Door | None = None
        self._expects = False
        self._offered = 0  # How many bytes of what is to be sent TLS was given.
        self._awaitsInput = self._awaitsOutput = self._busy = False

    # -- its beginning and its end ----------------------------------------------------------------------------------

    def start(self, transport: Any) -> None:
        """
        Have TLS begin.

        @param transport: The transport of the peer's socket, borrowed.
        @raise SessionError: No descriptor is left for it.
        """
        reactor = transport.reactor
        listening, mine = meet()
        self._transport = transport
        self._pipe.start(reactor, mine, self.progress)
        self._door = Door(reactor, listening, mine.getsockname(), self._came)
        self._door.open()

    def _came(self, sock: socket.socket | SessionError) -> None:
        """
        The other end of the pipe is there.
        """
        self._door = None
        if isinstance(sock, SessionError):
            self._tell(FAILED, sock)
            self._pipe.close()
        else:
            self._tls.start(self, self._transport.reactor, sock, self._server)
        self.progress()

    def close(self) -> None:
        """
        Close all but the peer's socket, at any time.
        """
        self._transport = None
        door, self._door = self._door, None
        if door is not None:
            door.close()
        self._tls.close()
        self._pipe.close()

    # -- what TLS needs and tells -----------------------------------------------------------------------------------

    def noteAlert(self) -> tuple[int, bool] | None:
        """
        Note the alert that was just sent or received, if any.
        """
        self._alert = super().alert() or self._alert
        return self._alert

    def alert(self) -> tuple[int, bool] | None:
        """
        Tell the last alert that was sent or received.
        """
        return self._alert

    def progress(self) -> None:
        """
        Something has happened: whoever waits for TLS may try again.
        """
        transport = self._transport
        if transport is None or self._busy:
            return
        if self._awaitsInput:
            self._awaitsInput = False
            transport.startReading()
            transport.doRead()
        if self._awaitsOutput and self._transport is not None:
            self._awaitsOutput = False
            transport.startWriting()
            transport.doWrite()

    def comesElsewhere(self, writing: bool) -> bool:
        """
        Tell whether TLS is waited for, and not the peer's socket.
        """
        return self._awaitsOutput if writing else self._awaitsInput

    def _tell(self, state: int, problem: Exception | None = None) -> None:
        self.state = state
        self.problem = None if problem is None else problem.with_traceback(None)

    # -- from the peer ----------------------------------------------------------------------------------------------

    def handshake(self) -> None:
        """
        Go on with the handshake as far as that is possible.

        @raise SSL.WantReadError: More has to come from the peer, or from TLS.
        @raise SSL.WantWriteError: The peer's socket is full.
        @raise SSL.Error: The handshake failed; L{alert} tells which alert was sent or received.
        @raise SessionError: Somebody else came in by way of loopback.
        """
        while not self._tls.ready and self._advance():
            pass
        if self._tls.ready and self.state < ENDED:
            if not self._pipe.forward():
                raise SSL.WantWriteError()
            if self._pipe.through:
                return
            self._awaitInput()
        raise self._why()

    def _why(self) -> Exception:
        """
        Tell why the handshake does not go on.
        """
        state, problem = self.state, self.problem
        if state == DRAINED:
            return SSL.WantReadError()
        if state == WANTS_WRITE:
            return SSL.WantWriteError()
        if state == RESET:
            return SSL.SysCallError(getattr(problem, "errno", errno.ECONNRESET), "the connection was reset")
        if state == FAILED:
            self.problem = None  # It is about to be given frames, which hold this.
            return problem or SSL.Error([])
        return SSL.ZeroReturnError()

    def _advance(self) -> bool:
        """
        Give TLS the next record.

        @return: Whether that was done; if not, C{state} tells why.
        """
        awaited, self._awaitsInput = self._awaitsInput, False
        tls, pipe = self._tls, self._pipe
        if self._transport is None:
            self.state = max(self.state, RESET)
        if self.state >= ENDED:
            return False
        taken = pipe.forward()
        if tls.verdict == ENDED or (tls.verdict and (not taken or pipe.through)):
            # What the peer does not take right now of an alert it does not get.
            self._tell(tls.verdict, tls.problem)
        elif not taken and (not tls.ready or pipe.backlog > _MOST) and not tls.verdict:
            self.state = WANTS_WRITE
        elif not tls.takes or tls.swallowed != pipe.fed or (self._expects and not self.writeEnded):
            self._awaitInput()
        elif pipe.doubtful:
            # TLS knows best what to say of what is no record, but this it has let pass.
            self._tell(FAILED, SSL.Error([("", "", "invalid record header")]))
        elif record := pipe.take():
            self._feed(record)
            return True
        else:
            self._tell(pipe.state, pipe.problem)
            if awaited and self.state == DRAINED:
                self._transport.startReading()
        return False

    def _awaitInput(self) -> None:
        self.state = DRAINED
        self._awaitsInput = True
        self._transport.stopReading()

    def _feed(self, record: bytes) -> None:
        busy, self._busy = self._busy, True
        try:
            self._pipe.feed(record)
            self._tls.read()  # As a rule it is there by now.
        finally:
            self._busy = busy

    def fill(self, buffer: Buffer) -> int:
        """
        Read what one record holds into the front of a buffer.

        The next one is not touched before whoever reads has seen this one, and could call L{expectEnd}.
        """
        data = self._take(buffer.size, True)
        count = len(data)
        buffer.view[:count] = data
        if 0 < count < _SHORT and not self._tls.clear:
            self.state = DRAINED
        return count

    def read(self, limit: int) -> bytes:
        """
        Read at most one record.

        @param limit: The most bytes to return.
        @return: At least one byte, or none where the stream has stopped; C{state} tells why.
        """
        return self._take(limit, True)

    def peek(self, limit: int) -> bytes:
        """
        As L{read}, but leave the bytes for the next one to read.
        """
        return self._take(limit, False)

    def _take(self, limit: int, away: bool) -> bytes:
        tls = self._tls
        while not tls.clear and self._advance():
            pass
        data = tls.clear[:limit]
        if data:
            self.state = MORE
            if away:
                tls.clear = tls.clear[limit:]
        return data

    def pending(self) -> int:
        """
        Tell how many decrypted bytes wait here, of which the reactor cannot know.
        """
        return len(self._tls.clear)

    def expectEnd(self) -> None:
        """
        TLS is about to be taken off: leave the peer's next record where it is until our own close_notify is sent.
        """
        self._expects = True

    # -- to the peer ------------------------------------------------------------------------------------------------

    def _pass(self) -> bool:
        """
        Pass on all that TLS has written.

        @return: Whether that is done; if not, whoever writes has to come again.
        """
        self._awaitsOutput = False
        if not self._pipe.forward():
            return False
        if not self._pipe.through:
            self._awaitsOutput = True
            self._transport.stopWriting()
            return False
        return True

    def drain(self, buffer: Buffer, count: int) -> int:
        """
        Write the front of a buffer.
        """
        return self.send(buffer.view[:count])

    def send(self, data: bytes | memoryview) -> int:
        """
        Write some bytes: they count as taken once their records are on the peer's socket.
        """
        view, sent, tls = memoryview(data), 0, self._tls
        while self._transport is not None and not self._pipe.broken and not self._ending:
            if self._offered:
                if not self._pass():
                    return sent
                sent += self._offered
                self._offered = 0
            elif tls.finished:
                return -1
            elif sent == len(view):
                return sent
            else:
                piece = view[sent : sent + RECORD]
                self._offered = len(piece)
                tls.write(bytes(piece))
                if not tls.takes:
                    return -1
        return -1

    def endWrite(self) -> bool:
        """
        Send close_notify, once.

        @return: Whether it is on its way.
        """
        if self.writeEnded:
            return True
        tls = self._tls
        if self._transport is not None and not self._pipe.broken and self.state not in (RESET, FAILED):
            if not self._ending:
                self._ending = True
                if not tls.finished:
                    tls.end()
            if not self._pass():
                return False
        self.writeEnded = self._pipe.sealed = True
        if self._awaitsInput and tls.takes and tls.swallowed == self._pipe.fed:
            self._awaitsInput = False
            self._transport.startReading()
        return True
