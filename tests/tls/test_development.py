"""
Tests for L{tlsproxy.tls.development}.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.verifiers import PERMITTED_VIOLATION, refusals
from tlsproxy.testing.certificates import NOW, Holder, certify, write
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity, loadAuthorities, loadIdentity
from tlsproxy.tls.development import (
    LEAF_LIFETIME,
    developmentAuthority,
    developmentServer,
)
from tlsproxy.tls.files import CertificateProblem

YEAR = timedelta(days=365)


def issue(authority: Authority, name: str) -> Identity:
    """
    Issue a certificate for a server of this name.
    """
    return authority.issue(
        commonName="a test", names=[name], server=True, client=False, lifetime=LEAF_LIFETIME, now=NOW
    )


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


class DevelopmentServerTests(SynchronousTestCase):
    """
    Tests for L{developmentServer}.
    """

    def setUp(self) -> None:
        """
        Choose a state directory, which does not exist yet.
        """
        self.state = Path(self.mktemp()) / "state"
        self.path = self.state / "dev-server.pem"

    def ask(self, now: datetime = NOW) -> bytes:
        """
        Ask for the certificate.

        @return: the content of its file.
        """
        self.assertEqual(developmentServer(self.state, now=now), (self.state / "dev-ca.pem", self.path))
        return self.path.read_bytes()

    def test_made(self) -> None:
        """
        The certificate serves this machine under its names, for those who trust the authority, and one file that is
        for this user only whatever the mode mask is holds it and its key.
        """
        self.addCleanup(os.umask, os.umask(0))
        self.ask()
        self.assertEqual(
            {each.name for each in self.state.iterdir()},
            {"dev-ca.pem", "dev-ca-key.pem", "dev-ca.lock", "dev-server.pem"},
        )
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        [anchor] = loadAuthorities([str(self.state / "dev-ca.pem")])
        identity = loadIdentity(str(self.path), None, now=NOW)
        self.assertEqual((len(identity.chain), identity.warnings), (1, ()))
        for name in ("localhost", "127.0.0.1", "::1"):
            self.assertEqual(refusals(anchor, identity, name), [])

    def test_sameAuthority(self) -> None:
        """
        The authority is the one that L{developmentAuthority} gives, and which of them is asked first does not matter.
        """
        authority, _ = developmentAuthority(self.state, now=NOW)
        self.ask()
        loadIdentity(str(self.path), None, now=NOW).chain[0].verify_directly_issued_by(authority.certificate)
        self.assertEqual(developmentAuthority(self.state, now=NOW)[0].certificate, authority.certificate)

    def test_reused(self) -> None:
        """
        The certificate is the same the next time, until 30 days before its end; the authority is the same then too.
        """
        first = self.ask()
        authority = (self.state / "dev-ca.pem").read_bytes()
        self.assertEqual(self.ask(NOW + LEAF_LIFETIME - timedelta(days=30)), first)
        self.assertNotEqual(self.ask(NOW + LEAF_LIFETIME - timedelta(days=30) + timedelta(seconds=1)), first)
        self.assertEqual((self.state / "dev-ca.pem").read_bytes(), authority)

    def test_authorityAboutToEnd(self) -> None:
        """
        As long as the authority is kept, the certificate it issues is good enough to be kept as well.
        """
        self.ask()
        late = NOW + timedelta(days=335)
        self.assertEqual(self.ask(late), self.ask(late))

    def test_otherAuthority(self) -> None:
        """
        When the authority is made anew, so is the certificate.
        """
        first = self.ask()
        (self.state / "dev-ca.pem").unlink()
        self.assertNotEqual(self.ask(), first)

    def test_unusableCertificate(self) -> None:
        """
        A certificate whose file is broken, lacks the key, or is open to others, or that another issued, is made anew.
        """
        first = self.ask()
        other = certify("localhost")
        for content, mode in (
            (b"", 0o600),
            (first[: first.index(b"-----BEGIN PRIVATE KEY")], 0o600),
            (other.pem() + other.keyPEM(), 0o600),
            (first, 0o640),
        ):
            write(str(self.path), content, mode=mode)
            again = self.ask()
            self.assertNotEqual(again, content)
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
            self.assertEqual(self.ask(), again)

    def test_together(self) -> None:
        """
        All who ask at once get the same certificate, which is the one that is kept.
        """

        def ask(_: int) -> bytes:
            return developmentServer(self.state, now=NOW)[1].read_bytes()

        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(ask, range(16)))
        self.assertEqual(found, {self.path.read_bytes()})

    def test_unusable(self) -> None:
        """
        A state directory that cannot be one is told, with the reason.
        """
        path = write(self.mktemp(), b"")
        error = self.assertRaises(CertificateProblem, developmentServer, Path(path), now=NOW)
        self.assertIn(f"{path} cannot keep the development CA (File exists): ", str(error))
