# -*- test-case-name: tests.test_loopback -*-
"""
L{tlsproxy.loopback}; see L{tests.test_loopback_pairings} for what every pairing promises.
"""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone

from tests.nesting import Nested
from tlsproxy.deadlines import Deadlines
from tlsproxy.end import End
from tlsproxy.errors import HandshakeFailed, PeerEnded, PeerReset, SessionError
from tlsproxy.interfaces import ENDED, RESET, TRUNCATED
from tlsproxy.loopback import PATIENCE, Layer, PipedEnd, Told, layer, plug, socketPair
from tlsproxy.testing.socketreactor import ADDRESS
from tlsproxy.testing.streampeers import Peer, TLSPeer
from tlsproxy.testing.streams import Side, Streams, serverTLS
from tlsproxy.tls.native import TLSStream


class ToldTests(Streams):
    """
    What ends tell each other.
    """

    def test_worst(self) -> None:
        """
        Of several words the worst one holds.
        """
        told = Told()
        self.assertEqual(0, told.how)
        for how, after in ((ENDED, ENDED), (TRUNCATED, TRUNCATED), (ENDED, TRUNCATED), (RESET, RESET)):
            told.say(how)
            self.assertEqual(after, told.how)

    def test_leaveOnce(self) -> None:
        """
        To be let go is told once, and need not be heard.
        """
        told = Told()
        told.leave(True)
        heard: list[bool] = []
        told.whenLeft = heard.append
        told.leave(False)
        told.leave(True)
        self.assertEqual([False], heard)


class PipedEndTests(Streams):
    """
    An End on a pipe whose other end is in the hands of the test.
    """

    def setUp(self) -> None:
        """
        Make a pipe.
        """
        super().setUp()
        ours, self.theirs = socketPair("the client")
        self.addCleanup(self.theirs.close)
        self.mine, self.its = Told(), Told()
        self.peer = IPv4Address("TCP", "192.0.2.7", 50112)
        self.host = IPv4Address("TCP", "198.51.100.1", 443)
        self.end = PipedEnd("the client", self.mine, self.its, self.peer, self.host)
        plug(self.loopback.reactor, self.end, ours)
        self.addCleanup(self.end.close)
        self.addCleanup(self.end.letGo)

    def read(self) -> Any:
        """
        Read once.
        """
        return Deferred.fromCoroutine(self.end.read(100))

    def tearDown(self) -> None:
        """
        Close it.
        """
        self.end.finish()
        self.theirs.close()
        super().tearDown()

    def test_addresses(self) -> None:
        """
        It has the addresses that it was given, and not its socket's.
        """
        self.assertEqual((self.peer, self.host, "the client"), (self.end.peer(), self.end.host(), self.end.who))

    def test_end(self) -> None:
        """
        An end is an end where the other end of the pipe says so; the bytes before it come first.
        """
        self.theirs.send(b"bytes")
        self.its.say(ENDED)
        self.theirs.shutdown(socket.SHUT_WR)
        self.assertEqual([b"bytes", b""], [self.successResultOf(self.read()) for _ in range(2)])

    def test_truncated(self) -> None:
        """
        A truncated stream is told as such, although nothing but an end of stream is to be seen.
        """
        self.its.say(TRUNCATED)
        self.theirs.shutdown(socket.SHUT_WR)
        self.assertIn("without ending TLS", str(self.failureResultOf(self.read(), PeerEnded).value))

    def test_reset(self) -> None:
        """
        So is a reset.
        """
        self.theirs.send(b"bytes")
        self.its.say(RESET)
        self.theirs.close()
        self.assertEqual(b"bytes", self.successResultOf(self.read()))
        self.failureResultOf(self.read(), PeerReset)

    def test_silence(self) -> None:
        """
        Who vanishes without a word counts as reset.
        """
        self.theirs.close()
        self.failureResultOf(self.read(), PeerReset)

    def test_unread(self) -> None:
        """
        That the other end was closed with bytes unread makes no reset of an end.
        """
        self.end.writing.send(b"never read")
        self.its.say(ENDED)
        self.theirs.close()
        self.assertEqual(b"", self.successResultOf(self.read()))

    def test_resetWhileWaiting(self) -> None:
        """
        A hello and a handshake that are cut off by a reset are told as reset.
        """
        waiting = Deferred.fromCoroutine(self.end.peekHello())
        self.its.say(RESET)
        self.theirs.close()
        self.settle()
        self.failureResultOf(waiting, PeerReset)

    def test_handshakeCutOff(self) -> None:
        """
        One that is cut off by an end is told as before.
        """
        waiting = Deferred.fromCoroutine(self.end.startTLS(serverTLS("TLSv1.3")))
        self.its.say(ENDED)
        self.theirs.close()
        self.settle()
        self.failureResultOf(waiting, PeerEnded, HandshakeFailed)

    def test_tellsEnd(self) -> None:
        """
        It tells how its own stream ended.
        """
        self.end.shutdownWrite(TRUNCATED)
        self.assertEqual((TRUNCATED, b""), (self.mine.how, self.theirs.recv(1)))
        self.end.letGo()
        self.assertEqual(TRUNCATED, self.mine.how)

    def test_tellsClosing(self) -> None:
        """
        Also where its socket is closed next, which is left to whoever closes.
        """
        self.end.shutdownWrite(TRUNCATED, closing=True)
        self.assertEqual(TRUNCATED, self.mine.how)
        self.assertRaises(BlockingIOError, self.theirs.recv, 1)

    def test_tellsReset(self) -> None:
        """
        It tells of a reset, and that it was let go, once.
        """
        left: list[bool] = []
        self.mine.whenLeft = left.append
        self.end.letGo(reset=True)
        self.end.letGo()
        self.assertEqual((RESET, [True]), (self.mine.how, left))

    def test_tellsLoss(self) -> None:
        """
        One that is lost has not ended.
        """
        left: list[bool] = []
        self.mine.whenLeft = left.append
        self.end.transport.connectionLost(connectionDone)
        self.assertEqual((RESET, [True]), (self.mine.how, left))

    def test_noDescriptors(self) -> None:
        """
        Where no descriptor is left, the session is told so.
        """

        def socketpair() -> None:
            raise OSError(24, "Too many open files")

        self.patch(socket, "socketpair", socketpair)
        problem = self.assertRaises(SessionError, socketPair, "the client")
        self.assertEqual("the client cannot be given a pipe: Too many open files", str(problem))


class LayerTests(Nested):
    """
    What is particular about TLS inside TLS.
    """

    def inner(self, kind: str = "plain") -> Side:
        """
        Make a side with TLS around it.
        """
        side = self.side(kind, near=True)
        self.near = side
        return side

    def outerPeer(self) -> TLSPeer:
        """
        The peer of the TLS around it.
        """
        tunnel: Any = self.near.peer.socket
        assert isinstance(tunnel.outer, TLSPeer)
        return tunnel.outer

    def test_whose(self) -> None:
        """
        It is the same peer's.
        """
        side = self.inner()
        self.assertEqual(("the client", ADDRESS[0]), (side.end.who, getattr(side.end.peer(), "host", "")))

    def test_outerTruncated(self) -> None:
        """
        Where the TLS around it was truncated, what is plain inside it was, too.
        """
        side = self.inner()
        self.outerPeer().cut()
        self.settle()
        reading = Deferred.fromCoroutine(side.end.read(1))
        self.assertIn("without ending TLS", str(self.failureResultOf(reading, PeerEnded).value))

    def test_truncationGoesOut(self) -> None:
        """
        A truncated upstream is a truncated stream to the peer of the TLS around, and nothing is passed off as its end.
        """
        self.nearKind = "plain"
        self.farKind = "TLSv1.3"
        for first in ("near", "far"):
            self.make()
            if first == "near":
                # Whichever direction ends last.
                self.near.peer.end()
                self.settle(lambda: self.far.peer.ended == "end")
            self.far.peer.cut()
            self.settle(lambda: bool(self.outerPeer().ended))
            self.assertEqual("truncated", self.outerPeer().ended)
            self.tearDown()
            self.setUp()

    def test_innerEnd(self) -> None:
        """
        TLS inside ends, and then the TLS around it: two words, and a FIN.
        """
        self.nearKind = "TLSv1.3"
        self.make()
        self.far.peer.end()
        self.settle(lambda: self.near.peer.ended == "end")
        self.assertTrue(self.outerPeer().told)
        self.near.peer.end()
        self.settle(lambda: self.relay.over)
        self.assertOver("closed")

    def test_endTLSInside(self) -> None:
        """
        TLS inside can end while the TLS around it goes on, exactly at the boundary.
        """
        side = self.inner("TLSv1.3")
        peer = side.peer
        assert isinstance(peer, TLSPeer)
        peer.write(b"last words")
        peer.endTLS()
        peer.writePlain(b"and in plain")
        ending = Deferred.fromCoroutine(side.end.stopTLS())
        self.settle(lambda: ending.called)
        self.assertEqual(b"last words", self.successResultOf(ending))
        reading = Deferred.fromCoroutine(side.end.read(100))
        self.settle(lambda: reading.called)
        self.assertEqual(b"and in plain", self.successResultOf(reading))
        self.assertIsNone(side.end.tls)

    def test_resetGoesAtOnce(self) -> None:
        """
        A reset does not wait for a peer that takes nothing.
        """
        side = self.inner()
        side.peer.reading = False
        while side.end.writing.send(bytes(65536)):
            self.settle()
        side.end.finish(reset=True)
        self.loopback.advance(0)
        self.assertEqual(self.before[:-1], [one for one in self.loopback.left()[:-1] if one.active()])
        self.assertEqual(set(), self.loopback.registered())

    def test_deliveredAfterwards(self) -> None:
        """
        What was written before the session let go is delivered, although it is over; then the outer End goes, too.
        """
        side = self.inner()
        side.peer.reading = False
        sent = 0
        while count := side.end.writing.send(bytes(65536)):
            sent += count
            self.settle()
        side.end.finish()
        self.settle()
        self.loopback.advance(PATIENCE / 2)
        side.peer.reading = True
        self.settle(lambda: len(side.peer.received) == sent)
        self.settle(lambda: self.outerPeer().ended == "end")

    def test_abandoned(self) -> None:
        """
        A peer that takes nothing of it is waited for no longer than half a minute.
        """
        side = self.inner()
        side.peer.reading = False
        while side.end.writing.send(bytes(65536)):
            self.settle()
        side.end.finish()
        self.settle()
        self.loopback.advance(PATIENCE / 2)
        self.assertTrue(self.loopback.registered())
        for _ in range(5):
            self.loopback.advance(PATIENCE / 2)
            self.settle()
        self.assertEqual(set(), self.loopback.registered())

    def test_peerStays(self) -> None:
        """
        A peer that does not end its own direction is not waited for, even if it goes on sending.
        """
        side = self.inner()
        side.end.finish()
        self.settle()
        for _ in range(30):
            if side.peer.socket.fileno() >= 0:
                side.peer.write(b"still here")
            self.settle()
            self.loopback.advance(0.1)
        self.settle()
        self.assertEqual(set(), self.loopback.registered())

    def test_outerLost(self) -> None:
        """
        Where the outer End was lost before, so is the inner one.
        """
        side = Streams.side(self, "TLSv1.3", near=True)
        side.end.finish(reset=True)
        self.settle()
        side = self.lay(side)
        reading = Deferred.fromCoroutine(side.end.read(1))
        self.settle()
        self.failureResultOf(reading, PeerReset)

    def lay(self, side: Side) -> Side:
        """
        Make an inner End on an End that is lost.
        """
        side.end.peer = lambda: IPv4Address("TCP", *ADDRESS)  # type: ignore[method-assign]
        inner = layer(side.end, Deadlines(self.loopback.reactor))
        self.sides[-1].end = inner
        return Side("plain", inner, side.connected, side.peer)

    def test_bounded(self) -> None:
        """
        A session that reads nothing stops its peer.
        """
        side = self.inner()
        side.peer.write(bytes(8 << 20))
        self.settle()
        self.assertGreater(len(side.peer.unsent) + len(self.outerPeer().unsent), 6 << 20)

    def test_noGarbage(self) -> None:
        """
        Whichever way it goes, nothing is left to the cycle collector.
        """
        kinds = (Layer, PipedEnd, Told, End, TLSStream)
        gc.collect()
        # What other tests of this process still hold.
        before = [one for one in gc.get_objects() if type(one) in kinds]
        for way in ("end", "reset", "peer resets", "finish"):
            side = self.inner("TLSv1.3")
            gc.collect()
            gc.disable()
            self.addCleanup(gc.enable)
            try:
                if way == "end":
                    side.peer.end()
                    self.settle()
                elif way == "peer resets":
                    self.outerPeer().reset()
                    self.settle()
                side.end.finish(reset=way == "reset")
                self.settle()
                side.peer.close()
                self.settle()
                self.loopback.advance(2 * PATIENCE)
                self.settle()
                del side, self.near
                self.sides.clear()
                left = [one for one in gc.get_objects() if type(one) in kinds]
                self.assertEqual([], [one for one in left if all(one is not other for other in before)], way)
            finally:
                gc.enable()

    def test_descriptors(self) -> None:
        """
        All descriptors are closed.
        """
        before = len(os.listdir("/dev/fd"))
        side = self.inner()
        self.assertEqual(before + 4, len(os.listdir("/dev/fd")))
        side.end.finish()
        side.peer.close()
        self.settle()
        self.assertIsInstance(side.peer, Peer)
        self.assertEqual(before, len(os.listdir("/dev/fd")))
