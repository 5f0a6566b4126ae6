# -*- test-case-name: tests.integration.test_reloads_lose_nobody -*-
"""
Two hundred reloads under two hundred new TLS connections a second: none is refused, reset or failed, and what is under
way goes on.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import ssl
import sys
from collections import Counter
from pathlib import Path
from subprocess import PIPE, Popen

from tests.integration.running import PATIENCE, IntegrationTestCase, Proxy, freePort, toml, waitUntil

RELOADS = 200
PACE = 200
"""How many clients come in a second, however long the reloads take."""
BETWEEN = 8
"""
How many clients have come and gone between two reloads, at least: so there are 25 reloads a second at most, fewer on a
machine that is busy, and as many clients in any case.
"""
SIZE = 100_000_000
ROOT = Path(__file__).resolve().parent.parent.parent


class ReloadsTests(IntegrationTestCase):
    """
    Reloads of a proxy that is busy.
    """

    guard = 240.0

    def write(self, turn: int) -> None:
        """
        Write the configuration anew: another certificate, other limits, and every other time another route.
        """
        config = self.folder / "new.toml"
        tls = {"cert": str(self.folder / f"{'ab'[turn % 2]}.pem")}
        route = {"name": "web", "mode": "offload", "listen": f"127.0.0.1:{self.port}", "tls": tls}
        routes = [{**route, "upstream": f"127.0.0.1:{self.upstream}", "limits": {"idle": 100 + turn}}]
        if turn % 2:
            more = {"name": "more", "listen": f"127.0.0.1:{self.other}", "mode": "passthrough"}
            routes.insert(0, {**more, "upstream": f"127.0.0.1:{self.upstream}"})
        # Files that change are not to have it reload besides.
        config.write_text(f"[proxy]\nwatch = false\n{toml(routes)}")
        os.replace(config, self.folder / "config.toml")

    def test_reloads(self) -> None:
        """
        Clients come all the time and each is served, whichever certificate it sees; a large answer under way arrives
        whole; and afterward neither memory nor descriptors have grown.
        """
        for name in "ab":
            self.certificates.issue(name)
        self.port, self.other, self.upstream = freePort(), freePort(), freePort()
        block = os.urandom(1_000_000)
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.upstream}; location /small {{ return 200 here; }} location / {{ }} }}"
        )
        (self.folder / "www" / "large").write_bytes(block * (SIZE // len(block)))
        wanted = hashlib.sha256(block * (SIZE // len(block))).hexdigest()
        self.write(0)
        proxy = Proxy(self, self.folder, self.folder / "config.toml")
        base = proxy.descriptors()
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        plain = socket.create_connection(("127.0.0.1", self.port), 20)
        large = context.wrap_socket(plain, server_hostname="localhost")
        self.addCleanup(large.close)
        large.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        head, _, rest = large.recv(65536).partition(b"\r\n\r\n")
        digest, received = hashlib.sha256(rest), len(rest)
        self.assertIn(b"200 OK", head)
        self.begin()
        early = 0
        for turn in range(1, RELOADS + 1):
            self.write(turn)
            had = self.gone()
            proxy.process.send_signal(signal.SIGHUP)
            waitUntil(lambda: proxy.text().count("] reloaded: ") >= turn, f"reload {turn}")  # noqa: B023
            while received < SIZE * turn // RELOADS:
                data = large.recv(65536)
                self.assertTrue(data, received)
                digest.update(data)
                received += len(data)
            waitUntil(lambda: self.gone() >= had + BETWEEN, "further clients")  # noqa: B023
            if turn == RELOADS // 4:
                early = proxy.resident()
        rate = self.end()
        self.assertEqual((wanted, b""), (digest.hexdigest(), large.recv(1)))
        large.unwrap().close()
        outcomes = Counter(self.lines())
        served = outcomes.total()
        self.assertEqual([], [line for line in outcomes if not line.startswith("ok ")])
        self.assertEqual(2, len(outcomes))
        self.assertGreaterEqual(served, RELOADS * BETWEEN)
        self.assertGreater(min(outcomes.values()), served // 4)
        self.assertEqual(RELOADS, proxy.text().count("] reloaded: "))
        self.assertNotIn("not reloaded", proxy.text())
        waitUntil(lambda: proxy.descriptors() <= base + 2, "descriptors as few as before")
        self.assertLess(proxy.resident(), early + 15_000_000, early)
        # Each has its line, and so has the one that was under way.  The last one's may be still to come.
        waitUntil(lambda: len(proxy.sessions()) > served, "a line for each")
        self.assertEqual(served + 1, len(proxy.sessions()))
        self.assertEqual({"closed"}, {session["outcome"] for session in proxy.sessions()})
        print(f"{RELOADS} reloads, {served} clients; a second: {rate}", file=sys.__stderr__)

    def begin(self) -> None:
        """
        Have clients come from now on.
        """
        # Its output is a file, so it never waits for whoever reads that.
        output = (self.folder / "crowd").open("w")
        self.addCleanup(output.close)
        command = [
            sys.executable,
            "-m",
            "tests.integration.crowd",
            str(self.port),
            str(self.certificates.ca),
            str(PACE),
        ]
        self.crowd = Popen(command, stdin=PIPE, stdout=output, cwd=ROOT)
        self.addCleanup(self.crowd.wait)
        self.addCleanup(self.crowd.kill)

    def end(self) -> str:
        """
        Let no more of them come, and wait for those that are there.

        @return: How many came in a second, and how many of them late.
        """
        self.crowd.communicate(timeout=2 * PATIENCE)
        self.assertEqual(0, self.crowd.returncode)
        found = re.search(r"^rate (.*)$", (self.folder / "crowd").read_text(), re.MULTILINE)
        assert found is not None
        return found[1]

    def gone(self) -> int:
        """
        How many have come and gone; what has gone wrong is told at once.
        """
        lines = self.lines()
        self.assertEqual([], [line for line in lines if not line.startswith("ok ")])
        return len(lines)

    def lines(self) -> list[str]:
        """
        What has become of them, one line each.
        """
        whole = (self.folder / "crowd").read_text().rpartition("\n")[0].splitlines()
        return [line for line in whole if not line.startswith("rate ")]
