# -*- test-case-name: tests.tls.test_peers -*-
"""
Tests for L{tlsproxy.tls.peers}.
"""

from __future__ import annotations

import runpy
from ipaddress import ip_address
from types import SimpleNamespace

from cryptography import x509
from OpenSSL import SSL

from tests.tls.pairs import PairCase, shake
from tlsproxy.testing.certificates import Holder, certify, write
from tlsproxy.tls import native, peers
from tlsproxy.tls.peers import requireName


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


class BindingsTests(PairCase):
    """
    Tests for what the module does when it does not fit the bindings.
    """

    def test_missing(self) -> None:
        """
        Bindings without a function that is needed stop the import, with its name.
        """
        self.patch(native, "_lib", SimpleNamespace(**dict.fromkeys(peers._NEEDED[1:])))
        error = self.assertRaises(ImportError, runpy.run_path, peers.__file__)
        self.assertIn(f"bindings lack {peers._NEEDED[0]}. Install", str(error))
