"""
Tests for L{tlsproxy.tls.native}: what a context is told.
"""

from __future__ import annotations

from OpenSSL import SSL, _util

from tests.tls.pairs import PairCase
from tlsproxy.tls.native import setGroups


class ContextSettingTests(PairCase):
    """
    Tests for L{setGroups}.
    """

    def test_groups(self) -> None:
        """
        The groups of a context are what is negotiated.
        """
        for group, told in (("P-384", "secp384r1"), ("X25519", "x25519"), ("X25519MLKEM768", "X25519MLKEM768")):
            server, client = self.connected(client=self.client(groups=group))
            self.assertEqual([each.connection.get_group_name() for each in (server, client)], [told, told])

    def test_unknown(self) -> None:
        """
        A list with a name that OpenSSL does not know is refused, and named; nothing of it is left behind to be taken
        for another call's error.
        """
        context = SSL.Context(SSL.TLS_METHOD)
        for names in ("X25519:X25520", "", "b\xfccher"):
            error = self.assertRaises(ValueError, setGroups, context, names)
            self.assertEqual(str(error), f"OpenSSL does not know one of the groups {names!r}")
            self.assertEqual(_util.lib.ERR_peek_error(), 0)
