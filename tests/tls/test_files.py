"""
Tests for L{tlsproxy.tls.files}.

What is said of files that cannot be read is in L{tests.tls.test_pem}.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import write
from tlsproxy.tls import files
from tlsproxy.tls.files import CertificateProblem, Stamp, readFile, readWhole, stampOf


class ReadWholeTests(SynchronousTestCase):
    """
    Tests for L{readWhole}: whatever is there, it comes to an end.
    """

    def refused(self, path: str) -> str:
        """
        Find out why something cannot be read.
        """
        return str(self.assertRaises(CertificateProblem, readFile, path, "a file"))

    def test_file(self) -> None:
        """
        A file is read whole, by as many pieces as it takes.
        """
        content = bytes(range(256)) * 1000
        data, before, after = readWhole(write(self.mktemp(), content))
        self.assertEqual((content, len(content), before.st_ino), (data, after.st_size, after.st_ino))

    def test_pipe(self) -> None:
        """
        So is what a shell gives as C{<(command)}: a pipe with an end.
        """
        source, sink = os.pipe()
        self.addCleanup(os.close, source)
        os.write(sink, b"ONE")
        os.close(sink)
        self.patch(files, "_PATIENCE", 0.0)
        self.assertEqual(b"ONE", readFile(f"/dev/fd/{source}", "a file").data)

    def test_silentPipe(self) -> None:
        """
        One that nobody writes into is not waited for, nor is one that somebody holds open.
        """
        self.patch(files, "_PATIENCE", 0.0)
        path = self.mktemp()
        os.mkfifo(path, 0o600)
        expected = f"{path} cannot be read (it has no end within 0 s): give the path of a file"
        self.assertEqual(expected, self.refused(path))
        held = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, held)
        self.assertEqual(expected, self.refused(path))
        os.write(held, b"ONE")
        self.assertEqual(expected, self.refused(path))

    def test_endless(self) -> None:
        """
        What goes on for ever, or very long, is not read into the memory.
        """
        expected = "/dev/zero cannot be read (it has more than 16 MiB): give the path of a file"
        self.assertEqual(expected, self.refused("/dev/zero"))
        path = write(self.mktemp(), b"")
        os.truncate(path, 2**40)
        self.assertIn("more than 16 MiB", self.refused(path))


class OpenToOthersTests(SynchronousTestCase):
    """
    Tests for L{tlsproxy.tls.files.FileRead.openToOthers}.
    """

    def test_private(self) -> None:
        """
        A file that only its owner can reach is fine.
        """
        for mode in (0o600, 0o400):
            file = readFile(write(self.mktemp(), b"key", mode=mode), "a file")
            self.assertIsNone(file.openToOthers())

    def test_open(self) -> None:
        """
        For a file that the group or the world can reach there is its mode, and the command that closes it.
        """
        for mode in (0o640, 0o604, 0o620, 0o644):
            path = write(self.mktemp(), b"key", mode=mode)
            self.assertEqual(
                readFile(path, "a file").openToOthers(),
                f"{path} holds a private key and is open to others than its owner (mode {mode:04o}): "
                f"run chmod 600 {path}",
            )

    def test_notRegular(self) -> None:
        """
        The mode of what is no regular file says nothing.
        """
        self.assertIsNone(readFile("/dev/null", "a file").openToOthers())

    def test_otherSecrets(self) -> None:
        """
        What is secret in it can be called otherwise.
        """
        path = write(self.mktemp(), b"key", mode=0o644)
        warning = readFile(path, "a file").openToOthers("a password")
        self.assertIn(f"{path} holds a password and is open to others", warning or "")


class StampTests(SynchronousTestCase):
    """
    Tests for L{stampOf}, and for the stamps of L{readFile}.
    """

    def setUp(self) -> None:
        """
        Write a file.
        """
        self.path = write(self.mktemp(), b"ONE")

    def later(self, seconds: float = 10.0) -> None:
        """
        Let time pass, as far as can be seen from here.
        """
        now = time.time_ns()
        self.patch(time, "time_ns", lambda: now + int(seconds * 1e9))

    def stamp(self) -> Stamp:
        """
        Look at the file.
        """
        stamp = stampOf(self.path)
        assert stamp is not None
        return stamp

    def test_same(self) -> None:
        """
        A file that is left alone keeps its stamp, which is the one that it was read with.
        """
        self.later()
        self.assertEqual(self.stamp(), readFile(self.path, "a file").stamp)
        self.assertEqual(self.stamp(), self.stamp())

    def test_changed(self) -> None:
        """
        A file has another stamp once it has been written, replaced, or been given another mode, even if its size and
        its time of modification are put back.
        """

        def rewrite() -> None:
            Path(self.path).write_bytes(b"TWO")
            os.utime(self.path, ns=(first.modified, first.modified))

        def replace() -> None:
            other = write(self.mktemp(), b"TWO")
            os.utime(other, ns=(first.modified, first.modified))
            os.replace(other, self.path)

        for change in (rewrite, replace, lambda: os.chmod(self.path, 0o640), lambda: write(self.path, b"three")):
            first = self.stamp()
            while self.stamp().changed == first.changed:
                # The kernel's clock for files is coarse, and a change within one of its ticks is what settled is about.
                change()
            self.assertNotEqual(first, self.stamp())

    def test_unsettled(self) -> None:
        """
        A file that has just been written is read without a stamp, since it could be written once more, unseen.
        """
        self.assertIsNone(readFile(self.path, "a file").stamp)
        self.later(1.0)
        self.assertIsNone(readFile(self.path, "a file").stamp)
        self.later(3.0)
        self.assertIsNotNone(readFile(self.path, "a file").stamp)

    def test_future(self) -> None:
        """
        Neither has a file from the future, by whose time nothing can be told.
        """
        ahead = time.time_ns() + 3600 * 10**9
        os.utime(self.path, ns=(ahead, ahead))
        self.later()
        self.assertIsNone(readFile(self.path, "a file").stamp)

    def test_none(self) -> None:
        """
        What is not there, is no file, or may not be read has none.
        """
        self.assertIsNone(stampOf("nope"))
        self.assertIsNone(stampOf("a\0b"))
        self.assertIsNone(stampOf("."))
        self.assertIsNone(stampOf("/dev/null"))
        self.patch(os, "access", lambda path, mode, **more: False)
        self.assertIsNone(stampOf(self.path))

    def test_noContent(self) -> None:
        """
        The content, which may be a key, is not in the representation.
        """
        self.assertNotIn("ONE", repr(readFile(self.path, "a file")))

    def test_wanted(self) -> None:
        """
        A file that is not there is asked for in the words of who wants it.
        """
        error = self.assertRaises(CertificateProblem, readFile, "nope", "the file with the password")
        self.assertEqual("nope does not exist: give the path of the file with the password", str(error))
