"""
Tests for L{tlsproxy.tls.policy}.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, Policy, ServerPolicy, snake


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
        Each option is a text, a list of texts, or files with a certificate.
        """
        for policy in (ServerPolicy, ClientPolicy):
            for each in attrs.fields(policy):
                self.assertIn(each.type, ("str", "tuple[str, ...]", "CertificateFiles | None"), each.name)

    def test_safe(self) -> None:
        """
        Left alone, the versions start with TLS 1.2, no application protocol is spoken, the upstream is verified by the
        CAs of the system, and clients are asked for nothing.
        """
        server, client = ServerPolicy(), ClientPolicy()
        for policy in (server, client):
            self.assertEqual((policy.minVersion, policy.maxVersion, policy.alpn), ("1.2", "1.3", ()))
            self.assertIdentical(policy.cert, None)
        self.assertEqual((client.ca, client.auth, client.name), (("system",), "pkix", ""))
        self.assertEqual((server.clientCa, server.clientAuth), ((), ""))

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
