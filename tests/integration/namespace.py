# -*- test-case-name: tests.integration -*-
"""
A network of a test's own, where every port is free and nothing reaches the outside.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from unittest import SkipTest

from tests.integration.running import TOOL, Child, IntegrationTestCase, waitUntil
from tests.peers import requirePeer

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

_UP = "ip link set lo up && echo up && exec sleep 600"


class NamespaceTestCase(IntegrationTestCase):
    """
    A test in a network namespace, which lasts as long as the test.

    @ivar inside: The start of the command line of whatever shall run in it.
    """

    def setUp(self) -> None:
        """
        Make the namespace.
        """
        super().setUp()
        requirePeer("ip")
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        holder = Child(
            self, self.folder, "namespace", [requirePeer("unshare"), *user, "--net", "--", "/bin/sh", "-c", _UP]
        )
        try:
            holder.waitFor("^up$")
        except AssertionError as e:
            if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
                raise
            raise SkipTest(f"this user may make no network namespace: {e}") from None
        enter = ["--user", "--preserve-credentials"] if user else []
        self._pid = holder.process.pid
        self.inside = [requirePeer("nsenter"), "--target", str(self._pid), *enter, "--net", "--"]

    def waitForListener(self, port: int) -> None:
        """
        Wait until somebody in the namespace listens on a port.
        """

        def listened() -> bool:
            tables = "".join(Path(f"/proc/{self._pid}/net/{table}").read_text() for table in ("tcp", "tcp6"))
            return re.search(rf":{port:04X} \S+ 0A ", tables) is not None

        waitUntil(listened, f"a listener on port {port}")

    def example(self, name: str) -> Path:
        """
        Copy an example into the folder of the test, and do what its first comment says.

        @return: The copy.
        """
        shutil.copy(EXAMPLES / name, self.folder / name)
        self.run_([*TOOL, "devcert", "certs"])
        return self.folder / name
