# -*- test-case-name: tests.integration.test_client_proxies_enroll -*-
"""
A client proxy enrolls by one command, browses, and stays in possession of what that takes, whatever happens to its
reverse proxy.
"""

from __future__ import annotations

import os
import stat
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.clientproxying import page
from tests.integration.enrolling import ENROLL, EnrollingCase
from tests.integration.running import waitUntil
from tests.integration.talking import Server, serverContext
from tlsproxy.enrolling.folder import CLIENT, NEXT_KEY


class EnrollTests(EnrollingCase):
    """
    Two real proxies.
    """

    def setUp(self) -> None:
        """
        Have something to browse.
        """
        super().setUp()
        self.origin = Server(self, page, serverContext(self.pem)).port

    def version(self) -> int:
        """
        Tell which mapping the client proxy has.
        """
        return self.mine.enrollment().trust.version

    def test_enrolls(self) -> None:
        """
        From a token to a page: what the command prints can be run as it stands, and nothing that it has written can be
        read by others.
        """
        self.reverse()
        token = self.token()
        printed, complaints = self.enroll(token)
        self.assertEqual("", complaints)
        self.assertIn("Enrolled as laptop, spiffe://proxies.example/laptop.\n", printed)
        self.assertIn(f"  twistd -n tlsproxy --config {self.mine.file('client-proxy.toml')}\n", printed)
        self.assertNotIn(token.decode().strip(), printed)
        for one in os.scandir(self.mine.path):
            self.assertEqual(0o600, stat.S_IMODE(one.stat().st_mode), one.name)
        self.assertFalse((self.mine.path / NEXT_KEY).exists())
        self.assertIn(": good: client-proxy", self.tool("check", self.mine.file("client-proxy.toml")).stdout.decode())
        client = self.client()
        self.assertEqual("hello\n", self.browse(client))
        self.assertIn("the token is unknown, used, expired or revoked", self.enroll(token, status=1)[1])
        self.assertEqual("hello\n", self.browse(client))

    def test_renews(self) -> None:
        """
        A certificate that lives for seconds is renewed again and again, also by a reverse proxy that was away in
        between, and there is always one that it lets in.
        """
        reverse = self.reverse(20.0)
        self.enroll(self.token())
        first = self.mine.certificate()
        client = self.client()
        self.assertEqual("hello\n", self.browse(client))
        waitUntil(lambda: self.mine.certificate().serial != first.serial, "a renewal")
        self.assertEqual("hello\n", self.browse(client))
        self.assertNotEqual("", self.store.whyNot(first.serial))
        self.assertEqual(0, reverse.end())
        away = self.mine.certificate()
        waitUntil(lambda: "refuses connections" in client.text(), "a failure that is told")
        (self.folder / "config.toml").unlink()
        self.reverse(20.0)
        waitUntil(lambda: self.mine.certificate().serial != away.serial, "another renewal")
        self.assertEqual("hello\n", self.browse(client))
        client.waitFor("gives what is asked of it again")
        client.waitFor("the certificate of laptop is renewed, until ")
        client.waitFor("reloaded: files changed: ")

    def test_mapping(self) -> None:
        """
        Another mapping is taken within a tenth of the time that the old one is valid, by another key if the old one
        has named it, and one by the old key is refused after that; an older one is refused.
        """
        other = Ed25519PrivateKey.generate()
        self.publish(1, "other.invalid:443", timedelta(seconds=60))
        self.reverse()
        self.enroll(self.token())
        client = self.client()
        client.expected = r"#error\] the enrollment in .* the mapping that came is refused: its version"
        self.assertIn("403", self.browse(client, 56))
        self.publish(2, f"localhost:{self.origin}", timedelta(seconds=60), nextKey=other)
        client.waitFor("version 2 of the mapping is taken")
        client.waitFor("reloaded: ")
        self.assertEqual("hello\n", self.browse(client))
        self.publish(3, f"localhost:{self.origin}", timedelta(seconds=60), other)
        client.waitFor("version 3 of the mapping is taken")
        self.publish(2, "other.invalid:443", timedelta(seconds=60), other)
        client.waitFor("the mapping that came is refused: its version 2 is older than 3")
        self.assertEqual((3, "hello\n"), (self.version(), self.browse(client)))

    def test_revoked(self) -> None:
        """
        Once it is revoked, the browser reads that it is, and the log says what to do.
        """
        self.reverse(20.0)
        self.enroll(self.token())
        client = self.client()
        client.expected = r"#error\] .*enroll again"
        self.assertEqual("hello\n", self.browse(client))
        self.tool("token", "revoke", "--config", str(self.folder / "config.toml"), "laptop")
        waitUntil(lambda: "hello" not in self.browse(client, None), "the end of what is let in")
        client.waitFor(f"enroll again, with a new token: tlsproxy enroll https://{ENROLL}:{self.port}/ ")

    def test_status(self) -> None:
        """
        The state of the proxy says how long it all lasts.
        """
        self.reverse()
        self.enroll(self.token())
        configuration = self.mine.path / "client-proxy.toml"
        configuration.write_text(f'[proxy]\nstatus = "tcp:0:interface=127.0.0.1"\n{configuration.read_text()}')
        client = self.client()
        where = client.waitFor(r"the status of the proxy is told on .*?(127\.0\.0\.1:\d+)")[1]
        told = self.run_(["curl", "--silent", "--noproxy", "*", f"http://{where}/status.json"]).stdout.decode()
        for words in ('"name": "laptop"', '"mapping_version": 1', '"certificate_not_after": "20'):
            self.assertIn(words, told)
        shown = self.run_(["curl", "--silent", "--noproxy", "*", f"http://{where}/metrics"]).stdout.decode()
        self.assertIn('tlsproxy_mapping_version{route="client-proxy"} 1.0', shown)
        page = self.run_(["curl", "--silent", "--noproxy", "*", f"http://{where}/"]).stdout.decode()
        self.assertIn("<td>laptop</td>", page)

    def test_refused(self) -> None:
        """
        A token whose pins do not fit, one that is cut, and a reverse proxy that is not there are told of, and nothing
        of a configuration is left.
        """
        self.reverse()
        token = self.token()
        self.assertIn("does not hold a token: the token is not whole", self.enroll(token[:-9], status=1)[1])
        from tlsproxy.wire.enrolltoken import Token

        strange = str(Token.new(bytes(32), bytes(32))).encode()
        self.assertIn("the reverse proxy's CA is not the one that the token names", self.enroll(strange, status=1)[1])
        self.assertFalse((self.mine.path / CLIENT).exists())
        words = "--connect", "127.0.0.1:1"
        self.assertIn("127.0.0.1:1 refuses connections", self.enroll(token, *words, status=1)[1])
