# -*- test-case-name: tests.logs.test_destinations -*-
"""
Tests for L{tlsproxy.logs.destinations}: lines get where they belong, or are lost, and nobody waits.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.logs.destinations import (
    FACILITIES,
    FileLog,
    StreamLog,
    SyslogLog,
    destinationFor,
    parseDestination,
)


class DestinationCase(SynchronousTestCase):
    """
    A test with a folder and a clock.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        # Trial's own folders may lie too deep for the path of a Unix socket.
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        self.folder = Path(short.name).resolve()
        self.path = self.folder / "proxy.log"
        self.now = 0.0
        self.complaints: list[str] = []

    def seconds(self) -> float:
        """
        Tell the time.
        """
        return self.now


class ParseTests(DestinationCase):
    """
    Tests for L{parseDestination} and L{destinationFor}.
    """

    def resolve(self, file: str) -> str:
        """
        Find a file in the folder.
        """
        return str(self.folder / file)

    def test_good(self) -> None:
        """
        Words stay, and files get their whole path.
        """
        for text in ("", "stdout", "stderr", "syslog", "syslog:local7"):
            self.assertEqual(text, parseDestination(text, self.resolve))
        self.assertEqual(str(self.path), parseDestination("proxy.log", self.resolve))
        self.assertEqual(str(self.folder / "stdout"), parseDestination("./stdout", self.resolve))

    def test_bad(self) -> None:
        """
        What cannot be a log is told.
        """
        for text, sentence in (
            ("syslog:lokal7", "'lokal7' is no facility of syslog: give one of daemon, user"),
            ("syslog:", "'' is no facility of syslog"),
            (".", f"{self.folder} is a folder: give the name of a file"),
            ("none/proxy.log", f"{self.folder}/none/proxy.log: there is no folder {self.folder}/none"),
        ):
            error = self.assertRaises(ValueError, parseDestination, text, self.resolve)
            self.assertIn(sentence, str(error))

    def test_made(self) -> None:
        """
        Each is opened as what it is.
        """
        complain = self.complaints.append
        self.assertIsInstance(destinationFor("stderr", complain), StreamLog)
        self.assertIsInstance(destinationFor("syslog", complain), SyslogLog)
        log = destinationFor(str(self.path), complain)
        self.addCleanup(log.close)
        self.assertIsInstance(log, FileLog)
        self.assertRaises(OSError, destinationFor, str(self.folder), complain)

    def test_facilities(self) -> None:
        """
        They go by the numbers of RFC 3164, section 4.1.1.
        """
        self.assertEqual((24, 8, 184), tuple(FACILITIES[name] for name in ("daemon", "user", "local7")))


class FileTests(DestinationCase):
    """
    Tests for L{FileLog}.
    """

    def log(self) -> FileLog:
        """
        Open one.
        """
        log = FileLog(str(self.path), self.complaints.append, self.seconds)
        self.addCleanup(log.close)
        return log

    def test_appends(self) -> None:
        """
        Lines are appended to what there is, and others of the group can read a new file.
        """
        self.path.write_text("before\n")
        log = self.log()
        log.write(b"one\n", 6)
        log.write(b"two\n", 6)
        self.assertEqual("before\none\ntwo\n", self.path.read_text())
        self.path.unlink()
        log.reopen()
        self.assertEqual(0, self.path.stat().st_mode & 0o137)

    def test_reopen(self) -> None:
        """
        After it was moved away, it is opened anew when told to.
        """
        log = self.log()
        log.write(b"one\n", 6)
        self.path.rename(self.folder / "old")
        log.write(b"two\n", 6)
        log.reopen()
        log.write(b"three\n", 6)
        self.assertEqual(("one\ntwo\n", "three\n"), ((self.folder / "old").read_text(), self.path.read_text()))

    def test_noticed(self) -> None:
        """
        Where nobody tells, it is noticed within a second, whether the file was moved, removed or replaced.
        """
        log = self.log()
        for step in (lambda: self.path.rename(self.folder / "old"), self.path.unlink, self._replace):
            log.write(b"one\n", 6)
            step()
            log.write(b"two\n", 6)
            self.now += 1
            log.write(b"three\n", 6)
            self.assertEqual("three\n", self.path.read_text())

    def _replace(self) -> None:
        new = self.folder / "new"
        new.touch()
        new.rename(self.path)

    def test_cannotBeOpenedAnew(self) -> None:
        """
        Where the new file cannot be opened, the old one is written to, and that is told.
        """
        log = self.log()
        self.path.rename(self.folder / "old")
        self.path.mkdir()
        self.now += 1
        log.write(b"one\n", 6)
        self.assertEqual("one\n", (self.folder / "old").read_text())
        (sentence,) = self.complaints
        self.assertIn(f"{self.path} cannot be opened anew, the log goes on in the old file: ", sentence)
        self.assertRaises(OSError, log.reopen)
        log.write(b"two\n", 6)
        self.assertEqual("one\ntwo\n", (self.folder / "old").read_text())

    def test_links(self) -> None:
        """
        A link in the place of the file is not followed, but one that was there from the start.
        """
        other = self.folder / "other"
        other.touch()
        log = self.log()
        self.path.rename(self.folder / "old")
        self.path.symlink_to(other)
        self.now += 1
        log.write(b"one\n", 6)
        self.assertRaises(OSError, log.reopen)
        log.write(b"two\n", 6)
        self.assertEqual(("", "one\ntwo\n"), (other.read_text(), (self.folder / "old").read_text()))
        self.assertEqual(1, len(self.complaints))
        linked = self.log()
        linked.reopen()
        linked.write(b"three\n", 6)
        self.assertEqual("three\n", other.read_text())

    def test_full(self) -> None:
        """
        On a full disk a line is lost with an error, and nothing else.
        """
        log = FileLog("/dev/full", self.complaints.append, self.seconds)
        self.addCleanup(log.close)
        error = self.assertRaises(OSError, log.write, b"one\n", 6)
        self.assertEqual(errno.ENOSPC, error.errno)

    def test_torn(self) -> None:
        """
        A line of which only a part fitted counts as lost, and the next one starts a line of its own.
        """
        log = self.log()
        write = os.write
        patch = self.patch(os, "write", lambda descriptor, line: write(descriptor, line[:2]))
        self.assertRaises(OSError, log.write, b"one\n", 6)
        patch.restore()
        log.write(b"two\n", 6)
        log.write(b"three\n", 6)
        self.assertEqual("on\ntwo\nthree\n", self.path.read_text())

    def test_pipe(self) -> None:
        """
        A pipe with a name is not waited for: where nobody reads, it cannot be opened, and a full one loses lines.
        """
        os.mkfifo(self.path)
        self.assertRaises(OSError, self.log)
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        log = self.log()
        line = b"x" * 4000 + b"\n"
        error = self.assertRaises(OSError, _fill, lambda: log.write(line, 6))
        self.assertIn(error.errno, (errno.EAGAIN, errno.ENOSPC))


def _fill(write: Callable[[], object]) -> None:
    for _ in range(10_000):
        write()


class StreamTests(DestinationCase):
    """
    Tests for L{StreamLog}.
    """

    def pair(self) -> tuple[int, int]:
        """
        Make a pipe.
        """
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        return ends

    def test_pipe(self) -> None:
        """
        Lines of any length arrive; a reader that does not keep up loses some; and when it reads again, the next line
        starts on its own.  Whoever shares the pipe finds it as it was.
        """
        reader, writer = self.pair()
        log = StreamLog(writer)
        log.write(b"x" * 10_000 + b"\n", 6)
        self.assertEqual(10_001, len(os.read(reader, 20_000)))
        error = self.assertRaises(OSError, _fill, lambda: log.write(b"y" * 5000 + b"\n", 6))
        self.assertEqual((errno.EAGAIN, "its reader does not keep up"), (error.errno, error.strerror))
        before = os.read(reader, 1 << 20)
        log.write(b"after\n", 6)
        rest = before + os.read(reader, 1 << 20)
        self.assertTrue(rest.endswith(b"y\nafter\n"), rest[-20:])
        self.assertTrue(os.get_blocking(writer))
        log.reopen()
        log.close()
        log.write(b"still\n", 6)

    def test_gone(self) -> None:
        """
        A reader that is gone is an error.
        """
        reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        log = StreamLog(writer)
        os.close(reader)
        self.assertRaises(BrokenPipeError, log.write, b"one\n", 6)

    def test_file(self) -> None:
        """
        What was put into a file by the shell goes there.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, descriptor)
        StreamLog(descriptor).write(b"x" * 10_000 + b"\n", 6)
        self.assertEqual(10_001, self.path.stat().st_size)


class SyslogTests(DestinationCase):
    """
    Tests for L{SyslogLog}.
    """

    def setUp(self) -> None:
        """
        Stand for syslog.
        """
        super().setUp()
        self.socket = self.folder / "log"
        self.receiver = self.received()
        self.log = SyslogLog(FACILITIES["daemon"], (str(self.folder / "none"), str(self.socket)), self.seconds)
        self.addCleanup(self.log.close)

    def received(self) -> socket.socket:
        """
        Listen as syslog does.
        """
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(receiver.close)
        receiver.bind(str(self.socket))
        return receiver

    def test_form(self) -> None:
        """
        A datagram has the priority, the time, who says it, and the line without its end; a line more is one more.
        """
        self.log.write("one é\n\ttwo\n".encode(), 3)
        for text in ("one é", "\ttwo"):
            self.assertRegex(
                self.receiver.recv(1000).decode(),
                rf"\A<27>[A-Z][a-z][a-z] [ 123]\d \d\d:\d\d:\d\d tlsproxy\[{os.getpid()}\]: {re.escape(text)}\Z",
            )
        self.assertRaises(BlockingIOError, self.receiver.recv, 1)

    def test_stalled(self) -> None:
        """
        A syslog that does not read is not waited for, and is served again when it reads.
        """
        error = self.assertRaises(OSError, _fill, lambda: self.log.write(b"one\n", 6))
        self.assertEqual((errno.EAGAIN, "syslog does not keep up"), (error.errno, error.strerror))
        self.receiver.recv(1000)
        self.log.write(b"two\n", 6)

    def test_restarted(self) -> None:
        """
        A syslog that was started anew is found at once.
        """
        self.log.write(b"one\n", 6)
        self.receiver.close()
        self.socket.unlink()
        self.receiver = self.received()
        self.log.write(b"two\n", 6)
        self.assertTrue(self.receiver.recv(1000).endswith(b" two"))

    def test_gone(self) -> None:
        """
        One that is not there is an error that names where it should be, it is looked for once a second, and found when
        it is there.
        """
        self.receiver.close()
        self.socket.unlink()
        first = self.assertRaises(OSError, self.log.write, b"one\n", 6)
        self.assertEqual(f"syslog cannot be reached at {self.folder}/none: No such file or directory", first.strerror)
        self.receiver = self.received()
        self.assertRaises(OSError, self.log.write, b"two\n", 6)
        self.now += 1
        self.log.write(b"three\n", 6)
        self.assertTrue(self.receiver.recv(1000).endswith(b" three"))

    def test_tooLong(self) -> None:
        """
        A line that is too long for a datagram is lost, and the next one is not.
        """
        self.log.write(b"one\n", 6)
        error = self.assertRaises(OSError, self.log.write, b"x" * 10_000_000, 6)
        self.assertEqual(errno.EMSGSIZE, error.errno)
        self.log.write(b"two\n", 6)
