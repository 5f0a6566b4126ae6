# -*- test-case-name: tests.integration -*-
"""
A network of a test's own, where every port is free and nothing reaches the outside.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path
from unittest import SkipTest

from tests.integration.running import PATIENCE, TOOL, Child, IntegrationTestCase, waitUntil
from tests.peers import requirePeer

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

_UP = "ip link set lo up && echo up && exec sleep 600"
_LAST = "the last that is captured"
_SEND = f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b{_LAST!r}, ('127.0.0.1', 9))"


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


class Capture(Child):
    """
    C{tcpdump} on the loopback of such a network.

    @ivar file: What it writes.
    """

    def __init__(self, case: NamespaceTestCase, name: str, what: str) -> None:
        """
        @param name: What the file is called.
        @param what: The packets to capture, as an expression.
        """
        self._case = case
        self.file = case.folder / name
        options = ["--immediate-mode", "-U", "-n", "-Z", "root", "-s", "0", "-i", "lo", "-w", str(self.file)]
        command = [*case.inside, requirePeer("tcpdump"), *options, f"{what} or udp port 9"]
        super().__init__(case, case.folder, "tcpdump", command)
        self.waitFor("listening on lo")

    def finish(self) -> bytes:
        """
        Have it end, once it has written all that has passed; a datagram to port 9 is the last.

        @return: The file.
        """
        self._case.run_([*self._case.inside, sys.executable, "-c", _SEND])
        waitUntil(lambda: _LAST.encode() in self.file.read_bytes(), "the last packet")
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
        return self.file.read_bytes()
