"""
Tests for L{tlsproxy.tls.contexts}: what is checked while loading, and what is negotiated.

Who is let in is in L{tests.tls.test_contexts_clients}, and whom we believe in L{tests.tls.test_contexts_upstreams}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from tests.tls.pairs import VERSIONS, Met, PairCase, shake
from tlsproxy.errors import AdmissionRefused, ConfigurationError
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.native import TLSStream, setGroups
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

NO_APPLICATION_PROTOCOL = 120
PROTOCOL_VERSION = 70


class LoadTests(PairCase):
    """
    Tests for what C{load} finds wrong.
    """

    def problems(self, load: Any, *arguments: Any, **more: Any) -> dict[str, str]:
        """
        Load a policy that cannot be used.

        @return: the sentences by their keys.
        """
        error = self.assertRaises(ConfigurationError, load, *arguments, now=NOW, **more)
        found = {each.key: each.sentence for each in error.problems}
        self.assertEqual(len(found), len(error.problems))
        return found

    def test_serverAllAtOnce(self) -> None:
        """
        Everything that is wrong with the side toward clients is told at once, each by its key.
        """
        policy = ServerPolicy(
            cert=CertificateFiles("no-chain.pem"),
            clientCa=("no-ca.pem",),
            minVersion="1.3",
            maxVersion="1.2",
            ciphers="ECDHE+AESGCM:NONSENSE",
            ciphersuites="TLS_AES_128_GCM_SHA256:TLS_NONSENSE",
            groups="X25519:nonsense",
            alpn=("h2", ""),
        )
        found = self.problems(ServerTLS.load, policy)
        for key, words in (
            ("tls.cert", "no-chain.pem does not exist"),
            ("tls.client_ca", "no-ca.pem does not exist"),
            ("tls.min_version", "above max_version"),
            ("tls.ciphers", "no TLS 1.2 cipher suite 'NONSENSE'"),
            ("tls.ciphersuites", "no TLS 1.3 cipher suite 'TLS_NONSENSE'"),
            ("tls.groups", "one of the groups 'X25519:nonsense'"),
            ("tls.alpn", "'' is no ALPN protocol name"),
        ):
            self.assertIn(words, found.pop(key))
        self.assertEqual(found, {})

    def test_clientAllAtOnce(self) -> None:
        """
        Everything that is wrong with the side toward the upstream is told at once, each by its key.
        """
        policy = ClientPolicy(
            cert=CertificateFiles("no-chain.pem"),
            ca=("no-ca.pem",),
            minVersion="1.3",
            maxVersion="1.2",
            ciphers="NONSENSE",
            ciphersuites="TLS_NONSENSE",
            groups="",
            alpn=("x" * 256,),
            name="a..b",
        )
        found = self.problems(ClientTLS.load, policy, "shop.example")
        for key, words in (
            ("cert", "no-chain.pem does not exist"),
            ("ca", "no-ca.pem does not exist"),
            ("min_version", "above max_version"),
            ("ciphers", "'NONSENSE'"),
            ("ciphersuites", "'TLS_NONSENSE'"),
            ("groups", "groups ''"),
            ("alpn", "1 to 255 bytes"),
            ("name", "'a..b' is no host name"),
        ):
            self.assertIn(words, found.pop(f"upstream_tls.{key}"))
        self.assertEqual(found, {})

    def test_section(self) -> None:
        """
        The keys start with what the caller calls the section.
        """
        self.assertEqual(list(self.problems(ServerTLS.load, ServerPolicy(), section="route.tls")), ["route.tls.cert"])
        found = self.problems(ClientTLS.load, ClientPolicy(), "", section="route.upstream_tls")
        self.assertEqual(list(found), ["route.upstream_tls.name"])

    def test_incomplete(self) -> None:
        """
        What cannot be left out is asked for: a certificate toward clients, a CA where client certificates are wanted,
        and for the upstream a CA and a name.
        """
        found = self.problems(ServerTLS.load, ServerPolicy(clientAuth="optional"))
        self.assertEqual(
            found,
            {
                "tls.cert": "a certificate is needed to speak TLS with clients",
                "tls.client_ca": "client certificates are asked for, but no CA is named",
            },
        )
        found = self.problems(ClientTLS.load, ClientPolicy(ca=()), "")
        self.assertEqual(
            found,
            {
                "upstream_tls.name": "say which name the upstream's certificate must show",
                "upstream_tls.ca": 'say which CA to trust: a PEM file, or "system"',
            },
        )

    def test_ciphers(self) -> None:
        """
        OpenSSL's words for groups of cipher suites, and its signs before them, are taken.
        """
        for ciphers in ("ECDHE+AESGCM:!AES128", "HIGH:-AES128:+AES256:@STRENGTH", "ALL:@SECLEVEL=1"):
            self.server(ciphers=ciphers)
        for ciphers in ("", "!ALL", "b\xfccher"):
            policy = ClientPolicy(ca=(self.anchor,), ciphers=ciphers)
            self.assertEqual(list(self.problems(ClientTLS.load, policy, "shop.example")), ["upstream_tls.ciphers"])

    def test_badNames(self) -> None:
        """
        A host that no certificate could show is refused, and named.
        """
        for name in ("a..b", ".", "a b", "*.example", "\0.example", "[::1]", "a" * 64, "\N{SNOWMAN}.example"):
            found = self.problems(ClientTLS.load, ClientPolicy(ca=(self.anchor,)), name)
            self.assertIn(repr(name), found["upstream_tls.name"])

    def test_system(self) -> None:
        """
        The CAs of the system can be trusted alone and beside others.
        """
        for ca in (("system",), ("system", self.anchor)):
            self.assertEqual(self.client(ca=ca).warnings, ())

    def test_warnings(self) -> None:
        """
        What works but is doubtful comes with the rest: an expired certificate, and an upstream that is not verified.
        """
        server = self.server(self.issued("shop.example", age=NOW - NOW.replace(month=1)))
        self.assertEqual([each.split(" HAS ")[1].split(",")[0] for each in server.warnings], ["EXPIRED"])
        client = self.client(auth="none", identity=self.issued(age=NOW - NOW.replace(month=1)))
        self.assertEqual(len(client.warnings), 2)
        self.assertIn("not verified at all", client.warnings[1])

    def test_otherPlaces(self) -> None:
        """
        The key may lie in a file of its own.
        """
        both = Path(self.keep("both", self.issued("shop.example")).chain).read_bytes()
        cut = both.index(b"-----BEGIN PRIVATE KEY")
        (self.folder / "chain.pem").write_bytes(both[:cut])
        (self.folder / "key.pem").write_bytes(both[cut:])
        files = CertificateFiles(str(self.folder / "chain.pem"), str(self.folder / "key.pem"))
        tls = ServerTLS.load(ServerPolicy(cert=files), now=NOW)
        self.connected(tls)


class NegotiationTests(PairCase):
    """
    Tests for what is negotiated.
    """

    def met(self, server: ServerTLS | SSL.Context, client: ClientTLS | SSL.Context) -> tuple[Met, Met, TLSStream]:
        """
        Try a handshake between our side and a stranger's context.

        @return: what the server and the client met, and the server.
        """
        here, there = self.sockets()
        ends = (
            TLSStream(server, here, True) if isinstance(server, SSL.Context) else server.connect(here),
            TLSStream(client, there, False) if isinstance(client, SSL.Context) else client.connect(there),
        )
        return *shake(*ends), ends[0]

    def stranger(self, method: int, ciphers: bytes = b"DEFAULT", groups: str = "") -> SSL.Context:
        """
        Make a context that takes anything.
        """
        context = SSL.Context(method)
        context.set_cipher_list(ciphers + b":@SECLEVEL=0")
        if groups:
            setGroups(context, groups)
        if method == SSL.TLS_SERVER_METHOD:
            identity = self.issued("shop.example")
            context.use_certificate(identity.chain[0])
            context.use_privatekey(identity.key)
        return context

    def test_versions(self) -> None:
        """
        TLS 1.3 and 1.2 are spoken, the newer where both can; the policy can leave either out.
        """
        policies: list[tuple[dict[str, Any], str]] = [
            ({}, "TLSv1.3"),
            ({"maxVersion": "1.2"}, "TLSv1.2"),
            ({"minVersion": "1.3"}, "TLSv1.3"),
        ]
        for policy, spoken in policies:
            for ends in (
                self.connected(self.server(**policy), self.client()),
                self.connected(self.server(), self.client(**policy)),
            ):
                self.assertEqual(ends[0].connection.get_protocol_version_name(), spoken)
        server, _ = shake(*self.ends(self.server(minVersion="1.3"), self.client(maxVersion="1.2")))
        self.assertEqual(server.alert, (PROTOCOL_VERSION, True))

    def test_oldVersions(self) -> None:
        """
        TLS 1.1 is refused on both sides.
        """
        for method in (SSL.TLS_CLIENT_METHOD, SSL.TLS_SERVER_METHOD):
            other = self.stranger(method)
            other.set_min_proto_version(SSL.TLS1_VERSION)
            other.set_max_proto_version(SSL.TLS1_1_VERSION)
            if method == SSL.TLS_CLIENT_METHOD:
                ours, theirs, _ = self.met(self.server(), other)
            else:
                theirs, ours, _ = self.met(other, self.client())
            self.assertNotIdentical(ours.error, None)
            self.assertNotIdentical(theirs.error, None)
            self.assertEqual((ours.alert or (0, False))[0], PROTOCOL_VERSION)

    def test_oldCiphers(self) -> None:
        """
        In TLS 1.2 neither CBC nor a key exchange without forward secrecy is spoken, on either side.
        """
        identity = self.authority.issue(
            commonName="a test",
            names=["shop.example"],
            server=True,
            client=False,
            lifetime=NOW - NOW.replace(month=10),
            now=NOW,
            key=rsa.generate_private_key(65537, 2048),
        )
        for ciphers, good in (
            (b"ECDHE-RSA-AES128-GCM-SHA256", True),
            (b"ECDHE-RSA-CHACHA20-POLY1305", True),
            (b"ECDHE-RSA-AES128-SHA256", False),
            (b"ECDHE-RSA-AES128-SHA", False),
            (b"AES128-GCM-SHA256", False),
        ):
            for method in (SSL.TLS_CLIENT_METHOD, SSL.TLS_SERVER_METHOD):
                other = self.stranger(method, ciphers)
                other.set_max_proto_version(SSL.TLS1_2_VERSION)
                if method == SSL.TLS_CLIENT_METHOD:
                    met, _, _ = self.met(self.server(identity), other)
                else:
                    other.use_certificate(identity.chain[0])
                    other.use_privatekey(identity.key)
                    _, met, _ = self.met(other, self.client())
                self.assertEqual(met.error is None, good, f"{ciphers!r}: {met}")

    def test_hybridFirst(self) -> None:
        """
        The hybrid post-quantum group is taken where the peer knows it, whatever it likes best, and another elsewhere.
        """
        for groups, taken in (
            ("X25519MLKEM768:X25519", "X25519MLKEM768"),
            ("X25519", "x25519"),
            ("P-256", "secp256r1"),
        ):
            met, _, server = self.met(self.server(), self.stranger(SSL.TLS_CLIENT_METHOD, groups=groups))
            self.assertIdentical(met.error, None)
            self.assertEqual(server.connection.get_group_name(), taken)
            _, met, server = self.met(self.stranger(SSL.TLS_SERVER_METHOD, groups=groups), self.client())
            self.assertIdentical(met.error, None)
            self.assertEqual(server.connection.get_group_name(), taken)

    def test_ciphersuites(self) -> None:
        """
        The policy's TLS 1.3 cipher suites are spoken, and no others.
        """
        server = self.server(ciphersuites="TLS_CHACHA20_POLY1305_SHA256")
        ends = self.connected(server, self.client())
        self.assertEqual(ends[0].connection.get_cipher_name(), "TLS_CHACHA20_POLY1305_SHA256")
        met, _ = shake(*self.ends(server, self.client(ciphersuites="TLS_AES_128_GCM_SHA256")))
        self.assertNotIdentical(met.error, None)


class ALPNTests(PairCase):
    """
    Tests for the application protocols (RFC 7301).
    """

    def spoken(self, ours: tuple[str, ...], theirs: tuple[str, ...], version: str) -> bytes:
        """
        Complete a handshake.

        @return: the protocol that both ends agreed on, empty if none.
        """
        ends = self.connected(self.server(alpn=ours), self.client(alpn=theirs, maxVersion=version))
        server, client = (each.connection.get_alpn_proto_negotiated() for each in ends)
        self.assertEqual(server, client)
        return server

    def test_ourOrder(self) -> None:
        """
        Of the protocols that the client offers the one that we want most is taken.
        """
        for version in VERSIONS:
            self.assertEqual(self.spoken(("h2", "http/1.1"), ("x", "http/1.1", "h2"), version), b"h2")
            self.assertEqual(self.spoken(("http/1.1", "h2"), ("x", "h2", "http/1.1"), version), b"http/1.1")
            self.assertEqual(self.spoken(("h2", "http/1.1"), ("http/1.1",), version), b"http/1.1")

    def test_none(self) -> None:
        """
        Where either side names no protocol none is spoken.
        """
        for version in VERSIONS:
            self.assertEqual(self.spoken(("h2",), (), version), b"")
            self.assertEqual(self.spoken((), ("h2",), version), b"")
            self.assertEqual(self.spoken((), (), version), b"")

    def test_noOverlap(self) -> None:
        """
        A client that offers only other protocols is refused, told so by the alert that is meant for it, and named with
        what it offers.
        """
        for version in VERSIONS:
            client = self.client(alpn=("spdy/3", "x"), maxVersion=version)
            ours, theirs = shake(*self.ends(self.server(alpn=("h2",)), client))
            self.assertIsInstance(ours.error, AdmissionRefused)
            self.assertIn("offers only the application protocols 'spdy/3', 'x', none of the", str(ours.error))
            self.assertEqual(ours.alert, (NO_APPLICATION_PROTOCOL, True))
            self.assertEqual(theirs.alert, (NO_APPLICATION_PROTOCOL, False))

    def test_flood(self) -> None:
        """
        However many protocols a client offers, and whatever is in their names, the sentence stays short and printable.
        """
        for offered in (["\r\n" * 100] * 200, ["'\"\x1b[2J" + str(number) for number in range(1000)], ["\xff"] * 9):
            here, there = self.sockets()
            client = self.client().connect(there, alpn=[each.encode() for each in offered])
            met, _ = shake(self.server(alpn=("h2",)).connect(here), client)
            self.assertIsInstance(met.error, AdmissionRefused)
            sentence = str(met.error)
            self.assertTrue(sentence.isprintable())
            self.assertTrue(len(sentence) < 700, sentence)
            self.assertIn(f" and {len(offered) - 4} more", sentence)

    def test_offerOnce(self) -> None:
        """
        What one connection offers can differ from the policy, and can be nothing.
        """
        server, client = self.server(alpn=("h2", "http/1.1")), self.client(alpn=("h2",))
        for offered, spoken in ((None, b"h2"), ([b"http/1.1"], b"http/1.1"), ([], b"")):
            here, there = self.sockets()
            ends = server.connect(here), client.connect(there, alpn=offered)
            self.assertEqual([each.error for each in shake(*ends)], [None, None])
            self.assertEqual(ends[0].connection.get_alpn_proto_negotiated(), spoken)
