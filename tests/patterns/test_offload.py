# -*- test-case-name: tests.patterns.test_offload -*-
"""
Tests for L{tlsproxy.patterns.offload}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from zope.interface.verify import verifyObject

from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.offload import Offload
from tlsproxy.testing.certificates import certificate, serverTLS
from tlsproxy.testing.sessions import Browser, SessionCase
from tlsproxy.testing.streampeers import Peer


class OffloadTests(SessionCase):
    """
    TLS toward the client, plain toward the upstream.
    """

    def offload(self, **limits: Any) -> None:
        """
        Serve in this mode.
        """
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream), **limits)

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name.
        """
        self.offload()
        pattern = self.factory.route.pattern
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual("offload", pattern.mode)

    def test_order(self) -> None:
        """
        The client's hello and handshake come first, all of them, and then the upstream is dialed.
        """
        self.offload()
        client = self.visit(Browser)
        client.write(b"question")
        self.settle(lambda: self.upstream.peer.received == b"question")
        self.assertEqual(["hello", "handshake", "dial", "idle"], self.phases)
        self.upstream.peer.write(b"answer")
        self.upstream.peer.end()
        self.settle(lambda: client.received == b"answer" and client.told)
        client.end()
        self.settle()
        self.assertEqual("end", self.upstream.peer.ended)
        self.assertOver("closed", "half_closed")

    def test_notDialedBeforeTheHello(self) -> None:
        """
        A client that has sent but a part of its hello does not get anything dialed.
        """
        self.offload()
        client = self.visit()
        client.write(bytes((22, 3, 1, 2, 0, 1)))
        self.after(1)
        self.assertEqual((["hello"], 0), (self.phases, self.upstream.dialed))
        client.close()
        self.after(1)
        self.assertEqual(0, self.upstream.dialed)
        self.assertOver("ended", "hello", "the client ended the stream in the middle of its hello")

    def test_doubtfulHello(self) -> None:
        """
        A hello that is doubtful is answered with the alert for it, and nothing is dialed.
        """
        self.offload()
        client = self.visit()
        client.write(bytes((22, 3, 1, 0, 4, 2, 0, 0, 0)))
        self.settle(lambda: client.ended == "end")
        self.assertEqual(bytes((21, 3, 3, 0, 2, 2, 10)), client.received)
        self.assertEqual(0, self.upstream.dialed)
        (event,) = self.told()
        self.assertOver("refused", "hello", event["reason"])

    def test_notDialedBeforeTheHandshake(self) -> None:
        """
        A client that does not finish its handshake does not get anything dialed.
        """
        self.offload()
        client = self.visit(Browser)
        client.pump()
        client.reading = False
        self.settle()
        self.assertEqual((["hello", "handshake"], 0), (self.phases, self.upstream.dialed))
        client.close()
        self.settle()
        self.assertEqual(0, self.upstream.dialed)

    def test_clientCertificate(self) -> None:
        """
        Where a certificate is demanded, a client that has none, or a stranger's, does not get anything dialed; one
        that has one does.
        """
        self.serve(Offload(tls=serverTLS(clients="required"), upstream=self.upstream))
        client = self.visit(Browser)
        self.settle(lambda: client.ended == "failed")
        self.assertEqual(0, self.upstream.dialed)
        self.assertOver(
            "failed",
            "handshake",
            "the client showed no certificate, and one is demanded (alert certificate_required sent); "
            "give it one of a CA in client_ca, or, where the mode can, let it in without by client_auth = 'optional'",
        )
        self.visit(partial(Browser, identity=certificate("alice")))
        self.settle(lambda: self.upstream.dialed == 1)
        self.one().stop()

    def test_upstreamRefuses(self) -> None:
        """
        An upstream that cannot be reached ends the session, and the client gets no close_notify, since nothing ended
        as it should.
        """
        self.upstream.answers = False
        self.offload()
        client = self.visit(Browser)
        self.settle(lambda: self.upstream.dialed == 1)
        self.upstream.fail(ConnectionRefusedError(111, "Connection refused"))
        self.settle(lambda: client.ended == "truncated")
        self.assertOver("failed", "dial", "the upstream upstream.example:443 refuses connections")

    def test_early(self) -> None:
        """
        What a client sends while the upstream is being dialed is delivered.
        """
        self.upstream.answers = False
        self.offload()
        client = self.visit(Browser)
        client.write(b"early")
        self.settle()
        self.upstream.answer()
        self.settle(lambda: self.upstream.peer.received == b"early")
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertOver("closed", "half_closed")

    def test_plainHTTP(self) -> None:
        """
        A client that speaks plain HTTP is told so in HTTP.
        """
        self.offload()
        client: Peer = self.visit()
        client.write(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        self.settle(lambda: client.ended == "end")
        head, _, body = bytes(client.received).partition(b"\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 400 Bad Request", head.partition(b"\r\n")[0])
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertEqual(b"This port speaks TLS: ask for https://, not for http://\n", body)
        self.assertEqual(0, self.upstream.dialed)
        (event,) = self.told()
        self.assertOver("refused", "hello", event["reason"])
