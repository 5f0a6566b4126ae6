"""
Tests for L{tlsproxy.tls.datagrams}: on a network that does no harm, or nearly none.

What becomes of a handshake on a terrible one is in L{tests.tls.test_datagrams_terrible}.
"""

from __future__ import annotations

from OpenSSL import SSL

from tests.tls.terrible import DatagramCase, TerribleNetwork, Weather
from tlsproxy.errors import AdmissionRefused
from tlsproxy.interfaces import DRAINED, ENDED, FAILED
from tlsproxy.tls.datagrams import LARGEST_MTU, SMALLEST_MTU, DTLSConnection, TooLarge
from tlsproxy.tls.explain import explainHandshake
from tlsproxy.tls.native import Buffer


class HandshakeTests(DatagramCase):
    """
    Tests for handshakes.
    """

    def test_version(self) -> None:
        """
        Both ends come to DTLS 1.2, with a suite that has forward secrecy and an AEAD.
        """
        network = self.shaken()
        for party in (network.server, network.client):
            connection = party.connection.connection
            self.assertEqual(connection.get_protocol_version_name(), "DTLSv1.2")
            self.assertEqual(connection.get_cipher_name(), "ECDHE-ECDSA-AES256-GCM-SHA384")
            self.assertEqual(party.connection.timeout(), None)

    def test_cookie(self) -> None:
        """
        A client without a cookie is asked for one, by a datagram that is smaller than its own.
        """
        network = self.shaken()
        (_, hello), (_, asked), *_ = network.sent
        self.assertEqual(asked[13], 3)  # HelloVerifyRequest, RFC 6347, section 4.3.2
        self.assertTrue(len(asked) < len(hello))

    def test_provenElsewhere(self) -> None:
        """
        A server goes on from a client's second hello though it has not seen the first.
        """
        tls = self.server()
        first = self.network(server=tls)
        first.run(lambda: len(first.sent) == 3)
        network = TerribleNetwork(self.clock, tls.begin(DTLSConnection, 1200), first.client.connection, Weather(), 0)
        network.inject(network.server, first.sent[2][1])
        self.assertTrue(network.shake())

    def test_names(self) -> None:
        """
        The certificate is the one for the server name, and each side tells what the other has shown.
        """
        shop, desk = self.issued("shop.example"), self.issued("desk.example")
        server = self.server(cert=(self.keep("shop", shop), self.keep("desk", desk)))
        for name, shown in (("shop.example", shop), ("desk.example", desk)):
            network = self.shaken(server=server, client=self.client(name), name=name)
            certificate = network.client.connection.connection.get_peer_certificate(as_cryptography=True)
            self.assertEqual(certificate, shown.chain[0])

    def test_unknownName(self) -> None:
        """
        A server that is to refuse unknown names refuses one before it says anything.
        """
        server = self.server(unknownSni="refuse")
        self.assertRaises(AdmissionRefused, server.begin, DTLSConnection, 1200, "desk.example")

    def test_alpn(self) -> None:
        """
        An application protocol is agreed upon, by the server's preference.
        """
        network = self.shaken(server=self.server(alpn=("coap", "x")), client=self.client(alpn=("x", "coap")))
        self.assertEqual(network.client.connection.connection.get_alpn_proto_negotiated(), b"coap")

    def test_noCommonProtocol(self) -> None:
        """
        A client that speaks no protocol of the server's is told by an alert, and both sides know why.
        """
        network = self.network(server=self.server(alpn="coap"), client=self.client(alpn="x"))
        network.run(lambda: network.client.problem is not None)
        self.assertEqual(network.client.alert, (120, False))
        told = explainHandshake(network.client.connection, network.client.problem or Exception(), "the upstream")
        self.assertIn("it speaks none of the application protocols offered", str(told))
        self.assertIsInstance(network.server.problem, AdmissionRefused)

    def test_clientCertificate(self) -> None:
        """
        A client's certificate is asked for, verified and told.
        """
        known = self.issued("somebody.example")
        server = self.server(clientCa=(self.anchor,), allowDns=("somebody.example",))
        network = self.shaken(server=server, client=self.client(identity=known))
        certificate = network.server.connection.connection.get_peer_certificate(as_cryptography=True)
        self.assertEqual(certificate, known.chain[0])

    def test_refusedClients(self) -> None:
        """
        A client without a certificate, or with one that no rule allows, is refused, and an alert says so.
        """
        server = self.server(clientCa=(self.anchor,), allowDns=("somebody.example",))
        for identity, alert in ((None, 40), (self.issued("else.example"), 42)):
            network = self.network(server=server, client=self.client(identity=identity))
            network.run(lambda network=network: network.client.problem is not None)  # type: ignore[misc]
            self.assertEqual((network.server.alert, network.client.alert), ((alert, True), (alert, False)))
            told = explainHandshake(network.server.connection, network.server.problem or Exception(), "the client")
            self.assertIn("certificate", str(told))

    def test_refusedServers(self) -> None:
        """
        A server with a certificate for another name, of an unknown CA, or with a key that is not pinned is refused,
        and an alert says so.
        """
        for client in (
            self.client("desk.example"),
            self.client(ca=(self.keep("stranger", self.issued("x")).chain,)),
            self.client(pins=("sha256/" + "A" * 43 + "=",)),
        ):
            network = self.network(client=client)
            network.run(lambda network=network: network.server.problem is not None)  # type: ignore[misc]
            self.assertIsInstance(network.client.problem, SSL.Error)
            self.assertNotEqual(network.server.alert, None)
            told = explainHandshake(network.client.connection, network.client.problem or Exception(), "the upstream")
            self.assertTrue(str(told).startswith("the upstream's certificate is refused"), str(told))

    def test_resumed(self) -> None:
        """
        A client that comes again need not go the whole way.
        """
        server, client = self.server(), self.client()
        first = self.shaken(server=server, client=client)
        again = self.network(server=server, client=client)
        session = first.client.connection.connection.get_session()
        assert session is not None
        again.client.connection.connection.set_session(session)
        self.assertTrue(again.shake())
        self.assertTrue(again.server.connection.resumed() and again.client.connection.resumed())
        self.assertFalse(first.server.connection.resumed())

    def test_timers(self) -> None:
        """
        What is not answered is said again after a second, then two, and so on up to a minute.
        """
        client = self.client().begin(DTLSConnection, 1200)
        self.assertRaises(SSL.WantReadError, client.handshake)
        client.output()
        waited = []
        for _ in range(9):
            left = client.timeout() or 0
            waited.append(left)
            self.assertFalse(client.handleTimeout())
            self.clock.now += left
            self.assertTrue(client.handleTimeout())
            self.assertEqual(len(client.output()), 1)
        self.assertEqual(waited, [1, 2, 4, 8, 16, 32, 60, 60, 60])


class DatagramTests(DatagramCase):
    """
    Tests for what is said once the handshake is done.
    """

    def test_boundaries(self) -> None:
        """
        Datagrams are neither merged nor split.
        """
        network = self.shaken()
        server, client = network.server.connection, network.client.connection
        said = [b"one", b"t", bytes(server.largest), b"three" * 100]
        for data in said:
            server.write(data)
        datagrams = server.output()
        self.assertEqual(len(datagrams), 4)
        for datagram in datagrams:
            client.receive(datagram)
        self.assertEqual([client.read() for _ in range(5)], [*said, None])
        self.assertEqual(client.state, DRAINED)

    def test_nothing(self) -> None:
        """
        No datagram is made of nothing, and where nothing is to be sent there is none.
        """
        network = self.shaken()
        network.server.connection.write(b"")
        self.assertEqual(network.server.connection.output(), [])

    def test_tooLarge(self) -> None:
        """
        What the path cannot carry is refused, and sent in no pieces.
        """
        server = self.shaken().server.connection
        server.write(bytes(server.largest))
        (datagram,) = server.output()
        self.assertEqual(len(datagram), 1200)
        error = self.assertRaises(TooLarge, server.write, bytes(server.largest + 1))
        self.assertEqual(str(error), "a datagram of 1164 bytes is too large: the path carries 1163")
        self.assertEqual(server.output(), [])

    def test_mtu(self) -> None:
        """
        What the path carries can be learned later, and is never out of bounds.
        """
        server = self.shaken().server.connection
        for given, mtu in ((600, 600), (1, SMALLEST_MTU), (100_000, LARGEST_MTU)):
            server.setMTU(given)
            self.assertEqual((server.mtu, server.largest), (mtu, min(mtu - 37, 16384)))

    def test_beforeHandshake(self) -> None:
        """
        Nothing can be said before the handshake is done.
        """
        self.assertRaises(TooLarge, self.network().client.connection.write, b"x")

    def test_withoutCopy(self) -> None:
        """
        Buffers carry the same; where a datagram holds more than one record, that is told.
        """
        network = self.shaken()
        server, client = network.server.connection, network.client.connection
        clear, sealed, opened = Buffer(65536), Buffer(65536), Buffer(65536)
        clear.view[:5] = b"hello"
        count = server.seal(clear, 5, sealed)
        self.assertEqual(client.open(sealed, count, opened), 5)
        self.assertEqual((bytes(opened.view[:5]), client.more), (b"hello", False))
        server.write(b"one")
        server.write(b"two")
        both = b"".join(server.output())
        sealed.view[: len(both)] = both
        self.assertEqual((client.open(sealed, len(both), opened), client.more), (3, True))
        self.assertEqual((client.fill(opened), bytes(opened.view[:3])), (3, b"two"))
        self.assertEqual((client.fill(opened), client.state), (0, DRAINED))

    def test_nothingBeside(self) -> None:
        """
        After a handshake alone there is nothing to be read.
        """
        network = self.shaken()
        self.assertFalse(network.server.connection.more or network.client.connection.more)

    def test_replay(self) -> None:
        """
        A datagram that comes again is dropped.
        """
        network = self.shaken()
        server, client = network.server.connection, network.client.connection
        server.write(b"pay")
        (datagram,) = server.output()
        for _ in range(3):
            network.inject(network.client, datagram)
        self.assertEqual(network.client.heard, [b"pay"])
        self.assertEqual(client.state, DRAINED)

    def test_garbage(self) -> None:
        """
        What has been tampered with, or is no record, is dropped, and what comes after is not.
        """
        network = self.shaken()
        server, client = network.server, network.client
        server.connection.write(b"before")
        (datagram,) = server.connection.output()
        for place in range(len(datagram)):
            changed = bytearray(datagram)
            changed[place] ^= 0x10
            network.inject(client, bytes(changed))
            network.inject(client, datagram[:place])
        for junk in (b"", b"\x16", bytes(2000), b"\xff" * 65507, bytes.fromhex("15fefd000000000000000900020228")):
            network.inject(client, junk)
        self.assertEqual((client.heard, client.connection.state), ([], DRAINED))
        network.inject(client, datagram)
        self.assertEqual(client.heard, [b"before"])
        client.connection.write(b"after")
        network.flush()
        network.run(lambda: bool(server.heard))
        self.assertEqual(server.heard, [b"after"])

    def test_closeNotify(self) -> None:
        """
        Each end can say that it is done, once, and hears it of the other.
        """
        network = self.shaken()
        server, client = network.server.connection, network.client.connection
        server.write(b"last")
        server.endWrite()
        server.endWrite()
        datagrams = server.output()
        self.assertEqual([datagram[0] for datagram in datagrams], [23, 21])
        for datagram in datagrams:
            client.receive(datagram)
        self.assertEqual((client.read(), client.read(), client.state), (b"last", None, ENDED))
        client.endWrite()
        for datagram in client.output():
            server.receive(datagram)
        self.assertEqual((server.read(), server.state), (None, ENDED))

    def test_broken(self) -> None:
        """
        After its close_notify an end sends nothing more.
        """
        server = self.shaken().server.connection
        server.endWrite()
        server.write(b"x")
        self.assertEqual(server.state, FAILED)
        clear = Buffer(16384)
        self.assertEqual(server.seal(clear, 1, Buffer(65536)), -1)
