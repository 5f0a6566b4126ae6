# -*- test-case-name: tests.integration.test_tokens_used_once -*-
"""
A token is good for one certificate, whatever happens to the processes and the disk: what somebody was told to be done
is done, and the file is never broken.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

from twisted.trial.unittest import SkipTest

from tests.enrolling.certifying import Asker, serialOf
from tests.integration.certifying import ASK, HOUR, LASTS, now
from tests.integration.running import PATIENCE, Child, IntegrationTestCase, waitUntil
from tests.peers import requirePeer
from tlsproxy.enrolling.lineages import Lineages, Refused
from tlsproxy.wire.enrolltoken import Token

MANY = 20
ROUNDS = 12
STRANGER = 65534


class OnceCase(IntegrationTestCase):
    """
    A test with a store, in a folder that other users can get to.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        super().setUp()
        reachable = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, reachable)
        reachable.chmod(0o711)
        self.place = reachable / "state"
        self.place.mkdir(0o700)
        self.path = self.place / "store.sqlite"

    def lineages(self, path: Path | None = None) -> Lineages:
        """
        Open the store.
        """
        lineages = Lineages(path or self.path, now)
        self.addCleanup(lineages.close)
        return lineages

    def ask(self, name: str, *words: str) -> Child:
        """
        Start a process that asks.

        @param name: What its output is called.
        """
        return Child(self, self.folder, name, [*ASK, *words])

    def told(self, *children: Child) -> list[list[str]]:
        """
        Read what processes were told; of a line that is cut, nothing.
        """
        return [line.split() for one in children for line in one.text().splitlines(True) if line.endswith("\n")]

    def assertSound(self, path: Path | None = None) -> None:
        """
        The file is not broken, and nothing has two successors.
        """
        with closing(sqlite3.connect(path or self.path)) as store:
            self.assertEqual([("ok",)], store.execute("PRAGMA integrity_check").fetchall())
            double = "SELECT origin FROM certificate GROUP BY origin HAVING count(*) > 1"
            self.assertEqual([], store.execute(double).fetchall())
            lost = "SELECT id FROM lineage WHERE id NOT IN (SELECT lineage FROM certificate)"
            self.assertEqual([], store.execute(lost).fetchall())

    def assertKept(self, lineages: Lineages, told: list[list[str]]) -> None:
        """
        What was told to be done is done.
        """
        tokens = {one.id: one for one in lineages.tokens()}
        for deed, *words in told:
            if deed == "problem":
                continue
            self.assertIn(words[0], tokens)
            if deed == "enrolled":
                self.assertTrue(tokens[words[0]].used)
                self.assertNotEqual("it is not known here", lineages.whyCut(int(words[1])))
            elif deed == "renewed":
                self.assertNotEqual("", lineages.whyNot(int(words[1])))
                self.assertNotEqual("it is not known here", lineages.whyCut(int(words[2])))
            elif deed == "revoked":
                self.assertTrue(tokens[words[0]].revoked)
            elif deed == "over":
                self.assertEqual("it was revoked", lineages.whyCut(int(words[1])))
            else:
                self.assertEqual("added", deed)


class OnceTests(OnceCase):
    """
    Many who want the same.
    """

    def test_manyProcesses(self) -> None:
        """
        Of 20 processes that use one token at the same moment, each with its own key, exactly one gets a certificate.
        """
        token = Token.new(bytes(32), bytes(32))
        self.lineages().addToken(token, "alice", HOUR)
        moment = str(time.time() + 4)
        children = [self.ask(f"asks{number}", str(self.path), "once", token.id, moment) for number in range(MANY)]
        statuses = [child.process.wait(PATIENCE) for child in children]
        told = self.told(*children)
        self.assertEqual([0, *[3] * (MANY - 1)], sorted(statuses), told)
        self.assertEqual(MANY - 1, told.count(["refused", "used"]))
        (serial,) = (int(words[1]) for words in told if words[0] == "enrolled")
        (record,) = self.lineages().lineages()
        self.assertEqual((serial, "alive"), (record.serial, record.state))
        self.assertSound()

    def test_manyThreads(self) -> None:
        """
        So it is for the threads of one process, while others look on.
        """
        lineages = self.lineages()
        for _ in range(10):
            token = Token.new(bytes(32), bytes(32))
            lineages.addToken(token, "alice", HOUR)
            together = Barrier(MANY)

            def once(id: str = token.id, together: Barrier = together) -> int:
                asker = Asker(now())
                together.wait(PATIENCE)
                lineages.tokens()
                try:
                    serial = serialOf(lineages.enroll(id, asker.spki, LASTS, asker.issue).certificate)
                except Refused as e:
                    self.assertEqual("used", e.reason)
                    return 0
                self.assertEqual("", lineages.whyNot(serial))
                return serial

            with ThreadPoolExecutor(MANY) as threads:
                serials = [one.result() for one in [threads.submit(once) for _ in range(MANY)]]
            self.assertEqual(MANY - 1, serials.count(0))
            self.assertIn(next(one.serial for one in lineages.lineages() if one.id == token.id), serials)

    def test_firstMoment(self) -> None:
        """
        Processes that make the file at the same moment have the same file.
        """
        moment = str(time.time() + 3)
        children = [self.ask(f"asks{number}", str(self.path), "first", moment) for number in range(MANY)]
        self.assertEqual({0}, {child.process.wait(PATIENCE) for child in children})
        self.assertEqual(MANY, len(self.lineages().tokens()))
        self.assertKept(self.lineages(), self.told(*children))
        self.assertSound()


class KilledTests(OnceCase):
    """
    Processes that are killed.
    """

    def test_anyMoment(self) -> None:
        """
        Processes that are killed at any moment lose nothing of what they were told, leave nothing broken, and keep
        nobody else waiting.
        """
        names = ("alice", "bob", "carol")
        children: list[Child] = []
        for number in range(ROUNDS):
            started = [self.ask(f"asks{number}{name}", str(self.path), "all", name) for name in names]
            for child in started:
                child.waitFor("^added")
            for child in started:
                time.sleep(random.uniform(0, 0.06))
                child.kill()
            children += started
        told = self.told(*children)
        self.assertEqual({"added", "enrolled", "renewed", "revoked", "over"}, {words[0] for words in told})
        self.assertKept(self.lineages(), told)
        self.assertSound()
        self.assertEqual([], [one for one in self.place.iterdir() if not one.name.startswith("store.sqlite")])

    def test_madeAnew(self) -> None:
        """
        A process that is killed while it makes the file leaves none, or a whole one.
        """
        for number in range(ROUNDS):
            path = self.place / f"{number}.sqlite"
            child = self.ask(f"makes{number}", str(path), "add", "alice")
            waitUntil(lambda: path.exists() or any(self.place.glob(f".{path.name}*")), "the file")  # noqa: B023
            child.kill()
            lineages = self.lineages(path)
            self.assertKept(lineages, self.told(child))
            lineages.close()
            self.assertSound(path)


class FullTests(OnceCase):
    """
    Disks without room.
    """

    def assertFull(self, child: Child, path: Path) -> None:
        """
        A process was told that there is no room, and then there is some.
        """
        self.assertEqual(4, child.process.wait(PATIENCE), child.text())
        *told, problem = self.told(child)
        self.assertRegex(
            " ".join(problem), r"^problem the store /\S+: (the disk is full|it cannot be read or written: .*)$"
        )
        self.assertGreater(len(told), 0)
        lineages = self.lineages(path)
        self.assertKept(lineages, told)
        token = Token.new(bytes(32), bytes(32))
        lineages.addToken(token, "alice", HOUR)
        asker = Asker(now())
        issued = lineages.enroll(token.id, asker.spki, LASTS, asker.issue)
        self.assertEqual("", lineages.whyNot(serialOf(issued.certificate)))
        lineages.close()
        self.assertSound(path)

    def test_largestFile(self) -> None:
        """
        Where files may get no larger, what cannot be written is not told to be done, and all goes on once they may.
        """
        for most in (70_000, 100_000, 200_001):
            path = self.place / f"{most}.sqlite"
            self.assertFull(self.ask(f"fills{most}", f"most={most}", str(path), "add", "alice"), path)

    def test_fullFileSystem(self) -> None:
        """
        So it is where the file system is full.
        """
        for size in ("100k", "180k", "300k"):
            outside, inside = self.place / size, self.place / f"mounted{size}"
            outside.mkdir()
            inside.mkdir()
            user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            script = 'mount -t tmpfs -o mode=700,size="$1" tmpfs "$2"; from=$2; to=$3; shift 3; "$@"; status=$?; '
            script += 'cp -p "$from"/* "$to"; exit $status'
            prefix = [requirePeer("unshare"), *user, "--mount", "--", "/bin/sh", "-c", script, "sh"]
            tried = Child(self, self.folder, "tried", [*prefix[:-3], "-c", f"mount -t tmpfs tmpfs {inside}"])
            if tried.process.wait(PATIENCE):
                if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
                    raise AssertionError(tried.text())
                raise SkipTest(f"this user may mount nothing: {tried.text()}")
            command = [*prefix, size, str(inside), str(outside), *ASK, str(inside / "store.sqlite"), "add", "alice"]
            self.assertFull(Child(self, self.folder, f"fills{size}", command), outside / "store.sqlite")

    def test_nothingFits(self) -> None:
        """
        Where not even an empty file fits, none is left behind.
        """
        child = self.ask("fills", "most=5000", str(self.path), "add", "alice")
        self.assertEqual(4, child.process.wait(PATIENCE))
        self.assertIn("it cannot be made: File too large", child.text())
        self.assertEqual([], list(self.place.iterdir()))


class UsersTests(OnceCase):
    """
    Several users.
    """

    def stranger(self) -> list[str]:
        """
        Give what has a process run as a user who owns nothing.
        """
        return [f"user={STRANGER}"] if os.geteuid() == 0 else []

    def test_folderCannotBeWritten(self) -> None:
        """
        Who cannot write the folder is told so, whether there is a file or not.
        """
        self.place.chmod(0o555)
        child = self.ask("makes", *self.stranger(), str(self.path), "add", "alice")
        self.assertEqual(4, child.process.wait(PATIENCE), child.text())
        self.assertIn("store.sqlite: it cannot be made: Permission denied", child.text())
        self.place.chmod(0o755)
        lineages = self.lineages()
        lineages.addToken(Token.new(bytes(32), bytes(32)), "alice", HOUR)
        lineages.close()
        for own in (False, True):
            if os.geteuid() == 0 and own:
                os.chown(self.path, STRANGER, STRANGER)
            elif not own:
                self.path.chmod(0o000)
            self.place.chmod(0o555)
            child = self.ask(f"adds{own}", *self.stranger(), str(self.path), "add", "alice")
            self.assertEqual(4, child.process.wait(PATIENCE), child.text())
            self.assertRegex(child.text(), r"^problem the store \S+: [^\n]*cannot be (opened|written)[^\n]*\n$")
            self.place.chmod(0o755)
            self.path.chmod(0o600)
        self.assertEqual(1, len(self.lineages().tokens()))

    def test_madeByRoot(self) -> None:
        """
        A file that root makes in a service's folder is used by that service, while root has it open and after that.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can be another user")
        os.chown(self.place, STRANGER, STRANGER)
        path = self.place / "deeper" / "store.sqlite"
        lineages = self.lineages(path)
        token, other = Token.new(bytes(32), bytes(32)), Token.new(bytes(32), bytes(32))
        lineages.addToken(token, "alice", HOUR)
        child = self.ask("first", *self.stranger(), str(path), "once", token.id, "0")
        self.assertEqual(0, child.process.wait(PATIENCE), child.text())
        self.assertTrue(lineages.changed())
        lineages.addToken(other, "bob", HOUR)
        lineages.close()
        child = self.ask("second", *self.stranger(), str(path), "once", other.id, "0")
        self.assertEqual(0, child.process.wait(PATIENCE), child.text())
        self.assertEqual(["alice", "bob"], [one.name for one in lineages.lineages()])
        self.assertRaises(Refused, lineages.enroll, other.id, Asker().spki, LASTS, Asker().issue)
