# -*- test-case-name: tests.test_foreign_wrappers -*-
"""
L{tlsproxy.foreign}, with transports that wrap plain sockets.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, ThrottlingFactory, WrappingFactory

from tests.nesting import ForeignCase
from tlsproxy.application import Mouth
from tlsproxy.foreign import Foreign
from tlsproxy.loopback import PATIENCE, PipedEnd, Told
from tlsproxy.testing.socketreactor import connect
from tlsproxy.testing.streampeers import Peer


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
            kinds = (Foreign, Mouth, PipedEnd, Told, ProtocolWrapper)
            found = [one for one in gc.get_objects() if type(one) in kinds]
            self.assertEqual([], [one for one in found if id(one) not in before], how)
