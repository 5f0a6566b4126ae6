# -*- test-case-name: tests.patterns.test_connect_targets -*-
"""
L{tlsproxy.patterns.connect}: which addresses are dialed for a name, who may ask, and in which order that is judged.
"""

from __future__ import annotations

import errno
from typing import Any

from tests.dialing import refusal
from tests.patterns.connecting import ESTABLISHED, PASSWORD, TARGET, ConnectCase, ask, credentials, users
from tlsproxy import tunnels
from tlsproxy.testing.streampeers import Peer

FORBIDDEN = "this proxy does not allow a tunnel to shop.example:443"
"""What a client reads, whatever the reason."""


class AddressTests(ConnectCase):
    """
    A name is allowed, and its addresses are not.
    """

    tcp = True

    def forbidden(self, reason: str) -> None:
        """
        The only client was told no, and nothing was dialed.
        """
        client = self.asks(ask())
        self.assertAnswered(client, 403, FORBIDDEN, "refused", "dial", reason)
        self.assertEqual(([TARGET.partition(":")[0]], []), (self.asked, self.dialed))

    def test_rebinding(self) -> None:
        """
        A name that resolves to this very machine is not dialed, however its address is written.
        """
        self.proxy()
        for address, words in (
            ("127.0.0.1", "loopback"),
            ("169.254.169.254", "a cloud metadata address"),
            ("::1", "loopback"),
            ("64:ff9b::7f00:1", "a NAT64 address of 127.0.0.1, which is loopback"),
        ):
            self.known["shop.example"] = [address]
            self.assertEqual(403, self.got(self.asks(ask()))[0])
            self.assertIn(f"its address {address} is {words}, and no address", self.told()[-1]["reason"])
            self.reactor.advance(60)  # What was looked up is forgotten.
        self.assertEqual([], self.dialed)

    def test_mapped(self) -> None:
        """
        Nor does it help to map the address into IPv6.
        """
        self.known["shop.example"] = ["::ffff:127.0.0.1"]
        self.proxy()
        self.forbidden(
            "shop.example:443 is refused: its address 127.0.0.1 is loopback, "
            "and no address or network in [route.targets] allow covers it"
        )

    def test_denied(self) -> None:
        """
        Nor is an address that is denied.
        """
        self.proxy(deny=["192.0.2.0/24"])
        self.forbidden(
            "shop.example:443 is refused: its address 192.0.2.1 is denied by '192.0.2.0/24' of [route.targets] deny"
        )

    def test_own(self) -> None:
        """
        Nor is a listener of this proxy, which would be asked again and again.
        """
        self.proxy(listeners=[("192.0.2.1", 443)])
        self.forbidden(
            "shop.example:443 is refused: its address 192.0.2.1 is a listener of this proxy, "
            "and no address or network in [route.targets] allow covers it"
        )

    def test_ownAnywhere(self) -> None:
        """
        A listener on all addresses is one on each of this machine's.
        """
        self.patch(tunnels, "isLocal", lambda address: address == "192.0.2.1")
        self.proxy(listeners=[("::", 443)])
        self.forbidden(
            "shop.example:443 is refused: its address 192.0.2.1 is a listener of this proxy, "
            "and no address or network in [route.targets] allow covers it"
        )

    def test_otherPort(self) -> None:
        """
        Another port of the same machine is no listener.
        """
        self.proxy(listeners=[("192.0.2.1", 8443)])
        self.tunnel(self.asks(ask()))

    def test_some(self) -> None:
        """
        Of several addresses only those are dialed that are permitted, also where none of them answers.
        """
        self.known["shop.example"] = ["127.0.0.1", "192.0.2.1", "10.0.9.1", "2001:db8::1", "192.0.2.2"]
        self.answers = False
        self.proxy(deny=["10.0.9.0/24"], dial=20)
        client = self.asks(ask())
        self.settle(lambda: bool(self.dialed))
        for _ in range(4):
            self.after(0.25)
        self.assertEqual([("192.0.2.1", 443), ("2001:db8::1", 443), ("192.0.2.2", 443)], self.dialed)
        for waiting in self.waiting:
            waiting.errback(refusal(errno.ECONNREFUSED))
        body = "the upstream shop.example:443 refuses connections"
        self.assertAnswered(client, 502, body, "failed", "dial", body)
        self.assertEqual(3, len(self.dialed))

    def test_literal(self) -> None:
        """
        An address that is asked for as such is judged as such, and nobody is asked for it.
        """
        self.proxy("10.0.0.0/8:443", "localhost:443")
        body = "this proxy does not allow a tunnel to 127.0.0.1:443"
        client = self.asks(ask("127.0.0.1:443"))
        reason = "127.0.0.1:443 is not in [route.targets] allow"
        self.assertAnswered(client, 403, body, "refused", "head", reason)
        self.assertEqual(([], []), (self.asked, self.dialed))

    def test_literalAllowed(self) -> None:
        """
        One that is allowed is dialed, on loopback too.
        """
        self.proxy("127.0.0.1:443")
        self.tunnel(self.asks(ask("127.0.0.1:443")))
        self.assertEqual(([], [("127.0.0.1", 443)]), (self.asked, self.dialed))

    def test_otherAnswer(self) -> None:
        """
        What was judged is dialed: a name that resolves to another address a moment later is not looked up again.
        """
        self.answers = False
        self.proxy()
        client = self.asks(ask())
        self.settle(lambda: bool(self.waiting))
        self.known["shop.example"] = ["127.0.0.1"]
        self.reactor.advance(0)
        self.waiting.pop().callback(None)
        self.tunnel(client)
        self.assertEqual((1, [("192.0.2.1", 443)]), (len(self.asked), self.dialed))

    def test_anewAfterFailure(self) -> None:
        """
        A target that refused is looked up anew the next time, and judged anew.
        """
        self.answers = False
        self.proxy()
        first = self.asks(ask())
        self.settle(lambda: bool(self.waiting))
        self.waiting.pop().errback(refusal(errno.ECONNREFUSED))
        self.settle(lambda: bool(first.ended))
        self.known["shop.example"] = ["127.0.0.1"]
        second = self.asks(ask())
        self.assertEqual(403, self.got(second)[0])
        self.assertEqual((2, 1), (len(self.asked), len(self.dialed)))


class UserTests(ConnectCase):
    """
    Users with passwords.
    """

    def test_known(self) -> None:
        """
        A user who shows to be one gets the tunnel, and stands in the log, without the password.
        """
        self.proxy(users=users())
        self.tunnel(self.asks(ask(TARGET, credentials())))
        (line,) = self.lines()
        self.assertIn(" user=alice ", line)
        self.assertNotIn(PASSWORD, line)
        self.assertNotIn(credentials().split()[-1], line)

    def test_first(self) -> None:
        """
        Who asks is judged before what is asked for: the user stands in the log of what was refused.
        """
        self.proxy(users=users())
        client = self.asks(ask("db.internal:5432", credentials()))
        line = self.assertAnswered(
            client,
            403,
            "this proxy does not allow a tunnel to db.internal:5432",
            "refused",
            "route",
            "db.internal:5432 is not in [route.targets] allow",
        )
        self.assertIn(" user=alice ", line)
        self.assertIn(" target=db.internal:5432 ", line)

    def test_notShown(self) -> None:
        """
        A name that was not shown to be the client's is no user; the line tells what was asked for, and no password.
        """
        self.proxy(users=users())
        client = self.asks(ask(TARGET, credentials(password="wrong " + PASSWORD)))
        self.assertEqual(407, self.got(client)[0])
        (line,) = self.lines()
        self.assertNotIn(" user=", line)
        self.assertIn(f" target={TARGET} ", line)
        self.assertNotIn(PASSWORD, line)

    def test_malformed(self) -> None:
        """
        A request that is malformed does not show its password to anybody.
        """
        self.proxy(users=users())
        for wrong in ("X: \0", "Proxy-Authorization: Basic x", "Content-Length: 3", "A b: c"):
            client: Peer = self.asks(ask(TARGET, credentials(), wrong))
            self.assertEqual(400, self.got(client)[0])
            self.assertNotIn(credentials().split()[-1].encode(), bytes(client.received))
        secrets = (PASSWORD, credentials().split()[-1])
        for line in self.lines():
            self.assertEqual([], [secret for secret in secrets if secret in line])

    def test_everybody(self) -> None:
        """
        Where there are no users, credentials are of no interest, and of no harm.
        """
        self.proxy()
        client = self.asks(ask(TARGET, credentials()))
        self.tunnel(client)
        self.assertTrue(bytes(client.received).startswith(ESTABLISHED))
        self.assertNotIn("user=", self.lines()[0])


class ListenerTests(ConnectCase):
    """
    The listeners of a service, which may change while sessions last.
    """

    def test_later(self) -> None:
        """
        What is listened on is asked for when it is needed.
        """
        listeners: list[Any] = []
        self.answers = False
        self.proxy(listeners=listeners)
        listeners.append(("192.0.2.1", 443))
        self.assertEqual(403, self.got(self.asks(ask()))[0])
