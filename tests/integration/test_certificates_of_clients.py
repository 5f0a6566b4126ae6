# -*- test-case-name: tests.integration.test_certificates_of_clients -*-
"""
Who shows a certificate is let in by what it says, and by nothing else.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from tests.integration.running import TOOL, TWISTD, Child, IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Listener, clientContext, connect, serverContext
from tlsproxy.testing.certificates import Holder, revoking

PIN = "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64"
"""As the documentation has it."""


class ClientsTestCase(IntegrationTestCase):
    """
    A test with clients that show certificates.
    """

    def setUp(self) -> None:
        """
        Have a page to ask for, and clients.
        """
        super().setUp()
        self.web, self.web2, self.web1 = (freePort() for _ in range(3))
        shown = f"ssl_certificate {self.pem}; ssl_certificate_key {self.pem};"
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.web}; }}"
            f"server {{ listen 127.0.0.1:{self.web2} ssl http2; {shown} }}"
            f"server {{ listen 127.0.0.1:{self.web1} ssl; {shown} }}"
        )
        (self.folder / "www" / "index.html").write_text("Hello\n")
        self.ca = {"client_ca": str(self.certificates.ca)}
        self.ann = self.certificates.issue("ann", ["ann.example"], commonName="Ann")
        self.bob = self.certificates.issue("bob", ["bob.example"], commonName="Bob")

    def curl(self, port: int, certificate: Path | None, *more: str, host: str = "localhost") -> bytes:
        """
        Ask for the page, by each version of TLS.

        @return: What is answered, the same for both.
        """
        command = ["curl", "--silent", "--cacert", str(self.certificates.ca), "--noproxy", "*", *more]
        command += ["--resolve", f"{host}:{port}:127.0.0.1"]
        if certificate is not None:
            command += ["--cert", str(certificate)]
        answers = set()
        for version in ("1.2", "1.3"):
            done = self.run_([*command, "--tls-max", version, f"https://{host}:{port}/"], status=None)
            answers.add(done.stdout)
        self.assertEqual(1, len(answers))
        return answers.pop()

    def crl(self, name: str, *revoked: Path) -> Path:
        """
        Write a list of revoked certificates.
        """
        authority = self.certificates.authority
        gone = [x509.load_pem_x509_certificates(each.read_bytes())[0] for each in revoked]
        file = self.folder / name
        begins = datetime.now(UTC) - timedelta(hours=1)
        file.write_bytes(revoking(Holder(authority.certificate, authority.key), *gone, begins=begins))
        return file

    def uri(self, name: str, *uris: str) -> Path:
        """
        Issue a certificate with URIs, as workloads have them.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        authority = self.certificates.authority
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "workloads")]))
            .issuer_name(authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=9))
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(each) for each in uris]), False)
        )
        signed = builder.sign(authority.key, hashes.SHA256())
        file = self.folder / f"{name}.pem"
        file.touch(0o600)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(signed.public_bytes(Encoding.PEM) + private)
        return file

    def reasons(self, proxy: Proxy, *numbers: int) -> str:
        """
        Tell why sessions were not.
        """
        return "\n".join(proxy.session(number)["reason"] for number in numbers)


class RuleTests(ClientsTestCase):
    """
    Clients of real programs.
    """

    def test_names(self) -> None:
        """
        C{curl} is let in by its common name or its DNS name, and refused with any other, or none.
        """
        proxy = self.proxy(self.offload(self.web, tls={**self.ca, "allow_cn": "Ann", "allow_dns": "carl.example"}))
        port = proxy.port("offload")
        carl = self.certificates.issue("carl", ["carl.example"], commonName="Carl")
        self.assertEqual([b"Hello\n"] * 2, [self.curl(port, each) for each in (self.ann, carl)])
        self.assertEqual([b""] * 2, [self.curl(port, each) for each in (self.bob, None)])
        self.assertEqual(2, self.reasons(proxy, 4, 5).count("no rule allows it (CN=Bob, issued by CN=test ca, until "))
        self.assertEqual(2, self.reasons(proxy, 6, 7).count("the client showed no certificate, and one is demanded"))

    def test_uris(self) -> None:
        """
        Workloads are let in by what stands in the place of a wildcard, and not by what is longer.
        """
        proxy = self.proxy(self.offload(self.web, tls={**self.ca, "allow_uri": ["spiffe://x/*/web", "spiffe://y/**"]}))
        port = proxy.port("offload")
        for uris, answer in (
            (["spiffe://x/prod/web"], b"Hello\n"),
            (["https://other", "spiffe://y/a/b/c"], b"Hello\n"),
            (["spiffe://x/prod/eu/web"], b""),
            (["spiffe://y/../x/prod"], b""),
            (["spiffe://xx/prod/web"], b""),
        ):
            self.assertEqual(answer, self.curl(port, self.uri("workload", *uris)), uris)
        self.assertIn("OU workloads, URI spiffe://x/prod/eu/web", self.reasons(proxy, 4))

    def test_pin(self) -> None:
        """
        The hash that the documentation's command makes lets its certificate in.
        """
        pin = self.run_(["sh", "-c", PIN.format("ann.pem")]).stdout.decode().strip()
        port = self.proxy(self.offload(self.web, tls={**self.ca, "pins": f"sha256/{pin}"})).port("offload")
        self.assertEqual((b"Hello\n", b""), (self.curl(port, self.ann), self.curl(port, self.bob)))

    def test_announced(self) -> None:
        """
        C{openssl s_client} is told the names of the CAs, and by which alert it is refused.
        """
        proxy = self.proxy(self.offload(self.web, tls={**self.ca, "allow_cn": "Ann"}))
        where = f"127.0.0.1:{proxy.port('offload')}"
        for version in ("-tls1_2", "-tls1_3"):
            # It waits for what comes behind the handshake, which in TLS 1.3 is the alert.
            command = ["openssl", "s_client", "-connect", where, version, "-cert", "bob.pem", "-ign_eof"]
            done = self.run_(command, status=None)
            self.assertRegex(done.stdout, rb"Acceptable client certificate CA names\nCN ?= ?test ca\n")
            self.assertIn(b"alert bad certificate", done.stderr)

    def test_hosts(self) -> None:
        """
        Each name asks for its own; under another, or none, one has to show as much as the strictest asks for.
        """
        hosts = [
            {"sni": "admin.localhost", **self.ca, "allow_cn": "Ann"},
            {"sni": "*.open.localhost", "client_auth": "none"},
        ]
        proxy = self.proxy(self.offload(self.web, tls={"host": hosts}))
        port = proxy.port("offload")
        for host, certificate, answer in (
            ("admin.localhost", self.ann, b"Hello\n"),
            ("admin.localhost", self.bob, b""),
            ("admin.localhost", None, b""),
            ("a.open.localhost", None, b"Hello\n"),
            ("localhost", self.ann, b"Hello\n"),
            ("localhost", self.bob, b""),
            ("localhost", None, b""),
            ("127.0.0.1", self.ann, b"Hello\n"),
            ("127.0.0.1", None, b""),
        ):
            self.assertEqual(answer, self.curl(port, certificate, "--insecure", host=host), (host, certificate))

    def test_commandLine(self) -> None:
        """
        The command line says it as well; what is contradictory is told.
        """
        options = ["--mode=offload", f"--upstream=127.0.0.1:{self.web}", "--cert=server.pem", "--listen=127.0.0.1:0"]
        done = self.run_(["sh", "-c", 'exec "$@"', "sh", *TWISTD, *options, "--allow-cn=Ann", "--pins=x"], status=1)
        self.assertIn(b"--allow-cn: this is for client certificates, so give client_ca, too", done.stderr)
        self.assertIn(b"--pins: 'x' is no pin", done.stderr)


class ListTests(ClientsTestCase):
    """
    Lists of revoked certificates.
    """

    def test_revoked(self) -> None:
        """
        Who has been revoked is refused by each version of TLS, and the log says so.
        """
        proxy = self.proxy(self.offload(self.web, tls={**self.ca, "crl": str(self.crl("ca.crl", self.bob))}))
        port = proxy.port("offload")
        self.assertEqual((b"Hello\n", b""), (self.curl(port, self.ann), self.curl(port, self.bob)))
        told = "the client's certificate is refused: it has been revoked, says the CRL of CN=test ca (alert "
        self.assertEqual(2, self.reasons(proxy, 2, 3).count(told))

    def test_followed(self) -> None:
        """
        Who is revoked while the proxy runs is refused from then on, for the route's own list and for a host's.
        """
        own, host = self.crl("own.crl"), self.crl("host.crl")
        tls = {"cert": str(self.pem), **self.ca}
        hosts = [{"sni": "localhost", **self.ca, "crl": str(host)}]
        proxy = self.proxy(
            self.offload(self.web, name="own", tls={**tls, "crl": str(own)}),
            self.offload(self.web, name="host", tls={"cert": str(self.pem), "host": hosts}),
        )
        for name, file in (("own", own), ("host", host)):
            port = proxy.port(name)
            self.assertEqual(b"Hello\n", self.curl(port, self.bob))
            os.replace(self.crl("new.crl", self.bob), file)
            proxy.waitFor(rf"reloaded: files changed: \S*{name}\.crl")
            self.assertEqual((b"", b"Hello\n"), (self.curl(port, self.bob), self.curl(port, self.ann)))

    def test_made(self) -> None:
        """
        C{openssl} verifies as we do with the same list.
        """
        crl = self.crl("ca.crl", self.bob)
        verify = ["openssl", "verify", "-crl_check", "-CAfile", str(self.certificates.ca), "-CRLfile", str(crl)]
        self.run_([*verify, "ann.pem"])
        done = self.run_([*verify, "bob.pem"], status=None)
        self.assertIn(b"certificate revoked", done.stdout + done.stderr)

    def test_check(self) -> None:
        """
        C{tlsproxy check} tells of a list that is out of date, and of one that is missing.
        """
        old = self.folder / "old.crl"
        authority = self.certificates.authority
        begins = datetime.now(UTC) - timedelta(days=9)
        old.write_bytes(revoking(Holder(authority.certificate, authority.key), begins=begins, days=1))
        self.proxy(self.offload(self.web, tls={**self.ca, "crl": str(old)}))
        done = self.run_([*TOOL, "check", "config.toml"])
        self.assertIn(b"old.crl HAS EXPIRED, so all certificates of CN=test ca are refused", done.stderr)


class UpstreamTests(ClientsTestCase):
    """
    The same words for the upstream.
    """

    def fails(self, **upstream: object) -> str:
        """
        Have an upstream refused.

        @return: Why.
        """
        listener = Listener(self)
        proxy = self.proxy(self.encrypt(listener.port, upstream_tls=upstream))
        client = connect(self, proxy.port("encrypt"))
        try:
            listener.accept(serverContext(self.ann))
        except SSL.Error:
            pass
        self.assertEqual(b"", client.readAll())
        return proxy.session()["reason"]

    def test_rules(self) -> None:
        """
        An upstream is taken only if it matches, beside its name.
        """
        self.assertIn("no rule allows it (CN=Ann, ", self.fails(name="ann.example", allow_cn="Bob"))
        self.assertIn("it is not for localhost", self.fails(allow_cn="Ann"))
        pin = self.run_(["sh", "-c", PIN.format("bob.pem")]).stdout.decode().strip()
        self.assertIn("its key is another than those pinned", self.fails(name="ann.example", pins=f"sha256/{pin}"))

    def test_pinned(self) -> None:
        """
        A key alone verifies an upstream with a certificate of its own making.
        """
        pin = self.run_(["sh", "-c", PIN.format("ann.pem")]).stdout.decode().strip()
        listener = Listener(self)
        policy = {"auth": "none", "pins": f"sha256/{pin}", "ca": None, "name": None}
        route = self.encrypt(listener.port)
        route["upstream_tls"] = {key: value for key, value in policy.items() if value is not None}
        client = connect(self, self.proxy(route).port("encrypt"))
        server = listener.accept(serverContext(self.ann))
        client.send(b"question")
        self.assertEqual(b"question", server.read(8))


class MirrorTests(ClientsTestCase):
    """
    The upstream chooses the application protocol.
    """

    def test_nginx(self) -> None:
        """
        Through a bridge C{curl} speaks with nginx the HTTP that both speak, whatever we know of it.
        """
        tls = {"alpn": "mirror"}
        proxy = self.proxy(self.bridge(self.web2, name="2", tls=tls), self.bridge(self.web1, name="1.1", tls=tls))
        for route, options, spoken in (
            ("2", (), b"2"),
            ("2", ("--http1.1",), b"1.1"),
            ("2", ("--no-alpn",), b"1.1"),
            ("1.1", (), b"1.1"),
        ):
            answer = self.curl(proxy.port(route), None, "--write-out", "%{http_version}", *options)
            self.assertEqual(b"Hello\n" + spoken, answer, (route, options))

    def test_none(self) -> None:
        """
        None is given as none: the answer to the client's hello has no such extension.
        """
        listener = Listener(self)
        proxy = self.proxy(self.bridge(listener.port, tls={"alpn": "mirror"}))
        where = f"127.0.0.1:{proxy.port('bridge')}"
        client = Child(self, self.folder, "client", ["openssl", "s_client", "-connect", where, "-alpn", "h2"])
        listener.accept(serverContext(self.pem))
        client.waitFor("No ALPN negotiated")

    def test_refused(self) -> None:
        """
        An upstream that refuses all that a client offers has it told so in our name.
        """
        listener = Listener(self)
        proxy = self.proxy(self.bridge(listener.port, tls={"alpn": "mirror"}))
        context = serverContext(self.pem)

        def refuse(*_: object) -> bytes:
            raise ValueError("none of these")

        context.set_alpn_select_callback(refuse)

        def serve() -> None:
            try:
                listener.accept(context)
            except ValueError:
                pass

        thread = Thread(target=serve)
        thread.start()
        e = self.assertRaises(
            SSL.Error, connect, self, proxy.port("bridge"), clientContext(self.certificates.ca, alpn=[b"h2"])
        )
        thread.join()
        self.assertIn("no application protocol", str(e))
