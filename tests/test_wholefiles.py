# -*- test-case-name: tests.test_wholefiles -*-
"""
L{tlsproxy.wholefiles}: files that are written whole or not at all.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wholefiles import createFile, replaceFile


class FileTests(SynchronousTestCase):
    """
    Files in a folder.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "file"

    def mode(self) -> int:
        """
        Tell the mode of the file.
        """
        return stat.S_IMODE(self.file.stat().st_mode)

    def test_create(self) -> None:
        """
        A new file has its content and its mode, whatever the process takes away.
        """
        self.addCleanup(os.umask, os.umask(0o077))
        createFile(self.file, b"new", 0o644)
        self.assertEqual((b"new", 0o644), (self.file.read_bytes(), self.mode()))
        self.assertEqual(["file"], os.listdir(self.folder))

    def test_exists(self) -> None:
        """
        What exists is left alone, be it but a link that leads nowhere.
        """
        self.file.write_bytes(b"old")
        self.assertRaises(FileExistsError, createFile, self.file, b"new", 0o600)
        self.assertEqual(b"old", self.file.read_bytes())
        self.file.unlink()
        self.file.symlink_to("nowhere")
        self.assertRaises(FileExistsError, createFile, self.file, b"new", 0o600)
        self.assertEqual(["file"], os.listdir(self.folder))

    def test_replace(self) -> None:
        """
        A file is replaced, or made; with another owner, if that is asked for.
        """
        replaceFile(self.file, b"one", 0o644, (os.geteuid(), os.getegid()))
        replaceFile(self.file, b"two", 0o600)
        self.assertEqual((b"two", 0o600, ["file"]), (self.file.read_bytes(), self.mode(), os.listdir(self.folder)))
        asked: list[tuple[int, int]] = []
        self.patch(os, "fchown", lambda _, user, group: asked.append((user, group)))
        replaceFile(self.file, b"three", 0o600, (12345, 54321))
        self.assertEqual([(12345, 54321)], asked)

    def test_fails(self) -> None:
        """
        What fails leaves the old file, and nothing else.
        """
        self.file.write_bytes(b"old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        broken = self.patch(os, "fsync", full)
        self.assertRaises(OSError, replaceFile, self.file, b"new", 0o600)
        self.assertRaises(OSError, createFile, self.folder / "other", b"new", 0o600)
        broken.restore()
        self.assertEqual((b"old", ["file"]), (self.file.read_bytes(), os.listdir(self.folder)))
        folder = self.folder / "folder"
        (folder / "x").mkdir(parents=True)
        self.assertRaises(OSError, replaceFile, folder, b"new", 0o600)
        self.assertEqual(["file", "folder"], sorted(os.listdir(self.folder)))
        self.assertRaises(OSError, replaceFile, self.folder / "none" / "file", b"new", 0o600)
