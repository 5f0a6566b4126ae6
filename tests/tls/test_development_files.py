"""
Tests for L{tlsproxy.tls.development.writeDevelopmentFiles}.
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.verifiers import refusals
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.certificates import Identity, loadAuthorities, loadIdentity
from tlsproxy.tls.development import writeDevelopmentFiles
from tlsproxy.tls.files import CertificateProblem


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
