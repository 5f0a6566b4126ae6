# -*- test-case-name: tests.test_watching -*-
"""
L{tlsproxy.watching}: seeing that files have changed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import watching
from tlsproxy.watching import Signature, Watch, signatureOf, signaturesOf


class FilesCase(SynchronousTestCase):
    """
    A test with files.
    """

    def setUp(self) -> None:
        """
        Make a folder.
        """
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)

    def file(self, name: str, text: str = "") -> str:
        """
        Write a file.
        """
        path = self.folder / name
        path.write_text(text)
        return str(path)


class SignatureTests(FilesCase):
    """
    What tells two states of a file apart.
    """

    def test_same(self) -> None:
        """
        A file that nothing happens to stays as it is.
        """
        path = self.file("a", "x")
        self.assertEqual(signatureOf(path), signatureOf(path))

    def test_changes(self) -> None:
        """
        Whatever may change what is read tells.
        """
        path = self.file("a", "x")
        link = self.folder / "link"
        link.symlink_to("a")
        for change in (
            lambda: Path(path).write_text("xy"),
            lambda: os.replace(self.file("b", "xy"), path),
            lambda: os.chmod(path, 0),
            lambda: os.utime(path, (1, 1)),
            lambda: os.unlink(path),
            lambda: self.file("a", "xy"),
        ):
            before = signatureOf(path), signatureOf(str(link))
            # The kernel's clock for files ticks.
            time.sleep(0.02)
            change()
            after = signatureOf(path), signatureOf(str(link))
            self.assertNotEqual(before[0], after[0])
            self.assertNotEqual(before[1], after[1])
            self.assertEqual(after[0], after[1])

    def test_link(self) -> None:
        """
        So does a link that leads elsewhere, on whichever step of the way.
        """
        for name in ("one", "two"):
            (self.folder / name).mkdir()
            (self.folder / name / "a").write_text("x")
        way = self.folder / "way"
        way.symlink_to("one")
        before = signatureOf(str(way / "a"))
        way.unlink()
        way.symlink_to("two")
        self.assertNotEqual(before, signatureOf(str(way / "a")))

    def test_nothing(self) -> None:
        """
        What is not there, or cannot be, has none.
        """
        loop = self.folder / "loop"
        loop.symlink_to("loop")
        for path in (str(self.folder / "a"), str(loop), self.file("b") + "/c", "a\0b", "x" * 5000):
            self.assertEqual((None, {path: None}), (signatureOf(path), signaturesOf(path)))

    def test_folder(self) -> None:
        """
        A folder brings what is right inside.
        """
        paths = {str(self.folder), self.file("a"), self.file("b")}
        (self.folder / "c").mkdir()
        found = signaturesOf(str(self.folder))
        self.assertEqual(paths | {str(self.folder / "c")}, {*found})
        self.assertEqual(found, {path: signatureOf(path) for path in found})
        alone = self.file("a")
        self.assertEqual({alone: signatureOf(alone)}, signaturesOf(alone))


class WatchTests(SynchronousTestCase):
    """
    Looking, with a file system that the test makes up.
    """

    def setUp(self) -> None:
        """
        Make one up.
        """
        self.disk: dict[str, Signature | None] = {}
        self.looked: list[str] = []
        self.patch(watching, "signatureOf", self.look)
        self.clock = Clock()
        self.told: list[float] = []
        self.watch = Watch(self.clock, lambda: self.told.append(self.clock.seconds()))

    def look(self, path: str) -> Signature | None:
        """
        Stand for L{signatureOf}.
        """
        self.looked.append(path)
        return self.disk.get(path)

    def write(self, path: str, state: int | None) -> None:
        """
        Change a file.
        """
        self.disk[path] = None if state is None else (state,) * 5

    def start(self, *paths: str) -> None:
        """
        Look at some files.
        """
        for path in paths:
            self.write(path, 0)
        self.watch.look({path: self.disk[path] for path in paths})
        self.watch.start()

    def pass_(self, ticks: int) -> None:
        """
        Let time pass.
        """
        for _ in range(ticks):
            self.clock.advance(0.5)

    def test_still(self) -> None:
        """
        Nothing is told of files that do not change, and each is looked at once a tick.
        """
        self.start("/a", "/b")
        self.pass_(10)
        self.assertEqual(([], 20), (self.told, len(self.looked)))

    def test_change(self) -> None:
        """
        A change is told once, after a tick without another; which is less than two seconds.
        """
        self.start("/a", "/b")
        self.pass_(1)
        self.write("/a", 1)
        self.pass_(10)
        self.assertEqual([1.5], self.told)

    def test_together(self) -> None:
        """
        What changes one after the other is told together.
        """
        self.start("/cert", "/key")
        self.write("/cert", 1)
        self.pass_(1)
        self.write("/key", 1)
        self.pass_(10)
        self.assertEqual([1.5], self.told)

    def test_forever(self) -> None:
        """
        Change upon change does not put it off for ever.
        """
        self.start("/a")
        for state in range(1, 29):
            self.write("/a", state)
            self.pass_(1)
        self.assertEqual(4, len(self.told))

    def test_missing(self) -> None:
        """
        A file that goes is a change, and so is one that comes.
        """
        self.start("/a")
        self.write("/a", None)
        self.pass_(3)
        self.assertEqual(1, len(self.told))
        self.write("/a", 0)
        self.pass_(3)
        self.assertEqual(2, len(self.told))

    def test_sinceRead(self) -> None:
        """
        A file that has changed since it was read has changed.
        """
        self.write("/a", 1)
        self.watch.look({"/a": (0,) * 5})
        self.watch.start()
        self.pass_(2)
        self.assertEqual(1, len(self.told))

    def test_stop(self) -> None:
        """
        Whoever is stopped looks no more and leaves no timer; it may be started again, and twice.
        """
        self.start("/a")
        self.watch.start()
        self.write("/a", 1)
        self.pass_(1)
        self.watch.stop()
        self.watch.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.watch.start()
        self.pass_(5)
        self.assertEqual([], self.told)

    def test_stopInside(self) -> None:
        """
        Other files may be looked at from inside of what is told, or none any more.
        """
        self.start("/a")
        self.watch._changed = self.watch.stop
        self.write("/a", 1)
        self.pass_(2)
        self.watch._changed = lambda: self.watch.look({})
        self.watch.start()
        self.write("/a", 2)
        self.pass_(3)
        self.looked.clear()
        self.pass_(3)
        self.assertEqual([], self.looked)

    def test_many(self) -> None:
        """
        Of very many files only so many are looked at in each tick, whatever there are, and each in its turn.
        """
        paths = [f"/certs/{number}" for number in range(10_000)]
        self.start(*paths)
        self.looked.clear()
        self.pass_(1)
        self.assertEqual(2000, len(self.looked))
        self.pass_(5)
        self.assertEqual({*paths, "/certs"}, {*self.looked})
        for path in ("/certs/0", "/certs/9999", "/certs/5000"):
            before = len(self.told)
            self.write(path, 1)
            self.pass_(8)
            self.assertEqual(before + 1, len(self.told))

    def test_folderFirst(self) -> None:
        """
        What is renamed into its place among very many is seen in the next tick.
        """
        self.disk["/certs"] = (0,) * 5
        self.start(*(f"/certs/{number}" for number in range(10_000)))
        self.pass_(1)
        for path in ("/certs/0", "/certs/9999", "/certs/5000"):
            self.write(path, 1)
            self.disk["/certs"] = (len(self.told) + 1,) * 5
            before = self.clock.seconds()
            self.pass_(3)
            self.assertEqual(before + 1, self.told[-1])

    def test_manyFolders(self) -> None:
        """
        Where there are as many folders, all have their turn.
        """
        self.start(*(f"/live/{number}/cert.pem" for number in range(5_000)))
        self.write("/live/1/cert.pem", 1)
        self.pass_(5)
        self.assertEqual(1, len(self.told))
        self.assertTrue(len(self.looked) <= 5 * 2000)
