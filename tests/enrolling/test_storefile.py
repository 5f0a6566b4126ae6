# -*- test-case-name: tests.enrolling.test_storefile -*-
"""
Tests for L{tlsproxy.enrolling.storefile}.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tlsproxy.enrolling import storefile
from tlsproxy.enrolling.storefile import StoreFile, StoreProblem

NOBODY = 65534
ADD = "INSERT INTO token VALUES (?, 'alice', x'00', 0, 1, NULL)"


class StoreFileTestCase(SynchronousTestCase):
    """
    A test with a folder of its own.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(0o700)
        self.path = self.folder / "store.sqlite"

    def file(self, path: Path | None = None) -> StoreFile:
        """
        Have the file.
        """
        file = StoreFile(path or self.path)
        self.addCleanup(file.close)
        return file

    def add(self, file: StoreFile, id: str) -> None:
        """
        Write something.
        """
        with file.writing() as store:
            store.execute(ADD, (id,))

    def ids(self, file: StoreFile) -> list[str]:
        """
        Read it all.
        """
        with file.reading() as store:
            return [row["id"] for row in store.execute("SELECT id FROM token ORDER BY id")]

    def problem(self, path: Path | None = None) -> str:
        """
        Meet a problem.

        @return: The sentence without the name of the file.
        """
        path = path or self.path
        told = str(self.assertRaises(StoreProblem, self.ids, self.file(path)))
        self.assertTrue(told.startswith(f"the store {path}: "), told)
        self.assertTrue(told.isprintable())
        return told.removeprefix(f"the store {path}: ")


class MadeTests(StoreFileTestCase):
    """
    A file that was not there.
    """

    def test_made(self) -> None:
        """
        It is made when it is needed, for its user alone, and nothing is left beside it.
        """
        path = self.folder / "a" / "b c" / "störe#1?.sqlite"
        file = self.file(path)
        self.assertFalse(path.parent.exists())
        self.assertEqual([], self.ids(file))
        self.add(file, "1")
        for made in (path, *path.parent.iterdir()):
            self.assertEqual(0o600, stat.S_IMODE(made.stat().st_mode), made)
        for made in (path.parent, path.parent.parent):
            self.assertEqual(0o700, stat.S_IMODE(made.stat().st_mode), made)
        file.close()
        self.assertEqual([path], list(path.parent.iterdir()))

    def test_durable(self) -> None:
        """
        It has a write-ahead log, and what is written is on the disk before anybody is told.
        """
        with self.file().writing() as store:
            self.assertEqual(["wal"], list(store.execute("PRAGMA journal_mode").fetchone()))
            self.assertEqual([2], list(store.execute("PRAGMA synchronous").fetchone()))
            self.assertEqual(["ok"], list(store.execute("PRAGMA integrity_check").fetchone()))

    def test_madeByTwo(self) -> None:
        """
        Where two make it at the same moment, both have the same one.
        """
        first, second = self.file(), self.file()
        original = storefile._makeFolder

        def makeFolder(folder: Path) -> None:
            original(folder)
            self.patch(storefile, "_makeFolder", original)
            self.add(second, "2")

        self.patch(storefile, "_makeFolder", makeFolder)
        self.add(first, "1")
        self.assertEqual(["1", "2"], self.ids(first))
        self.assertEqual(["1", "2"], self.ids(second))

    def test_madeByRoot(self) -> None:
        """
        What root makes belongs to whoever owns the folder, and the files beside it do, too.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        os.chown(self.folder, NOBODY, NOBODY)
        path = self.folder / "new" / "store.sqlite"
        file = self.file(path)
        self.add(file, "1")
        made = [path.parent, *path.parent.iterdir()]
        self.assertEqual(4, len(made))
        for one in made:
            self.assertEqual((NOBODY, NOBODY), (one.stat().st_uid, one.stat().st_gid), one)

    def test_cannotBeMade(self) -> None:
        """
        One sentence tells why it could not be made.
        """
        (self.folder / "file").write_bytes(b"")
        for path, told in (
            (self.folder / "file" / "store", "it cannot be opened: Not a directory"),
            (self.folder / ("a" * 250), "it cannot be made: File name too long"),
            (self.folder / ("a" * 300), "it cannot be opened: File name too long"),
        ):
            self.assertEqual(told, self.problem(path))


class OpenedTests(StoreFileTestCase):
    """
    A file that is there.
    """

    def test_shared(self) -> None:
        """
        Whoever has it open sees what others have written.
        """
        first, second = self.file(), self.file()
        self.add(first, "1")
        self.add(second, "2")
        self.assertEqual(["1", "2"], self.ids(first))

    def test_undone(self) -> None:
        """
        Of what ends with an exception nothing is written.
        """
        file = self.file()

        def fail() -> None:
            with file.writing() as store:
                store.execute(ADD, ("1",))
                raise ArithmeticError

        self.assertRaises(ArithmeticError, fail)
        self.add(file, "2")
        self.assertEqual(["2"], self.ids(file))

    def test_readingWritesNothing(self) -> None:
        """
        Nothing is written by mistake while it is read.
        """
        file = self.file()

        def write() -> None:
            with file.reading() as store:
                store.execute(ADD, ("1",))

        self.assertRaises(StoreProblem, write)
        self.assertEqual([], self.ids(file))

    def test_otherContent(self) -> None:
        """
        A file of something else is left as it is.
        """
        for content in (b"", b"x", b"[route]\n" * 1000, b"SQLite format 3\0" + bytes(84)):
            self.path.write_bytes(content)
            self.path.chmod(0o600)
            self.assertIn("it is no store of enrollments; give another name", self.problem())
            self.assertEqual(content, self.path.read_bytes())
        self.assertEqual([self.path], list(self.folder.iterdir()))

    def test_otherDatabase(self) -> None:
        """
        So is a database of something else, and one of a later version.
        """
        for statement, told in (
            ("CREATE TABLE token (id)", "it is no store of enrollments"),
            (f"PRAGMA application_id = {0x746C7370}; PRAGMA user_version = 2", "it is of version 2, and this tlsproxy"),
        ):
            self.path.unlink(missing_ok=True)
            with closing(sqlite3.connect(self.path)) as other:
                other.executescript(statement)
            self.path.chmod(0o600)
            before = self.path.read_bytes()
            self.assertIn(told, self.problem())
            self.assertEqual(before, self.path.read_bytes())

    def test_damaged(self) -> None:
        """
        A file that was damaged is told so, and read again when it has been mended.
        """
        file = self.file()
        self.add(file, "1")
        file.close()
        good = self.path.read_bytes()
        self.path.write_bytes(good[:4096] + b"\xff" * (len(good) - 4096))
        self.assertIn("it is damaged", str(self.assertRaises(StoreProblem, self.ids, file)))
        self.path.write_bytes(good)
        self.assertEqual(["1"], self.ids(file))

    def test_notAFile(self) -> None:
        """
        A folder, a device or a link is none.
        """
        (self.folder / "link").symlink_to(self.path)
        self.add(self.file(), "1")
        for path in (self.folder, Path("/dev/null"), self.folder / "link"):
            self.assertEqual("it is no regular file; give another name", self.problem(path))

    def test_openToOthers(self) -> None:
        """
        What others can read or write, they might have written.
        """
        self.add(self.file(), "1")
        self.path.chmod(0o640)
        self.assertEqual("it is open to other users; chmod 600 it", self.problem())
        self.path.chmod(0o600)
        self.folder.chmod(0o1777)
        self.assertEqual("all users can write its folder; take one of its own", self.problem())

    def test_kept(self) -> None:
        """
        Somebody who keeps it too long is no reason to wait for ever; and once that is over all is good again.
        """
        self.patch(storefile, "_PATIENCE", 0.01)
        first, second = self.file(), self.file()
        self.add(first, "1")
        with first.writing():
            told = str(self.assertRaises(StoreProblem, self.add, second, "2"))
            self.assertIn("another process keeps it", told)
            self.assertEqual(["1"], self.ids(second))
        self.add(second, "2")
        self.assertEqual(["1", "2"], self.ids(first))

    def test_keptFromReaders(self) -> None:
        """
        Somebody who keeps all others from it holds up no reader: that may be the thread of all sessions.
        """
        file = self.file()
        self.add(file, "1")
        file.close()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            self.assertIn("another process keeps it", self.problem())
            self.assertLess(time.monotonic() - began, 2)

    def test_removed(self) -> None:
        """
        A file that is removed in use is missed, and not quietly replaced by an empty one.
        """
        file = self.file()
        self.add(file, "1")
        self.path.unlink()
        for _ in range(2):
            for use in (self.ids, StoreFile.version, lambda used: self.add(used, "2")):
                told = str(self.assertRaises(StoreProblem, use, file))
                self.assertIn("it was removed while it was in use; start the proxy again", told)
            file.close()
        self.assertFalse(self.path.exists())

    def test_replaced(self) -> None:
        """
        A file that was replaced by another is read from then on.
        """
        other = self.file(self.folder / "other.sqlite")
        self.add(other, "9")
        other.close()
        file = self.file()
        self.add(file, "1")
        version = file.version()
        file.close()
        self.assertEqual(["1"], self.ids(file))
        os.replace(other.path, self.path)
        self.assertEqual(["9"], self.ids(file))
        self.assertNotEqual(version, file.version())

    def test_forked(self) -> None:
        """
        What was open when the process forked is not used by the child: it would take the parent's locks away.
        """
        file = self.file()
        self.add(file, "1")
        self.patch(os, "getpid", lambda: -1)
        self.assertIn("in use when the process forked", str(self.assertRaises(StoreProblem, self.ids, file)))

    def test_version(self) -> None:
        """
        The version changes with each change, whoever makes it, and with nothing else.
        """
        first, second = self.file(), self.file()
        version = first.version()
        self.assertEqual(version, first.version())
        for one in (first, second):
            self.add(one, str(version))
            self.assertNotEqual(version, first.version())
            version = first.version()
            self.ids(second)
            self.assertEqual(version, first.version())
