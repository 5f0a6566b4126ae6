"""
Tests for L{tlsproxy.tls.authority}.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from OpenSSL import SSL, crypto
from OpenSSL._util import lib
from twisted.trial.unittest import SynchronousTestCase

from tests.tls import NOW, Holder, certify, write
from tlsproxy.tls.authority import LEAF_LIFETIME, Authority, developmentAuthority, writeDevelopmentFiles
from tlsproxy.tls.certificates import CertificateProblem, Identity, loadAuthorities, loadIdentity

YEAR = timedelta(days=365)
PERMITTED_VIOLATION = 47
EXCLUDED_VIOLATION = 48
"""
How OpenSSL numbers a name that the constraints do not permit, and one that they exclude.
"""


def issue(authority: Authority, *names: str, server: bool = True, client: bool = False) -> Identity:
    """
    Issue a certificate for these names.
    """
    return authority.issue(
        commonName="a test", names=names, server=server, client=client, lifetime=LEAF_LIFETIME, now=NOW
    )


def subject(name: str) -> x509.DNSName | x509.IPAddress:
    """
    Make of a name what a verifier looks for.
    """
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)


def refusals(anchor: x509.Certificate, identity: Identity, name: str) -> list[int]:
    """
    Let a TLS client that trusts one authority, to the letter of RFC 5280, connect in memory.

    @return: the errors of OpenSSL for which it refuses the server, none if it is content.
    """
    errors: list[int] = []

    def look(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, good: int) -> bool:
        if not good:
            errors.append(error)
        return bool(good)

    serverContext, clientContext = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
    serverContext.use_certificate(identity.chain[0])
    serverContext.use_privatekey(identity.key)
    clientContext.set_verify(SSL.VERIFY_PEER, look)
    store = clientContext.get_cert_store()
    assert store is not None
    store.add_cert(crypto.X509.from_cryptography(anchor))
    store.set_flags(crypto.X509StoreFlags.X509_STRICT)
    store.set_time(NOW.replace(tzinfo=None))
    server, client = SSL.Connection(serverContext), SSL.Connection(clientContext)
    server.set_accept_state()
    client.set_connect_state()
    parameters = lib.SSL_get0_param(client._ssl)
    if isinstance(subject(name), x509.IPAddress):
        address = ip_address(name).packed
        lib.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))
    else:
        lib.X509_VERIFY_PARAM_set1_host(parameters, name.encode(), len(name))
    try:
        for here, there in ((client, server), (server, client), (client, server)):
            with contextlib.suppress(SSL.WantReadError):
                here.do_handshake()
            there.bio_write(here.bio_read(1 << 16))
        server.do_handshake()
    except SSL.WantReadError:
        raise AssertionError("The handshake stopped in the middle.") from None
    except SSL.Error:
        assert errors, "The handshake failed for another reason."
    return errors


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
        for lifetime, until in ((LEAF_LIFETIME, NOW + LEAF_LIFETIME), (2 * YEAR, NOW + YEAR)):
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


class DevelopmentAuthorityTests(SynchronousTestCase):
    """
    Tests for L{developmentAuthority}.
    """

    def setUp(self) -> None:
        """
        Choose a state directory, which does not exist yet.
        """
        self.state = Path(self.mktemp()) / "state"

    def files(self) -> set[str]:
        """
        List the state directory.
        """
        return {each.name for each in self.state.iterdir()}

    def test_made(self) -> None:
        """
        The authority is made and kept, the directory and the key for this user only whatever the mode mask is.
        """
        self.addCleanup(os.umask, os.umask(0))
        authority, path = developmentAuthority(self.state, now=NOW)
        self.assertEqual(path, self.state / "dev-ca.pem")
        self.assertEqual(path.read_bytes(), authority.pem())
        self.assertEqual(self.files(), {"dev-ca.pem", "dev-ca-key.pem", "dev-ca.lock"})
        self.assertEqual(stat.S_IMODE(self.state.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE((self.state / "dev-ca-key.pem").stat().st_mode), 0o600)

    def test_privateFromTheStart(self) -> None:
        """
        The key is never in a file that others may open, not even for a moment.
        """
        self.addCleanup(os.umask, os.umask(0))
        modes = []
        real = os.open

        def watch(path: Path, flags: int, mode: int = 0o777) -> int:
            modes.append((".dev-ca-key.pem." in str(path), mode))
            return real(path, flags, mode)

        self.patch(os, "open", watch)
        developmentAuthority(self.state, now=NOW)
        self.assertIn((True, 0o600), modes)
        self.assertEqual([mode for isKey, mode in modes if isKey], [0o600])

    def test_onlyLoopback(self) -> None:
        """
        A client that trusts the authority accepts it for this machine, and for nothing else.
        """
        authority, _ = developmentAuthority(self.state, now=NOW)
        for name in ("localhost", "app.localhost", "127.0.0.1", "127.8.9.10", "::1"):
            self.assertEqual(refusals(authority.certificate, issue(authority, name), name), [])
        for name in ("example.com", "localhost.example.com", "10.0.0.1", "::2"):
            self.assertEqual(refusals(authority.certificate, issue(authority, name), name), [PERMITTED_VIOLATION])
        # The same name alone is not what is refused.
        anyone = Authority.create("Test CA", lifetime=YEAR, now=NOW)
        self.assertEqual(refusals(anyone.certificate, issue(anyone, "example.com"), "example.com"), [])

    def test_reused(self) -> None:
        """
        The authority is the same the next time, until 30 days before its end.
        """
        first, _ = developmentAuthority(self.state, now=NOW)
        again, _ = developmentAuthority(self.state, now=NOW + timedelta(days=335))
        self.assertEqual(again.certificate, first.certificate)
        self.assertEqual(again.key.private_numbers(), first.key.private_numbers())
        late, _ = developmentAuthority(self.state, now=NOW + timedelta(days=335, seconds=1))
        self.assertNotEqual(late.certificate, first.certificate)
        self.assertNotEqual(late.certificate.subject, first.certificate.subject)

    def assertRemade(self) -> None:
        """
        Assert that the authority in the directory is not used, but made anew and then kept.
        """
        before = (self.state / "dev-ca.pem").read_bytes()
        authority, path = developmentAuthority(self.state, now=NOW)
        self.assertNotEqual(authority.pem(), before)
        self.assertEqual(path.read_bytes(), authority.pem())
        self.assertEqual(stat.S_IMODE((self.state / "dev-ca-key.pem").stat().st_mode), 0o600)
        self.assertEqual(developmentAuthority(self.state, now=NOW)[0].certificate, authority.certificate)
        self.assertEqual(self.files(), {"dev-ca.pem", "dev-ca-key.pem", "dev-ca.lock"})

    def put(self, certificate: bytes, key: bytes) -> None:
        """
        Put an authority into the directory.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        write(str(self.state / "dev-ca.pem"), certificate)
        write(str(self.state / "dev-ca-key.pem"), key)

    def test_otherKey(self) -> None:
        """
        An authority whose key is another's, as after a crash between the two files, is made anew.
        """
        developmentAuthority(self.state, now=NOW)
        self.put((self.state / "dev-ca.pem").read_bytes(), certify("other").keyPEM())
        self.assertRemade()

    def test_broken(self) -> None:
        """
        An authority whose files are broken or empty is made anew.
        """
        for certificate, key in ((b"", b""), (b"-----BEGIN CERTIFICATE-----\n", b"x"), (certify("a").pem(), b"")):
            self.put(certificate, key)
            self.assertRemade()

    def test_otherConstraints(self) -> None:
        """
        An authority that may issue for other names than expected is made anew.
        """
        for permitted in ((), [x509.DNSName("localhost")], [x509.DNSName("localhost"), x509.DNSName("example.com")]):
            other = Authority.create("Test CA", permitted=permitted, lifetime=YEAR, now=NOW)
            self.put(other.pem(), Holder(other.certificate, other.key).keyPEM())
            self.assertRemade()

    def test_notOneOfOurs(self) -> None:
        """
        A certificate that is no authority at all, or has a key of another kind, is not used as one.
        """
        for holder in (certify("a"), certify("a", key=ed25519.Ed25519PrivateKey.generate())):
            self.put(holder.pem(), holder.keyPEM())
            self.assertRemade()

    def test_keyOpenToOthers(self) -> None:
        """
        An authority whose key others could have read or put there is made anew.
        """
        developmentAuthority(self.state, now=NOW)
        (self.state / "dev-ca-key.pem").chmod(0o640)
        self.assertRemade()
        real = os.geteuid()
        self.patch(os, "geteuid", lambda: real + 1)
        before = (self.state / "dev-ca.pem").read_bytes()
        self.assertNotEqual(developmentAuthority(self.state, now=NOW)[0].pem(), before)

    def test_together(self) -> None:
        """
        All who ask at once get the same authority, which is the one that is kept.
        """

        def ask(_: int) -> bytes:
            return developmentAuthority(self.state, now=NOW)[0].pem()

        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(ask, range(16)))
        self.assertEqual(found, {(self.state / "dev-ca.pem").read_bytes()})

    def test_unusable(self) -> None:
        """
        A state directory that cannot be one is told, with the reason.
        """
        path = write(self.mktemp(), b"")
        error = self.assertRaises(CertificateProblem, developmentAuthority, Path(path), now=NOW)
        self.assertEqual(
            str(error),
            f"{path} cannot keep the development CA (File exists): give a state directory that this user may write",
        )

    def test_failedRename(self) -> None:
        """
        If a file cannot be put into its place, that is told, and no key lies about.
        """
        (self.state / "dev-ca-key.pem").mkdir(parents=True)
        error = self.assertRaises(CertificateProblem, developmentAuthority, self.state, now=NOW)
        self.assertIn(" cannot keep the development CA (Is a directory): ", str(error))
        self.assertEqual(self.files(), {"dev-ca-key.pem", "dev-ca.lock"})


class WriteDevelopmentFilesTests(SynchronousTestCase):
    """
    Tests for L{writeDevelopmentFiles}.
    """

    NAMES = ("ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem")

    def setUp(self) -> None:
        """
        Choose a directory, which does not exist yet.
        """
        self.directory = Path(self.mktemp()) / "certificates"

    def test_written(self) -> None:
        """
        Five files are written, the keys for this user only, and no key of the authority.
        """
        self.addCleanup(os.umask, os.umask(0))
        written = writeDevelopmentFiles(self.directory, now=NOW)
        self.assertEqual(written, [self.directory / name for name in self.NAMES])
        self.assertEqual(set(self.directory.iterdir()), set(written))
        self.assertEqual([stat.S_IMODE(each.stat().st_mode) for each in written], [0o644, 0o644, 0o600, 0o644, 0o600])
        [anchor] = loadAuthorities([str(self.directory / "ca.pem")])
        for name in ("server", "client"):
            files = str(self.directory / f"{name}.pem"), str(self.directory / f"{name}-key.pem")
            identity = loadIdentity(*files, now=NOW)
            self.assertEqual((len(identity.chain), identity.warnings), (1, ()))
            identity.chain[0].verify_directly_issued_by(anchor)

    def identity(self) -> tuple[x509.Certificate, Identity]:
        """
        Load what was written: the authority and the server.
        """
        files = str(self.directory / "server.pem"), str(self.directory / "server-key.pem")
        return loadAuthorities([str(self.directory / "ca.pem")])[0], loadIdentity(*files, now=NOW)

    def test_names(self) -> None:
        """
        The certificates are good for just the names that were asked for, and so is the authority.
        """
        for number, names in enumerate((("shop.example", "10.0.0.1"), ("10.0.0.1",), ("*.shop.example",))):
            self.directory /= str(number)
            writeDevelopmentFiles(self.directory, names=names, now=NOW)
            anchor, server = self.identity()
            for name in names:
                self.assertEqual(refusals(anchor, server, name.replace("*", "www")), [])
            constraints = anchor.extensions.get_extension_for_class(x509.NameConstraints)
            self.assertTrue(constraints.critical)
            self.assertNotIn(x509.DNSName("localhost"), constraints.value.permitted_subtrees or ())

    def test_strictPython(self) -> None:
        """
        Python's own TLS, as strict as it can be, accepts the server and the client.
        """
        writeDevelopmentFiles(self.directory, now=datetime.now(UTC))
        contexts = []
        for protocol, name in ((ssl.PROTOCOL_TLS_CLIENT, "client"), (ssl.PROTOCOL_TLS_SERVER, "server")):
            context = ssl.SSLContext(protocol)
            context.verify_mode = ssl.CERT_REQUIRED
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            context.load_verify_locations(self.directory / "ca.pem")
            context.load_cert_chain(self.directory / f"{name}.pem", self.directory / f"{name}-key.pem")
            contexts.append(context)
        for name in ("localhost", "127.0.0.1", "::1"):
            toServer, toClient = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = contexts[0].wrap_bio(toClient, toServer, server_hostname=name)
            server = contexts[1].wrap_bio(toServer, toClient, server_side=True)
            for each in (client, server, client):
                with contextlib.suppress(ssl.SSLWantReadError):
                    each.do_handshake()
            server.do_handshake()
            for each in (client, server):
                self.assertTrue(each.getpeercert())

    def test_badNames(self) -> None:
        """
        Without names, or with one that is none, nothing is written.
        """
        for names in ((), ("localhost", "no name")):
            self.assertRaises(CertificateProblem, writeDevelopmentFiles, self.directory, names=names, now=NOW)
            self.assertFalse(self.directory.exists())

    def test_nothingOverwritten(self) -> None:
        """
        If one of the files exists, be it a dangling link, it stays as it is, is named, and nothing else is written.
        """
        self.directory.mkdir(parents=True)
        for name in self.NAMES:
            path = self.directory / name
            for make in (lambda path: path.write_text("mine"), lambda path: path.symlink_to("nowhere")):
                make(path)
                error = self.assertRaises(CertificateProblem, writeDevelopmentFiles, self.directory, now=NOW)
                self.assertEqual(str(error), f"{path} exists already: remove it, or give another directory")
                self.assertEqual(list(self.directory.iterdir()), [path])
                self.assertTrue(path.is_symlink() or path.read_text() == "mine")
                path.unlink()

    def test_full(self) -> None:
        """
        If the disk is full in the middle, nothing is left behind.
        """
        real = os.open

        def fill(path: Path, flags: int, mode: int = 0o777) -> int:
            if path.name == "client.pem":
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, flags, mode)

        self.patch(os, "open", fill)
        error = self.assertRaises(CertificateProblem, writeDevelopmentFiles, self.directory, now=NOW)
        self.assertEqual(
            str(error), f"{self.directory} cannot be written (No space left on device): give another directory"
        )
        self.assertEqual(list(self.directory.iterdir()), [])
