# -*- test-case-name: tests.commands.test_token -*-
"""
Tests for L{tlsproxy.commands.token}: C{tlsproxy token}.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from tests.enrolling.certifying import Asker, serialOf
from tests.mappingsigning import OLD_KEY, facts, public, signed
from tlsproxy.cli import main
from tlsproxy.enrolling.lineages import Lineages, StoreProblem
from tlsproxy.testing.certificates import certify
from tlsproxy.tls.signatures import pinOf
from tlsproxy.wire.enrolltoken import Token

CA = certify("dmz CA")
FILE = """\
[proxy]
state_dir = "state"
[[route]]
mode = "offload"
[[route]]
name = "dmz"
mode = "sequential-server"
listen = "0.0.0.0:8443"
[route.enroll]
name = "enroll.dmz.example"
server_ca = ["dmz-ca.pem"]
mapping = "mapping.signed"
"""
SECOND = """
[[route]]
name = "second"
mode = "sequential-server"
listen = "443"
enroll = {name = "enroll.second.example", server_ca = "dmz-ca.pem", mapping = "mapping.signed"}
"""


class TokenTests(SynchronousTestCase):
    """
    Tokens, from the command line.
    """

    def setUp(self) -> None:
        """
        Go to a folder with a configuration.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.write(FILE)
        Path("dmz-ca.pem").write_bytes(CA.pem() + certify("next CA").pem())
        now = datetime.now(UTC)
        issued, expires = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (now, now + timedelta(days=30)))
        Path("mapping.signed").write_bytes(signed(facts(issued=issued, expires=expires)))

    def write(self, text: str) -> None:
        """
        Write the configuration.
        """
        Path("proxy.toml").write_text(text)

    def run_(self, action: str, *words: str) -> tuple[int, str, str]:
        """
        Run the command.

        @return: Its exit status, and what it printed on either stream.
        """
        printed, told = io.StringIO(), io.StringIO()
        patches = self.patch(sys, "stdout", printed), self.patch(sys, "stderr", told)
        try:
            status = main(["token", action, "--config", "proxy.toml", *words])
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 0
        finally:
            for one in patches:
                one.restore()
        return status, printed.getvalue(), told.getvalue()

    def good(self, action: str, *words: str) -> str:
        """
        Run the command, which does what it is told to.
        """
        status, printed, told = self.run_(action, *words)
        self.assertEqual(0, status, told)
        return printed

    def wrong(self, action: str, *words: str, status: int = 1) -> str:
        """
        Be told what is wrong.

        @return: The one line.
        """
        found, printed, told = self.run_(action, *words)
        self.assertEqual((status, "", 1), (found, printed, told.count("\n")), told)
        return told

    def lineages(self, name: str = "enrollment-dmz.sqlite") -> Lineages:
        """
        Open the store.
        """
        lineages = Lineages(self.folder / "state" / name, lambda: datetime.now(UTC))
        self.addCleanup(lineages.close)
        return lineages

    def new(self, *words: str) -> Token:
        """
        Make a token for alice.
        """
        return Token.parse(self.good("new", "--name", "alice", *words))

    def enroll(self, token: Token) -> int:
        """
        Use a token.

        @return: The serial number of the certificate.
        """
        asker = Asker(datetime.now(UTC).replace(microsecond=0), timedelta(days=7))
        issued = self.lineages().enroll(token.id, asker.spki, timedelta(days=30), asker.issue)
        return serialOf(issued.certificate)

    def test_new(self) -> None:
        """
        The token alone is printed; what else there is to say, without the secret, is said beside it.
        """
        status, printed, told = self.run_("new", "--name", "alice")
        token = Token.parse(printed)
        self.assertEqual((0, f"{token}\n"), (status, printed))
        key = CA.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(hashlib.sha256(key).digest(), token.authorityPin)
        self.assertEqual(pinOf(public(OLD_KEY)), token.signerPin)
        (record,) = self.lineages().tokens()
        self.assertEqual(
            (token.id, "alice", timedelta(hours=24)), (record.id, record.name, record.expires - record.created)
        )
        self.assertIn(f"token {token.id} is good until 20", told)
        self.assertIn(f"{self.folder}/state/enrollment-dmz.sqlite\n", told)
        self.assertIn(
            "on the client proxy: tlsproxy enroll https://enroll.dmz.example:8443 --token-file FILE, with", told
        )
        self.assertNotIn(str(token)[30:60], told)
        new = f"note: {self.folder}/state/enrollment-dmz.sqlite is new: "
        self.assertIn(new, told)
        self.assertNotIn(new, self.run_("new", "--name", "alice")[2])

    def test_newInAFile(self) -> None:
        """
        A file with a token is its owner's alone, and none is written over.
        """
        self.assertEqual("", self.good("new", "--name", "alice", "--out", "alice.token", "--ttl", "30m"))
        file = Path("alice.token")
        token = Token.parse(file.read_text())
        self.assertEqual(0o600, stat.S_IMODE(file.stat().st_mode))
        (record,) = self.lineages().tokens()
        self.assertEqual((token.id, timedelta(minutes=30)), (record.id, record.expires - record.created))
        self.assertIn("alice.token exists already", self.wrong("new", "--name", "alice", "--out", "alice.token"))
        self.assertIn("cannot be written: No such file", self.wrong("new", "--name", "alice", "--out", "no/such"))
        self.assertEqual(1, len(self.lineages().tokens()))

    def test_newThatNobodyHas(self) -> None:
        """
        A token that could not be written down, or not be kept, is good for nothing.
        """

        class Full(io.StringIO):
            def flush(self) -> None:
                raise BrokenPipeError

        patched = self.patch(sys, "stdout", Full())
        self.patch(os, "dup2", lambda old, new: None)
        self.patch(Full, "fileno", lambda self: -1)
        try:
            self.assertEqual(1, main(["token", "new", "--config", "proxy.toml", "--name", "alice"]))
        finally:
            patched.restore()
        self.assertEqual([True], [one.revoked for one in self.lineages().tokens()])
        (self.folder / "state" / "enrollment-dmz.sqlite").write_bytes(b"")
        self.wrong("new", "--name", "alice", "--out", "alice.token")
        self.assertFalse(Path("alice.token").exists())

    def test_newInAnyCase(self) -> None:
        """
        A token that is printed is good: what else is done to the store then can wait.
        """

        def busy(_: Lineages) -> None:
            raise StoreProblem("another process keeps it")

        self.patch(Lineages, "prune", busy)
        self.enroll(self.new())

    def test_hints(self) -> None:
        """
        Whoever makes a token for a name that is in use is told so, as is one whose mapping has expired.
        """
        token = self.new()
        self.enroll(token)
        Path("mapping.signed").write_bytes(signed(facts(issued="2020-01-01T00:00:00Z", expires="2020-02-01T00:00:00Z")))
        _, _, told = self.run_("new", "--name", "alice")
        self.assertIn(f"note: alice has enrolled before, and that goes on; to end it, revoke {token.id}\n", told)
        self.assertIn("warning: mapping.signed has expired", told.replace(f"{self.folder}/", ""))

    def test_list(self) -> None:
        """
        A table shows what has become of each token.
        """
        self.assertEqual("NAME  ID  STATE  EXPIRES  LINEAGE ENDS\n", self.good("list"))
        self.assertFalse(Path("state").exists())
        used, taken, unused = self.new(), self.new(), self.new("--ttl", "1h")
        self.enroll(used)
        self.good("revoke", taken.id)
        lines = self.good("list").splitlines()
        columns = [lines[0].index(head) for head in ("NAME", "ID", "STATE", "EXPIRES", "LINEAGE ENDS")]
        cells = [[line[a:b].strip() for a, b in zip(columns, [*columns[1:], None], strict=True)] for line in lines[1:]]
        found = {cell[1]: (cell[0], cell[2], cell[4] != "-") for cell in cells}
        self.assertEqual(
            {
                used.id: ("alice", "alive", True),
                taken.id: ("alice", "revoked", False),
                unused.id: ("alice", "unused", False),
            },
            found,
        )
        for cell in cells:
            self.assertRegex(cell[3], r"^\d{4}-\d\d-\d\d \d\d:\d\d UTC$")
        week = datetime.now(UTC) + timedelta(days=7)
        self.assertIn(next(cell[3] for cell in cells if cell[1] == used.id)[:10], f"{week:%Y-%m-%d}")

    def test_listForPrograms(self) -> None:
        """
        Programs get all of it, and no secret.
        """
        self.assertEqual({"tokens": [], "lineages": []}, json.loads(self.good("list", "--format", "json")))
        used, unused = self.new(), self.new()
        serial = self.enroll(used)
        text = self.good("list", "--format", "json")
        told = json.loads(text)
        self.assertEqual({used.id: "used", unused.id: "unused"}, {one["id"]: one["state"] for one in told["tokens"]})
        self.assertEqual({"id", "name", "state", "created", "expires"}, set(told["tokens"][0]))
        (lineage,) = told["lineages"]
        self.assertEqual(
            (used.id, "alice", "alive", f"{serial:x}"), tuple(lineage[one] for one in ("id", "name", "state", "serial"))
        )
        self.assertEqual({"started", "ends", "not_after"}, set(lineage) - {"id", "name", "state", "serial"})
        datetime.fromisoformat(lineage["not_after"])
        for record in self.lineages().tokens():
            self.assertNotIn(record.storedKey.hex(), text)
        self.good("revoke", "alice")
        (lineage,) = json.loads(self.good("list", "--format", "json"))["lineages"]
        self.assertEqual(("revoked", "it was revoked"), (lineage["state"], lineage["reason"]))

    def test_revoke(self) -> None:
        """
        A name loses all it has, and an id what it stands for; to say so twice does no harm.
        """
        used, unused = self.new(), self.new()
        serial = self.enroll(used)
        self.assertEqual(f"revoked token {unused.id} of alice\n", self.good("revoke", unused.id))
        self.assertEqual(f"all of {unused.id} was revoked before\n", self.good("revoke", unused.id))
        self.assertEqual(f"revoked lineage {used.id} of alice\n", self.good("revoke", "alice"))
        self.assertEqual("all of alice was revoked before\n", self.good("revoke", "alice"))
        self.assertEqual("it was revoked", self.lineages().whyCut(serial))

    def test_revokeUnknown(self) -> None:
        """
        Who is not known is told to be so, and nothing is made by asking.
        """
        told = f'tlsproxy: there is neither a client proxy nor a token called "bob" in {self.folder}/state/'
        self.assertIn(told, self.wrong("revoke", "bob"))
        self.assertFalse(Path("state").exists())
        self.new()
        self.assertIn(told, self.wrong("revoke", "bob"))

    def test_revokeTheTokenItself(self) -> None:
        """
        A token that is given in the place of its id is not repeated.
        """
        token = self.new()
        told = self.wrong("revoke", str(token))
        self.assertNotIn(str(token), told)
        self.assertTrue(told.endswith(f": revoke it by {token.id}\n"), told)
        self.assertEqual([False], [one.revoked for one in self.lineages().tokens()])

    def test_wrongWords(self) -> None:
        """
        Wrong words get a sentence that says what is right.
        """
        for words, sentence in (
            (["--name", "a/b"], '"a/b" is no name of a client proxy: take 1 to 64 letters, digits,'),
            (["--name", ""], '"" is no name of a client proxy'),
            (["--name", "\x1b[1m"], '"\\x1b[1m" is no name'),
            (["--name", "alice", "--ttl", "25h"], "a token is good for 24h at most"),
            (["--name", "alice", "--ttl", "2d"], "a token is good for 24h at most"),
            (["--name", "alice", "--ttl", "0s"], "is no time"),
            (
                ["--name", "alice", "--ttl", "soon"],
                '"soon" is no time: write a number and s, m, h or d',
            ),
            (["--name", "alice", "--ttl", "-1h"], "--ttl"),
            (["--name", "alice", "--ttl", "٣h"], "is no time"),
            ([], "the following arguments are required: --name"),
        ):
            self.assertIn(sentence, self.wrong("new", *words, status=2))
        self.assertFalse(Path("state").exists())

    def test_routes(self) -> None:
        """
        Where several routes enroll, one has to be named; where none does, nobody can enroll.
        """
        self.write(FILE + SECOND)
        for words, sentence in (
            ([], "in proxy.toml, several routes have [route.enroll]: say which one by --route (dmz, second)"),
            (["--route", "third"], 'proxy.toml has no route "third"'),
            (
                ["--route", "offload"],
                'in proxy.toml, the route "offload" has no table [route.enroll]: nobody can enroll',
            ),
        ):
            for action, more in (("list", []), ("revoke", ["alice"]), ("new", ["--name", "alice"])):
                self.assertEqual(f"tlsproxy: {sentence}\n", self.wrong(action, *words, *more))
        _, _, told = self.run_("new", "--name", "alice", "--route", "second")
        self.assertIn("tlsproxy enroll https://enroll.second.example --token-file FILE, with", told)
        self.assertEqual(1, len(self.lineages("enrollment-second.sqlite").tokens()))
        for text in ("", "route = 1\n", "[[route]]\nmode = 'offload'\n", "route = [1]\n"):
            self.write(text)
            self.assertEqual(
                "tlsproxy: in proxy.toml, no route has a table [route.enroll]: nobody can enroll\n", self.wrong("list")
            )

    def test_wrongFiles(self) -> None:
        """
        What is wrong with a file is told with its name, and where in it.
        """
        self.write(FILE + "stroe = 1\n")
        self.assertIn("proxy.toml:13: route.enroll.stroe: there is no such key; do you mean store?", self.wrong("list"))
        self.write("[[route]\n")
        self.assertIn("proxy.toml:1: it is not TOML", self.wrong("list"))
        Path("proxy.toml").unlink()
        self.assertIn("proxy.toml: No such file or directory", self.wrong("list"))
        new = ("new", "--name", "alice")
        self.write(FILE.replace("server_ca", "# server_ca"))
        self.assertIn("[route.enroll] of the route dmz lacks server_ca", self.wrong(*new))
        self.write(FILE)
        Path("mapping.signed").write_text("[[map]]\n")
        self.assertIn("mapping.signed is of no use to client proxies: it has no signature", self.wrong(*new))
        Path("mapping.signed").unlink()
        self.assertIn("mapping.signed", self.wrong(*new))
        self.assertFalse(Path("state").exists())

    def test_wrongStore(self) -> None:
        """
        A store that cannot be used is told of, and not taken for none.
        """
        Path("state").write_text("")
        for action, *words in (["list"], ["revoke", "alice"], ["new", "--name", "alice"]):
            self.assertIn("enrollment-dmz.sqlite: it cannot be opened: Not a directory", self.wrong(action, *words))
        self.write(FILE + 'store = "proxy.toml"\n')
        Path("proxy.toml").chmod(0o600)
        self.assertIn("it is no store of enrollments; give another name", self.wrong("list"))
