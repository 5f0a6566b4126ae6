# -*- test-case-name: tests.integration -*-
"""
A reverse proxy by which client proxies enroll, and one that does: both real, on loopback.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.running import TOOL, IntegrationTestCase, Proxy, freePort
from tests.mappingsigning import facts
from tlsproxy.enrolling.folder import Folder
from tlsproxy.enrolling.lineages import Lineages
from tlsproxy.tls.issuing import Issuer
from tlsproxy.tls.signatures import sign

__all__ = ["DOMAIN", "ENROLL", "TUNNELS", "EnrollingCase"]

ENROLL, TUNNELS, DOMAIN = "enroll.dmz.invalid", "dmz.invalid", "proxies.example"
DAY = timedelta(days=1)


class EnrollingCase(IntegrationTestCase):
    """
    A test with such a reverse proxy.

    @ivar port: Where it is.
    @ivar origin: The port of what tunnels lead to, as C{localhost}.
    @ivar signer: What signs mappings.
    @ivar store: What it knows of client proxies.
    @ivar mine: The folder of the client proxy.
    """

    guard = 120.0
    origin = 9

    def setUp(self) -> None:
        """
        Make all that it takes.
        """
        super().setUp()
        now = datetime.now(UTC)
        issuer, key = Issuer.create(DOMAIN, 365 * DAY, now)
        self.put("proxies-ca.pem", issuer.certificate.public_bytes(Encoding.PEM))
        self.put("proxies-key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.certificates.issue("dmz", [ENROLL, TUNNELS])
        self.signer = Ed25519PrivateKey.generate()
        self.put("signer.pem", self.signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.store = Lineages(self.folder / "store.sqlite", lambda: datetime.now(UTC))
        self.addCleanup(self.store.close)
        self.port = freePort()
        self.mine = Folder(self.folder / "client")

    def put(self, name: str, data: bytes) -> Path:
        """
        Write a file, by a name that changes in one step.
        """
        fresh, file = self.folder / f"{name}.new", self.folder / name
        fresh.touch(0o600)
        fresh.write_bytes(data)
        fresh.rename(file)
        return file

    def publish(
        self,
        version: int,
        hosts: str = "localhost:*",
        lasts: timedelta = DAY,
        key: Ed25519PrivateKey | None = None,
        **more: Any,
    ) -> bytes:
        """
        Have the reverse proxy hand a mapping out.
        """
        form, now = "%Y-%m-%dT%H:%M:%SZ", datetime.now(UTC)
        head = facts(version, now.strftime(form), (now + lasts).strftime(form), f'"{DOMAIN}"', **more)
        body = (
            f'[[reverse_proxy]]\nname = "dmz"\naddress = "127.0.0.1:{self.port}"\nserver_name = "{TUNNELS}"\n'
            f'[[map]]\nhosts = ["{hosts}"]\nvia = "dmz"\n'
        )
        mapping = sign((head + body).encode(), key or self.signer)
        self.put("mapping.signed", mapping)
        return mapping

    def reverse(self, lifetime: float = 604800.0, **more: Any) -> Proxy:
        """
        Start the reverse proxy.
        """
        targets = [f"{host}:{self.origin}" for host in ("localhost", "127.0.0.1")]
        if not (self.folder / "mapping.signed").exists():
            self.publish(1)
        enroll = {
            "name": ENROLL,
            "server_name": TUNNELS,
            "server_ca": str(self.certificates.ca),
            "ca": "proxies-ca.pem",
            "ca_key": "proxies-key.pem",
            "mapping": "mapping.signed",
            "store": "store.sqlite",
            "lifetime": lifetime,
            **more,
        }
        return self.proxy(
            {
                "name": "rp",
                "mode": "sequential-server",
                "listen": f"127.0.0.1:{self.port}",
                "tls": {"cert": "dmz.pem", "client_ca": "proxies-ca.pem"},
                "grant": [{"uri": f"spiffe://{DOMAIN}/*", "targets": targets}],
                "enroll": enroll,
            }
        )

    def tool(self, *words: str, status: int = 0, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """
        Run the toolbox.
        """
        done = subprocess.run([*TOOL, *words], cwd=self.folder, input=given, capture_output=True, timeout=60)
        self.assertEqual(status, done.returncode, (done.stdout + done.stderr).decode())
        return done

    def token(self, name: str = "laptop") -> bytes:
        """
        Have a token made by the command, as who runs the reverse proxy does.
        """
        return self.tool("token", "new", "--config", str(self.folder / "config.toml"), "--name", name).stdout

    def enroll(self, token: bytes, *more: str, status: int = 0) -> tuple[str, str]:
        """
        Enroll by the command.

        @return: What it has printed, and what it complains of.
        """
        words = ["enroll", f"https://{ENROLL}:{self.port}/", "--connect", f"127.0.0.1:{self.port}", "--token-file", "-"]
        words += ["--directory", self.mine.file(""), "--listen", "127.0.0.1:0", *more]
        done = self.tool(*words, given=token, status=status)
        return done.stdout.decode(), done.stderr.decode()

    def client(self) -> Proxy:
        """
        Start the client proxy by the configuration that the command has written.
        """
        return Proxy(self, self.folder, Path(self.mine.file("client-proxy.toml")))

    def browse(self, client: Proxy, status: int | None = 0) -> str:
        """
        Have curl fetch a page of the origin through both proxies.

        @return: The page, or what curl complains of.
        """
        command = ["curl", "--silent", "--show-error", "--noproxy", "", "--cacert", str(self.certificates.ca)]
        command += ["--proxy", f"http://127.0.0.1:{client.port('client-proxy')}", "--max-time", "20"]
        done = self.run_([*command, f"https://localhost:{self.origin}/"], status=status)
        return (done.stderr if status else done.stdout).decode()
