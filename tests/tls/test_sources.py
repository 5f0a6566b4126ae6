"""
Tests for L{tlsproxy.tls.sources}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.policy import ClientPolicy
from tlsproxy.tls.sources import CertificateFiles, NSSDatabase, PKCS12File, certificates, isList, pathOf


class SourceTests(SynchronousTestCase):
    """
    Tests for L{certificates} and what it makes.
    """

    def test_strings(self) -> None:
        """
        How a string begins and ends says what it names.
        """
        for given, made in (
            ("a.pem", CertificateFiles("a.pem")),
            (Path("a.p12"), PKCS12File("a.p12")),
            ("a.pfx", PKCS12File("a.pfx")),
            ("nss:/home/u/.pki/nssdb", NSSDatabase("/home/u/.pki/nssdb")),
        ):
            self.assertEqual((made,), certificates(given))
            self.assertEqual((made, made), certificates([given, made]))

    def test_others(self) -> None:
        """
        What is made already stays, and what is nothing of this is refused by the policy.
        """
        database = NSSDatabase(Path("db"), "Ann", Path("pw"))
        self.assertEqual((database,), ClientPolicy(cert=database).cert)
        self.assertEqual(5, certificates(5))
        self.assertRaises(TypeError, ClientPolicy, cert=5)
        self.assertRaises(TypeError, NSSDatabase, 5)
        self.assertRaises(TypeError, NSSDatabase, "db", 5)

    def test_files(self) -> None:
        """
        A database is two files, and perhaps a third with its password.
        """
        self.assertEqual(("db/cert9.db", "db/key4.db"), NSSDatabase("db").files)
        self.assertEqual(("db/cert9.db", "db/key4.db", "pw"), NSSDatabase("db", None, "pw").files)

    def test_kinds(self) -> None:
        """
        Bytes and tables are not several things.
        """
        for several, given in ((True, [1]), (False, b"a"), (False, {"a": "b"})):
            self.assertEqual(several, isList(given))
        self.assertEqual(["a", 5], [pathOf(one) for one in (Path("a"), 5)])
