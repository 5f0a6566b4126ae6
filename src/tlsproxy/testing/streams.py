# -*- test-case-name: tests.testing.test_streams -*-
"""
Two sides of a session without its set-up: near peer, near End, relay, far End, far peer.
"""

from __future__ import annotations

import functools
import os
import socket
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import splice
from tlsproxy.deadlines import Deadlines
from tlsproxy.direction import Direction
from tlsproxy.end import End
from tlsproxy.relay import Relay, join
from tlsproxy.splice import Splice
from tlsproxy.testing.certificates import NOW, certify, write
from tlsproxy.testing.socketreactor import Connected, SocketReactor, connect, tcpPair, unixPair
from tlsproxy.testing.streampeers import Peer, TLSPeer
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

__all__ = [
    "KINDS",
    "Loopback",
    "Side",
    "Streams",
    "TCPLoopback",
    "clientTLS",
    "emptyPool",
    "held",
    "mostHeld",
    "pairings",
    "serverTLS",
]

KINDS = ("plain", "TLSv1.2", "TLSv1.3")
"""The kinds of End."""

LINGER = 2.5
"""After this, in seconds, a side that lingers is closed."""


def held(direction: Direction) -> int:
    """
    Tell how many bytes wait in a direction for its sink, in the process or in a pipe.
    """
    direction = getattr(direction, "current", direction)
    pipe = direction._pipe if isinstance(direction, Splice) else None
    return (len(direction._unsent) if direction._unsent is not None else 0) + (pipe.held if pipe is not None else 0)


def mostHeld(direction: Direction) -> int:
    """
    Tell how many bytes may wait there at most: one buffer, or what is spliced at once.
    """
    direction = getattr(direction, "current", direction)
    return splice._MOST if isinstance(direction, Splice) and not direction._copies else 131072


def emptyPool() -> None:
    """
    Close the pipes that wait for their next use.
    """
    while splice._pool.idle:
        splice._pool.idle.pop().close()


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
        Tell what still is to happen when all should be over, and how many descriptors are open.
        """
        return [*self.registered(), *self.reactor.getDelayedCalls(), len(os.listdir("/dev/fd"))]


class TCPLoopback(Loopback):
    """
    Loopback TCP, whose sockets hold little, and which may take a moment to deliver what was sent.

    @cvar PATIENCE: How long something may take that has to come, in seconds.
    @cvar QUIET: How many milliseconds without an event pass for silence.
    """

    PATIENCE = 10.0
    QUIET = 3
    resets = True

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """
        Make a connection.
        """
        pair = tcpPair()
        for sock in pair:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)
        return pair

    def settle(self, peers: list[Peer], done: Callable[[], bool] | None) -> None:
        """
        As on socket pairs, but with some patience.
        """
        end = time.monotonic() + self.PATIENCE
        quiet = 0
        while not done() if done is not None else quiet < self.QUIET:
            if any([self.reactor.pump(), *[peer.pump() for peer in peers]]):
                quiet = 0
            else:
                if time.monotonic() > end:
                    raise AssertionError("what was to come has not come in time")
                quiet += 1
                time.sleep(0.001)


class Streams(SynchronousTestCase):
    """
    Two sides, and all that tests do with them.

    @cvar nearKind: What the near side speaks.
    @cvar farKind: What the far side speaks.
    @cvar splices: Whether the kernel may move bytes from one plain socket to another.
    @ivar outcomes: What the relay has said of its end, each time it did.
    @ivar halfClosed: How often it has told of the end of the first direction.
    """

    nearKind = "plain"
    farKind = "plain"
    splices = True
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
        if not self.splices:
            self.patch(splice, "_splice", None)
        emptyPool()  # Its descriptors are not those of a session.
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
        emptyPool()
        self.assertEqual(self.before, self.loopback.left())


def pairings(module: str, base: type[Streams], *more: type, prefix: str = "") -> dict[str, type]:
    """
    Make one test class for each pairing of kinds, and one for each way from plain to plain.

    @param module: Whose classes they are.
    @param base: Where the sockets come from.
    @param more: What is tested.
    @param prefix: What the names of the classes begin with.
    @return: The classes by their names.
    """
    classes = {}
    for near, far, splices in [*((near, far, True) for near in KINDS for far in KINDS), ("plain", "plain", False)]:
        kinds = [f"{kind[0].upper()}{kind[1:].replace('.', '')}" for kind in (near, far)]
        name = f"{prefix}{'To'.join(kinds)}{'' if splices else 'Copying'}Tests"
        doc = f"From {near} to {far}" + (", without splice(2)." if not splices else ".")
        body = {"nearKind": near, "farKind": far, "splices": splices, "__doc__": doc, "__module__": module}
        classes[name] = type(name, (*more, base), body)
    return classes
