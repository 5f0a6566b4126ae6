"""
Tests for L{tlsproxy.tls.native}: what a context and a connection are told.
"""

from __future__ import annotations

from ipaddress import ip_address

from cryptography import x509
from OpenSSL import SSL, _util

from tests.tls.pairs import PairCase, shake
from tlsproxy.testing.certificates import Holder, certify, write
from tlsproxy.tls.native import requireName, setGroups


class RequireNameTests(PairCase):
    """
    Tests for L{requireName}.
    """

    def problem(self, name: str, holder: Holder) -> str | None:
        """
        Let a client that trusts just one certificate look for a name in it.

        @return: what OpenSSL finds wrong with it.
        """
        anchor = write(str(self.folder / "pinned.pem"), holder.pem())
        server, client = self.ends(self.server(holder), self.client(name, ca=(anchor,)))
        shake(server, client)
        return client.verifyProblem()

    def named(self, *names: str) -> Holder:
        """
        Make a certificate for DNS names, whatever they look like, which signs itself.
        """
        return certify("", names=[x509.DNSName(name) for name in names])

    def test_names(self) -> None:
        """
        A name is found among the alternative names, in either case of its letters.
        """
        holder = self.named("a.example", "b.example")
        for name in ("a.example", "B.EXAMPLE"):
            self.assertIdentical(self.problem(name, holder), None)
        for name in ("c.example", "example", "www.a.example", "a.example.org"):
            self.assertEqual(self.problem(name, holder), "hostname mismatch")

    def test_wildcards(self) -> None:
        """
        A wildcard stands for one whole label, the left-most.
        """
        holder = self.named("*.shop.example")
        self.assertIdentical(self.problem("www.shop.example", holder), None)
        for name in ("shop.example", "a.b.shop.example", "wwwshop.example"):
            self.assertEqual(self.problem(name, holder), "hostname mismatch")

    def test_partialWildcards(self) -> None:
        """
        A wildcard for a part of a label, or for another label than the left-most, stands for nothing.
        """
        for pattern in ("w*.shop.example", "*w.shop.example", "w*w.shop.example", "www.*.example", "*.*.example"):
            self.assertEqual(self.problem("www.shop.example", self.named(pattern)), "hostname mismatch")

    def test_neverTheCommonName(self) -> None:
        """
        The common name is not looked at, not even where there is no other name.
        """
        self.assertEqual(self.problem("shop.example", certify("shop.example")), "hostname mismatch")

    def test_addresses(self) -> None:
        """
        An address is found among the addresses, and a DNS name that looks like one is none.
        """
        holder = certify("", names=[x509.IPAddress(ip_address(each)) for each in ("10.0.0.1", "::1")])
        for name in ("10.0.0.1", "::1", "0:0:0:0:0:0:0:1"):
            self.assertIdentical(self.problem(name, holder), None)
        for name in ("10.0.0.2", "::2", "::ffff:10.0.0.1"):
            self.assertEqual(self.problem(name, holder), "IP address mismatch")
        self.assertEqual(self.problem("10.0.0.1", self.named("10.0.0.1", "*.0.0.1")), "IP address mismatch")

    def test_refused(self) -> None:
        """
        What no certificate could show is refused: a NUL, behind which everything would be cut off, and what is not
        ASCII.
        """
        connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD))
        for name in ("shop.example\0.evil.example", "\0", "b\xfccher.example"):
            self.assertRaises(ValueError, requireName, connection, name)


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
