# -*- test-case-name: tests.patterns.test_encrypt -*-
"""
Tests for L{tlsproxy.patterns.encrypt}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from zope.interface.verify import verifyObject

from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.testing.certificates import clientTLS
from tlsproxy.testing.sessions import Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer


class EncryptTests(SessionCase):
    """
    Plain toward the client, TLS toward the upstream.
    """

    def encrypt(self, make: Any = Origin, **policy: Any) -> Peer:
        """
        Serve in this mode, and have a client connect.
        """
        self.upstream = Upstream(self, make)
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS(**policy)))
        client: Peer = self.visit()
        return client

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name.
        """
        pattern = Encrypt(upstream=self.upstream, upstreamTLS=clientTLS())
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual("encrypt", pattern.mode)
        self.serve(pattern)

    def test_order(self) -> None:
        """
        The upstream is dialed and its handshake made before the client has said a word.
        """
        client = self.encrypt()
        self.settle(lambda: self.upstream.peer.ready)
        self.assertEqual(["dial", "upstream_handshake", "idle"], self.phases)
        client.write(b"question")
        client.end()
        self.settle(lambda: self.upstream.peer.told)
        self.assertEqual(b"question", self.upstream.peer.received)
        self.upstream.peer.write(b"answer")
        self.upstream.peer.end()
        self.settle()
        self.assertEqual((b"answer", "end"), (client.received, client.ended))
        self.assertOver("closed", "half_closed")

    def test_ownALPN(self) -> None:
        """
        The upstream is offered the application protocols of its TLS.
        """
        self.encrypt(partial(Origin, alpn=b"h2"), alpn=("http/1.1", "h2"))
        self.settle(lambda: self.upstream.peer.ready)
        self.assertEqual(b"h2", self.upstream.peer.connection.get_alpn_proto_negotiated())
        self.one().stop()

    def test_wrongName(self) -> None:
        """
        An upstream that is someone else does not get a byte, and the client is reset.
        """
        client = self.encrypt(partial(Origin, name="other.example"))
        client.write(b"secret")
        self.settle()
        self.assertEqual(b"", self.upstream.peer.received)
        self.assertTrue(self.aborted(client))
        self.assertOver(
            "failed",
            "upstream_handshake",
            "the upstream's certificate is refused: it is not for upstream.example; it is for other.example "
            "(alert bad_certificate sent); if that is the right server, say its name in name of upstream_tls",
        )

    def test_plainUpstream(self) -> None:
        """
        An upstream that speaks no TLS ends the session with a sentence that says so.
        """
        client = self.encrypt(Peer)
        self.settle()
        self.upstream.peer.write(b"220 mail.example ESMTP\r\n")
        self.settle(lambda: bool(self.told()))
        self.assertTrue(self.aborted(client))
        self.assertOver("failed", "upstream_handshake", self.told()[0]["reason"])
        self.assertIn("the upstream does not speak TLS", self.told()[0]["reason"])
