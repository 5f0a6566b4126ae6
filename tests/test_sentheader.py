# -*- test-case-name: tests.test_sentheader -*-
"""
Tests for L{tlsproxy.sentheader}: upstreams that are told of the client by a PROXY header.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.test_balancers import CLIENT, LONG, ProxiedCase
from tests.wire.clienthellos import GOOD
from tests.wire.test_proxyheader import binary
from tests.wire.test_proxytlv import account, tlv
from tlsproxy.end import End
from tlsproxy.errors import SessionError, forgetFrames
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import SENDABLE
from tlsproxy.sentheader import headerFor
from tlsproxy.session import Session
from tlsproxy.testing.certificates import certificate, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase
from tlsproxy.testing.streampeers import Peer
from tlsproxy.wire.proxyheader import ProxyHeader, ProxyHeaderReader, writeBinary
from tlsproxy.wire.proxytlv import ToldTLS, Vectors

HERE = IPv4Address("TCP", "127.0.0.1", 4321)
LISTENING = IPv4Address("TCP", "127.0.0.1", 8443)


class SentCase(SessionCase):
    """
    Sessions whose upstream is told.
    """

    tcp = True

    def visited(self, make: Any = Peer, address: tuple[str, int] = ("127.0.0.1", 4321), says: bytes = b"") -> Session:
        """
        Have a client connect, and wait until its upstream is told.
        """
        client = self.network.connect(make, to=self.factory, address=address)
        client.write(says)
        self.settle(lambda: self.upstream.dialed == 1)
        session = self.one()
        session.near.host = lambda: LISTENING  # type: ignore[method-assign]
        return session

    def sent(self) -> ProxyHeader:
        """
        Tell what the upstream was sent first.
        """
        reader = ProxyHeaderReader()
        self.settle(lambda: reader.read(bytes(self.upstream.peer.received)) is not None)
        header = ProxyHeaderReader().read(bytes(self.upstream.peer.received))
        assert header is not None
        return header


class WordsTests(SentCase):
    """
    What the header says.
    """

    def header(self, session: Session, **route: Any) -> ProxyHeader:
        """
        Write the header of a session as another route would have it.
        """
        session.route = evolve(session.route, **route)
        header = ProxyHeaderReader().read(headerFor(session))
        assert header is not None
        return header

    def served(self, make: Any, tls: Any) -> Session:
        """
        Have a client with TLS.
        """
        self.serve(Offload(upstream=self.upstream, tls=tls))
        return self.visited(make)

    def test_line(self) -> None:
        """
        Version 1 tells the addresses, and IPv4 in its own form.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), sendProxy="v1")
        session = self.visited(address=("::ffff:192.0.2.7", 50112))
        self.assertEqual(b"PROXY TCP4 192.0.2.7 127.0.0.1 50112 8443\r\n", headerFor(session))
        session.near.speaksFor(UNIXAddress(None), UNIXAddress(None))
        del session.near.host
        self.assertEqual(b"PROXY UNKNOWN\r\n", headerFor(session))
        session.stop()

    def test_tls(self) -> None:
        """
        Version 2 tells of the client's TLS: what it is, what was negotiated in it, and our own certificate.
        """
        tls = serverTLS(alpn=("h2",))
        session = self.served(partial(Browser, alpn=(b"h2",)), tls)
        header = self.header(session, sendProxy="v2")
        account = ToldTLS(
            version="TLSv1.3",
            cipher="TLS_AES_256_GCM_SHA384",
            group=session.near.tls.connection.get_group_name(),  # type: ignore[union-attr, arg-type]
            signatureAlgorithm="ecdsa-with-SHA256",
            keyAlgorithm="EC256",
        )
        self.assertEqual(Vectors(alpn=b"h2", authority="shop.example", tls=account), header.vectors)
        self.assertEqual((HERE, LISTENING), (header.source, header.destination))
        session.stop()

    def test_certificate(self) -> None:
        """
        So it does of the client's certificate, which was verified; all of it only where that is asked for.
        """
        alice = certificate("alice")
        session = self.served(partial(Browser, identity=alice), serverTLS(clients="required"))
        tls = self.header(session, sendProxy="v2").vectors.tls
        assert tls is not None
        self.assertEqual((True, True, "alice", b""), (tls.shown, tls.verified, tls.commonName, tls.certificate))
        tls = self.header(session, sendProxyTLVs=("ssl", "client-cert")).vectors.tls
        assert tls is not None
        self.assertEqual(alice.chain[0].public_bytes(Encoding.DER), tls.certificate)
        session.stop()

    def test_noCertificate(self) -> None:
        """
        A client that may show none and shows none counts as not verified.
        """
        session = self.served(Browser, serverTLS(clients="optional"))
        header = headerFor(self._with(session, sendProxy="v2", sendProxyTLVs=("ssl", "client-cert")))
        self.assertEqual(b"\x01\x00\x00\x00\x01", header[28 + 3 : 28 + 8])
        session.stop()

    def _with(self, session: Session, **route: Any) -> Session:
        session.route = evolve(session.route, **route)
        return session

    def test_chosen(self) -> None:
        """
        What is not asked for is not told.
        """
        session = self.served(partial(Browser, alpn=(b"h2",)), serverTLS(alpn=("h2",)))
        self.assertEqual(Vectors(), self.header(session, sendProxy="v2", sendProxyTLVs=()).vectors)
        self.assertEqual(Vectors(alpn=b"h2"), self.header(session, sendProxyTLVs=("alpn",)).vectors)
        self.assertEqual(Vectors(authority="shop.example"), self.header(session, sendProxyTLVs=("authority",)).vectors)
        self.assertEqual(b"\x03\x00\x04", headerFor(self._with(session, sendProxyTLVs=("crc32c",)))[28:31])
        session.stop()

    def test_uniqueId(self) -> None:
        """
        What the session is called is made once, and in the log.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False))
        session = self.visited()
        names = {self.header(session, sendProxy="v2", sendProxyTLVs=("unique-id",)).vectors.uniqueId for _ in range(2)}
        self.assertEqual({session.uniqueId.encode()}, names)
        self.assertRegex(session.uniqueId, "^[0-9a-f]{32}$")
        session.stop()
        self.settle()
        self.assertIn(f" id={session.uniqueId} ", self.lines()[0])

    def test_tooLong(self) -> None:
        """
        A header that would be too long ends the session, and is not cut.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), sendProxy="v2", sendProxyTLVs=SENDABLE)
        session = self.visited()
        session.serverName = "x" * 66000
        forgetFrames(self.assertRaises(SessionError, headerFor, session))
        session.serverName = None  # No hello has such a name, and neither has a line of the log.
        session.stop()

    def test_otherAddresses(self) -> None:
        """
        Families may differ, and a client by a Unix socket has no address.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False))
        session = self.visited(address=("2001:db8::7", 50112))
        header = self.header(session, sendProxy="v2")
        self.assertEqual((IPv6Address("TCP", "2001:db8::7", 50112), LISTENING), (header.source, header.destination))
        del session.near.host
        session.near.speaksFor(UNIXAddress(None), UNIXAddress("/run/shop.sock"))
        header = self.header(session)
        self.assertEqual((UNIXAddress(None), UNIXAddress("/run/shop.sock")), (header.source, header.destination))
        session.stop()


class _Deaf(Peer):
    """
    An upstream that reads nothing.
    """

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.reading = False


class ModesTests(ProxiedCase):
    """
    Every mode sends it before anything else.
    """

    tcp = True

    def test_modes(self) -> None:
        """
        The upstream gets the header first, and then what it would get without: TLS, too.
        """
        for mode in self.modes():
            for version in ("v1", "v2"):
                pattern, near, far = self.modes()[mode]
                tls = far is Origin
                self.upstream._make = partial(far, clear=True) if tls else far
                self.serve(pattern, sendProxy=version)
                client: Any = self.visit(near)
                if not tls:
                    client.write(b"question")
                self.settle(lambda: self.upstream.dialed == 1 and len(self.upstream.peer.received) > 20)
                peer = self.upstream.peer
                header = ProxyHeaderReader().read(bytes(peer.received))
                assert header is not None
                self.assertEqual((HERE, version), (header.source, f"v{header.version}"))
                named = version == "v2" and near is Browser
                self.assertEqual("shop.example" if named else "", header.vectors.authority)
                self.assertEqual(named and mode != "passthrough", header.vectors.tls is not None)
                if tls:
                    peer.take(header.length)
                    peer.startTLS()
                    client.write(b"question")
                start = header.length
                self.settle(lambda peer=peer, start=start: peer.received[start:] == b"question")  # type: ignore[misc]
                peer.write(b"answer")
                self.settle(lambda client=client: client.received == b"answer")  # type: ignore[misc]
                self.one().stop()
                self.settle()
                self.forget()

    def test_chain(self) -> None:
        """
        What a balancer has told is told on: the client, what it asked for, and its TLS, but for its certificate.
        """
        cert = account(tlv(0x21, b"TLSv1.3"), tlv(0x28, b"DER"), flags=7, verify=0)
        told = binary(block=binary()[16:] + tlv(1, b"h2") + tlv(2, b"shop.example") + tlv(5, b"id-7") + cert)
        tls = ToldTLS(version="TLSv1.3", shown=True, verified=True)
        for sent, account_ in (
            (tuple(one for one in SENDABLE if one != "client-cert"), tls),
            (SENDABLE, evolve(tls, certificate=b"DER")),
        ):
            self.upstream = type(self.upstream)(self.network)
            self.forward(sendProxy="v2", sendProxyTLVs=sent)
            self.visit().write(told)
            self.settle(lambda: self.upstream.dialed == 1 and len(self.upstream.peer.received) > 28)
            expected = Vectors(alpn=b"h2", authority="shop.example", uniqueId=b"id-7", tls=account_)
            client, reached = IPv4Address("TCP", "192.0.2.7", 50112), IPv4Address("TCP", "198.51.100.1", 443)
            self.assertEqual(writeBinary(client, reached, expected, True), bytes(self.upstream.peer.received))
            self.one().stop()
            self.settle()

    def test_ours(self) -> None:
        """
        Where we speak TLS with whoever comes, that is what is told.
        """
        self.proxied(Offload(upstream=self.upstream, tls=serverTLS()), sendProxy="v2")
        client = self.visit(partial(Browser, serverName="other.example", clear=True))
        client.write(LONG)
        self.settle()
        client.startTLS()
        self.settle(lambda: self.upstream.dialed == 1 and len(self.upstream.peer.received) > 28)
        header = ProxyHeaderReader().read(bytes(self.upstream.peer.received))
        assert header is not None and header.vectors.tls is not None
        self.assertEqual((b"", "other.example"), (header.vectors.alpn, header.vectors.authority))
        self.assertEqual("EC256", header.vectors.tls.keyAlgorithm)
        self.one().stop()

    def test_stillToCome(self) -> None:
        """
        Where our TLS with the client is still to come when the upstream is dialed, nothing of it is told, and nothing
        of the balancer's in its place.
        """
        self.proxied(Offload(upstream=self.upstream, tls=serverTLS()), sendProxy="v2")
        self.visit().write(LONG)
        self.settle(lambda: self.one().proxied is not None)
        header = ProxyHeaderReader().read(headerFor(self.one()))
        assert header is not None
        self.assertEqual((CLIENT, Vectors(authority="shop.example")), (header.source, header.vectors))
        self.one().stop()

    def test_passthrough(self) -> None:
        """
        A hello that goes through untouched names the server, and says nothing else that is negotiated.
        """
        self.serve(Passthrough(upstream=self.upstream), sendProxy="v2")
        self.visit().write(GOOD)
        self.settle(lambda: self.upstream.dialed == 1 and len(self.upstream.peer.received) > len(GOOD))
        header = ProxyHeaderReader().read(bytes(self.upstream.peer.received))
        assert header is not None
        self.assertEqual(Vectors(authority="shop.example"), header.vectors)
        self.assertEqual(GOOD, bytes(self.upstream.peer.received)[header.length :])
        self.one().stop()

    def test_notByDefault(self) -> None:
        """
        Nothing of the kind is sent where nobody asks for it.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False))
        self.visit().write(b"question")
        self.settle(lambda: self.upstream.dialed == 1 and self.upstream.peer.received == b"question")
        self.one().stop()


class StalledTests(ProxiedCase):
    """
    Upstreams that take nothing, on Unix sockets, which are full when they say so.
    """

    def test_stalled(self) -> None:
        """
        An upstream that does not take it is given up when it should have answered.
        """
        self.upstream._make = _Deaf
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), sendProxy="v1", dial=5.0)
        dial = self.factory.dialer.dial

        async def dialed(where: Any) -> End:
            end = await dial(where)
            try:
                while True:
                    end.socket.send(bytes(65536))
            except BlockingIOError:
                return end

        self.patch(self.factory.dialer, "dial", dialed)
        client = self.visit()
        self.settle(lambda: self.upstream.dialed == 1)
        self.after(5.5)
        self.assertOver("expired", "dial", "the upstream did not answer within 5 s")
        self.assertTrue(self.aborted(client))
