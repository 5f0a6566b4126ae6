# -*- test-case-name: tests.test_relay_pairings -*-
"""
Two sides of a session without its set-up: near peer, near End, relay, far End, far peer.
"""

from __future__ import annotations

import functools
import socket
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.socketreactor import Connected, SocketReactor, connect, unixPair
from tests.streampeers import Peer, TLSPeer
from tests.tls import NOW, certify, write
from tlsproxy.deadlines import Deadlines
from tlsproxy.end import End
from tlsproxy.relay import Direction, Relay, join
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

__all__ = ["KINDS", "MOST_HELD", "Loopback", "Side", "Streams", "clientTLS", "serverTLS"]

KINDS = ("plain", "TLSv1.2", "TLSv1.3")
"""The kinds of End."""

MOST_HELD = 131072
"""The most bytes that one direction may hold, in bytes: one buffer."""

LINGER = 2.5
"""After this, in seconds, a side that lingers is closed."""


@functools.cache
def serverTLS(version: str) -> ServerTLS:
    """
    TLS of one version toward a client.
    """
    holder = certify("localhost", begins=NOW - timedelta(days=1), ends=NOW + timedelta(days=36500))
    with tempfile.TemporaryDirectory() as folder:
        path = write(str(Path(folder) / "server.pem"), holder.pem(), holder.keyPEM())
        number = version.removeprefix("TLSv")
        policy = ServerPolicy(cert=CertificateFiles(path), minVersion=number, maxVersion=number, groups="X25519:P-256")
        return ServerTLS.load(policy, NOW)


@functools.cache
def clientTLS(version: str) -> ClientTLS:
    """
    TLS of one version toward an upstream whose certificate nobody looks at.
    """
    number = version.removeprefix("TLSv")
    policy = ClientPolicy(ca=(), auth="none", minVersion=number, maxVersion=number, groups="X25519:P-256")
    return ClientTLS.load(policy, "", NOW)


class Side:
    """
    One side of a pairing.

    @ivar kind: One of L{KINDS}.
    @ivar end: The End.
    @ivar connected: Its transport.
    @ivar peer: The other end of its connection.
    """

    def __init__(self, kind: str, end: End, connected: Connected, peer: Peer) -> None:
        self.kind = kind
        self.end = end
        self.connected = connected
        self.peer = peer

    @property
    def aborted(self) -> bool:
        """
        Whether the connection was reset by us.
        """
        return [bool(reason.check(error.ConnectionAborted)) for reason in self.connected.losses] == [True]


class Loopback:
    """
    Where the sockets of a pairing come from, and who drives them: socket pairs, and a reactor that never waits.

    @ivar reactor: The reactor.
    @cvar near: Which transport the near side has.
    @cvar far: Which transport the far side has.
    @cvar resets: Whether a reset is a thing that these sockets can send at any time.
    @cvar smallest: The fewest bytes that peers send and read at a time.
    """

    near = "tcp.Server"
    far = "tcp.Client"
    resets = False
    smallest = 1

    def __init__(self) -> None:
        self.reactor: Any = SocketReactor()

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Make a connection.
        """
        return unixPair()

    def settle(self, peers: list[Peer], done: Callable[[], bool] | None) -> None:
        """
        Let everything happen that can happen without time passing.

        @param done: What has to be true in the end.
        """
        while any([self.reactor.pump(), *[peer.pump() for peer in peers]]):
            pass
        if done is not None and not done():
            raise AssertionError("all is quiet, and what was to come has not come")

    def advance(self, seconds: float) -> None:
        """
        Let time pass, where it is ours to command.
        """
        self.reactor.advance(seconds)

    def registered(self) -> set[Any]:
        """
        Tell what the reactor looks at.
        """
        return {*self.reactor.getReaders(), *self.reactor.getWriters()}

    def first(self, side: Side) -> None:
        """
        Have the events of one side handled before those of the other, where there is a choice.
        """
        self.reactor.first = side.connected.transport

    def left(self) -> list[Any]:
        """
        Tell what still is to happen when all should be over.
        """
        return [*self.registered(), *self.reactor.getDelayedCalls()]


class Streams(SynchronousTestCase):
    """
    Two sides, and all that tests do with them.

    @cvar nearKind: What the near side speaks.
    @cvar farKind: What the far side speaks.
    @ivar outcomes: What the relay has said of its end, each time it did.
    @ivar halfClosed: How often it has told of the end of the first direction.
    """

    nearKind = "plain"
    farKind = "plain"
    near: Side
    far: Side
    relay: Relay

    def makeLoopback(self) -> Loopback:
        """
        Choose the sockets and the reactor.
        """
        return Loopback()

    def setUp(self) -> None:
        """
        Choose the sockets and the reactor.
        """
        self.loopback = self.makeLoopback()
        self.before = self.loopback.left()
        self.outcomes: list[tuple[str, str]] = []
        self.halfClosed = 0
        self.sides: list[Side] = []

    def side(self, kind: str, near: bool) -> Side:
        """
        Make a side, with its TLS if it has any.
        """
        end = End("the client" if near else "the upstream")
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        connected = connect(self.loopback.reactor, end, ours, self.loopback.near if near else self.loopback.far)
        if kind == "plain":
            side = Side(kind, end, connected, Peer(theirs))
            self.sides.append(side)
        else:
            peer = TLSPeer(theirs, kind, server=not near)
            side = Side(kind, end, connected, peer)
            self.sides.append(side)
            handshake = Deferred.fromCoroutine(end.startTLS(serverTLS(kind) if near else clientTLS(kind)))
            self.settle(lambda: handshake.called and peer.ready)
            self.successResultOf(handshake)
        return side

    def make(self, endBoth: bool = False, abortTruncated: bool = False, early: bytes = b"") -> None:
        """
        Make both sides and join them.

        @param early: What the far peer sends before the relay starts.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        self.far.peer.write(early)
        self.join(endBoth, abortTruncated)

    def join(self, endBoth: bool = False, abortTruncated: bool = False) -> None:
        """
        Join both sides.
        """

        def halfClosed() -> None:
            self.halfClosed += 1

        self.relay = join(
            self.near.end,
            self.far.end,
            Deadlines(self.loopback.reactor),
            lambda outcome, reason: self.outcomes.append((outcome, reason)),
            halfClosed,
            endBoth,
            abortTruncated,
        )
        self.relay.start()

    def settle(self, done: Callable[[], bool] | None = None) -> None:
        """
        See L{Loopback.settle}.
        """
        self.loopback.settle([side.peer for side in self.sides], done)

    def ways(self) -> list[tuple[Side, Side, Direction]]:
        """
        Both directions: source, sink, and what is between.
        """
        return [(self.near, self.far, self.relay.outward), (self.far, self.near, self.relay.inward)]

    def assertOver(self, outcome: str) -> None:
        """
        The relay has told its end once, with this outcome.
        """
        self.assertEqual([outcome], [told for told, _ in self.outcomes])
        self.assertTrue(self.relay.over)

    def assertLost(self, side: Side) -> None:
        """
        A side was reset by us, and its peer could see it where sockets can show it.
        """
        self.settle(lambda: bool(side.connected.losses))
        self.assertTrue(side.aborted, side.connected.losses)
        if self.loopback.resets and side.peer.reading and side.peer.socket.fileno() >= 0:
            self.settle(lambda: bool(side.peer.ended))
            self.assertEqual("reset", side.peer.ended)

    def tearDown(self) -> None:
        """
        Whatever happened, the relay tells its end once, each transport is lost once, and the reactor is free of them.
        """
        if hasattr(self, "relay"):
            self.relay.abort("torn down", "")
            self.assertEqual(1, len(self.outcomes), self.outcomes)
            self.assertLessEqual(self.halfClosed, 1)
            del self.relay
        for side in self.sides:
            side.end.finish()
            side.peer.close()
        self.settle()
        self.loopback.advance(LINGER)
        self.settle(lambda: all(len(side.connected.losses) == 1 for side in self.sides))
        self.assertEqual(self.before, self.loopback.left())
