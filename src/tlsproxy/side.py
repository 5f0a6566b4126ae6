# -*- test-case-name: tests.test_side -*-
"""
One side of a session, as a protocol handler has it before the bytes flow.
"""

from __future__ import annotations

__all__ = ["Side"]


class Side:
    """
    One side of a session.

    @ivar who: What its peer is called in messages: C{"the client"} or C{"the upstream"}.
    """

    who: str

    @property
    def tls(self) -> bool:
        """
        Whether TLS runs here now.
        """
        raise NotImplementedError

    @property
    def owed(self) -> bool:
        """
        Whether the mode has TLS here that has not been started.
        """
        raise NotImplementedError

    async def read(self, limit: int = 65536) -> bytes:
        """
        Read what is there, or wait for it.

        @param limit: The most bytes to take; what is beyond stays for whoever comes next.
        @return: At least one byte, or none at the end of the stream.
        """
        raise NotImplementedError

    async def peek(self, limit: int = 65536) -> bytes:
        """
        As L{read}, but leave the bytes for whoever comes next.
        """
        raise NotImplementedError

    async def readLine(self, limit: int = 1000) -> bytes:
        """
        Read one line, and not one byte behind it.

        @param limit: The most bytes it may have.
        @return: The line with its LF, or nothing at the end of the stream.
        @raise NegotiationFailed: It is too long, or the stream ended in the middle of it.
        """
        raise NotImplementedError

    async def readExactly(self, count: int) -> bytes:
        """
        Read so many bytes.

        @raise NegotiationFailed: The stream ended before.
        """
        raise NotImplementedError

    async def write(self, data: bytes) -> None:
        """
        Write all of some bytes.
        """
        raise NotImplementedError

    async def startTLS(self) -> None:
        """
        Start the TLS that the mode has on this side.
        """
        raise NotImplementedError

    def waive(self) -> None:
        """
        Let the session go on without the TLS that is owed here.
        """
        raise NotImplementedError
