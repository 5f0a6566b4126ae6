# -*- test-case-name: tests.integration.test_reactors -*-
"""
Bytes, ends, truncations and resets come through on each reactor that tlsproxy supports, over TCP and Unix sockets, and
leave no descriptor behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent


class ReactorTests(SynchronousTestCase):
    """
    The conformance suite in a process of its own for each reactor and kind of socket.
    """

    def conform(self, reactor: str, sockets: str) -> None:
        """
        Run L{tests.integration.onreactors}.

        @param reactor: The reactor, as C{trial --reactor} calls it.
        @param sockets: C{"tcp"} or C{"unix"}.
        """
        command = [sys.executable, "-m", "twisted.trial", "--reporter=bwverbose", f"--reactor={reactor}"]
        command += [f"--temp-directory={Path(self.mktemp()).resolve()}", "tests.integration.onreactors"]
        environment = {**os.environ, "TLSPROXY_SOCKETS": sockets}
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", errors="replace", timeout=300
        )
        self.assertEqual(0, ran.returncode, ran.stdout[-8000:] + ran.stderr[-2000:])
        self.assertIn("PASSED (successes=", ran.stdout)

    def test_epollTCP(self) -> None:
        """
        TCP on epoll.
        """
        self.conform("epoll", "tcp")

    def test_epollUnix(self) -> None:
        """
        Unix sockets on epoll.
        """
        self.conform("epoll", "unix")

    def test_pollTCP(self) -> None:
        """
        TCP on poll.
        """
        self.conform("poll", "tcp")

    def test_pollUnix(self) -> None:
        """
        Unix sockets on poll.
        """
        self.conform("poll", "unix")

    def test_selectTCP(self) -> None:
        """
        TCP on select.
        """
        self.conform("select", "tcp")

    def test_selectUnix(self) -> None:
        """
        Unix sockets on select.
        """
        self.conform("select", "unix")

    def test_asyncioTCP(self) -> None:
        """
        TCP on asyncio.
        """
        self.conform("asyncio", "tcp")

    def test_asyncioUnix(self) -> None:
        """
        Unix sockets on asyncio.
        """
        self.conform("asyncio", "unix")
