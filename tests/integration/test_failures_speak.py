# -*- test-case-name: tests.integration.test_failures_speak -*-
"""
A handshake that fails is told in one sentence: whose side it is, why, and what to change.

The peers are curl and openssl, which know nothing of us.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.integration.running import Certificates, Child, IntegrationTestCase, Proxy, freePort, waitUntil
from tests.integration.talking import Server, Talker
from tests.peers import requirePeer
from tlsproxy.testing.certificates import certify, write


class FailureCase(IntegrationTestCase):
    """
    A test with authorities: ours, and a stranger's.
    """

    guard = 120.0

    def setUp(self) -> None:
        """
        Issue the certificates.
        """
        super().setUp()
        self.stranger = Certificates(self.folder, "stranger")
        self.strange = self.stranger.issue("strange")
        self.old = self.certificates.issue("old", age=timedelta(days=60))
        now = datetime.now(UTC)
        names = [x509.DNSName("localhost")]
        holder = certify("localhost", names=names, begins=now - timedelta(1), ends=now + timedelta(30))
        self.selfSigned = Path(write(str(self.folder / "self.pem"), holder.pem(), holder.keyPEM()))

    def assertReason(self, proxy: Proxy, number: int, reason: str) -> None:
        """
        Expect a session to end with a sentence.
        """
        self.assertEqual(reason, proxy.session(number)["reason"])


class NearTests(FailureCase):
    """
    Clients.
    """

    def setUp(self) -> None:
        """
        Serve in several ways.
        """
        super().setUp()
        self.upstream = Server(self, Talker.readAll)
        ca = str(self.certificates.ca)
        self.through = self.proxy(
            self.offload(self.upstream.port, name="good", tls={"alpn": ["h2"]}),
            self.offload(self.upstream.port, name="old", tls={"cert": str(self.old)}),
            self.offload(self.upstream.port, name="new", tls={"min_version": "1.3"}),
            self.offload(self.upstream.port, name="asks", tls={"client_ca": ca}),
            self.passthrough(self.upstream.port, name="sorts", rule=[{"sni": "blog.example", "refuse": "alert"}]),
        )
        self.number = 0

    def told(self, reason: str) -> None:
        """
        Expect the next session to end with a sentence.
        """
        self.assertReason(self.through, self.number, reason)
        self.number += 1

    def curl(self, route: str, *words: str, scheme: str = "https", ca: str = "ca") -> None:
        """
        Let curl fail.
        """
        url = f"{scheme}://localhost:{self.through.port(route)}/"
        trust = ["--cacert", str(self.folder / f"{ca}.pem")]
        command = ["curl", "--silent", "--noproxy", "*", "--max-time", "15", *trust, *words, url]
        self.run_(command, status=None)

    def openssl(self, route: str, *words: str) -> None:
        """
        Let openssl fail.
        """
        where = ["-connect", f"127.0.0.1:{self.through.port(route)}", "-servername", "localhost"]
        trust = ["-CAfile", str(self.certificates.ca), "-verify_return_error"]
        self.run_(["openssl", "s_client", *where, *trust, *words], status=None)

    def test_ourCertificate(self) -> None:
        """
        The certificate that we show: from a CA that the client does not know, expired, or for another name.
        """
        self.curl("good", "--no-alpn", ca="stranger")
        self.told(
            "the client broke TLS off (alert unknown_ca received): it does not know the CA that issued our "
            "certificate; have it trust that CA and show the whole chain, or show a certificate of a CA that it trusts"
        )
        self.curl("old")
        self.told(
            "the client broke TLS off (alert certificate_expired received): it finds our certificate expired; "
            "renew it, or set the client's clock right"
        )
        self.openssl("new", "-verify_hostname", "other.example")
        self.told(
            "the client broke TLS off (alert bad_certificate received): it finds our certificate bad, or not for the "
            "name it wants; show one for the name that it asks for"
        )

    def test_theirCertificate(self) -> None:
        """
        The certificate that the client shows: none, from another CA, or expired.
        """
        self.curl("asks")
        self.told(
            "the client showed no certificate, and one is demanded (alert certificate_required sent); "
            "give it one of a CA in client_ca, or, where the mode can, let it in without by "
            "client_auth = 'optional'"
        )
        self.curl("asks", "--cert", str(self.strange))
        self.told(
            "the client's certificate is refused: unable to get local issuer certificate (alert unknown_ca sent); "
            "it has to come from a CA in client_ca, and the client has to send all of the chain below that"
        )
        self.curl("asks", "--cert", str(self.old))
        self.told(
            "the client's certificate is refused: certificate has expired (alert certificate_expired sent); "
            "the client has to renew it"
        )

    def test_nothingShared(self) -> None:
        """
        No version, cipher suite, group or application protocol that both have.
        """
        self.openssl("new", "-tls1_2")
        self.told(
            "TLS with the client failed: no TLS version is shared (alert protocol_version sent); "
            "it has to speak one from min_version to max_version of tls"
        )
        self.openssl("old", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")
        self.told(
            "TLS with the client failed: no cipher suite is shared (alert handshake_failure sent); "
            "ciphers and ciphersuites of tls say which we take, and with TLS 1.2 it has to fit the kind of our key"
        )
        self.openssl("new", "-groups", "P-521")
        self.told(
            "TLS with the client failed: no key exchange group is shared (alert handshake_failure sent); "
            "groups of tls says which we take"
        )
        self.openssl("good", "-alpn", "http/1.1,x")
        self.told(
            "the client offers only the application protocols 'http/1.1', 'x', none of the route's; "
            "add one to alpn of tls, or have it offer another"
        )

    def test_noTLS(self) -> None:
        """
        Plain HTTP to a port that speaks TLS, and something else.
        """
        self.curl("good", scheme="http")
        self.told("the client speaks plain HTTP, not TLS; have it ask for https://")
        self.curl("good", scheme="gopher")
        self.told("the client does not speak TLS")

    def test_serverName(self) -> None:
        """
        A server name that a rule refuses.
        """
        where = f"blog.example:1:127.0.0.1:{self.through.port('sorts')}"
        self.run_(["curl", "--silent", "--noproxy", "*", "--connect-to", where, "https://blog.example:1"], status=None)
        self.through.session()
        refused = [line["reason"] for line in self.through.sessions() if line["sni"] == "blog.example"]
        self.assertEqual(["the client asks for blog.example, and rule 1 of the route refuses that"], refused)


class FarTests(FailureCase):
    """
    Upstreams.
    """

    def server(self, certificate: Path, *words: str) -> int:
        """
        Start C{openssl s_server}.
        """
        port = freePort()
        cert = ["-cert", str(certificate), "-key", str(certificate), "-cert_chain", str(certificate)]
        command = [requirePeer("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", *cert, "-quiet", *words]
        Child(self, self.folder, f"server{port}", command)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        waitUntil(listens, "openssl s_server")
        return port

    def told(self, reason: str, port: int, **more: Mapping[str, Any]) -> None:
        """
        Expect the upstream's failure to be told in a sentence.
        """
        proxy = self.proxy(self.encrypt(port, **more))
        with socket.create_connection(("127.0.0.1", proxy.port("encrypt"))) as client:
            client.settimeout(20)
            try:
                while client.recv(1000):
                    pass
            except ConnectionResetError:
                pass
        self.assertReason(proxy, 0, reason)
        proxy.end()

    def test_certificates(self) -> None:
        """
        The upstream's certificate: for another name, self-signed, from an unknown CA, or expired.
        """
        refused = "the upstream's certificate is refused: "
        good = self.server(self.pem)
        self.told(
            f"{refused}it is not for shop.example; it is for localhost, 127.0.0.1 (alert bad_certificate sent); "
            "if that is the right server, say its name in name of upstream_tls",
            good,
            upstream_tls={"name": "shop.example"},
        )
        self.told(
            f"{refused}unable to get local issuer certificate (alert unknown_ca sent); it has to come from a CA in ca "
            "of upstream_tls, and the upstream has to send all of the chain below that",
            good,
            upstream_tls={"ca": str(self.stranger.ca)},
        )
        self.told(
            f"{refused}self-signed certificate (alert unknown_ca sent); "
            "add it to ca of upstream_tls if it may be trusted",
            self.server(self.selfSigned),
        )
        self.told(
            f"{refused}certificate has expired (alert certificate_expired sent); "
            "whoever runs the upstream has to renew it",
            self.server(self.old),
        )

    def test_ourCertificate(self) -> None:
        """
        An upstream that demands a certificate, and gets none, or one of a CA that it does not know.
        """
        asks = self.server(self.pem, "-Verify", "1", "-CAfile", str(self.certificates.ca), "-verify_return_error")
        self.told(
            "the upstream broke TLS off (alert certificate_required received): it demands a certificate and was shown "
            "none; give upstream_tls a cert",
            asks,
        )
        self.told(
            "the upstream broke TLS off (alert unknown_ca received): it does not know the CA that issued our "
            "certificate; have it trust that CA, or give upstream_tls a cert of a CA that it trusts",
            asks,
            upstream_tls={"cert": str(self.strange)},
        )

    def test_nothingShared(self) -> None:
        """
        No version, group or application protocol that both have.
        """
        self.told(
            "the upstream broke TLS off (alert protocol_version received): it speaks none of our TLS versions; "
            "min_version and max_version of upstream_tls say which",
            self.server(self.pem, "-tls1_2"),
            upstream_tls={"min_version": "1.3"},
        )
        self.told(
            "the upstream broke TLS off (alert handshake_failure received): it shares no TLS version, cipher suite or "
            "group with us, or it wants a certificate; compare its settings with ciphers, groups and min_version of "
            "upstream_tls, and give that a cert if it wants one",
            self.server(self.pem, "-groups", "P-521"),
        )
        self.told(
            "the upstream broke TLS off (alert no_application_protocol received): it speaks none of the application "
            "protocols offered; offer one that it speaks, by alpn of upstream_tls, or of tls in mode bridge",
            self.server(self.pem, "-alpn", "h2"),
            upstream_tls={"alpn": ["http/1.1"]},
        )

    def test_serverName(self) -> None:
        """
        A server name that the upstream does not have.
        """
        fatal = ["-servername", "x.example", "-servername_fatal", "-cert2", str(self.pem), "-key2", str(self.pem)]
        self.told(
            "the upstream broke TLS off (alert unrecognized_name received): it does not know the server name asked "
            "for; say in name of upstream_tls what it is known by",
            self.server(self.pem, *fatal),
        )

    def test_noTLS(self) -> None:
        """
        An upstream that speaks plain HTTP where TLS is due.
        """
        web = self.nginx(f"server {{ listen 127.0.0.1:{(port := freePort())}; }}")
        self.told(
            "the upstream does not speak TLS; see whether that is the right port; an upstream without TLS is for mode "
            "offload",
            port,
        )
        web.end()
