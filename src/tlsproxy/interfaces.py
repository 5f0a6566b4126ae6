# -*- test-case-name: tests.test_interfaces -*-
"""
The words that all floors share: the ways a stream stops, and the interfaces.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from zope.interface import Attribute, Interface

__all__ = [
    "DRAINED",
    "ENDED",
    "FAILED",
    "MORE",
    "PHASES",
    "RESET",
    "TRUNCATED",
    "WANTS_WRITE",
    "IPattern",
    "Stream",
]

# Why a stream stopped giving bytes.  In this order, so that the hot path tells by one comparison whether anything
# but "wait for more" has to be done.
MORE: Final = 0
"""The buffer is full; more may be there."""
DRAINED: Final = 1
"""Nothing more is there now."""
WANTS_WRITE: Final = 2
"""Nothing can be read until the socket takes bytes (TLS answers a key update first)."""
ENDED: Final = 3
"""The peer ended its direction: a close_notify, or the end of a plain stream."""
TRUNCATED: Final = 4
"""The stream ended without the close_notify that TLS owes."""
RESET: Final = 5
"""The connection was reset."""
FAILED: Final = 6
"""TLS failed: a record that does not verify, or a fatal alert."""

PHASES: Final = (
    "hello",
    "head",
    "negotiate",
    "handshake",
    "route",
    "dial",
    "upstream_handshake",
    "downgrade",
    "idle",
    "half_closed",
    "lifetime",
)
"""What a session goes through: the names of its phases, limits, counters and log reasons."""


class Stream(Protocol):
    """
    How one side's bytes are read from and written to its socket, in plain or in TLS.

    A structural type and not a zope interface: it is called for every chunk, and only by L{tlsproxy.relay}.
    """

    state: int
    problem: Exception | None

    def fill(self, buffer: Any) -> int:
        """
        Read into the front of a L{tlsproxy.tls.native.Buffer}, return the number of bytes, and set C{state}.
        """

    def read(self, limit: int) -> bytes:
        """
        Read at most C{limit} bytes, or none where the stream has stopped, and set C{state}.
        """

    def peek(self, limit: int) -> bytes:
        """
        As C{read}, but leave the bytes for the next who reads.
        """

    def drain(self, buffer: Any, count: int) -> int:
        """
        Write the front of a buffer; return how many bytes were taken, or C{-1} where the connection is broken.
        """

    def send(self, data: bytes | memoryview) -> int:
        """
        Write some bytes; return as C{drain}.
        """

    def endWrite(self) -> bool:
        """
        End the direction to the peer in the stream's own words (close_notify; a plain stream has none), and return
        whether that is on its way.
        """


class IPattern(Interface):
    """
    How the two sides of a session come to be: all that differs between modes.
    """

    def open(session):  # type: ignore[no-untyped-def]
        """
        Open both sides.

        @param session: The L{tlsproxy.session.Session}, with its near side held.
        @return: A coroutine of the near and the far L{tlsproxy.end.End}, both held and ready to be joined.
        """

    mode = Attribute("The name of the mode, as in C{--mode}.")
