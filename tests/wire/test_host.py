"""
Tests for L{tlsproxy.wire.host}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.host import isLiteral


class HostTests(SynchronousTestCase):
    """
    Tests for L{isLiteral}.
    """

    def test_isLiteral(self) -> None:
        """
        Addresses are told from names.
        """
        self.assertEqual([True, True, False, False], [isLiteral(h) for h in ("::1", "127.0.0.1", "localhost", "1.2.3")])
