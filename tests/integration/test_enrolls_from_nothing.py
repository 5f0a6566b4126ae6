# -*- test-case-name: tests.integration.test_enrolls_from_nothing -*-
"""
From nothing to a page: one command makes a reverse proxy, one enrolls a client proxy, and what has been given can be
renewed, changed and taken back while both run.
"""

from __future__ import annotations

import os
import socket

from tests.integration.clientproxying import ESTABLISHED
from tests.integration.fromnothing import FromNothingCase
from tests.integration.running import Proxy, waitUntil


class FromNothingTests(FromNothingCase):
    """
    Tests with the commands that C{tlsproxy setup} prints.
    """

    def start(self) -> Proxy:
        """
        Enroll, and start the client proxy.
        """
        self.enroll(self.cp)
        return Proxy(self, self.folder, self.cp / "client-proxy.toml")

    def fetch(self, proxy: Proxy, status: int = 0) -> str:
        """
        Fetch the page by curl.

        @return: The page, or what curl complains of.
        """
        command = ["curl", "--silent", "--show-error", "--noproxy", "", "--cacert", str(self.certificates.ca)]
        command += ["--proxy", f"http://127.0.0.1:{proxy.port('client-proxy')}", f"https://{self.target}/"]
        done = self.run_(command, status=status)
        return (done.stdout + done.stderr).decode()

    def test_page(self) -> None:
        """
        The commands that are printed lead to a page, and no secret is in any log or open to anybody else.
        """
        proxy = self.start()
        self.assertEqual("hello\n", self.fetch(proxy))
        self.reverse.waitFor('outcome=closed client_cert="CN=laptop, ')
        token = (self.rp / "token").read_text().strip()
        for one in (proxy, self.reverse):
            self.assertNotIn(token, one.text())
            self.assertNotIn(token.partition(".")[2][12:50], one.text())
        for path in (*self.rp.rglob("*"), *self.cp.rglob("*")):
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
                self.assertEqual(0, path.stat().st_mode & 0o077, path)

    def test_again(self) -> None:
        """
        The token is good once: another folder gets nothing by it, and is told no more than anybody.
        """
        self.enroll(self.cp)
        told = self.enroll(self.folder / "thief", status=1)
        self.assertIn("the token is unknown, used, expired or revoked, or the proof", told)
        self.reverse.waitFor("the token [0-9a-f]{16} of laptop has been used")

    def test_revoked(self) -> None:
        """
        What is revoked while a tunnel is open is cut, and opens no other.
        """
        proxy = self.start()
        with socket.create_connection(("127.0.0.1", proxy.port("client-proxy")), 20) as sock:
            sock.sendall(f"CONNECT {self.target} HTTP/1.1\r\nHost: {self.target}\r\n\r\n".encode())
            head = sock.recv(4096)
            self.assertTrue(head.startswith(ESTABLISHED[:12]), head)
            self.assertIn("laptop", self.tool("token", "revoke", "laptop", "--config", str(self.configuration)))
            try:
                self.assertEqual(b"", sock.recv(4096))
            except ConnectionResetError:
                pass
        self.reverse.waitFor("outcome=revoked")
        self.assertIn("403", self.fetch(proxy, status=56))

    def test_mapping(self) -> None:
        """
        A mapping that is signed elsewhere, by the command that is printed, is handed out to who enrolls from then on;
        one that somebody has changed is not even taken up.
        """
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        (self.rp / "signer").rename(elsewhere / "signer")
        mapping = elsewhere / "signer" / "mapping.toml"
        mapping.write_text(mapping.read_text() + '\n[[map]]\nhosts = ["new.invalid:443"]\nrefuse = true\n')
        before = (self.rp / "mapping.signed").read_bytes()
        self.reverse.expected = "#error] not reloaded"
        (self.rp / "mapping.signed").write_bytes(before.replace(b"localhost", b"elsewhere"))
        self.reverse.waitFor("not reloaded: .*mapping")
        self.tool(*self.signs, "--version", "9999999999", at=elsewhere)
        os.replace(elsewhere / "mapping.signed", self.rp / "mapping.signed")
        self.reverse.waitFor(r"\] reloaded: files changed: ")
        self.enroll(self.cp)
        self.assertIn(b"new.invalid", (self.cp / "mapping.signed").read_bytes())
        waitUntil(lambda: "9999999999" in (self.cp / "enrollment.json").read_text(), "the version")
