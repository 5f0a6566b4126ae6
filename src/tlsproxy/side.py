# -*- test-case-name: tests.test_side -*-
"""
One side of a session, as a protocol handler has it before the bytes flow.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import CancelledError

from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, NegotiationFailed, SessionError, forgetFrames
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.session import Session
from tlsproxy.tls.contexts import ClientTLS, ServerTLS

__all__ = ["FarSide", "NearSide", "Side", "Steps"]

P = ParamSpec("P")
S = TypeVar("S", bound="Side")
T = TypeVar("T")


def _alone(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """
    Have a method of a side run only by itself, and only while there is something to talk about.
    """

    @wraps(method)
    async def alone(self: S, /, *arguments: P.args, **more: P.kwargs) -> T:
        self._begin()
        try:
            return await method(self, *arguments, **more)
        finally:
            self._used = False

    return alone


class Steps(Protocol):
    """
    What a side knows of the L{Opening<tlsproxy.opening.Opening>} that it is part of.
    """

    session: Session
    tls: ServerTLS | None
    upstreamTLS: ClientTLS | None
    admitted: bool
    inClear: bool
    secured: bool

    async def admit(self) -> None:
        """
        Let the client in.
        """

    async def reach(self) -> End:
        """
        Dial the upstream.
        """

    async def secure(self) -> None:
        """
        The TLS toward the upstream, if there is any.
        """


class Side:
    """
    One side of a session.

    Nothing is read ahead: what is not asked for stays in the kernel, for whoever comes next.  So nothing that a peer
    said in clear can be taken for something that it said inside TLS.

    @ivar who: What its peer is called in messages: C{"the client"} or C{"the upstream"}.
    @ivar side: Which one it is: L{tlsproxy.interfaces.NEAR} or L{tlsproxy.interfaces.FAR}.
    """

    who: str
    side: str

    def __init__(self, opening: Steps, starts: bool) -> None:
        """
        @param starts: Whether handlers start the TLS that the mode has here.
        """
        self._opening = opening
        self._starts = self._owed = starts
        self._tried = False  # Whether that TLS has been begun.
        self._used = False
        self._over = False

    async def _end(self) -> End:
        raise NotImplementedError

    def _begin(self) -> None:
        """
        Begin something that no other may come into.
        """
        if self._opening.session.ending:
            raise CancelledError()
        if self._over:
            raise RuntimeError(f"the talk with {self.who} is over: its bytes go to received()")
        if self._tried and self._owed:
            raise RuntimeError(f"TLS with {self.who} did not come about, so there is nothing more to say")
        self.rested()
        self._used = True

    def rested(self) -> None:
        """
        See that nobody still waits for something here.

        @raise RuntimeError: Somebody does.
        """
        if self._used:
            raise RuntimeError(f"something still waits to read from {self.who}, or to write to it")

    def close(self) -> None:
        """
        The bytes flow from now on, and this is of no use any more.
        """
        self._over = True

    @property
    def tls(self) -> bool:
        """
        Whether TLS runs here now.
        """
        raise NotImplementedError

    @property
    def owed(self) -> bool:
        """
        Whether the mode has TLS here that a handler has to start.
        """
        return self._owed

    @_alone
    async def read(self, limit: int = 65536) -> bytes:
        """
        Read what is there, or wait for it.

        @param limit: The most bytes to take; what is beyond stays for whoever comes next.
        @return: At least one byte, or none at the end of the stream.
        @raise SessionError: The stream was truncated, reset, or failed.
        """
        return await (await self._end()).read(_some(limit))

    @_alone
    async def peek(self, limit: int = 65536) -> bytes:
        """
        As L{read}, but leave the bytes where they are.  To peek again tells of no more, at once: who needs more has to
        read.
        """
        return await (await self._end()).peek(_some(limit))

    @_alone
    async def readLine(self, limit: int = 1000) -> bytes:
        """
        Read one line, and not one byte behind it.

        @param limit: The most bytes it may have, its LF included.
        @return: The line with its LF, or nothing at the end of the stream.
        @raise NegotiationFailed: It is too long, or the stream ended in the middle of it.
        @raise SessionError: The stream was truncated, reset, or failed.
        """
        end = await self._end()
        line = b""
        _some(limit)
        while not line.endswith(b"\n"):
            seen = await end.peek(limit - len(line))
            if not seen:
                if line:
                    raise NegotiationFailed(f"{self.who} ended the stream in the middle of a line")
                return b""
            line += await end.read(seen.find(b"\n") + 1 or len(seen))
            if len(line) >= limit and not line.endswith(b"\n"):
                raise NegotiationFailed(f"{self.who} sent a line of more than {limit} bytes")
        return line

    @_alone
    async def readExactly(self, count: int) -> bytes:
        """
        Read so many bytes.

        @raise NegotiationFailed: The stream ended before.
        @raise SessionError: The stream was truncated, reset, or failed.
        """
        end = await self._end()
        data = b""
        while len(data) < count:
            more = await end.read(count - len(data))
            if not more:
                raise NegotiationFailed(f"{self.who} ended the stream after {len(data)} of {count} bytes")
            data += more
        return data

    @_alone
    async def write(self, data: bytes) -> None:
        """
        Write all of some bytes.

        @raise PeerReset: The connection is broken.
        """
        await (await self._end()).write(data)

    @_alone
    async def startTLS(self) -> None:
        """
        Start the TLS that the mode has on this side, with all its checks.  Where it does not come about the session
        cannot go on.

        @raise RuntimeError: It has none here, or it has been started.
        @raise SessionError: It did not come about.
        """
        if not self._owed:
            raise RuntimeError(self._whyNoTLS())
        self._tried = True
        await self._start()
        self._owed = False
        self._opening.session.enter("negotiate")

    def _whyNoTLS(self) -> str:
        """
        Say why TLS is not to be started here.
        """
        modes = self._opening.tls if self.side == NEAR else self._opening.upstreamTLS
        if self._starts:
            return f"TLS with {self.who} has been started already" if self.tls else f"TLS with {self.who} was waived"
        if modes is not None:
            return (
                f"the mode starts the TLS with {self.who} by itself: for a handler to start it, "
                f"name {self.side.upper()} in the handler's startsTLS"
            )
        return f"mode {self._opening.session.route.pattern.mode} has no TLS toward {self.who} that a handler can start"

    async def _start(self) -> None:
        raise NotImplementedError

    def waive(self) -> None:
        """
        Let the session go on without the TLS that is owed here.

        @raise RuntimeError: It has been begun.
        @raise AdmissionRefused: Nobody comes in here without a certificate.
        """
        if self._tried and self._owed:
            raise RuntimeError(f"TLS with {self.who} has been begun, so the session cannot go on without it")
        self._owed = False


def _some(limit: int) -> int:
    """
    See that something is asked for.
    """
    if limit < 1:
        raise ValueError(f"at least one byte has to be asked for, and not {limit}")
    return limit


class NearSide(Side):
    """
    The client's.
    """

    who = "the client"
    side = NEAR

    async def _end(self) -> End:
        return self._opening.session.near

    @property
    def tls(self) -> bool:
        """
        Whether TLS runs here now.
        """
        return self._opening.session.near.tls is not None

    async def _start(self) -> None:
        await self._opening.admit()

    def waive(self) -> None:
        """
        Let the session go on without the TLS that is owed here.

        @raise RuntimeError: It has been begun.
        @raise AdmissionRefused: Nobody comes in here without a certificate.
        """
        tls = self._opening.tls
        if self._owed and tls is not None and tls.needsTLS:
            raise AdmissionRefused("the client starts no TLS, and so shows no certificate, which the route demands")
        owed = self._owed
        super().waive()
        self._opening.inClear = owed or self._opening.inClear


class FarSide(Side):
    """
    The upstream's.  It is dialed when it is first used.
    """

    who = "the upstream"
    side = FAR

    def __init__(self, opening: Steps, starts: bool, early: bool) -> None:
        """
        @param early: Whether it may be dialed before the client is admitted.
        """
        super().__init__(opening, starts)
        self._early = early
        self._failed: tuple[SessionError, str] | None = None

    async def tried(self) -> None:
        """
        As L{reached}, but leave it to whoever uses this side to find out that it did not come about: a handler can
        tell the client why in its own protocol.
        """
        try:
            await self.reached()
        except SessionError as e:
            forgetFrames(e)
            self._failed = e, self._opening.session.phase

    async def reached(self) -> End:
        """
        Dial it, and start its TLS unless handlers do, if that has not been done.
        """
        opening = self._opening
        if self._failed is not None:
            problem, phase = self._failed
            self._failed = None
            opening.session.phase = phase
            raise problem
        far = opening.session.far
        if far is None:
            far = await opening.reach()
        if not self._starts and not opening.secured:
            await opening.secure()
        return far

    async def _end(self) -> End:
        opening = self._opening
        far = opening.session.far
        if opening.inClear and not opening.admitted:
            # It does not start TLS, so nothing is left to wait for.
            await opening.admit()
            far = None
        if far is None or not (self._starts or opening.secured):
            if not (opening.admitted or self._early):
                raise RuntimeError("the upstream is not dialed before the client is admitted")
            far = await self.reached()
            opening.session.enter("negotiate")
        return far

    @property
    def tls(self) -> bool:
        """
        Whether TLS runs here now.
        """
        far = self._opening.session.far
        return far is not None and far.tls is not None

    async def _start(self) -> None:
        await self._end()
        await self._opening.secure()
