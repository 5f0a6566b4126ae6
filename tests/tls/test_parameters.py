"""
Tests for L{tlsproxy.tls.parameters}.

What comes of it in handshakes is in L{tests.tls.test_contexts}.
"""

from __future__ import annotations

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import AdmissionRefused, ConfigurationError, Problem
from tlsproxy.tls.parameters import Checks, chooseALPN, contextFor, parseProtocol, tellParameters
from tlsproxy.tls.policy import ClientPolicy, ServerPolicy


class ChecksTests(SynchronousTestCase):
    """
    Tests for L{Checks}.
    """

    def test_all(self) -> None:
        """
        All that is wrong is told at the end, each by its key.
        """
        checks = Checks("tls")
        self.assertEqual(5, checks.attempt("a", lambda: 5))
        self.assertIsNone(checks.attempt("b", lambda: int("x")))
        checks.tell("c", "no")
        told = self.assertRaises(ConfigurationError, checks.done).problems
        self.assertEqual(["tls.b", "tls.c"], [problem.key for problem in told])
        self.assertEqual(Problem("tls.c", "no"), told[1])

    def test_nothing(self) -> None:
        """
        Where nothing is wrong, nothing is told.
        """
        Checks("tls").done()


class ParameterTests(SynchronousTestCase):
    """
    Tests for L{tellParameters} and L{contextFor}.
    """

    def test_agree(self) -> None:
        """
        With what nothing is wrong, a context can be made, again and again.
        """
        for policy in (
            ServerPolicy(),
            ClientPolicy(),
            ServerPolicy(ciphers="ECDHE+AESGCM:!AES128", ciphersuites="TLS_AES_128_GCM_SHA256", groups="X25519"),
            ServerPolicy(minVersion="1.3"),
            ClientPolicy(maxVersion="1.2"),
        ):
            checks = Checks("tls")
            tellParameters(policy, checks)
            checks.done()
            for _ in range(2):
                self.assertIsInstance(contextFor(SSL.TLS_METHOD, policy), SSL.Context)

    def test_protocol(self) -> None:
        """
        An application protocol is 1 to 255 bytes.
        """
        self.assertEqual(b"h2", parseProtocol("h2"))
        self.assertEqual(b"h2", parseProtocol(b"h2"))
        for wrong in ("", b"", "x" * 256):
            self.assertRaises(ValueError, parseProtocol, wrong)

    def test_choose(self) -> None:
        """
        Of the client's protocols the one that is wanted most is chosen; who has none of them is refused.
        """
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD))
        choose = chooseALPN([b"h2", b"http/1.1"])
        self.assertEqual(b"h2", choose(connection, [b"x", b"http/1.1", b"h2"]))
        self.assertRaises(AdmissionRefused, choose, connection, [b"x"])
