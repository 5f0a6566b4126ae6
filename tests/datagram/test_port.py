"""
Tests for L{tlsproxy.datagram.port}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, IListeningPort, IReadDescriptor
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.datagram.wires import HERE, THERE, FakeSocket, Peer, Result
from tests.tls.terrible import DatagramCase
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.port import BATCH, FRAGMENTED, FULL, GARBAGE, HALF_OPEN, DatagramPort, Terms
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.wire.cookies import Cookies


class Reactor(Clock):
    """
    A reactor that knows what is to be read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        if reader in self.readers:
            self.readers.remove(reader)


class PortCase(DatagramCase):
    """
    A test with a port.

    @ivar accepted: Its associations.
    @ivar heard: What came in them.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        super().setUp()
        self.reactor = Reactor()
        self.clock.also = self.reactor.seconds
        self.tls = self.server()
        self.theirs = self.client()
        self.accepted: list[DatagramEnd] = []
        self.results: list[Result] = []
        self.heard: list[bytes] = []
        self.peers: dict[Any, Peer] = {}
        self.listen()

    def listen(self, **more: Any) -> None:
        """
        Begin anew.
        """
        self.sock = FakeSocket()
        self.random = 0
        cookies = Cookies(self.secret, self.reactor.seconds)
        self.port = DatagramPort(self.reactor, self.sock, self.accept, cookies, Terms(**more))  # type: ignore[arg-type]
        self.port.startListening()

    def secret(self, count: int) -> bytes:
        """
        Make what stands for random bytes.
        """
        self.random += 1
        return bytes([self.random]) * count

    def accept(self, end: DatagramEnd) -> None:
        """
        Let somebody in.
        """
        self.accepted.append(end)
        if end.dtlsHello is None:
            end.join(self.hear)
            return
        self.results.append(Result(end.startTLS(self.tls, None, end.dtlsHello.hello.serverName)))
        self.results[-1].deferred.addCallback(lambda _: end.join(self.hear) if not end.gone else None)

    def hear(self, datagram: Any, count: int) -> None:
        """
        Hear something.
        """
        self.heard.append(bytes(datagram.view[:count]))

    def come(self, datagram: bytes, address: Any = THERE) -> None:
        """
        Have one datagram come.
        """
        self.sock.coming.append((datagram, address))
        self.port.doRead()

    def peer(self, address: Any = THERE) -> Peer:
        """
        Make a client, which has said nothing yet; it takes the place of one that is at the same address.
        """
        peer = Peer(self.theirs.begin(DTLSConnection, 1200), address, lambda *sent: self.sock.coming.append(sent))
        self.peers[address] = peer
        return peer

    def carry(self, most: int = 1000) -> None:
        """
        Carry everything.

        @param most: How many datagrams toward the clients at most.
        """
        while self.sock.coming or (self.sock.sent and most):
            if self.sock.coming:
                self.port.doRead()
            if self.sock.sent and most:
                most -= 1
                datagram, address = self.sock.sent.popleft()
                self.peers[address].connection.receive(datagram)
                self.peers[address].go()

    def shaken(self, address: Any = THERE) -> Peer:  # type: ignore[override]
        """
        Make a client that has done its handshake.
        """
        peer = self.peer(address)
        peer.go()
        self.carry()
        self.assertTrue(peer.done, peer.problem)
        return peer


class CookieTests(PortCase):
    """
    Who has not shown where it is costs nothing.
    """

    def test_asked(self) -> None:
        """
        A hello without a cookie is answered by a smaller datagram, and leaves nothing behind.
        """
        self.peer().go()
        hello = self.sock.coming[0][0]
        self.port.doRead()
        ((answer, where),) = self.sock.sent
        self.assertEqual((answer[13], where), (3, THERE))
        self.assertTrue(len(answer) <= len(hello))
        self.assertEqual((self.port.ends, self.accepted, self.port.asked), ({}, [], 1))

    def test_many(self) -> None:
        """
        However many say hello.
        """
        self.peer().go()
        hello = self.sock.coming.popleft()[0]
        for number in range(3000):
            self.come(hello, (f"198.51.{number // 250}.{number % 250}", 1000 + number))
        self.assertEqual(len(self.sock.sent), 3000)
        self.assertEqual((self.port.ends, self.accepted), ({}, []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def proven(self) -> bytes:
        """
        Make a hello with a cookie.
        """
        self.peer().go()
        self.port.doRead()
        datagram, address = self.sock.sent.popleft()
        self.peers[address].connection.receive(datagram)
        self.peers[address].go()
        return self.sock.coming.popleft()[0]

    def test_proven(self) -> None:
        """
        A cookie that comes back makes an association.
        """
        self.come(self.proven())
        self.assertEqual(list(self.port.ends), [THERE])
        self.assertEqual(self.accepted[0].peer().host, THERE[0])  # type: ignore[attr-defined]
        self.assertEqual(self.accepted[0].host().port, HERE[1])  # type: ignore[attr-defined]

    def test_stolen(self) -> None:
        """
        From another address it does not.
        """
        self.come(self.proven(), ("192.0.2.8", 40000))
        self.assertEqual((self.port.ends, len(self.sock.sent)), ({}, 1))

    def test_tampered(self) -> None:
        """
        Nor does another cookie, or one that came with another hello.
        """
        hello = self.proven()
        for place in range(25, len(hello)):
            self.come(hello[:place] + bytes([hello[place] ^ 1]) + hello[place + 1 :])
        made = len(self.accepted)
        # What is beyond the cookie and the parameters may differ: the handshake fails on that.
        self.assertTrue(made < 80, made)
        self.assertTrue(len(self.sock.sent) > 60)

    def test_old(self) -> None:
        """
        Nor does one that has grown old; its owner is asked again.
        """
        hello = self.proven()
        self.reactor.advance(61)
        self.come(hello)
        self.assertEqual((self.port.ends, len(self.sock.sent)), ({}, 1))
        self.sock.sent.clear()
        self.shaken()

    def test_garbage(self) -> None:
        """
        What is no hello is dropped without an answer.
        """
        hello = self.proven()
        for junk in (b"", b"x", b"\x16", bytes(100), b"\xff" * 65507, hello[:-1], hello + b"x", b"\x17" + hello[1:]):
            self.come(junk)
        self.assertEqual((self.port.ends, list(self.sock.sent)), ({}, []))
        self.assertEqual(self.port.dropped, {GARBAGE: 8})

    def test_fragments(self) -> None:
        """
        So is a hello in fragments.
        """
        client = self.client(alpn=tuple(f"protocol-number-{number}" for number in range(40)))
        connection = client.begin(DTLSConnection, 256)
        peer = Peer(connection, THERE, lambda *sent: self.sock.coming.append(sent))
        peer.go()
        self.assertTrue(len(self.sock.coming) > 1)
        self.carry()
        self.assertEqual(list(self.port.dropped), [FRAGMENTED])
        self.assertEqual(list(self.sock.sent), [])

    def test_unreachable(self) -> None:
        """
        What the network tells of some answer disturbs nobody.
        """
        self.come(b"", None)
        self.sock.sendto = None  # type: ignore[assignment]
        self.assertEqual(self.port.ends, {})


class AssociationTests(PortCase):
    """
    Associations of several clients on one socket.
    """

    def test_several(self) -> None:
        """
        Each hears and says its own.
        """
        peers = [self.shaken(("192.0.2.1", port)) for port in range(1, 30)]
        for number, peer in enumerate(peers):
            peer.say(b"%d" % number)
        self.carry()
        self.assertEqual(self.heard, [b"%d" % number for number in range(29)])
        for number, end in enumerate(self.accepted):
            end.send(b"%d" % number)
        self.carry()
        self.assertEqual([peer.heard for peer in peers], [[b"%d" % number] for number in range(29)])

    def test_batch(self) -> None:
        """
        No more than some datagrams are taken in one turn.
        """
        peer = self.shaken()
        for _ in range(BATCH + 10):
            peer.say(b"x")
        self.port.doRead()
        self.assertEqual(len(self.heard), BATCH)
        self.port.doRead()
        self.assertEqual(len(self.heard), BATCH + 10)

    def test_repeatedHello(self) -> None:
        """
        A hello that comes again is no new association.
        """
        peer = self.peer()
        peer.go()
        self.carry(1)
        self.sock.sent.clear()
        self.reactor.advance(1)
        peer.connection.handleTimeout()
        peer.go()
        self.carry()
        self.assertTrue(peer.done)
        self.assertEqual(len(self.accepted), 1)

    def test_lostFinish(self) -> None:
        """
        A client that has not got the last of the handshake gets it again, held or not.
        """
        for held in (True, False):
            if held:
                self.hear = lambda *_: None  # type: ignore[method-assign]
            peer = self.peer(("192.0.2.1", 7 + held))
            peer.go()
            self.carry(2)
            self.assertFalse(peer.done)
            self.sock.sent.clear()
            self.reactor.advance(1)
            peer.connection.handleTimeout()
            peer.go()
            self.carry()
            self.assertTrue(peer.done)

    def test_over(self) -> None:
        """
        Nothing is left of an association that is over, and its address can come again.
        """
        peer = self.shaken()
        self.accepted[0].finish()
        self.assertEqual(self.port.ends, {})
        self.carry()
        self.shaken()
        self.assertEqual(len(self.accepted), 2)
        del peer

    def test_most(self) -> None:
        """
        There are no more of them than there may be.
        """
        self.listen(most=2)
        self.shaken(("192.0.2.1", 1))
        self.shaken(("192.0.2.1", 2))
        third = self.peer(("192.0.2.1", 3))
        third.go()
        self.carry()
        self.assertFalse(third.done)
        self.assertEqual((len(self.port.ends), self.port.dropped[FULL]), (2, 1))
        self.accepted[0].finish()
        self.reactor.advance(1)
        third.connection.handleTimeout()
        third.go()
        self.carry()
        self.assertTrue(third.done)

    def test_mostHalfOpen(self) -> None:
        """
        Nor are there more handshakes under way.
        """
        self.listen(halfOpen=2)
        for number in range(3):
            peer = self.peer(("192.0.2.1", number))
            peer.go()
            self.carry(1)
            self.sock.sent.clear()
        self.assertEqual((len(self.port.ends), self.port.dropped[HALF_OPEN]), (2, 1))
        self.accepted[0].finish()
        self.shaken(("192.0.2.1", 9))

    def test_inClear(self) -> None:
        """
        Where clients speak no DTLS anything makes an association.
        """
        self.listen(dtls=False, most=2)
        for datagram in (b"\x16\xfe\xfd" + bytes(40), b"more"):
            self.come(datagram)
        self.come(b"other", ("192.0.2.1", 1))
        self.come(b"too many", ("192.0.2.1", 2))
        self.assertEqual(len(self.accepted), 2)
        self.assertEqual(self.heard[1:], [b"more", b"other"])
        self.assertEqual(self.port.dropped, {FULL: 1})
        self.accepted[0].send(b"answer")
        self.assertEqual(self.sock.sent.pop(), (b"answer", THERE))


class AnewTests(PortCase):
    """
    Clients that begin anew from the address of an association.
    """

    def test_replaced(self) -> None:
        """
        The new association takes the place of the old one when its handshake is done, and not before.
        """
        old = self.shaken()
        ended: list[tuple[str, str]] = []
        self.accepted[0].onEnd = lambda *how: ended.append(how)
        new = self.peer()
        new.go()
        self.carry(1)
        self.assertEqual((len(self.accepted), list(self.port.pending)), (2, [THERE]))
        self.assertIdentical(self.port.ends[THERE], self.accepted[0])
        old.say(b"still here")
        self.port.doRead()
        self.assertEqual((self.heard, ended), ([b"still here"], []))
        self.carry()
        self.assertTrue(new.done)
        self.assertEqual(ended, [("closed", "the client began anew from the same address")])
        self.assertEqual((self.port.pending, self.port.ends), ({}, {THERE: self.accepted[1]}))
        new.say(b"me again")
        self.carry()
        self.assertEqual(self.heard, [b"still here", b"me again"])

    def test_spoofed(self) -> None:
        """
        Who cannot hear what is sent to an address ends nothing there.
        """
        old = self.shaken()
        stranger = self.theirs.begin(DTLSConnection, 1200)
        other = Peer(stranger, THERE, lambda *sent: self.sock.coming.append(sent))
        other.go()
        self.carry(0)
        self.assertEqual((len(self.accepted), self.port.pending), (1, {}))
        self.sock.sent.clear()
        self.come(bytes.fromhex("15fefd0000000000000063000202" + "28"))
        self.come(bytes.fromhex("15fefd00000000000000640002010000"))
        old.say(b"hello")
        self.carry()
        self.assertEqual(self.heard, [b"hello"])

    def test_never(self) -> None:
        """
        A new association that comes to nothing leaves the old one as it was.
        """
        old = self.shaken()
        self.peer().go()
        self.carry(1)
        self.peers[THERE] = old
        self.accepted[1].finish()
        self.assertEqual((self.port.pending, self.port.ends), ({}, {THERE: self.accepted[0]}))
        self.sock.sent.clear()
        old.say(b"hello")
        self.accepted[0].send(b"hello yourself")
        self.carry()
        self.assertEqual((self.heard, old.heard), ([b"hello"], [b"hello yourself"]))

    def test_oldEndsFirst(self) -> None:
        """
        Where the old one ends meanwhile, the new one has the place at once.
        """
        old = self.shaken()
        new = self.peer()
        new.go()
        self.carry(1)
        old.connection.endWrite()
        old.go()
        self.accepted[0].finish()
        self.assertEqual((self.port.pending, self.port.ends), ({}, {THERE: self.accepted[1]}))
        self.sock.sent.popleft()
        self.reactor.advance(1)
        for _ in range(3):
            self.carry()
            self.reactor.advance(1)
            new.connection.handleTimeout()
            new.go()
        self.carry()
        self.assertTrue(new.done)

    def test_halfOpen(self) -> None:
        """
        A handshake that was not done is not waited for.
        """
        for _ in range(3):
            self.peer().go()
            self.carry(1)
            self.sock.sent.clear()
        self.assertEqual(len(self.accepted), 3)
        self.assertEqual((self.port.pending, self.port.ends), ({}, {THERE: self.accepted[2]}))
        self.assertTrue(all("began anew" in str(result.problem) for result in self.results[:2]))
        self.shaken()

    def test_pendingAnew(self) -> None:
        """
        So it is beside an association.
        """
        self.listen(halfOpen=1)
        self.shaken()
        for _ in range(2):
            self.peer().go()
            self.carry(1)
            self.sock.sent.clear()
        self.assertEqual((self.port.pending, self.port.ends), ({THERE: self.accepted[2]}, {THERE: self.accepted[0]}))
        self.peer(("192.0.2.1", 1)).go()
        self.carry(1)
        self.assertEqual(self.port.dropped[HALF_OPEN], 1)


class ListeningTests(PortCase):
    """
    Tests for the port as such.
    """

    def test_interfaces(self) -> None:
        """
        It is a port of Twisted.
        """
        for interface in (IHalfCloseableDescriptor, IListeningPort, IReadDescriptor):
            self.assertTrue(verifyObject(interface, self.port))
        self.assertEqual((self.port.getHost().port, self.port.fileno()), (8443, 42))  # type: ignore[attr-defined]
        self.assertEqual(self.port.logPrefix(), "UDP port 8443")

    def test_stop(self) -> None:
        """
        A port that is stopped takes nobody new, and is closed with the last of its associations.
        """
        peer = self.shaken()
        self.port.stopListening()
        self.peer(("192.0.2.1", 1)).go()
        self.carry()
        self.assertEqual(list(self.port.ends), [THERE])
        peer.say(b"hello")
        self.carry()
        self.assertEqual((self.heard, self.reactor.readers), ([b"hello"], [self.port]))
        self.accepted[0].finish()
        self.assertEqual((self.reactor.readers, self.sock.closed), ([], False))
        self.reactor.advance(0)
        self.assertTrue(self.sock.closed)

    def test_stopIdle(self) -> None:
        """
        Without any it is closed at once, and once only.
        """
        self.port.stopListening()
        self.port.stopListening()
        self.reactor.advance(0)
        self.assertTrue(self.sock.closed)

    def test_lost(self) -> None:
        """
        A reactor that stops closes it; one that takes an error for an end does not.
        """
        self.reactor.removeReader(self.port)
        self.port.readConnectionLost(None)
        self.port.writeConnectionLost(None)
        self.assertEqual(self.reactor.readers, [self.port])
        self.port.connectionLost(None)
        self.assertEqual((self.sock.closed, self.reactor.readers), (True, []))
