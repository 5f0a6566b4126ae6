"""
Tests for L{tlsproxy.tls.explain}: the sentences for what ends a handshake or a connection.

Those for peers that do not follow the protocol are in L{tests.tls.test_explain_strangers}.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

from tests.tls.pairs import VERSIONS, PairCase, shake, take
from tests.tls.test_failures import everyTrouble
from tlsproxy.errors import AdmissionRefused, DialFailed, HandshakeFailed, SessionError, TLSProxyError
from tlsproxy.interfaces import FAILED
from tlsproxy.testing.certificates import NOW, Holder, certify
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.explain import ALERTS, explainFailure, explainHandshake
from tlsproxy.tls.native import TLSStream

ALTERNATIVE_NAMES = x509.ObjectIdentifier("2.5.29.17")


def withoutRemedy(sentence: str, near: bool) -> str:
    """
    Take off a sentence what would mend it.
    """
    remedies = {one.remedy("the client" if near else "the upstream") for one in everyTrouble()} - {""}
    found = [one for one in remedies if sentence.endswith(one)]
    return min((sentence.removesuffix(one) for one in found), key=len, default=sentence)


class ExplainCase(PairCase):
    """
    A test of sentences.
    """

    def told(self, server: ServerTLS, client: ClientTLS) -> tuple[str, str]:
        """
        Let a handshake fail.

        @return: what we tell of the client where we are the server, and of the upstream where we are the client: at
            its first read where it has completed the handshake.  What would mend it is left out.
        """
        ends = self.ends(server, client)

        def tell(stream: TLSStream, error: Exception) -> SessionError:
            if stream is ends[0]:
                return explainHandshake(stream, error, "the client")
            return explainHandshake(stream, error, "the upstream", client.name)

        sentences = []
        for stream, peer, met in zip(ends, ("the client", "the upstream"), shake(*ends, tell), strict=True):
            if met.error is None:
                self.assertEqual((take(stream), stream.state), (b"", FAILED))
                sentences.append(explainFailure(stream, peer))
            else:
                self.assertIsInstance(met.told, (HandshakeFailed, AdmissionRefused))
                sentences.append(str(met.told))
        return withoutRemedy(sentences[0], True), withoutRemedy(sentences[1], False)


class HandshakeTests(ExplainCase):
    """
    Tests for L{explainHandshake} with peers that want something else.
    """

    def refused(self, host: str, identity: Identity | Holder, version: str) -> tuple[str, str]:
        """
        Let a client refuse the upstream's certificate.
        """
        return self.told(self.server(identity), self.client(host, maxVersion=version))

    def test_certificates(self) -> None:
        """
        Whose certificate is refused, and why, is told with the alert that was sent; and the other side tells what the
        alert that it received says of its certificate.
        """
        stranger = Authority.create("Stranger", lifetime=timedelta(days=365), now=NOW)
        good = self.issued("shop.example", "10.0.0.1")
        for host, identity, problem, alert, meaning in (
            (
                "other.example",
                good,
                "it is not for other.example; it is for shop.example, 10.0.0.1",
                "bad_certificate",
                "or not for the name it wants",
            ),
            ("10.0.0.2", good, "it is not for 10.0.0.2; it is for shop.example, 10.0.0.1", "bad_certificate", "bad"),
            ("shop.example", self.issued(), "it is not for shop.example; it is for no names", "bad_certificate", "bad"),
            (
                "shop.example",
                self.issued("shop.example", age=timedelta(days=91)),
                "certificate has expired",
                "certificate_expired",
                "it finds our certificate expired",
            ),
            (
                "shop.example",
                self.issued("shop.example", authority=stranger),
                "unable to get local issuer certificate",
                "unknown_ca",
                "it does not know the CA that issued our certificate",
            ),
            (
                "shop.example",
                certify("", names=[x509.DNSName("shop.example")]),
                "self-signed certificate",
                "unknown_ca",
                "it does not know the CA that issued our certificate",
            ),
        ):
            for version in VERSIONS:
                ofClient, ofUpstream = self.refused(host, identity, version)
                self.assertEqual(ofUpstream, f"the upstream's certificate is refused: {problem} (alert {alert} sent)")
                self.assertIn(f"the client broke TLS off (alert {alert} received): ", ofClient)
                self.assertIn(meaning, ofClient)

    def test_clientCertificates(self) -> None:
        """
        The same for the client's certificate. In TLS 1.3 the client hears of it only when it reads, and tells the same
        then.
        """
        stranger = Authority.create("Stranger", lifetime=timedelta(days=365), now=NOW)
        for identity, problem, alert, meaning in (
            (
                self.issued(age=timedelta(days=91)),
                "the client's certificate is refused: certificate has expired",
                "certificate_expired",
                "it finds our certificate expired",
            ),
            (
                self.issued(authority=stranger),
                "the client's certificate is refused: unable to get local issuer certificate",
                "unknown_ca",
                "it does not know the CA that issued our certificate",
            ),
        ):
            for version in VERSIONS:
                server = self.server(clientCa=(self.anchor,))
                ofClient, ofUpstream = self.told(server, self.client(identity=identity, maxVersion=version))
                self.assertEqual(ofClient, f"{problem} (alert {alert} sent)")
                self.assertEqual(ofUpstream, f"the upstream broke TLS off (alert {alert} received): {meaning}")

    def test_noClientCertificate(self) -> None:
        """
        That a certificate is demanded is told on both sides; TLS 1.2 has no alert that says so, but the words do.
        """
        for version, alert in (("1.2", "handshake_failure"), ("1.3", "certificate_required")):
            ofClient, ofUpstream = self.told(self.server(clientCa=(self.anchor,)), self.client(maxVersion=version))
            self.assertEqual(ofClient, f"the client showed no certificate, and one is demanded (alert {alert} sent)")
            self.assertIn(f"the upstream broke TLS off (alert {alert} received): it ", ofUpstream)
            self.assertIn("certificate", ofUpstream.partition(": ")[2])

    def test_nothingShared(self) -> None:
        """
        What is not shared is told by its name.
        """
        one, other = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
        cases: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
            ({"minVersion": "1.3"}, {"maxVersion": "1.2"}, "no TLS version is shared", "protocol_version"),
            ({"maxVersion": "1.2"}, {"minVersion": "1.3"}, "no TLS version is shared", "protocol_version"),
            (
                {"ciphers": one, "maxVersion": "1.2"},
                {"ciphers": other},
                "no cipher suite is shared",
                "handshake_failure",
            ),
            (
                {"ciphersuites": "TLS_AES_128_GCM_SHA256", "minVersion": "1.3"},
                {"ciphersuites": "TLS_AES_256_GCM_SHA384"},
                "no cipher suite is shared",
                "handshake_failure",
            ),
            (
                {"groups": "P-256", "minVersion": "1.3"},
                {"groups": "X25519"},
                "no key exchange group is shared",
                "handshake_failure",
            ),
        ]
        for ours, theirs, what, alert in cases:
            ofClient, ofUpstream = self.told(self.server(**ours), self.client(**theirs))
            self.assertEqual(ofClient, f"TLS with the client failed: {what} (alert {alert} sent)")
            self.assertIn(f"the upstream broke TLS off (alert {alert} received): it s", ofUpstream)

    def test_applicationProtocols(self) -> None:
        """
        What the client offers is told by us, and that it is not spoken by the upstream.
        """
        for version in VERSIONS:
            ofClient, ofUpstream = self.told(
                self.server(alpn=("h2",)), self.client(alpn=("http/1.1",), maxVersion=version)
            )
            self.assertEqual(
                ofClient,
                "the client offers only the application protocols 'http/1.1', none of the route's; "
                "add one to alpn of tls, or have it offer another",
            )
            self.assertEqual(
                ofUpstream,
                "the upstream broke TLS off (alert no_application_protocol received): "
                "it speaks none of the application protocols offered",
            )


class OtherErrorTests(ExplainCase):
    """
    Tests for errors that are not the library's.
    """

    def test_alreadyExplained(self) -> None:
        """
        An error with a sentence of its own is handed on, as a session's.
        """
        server, _ = self.connected()
        error = DialFailed("no route")
        self.assertIdentical(explainHandshake(server, error, "the client"), error)
        explained = explainHandshake(server, TLSProxyError("another"), "the client")
        self.assertIsInstance(explained, HandshakeFailed)
        self.assertEqual(str(explained), "another")

    def test_bugs(self) -> None:
        """
        What nobody foresaw is not explained away.
        """
        server, _ = self.connected()
        error = KeyError("a bug")
        self.assertIdentical(self.assertRaises(KeyError, explainHandshake, server, error, "the client"), error)

    def test_withoutWords(self) -> None:
        """
        Where the library says nothing there still is a sentence.
        """
        server, _ = self.connected()
        for error in (SSL.Error([]), SSL.Error(), SSL.Error([("", "", "")]), SSL.WantX509LookupError()):
            sentence = str(explainHandshake(server, error, "the client"))
            self.assertEqual(sentence, "TLS with the client failed: OpenSSL does not say why")
        error = SSL.Error([("system library", "", ""), ("SSL routines", "", "bad things")])
        self.assertIn(": bad things", str(explainHandshake(server, error, "the client")))
        self.assertEqual(explainFailure(server, "the client"), "the client broke TLS")

    def test_alerts(self) -> None:
        """
        Alerts go by the names of RFC 8446.
        """
        names = ["close_notify", "handshake_failure", "certificate_required"]
        self.assertEqual([ALERTS[each] for each in (0, 40, 116)], names)
        self.assertTrue(all(name.isidentifier() and 0 <= number < 256 for number, name in ALERTS.items()))


class NameTests(ExplainCase):
    """
    Tests for names in the peer's certificate, which are of its own choosing.
    """

    def shown(self, holder: Holder) -> str:
        """
        Let a client refuse an otherwise good certificate for its names.

        @return: the sentence.
        """
        sentence = self.told(self.server(holder), self.client("shop.example"))[1]
        self.assertTrue(sentence.isprintable(), ascii(sentence))
        self.assertTrue(len(sentence) < 1000, sentence)
        head, found, names = sentence.partition("certificate is refused: it is not for shop.example; it is for ")
        self.assertTrue(found, sentence)
        return names.removesuffix(" (alert bad_certificate sent)")

    def named(self, *names: x509.GeneralName) -> Holder:
        """
        Certify some names.
        """
        return certify("a test", Holder(self.authority.certificate, self.authority.key), names=names)

    def raw(self, der: bytes) -> Holder:
        """
        Certify alternative names that are given in their encoding.
        """
        signer = Holder(self.authority.certificate, self.authority.key)
        template = certify("a test", signer)
        builder = x509.CertificateBuilder(
            signer.certificate.subject,
            template.certificate.subject,
            template.certificate.public_key(),
            x509.random_serial_number(),
            template.certificate.not_valid_before_utc,
            template.certificate.not_valid_after_utc,
        )
        builder = builder.add_extension(x509.UnrecognizedExtension(ALTERNATIVE_NAMES, der), critical=False)
        return Holder(builder.sign(self.authority.key, hashes.SHA256()), template.key)

    def test_printable(self) -> None:
        """
        Control characters are escaped, and so are the ends of lines.
        """
        names = [x509.DNSName(name) for name in ("a\r\nb.example", "\x1b[2J\x00\x7f", 'it\'s "me"')]
        self.assertEqual(self.shown(self.named(*names)), 'a\\r\\nb.example, \\x1b[2J\\x00\\x7f, it\'s "me"')

    def test_bounded(self) -> None:
        """
        Of many names a few are told, and of long ones a part.
        """
        self.assertEqual(
            self.shown(self.named(*(x509.DNSName(f"{number}.example") for number in range(1000)))),
            "0.example, 1.example, 2.example, 3.example and 996 more",
        )
        self.assertEqual(self.shown(self.named(x509.DNSName("x" * 10000))), "x" * 117 + "...")

    def test_otherKinds(self) -> None:
        """
        Names of other kinds than were looked for are left out.
        """
        self.assertEqual(self.shown(self.named(x509.RFC822Name("me@shop.example"))), "no names")
        self.assertEqual(self.shown(self.named()), "no names")

    def test_undecodable(self) -> None:
        """
        Names that cannot be decoded end in a sentence all the same: bytes that are no ASCII, a kind that the library
        does not know, and what is no list of names.
        """
        for der in (b"\x30\x05\x82\x03a\xffb", b"\x30\x04\xa3\x02\x30\x00"):
            self.assertEqual(self.shown(self.raw(der)), "names that cannot be read")
