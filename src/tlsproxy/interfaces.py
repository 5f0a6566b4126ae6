# -*- test-case-name: tests.test_interfaces -*-
"""
The words that all floors share: the ways a stream stops, and the interfaces.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, Literal, Protocol

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

__all__ = [
    "DRAINED",
    "ENDED",
    "FAILED",
    "FAR",
    "HOW",
    "INWARD",
    "MORE",
    "NEAR",
    "OUTWARD",
    "PHASES",
    "RESET",
    "TRUNCATED",
    "WANTS_WRITE",
    "IHandlerOptions",
    "IPattern",
    "IProtocolHandler",
    "IProtocolHandlerFactory",
    "ISessionObserver",
    "Stream",
    "Way",
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

HOW: Final = {ENDED: "ended", TRUNCATED: "truncated", RESET: "reset", FAILED: "failed"}
"""How a stream stopped for good, in the words that protocol handlers are told."""

Way = Literal["outward", "inward"]
"""A direction through a session."""
OUTWARD: Final = "outward"
"""From the client to the upstream."""
INWARD: Final = "inward"
"""From the upstream to the client."""

NEAR: Final = "near"
"""The side of the client."""
FAR: Final = "far"
"""The side of the upstream."""

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
        Open both sides.  Protocol handlers talk with them where the pattern calls L{tlsproxy.opening.negotiate}, as
        L{tlsproxy.opening.Opening} does.

        @param session: The L{tlsproxy.session.Session}, with its near side held.
        @return: A coroutine of the near and the far L{tlsproxy.end.End}, both held and ready to be joined.
        """

    mode = Attribute("The name of the mode, as in C{--mode}.")


class IProtocolHandlerFactory(IPlugin, Interface):
    """
    A kind of protocol handler, as a plugin registers it.  L{tlsproxy.handler.HandlerFactory} is one to use.
    """

    name = Attribute("The word for it in C{--handler} and C{[[route.handler]]}: lower-case letters, digits, hyphens.")
    help = Attribute("What it is for, in one line.")

    def options() -> type:
        """
        Find the class of its options: an attrs class, whose instances provide L{IHandlerOptions}.

        Called only when the handler is asked for, so that one that is not used costs no import.
        """


class IHandlerOptions(Interface):
    """
    A protocol handler as a route has it, with its options: what makes the handlers of its sessions.
    L{tlsproxy.handler.HandlerOptions} is a class to start from.
    """

    name = Attribute("What it is called in messages.")
    startsTLS = Attribute(
        "The sides (L{NEAR}, L{FAR}) on which the handler starts the TLS that the mode has there: a set of strings."
    )
    serverFirst = Attribute(
        "Whether the upstream is dialed before the client has been admitted, because it speaks first."
    )
    datagrams = Attribute("Whether the handler understands datagrams.")
    mostHeld = Attribute("The most bytes that a handler may hold in one direction.")

    def handler(session: Any, flow: Any) -> IProtocolHandler:
        """
        Make the handler of one session.

        @param session: The L{tlsproxy.session.Session}.
        @param flow: The L{tlsproxy.flow.Flow}, by which the handler acts on the bytes.
        """


class IProtocolHandler(Interface):
    """
    What stands between the two sides of one session.  L{tlsproxy.handler.ProtocolHandler} is a class to start from.

    What any of these methods raises ends this session and no other: a L{tlsproxy.errors.SessionError} with its own
    outcome and sentence, anything else as a failure of the handler, with its traceback in the log.
    """

    def negotiate(near: Any, far: Any) -> Coroutine[Any, Any, None]:
        """
        Talk with both sides before their bytes flow: with each about one thing at a time.

        @param near: The client's L{tlsproxy.side.Side}.
        @param far: The upstream's.
        @return: A coroutine, which ends when the bytes may flow.
        """

    def received(direction: Way, data: bytes) -> bytes | None:
        """
        Some bytes have come, however the network has cut them.

        @param direction: L{OUTWARD} or L{INWARD}.
        @param data: At least one byte.
        @return: What goes on now: the same bytes, others, or C{b""} for none; L{None} where the handler keeps the
            bytes and gives back what it has kept later, by returning it or by C{flow.release}.
        """

    def ended(direction: Way, how: str) -> None:
        """
        A direction has ended: no bytes come in it any more.  What is released before this returns goes before the
        end, and what the handler still holds is dropped.  A handler that needs more time pauses the direction.

        Where the session breaks (a reset, say) there is no end, and only L{closed} is called.

        @param how: C{"ended"} or C{"truncated"}: it ended without the close_notify that TLS owes.
        """

    def closed(outcome: str) -> None:
        """
        The session is over.  Called once for every handler that was made, perhaps while it is at work on bytes whose
        release has ended the session.

        @param outcome: As in the log: C{"closed"}, C{"reset"}, C{"expired"} and so on.
        """


class ISessionObserver(Interface):
    """
    Sees the sessions of a route.  What it raises is logged, and changes nothing.
    """

    def started(session: Any) -> None:
        """
        A client has connected.  Where it is told of by a PROXY header, that is still to come.
        """

    def entered(session: Any, phase: str) -> None:
        """
        A session has entered a phase, one of L{PHASES}.
        """

    def ended(session: Any, outcome: str, reason: str) -> None:
        """
        A session is over.

        @param outcome: One word, as in the log.
        @param reason: One sentence; C{""} where there is nothing to say.
        """
