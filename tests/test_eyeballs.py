# -*- test-case-name: tests.test_eyeballs -*-
"""
Tests for L{tlsproxy.eyeballs}.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.dialing import ConnectCase, assertNoGarbage, forget
from tests.test_connecting import Sockets
from tlsproxy import connecting
from tlsproxy.end import End
from tlsproxy.eyeballs import connectFirst, inTurn
from tlsproxy.testing.socketreactor import SocketReactor

V4 = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
V6 = ("2001:db8::1", "2001:db8::2", "2001:db8::3")


class InTurnTests(SynchronousTestCase):
    """
    L{inTurn}
    """

    def test_turns(self) -> None:
        """
        The families take turns, and the first address stays the first.
        """
        self.assertEqual([V6[0], V4[0], V6[1], V4[1], V6[2], V4[2]], inTurn([*V6, *V4]))
        self.assertEqual([V4[0], V6[0], V4[1], V6[1]], inTurn([V4[0], V4[1], V6[0], V6[1]]))

    def test_oneIsMore(self) -> None:
        """
        What one family has more of comes last.
        """
        self.assertEqual([V6[0], V4[0], V6[1], V6[2]], inTurn([*V6, V4[0]]))
        self.assertEqual([V6[0], V4[0], V4[1], V4[2]], inTurn([V6[0], *V4]))

    def test_oneFamily(self) -> None:
        """
        One family keeps its order.
        """
        for addresses in (V4, V6, V4[:1]):
            self.assertEqual(list(addresses), inTurn(addresses))

    @given(st.lists(st.sampled_from([*V4, *V6]), min_size=1))
    def test_all(self, addresses: Sequence[str]) -> None:
        """
        Whatever the addresses, all are there, and those of a family in their order.
        """
        turns = inTurn(addresses)
        self.assertEqual(Counter(addresses), Counter(turns))
        self.assertEqual(addresses[0], turns[0])
        for family in (V4, V6):
            self.assertEqual([one for one in addresses if one in family], [one for one in turns if one in family])


class RaceCase(ConnectCase):
    """
    Addresses that answer when a test says so.
    """

    def begin(self, *addresses: str) -> Deferred[End]:
        """
        Begin to connect.
        """
        return Deferred.fromCoroutine(connectFirst(self.reactor, addresses, 443))

    def under(self) -> list[str]:
        """
        Tell the addresses that are being tried.
        """
        return [attempt.address[0] for attempt in self.trying()]

    def refused(self, connecting: Deferred[End]) -> int:
        """
        Tell the kernel's number of the error that it came to.
        """
        code = self.failureResultOf(connecting, error.ConnectError).value.osError
        assert isinstance(code, int)
        return code


class RaceTests(RaceCase):
    """
    L{connectFirst}
    """

    def test_one(self) -> None:
        """
        A single address is dialed, and there is nothing to wait for but its answer.
        """
        connecting = self.begin(V4[0])
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual((V4[0], 443), self.straight[0].address)
        self.straight[0].answer()
        self.assertEqual(V4[0], self.host(connecting))

    def test_atOnce(self) -> None:
        """
        When the first address answers at once no other is tried.
        """
        self.atOnce[V6[0]] = 0
        connecting = self.begin(V6[0], V4[0])
        self.assertEqual([], self.reactor.getDelayedCalls())
        self.assertEqual(V6[0], self.host(connecting))
        self.assertEqual([V6[0]], self.tried())

    def test_delay(self) -> None:
        """
        Each quarter of a second without an answer another address is tried, and those before it still may answer.
        """
        connecting = self.begin(*V6, V4[0])
        expected = [V6[0]]
        for following in (V4[0], V6[1], V6[2]):
            self.reactor.advance(0.24)
            self.assertEqual(expected, self.under())
            self.reactor.advance(0.01)
            expected.append(following)
            self.assertEqual(expected, self.under())
        self.reactor.advance(60)
        self.assertEqual(expected, self.under())
        self.trying()[1].answer()
        self.assertEqual(V4[0], self.host(connecting))
        self.assertEqual([], self.under())

    def test_refused(self) -> None:
        """
        When an address fails the next is tried at once, and has its quarter of a second.
        """
        connecting = self.begin(*V4)
        self.reactor.advance(0.2)
        self.trying()[0].refuse()
        self.reactor.advance(0)
        self.assertEqual([V4[1]], self.under())
        self.reactor.advance(0.24)
        self.assertEqual([V4[1]], self.under())
        self.reactor.advance(0.01)
        self.assertEqual([V4[1], V4[2]], self.under())
        self.trying()[1].answer()
        self.assertEqual(V4[2], self.host(connecting))

    def test_lastIsSlow(self) -> None:
        """
        That the last address fails ends nothing while an earlier one may still answer.
        """
        connecting = self.begin(V6[0], V4[0])
        self.reactor.advance(0.25)
        self.trying()[1].refuse()
        self.reactor.advance(10)
        self.assertNoResult(connecting)
        self.trying()[0].answer()
        self.assertEqual(V6[0], self.host(connecting))

    def test_winner(self) -> None:
        """
        The first that answers calls off all others, and no further address is tried.
        """
        connecting = self.begin(*V4)
        self.reactor.advance(0.25)
        self.trying()[1].answer()
        self.assertEqual(V4[1], self.host(connecting))
        self.assertNothingCalledBack()

    def test_cancelled(self) -> None:
        """
        Who does not want to wait any longer stops all attempts, and no further address is tried.
        """
        connecting = self.begin(*V4)
        self.reactor.advance(0.25)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertNothingCalledBack()

    def test_cancelledAfterFailures(self) -> None:
        """
        That some addresses have failed before makes no difference.
        """
        connecting = self.begin(*V4)
        self.trying()[0].refuse()
        self.reactor.advance(0)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertNothingCalledBack()

    def test_cancelledOne(self) -> None:
        """
        Nor is a single address waited for.
        """
        connecting = self.begin(V4[0])
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertNothingCalledBack()

    def assertNothingCalledBack(self) -> None:
        """
        Nothing is under way, and nothing begins.
        """
        self.assertEqual([], self.under() + self.reactor.getDelayedCalls())
        before = len(self.straight)
        self.reactor.advance(10)
        self.assertEqual(before, len(self.straight))

    def test_manyFail(self) -> None:
        """
        A name may have any number of addresses that all fail at once.
        """
        addresses = [f"192.0.{index // 256}.{index % 256}" for index in range(2000)]
        self.atOnce = dict.fromkeys(addresses, errno.ENETUNREACH)
        connecting = self.begin(*addresses)
        self.reactor.pump()
        self.assertEqual(errno.ENETUNREACH, self.refused(connecting))
        self.assertEqual(addresses, self.tried())

    def test_freed(self) -> None:
        """
        However it ends, nothing is left to the cycle collector.
        """

        def work() -> None:
            won, cancelled, refused = self.begin(*V4), self.begin(*V4), self.begin(*V4[:2])
            self.straight[2].refuse()
            self.reactor.advance(0.25)
            self.trying()[0].answer()
            self.done(won)
            cancelled.cancel()
            self.trying()[0].refuse(errno.ETIMEDOUT)
            for one in (cancelled, refused):
                one.addErrback(forget)
                self.assertIsNone(self.successResultOf(one))
            self.hangUp()
            self.straight.clear()

        assertNoGarbage(self, work)

    def test_caught(self) -> None:
        """
        Nor is it where the error is caught and the work goes on.
        """

        async def twice() -> None:
            for _ in range(2):
                try:
                    await connectFirst(self.reactor, V4, 443)
                except error.ConnectError:
                    pass

        def work() -> None:
            self.atOnce = dict.fromkeys(V4, errno.ECONNREFUSED)
            connecting = Deferred.fromCoroutine(twice())
            self.reactor.pump()
            self.successResultOf(connecting)
            self.straight.clear()

        assertNoGarbage(self, work)


class ToldTests(RaceCase):
    """
    The error that is told when no address answers.
    """

    def test_mostWanted(self) -> None:
        """
        It is that of the most wanted address.
        """
        connecting = self.begin(*V4)
        for code in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
            self.assertNoResult(connecting)
            self.trying()[0].refuse(code)
            self.reactor.advance(0)
        self.assertEqual(errno.ECONNREFUSED, self.refused(connecting))

    def test_mostWantedIsLast(self) -> None:
        """
        Also where it is the last to fail.
        """
        connecting = self.begin(V6[0], V4[0], V4[1])
        self.reactor.advance(0.25)
        self.trying()[1].refuse()
        self.reactor.advance(0)
        self.trying()[1].refuse(errno.EHOSTUNREACH)
        self.reactor.advance(100)
        self.trying()[0].refuse(errno.ETIMEDOUT)
        self.assertEqual(errno.ETIMEDOUT, self.refused(connecting))


class SocketTests(SynchronousTestCase):
    """
    The sockets of the attempts, with a kernel that does as it is told.
    """

    def setUp(self) -> None:
        """
        Count the descriptors.
        """
        self.reactor: Any = SocketReactor()
        self.sockets = Sockets(self, (errno.EINPROGRESS, errno.EALREADY))
        self.patch(connecting, "socket", self.sockets)
        self.before = self.descriptors()
        self.connecting = Deferred.fromCoroutine(connectFirst(self.reactor, (V6[0], *V4), 443))
        self.reactor.advance(0.25)
        self.reactor.advance(0.25)
        self.assertEqual(3, len(self.sockets.made))

    def descriptors(self) -> int:
        """
        Count the descriptors of this process, without the other ends of the sockets.
        """
        return len(os.listdir("/dev/fd")) - len(self.sockets.made)

    def closed(self) -> list[int]:
        """
        Tell how often each socket was closed.
        """
        return [sock.closed for sock in self.sockets.made]

    def tell(self, index: int) -> None:
        """
        Have the kernel answer an attempt.
        """
        (selectable,) = (one for one in self.reactor.getWriters() if one.fileno() == self.sockets.made[index].fileno())
        self.reactor._doReadOrWrite(selectable, selectable.fileno(), SocketReactor._POLL_OUT)

    def test_winner(self) -> None:
        """
        The winner's stays; all others are closed, each once.
        """
        self.tell(1)
        end = self.successResultOf(self.connecting)
        self.assertEqual([end.transport], self.reactor.getReaders())
        self.assertEqual([], self.reactor.getWriters())
        self.reactor.advance(0)
        self.assertEqual([1, 0, 1], self.closed())
        self.assertEqual(self.before + 1, self.descriptors())
        end.finish()
        self.reactor.advance(10)
        self.assertEqual([1, 1, 1], self.closed())
        self.assertNothingLeft()

    def test_tie(self) -> None:
        """
        Of two that are connected in the same turn of the reactor, one is taken and the other closed.
        """
        self.reactor.turn()
        end = self.successResultOf(self.connecting)
        self.reactor.advance(0)
        self.assertEqual(2, sum(self.closed()))
        end.finish()
        self.reactor.advance(0)
        self.assertNothingLeft()

    def test_cancelled(self) -> None:
        """
        Who does not want to wait any longer has all of them closed.
        """
        late = self.reactor.getWriters()
        self.connecting.cancel()
        self.failureResultOf(self.connecting, CancelledError)
        for selectable in late:
            selectable.doWrite()
        self.reactor.advance(10)
        self.assertEqual([1, 1, 1], self.closed())
        self.assertNothingLeft()

    def test_refused(self) -> None:
        """
        So does who is refused everywhere.
        """
        for index in range(3):
            self.sockets.made[index].answer = errno.ECONNREFUSED
            self.tell(index)
        self.reactor.advance(0)
        self.sockets.made[3].answer = errno.ECONNREFUSED
        self.tell(3)
        self.failureResultOf(self.connecting, error.ConnectionRefusedError)
        self.reactor.advance(0)
        self.assertEqual([1, 1, 1, 1], self.closed())
        self.assertNothingLeft()

    def assertNothingLeft(self) -> None:
        """
        No descriptor is left, and the reactor has nothing more to do.
        """
        self.assertEqual(self.before, self.descriptors())
        self.assertEqual([], self.reactor.removeAll() + self.reactor.getDelayedCalls())
