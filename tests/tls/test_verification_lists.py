# -*- test-case-name: tests.tls.test_verification -*-
"""
Tests for L{tlsproxy.tls.verification}: lists of revoked certificates.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.tls.chains import authority, issued
from tests.tls.verifying import (
    BAD_CERTIFICATE,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_REVOKED,
    UNKNOWN_CA,
    VerificationCase,
)
from tlsproxy.testing.certificates import NOW, Holder, revoking
from tlsproxy.tls.authorization import pinText


class ListTests(VerificationCase):
    """
    Lists of revoked certificates.
    """

    def crl(self, name: str, issuer: Holder, *revoked: Holder, **more: Any) -> str:
        """
        Write a list.
        """
        return self.file(name, revoking(issuer, *(each.certificate for each in revoked), **more))

    def test_revoked(self) -> None:
        """
        Who has been revoked is refused, and no other.
        """
        ann, bob = issued("Ann", self.root), issued("Bob", self.root)
        server = self.asked(crl=self.crl("root.crl", self.root, bob))
        self.assertLetIn(server, self.chain(ann))
        self.assertRefused(server, self.chain(bob), CERTIFICATE_REVOKED, "it has been revoked, says the CRL of CN=Root")

    def test_missing(self) -> None:
        """
        Without a list of whoever issued it a certificate is refused, and it is told which is missing.
        """
        server = self.asked(crl=self.crl("other.crl", authority("Other")))
        (warning,) = server.warnings
        self.assertIn("crl has no CRL of CN=Root", warning)
        self.assertRefused(
            server,
            self.chain(issued("Ann", self.root)),
            UNKNOWN_CA,
            "there is no CRL of CN=Root, so nobody can say whether it has been revoked: add one to crl",
        )

    def test_expired(self) -> None:
        """
        With a list that is out of date, or not good yet, as well.
        """
        for days, begins, alert, words in (
            (1, NOW - 2 * (NOW - NOW.replace(hour=0)), CERTIFICATE_EXPIRED, "has expired"),
            (9, NOW.replace(year=2027), BAD_CERTIFICATE, "is not good yet"),
        ):
            if days == 1:
                begins = begins.replace(month=10)
            server = self.asked(crl=self.crl("root.crl", self.root, days=days, begins=begins))
            self.assertEqual(1, len(server.warnings))
            self.assertRefused(server, self.chain(issued("Ann", self.root)), alert, f"the CRL of CN=Root {words}")

    def test_chain(self) -> None:
        """
        All of a chain is looked at: with a list of each of its authorities, whose certificate may be revoked, too.
        """
        ann = self.chain(issued("Ann", self.middle), self.middle)
        root, middle = self.crl("root.crl", self.root), self.crl("middle.crl", self.middle)
        self.assertLetIn(self.asked(crl=(root, middle)), ann)
        self.assertRefused(self.asked(crl=root), ann, UNKNOWN_CA, "there is no CRL of CN=Middle")
        self.assertRefused(
            self.asked(crl=middle), ann, UNKNOWN_CA, "there is no CRL of CN=Root, so nobody can say whether CN=Middle"
        )
        gone = self.crl("gone.crl", self.root, self.middle)
        self.assertRefused(self.asked(crl=(gone, middle)), ann, CERTIFICATE_REVOKED, "CN=Middle, issued by CN=Root")

    def test_anchor(self) -> None:
        """
        What is trusted as such needs nobody's list, though others issued it.
        """
        ann = self.chain(issued("Ann", self.middle))
        anchor = self.file("middle.pem", self.middle.pem())
        server = self.asked(clientCa=anchor, crl=self.crl("middle.crl", self.middle))
        self.assertLetIn(server, ann)
        self.assertRefused(self.asked(clientCa=anchor, crl=self.crl("root.crl", self.root)), ann, UNKNOWN_CA)

    def test_rules(self) -> None:
        """
        Rules let nobody in who has been revoked.
        """
        ann = issued("Ann", self.root)
        crl = self.crl("root.crl", self.root, ann)
        server = self.asked(crl=crl, allowCn="Ann", pins=pinText(ann.certificate))
        self.assertRefused(server, self.chain(ann), CERTIFICATE_REVOKED, "it has been revoked")

    def test_optional(self) -> None:
        """
        Where certificates are optional, who has been revoked is refused all the same.
        """
        ann = issued("Ann", self.root)
        server = self.asked(crl=self.crl("root.crl", self.root, ann), clientAuth="optional")
        self.assertLetIn(server, None)
        self.assertRefused(server, self.chain(ann), CERTIFICATE_REVOKED, "it has been revoked")

    def test_der(self) -> None:
        """
        A list in DER is taken as well.
        """
        ann = issued("Ann", self.root)
        pem = revoking(self.root, ann.certificate)
        file = self.file("root.crl", x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER))
        self.assertRefused(self.asked(crl=file), self.chain(ann), CERTIFICATE_REVOKED, "it has been revoked")
