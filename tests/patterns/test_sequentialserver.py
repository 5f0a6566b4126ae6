# -*- test-case-name: tests.patterns.test_sequentialserver -*-
"""
L{tlsproxy.patterns.sequentialserver}: who gets a tunnel, and to what.
"""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from tests.patterns.connecting import ESTABLISHED, ask
from tests.patterns.granting import GrantCase, grantFor, hello, shortLived
from tests.tls.chains import issued
from tlsproxy.downgrade import Downgrade
from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.sequentialserver import SequentialServer
from tlsproxy.testing.certificates import NOW, Holder, authority, certificate, serverTLS
from tlsproxy.testing.sessions import Browser
from tlsproxy.tls.certificates import Identity

NOT_THAT = "this proxy does not let you reach that"
"""What a client is told that may not reach its target, whatever the reason."""


class TunnelTests(GrantCase):
    """
    Tunnels that come to stand.
    """

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name.
        """
        self.grant()
        pattern = self.factory.route.pattern
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual("sequential-server", pattern.mode)

    def test_order(self) -> None:
        """
        The certificate comes first, then the request; then its name is looked up and its address dialed; then the
        client is told.  A client that speaks of no downgrade gets an answer as from any proxy.
        """
        self.grant()
        client = self.stands()
        self.assertEqual(ESTABLISHED, bytes(client.received))
        self.assertEqual(["hello", "handshake", "head", "dial", "idle"], self.phases)
        self.assertEqual((["shop.example"], [("192.0.2.1", 443)]), (self.asked, self.dialed))
        said = hello()
        client.write(said)
        (target,) = self.targets
        self.settle(lambda: target.received == said)
        client.end()
        target.end()
        self.settle(lambda: bool(self.told()))
        (line,) = self.lines()
        self.assertIn(" target=shop.example:443 downgrade=none upstream=192.0.2.1:443 ", line)
        self.assertIn(' client_cert="CN=ann, issued by CN=Test CA, until ', line)

    def test_agreed(self) -> None:
        """
        Two proxies agree on the first of the client's wishes that the route takes.
        """
        for value, wishes, chosen in (
            ("handshake", "handshake, none", "handshake"),
            ("handshake", "connect, handshake, none", "handshake"),
            ("none", "connect, handshake, none", "none"),
            ("handshake", "none", "none"),
        ):
            self.grant(how=Downgrade(value=value))
            field = f"TLS-Downgrade: {wishes}"
            client = self.comes(ask("shop.example:443", "Connection: TLS-Downgrade", field), alpn=(b"tlsproxy-seq/1",))
            self.settle(lambda: b"\r\n\r\n" in client.received)  # noqa: B023
            self.assertIn(f"TLS-Downgrade: {chosen}\r\n".encode(), bytes(client.received))
            self.one().stop()
            self.settle()
            self.forget()

    def test_others(self) -> None:
        """
        Without their own protocol, or with TLS 1.2, there is nothing to agree on, whatever is asked for.
        """
        request = ask("shop.example:443", "Connection: TLS-Downgrade", "TLS-Downgrade: handshake, none")
        for alpn, version in (((), "TLSv1.3"), ((b"http/1.1",), "TLSv1.3"), ((b"tlsproxy-seq/1",), "TLSv1.2")):
            self.grant()
            client = self.comes(request, alpn=alpn, version=version)
            self.settle(lambda: bytes(client.received) == ESTABLISHED)  # noqa: B023
            self.one().stop()
            self.settle()
            self.forget()

    def test_protocols(self) -> None:
        """
        HTTP/2 is never spoken: who offers nothing else is refused.
        """
        self.grant()
        client = self.comes(alpn=(b"h2",))
        self.settle(lambda: bool(client.ended) or bool(client.problem))
        self.settle(lambda: bool(self.told()))
        self.assertIn("application protocols", self.told()[0]["reason"])

    def test_page(self) -> None:
        """
        Browsers find a file that sends them here by TLS.
        """
        self.grant()
        status, _, body = self.got(self.comes(b"GET /proxy.pac HTTP/1.1\r\nHost: proxy.example:8443\r\n\r\n"))
        self.assertEqual(200, status)
        self.assertIn(b"HTTPS proxy.example:8443", body)

    def test_otherName(self) -> None:
        """
        A hello inside that is for somebody else does not get to the target.
        """
        self.grant()
        client = self.stands()
        client.write(hello("other.example"))
        self.settle(lambda: bool(self.told()))
        (event,) = self.told()
        self.assertEqual(("refused", "hello"), (event["outcome"], event["phase"]))
        self.assertEqual(b"", bytes(self.targets[0].received))

    def test_namedInside(self) -> None:
        """
        But a grant may name others.
        """
        self.grant(grantFor(sni=("other.example",)))
        client = self.stands()
        said = hello("other.example")
        client.write(said)
        self.settle(lambda: self.targets[0].received == said)
        self.one().stop()

    def test_takeOff(self) -> None:
        """
        How TLS is to be taken off is known before it is started.
        """
        seen: list[str] = []
        self.grant(how=Downgrade(takeOff="loopback"), authorize=lambda session: seen.append(session.near.takeOff))
        self.comes()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(["loopback"], seen)

    def test_descriptors(self) -> None:
        """
        By way of loopback a session takes two descriptors more, which are held ready when it is accepted.
        """
        for takeOff, cost in (("socket", 2), ("loopback", 4)):
            self.grant(how=Downgrade(takeOff=takeOff))
            self.assertEqual(cost, self.factory.cost)


class RefusalTests(GrantCase):
    """
    Clients that get none.
    """

    def refused(self, reason: str, target: str = "shop.example:443", phase: str = "head", **client: Any) -> str:
        """
        A client is told no more than that it may not.

        @param reason: What the log says somewhere.
        @return: The line.
        """
        came = self.comes(ask(target), **client)
        status, _, body = self.got(came)
        self.assertEqual((403, f"{NOT_THAT}\n"), (status, body.decode()))
        (event,) = self.told()
        self.assertEqual(("refused", phase), (event["outcome"], event["phase"]))
        self.assertIn(reason, event["reason"])
        (line,) = self.lines()
        self.assertIn(f" target={target} ", line)
        self.forget()
        return line

    def test_stranger(self) -> None:
        """
        A certificate that no grant is for gets nothing, and the log tells whose it is; nothing is looked up.
        """
        self.grant()
        line = self.refused("no grant is for CN=bob, issued by CN=Test CA", identity=certificate("bob"))
        self.assertIn('client_cert="CN=bob', line)
        self.assertEqual(([], []), (self.asked, self.dialed))

    def test_elsewhere(self) -> None:
        """
        Nor does one that has a grant for something else.
        """
        self.grant(grantFor("ann", targets=["shop.example:443"]), grantFor("bob", targets=["*.example:*"]))
        self.refused("bank.example:443 is not in the targets of a grant for CN=ann", "bank.example:443")
        self.refused("shop.example:22 is not in the targets of a grant for CN=ann", "shop.example:22")
        self.assertEqual([], self.asked)

    def test_severalGrants(self) -> None:
        """
        Any grant that fits is enough.
        """
        self.grant(grantFor("ann", targets=["a.example:1"]), grantFor("ann", "bob"))
        self.stands()
        self.one().stop()

    def test_notForClients(self) -> None:
        """
        A certificate has to say that it is for clients.
        """
        holder = issued("ann", Holder(authority().certificate, authority().key))
        key: Any = holder.key
        self.grant()
        shown = Identity((holder.certificate,), key)
        self.refused("does not say that it is for clients (clientAuth): CN=ann", identity=shown)

    def test_denied(self) -> None:
        """
        What the route denies is denied, whoever has a grant for it; and so is what its list does not allow.
        """
        self.grant(deny=["shop.example"])
        self.refused("shop.example:443 is denied by 'shop.example' of [route.targets] deny")
        self.grant(deny=["192.0.2.0/24"])
        self.refused("its address 192.0.2.1 is denied by '192.0.2.0/24'", phase="dial")
        self.grant(allow=["other.example:443"])
        self.refused("shop.example:443 is not in [route.targets] allow")

    def test_thisMachine(self) -> None:
        """
        A name that leads back to this machine leads nowhere, unless the grant, or the route's list, has that address.
        """
        self.known["shop.example"] = ["127.0.0.1"]
        self.grant()
        self.refused("its address 127.0.0.1 is", phase="dial")
        for grants, allow in (
            ((grantFor(targets=["shop.example:443", "127.0.0.0/8:443"]),), ()),
            ((grantFor(),), ("shop.example:443", "127.0.0.1:443")),
        ):
            self.grant(*grants, allow=allow)
            self.stands()
            self.one().stop()
            self.settle()
            self.forget()

    def test_addressOfAGrant(self) -> None:
        """
        A network in a grant is for the addresses that a name has, and for no others.
        """
        self.known["shop.example"] = ["192.0.2.1", "198.51.100.1"]
        self.grant(grantFor(targets=["198.51.100.0/24:443"]))
        self.stands()
        self.assertEqual([("198.51.100.1", 443)], self.dialed)
        self.one().stop()

    def test_unknownName(self) -> None:
        """
        Who is granted a network learns nothing of the names that are there, and whoever is granted a name, that there
        is none.
        """
        self.grant(grantFor(targets=["198.51.100.0/24:443", "gone.example:443"]))
        self.known["secret.example"] = ["192.0.2.7"]
        self.refused("its address 192.0.2.7 is not in the targets", "secret.example:443", "dial")
        self.refused("has a name that does not resolve", "nothing.example:443", "dial")
        status, _, body = self.got(self.comes(ask("gone.example:443")))
        self.assertEqual(502, status)
        self.assertIn(b"gone.example:443 has a name that does not resolve", body)

    def test_noCertificate(self) -> None:
        """
        Who shows no certificate does not come as far as that.
        """
        self.grant()
        client = self.asks(ask(), Browser)
        self.settle(lambda: bool(self.told()))
        self.assertEqual(("failed", "handshake"), (self.told()[0]["outcome"], self.told()[0]["phase"]))
        self.assertEqual(b"", bytes(client.received))

    def test_dialing(self) -> None:
        """
        504 where the target does not answer, in words.
        """
        self.answers = False
        self.grant(dial=3)
        client = self.comes()
        self.settle(lambda: bool(self.waiting))
        self.after(4)
        status, _, body = self.got(client)
        self.assertEqual((504, b"the target did not answer in time\n"), (status, body))


class EndTests(GrantCase):
    """
    How long tunnels last.
    """

    def test_certificate(self) -> None:
        """
        A tunnel ends with the certificate that opened it, whatever moves in it.
        """
        self.grant(idle=0, upstreamHandshake=0)
        client = self.stands(identity=shortLived("ann", 20))
        client.write(hello())
        self.after(19)
        self.assertEqual(1, len(self.factory.sessions))
        self.after(2)
        self.assertOver("expired", "lifetime", "the certificate that opened the tunnel has expired")

    def test_inSetUp(self) -> None:
        """
        So does one that is still set up.
        """
        self.answers = False
        self.grant(dial=60)
        self.comes(identity=shortLived("ann", 20))
        self.settle(lambda: bool(self.waiting))
        self.after(21)
        self.assertOver("expired", "lifetime", "the certificate that opened the tunnel has expired")

    def test_sooner(self) -> None:
        """
        The other limits hold beside that.
        """
        self.grant(lifetime=3)
        self.stands(identity=shortLived("ann", 20))
        self.after(4)
        self.assertEqual("the session did not end within 3 s", self.told()[0]["reason"])


class GivenTests(GrantCase):
    """
    What a program gives.
    """

    def test_wrong(self) -> None:
        """
        TLS that lets in anybody, or that chooses other protocols, is refused at once, and so is a mode without grants.
        """
        right = serverTLS(clients="required", alpn=SequentialServer.alpn)
        for tls, grants, sentence in (
            (serverTLS(clients="required"), (grantFor(),), "load it with alpn=SequentialServer.alpn"),
            (serverTLS(clients="optional", alpn=SequentialServer.alpn), (grantFor(),), "has to show a certificate"),
            (serverTLS(alpn=SequentialServer.alpn), (grantFor(),), "has to show a certificate"),
            (right, (), "without a grant"),
        ):
            error = self.assertRaises(ValueError, SequentialServer, tls=tls, grants=grants)
            self.assertIn(sentence, str(error))
        pattern: Any = SequentialServer(tls=right, grants=(grantFor(),))
        self.assertGreater(pattern.now(), NOW)


class DeskTests(GrantCase):
    """
    A reverse proxy where client proxies enroll.
    """

    def test_protocols(self) -> None:
        """
        Its TLS and its desk have to know of each other.
        """
        one, other = (
            serverTLS(clients="required", alpn=alpn) for alpn in (SequentialServer.enrolling, SequentialServer.alpn)
        )
        problem = self.assertRaises(ValueError, SequentialServer, tls=one, grants=(grantFor(),))
        self.assertIn("load it with alpn=SequentialServer.alpn", str(problem))
        self.assertEqual("tlsproxy-enroll/1", SequentialServer.enrolling[-1])
        desk: Any = "desk"
        problem = self.assertRaises(ValueError, SequentialServer, tls=other, grants=(grantFor(),), desk=desk)
        self.assertIn("load it with alpn=SequentialServer.enrolling", str(problem))
        self.assertRaises(TypeError, SequentialServer, tls=one, grants=(grantFor(),), desk=desk)
