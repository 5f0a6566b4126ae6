# -*- test-case-name: tests.integration.test_demos -*-
"""
C{twistd -n tlsproxy --mode MODE} runs with nothing but a mode: the line that it prints is pasted, and works.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from tests.integration.running import TWISTD, Child, IntegrationTestCase
from tests.peers import requirePeer
from tlsproxy.settings import MODES

TWIST = (sys.executable, "-m", "twisted", "--log-format=text", "tlsproxy")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class DemoTests(IntegrationTestCase):
    """
    Each mode's demo as a process.
    """

    def assertDemo(self, mode: str, program: Sequence[str], *words: str) -> None:
        """
        Start a demo, paste its line, and end it.
        """
        requirePeer("curl")
        state = f"--state-dir={self.folder}/a state"
        child = Child(self, self.folder, f"demo-{mode}", [*program, "--mode", mode, state, *words])
        line = child.waitFor(r"^  (curl .*)$")[1]
        # It listens when it says so, or soon after; curl is not told to wait for it.
        child.waitFor(rf"{mode} \({mode}\) listens on")
        # As printed; only what this machine's own settings say of proxies is not heeded.
        unset = [word for name in PROXIES for word in ("-u", name, "-u", name.upper())]
        done = self.run_(["env", *unset, "sh", "-c", f"{line} --silent --show-error"])
        self.assertIn(f"by way of tlsproxy in mode {mode}: ", done.stdout.decode())
        # It went through the proxy indeed.
        child.waitFor(rf"\] {mode} client=127\.0\.0\.1:\d+ .* in=[1-9]\d* out=[1-9]\d* ")
        self.assertEqual(0, child.end(), child.text())
        self.assertIn("Main loop terminated.", child.text())
        self.assertNotIn("Traceback", child.text())

    def test_twistd(self) -> None:
        """
        Each mode's line gets the right answer, and SIGTERM ends the process cleanly.
        """
        for mode in MODES:
            self.assertDemo(mode, TWISTD)

    def test_datagrams(self) -> None:
        """
        With a UDP port, the modes that have DTLS print a line that gets its own word back.
        """
        requirePeer("openssl")
        requirePeer("nc")
        for mode in ("offload", "encrypt", "bridge"):
            state = f"--state-dir={self.folder}/a state"
            # A client in clear has no end of its own.
            listen = ["--listen", "udp:0", "--limit", "idle=2", state]
            child = Child(self, self.folder, f"demo-{mode}", [*TWISTD, "--mode", mode, *listen])
            line = child.waitFor(r"^  (\(echo .*)$")[1]
            child.waitFor(rf"{mode} \({mode}\) listens on")
            done = self.run_(["sh", "-c", line])
            self.assertEqual(b"hello\n", done.stdout)
            outcome = "expired"
            if mode != "encrypt":
                self.assertIn(b"Verification: OK", done.stderr)
                outcome = "closed"
            child.waitFor(rf"\] {mode} client=127\.0\.0\.1:\d+ .* in=6 out=6 .* outcome={outcome}")
            self.assertEqual(0, child.end(), child.text())
            self.assertNotIn("Traceback", child.text())

    def test_limits(self) -> None:
        """
        So it does with limits.
        """
        self.assertDemo("bridge", TWISTD, "--limit", "idle=30", "--limit", "handshake=3")

    def test_twist(self) -> None:
        """
        C{twist} runs the demo as well.
        """
        self.assertDemo("bridge", TWIST)

    def test_portTaken(self) -> None:
        """
        Where another process has the port that the demo prefers, it takes another.
        """
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                other.bind(("127.0.0.1", 8443))
            except OSError:
                # Somebody else has it, which is what is wanted.
                pass
            else:
                other.listen()
            self.assertDemo("offload", TWISTD)
