# -*- test-case-name: tests.patterns.test_passthrough -*-
"""
Tests for L{tlsproxy.patterns.passthrough}.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, ClassVar

from zope.interface.verify import verifyObject

from tests.wire.clienthellos import GOOD, buildClientHello, cutInRecords, helloMessage, serverName
from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.rules import Rule
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer, TLSPeer


class PassthroughTests(SessionCase):
    """
    The bytes go through as they are.
    """

    def through(self, make: Any = Peer, rules: Any = (), **pattern: Any) -> None:
        """
        Serve in this mode.
        """
        self.upstream = Upstream(self, make)
        self.serve(Passthrough(upstream=self.upstream, **pattern), rules=rules)

    def arrives(self, client: Peer, wire: bytes) -> None:
        """
        What the client sends arrives as it is, and so does an answer.
        """
        self.after(0.5)  # A Unix socket is looked at again from time to time.
        self.settle(lambda: bool(self.upstream.peers) and self.upstream.peers[-1].received == wire)
        self.upstream.peers[-1].write(b"answer")
        self.settle(lambda: client.received == b"answer")
        self.one().stop()
        self.settle()

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name.
        """
        pattern = Passthrough()
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual(("passthrough", None, True), (pattern.mode, pattern.upstream, pattern.requireTLS))
        self.through()

    def test_endToEnd(self) -> None:
        """
        The handshake is the client's and the upstream's: the upstream's own certificate, and TLS all the way, in each
        version.
        """
        for version in ("TLSv1.2", "TLSv1.3"):
            self.through(partial(Origin, name="shop.example", alpn=b"h2", version=version))
            client: TLSPeer = self.visit(partial(Browser, alpn=(b"h2",), version=version))
            client.write(b"question")
            self.settle(lambda: bool(self.upstream.peers) and self.upstream.peer.received == b"question")
            self.upstream.peer.write(b"answer")
            self.upstream.peer.end()
            client.end()
            self.settle(lambda client=client: client.received == b"answer" and client.told)  # type: ignore[misc]
            certificate = client.connection.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            self.assertEqual("CN=upstream", certificate.subject.rfc4514_string())
            self.assertEqual(b"h2", client.connection.get_alpn_proto_negotiated())
        self.assertEqual(["hello", "dial", "idle", "half_closed"] * 2, self.phases)

    def test_line(self) -> None:
        """
        The line tells what the hello says, and that there is no TLS of ours.
        """
        self.through()
        client = self.visit()
        client.write(GOOD)
        self.settle(lambda: bool(self.upstream.peers))
        client.end()
        self.upstream.peer.end()
        self.settle()
        (line,) = self.lines()
        self.assertRegex(line, r" sni=shop\.example ja4=t13d\S+ versions=1\.3,1\.2 groups=\S+ alpn=h2,http/1\.1 tls=- ")
        self.assertIn(f" upstream=upstream.example:443 upstream_tls=- in={len(GOOD)} out=0 ", line)

    def test_anyCut(self) -> None:
        """
        The hello arrives whole, wherever it was cut on its way, with what came behind it.
        """
        wire = GOOD + b"behind"
        self.through()
        for at in range(1, len(wire), 23):
            client = self.visit()
            client.write(wire[:at])
            self.after(0.25)
            self.assertEqual(at >= len(GOOD), self.one().phase != "hello")
            client.write(wire[at:])
            self.arrives(client, wire)

    def test_pieces(self) -> None:
        """
        So it does byte by byte; a Unix socket does not hold as many pieces.
        """
        self.through()
        client = self.visit()
        size = 1 if self.tcp else 3
        for at in range(0, len(GOOD), size):
            client.write(GOOD[at : at + size])
            self.settle()
        self.arrives(client, GOOD)

    def test_records(self) -> None:
        """
        The hello arrives in the records it was sent in, however many.
        """
        wire = cutInRecords(helloMessage([serverName(b"shop.example")]), [1, 3, 5, 7])
        self.through()
        client = self.visit()
        client.write(wire)
        self.arrives(client, wire)

    def test_large(self) -> None:
        """
        So does a large one, with more behind it than is looked at.
        """
        wire = buildClientHello([serverName(b"shop.example")], size=40000) + os.urandom(200000)
        self.through()
        client = self.visit()
        client.write(wire)
        self.arrives(client, wire)

    def test_noName(self) -> None:
        """
        A client that names no server is let through, unless there are only rules for some names.
        """
        wire = buildClientHello([])
        self.through()
        client = self.visit()
        client.write(wire)
        self.settle()
        self.arrives(client, wire)
        self.serve(Passthrough(), rules=(Rule(sni="**.example", upstream=self.upstream),))
        client = self.visit()
        client.write(wire)
        self.settle(lambda: client.ended == "end")
        self.assertEqual(bytes((21, 3, 3, 0, 2, 2, 112)), client.received)
        self.assertEqual("the client names no server, and no rule of the route is for that", self.told()[-1]["reason"])

    def test_byName(self) -> None:
        """
        Each name has its own upstream.
        """
        self.through()
        other = Upstream(self)
        self.serve(
            Passthrough(),
            rules=(Rule(sni="shop.example", upstream=other), Rule(sni="**.example", upstream=self.upstream)),
        )
        client = self.visit()
        client.write(GOOD)
        self.settle(lambda: bool(other.peers) and other.peer.received == GOOD)
        self.assertEqual(0, self.upstream.dialed)
        self.one().stop()

    def refused(self, sent: bytes) -> Peer:
        """
        Send something that is no hello; nothing is dialed.
        """
        self.through()
        client: Peer = self.visit()
        client.write(sent)
        self.settle(lambda: client.ended == "end")
        self.assertEqual(0, self.upstream.dialed)
        (event,) = self.told()
        self.assertOver("refused", "hello", event["reason"])
        return client

    def test_noTLS(self) -> None:
        """
        A client that speaks something else gets nothing but the end.
        """
        self.assertEqual(b"", self.refused(b"SSH-2.0-OpenSSH_9.9\r\n").received)

    def test_doubtful(self) -> None:
        """
        A doubtful hello is answered with the alert for it.
        """
        wire = buildClientHello([serverName(b"a.example"), serverName(b"b.example")])
        self.assertEqual(bytes((21, 3, 3, 0, 2, 2)), self.refused(wire).received[:6])

    def test_plainHTTP(self) -> None:
        """
        A client that speaks plain HTTP is told so in HTTP.
        """
        client = self.refused(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        self.assertEqual(b"HTTP/1.1 400 Bad Request", client.received.partition(b"\r\n")[0])

    def test_greeting(self) -> None:
        """
        Where no TLS is demanded, nothing is waited for, and the upstream may speak first.
        """
        self.through(requireTLS=False)
        client = self.visit()
        self.settle(lambda: bool(self.upstream.peers))
        self.assertEqual(["dial", "idle"], self.phases)
        self.upstream.peer.write(b"220 mail.example ESMTP\r\n")
        self.settle(lambda: client.received == b"220 mail.example ESMTP\r\n")
        client.write(b"EHLO client.example\r\n")
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.assertEqual(b"EHLO client.example\r\n", self.upstream.peer.received)
        self.upstream.peer.end()
        self.settle()
        self.assertOver("closed", "half_closed")
        self.assertIn(" sni=- tls=- upstream=upstream.example:443 upstream_tls=- in=21 out=24 ", self.lines()[0])

    def test_anything(self) -> None:
        """
        Then anything goes through, be it a doubtful hello.
        """
        self.through(requireTLS=False)
        for wire in (b"GET / HTTP/1.0\r\n\r\n", GOOD, GOOD[:50], bytes(range(256))):
            client = self.visit()
            client.write(wire)
            self.settle()
            self.arrives(client, wire)

    def test_networkOnly(self) -> None:
        """
        Then rules go by the client's network alone, and a refusal is no more than the end.
        """
        rules = (Rule(sni="*", upstream=Upstream(self)), Rule(client="127.0.0.0/8", refuse="alert"))
        self.through(rules=rules, requireTLS=False)
        client = self.visit()
        client.write(GOOD)
        self.settle(lambda: client.ended == "end")
        self.assertEqual((b"", 0), (bytes(client.received), self.upstream.dialed))
        self.assertOver("refused", "route", "the client connects, and rule 2 of the route refuses that")


class TCPPassthroughTests(PassthroughTests):
    """
    The same on TCP.
    """

    tcp: ClassVar[bool] = True

    def test_upstreamRefuses(self) -> None:
        """
        Where the upstream cannot be reached, the client is reset: whatever was said in its own TLS would be a forgery.
        """
        self.upstream = Upstream(self, answers=False)
        self.serve(Passthrough(upstream=self.upstream))
        client = self.visit()
        client.write(GOOD)
        self.settle(lambda: self.upstream.dialed == 1)
        self.upstream.fail(ConnectionRefusedError(111, "Connection refused"))
        self.settle(lambda: client.ended == "reset")
        self.assertEqual(b"", client.received)
        self.assertOver("failed", "dial", "the upstream upstream.example:443 refuses connections")

    def test_resets(self) -> None:
        """
        A reset goes through as a reset, in both directions.
        """
        for mine in (True, False):
            self.through()
            client = self.visit()
            client.write(GOOD)
            self.settle(lambda: bool(self.upstream.peers) and self.upstream.peer.received == GOOD)
            near, far = (client, self.upstream.peer) if mine else (self.upstream.peer, client)
            near.reset()
            self.settle(lambda far=far: far.ended == "reset")  # type: ignore[misc]
        self.assertEqual(["reset", "reset"], [each["outcome"] for each in self.told()])
