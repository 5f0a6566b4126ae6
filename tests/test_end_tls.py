# -*- test-case-name: tests.test_end_tls -*-
"""
L{tlsproxy.end}: putting TLS on, taking it off exactly at the boundary, and putting it on again.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.test_end import OneEnd
from tlsproxy.errors import HandshakeFailed, PeerEnded, PeerReset, SessionError
from tlsproxy.plain import PlainStream
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import clientTLS, serverTLS


class StartTLSTests(OneEnd):
    """
    L{End.startTLS}
    """

    def upgrade(self, version: str, server: bool, first: bytes = b"") -> tuple[Deferred[Any], TLSPeer]:
        """
        Begin TLS on both ends.

        @param server: Whether we are the server.
        @param first: What the peer sends as soon as it can.
        """
        peer = TLSPeer(self.peer.socket, version, server=not server)
        peer.write(first)
        self.one.peer = peer
        tls = serverTLS(version) if server else clientTLS(version)
        return self.begin(self.end.startTLS(tls)), peer

    def test_bothRoles(self) -> None:
        """
        Either role, either version.
        """
        for version in ("TLSv1.2", "TLSv1.3"):
            for server in (True, False):
                done, peer = self.upgrade(version, server, b"hello")
                self.assertIs(self.end.tls, self.successResultOf(done))
                self.assertEqual(version, self.end.stream.connection.get_protocol_version_name())  # type: ignore[attr-defined]
                self.assertEqual(b"hello", self.successResultOf(self.begin(self.end.read(100))))
                self.successResultOf(self.begin(self.end.write(b"welcome")))
                self.settle()
                self.assertEqual(b"welcome", peer.received)
                self.tearDown()
                self.setUp()

    def test_afterPlain(self) -> None:
        """
        What was said in plain is not taken for TLS, though it comes in one piece with the client's hello.
        """
        peer = TLSPeer(self.peer.socket, "TLSv1.3", server=False)
        peer._handshake()
        peer.unsent[:0] = b"STARTTLS\r\n"
        self.one.peer = peer
        self.settle()
        self.assertEqual(b"STARTTLS\r\n", self.successResultOf(self.begin(self.end.read(10))))
        self.successResultOf(self.begin(self.end.startTLS(serverTLS("TLSv1.3"))))

    def test_garbage(self) -> None:
        """
        A peer that speaks something else fails the handshake.
        """
        done = self.begin(self.end.startTLS(serverTLS("TLSv1.3")))
        self.peer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.settle()
        self.assertIn("the client", str(self.failureResultOf(done, HandshakeFailed).value))

    def test_ended(self) -> None:
        """
        A peer that ends the stream in the middle is told apart from one that fails.
        """
        done = self.begin(self.end.startTLS(serverTLS("TLSv1.3")))
        self.peer.write(b"\x16\x03\x01")
        self.peer.end()
        self.settle()
        self.failureResultOf(done, PeerEnded)

    def test_reset(self) -> None:
        """
        So is one that resets the connection.
        """
        done = self.begin(self.end.startTLS(serverTLS("TLSv1.3")))
        self.resetByPeer()
        self.settle()
        self.failureResultOf(done, PeerReset)

    def test_lost(self) -> None:
        """
        The reactor may find the connection dead in the middle.
        """
        done = self.begin(self.end.startTLS(serverTLS("TLSv1.3")))
        self.loopback.reactor.lose(self.one.connected.transport)
        self.failureResultOf(done, PeerReset)

    def test_cancel(self) -> None:
        """
        A handshake can be cancelled, and leaves the side held.
        """
        done = self.begin(self.end.startTLS(serverTLS("TLSv1.3")))
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.peer.write(b"x")
        self.settle()
        self.assertEqual([], self.loopback.reactor.getReaders())


class StopTLSTests(OneEnd):
    """
    L{End.stopTLS} and its halves.
    """

    kind = "TLSv1.3"
    peer: TLSPeer

    def test_boundary(self) -> None:
        """
        What comes right behind the peer's close_notify, in the same segment, is plain; what came before it is not.
        """
        self.peer.write(b"secret")
        self.peer.endTLS()
        self.peer.writePlain(b"PLAIN AFTER TLS")
        done = self.begin(self.end.stopTLS())
        self.assertEqual(b"secret", self.successResultOf(done))
        self.assertTrue(self.peer.told)
        self.assertIsInstance(self.end.stream, PlainStream)
        self.assertEqual(b"PLAIN AFTER TLS", self.successResultOf(self.begin(self.end.read(100))))

    def test_most(self) -> None:
        """
        Where it is said how much the peer may still send, more is an error at once.
        """
        self.peer.write(b"secret")
        done = self.begin(self.end.stopTLS(most=6))
        self.settle()
        self.assertNoResult(done)
        self.peer.write(b"!")
        self.settle()
        problem = self.failureResultOf(done, SessionError).value
        self.assertIn("sent more before the end of its TLS than it may", str(problem))

    def test_weFirst(self) -> None:
        """
        We may end first: what the peer still sends is delivered, and then its end.
        """
        done = self.begin(self.end.stopTLS())
        self.assertNoResult(done)
        self.assertTrue(self.peer.told)
        self.peer.write(b"late" * 10000)
        self.settle()
        self.assertNoResult(done)
        self.peer.endTLS()
        self.settle()
        self.assertEqual(b"late" * 10000, self.successResultOf(done))

    def test_bothWaysInPlain(self) -> None:
        """
        Then both go on in plain.
        """
        done = self.begin(self.end.stopTLS())
        self.peer.endTLS()
        self.settle()
        self.successResultOf(done)
        self.successResultOf(self.begin(self.end.write(b"plain there")))
        self.peer.writePlain(b"plain back")
        self.settle()
        self.assertEqual(b"plain there", self.peer.plain)
        self.assertEqual(b"plain back", self.successResultOf(self.begin(self.end.read(100))))

    def test_secondTLS(self) -> None:
        """
        Another TLS can begin on the same socket, in the other role even.
        """
        self.test_bothWaysInPlain()
        again = TLSPeer(self.peer.socket, "TLSv1.2", server=True)
        self.one.peer = again
        self.successResultOf(self.begin(self.end.startTLS(clientTLS("TLSv1.2"))))
        again.write(b"secret once more")
        self.settle()
        self.assertEqual(b"secret once more", self.successResultOf(self.begin(self.end.read(100))))

    def test_truncated(self) -> None:
        """
        An end of the stream is no end of TLS.
        """
        done = self.begin(self.end.stopTLS())
        self.peer.cut()
        self.settle()
        self.failureResultOf(done, PeerEnded)

    def test_reset(self) -> None:
        """
        Nor is a reset.
        """
        self.resetByPeer()
        self.failureResultOf(self.begin(self.end.readToTLSEnd()), PeerReset)

    def test_garbage(self) -> None:
        """
        Nor is a record that does not verify.
        """
        self.peer.writePlain(b"\x17\x03\x03\x00\x40" + bytes(64))
        problem = self.failureResultOf(self.begin(self.end.readToTLSEnd()), SessionError).value
        self.assertIn("the client", str(problem))

    def test_endSeenBefore(self) -> None:
        """
        An end that was read before is still an end.
        """
        self.peer.endTLS()
        self.assertEqual(b"", self.successResultOf(self.begin(self.end.read(100))))
        self.assertEqual(b"", self.successResultOf(self.begin(self.end.stopTLS())))

    def test_oneDirection(self) -> None:
        """
        TLS ends in each direction by itself: we write in plain already while the peer still writes in TLS.
        """
        self.successResultOf(self.begin(self.end.endTLSWrite()))
        self.successResultOf(self.begin(self.end.write(b"plain ahead")))
        self.peer.write(b"still secret")
        self.settle()
        self.assertEqual(b"plain ahead", self.peer.plain)
        self.assertEqual(b"still secret", self.successResultOf(self.begin(self.end.read(100))))
        self.peer.endTLS()
        self.peer.writePlain(b"plain behind")
        self.assertEqual(b"", self.successResultOf(self.begin(self.end.readToTLSEnd())))
        self.assertEqual(b"plain behind", self.successResultOf(self.begin(self.end.read(100))))

    def test_readingFirst(self) -> None:
        """
        The peer may end its TLS long before we end ours.
        """
        self.peer.write(b"last secret")
        self.peer.endTLS()
        self.peer.writePlain(b"plain")
        self.assertEqual(b"last secret", self.successResultOf(self.begin(self.end.readToTLSEnd())))
        self.assertEqual(b"plain", self.successResultOf(self.begin(self.end.read(100))))
        self.successResultOf(self.begin(self.end.write(b"our secret")))
        self.settle()
        self.assertEqual((b"our secret", b""), (bytes(self.peer.received), bytes(self.peer.plain)))
        self.assertIsNotNone(self.end.tls)

    def test_endTLSWriteTwice(self) -> None:
        """
        TLS is ended once.
        """
        self.successResultOf(self.begin(self.end.endTLSWrite()))
        self.successResultOf(self.begin(self.end.endTLSWrite()))
        self.peer.write(b"answer")
        self.settle()
        self.assertEqual((True, b""), (self.peer.told, bytes(self.peer.plain)))
        self.assertEqual(b"answer", self.successResultOf(self.begin(self.end.read(100))))


class StopTLS12Tests(StopTLSTests):
    """
    The same for TLS 1.2.
    """

    kind = "TLSv1.2"
