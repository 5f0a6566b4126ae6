"""
Tests of L{tlsproxy.tls.presenting}: from a policy to what is shown.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import NOW, certificate, pem
from tlsproxy.tls.parameters import Checks
from tlsproxy.tls.policy import ClientPolicy
from tlsproxy.tls.presenting import Presented, readShown


class ShownTests(SynchronousTestCase):
    """
    What a client shows.
    """

    def setUp(self) -> None:
        """
        Make two certificates.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        for name in ("one", "two"):
            file = self.folder / f"{name}.pem"
            file.write_bytes(pem(certificate(name, f"{name}.example")))
            file.chmod(0o600)

    def test_folder(self) -> None:
        """
        All of a folder are read, and each has what presents it.
        """
        checks, policy = Checks("upstream_tls"), ClientPolicy(cert=str(self.folder))
        shown = readShown(policy, SSL.TLS_CLIENT_METHOD, checks, NOW)
        self.assertEqual([], checks.problems)
        self.assertEqual(2, len(shown.identities))
        self.assertIn(str(self.folder / "one.pem"), shown.files)
        presented = Presented.make(SSL.TLS_CLIENT_METHOD, policy, shown.identities)
        self.assertEqual(2, len(presented.contexts))
        context, why = presented.choose([])
        self.assertIs(presented.contexts[0], context)
        self.assertEqual("", why)

    def test_expired(self) -> None:
        """
        What has expired is warned of.
        """
        later = NOW + timedelta(days=4000)
        shown = readShown(ClientPolicy(cert=str(self.folder)), SSL.TLS_CLIENT_METHOD, Checks("upstream_tls"), later)
        self.assertTrue(any("expired" in warning for warning in shown.warnings), shown.warnings)

    def test_nothing(self) -> None:
        """
        A file that is not there is told.
        """
        checks = Checks("upstream_tls")
        readShown(ClientPolicy(cert="/nowhere/at/all.pem"), SSL.TLS_CLIENT_METHOD, checks, NOW)
        (problem,) = checks.problems
        self.assertIn("/nowhere/at/all.pem", problem.sentence)
