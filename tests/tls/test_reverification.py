# -*- test-case-name: tests.tls.test_reverification -*-
"""
Tests for L{tlsproxy.tls.reverification}.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.chains import authority, issued
from tlsproxy.testing.certificates import NOW, Holder, certify, revoking
from tlsproxy.tls.authorization import Allowed
from tlsproxy.tls.reverification import NoLongerValid, verifyAgain
from tlsproxy.tls.verification import Verification


class AgainTests(SynchronousTestCase):
    """
    Tests for L{verifyAgain}.
    """

    def setUp(self) -> None:
        """
        Have a root, a CA below it, and somebody.
        """
        self.root = authority("Root")
        self.middle = authority("Middle", self.root)
        self.ann = issued("Ann", self.middle)
        self.chain = [each.certificate for each in (self.ann, self.middle, self.root)]

    def crl(self, issuer: Holder, *revoked: Holder, **more: Any) -> x509.CertificateRevocationList:
        """
        Make a list.
        """
        return x509.load_pem_x509_crl(revoking(issuer, *(each.certificate for each in revoked), **more))

    def verify(self, *authorities: Holder, now: datetime = NOW, **more: Any) -> tuple[x509.Certificate, ...]:
        """
        Verify the chain again.
        """
        trusted = tuple(each.certificate for each in authorities)
        return verifyAgain(Verification(authorities=trusted, **more), self.chain, now)

    def assertNoMore(self, sentence: str, *authorities: Holder, **more: Any) -> None:
        """
        It is not let in any more.
        """
        error = self.assertRaises(NoLongerValid, self.verify, *authorities, **more)
        self.assertIn(sentence, str(error))

    def test_same(self) -> None:
        """
        What has not changed lets it in again, by the same path.
        """
        self.assertEqual(tuple(self.chain), self.verify(self.root))

    def test_nearer(self) -> None:
        """
        An authority that is nearer is enough, self-signed or not; so is the certificate itself.
        """
        for nearer in (self.middle, self.ann):
            self.assertEqual(self.chain[0], self.verify(nearer)[0])
        # Nobody but its owner can say that what is trusted by itself is not to be trusted any more.
        self.verify(self.ann, lists=(self.crl(authority("Other")),))

    def test_otherAuthority(self) -> None:
        """
        Without its authority it is out, and a namesake of that is another.
        """
        for others in ((authority("Other"),), (authority("Root"),), ()):
            self.assertNoMore("no CA in client_ca has issued it", *others)
        self.chain = self.chain[:1]
        self.assertNoMore("no CA in client_ca has issued it", self.root)

    def test_time(self) -> None:
        """
        It has to be valid now.
        """
        self.assertNoMore("certificate has expired", self.root, now=NOW + timedelta(days=101))
        self.assertNoMore("certificate is not yet valid", self.root, now=NOW - timedelta(days=2))

    def test_rules(self) -> None:
        """
        The rules are asked again.
        """
        self.verify(self.root, allowed=Allowed(cn=frozenset({"Ann"})))
        self.assertNoMore("no rule allows it (CN=Ann", self.root, allowed=Allowed(cn=frozenset({"Bob"})))
        self.assertNoMore("its key is another than those pinned", self.root, pins=frozenset({bytes(32)}))

    def test_revoked(self) -> None:
        """
        So are the lists, all along the path.
        """
        root, middle = self.crl(self.root), self.crl(self.middle)
        self.verify(self.root, self.middle, lists=(root, middle))
        self.verify(self.root, lists=(root, middle))
        self.assertNoMore(
            "it has been revoked, says the CRL of CN=Middle", self.root, lists=(root, self.crl(self.middle, self.ann))
        )
        self.assertNoMore(
            "CN=Middle, issued by CN=Root, until 2027-02-28 has been revoked, says the CRL of CN=Root",
            self.root,
            lists=(self.crl(self.root, self.middle), middle),
        )
        self.verify(self.middle, lists=(self.crl(self.root, self.middle), middle))

    def test_unknown(self) -> None:
        """
        Where no list tells, or none of now, or none that is really the issuer's, nobody can say.
        """
        unknown = "so nobody can say whether it has been revoked"
        root = self.crl(self.root)
        self.assertNoMore(unknown, self.root, lists=(root,))
        old = self.crl(self.middle, begins=NOW - timedelta(days=9), days=8)
        self.assertNoMore(unknown, self.root, lists=(root, old))
        early = self.crl(self.middle, begins=NOW + timedelta(days=1))
        self.assertNoMore(unknown, self.root, lists=(root, early))
        self.assertNoMore(unknown, self.root, lists=(root, self.crl(authority("Middle", self.root))))
        self.verify(self.root, lists=(root, old, self.crl(self.middle)))

    def test_unreadable(self) -> None:
        """
        What cannot be read is out, whatever it is.
        """
        self.patch(Verification, "whyNot", lambda *_: int("x"))
        self.assertNoMore("it cannot be read", self.root)

    def test_alone(self) -> None:
        """
        A certificate that signed itself is verified by itself.
        """
        own = certify("Own")
        self.chain = [own.certificate]
        self.assertEqual((own.certificate,), self.verify(own, lists=(self.crl(self.root),)))
