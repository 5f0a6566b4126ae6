# -*- test-case-name: tests.test_side -*-
"""
One side of a session, as a protocol handler has it before the bytes flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, NegotiationFailed

if TYPE_CHECKING:
    from tlsproxy.opening import Opening

__all__ = ["FarSide", "NearSide", "Side"]


class Side:
    """
    One side of a session.

    Nothing is read ahead: what is not asked for stays in the kernel, for whoever comes next.  So nothing that a peer
    said in clear can be taken for something that it said inside TLS.

    @ivar who: What its peer is called in messages: C{"the client"} or C{"the upstream"}.
    """

    who: str

    def __init__(self, opening: Opening, starts: bool) -> None:
        """
        @param starts: Whether handlers start the TLS that the mode has here.
        """
        self._opening = opening
        self._owed = starts

    async def _end(self) -> End:
        raise NotImplementedError

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

    async def read(self, limit: int = 65536) -> bytes:
        """
        Read what is there, or wait for it.

        @param limit: The most bytes to take; what is beyond stays for whoever comes next.
        @return: At least one byte, or none at the end of the stream.
        @raise SessionError: The stream was truncated, reset, or failed.
        """
        return await (await self._end()).read(limit)

    async def peek(self, limit: int = 65536) -> bytes:
        """
        As L{read}, but leave the bytes where they are.
        """
        return await (await self._end()).peek(limit)

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

    async def write(self, data: bytes) -> None:
        """
        Write all of some bytes.

        @raise PeerReset: The connection is broken.
        """
        await (await self._end()).write(data)

    async def startTLS(self) -> None:
        """
        Start the TLS that the mode has on this side, with all its checks.

        @raise RuntimeError: It has none here, or it has been started.
        @raise SessionError: It did not come about.
        """
        if not self._owed:
            raise RuntimeError(f"there is no TLS to be started toward {self.who}")
        self._owed = False
        await self._start()
        self._opening.session.enter("negotiate")

    async def _start(self) -> None:
        raise NotImplementedError

    def waive(self) -> None:
        """
        Let the session go on without the TLS that is owed here.

        @raise AdmissionRefused: Nobody comes in here without a certificate.
        """
        self._owed = False


class NearSide(Side):
    """
    The client's.
    """

    who = "the client"

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

        @raise AdmissionRefused: Nobody comes in here without a certificate.
        """
        tls = self._opening.tls
        if tls is not None and tls.policy.clientCa and tls.policy.clientAuth in ("", "required"):
            raise AdmissionRefused("the client starts no TLS, and so shows no certificate, which the route demands")
        super().waive()


class FarSide(Side):
    """
    The upstream's.  It is dialed when it is first used.
    """

    who = "the upstream"

    def __init__(self, opening: Opening, starts: bool, early: bool) -> None:
        """
        @param early: Whether it may be dialed before the client is admitted.
        """
        super().__init__(opening, starts)
        self._early = early

    async def reached(self) -> End:
        """
        Dial it, and start its TLS unless handlers do, if that has not been done.
        """
        opening = self._opening
        far = opening.session.far
        if far is None:
            far = await opening.reach()
            if not self._owed:
                await opening.secure()
        return far

    async def _end(self) -> End:
        opening = self._opening
        if opening.session.far is None:
            if not (opening.admitted or self._early):
                raise RuntimeError("the upstream is not dialed before the client is admitted")
            await self.reached()
            opening.session.enter("negotiate")
        far = opening.session.far
        assert far is not None
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
