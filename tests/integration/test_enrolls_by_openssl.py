# -*- test-case-name: tests.integration.test_enrolls_by_openssl -*-
"""
Whoever goes by the page on enrollment enrolls: here with OpenSSL's programs, a few lines of HTTP and the formulas of
that page, and nothing of ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

from tests.integration.fromnothing import FromNothingCase
from tests.integration.running import PATIENCE, Child


class OpenSSLTests(FromNothingCase):
    """
    Tests with C{openssl s_client}.
    """

    def setUp(self) -> None:
        """
        Read the token, as the page says.
        """
        super().setUp()
        text = (self.rp / "token").read_text().strip()
        self.assertEqual(161, len(text))
        data = base64.urlsafe_b64decode(text.removeprefix("tlsproxy-token-1."))
        self.tokenId, self.secret, self.pin = data[:8].hex(), data[8:40], data[40:72]
        self.assertEqual(hashlib.sha256(data[:104]).digest()[:4], data[104:])
        self.asked = 0

    def handshake(self, name: str, *options: str) -> tuple[Child, bytes]:
        """
        Start TLS.

        @param name: The server name that is asked for.
        @return: The process, and the keying material of the connection.
        """
        self.asked += 1
        command = ["openssl", "s_client", "-connect", self.address, "-servername", name, "-tls1_3", "-ign_eof"]
        command += ["-alpn", "tlsproxy-enroll/1", "-keymatexport", "EXPORTER-tlsproxy-enroll-1", *options]
        child = Child(self, self.folder, f"openssl{self.asked}", [*command, "-keymatexportlen", "32"], spoken=True)
        material = child.waitFor("Keying material: ([0-9A-F]{64})$")[1]
        self.assertIn("ALPN protocol: tlsproxy-enroll/1", child.text())
        return child, bytes.fromhex(material)

    def ask(self, child: Child, head: str, body: bytes = b"") -> tuple[int, str]:
        """
        Send a request.

        @param head: Its lines.
        @return: The status and the body of the answer.
        """
        lines = head.splitlines()
        if body:
            lines += ["Content-Type: application/pkcs10", f"Content-Length: {len(body)}"]
        assert child.process.stdin is not None
        child.process.stdin.write("\r\n".join([*lines, "", ""]).encode() + body)
        child.process.stdin.flush()
        child.process.wait(PATIENCE)
        child.process.stdin.close()
        found = re.search(r"^HTTP/1\.1 (\d+) .*?\n\n(.*)", child.text().replace("\r\n", "\n"), re.DOTALL | re.MULTILINE)
        assert found is not None, child.text()
        return int(found[1]), found[2]

    def request(self, stem: str) -> bytes:
        """
        Make a key and a request for a certificate.
        """
        command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        names = ["-keyout", f"{stem}-key.pem", "-out", f"{stem}.der", "-outform", "DER", "-subj", "/CN=root"]
        self.run_([*command, *names])
        return (self.folder / f"{stem}.der").read_bytes()

    def proof(self, exporter: bytes, body: bytes) -> str:
        """
        Prove to have the token.
        """
        clientKey = hmac.digest(self.secret, b"Client Key", "sha256")
        stored = hashlib.sha256(clientKey).digest()
        signature = hmac.digest(stored, exporter + body, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(clientKey, signature, strict=True))).decode()
        return f'Authorization: TLSProxy-Token id="{self.tokenId}", proof="{proof}"'

    def certify(self, body: bytes, authorization: str = "") -> tuple[int, str]:
        """
        Ask for a certificate.

        @param authorization: What proves that we may; if it is not given, it is made for this connection.
        """
        own = ["-CAfile", str(self.folder / "ca.pem"), "-verify_hostname", "enroll.localhost", "-verify_return_error"]
        child, exporter = self.handshake("enroll.localhost", *own)
        field = authorization or self.proof(exporter, body)
        return self.ask(child, f"POST /enroll HTTP/1.1\nHost: enroll.localhost\n{field}", body)

    def fetchCA(self) -> None:
        """
        Fetch the CA, from whomever, and see that it is the one of the token.
        """
        child, _ = self.handshake("enroll.localhost")
        status, pem = self.ask(child, "GET /ca HTTP/1.1\nHost: enroll.localhost")
        self.assertEqual(200, status)
        pem = pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
        (self.folder / "ca.pem").write_text(pem)
        public = self.run_(["openssl", "x509", "-in", "ca.pem", "-noout", "-pubkey"]).stdout
        spki = self.run_(["openssl", "pkey", "-pubin", "-outform", "DER"], public).stdout
        self.assertEqual(self.pin, hashlib.sha256(spki).digest())

    def answer(self, told: tuple[int, str]) -> dict[str, Any]:
        """
        Read what a client proxy gets.
        """
        status, body = told
        self.assertEqual(201, status, body)
        read: dict[str, Any]
        read, _ = json.JSONDecoder().raw_decode(body)
        return read

    def keep(self, stem: str, certificate: str) -> list[str]:
        """
        Keep a certificate, which OpenSSL has to verify for what it is.

        @return: What has C{s_client} show it.
        """
        file = self.folder / f"{stem}.pem"
        file.write_text(certificate)
        verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"]
        self.run_([*verify, str(self.rp / "proxies-ca.pem"), str(file)])
        text = self.run_(["openssl", "x509", "-in", str(file), "-noout", "-subject", "-ext", "subjectAltName"]).stdout
        self.assertIn(b"CN = laptop", text)
        self.assertIn(b"URI:spiffe://localhost/laptop\n", text)
        return ["-cert", str(file), "-key", f"{stem}-key.pem"]

    def test_life(self) -> None:
        """
        The CA, a certificate, the mapping, the next certificate; and the one before is dead.
        """
        self.fetchCA()
        first = self.request("first")
        told = self.answer(self.certify(first))
        self.assertEqual("localhost", told["server_name"])
        self.assertTrue(0 < 7 * 86400 * 2 // 3 - told["renew_after"] < 60)
        self.assertEqual((self.rp / "mapping.signed").read_text(), told["mapping"])
        shown = self.keep("first", told["certificate"])
        # An answer that was lost comes again, and what was given once is given to nobody else.
        self.assertEqual(told["certificate"], self.answer(self.certify(first))["certificate"])
        self.assertEqual(401, self.certify(self.request("thief"))[0])
        child, _ = self.handshake("localhost", *shown)
        status, mapping = self.ask(child, "GET /mapping HTTP/1.1\nHost: localhost")
        self.assertEqual(200, status)
        self.assertTrue(mapping.startswith(told["mapping"]))
        child, _ = self.handshake("localhost", *shown)
        second = self.answer(self.ask(child, "POST /renew HTTP/1.1\nHost: localhost", self.request("second")))
        renewed = self.keep("second", second["certificate"])
        for options, expected in ((shown, 403), (renewed, 200)):
            child, _ = self.handshake("localhost", *options)
            self.assertEqual(expected, self.ask(child, "GET /mapping HTTP/1.1\nHost: localhost")[0])

    def test_proofs(self) -> None:
        """
        A proof is for its connection and its request alone.
        """
        self.fetchCA()
        body = self.request("first")
        child, exporter = self.handshake("enroll.localhost")
        replayed = self.proof(exporter, body)
        child.kill()
        self.assertEqual(401, self.certify(body, replayed)[0])
        self.secret = bytes(32)
        self.assertEqual(401, self.certify(body)[0])
