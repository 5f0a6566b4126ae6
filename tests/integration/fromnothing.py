# -*- test-case-name: tests.integration.test_enrolls_from_nothing -*-
"""
What C{tlsproxy setup} makes of nothing: a reverse proxy, and the commands that come next.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.integration.clientproxying import page
from tests.integration.running import TOOL, IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Server, serverContext

__all__ = ["FromNothingCase"]


class FromNothingCase(IntegrationTestCase):
    """
    A test with such a reverse proxy, which leads to a server with one page.

    @ivar rp: Its folder.
    @ivar cp: The folder of a client proxy, which is not there yet.
    @ivar address: Where it is.
    @ivar target: Where the server is.
    @ivar enrolls: The command that enrolls a client proxy, as it was printed.
    @ivar signs: The one that signs a mapping.
    @ivar configuration: The file with its configuration.
    @ivar reverse: The process.
    """

    guard = 120.0

    def setUp(self) -> None:
        """
        Make a reverse proxy, from nothing, and start it.
        """
        super().setUp()
        self.origin = Server(self, page, serverContext(self.certificates.issue("shop", ["localhost"])))
        self.rp, self.cp = self.folder / "dmz", self.folder / "laptop"
        self.address = f"localhost:{freePort()}"
        self.target = f"localhost:{self.origin.port}"
        told = self.tool("setup", "dmz", "--address", self.address, "--target", self.target, "--name", "laptop")
        commands = re.findall("^    tlsproxy (.*)$", told, re.MULTILINE)
        self.enrolls, self.signs = (one.split() for one in commands)
        self.configuration = self.rp / "reverse-proxy.toml"
        self.reverse = Proxy(self, self.folder, self.configuration)

    def tool(self, *words: str, at: Path | None = None, status: int = 0) -> str:
        """
        Run a command.

        @param at: Where; the folder of the test, if it does not matter.
        @param status: The exit status that is expected.
        @return: What it prints, on either stream.
        """
        done = subprocess.run(
            [*TOOL, *words], cwd=at or self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual(status, done.returncode, done.stderr)
        return done.stdout + done.stderr

    def enroll(self, folder: Path, status: int = 0) -> str:
        """
        Enroll, by the command that setup has printed.
        """
        return self.tool(
            *self.enrolls, "--directory", str(folder), "--listen", "127.0.0.1:0", at=self.rp, status=status
        )
