# -*- test-case-name: tests.test_summaries -*-
"""
Tests for L{tlsproxy.summaries}: what is told of a route is what its clients and upstreams meet.
"""

from __future__ import annotations

import json
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

from attrs import fields
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from tests.configuring import PIN, ROUTES, ConfigurationTestCase
from tlsproxy.route import Limits, Route
from tlsproxy.summaries import lines, summary, weaknesses
from tlsproxy.testing.certificates import NOW, Holder, certify, write


class SummaryCase(ConfigurationTestCase):
    """
    A test of summaries.
    """

    def route(self, mode: str, **more: Any) -> Route:
        """
        Read a route.
        """
        return self.build(self.document(mode, **more)).routes[0]

    def told(self, mode: str, **more: Any) -> dict[str, Any]:
        """
        Sum a route up.
        """
        return summary(self.route(mode, **more), NOW)


class SummaryTests(SummaryCase):
    """
    Tests for L{summary}.
    """

    def test_everyMode(self) -> None:
        """
        A route of each mode can be told as JSON, and in lines that are no longer than any other.
        """
        for mode in ROUTES:
            told = self.told(mode)
            self.assertEqual(told, json.loads(json.dumps(told)))
            self.assertEqual((mode, mode), (told["name"], told["mode"]))
            for line in lines(told):
                self.assertTrue(len(line) <= 120 and line.isprintable(), line)

    def test_grants(self) -> None:
        """
        Of a reverse proxy: who may reach what, and when its TLS comes off.
        """
        first = {"cn": ["Bob", "Ann"], "email": "*@x.example", "targets": ["a.example:1", "10.0.0.0/8:*"]}
        second = {"uri": "spiffe://x/**", "pin": PIN, "targets": "b.example:2", "sni": "none"}
        told = self.told("sequential-server", grant=[first, second], targets={"deny": "10.9.0.0/16"})
        by, pin = "issued by CN=Example CA", bytes(32).hex()
        self.assertEqual(
            [
                f"cn Ann or Bob or email *@x.example, {by}: a.example:1 or 10.0.0.0/8:*",
                f"uri spiffe://x/** or pin sha256:{pin}, {by}: b.example:2, and inside none",
            ],
            told["grants"],
        )
        self.assertEqual(2, sum(line.startswith("  grants ") for line in lines(told)))
        wide = self.told("sequential-server", grant=[first | {"targets": [f"host{n}.example:1" for n in range(25)]}])
        self.assertTrue(max(map(len, lines(wide))) <= 120)
        self.assertEqual({"deny": ["10.9.0.0/16"]}, told["targets"])
        self.assertNotIn("targets", self.told("sequential-server"))
        self.assertEqual(("handshake", "socket", "first"), (told["downgrade"], told["take_off"], told["framing"]))
        self.assertNotIn("asks_for_passwords", told)

    def test_mapping(self) -> None:
        """
        Of a client proxy: what leads where, who the reverse proxies have to be, and when TLS comes off.
        """
        more = {"downgrade": "none", "take_off": "loopback", "upstream_proxy": "socks5://proxy.example:1080"}
        told = self.told("sequential-client", **more)
        self.assertEqual(["dmz (dmz.example:443), which has to be dmz.example"], told["reverse_proxies"])
        self.assertEqual(("none", "loopback", "first"), (told["downgrade"], told["take_off"], told["framing"]))
        self.assertEqual(more["upstream_proxy"], told["upstream_proxy"])
        self.assertNotIn("mapping_expires", told)
        tls = told["upstream_tls"]
        self.assertEqual(
            (["tlsproxy-seq/1", "http/1.1"], "for the name of each reverse proxy"), (tls["alpn"], tls["verified"])
        )

    def test_tls(self) -> None:
        """
        Of TLS toward clients: versions, cipher suites that the key can be used with, groups, application protocols and
        certificates.
        """
        names = [x509.DNSName("shop.example"), x509.IPAddress(ip_address("192.0.2.1"))]
        named = certify("server.example", self.ca, names=names)
        write(str(self.folder / "named.pem"), named.pem(), named.keyPEM())
        tls = self.told("offload", tls={"cert": "named.pem", "alpn": ["h2", "http/1.1"]})["tls"]
        self.assertEqual(["1.2", "1.3"], tls["versions"])
        self.assertEqual("TLS_AES_256_GCM_SHA384", tls["cipher_suites"][0])
        older = [suite for suite in tls["cipher_suites"] if not suite.startswith("TLS_")]
        self.assertEqual({"ECDHE-ECDSA"}, {suite[:11] for suite in older})
        self.assertEqual(["X25519MLKEM768", "X25519", "P-256", "P-384"], tls["groups"])
        self.assertEqual((["h2", "http/1.1"], "none", True), (tls["alpn"], tls["client_auth"], tls["resumption"]))
        (certificate,) = tls["certificates"]
        self.assertEqual((["shop.example", "192.0.2.1"], "EC P-256"), (certificate["names"], certificate["key"]))
        until = named.certificate.not_valid_after_utc
        self.assertEqual((until - NOW).days, certificate["days_left"])
        self.assertEqual(f"{until:%Y-%m-%dT%H:%M:%SZ}", certificate["until"])

    def test_several(self) -> None:
        """
        Of several certificates each is told, and the suites of all their kinds of keys.
        """
        key = rsa.generate_private_key(65537, 2048)
        builder = x509.CertificateBuilder(
            self.ca.certificate.subject, self.ca.certificate.subject, key.public_key(), 5, NOW, NOW + timedelta(100)
        )
        holder = Holder(builder.sign(self.ca.key, hashes.SHA256()), key)
        write(str(self.folder / "rsa.pem"), holder.pem(), holder.keyPEM())
        tls = self.told("offload", tls={"cert": ["server.pem", "rsa.pem"]})["tls"]
        self.assertEqual({"EC P-256", "RSA 2048"}, {one["key"] for one in tls["certificates"]})
        older = [suite for suite in tls["cipher_suites"] if not suite.startswith("TLS_")]
        self.assertEqual({"ECDHE-ECDSA", "ECDHE-RSA-A", "ECDHE-RSA-C"}, {suite[:11] for suite in older})

    def test_oneVersion(self) -> None:
        """
        Suites of a version that is not spoken are not told.
        """
        for version, older in (("1.3", False), ("1.2", True)):
            tls = self.told("offload", tls={"cert": "server.pem", "min_version": version, "max_version": version})[
                "tls"
            ]
            self.assertEqual([version], tls["versions"])
            self.assertEqual({older}, {not suite.startswith("TLS_") for suite in tls["cipher_suites"]})

    def test_order(self) -> None:
        """
        Suites are told in the order in which they are wanted.
        """
        words = "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256"
        tls = self.told("offload", tls={"cert": "server.pem", "max_version": "1.2", "ciphers": words})["tls"]
        self.assertEqual(words.split(":"), tls["cipher_suites"])

    def test_clientCertificates(self) -> None:
        """
        Where client certificates are asked for, that is told, with the CAs, and that nothing is resumed.
        """
        tls = self.told("offload", tls={"cert": "server.pem", "client_ca": "ca.pem"})["tls"]
        self.assertEqual(
            ("required", False, [f"{self.folder}/ca.pem"]), (tls["client_auth"], tls["resumption"], tls["client_ca"])
        )

    def test_allowed(self) -> None:
        """
        Who of them is let in is told; and what those are asked for who ask for some names.
        """
        host = {"sni": ["a.example", "*.b.example"], "client_ca": "ca.pem", "allow_uri": "spiffe://x/*"}
        asking = {"cert": "server.pem", "client_ca": "ca.pem", "allow_cn": ["Ann", "Bob"], "host": [host]}
        document = self.document("offload", tls=asking)
        told = summary(self.build(document).routes[0], NOW)
        self.assertEqual(["Ann", "Bob"], told["tls"]["allow_cn"])
        self.assertNotIn("allow_all", told["tls"])
        ca = [f"{self.folder}/ca.pem"]
        self.assertEqual(
            [{"sni": host["sni"], "client_auth": "required", "client_ca": ca, "allow_uri": ["spiffe://x/*"]}],
            told["tls"]["host"],
        )
        self.assertFalse(told["tls"]["resumption"])
        written = lines(told)
        place = written.index("    host a.example, *.b.example")
        self.assertIn("allow uri", "".join(written[place : place + 4]))

    def test_pinned(self) -> None:
        """
        An upstream that its key alone verifies is told as such.
        """
        tls = self.told("encrypt", upstream_tls={"auth": "none", "pins": PIN})["upstream_tls"]
        self.assertEqual(("by its key alone", [PIN]), (tls["verified"], tls["pins"]))

    def test_upstream(self) -> None:
        """
        Of TLS toward the upstream: how it is verified, and what we show.
        """
        tls = self.told("encrypt", upstream_tls={"ca": "ca.pem", "cert": "server.pem"})["upstream_tls"]
        self.assertEqual(
            ("for origin.example", [f"{self.folder}/ca.pem"], f"{self.folder}/server.pem"),
            (tls["verified"], tls["ca"], tls["certificates"][0]["files"][0]),
        )
        self.assertTrue({"ECDHE-ECDSA", "ECDHE-RSA-A"} <= {suite[:11] for suite in tls["cipher_suites"]})
        tls = self.told("encrypt", upstream_tls={"auth": "none"})["upstream_tls"]
        self.assertEqual(("not at all", False), (tls["verified"], "ca" in tls))

    def test_rules(self) -> None:
        """
        Rules are sentences, with their number.
        """
        rules = [
            {"sni": ["*.old.example", "x.example"], "alpn": "h2", "upstream": "old.example:443"},
            {"client": "10.0.0.0/8", "refuse": "close"},
            {"refuse": "alert"},
        ]
        document = self.document("passthrough", rule=rules)
        del document["route"][0]["upstream"]
        told = summary(self.build(document).routes[0], NOW)
        self.assertEqual(
            [
                "sni *.old.example or x.example and alpn h2: dial old.example:443",
                "client 10.0.0.0/8: refuse by close",
                "anybody: refuse by alert",
            ],
            told["rules"],
        )
        self.assertIn("  rule 3                  anybody: refuse by alert", lines(told))
        self.assertNotIn("upstream", told)

    def test_others(self) -> None:
        """
        Targets, users, handlers, limits, and what else a route is told.
        """
        told = self.told("connect", users="users.txt", targets={"allow": ["*.example:443"], "deny": ["x.example"]})
        self.assertEqual({"allow": ["*.example:443"], "deny": ["x.example"]}, told["targets"])
        self.assertTrue(told["asks_for_passwords"])
        told = self.told("offload", close="both", handler=[{"name": "rate", "down": 5}], limits={"idle": 7})
        self.assertEqual(("both", ["rate"], 7), (told["close"], told["handlers"], told["limits"]["idle"]))
        self.assertEqual(len(fields(Limits)), len(told["limits"]))
        told = self.told("offload", accept_proxy=["10.0.0.0/8", "192.0.2.7", "unix"])
        self.assertEqual(["10.0.0.0/8", "192.0.2.7/32", "unix"], told["accept_proxy"])
        self.assertNotIn("accept_proxy", self.told("offload"))

    def test_resumption(self) -> None:
        """
        Sessions are resumed where some clients are asked for no certificate, and that nobody is asked for any is told
        only where somebody has said so.
        """
        asking, open_ = {"sni": "a.example", "client_ca": "ca.pem"}, {"sni": "b.example", "client_auth": "none"}
        for tls, resumes in (
            ({"host": [asking]}, False),
            ({"host": [asking, open_]}, True),
            ({"host": [asking], "client_auth": "none"}, True),
            ({"host": [open_], "client_ca": "ca.pem"}, True),
        ):
            document = self.document("offload", tls={"cert": "server.pem", **tls})
            told = summary(self.build(document).routes[0], NOW)
            self.assertEqual(resumes, told["tls"]["resumption"], tls)
            self.assertEqual(len(tls) > 1, "client_auth" in told["tls"], tls)

    def test_lines(self) -> None:
        """
        People are told the same, with the days that a certificate has left.
        """
        text = "\n".join(lines(self.told("bridge")))
        for part in (
            "route bridge: bridge\n",
            "\n  listen                  127.0.0.1:8443\n",
            "\n  tls\n    versions              1.2, 1.3\n",
            "\n    alpn                  none\n",
            "for server.example; EC P-256; CN=server.example, issued by",
            " days left)",
            "\n    resumption            yes\n",
            "upstream_handshake 10 s, ",
            "lifetime none",
        ):
            self.assertIn(part, text)
        expired = summary(self.route("offload"), NOW + timedelta(days=10_000))
        self.assertIn("(EXPIRED)", "\n".join(lines(expired)))

    def test_many(self) -> None:
        """
        Of very many things, people are told of some.
        """
        told = self.told("offload", tls={"cert": "server.pem", "alpn": [f"p{number}" for number in range(100)]})
        text = " ".join(" ".join(lines(told)).split())
        self.assertIn("p19, and 80 more", text)
        self.assertNotIn("p20,", text)


class KeyTests(SummaryCase):
    """
    Other keys, and weak signatures.
    """

    def signed(self, key: Any, algorithm: Any) -> Route:
        """
        Serve with a certificate.
        """
        builder = x509.CertificateBuilder(
            self.ca.certificate.subject,
            self.server.certificate.subject,
            key.public_key(),
            5,
            NOW - timedelta(1),
            NOW + timedelta(100),
        )
        holder = Holder(builder.sign(self.ca.key, algorithm), key)
        write(str(self.folder / "other.pem"), holder.pem(), holder.keyPEM())
        return self.route("offload", tls={"cert": "other.pem"})

    def test_kinds(self) -> None:
        """
        Each kind of key has its suites.
        """
        for key, told, part in (
            (rsa.generate_private_key(65537, 2048), "RSA 2048", "ECDHE-RSA-"),
            (ed25519.Ed25519PrivateKey.generate(), "Ed25519", "ECDHE-ECDSA-"),
        ):
            tls = summary(self.signed(key, hashes.SHA256()), NOW)["tls"]
            self.assertEqual((told, []), (tls["certificates"][0]["key"], tls["certificates"][0]["names"]))
            older = [suite for suite in tls["cipher_suites"] if not suite.startswith("TLS_")]
            self.assertTrue(older and all(suite.startswith(part) for suite in older), older)

    def test_strong(self) -> None:
        """
        There is nothing to tell of good certificates, or where there are none.
        """
        for mode in ROUTES:
            self.assertEqual([], weaknesses(self.route(mode)))

    def test_weak(self) -> None:
        """
        A signature that nobody accepts any more is told.
        """
        key = rsa.generate_private_key(65537, 2048)
        (sentence,) = weaknesses(self.weak(key))
        self.assertIn("is signed with SHA1, which peers do not accept any more: have it issued anew: CN=", sentence)

    def weak(self, key: Any) -> Any:
        """
        A route whose certificate says that it is signed with SHA-1, which the library makes no more.
        """

        class Weak:
            signature_hash_algorithm = hashes.SHA1()
            issuer, subject = self.ca.certificate.subject, self.server.certificate.subject

            def __getattr__(weak, name: str) -> Any:
                return getattr(self.server.certificate, name)

        class Shown:
            chain = (Weak(),)

        class TLS:
            identities = (Shown(),)

        class Pattern:
            tls = TLS()

        class Served:
            pattern = Pattern()

        return Served()
