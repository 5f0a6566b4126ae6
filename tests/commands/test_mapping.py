# -*- test-case-name: tests.commands.test_mapping -*-
"""
L{tlsproxy.commands.mapping}: C{tlsproxy mapping}.
"""

from __future__ import annotations

import os
import stat
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.commands.tool import ToolTestCase
from tests.mappingsigning import AUDIENCE, BODY, NEW_KEY, OLD_KEY, facts, public, signed
from tlsproxy.signedmapping import Trust, accept, readFacts
from tlsproxy.tls.signatures import pinOf


class MappingCase(ToolTestCase):
    """
    A test with a key.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        super().setUp()
        printed, told = self.run_("mapping", "key", "signer.pem")
        self.assertEqual("", told)
        self.key, self.pin = (line.split()[-1] for line in printed.splitlines())
        (self.folder / "mapping.toml").write_text(BODY)

    def sign(self, *more: str, file: str = "mapping.toml", key: str = "signer.pem") -> bytes:
        """
        Sign a mapping.
        """
        words = ("mapping", "sign", file, "--key", key, "--audience", AUDIENCE, *more)
        return self.run_(*words)[0].encode()

    def unsignable(self, *more: str, file: str = "mapping.toml", key: str = "signer.pem") -> str:
        """
        Sign what cannot be signed.

        @return: The one sentence.
        """
        return self.refused("mapping", "sign", file, "--key", key, "--audience", AUDIENCE, *more)


class KeyTests(MappingCase):
    """
    Keys.
    """

    def test_made(self) -> None:
        """
        A key is a file for its owner alone, in a form that other programs know; what is printed is its public part.
        """
        file = self.folder / "signer.pem"
        self.assertEqual(0o600, stat.S_IMODE(file.stat().st_mode))
        key = load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self.assertEqual(public(key), b64decode(self.key))
        self.assertEqual(f"sha256/{b64encode(pinOf(public(key))).decode()}", self.pin)

    def test_notOver(self) -> None:
        """
        No file is written over, and what cannot be written is told.
        """
        before = (self.folder / "signer.pem").read_bytes()
        self.assertIn("signer.pem exists already", self.refused("mapping", "key", "signer.pem"))
        self.assertEqual(before, (self.folder / "signer.pem").read_bytes())
        self.assertIn("cannot be written (No such file", self.refused("mapping", "key", "none/key.pem"))
        self.assertIn("cannot be written", self.refused("mapping", "key", "a\0b"))


class SignTests(MappingCase):
    """
    Signing.
    """

    def test_good(self) -> None:
        """
        What is signed is taken by a client proxy, and says what was asked for; by default it lasts 30 days, and its
        version is the time.
        """
        before = datetime.now(UTC).replace(microsecond=0)
        data = self.sign()
        found, _ = accept(data, Trust((b64decode(self.key),), AUDIENCE), datetime.now(UTC))
        self.assertEqual(timedelta(days=30), found.expires - found.issued)
        self.assertTrue(before <= found.issued <= datetime.now(UTC))
        self.assertEqual(int(found.issued.timestamp()), found.version)
        self.assertIn(BODY.encode(), data)
        other = readFacts(
            self.sign("--version", "5", "--expires", "12h", "--next-key", b64encode(public(NEW_KEY)).decode())
        )
        self.assertEqual((5, timedelta(hours=12)), (other.version, other.expires - other.issued))
        self.assertEqual(public(NEW_KEY), other.nextKey)

    def test_nextKeys(self) -> None:
        """
        The next key is given in base64, or as a file with it or with its private key.
        """
        self.run_("mapping", "key", "next.pem")
        key = load_pem_private_key((self.folder / "next.pem").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        text = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.folder / "public.pem").write_bytes(text)
        for given in ("next.pem", "public.pem", b64encode(public(key)).decode()):
            self.assertEqual(public(key), readFacts(self.sign("--next-key", given)).nextKey)
        (self.folder / "broken.pem").write_bytes(text.replace(b"MCow", b"AAAA"))
        for given, words in (
            ("A" * 43, "does not exist"),
            ("A" * 42 + "B=", "does not exist"),
            ("server.pem", "holds no Ed25519 key"),
            ("ca.pem", "holds no private key, only CERTIFICATE: give the public key"),
            ("broken.pem", "broken.pem is broken"),
        ):
            self.assertIn(words, self.unsignable("--next-key", given))

    def test_out(self) -> None:
        """
        It is written to a file as a whole, and nothing is printed; the folder has no other files then.
        """
        printed, told = self.run_(
            "mapping",
            "sign",
            "mapping.toml",
            "--key",
            "signer.pem",
            "--audience",
            AUDIENCE,
            "--out",
            "signed",
            "--version",
            "7",
        )
        self.assertEqual("", printed)
        self.assertRegex(told, "^version 7, until 20..-..-.. ..:.. UTC\n$")
        self.assertEqual(0o644, stat.S_IMODE((self.folder / "signed").stat().st_mode))
        self.assertEqual([], [one for one in os.listdir(self.folder) if one.startswith(".")])
        self.assertIn("cannot be written", self.unsignable("--out", "none/signed"))
        self.assertIn("is the mapping itself", self.unsignable("--out", "./mapping.toml"))
        # It would be taken for the old mapping, and then be replaced.
        os.mkfifo("pipe")
        self.assertIn("pipe is no file", self.unsignable("--out", "pipe"))

    def test_follows(self) -> None:
        """
        A file is not replaced by one that client proxies would refuse for being older, and it is told if they would for
        its key.
        """
        file = self.folder / "signed"
        old = signed(facts(7))
        file.write_bytes(old)
        for version in ("6", "7"):
            self.assertIn(
                "has version 7 already: give a higher --version",
                self.unsignable("--out", "signed", "--version", version),
            )
        self.assertEqual(old, file.read_bytes())
        words = ("mapping", "sign", "mapping.toml", "--key", "signer.pem", "--audience", AUDIENCE, "--out", "signed")
        self.assertIn("warning: client proxies that have version 7 will not take this one", self.run_(*words)[1])
        self.assertNotIn("warning", self.run_(*words, "--version", "99999999999")[1])
        file.write_bytes(signed(facts(7, more=f'next_key = "{self.key}"\n')))
        self.assertNotIn("warning", self.run_(*words)[1])
        file.write_bytes(signed(facts(7, audience='"other.example"', more=f'next_key = "{self.key}"\n')))
        self.assertIn("warning: the mapping that was there is for other.example", self.run_(*words)[1])

    def test_lineEnds(self) -> None:
        """
        What an editor of another system has left is not signed with it.
        """
        (self.folder / "mapping.toml").write_bytes(b"\xef\xbb\xbf" + BODY.replace("\n", "\r\n").rstrip().encode())
        data = self.sign()
        self.assertNotIn(b"\r", data)
        self.assertNotIn(b"\xef", data)
        self.assertIn(BODY.encode(), data)
        readFacts(data)

    def test_bad(self) -> None:
        """
        What no client proxy would read is not signed, and all that is wrong with it is told, with its lines.
        """
        (self.folder / "mapping.toml").write_text(BODY.replace('via = "dmz"', 'via = "lab"') + "[x]\n")
        _, told = self.run_("mapping", "sign", "mapping.toml", "--key", "signer.pem", "--audience", AUDIENCE, status=1)
        self.assertIn("tlsproxy: mapping.toml:7: map.via: there is no reverse proxy 'lab'", told)
        self.assertIn("tlsproxy: mapping.toml:12: x: there is no such table", told)
        for text, words in (
            (facts() + BODY, "mapping: this is for a signed mapping"),
            (signed().decode(), "mapping.toml is signed already"),
            ('map = [{hosts = "a:1", direct = true}]\n', "has keys before its first table"),
            (BODY + "#\0", "it is not TOML"),
            ("", "say what becomes of which hosts"),
            (BODY + "#" * 1024 * 1024, "it has more than 1 MiB"),
        ):
            (self.folder / "mapping.toml").write_text(text)
            self.assertIn(words, self.unsignable())
        self.assertIn("does not exist", self.unsignable(file="none.toml"))

    def test_wrongWords(self) -> None:
        """
        Wrong words of the command line are told in one sentence.
        """
        for more, words in (
            (("--expires", "401d"), "400 days at most"),
            (("--expires", "0h"), "no time to expire in"),
            (("--expires", "soon"), "'soon' is no time to expire in"),
            (("--version", "0"), "its version is no whole number"),
            (("--audience", "Proxies.example"), "is no domain in lower case"),
            (("--audience", '"'), "is no domain in lower case"),
            (("--audience", "a..b"), "its audience is no DNS name"),
        ):
            self.assertIn(words, self.unsignable(*more))
        self.assertIn("holds no Ed25519 key", self.unsignable(key="server.pem"))
        self.assertIn(
            "none.pem does not exist: give the path of a PEM file with a private key", self.unsignable(key="none.pem")
        )
        self.assertIn("required", self.refused("mapping", "sign", "mapping.toml", status=2))
        self.assertIn("required", self.refused("mapping", status=2))

    def test_openKey(self) -> None:
        """
        A key that others can read is warned of.
        """
        (self.folder / "signer.pem").chmod(0o644)
        words = ("mapping", "sign", "mapping.toml", "--key", "signer.pem", "--audience", AUDIENCE)
        self.assertIn("warning: signer.pem holds a private key and is open to others", self.run_(*words)[1])


class VerifyTests(MappingCase):
    """
    Verifying.
    """

    def verify(self, data: bytes, *more: str, status: int = 0) -> tuple[str, str]:
        """
        Verify a mapping.
        """
        (self.folder / "signed").write_bytes(data)
        return self.run_("mapping", "verify", "signed", *more, status=status)

    def test_good(self) -> None:
        """
        What it says of itself is printed, and by whom it is signed.
        """
        nextKey = b64encode(public(NEW_KEY)).decode()
        data = self.sign("--version", "7", "--next-key", nextKey)
        printed, told = self.verify(data, "--pin", self.pin, "--audience", AUDIENCE)
        self.assertEqual("", told)
        for words in (
            AUDIENCE,
            "version:    7\n",
            f"signed by:  {self.key}\n",
            self.pin,
            b64encode(public(NEW_KEY)).decode(),
        ):
            self.assertIn(words, printed)
        self.verify(data, "--signer", self.key)
        self.verify(data, "--signer", "signer.pem")

    def test_unwanted(self) -> None:
        """
        What is not what was asked for, or not good now, is told, and the exit status says so.
        """
        data = self.sign()
        other = b64encode(public(OLD_KEY)).decode()
        self.assertIn("signed by another key", self.verify(data, "--signer", other, status=1)[1])
        self.assertIn("signed by another key", self.verify(data, "--pin", f"sha256/{other}", status=1)[1])
        self.assertIn("and not for x.example", self.verify(data, "--audience", "x.example", status=1)[1])
        old = facts(issued="2001-11-28T23:00:00Z", expires="2001-12-28T23:00:00Z")
        self.assertIn("it has expired on 2001-12-28 23:00 UTC", self.verify(signed(old), status=1)[1])
        new = facts(issued="2101-11-28T23:00:00Z", expires="2101-12-28T23:00:00Z")
        self.assertIn("it was issued in the future", self.verify(signed(new), status=1)[1])

    def test_bad(self) -> None:
        """
        One that is not whole prints nothing but why.
        """
        data = self.sign()
        for changed, words in (
            (data.replace(b"bank", b"evil"), "somebody has changed it"),
            (data[:-5], "has been cut"),
            (BODY.encode(), "it has no signature"),
            (signed(body=""), "say what becomes of which hosts"),
        ):
            printed, told = self.verify(changed, status=1)
            self.assertEqual("", printed)
            self.assertIn(words, told)
        self.assertIn("is no pin", self.refused("mapping", "verify", "signed", "--pin", "x"))
        self.assertIn("PEM file with a public key", self.refused("mapping", "verify", "signed", "--signer", "x"))
        self.assertIn("holds no key as PEM", self.refused("mapping", "verify", "signed", "--signer", "signed"))
        self.assertIn("does not exist", self.refused("mapping", "verify", "none"))
        self.assertIn("not allowed", self.refused("mapping", "verify", "x", "--signer", "x", "--pin", "x", status=2))

    def test_warnings(self) -> None:
        """
        What is doubtful is told.
        """
        text = BODY.replace('via = "dmz"', "refuse = true")
        self.assertIn("warning: no [[map]] of signed leads to", self.verify(signed(body=text))[1])
