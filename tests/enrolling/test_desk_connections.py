# -*- test-case-name: tests.enrolling.test_desk_connections -*-
"""
L{tlsproxy.enrolling.desk}: how connections come to it, and that none gets from there to a tunnel, or back.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import lib

from tests.enrolling.desks import ENROLL_NAME, TUNNEL_NAME, DeskCase, csr, enrollment, newKey
from tests.patterns.connecting import ask
from tlsproxy.downgrade import ALPN as TUNNELS
from tlsproxy.downgrade import Downgrade
from tlsproxy.testing.certificates import certificate
from tlsproxy.testing.sessions import Browser
from tlsproxy.wire.enrolling import ALPN

CA = enrollment("/ca", ENROLL_NAME, b"", method="GET")
"""What needs no token."""


class CutTests(DeskCase):
    """
    Requests that come in other pieces than one.
    """

    def test_byteByByte(self) -> None:
        """
        One byte a record.
        """
        self.open()
        token, key = self.token(), newKey()
        body, client = csr(key), self.connects()
        for byte in enrollment("/enroll", ENROLL_NAME, body, self.proves(client, token, body)):
            client.write(bytes((byte,)))
            self.settle()
        self.certified(client, key)

    def test_silence(self) -> None:
        """
        Half a request, and then nothing: the client is told that it was too slow.
        """
        self.open()
        for request in (CA[:20], enrollment("/enroll", ENROLL_NAME, csr(newKey()))[:-1], b""):
            client = self.sends(request)
            self.after(5.5)
            status, _, body = self.got(client)
            self.assertEqual((408, b"the request did not come in time\n"), (status, body))
            (event,) = self.told()
            self.assertEqual(("expired", "head"), (event["outcome"], event["phase"]))
            self.forget()
        self.assertEqual(3, self.factory.enrolled["refused", "late"])

    def test_ends(self) -> None:
        """
        Half a request, and then the end.
        """
        self.open()
        client = self.sends(CA[:20])
        client.end()
        self.settle(lambda: bool(self.told()))
        self.assertOver("ended", "head", "the client ended the stream before its request was whole")

    def test_second(self) -> None:
        """
        A second request behind the first is never looked at.
        """
        self.open()
        status, fields, body = self.got(self.sends(CA + CA + b"CONNECT shop.example:443 HTTP/1.1\r\n\r\n"))
        self.assertEqual((200, fields["content-length"]), (status, str(len(body))))
        self.assertEqual({("done", "ca"): 1}, dict(self.factory.enrolled))

    def test_large(self) -> None:
        """
        A body that is too large is refused before it comes, and one that goes on behind its length is not read.
        """
        self.open()
        client = self.sends(enrollment("/enroll", ENROLL_NAME, bytes(20000)))
        self.assertRefused(client, 413, "longer than 16384 bytes", counted="size")

    def test_slowReader(self) -> None:
        """
        A client that does not read its answer, however long that is, is waited for no longer than for any talk.
        """
        desk = self.open()
        object.__setattr__(desk, "authorities", bytes(4_000_000))
        client = self.connects()
        client.reading = False
        client.write(CA)
        self.settle()
        self.after(31)
        (event,) = self.told()
        self.assertEqual(("expired", "negotiate"), (event["outcome"], event["phase"]))

    def test_wholeAnswer(self) -> None:
        """
        One who does gets all of it.
        """
        desk = self.open()
        long = bytes(range(256)) * 4000
        object.__setattr__(desk, "authorities", long)
        self.assertEqual(long, self.got(self.sends(CA))[2])


class WebTests(DeskCase):
    """
    What web pages could have a browser do.
    """

    def test_origin(self) -> None:
        """
        Nothing: whoever has an origin is refused, whatever is asked for.
        """
        self.open()
        identity = self.enrolled()
        field = "Origin: https://page.example"
        self.assertRefused(self.enrolls(self.token(), None, b"", field), 403, "a web page asks", counted="origin")
        self.assertRefused(self.renews(identity, None, b"", field), 403, "a web page asks")
        self.assertEqual("", self.store.whyNot(identity.chain[0].serial_number))

    def test_protocols(self) -> None:
        """
        Nor does any browser offer this protocol.
        """
        self.open()
        for alpn in ((b"h2", b"http/1.1"), (b"http/1.1",), (TUNNELS.encode(),)):
            self.connects(alpn=alpn)
            self.settle(lambda: bool(self.told()))
            self.assertIn("application protocols", self.told()[0]["reason"])
            self.forget()
        client = self.connects(alpn=())
        client.write(CA)
        self.settle(lambda: bool(self.told()))
        self.assertOver("refused", "handshake", "the client does not speak tlsproxy-enroll/1")
        self.assertNotIn(b"CERTIFICATE", bytes(client.received))

    def test_otherHost(self) -> None:
        """
        A page's name that leads here is not taken for ours.
        """
        self.open()
        client = self.sends(enrollment("/ca", "page.example", b"", method="GET"))
        self.assertRefused(client, 421, "names another server than its TLS does", counted="host")


class VersionTests(DeskCase):
    """
    TLS 1.3 only.
    """

    def test_enroll(self) -> None:
        """
        Keying material of TLS 1.2 is not bound to all of a connection.
        """
        self.open()
        client = self.connects(version="TLSv1.2")
        self.settle(lambda: bool(self.told()))
        self.assertFalse(client.ready)
        self.assertEqual("handshake", self.told()[0]["phase"])

    def test_renew(self) -> None:
        """
        With a certificate, too.
        """
        self.open()
        identity = self.enrolled()
        client = self.connects(TUNNEL_NAME, identity, version="TLSv1.2")
        client.write(enrollment("/mapping", TUNNEL_NAME, b"", method="GET"))
        self.assertRefused(client, 400, "TLS 1.3 only", counted="version")


class TunnelTests(DeskCase):
    """
    Nobody gets from the desk to a tunnel.
    """

    def test_underEnrollName(self) -> None:
        """
        A CONNECT under the name for enrollment gets none, with a certificate or without.
        """
        self.open()
        identity = self.enrolled()
        for shown in (None, identity):
            client = self.sends(ask(), ENROLL_NAME, shown)
            self.assertRefused(client, 405, "there are no tunnels here")
        self.assertEqual([], self.dialed)

    def test_underProtocol(self) -> None:
        """
        Nor one by the protocol for enrollment, under the name for tunnels.
        """
        self.open()
        client = self.sends(ask(), TUNNEL_NAME, self.enrolled())
        self.assertRefused(client, 405, "there are no tunnels here")
        self.assertEqual([], self.dialed)

    def test_withoutCertificate(self) -> None:
        """
        Under the name for tunnels, and without any, the handshake fails for who shows no certificate, whatever protocol
        is offered.
        """
        self.open()
        for name in (TUNNEL_NAME, ""):
            for alpn in ((ALPN.encode(),), (b"http/1.1",), (TUNNELS.encode(), ALPN.encode())):
                client = self.visit(partial(Browser, serverName=name, alpn=alpn))
                client.write(enrollment("/mapping", TUNNEL_NAME, b"", method="GET"))
                self.settle(lambda: bool(self.told()))
                (event,) = self.told()
                self.assertEqual(("failed", "handshake"), (event["outcome"], event["phase"]))
                self.assertEqual(b"", bytes(client.received))
                self.forget()

    def test_requestsInTunnels(self) -> None:
        """
        Where a client offers both protocols, it gets tunnels, and what is asked for there is not for the desk.
        """
        self.open()
        client = self.connects(TUNNEL_NAME, self.enrolled(), alpn=(ALPN.encode(), TUNNELS.encode()))
        client.write(enrollment("/mapping", TUNNEL_NAME, b"", method="GET"))
        self.assertRefused(client, 404, "there is nothing here but /proxy.pac")

    def test_otherNames(self) -> None:
        """
        Under another name than the one for tunnels, or under none, nothing is renewed.
        """
        self.open()
        identity = self.enrolled()
        client = self.sends(enrollment("/mapping", "other.example", b"", method="GET"), "other.example", identity)
        self.assertRefused(client, 421, "this is to be had under dmz.example only", counted="host")
        client = self.sends(enrollment("/mapping", TUNNEL_NAME, b"", method="GET"), "", identity)
        self.assertRefused(client, 421, "names another server than its TLS does")

    def test_loopback(self) -> None:
        """
        Where TLS is run by way of loopback, so that it can be taken off, certificates are renewed all the same.
        """
        self.open()
        identity = self.enrolled()
        pattern = self.factory.route.pattern
        object.__setattr__(pattern, "how", Downgrade(takeOff="loopback"))
        key = newKey()
        self.certified(self.renews(identity, key), key)

    def test_otherAuthority(self) -> None:
        """
        Whose certificate another CA of client_ca has issued gets nothing here.
        """
        self.open()
        stranger = certificate("ann")
        for path, method in (("/mapping", "GET"), ("/renew", "POST")):
            body = csr(newKey()) if method == "POST" else b""
            client = self.sends(enrollment(path, TUNNEL_NAME, body, method=method), TUNNEL_NAME, stranger)
            sentence = "this certificate does not let you have that"
            self.assertRefused(client, 403, sentence, "another CA has issued the client's certificate")
        self.assertEqual(2, self.factory.enrolled["refused", "issuer"])


class SecondHelloTests(DeskCase):
    """
    Clients that change their mind in a second hello.
    """

    def change(self, names: tuple[str, str], alpn: tuple[bytes, bytes], identity: Any = None) -> Any:
        """
        Have a client connect that is asked for another key share, and says something else then.

        @param names: The server names in the first hello, and in the second.
        @param alpn: The application protocols there.
        """

        def changing(connection: SSL.Connection, *_: int) -> None:
            if b"write client hello" in connection.get_state_string():
                connection.set_tlsext_host_name(names[1].encode())
                connection.set_alpn_protos([alpn[1]])

        def make(sock: Any) -> Browser:
            peer = Browser(sock, serverName=names[0], alpn=(alpn[0],), identity=identity)
            assert lib.SSL_set1_curves_list(peer.connection._ssl, b"P-521:X25519") == 1
            peer.connection.set_info_callback(changing)
            return peer

        client = self.visit(partial(make))
        client.write(enrollment("/mapping", names[1], b"", method="GET") + ask())
        self.settle(lambda: bool(self.told()))
        return client

    def test_names(self) -> None:
        """
        Who comes under the one name, where no certificate is asked for, cannot go on under the other, and the other
        way round.
        """
        self.open()
        identity = self.enrolled()
        protocol = ALPN.encode()
        for names, shown in (((ENROLL_NAME, TUNNEL_NAME), None), ((TUNNEL_NAME, ENROLL_NAME), identity)):
            client = self.change(names, (protocol, protocol), shown)
            (event,) = self.told()
            self.assertEqual("refused", event["outcome"])
            self.assertEqual("the client's second hello names another server than its first", event["reason"])
            self.assertEqual(b"", bytes(client.received))
            self.forget()

    def test_protocols(self) -> None:
        """
        Nor from the one protocol to the other.
        """
        self.open()
        identity = self.enrolled()
        tunnels, protocol = TUNNELS.encode(), ALPN.encode()
        for alpn in ((tunnels, protocol), (protocol, tunnels)):
            client = self.change((TUNNEL_NAME, TUNNEL_NAME), alpn, identity)
            (event,) = self.told()
            self.assertEqual("refused", event["outcome"])
            self.assertIn("offers other application protocols than its first", event["reason"])
            self.assertEqual(b"", bytes(client.received))
            self.forget()

    def test_same(self) -> None:
        """
        A client that is asked for another key share, and does not change its mind, is served.
        """
        self.open()
        client = self.change((TUNNEL_NAME, TUNNEL_NAME), (ALPN.encode(),) * 2, self.enrolled())
        self.assertEqual(200, self.got(client)[0])
