# -*- test-case-name: tests.test_loopbacktls_boundaries -*-
"""
L{tlsproxy.loopbacktls}: wherever bytes are cut and joined, what is inside TLS ends and what is plain begins at the same
byte for both, whoever the other is and whoever ends first.
"""

from __future__ import annotations

import functools
import random
import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from tlsproxy.end import End
from tlsproxy.errors import PeerEnded, PeerReset, SessionError
from tlsproxy.stocktls import StockTLS
from tlsproxy.testing.certificates import certify, write
from tlsproxy.testing.socketreactor import connect, unixPair
from tlsproxy.testing.streampeers import Peer, TLSPeer
from tlsproxy.testing.streams import Streams, clientTLS, serverTLS
from tlsproxy.tls.contexts import ClientTLS, ServerTLS

ROUNDS = 120
"""For each other end, each role and each version of TLS."""

VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


class Cutter:
    """
    What is between two ends, and cuts and joins what they say.
    """

    def __init__(self, one: socket.socket, other: socket.socket, dice: random.Random) -> None:
        self.ways: list[list[Any]] = [[one, other, bytearray()], [other, one, bytearray()]]
        self.dice = dice
        self.most = dice.choice([200, 5000, 65536])

    def pump(self) -> bool:
        """
        Move one piece each way.
        """
        moved = False
        for way in self.ways:
            source, sink, waiting = way
            try:
                piece = source.recv(self.dice.randint(1, self.most))
                waiting += piece
                moved = moved or bool(piece)
            except BlockingIOError:
                pass
            moved = moved or bool(waiting)
            if waiting and self.dice.random() < 0.7:
                try:
                    del waiting[: sink.send(waiting[: self.dice.randint(1, self.most)])]
                except BlockingIOError:
                    pass
        return moved

    def close(self) -> None:
        """
        Be gone.
        """
        for sock, *_ in self.ways:
            sock.close()


@functools.cache
def stdlibContext(version: str, server: bool) -> ssl.SSLContext:
    """
    TLS of the standard library.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if server:
        holder = certify("peer")
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(write(str(Path(folder) / "peer.pem"), holder.pem(), holder.keyPEM()))
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class StdlibPeer(Peer):
    """
    A peer on Python's own C{ssl}: it sends what it has, waits for what it is to get, and unwraps.
    """

    def __init__(self, sock: socket.socket, version: str, server: bool, early: bytes, tail: bytes, due: int) -> None:
        """
        @param due: How many bytes it waits for.
        """
        super().__init__(sock)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = stdlibContext(version, server).wrap_bio(self._in, self._out, server)
        self._raw = bytearray()
        self._early, self._tail, self._due = early, tail, due
        self.secret, self.plain = bytearray(), bytearray()
        self._phase = 0

    def pump(self) -> bool:
        """
        As L{Peer.pump}.
        """
        self._go()
        return super().pump()

    def _got(self, data: bytes) -> None:
        if self._phase == 3:
            self.plain += data
            return
        self._raw += data
        while self._phase < 3 and len(self._raw) >= (length := 5 + int.from_bytes(self._raw[3:5], "big")):
            self._in.write(bytes(self._raw[:length]))
            del self._raw[:length]
            self._go()
        if self._phase == 3:
            self.plain += self._raw
            self._raw.clear()

    def _go(self) -> None:
        try:
            if self._phase == 0:
                self._tls.do_handshake()
                if self._early:
                    self._tls.write(self._early)
                self._phase = 1
            while self._phase == 1 and len(self.secret) < self._due:
                self.secret += self._tls.read(65536)
            if self._phase in (1, 2):
                self._phase = max(self._phase, 2)
                self._tls.unwrap()
                self._phase = 3
        except ssl.SSLWantReadError:
            pass
        if self._phase < 4:
            self.unsent += self._out.read()
        if self._phase >= 2 and self._tail:
            self.unsent += self._tail
            self._tail = b""


class BoundaryTests(Streams):
    """
    A session's TLS, and what is plain behind it.

    @ivar eager: How often TLS is not left to the reactor.
    """

    eager = 1.0

    def setUp(self) -> None:
        """
        Have TLS sometimes left to the reactor alone, where as a rule it is there when it is asked for.
        """
        super().setUp()
        self.slow = random.Random()
        for name in ("read", "send"):
            self.patch(StockTLS, name, self.slowed(getattr(StockTLS, name)))

    def slowed(self, attempt: Callable[[StockTLS], None]) -> Callable[[StockTLS], None]:
        """
        Make an attempt that is not always made.
        """

        def sometimes(tls: StockTLS) -> None:
            if self.slow.random() < self.eager:
                attempt(tls)

        return sometimes

    def tearDown(self) -> None:
        """
        Nothing is left.
        """
        self.clean()
        super().tearDown()

    def clean(self) -> None:
        """
        Close the ends of a round.
        """
        for end in getattr(self, "ends", ()):
            end.finish()
        for one in getattr(self, "pumps", ()):
            one.close()
        self.ends: list[End] = []
        self.pumps: list[Any] = []
        self.loopback.settle([], None)
        self.loopback.advance(1)
        self.loopback.settle([], None)
        self.loopback.advance(0)

    def end(self, sock: socket.socket, way: str) -> End:
        """
        Make an End.
        """
        end = End("the client")
        end.takeOff = way
        connect(self.loopback.reactor, end, sock)
        self.ends.append(end)
        return end

    def roll(self, seed: int) -> random.Random:
        """
        Begin a round.
        """
        dice = random.Random(seed)
        self.loopback.reactor.shuffle = self.slow = dice
        self.eager = dice.choice([0.0, 0.5, 1.0])
        return dice

    async def script(
        self, end: End, tls: ServerTLS | ClientTLS, early: bytes, tail: bytes, due: tuple[int, int], dice: random.Random
    ) -> tuple[bytes, bytes]:
        """
        Talk in TLS, take it off, and talk on.

        @param due: How much comes in TLS, and behind it.
        @return: What came in TLS, and behind it.
        """
        limit = dice.choice([1000, 65536])
        await end.startTLS(tls)
        secret = b""
        if dice.random() < 0.7:
            await end.write(early)
            early = b""
            while len(secret) < due[0]:
                secret += await end.read(limit)
            end.expectTLSEnd()
            if dice.random() < 0.5:
                # The other's close_notify may well be there.
                await end.sleep(0)
        else:
            end.expectTLSEnd()
        await end.write(early)
        await end.endTLSWrite()
        if dice.random() < 0.5:
            await end.write(tail)
            tail = b""
        secret += await end.readToTLSEnd()
        await end.write(tail)
        plain = b""
        while len(plain) < due[1]:
            plain += await end.read(limit)
        return secret, plain

    def play(self, other: str, server: bool, version: str, seed: int) -> None:
        """
        Play one round.
        """
        dice = self.roll(seed)
        ours, near = unixPair()
        far, theirs = unixPair()
        cutter = Cutter(near, far, dice)
        self.pumps.append(cutter)
        said = [dice.randbytes(dice.choice([0, 1, dice.randint(2, 400), dice.randint(2, 40000)])) for _ in range(2)]
        tails = [dice.randbytes(dice.choice([0, 5, dice.randint(2, 400), dice.randint(2, 5000)])) for _ in range(2)]
        tls: list[Any] = [serverTLS(version), clientTLS(version)]
        if not server:
            tls.reverse()
        end = self.end(ours, "loopback")
        done = Deferred.fromCoroutine(self.script(end, tls[0], said[0], tails[0], (len(said[1]), len(tails[1])), dice))
        peer: Any = None
        if other in ("socket", "loopback"):
            back = Deferred.fromCoroutine(
                self.script(self.end(theirs, other), tls[1], said[1], tails[1], (len(said[0]), len(tails[0])), dice)
            )
        elif other == "stdlib":
            peer = StdlibPeer(theirs, version, not server, said[1], tails[1], len(said[0]))
        else:
            peer = TLSPeer(theirs, version, not server)
            peer.write(said[1])
            peer.endTLS()
            while not peer.ready:
                self.loopback.reactor.pump()
                cutter.pump()
                peer.pump()
            peer.writePlain(tails[1])
        pumps: list[Any] = [cutter] if peer is None else [cutter, peer]
        self.pumps[len(self.pumps) :] = pumps[1:]
        while any([self.loopback.reactor.pump(), *[one.pump() for one in pumps]]):
            pass
        self.assertEqual((said[1], tails[1]), self.successResultOf(done))
        if peer is None:
            heard = self.successResultOf(back)
        else:
            heard = (bytes(peer.secret if other == "stdlib" else peer.received), bytes(peer.plain))
        self.assertEqual((said[0], tails[0]), heard)
        for sock in (ours, theirs):
            self.assertRaises(BlockingIOError, sock.recv, 1)

    def many(self, other: str) -> None:
        """
        Play many rounds.
        """
        self.clean()
        before = self.loopback.left()
        for number in range(ROUNDS):
            for server in (True, False):
                for version in VERSIONS:
                    try:
                        self.play(other, server, version, number)
                    except BaseException:
                        print(f"{other}, {server=}, {version}, seed {number}")
                        raise
                    self.clean()
                    self.assertEqual(before, self.loopback.left())

    def test_memory(self) -> None:
        """
        With TLS that sends its close_notify and what is plain in one piece.
        """
        self.many("memory")

    def test_socket(self) -> None:
        """
        With TLS straight on the socket.
        """
        self.many("socket")

    def test_loopback(self) -> None:
        """
        With TLS by way of loopback.
        """
        self.many("loopback")

    def test_stdlib(self) -> None:
        """
        With C{ssl.SSLObject.unwrap}.
        """
        self.many("stdlib")

    def cut(self, version: str, seed: int, reset: bool) -> None:
        """
        Have the peer's stream end at some byte.
        """
        dice = self.roll(seed)
        ours, theirs = unixPair()
        end = self.end(ours, "loopback")
        peer = TLSPeer(theirs, version, server=False)
        self.pumps.append(peer)
        handshake = Deferred.fromCoroutine(end.startTLS(serverTLS(version)))
        if dice.random() < 0.3:
            # In the middle of the handshake.
            peer._handshake()
            if dice.random() < 0.5:
                self.loopback.reactor.pump()
                peer.pump()
                self.loopback.reactor.pump()
                peer._read()
            whole, data, length = b"", b"", 0
        else:
            self.loopback.settle([peer], lambda: handshake.called and peer.ready)
            data = dice.randbytes(dice.randint(1, 40000))
            peer.write(data)
            length = len(peer.unsent)
            peer.endTLS()
            whole = bytes(peer.unsent)
        at = dice.choice([0, length, length + 1, len(whole) - 1, dice.randint(0, len(whole))]) if whole else None
        if at is None:
            at = dice.randint(0, max(len(peer.unsent) - 1, 0))
        at = max(at, 0)
        if reset:
            ours.send(b"never read")  # A Unix socket is reset by being closed with bytes unread.
        sent = bytes(peer.unsent[:at])
        theirs.send(sent) if sent else None
        if reset:
            theirs.close()
        else:
            theirs.shutdown(socket.SHUT_WR)
        peer.unsent.clear()
        peer.reading = False
        if not whole:
            self.loopback.settle([], None)
            problem = self.failureResultOf(handshake).value
            self.assertIsInstance(problem, PeerReset if reset else PeerEnded)
            return
        secret = b""
        failure: Any = None
        while failure is None:
            reading = Deferred.fromCoroutine(end.read(dice.choice([700, 65536])))
            self.loopback.settle([], None)
            results: list[Any] = []
            reading.addBoth(results.append)
            self.assertTrue(results, "it is told")
            if isinstance(results[0], bytes):
                if not results[0]:
                    break
                secret += results[0]
            else:
                failure = results[0].value
        self.assertTrue(data.startswith(secret))
        if at == len(whole) and not reset:
            self.assertEqual((data, None), (secret, failure))
        elif failure is None:
            self.assertTrue(reset)
            self.assertEqual(len(whole), at)
        else:
            self.assertIsInstance(failure, SessionError)
            self.assertIsInstance(failure, (PeerReset,) if reset else (PeerEnded,))

    def test_cut(self) -> None:
        """
        A stream that is ended or reset at any byte is told for what it is, and never for an end of TLS.
        """
        self.clean()
        before = self.loopback.left()
        for number in range(2 * ROUNDS):
            for version in VERSIONS:
                for reset in (False, True):
                    try:
                        self.cut(version, number, reset)
                    except BaseException:
                        print(f"{version}, seed {number}, {reset=}")
                        raise
                    self.clean()
                    self.assertEqual(before, self.loopback.left())
