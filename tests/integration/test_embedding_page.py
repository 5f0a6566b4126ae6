# -*- test-case-name: tests.integration.test_embedding_page -*-
"""
The page C{docs/embedding.rst}: its program runs, and does what is said of it.
"""

from __future__ import annotations

import re
import sys
import textwrap

from tests.integration.namespace import EXAMPLES
from tests.integration.running import TOOL, Child, IntegrationTestCase, freePort

PAGE = EXAMPLES.parent / "docs" / "embedding.rst"

DRIVER = """
import os

from twisted.internet.defer import Deferred
from twisted.internet.utils import getProcessOutput
from twisted.web.client import ResponseFailed


async def main():
    await reloading
    inside = (await listening).getHost().port
    print("page:", await fetch(f"https://localhost:{inside}/"), flush=True)
    there = careful.portsOf("shop")[0].getHost().port
    print("port:", port != there, flush=True)
    try:
        await fetch(f"https://localhost:{there}/")
    except ResponseFailed as e:
        print("shop:", e.reasons[0].value, flush=True)
    browser = proxies.portsOf("browsers")[0].getHost().port
    curl = f"-sS --cacert certs/ca.pem --proxy http://127.0.0.1:{browser} https://localhost:{inside}/"
    print("tunnel:", await getProcessOutput("curl", ["--noproxy", "", *curl.split()], os.environ), flush=True)
    print("wrong:", await fetch(f"https://localhost:{nowhere}/"), flush=True)
    print("cut:", await careful.drain(5.0), dict(outcomes.count), flush=True)
    reactor.stop()


reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addErrback(log.err))
reactor.run()
"""


def blocks(language: str) -> list[str]:
    """
    Find what the page shows.
    """
    found = re.findall(rf"(?ms)^\.\. code-block:: {language}\n\n((?:    .*?\n|\n)+)", PAGE.read_text("utf-8"))
    return [textwrap.dedent(one) for one in found]


class PageTests(IntegrationTestCase):
    """
    The code of the page.
    """

    def test_program(self) -> None:
        """
        All its pieces together are a program: the page comes from inside; the shop, which has no upstream, cuts its
        client off, and the observer has seen it; and what cannot be connected with is told by a sentence.
        """
        self.run_([*TOOL, "devcert", "certs"])
        program = "\n\n".join(blocks("python")).replace("8080", str(freePort()))
        program += f"\nnowhere = {freePort()}\n{DRIVER}"
        (self.folder / "program.py").write_text(program, "utf-8")
        running = Child(self, self.folder, "program", [sys.executable, "program.py"])
        self.assertEqual("Hello from inside", running.waitFor("page: (.*)$")[1])
        self.assertEqual("True", running.waitFor("port: (.*)$")[1])
        self.assertEqual("b'Hello from inside\\n'", running.waitFor("tunnel: (.*)$")[1])
        running.waitFor("downgrade=handshake")
        running.waitFor("shop: .*the upstream ended the stream without ending TLS")
        self.assertRegex(running.waitFor("wrong: (.*)$")[1], "^failed at dial: the upstream .* refuses connections$")
        self.assertEqual("0 {('shop', 'failed'): 1}", running.waitFor("cut: (.*)$")[1])
        self.assertEqual(0, running.process.wait(20))
        self.assertNotRegex(running.text(), "Traceback|Unhandled")

    def test_string(self) -> None:
        """
        The route of the page serves a folder.
        """
        self.run_([*TOOL, "devcert", "certs"])
        (route,) = blocks("toml")
        (self.folder / "routes.toml").write_text(route.replace('"8443"', '"127.0.0.1:0"'), "utf-8")
        (self.folder / "www").mkdir()
        (self.folder / "www" / "index.html").write_text("Hello from a folder\n")
        (command,) = re.findall(r"(?m)^    twist (web .*)$", PAGE.read_text("utf-8"))
        twist = [sys.executable, "-m", "twisted", "--log-format", "text", *command.split()]
        running = Child(self, self.folder, "twist", twist)
        port = running.waitFor(r"front \(offload\) listens on .*:(\d+)$")[1]
        done = self.run_(["curl", "--silent", "--cacert", "certs/ca.pem", f"https://localhost:{port}/"])
        self.assertEqual(b"Hello from a folder\n", done.stdout)
