"""
Tests for L{tlsproxy.tls.authority}.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.verifiers import EXCLUDED_VIOLATION, PERMITTED_VIOLATION, refusals, subject
from tlsproxy.testing.certificates import NOW, write
from tlsproxy.tls.authority import Authority, narrowestConstraint
from tlsproxy.tls.certificates import Identity, loadAuthorities
from tlsproxy.tls.files import CertificateProblem

LIFETIME = timedelta(days=90)
YEAR = timedelta(days=365)


def issue(authority: Authority, *names: str, server: bool = True, client: bool = False) -> Identity:
    """
    Issue a certificate for these names.
    """
    return authority.issue(commonName="a test", names=names, server=server, client=client, lifetime=LIFETIME, now=NOW)


class AuthorityTests(SynchronousTestCase):
    """
    Tests for L{Authority}.
    """

    def authority(self, *permitted: x509.GeneralName) -> Authority:
        """
        Make an authority.
        """
        return Authority.create("Test CA", permitted=permitted, lifetime=YEAR, now=NOW)

    def assertServes(self, authority: Authority, *names: str) -> None:
        """
        Assert that two verifiers accept a server with a certificate for these names, by each of them.
        """
        identity = issue(authority, *names)
        policy = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
        for name in (each.replace("*", "www") for each in names):
            policy.build_server_verifier(subject(name)).verify(identity.chain[0], [])
            self.assertEqual(refusals(authority.certificate, identity, name), [])

    def assertForeign(self, authority: Authority, name: str) -> None:
        """
        Assert that the same two refuse a certificate for a name, because the authority may not issue for it.
        """
        identity = issue(authority, name)
        verifier = PolicyBuilder().store(Store([authority.certificate])).time(NOW).build_server_verifier(subject(name))
        error = self.assertRaises(VerificationError, verifier.verify, identity.chain[0], [])
        self.assertIn("name constraint", str(error))
        self.assertIn(refusals(authority.certificate, identity, name), ([PERMITTED_VIOLATION], [EXCLUDED_VIOLATION]))

    def test_unconstrained(self) -> None:
        """
        An authority without constraints issues for every name.
        """
        self.assertServes(self.authority(), "example.com", "*.example.com", "localhost", "127.0.0.1", "2001:db8::1")

    def test_constrained(self) -> None:
        """
        A constrained authority issues for its names, and for names below them, but not for others.
        """
        authority = self.authority(x509.DNSName("shop.example"), x509.IPAddress(ip_network("10.0.0.0/24")))
        self.assertServes(authority, "shop.example", "www.shop.example", "*.shop.example", "10.0.0.9")
        for name in ("example.com", "workshop.example", "example", "10.0.1.9", "2001:db8::1"):
            self.assertForeign(authority, name)

    def test_onlyAddresses(self) -> None:
        """
        An authority for addresses of one family issues for none of the other, nor for any DNS name.
        """
        authority = self.authority(x509.IPAddress(ip_network("10.0.0.1/32")))
        self.assertServes(authority, "10.0.0.1")
        self.assertForeign(authority, "example.com")
        self.assertForeign(authority, "::1")
        # Not every verifier takes the permitted addresses of one family for all there are.
        constraints = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        self.assertEqual(constraints.excluded_subtrees, [x509.IPAddress(ip_network("::/0"))])

    def test_onlyNames(self) -> None:
        """
        An authority for DNS names issues for no address.
        """
        authority = self.authority(x509.DNSName("shop.example"))
        self.assertServes(authority, "shop.example")
        self.assertForeign(authority, "127.0.0.1")
        self.assertForeign(authority, "::1")

    def test_client(self) -> None:
        """
        A certificate for a client is good for a client, and not for a server; and the other way around.
        """
        authority = self.authority()
        policy = PolicyBuilder().store(Store([authority.certificate])).time(NOW)
        clients, servers = policy.build_client_verifier(), policy.build_server_verifier(subject("localhost"))
        client = issue(authority, "localhost", server=False, client=True)
        server = issue(authority, "localhost", server=True, client=False)
        both = issue(authority, "localhost", server=True, client=True)
        for identity in (client, both):
            clients.verify(identity.chain[0], [])
        for identity in (server, both):
            servers.verify(identity.chain[0], [])
        self.assertRaises(VerificationError, clients.verify, server.chain[0], [])
        self.assertRaises(VerificationError, servers.verify, client.chain[0], [])
        self.assertEqual(len(refusals(authority.certificate, client, "localhost")), 1)

    def test_addressesAlone(self) -> None:
        """
        A server's certificate for addresses alone has an empty subject, so that no verifier can take its common name
        for a DNS name that the authority may not issue for.
        """
        [server] = issue(self.authority(), "127.0.0.1", "::1", server=True, client=True).chain
        self.assertEqual(server.subject, x509.Name([]))
        self.assertTrue(server.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical)
        [client] = issue(self.authority(), "127.0.0.1", server=False, client=True).chain
        self.assertEqual(client.subject.rfc4514_string(), "CN=a test")

    def test_withoutNames(self) -> None:
        """
        A certificate without names has no alternative names at all, which RFC 5280 does not allow to be empty.
        """
        [certificate] = issue(self.authority(), server=False, client=True).chain
        self.assertRaises(
            x509.ExtensionNotFound, certificate.extensions.get_extension_for_class, x509.SubjectAlternativeName
        )

    def test_forNothing(self) -> None:
        """
        A certificate must be good for a server or a client.
        """
        self.assertRaises(ValueError, issue, self.authority(), "localhost", server=False, client=False)

    def test_notAboveAnother(self) -> None:
        """
        The authority cannot vouch for another one, nor for mail or programs.
        """
        extensions = self.authority().certificate.extensions
        self.assertEqual(
            extensions.get_extension_for_class(x509.BasicConstraints).value,
            x509.BasicConstraints(ca=True, path_length=0),
        )
        self.assertEqual(
            set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value),
            {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
        )

    def test_lifetime(self) -> None:
        """
        A certificate is valid from an hour ago, for peers with slow clocks, until its time or the authority's is up.
        """
        authority = self.authority()
        for lifetime, until in ((LIFETIME, NOW + LIFETIME), (2 * YEAR, NOW + YEAR)):
            [certificate] = authority.issue(
                commonName="a", names=["b"], server=True, client=False, lifetime=lifetime, now=NOW
            ).chain
            self.assertEqual(certificate.not_valid_before_utc, NOW - timedelta(hours=1))
            self.assertEqual(certificate.not_valid_after_utc, until)

    def test_serials(self) -> None:
        """
        Each certificate has a serial number of its own.
        """
        authority = self.authority()
        issued = [authority.certificate, *(issue(authority, "localhost").chain[0] for _ in range(9))]
        self.assertEqual(len({each.serial_number for each in issued}), 10)

    def test_givenKey(self) -> None:
        """
        A certificate can be had for a key one has, of any supported kind.
        """
        authority = self.authority()
        for key in (ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)):
            identity = authority.issue(
                commonName="a", names=["localhost"], server=True, client=False, lifetime=YEAR, now=NOW, key=key
            )
            self.assertIs(identity.key, key)
            self.assertEqual(refusals(authority.certificate, identity, "localhost"), [])

    def test_badNames(self) -> None:
        """
        What is neither a DNS name nor an address is refused, and named.
        """
        for name in (
            *("", ".", "a..b", "a.", ".a", "-a", "a-", "a b", "a_b", "a\n", "*", "*.", "a.*", "*a.b", "[::1]", "::1::"),
            *("10.0.0.256", "10.0.0.1/8", "b\xfccher.example", "\u212a.example", "a" * 64, ".".join(["a" * 49] * 6)),
        ):
            error = self.assertRaises(CertificateProblem, issue, self.authority(), "localhost", name)
            self.assertIn(" is neither a DNS name nor an IP address: give one", str(error))
            self.assertTrue(str(error).isprintable())

    def test_PEM(self) -> None:
        """
        What those who trust the authority get is its certificate, and nothing else.
        """
        authority = self.authority()
        self.assertEqual(loadAuthorities([write(self.mktemp(), authority.pem())]), (authority.certificate,))
        self.assertNotIn(b"KEY", authority.pem())
        self.assertNotIn("key", repr(authority))

    def test_isMadeFor(self) -> None:
        """
        An authority knows whether it was made for certain names, and it is not when anything differs.
        """
        names = (x509.DNSName("shop.example"), x509.IPAddress(ip_network("10.0.0.0/24")))
        self.assertTrue(self.authority(*names).isMadeFor(names))
        self.assertTrue(self.authority().isMadeFor(()))
        for other in ((), names[:1], (*names, x509.DNSName("example.com"))):
            self.assertFalse(self.authority(*other).isMadeFor(names))
        [leaf] = issue(self.authority(), "localhost").chain
        self.assertFalse(Authority(leaf, self.authority().key).isMadeFor(()))


class NarrowestConstraintTests(SynchronousTestCase):
    """
    Tests for L{narrowestConstraint}.
    """

    def test_narrowest(self) -> None:
        """
        A name is allowed itself, an address alone, and a wildcard only as the names below it.
        """
        for name, constraint in (
            ("shop.example", x509.DNSName("shop.example")),
            ("*.Shop.example", x509.DNSName("shop.example")),
            ("10.0.0.1", x509.IPAddress(ip_network("10.0.0.1/32"))),
            ("::1", x509.IPAddress(ip_network("::1/128"))),
        ):
            self.assertEqual(narrowestConstraint(name), constraint)

    def test_badName(self) -> None:
        """
        What is neither a DNS name nor an address is refused.
        """
        self.assertRaises(CertificateProblem, narrowestConstraint, "a b")
