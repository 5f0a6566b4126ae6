# -*- test-case-name: tests.testing.test_certificates -*-
"""
L{tlsproxy.testing.certificates}
"""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import NOW, authority, certificate, certify, clientTLS, pem, serverTLS, write


class AuthorityTests(SynchronousTestCase):
    """
    Certificates that are believed.
    """

    def test_issued(self) -> None:
        """
        A certificate is the authority's, good now, for a server and a client, and the same each time.
        """
        issued = certificate("alice", "alice.example", "192.0.2.1")
        (leaf,) = issued.chain
        leaf.verify_directly_issued_by(authority().certificate)
        self.assertTrue(leaf.not_valid_before_utc <= NOW < leaf.not_valid_after_utc)
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        self.assertEqual({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}, set(usages))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(["alice.example"], names.get_values_for_type(x509.DNSName))
        self.assertIs(issued, certificate("alice", "alice.example", "192.0.2.1"))

    def test_pem(self) -> None:
        """
        In PEM it has its key beside it.
        """
        issued = certificate("alice")
        written = pem(issued)
        self.assertEqual(list(issued.chain), x509.load_pem_x509_certificates(written))
        key = load_pem_private_key(written, None)
        self.assertEqual(issued.chain[0].public_key(), key.public_key())


class TLSTests(SynchronousTestCase):
    """
    The TLS of routes.
    """

    def test_server(self) -> None:
        """
        TLS toward clients is for a name, demands certificates where it is told to, and takes attributes of its policy.
        """
        self.assertEqual((), serverTLS("www.example").policy.clientCa)
        self.assertEqual("required", serverTLS(clients="required").policy.clientAuth)
        self.assertEqual(("h2",), serverTLS(alpn=("h2",)).policy.alpn)
        self.assertIs(serverTLS(), serverTLS())

    def test_client(self) -> None:
        """
        TLS toward an upstream demands its name.
        """
        self.assertEqual("old.example", clientTLS("old.example").name)
        self.assertIs(clientTLS(), clientTLS())


class CertifyTests(SynchronousTestCase):
    """
    Certificates with what a test wants in them.
    """

    def test_chain(self) -> None:
        """
        A certificate signs itself, or is signed by the one that is given.
        """
        top = certify("top")
        top.certificate.verify_directly_issued_by(top.certificate)
        certify("below", top).certificate.verify_directly_issued_by(top.certificate)

    def test_names(self) -> None:
        """
        It has the names that it is given; without a common name its subject is empty, and they are critical.
        """
        names = [x509.DNSName("a.example")]
        extension = certify("", names=names).certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        self.assertTrue(extension.critical)
        self.assertEqual(names, list(extension.value))
        self.assertFalse(certify("a", names=names).certificate.extensions[0].critical)

    def test_write(self) -> None:
        """
        It can be written to a file that its owner alone may read.
        """
        holder = certify("top")
        path = Path(write(self.mktemp(), holder.pem(), holder.keyPEM()))
        self.assertEqual(holder.pem() + holder.keyPEM(), path.read_bytes())
        self.assertEqual(0o600, stat.S_IMODE(path.stat().st_mode))
