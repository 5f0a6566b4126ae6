"""
Tests of L{tlsproxy.downgrade}: what both ends agree upon.  What is done about it is tested in L{tests.test_following}.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.tunneling import TunnelCase
from tlsproxy.downgrade import Downgrade, Inner
from tlsproxy.errors import AdmissionRefused
from tlsproxy.testing.streampeers import Browser, TLSPeer
from tlsproxy.wire.clienthello import ClientHello

HELLO = ClientHello(
    serverName="shop.example",
    alpn=(),
    versions=(0x0304,),
    groups=(29,),
    cipherSuites=(0x1301,),
    extensions=(0,),
    signatureAlgorithms=(),
    legacyVersion=0x0303,
    wireLength=200,
)


class WishesTests(SynchronousTestCase):
    """
    What is acceptable.
    """

    def test_wishes(self) -> None:
        """
        All up to the strongest, and that first.
        """
        for value, wishes in (
            ("none", ("none",)),
            ("handshake", ("handshake", "none")),
            ("connect", ("connect", "handshake", "none")),
        ):
            self.assertEqual(wishes, Downgrade(value=value).wishes)


class DowngradeTests(SynchronousTestCase):
    """
    When and how TLS comes off.
    """

    def test_words(self) -> None:
        """
        Nothing is taken but what there is.
        """
        for words in ({"value": "full"}, {"takeOff": "kernel"}, {"framing": "none"}):
            with self.assertRaisesRegex(ValueError, "Downgrade"):
                Downgrade(**words)


class InnerTests(SynchronousTestCase):
    """
    Whom a hello may be for.
    """

    def judge(self, host: str, name: str | None, *names: str) -> bool | str:
        """
        Judge a hello.

        @return: Whether it is for the destination itself, or why it is for nobody.
        """
        try:
            return Inner(host=host, names=names).judge(evolve(HELLO, serverName=name))
        except AdmissionRefused as e:
            return str(e)

    def test_itself(self) -> None:
        """
        The destination, with a dot at the end of either or without.
        """
        for host in ("shop.example", "shop.example.", "Shop.Example"):
            self.assertIs(True, self.judge(host, "shop.example"))
            self.assertIs(True, self.judge(host, "shop.example."))

    def test_other(self) -> None:
        """
        Another, or none.
        """
        why = "the hello inside the tunnel to shop.example"
        self.assertEqual(f"{why} is for evil.example", self.judge("shop.example", "evil.example"))
        self.assertEqual(f"{why} is for shop.example.evil", self.judge("shop.example", "shop.example.evil"))
        self.assertEqual(f"{why} names no server", self.judge("shop.example", None))
        self.assertEqual(f"{why} is for none", self.judge("shop.example", "none", "other.example"))

    def test_remedy(self) -> None:
        """
        It is said where another name can be allowed.
        """
        inner = Inner(host="shop.example", where="sni of its [[map]]")
        for name, words in (("evil.example", "that name"), (None, "none")):
            with self.assertRaises(AdmissionRefused) as caught:
                inner.judge(evolve(HELLO, serverName=name))
            self.assertTrue(str(caught.exception).endswith(f"; if it may, say {words} in sni of its [[map]]"))

    def test_address(self) -> None:
        """
        Where the target is an address, there must be no name.
        """
        for host in ("192.0.2.1", "2001:db8::1"):
            self.assertIs(True, self.judge(host, None))
            self.assertIn("is for shop.example", str(self.judge(host, "shop.example")))

    def test_names(self) -> None:
        """
        Other names are not the destination itself.
        """
        self.assertIs(False, self.judge("shop.example", "public.example", "public.example"))
        self.assertIs(False, self.judge("shop.example", None, "none"))
        self.assertIs(True, self.judge("shop.example", "shop.example", "none"))
        self.assertIn("is for none", str(self.judge("shop.example", "none", "none")))


class ConnectTests(TunnelCase):
    """
    TLS that is taken off at once.
    """

    def test_something(self) -> None:
        """
        The other proxy must have nothing to say before that, and nobody collects what it says nevertheless.
        """
        upstream = self.network.upstream("rp.example:443", lambda sock: TLSPeer(sock, "TLSv1.3", server=True))
        self.serveClient(upstream, agreed="connect")
        self.visit(Browser)
        self.settle()
        reverse: Any = upstream.peers[0]
        reverse.write(b"too early")
        self.settle()
        self.assertOver("failed", "downgrade", "the upstream sent more before the end of its TLS than it may")
