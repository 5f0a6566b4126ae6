# -*- test-case-name: tests.testing.test_streams -*-
"""
L{tlsproxy.testing.streams}
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.direction import Direction
from tlsproxy.splice import Splice
from tlsproxy.testing.streams import (
    KINDS,
    Loopback,
    Streams,
    TCPLoopback,
    clientTLS,
    held,
    mostHeld,
    pairings,
    serverTLS,
)


class PairingTests(SynchronousTestCase):
    """
    The pairings that there are.
    """

    def test_all(self) -> None:
        """
        There is a case for each pairing of kinds, and one for copying from plain to plain.
        """
        made = pairings("some.module", Streams, prefix="My")
        self.assertEqual(len(KINDS) ** 2 + 1, len(made))
        self.assertEqual("MyTLSv12ToTLSv13Tests", made["MyTLSv12ToTLSv13Tests"].__name__)
        self.assertEqual("some.module", made["MyPlainToPlainTests"].__module__)
        self.assertEqual({True, False}, {each.splices for each in made.values() if issubclass(each, Streams)})

    def test_tls(self) -> None:
        """
        The TLS of a kind speaks this version.
        """
        for version in KINDS[1:]:
            number = version.removeprefix("TLSv")
            for policy in (serverTLS(version).policy, clientTLS(version).policy):
                self.assertEqual((number, number), (policy.minVersion, policy.maxVersion))


class StreamsTests(Streams):
    """
    Two sides that are joined.
    """

    def test_held(self) -> None:
        """
        What waits for a sink can be told, and it is no more than may.
        """
        self.make()
        self.far.peer.reading = False
        self.near.peer.write(bytes(4 << 20))
        self.settle(lambda: self.relay.outward.clogged)
        self.assertIsInstance(self.relay.outward, Splice)
        self.assertTrue(0 < held(self.relay.outward) <= mostHeld(self.relay.outward))
        self.assertEqual(0, held(self.relay.inward))

    def test_lost(self) -> None:
        """
        A side that we have reset is told from one that was closed.
        """
        self.make()
        self.relay.abort("stopped", "")
        self.settle()
        self.assertTrue(self.near.aborted)
        self.assertLost(self.near)
        self.assertLost(self.far)
        self.assertOver("stopped")

    def test_notSettled(self) -> None:
        """
        What does not come fails the test.
        """
        problem = self.assertRaises(AssertionError, self.settle, lambda: False)
        self.assertEqual("all is quiet, and what was to come has not come", str(problem))


class CopyingStreamsTests(Streams):
    """
    Two sides that are joined where the kernel does not help.
    """

    nearKind = "TLSv1.3"

    def test_held(self) -> None:
        """
        What waits for a sink can be told, and it is no more than may.
        """
        self.make()
        self.far.peer.reading = False
        self.near.peer.write(bytes(4 << 20))
        self.settle(lambda: self.relay.outward.clogged)
        self.assertIs(Direction, type(self.relay.outward))
        self.assertTrue(0 < held(self.relay.outward) <= mostHeld(self.relay.outward))


class LoopbackTests(SynchronousTestCase):
    """
    Where sockets come from.
    """

    def test_kinds(self) -> None:
        """
        Connections are Unix sockets, or TCP's whose buffers are small.
        """
        for loopback in (Loopback(), TCPLoopback()):
            ours, theirs = loopback.pair()
            self.addCleanup(ours.close)
            self.addCleanup(theirs.close)
            self.assertEqual(2, ours.send(b"hi"))
            self.assertEqual((set(), False), (loopback.registered(), ours.getblocking()))
