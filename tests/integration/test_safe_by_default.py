# -*- test-case-name: tests.integration.test_safe_by_default -*-
"""
What nobody has configured is safe.
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL, crypto

from tests.integration.running import Certificates, Child, IntegrationTestCase, freePort, waitUntil
from tests.integration.talking import Listener, Server, clientContext, connect, echo, serverContext
from tests.peers import requirePeer
from tlsproxy.testing.certificates import certify, write


class NearTests(IntegrationTestCase):
    """
    TLS toward clients.
    """

    def assertRefused(self, reason: str, *options: str) -> None:
        """
        Expect C{openssl s_client} not to be served.
        """
        upstream = Listener(self)
        proxy = self.proxy(self.offload(upstream.port))
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port('offload')}", *options]
        self.assertNotEqual(0, self.run_(command, status=None).returncode)
        line = proxy.session()
        self.assertIn(line["outcome"], ("failed", "refused"))
        self.assertIn(reason, line["reason"])
        self.assertFalse(upstream.waiting())

    def test_oldVersion(self) -> None:
        """
        TLS 1.1 is refused.
        """
        self.assertRefused("TLS version", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")

    def test_noAEAD(self) -> None:
        """
        A cipher suite with CBC is refused.
        """
        self.assertRefused("no cipher suite is shared", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")

    def test_noForwardSecrecy(self) -> None:
        """
        A cipher suite without forward secrecy is refused.
        """
        self.assertRefused("no cipher suite is shared", "-tls1_2", "-cipher", "AES128-GCM-SHA256")

    def test_postQuantum(self) -> None:
        """
        The hybrid group is negotiated with a peer that can, on both sides.
        """
        upstream = Listener(self)
        proxy = self.proxy(self.bridge(upstream.port))
        client = connect(self, proxy.port("bridge"), clientContext(self.certificates.ca))
        server = upstream.accept(serverContext(self.pem))
        assert client.tls is not None and server.tls is not None
        self.assertEqual("X25519MLKEM768", client.tls.get_group_name())
        self.assertEqual("X25519MLKEM768", server.tls.get_group_name())

    def _resumes(self, port: int, version: ssl.TLSVersion) -> bool:
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        context.load_cert_chain(self.pem)
        context.minimum_version = context.maximum_version = version
        session = None
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                with context.wrap_socket(sock, server_hostname="localhost", session=session) as client:
                    client.sendall(b"word")
                    self.assertEqual(b"word", client.recv(4))
                    session = client.session
                    resumed = client.session_reused
        return bool(resumed)

    def test_noResumption(self) -> None:
        """
        Routes that ask for client certificates do not resume sessions; others do.
        """
        server = Server(self, echo)
        ca = str(self.certificates.ca)
        proxy = self.proxy(
            self.offload(server.port, name="open"),
            self.offload(server.port, name="required", tls={"client_ca": ca}),
            self.offload(server.port, name="optional", tls={"client_ca": ca, "client_auth": "optional"}),
        )
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.assertTrue(self._resumes(proxy.port("open"), version))
            self.assertFalse(self._resumes(proxy.port("required"), version))
            self.assertFalse(self._resumes(proxy.port("optional"), version))


class FarTests(IntegrationTestCase):
    """
    TLS toward upstreams.
    """

    def assertRefused(self, context: SSL.Context, reason: str) -> None:
        """
        Expect an upstream not to be believed, and to get nothing of what the client sent.
        """
        server = Server(self, lambda talker: talker.readAll(), context)
        proxy = self.proxy(self.encrypt(server.port), self.bridge(server.port))
        for number, mode in enumerate(("encrypt", "bridge")):
            near = clientContext(self.certificates.ca) if mode == "bridge" else None
            client = connect(self, proxy.port(mode), near)
            client.send(b"sesame")
            self.assertEqual(b"", client.readAll())
            self.assertNotEqual("", client.how)
            line = proxy.session(number)
            self.assertEqual(("failed", "upstream_handshake"), (line["outcome"], line["phase"]))
            self.assertEqual(reason, line["reason"])
        self.assertNotIn(b"sesame", server.seen)

    def test_wrongName(self) -> None:
        """
        A certificate for another name is refused, and the sentence says for which it is.
        """
        other = self.certificates.issue("other", ["other.example", "another.example"])
        self.assertRefused(
            serverContext(other),
            "the upstream's certificate is refused: it is not for localhost; "
            "it is for other.example, another.example (alert bad_certificate sent); "
            "if that is the right server, say its name in name of upstream_tls",
        )

    def test_expired(self) -> None:
        """
        An expired certificate is refused.
        """
        old = self.certificates.issue("old", age=timedelta(days=60))
        self.assertRefused(
            serverContext(old),
            "the upstream's certificate is refused: certificate has expired (alert certificate_expired sent); "
            "whoever runs the upstream has to renew it",
        )

    def test_selfSigned(self) -> None:
        """
        A self-signed certificate is refused.
        """
        now = datetime.now(UTC)
        holder = certify(
            "localhost", names=[x509.DNSName("localhost")], begins=now - timedelta(1), ends=now + timedelta(30)
        )
        file = write(str(self.folder / "self.pem"), holder.pem(), holder.keyPEM())
        self.assertRefused(
            serverContext(Path(file)),
            "the upstream's certificate is refused: self-signed certificate (alert unknown_ca sent); "
            "add it to ca of upstream_tls if it may be trusted",
        )

    def test_unknownAuthority(self) -> None:
        """
        A certificate of an authority that nobody named is refused.
        """
        strange = Certificates(self.folder, "stranger").issue("strange")
        self.assertRefused(
            serverContext(strange),
            "the upstream's certificate is refused: unable to get local issuer certificate (alert unknown_ca sent); "
            "it has to come from a CA in ca of upstream_tls, and the upstream has to send all of the chain below that",
        )

    def test_noAEAD(self) -> None:
        """
        An upstream that only has cipher suites with CBC is refused.
        """
        context = serverContext(self.pem, "1.2")
        context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA256")
        self.assertRefused(
            context,
            "the upstream broke TLS off (alert handshake_failure received): "
            "it shares no TLS version, cipher suite or group with us, or it wants a certificate; "
            "compare its settings with ciphers, groups and min_version of upstream_tls, "
            "and give that a cert if it wants one",
        )

    def test_oldVersion(self) -> None:
        """
        An upstream that only speaks TLS 1.1 is refused.
        """
        port = freePort()
        command = [requirePeer("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(self.pem)]
        Child(self, self.folder, "old", [*command, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-quiet"])

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        waitUntil(listens, "openssl s_server")
        proxy = self.proxy(self.encrypt(port))
        client = connect(self, proxy.port("encrypt"))
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))
        line = proxy.session()
        self.assertEqual(("failed", "upstream_handshake"), (line["outcome"], line["phase"]))
        self.assertIn("it speaks none of our TLS versions", line["reason"])

    def test_clientCertificateStays(self) -> None:
        """
        Our client certificate is shown to an upstream of the right name, and not to one of another.
        """
        mine = self.certificates.issue("mine", commonName="the proxy")
        wrong = self.certificates.issue("wrong", ["other.example"])
        upstream = Listener(self)
        tls = {"cert": str(mine)}
        proxy = self.proxy(self.encrypt(upstream.port, upstream_tls=tls))
        for version in ("1.2", "1.3"):
            for pem, shown in ((self.pem, ["test ca", "the proxy"]), (wrong, [])):
                context = serverContext(pem, version, ca=self.certificates.ca)
                seen: list[str | None] = []

                def note(
                    _: SSL.Connection,
                    certificate: crypto.X509,
                    number: int,
                    depth: int,
                    good: int,
                    seen: list[str | None] = seen,
                ) -> bool:
                    seen.append(certificate.get_subject().CN)
                    return bool(good)

                context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, note)
                connect(self, proxy.port("encrypt"))
                try:
                    upstream.accept(context)
                except SSL.Error:
                    pass
                self.assertEqual(shown, seen, version)
