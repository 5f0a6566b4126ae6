# -*- test-case-name: tests.patterns.test_connect_answers -*-
"""
L{tlsproxy.patterns.connect}: what a client is told that gets no tunnel, on sockets that can be reset at any time.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

from tests.dialing import refusal
from tests.patterns.connecting import TARGET, ConnectCase, ask, credentials, users
from tlsproxy.passwords import Busy
from tlsproxy.testing.sessions import Browser
from tlsproxy.testing.streampeers import Peer

MUCH = bytes(100000)
"""More than the head of a request, and more than is read at once."""


class RefusalTests(ConnectCase):
    """
    Requests that are refused, each with what the client sees and what the log says.
    """

    tcp = True
    secure: ClassVar[bool] = False

    def refused(self, request: bytes, status: int, body: str, phase: str = "head", reason: str = "") -> Any:
        """
        See a request refused, once alone and once with much behind it, and nothing dialed.

        @param reason: What the log says, if that is not what the client reads.
        @return: The fields of the answer.
        """
        for behind in (b"", MUCH):
            client: Peer = self.asks(request + behind, Browser if self.secure else Peer)
            self.assertAnswered(client, status, body, "refused", phase, reason or body)
            self.forget()
        self.assertEqual([], self.dialed)
        return self.got(client)[1]

    def test_malformed(self) -> None:
        """
        400: a request that cannot be understood, or in more than one way.
        """
        self.proxy(tls=self.secure)
        self.refused(
            b"CONNECT shop.example:443\r\n\r\n",
            400,
            "the first line of the client's request is not METHOD TARGET HTTP/1.1",
        )
        self.refused(
            ask("shop.example"),
            400,
            "the client's CONNECT target names no port: it takes HOST:PORT, as in shop.example:443",
        )
        self.refused(b"\5\1\0", 400, "the client speaks SOCKS5, and this port wants plain HTTP")
        self.refused(
            b"CONNECT shop.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n",
            400,
            "the client's Host field names another host or port than its CONNECT target",
        )

    def test_otherTarget(self) -> None:
        """
        403: a target that is in no list, and its name is not even looked up.
        """
        self.proxy(tls=self.secure)
        self.refused(
            ask("db.internal:5432"),
            403,
            "this proxy does not allow a tunnel to db.internal:5432",
            reason="db.internal:5432 is not in [route.targets] allow",
        )
        self.assertEqual([], self.asked)

    def test_nothing(self) -> None:
        """
        404: there is no other page.
        """
        self.proxy(tls=self.secure)
        for target in ("/", "/proxy.pac/", "/PROXY.PAC", "//proxy.pac", "/?/proxy.pac"):
            self.refused(
                f"GET {target} HTTP/1.1\r\nHost: proxy.example\r\n\r\n".encode(),
                404,
                "there is nothing here but /proxy.pac; this proxy makes tunnels, by CONNECT",
            )

    def test_methods(self) -> None:
        """
        405: plain HTTP is not forwarded, and the answer says what is taken instead.
        """
        self.proxy(tls=self.secure)
        fields = self.refused(
            b"GET http://shop.example/proxy.pac HTTP/1.1\r\nHost: shop.example\r\n\r\n",
            405,
            "this proxy makes tunnels (CONNECT) and forwards no plain HTTP requests",
        )
        self.assertEqual("CONNECT", fields["allow"])
        fields = self.refused(
            b"DELETE /proxy.pac HTTP/1.1\r\nHost: shop.example\r\n\r\n",
            405,
            "this proxy makes tunnels (CONNECT) and takes no DELETE",
        )
        self.assertEqual("CONNECT", fields["allow"])

    def test_nobody(self) -> None:
        """
        407: whoever does not say who it is, or says it wrong, is asked to; and learns nothing of the targets.
        """
        self.proxy(tls=self.secure, users=users())
        body = "this proxy wants a user's name and password"
        wrong = "the client gave a wrong password for the user 'alice', or there is no such user"
        for request, reason in (
            (ask(), "the client sent no user and no password"),
            (ask("db.internal:5432"), "the client sent no user and no password"),
            (ask(TARGET, credentials(password="wrong")), wrong),
            (ask("db.internal:5432", credentials(password="wrong")), wrong),
            (
                ask(TARGET, "Proxy-Authorization: Bearer secret"),
                "the client wants to authenticate with Bearer, not with Basic",
            ),
        ):
            fields = self.refused(request, 407, body, "route", reason)
            self.assertEqual('Basic realm="tlsproxy", charset="UTF-8"', fields["proxy-authenticate"])
        self.assertEqual([], self.asked)

    def test_tooLong(self) -> None:
        """
        431: a head that does not end.
        """
        self.proxy(tls=self.secure)
        self.refused(
            ask(TARGET, f"Cookie: {'x' * 8192}"),
            431,
            "the head of the client's request is longer than 8192 bytes",
        )

    def test_unknownMethod(self) -> None:
        """
        501: a method that is none.
        """
        self.proxy(tls=self.secure)
        self.refused(b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501, "the client's method 'BREW' is not known")

    def test_busy(self) -> None:
        """
        503: too many passwords wait to be verified.
        """

        class Crowd:
            async def check(self, authorization: str, inThread: object) -> str:
                raise Busy("the client is refused, because 64 others wait")

        crowd: Any = Crowd()
        self.proxy(tls=self.secure, users=crowd)
        client = self.asks(ask(TARGET, credentials()), Browser if self.secure else Peer)
        self.assertAnswered(
            client,
            503,
            "too many others wait for their passwords to be verified; try again later",
            "refused",
            "route",
            "the client is refused, because 64 others wait",
        )

    def fails(self, problem: int, status: int, body: str) -> None:
        """
        See a target fail to be reached.
        """
        self.answers = False
        self.proxy(tls=self.secure)
        client = self.asks(ask() + MUCH, Browser if self.secure else Peer)
        self.settle(lambda: bool(self.waiting))
        self.waiting.pop().errback(refusal(problem))
        line = self.assertAnswered(client, status, body, "failed", "dial", body)
        self.assertIn(" target=shop.example:443 upstream=", line)

    def test_refuses(self) -> None:
        """
        502: a target that refuses connections.
        """
        self.fails(errno.ECONNREFUSED, 502, "the upstream shop.example:443 refuses connections")

    def test_doesNotAnswer(self) -> None:
        """
        504: a target that does not answer, as the kernel says.
        """
        self.fails(errno.ETIMEDOUT, 504, "the upstream shop.example:443 does not answer")

    def test_doesNotResolve(self) -> None:
        """
        502: a name that does not resolve.
        """
        self.proxy(tls=self.secure)
        body = "the upstream none.example:443 has a name that does not resolve"
        client = self.asks(ask("none.example:443") + MUCH, Browser if self.secure else Peer)
        self.assertAnswered(client, 502, body, "failed", "dial", body)
        self.assertEqual((["none.example"], []), (self.asked, self.dialed))

    def test_sixthRefuses(self) -> None:
        """
        502: so it is with an address that was asked for as such.
        """
        self.answers = False
        self.proxy("[2001:db8::/32]:443", tls=self.secure)
        client = self.asks(ask("[2001:db8::1]:443"), Browser if self.secure else Peer)
        self.settle(lambda: bool(self.waiting))
        self.waiting.pop().errback(refusal(errno.ECONNREFUSED))
        body = "the upstream [2001:db8::1]:443 refuses connections"
        self.assertAnswered(client, 502, body, "failed", "dial", body)

    def test_endsInTheHead(self) -> None:
        """
        A client that ends its stream before its request is whole gets no answer, as nobody is there to read it.
        """
        self.proxy(tls=self.secure)
        client = self.asks(ask()[:-2], Browser if self.secure else Peer)
        self.settle(lambda: self.one().phase == "head")
        client.end()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(b"", bytes(client.received))
        self.assertOver("ended", "head", "the client ended the stream before its request was whole")

    def test_cutInTheHead(self) -> None:
        """
        So it is with one that resets the connection.
        """
        self.proxy(tls=self.secure)
        client = self.asks(ask()[:-2], Browser if self.secure else Peer)
        self.settle(lambda: self.one().phase == "head")
        client.reset()
        self.settle(lambda: bool(self.told()))
        self.assertOver("reset", "head", "the client reset the connection")


class SecureRefusalTests(RefusalTests):
    """
    The same inside TLS: the answer ends with a close_notify.
    """

    secure = True

    def test_truncatedInTheHead(self) -> None:
        """
        A client that ends its stream without ending TLS gets no answer.
        """
        self.proxy(tls=True)
        client = self.asks(ask()[:-2], Browser)
        self.settle(lambda: self.one().phase == "head")
        client.cut()
        self.settle(lambda: bool(self.told()))
        self.assertOver("ended", "head", "the client ended the stream without ending TLS")
