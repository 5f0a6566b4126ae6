# -*- test-case-name: tests.test_clienttables -*-
"""
L{tlsproxy.clienttables}: routes of mode C{sequential-client}.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.configuring import ConfigurationTestCase
from tests.enrolling.enrolled import DAY, URL, EnrolledCase, mappingOf
from tests.mappingsigning import STRANGER
from tests.tls.chains import authority, issued
from tlsproxy.address import TCP
from tlsproxy.commands.enroll import configurationFor
from tlsproxy.config import Configuration, build, loadFile
from tlsproxy.errors import ConfigurationError
from tlsproxy.patterns.sequentialclient import SequentialClient
from tlsproxy.testing.certificates import write

MODE = "sequential-client"


class ClientTests(ConfigurationTestCase):
    """
    Such routes.
    """

    def setUp(self) -> None:
        """
        The proxy's certificate is for clients.
        """
        super().setUp()
        made = issued("Ann", self.ca, extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])])
        write(str(self.folder / "server.pem"), made.pem(), made.keyPEM())

    def pattern(self, **more: Any) -> SequentialClient:
        """
        Read the pattern of what is expected to be good.
        """
        pattern = self.build(self.document(MODE, **more)).routes[0].pattern
        assert isinstance(pattern, SequentialClient)
        return pattern

    def problem(self, key: str, sentence: str, **more: Any) -> None:
        """
        There is one problem.
        """
        self.assertProblem(f"route[0].{key}", sentence, self.document(MODE, **more))

    def test_good(self) -> None:
        """
        The mapping and its reverse proxies are read, with the route's TLS, and all files are watched.
        """
        configuration = self.build(self.document(MODE, users="users.txt"))
        pattern: Any = configuration.routes[0].pattern
        self.assertEqual("dmz.example", pattern.upstreamTLS.name)
        self.assertEqual(1, len(pattern.upstreamTLS.identities))
        self.assertEqual("handshake", pattern.downgrade.value)
        for name in ("mapping.toml", "users.txt", "ca.pem", "server.pem"):
            self.assertIn(str(self.folder / name), configuration.files)
        self.assertEqual((), configuration.warnings)

    def test_listen(self) -> None:
        """
        It listens on loopback, or on a Unix socket, and nowhere else, whoever has to show a password.
        """
        for listen in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:s", "tcp:1:interface=127.0.0.1"):
            self.pattern(listen=listen)
        for listen in ("1", "0.0.0.0:1", "192.0.2.1:1", "[::]:1", "tcp:1", "systemd:domain=INET:index=0"):
            for users in (None, "users.txt"):
                self.problem("listen", "could borrow the certificate", listen=listen, users=users)
        self.problem("listen", "no balancer stands before", listen="haproxy:tcp:1:interface=127.0.0.1")
        self.problem("accept_proxy", "no balancer stands before", accept_proxy=["127.0.0.0/8"])

    def test_mapping(self) -> None:
        """
        Without a mapping nothing is reached; what is wrong with one is told with its own file and line.
        """
        self.problem("mapping", "say in which file", mapping=None)
        self.problem("mapping", "does not exist", mapping="none.toml")
        (self.folder / "mapping.toml").write_text("\n[[map]]\nhosts = 5\n")
        told = self.fileProblems(
            '[[route]]\nmode = "sequential-client"\nlisten = "127.0.0.1:1"\nmapping = "mapping.toml"\nframing = "x"\n',
            others=["mapping.toml"],
        )
        self.assertEqual(3, len(told), told)
        self.assertIn("5: route.framing: ", told[0])
        self.assertTrue(any(one.startswith("3: map.hosts: give a string") for one in told), told)

    def test_tls(self) -> None:
        """
        What the mapping says, and what is settled, is not said by the TLS; without a certificate it is doubtful.
        """
        self.problem("upstream_tls.name", "give it server_name in the mapping", upstream_tls={"name": "x.example"})
        self.problem("upstream_tls.alpn", "leave this out", upstream_tls={"alpn": ["h2"]})
        (warning,) = self.build(self.document(MODE, upstream_tls={"cert": None})).warnings
        self.assertIn("demand a client certificate", warning)
        write(str(self.folder / "server.pem"), self.server.pem(), self.server.keyPEM())
        (warning,) = self.build(self.document(MODE)).warnings
        self.assertIn("server.pem does not say that it is for clients (clientAuth)", warning)
        self.problem("upstream_tls.ca", "does not exist", upstream_tls={"ca": "none.pem"})

    def test_downgrade(self) -> None:
        """
        What is unsafe needs a second word, and is a warning then.
        """
        self.problem("downgrade", "add unsafe_connect = true", downgrade="connect")
        configuration = self.build(self.document(MODE, downgrade="connect", unsafe_connect=True, take_off="loopback"))
        pattern: Any = configuration.routes[0].pattern
        self.assertEqual(("connect", "loopback"), (pattern.downgrade.value, pattern.downgrade.takeOff))
        self.assertIn("is unsafe", configuration.warnings[0])

    def test_upstreamProxy(self) -> None:
        """
        A proxy on the way is read, with its user, whose password lies in a file.
        """
        write(str(self.folder / "password"), b"secret\n", mode=0o600)
        for text, scheme in (("http://ann@proxy.example:3128", "http"), ("SOCKS5://ann@proxy.example:3128/", "socks5")):
            proxy = self.pattern(upstream_proxy=text, upstream_proxy_password_file="password").upstreamProxy
            assert proxy is not None
            self.assertEqual((scheme, "ann", "secret"), (proxy.scheme, proxy.user, proxy.password))
            self.assertEqual(TCP("proxy.example", 3128), proxy.address)
            self.assertNotIn("secret", repr(proxy))
        self.assertIsNotNone(self.pattern(upstream_proxy="socks5://[::1]:1080").upstreamProxy)
        for text, words in (
            ("proxy.example:3128", "give http://HOST:PORT or socks5://HOST:PORT"),
            ("https://proxy.example:3128", "give http://HOST:PORT"),
            ("http://ann:secret@proxy.example:3128", "no password stands here"),
            ("http://proxy.example", "say which port, as in http://proxy.example:3128"),
            ("http://@proxy.example:1", "before the @ stands the name of a user"),
            ("http://proxy.example:1/x", "'1/x', which is no number"),
        ):
            self.problem("upstream_proxy", words, upstream_proxy=text)

    def test_password(self) -> None:
        """
        User and password come together; the file has one line, and others should not read it.
        """
        key, proxy = "upstream_proxy_password_file", "http://ann@proxy.example:3128"
        self.problem(key, "give upstream_proxy, too", upstream_proxy_password_file="password")
        self.problem(key, "say in which file the password of ann stands", upstream_proxy=proxy)
        nobody = "http://proxy.example:3128"
        self.problem(key, "a password needs its user", upstream_proxy=nobody, upstream_proxy_password_file="x")
        for content, words in ((b"", "only line"), (b"a\nb\n", "only line"), (b"x" * 256, "255"), (b"\xff", "UTF-8")):
            write(str(self.folder / "password"), content)
            self.problem(key, words, upstream_proxy=proxy, upstream_proxy_password_file="password")
        write(str(self.folder / "password"), b"secret", mode=0o644)
        document = self.document(MODE, upstream_proxy=proxy, upstream_proxy_password_file="password")
        self.assertIn("is open to others", self.build(document).warnings[0])


class EnrollmentTests(EnrolledCase):
    """
    Routes that go by what a reverse proxy has given.
    """

    def setUp(self) -> None:
        """
        Have a CA.
        """
        super().setUp()
        self.folder.write("reverse-proxy-ca.pem", authority("Reverse proxies").pem())

    def build(self, **more: Any) -> Configuration:
        """
        Read what is expected to be good.
        """
        route = {"mode": MODE, "listen": "127.0.0.1:1", "enrollment": "enrolled", **more}
        return build({"route": [route]}, self.path, self.now())

    def problems(self, **more: Any) -> dict[str, str]:
        """
        Read what is not.
        """
        error = self.assertRaises(ConfigurationError, self.build, **more)
        return {problem.key: problem.sentence for problem in error.problems}

    def test_good(self) -> None:
        """
        Certificate, CA and mapping are taken from the folder, and those files are watched; that the certificate is
        valid for a short time is no warning.
        """
        configuration = self.build(upstream_tls={"min_version": "1.3"})
        pattern: Any = configuration.routes[0].pattern
        self.assertEqual((), configuration.warnings)
        self.assertEqual("dmz.example", pattern.upstreamTLS.name)
        self.assertEqual("1.3", pattern.upstreamTLS.policy.minVersion)
        self.assertEqual(self.folder.certificate().certificate, pattern.upstreamTLS.identities[0].chain[0])
        self.assertEqual((self.folder.certificate(), URL), (pattern.enrolled.certificate, pattern.enrolled.url))
        self.assertEqual(2, len(pattern.mapping.entries))
        self.assertEqual("2026-12-29", f"{pattern.mapping.expires:%Y-%m-%d}")
        for name in ("client.pem", "mapping.signed", "reverse-proxy-ca.pem"):
            self.assertIn(self.folder.file(name), configuration.files)

    def test_here(self) -> None:
        """
        A configuration inside of the folder says so by a dot.
        """
        (self.folder.path / "c.toml").write_bytes(configurationFor("127.0.0.1:1"))
        configuration = loadFile(self.folder.file("c.toml"), self.now())
        self.assertEqual(["client-proxy"], [route.name for route in configuration.routes])

    def test_open(self) -> None:
        """
        That others can read the key is a warning, whatever else there is.
        """
        (self.folder.path / "client.pem").chmod(0o644)
        (warning,) = self.build().warnings
        self.assertIn("is open to others than its owner", warning)

    def test_beside(self) -> None:
        """
        What the folder holds is not said beside it.
        """
        sentence = "the folder of enrollment holds that: leave this out, or enrollment"
        told = self.problems(mapping="x", upstream_tls={"ca": "x", "cert": "x", "key": "x"})
        keys = ("mapping", "upstream_tls.ca", "upstream_tls.cert", "upstream_tls.key")
        self.assertEqual({f"route[0].{key}": sentence for key in keys}, told)
        with self.assertRaises(ConfigurationError) as caught:
            build({"route": [{"mode": "connect", "listen": "127.0.0.1:1", "enrollment": "x"}]}, self.path, self.now())
        self.assertIn("route[0].enrollment", [problem.key for problem in caught.exception.problems])

    def test_expired(self) -> None:
        """
        What has expired can be started with: it may be renewed, and browsers are told why not.
        """
        self.clock.advance(400 * DAY.total_seconds())
        configuration = self.build()
        pattern: Any = configuration.routes[0].pattern
        self.assertLess(pattern.mapping.expires, self.now())
        self.assertIn("HAS EXPIRED", configuration.warnings[0])

    def test_wrong(self) -> None:
        """
        A folder that is not there or not whole is told of, and so is a mapping that is not the one that was taken.
        """
        self.assertIn("nobody has enrolled in", self.problems(enrollment="none")["route[0].enrollment"])
        good = (self.folder.path / "mapping.signed").read_bytes()
        for bad in (mappingOf(1, lasts=DAY), mappingOf(2, key=STRANGER), good.replace(b"bank", b"bang"), b""):
            (self.folder.path / "mapping.signed").write_bytes(bad)
            (sentence,) = self.problems().values()
            self.assertIn("the mapping cannot be used: it", sentence)
        (self.folder.path / "mapping.signed").unlink()
        self.assertIn("does not exist", self.problems()["route[0].enrollment"])
        (self.folder.path / "mapping.signed").write_bytes(mappingOf(2))
        self.build()
        (self.folder.path / "client.pem").write_bytes(b"")
        self.assertIn("client.pem", self.problems()["route[0].enrollment"])
