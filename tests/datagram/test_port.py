"""
Tests for L{tlsproxy.datagram.port}.

Clients that begin anew are in L{tests.datagram.test_port_anew}, hellos in fragments in L{tests.datagram.test_hellos}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableDescriptor, IListeningPort, IReadDescriptor
from zope.interface.verify import verifyObject

from tests.datagram.ports import PortCase
from tests.datagram.wires import HERE, THERE
from tlsproxy.datagram.port import BATCH, FULL, GARBAGE, HALF_OPEN


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

    def test_fairHalfOpen(self) -> None:
        """
        One network cannot keep all others out: its oldest handshake gives way.
        """
        self.listen(halfOpen=3)
        for number in range(4):
            self.peer(("192.0.2.1", number)).go()
            self.carry(1)
            self.sock.sent.clear()
        self.assertEqual((len(self.port.ends), self.port.dropped[HALF_OPEN]), (3, 1))
        other = self.peer(("198.51.100.1", 9))
        other.go()
        self.carry(1)
        self.assertEqual(list(self.port.ends), [("192.0.2.1", 1), ("192.0.2.1", 2), ("198.51.100.1", 9)])
        self.assertEqual(str(self.results[0].problem), "the client has not done its handshake, and gave way to others")
        self.carry()
        self.assertTrue(other.done)
        # Where nobody has much more than others, who comes last has to wait.
        for address in (("198.51.100.1", 1), ("203.0.113.1", 1)):
            self.peer(address).go()
            self.carry(1)
            self.sock.sent.clear()
        self.assertEqual((len(self.port.halfOpen), self.port.dropped[HALF_OPEN]), (3, 1))
        self.peer(("203.0.113.1", 2)).go()
        self.carry(1)
        self.assertEqual((len(self.port.halfOpen), self.port.dropped[HALF_OPEN]), (3, 2))

    def test_bug(self) -> None:
        """
        A bug ends its association, and leaves the port to the others.
        """
        self.listen(dtls=False)
        accept, self.port.accept = self.port.accept, lambda end: 1 / 0
        self.come(b"hello")
        self.port.accept = accept
        self.come(b"hello", ("192.0.2.1", 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(list(self.port.ends), [("192.0.2.1", 1)])
        self.accepted[0].take = lambda datagram, count: 1 / 0
        self.come(b"again", ("192.0.2.1", 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.port.ends, {})

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
