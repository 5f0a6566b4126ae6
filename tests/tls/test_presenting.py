"""
Tests for L{tlsproxy.tls.presenting}.
"""

from __future__ import annotations

import os
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import SSL

from tests.tls.pairs import VERSIONS, PairCase, shake
from tlsproxy.testing.certificates import Holder, certify, write
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.explain import explainHandshake
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.native import TLSStream
from tlsproxy.tls.presenting import present, tryPresenting

ROOT = certify("Root")
NAMES = (x509.DNSName("shop.example"),)


def identity(key: Any, *issuers: Holder) -> Identity:
    """
    Make an identity whose chain consists of its certificate and these issuers.
    """
    holder = certify("shop.example", (*issuers, ROOT)[0], key=key, names=NAMES)
    return Identity((holder.certificate, *(each.certificate for each in issuers)), key, (), ("shop.pem",))


RSA = identity(rsa.generate_private_key(65537, 2048), certify("RSA CA", ROOT))
EC = identity(ec.generate_private_key(ec.SECP256R1()), certify("EC CA", certify("EC Root CA", ROOT)))
ED25519 = identity(ed25519.Ed25519PrivateKey.generate())

CIPHERS = {"RSA": "ECDHE-RSA-AES128-GCM-SHA256", "EC": "ECDHE-ECDSA-AES128-GCM-SHA256"}


class PresentTests(PairCase):
    """
    Tests for L{present}.
    """

    def context(self, *identities: Identity) -> SSL.Context:
        """
        Make a context that presents these.
        """
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        present(context, identities)
        return context

    def sent(self, context: SSL.Context, kind: str) -> tuple[x509.Certificate, ...]:
        """
        Let a client connect that knows one kind of keys, and tell what it is sent.
        """
        here, there = self.sockets()
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.set_max_proto_version(SSL.TLS1_2_VERSION)
        client.set_cipher_list(CIPHERS[kind].encode())
        ends = TLSStream(context, here, server=True), TLSStream(client, there, server=False)
        self.assertEqual([None, None], [each.error for each in shake(*ends)])
        return tuple(ends[1].connection.get_peer_cert_chain(as_cryptography=True) or ())

    def test_one(self) -> None:
        """
        One identity is sent with its chain.
        """
        self.assertEqual(RSA.chain, self.sent(self.context(RSA), "RSA"))
        self.assertEqual(EC.chain, self.sent(self.context(EC), "EC"))
        self.assertEqual(ED25519.chain, self.sent(self.context(ED25519), "EC"))

    def test_several(self) -> None:
        """
        Of several, each is sent with its own chain, and to whom it is meant for.
        """
        for context in (self.context(RSA, EC), self.context(EC, RSA), self.context(RSA, EC, ED25519)):
            self.assertEqual(RSA.chain, self.sent(context, "RSA"))
            self.assertEqual(EC.chain, self.sent(context, "EC"))

    def test_sameIssuer(self) -> None:
        """
        So it is where they have the same issuer, or none.
        """
        issuer = certify("CA", ROOT)
        for issuers in ((issuer,), ()):
            one, other = identity(RSA.key, *issuers), identity(EC.key, *issuers)
            context = self.context(one, other)
            self.assertEqual(one.chain, self.sent(context, "RSA"))
            self.assertEqual(other.chain, self.sent(context, "EC"))

    def test_withoutMemoryFiles(self) -> None:
        """
        Where a system has no files in memory, temporary ones do.
        """
        self.patch(os, "memfd_create", None)
        del os.memfd_create
        context = self.context(RSA, EC)
        self.assertEqual(RSA.chain, self.sent(context, "RSA"))
        self.assertEqual(EC.chain, self.sent(context, "EC"))

    def test_noMoreFiles(self) -> None:
        """
        Where there can be no file, as for want of descriptors, that is told in a sentence.
        """

        def refuse(*arguments: object) -> int:
            raise OSError(24, "Too many open files")

        self.patch(os, "memfd_create", refuse)
        sentence = str(self.assertRaises(CertificateProblem, self.context, RSA, EC))
        self.assertIn("shop.pem cannot be used now, for want of a file: ", sentence)
        self.context(RSA)

    def test_descriptors(self) -> None:
        """
        No descriptor is left open.
        """
        before = os.listdir("/proc/self/fd")
        self.context(RSA, EC)
        self.assertEqual(len(before), len(os.listdir("/proc/self/fd")))


class RefusedTests(PairCase):
    """
    What OpenSSL does not take.
    """

    def test_strict(self) -> None:
        """
        A certificate that is too weak for the policy is named, whether it is presented or only tried.
        """
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=4")
        sentence = str(self.assertRaises(CertificateProblem, present, context, [RSA]))
        self.assertEqual(
            "shop.pem cannot be used, as OpenSSL says: ee key too small: give another than "
            "CN=shop.example, issued by CN=RSA CA, until 2027-02-28",
            sentence,
        )
        self.assertEqual([sentence], [str(each) for each in tryPresenting(context, [RSA, RSA])])

    def test_weakIssuer(self) -> None:
        """
        So is a chain that OpenSSL would not send: each handshake would fail.  Nothing is wrong with the others that are
        of the same kind but for that.
        """
        weak = certify("Weak CA", ROOT, key=rsa.generate_private_key(65537, 1024))
        strong = identity(EC.key, certify("CA", ROOT, key=rsa.generate_private_key(65537, 2048)))
        [problem] = tryPresenting(SSL.Context(SSL.TLS_SERVER_METHOD), [strong, identity(EC.key, weak), strong])
        self.assertEqual(
            "shop.pem cannot be used, as OpenSSL says: ca key too small: give another than its chain, behind "
            "CN=shop.example, issued by CN=Weak CA, until 2027-02-28",
            str(problem),
        )

    def test_otherKey(self) -> None:
        """
        So is a certificate with another one's key.
        """
        wrong = Identity(EC.chain, ec.generate_private_key(ec.SECP256R1()), (), ("shop.pem",))
        [problem] = tryPresenting(SSL.Context(SSL.TLS_SERVER_METHOD), [wrong])
        self.assertIn("shop.pem cannot be used, as OpenSSL says: key values mismatch", str(problem))

    def test_good(self) -> None:
        """
        Of what OpenSSL takes there is nothing to say.
        """
        self.assertEqual([], list(tryPresenting(SSL.Context(SSL.TLS_SERVER_METHOD), [RSA, EC, ED25519, RSA])))


class ChoiceTests(PairCase):
    """
    A client with several certificates.
    """

    def setUp(self) -> None:
        """
        Issue them: C{a} and C{c} by roots, C{b} by an authority below the root of C{c}.
        """
        super().setUp()
        self.root = certify("Root of b")
        self.issuers = {"a": certify("CA of a"), "b": certify("CA of b", self.root), "c": self.root}
        self.mine = str(self.folder / "mine")
        os.mkdir(self.mine)
        for name, issuer in self.issuers.items():
            held = certify(f"{name}.example", issuer, names=[x509.DNSName(f"{name}.example")])
            chain = [held.pem(), issuer.pem()] if name == "b" else [held.pem()]
            write(f"{self.mine}/{name}.pem", *chain, held.keyPEM())

    def shown(self, version: str, *announced: Holder) -> str:
        """
        Shake hands with a server that wants a certificate.

        @param announced: The authorities that it names.
        @return: Whom it was shown, and how many more certificates; or why the handshake failed.
        """
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        present(context, (EC,))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *found: True)
        for one in announced:
            context.add_client_ca(one.certificate)
        tls = self.client("shop.example", auth="none", cert=self.mine, minVersion=version, maxVersion=version)
        here, there = self.sockets()
        server, client = TLSStream(context, here, True), tls.connect(there)
        _, met = shake(server, client, lambda stream, error: explainHandshake(stream, error, "the upstream"))
        if met.error is not None:
            return str(met.told)
        shown = server.connection.get_peer_certificate(as_cryptography=True)
        behind = server.connection.get_peer_cert_chain(as_cryptography=True) or []
        assert shown is not None and shown == client.connection.get_certificate(as_cryptography=True)
        return f"{shown.subject.rfc4514_string()} and {len(behind)}"

    def test_announced(self) -> None:
        """
        A server gets the first whose chain leads to an authority that it names, with all of its chain; and the first of
        all where it names none.
        """
        a, b, root = self.issuers["a"], self.issuers["b"], self.root
        for version in VERSIONS:
            for announced, expected in (
                ((), "CN=a.example and 0"),
                ((a, root), "CN=a.example and 0"),
                ((b,), "CN=b.example and 1"),
                ((root,), "CN=b.example and 1"),
                ((certify("Another CA"), root), "CN=b.example and 1"),
            ):
                self.assertEqual(expected, self.shown(version, *announced))

    def test_none(self) -> None:
        """
        Where none fits, none is shown: the handshake fails, and it is said why.
        """
        for version in VERSIONS:
            told = self.shown(version, certify("Another CA"))
            self.assertTrue(
                told.startswith("TLS with the upstream failed: it accepts certificates of 1 CAs, and"), told
            )
            self.assertIn("none of ours, which are of CN=CA of a, CN=Root of b", told)
