# -*- test-case-name: tests.test_sdnotify -*-
"""
L{tlsproxy.sdnotify}: telling systemd how the process is.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.sdnotify import Notifier, now


class NotifierTests(SynchronousTestCase):
    """
    A socket stands for systemd.
    """

    def setUp(self) -> None:
        """
        Listen, and watch the log.
        """
        short = tempfile.TemporaryDirectory()
        self.addCleanup(short.cleanup)
        self.path = str(Path(short.name) / "notify")
        self.systemd = self.listen(self.path)
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    def listen(self, address: str) -> socket.socket:
        """
        Stand for systemd.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(address)
        sock.setblocking(False)
        return sock

    def notifier(self, **environ: str) -> Notifier:
        """
        Make one of an environment, of which nothing is left.
        """
        notifier = Notifier(environ)
        self.assertEqual({}, environ)
        self.addCleanup(notifier.close)
        return notifier

    def test_tell(self) -> None:
        """
        What is told together comes in one message, a line each.
        """
        notifier = self.notifier(NOTIFY_SOCKET=self.path)
        notifier.tell("READY=1", "STATUS=one\nline")
        notifier.tell("WATCHDOG=1")
        self.assertEqual([b"READY=1\nSTATUS=one line", b"WATCHDOG=1"], [self.systemd.recv(99) for _ in range(2)])

    def test_abstract(self) -> None:
        """
        An address may be one that is no file.
        """
        name = f"tlsproxy-test-{os.getpid()}"
        systemd = self.listen(f"\0{name}")
        self.notifier(NOTIFY_SOCKET=f"@{name}").tell("READY=1")
        self.assertEqual(b"READY=1", systemd.recv(99))

    def test_nobody(self) -> None:
        """
        Where nobody wants to be told, nobody is, and nothing is logged.
        """
        for environ in ({}, {"WATCHDOG_USEC": "1000"}):
            notifier = self.notifier(**environ)
            notifier.tell("READY=1")
            self.assertEqual((0, 0), (notifier.watchdog, len(self.events)))

    def test_watchdog(self) -> None:
        """
        It wants to hear of us in a certain time, and does twice in it; but not where another process is meant.
        """
        for words, seconds in (
            ({"WATCHDOG_USEC": "10000000"}, 5.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 5.0),
            ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, 0.0),
            ({"WATCHDOG_USEC": "-1"}, 0.0),
            ({"WATCHDOG_USEC": "soon"}, 0.0),
            ({}, 0.0),
        ):
            self.assertEqual(seconds, self.notifier(NOTIFY_SOCKET=self.path, **words).watchdog)

    def test_cannot(self) -> None:
        """
        An address where nobody is, or that is none, is told once, and harms nothing.
        """
        for number, path in enumerate((self.path + "x", "vsock:2:1", "x" * 500, "a\0b"), 1):
            notifier = self.notifier(NOTIFY_SOCKET=path)
            notifier.tell("READY=1")
            notifier.tell("READY=1")
            self.assertEqual(number, len(self.events))
            self.assertIn("NOTIFY_SOCKET", self.events[-1]["log_format"])

    def test_gone(self) -> None:
        """
        When it is gone, that is told once.
        """
        notifier = self.notifier(NOTIFY_SOCKET=self.path)
        self.systemd.close()
        for _ in range(3):
            notifier.tell("READY=1")
        self.assertEqual(1, len(self.events))

    def test_full(self) -> None:
        """
        Where it does not read, nobody waits for it, and what it has no room for is lost.
        """
        notifier = self.notifier(NOTIFY_SOCKET=self.path)
        for _ in range(2000):
            notifier.tell("STATUS=" + "x" * 1000)
        self.assertEqual(0, len(self.events))
        while True:
            try:
                self.systemd.recv(2000)
            except BlockingIOError:
                break
        notifier.tell("READY=1")
        self.assertEqual(b"READY=1", self.systemd.recv(99))

    def test_now(self) -> None:
        """
        The time is that of the monotonic clock.
        """
        key, _, microseconds = now().partition("=")
        self.assertEqual("MONOTONIC_USEC", key)
        self.assertTrue(0 <= time.monotonic() - int(microseconds) / 1e6 < 60)
