# -*- test-case-name: tests.integration.test_embedding -*-
"""
Servers of a program behind the program's own C{offload}, and real clients in front of it.
"""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.integration.running import Child, IntegrationTestCase, toml
from tests.integration.talking import Talker, clientContext, connect
from tests.peers import requireModule

PROGRAM = str(Path(__file__).with_name("embedded.py"))


class EmbeddedCase(IntegrationTestCase):
    """
    A program with servers behind routes.
    """

    def start(self, *names: str, **tls: Any) -> Child:
        """
        Start the program.

        @param names: Its servers.
        @param tls: Keys of C{[route.tls]}.
        """
        routes = [
            {"name": name, "mode": "offload", "listen": "127.0.0.1:0", "tls": {"cert": str(self.pem), **tls}}
            for name in names
        ]
        (self.folder / "routes.toml").write_text(toml(routes), "utf-8")
        self.running = Child(self, self.folder, "program", [sys.executable, PROGRAM, "routes.toml", *names])
        self.addCleanup(self.quiet)
        return self.running

    def quiet(self) -> None:
        """
        The program met no bug.
        """
        self.assertNotRegex(self.running.text(), "Traceback|Unhandled")

    def port(self, name: str) -> int:
        """
        The port of a server.
        """
        return int(self.running.waitFor(rf"\b{name} \(offload\) listens on .*:(\d+)$")[1])

    def line(self, name: str) -> str:
        """
        What the log says of a session.
        """
        return self.running.waitFor(rf"\b{name} client=.* outcome=.*$")[0]


class SiteTests(EmbeddedCase):
    """
    A site of C{twisted.web}.
    """

    def curl(self, *arguments: str, status: int | None = 0) -> str:
        """
        Run curl.

        @return: What it printed.
        """
        command = ["curl", "--silent", "--show-error", "--cacert", str(self.certificates.ca), *arguments]
        done = self.run_(command, status=status)
        return (done.stdout + done.stderr).decode()

    def test_page(self) -> None:
        """
        The client gets the page over verified TLS, and the site knows that the request is secure and whose it is.
        """
        self.start("site")
        url = f"https://localhost:{self.port('site')}/who"
        self.assertEqual("nobody secure 127.0.0.1\n", self.curl(url))
        line = self.line("site")
        self.assertRegex(line, r"client=127\.0\.0\.1:\d+ sni=localhost .* upstream=this-program upstream_tls=- ")
        self.assertRegex(line, r" in=[1-9]\d+ out=[1-9]\d+ .* outcome=closed$")

    def test_plainHTTP(self) -> None:
        """
        Who speaks plain HTTP is told so, and the site hears nothing of it.
        """
        self.start("site")
        self.assertIn("This port speaks TLS", self.curl(f"http://localhost:{self.port('site')}/who"))
        self.assertRegex(self.line("site"), "upstream=- .* outcome=refused")

    def test_clientCertificate(self) -> None:
        """
        The site sees the client's certificate; without one the client does not get that far.
        """
        self.start("site", client_ca=str(self.certificates.ca))
        url = f"https://localhost:{self.port('site')}/who"
        pem = self.certificates.issue("ann", ["ann.example"], commonName="Ann")
        self.assertEqual("Ann secure 127.0.0.1\n", self.curl("--cert", str(pem), url))
        self.curl(url, status=None)
        self.running.waitFor("site client=.* upstream=- .* outcome=failed .*certificate")

    def test_keepAlive(self) -> None:
        """
        Several requests share one connection.
        """
        self.start("site")
        url = f"https://localhost:{self.port('site')}/who"
        answer = self.curl("--write-out", "%{num_connects}\n", url, url, url)
        self.assertEqual(["1", "0", "0"], answer.splitlines()[1::2])

    def test_post(self) -> None:
        """
        A megabyte goes up, and three come down, whole.
        """
        self.start("site")
        content = bytes(range(256)) * 4096
        (self.folder / "up").write_bytes(content)
        base = f"https://localhost:{self.port('site')}"
        answer = self.curl("--data-binary", f"@{self.folder}/up", f"{base}/digest")
        self.assertEqual(f"{len(content)} {sha256(content).hexdigest()}\n", answer)
        self.curl("--output", str(self.folder / "down"), f"{base}/large")
        self.assertEqual(b"0123456789" * 300_000, (self.folder / "down").read_bytes())

    def test_klein(self) -> None:
        """
        An application of Klein's is served the same way.
        """
        requireModule("klein")
        self.start("klein")
        self.assertEqual("nobody secure 127.0.0.1\n", self.curl(f"https://localhost:{self.port('klein')}/who"))


class TwistTests(EmbeddedCase):
    """
    A program of somebody else, by a string alone.
    """

    def test_web(self) -> None:
        """
        C{twist web} serves a folder over TLS, and no code is written for it.
        """
        (self.folder / "www").mkdir()
        (self.folder / "www" / "index.html").write_text("Hello from a folder\n")
        route = {"name": "front", "mode": "offload", "listen": "127.0.0.1:0", "tls": {"cert": str(self.pem)}}
        (self.folder / "routes.toml").write_text(toml([route]), "utf-8")
        command = [
            sys.executable,
            "-m",
            "twisted",
            "--log-format",
            "text",
            "web",
            "--listen",
            "tlsproxy:routes.toml:front",
            "--path",
            "www",
        ]
        self.running = Child(self, self.folder, "twist", command)
        self.addCleanup(self.quiet)
        curl = ["curl", "--silent", "--show-error", "--cacert", str(self.certificates.ca)]
        done = self.run_([*curl, f"https://localhost:{self.port('front')}/"])
        self.assertEqual(b"Hello from a folder\n", done.stdout)
        self.assertRegex(self.line("front"), "upstream=this-program .* outcome=closed")
        self.running.end()

    def test_wrong(self) -> None:
        """
        What is wrong with the string is told by a sentence.
        """
        command = [
            sys.executable,
            "-m",
            "twisted",
            "--log-format",
            "text",
            "web",
            "--listen",
            "tlsproxy:none.toml:front",
            "--path",
            ".",
        ]
        done = self.run_(command, status=None)
        self.assertIn(b"none.toml: No such file or directory", done.stdout + done.stderr)
        self.assertNotEqual(0, done.returncode)


class TransportTests(EmbeddedCase):
    """
    What the transport of an ordinary protocol tells, and how its ends go through.
    """

    def talk(self, name: str, **more: Any) -> Talker:
        """
        Connect.
        """
        return connect(self, self.port(name), clientContext(self.certificates.ca, **more))

    def test_facts(self) -> None:
        """
        The protocol sees the client's address, its own, the client's certificate, and the application protocol.
        """
        self.start("told", client_ca=str(self.certificates.ca), alpn=["diary", "http/1.1"])
        pem = self.certificates.issue("ann", ["ann.example"], commonName="Ann")
        client = self.talk("told", alpn=[b"diary"], certificate=pem)
        client.send(b"hello")
        self.assertEqual(b"HELLO", client.read(5))
        here = f"127.0.0.1:{client.socket.getsockname()[1]}"
        told = self.running.waitFor("Told: made .*")[0]
        self.assertEqual(
            f"Told: made peer={here} host=127.0.0.1:{self.port('told')} secure=True certificate=Ann protocol=b'diary'",
            told,
        )
        client.endWrite()
        self.assertEqual((b"", "ended"), (client.readAll(), client.how))
        self.running.waitFor("Told: lost ConnectionDone")

    def test_halfClose(self) -> None:
        """
        A protocol that can be closed by halves answers after its client's end, and not one byte is lost.
        """
        self.start("half")
        client = self.talk("half")
        client.send(b"x" * 100_000)
        client.endWrite()
        self.assertEqual((b"100000" + b"!" * 500_000, "ended"), (client.readAll(), client.how))
        self.running.waitFor("Half: lost ConnectionDone")
        text = self.running.text()
        self.assertEqual(["read lost"], re.findall("Half: (read lost|write lost)", text)[:1])
        self.assertRegex(self.line("half"), r"in=100000 out=500006 .* outcome=closed$")

    def test_lose(self) -> None:
        """
        What is written before C{loseConnection} arrives, and its end is an authenticated one.
        """
        self.start("told")
        client = self.talk("told")
        client.send(b"lose")
        self.assertEqual((b"farewell", "ended"), (client.readAll(), client.how))
        client.endWrite()
        self.running.waitFor("Told: lost ConnectionDone")

    def test_truncated(self) -> None:
        """
        A client that was cut off is told as lost, and not as done.
        """
        self.start("told")
        client = self.talk("told")
        client.send(b"hello")
        self.assertEqual(b"HELLO", client.read(5))
        client.truncate()
        self.assertIn("without ending TLS", self.running.waitFor("Told: lost ConnectionLost: .*")[0])
        self.assertRegex(self.line("told"), "outcome=truncated")

    def test_reset(self) -> None:
        """
        A reset of the client's is one for the protocol, and one of the protocol's for the client.
        """
        self.start("told")
        client = self.talk("told")
        client.send(b"hello")
        client.read(5)
        client.reset()
        self.assertRegex(self.running.waitFor("Told: lost .*")[0], "lost (ConnectionLost|ConnectionAborted): .*reset")
        self.assertRegex(self.line("told"), "outcome=reset")
        client = self.talk("told")
        client.send(b"abort")
        self.assertEqual((b"", "reset"), (client.readAll(), client.how))
        self.running.waitFor("(?s)Told: lost.*Told: lost ConnectionAborted")
