# -*- test-case-name: tests.patterns.test_sequentialclient -*-
"""
L{tlsproxy.patterns.sequentialclient}: the browser's side and the reverse proxy's, in memory.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from zope.interface.verify import verifyObject

from tests.patterns.connecting import ConnectCase, ask, credentials, users
from tlsproxy.address import TCP
from tlsproxy.downgrade import Downgrade
from tlsproxy.enrolling.folder import Enrolled, Folder
from tlsproxy.enrolling.possession import certified, newKey
from tlsproxy.interfaces import IPattern
from tlsproxy.mapping import Entry, Mapping, ReverseProxy
from tlsproxy.patterns import sequentialclient
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.peeruser import PeerUnknown
from tlsproxy.signedmapping import Trust
from tlsproxy.testing.certificates import NOW, clientTLS
from tlsproxy.testing.sessions import Origin
from tlsproxy.testing.streampeers import Peer
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.issuing import Issuer

OK = b"HTTP/1.1 200 OK\r\n\r\n"
SEQ = b"tlsproxy-seq/1"
NOT_YOURS = "this proxy serves the processes of its own user only"


def agreed(word: str) -> bytes:
    """
    Make an answer that says when TLS comes off.
    """
    return f"HTTP/1.1 200 OK\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: {word}\r\n\r\n".encode()


class SequentialCase(ConnectCase):
    """
    A test with a client proxy and a reverse proxy.
    """

    def proxy(self, *entries: Entry, **more: Any) -> None:  # type: ignore[override]
        """
        Serve in this mode.

        @param entries: Of the mapping, before those that all have.
        """
        limits = {name: more.pop(name) for name in ("negotiate", "dial") if name in more}
        expires = more.pop("expires", None)
        dmz = ReverseProxy(name="dmz", address=TCP("dmz.example", 443), tls=clientTLS())
        shop = Entry(hosts=("shop.example:443", "[2001:db8::/32]:443"), via=dmz)
        self.known["dmz.example"] = ["192.0.2.9"]
        self.serve(SequentialClient(mapping=Mapping(entries=(*entries, shop), expires=expires), **more), **limits)
        self.factory.listeners = ()

    def reverse(self, alpn: bytes = b"http/1.1", version: str = "TLSv1.3") -> None:
        """
        Have a reverse proxy answer.
        """
        self.make = lambda sock: Origin(sock, alpn, version=version)

    def head(self) -> str:
        """
        Wait for what the reverse proxy is asked.
        """
        self.settle(lambda: bool(self.targets) and self.targets[-1].received.endswith(b"\r\n\r\n"))
        return bytes(self.targets[-1].received).decode("ascii")


class WishTests(SequentialCase):
    """
    What the client proxy asks for, and what it takes.
    """

    def test_interface(self) -> None:
        """
        It is a pattern, and knows its name and its TLS.
        """
        self.proxy()
        pattern: Any = self.factory.route.pattern
        self.assertTrue(verifyObject(IPattern, pattern))
        self.assertEqual(("sequential-client", "upstream.example"), (pattern.mode, pattern.upstreamTLS.name))

    def test_ordinary(self) -> None:
        """
        A reverse proxy that is an ordinary one is asked in the ordinary way.  The name of the host is not looked up,
        and nothing of the browser's head goes on.
        """
        self.proxy()
        self.reverse()
        client = self.asks(ask("Shop.Example:443", "User-Agent: me", credentials()))
        self.assertEqual("CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n", self.head())
        self.assertEqual((["dmz.example"], [("192.0.2.9", 443)]), (self.asked, self.dialed))
        self.assertEqual(b"", client.received)
        self.one().stop()
        self.settle()

    def test_descriptors(self) -> None:
        """
        By way of loopback a session takes two descriptors more, which are held ready when it is accepted.
        """
        for takeOff, cost in (("socket", 2), ("loopback", 4)):
            self.proxy(downgrade=Downgrade(takeOff=takeOff))
            self.assertEqual(cost, self.factory.cost)

    def test_wishes(self) -> None:
        """
        One that can take TLS off is told what is acceptable, the strongest first: only in TLS 1.3.
        """
        for value, wishes in (
            ("none", "none"),
            ("handshake", "handshake, none"),
            ("connect", "connect, handshake, none"),
        ):
            self.proxy(downgrade=Downgrade(value=value))
            self.reverse(SEQ)
            self.asks(ask())
            self.assertIn(f"\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: {wishes}\r\n", self.head())
            self.one().stop()
            self.settle()
        self.proxy()
        self.reverse(SEQ, "TLSv1.2")
        self.asks(ask())
        self.assertNotIn("Downgrade", self.head())
        self.one().stop()
        self.settle()

    def test_notOffered(self) -> None:
        """
        An answer that takes what was not offered makes no tunnel.
        """
        for alpn, word in ((b"http/1.1", "handshake"), (b"http/1.1", "none"), (SEQ, "connect")):
            self.proxy()
            self.reverse(alpn)
            client = self.asks(ask())
            self.head()
            self.targets[-1].write(agreed(word))
            status, _, body = self.got(client)
            self.assertEqual(502, status)
            self.assertEqual(b"the reverse proxy dmz wants to take TLS off in a way that was not offered\n", body)
            self.settle()

    def test_late(self) -> None:
        """
        The browser is told when the answer is late.
        """
        self.proxy(negotiate=3.0)
        self.reverse()
        client = self.asks(ask())
        self.head()
        self.after(4)
        told = "the reverse proxy dmz did not answer"
        self.assertAnswered(client, 504, f"{told} in time", "expired", "negotiate", f"{told} within 3 s")


class ClientTests(SequentialCase):
    """
    Who may ask, and for what.
    """

    def refused(self, sentence: str, reason: str, target: str = "shop.example:443") -> None:
        """
        Ask, and be refused before anything is dialed or looked up.
        """
        client = self.asks(ask(target))
        self.assertAnswered(client, 403, sentence, "refused", "head", reason)
        self.assertEqual(([], []), (self.dialed, self.asked))
        self.forget()

    def test_stranger(self) -> None:
        """
        Another user's process is refused, and one of which nothing is known.
        """
        mine = os.geteuid()
        self.proxy(userOf=lambda sock: mine + 1)
        self.refused(NOT_YOURS, f"the client is a process of user id {mine + 1}, and this is one of user id {mine}")

        def unknown(sock: object) -> int:
            raise PeerUnknown("nobody knows")

        self.proxy(userOf=unknown)
        self.refused(NOT_YOURS, "nobody knows")

    def test_mapping(self) -> None:
        """
        What is refused by the mapping, or not in it, is not looked up.
        """
        self.proxy(Entry(hosts="secret.example:*"))
        for target, reason in (
            ("secret.example:443", "is refused by the mapping"),
            ("shop.example:444", "is not in the mapping"),
            ("other.example:443", "is not in the mapping"),
        ):
            self.refused(f"this proxy does not make tunnels to {target}", f"{target} {reason}", target)

    def test_expired(self) -> None:
        """
        From the moment on when the mapping expires every host is refused, whatever its way would have been, and the
        browser reads why; which hosts were mapped it is still told, so that it does not go directly either.
        """
        expires = datetime(2026, 12, 28, 23, tzinfo=UTC)
        now = [expires - timedelta(seconds=1)]
        direct = Entry(hosts="*.direct.example:443", direct=True)
        secret = Entry(hosts="secret.example:*")
        self.proxy(direct, secret, expires=expires, now=lambda: now[0])
        public = "this proxy does not make tunnels to secret.example:443"
        self.refused(public, "secret.example:443 is refused by the mapping", "secret.example:443")
        now[0] = expires
        sentence = "the mapping has expired on 2026-12-28 23:00 UTC: no host is reached until there is a new one"
        for target in ("shop.example:443", "a.direct.example:443", "secret.example:443", "other.example:443"):
            self.refused(sentence, sentence, target)
        client = self.asks(b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n")
        status, _, body = self.got(client)
        self.assertEqual(200, status)
        for host in (b"shop", b"direct", b"secret"):
            self.assertIn(host, body)
        self.settle()
        self.forget()
        # A clock that was wrong and is set right again is no trouble.
        now[0] = expires - timedelta(days=1)
        self.refused(public, "secret.example:443 is refused by the mapping", "secret.example:443")

    def test_certificateExpired(self) -> None:
        """
        Once a certificate has expired that a reverse proxy has given, and not before, the browser reads so, and what to
        do.
        """
        key = newKey()
        issuer, _ = Issuer.create("proxies.example", timedelta(days=10), NOW)
        issued = issuer.issue("laptop", key.public_key(), NOW + timedelta(days=7), NOW)
        mine = certified(issued.public_bytes(Encoding.PEM), key, NOW)
        trust = Trust((), "proxies.example")
        enrolled = Enrolled(Folder("/here"), mine, trust, "https://enroll.dmz.example/")
        now = [mine.notAfter]
        self.proxy(enrolled=enrolled, now=lambda: now[0])
        words = "the certificate of this client proxy has expired on 2026-11-27 12:00 UTC"
        do = (
            "enroll again, with a new token: tlsproxy enroll https://enroll.dmz.example/ --token-file FILE "
            "--directory /here"
        )
        self.refused(f"{words}, and could not be renewed: {do}", f"{words}: {do}", "shop.example:443")
        now[0] -= timedelta(seconds=1)
        self.reverse()
        client = self.asks(ask("shop.example:443"))
        self.assertTrue(self.head().startswith("CONNECT shop.example:443 "))
        self.targets[-1].close()
        self.settle()
        client.close()
        self.settle()
        self.forget()

    def renewing(self, *renewed: bool | None) -> Any:
        """
        Have a client proxy whose certificate the reverse proxy refuses, ask for a tunnel, and refuse it.

        @param renewed: What the folder has to say of the certificate, in turn.
        """
        answers = list(renewed)

        class Changing(Folder):
            def renews(self, serial: int) -> bool | None:
                """
                Say what is next.
                """
                return answers.pop(0)

        key = newKey()
        issuer, _ = Issuer.create("proxies.example", timedelta(days=10), NOW)
        issued = issuer.issue("laptop", key.public_key(), NOW + timedelta(days=7), NOW)
        mine = certified(issued.public_bytes(Encoding.PEM), key, NOW)
        enrolled = Enrolled(Changing("/here"), mine, Trust((), "proxies.example"), "https://enroll.dmz.example/")
        self.patch(ClientTLS, "load", lambda policy, name, now: clientTLS())
        self.proxy(enrolled=enrolled, now=lambda: NOW)
        self.reverse()
        client = self.asks(ask("shop.example:443"))
        self.head()
        self.targets[-1].write(b"HTTP/1.1 403 No\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ndead")
        self.settle()
        return client

    def test_renewed(self) -> None:
        """
        Where the reverse proxy refuses a certificate because it has just given another one, the tunnel is asked for
        again by that, once it is there.
        """
        for renewed in ((True,), (None, None, True)):
            client = self.renewing(*renewed)
            self.after(0.25 * len(renewed))
            self.assertEqual(2, len(self.targets))
            self.assertTrue(self.head().startswith("CONNECT shop.example:443 "))
            self.targets[-1].write(OK + b"hello")
            self.settle(lambda: bytes(client.received).endswith(b"\r\n\r\nhello"))  # noqa: B023
            client.close()
            self.targets[-1].close()
            self.settle()
            self.assertEqual(1, len(self.told()))
            self.forget()
            self.targets.clear()

    def test_notRenewed(self) -> None:
        """
        Where there is no other, or none within two seconds, it is refused as ever.
        """
        for renewed in ((False,), (None, False), (None,) * 20):
            client = self.renewing(*renewed)
            self.after(0.25 * len(renewed))
            self.assertEqual((403, 1), (self.got(client)[0], len(self.targets)))
            self.settle()
            self.assertEqual("the reverse proxy dmz says: dead", self.told()[-1]["reason"])
            self.forget()
            self.targets.clear()

    def test_webPages(self) -> None:
        """
        The hosts of the mapping are for the browser, and not for the web pages in it: by no name of their own, and as
        no script of theirs.
        """
        self.proxy()
        client = self.asks(b"GET /proxy.pac HTTP/1.1\r\nHost: page.example:3128\r\n\r\n")
        status, _, body = self.got(client)
        self.assertEqual(400, status)
        self.assertNotIn(b"shop", body)
        client = self.asks(b"GET /proxy.pac HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n")
        status, fields, body = self.got(client)
        self.assertEqual((200, "nosniff"), (status, fields["x-content-type-options"]))
        self.assertEqual("same-origin", fields["cross-origin-resource-policy"])
        self.assertIn(b"shop", body)

    def test_password(self) -> None:
        """
        Where there are users, a password is what counts, and nobody asks the kernel.
        """

        def never(sock: object) -> int:
            raise AssertionError("the kernel was asked")

        self.proxy(users=users(), userOf=never)
        client = self.asks(ask())
        status, fields, _ = self.got(client)
        self.assertEqual((407, 'Basic realm="tlsproxy", charset="UTF-8"'), (status, fields["proxy-authenticate"]))
        self.settle()
        self.reverse()
        self.asks(ask("shop.example:443", credentials()))
        self.assertNotIn("Authorization", self.head())
        self.one().stop()
        self.settle()

    def test_passwordFromElsewhere(self) -> None:
        """
        A right password from another machine opens nothing.
        """
        self.patch(sequentialclient, "isHere", lambda sock: False)
        self.proxy(users=users())
        client = self.asks(ask("shop.example:443", credentials()))
        status, _, body = self.got(client)
        self.assertEqual((403, f"{NOT_YOURS}\n".encode()), (status, body))
        self.assertEqual([], self.dialed)

    def test_direct(self) -> None:
        """
        What goes directly is looked up and dialed, if it does not lead back to this machine.
        """
        self.proxy(Entry(hosts="*.direct.example:443", direct=True))
        self.known["a.direct.example"] = ["192.0.2.1"]
        self.known["b.direct.example"] = ["127.0.0.1"]
        self.make = Peer
        self.tunnel(self.asks(ask("a.direct.example:443")))
        self.assertEqual([("192.0.2.1", 443)], self.dialed)
        client = self.asks(ask("b.direct.example:443"))
        self.assertEqual(403, self.got(client)[0])
        self.settle()
        self.assertIn("127.0.0.1 is loopback, and no address or network in hosts of this [[map]]", self.lines()[-1])
