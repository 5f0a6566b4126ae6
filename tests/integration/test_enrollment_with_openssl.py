# -*- test-case-name: tests.integration.test_enrollment_with_openssl -*-
"""
Whoever knows the protocol can enroll: here it is spoken by C{openssl} alone, which has nothing of ours but the proof.
"""

from __future__ import annotations

import json
import re
import socket
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.running import TOOL, Child, IntegrationTestCase, Proxy
from tests.mappingsigning import BODY, facts
from tests.peers import requirePeer
from tlsproxy.enrolling.lineages import Lineages
from tlsproxy.tls.issuing import Issuer
from tlsproxy.tls.keys import spkiHash
from tlsproxy.tls.signatures import sign
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import proofOf

ENROLL, TUNNELS = "enroll.dmz.example", "dmz.example"
DAY = timedelta(days=1)


class OpenSSLTests(IntegrationTestCase):
    """
    A client proxy that is made of C{openssl}.
    """

    def setUp(self) -> None:
        """
        Start a reverse proxy by which client proxies enroll.
        """
        super().setUp()
        self.openssl = requirePeer("openssl")
        now = datetime.now(UTC)
        self.issuer, key = issuer, _ = Issuer.create("proxies.example", 365 * DAY, now)
        self.put("proxies-ca.pem", issuer.certificate.public_bytes(Encoding.PEM))
        self.put("proxies-key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.certificates.issue("dmz", [ENROLL, TUNNELS])
        self.signer = Ed25519PrivateKey.generate()
        self.mapping = self.maps(7)
        self.store = Lineages(self.folder / "store.sqlite", lambda: datetime.now(UTC))
        self.addCleanup(self.store.close)
        self.rp: Proxy = self.proxy(
            {
                "name": "rp",
                "mode": "sequential-server",
                "tls": {"cert": "dmz.pem", "client_ca": "proxies-ca.pem"},
                "grant": [{"uri": "spiffe://proxies.example/*", "targets": ["127.0.0.0/8:*"]}],
                "enroll": {
                    "name": ENROLL,
                    "server_name": TUNNELS,
                    "server_ca": str(self.certificates.ca),
                    "ca": "proxies-ca.pem",
                    "ca_key": "proxies-key.pem",
                    "mapping": "mapping.signed",
                    "store": "store.sqlite",
                },
            }
        )
        self.port = self.rp.port("rp")
        self.count = 0

    def maps(self, version: int) -> bytes:
        """
        Sign a mapping, and put it into its place.
        """
        now, form = datetime.now(UTC), "%Y-%m-%dT%H:%M:%SZ"
        head = facts(version, issued=now.strftime(form), expires=(now + 30 * DAY).strftime(form))
        mapping = sign((head + BODY).encode(), self.signer)
        self.put("mapping.new", mapping).rename(self.folder / "mapping.signed")
        return mapping

    def put(self, name: str, data: bytes) -> Path:
        """
        Write a file.
        """
        file = self.folder / name
        file.touch(0o600)
        file.write_bytes(data)
        return file

    def connects(self, name: str, *more: str, protocol: str = "tlsproxy-enroll/1") -> Child:
        """
        Have it connect, and verify whom it has come to.
        """
        self.count += 1
        command = [self.openssl, "s_client", "-connect", f"127.0.0.1:{self.port}", "-servername", name, "-ign_eof"]
        command += ["-CAfile", str(self.certificates.ca), "-verify_hostname", name, "-verify_return_error", "-tls1_3"]
        command += ["-alpn", protocol, "-keymatexport", "EXPORTER-tlsproxy-enroll-1"]
        command += ["-keymatexportlen", "32", *more]
        client = Child(self, self.folder, f"openssl{self.count}", command, spoken=True)
        client.waitFor("Keying material: ([0-9A-F]{64})")
        return client

    def says(self, client: Child, head: str, body: bytes = b"") -> tuple[int, str]:
        """
        Have it say something.

        @return: The status and the body of the answer.
        """
        assert client.process.stdin is not None
        client.process.stdin.write(head.replace("\n", "\r\n").encode() + body)
        client.process.stdin.flush()
        self.assertEqual(0, client.process.wait(20))
        found = re.search(
            r"HTTP/1\.1 (\d+) .*?Content-Length: (\d+).*?\r\n\r\n(.*)",
            (self.folder / f"openssl{self.count}.log").read_bytes().decode("utf-8", "replace"),
            re.DOTALL,
        )
        assert found is not None, client.text()
        return int(found[1]), found[3][: int(found[2])]

    def request(self, number: int) -> tuple[Path, bytes]:
        """
        Make a key, and a request for a certificate.
        """
        key, request = self.folder / f"key{number}.pem", self.folder / f"request{number}.der"
        self.run_(
            [self.openssl, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)]
        )
        self.run_(
            [self.openssl, "req", "-new", "-key", str(key), "-subj", "/", "-outform", "DER", "-out", str(request)]
        )
        return key, request.read_bytes()

    def test_wholeLife(self) -> None:
        """
        It learns the CA, enrolls, gets the mapping, renews its certificate, and finds out that the first one is dead.
        """
        status, body = self.says(self.connects(ENROLL), f"GET /ca HTTP/1.1\nHost: {ENROLL}\n\n")
        self.assertEqual(200, status)
        self.assertEqual(self.certificates.ca.read_text("ascii"), body)
        token = Token.new(bytes(32), bytes(32))
        self.store.addToken(token, "ann", timedelta(hours=1))
        key, request = self.request(1)
        client = self.connects(ENROLL)
        keying = bytes.fromhex(client.waitFor("Keying material: ([0-9A-F]{64})")[1])
        proof = b64encode(proofOf(token.secret, keying + request)).decode()
        head = (
            f"POST /enroll HTTP/1.1\nHost: {ENROLL}\nContent-Type: application/pkcs10\n"
            f'Authorization: TLSProxy-Token id="{token.id}", proof="{proof}"\nContent-Length: {len(request)}\n\n'
        )
        status, body = self.says(client, head, request)
        self.assertEqual(201, status, body)
        told = json.loads(body)
        self.assertEqual((self.mapping.decode(), TUNNELS), (told["mapping"], told["server_name"]))
        first = self.put("client1.pem", told["certificate"].encode())
        verified = [self.openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]
        self.run_([*verified, str(self.folder / "proxies-ca.pem"), str(first)])
        mine = ("-cert", str(first), "-key", str(key))
        status, body = self.says(self.connects(TUNNELS, *mine), f"GET /mapping HTTP/1.1\nHost: {TUNNELS}\n\n")
        self.assertEqual(200, status)
        self.assertEqual(self.mapping.decode(), body)
        key2, request2 = self.request(2)
        head = (
            f"POST /renew HTTP/1.1\nHost: {TUNNELS}\nContent-Type: application/pkcs10\n"
            f"Content-Length: {len(request2)}\n\n"
        )
        status, body = self.says(self.connects(TUNNELS, *mine), head, request2)
        self.assertEqual(201, status, body)
        second = self.put("client2.pem", json.loads(body)["certificate"].encode())
        for certificate, wanted, expected in ((first, key, 403), (second, key2, 200)):
            client = self.connects(TUNNELS, "-cert", str(certificate), "-key", str(wanted))
            status, _ = self.says(client, f"GET /mapping HTTP/1.1\nHost: {TUNNELS}\n\n")
            self.assertEqual(expected, status)
        outcomes = [self.rp.session(number)["outcome"] for number in range(6)]
        self.assertEqual(["served", "enrolled", "served", "renewed", "refused", "served"], outcomes)
        self.assertIn("rp enrolled ann: certificate ", self.rp.text())

    def enrolled(self) -> list[str]:
        """
        Have a client with a certificate.

        @return: The arguments by which C{openssl} shows it.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        token = Token.new(bytes(32), bytes(32))
        self.store.addToken(token, "ann", timedelta(hours=1))

        def issue(name: str, ends: datetime) -> x509.Certificate:
            now = datetime.now(UTC)
            return self.issuer.issue(name, key.public_key(), min(ends, now + DAY), now)

        issued = self.store.enroll(token.id, spkiHash(key.public_key()), DAY, issue)
        own = self.put("own-key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return ["-cert", str(self.put("own.pem", issued.certificate)), "-key", str(own)]

    def test_revoked(self) -> None:
        """
        What one process takes back, another one heeds at once: the tunnel that is open is cut, and no other is opened.
        """
        shown = self.enrolled()
        with socket.create_server(("127.0.0.1", 0)) as target:
            head = "CONNECT 127.0.0.1:{0} HTTP/1.1\r\nHost: 127.0.0.1:{0}\r\n\r\n".format(target.getsockname()[1])
            tunnels = []
            for _ in range(2):
                tunnel = self.connects(TUNNELS, *shown, protocol="http/1.1")
                assert tunnel.process.stdin is not None
                tunnel.process.stdin.write(head.encode())
                tunnel.process.stdin.flush()
                tunnels.append(tunnel)
                if len(tunnels) == 1:
                    tunnel.waitFor("200 Connection established")
                    config = str(self.folder / "config.toml")
                    told = self.run_([*TOOL, "token", "revoke", "ann", "--config", config])
                    self.assertEqual(0, told.returncode)
                    self.assertEqual("revoked", self.rp.session(0)["outcome"])
                    tunnel.process.wait(20)
            tunnels[1].waitFor("403 Forbidden")
            self.assertIn("opens nothing any more: it was revoked", self.rp.session(1)["reason"])

    def test_newMapping(self) -> None:
        """
        Another mapping is handed out as soon as it is in its place.
        """
        shown = self.enrolled()
        mapping = self.maps(8)
        self.rp.waitFor("reloaded: files changed: .*mapping.signed")
        status, body = self.says(self.connects(TUNNELS, *shown), f"GET /mapping HTTP/1.1\nHost: {TUNNELS}\n\n")
        self.assertEqual((200, mapping.decode()), (status, body))
        # One that is of no use does not take its place.
        self.rp.expected = r".*#error\] not reloaded.*"
        self.put("mapping.signed", mapping[:-10])
        self.rp.waitFor("not reloaded: .*has no signature as its last line, or has been cut")
        status, body = self.says(self.connects(TUNNELS, *shown), f"GET /mapping HTTP/1.1\nHost: {TUNNELS}\n\n")
        self.assertEqual((200, mapping.decode()), (status, body))
