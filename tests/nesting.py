# -*- test-case-name: tests.test_loopback_pairings -*-
"""
Sides for tests whose End is on a pipe: TLS inside TLS, and transports that are no plain sockets.
"""

from __future__ import annotations

import socket
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from tlsproxy.deadlines import Deadlines
from tlsproxy.end import End
from tlsproxy.foreign import Foreign
from tlsproxy.loopback import layer
from tlsproxy.testing.socketreactor import Connected, connect
from tlsproxy.testing.streampeers import Peer, TLSPeer
from tlsproxy.testing.streams import Side, Streams, clientTLS, serverTLS

__all__ = ["ForeignCase", "Nested", "Tunnel", "Wrapped"]


class Tunnel:
    """
    The TLS of one peer, as the socket of another.
    """

    MOST = 65536

    def __init__(self, outer: Peer) -> None:
        self.outer = outer
        self.family = socket.AF_UNIX

    def send(self, data: bytes) -> int:
        """
        See L{socket.socket}.
        """
        if self.outer.ended == "reset":
            raise BrokenPipeError
        if len(self.outer.unsent) > self.MOST:
            raise BlockingIOError
        self.outer.write(bytes(data))
        self.outer.pump()
        return len(data)

    def recv(self, limit: int) -> bytes:
        """
        See L{socket.socket}.
        """
        data = self.outer.take(limit)
        if data:
            return data
        if self.outer.ended == "reset":
            raise ConnectionResetError
        if self.outer.ended or getattr(self.outer, "told", False):
            return b""
        raise BlockingIOError

    def shutdown(self, how: int) -> None:
        """
        See L{socket.socket}.
        """
        self.outer.end()

    def setsockopt(self, *_: object) -> None:
        """
        See L{socket.socket}.
        """
        self.outer.reset()

    def fileno(self) -> int:
        """
        See L{socket.socket}.
        """
        return self.outer.socket.fileno()

    def close(self) -> None:
        """
        See L{socket.socket}.
        """
        self.outer.close()


def inside(outer: Peer, kind: str, server: bool) -> Peer:
    """
    Make a peer that speaks inside of the TLS of another.
    """
    tunnel: Any = Tunnel(outer)
    inner = Peer(tunnel) if kind == "plain" else TLSPeer(tunnel, kind, server)
    pump = inner.pump

    def both() -> bool:
        outer.reading = inner.reading and len(outer.unheard()) < Tunnel.MOST
        # A byte inside is a record outside.
        outer.step = min(16 * inner.step, 65536)
        moved = outer.pump() if outer.socket.fileno() >= 0 else False
        return pump() or moved

    inner.pump = both  # type: ignore[method-assign]
    return inner


class Watched(Connected):
    """
    The transport of an End on a pipe.
    """

    def __init__(self, end: End) -> None:
        super().__init__(end.transport)


class Wrapped(Streams):
    """
    Sides whose near End has a transport that wraps another.
    """

    def side(self, kind: str, near: bool) -> Side:
        """
        Make a side.
        """
        if not near:
            return super().side(kind, near)
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        made: list[End] = []
        foreign = Foreign(self.loopback.reactor, "the client", made.append)
        wrapper: Any = ProtocolWrapper(WrappingFactory(Factory()), foreign)
        connect(self.loopback.reactor, wrapper, ours)
        (end,) = made
        peer = Peer(theirs) if kind == "plain" else TLSPeer(theirs, kind, server=False)
        side = Side(kind, end, Watched(end), peer)
        self.sides.append(side)
        if kind != "plain":
            self.secure(side, kind, near)
        return side

    def secure(self, side: Side, kind: str, near: bool) -> None:
        """
        Start TLS on a side.
        """
        peer = side.peer
        assert isinstance(peer, TLSPeer)
        handshake = Deferred.fromCoroutine(side.end.startTLS(serverTLS(kind) if near else clientTLS(kind)))
        self.settle(lambda: handshake.called and peer.ready)
        self.successResultOf(handshake)


class Nested(Wrapped):
    """
    Sides whose near End has TLS inside of TLS.

    @cvar outer: The kinds of the TLS around it, the outermost first.
    @cvar nested: Which sides are: C{"near"}, C{"far"}.
    """

    outer: ClassVar[tuple[str, ...]] = ("TLSv1.3",)
    nested: ClassVar[tuple[str, ...]] = ("near",)

    def side(self, kind: str, near: bool) -> Side:
        """
        Make a side.
        """
        if ("near" if near else "far") not in self.nested:
            return Streams.side(self, kind, near)
        side = self.outermost(self.outer[0], near)
        self.deadlines = Deadlines(self.loopback.reactor)
        for inner in (*self.outer[1:], kind):
            end = layer(side.end, self.deadlines)
            peer = inside(side.peer, inner, server=not near)
            side = Side(kind, end, Watched(end), peer)
            self.sides[-1] = side
            if inner != "plain":
                self.secure(side, inner, near)
        return side

    def outermost(self, kind: str, near: bool) -> Side:
        """
        Make the outermost side.
        """
        return Streams.side(self, kind, near)


class ForeignCase(Streams):
    """
    A transport of which nobody knows what it is.
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        super().setUp()
        self.made: list[End] = []

    def foreign(self) -> Foreign:
        """
        Make a protocol for it.
        """
        return Foreign(self.loopback.reactor, "the client", self.made.append)

    @property
    def end(self) -> Any:
        """
        The End that was made.
        """
        (end,) = self.made
        return end

    def read(self) -> Deferred[bytes]:
        """
        Read what is there.
        """
        self.settle()
        return Deferred.fromCoroutine(self.end.read(1 << 20))

    def tearDown(self) -> None:
        """
        Whatever happened, nothing is left.
        """
        for end in self.made:
            end.finish(reset=True)
        self.made.clear()
        super().tearDown()
