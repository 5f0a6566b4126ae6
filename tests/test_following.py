"""
Tests of L{tlsproxy.following}.
"""

from __future__ import annotations

import os
import random
from typing import Any

from OpenSSL import SSL

from tests.tunneling import TunnelCase
from tlsproxy.downgrade import Downgrade
from tlsproxy.interfaces import INWARD, OUTWARD
from tlsproxy.plain import PlainStream
from tlsproxy.splice import Splice
from tlsproxy.testing.certificates import certificate
from tlsproxy.testing.streampeers import Browser, Peer, TLSPeer
from tlsproxy.tls.native import setGroups

VERSIONS = ("TLSv1.3", "TLSv1.2")
SEEDS = 600 if os.environ.get("TLSPROXY_MASSES") == "1" else 100


def records(data: bytes) -> list[bytes]:
    """
    Cut what passed into TLS records.
    """
    found = []
    while data:
        length = 5 + int.from_bytes(data[3:5], "big")
        assert data[0] in range(20, 24) and data[1] == 3 and length <= 5 + 16384 + 256 and len(data) >= length, data[:5]
        found.append(data[:length])
        data = data[length:]
    return found


def serving(name: str, groups: str = "X25519") -> SSL.Context:
    """
    Make the TLS of a server.

    @param name: The common name of its certificate.
    @param groups: The groups that it takes.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    identity = certificate(name, "shop.example")
    context.use_certificate(identity.chain[0])
    context.use_privatekey(identity.key)
    setGroups(context, groups)
    return context


class Whole(TunnelCase):
    """
    Tunnels that come to a good end.
    """

    def finish(self, browser: Any, origin: Any, downgrade: str) -> None:
        """
        Both sides end.
        """
        browser.end()
        self.settle()
        origin.end()
        self.settle()
        self.assertEqual(2, len(self.told()))
        for line in self.told():
            self.assertEqual(("closed", downgrade), (line["outcome"], line["downgrade"]), line["reason"])

    def exchange(self, version: str, downgrade: str, **how: Any) -> None:
        """
        Much goes through, both ways.
        """
        browser = self.both(version, agreed=downgrade, **how)
        self.settle(lambda: browser.ready)
        (origin,) = self.origins.peers
        self.settle(lambda: origin.ready)
        for _ in range(60):
            browser.write(b"q" * 20000)
            origin.write(b"a" * 30000)
            self.settle()
        self.settle(lambda: len(origin.received) == 1200000)
        self.settle(lambda: len(browser.received) == 1800000)
        for session in self.network.sessions:
            relay = session.relay
            assert relay is not None
            for direction in (relay.outward, relay.inward):
                plain = downgrade != "none"
                self.assertEqual(plain, type(direction.source.reading) is type(direction.sink.writing) is PlainStream)
                self.assertEqual(plain and how.get("how", Downgrade()).framing == "first", type(direction) is Splice)
        self.finish(browser, origin, downgrade)
        (wire,) = self.wires
        for way in (OUTWARD, INWARD):
            records(bytes(wire.passed[way]))
        # What the outer TLS adds to each record.
        least = 1800000 + 1800000 // 16384 * (22 if downgrade == "none" else 0)
        self.assertGreater(len(wire.passed[INWARD]), least)

    def test_handshake(self) -> None:
        """
        TLS comes off once the handshake inside it has got so far, and in the end the kernel moves the bytes.
        """
        self.exchange("TLSv1.3", "handshake")

    def test_handshakeTwelve(self) -> None:
        """
        With TLS 1.2 inside, too.
        """
        self.exchange("TLSv1.2", "handshake")

    def test_framingAlways(self) -> None:
        """
        Where that is wanted, all that flows is seen to be TLS.
        """
        self.exchange("TLSv1.3", "handshake", how=Downgrade(framing="always"))

    def test_none(self) -> None:
        """
        TLS stays where that was agreed upon.
        """
        self.exchange("TLSv1.3", "none")

    def test_connect(self) -> None:
        """
        TLS comes off at once where that was agreed upon.
        """
        self.exchange("TLSv1.3", "connect")

    def test_connectTwelve(self) -> None:
        """
        With TLS 1.2 inside, too.
        """
        self.exchange("TLSv1.2", "connect")

    def test_retry(self) -> None:
        """
        A server that wants another key share gets one, and TLS comes off behind that.
        """
        browser = self.both(
            origin=lambda sock: TLSPeer(sock, "TLSv1.3", server=True, context=serving("origin", "P-384"))
        )
        self.settle(lambda: browser.ready)
        (origin,) = self.origins.peers
        self.settle(lambda: origin.ready)
        self.finish(browser, origin, "handshake")

    def test_anything(self) -> None:
        """
        However the bytes are cut and whoever speaks first, each side gets what the other has sent, and the TLS between
        the proxies comes off.
        """
        for seed in range(SEEDS):
            try:
                self.anything(random.Random(seed))
            except BaseException as e:
                raise AssertionError(f"seed {seed}: {e}") from e
            self.forget()

    def anything(self, chance: random.Random) -> None:
        """
        One of them.
        """
        version = chance.choice(VERSIONS)
        agreed = chance.choice(("handshake", "handshake", "handshake", "connect", "none"))
        # Where TLS stays, what stands behind a socket of loopback knows no half-close.
        words = ("socket", "loopback") if agreed != "none" else ("socket",)
        ways = [{"how": Downgrade(takeOff=chance.choice(words))} for _ in range(2)]
        browser = self.both(version, agreed=agreed, client=ways[0], server=ways[1])
        browser.step = round(2 ** chance.uniform(4, 16))
        said = {OUTWARD: b"", INWARD: b""}
        origin: Any = None
        for _ in range(chance.randrange(1, 6)):
            if chance.random() < 0.7:
                data = bytes(chance.choice(b"abc") for _ in range(3)) * round(2 ** chance.uniform(0, 11))
                said[OUTWARD] += data
                browser.write(data)
            if origin is None and self.origins.peers:
                (origin,) = self.origins.peers
                origin.step = round(2 ** chance.uniform(4, 16))
            if origin is not None and chance.random() < 0.7:
                data = bytes(chance.choice(b"xyz") for _ in range(3)) * round(2 ** chance.uniform(0, 11))
                said[INWARD] += data
                origin.write(data)
            for wire in self.wires:
                # What waits for a hello on a Unix socket looks for it 20 times a second.
                wire.step = round(2 ** chance.uniform(3 if origin is not None else 8, 16))
            for _ in range(chance.randrange(6)):
                some: Any = chance.choice([self.reactor, *self.peers])
                some.pump()
        while not self.origins.peers:
            self.after(0.05)
        (origin,) = self.origins.peers
        self.settle(lambda: origin.received == said[OUTWARD] and browser.received == said[INWARD])
        self.settle(lambda: browser.ready and origin.ready)
        self.finish(browser, origin, agreed)
        (wire,) = self.wires
        self.wires.clear()
        for way in (OUTWARD, INWARD):
            records(bytes(wire.passed[way]))


class Ends(TunnelCase):
    """
    Directions that end before TLS is off.
    """

    def test_before(self) -> None:
        """
        A browser that has no more to say once its hello is sent still gets what the destination says.
        """

        def silent(sock: Any) -> TLSPeer:
            peer = TLSPeer(sock, "TLSv1.3", server=True, context=serving("origin"))
            peer.reading = False
            return peer

        browser = self.both(origin=silent)
        self.settle(lambda: bool(self.origins.peers))
        browser.cut()
        self.settle()
        (origin,) = self.origins.peers
        origin.reading = True
        self.settle()
        self.after(15.0)
        self.assertEqual([], self.lines())
        self.assertTrue(browser.connection.get_peer_certificate())
        origin.cut()
        self.settle()
        self.assertEqual([("closed", "handshake")] * 2, [(line["outcome"], line["downgrade"]) for line in self.told()])


class Refusals(TunnelCase):
    """
    What gets no tunnel.
    """

    def refused(self, browser: Any, phase: str, reason: str) -> None:
        """
        Both sessions have come to an end, the client proxy's with a reason, and the destination has got nothing.
        """
        self.settle()
        line = self.told()[0]
        self.assertEqual(("refused", phase), (line["outcome"], line["phase"]))
        self.assertIn(reason, line["reason"])
        (origin,) = self.origins.peers
        self.assertEqual(SSL.Connection.get_state_string(origin.connection), b"before SSL initialization")
        origin.end()
        self.settle()

    def test_otherName(self) -> None:
        """
        A hello for another server than the target's, which is told by an alert.
        """
        for agreed in ("handshake", "none", "connect"):
            with self.subTest(agreed=agreed):
                browser = self.both(browser=lambda sock: Browser(sock, serverName="other.example"), agreed=agreed)
                self.refused(browser, "hello", "the hello inside the tunnel to shop.example is for other.example")
                self.assertEqual("failed", browser.ended)

    def test_noTLS(self) -> None:
        """
        What is no TLS.
        """
        browser = self.both(browser=Peer)
        browser.write(b"EHLO example\r\n")
        self.refused(browser, "hello", "inside the tunnel, the client does not speak TLS")
