"""
Tests for L{tlsproxy.tls.contexts}: several certificates, and what is known of them.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.tls.pairs import VERSIONS, PairCase, shake, take
from tlsproxy.errors import AdmissionRefused, ConfigurationError, HandshakeFailed
from tlsproxy.testing.certificates import NOW, certify, write
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.native import TLSStream
from tlsproxy.tls.policy import CertificateFiles, ServerPolicy


class SeveralTests(PairCase):
    """
    A server with several certificates.
    """

    def setUp(self) -> None:
        """
        Issue them.
        """
        super().setUp()
        self.shop, self.all = self.issued("shop.example"), self.issued("*.example")
        self.cert = (self.keep("shop", self.shop), self.keep("all", self.all))

    def several(self, **policy: object) -> ServerTLS:
        """
        Make the server's side.
        """
        tls = ServerTLS.load(ServerPolicy(**{"cert": self.cert, **policy}), now=NOW)  # type: ignore[arg-type]
        self.atTestTime(tls.context)
        return tls

    def shown(self, server: ServerTLS, name: str | None, client: ClientTLS | None = None) -> x509.Certificate | None:
        """
        Let a client connect that asks for a name, and tell what it is shown.
        """
        here, there = self.sockets()
        ends = server.connect(here, name), (client or self.client("shop.example", auth="none")).connect(there)
        for met in shake(*ends):
            if met.error is not None:
                raise met.error
        return ends[1].connection.get_peer_certificate(as_cryptography=True)

    def test_shown(self) -> None:
        """
        A client is shown the certificate of the name that it asks for, and the first if it asks for none, or for one
        that nobody knows.
        """
        server = self.several()
        for name, identity in (
            ("shop.example", self.shop),
            ("a.example", self.all),
            ("shop.example", self.shop),
            (None, self.shop),
            ("other.test", self.shop),
        ):
            self.assertEqual(identity.chain[0], self.shown(server, name), name)

    def test_refused(self) -> None:
        """
        A route can refuse the names that nobody knows instead; whoever asks for none is still shown the first.
        """
        server = self.several(unknownSni="refuse")
        self.assertRaises(AdmissionRefused, server.choose, "other.test")
        here, _ = self.sockets()
        error = self.assertRaises(AdmissionRefused, server.connect, here, "other.test")
        self.assertEqual("the client asks for other.test, and no certificate of the route is for that", str(error))
        self.assertEqual(self.shop.chain[0], self.shown(server, None))
        self.assertEqual(self.all.chain[0], self.shown(server, "a.example"))

    def test_alike(self) -> None:
        """
        Whatever the policy says holds for each of them: versions, application protocols, and client certificates.
        """
        for asked in ({}, {"clientCa": self.anchor}):
            for version, spoken in VERSIONS.items():
                server = self.several(
                    minVersion=version,
                    maxVersion=version,
                    alpn=("h2",),
                    groups="P-256",
                    ciphers="AES128+AESGCM",
                    **asked,
                )
                for name in ("shop.example", "a.example"):
                    here, there = self.sockets()
                    client = self.client("shop.example", self.all, auth="none", alpn=("x", "h2"))
                    ends = server.connect(here, name), client.connect(there)
                    self.assertEqual([None, None], [met.error for met in shake(*ends)])
                    connection = ends[0].connection
                    self.assertEqual(spoken, connection.get_protocol_version_name())
                    self.assertEqual(b"h2", connection.get_alpn_proto_negotiated())
                    self.assertEqual("secp256r1", connection.get_group_name())
                    if version == "1.2":
                        self.assertIn("AES128", connection.get_cipher_name() or "")
                    expected = self.all.chain[0] if asked else None
                    self.assertEqual(expected, connection.get_peer_certificate(as_cryptography=True))
                    announced = [one.commonName for one in ends[1].connection.get_client_ca_list()]
                    self.assertEqual(["Test CA"] if asked else [], announced)

    def test_otherProtocols(self) -> None:
        """
        A client that speaks none of the application protocols is refused, whichever certificate it is shown.
        """
        server = self.several(alpn=("h2",))
        for name in ("shop.example", "a.example"):
            here, there = self.sockets()
            client = self.client("shop.example", auth="none", alpn=("x",))
            met, _ = shake(server.connect(here, name), client.connect(there))
            self.assertIsInstance(met.error, AdmissionRefused)
            self.assertEqual((120, True), met.alert)

    def test_clientsRefused(self) -> None:
        """
        None of them lets a client in that has no certificate where one is demanded.
        """
        server = self.several(clientCa=self.anchor)
        for version in VERSIONS:
            for name in ("shop.example", "a.example"):
                here, there = self.sockets()
                client = self.client("shop.example", auth="none", maxVersion=version)
                met, _ = shake(server.connect(here, name), client.connect(there))
                self.assertIsNotNone(met.error)

    def test_resumed(self) -> None:
        """
        A client resumes its session for the same certificate, unless client certificates are asked for.
        """
        for policy, expected in (({}, True), ({"clientCa": self.anchor}, False)):
            server = self.several(**policy)
            for version in VERSIONS:
                for name in ("shop.example", "a.example"):
                    client = self.client("shop.example", self.all, auth="none", maxVersion=version)
                    # OpenSSL forgets the session of a connection that is gone and was not ended.
                    held: list[TLSStream] = []
                    for _ in range(2):
                        here, there = self.sockets()
                        ends = server.connect(here, name), client.connect(there)
                        if held:
                            session = held[1].connection.get_session()
                            assert session is not None
                            ends[1].connection.set_session(session)
                        self.assertEqual([None, None], [met.error for met in shake(*ends)])
                        self.assertEqual(b"", take(ends[1]))
                        held += ends
                    resumed = [held[0].resumed(), held[2].resumed()]
                    self.assertEqual([False, expected], resumed, (policy, version, name))

    def test_neverTheRoot(self) -> None:
        """
        The root is not sent, not even where it is at hand, as clients with certificates of its making are let in.
        """
        parts = [one.public_bytes(Encoding.PEM) for one in (*self.shop.chain, self.authority.certificate)]
        parts.append(self.shop.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file = write(str(self.folder / "whole.pem"), *parts)
        server = self.several(cert=(file, self.cert[1]), clientCa=self.anchor, clientAuth="optional")
        for name in ("shop.example", "a.example"):
            here, there = self.sockets()
            ends = server.connect(here, name), self.client("shop.example", auth="none").connect(there)
            self.assertEqual([None, None], [met.error for met in shake(*ends)])
            self.assertEqual(1, len(ends[1].connection.get_peer_cert_chain(as_cryptography=True) or ()))

    def test_known(self) -> None:
        """
        What is presented can be asked for its names, its dates, its key and its files.
        """
        server = self.several(clientCa=self.anchor)
        names = [identity.names for identity in server.identities]
        self.assertEqual([("shop.example",), ("*.example",)], names)
        first = server.identities[0]
        self.assertEqual(self.shop.chain[0].not_valid_after_utc, first.notAfter)
        self.assertEqual("EC P-256", first.keyType)
        self.assertEqual((self.cert[0].chain,), first.files)
        self.assertEqual((self.cert[0].chain, self.cert[1].chain, self.anchor), server.files)

    def test_directory(self) -> None:
        """
        Of a directory the directory is a file that was read, too.
        """
        folder = self.folder / "several"
        folder.mkdir()
        for one in self.cert:
            Path(one.chain).rename(folder / Path(one.chain).name)
        server = self.several(cert=str(folder))
        self.assertEqual(self.all.chain[0], server.identities[0].chain[0])
        self.assertEqual((str(folder), f"{folder}/all.pem", f"{folder}/shop.pem"), server.files)

    def test_problems(self) -> None:
        """
        What is wrong with each is told with its place.
        """
        cert = (CertificateFiles("nope.pem"), self.cert[0], CertificateFiles("no.pem"))
        error = self.assertRaises(ConfigurationError, self.several, cert=cert)
        self.assertEqual(["tls.cert[0]", "tls.cert[2]"], [problem.key for problem in error.problems])

    def test_tooWeak(self) -> None:
        """
        What OpenSSL does not take under the policy's own terms is told when it is loaded.
        """
        error = self.assertRaises(ConfigurationError, self.several, ciphers="ECDHE+AESGCM:@SECLEVEL=4")
        [problem] = error.problems
        self.assertEqual("tls.cert", problem.key)
        self.assertIn("shop.pem cannot be used, as OpenSSL says: ee key too small", problem.sentence)

    def test_laterTrouble(self) -> None:
        """
        Should OpenSSL think otherwise when a context is made, the handshake fails with a sentence.
        """
        server = self.several()
        choice = server.choose("a.example")
        wrong = Identity(self.all.chain, self.shop.key, (), ("all.pem",))
        object.__setattr__(choice, "identities", (wrong,))
        here, _ = self.sockets()
        error = self.assertRaises(HandshakeFailed, server.connect, here, "a.example")
        self.assertIn("all.pem cannot be used, as OpenSSL says: key values mismatch", str(error))


class UpstreamTests(PairCase):
    """
    The certificates of a client's side.
    """

    def test_known(self) -> None:
        """
        It is known with its files, as the CAs are with theirs.
        """
        identity = self.issued("client.example")
        tls = self.client(identity=identity, ca=("system", self.anchor))
        self.assertEqual([("client.example",)], [one.names for one in tls.identities])
        self.assertEqual((str(self.folder / "client.pem"), self.anchor), tls.files)
        self.assertEqual((), self.client().identities)

    def test_pkcs12(self) -> None:
        """
        It may be a PKCS#12 file, and the only one of a directory.
        """
        store = write(str(self.folder / "client.p12"), certify("client.example").pkcs12())
        tls = self.client(cert=store)
        self.assertEqual([(store,)], [one.files for one in tls.identities])
        os.mkdir(folder := str(self.folder / "mine"))
        store = write(f"{folder}/client.p12", certify("client.example").pkcs12())
        tls = self.client(cert=folder)
        self.assertEqual(([(store,)], (folder, store, self.anchor)), ([one.files for one in tls.identities], tls.files))
