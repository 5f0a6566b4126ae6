# -*- test-case-name: tests.commands.test_setup -*-
"""
Tests for L{tlsproxy.commands.setup}: from nothing to a reverse proxy that lets client proxies enroll.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.cli import main
from tlsproxy.commands import setup as module
from tlsproxy.commands.setup import Place, SetupProblem, setUp
from tlsproxy.config import loadFile
from tlsproxy.enrolling.lineages import Lineages
from tlsproxy.mappingfile import checkMapping, checkSigned
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.certificates import serverNames
from tlsproxy.tls.issuing import Issuer
from tlsproxy.tls.signatures import pinOf
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import storedKey


class PlaceTests(SynchronousTestCase):
    """
    Tests for L{Place}.
    """

    def test_names(self) -> None:
        """
        A name is what it is called; loopback is called localhost, and another address gets a name that is nobody's.
        """
        for text, address, server, listen in (
            ("DMZ.Bank.example:443", "dmz.bank.example:443", "dmz.bank.example", "443"),
            ("localhost:8443", "localhost:8443", "localhost", "127.0.0.1:8443"),
            ("127.0.0.2:8443", "127.0.0.2:8443", "localhost", "127.0.0.2:8443"),
            ("[::1]:8443", "[::1]:8443", "localhost", "[::1]:8443"),
            ("192.0.2.7:8443", "192.0.2.7:8443", "dmz.internal", "8443"),
            ("[2001:DB8::7]:8443", "[2001:db8::7]:8443", "dmz.internal", "8443"),
        ):
            place = Place.parse(text)
            self.assertEqual((address, server, listen), (place.address, place.server, place.listen), text)
            self.assertEqual(f"enroll.{server}", place.enroll)

    def test_wrong(self) -> None:
        """
        What is no place, or has no port, is told.
        """
        for text in ("", "dmz", "dmz:0", "dmz:x", "0.0.0.0:443", "[::]:443", "224.0.0.1:443", "a b:443", "*.x:443"):
            self.assertIn("--address", str(self.assertRaises(ValueError, Place.parse, text)), text)


class SetUpTests(SynchronousTestCase):
    """
    Tests for L{setUp}.
    """

    def setUp(self) -> None:
        """
        Choose a folder that is not there.
        """
        self.folder = Path(self.mktemp()) / "dmz"

    def make(self, address: str = "dmz.example:8443", *targets: str, name: str = "laptop", domain: str = "") -> str:
        """
        Make it.
        """
        place = Place.parse(address)
        return setUp(self.folder, place, targets or ["*.bank.example:443"], name, domain or place.server, NOW)

    def read(self, name: str) -> bytes:
        """
        Read one of its files.
        """
        return (self.folder / name).read_bytes()

    def test_files(self) -> None:
        """
        All files are there, and nobody else can read any of them; what this host does not need is by itself.
        """
        self.make()
        self.assertEqual(
            {
                "enrollment.sqlite",
                "mapping.signed",
                "proxies-ca-key.pem",
                "proxies-ca.pem",
                "reverse-proxy.toml",
                "server-ca.pem",
                "server-key.pem",
                "server.pem",
                "signer",
                "token",
            },
            {name for name in os.listdir(self.folder) if not name.startswith("enrollment.sqlite-")},
        )
        self.assertEqual(
            ["mapping-key.pem", "mapping.toml", "server-ca-key.pem"], sorted(os.listdir(self.folder / "signer"))
        )
        for path in (self.folder, *self.folder.rglob("*")):
            self.assertEqual(0, stat.S_IMODE(path.stat().st_mode) & 0o077, path)
        self.assertEqual(["dmz"], os.listdir(self.folder.parent))

    def test_server(self) -> None:
        """
        The certificate is good for both names, by the CA that the token pins.
        """
        self.make()
        certificate, ca = (load_pem_x509_certificate(self.read(name)) for name in ("server.pem", "server-ca.pem"))
        self.assertEqual(("dmz.example", "enroll.dmz.example"), serverNames(certificate))
        certificate.verify_directly_issued_by(ca)
        key = load_pem_private_key(self.read("server-key.pem"), None)
        self.assertEqual(certificate.public_key(), key.public_key())
        self.assertEqual(
            ca.public_key(), load_pem_private_key(self.read("signer/server-ca-key.pem"), None).public_key()
        )
        token = Token.parse(self.read("token").decode())
        public = ca.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(hashlib.sha256(public).digest(), token.authorityPin)

    def test_issuer(self) -> None:
        """
        The CA of client proxies is one that issues identities of the domain and nothing else.
        """
        self.make(domain="proxies.example")
        ca = str(self.folder / "proxies-ca.pem")
        issuer = Issuer.load(ca, str(self.folder / "proxies-ca-key.pem"), NOW)
        self.assertEqual("spiffe://proxies.example/laptop", issuer.identity("laptop"))

    def test_mapping(self) -> None:
        """
        The mapping is signed for the domain, by the key that the token pins, for 30 days; what was signed is at hand.
        """
        self.make("192.0.2.7:8443", "*.bank.example:443", "10.0.0.0/8:22", domain="proxies.example")
        warnings: list[str] = []
        facts = checkSigned(str(self.folder / "mapping.signed"), warnings)
        checkMapping("mapping.toml", self.read("signer/mapping.toml"), warnings)
        self.assertEqual([], warnings)
        self.assertEqual(
            ("proxies.example", NOW, timedelta(days=30)), (facts.audience, facts.issued, facts.expires - NOW)
        )
        self.assertEqual(Token.parse(self.read("token").decode()).signerPin, pinOf(facts.signer))
        document = tomllib.loads(self.read("mapping.signed").decode())
        self.assertEqual(
            [{"name": "dmz", "address": "192.0.2.7:8443", "server_name": "dmz.internal"}], document["reverse_proxy"]
        )
        self.assertEqual([{"hosts": ["*.bank.example:443", "10.0.0.0/8:22"], "via": "dmz"}], document["map"])

    def test_token(self) -> None:
        """
        The token is known, for that name, for a day.
        """
        self.make()
        token = Token.parse(self.read("token").decode())
        store = Lineages(self.folder / "enrollment.sqlite", lambda: NOW)
        self.addCleanup(store.close)
        (found,) = store.tokens()
        self.assertEqual((token.id, "laptop", NOW + timedelta(days=1)), (found.id, found.name, found.expires))
        self.assertEqual(storedKey(token.secret), found.storedKey)

    def test_configuration(self) -> None:
        """
        The configuration grants the targets to all of the domain; what leads back to this machine as addresses, too.
        """
        self.make("localhost:8443", "localhost:9443", "shop.example:443", domain="proxies.example")
        (route,) = tomllib.loads(self.read("reverse-proxy.toml").decode())["route"]
        self.assertEqual(("sequential-server", "127.0.0.1:8443"), (route["mode"], route["listen"]))
        (grant,) = route["grant"]
        self.assertEqual(["spiffe://proxies.example/*"], grant["uri"])
        self.assertEqual(["localhost:9443", "127.0.0.0/8:9443", "[::1]:9443", "shop.example:443"], grant["targets"])
        self.assertEqual(("enroll.localhost", "localhost"), (route["enroll"]["name"], route["enroll"]["server_name"]))

    def test_good(self) -> None:
        """
        Nothing is wrong with it, and nothing doubtful, wherever it is.
        """
        for number, address in enumerate(("dmz.example:8443", "localhost:8443", "192.0.2.7:8443", "[::1]:8443")):
            folder = self.folder / str(number)
            place = Place.parse(address)
            setUp(folder, place, ["localhost:9443", "10.0.0.0/8:22"], "laptop", "proxies.example", datetime.now(UTC))
            configuration = loadFile(str(folder / "reverse-proxy.toml"))
            self.assertEqual([], list(configuration.warnings))

    def test_told(self) -> None:
        """
        What to run next can be pasted, on either host.
        """
        self.folder = self.folder.with_name("a folder")
        told = self.make()
        self.assertIn(f"    twistd -n tlsproxy --config '{self.folder}/reverse-proxy.toml'\n", told)
        self.assertIn(
            "    tlsproxy enroll https://enroll.dmz.example:8443 --connect dmz.example:8443 --token-file token\n", told
        )
        self.assertIn("--audience dmz.example", told)
        self.assertNotIn("tlsproxy-token-1.", told)

    def test_nothingOverwritten(self) -> None:
        """
        An empty folder is fine; what is there stays, and nothing is left beside it.
        """
        self.folder.mkdir(parents=True)
        self.make()
        before = self.read("token")
        problem = str(self.assertRaises(SetupProblem, self.make))
        self.assertEqual(f"{self.folder} exists, and nothing is overwritten: give another folder", problem)
        self.assertEqual(before, self.read("token"))
        self.folder = self.folder / "token"
        self.assertRaises(SetupProblem, self.make)
        self.assertEqual(["dmz"], os.listdir(self.folder.parent.parent))

    def test_wholeOrNothing(self) -> None:
        """
        Where something fails, nothing is left.
        """

        def fail(*ignored: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(module, "_enter", fail)
        problem = str(self.assertRaises(SetupProblem, self.make))
        self.assertEqual(f"{self.folder} cannot be made (No space left on device): give another folder", problem)
        self.assertEqual([], os.listdir(self.folder.parent))

    def test_wrong(self) -> None:
        """
        What cannot be used is told, before anything is made.
        """
        self.assertIn("--name: ", str(self.assertRaises(SetupProblem, self.make, name="a b")))
        self.assertIn("--target bank: ", str(self.assertRaises(SetupProblem, self.make, "dmz.example:1", "bank")))
        self.assertIn("no DNS name", str(self.assertRaises(ValueError, self.make, domain="Big")))
        self.assertFalse(self.folder.exists())
        for text in (".", "/"):
            self.folder = Path(text)
            problem = str(self.assertRaises(SetupProblem, self.make))
            self.assertEqual(f"{text} is not to be made: give a folder in it, as in dmz", problem)

    def test_longNames(self) -> None:
        """
        A name of any length will do.
        """
        self.make(f"{'.'.join(['a' * 60] * 3)}.example:8443")
        self.assertIn(f"enroll.{'a' * 60}.", serverNames(load_pem_x509_certificate(self.read("server.pem")))[1])


class CommandTests(SynchronousTestCase):
    """
    The command.
    """

    def run_(self, *words: str) -> tuple[int, str, str]:
        """
        Run it.

        @return: The exit status, and what is printed on either stream.
        """
        printed, told = io.StringIO(), io.StringIO()
        patches = self.patch(sys, "stdout", printed), self.patch(sys, "stderr", told)
        try:
            status = main(["setup", *words])
        finally:
            for one in patches:
                one.restore()
        return status, printed.getvalue(), told.getvalue()

    def test_command(self) -> None:
        """
        It tells what comes next, or in one sentence what is wrong.
        """
        folder = self.mktemp()
        words = (folder, "--target", "a.example:443", "--target", "b.example:443", "--name", "laptop", "--address")
        status, printed, told = self.run_(*words, "dmz")
        self.assertEqual((1, "", 1), (status, printed, told.count("\n")))
        status, printed, told = self.run_(*words, "dmz.example:443")
        self.assertEqual((0, ""), (status, told))
        self.assertIn("tlsproxy enroll https://enroll.dmz.example:443 ", printed)
        self.assertIn('targets = ["a.example:443", "b.example:443"]', (Path(folder) / "reverse-proxy.toml").read_text())

    def test_everything(self) -> None:
        """
        It warns of targets that are all hosts there are.
        """
        for target, warned in (("*:443", 1), ("0.0.0.0/0:*", 1), ("[::/0]:443", 1), ("*.bank.example:443", 0)):
            words = (self.mktemp(), "--target", target, "--name", "laptop", "--address", "dmz.example:443")
            status, _, told = self.run_(*words)
            self.assertEqual((0, warned), (status, told.count("\n")), target)
            self.assertEqual(warned, told.count(f"warning: --target {target} is every host there is"), told)
