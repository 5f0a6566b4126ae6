# -*- test-case-name: tests.patterns.test_bridge -*-
"""
Tests for L{tlsproxy.patterns.bridge}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from zope.interface.verify import verifyObject

from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import TLSPeer


class BridgeTests(SessionCase):
    """
    TLS toward both sides.
    """

    def bridge(self, origin: bytes = b"", ours: tuple[str, ...] = (), client: tuple[bytes, ...] = ()) -> TLSPeer:
        """
        Serve in this mode, and have a client connect.

        @param origin: The application protocol of the upstream.
        @param ours: Those of the route.
        @param client: Those of the client.
        """
        self.upstream = Upstream(self, partial(Origin, alpn=origin))
        self.serveBridge(alpn=ours)
        visitor: TLSPeer = self.visit(partial(Browser, alpn=client))
        return visitor

    def serveBridge(self, **policy: Any) -> None:
        """
        Serve in this mode.
        """
        tls = serverTLS(**policy)
        self.serve(Bridge(tls=tls, upstream=self.upstream, upstreamTLS=clientTLS(alpn=("never-offered",))))

    def negotiated(self, peer: TLSPeer) -> bytes:
        """
        Tell the application protocol of a peer.
        """
        return peer.connection.get_alpn_proto_negotiated()

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name.
        """
        self.serveBridge()
        pattern = self.factory.route.pattern
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual("bridge", pattern.mode)

    def test_order(self) -> None:
        """
        The client comes first, all of it; then the upstream is dialed, and its handshake made.
        """
        client = self.bridge()
        client.write(b"question")
        self.settle(lambda: self.upstream.peer.received == b"question")
        self.assertEqual(["hello", "handshake", "dial", "upstream_handshake", "idle"], self.phases)
        self.upstream.peer.write(b"answer")
        self.upstream.peer.end()
        self.settle(lambda: client.received == b"answer" and client.told)
        client.end()
        self.settle(lambda: self.upstream.peer.told)
        self.assertOver("closed", "half_closed")

    def test_notDialedBeforeTheHandshake(self) -> None:
        """
        A client without the certificate that is demanded does not get anything dialed.
        """
        self.serveBridge(clients="required")
        client = self.visit(Browser)
        self.settle(lambda: client.ended == "failed")
        self.assertEqual(0, self.upstream.dialed)
        self.visit(partial(Browser, identity=certificate("alice")))
        self.settle(lambda: self.upstream.dialed == 1)
        self.one().stop()

    def test_sameProtocol(self) -> None:
        """
        The upstream is offered exactly what the client negotiated.
        """
        client = self.bridge(origin=b"h2", ours=("h2", "http/1.1"), client=(b"http/1.1", b"h2"))
        self.settle(lambda: self.upstream.peer.ready)
        self.assertEqual((b"h2", b"h2"), (self.negotiated(client), self.negotiated(self.upstream.peer)))
        self.one().stop()

    def test_noProtocol(self) -> None:
        """
        Where the client negotiated none, the upstream is offered none, whatever its own TLS says.
        """
        client = self.bridge(origin=b"never-offered", client=(b"h2",))
        self.settle(lambda: self.upstream.peer.ready)
        self.assertEqual((b"", b""), (self.negotiated(client), self.negotiated(self.upstream.peer)))
        self.one().stop()

    def test_otherProtocol(self) -> None:
        """
        An upstream that does not speak what the client negotiated ends the session, and gets no byte.
        """
        client = self.bridge(origin=b"http/1.1", ours=("h2", "http/1.1"), client=(b"h2", b"http/1.1"))
        client.write(b"PRI * HTTP/2.0")
        self.settle(lambda: client.ended == "truncated")
        self.assertEqual(b"", self.upstream.peer.received)
        self.assertOver(
            "failed",
            "upstream_handshake",
            "the upstream speaks no application protocol where the client negotiated 'h2'",
        )

    def test_noneShared(self) -> None:
        """
        A client that offers only other protocols than the route's is refused, and nothing is dialed.
        """
        client = self.bridge(ours=("h2",), client=(b"spdy/1",))
        self.settle(lambda: client.ended == "failed")
        self.assertEqual(0, self.upstream.dialed)
        self.assertOver(
            "refused",
            "handshake",
            "the client offers only the application protocols 'spdy/1', none of the route's; "
            "add one to alpn of tls, or have it offer another",
        )
