# -*- test-case-name: tests.test_relay_pairings -*-
"""
What every pairing of two kinds of End promises, on whatever sockets and whatever reactor.

A pairing is one session without its set-up: near peer, near End, relay, far End, far peer.
"""

from __future__ import annotations

import functools
import random
import socket
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.socketreactor import Connected, SocketReactor, connect, unixPair
from tests.streampeers import Peer, TLSPeer
from tests.tls import NOW, certify, write
from tlsproxy.deadlines import Deadlines
from tlsproxy.end import End
from tlsproxy.relay import Direction, Relay, join
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

__all__ = ["KINDS", "Loopback", "PairingConformance", "Side", "Streams", "clientTLS", "pairings", "serverTLS"]

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


if TYPE_CHECKING:
    _Mixin = Streams
else:
    _Mixin = object


class PairingConformance(_Mixin):
    """
    The promises; to be mixed into L{Streams}.
    """

    amount = 1 << 20

    def bothWays(self) -> Iterator[int]:
        """
        Do something once for each direction, each time with a new pairing.

        @return: The directions, as places in L{Streams.ways}.
        """
        yield 0
        self.tearDown()
        self.setUp()
        yield 1

    def bulk(self, seed: int, size: int | None = None) -> bytes:
        """
        Make bytes that do not repeat.
        """
        return random.Random(seed).randbytes(self.amount if size is None else size)

    def ending(self, source: Side, sink: Side, how: str) -> str:
        """
        Tell how a peer should see the end of a stream.

        @param how: How it ended: C{"end"} or C{"truncated"}.
        """
        return "truncated" if how == "truncated" and source.kind != "plain" != sink.kind else "end"

    def test_twoWay(self) -> None:
        """
        Bytes come through both ways, again and again.
        """
        self.make()
        for turn in range(1, 4):
            for source, sink, direction in self.ways():
                source.peer.write(b"ping")
                self.settle(lambda sink=sink, turn=turn: sink.peer.received == b"ping" * turn)  # type: ignore[misc]
                self.assertEqual(4 * turn, direction.count)

    def test_greetingBeforeTheJoin(self) -> None:
        """
        What an upstream said before the join is delivered.
        """
        self.make(early=b"220 welcome\r\n")
        self.settle(lambda: self.near.peer.received == b"220 welcome\r\n")

    def test_restOfARecord(self) -> None:
        """
        What set-up left of a record goes on, without another byte from the peer.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        for side in (self.near, self.far):
            side.peer.write(b"set-up|the rest")
            taken = Deferred.fromCoroutine(side.end.read(7))
            self.settle(lambda taken=taken: taken.called)  # type: ignore[misc]
            self.assertEqual(b"set-up|", self.successResultOf(taken))
        self.join()
        self.settle(lambda: self.near.peer.received == self.far.peer.received == b"the rest")

    def test_halfClose(self) -> None:
        """
        The end of a direction is passed on, and an answer that comes long after it arrives whole.
        """
        for first in self.bothWays():
            self.make()
            source, sink, direction = self.ways()[first]
            question, answer = self.bulk(1), self.bulk(2)
            source.peer.write(question)
            source.peer.end()
            self.settle(lambda sink=sink: sink.peer.ended == "end")  # type: ignore[misc]
            self.assertEqual(question, sink.peer.received)
            self.assertEqual(1, self.halfClosed)
            self.loopback.advance(30)
            self.settle()
            sink.peer.write(answer)
            self.settle(lambda source=source: len(source.peer.received) == len(answer))  # type: ignore[misc]
            self.assertEqual(("", []), (source.peer.ended, self.outcomes))
            sink.peer.end()
            self.settle(lambda source=source: source.peer.ended == "end")  # type: ignore[misc]
            self.assertEqual(answer, source.peer.received)
            self.settle(lambda: self.relay.over)
            self.assertEqual([("closed", "")], self.outcomes)
            self.assertEqual(len(question), direction.count)

    def test_cloggedWriter(self) -> None:
        """
        A peer that does not read stops the one that writes to it; the other direction goes on; nothing is lost.
        """
        self.make()
        data = self.bulk(3, 4 << 20)
        for source, sink, direction in self.ways():
            sink.peer.reading = False
            source.peer.write(data)
            self.settle(lambda direction=direction: direction.clogged)  # type: ignore[misc]
            self.settle()
            self.assertTrue(source.peer.unsent)
            self.assertNotIn(source.connected.transport, self.loopback.reactor.getReaders())
            self.assertIn(sink.connected.transport, self.loopback.reactor.getWriters())
            assert direction._unsent is not None
            self.assertLessEqual(len(direction._unsent), MOST_HELD)
            sink.peer.write(b"meanwhile")
            self.settle(lambda source=source: source.peer.received[-9:] == b"meanwhile")  # type: ignore[misc]
            sink.peer.reading = True
            self.settle(lambda sink=sink: len(sink.peer.received) >= len(data))  # type: ignore[misc]
            self.assertEqual(data, sink.peer.received[-len(data) :])
            self.assertFalse(direction.clogged)

    def test_cloggedBothWays(self) -> None:
        """
        Two peers that write and do not read stop each other, and when they read again nothing is lost.
        """
        self.make()
        data = self.bulk(4, 4 << 20)
        for side in (self.near, self.far):
            side.peer.reading = False
            side.peer.write(data)
        self.settle(lambda: self.relay.outward.clogged and self.relay.inward.clogged)
        for side in (self.near, self.far):
            side.peer.end()
        self.near.peer.reading = True
        self.settle(lambda: len(self.near.peer.received) == len(data))
        self.far.peer.reading = True
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(data == self.near.peer.received == self.far.peer.received)
        self.assertOver("closed")

    def test_endWhileClogged(self) -> None:
        """
        An end that comes while its sink is full waits behind the bytes.
        """
        for first in self.bothWays():
            self.make()
            source, sink, direction = self.ways()[first]
            data = self.bulk(5, 3 << 20)
            sink.peer.reading = False
            source.peer.write(data)
            source.peer.end()
            self.settle(lambda direction=direction: direction.clogged)  # type: ignore[misc]
            self.assertEqual(0, direction.ended)
            sink.peer.reading = True
            self.settle(lambda sink=sink: sink.peer.ended == "end")  # type: ignore[misc]
            self.assertEqual(data, sink.peer.received)

    def test_reset(self) -> None:
        """
        A reset goes on as a reset.
        """
        for first in self.bothWays():
            self.make()
            source, sink, _ = self.ways()[first]
            # A Unix socket is reset by being closed with bytes unread.
            source.peer.reading = False
            sink.peer.write(b"never read")
            self.settle(lambda first=first: self.ways()[1 - first][2].count == 10)  # type: ignore[misc]
            source.peer.reset()
            self.settle(lambda: self.relay.over)
            self.assertOver("reset")
            self.assertIn(source.end.who, self.outcomes[0][1])
            self.assertLost(sink)

    def test_brokenSink(self) -> None:
        """
        What a plain peer said before it went away is delivered, even where writing to it fails first.  TLS cannot be
        read any more once a write has failed, so there it is enough that the session is reset.
        """
        for first in self.bothWays():
            self.make()
            source, sink, _ = self.ways()[first]
            source.peer.write(b"more")
            sink.peer.write(b"last words")
            self.loopback.first(source)
            source.peer.pump()
            sink.peer.pump()
            sink.peer.close()
            if sink.kind == "plain":
                self.settle(lambda source=source: source.peer.received == b"last words")  # type: ignore[misc]
            for _ in range(50):
                if self.relay.over:
                    break
                source.peer.write(b"more")
                self.settle()
            self.assertOver("reset")
            self.assertIn(sink.end.who, self.outcomes[0][1])
            self.settle(lambda source=source: bool(source.connected.losses))  # type: ignore[misc]
            self.assertTrue(source.aborted)

    def test_truncation(self) -> None:
        """
        A stream that ends without its close_notify goes on as what it was, and the other direction goes on.
        """
        for first in self.bothWays():
            self.make()
            source, sink, _ = self.ways()[first]
            source.peer.write(b"half a sent")
            source.peer.cut()
            expected = self.ending(source, sink, "truncated")
            self.settle(lambda sink=sink: bool(sink.peer.ended))  # type: ignore[misc]
            self.assertEqual((b"half a sent", expected), (sink.peer.received, sink.peer.ended))
            self.loopback.advance(30)
            late = self.bulk(6)
            sink.peer.write(late)
            sink.peer.end()
            self.settle(lambda source=source: bool(source.peer.ended))  # type: ignore[misc]
            self.assertEqual("end", source.peer.ended)
            self.assertEqual(late, source.peer.received)
            self.settle(lambda: self.relay.over)
            self.assertOver("closed" if source.kind == "plain" else "truncated")

    def test_truncationAborts(self) -> None:
        """
        Where it is wanted, truncated TLS resets the session; a plain stream cannot be truncated.
        """
        for first in self.bothWays():
            self.make(abortTruncated=True)
            source, sink, _ = self.ways()[first]
            source.peer.write(b"half a sent")
            source.peer.cut()
            if source.kind == "plain":
                self.settle(lambda sink=sink: sink.peer.ended == "end")  # type: ignore[misc]
                self.assertEqual([], self.outcomes)
            else:
                self.settle(lambda: self.relay.over)
                self.assertOver("truncated")
                self.assertLost(sink)

    def test_byteAtATime(self) -> None:
        """
        Peers that send and read single bytes, or nearly so, lose none.
        """
        self.make()
        data = self.bulk(7, 300)
        for side in (self.near, self.far):
            side.peer.step = self.loopback.smallest
            side.peer.write(data)
            side.peer.end()
        self.settle(lambda: self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(data == self.near.peer.received == self.far.peer.received)

    def test_simultaneousClose(self) -> None:
        """
        Both peers may end at once.
        """
        self.make()
        for side in (self.near, self.far):
            side.peer.write(b"goodbye")
            side.peer.end()
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(self.near.peer.received == self.far.peer.received == b"goodbye")
        self.assertOver("closed")

    def test_bulkBothWays(self) -> None:
        """
        Much data both ways at once arrives as it was sent.
        """
        self.make()
        there, back = self.bulk(8, 3 << 20), self.bulk(9, 3 << 20)
        self.near.peer.write(there)
        self.far.peer.write(back)
        self.near.peer.end()
        self.far.peer.end()
        self.settle(lambda: self.relay.over and self.near.peer.ended == self.far.peer.ended == "end")
        self.assertTrue(there == self.far.peer.received)
        self.assertTrue(back == self.near.peer.received)
        self.assertEqual((len(there), len(back)), (self.relay.outward.count, self.relay.inward.count))

    def test_endBoth(self) -> None:
        """
        Where it is wanted, the end of one direction ends both: what was cut is not passed off as an end.
        """
        for first in self.bothWays():
            self.make(endBoth=True)
            source, sink, _ = self.ways()[first]
            source.peer.write(b"that is all")
            source.peer.end()
            self.settle(lambda: self.relay.over and bool(self.near.peer.ended and self.far.peer.ended))
            self.assertEqual((b"that is all", "end"), (sink.peer.received, sink.peer.ended))
            self.assertEqual("end" if source.kind == "plain" else "truncated", source.peer.ended)
            self.assertOver("closed")

    def test_endBothWhileClogged(self) -> None:
        """
        Where one end ends both, bytes that already are on their way the other way are delivered first.
        """
        self.make(endBoth=True)
        data = self.bulk(10, 2 << 20)
        self.near.peer.reading = False
        self.far.peer.write(data)
        self.settle(lambda: self.relay.inward.clogged)
        self.near.peer.end()
        self.settle(lambda: self.far.peer.ended == "end")
        self.near.peer.reading = True
        self.settle(lambda: self.relay.over and bool(self.near.peer.ended))
        self.assertOver("closed")
        self.assertEqual(self.relay.inward.count, len(self.near.peer.received))
        self.assertTrue(data.startswith(self.near.peer.received))

    def test_lostFromOutside(self) -> None:
        """
        A connection that the reactor finds dead ends the session as a reset.
        """
        for first in self.bothWays():
            self.make()
            source, sink, _ = self.ways()[first]
            source.connected.transport.connectionLost(_lost())
            self.settle(lambda: self.relay.over)
            self.assertOver("reset")
            self.assertLost(sink)

    def test_lostBeforeTheStart(self) -> None:
        """
        A side that is lost before it is joined ends the session, too.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        self.far.connected.transport.connectionLost(_lost())
        self.join()
        self.assertOver("reset")
        self.assertLost(self.near)

    def test_abort(self) -> None:
        """
        A session that is cut resets both sides, and is told once.
        """
        self.make()
        self.relay.abort("expired", "no byte moved")
        self.relay.abort("stopped", "the service stopped")
        self.assertEqual([("expired", "no byte moved")], self.outcomes)
        self.assertLost(self.near)
        self.assertLost(self.far)

    def test_abortWhileClogged(self) -> None:
        """
        A session whose directions both are stuck can be cut.
        """
        self.make()
        for side in (self.near, self.far):
            side.peer.reading = False
            side.peer.write(self.bulk(11, 3 << 20))
        self.settle(lambda: self.relay.outward.clogged and self.relay.inward.clogged)
        self.relay.abort("expired", "no byte moved")
        self.assertLost(self.near)
        self.assertLost(self.far)

    def test_garbage(self) -> None:
        """
        A record that does not verify ends the session: its sender gets an alert, and the other side a reset.
        """
        for first in self.bothWays():
            self.make()
            source, sink, _ = self.ways()[first]
            if source.kind != "plain":
                assert isinstance(source.peer, TLSPeer)
                source.peer.write(b"good")
                source.peer.writePlain(b"\x17\x03\x03\x00\x40" + bytes(64))
                self.settle(lambda: self.relay.over)
                self.assertOver("failed")
                self.settle(lambda sink=sink: sink.peer.received == b"good")  # type: ignore[misc]
                self.assertLost(sink)
                self.settle(lambda source=source: source.peer.ended == "failed")  # type: ignore[misc]


def _lost() -> Failure:
    return Failure(error.ConnectionLost())


def pairings(module: str, base: type[Streams], *more: type) -> dict[str, type]:
    """
    Make one test class for each pairing of kinds.

    @param module: Whose classes they are.
    @param base: Where the sockets come from.
    @param more: What is tested.
    @return: The classes by their names.
    """
    classes = {}
    for near in KINDS:
        for far in KINDS:
            name = f"{near[0].upper()}{near[1:].replace('.', '')}To{far[0].upper()}{far[1:].replace('.', '')}Tests"
            doc = f"From {near} to {far}."
            body = {"nearKind": near, "farKind": far, "__doc__": doc, "__module__": module}
            classes[name] = type(name, (*more, base), body)
    return classes
