# -*- test-case-name: tests.testing.test_streampeers -*-
"""
L{tlsproxy.testing.streampeers}: peers that talk with each other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import certificate
from tlsproxy.testing.socketreactor import tcpPair, unixPair
from tlsproxy.testing.streampeers import Browser, Origin, Peer, TLSPeer


class PeerCase(SynchronousTestCase):
    """
    Two peers.
    """

    def connect(self, client: Any = Peer, server: Any = Peer, tcp: bool = False) -> tuple[Any, Any]:
        """
        Connect two peers with each other.
        """
        pair = tcpPair() if tcp else unixPair()
        self.peers = client(pair[0]), server(pair[1])
        for sock in pair:
            self.addCleanup(sock.close)
        return self.peers

    def settle(self) -> None:
        """
        Let everything happen.
        """
        while sum(peer.pump() for peer in self.peers):
            pass


class PlainTests(PeerCase):
    """
    L{Peer}
    """

    def test_bytes(self) -> None:
        """
        It sends what it is told to, and remembers what it got, which can be taken once, all of it or a part.
        """
        one, other = self.connect()
        one.write(b"hello")
        self.settle()
        self.assertEqual((b"hello", b"hello"), (other.received, other.unheard()))
        self.assertEqual((b"he", b"llo", b""), (other.take(2), other.take(), other.take()))
        self.assertEqual(b"hello", other.received)

    def test_end(self) -> None:
        """
        The end comes behind the bytes, and ends one direction.
        """
        one, other = self.connect()
        one.step = 1
        one.write(b"bye")
        one.end()
        self.settle()
        self.assertEqual((b"bye", "end", ""), (other.received, other.ended, one.ended))
        other.write(b"late")
        self.settle()
        self.assertEqual(b"late", one.received)

    def test_reset(self) -> None:
        """
        A reset is told from an end.
        """
        one, other = self.connect(tcp=True)
        one.reset()
        for _ in range(1000):
            self.settle()
        self.assertEqual(("closed", "reset"), (one.ended, other.ended))

    def test_notReading(self) -> None:
        """
        Who does not read gets nothing, and whoever writes to it is stopped.
        """
        one, other = self.connect()
        other.reading = False
        one.write(bytes(4 << 20))
        self.settle()
        self.assertTrue(one.unsent)
        self.assertEqual(b"", other.received)
        other.reading = True
        self.settle()
        self.assertEqual(4 << 20, len(other.received))


class TLSTests(PeerCase):
    """
    L{TLSPeer}, L{Browser} and L{Origin}
    """

    def test_versions(self) -> None:
        """
        They speak the version that they are told to speak.
        """
        for version in ("TLSv1.2", "TLSv1.3"):
            client, server = self.connect(partial(Browser, version=version), partial(Origin, version=version))
            client.write(b"hello")
            self.settle()
            self.assertEqual((True, True, b"hello"), (client.ready, server.ready, server.received))
            self.assertEqual(version, server.connection.get_protocol_version_name())

    def test_otherVersions(self) -> None:
        """
        Without a version in common the handshake fails.
        """
        _, server = self.connect(partial(Browser, version="TLSv1.2"), partial(Origin, version="TLSv1.3"))
        self.settle()
        self.assertEqual((False, "failed"), (server.ready, server.ended))

    def test_words(self) -> None:
        """
        The browser asks for a name and offers protocols; the origin chooses its own, and shows its certificate.
        """
        client, server = self.connect(
            partial(Browser, serverName="www.example", alpn=(b"h2", b"other")),
            partial(Origin, alpn=b"other", name="www.example"),
        )
        self.settle()
        self.assertEqual(b"www.example", server.connection.get_servername())
        self.assertEqual(b"other", client.connection.get_alpn_proto_negotiated())
        shown = client.connection.get_peer_certificate(as_cryptography=True)
        self.assertEqual(certificate("upstream", "www.example").chain[0], shown)

    def test_noName(self) -> None:
        """
        A browser may ask for nobody.
        """
        _, server = self.connect(partial(Browser, serverName=""), Origin)
        self.settle()
        self.assertEqual((True, None), (server.ready, server.connection.get_servername()))

    def test_ends(self) -> None:
        """
        An end and a cut are told apart.
        """
        for how, ended in (("end", "end"), ("cut", "truncated")):
            client, server = self.connect(Browser, Origin)
            client.write(b"bye")
            getattr(client, how)()
            self.settle()
            self.assertEqual((b"bye", ended, ended == "end"), (server.received, server.ended, server.told))

    def test_startTLS(self) -> None:
        """
        They may begin in clear; bytes that came before TLS was started, and were not taken, belong to it.
        """
        client, server = self.connect(partial(Browser, clear=True), partial(Origin, clear=True))
        client.write(b"STARTTLS")
        self.settle()
        self.assertEqual(b"STARTTLS", server.take())
        client.startTLS()
        client.write(b"secret")
        self.settle()
        self.assertTrue(server.unheard().startswith(b"\x16\x03"))
        server.startTLS()
        self.settle()
        self.assertEqual((True, True, b"secret"), (client.ready, server.ready, server.take()))
        self.assertEqual(b"STARTTLSsecret", server.received)

    def test_clearEnd(self) -> None:
        """
        As long as TLS has not begun, an end is that of a plain stream.
        """
        client, server = self.connect(partial(Browser, clear=True), partial(Origin, clear=True))
        client.end()
        self.settle()
        self.assertEqual(("end", ""), (server.ended, client.ended))

    def test_behindTheEnd(self) -> None:
        """
        What comes in plain behind close_notify is kept apart.
        """
        client, server = self.connect(Browser, Origin)
        client.endTLS()
        self.settle()
        client.writePlain(b"plain")
        self.settle()
        self.assertEqual((b"plain", b"", True), (server.plain, server.received, server.told))

    def test_anonymous(self) -> None:
        """
        A peer without a context of its own has a certificate that nobody trusts.
        """
        client, server = self.connect(
            lambda sock: TLSPeer(sock, "TLSv1.3", server=False), lambda sock: TLSPeer(sock, "TLSv1.3", server=True)
        )
        server.write(b"hello")
        self.settle()
        self.assertEqual(b"hello", client.received)
