"""
Tests for L{tlsproxy.wire.cookies}.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.dtlshellos import USUAL, body, cut, wholeHello
from tlsproxy.wire.cookies import Cookies
from tlsproxy.wire.dtlshello import DTLSHello, helloVerifyRequest, readHello, readStart

PEER = ("192.0.2.7", 50000)
LOCAL = ("198.51.100.1", 8443)


def counting() -> Callable[[int], bytes]:
    """
    Make what passes for random: other bytes at each call.
    """
    calls = iter(range(1, 256))
    return lambda size: bytes([next(calls)]) * size


class CookiesTests(SynchronousTestCase):
    """
    L{Cookies} knows its own.
    """

    def setUp(self) -> None:
        """
        Start at a time when a tick begins.
        """
        self.clock = Clock()
        self.clock.advance(30 * 1000)
        self.cookies = Cookies(counting(), self.clock.seconds)
        self.hello = readHello(wholeHello())

    def returned(self, cookie: bytes) -> DTLSHello:
        """
        Make the hello of the client that was given a cookie.
        """
        return readHello(wholeHello(body(cookie), sequence=1, recordSequence=1))

    def test_givenBack(self) -> None:
        """
        A client that gives its cookie back with the same hello is believed, and as often as it does.
        """
        cookie = self.cookies.make(PEER, LOCAL, self.hello)
        self.assertEqual(len(cookie), 32)
        for _ in range(2):
            self.assertTrue(self.cookies.holds(PEER, LOCAL, self.returned(cookie)))

    def test_fitsItsAnswer(self) -> None:
        """
        A cookie goes into a HelloVerifyRequest of 60 bytes.
        """
        self.assertEqual(len(helloVerifyRequest(self.hello, self.cookies.make(PEER, LOCAL, self.hello))), 60)

    def test_nothingIsKept(self) -> None:
        """
        Clients without cookies leave nothing behind.
        """
        self.cookies.make(PEER, LOCAL, self.hello)
        before = dict(vars(self.cookies))
        for port in range(1000):
            self.cookies.make(("192.0.2.8", port), LOCAL, self.hello)
        self.assertEqual(vars(self.cookies), before)

    def test_bound(self) -> None:
        """
        A cookie is no other client's, for no other address of ours, and for no other hello.
        """
        cookie = self.cookies.make(PEER, LOCAL, self.hello)
        hello = self.returned(cookie)
        for peer, local in (
            (("192.0.2.8", 50000), LOCAL),
            (("192.0.2.7", 50001), LOCAL),
            (PEER, ("198.51.100.2", 8443)),
            (PEER, ("198.51.100.1", 8444)),
            (LOCAL, PEER),
        ):
            self.assertFalse(self.cookies.holds(peer, local, hello), (peer, local))
        for other in (
            body(cookie, sessionID=b"x"),
            body(cookie, version=0xFEFF),
            body(cookie)[:2] + b"another random" + body(cookie)[16:],
        ):
            self.assertFalse(self.cookies.holds(PEER, LOCAL, readHello(wholeHello(other))))

    def test_restMayChange(self) -> None:
        """
        What follows the cookie may be another the second time, as padding is; of that a first fragment tells nothing.
        """
        cookie = self.cookies.make(PEER, LOCAL, self.hello)
        for more in ({"extensions": [*USUAL, (21, bytes(9))]}, {"cipherSuites": b"\xc0\x2f"}):
            self.assertTrue(self.cookies.holds(PEER, LOCAL, readHello(wholeHello(body(cookie, **more)))))

    def test_fragments(self) -> None:
        """
        A hello has the same cookie whether it comes whole or in fragments, as it may be cut when it has got one.
        """
        cookie = self.cookies.make(PEER, LOCAL, self.hello)
        self.assertEqual(self.cookies.make(PEER, LOCAL, readStart(cut(body(), [60])[0])), cookie)
        self.assertTrue(self.cookies.holds(PEER, LOCAL, readStart(cut(body(cookie), [90])[0])))
        other = body(cookie)[:2] + b"another random" + body(cookie)[16:]
        self.assertFalse(self.cookies.holds(PEER, LOCAL, readStart(cut(other, [90])[0])))

    def test_wrong(self) -> None:
        """
        A cookie that is changed, cut, prolonged or absent is none.
        """
        cookie = self.cookies.make(PEER, LOCAL, self.hello)
        for wrong in (b"", cookie[:-1], cookie + b"\0", bytes(32), bytes([cookie[0] ^ 1]) + cookie[1:]):
            self.assertFalse(self.cookies.holds(PEER, LOCAL, self.returned(wrong)))

    def test_anothers(self) -> None:
        """
        What another process made is none.
        """
        other = Cookies(os.urandom, self.clock.seconds)
        cookie = other.make(PEER, LOCAL, self.hello)
        self.assertFalse(self.cookies.holds(PEER, LOCAL, self.returned(cookie)))
        self.assertTrue(other.holds(PEER, LOCAL, self.returned(cookie)))

    @given(begun=st.floats(0, 29.9), later=st.floats(0, 100))
    def test_age(self, begun: float, later: float) -> None:
        """
        A cookie is good for 30 seconds at least, and for 60 at most.
        """
        clock = Clock()
        cookies = Cookies(counting(), clock.seconds)
        clock.advance(begun)
        hello = self.returned(cookies.make(PEER, LOCAL, self.hello))
        clock.advance(later)
        holds = cookies.holds(PEER, LOCAL, hello)
        if later <= 30:
            self.assertTrue(holds)
        if later >= 60:
            self.assertFalse(holds)

    def test_quiet(self) -> None:
        """
        After a time without clients, no old key is left that could have got known.
        """
        cookie = self.cookies.make(PEER, LOCAL, self.hello)
        self.clock.advance(90)
        self.assertFalse(self.cookies.holds(PEER, LOCAL, self.returned(cookie)))
        self.clock.advance(30)
        self.assertFalse(self.cookies.holds(PEER, LOCAL, self.returned(cookie)))

    def test_clockLeapsBack(self) -> None:
        """
        A clock that leaps back makes clients ask again, and no more than that.
        """
        now = [3000.0]
        cookies = Cookies(counting(), lambda: now[0])
        cookie = cookies.make(PEER, LOCAL, self.hello)
        now[0] = 100.0
        self.assertFalse(cookies.holds(PEER, LOCAL, self.returned(cookie)))
        again = cookies.make(PEER, LOCAL, self.hello)
        self.assertNotEqual(again, cookie)
        self.assertTrue(cookies.holds(PEER, LOCAL, self.returned(again)))

    @given(one=st.text(max_size=6), other=st.text(max_size=6))
    def test_addressesDoNotRunTogether(self, one: str, other: str) -> None:
        """
        Two pairs of addresses never make one cookie, wherever the border between them is.
        """
        hello = evolve(self.hello, cookie=b"")
        whole = one + other
        made = {self.cookies.make((whole[:n], 1), (whole[n:], 1), hello) for n in range(len(whole) + 1)}
        self.assertEqual(len(made), len(whole) + 1)
