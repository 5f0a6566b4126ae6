# -*- test-case-name: tests.integration.test_errors_speak -*-
"""
The log tells people what happened, in one line a session, and nothing that is not theirs to know.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from tests.integration.namespace import NamespaceTestCase
from tests.integration.running import Certificates, IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Listener, Server, Talker, clientContext, connect, echo, serverContext
from tlsproxy.testing.certificates import Holder, certify, write


class LineTests(IntegrationTestCase):
    """
    What the line of a session says.
    """

    def assertTells(self, line: dict[str, str], **expected: str) -> None:
        """
        Expect some of a line's words.
        """
        self.assertEqual(expected, {key: line[key] for key in expected})

    def test_everything(self) -> None:
        """
        Route, client, SNI, TLS and cipher on each side, upstream, bytes each way, seconds and outcome.
        """
        server = Server(self, echo, serverContext(self.pem, "1.2", alpn=[b"h2"]))
        proxy = self.proxy(self.bridge(server.port, name="shop", tls={"alpn": ["h2"]}))
        client = connect(self, proxy.port("shop"), clientContext(self.certificates.ca, "1.3", alpn=[b"h2"]))
        host, port = client.socket.getsockname()
        client.send(b"word")
        self.assertEqual(b"word", client.read(4))
        client.endWrite()
        client.readAll()
        line = proxy.session()
        self.assertTells(
            line,
            route="shop",
            client=f"{host}:{port}",
            sni="localhost",
            tls="TLSv1.3/TLS_AES_256_GCM_SHA384/h2",
            upstream=f"127.0.0.1:{server.port}",
            upstreamTLS="TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/h2",
            received="4",
            sent="4",
            outcome="closed",
            reason="",
        )
        self.assertGreaterEqual(float(line["seconds"]), 0)

    def test_oneLineASession(self) -> None:
        """
        Each session has one line, whatever became of it.
        """
        server = Server(self, echo)
        proxy = self.proxy(self.offload(server.port))
        for number in range(12):
            if number % 3:
                client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
                client.endWrite() if number % 3 == 1 else client.reset()
            else:
                client = connect(self, proxy.port("offload"))
                client.send(b"garbage\r\n")
        proxy.session(11)
        self.assertEqual(12, len(re.findall(r"client=", proxy.text())))
        self.assertEqual(12, len(proxy.sessions()))

    def test_refusedCertificate(self) -> None:
        """
        A failed handshake names the peer, its SNI, the alert and its direction.
        """
        stranger = Certificates(self.folder, "stranger")
        proxy = self.proxy(self.offload(Listener(self).port))
        self.assertRaises(SSL.Error, connect, self, proxy.port("offload"), clientContext(stranger.ca))
        self.assertTells(
            proxy.session(),
            sni="localhost",
            outcome="failed",
            phase="handshake",
            reason="the client broke TLS off (alert unknown_ca received): "
            "it does not know the CA that issued our certificate; "
            "have it trust that CA and show the whole chain, or show a certificate of a CA that it trusts",
        )

    def far(self, mode: str, upstream: int) -> tuple[Proxy, Talker]:
        """
        Open a session to a faulty upstream.
        """
        route: dict[str, Any] = getattr(self, mode)(upstream)
        proxy = self.proxy(route)
        near = None if mode == "encrypt" else clientContext(self.certificates.ca)
        client = connect(self, proxy.port(mode), near)
        client.readAll()
        return proxy, client

    def test_upstreamRefuses(self) -> None:
        """
        An upstream where nobody listens.
        """
        port = freePort()
        proxy, client = self.far("offload", port)
        reason = f"the upstream 127.0.0.1:{port} refuses connections"
        self.assertTells(proxy.session(), outcome="failed", phase="dial", reason=reason)
        self.assertNotEqual("ended", client.how)

    def test_upstreamResets(self) -> None:
        """
        An upstream that resets in the middle of the handshake.
        """

        def reset(talker: Talker) -> None:
            talker.recv()
            talker.reset()

        proxy, client = self.far("encrypt", Server(self, reset).port)
        reason = "the upstream reset the connection in the middle of the TLS handshake"
        self.assertTells(proxy.session(), outcome="reset", phase="upstream_handshake", reason=reason)
        self.assertEqual("reset", client.how)

    def test_upstreamResetsAtOnce(self) -> None:
        """
        An upstream that resets right after it has accepted, which may be before or after the proxy knows that it has.
        """
        proxy, client = self.far("encrypt", Server(self, Talker.reset).port)
        line = proxy.session()
        self.assertIn(line["phase"], ("dial", "upstream_handshake"))
        self.assertRegex(line["reason"], "[Rr]eset")
        self.assertEqual("reset", client.how)

    def test_upstreamLeaves(self) -> None:
        """
        An upstream that closes in the middle of the handshake.
        """
        proxy, _ = self.far("bridge", Server(self, lambda talker: talker.recv()).port)
        line = proxy.session()
        self.assertTells(line, outcome="ended", phase="upstream_handshake")
        self.assertIn("the upstream closed the connection in the middle of the TLS handshake", line["reason"])

    def test_upstreamSpeaksPlain(self) -> None:
        """
        An upstream that speaks something else where TLS is due.
        """
        for number, greeting in enumerate((b"220 mail.example ESMTP\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n")):

            def greet(talker: Talker, greeting: bytes = greeting) -> bytes:
                talker.send(greeting)
                return talker.readAll()

            proxy, client = self.far("encrypt" if number else "bridge", Server(self, greet).port)
            line = proxy.session()
            self.assertTells(line, outcome="failed", phase="upstream_handshake")
            self.assertRegex(line["reason"], "^the upstream does not speak TLS")
            self.assertNotEqual("ended", client.how)

    def test_brokenRecord(self) -> None:
        """
        A record that does not verify, in the middle of a session, ends it with the alert for that.
        """
        upstream = Listener(self)
        proxy = self.proxy(self.offload(upstream.port))
        client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
        server = upstream.accept()
        client.socket.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        self.assertEqual((b"", "reset"), (server.readAll(), server.how))
        self.assertRaises(SSL.Error, client.readAll)
        line = proxy.session()
        self.assertTells(line, outcome="failed")
        self.assertIn("(alert bad_record_mac sent)", line["reason"])


class UnresolvedTests(NamespaceTestCase):
    """
    Names, where there is nobody to ask.
    """

    def test_noSuchName(self) -> None:
        """
        A name that does not resolve is an error of the session, not of the start.
        """
        config = self.folder / "config.toml"
        config.write_text(
            f'[[route]]\nname = "away"\nmode = "offload"\nlisten = "127.0.0.1:8443"\nupstream = "away.invalid:80"\n'
            f'tls.cert = "{self.pem}"\n'
        )
        proxy = Proxy(self, self.folder, config, prefix=self.inside)
        url = "https://localhost:8443/"
        curl = ["curl", "--silent", "--cacert", str(self.certificates.ca), "--max-time", "15", url]
        self.run_([*self.inside, *curl], status=None)
        line = proxy.session()
        self.assertEqual(("failed", "dial"), (line["outcome"], line["phase"]))
        self.assertEqual("the upstream away.invalid:80 has a name that does not resolve", line["reason"])


class DiscretionTests(IntegrationTestCase):
    """
    What strangers send comes into the log in a form that cannot do harm, and secrets do not come into it.
    """

    EVIL = "evil\n2026-01-01T00:00:00+0000 [tlsproxy.session#info] forged \x1b[31m"

    def assertClean(self, proxy: Proxy) -> None:
        """
        Expect every line of the log to be one of the proxy's own, in letters that print.
        """
        for line in proxy.text().splitlines():
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT[\d:+]+ \[[\w.#-]+\] ")
            self.assertNotRegex(line, r"^\S+ \S+ forged")
            self.assertTrue(line.isprintable(), line)
        self.assertNotIn("sesame", proxy.text())
        self.assertNotIn("PRIVATE KEY", proxy.text())

    def test_names(self) -> None:
        """
        Line breaks and the like in a server name, an application protocol, and a certificate's names.
        """
        now = datetime.now(UTC)
        near = self.certificates.ca
        issuer = self.certificates.authority
        evil = certify(
            self.EVIL[:60],
            Holder(issuer.certificate, issuer.key),
            names=[x509.DNSName(self.EVIL)],
            begins=now - timedelta(1),
            ends=now + timedelta(30),
        )
        pem = Path(write(str(self.folder / "evil.pem"), evil.pem(), evil.keyPEM()))
        server = Server(self, echo)
        deceiver = Server(self, echo, serverContext(pem))
        proxy = self.proxy(
            self.offload(server.port, name="sni"),
            self.offload(server.port, name="alpn", tls={"alpn": ["h2"]}),
            self.offload(server.port, name="client", tls={"client_ca": str(near)}),
            self.encrypt(deceiver.port, name="name"),
        )
        self.assertRaises(SSL.Error, connect, self, proxy.port("sni"), clientContext(near), name=self.EVIL)
        self.assertIn("is no host name", proxy.session()["reason"])
        protocols = clientContext(near, alpn=[self.EVIL.encode()])
        self.assertRaises(SSL.Error, connect, self, proxy.port("alpn"), protocols)
        self.assertIn("application protocol", proxy.session(1)["reason"])
        client = connect(self, proxy.port("client"), clientContext(near, certificate=pem))
        client.send(b"sesame")
        self.assertEqual(b"sesame", client.read(6))
        client.endWrite()
        client.readAll()
        self.assertIn("evil", proxy.session(2)["certificate"])
        connect(self, proxy.port("name")).readAll()
        self.assertIn("it is not for localhost; it is for evil", proxy.session(3)["reason"])
        self.assertClean(proxy)
