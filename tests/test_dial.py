# -*- test-case-name: tests.test_dial -*-
"""
Tests for L{tlsproxy.dial}: what can be dialed, and what is remembered.
"""

from __future__ import annotations

import errno
import socket
import tempfile

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.dialing import DialCase, refusal
from tlsproxy.address import TCP, Endpoint, Unix


class AddressTests(DialCase):
    """
    All that can be dialed.
    """

    def test_literals(self) -> None:
        """
        An address is dialed straight, and no resolver asked.
        """
        for host in ("192.0.2.7", "2001:db8::7", "fe80::1%lo"):
            dialing = self.dial(TCP(host, 443))
            (address, answer) = self.straight.pop()
            self.assertEqual((host, 443), address)
            answer.callback(None)
            self.done(dialing)
        self.assertEqual([], self.resolver.asked)

    def test_name(self) -> None:
        """
        A name is resolved by the reactor's resolver, and the first address tried.
        """
        dialing = self.dial()
        self.assertEqual(["shop.example"], self.resolver.asked)
        (attempt,) = self.open()
        self.assertEqual(("192.0.2.1", 443), attempt.address)
        self.assertNoResult(dialing)
        attempt.answer()
        self.done(dialing)

    def test_happyEyeballs(self) -> None:
        """
        The next address is tried soon after the first, and whoever answers first wins.
        """
        dialing = self.dial()
        self.reactor.advance(0.5)
        first, second = self.open()
        self.assertEqual(("2001:db8::1", 443), second.address)
        second.answer()
        self.assertEqual("2001:db8::1", self.done(dialing).peer().host)  # type: ignore[attr-defined]
        self.assertTrue(first.over)

    def test_port(self) -> None:
        """
        A bare port is one of this host's.
        """
        self.resolver.known["localhost"] = ["127.0.0.1"]
        dialing = self.dial(TCP("", 8080))
        self.assertEqual(("127.0.0.1", 8080), self.open()[0].address)
        self.open()[0].answer()
        self.done(dialing)

    def test_unix(self) -> None:
        """
        A Unix socket is dialed by its path.
        """
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
            path = f"{folder}/socket"
            listening.bind(path)
            listening.listen()
            dialing = self.dial(Unix(path))
            self.reactor.advance(0)
            self.done(dialing)

    def test_endpointString(self) -> None:
        """
        So is a Twisted endpoint by its string.
        """
        dialing = self.dial(Endpoint("tcp:host=shop.example:port=443:timeout=3"))
        self.assertEqual(("shop.example", 443), self.open()[0].address)
        self.open()[0].answer()
        self.done(dialing)

    def test_endpoint(self) -> None:
        """
        Or the endpoint itself.
        """
        dialing = self.dial(TCP4ClientEndpoint(self.reactor, "192.0.2.9", 443))
        self.assertEqual(("192.0.2.9", 443), self.open()[0].address)
        self.open()[0].answer()
        self.done(dialing)


class RememberingTests(DialCase):
    """
    The address that answered for a name.
    """

    def test_remembered(self) -> None:
        """
        It is dialed straight for half a minute, in either family; another port of the name is another thing.
        """
        for address in ("192.0.2.1", "2001:db8::1"):
            self.remember(address)
            self.reactor.advance(29)
            dialing = self.dial()
            (where, answer) = self.straight.pop()
            self.assertEqual((address, 443), where)
            answer.callback(None)
            self.done(dialing)
            self.reactor.advance(2)
        self.remember()
        other = self.dial(TCP("shop.example", 80))
        self.assertEqual([], self.straight)
        self.open()[0].answer()
        self.done(other)
        self.assertEqual(["shop.example"] * 4, self.resolver.asked)

    def test_refuses(self) -> None:
        """
        When it refuses it is forgotten, and the full way is tried within the same call.
        """
        self.remember()
        self.resolver.known["shop.example"] = ["192.0.2.2"]
        dialing = self.dial()
        self.straight.pop()[1].errback(refusal(errno.ECONNREFUSED))
        self.assertEqual(("192.0.2.2", 443), self.open()[0].address)
        self.open()[0].answer()
        self.done(dialing)
        again = self.dial()
        (where, answer) = self.straight.pop()
        self.assertEqual(("192.0.2.2", 443), where)
        answer.callback(None)
        self.done(again)

    def test_cancelled(self) -> None:
        """
        When the attempt is cancelled it is forgotten, too: the next call tries all addresses.
        """
        self.remember()
        dialing = self.dial()
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        again = self.dial()
        self.assertEqual(1, len(self.open()))
        self.open()[0].answer()
        self.done(again)

    def test_bounded(self) -> None:
        """
        The names that are remembered are bounded in number.
        """
        for index in range(1030):
            self.resolver.known[f"{index}.example"] = ["192.0.2.1"]
            dialing = self.dial(TCP(f"{index}.example", 443))
            self.open()[0].answer()
            self.done(dialing).finish()
            self.reactor.advance(0)
            self.reactor.sockets.pop().close()
        self.assertLessEqual(len(self.dialer._known), 1024)


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
        self.reactor.advance(0.5)
        self.assertEqual(2, len(self.open()))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.assertEqual([], self.open())

    def test_resolving(self) -> None:
        """
        A name that is being resolved is no longer waited for.
        """
        self.resolver.quick = False
        dialing = self.dial()
        dialing.cancel()
        self.failureResultOf(dialing)
        self.assertEqual([], self.reactor.attempts)

    def test_unix(self) -> None:
        """
        A Unix socket is no longer tried.
        """
        dialing = self.dial(Unix("/nonexistent/socket"))
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.reactor.advance(0)
