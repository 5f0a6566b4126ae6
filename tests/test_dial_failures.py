# -*- test-case-name: tests.test_dial_failures -*-
"""
Tests for L{tlsproxy.dial}: how dialing fails, and how it is cancelled.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tests.dialing import DialCase, refusal
from tlsproxy.address import TCP, UDP, Endpoint, Unix
from tlsproxy.end import End
from tlsproxy.errors import DialFailed
from tlsproxy.testing.socketreactor import connect, unixPair


class FailureTests(DialCase):
    """
    Each way in which dialing fails has its sentence.
    """

    def assertSays(self, code: int, sentence: str) -> None:
        """
        An error of the kernel is told in these words.
        """
        dialing = self.dial(TCP("192.0.2.7", 443))
        self.trying()[0].refuse(code)
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

    def test_datagrams(self) -> None:
        """
        A stream cannot be dialed where datagrams go.
        """
        dialing = self.dial(UDP("192.0.2.7", 443))
        self.assertEqual("the upstream udp:192.0.2.7:443 takes datagrams, and not a stream", self.failed(dialing))

    def test_noDescriptors(self) -> None:
        """
        This process has too many files open.
        """
        self.assertSays(errno.EMFILE, "cannot be reached: too many files are open")

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
        for host in ("a..b", f"{'a' * 64}.example", "\u200d.example", "localhost\0.example"):
            dialing = self.dial(TCP(host, 443))
            self.assertEqual(f"the upstream {host}:443 has a name that no host can have", self.failed(dialing))
        self.assertEqual(([], []), (self.resolver.asked, self.straight))

    def test_allRefuse(self) -> None:
        """
        None of the addresses of a name takes connections.
        """
        dialing = self.dial()
        for _ in range(2):
            self.assertNoResult(dialing)
            self.trying()[0].refuse()
            self.reactor.advance(0)
        self.assertEqual("the upstream shop.example:443 refuses connections", self.failed(dialing))

    def test_mostWanted(self) -> None:
        """
        What is told is what became of the address that the name's owner wants most, even if it is the last to fail.
        """
        dialing = self.dial()
        self.reactor.advance(0.25)
        self.trying()[1].refuse(errno.ENETUNREACH)
        self.reactor.advance(0)
        self.trying()[0].refuse()
        self.assertEqual("the upstream shop.example:443 refuses connections", self.failed(dialing))

    def test_noRouteAtAll(self) -> None:
        """
        This machine has no network.
        """
        self.atOnce = {"192.0.2.1": errno.ENETUNREACH, "2001:db8::1": errno.ENETUNREACH}
        dialing = self.dial()
        self.reactor.pump()
        self.assertEqual(
            "the upstream shop.example:443 cannot be reached: there is no route to it", self.failed(dialing)
        )

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


class TimedOutTests(DialCase):
    """
    Who asked for the upstream can be told that it is the upstream that takes too long.
    """

    def assertTimedOut(self, expected: bool, dialing: Deferred[End]) -> None:
        """
        Dialing has failed, and it is known whether that is because there is no answer.
        """
        problem = self.failureResultOf(dialing, DialFailed).value
        self.assertEqual((504 if expected else 502, expected), (problem.status, "does not answer" in str(problem)))

    def test_kernel(self) -> None:
        """
        The kernel gave up on an address.
        """
        dialing = self.dial(TCP("192.0.2.7", 443))
        self.trying()[0].refuse(errno.ETIMEDOUT)
        self.assertTimedOut(True, dialing)

    def test_name(self) -> None:
        """
        Or on the most wanted address of a name.
        """
        dialing = self.dial()
        self.trying()[0].refuse(errno.ETIMEDOUT)
        self.reactor.advance(0)
        self.trying()[0].refuse()
        self.assertTimedOut(True, dialing)

    def test_endpoint(self) -> None:
        """
        So did an endpoint.
        """
        for problem in (error.TimeoutError(), refusal(errno.ETIMEDOUT)):
            dialing = self.dial(TCP4ClientEndpoint(self.reactor, "192.0.2.9", 443))
            self.open()[0].fail(problem)
            self.assertTimedOut(True, dialing)

    def test_noDescriptors(self) -> None:
        """
        Where we lack descriptors, that is nothing that the upstream did.
        """
        for code in (errno.EMFILE, errno.ENFILE):
            dialing = self.dial(TCP("192.0.2.7", 443))
            self.trying()[0].refuse(code)
            self.assertEqual(503, self.failureResultOf(dialing, DialFailed).value.status)

    def test_others(self) -> None:
        """
        Everything else is something else.
        """
        for code in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
            dialing = self.dial(TCP("192.0.2.7", 443))
            self.trying()[0].refuse(code)
            self.assertTimedOut(False, dialing)
        for host in ("nobody.example", "a..b"):
            self.assertTimedOut(False, self.dial(TCP(host, 443)))


class CancellingTests(DialCase):
    """
    A caller whose deadline has passed cancels, and nothing goes on.
    """

    def test_literal(self) -> None:
        """
        An attempt at an address is cancelled.
        """
        dialing = self.dial(TCP("192.0.2.7", 443))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)

    def test_name(self) -> None:
        """
        All attempts at the addresses of a name are cancelled.
        """
        dialing = self.dial()
        self.reactor.advance(0.25)
        self.assertEqual(2, len(self.trying()))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.assertNothingLeft()

    def test_lookingUpAnew(self) -> None:
        """
        So is looking up anew what was out of date.
        """
        self.remember("192.0.2.1")
        self.resolver.quick = False
        dialing = self.dial()
        self.trying()[0].refuse()
        self.assertNoResult(dialing)
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.resolver.answer()
        self.assertNothingLeft()

    def test_anew(self) -> None:
        """
        So are the attempts at what was looked up anew.
        """
        self.remember("192.0.2.1")
        dialing = self.dial()
        self.resolver.known["shop.example"] = ["192.0.2.2", "192.0.2.3"]
        self.trying()[0].refuse()
        self.reactor.advance(0.25)
        self.assertEqual(2, len(self.trying()))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.assertNothingLeft()

    def test_resolving(self) -> None:
        """
        A name that is being looked up is no longer waited for, and nothing is dialed when its addresses come.
        """
        self.resolver.quick = False
        dialing = self.dial()
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.resolver.answer()
        self.assertEqual([], self.straight)

    def test_unix(self) -> None:
        """
        A Unix socket is no longer tried.
        """
        dialing = self.dial(Unix("/nonexistent/socket"))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.reactor.advance(0)

    def test_endpoint(self) -> None:
        """
        Nor is an endpoint.
        """
        dialing = self.dial(TCP4ClientEndpoint(self.reactor, "192.0.2.9", 443))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.assertEqual([], self.open())

    def test_heedless(self) -> None:
        """
        An endpoint that connects all the same has its connection closed.
        """
        waiting: list[Any] = []

        @implementer(IStreamClientEndpoint)
        class Heedless:
            def connect(self, factory: Any) -> Deferred[Any]:
                """
                Never mind the cancellation.
                """
                waiting.append(factory)
                return Deferred()

        dialing = self.dial(Heedless())
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        ours, theirs = unixPair()
        self.addCleanup(theirs.close)
        connect(self.reactor, waiting[0].buildProtocol(None), ours)
        self.reactor.advance(0)
        self.assertEqual(-1, ours.fileno())
