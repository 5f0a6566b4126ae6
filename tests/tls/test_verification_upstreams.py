# -*- test-case-name: tests.tls.test_verification -*-
"""
Tests for L{tlsproxy.tls.verification}: which upstreams are taken.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from tests.tls.chains import authority, issued
from tests.tls.pairs import VERSIONS, take
from tests.tls.verifying import (
    BAD_CERTIFICATE,
    CERTIFICATE_REVOKED,
    NOBODY,
    UNKNOWN_CA,
    VerificationCase,
)
from tlsproxy.testing.certificates import Holder, revoking
from tlsproxy.tls.authorization import pinText
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS


class UpstreamTests(VerificationCase):
    """
    Which upstreams are taken.
    """

    def toward(self, **policy: Any) -> ClientTLS:
        """
        Make a client that trusts the root.
        """
        return self.client(**{"ca": (self.trusted,), **policy})

    def assertTaken(self, holder: Holder | Identity, **policy: Any) -> None:
        """
        An upstream is taken, whatever the version.
        """
        for version in VERSIONS:
            told, here, there = self.told(self.server(holder), self.toward(maxVersion=version, **policy))
            self.assertEqual("", told)
            there.send(b"hello")
            self.assertEqual(b"hello", take(here))

    def assertNotTaken(self, holder: Holder | Identity, alert: int, *parts: str, **policy: Any) -> None:
        """
        An upstream is refused inside the handshake.
        """
        for version in VERSIONS:
            told, here, there = self.told(self.server(holder), self.toward(maxVersion=version, **policy))
            for part in ("the upstream's certificate is refused: ", *parts):
                self.assertIn(part, told)
            self.assertRaises(SSL.Error, there.connection.do_handshake)

    def test_rules(self) -> None:
        """
        An upstream has to match one of the rules, beside the name that it has to show.
        """
        shop = issued("shop", self.root, dns=["shop.example"], ou=["ops"])
        self.assertTaken(shop, allowOu=("ops", "sales"))
        self.assertTaken(shop, allowAll=True)
        self.assertNotTaken(shop, BAD_CERTIFICATE, "no rule allows it (CN=shop, issued", allowOu="sales")
        other = issued("shop", self.root, dns=["other.example"], ou=["ops"])
        self.assertNotTaken(other, BAD_CERTIFICATE, "it is not for ", allowOu="ops")

    def test_pins(self) -> None:
        """
        It has to have one of the keys, beside all else; what its key would be is told.
        """
        shop = issued("shop", self.root, dns=["shop.example"])
        pin = pinText(shop.certificate)
        self.assertTaken(shop, pins=(NOBODY, pin))
        self.assertTaken(shop, pins=pin, allowCn="shop")
        self.assertNotTaken(shop, BAD_CERTIFICATE, "its key is another than those pinned (CN=shop, ", pin, pins=NOBODY)
        self.assertNotTaken(shop, BAD_CERTIFICATE, "no rule allows it", pins=pin, allowCn="other")
        self.assertNotTaken(shop, BAD_CERTIFICATE, "its key is another", pins=NOBODY, allowCn="shop")
        stranger = issued("shop", authority("Root"), dns=["shop.example"])
        self.assertNotTaken(stranger, UNKNOWN_CA, pins=pinText(stranger.certificate))

    def test_pinsAlone(self) -> None:
        """
        Where nothing else is verified, its key and the rules decide: neither who issued it nor for whom nor when.
        """
        for shop in (issued("x"), issued("x", authority("Nobody"), dns=["other.example"])):
            pin = pinText(shop.certificate)
            self.assertTaken(shop, auth="none", pins=pin)
            self.assertTaken(shop, auth="none", pins=pin, allowCn="x")
            self.assertNotTaken(shop, BAD_CERTIFICATE, "its key is another", auth="none", pins=NOBODY)
            self.assertNotTaken(shop, BAD_CERTIFICATE, "no rule allows it", auth="none", pins=pin, allowCn="y")

    def test_issuersKey(self) -> None:
        """
        The key of one that issued it is not its own.
        """
        shop = issued("shop", self.middle, dns=["shop.example"])
        chain = self.chain(shop, self.middle)
        for more in ({}, {"auth": "none"}):
            self.assertNotTaken(chain, BAD_CERTIFICATE, "its key", pins=pinText(self.middle.certificate), **more)

    def test_lists(self) -> None:
        """
        An upstream whose certificate has been revoked is refused.
        """
        shop = issued("shop", self.root, dns=["shop.example"])
        none = self.file("none.crl", revoking(self.root))
        gone = self.file("gone.crl", revoking(self.root, shop.certificate))
        self.assertTaken(shop, crl=none)
        self.assertNotTaken(shop, CERTIFICATE_REVOKED, "it has been revoked, says the CRL of CN=Root", crl=gone)

    def test_warned(self) -> None:
        """
        An upstream that only its key verifies is verified.
        """
        self.assertEqual((), self.toward(auth="none", pins=NOBODY).warnings)
        (warning,) = self.toward(auth="none").warnings
        self.assertIn("not verified at all", warning)
