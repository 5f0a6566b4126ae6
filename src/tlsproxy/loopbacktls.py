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
from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet import tcp
from twisted.python.failure import Failure

from tlsproxy.borrowed import Borrowed
from tlsproxy.errors import SessionError
from tlsproxy.interfaces import DRAINED, ENDED, FAILED, MORE, RESET, TRUNCATED, WANTS_WRITE
from tlsproxy.stocktls import Door, StockTLS, meet
from tlsproxy.tls.native import RECORD, Buffer, TLSConnection

__all__ = ["LoopbackTLS"]

_HEADER: Final = 5
_TYPES: Final = range(20, 24)  # RFC 8446, section 5.1
_LONGEST: Final = RECORD + 256  # RFC 8446, section 5.2
_SHORT: Final = 1024
"""A record with less than this many bytes is not one of a long transfer."""

_cipher = Buffer(32768)
"""Where the records to the peer pass through; it holds nothing between two calls."""


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
        "_broken",
        "_busy",
        "_delivered",
        "_door",
        "_doubtful",
        "_expects",
        "_fed",
        "_mouth",
        "_offered",
        "_part",
        "_server",
        "_socket",
        "_tls",
        "_transport",
        "_unfed",
        "_unsent",
    )

    def __init__(self, context: SSL.Context, sock: socket.socket, server: bool) -> None:
        super().__init__(context, None, server)
        self._socket = sock
        self._server = server
        self._alert: tuple[int, bool] | None = None
        self._tls = StockTLS(self)
        self._transport: Any = None
        self._door: Door | None = None
        self._mouth: Borrowed | None = None
        # From the peer.
        self._part = bytearray()  # Of a record.
        self._unfed = b""  # Of one that the pipe has not taken.
        self._fed = 0
        self._doubtful = self._expects = False
        # To the peer.
        self._offered = 0  # What TLS was given of what is to be sent.
        self._unsent = memoryview(b"")
        self._delivered = 0
        self._broken = False
        # Who waits.
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
        self._mouth = mouth = Borrowed("TLS on loopback")
        inner: Any = tcp.Server(mine, mouth, ("", 0), cast(tcp.Port, None), 0, reactor)
        inner.repstr = "<pipe to TLS on loopback>"
        mouth.makeConnection(inner)
        mouth.onLost = self._mouthLost
        inner.doRead, inner.doWrite = self._outputCame, self._feedRest
        self._door = Door(reactor, listening, mine.getsockname(), self._came)
        self._door.open()

    def _came(self, sock: socket.socket | SessionError) -> None:
        """
        The other end of the pipe is there.
        """
        self._door = None
        if isinstance(sock, SessionError):
            self._tell(FAILED, sock)
            self._closeMouth()
        else:
            self._tls.start(self._transport.reactor, sock, self._server)
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
        self._closeMouth()

    def _closeMouth(self) -> None:
        mouth, self._mouth = self._mouth, None
        if mouth is not None:
            mouth.finish(reset=True)  # Which leaves no port behind that is not free for minutes.

    def _mouthLost(self, _: Failure) -> None:
        self._mouth = None
        self.progress()

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
            if not self._forward():
                raise SSL.WantWriteError()
            if self._isThrough():
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
        tls = self._tls
        if self._transport is None:
            self.state = max(self.state, RESET)
        if self.state >= ENDED:
            return False
        through = self._forward()
        if not through and tls.verdict != FAILED:
            self.state = WANTS_WRITE
        elif tls.verdict and (not through or self._isThrough()):
            # What the peer does not take right now, as an alert may be, it does not get.
            self._tell(tls.verdict, tls.problem)
            self._closeMouth()
        elif not tls.takes or tls.swallowed != self._fed or (self._expects and not self.writeEnded):
            self._awaitInput()
        elif self._doubtful:
            self._tell(FAILED, SSL.Error([("", "", "invalid record header")]))
        elif record := self._takeRecord():
            self._feed(record)
            return True
        elif awaited and self.state < ENDED:
            self._transport.startReading()
        return False

    def _awaitInput(self) -> None:
        self.state = DRAINED
        self._awaitsInput = True
        self._transport.stopReading()

    def _takeRecord(self) -> bytes | None:
        """
        Take one record from the peer's socket.

        @return: It, or the header alone of what is none; L{None} if it is not whole yet, or never will be.
        """
        part = self._part
        while True:
            length = int.from_bytes(part[3:_HEADER], "big")
            whole = _HEADER + (length if len(part) >= _HEADER else 0)
            if len(part) >= _HEADER:
                self._doubtful = part[0] not in _TYPES or part[1] != 3 or length > _LONGEST
                if self._doubtful or len(part) == whole:
                    # TLS knows best what to say of what is no record.
                    self._part = bytearray()
                    return bytes(part)
            try:
                data = self._socket.recv(whole - len(part))
            except BlockingIOError:
                self.state = DRAINED
                return None
            except OSError as e:
                self._tell(RESET, e)
                return None
            if not data:
                self.state = TRUNCATED
                return None
            part += data

    def _feed(self, record: bytes) -> None:
        self._fed += len(record)
        self._unfed = record
        busy, self._busy = self._busy, True
        try:
            self._feedRest()
            self._tls.read()  # As a rule it is there by now.
        finally:
            self._busy = busy

    def _feedRest(self) -> None:
        """
        The pipe takes something.
        """
        mouth = self._mouth
        if mouth is None:
            return
        try:
            self._unfed = self._unfed[mouth.socket.send(self._unfed) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unfed = b""  # It is closed: reading it tells.
        if self._unfed:
            mouth.transport.startWriting()
        else:
            mouth.transport.stopWriting()

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

    def _forward(self) -> bool:
        """
        Pass on what TLS has written, as far as it is there.

        @return: Whether the peer's socket has taken it.
        """
        mouth = self._mouth
        while True:
            if self._unsent:
                self._unsent = self._unsent[self._put(self._unsent) :]
                if self._unsent:
                    return False
                if mouth is not None:
                    mouth.transport.startReading()
            if mouth is None or self._delivered >= self._tls.written:
                return True
            try:
                count = mouth.socket.recv_into(_cipher.view)
            except BlockingIOError:
                return True
            except OSError:
                count = 0
            if not count:
                self._closeMouth()
                return True
            taken = self._put(_cipher.view[:count])
            if taken < count:
                self._unsent = memoryview(bytes(_cipher.view[taken:count]))
                mouth.transport.stopReading()
                return False

    def _put(self, data: memoryview) -> int:
        """
        Send something to the peer; nothing, if our close_notify is sent, whatever TLS may still have to say.
        """
        taken = len(data)
        if not self._broken and not self.writeEnded:
            try:
                taken = self._socket.send(data)
            except BlockingIOError:
                return 0
            except OSError as e:
                self._broken = True
                if self.state < ENDED:
                    self.problem = e.with_traceback(None)
        self._delivered += taken
        return taken

    def _outputCame(self) -> None:
        """
        The pipe is readable.
        """
        mouth = self._mouth
        if self._forward() and mouth is not None and self._delivered >= self._tls.written:
            try:
                if not mouth.socket.recv(1, socket.MSG_PEEK):
                    self._closeMouth()
            except BlockingIOError:
                pass
            except OSError:
                self._closeMouth()
        self.progress()

    def _isThrough(self) -> bool:
        """
        Tell whether all that TLS has written is on the peer's socket.
        """
        return not self._unsent and (self._mouth is None or self._delivered >= self._tls.written)

    def _pass(self) -> bool:
        """
        Pass on all that TLS has written.

        @return: Whether that is done; if not, whoever writes has to come again.
        """
        self._awaitsOutput = False
        if not self._forward():
            return False
        if not self._isThrough():
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
        while self._transport is not None and not self._broken and not self._ending:
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
                if tls.finished:
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
        if self._transport is not None and not self._broken and self.state not in (RESET, FAILED):
            if not self._ending:
                self._ending = True
                if not tls.finished:
                    tls.end()
            if not self._pass():
                return False
        self.writeEnded = True
        if self._awaitsInput and tls.takes and tls.swallowed == self._fed:
            self._awaitsInput = False
            self._transport.startReading()
        return True
