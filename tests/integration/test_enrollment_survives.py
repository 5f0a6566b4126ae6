# -*- test-case-name: tests.integration.test_enrollment_survives -*-
"""
An enrollment survives whatever kills its processes, and goes by way of other proxies.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from attrs import evolve

from tests.integration.clientproxying import page
from tests.integration.enrolling import ENROLL, EnrollingCase
from tests.integration.running import TOOL, TWISTD, Child, waitUntil
from tests.integration.talking import Server, Talker, serverContext
from tlsproxy.enrolling.folder import Folder
from tlsproxy.wire.enrolling import ALPN


class SurvivalTests(EnrollingCase):
    """
    Two real proxies, and what happens to them.
    """

    def setUp(self) -> None:
        """
        Have something to browse.
        """
        super().setUp()
        self.origin = Server(self, page, serverContext(self.pem)).port

    def test_killed(self) -> None:
        """
        A client proxy that renews at each start, and is killed at random moments, is always in possession of a
        certificate that the reverse proxy lets in, once it runs for a moment.
        """
        self.reverse()
        self.enroll(self.token())
        chance = random.Random(5)
        serials = set()
        for number in range(5):
            # It is due at once.
            self.mine.keepEnrollment(evolve(self.mine.enrollment(), renewAt=datetime.fromtimestamp(0, UTC)))
            command = [*TWISTD, "--config", self.mine.file("client-proxy.toml")]
            client = Child(self, self.folder, f"killed{number}", command)
            client.waitFor("listens on")
            time.sleep(chance.uniform(0.0, 0.2))
            client.kill()
            serials.add(self.mine.certificate().serial)
        last = self.client()
        self.assertEqual("hello\n", waitUntil(lambda: self.browse(last, None), "a page"))
        # Where each was killed before it had renewed anything, the last one does.
        waitUntil(lambda: len(serials | {self.mine.certificate().serial}) > 1, "a renewal")
        self.assertFalse(any("theft" in one.state for one in self.store.lineages()))
        self.assertEqual({"alive"}, {one.state for one in self.store.lineages()})

    def test_enrollKilled(self) -> None:
        """
        The command can be killed at any moment, and run again with the same token.
        """
        self.reverse(max_client_requests=100)
        chance = random.Random(7)
        for number in range(3):
            token = self.folder / f"token{number}"
            token.touch(0o600)
            token.write_bytes(self.token(f"laptop{number}"))
            self.mine = Folder(self.folder / f"client{number}")
            words = ["enroll", f"https://{ENROLL}:{self.port}/", "--connect", f"127.0.0.1:{self.port}"]
            words += ["--token-file", str(token), "--directory", self.mine.file("")]
            with subprocess.Popen([*TOOL, *words], cwd=self.folder, stdout=subprocess.DEVNULL) as command:
                # It takes that long to come to the folder.
                waitUntil(lambda: self.mine.path.exists() or command.poll() is not None, "its begin")
                time.sleep(chance.uniform(0.0, 0.03))
                command.kill()
            if not (self.mine.path / "client-proxy.toml").exists() or (self.mine.path / "token-key.pem").exists():
                self.tool(*words)
            self.assertEqual(f"laptop{number}", self.mine.certificate().name)
            self.assertEqual("", self.store.whyNot(self.mine.certificate().serial))

    def test_proxies(self) -> None:
        """
        It goes by way of an HTTP proxy, which sees nothing but the name and the port, also for renewals and tunnels.
        """
        self.reverse(20.0)
        # One of ours, which knows nothing of it.
        port = self.port
        between = self.proxy(
            {"mode": "connect", "targets": {"allow": [f"127.0.0.1:{port}"]}, "listen": "127.0.0.1:0"}
        ).port("connect")
        printed, _ = self.enroll(self.token(), "--upstream-proxy", f"http://127.0.0.1:{between}")
        self.assertIn("Enrolled as laptop", printed)
        first = self.mine.certificate().serial
        client = self.client()
        self.assertEqual("hello\n", self.browse(client))
        waitUntil(lambda: self.mine.certificate().serial != first, "a renewal")
        self.assertEqual("hello\n", self.browse(client))

    def test_readOnly(self) -> None:
        """
        A folder that the user may not write, and one of somebody else, are told of before anything is asked for.
        """
        if os.geteuid() != 0:
            self.skipTest("only root can be somebody else")
        self.reverse()
        token = self.token()
        self.mine.path.mkdir()
        os.chown(self.mine.path, 65534, 65534)
        self.assertIn("belongs to user id 65534", self.enroll(token, status=1)[1])
        os.chown(self.mine.path, 0, 0)
        self.mine.path.chmod(0o770)
        self.assertIn("can be written by others", self.enroll(token, status=1)[1])
        self.assertFalse(any(Path(self.mine.path).iterdir()))

    def test_anotherServer(self) -> None:
        """
        A server that is no such reverse proxy, or stands between, learns nothing but the name that is asked for.
        """
        self.reverse()
        token = self.token()
        got: list[bytes] = []

        def behave(talker: Talker) -> None:
            got.append(talker.recv())

        other = Server(self, behave, serverContext(self.pem, alpn=[ALPN.encode()])).port
        told = self.enroll(token, "--connect", f"127.0.0.1:{other}", status=1)[1]
        self.assertIn("ended the stream without ending TLS", told)
        self.assertEqual([f"GET /ca HTTP/1.1\r\nHost: {ENROLL}\r\nConnection: close\r\n\r\n".encode()], got)
