"""
Tests for L{tlsproxy.datagram.port}: clients that begin anew.
"""

from __future__ import annotations

from tests.datagram.ports import PortCase
from tests.datagram.wires import THERE, Peer
from tlsproxy.datagram.port import HALF_OPEN
from tlsproxy.tls.datagrams import DTLSConnection


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

    def test_stopped(self) -> None:
        """
        A port that was stopped takes nobody who begins anew either; whatever is open, or under way, goes on.
        """
        old = self.shaken()
        self.port.stopListening()
        self.peer().go()
        self.carry(1)
        self.assertEqual((len(self.accepted), self.port.pending), (1, {}))
        self.sock.sent.clear()
        old.say(b"still here")
        self.carry()
        self.assertEqual(self.heard, [b"still here"])

    def test_stoppedMeanwhile(self) -> None:
        """
        So it is where the handshake of the only one is under way.
        """
        first = self.peer()
        first.go()
        self.carry(1)
        self.sock.sent.clear()
        self.port.stopListening()
        self.peer().go()
        self.carry(1)
        self.sock.sent.clear()
        self.reactor.advance(0)
        self.assertEqual((self.accepted, self.sock.closed), ([self.port.ends[THERE]], False))
        self.peers[THERE] = first
        for _ in range(3):
            self.reactor.advance(1)
            self.carry()
        self.assertTrue(first.done)
