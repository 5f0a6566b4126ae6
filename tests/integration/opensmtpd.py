# -*- test-case-name: tests.integration.test_starttls_smtp -*-
"""
OpenSMTPD, a mail server of its own for each test, without TLS: its TLS fails with OpenSSL 3 in the version that Debian
12 has.

It keeps its mail in C{/var/spool} and its socket in C{/var/run}, and nothing can make it do otherwise.  So it runs with
mounts of its own, where both are empty folders that vanish with it; and for that, and for the users it changes to, the
tests have to run as root.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

from tests.integration.running import Child, IntegrationTestCase, freePort, waitUntil
from tests.peers import requirePeer

__all__ = ["DOMAIN", "OpenSMTPD"]

DOMAIN = "shop.example"
"""The domain for which it takes mail."""

_START = """
set -e
mount -t tmpfs -o mode=711 none /var/spool
mount -t tmpfs -o mode=755 none /run
test -L /var/run || mount -t tmpfs -o mode=755 none /var/run
mkdir -m 711 /var/spool/smtpd
mkdir -m 700 /var/spool/box
chown nobody /var/spool/box
exec "$0" -d -f "$1"
"""


class OpenSMTPD:
    """
    A running OpenSMTPD.

    @ivar port: Where it listens.
    """

    def __init__(self, case: IntegrationTestCase, port: int = 0, prefix: Sequence[str] = ()) -> None:
        """
        @param port: Where it listens; 0 for any port.
        @param prefix: The start of the command line, such as what puts it into a network of its own.
        """
        program = requirePeer("smtpd")
        if os.geteuid() != 0:
            if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
                raise AssertionError("OpenSMTPD runs as root only")
            raise SkipTest("OpenSMTPD runs as root only")
        self.port = port or freePort()
        config = case.folder / "smtpd.conf"
        config.write_text(
            f"listen on socket\n"
            f"listen on 127.0.0.1 port {self.port} hostname mail.example\n"
            f'action "keep" maildir "/var/spool/box" virtual {{ "@" = "nobody" }}\n'
            f'match from any for domain "{DOMAIN}" action "keep"\n'
        )
        config.chmod(0o600)
        unshare = [requirePeer("unshare"), "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
        command = [*prefix, *unshare, "/bin/sh", "-c", _START, program, str(config)]
        self._child = Child(case, case.folder, "smtpd", command)
        try:
            self._child.waitFor("OpenSMTPD .* starting")
        except AssertionError as e:
            if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
                raise
            raise SkipTest(f"OpenSMTPD cannot have mounts of its own here: {e}") from None
        if not prefix:
            waitUntil(self._listens, "the listener of OpenSMTPD")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        """
        What it has printed so far.
        """
        return self._child.text()

    def mails(self) -> Sequence[str]:
        """
        What was delivered so far.
        """
        box = Path(f"/proc/{self._child.process.pid}/root/var/spool/box/new")
        return [file.read_text("utf-8") for file in sorted(box.iterdir())] if box.is_dir() else []

    def mail(self) -> str:
        """
        Wait for the first mail that is delivered.
        """
        try:
            return waitUntil(self.mails, "a mail")[0]
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log()}") from None
