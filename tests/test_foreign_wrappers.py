# -*- test-case-name: tests.test_foreign_wrappers -*-
"""
L{tlsproxy.foreign}, with transports that wrap plain sockets.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.logger import formatEvent, globalLogPublisher
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from twisted.protocols.policies import ProtocolWrapper, ThrottlingFactory, WrappingFactory

from tests.nesting import ForeignCase
from tlsproxy.application import Mouth
from tlsproxy.foreign import Foreign
from tlsproxy.loopback import PATIENCE, PipedEnd, Told
from tlsproxy.testing.socketreactor import ADDRESS, connect
from tlsproxy.testing.streampeers import Peer

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n"
CLIENT = IPv4Address("TCP", "192.0.2.7", 50112)


class WrapperTests(ForeignCase):
    """
    Transports that wrap others.
    """

    def wrap(self, factory: WrappingFactory[Any] | None = None, kind: Any = ProtocolWrapper) -> Peer:
        """
        Connect through a wrapper.
        """
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        self.wrapper: Any = kind(factory or WrappingFactory(Factory()), self.foreign())
        connect(self.loopback.reactor, self.wrapper, ours)
        self.peer = Peer(theirs)
        self.addCleanup(self.peer.close)
        self.peers = [self.peer]
        return self.peer

    def settle(self, done: Any = None) -> None:
        """
        With the peer.
        """
        self.loopback.settle(getattr(self, "peers", []), done)

    def tearDown(self) -> None:
        """
        Close.
        """
        if hasattr(self, "peer"):
            self.peer.close()
        self.settle()
        super().tearDown()

    def test_halfClose(self) -> None:
        """
        It can be half-closed both ways, although the wrapper knows nothing of it.
        """
        peer = self.wrap()
        peer.write(b"question")
        peer.end()
        self.assertEqual([b"question", b""], [self.successResultOf(self.read()) for _ in range(2)])
        self.end.writing.send(b"late answer")
        self.settle()
        self.end.shutdownWrite()
        self.settle()
        self.assertEqual((b"late answer", "end"), (peer.received, peer.ended))

    def test_throttled(self) -> None:
        """
        One that throttles may be ended in whatever order.
        """
        factory: Any = ThrottlingFactory(Factory())
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        factory.wrappedFactory.buildProtocol = lambda _: self.foreign()
        self.wrapper = factory.buildProtocol(None)
        connect(self.loopback.reactor, self.wrapper, ours)
        self.peer = Peer(theirs)
        self.peers = [self.peer]
        self.end.shutdownWrite()
        self.settle()
        self.end.finish(reset=True)
        self.settle(lambda: bool(self.peer.ended))
        for call in self.loopback.reactor.getDelayedCalls():
            call.cancel()

    def test_nested(self) -> None:
        """
        One wrapper may wrap another.
        """
        inner: Any = ProtocolWrapper(WrappingFactory(Factory()), self.foreign())
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        outer: Any = ProtocolWrapper(WrappingFactory(Factory()), inner)
        connect(self.loopback.reactor, outer, ours)
        self.peer = Peer(theirs)
        self.peers = [self.peer]
        self.peer.end()
        self.assertEqual(b"", self.successResultOf(self.read()))
        self.end.writing.send(b"late answer")
        self.settle(lambda: self.peer.received == b"late answer")

    def test_noGarbage(self) -> None:
        """
        Nothing is left to the cycle collector.
        """
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        held = gc.get_objects()  # So that none of them dies and lends its id to what comes later.
        before = {id(one) for one in held}
        for how in ("end", "finish", "reset", "peer resets"):
            peer = self.wrap()
            if how == "end":
                peer.end()
                self.settle()
                self.end.shutdownWrite()
                self.settle()
            elif how == "peer resets":
                self.end.writing.send(b"never read")
                self.loopback.settle([], None)
                peer.reset()
                self.settle()
            self.end.finish(reset=how == "reset")
            self.settle()
            peer.close()
            self.settle()
            self.loopback.advance(PATIENCE)
            self.made.clear()
            del peer, self.peer, self.wrapper
            self.peers.clear()
            kinds = (Foreign, Mouth, PipedEnd, Told, ProtocolWrapper, HAProxyProtocolWrapper)
            found = [one for one in gc.get_objects() if type(one) in kinds]
            self.assertEqual([], [one for one in found if id(one) not in before], how)


class ProxiedTests(WrapperTests):
    """
    Clients that are told of by a PROXY header.
    """

    def setUp(self) -> None:
        """
        Listen to the log.
        """
        super().setUp()
        self.events: list[Any] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def wrap(self, factory: WrappingFactory[Any] | None = None, kind: Any = HAProxyProtocolWrapper) -> Peer:
        """
        Connect, and send the header.
        """
        peer = super().wrap(HAProxyWrappingFactory(Factory()), kind)
        self.assertEqual([], self.made)
        peer.write(HEADER)
        self.settle()
        return peer

    def test_client(self) -> None:
        """
        There is no End before the header, and none has to speak behind it; then it is the client's.
        """
        peer = self.wrap()
        self.assertEqual(CLIENT, self.end.peer())
        peer.write(b"question")
        self.assertEqual(b"question", self.successResultOf(self.read()))
        self.loopback.advance(60)
        self.settle()
        self.assertEqual("", peer.ended)

    def test_together(self) -> None:
        """
        What comes in one piece with the header is not lost.
        """
        peer = super().wrap(HAProxyWrappingFactory(Factory()), HAProxyProtocolWrapper)
        peer.write(HEADER + b"question")
        self.assertEqual(b"question", self.successResultOf(self.read()))
        self.assertEqual(CLIENT, self.end.peer())

    def test_unknown(self) -> None:
        """
        A balancer may speak for itself: then it is the client.
        """
        peer = super().wrap(HAProxyWrappingFactory(Factory()), HAProxyProtocolWrapper)
        peer.write(b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 50112 443\r\n")
        self.settle()
        self.assertEqual(IPv4Address("TCP", *ADDRESS), self.end.peer())

    def test_silent(self) -> None:
        """
        Who does not send it is closed after five seconds, and the log says so.
        """
        peer = super().wrap(HAProxyWrappingFactory(Factory()), HAProxyProtocolWrapper)
        peer.write(HEADER[:20])
        self.settle()
        self.loopback.advance(4.9)
        self.settle()
        self.assertEqual("", peer.ended)
        self.loopback.advance(0.1)
        self.settle()
        self.assertTrue(peer.ended)
        self.assertEqual([], self.made)
        self.assertIn("did not send a PROXY header within 5 s", " ".join(map(str, map(formatEvent, self.events))))

    def test_wrong(self) -> None:
        """
        What is no header gets nobody in.
        """
        for wrong in (b"GET / HTTP/1.0\r\n\r\n", b"PROXY TCP9 1 2 3 4\r\n"):
            peer = super().wrap(HAProxyWrappingFactory(Factory()), HAProxyProtocolWrapper)
            peer.write(wrong)
            self.settle(lambda peer=peer: bool(peer.ended))
            self.assertEqual([], self.made)

    def test_lies(self) -> None:
        """
        Nor does a header whose address is none, whatever comes with it; the connection is reset, and the log tells of
        it in one line that the client had no hand in.
        """
        for address in (b"a:b", b"\xff\xfe", b"\x1b[31mRED", b"x\nshop\toutcome=closed"):
            for behind in (b"", b"question"):
                self.events.clear()
                peer = super().wrap(HAProxyWrappingFactory(Factory()), HAProxyProtocolWrapper)
                peer.write(b"PROXY TCP4 " + address + b" 198.51.100.1 1 2\r\n" + behind)
                self.settle(lambda peer=peer: bool(peer.ended))
                self.assertEqual([], self.made)
                said = [
                    str(formatEvent(event)) for event in self.events if event["log_namespace"] == "tlsproxy.foreign"
                ]
                self.assertEqual([True], ["sent a PROXY header" in line and line.isprintable() for line in said])
                self.assertEqual([], self.loopback.reactor.getDelayedCalls())

    def test_ended(self) -> None:
        """
        Nor does who ends before it.
        """
        peer = super().wrap(HAProxyWrappingFactory(Factory()), HAProxyProtocolWrapper)
        peer.end()
        self.settle(lambda: bool(peer.ended))
        self.assertEqual([], self.made)

    def test_isWhatTwistedHas(self) -> None:
        """
        It is the wrapper that Twisted's endpoint uses.
        """
        endpoint: Any = proxyEndpoint(None)  # type: ignore[arg-type]
        self.assertIs(HAProxyWrappingFactory, endpoint._wrapperFactory)
        self.assertIs(HAProxyProtocolWrapper, HAProxyWrappingFactory.protocol)
