"""
Tests for L{tlsproxy.handlers.capture}.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import struct

from tests.handlers.capturing import NOW, CaptureCase
from tests.handlers.reading import Packet, packets
from tlsproxy.handlers import capture as module
from tlsproxy.handlers.capture import LEAST, Capture, captureAt
from tlsproxy.wire.pcapng import packet, section


class WritingTests(CaptureCase):
    """
    What is in the file when.
    """

    def test_packet(self) -> None:
        """
        A packet is in the file after a flush, with all that belongs to it, and nobody else may read it.
        """
        capture = self.capture()
        before = os.umask(0)
        try:
            self.assertTrue(capture.add(capture.interface("shop"), b"head", b"data", "hi"))
            self.assertFalse(self.path.exists())
            self.assertTrue(capture.flush())
        finally:
            os.umask(before)
        self.assertEqual([Packet("shop", NOW, b"headdata", "hi")], packets(self.path.read_bytes()))
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o600)
        self.assertEqual(self.log(), [])

    def test_nothing(self) -> None:
        """
        Without packets there is no file.
        """
        capture = self.capture()
        capture.interface("shop")
        self.assertTrue(capture.flush())
        self.assertFalse(self.path.exists())

    def test_gathered(self) -> None:
        """
        Packets are gathered, and written many at a time; the first one asks for a flush in a while.
        """
        capture = self.capture()
        number = capture.interface("shop")
        asked = [capture.add(number, b"", bytes(30000)) for _ in range(9)]
        self.assertEqual(asked, [True] + [False] * 8)
        self.assertEqual(len(self.read()), 9)
        self.assertTrue(capture.add(number, b"x"))

    def test_oneSection(self) -> None:
        """
        As long as nobody else touches the file it has one section, however often it is written to.
        """
        capture = self.capture()
        number = capture.interface("shop")
        for data in (b"a", b"b", b"c"):
            capture.add(number, data)
            capture.flush()
        self.assertEqual(self.read(), [b"a", b"b", b"c"])
        self.assertEqual(self.path.read_bytes().count(section("")[:4]), 1)

    def test_interfaces(self) -> None:
        """
        Each route has an interface by its name, also one that comes later.
        """
        capture = self.capture()
        first = capture.interface("shop")
        capture.add(first, b"a")
        second = capture.interface("mail")
        capture.add(second, b"b")
        self.assertEqual(capture.interface("shop"), first)
        capture.add(first, b"c")
        capture.flush()
        found = [(packet.interface, packet.data) for packet in packets(self.path.read_bytes())]
        self.assertEqual(found, [("shop", b"a"), ("mail", b"b"), ("shop", b"c")])

    def test_anotherWriter(self) -> None:
        """
        A file that is there already goes on with a new section, so two processes may write to one.
        """
        one, two = self.capture(), self.capture()
        for capture, name, data in ((one, "shop", b"1"), (two, "mail", b"2"), (one, "shop", b"3"), (two, "mail", b"4")):
            capture.add(capture.interface(name), data)
            capture.flush()
        found = [(packet.interface, packet.data) for packet in packets(self.path.read_bytes())]
        self.assertEqual(found, [("shop", b"1"), ("mail", b"2"), ("shop", b"3"), ("mail", b"4")])

    def test_moved(self) -> None:
        """
        A file that somebody moves or removes is followed by a new one, complete in itself.
        """
        capture = self.capture()
        number = capture.interface("shop")
        capture.add(number, b"a")
        capture.flush()
        self.path.rename(self.folder / "moved")
        capture.add(number, b"b")
        capture.flush()
        self.assertEqual((self.read(self.folder / "moved"), self.read()), ([b"a"], [b"b"]))
        self.path.unlink()
        capture.add(number, b"c")
        capture.flush()
        self.assertEqual(self.read(), [b"c"])

    def test_movedMeanwhile(self) -> None:
        """
        A file that is moved between its opening and the write to it gets nothing any more.
        """
        capture = self.capture()
        number = capture.interface("shop")
        lock = fcntl.flock
        moved: list[int] = []

        def flock(descriptor: int, how: int) -> None:
            if not moved:
                self.path.rename(self.folder / "moved")
            elif len(moved) == 1:
                self.path.rename(self.folder / "again")
                self.path.write_bytes(b"")
                self.path.chmod(0o600)
            moved.append(descriptor)
            lock(descriptor, how)

        self.patch(fcntl, "flock", flock)
        capture.add(number, b"a")
        self.assertTrue(capture.flush())
        self.assertEqual(self.read(), [b"a"])
        self.assertEqual((self.folder / "moved").stat().st_size, 0)
        self.assertEqual(self.log(), [])

    def test_locked(self) -> None:
        """
        While another process has the file, packets wait in memory, but not without bounds.
        """
        capture = self.capture()
        number = capture.interface("shop")
        with self.path.open("wb") as other:
            self.path.chmod(0o600)
            fcntl.flock(other, fcntl.LOCK_EX)
            capture.add(number, b"a")
            self.assertFalse(capture.flush())
        self.assertTrue(capture.flush())
        self.assertEqual(self.read(), [b"a"])
        with self.path.open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            for _ in range(40):
                capture.add(number, b"", bytes(32768))
        (line,) = self.log()
        self.assertIn("another process has it locked", line)


class RotationTests(CaptureCase):
    """
    What happens when a file is full.
    """

    def fill(self, capture: Capture, count: int) -> None:
        """
        Write so many numbered packets, of 30000 bytes.
        """
        number = capture.interface("shop")
        for index in range(count):
            capture.add(number, index.to_bytes(4, "big"), bytes(29996))
        capture.flush()

    def files(self) -> dict[str, list[int]]:
        """
        Tell which packets each file has.
        """
        return {
            path.name: [int.from_bytes(data[:4], "big") for data in self.read(path)]
            for path in sorted(self.folder.iterdir())
        }

    def test_rotation(self) -> None:
        """
        Each file is complete in itself and no larger than it may be, and the newest ones are kept.
        """
        self.fill(self.capture(LEAST, 2), 150)
        files = self.files()
        self.assertEqual(sorted(files), ["shop.pcapng", "shop.pcapng.1", "shop.pcapng.2"])
        kept = files["shop.pcapng.2"] + files["shop.pcapng.1"] + files["shop.pcapng"]
        self.assertEqual(kept, list(range(kept[0], 150)))
        for path in self.folder.iterdir():
            self.assertLessEqual(path.stat().st_size, LEAST)
            self.assertEqual(path.stat().st_mode & 0o7777, 0o600)
        self.assertGreater((self.folder / "shop.pcapng.1").stat().st_size, LEAST // 2)

    def test_keepNone(self) -> None:
        """
        Where none is kept, there is one file.
        """
        self.fill(self.capture(LEAST, 0), 100)
        self.assertEqual(list(self.files()), ["shop.pcapng"])
        self.assertEqual(self.files()["shop.pcapng"][-1], 99)

    def test_noLimit(self) -> None:
        """
        Without a size there is one file, with everything.
        """
        self.fill(self.capture(0), 100)
        self.assertEqual(self.files(), {"shop.pcapng": list(range(100))})

    def test_torn(self) -> None:
        """
        A file that ends in the middle of a block, as after a crash, is put aside: nothing is written behind that.
        """
        self.fill(self.capture(), 2)
        whole = self.path.read_bytes()
        for cut in (1, 4, 5, 30, 30000, len(whole) - 12):
            self.path.write_bytes(whole[:-cut])
            self.fill(self.capture(keep=1), 1)
            self.assertEqual([data[:4] for data in self.read()], [bytes(4)])
            self.assertEqual((self.folder / "shop.pcapng.1").read_bytes(), whole[:-cut])
            (self.folder / "shop.pcapng.1").unlink()

    def test_tornByChoice(self) -> None:
        """
        Bytes that a client has chosen do not make a file that was cut off look whole.
        """
        capture = self.capture()
        capture.add(capture.interface("shop"), b"", struct.pack("<I", 16) * 5000)
        capture.flush()
        os.truncate(self.path, self.path.stat().st_size - 4000)
        self.fill(self.capture(keep=1), 1)
        self.assertEqual([data[:4] for data in self.read()], [bytes(4)])

    def test_tornByAnother(self) -> None:
        """
        The same holds for what another process has added behind us, who has died of that.
        """
        one, two = self.capture(), self.capture()
        self.fill(one, 2)
        two.add(two.interface("mail"), b"", struct.pack("<I", 16) * 5000)
        two.flush()
        os.truncate(self.path, self.path.stat().st_size - 4000)
        self.fill(one, 1)
        self.assertEqual([data[:4] for data in self.read()], [bytes(4)])
        self.assertTrue((self.folder / "shop.pcapng.1").exists())

    def test_walkedOnce(self) -> None:
        """
        A file is walked through once, and then only what another process has added.
        """
        self.fill(self.capture(), 100)
        read = os.pread
        seen: list[tuple[int, int]] = []

        def pread(descriptor: int, count: int, place: int) -> bytes:
            if count > 12:
                seen.append((place, count))
            return read(descriptor, count, place)

        self.patch(os, "pread", pread)
        one, two = self.capture(), self.capture()
        first = self.path.stat().st_size
        self.fill(one, 1)
        self.assertEqual(seen[0][0], 0)
        self.assertEqual(sum(seen[-1]), first)
        self.assertLess(max(count for _, count in seen), first)
        seen.clear()
        self.fill(one, 20)
        self.assertEqual(seen, [])
        self.fill(two, 1)
        seen.clear()
        middle = self.path.stat().st_size
        self.fill(one, 1)
        self.assertLess(sum(count for _, count in seen), 40000)
        self.assertEqual(sum(seen[-1]), middle)

    def test_anotherInItsPlace(self) -> None:
        """
        A file that was emptied and written anew by others is read from its beginning.
        """
        one, two = self.capture(), self.capture()
        self.fill(one, 1)
        for count in (0, 1, 5):
            os.truncate(self.path, 0)
            self.fill(two, count)
            two.add(two.interface("mail"), bytes(4))
            two.flush()
            self.fill(one, 1)
            self.assertEqual(self.files(), {"shop.pcapng": [*range(count), 0, 0]})

    def test_tooMuchToWalk(self) -> None:
        """
        A file that is too large to be walked through at once is put aside.
        """
        self.patch(module, "_MOST_WALKED", 50000)
        self.fill(self.capture(), 1)
        self.fill(self.capture(), 1)
        self.assertEqual(self.files(), {"shop.pcapng": [0, 0]})
        self.fill(self.capture(), 2)
        self.assertEqual(self.files(), {"shop.pcapng": [0, 1], "shop.pcapng.1": [0, 0]})

    def test_hugeBlock(self) -> None:
        """
        A block that is larger than any of ours is none that somebody means us to go on behind.
        """
        self.path.write_bytes(section("other") + packet(0, 0, bytes(1 << 20)))
        self.path.chmod(0o600)
        self.fill(self.capture(), 1)
        self.assertEqual([data[:4] for data in self.read()], [bytes(4)])

    def test_cannotRename(self) -> None:
        """
        Where a full file cannot be put aside, it stays as it is, and packets are lost.
        """
        capture = self.capture(LEAST, 1)
        self.fill(capture, 30)
        before = self.path.read_bytes()

        def rename(*paths: str) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        self.patch(os, "rename", rename)
        self.fill(capture, 30)
        self.assertEqual(self.path.read_bytes()[: len(before)], before)
        self.assertLessEqual(self.path.stat().st_size, LEAST)
        self.assertIn("Permission denied", self.log()[0])
        self.assertGreater(capture.lost, 0)


class SharingTests(CaptureCase):
    """
    All that name a file share what writes it.
    """

    def test_shared(self) -> None:
        """
        There is one for a file, however it is named, and the last who asks decides on its size.
        """
        first = captureAt(self.path, 1, 2)
        self.assertIs(first, captureAt(os.path.relpath(self.path), 3, 4))
        self.assertEqual((first.size, first.keep), (3, 4))
        (self.folder / "link").symlink_to(self.folder)
        self.assertIs(first, captureAt(str(self.folder / "link" / "shop.pcapng"), 3, 4))
        self.assertIsNot(first, captureAt(self.folder / "mail.pcapng", 3, 4))

    def test_forgotten(self) -> None:
        """
        What nobody uses any more is gone at once.
        """
        gc.disable()
        self.addCleanup(gc.enable)
        captureAt(self.path, 1, 2).begun = 5
        self.assertEqual(captureAt(self.path, 1, 2).begun, 0)
