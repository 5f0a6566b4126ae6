# -*- test-case-name: tests.test_dial_failures -*-
"""
Tests for L{tlsproxy.dial}: how dialing fails.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

from twisted.internet import error
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.dialing import DialCase, refusal
from tlsproxy.address import TCP, Endpoint, Unix


class FailureTests(DialCase):
    """
    Each way in which dialing fails has its sentence.
    """

    def assertSays(self, code: int, sentence: str) -> None:
        """
        An error of the kernel is told in these words.
        """
        dialing = self.dial(TCP("192.0.2.7", 443))
        self.straight.pop()[1].errback(refusal(code))
        self.assertEqual(f"the upstream 192.0.2.7:443 {sentence}", self.failed(dialing))

    def test_refused(self) -> None:
        """
        Nobody listens there.
        """
        self.assertSays(errno.ECONNREFUSED, "refuses connections")

    def test_noRoute(self) -> None:
        """
        No network or no host is there.
        """
        for code in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            self.assertSays(code, "cannot be reached: there is no route to it")

    def test_timedOut(self) -> None:
        """
        The kernel gave up.
        """
        self.assertSays(errno.ETIMEDOUT, "does not answer")

    def test_noDescriptors(self) -> None:
        """
        This process has too many files open.
        """
        self.assertSays(errno.EMFILE, "cannot be reached: this process has too many files open")

    def test_otherErrors(self) -> None:
        """
        Any other error is told in the kernel's words.
        """
        self.assertSays(errno.EADDRNOTAVAIL, "cannot be reached: Cannot assign requested address")

    def test_unresolvable(self) -> None:
        """
        The name does not resolve.
        """
        dialing = self.dial(TCP("nobody.example", 443))
        self.assertEqual("the upstream nobody.example:443 has a name that does not resolve", self.failed(dialing))

    def test_noName(self) -> None:
        """
        The name cannot be one.
        """
        dialing = self.dial(TCP("a..b", 443))
        self.assertEqual("the upstream a..b:443 has a name that no host can have", self.failed(dialing))

    def test_allRefuse(self) -> None:
        """
        None of the addresses of a name takes connections.
        """
        dialing = self.dial()
        self.open()[0].fail(refusal(errno.ECONNREFUSED))
        self.assertNoResult(dialing)
        self.reactor.advance(0.5)
        self.open()[0].fail(refusal(errno.ECONNREFUSED))
        self.reactor.advance(0.5)
        self.assertEqual("the upstream shop.example:443 refuses connections", self.failed(dialing))

    def test_endpointTimesOut(self) -> None:
        """
        An endpoint has a deadline of its own.
        """
        dialing = self.dial(Endpoint("tcp:host=shop.example:port=443"))
        self.open()[0].fail(error.TimeoutError())
        self.assertEqual("the upstream tcp:host=shop.example:port=443 does not answer", self.failed(dialing))

    def test_brokenOff(self) -> None:
        """
        An attempt that ends without a reason is told of without one, in one line.
        """
        dialing = self.dial(TCP4ClientEndpoint(self.reactor, "192.0.2.9", 443))
        self.open()[0].fail(error.ConnectError())
        sentence = self.failed(dialing)
        self.assertTrue(sentence.endswith(" cannot be reached: the attempt was broken off"), sentence)

    def test_noSuchSocket(self) -> None:
        """
        A Unix socket is missing.
        """
        dialing = self.dial(Unix("/nonexistent/socket"))
        self.reactor.advance(0)
        self.assertEqual(
            "the upstream unix:/nonexistent/socket cannot be reached: there is no such socket", self.failed(dialing)
        )

    def test_deadSocket(self) -> None:
        """
        Nobody listens on a Unix socket any more.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/socket"
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path)
            dialing = self.dial(Unix(path))
            self.reactor.advance(0)
            self.assertEqual(f"the upstream unix:{path} refuses connections", self.failed(dialing))

    def test_forbiddenSocket(self) -> None:
        """
        A Unix socket is somebody else's.
        """
        if os.geteuid() == 0:
            self.assertSays(errno.EACCES, "cannot be reached: we are not allowed to connect to it")
            return
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            path = f"{folder}/socket"
            listening.bind(path)
            listening.listen()
            Path(path).chmod(0)
            dialing = self.dial(Unix(path))
            self.reactor.advance(0)
            self.assertIn("we are not allowed to connect to it", self.failed(dialing))
