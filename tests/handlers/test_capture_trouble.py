"""
Tests for L{tlsproxy.handlers.capture}: what happens when a file cannot be written to.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.handlers.capturing import CaptureCase


class TroubleTests(CaptureCase):
    """
    What happens when a file cannot be written to.
    """

    @given(allowed=st.integers(0, 3000), size=st.integers(1, 1000))
    def test_diskFull(self, allowed: int, size: int) -> None:
        """
        Wherever in a write the disk is full, the file ends with a whole block, and goes on with one.
        """
        self.path.unlink(missing_ok=True)
        capture = self.capture()
        number = capture.interface("shop")
        capture.add(number, b"before")
        capture.flush()
        before = self.path.read_bytes()
        write = os.write
        self.failing(errno.ENOSPC, allowed)
        try:
            for _ in range(4):
                capture.add(number, bytes(size))
            self.assertTrue(capture.flush())
            fits = capture.lost == 0
            self.assertEqual(capture.lost, 0 if fits else 4)
            self.assertTrue(fits or self.path.read_bytes() == before)
        finally:
            self.patch(os, "write", write)
        self.seconds += 2
        capture.add(number, b"after")
        capture.flush()
        self.assertEqual(self.read(), [b"before", *([bytes(size)] * 4 if fits else []), b"after"])

    def test_oneWarning(self) -> None:
        """
        That packets are lost is told once, again after a minute, and when it is over.
        """
        capture = self.capture()
        number = capture.interface("shop")
        write = os.write
        self.failing(errno.ENOSPC)
        for _ in range(30):
            self.seconds += 1.5
            capture.add(number, b"x")
            capture.flush()
        self.assertEqual(
            self.log(),
            [
                f"packets cannot be written to {self.path}, 1 are lost: No space left on device; the sessions go on, "
                "and it is tried again every second"
            ],
        )
        for _ in range(20):
            self.seconds += 1.5
            capture.add(number, b"x")
            capture.flush()
        (again,) = self.log()
        self.assertIn(", 41 are lost: No space", again)
        self.patch(os, "write", write)
        self.seconds += 1.5
        capture.add(number, b"y")
        capture.flush()
        self.assertEqual(self.log(), [f"{self.path} is written to again; 50 packets were lost"])
        self.assertEqual(self.read(), [b"y"])

    def test_notAtOnce(self) -> None:
        """
        A file that cannot be written to is left alone for a second, and memory does not fill meanwhile.
        """
        capture = self.capture()
        number = capture.interface("shop")
        self.folder.rename(f"{self.folder}-away")
        capture.add(number, b"a")
        capture.flush()
        Path(f"{self.folder}-away").rename(self.folder)
        for _ in range(1000):
            capture.add(number, b"", bytes(30000))
        self.assertFalse(self.path.exists())
        self.assertGreater(capture.lost, 900)
        self.seconds += 1
        capture.add(number, b"b")
        capture.flush()
        self.assertEqual(self.read()[-1], b"b")

    def test_unfit(self) -> None:
        """
        What is no file for secrets is not written to, and is left as it is.
        """
        other = self.folder / "other"

        def link() -> None:
            other.write_bytes(b"")
            other.chmod(0o600)
            self.path.symlink_to(other)

        def hardLink() -> None:
            other.write_bytes(b"")
            other.chmod(0o600)
            os.link(other, self.path)

        def readable() -> None:
            self.path.write_bytes(b"")
            self.path.chmod(0o604)

        def foreign() -> None:
            self.path.write_bytes(b"#!/bin/sh\nexit\n")
            self.path.chmod(0o600)

        def short() -> None:
            self.path.write_bytes(b"abc")
            self.path.chmod(0o600)

        for make, sentence in (
            (link, "it is a symbolic link"),
            (hardLink, "it is the same file as another, by a hard link"),
            (readable, "everybody may open it, and it would hold what TLS protects: chmod o= it"),
            (foreign, "it is no pcapng file as tlsproxy writes it, and is left alone"),
            (short, "it is no pcapng file as tlsproxy writes it, and is left alone"),
            (lambda: os.mkfifo(self.path, 0o600), "it is no regular file"),
            (self.path.mkdir, "Is a directory"),
        ):
            make()
            capture = self.capture()
            capture.add(capture.interface("shop"), b"secret")
            capture.flush()
            (line,) = self.log()
            self.assertIn(f": {sentence}; ", line)
            if self.path.is_dir():
                self.path.rmdir()
                continue
            if self.path.is_file():
                self.assertNotIn(b"secret", self.path.read_bytes())
            self.path.unlink()
            other.unlink(missing_ok=True)

    def test_strangers(self) -> None:
        """
        A file that belongs to another user is not written to.
        """
        self.path.write_bytes(b"")
        self.path.chmod(0o600)
        capture = self.capture()
        capture.add(capture.interface("shop"), b"secret")
        if os.getuid() == 0:
            os.chown(self.path, 12345, -1)
        else:
            self.patch(os, "geteuid", lambda: 12345)
        capture.flush()
        self.assertEqual(self.path.read_bytes(), b"")
        self.assertIn("it belongs to another user", self.log()[0])

    def test_alwaysReplaced(self) -> None:
        """
        It gives up for now where others replace the file again and again.
        """

        def flock(descriptor: int, how: int) -> None:
            self.path.unlink()

        self.patch(fcntl, "flock", flock)
        capture = self.capture()
        capture.add(capture.interface("shop"), b"a")
        capture.flush()
        self.assertIn("other processes keep replacing it", self.log()[0])

    def test_noName(self) -> None:
        """
        Whatever goes wrong with a file, also what no system call tells of, the sessions do not notice.
        """
        self.path = self.folder / "a\0b"
        capture = self.capture()
        capture.add(capture.interface("shop"), b"secret")
        self.assertTrue(capture.flush())
        self.assertEqual(capture.lost, 1)
        self.assertIn(", 1 are lost: ValueError: embedded null byte; ", self.log()[0])

    def test_notWalkedAgain(self) -> None:
        """
        After a failed write the file is known as it was, so a full disk does not have it read every second.
        """
        capture = self.capture()
        number = capture.interface("shop")
        capture.add(number, b"a")
        capture.flush()
        self.failing(errno.ENOSPC, 20)
        self.patch(os, "pread", None)
        for _ in range(3):
            capture.add(number, b"b")
            self.assertTrue(capture.flush())
            self.seconds += 2
        self.assertEqual((self.read(), capture.lost), ([b"a"], 3))

    def test_noDescriptors(self) -> None:
        """
        Nothing stays open, whatever happened.
        """
        before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        self.test_unfit()
        self.assertEqual(len(os.listdir("/proc/self/fd") if before else []), len(before))
