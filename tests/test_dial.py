# -*- test-case-name: tests.test_dial -*-
"""
Tests for L{tlsproxy.dial}: what can be dialed, and what is remembered.
"""

from __future__ import annotations

import errno
import socket
import tempfile
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.dialing import SHOP, DialCase, assertNoGarbage, forget
from tlsproxy.address import TCP, Endpoint, Unix
from tlsproxy.end import End


class WhereTests(DialCase):
    """
    All that can be dialed.
    """

    def test_literals(self) -> None:
        """
        An address is dialed straight, and no resolver asked.
        """
        for host in ("192.0.2.7", "2001:db8::7", "fe80::1%lo"):
            dialing = self.dial(TCP(host, 443))
            self.assertEqual((host, 443), self.straight[-1].address)
            self.straight[-1].answer()
            self.assertEqual(host, self.host(dialing))
        self.assertEqual([], self.resolver.asked)

    def test_name(self) -> None:
        """
        A name is looked up, and the first address tried.
        """
        dialing = self.dial()
        self.assertEqual(["shop.example"], self.resolver.asked)
        (attempt,) = self.trying()
        self.assertEqual(("192.0.2.1", 443), attempt.address)
        self.assertNoResult(dialing)
        attempt.answer()
        self.done(dialing)

    def test_happyEyeballs(self) -> None:
        """
        The next address is tried soon after the first, and whoever answers first wins.
        """
        dialing = self.dial()
        self.reactor.advance(0.25)
        first, second = self.trying()
        self.assertEqual(("2001:db8::1", 443), second.address)
        second.answer()
        self.assertEqual("2001:db8::1", self.host(dialing))
        self.assertTrue(first.over)

    def test_lateResolver(self) -> None:
        """
        A resolver may take its time.
        """
        self.resolver.quick = False
        dialing = self.dial()
        self.reactor.advance(3)
        self.assertEqual([], self.straight)
        self.resolver.answer()
        self.trying()[0].answer()
        self.assertEqual("192.0.2.1", self.host(dialing))

    def test_otherAlphabets(self) -> None:
        """
        The resolver gets the form of a name that DNS knows.
        """
        self.resolver.known["xn--bcher-kva.example"] = ["192.0.2.3"]
        dialing = self.dial(TCP("bücher.example", 443))
        self.trying()[0].answer()
        self.assertEqual("192.0.2.3", self.host(dialing))

    def test_port(self) -> None:
        """
        A bare port is one of this host's.
        """
        self.resolver.known["localhost"] = ["127.0.0.1"]
        dialing = self.dial(TCP("", 8080))
        self.assertEqual(("127.0.0.1", 8080), self.trying()[0].address)
        self.trying()[0].answer()
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


class LookUpTests(DialCase):
    """
    L{tlsproxy.dial.Dialer.lookUp}
    """

    def lookUp(self, host: str) -> Sequence[str]:
        """
        Look up a host.
        """
        return tuple(self.successResultOf(Deferred.fromCoroutine(self.dialer.lookUp(TCP(host, 443)))))

    def test_literal(self) -> None:
        """
        An address is its own.
        """
        for host in ("192.0.2.7", "2001:db8::7", "fe80::1%lo"):
            self.assertEqual((host,), self.lookUp(host))
        self.assertEqual([], self.resolver.asked)

    def test_name(self) -> None:
        """
        A name has those that the resolver tells.
        """
        self.assertEqual(("192.0.2.1", "2001:db8::1"), self.lookUp("shop.example"))

    def test_noHost(self) -> None:
        """
        No host is this one.
        """
        self.resolver.known["localhost"] = ["::1", "127.0.0.1"]
        self.assertEqual(("::1", "127.0.0.1"), self.lookUp(""))

    def test_shared(self) -> None:
        """
        Sessions that want one name at the same time have it looked up once; each dials for itself.
        """
        self.resolver.quick = False
        dialing = [self.dial() for _ in range(3)]
        self.assertEqual(["shop.example"], self.resolver.asked)
        dialing[1].cancel()
        self.failureResultOf(dialing[1], CancelledError)
        self.resolver.answer()
        self.assertEqual(2, len(self.trying()))
        for one in (dialing[0], dialing[2]):
            self.trying()[0].answer()
            self.assertEqual("192.0.2.1", self.host(one))
        self.assertIsNot(self.ends[0], self.ends[1])


class DialAddressesTests(DialCase):
    """
    L{tlsproxy.dial.Dialer.dialAddresses}: what was checked is what is dialed.
    """

    def dialAddresses(self, *addresses: str, where: TCP = SHOP) -> Deferred[End]:
        """
        Begin to dial some addresses.
        """
        return Deferred.fromCoroutine(self.dialer.dialAddresses(where, addresses))

    def test_onlyThese(self) -> None:
        """
        No other address is dialed, whatever the name resolves to, and the name is not even looked up.
        """
        self.remember("192.0.2.1", "192.0.2.2", "192.0.2.3")
        self.resolver.asked.clear()
        dialing = self.dialAddresses("192.0.2.8", "192.0.2.9")
        for expected in ("192.0.2.8", "192.0.2.9"):
            (attempt,) = self.trying()
            self.assertEqual((expected, 443), attempt.address)
            attempt.refuse()
            self.reactor.advance(0)
        self.failed(dialing)
        self.assertEqual(["192.0.2.8", "192.0.2.9"], self.tried())
        self.assertEqual([], self.resolver.asked)

    def test_notAgain(self) -> None:
        """
        They are dialed once only: were the name looked up anew, nobody would have checked what it is now.
        """
        self.remember("192.0.2.1")
        self.resolver.known["shop.example"] = ["127.0.0.1"]
        dialing = self.dialAddresses("192.0.2.1")
        self.trying()[0].refuse()
        self.assertEqual("the upstream shop.example:443 refuses connections", self.failed(dialing))
        self.assertEqual(["192.0.2.1"], self.tried())

    def test_notLearned(self) -> None:
        """
        An address that the resolver has not told becomes none of the name's, though it answers.
        """
        self.remember("192.0.2.1", "192.0.2.2")
        dialing = self.dialAddresses("192.0.2.8", "192.0.2.9")
        self.trying()[0].answer()
        self.assertEqual("192.0.2.8", self.host(dialing))
        self.assertEqual(
            ("192.0.2.1", "192.0.2.2"), self.successResultOf(Deferred.fromCoroutine(self.dialer.lookUp(SHOP)))
        )

    def test_preferred(self) -> None:
        """
        Of those that it has told, the one that answered comes first next time.
        """
        self.remember("192.0.2.1", "192.0.2.2", "192.0.2.3")
        dialing = self.dialAddresses("192.0.2.1", "192.0.2.3")
        self.trying()[0].refuse()
        self.reactor.advance(0)
        self.trying()[0].answer()
        self.assertEqual("192.0.2.3", self.host(dialing))
        self.assertEqual(
            ("192.0.2.3", "192.0.2.1", "192.0.2.2"),
            tuple(self.successResultOf(Deferred.fromCoroutine(self.dialer.lookUp(SHOP)))),
        )

    def test_forgotten(self) -> None:
        """
        When none answers, or nobody waits any more, the name is looked up anew next time.
        """
        for end in ("refused", "cancelled"):
            self.remember("192.0.2.1")
            self.resolver.asked.clear()
            dialing = self.dialAddresses("192.0.2.1")
            if end == "refused":
                self.trying()[0].refuse()
                self.failed(dialing)
            else:
                dialing.cancel()
                self.failureResultOf(dialing, CancelledError)
            self.successResultOf(Deferred.fromCoroutine(self.dialer.lookUp(SHOP)))
            self.assertEqual(["shop.example"], self.resolver.asked, end)

    def test_literal(self) -> None:
        """
        The target may have been an address all along.
        """
        where = TCP("192.0.2.7", 443)
        dialing = self.dialAddresses("192.0.2.7", where=where)
        self.trying()[0].refuse()
        self.assertEqual("the upstream 192.0.2.7:443 refuses connections", self.failed(dialing))


class RememberingTests(DialCase):
    """
    The addresses of a name.
    """

    def test_remembered(self) -> None:
        """
        They are used again for half a minute, for all ports.
        """
        self.remember("192.0.2.1")
        self.reactor.advance(29)
        for port in (443, 80):
            dialing = self.dial(TCP("shop.example", port))
            self.assertEqual(("192.0.2.1", port), self.trying()[0].address)
            self.trying()[0].answer()
            self.done(dialing)
        self.assertEqual(["shop.example"], self.resolver.asked)
        self.reactor.advance(1)
        self.dial().addErrback(lambda _: None).cancel()
        self.assertEqual(["shop.example"] * 2, self.resolver.asked)

    def test_preferred(self) -> None:
        """
        The one that answered is tried first next time.
        """
        dialing = self.dial()
        self.reactor.advance(0.25)
        self.trying()[1].answer()
        self.assertEqual("2001:db8::1", self.host(dialing))
        again = self.dial()
        self.assertEqual("2001:db8::1", self.trying()[0].address[0])
        self.trying()[0].answer()
        self.assertEqual("2001:db8::1", self.host(again))
        self.assertEqual(["shop.example"], self.resolver.asked)

    def test_outOfDate(self) -> None:
        """
        When all refuse they are looked up anew, and dialed within the same call.
        """
        for name, asked in (("shop.example", "shop.example"), ("bücher.example.", "xn--bcher-kva.example")):
            where = TCP(name, 443)
            self.resolver.known[asked] = ["192.0.2.1", "192.0.2.2"]
            self.successResultOf(Deferred.fromCoroutine(self.dialer.lookUp(where)))
            self.resolver.known[asked] = ["192.0.2.3"]
            dialing = self.dial(where)
            for _ in range(2):
                self.trying()[0].refuse()
                self.reactor.advance(0)
            self.assertEqual(("192.0.2.3", 443), self.trying()[0].address)
            self.trying()[0].answer()
            self.assertEqual("192.0.2.3", self.host(dialing))
            again = self.dial(where)
            self.trying()[0].answer()
            self.assertEqual("192.0.2.3", self.host(again))

    def test_outOfDateOnce(self) -> None:
        """
        But only once; and what has just been looked up is not looked up again.
        """
        self.atOnce = {"192.0.2.1": errno.ECONNREFUSED}
        self.remember("192.0.2.1")
        for asked in (2, 3):
            self.failed(self.dial())
            self.assertEqual(["shop.example"] * asked, self.resolver.asked)
        self.assertEqual(["192.0.2.1"] * 3, self.tried())

    def test_gone(self) -> None:
        """
        A name that no longer resolves is told to be one.
        """
        self.remember("192.0.2.1")
        del self.resolver.known["shop.example"]
        dialing = self.dial()
        self.trying()[0].refuse()
        self.assertEqual("the upstream shop.example:443 has a name that does not resolve", self.failed(dialing))

    def test_cancelled(self) -> None:
        """
        When dialing is cancelled they are forgotten, too, and nothing is dialed any more.
        """
        self.remember("192.0.2.1")
        dialing = self.dial()
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.assertEqual([], self.trying())
        self.assertEqual(["shop.example"], self.resolver.asked)
        self.resolver.known["shop.example"] = ["192.0.2.2"]
        again = self.dial()
        self.trying()[0].answer()
        self.assertEqual("192.0.2.2", self.host(again))

    def test_freed(self) -> None:
        """
        Dialing leaves nothing to the cycle collector, whatever comes of it.
        """

        def work() -> None:
            answered, cancelled = self.dial(), self.dial()
            self.reactor.advance(0.25)
            self.trying()[2].answer()
            self.done(answered)
            cancelled.cancel()
            self.remember("192.0.2.1")
            refused = self.dial()
            for _ in range(2):
                self.trying()[0].refuse()
            for one in (cancelled, refused):
                one.addErrback(forget)
                self.assertIsNone(self.successResultOf(one))
            self.hangUp()
            self.straight.clear()
            self.resolver.known["shop.example"] = ["192.0.2.1", "2001:db8::1"]

        assertNoGarbage(self, work)
