# -*- test-case-name: tests.integration.test_certificates_by_name -*-
"""
Each client is shown the certificate of the name that it asks for, of the kind that it knows, with its chain.
"""

from __future__ import annotations

import re
import socket
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from tests.integration.running import TOOL, IntegrationTestCase, Proxy
from tests.integration.talking import Server, echo
from tlsproxy.testing.certificates import Holder, certify, write

NOW = datetime.now(UTC)
RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())
VERSIONS = ("-tls1_2", "-tls1_3")


class NameCase(IntegrationTestCase):
    """
    A test with a root, two authorities that it has certified, and certificates of theirs.

    @ivar root: The root's certificate, in a file.
    """

    def setUp(self) -> None:
        """
        Make the authorities.
        """
        super().setUp()
        root = self._certify("Test Root", authority=None)
        self.one, self.other = self._certify("RSA CA", root), self._certify("EC CA", root)
        self._root = root
        self.root = write(str(self.folder / "root.pem"), root.pem())

    def _certify(self, name: str, authority: Holder | None, *names: str, key: Any = None) -> Holder:
        dates = {"begins": NOW - timedelta(days=1), "ends": NOW + timedelta(days=60)}
        # What has no names is an authority: the command line of openssl verifies no chain through anything else.
        if names:
            return certify(name, authority, key=key, names=[x509.DNSName(one) for one in names], **dates)
        return _authority(name, authority, **dates)

    def holder(self, stem: str, *names: str, key: Any = None, by: Holder | None = None) -> Holder:
        """
        Issue a certificate.

        @param by: Who issues it.
        """
        return self._certify(stem, by or self.other, *names, key=key)

    def bundle(self, stem: str, holder: Holder, *issuers: Holder) -> str:
        """
        Write a certificate, its chain and its key into one file.
        """
        parts = [each.pem() for each in (holder, *issuers)]
        return write(str(self.folder / f"{stem}.pem"), *parts, holder.keyPEM())

    def socketPlace(self) -> str:
        """
        Find a place for a Unix socket.  Trial's own folder may lie too deep for the path of one.
        """
        return f"unix:{self.enterContext(tempfile.TemporaryDirectory())}/s"

    def serving(self, cert: Sequence[str], **tls: Any) -> Proxy:
        """
        Start the proxy in front of an upstream that sends back what comes.
        """
        upstream = Server(self, echo)
        return self.proxy(self.offload(upstream.port, tls={"cert": list(cert), **tls}))

    def shown(self, proxy: Proxy, *options: str) -> list[str]:
        """
        Have C{openssl s_client} connect, and verify what it is shown.

        @return: The names of what it was sent.
        """
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port('offload')}", "-CAfile", self.root]
        done = self.run_([*command, "-verify_return_error", *options])
        self.assertIn(b"Verify return code: 0 (ok)", done.stdout)
        return re.findall(r"^ +\d+ s:.*?CN ?= ?(.*)$", done.stdout.decode(), re.MULTILINE)


def _authority(name: str, issuer: Holder | None, begins: datetime, ends: datetime) -> Holder:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(
        subject if issuer is None else issuer.certificate.subject,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        begins,
        ends,
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signer: Any = key if issuer is None else issuer.key
    return Holder(builder.sign(signer, hashes.SHA256()), key)


class ChosenTests(NameCase):
    """
    Which certificate is shown.
    """

    def test_names(self) -> None:
        """
        The name itself comes first, then a wildcard, and then the first certificate, which is also for those who ask
        for nothing.
        """
        first = self.bundle("first", self.holder("first", "first.example"), self.other)
        wild = self.bundle("wild", self.holder("wild", "*.shop.example", "shop.example"), self.other)
        exact = self.bundle("exact", self.holder("exact", "a.shop.example"), self.other)
        proxy = self.serving([first, wild, exact])
        for version in VERSIONS:
            for name, shown in (
                ("first.example", "first"),
                ("shop.example", "wild"),
                ("b.shop.example", "wild"),
                ("B.Shop.EXAMPLE", "wild"),
                ("a.shop.example", "exact"),
                ("a.b.shop.example", "first"),
                ("other.test", "first"),
            ):
                self.assertEqual([shown, "EC CA"], self.shown(proxy, version, "-servername", name), name)
            self.assertEqual(["first", "EC CA"], self.shown(proxy, version, "-noservername"))

    def test_refused(self) -> None:
        """
        Where names that nobody knows are refused, the client is told by the alert that is meant for it, and the log
        says which name it was.
        """
        cert = self.bundle("shop", self.holder("shop", "shop.example", "*.shop.example"), self.other)
        proxy = self.serving([cert], unknown_sni="refuse")
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port('offload')}"]
        for number, name in enumerate(("other.test", "a.b.shop.example", "127.0.0.1")):
            for version in VERSIONS:
                done = self.run_([*command, version, "-servername", name], status=1)
                self.assertIn(b"alert number 112", done.stderr)
            line = proxy.session(2 * number)
            self.assertEqual(("refused", "route"), (line["outcome"], line["phase"]))
            expected = f"the client asks for {name}, and no certificate of the route is for that"
            self.assertEqual(expected, line["reason"])
        self.assertEqual(["shop", "EC CA"], self.shown(proxy, "-noservername"))
        self.assertEqual(["shop", "EC CA"], self.shown(proxy, "-servername", "a.shop.example"))

    def test_kinds(self) -> None:
        """
        RSA and EC for one name stand side by side, each with its own chain: what the client can verify decides, by
        signature algorithms, and in TLS 1.2 by cipher suites, too.
        """
        shopRSA = self.bundle("rsa", self.holder("RSA", "shop.example", key=RSA, by=self.one), self.one, self._root)
        shopEC = self.bundle("ec", self.holder("EC", "shop.example", key=EC), self.other)
        ours = {"RSA": ["RSA", "RSA CA"], "EC": ["EC", "EC CA"]}
        for cert in ([shopRSA, shopEC], [shopEC, shopRSA]):
            proxy = self.serving(cert)
            for server in (["-servername", "shop.example"], ["-noservername"]):
                # The chains are signed with ECDSA throughout, so all clients have to know that.
                for options, kind in (
                    (["-tls1_3"], "EC"),
                    (["-tls1_3", "-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA256"], "RSA"),
                    (["-tls1_3", "-sigalgs", "ECDSA+SHA384:ECDSA+SHA256"], "EC"),
                    (["-tls1_2"], "EC"),
                    (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "RSA"),
                    (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "EC"),
                    (["-tls1_2", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"], "RSA"),
                ):
                    self.assertEqual(ours[kind], self.shown(proxy, *server, *options), options)
            self.assertEqual(0, proxy.end())

    def test_curl(self) -> None:
        """
        C{curl} takes what it is shown for each of the names, by every version of TLS.
        """
        cert = [
            self.bundle("shop", self.holder("shop", "shop.example"), self.other),
            self.bundle("all", self.holder("all", "*.shop.example", key=RSA, by=self.one), self.one),
            self.bundle("key", self.holder("key", "key.test", key=ed25519.Ed25519PrivateKey.generate()), self.other),
        ]
        (self.folder / "www").mkdir()
        (self.folder / "www" / "index.html").write_text("Hello\n")
        nginx = self.socketPlace()
        self.nginx(f"server {{ listen {nginx}; }}")
        route = {"mode": "offload", "upstream": nginx, "tls": {"cert": cert}}
        port = self.proxy(route).port("offload")
        for name in ("shop.example", "forum.shop.example", "key.test"):
            for version in ("1.2", "1.3"):
                curl = ["curl", "--silent", "--show-error", "--cacert", self.root]
                curl += [f"--tlsv{version}", "--tls-max", version]
                where = ["--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/"]
                self.assertEqual(b"Hello\n", self.run_([*curl, *where]).stdout)

    def test_resumed(self) -> None:
        """
        A client that comes back resumes its session for each of the names, and is not helped by that of another.
        """
        cert = [self.bundle(name, self.holder(name, f"{name}.example"), self.other) for name in ("a", "b")]
        proxy = self.serving(cert)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=self.root)
            context.minimum_version = context.maximum_version = version
            sessions: dict[str, ssl.SSLSession | None] = {}
            for name, session, expected in (
                ("a.example", None, False),
                ("a.example", "a.example", True),
                ("b.example", None, False),
                ("b.example", "b.example", True),
                ("b.example", "a.example", False),
            ):
                with socket.create_connection(("127.0.0.1", proxy.port("offload"))) as sock:
                    given = sessions.get(session or "")
                    with context.wrap_socket(sock, server_hostname=name, session=given) as client:
                        self.assertEqual(expected, client.session_reused, (version, name, session))
                        client.sendall(b"word")
                        self.assertEqual(b"word", client.recv(4))
                        sessions.setdefault(name, client.session)


class FormTests(NameCase):
    """
    How certificates come.
    """

    def test_forms(self) -> None:
        """
        On the command line: files of C{openssl pkcs12}, a folder, and pairs, one beside the other.
        """
        upstream = Server(self, echo)
        mail = self.holder("mail", "mail.example")
        source = self.bundle("mail", mail, self.other)
        write(str(self.folder / "password"), b"open sesame\n")
        store = str(self.folder / "mail.p12")
        export = ["openssl", "pkcs12", "-export", "-in", source, "-passout", "file:password", "-out", store]
        self.run_(export)
        sites = self.folder / "sites"
        sites.mkdir()
        for name in ("a", "b"):
            holder = self.holder(name, f"{name}.example")
            write(str(sites / f"{name}.crt"), holder.pem(), self.other.pem())
            write(str(sites / f"{name}.key"), holder.keyPEM())
        pair = self.holder("pair", "pair.example")
        chain = write(str(self.folder / "chain.pem"), pair.pem(), self.other.pem())
        key = write(str(self.folder / "key.pem"), pair.keyPEM())
        route = {
            "mode": "offload",
            "name": "offload",
            "listen": "127.0.0.1:0",
            "upstream": f"127.0.0.1:{upstream.port}",
        }
        (self.folder / "config.toml").write_text(
            "[[route]]\n"
            + "".join(f'{name} = "{value}"\n' for name, value in route.items())
            + f'tls.cert = [{{chain = "{chain}", key = "{key}"}}, "sites", '
            '{pkcs12 = "mail.p12", password_file = "password"}]\n'
        )
        proxy = Proxy(self, self.folder, self.folder / "config.toml")
        for name in ("pair", "a", "b", "mail"):
            self.assertEqual([name, "EC CA"], self.shown(proxy, "-servername", f"{name}.example"))
        self.assertNotIn("warning", proxy.text())

    def test_ours(self) -> None:
        """
        The certificate that we show an upstream may be PKCS#12 with a password, and is sent with its chain.
        """
        server = self.bundle("nginx", self.holder("nginx", "nginx.example"), self.other)
        client = self.holder("client", "client.example", by=self.one)
        store = write(str(self.folder / "client.p12"), client.pkcs12(b"open sesame", self.one, self._root))
        password = write(str(self.folder / "password"), b"open sesame\n")
        (self.folder / "www").mkdir()
        (self.folder / "www" / "index.html").write_text("Hello\n")
        tls = f"ssl_certificate {server}; ssl_certificate_key {server};"
        verify = f"ssl_client_certificate {self.root}; ssl_verify_client on; ssl_verify_depth 2;"
        nginx = self.socketPlace()
        self.nginx(f"server {{ listen {nginx} ssl; {tls} {verify} }}")
        upstream = {"mode": "encrypt", "upstream": nginx}
        trust = {"ca": self.root, "name": "nginx.example"}
        ours = {"cert": store, "cert_password_file": password}
        proxy = self.proxy(
            {**upstream, "name": "known", "upstream_tls": {**trust, **ours}},
            {**upstream, "name": "stranger", "upstream_tls": trust},
        )
        for route, told in (("known", b"Hello\n"), ("stranger", b"No required SSL certificate was sent")):
            curl = ["curl", "--silent", "--show-error", f"http://127.0.0.1:{proxy.port(route)}/"]
            self.assertIn(told, self.run_(curl).stdout)

    def test_checked(self) -> None:
        """
        All that is wrong with them is told at once, each file by its name, with the line of the list.
        """
        sites = self.folder / "sites"
        sites.mkdir()
        good, bad = self.holder("a", "a.example"), self.holder("b", "b.example")
        write(str(sites / "a.pem"), good.pem(), good.keyPEM())
        write(str(sites / "b.pem"), bad.pem(), good.keyPEM())
        write(str(sites / "c.pem"), bad.pem())
        (self.folder / "config.toml").write_text(
            '[[route]]\nmode = "offload"\nlisten = "127.0.0.1:0"\nupstream = "127.0.0.1:9"\n'
            'tls.cert = [\n    "sites/a.pem",\n    "sites",\n    "nope.p12",\n]\n'
        )
        told = self.run_([*TOOL, "check", "config.toml"], status=1).stderr.decode().splitlines()
        self.assertEqual(3, len(told), told)
        for line, number, words in zip(
            told,
            (7, 7, 8),
            (
                "sites/b.pem holds a private key that does not match",
                "sites/c.pem holds no private key",
                "nope.p12 ",
            ),
            strict=True,
        ):
            self.assertIn(f"config.toml:{number}: route.tls.cert: ", line)
            self.assertIn(words, line)


class ManyTests(NameCase):
    """
    Thousands of certificates.
    """

    count = 1000

    def test_many(self) -> None:
        """
        They are loaded soon, take little memory, and each is shown to whom asks for it.
        """
        few = self.serving([self.bundle("one", self.holder("one", "one.example"), self.other)])
        sites = self.folder / "sites"
        sites.mkdir()
        for number in range(self.count):
            holder = self.holder("x", f"{number}.example", key=EC)
            write(str(sites / f"{number}.pem"), holder.pem(), self.other.pem(), holder.keyPEM())
        many = self.serving([str(sites)])
        for number in (0, 1, self.count // 2, self.count - 1):
            shown = self.shown(many, "-servername", f"{number}.example", "-verify_hostname", f"{number}.example")
            self.assertEqual(["x", "EC CA"], shown)
        each = (many.resident() - few.resident()) / self.count
        self.assertLess(each, 16 * 1024)
