"""
Tests for L{tlsproxy.datagram.hellos}.

Hellos that come whole are in L{tests.datagram.test_port}.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

from tests.datagram.ports import PortCase
from tests.datagram.wires import THERE, Peer
from tests.wire.dtlshellos import body, cut, fragment, record
from tlsproxy.datagram.hellos import FRAGMENTED, SECONDS
from tlsproxy.datagram.passing import GARBAGE, UNFINISHED
from tlsproxy.datagram.port import HALF_OPEN
from tlsproxy.tls.datagrams import DTLSConnection

ELSEWHERE = ("198.51.100.9", 50000)


def flipped(datagram: bytes, place: int = -1) -> bytes:
    """
    Change a byte of a datagram.
    """
    changed = bytearray(datagram)
    changed[place] ^= 1
    return bytes(changed)


class HellosCase(PortCase):
    """
    A test with hellos that come in fragments.
    """

    def cutting(self, address: Any = THERE, protocols: int = 20) -> Peer:
        """
        Make a client whose hellos do.

        @param protocols: How many it offers; more make more fragments.
        """
        client = self.client(alpn=tuple(f"protocol-number-{number:02}" for number in range(protocols)))
        peer = Peer(client.begin(DTLSConnection, 256), address, lambda *sent: self.sock.coming.append(sent))
        self.peers[address] = peer
        return peer

    def said(self) -> list[bytes]:
        """
        Take what clients have sent.
        """
        datagrams = [datagram for datagram, _ in self.sock.coming]
        self.sock.coming.clear()
        return datagrams

    def proven(self, address: Any = THERE, **more: Any) -> list[bytes]:
        """
        Make the fragments of a hello with its cookie.
        """
        peer = self.cutting(address, **more)
        peer.go()
        first, *_ = self.said()
        self.come(first, address)
        self.assertEqual(len(self.sock.sent), 1)
        peer.connection.receive(self.sock.sent.popleft()[0])
        peer.go()
        return self.said()

    def assertNothingKept(self) -> None:
        """
        Assert that nothing is left of anybody.
        """
        self.assertEqual((self.port.ends, self.port.pending, self.port._hellos.gathered), ({}, {}, {}))
        self.assertEqual((self.accepted, self.reactor.getDelayedCalls()), ([], []))

    def assertGoesOn(self) -> None:
        """
        Assert that the client whose hello has come ends its handshake, and is heard.
        """
        self.assertEqual((len(self.accepted), self.port._hellos.gathered), (1, {}))
        self.carry()
        peer = self.peers[THERE]
        self.assertTrue(peer.done, peer.problem)
        peer.say(b"hello")
        self.carry()
        self.assertEqual(self.heard, [b"hello"])


class GatheringTests(HellosCase):
    """
    A client whose hellos come in fragments is let in.
    """

    def test_asked(self) -> None:
        """
        The first fragment is answered by a smaller datagram, and nothing is kept of any.
        """
        self.cutting().go()
        first, *others = self.said()
        self.assertTrue(others)
        self.come(first)
        for datagram in others:
            self.come(datagram)
        ((answer, where),) = self.sock.sent
        self.assertEqual((answer[13], where, self.port.asked), (3, THERE, 1))
        self.assertTrue(len(answer) <= len(first))
        self.assertNothingKept()
        self.assertEqual(self.port.dropped, {FRAGMENTED: len(others)})

    def test_goesOn(self) -> None:
        """
        With its cookie it is put together, and is read as any other.
        """
        self.cutting().go()
        self.carry()
        self.assertGoesOn()
        hello = self.accepted[0].dtlsHello
        assert hello is not None
        self.assertEqual((hello.hello.serverName, len(hello.hello.alpn), hello.sequence), ("shop.example", 20, 1))

    def test_orders(self) -> None:
        """
        After the first they may come in any order, and twice; what comes before the first comes again.
        """
        for order in permutations(range(3)):
            self.listen()
            self.accepted.clear()
            self.heard.clear()
            fragments = self.proven(protocols=15)
            self.assertEqual(len(fragments), 3)
            early = order.index(0)
            for place in order:
                self.come(fragments[place])
                if not self.accepted:
                    self.come(fragments[place])
            self.assertEqual(len(self.accepted), 0 if early else 1)
            self.assertEqual(self.port.dropped[FRAGMENTED], 2 * early)
            self.assertEqual(len(self.port.halfOpen) + len(self.port._hellos.gathered), 1)
            for place in order[:early]:
                self.come(fragments[place])
            self.assertGoesOn()

    def test_oneDatagram(self) -> None:
        """
        All of them may come in one datagram.
        """
        self.cutting().go()
        self.come(b"".join(self.said()))
        self.assertEqual((len(self.sock.sent), self.port.dropped), (1, {}))
        self.sock.sent.clear()
        self.come(b"".join(self.proven()))
        self.assertGoesOn()

    def test_lost(self) -> None:
        """
        Whichever is lost, the client says all again, and what has come already counts.
        """
        for lost in range(3):
            self.listen()
            self.accepted.clear()
            self.heard.clear()
            for place, datagram in enumerate(self.proven(protocols=15)):
                if place != lost:
                    self.come(datagram)
            self.assertEqual(self.accepted, [])
            self.reactor.advance(1)
            peer = self.peers[THERE]
            peer.connection.handleTimeout()
            peer.go()
            self.carry()
            self.assertGoesOn()

    def test_repeated(self) -> None:
        """
        Fragments that come again when there is an association make no other.
        """
        fragments = self.proven()
        for datagram in fragments * 3:
            self.come(datagram)
        self.assertGoesOn()
        for datagram in fragments:
            self.come(datagram)
        self.assertEqual((len(self.accepted), self.port.pending, self.port._hellos.gathered), (1, {}, {}))

    def test_anew(self) -> None:
        """
        A client may begin anew from the address of an association, which stays until the handshake is done.
        """
        old = self.shaken()
        self.cutting().go()
        self.carry(1)
        self.assertEqual((len(self.accepted), list(self.port.pending)), (2, [THERE]))
        old.say(b"still here")
        self.carry()
        self.assertTrue(self.peers[THERE].done)
        self.assertEqual(self.port.ends, {THERE: self.accepted[1]})
        self.assertEqual(self.heard, [b"still here"])

    def test_anewWhileGathered(self) -> None:
        """
        It may do so before its hello is whole, too.
        """
        self.come(self.proven()[0])
        for datagram in self.proven():
            self.come(datagram)
        self.assertGoesOn()

    def test_wholeAfterAll(self) -> None:
        """
        A hello that comes whole makes what was gathered needless.
        """
        self.come(self.proven()[0])
        self.peer().go()
        self.carry()
        self.assertGoesOn()

    def test_cutByItsCookie(self) -> None:
        """
        A hello may be whole without a cookie, and cut with one.
        """
        client = self.client(alpn=("x" * 50,))
        peer = Peer(client.begin(DTLSConnection, 256), THERE, lambda *sent: self.sock.coming.append(sent))
        self.peers[THERE] = peer
        peer.go()
        first = self.said()
        self.assertEqual(len(first), 1)
        self.come(first[0])
        peer.connection.receive(self.sock.sent.popleft()[0])
        peer.go()
        self.assertEqual(len(self.sock.coming), 2)
        self.carry()
        self.assertGoesOn()


class DoubtfulTests(HellosCase):
    """
    Who has not shown where it is costs nothing, and who has costs little.
    """

    def test_flood(self) -> None:
        """
        First fragments from very many addresses leave nothing behind.
        """
        self.cutting().go()
        first, *_ = self.said()
        for number in range(3000):
            self.come(first, (f"198.51.{number // 250}.{number % 250}", 1000 + number))
        self.assertEqual((len(self.sock.sent), self.port.asked), (3000, 3000))
        self.assertNothingKept()

    def test_otherAddress(self) -> None:
        """
        Fragments from other addresses neither begin anything nor belong to what has begun.
        """
        first, *others = self.proven()
        self.come(first, ELSEWHERE)
        self.assertEqual(self.sock.sent.pop()[1], ELSEWHERE)
        for datagram in others:
            self.come(datagram, ELSEWHERE)
        self.assertNothingKept()
        self.come(first)
        for datagram in others:
            self.come(flipped(datagram), ELSEWHERE)
        self.assertEqual((self.accepted, list(self.port._hellos.gathered)), ([], [THERE]))
        for datagram in others:
            self.come(datagram)
        self.assertGoesOn()

    def test_wrongCookie(self) -> None:
        """
        A cookie that is changed or old begins nothing; there is another for it.
        """
        first, *_ = fragments = self.proven()
        for place in range(13 + 12 + 2, 13 + 12 + 34 + 1 + first[13 + 12 + 34] + 1 + 32):
            self.come(flipped(first, place))
        self.assertNothingKept()
        self.reactor.advance(61)
        self.sock.sent.clear()
        self.come(fragments[0])
        self.assertEqual(len(self.sock.sent), 1)
        self.assertNothingKept()

    def test_injected(self) -> None:
        """
        What somebody else puts among a client's fragments gives way to what comes after it.
        """
        first, *others = self.proven(protocols=15)
        self.come(first)
        self.come(flipped(others[0]))
        self.come(record(fragment(bytes(10), 300, 5000, sequence=1)))  # It is not of a hello of that size.
        self.assertEqual(self.port.dropped, {GARBAGE: 1})
        for datagram in others:
            self.come(datagram)
        self.assertGoesOn()

    def test_tooShort(self) -> None:
        """
        A first fragment without all of a cookie, or with nonsense, is not answered.
        """
        content = body(bytes(32), sessionID=bytes(32))
        for size in range(1, 100):
            self.come(cut(content, [size])[0])
        self.assertEqual(self.port.dropped, {FRAGMENTED: 99})
        self.come(cut(content, [100])[0])
        self.assertEqual(self.sock.sent.pop()[0][13], 3)
        for wrong in (b"\x03\x03" + content[2:], content[:34] + b"\x21" + bytes(150)):
            self.come(cut(wrong, [120])[0])
        self.assertEqual((self.port.dropped[GARBAGE], len(self.sock.sent)), (2, 0))
        self.assertNothingKept()

    def test_tooLarge(self) -> None:
        """
        What would fill more than a record is no hello, whoever says so.
        """
        first, *_ = self.proven()
        self.come(first[:14] + (16384).to_bytes(3, "big") + first[17:])
        self.assertEqual(self.port.dropped, {GARBAGE: 1})
        self.assertNothingKept()

    def test_unfinished(self) -> None:
        """
        What does not get whole is given up, and its client may begin again.
        """
        first, *others = self.proven()
        self.come(first)
        self.reactor.advance(SECONDS)
        self.assertNothingKept()
        for datagram in others:
            self.come(datagram)
        self.assertNothingKept()
        self.assertEqual(self.port.dropped, {UNFINISHED: 1, FRAGMENTED: len(others)})
        peer = self.peers[THERE]
        peer.connection.handleTimeout()
        peer.go()
        self.carry()
        self.assertGoesOn()

    def test_most(self) -> None:
        """
        There are no more of them than handshakes may be under way, both together; a network that has most of them
        loses its oldest to another, first what is only gathered.
        """
        self.listen(halfOpen=3)
        for number in range(4):
            self.come(self.proven(("192.0.2.1", number))[0], ("192.0.2.1", number))
        self.assertEqual((len(self.port._hellos.gathered), self.port.dropped), (3, {HALF_OPEN: 1}))
        peer = self.peer(ELSEWHERE)
        peer.go()
        self.carry(1)
        self.assertEqual([port for _, port in self.port._hellos.gathered], [1, 2])
        self.assertEqual((len(self.port.halfOpen), self.port.dropped[UNFINISHED]), (1, 1))
        self.carry()
        self.assertTrue(peer.done)

    def test_stopped(self) -> None:
        """
        A port that is closed keeps nothing.
        """
        for stop in ("stopListening", "end", "connectionLost"):
            self.listen()
            self.come(self.proven()[0])
            getattr(self.port, stop)(*[None] * (stop == "connectionLost"))
            self.reactor.advance(0)
            self.assertNothingKept()
            self.assertTrue(self.sock.closed)
