"""
Tests for L{tlsproxy.tls.policy}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, PKCS12File, Policy, ServerPolicy, snake

CERTIFICATES = ("tuple[CertificateSource, ...]", "CertificateFiles | PKCS12File | None")


class PolicyTests(SynchronousTestCase):
    """
    Tests for L{Policy} and both roles.
    """

    def test_helped(self) -> None:
        """
        Each option says in one line what it is.
        """
        for policy in (ServerPolicy, ClientPolicy):
            for each in attrs.fields(policy):
                help = each.metadata["help"]
                self.assertTrue(help and "\n" not in help and not help.endswith("."), each.name)

    def test_choices(self) -> None:
        """
        Where there is a choice, the default is one of it, or is empty and chosen by what else is given.
        """
        for policy in (ServerPolicy, ClientPolicy):
            for each in attrs.fields(policy):
                choices = each.metadata.get("choices")
                if choices:
                    self.assertIn(each.default, (*choices, ""), each.name)

    def test_onlyText(self) -> None:
        """
        Each option is a text, a list of texts, a yes or no, or files with a certificate.
        """
        for policy in (ServerPolicy, ClientPolicy):
            for each in attrs.fields(policy):
                self.assertIn(
                    each.type, ("str", "tuple[str, ...]", "bool", "tuple[HostPolicy, ...]", *CERTIFICATES), each.name
                )

    def test_safe(self) -> None:
        """
        Left alone, the versions start with TLS 1.2, no application protocol is spoken, the upstream is verified by the
        CAs of the system, and clients are asked for nothing.
        """
        server, client = ServerPolicy(), ClientPolicy()
        for policy in (server, client):
            self.assertEqual((policy.minVersion, policy.maxVersion, policy.alpn), ("1.2", "1.3", ()))
        self.assertEqual((client.ca, client.auth, client.name), (("system",), "pkix", ""))
        self.assertEqual((server.clientCa, server.clientAuth, server.unknownSni), ((), "", "default"))
        self.assertEqual((server.cert, client.cert), ((), ()))

    def test_values(self) -> None:
        """
        Policies are values: equal where they say the same, and never changed.
        """
        files = CertificateFiles("chain.pem")
        self.assertIdentical(files.key, None)
        self.assertEqual(ServerPolicy(cert=files), ServerPolicy(cert=CertificateFiles("chain.pem", None)))
        self.assertNotEqual(ServerPolicy(cert=files), ServerPolicy(cert=CertificateFiles("chain.pem", "key.pem")))
        self.assertEqual(len({ClientPolicy(), ClientPolicy(), ClientPolicy(auth="none")}), 2)
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, ClientPolicy(), "auth", "none")
        self.assertIsInstance(ServerPolicy(), Policy)


class NameTests(SynchronousTestCase):
    """
    Tests for L{snake}.
    """

    def test_snake(self) -> None:
        """
        Names are spelled as configurations do.
        """
        self.assertEqual(["upstream_handshake", "idle"], [snake(name) for name in ("upstreamHandshake", "idle")])


class GivenTests(SynchronousTestCase):
    """
    What a program gives in another form than a policy keeps it in.
    """

    def test_one(self) -> None:
        """
        Where there may be several, one by itself is one, and not its letters; files may be paths, and application
        protocols bytes, as elsewhere in Twisted.
        """
        given: Any
        for given in ("h2", b"h2", ["h2"], (b"h2",)):
            self.assertEqual(("h2",), ServerPolicy(alpn=given).alpn)
        for given in ("certs/ca.pem", Path("certs/ca.pem"), [Path("certs/ca.pem")]):
            self.assertEqual(("certs/ca.pem",), ServerPolicy(clientCa=given).clientCa)
            self.assertEqual(("certs/ca.pem",), ClientPolicy(ca=given).ca)
        for given in ("x.pem", Path("x.pem"), CertificateFiles(Path("x.pem"))):  # type: ignore[arg-type, unused-ignore]
            self.assertEqual((CertificateFiles("x.pem"),), ServerPolicy(cert=given).cert)
            self.assertEqual((CertificateFiles("x.pem"),), ClientPolicy(cert=given).cert)
        for given in ("x.p12", Path("x.p12"), PKCS12File(Path("x.p12"))):  # type: ignore[arg-type, unused-ignore]
            self.assertEqual((PKCS12File("x.p12"),), ServerPolicy(cert=given).cert)
            self.assertEqual((PKCS12File("x.p12"),), ClientPolicy(cert=given).cert)
        several = ServerPolicy(cert=["x.pem", Path("y.pfx"), CertificateFiles("z.pem", "z.key")]).cert
        self.assertEqual((CertificateFiles("x.pem"), PKCS12File("y.pfx"), CertificateFiles("z.pem", "z.key")), several)
        self.assertEqual("k.pem", CertificateFiles("x.pem", Path("k.pem")).key)  # type: ignore[arg-type, unused-ignore]

    def test_slips(self) -> None:
        """
        What cannot be meant is told with its argument when the policy is made.
        """
        for cls, wrong, sentence in (
            (ServerPolicy, {"alpn": 2}, "ServerPolicy(alpn=...): give several in a tuple, each the name of an applic"),
            (ServerPolicy, {"alpn": {"h2": 1}}, "ServerPolicy(alpn=...): give several in a tuple"),
            (
                ServerPolicy,
                {"alpn": [2]},
                "ServerPolicy(alpn=...): give the name of an application protocol, not an int",
            ),
            (
                ServerPolicy,
                {"cert": (("x", "y"),)},
                "ServerPolicy(cert=...): give CertificateFiles(chain, key), PKCS12File(path, passwordFile) or NSS",
            ),
            (
                ServerPolicy,
                {"cert": None},
                "ServerPolicy(cert=...): give several in a tuple, each CertificateFiles(chain, key), PKCS12File(path",
            ),
            (
                ClientPolicy,
                {"cert": (("x", "y"),)},
                "ClientPolicy(cert=...): give CertificateFiles(chain, key), PKCS12File(path, passwordFile) or NSS",
            ),
            (ServerPolicy, {"clientCa": b"x"}, "ServerPolicy(clientCa=...): give several in a tuple"),
            (
                ClientPolicy,
                {"ca": None},
                "ClientPolicy(ca=...): give several in a tuple, each the name of a file, not N",
            ),
            (ClientPolicy, {"auth": "off"}, 'ClientPolicy(auth=...): \'off\' is not one of "pkix", "none"'),
            (ClientPolicy, {"auth": None}, "ClientPolicy(auth=...): give a string, not None"),
            (ClientPolicy, {"name": b"x"}, "ClientPolicy(name=...): give a string, not a bytes"),
            (ServerPolicy, {"minVersion": "1.1"}, "ServerPolicy(minVersion=...): '1.1' is not one of"),
            (ServerPolicy, {"minVersion": 1.2}, "ServerPolicy(minVersion=...): give a string, not a float"),
            (CertificateFiles, {"chain": b"x"}, "CertificateFiles(chain=...): give the name of a file, not a bytes"),
        ):
            given: Any = wrong
            made: Any = cls
            self.assertIn(sentence, str(self.assertRaises((TypeError, ValueError), made, **given)))
