# -*- test-case-name: tests.integration.test_mapping_signatures -*-
"""
Mappings are signed as the documents say: OpenSSL's own tool verifies what ours has signed, and the other way round.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

from tests.integration.running import TOOL, IntegrationTestCase
from tests.mappingsigning import AUDIENCE, BODY
from tests.peers import requirePeer


class SignatureTests(IntegrationTestCase):
    """
    Signatures of one program, for another.
    """

    def setUp(self) -> None:
        """
        Make a key, and sign a mapping by it.
        """
        super().setUp()
        self.openssl = requirePeer("openssl")
        self.printed = self.run_([*TOOL, "mapping", "key", "key.pem"]).stdout.decode()
        (self.folder / "mapping.toml").write_text(BODY)
        words = ["mapping", "sign", "mapping.toml", "--key", "key.pem", "--audience", AUDIENCE, "--out", "signed"]
        self.run_([*TOOL, *words])
        self.run_([self.openssl, "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"])

    def verified(self, text: bytes, signature: bytes, status: int = 0) -> None:
        """
        Have OpenSSL verify a signature.
        """
        (self.folder / "text").write_bytes(text)
        (self.folder / "signature").write_bytes(signature)
        way = ["-verify", "-rawin", "-pubin", "-inkey", "public.pem", "-sigfile", "signature", "-in", "text"]
        self.run_([self.openssl, "pkeyutl", *way], status=status)

    def test_ours(self) -> None:
        """
        What stands before the last line is what is signed, by the key in that line; a byte more or less is noticed.
        """
        data = (self.folder / "signed").read_bytes()
        start = data.rindex(b"# signature: ed25519 ")
        text, line = data[:start], data[start:]
        _, _, _, key, signature = line.decode("ascii").split(" ")
        self.assertTrue(line.endswith(b"\n"))
        self.verified(text, b64decode(signature))
        for changed in (text[:-1], text + b"\n", text.replace(b"bank", b"band")):
            self.verified(changed, b64decode(signature), status=1)
        der = self.run_([self.openssl, "pkey", "-pubin", "-in", "public.pem", "-outform", "DER"]).stdout
        self.assertEqual(b64decode(key), der[-32:])
        self.assertIn(f"pin:        sha256/{b64encode(sha256(der).digest()).decode()}\n", self.printed)

    def test_theirs(self) -> None:
        """
        What OpenSSL has signed, by a key of its own making, is good for us.
        """
        self.run_([self.openssl, "genpkey", "-algorithm", "ed25519", "-out", "other.pem"])
        data = (self.folder / "signed").read_bytes()
        text = data[: data.rindex(b"# signature: ")]
        (self.folder / "text").write_bytes(text)
        self.run_(
            [self.openssl, "pkeyutl", "-sign", "-rawin", "-inkey", "other.pem", "-in", "text", "-out", "signature"]
        )
        der = self.run_([self.openssl, "pkey", "-in", "other.pem", "-pubout", "-outform", "DER"]).stdout
        words = [b"# signature: ed25519", b64encode(der[-32:]), b64encode((self.folder / "signature").read_bytes())]
        (self.folder / "signed").write_bytes(text + b" ".join(words) + b"\n")
        pin = f"sha256/{b64encode(sha256(der).digest()).decode()}"
        told = self.run_([*TOOL, "mapping", "verify", "signed", "--pin", pin, "--audience", AUDIENCE]).stdout.decode()
        self.assertIn(f"signed by:  {b64encode(der[-32:]).decode()}\n", told)
        self.run_([*TOOL, "mapping", "verify", "signed", "--signer", "key.pem"], status=1)
