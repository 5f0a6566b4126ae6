# -*- test-case-name: tests.integration.test_certificates_of_browsers -*-
"""
Client certificates are taken from where browsers keep theirs: an NSS database, made by its own tools.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.clientproxying import ClientProxyCase, answerOf, says
from tests.integration.running import Certificates, waitUntil
from tests.integration.talking import Server, Talker, serverContext
from tests.peers import requirePeer

_CHECK = [sys.executable, "-c", "import sys; from tlsproxy.cli import main; sys.exit(main())", "check"]


class DatabaseTests(ClientProxyCase):
    """
    Tests with real databases.
    """

    def database(self, name: str, password: str = "") -> Path:
        """
        Make a database.
        """
        requirePeer("pk12util")
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        secret = self.folder / f"{name}.password"
        secret.touch(0o600)
        secret.write_text(f"{password}\n")
        self.run_([requirePeer("certutil"), "-N", "-d", f"sql:{folder}", "-f", str(secret)])
        return folder

    def put(self, folder: Path, certificate: Path) -> None:
        """
        Import a certificate with its key; its nickname is that of the file.
        """
        bundle = self.folder / "bundle.p12"
        name = certificate.stem
        command = ["openssl", "pkcs12", "-export", "-in", str(certificate), "-out", str(bundle), "-passout=pass:"]
        self.run_([*command, "-name", name])
        secret = folder.with_name(f"{folder.name}.password")
        self.run_(["pk12util", "-i", str(bundle), "-W", "", "-d", f"sql:{folder}", "-k", str(secret)])

    def check(self, cert: str) -> tuple[int, str]:
        """
        Have C{tlsproxy check} look at a client proxy with a certificate.

        @param cert: As TOML.
        """
        (self.folder / "empty.toml").write_text("[[map]]\nhosts = ['x.invalid:443']\nrefuse = true\n")
        (self.folder / "checked.toml").write_text(
            '[[route]]\nname = "cp"\nmode = "sequential-client"\nlisten = "127.0.0.1:3128"\nmapping = "empty.toml"\n'
            f'[route.upstream_tls]\nca = "{self.dmz.ca}"\ncert = {cert}\n'
        )
        done = subprocess.run([*_CHECK, str(self.folder / "checked.toml")], capture_output=True, text=True, timeout=60)
        return done.returncode, (done.stdout + done.stderr).replace(str(self.folder), "")

    def test_chosen(self) -> None:
        """
        Of all certificates in a database, the reverse proxy gets the one of its CA; one that is imported later is
        noticed.
        """
        guests = Certificates(self.folder, "guests")
        folder = self.database("db")
        self.put(folder, guests.issue("guest", ["laptop"], commonName="guest"))
        seen = []

        def answer(talker: Talker) -> None:
            shown = None if talker.tls is None else talker.tls.get_peer_certificate(as_cryptography=True)
            seen.append("" if shown is None else shown.subject.rfc4514_string())
            talker.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            talker.endWrite()

        context = serverContext(self.reverseCertificate, ca=self.staff.ca)
        context.load_client_ca(str(self.staff.ca).encode())
        proxy = self.start(Server(self, answer, context).port, upstream={"cert": f"nss:{folder}"})
        self.assertIn("it does not know the CA that issued our certificate", self.ask(proxy)[1])
        self.put(folder, self.staff.issue("ours", ["laptop"], commonName="ours"))
        waitUntil(lambda: bool(self.ask(proxy) and seen), "the new certificate")
        self.assertEqual({"CN=ours"}, set(seen))

    def test_password(self) -> None:
        """
        A database with a password needs it.
        """
        folder = self.database("locked", "Sesame-4711")
        self.put(folder, self.staff.issue("ours", ["laptop"], commonName="ours"))
        secret = self.folder / "locked.password"
        reverse = self.reverse(says(answerOf(b"403 No", b"reached")))
        upstream = {"cert": f"nss:{folder}", "cert_password_file": str(secret)}
        proxy = self.start(reverse.port, upstream=upstream)
        self.assertIn("reached", self.ask(proxy)[1])
        self.assertEqual(["ours"], reverse.subjects)

    def test_check(self) -> None:
        """
        What is wrong is told when the configuration is read, in one sentence.
        """
        folder = self.database("db")
        locked = self.database("locked", "Sesame-4711")
        self.put(locked, self.staff.issue("ours", ["laptop"], commonName="ours"))
        status, said = self.check(f'"nss:{locked}"')
        self.assertEqual(1, status)
        self.assertIn("upstream_tls.cert: /locked has a password: say in which file that is, by password_file", said)
        wrong = self.folder / "db.password"
        _, said = self.check(f'{{nss = "{locked}", password_file = "{wrong}"}}')
        self.assertIn("db.password is empty", said)
        wrong.write_text("geheim\n")
        _, said = self.check(f'{{nss = "{locked}", password_file = "{wrong}"}}')
        self.assertIn("/locked has another password than that in /db.password", said)
        _, said = self.check(f'"nss:{folder}"')
        self.assertIn("/db holds no certificate with its key", said)
        right = self.folder / "locked.password"
        _, said = self.check(f'{{nss = "{locked}", password_file = "{right}", nickname = "Eve"}}')
        self.assertIn("the nickname 'Eve': those that it has are called 'ours'", said)
        self.assertEqual(0, self.check(f'{{nss = "{locked}", password_file = "{right}"}}')[0])
        (folder / "key4.db").write_text("junk")
        self.assertIn("/db holds a broken NSS database", self.check(f'"nss:{folder}"')[1])
