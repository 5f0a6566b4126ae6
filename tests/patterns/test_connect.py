# -*- test-case-name: tests.patterns.test_connect -*-
"""
L{tlsproxy.patterns.connect}: tunnels that come to stand, and the bytes behind the head of the request.
"""

from __future__ import annotations

from typing import ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import integers, sets
from zope.interface.verify import verifyObject

from tests.patterns.connecting import ESTABLISHED, ConnectCase, ask
from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.connect import Connect
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import certificate, serverTLS
from tlsproxy.testing.sessions import Browser
from tlsproxy.testing.streampeers import Peer, TLSPeer

EARLY = b"\x16\3\1 the first flight of another protocol"
"""What a client may send before it has an answer."""
WHOLE = ask() + EARLY
"""All that such a client sends at first."""


class TunnelTests(ConnectCase):
    """
    Tunnels on plain TCP.
    """

    secure: ClassVar[bool] = False

    def client(self, sent: bytes = b"") -> Peer:
        """
        Serve, and have a client connect.
        """
        self.proxy(tls=self.secure)
        client: Peer = self.asks(sent, Browser if self.secure else Peer)
        self.settle()
        return client

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name.
        """
        self.proxy(tls=self.secure)
        pattern = self.factory.route.pattern
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual("connect", pattern.mode)

    def test_order(self) -> None:
        """
        The request comes first, all of it; then its name is looked up and its address dialed; then the client is told,
        and the tunnel stands in both directions.
        """
        client = self.client(ask())
        self.settle(lambda: bytes(client.received) == ESTABLISHED)
        first = ["hello", "handshake"] if self.secure else []
        self.assertEqual([*first, "head", "dial", "idle"], self.phases)
        self.assertEqual((["shop.example"], [("192.0.2.1", 443)]), (self.asked, self.dialed))
        client.write(b"question")
        self.settle(lambda: self.targets[0].received == b"question")
        self.tunnel(client)
        self.assertOver("closed", "half_closed")

    def test_line(self) -> None:
        """
        The line in the log tells the target as it was asked for, and the address that was dialed.
        """
        self.tunnel(self.client(ask("Shop.Example:443")))
        (line,) = self.lines()
        self.assertIn(" target=shop.example:443 upstream=192.0.2.1:443 upstream_tls=- in=0 out=8 ", line)
        self.assertNotIn("user=", line)

    def test_sixth(self) -> None:
        """
        An IPv6 address is asked for in brackets, and dialed without asking anybody.
        """
        self.proxy("[2001:db8::/32]:443", tls=self.secure)
        self.tunnel(self.asks(ask("[2001:DB8::1]:443"), Browser if self.secure else Peer))
        self.assertEqual(([], [("2001:db8::1", 443)]), (self.asked, self.dialed))
        self.assertIn(" target=[2001:db8::1]:443 ", self.lines()[0])

    def test_old(self) -> None:
        """
        HTTP/1.0 needs no Host.
        """
        self.tunnel(self.client(b"CONNECT shop.example:443 HTTP/1.0\r\n\r\n"))

    def test_early(self) -> None:
        """
        What comes right behind the head is the tunnel's first, and none of it is lost.
        """
        self.answers = False
        client = self.client(ask() + EARLY)
        self.assertEqual([], self.targets)
        client.write(b", and more")
        self.settle()
        self.waiting.pop().callback(None)
        self.assertEqual(EARLY + b", and more", self.tunnel(client).received)
        self.assertIn(f" in={len(EARLY) + 10} ", self.lines()[0])

    def test_pieces(self) -> None:
        """
        A head may come byte by byte, in as many TLS records where there is TLS, and what is behind it too.
        """
        client = self.client()
        sent = ask() + EARLY
        for at in range(len(sent)):
            client.write(sent[at : at + 1])
            self.settle()
        self.assertEqual(EARLY, self.tunnel(client).received)

    @given(cuts=sets(integers(1, len(WHOLE) - 1), max_size=6))
    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    def test_anyCut(self, cuts: set[int]) -> None:
        """
        A head may be cut anywhere, and so may what is behind it.
        """
        client = self.client()
        at = 0
        for cut in [*sorted(cuts), len(WHOLE)]:
            client.write(WHOLE[at:cut])
            self.settle()
            at = cut
        target = self.targets[-1]
        self.settle(lambda: target.received == EARLY and client.received == ESTABLISHED)
        self.one().stop()
        self.settle()

    def test_muchBehind(self) -> None:
        """
        So it is with much behind the head, in the same record of TLS and in many more.
        """
        client = self.client()
        behind = bytes(range(256)) * 1000
        client.write(ask() + behind[:1000])
        client.write(behind[1000:])
        self.assertEqual(behind, self.tunnel(client).received)

    def test_endedBehind(self) -> None:
        """
        A client may send all it has, and end its stream, before the tunnel stands.
        """
        self.answers = False
        client = self.client(ask() + EARLY)
        client.end()
        self.settle()
        self.waiting.pop().callback(None)
        self.settle(lambda: bool(self.targets) and self.targets[0].ended == "end")
        self.assertEqual(EARLY, self.targets[0].received)
        self.targets[0].write(b"answer")
        self.targets[0].end()
        self.settle(lambda: bytes(client.received) == ESTABLISHED + b"answer")
        self.assertOver("closed", "half_closed")

    def test_goneBefore(self) -> None:
        """
        A client that is gone before its tunnel stands is told of, and the target is reset.
        """
        self.answers = False
        client = self.client(ask())
        client.reading = False
        client.close()
        self.waiting.pop().callback(None)
        self.settle(lambda: bool(self.told()))
        self.assertTrue(self.aborted(self.targets[0]))
        (event,) = self.told()
        self.assertEqual("reset", event["outcome"])


class SecureTunnelTests(TunnelTests):
    """
    Tunnels inside TLS.
    """

    secure = True

    def test_manyRecords(self) -> None:
        """
        A head whose lines are each a record, with the last bytes of it and the first of the tunnel in one.
        """
        client = self.client()
        self.settle(lambda: isinstance(client, TLSPeer) and client.ready)
        for line in ask("shop.example:443", "User-Agent: x").splitlines(keepends=True)[:-1]:
            client.write(line)
        client.write(b"\r\n" + EARLY)
        self.assertEqual(EARLY, self.tunnel(client).received)

    def test_clientCertificate(self) -> None:
        """
        Where a certificate is demanded, a client without one does not get as far as to ask.
        """
        targets = Targets(allow=("shop.example:443",))
        self.serve(Connect(targets=targets, tls=serverTLS(clients="required")))
        client = self.asks(ask(), Browser)
        self.settle(lambda: client.ended == "failed")
        self.assertEqual(([], []), (self.asked, self.dialed))
        self.visit(lambda sock: Browser(sock, identity=certificate("alice"))).write(ask())
        self.settle(lambda: bool(self.targets))
        self.one().stop()
        self.assertIn('client_cert="CN=alice, ', self.lines()[-1])

    def test_plainHTTP(self) -> None:
        """
        A client that asks without TLS is told so.
        """
        self.proxy(tls=True)
        status, _, body = self.got(self.asks(ask()))
        self.assertEqual((400, b"This port speaks TLS"), (status, body[:20]))
        self.assertEqual([], self.asked)
