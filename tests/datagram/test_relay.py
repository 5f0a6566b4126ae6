"""
Tests for L{tlsproxy.datagram.relay}.
"""

from __future__ import annotations

from tests.datagram.wires import EndCase, MemoryWire
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.relay import DatagramRelay
from tlsproxy.datagram.sending import TOO_LARGE
from tlsproxy.deadlines import Deadlines


class RelayTests(EndCase):
    """
    A client with DTLS, the two ends of a session, and an upstream in clear.

    @ivar client: The client's own end; the session's is C{near}.
    @ivar upstreamWire: What goes to the upstream.
    """

    def setUp(self) -> None:
        """
        Join the ends.
        """
        super().setUp()
        self.shaken()
        self.client_ = self.far
        self.clientHeard = self.heard(self.client_)
        self.upstreamWire = MemoryWire()
        self.upstream = DatagramEnd("the upstream", self.reactor, self.upstreamWire)
        self.how: list[tuple[str, str]] = []
        self.relay = DatagramRelay(self.near, self.upstream, Deadlines(self.reactor), lambda *how: self.how.append(how))

    def test_bothWays(self) -> None:
        """
        Datagrams go both ways as they are, and are counted.
        """
        self.client_.send(b"early")
        self.carry()
        self.give(self.upstream, b"earlier")
        self.relay.start()
        self.client_.send(b"question")
        self.carry()
        self.assertEqual(list(self.upstreamWire.sent), [b"early", b"question"])
        for answer in (b"answer", b"", b"another"):
            self.give(self.upstream, answer)
        self.carry()
        self.assertEqual(self.clientHeard, [b"earlier", b"answer", b"another"])
        outward, inward = self.relay.outward, self.relay.inward
        self.assertEqual((outward.count, outward.datagrams), (13, 2))
        self.assertEqual((inward.count, inward.datagrams, dict(inward.dropped)), (20, 3, {"empty": 1}))
        self.assertFalse(self.relay.drains())

    def test_tooLarge(self) -> None:
        """
        What does not fit is dropped and not counted as carried.
        """
        self.relay.start()
        self.give(self.upstream, bytes(2000))
        self.assertEqual((self.relay.inward.count, self.relay.inward.dropped), (0, {TOO_LARGE: 1}))

    def test_active(self) -> None:
        """
        When something last came is told by the cheap clock.
        """
        self.relay.start()
        self.relay.clock.now = 77.0
        self.give(self.upstream, b"x")
        self.assertEqual(self.relay.active, 77.0)

    def test_closed(self) -> None:
        """
        A client that is done ends the session, with a close_notify of ours.
        """
        self.relay.start()
        self.client_.send(b"last")
        self.client_.finish()
        self.carry()
        self.assertEqual((list(self.upstreamWire.sent), self.how), ([b"last"], [("closed", "")]))
        self.assertTrue(self.relay.over and self.near.gone and self.upstream.gone)
        self.reactor.advance(0)
        self.assertEqual((self.relay.outward.count, self.relay.outward.source), (4, self.near))

    def test_closedBefore(self) -> None:
        """
        So does one that was done before the upstream was there.
        """
        self.client_.send(b"only")
        self.client_.finish()
        self.carry()
        self.relay.start()
        self.assertEqual((list(self.upstreamWire.sent), self.how), ([b"only"], [("closed", "")]))

    def test_gone(self) -> None:
        """
        A side may be gone already.
        """
        self.upstream.finish()
        self.relay.start()
        self.assertEqual(self.how, [("reset", "the upstream is gone")])

    def test_abort(self) -> None:
        """
        A session that is cut tells its client, once.
        """
        self.relay.start()
        for _ in range(2):
            self.relay.abort("expired", "nothing came for 60 s")
        self.carry()
        self.assertEqual(self.how, [("expired", "nothing came for 60 s")])
        self.assertTrue(self.client_.tls and self.client_.tls.state)
        self.give(self.upstream, b"too late")
        self.relay.refuse("never", b"no")
        self.assertEqual(self.clientHeard, [])

    def test_refuse(self) -> None:
        """
        A client can be told why.
        """
        self.relay.start()
        self.relay.refuse("it asks too much", b"go away")
        self.carry()
        self.assertEqual((self.clientHeard, self.how), ([b"go away"], [("refused", "it asks too much")]))
