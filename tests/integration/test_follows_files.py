# -*- test-case-name: tests.integration.test_follows_files -*-
"""
The proxy follows its files: what changes on the disk holds for new connections within two seconds, and what is bad
changes nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import SkipTest

from cryptography import x509

from tests.integration.running import TWISTD, Child, IntegrationTestCase, Proxy, freePort, toml, waitUntil
from tlsproxy.testing.certificates import Holder, revoking

SOON = 2.0


class FollowingTests(IntegrationTestCase):
    """
    Files that change under a proxy that runs.
    """

    def setUp(self) -> None:
        """
        Have an upstream that answers everything, and certificates that are told apart by their serial number.
        """
        super().setUp()
        self.upstream = freePort()
        self.nginx(f"server {{ listen 127.0.0.1:{self.upstream}; keepalive_timeout 60; return 200 here; }}")
        self.context = ssl.create_default_context(cafile=str(self.certificates.ca))
        self.shown = self.folder / "shown.pem"
        shutil.copy(self.pem, self.shown)

    def config(self, *routes: dict[str, Any], head: str = "") -> Path:
        """
        Write a configuration, at once.
        """
        new = self.folder / "new.toml"
        new.write_text(head + toml(routes))
        config = self.folder / "config.toml"
        os.replace(new, config)
        return config

    def web(self, **more: Any) -> dict[str, Any]:
        """
        A route.
        """
        tls = {"cert": str(self.shown), **more.pop("tls", {})}
        return {"name": "web", **self.offload(self.upstream, tls=tls), "listen": "127.0.0.1:0", **more}

    def start(self, *routes: dict[str, Any], head: str = "") -> Proxy:
        """
        Start the proxy.
        """
        proxy = Proxy(self, self.folder, self.config(*routes, head=head), len(routes))
        proxy.expected = "#error] not reloaded"
        return proxy

    def visit(self, port: int, name: str = "localhost", session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """
        Connect.
        """
        plain = socket.create_connection(("127.0.0.1", port), 20)
        client = self.context.wrap_socket(plain, server_hostname=name, session=session)
        self.addCleanup(client.close)
        return client

    def serial(self, client: ssl.SSLSocket) -> str:
        """
        Which certificate somebody has seen.
        """
        certificate = client.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])

    def shownAt(self, port: int, name: str = "localhost") -> str:
        """
        Which certificate a new client sees.
        """
        with self.visit(port, name) as client:
            return self.serial(client)

    def ask(self, client: ssl.SSLSocket) -> None:
        """
        Ask, and get the answer.
        """
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"here"):
            data = client.recv(65536)
            self.assertTrue(data)
            answer += data

    def problems(self, proxy: Child) -> list[str]:
        """
        What a reload was refused for.
        """
        lines = [line.partition("#error] not reloaded: ")[2] for line in proxy.text().splitlines()]
        return [line for line in lines if line]

    def test_certificate(self) -> None:
        """
        A certificate that is replaced is shown within two seconds, whether it is renamed into its place, written over,
        or a link is turned to it; who is connected stays so.
        """
        link = self.folder / "link.pem"
        link.symlink_to(self.shown)
        proxy = self.start(self.web(tls={"cert": str(link)}))
        port = proxy.port("web")
        client = self.visit(port)
        self.ask(client)
        old = self.serial(client)
        for turn, put in enumerate((self._rename, self._overwrite, self._turn)):
            new = self.certificates.issue(f"new{turn}")
            put(new)
            began = time.monotonic()
            waitUntil(lambda: self.shownAt(port) != old, "the new certificate")  # noqa: B023
            self.assertTrue(time.monotonic() - began < SOON + 1, time.monotonic() - began)
            old = self.shownAt(port)
            proxy.waitFor(rf"(?s)(?:reloaded: files changed: \S*link\.pem.*){{{turn + 1}}}")
            self.ask(client)

    def _rename(self, new: Path) -> None:
        os.replace(new, self.shown)

    def _overwrite(self, new: Path) -> None:
        self.shown.write_bytes(new.read_bytes())

    def _turn(self, new: Path) -> None:
        other = self.folder / "other.pem"
        other.symlink_to(new)
        os.replace(other, self.folder / "link.pem")

    def test_pair(self) -> None:
        """
        A key that is there before its certificate is waited for, and nobody is told of what was wrong meanwhile.
        """
        pairs = []
        for name in ("one", "two"):
            text = self.certificates.issue(name).read_text()
            start = text.index("-----BEGIN PRIVATE")
            pairs.append((text[:start], text[start:]))
        chain, key = self.folder / "chain.pem", self.folder / "key.pem"
        key.touch(0o600)
        chain.write_text(pairs[0][0])
        key.write_text(pairs[0][1])
        proxy = self.start(self.web(tls={"cert": str(chain), "key": str(key)}))
        port = proxy.port("web")
        old = self.shownAt(port)
        key.write_text(pairs[1][1])
        # Longer than a look at the files takes.
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            self.assertEqual(old, self.shownAt(port))
        chain.write_text(pairs[1][0])
        waitUntil(lambda: self.shownAt(port) != old, "the new certificate")
        self.assertEqual([], self.problems(proxy))

    def test_bad(self) -> None:
        """
        What is bad is told, each problem with its file, line and key, and changes nothing; when it is good again, that
        holds.
        """
        proxy = self.start(self.web())
        port = proxy.port("web")
        old = self.shownAt(port)
        self.shown.write_text("rubbish")
        self.config(self.web(close="never"))
        proxy.waitFor("what was read before goes on")
        config = self.folder / "config.toml"
        lines = config.read_text().splitlines()
        at = {
            key: next(n for n, line in enumerate(lines, 1) if line.startswith(f"{key} =")) for key in ("close", "cert")
        }
        told = sorted(self.problems(proxy)[:-1])
        self.assertEqual(2, len(told), told)
        for one, (key, sentence) in zip(
            sorted(told, key=lambda line: "cert" in line),
            (("close", "route.close: 'never' is not one of"), ("cert", f"route.tls.cert: {self.shown} ")),
            strict=True,
        ):
            self.assertTrue(one.startswith(f"{config}:{at[key]}: {sentence}"), one)
        self.assertEqual(old, self.shownAt(port))
        os.replace(self.certificates.issue("better"), self.shown)
        self.config(self.web())
        waitUntil(lambda: self.shownAt(port) != old, "the new certificate")

    def test_missing(self) -> None:
        """
        A file that is gone changes nothing, and is read when it comes back.
        """
        proxy = self.start(self.web())
        port = proxy.port("web")
        old = self.shownAt(port)
        self.shown.unlink()
        proxy.waitFor("what was read before goes on")
        self.assertEqual(old, self.shownAt(port))
        (problem, _) = self.problems(proxy)
        self.assertIn("does not exist", problem)
        self.certificates.issue("shown")
        waitUntil(lambda: self.shownAt(port) != old, "the new certificate")

    def test_routes(self) -> None:
        """
        Routes come, change and go with the file; an address in another spelling is taken over, too.
        """
        number, other = freePort(), freePort()
        proxy = self.start(self.web(listen=f"127.0.0.1:{number}"), head='[proxy]\nlog_level = "info"\n')
        client = self.visit(number)
        more = self.web(listen=f"127.0.0.1:{other}", name="more")
        head = '[proxy]\nlog_level = "debug"\n'
        self.config(self.web(listen=f"localhost:{number}", limits={"idle": 5}), more, head=head)
        proxy.waitFor(r"reloaded: routes added: more; routes changed: web; files changed: \S*/config\.toml$")
        proxy.waitFor("log_level of .proxy. has changed, which needs a restart")
        self.assertEqual(self.shownAt(number), self.shownAt(other))
        self.config(more)
        proxy.waitFor("reloaded: routes removed: web")
        self.assertRaises(ConnectionRefusedError, self.visit, number)
        self.ask(client)

    def test_folder(self) -> None:
        """
        A certificate that comes into a folder is shown to those who ask for its name.
        """
        folder = self.folder / "certs"
        folder.mkdir()
        shutil.copy(self.pem, folder / "a.pem")
        proxy = self.start(self.web(tls={"cert": str(folder)}))
        port = proxy.port("web")
        old = self.shownAt(port)
        other = self.certificates.issue("other", ("other.example",))
        os.replace(other, folder / "other.pem")
        self.context.check_hostname = False
        waitUntil(lambda: self.shownAt(port, "other.example") != old, "the new certificate")
        self.assertEqual(old, self.shownAt(port))

    def test_revoked(self) -> None:
        """
        A certificate that is revoked lets nobody in any more, though it was good before.
        """
        authority = self.certificates.authority
        issuer = Holder(authority.certificate, authority.key)
        begins = datetime.now(UTC) - timedelta(days=1)
        crl = self.folder / "crl.pem"
        crl.write_bytes(revoking(issuer, begins=begins))
        proxy = self.start(self.web(tls={"client_ca": str(self.certificates.ca), "crl": str(crl)}))
        port = proxy.port("web")
        mine = self.certificates.issue("mine")
        self.context.load_cert_chain(mine)
        client = self.visit(port)
        self.ask(client)
        gone = x509.load_pem_x509_certificates(mine.read_bytes())[0]
        new = self.folder / "new.pem"
        new.write_bytes(revoking(issuer, gone, begins=begins))
        os.replace(new, crl)
        proxy.waitFor(r"reloaded: files changed: \S*crl\.pem")
        with self.visit(port) as other:
            self.assertRaises(ssl.SSLError, self.ask, other)
        self.ask(client)

    def test_resumed(self) -> None:
        """
        Sessions are resumed across a reload that leaves the route's TLS alone, and not where its certificate changes.
        """
        proxy = self.start(self.web())
        port = proxy.port("web")
        client = self.visit(port)
        self.ask(client)
        session = client.session
        self.config(self.web(limits={"idle": 5}))
        proxy.waitFor("reloaded: routes changed: web")
        with self.visit(port, session=session) as client:
            self.ask(client)
            self.assertTrue(client.session_reused)
            session = client.session
        os.replace(self.certificates.issue("new"), self.shown)
        proxy.waitFor(r"reloaded: files changed: \S*shown\.pem")
        with self.visit(port, session=session) as client:
            self.ask(client)
            self.assertFalse(client.session_reused)

    def test_still(self) -> None:
        """
        C{watch = false} has nothing followed, but for C{SIGHUP}; which then may turn it on.
        """
        proxy = self.start(self.web(), head="[proxy]\nwatch = false\n")
        port = proxy.port("web")
        old = self.shownAt(port)
        os.replace(self.certificates.issue("new"), self.shown)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            self.assertEqual(old, self.shownAt(port))
        proxy.process.send_signal(signal.SIGHUP)
        waitUntil(lambda: self.shownAt(port) != old, "the new certificate")

    def test_commandLine(self) -> None:
        """
        The files of a command line are followed, too.
        """
        number = freePort()
        words: Sequence[str] = ("--mode=offload", "--cert=shown.pem", f"--upstream=127.0.0.1:{self.upstream}")
        child = Child(self, self.folder, "line", [*TWISTD, *words, f"--listen=127.0.0.1:{number}", "--drain=0.1"])
        child.waitFor("listens on")
        old = self.shownAt(number)
        os.replace(self.certificates.issue("new"), self.shown)
        waitUntil(lambda: self.shownAt(number) != old, "the new certificate")
        self.shown.write_text("rubbish")
        child.waitFor(r"not reloaded: --cert: \S*shown\.pem")
        self.assertEqual(0, child.end(), child.text())

    def test_rights(self) -> None:
        """
        Who can no longer read a file after a change of the user is told so at the start; a reload keeps what there is.
        """
        if os.getuid() != 0:
            raise SkipTest("only root can become another user")
        number = freePort()
        self.config(self.web(listen=f"127.0.0.1:{number}"))
        self.shown.chmod(0o600)
        program = (*TWISTD[:-1], "--uid=65534", "--gid=65534", TWISTD[-1])
        child = Child(self, self.folder, "rights", [*program, "--config", "config.toml"])
        told = child.waitFor("warning: what was read at the start cannot be read any more, so no reload can: (.*)")
        self.assertIn(str(self.shown), told[1])
        old = self.shownAt(number)
        child.process.send_signal(signal.SIGHUP)
        child.waitFor("not reloaded: what was read before goes on")
        self.assertEqual(old, self.shownAt(number))
        self.assertEqual(0, child.end(), child.text())
