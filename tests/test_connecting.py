# -*- test-case-name: tests.test_connecting -*-
"""
Tests for L{tlsproxy.connecting}.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any
from unittest import SkipTest

from twisted.internet import error, tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy import connecting
from tlsproxy.end import End
from tlsproxy.testing.socketreactor import SocketReactor, unixPair


class Slow:
    """
    A socket whose connecting is made up.

    @ivar results: What its attempts to connect return.
    @ivar answer: What the kernel says of the attempt in the end.
    @ivar closed: How often it was closed.
    """

    def __init__(self, sock: socket.socket, results: Sequence[int]) -> None:
        self._socket = sock
        self.results = list(results)
        self.answer = 0
        self.closed = 0
        self.targets: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def connect_ex(self, target: Any) -> int:
        """
        See L{socket.socket}.
        """
        self.targets.append(target)
        return self.results.pop(0)

    def getsockopt(self, level: int, option: int) -> int:
        """
        See L{socket.socket}.
        """
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return self.answer

    def close(self) -> None:
        """
        See L{socket.socket}.
        """
        self.closed += 1
        self._socket.close()


class Sockets:
    """
    What stands for the module C{socket}.

    @ivar made: The sockets that were made.
    @ivar families: Of which families.
    """

    def __init__(self, case: SynchronousTestCase, results: Sequence[int], refusal: int = 0) -> None:
        self._case = case
        self._results = results
        self._refusal = refusal
        self.made: list[Slow] = []
        self.families: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, family: int, kind: int) -> Any:
        """
        See L{socket.socket}.
        """
        if self._refusal:
            raise OSError(self._refusal, os.strerror(self._refusal))
        assert kind == socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        self.families.append(family)
        ours, theirs = unixPair()
        self._case.addCleanup(theirs.close)
        self.made.append(Slow(ours, self._results))
        return self.made[-1]


class ConnectTests(SynchronousTestCase):
    """
    Connecting to an address, with a kernel that does as it is told.
    """

    def begin(self, *results: int, address: str = "192.0.2.1", refusal: int = 0) -> Deferred[End]:
        """
        Begin to connect.

        @param results: What the attempts return.
        """
        self.reactor: Any = SocketReactor()
        self.sockets = Sockets(self, results, refusal)
        self.patch(connecting, "socket", self.sockets)
        self.end = End("the upstream")
        return Deferred.fromCoroutine(connecting.connect(self.reactor, address, 443, self.end))

    def sock(self) -> Slow:
        """
        The only socket.
        """
        (sock,) = self.sockets.made
        return sock

    def assertConnected(self, connecting: Deferred[End]) -> None:
        """
        The End has its transport, and nothing waits any more.
        """
        end = self.successResultOf(connecting)
        self.assertIs(self.end, end)
        self.assertIs(tcp.Server, type(end.transport))
        self.assertEqual([end.transport], self.reactor.getReaders())
        self.assertEqual([], self.reactor.getWriters())
        self.assertEqual(0, self.sock().closed)
        end.finish()
        self.reactor.advance(0)
        self.assertEqual(1, self.sock().closed)
        self.assertNothingLeft()

    def assertNothingLeft(self) -> None:
        """
        The reactor has nothing more to do.
        """
        self.assertEqual([], self.reactor.removeAll() + self.reactor.getDelayedCalls())

    def assertRefused(self, connecting: Deferred[End], kind: type[Exception], code: int) -> None:
        """
        It failed, and the socket is closed, once and not in the turn of the event.
        """
        problem = self.failureResultOf(connecting, kind).value
        self.assertEqual(code, problem.osError)
        self.assertEqual(0, self.sock().closed)
        self.reactor.advance(0)
        self.assertEqual(1, self.sock().closed)
        self.assertNothingLeft()

    def test_atOnce(self) -> None:
        """
        Who is connected by the first call waits for nothing.
        """
        self.assertConnected(self.begin(0))
        self.assertEqual([("192.0.2.1", 443)], self.sock().targets)

    def test_secondLook(self) -> None:
        """
        So does who is connected by the time of the second.
        """
        self.assertConnected(self.begin(errno.EINPROGRESS, errno.EISCONN))

    def test_interrupted(self) -> None:
        """
        A signal does not disturb it.
        """
        self.assertConnected(self.begin(errno.EINTR, 0))

    def test_later(self) -> None:
        """
        Otherwise the reactor tells when the kernel has an answer.
        """
        connecting = self.begin(errno.EINPROGRESS, errno.EALREADY)
        self.assertNoResult(connecting)
        self.assertEqual(([], 1), (self.reactor.getReaders(), len(self.reactor.getWriters())))
        self.reactor.turn()
        self.assertConnected(connecting)

    def test_refusedLater(self) -> None:
        """
        The answer may be a refusal.
        """
        connecting = self.begin(errno.EINPROGRESS, errno.EALREADY)
        self.sock().answer = errno.ECONNREFUSED
        self.reactor._doReadOrWrite(self.reactor.getWriters()[0], self.sock().fileno(), SocketReactor._POLL_OUT)
        self.assertRefused(connecting, error.ConnectionRefusedError, errno.ECONNREFUSED)

    def test_timedOut(self) -> None:
        """
        Or that nobody answered.
        """
        connecting = self.begin(errno.EINPROGRESS, errno.EALREADY)
        self.sock().answer = errno.ETIMEDOUT
        self.reactor._doReadOrWrite(self.reactor.getWriters()[0], self.sock().fileno(), SocketReactor._POLL_OUT)
        self.assertRefused(connecting, error.TCPTimedOutError, errno.ETIMEDOUT)

    def test_lost(self) -> None:
        """
        A reactor may call a refusal a lost connection.
        """
        connecting = self.begin(errno.EINPROGRESS, errno.EALREADY)
        self.sock().answer = errno.EHOSTUNREACH
        self.reactor.lose(self.reactor.getWriters()[0])
        self.assertRefused(connecting, error.ConnectError, errno.EHOSTUNREACH)

    def test_lostWithoutAWord(self) -> None:
        """
        Even without the kernel's reason that is a refusal.
        """
        connecting = self.begin(errno.EINPROGRESS, errno.EALREADY)
        self.reactor.lose(self.reactor.getWriters()[0])
        self.assertRefused(connecting, error.ConnectionRefusedError, errno.ECONNREFUSED)

    def test_refusedAtOnce(self) -> None:
        """
        A refusal at once closes the socket at once: no reactor knows of it.
        """
        for results in ([errno.ENETUNREACH], [errno.EINPROGRESS, errno.ENETUNREACH]):
            self.failureResultOf(self.begin(*results), error.NoRouteError)
            self.assertEqual(1, self.sock().closed)
            self.assertNothingLeft()

    def test_cancelled(self) -> None:
        """
        Who does not want to wait any longer closes the socket: in a later turn, once, and whatever the reactor still
        has for it does nothing.
        """
        connecting = self.begin(errno.EINPROGRESS, errno.EALREADY)
        (selectable,) = self.reactor.getWriters()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertEqual(([], 0), (self.reactor.getWriters(), self.sock().closed))
        selectable.doWrite()
        self.reactor.lose(selectable)
        self.reactor.advance(0)
        self.reactor.advance(10)
        self.assertEqual(1, self.sock().closed)
        self.assertNothingLeft()

    def test_noDescriptors(self) -> None:
        """
        A process without a descriptor to spare is told so.
        """
        problem = self.failureResultOf(self.begin(refusal=errno.EMFILE), error.ConnectError).value
        self.assertEqual(errno.EMFILE, problem.osError)

    def test_IPv4(self) -> None:
        """
        An IPv4 address is told as the peer's.
        """
        end = self.successResultOf(self.begin(0))
        self.assertEqual([socket.AF_INET], self.sockets.families)
        self.assertEqual(IPv4Address("TCP", "192.0.2.1", 443), end.peer())
        self.assertEqual("<connection to 192.0.2.1>", repr(end.transport))
        end.finish()
        self.reactor.advance(0)

    def test_IPv6(self) -> None:
        """
        So is an IPv6 address, in whatever way it is written.
        """
        end = self.successResultOf(self.begin(0, address="2001:DB8:0::1"))
        self.assertEqual([socket.AF_INET6], self.sockets.families)
        self.assertEqual([("2001:db8::1", 443, 0, 0)], self.sock().targets)
        self.assertEqual(IPv6Address("TCP", "2001:db8::1", 443), end.peer())
        end.finish()
        self.reactor.advance(0)

    def test_zone(self) -> None:
        """
        An IPv6 address may have a zone; one that this machine does not have is an error.
        """
        end = self.successResultOf(self.begin(0, address="fe80::1%lo"))
        self.assertEqual(socket.if_nametoindex("lo"), self.sock().targets[0][3])
        end.finish()
        self.reactor.advance(0)
        self.failureResultOf(self.begin(0, address="fe80::1%no-such-zone"), error.UnknownHostError)
        self.assertEqual([], self.sockets.made)


class NoFamily:
    """
    What stands for the module C{socket} on a machine that does not know a family.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)

    def socket(self, family: int, kind: int) -> Any:
        """
        See L{socket.socket}.
        """
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def ownAddress(family: int, other: str) -> str:
    """
    Tell from which address this machine would talk to another; nothing is sent.

    @return: C{""} if it could not.
    """
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


class IsLocalTests(SynchronousTestCase):
    """
    L{connecting.isLocal}
    """

    def assertLocal(self, *addresses: str) -> None:
        """
        These are this machine's.
        """
        self.assertEqual([], [one for one in addresses if not connecting.isLocal(one)])

    def assertElsewhere(self, *addresses: str) -> None:
        """
        These are not.
        """
        self.assertEqual([], [one for one in addresses if connecting.isLocal(one)])

    def test_loopback(self) -> None:
        """
        All of 127.0.0.0/8 is this machine's, not only the address that it talks from.
        """
        self.assertLocal("127.0.0.1", "127.0.0.2", "127.255.255.254")

    def test_any(self) -> None:
        """
        Who connects to no address in particular reaches this machine.
        """
        self.assertLocal("0.0.0.0")

    def test_IPv6(self) -> None:
        """
        So it is in IPv6, in whatever way an address is written.
        """
        if not ownAddress(socket.AF_INET6, "::1"):
            raise SkipTest("this machine has no IPv6")
        self.assertLocal("::1", "::", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:2")

    def test_interface(self) -> None:
        """
        So is the address of an interface.
        """
        own = [ownAddress(socket.AF_INET, "198.51.100.1"), ownAddress(socket.AF_INET6, "2001:db8:ffff::1")]
        self.assertLocal(*filter(None, own))

    def test_elsewhere(self) -> None:
        """
        Other addresses are not, in either family.
        """
        self.assertElsewhere("198.51.100.1", "203.0.113.255", "2001:db8:ffff::1")

    def test_noFamily(self) -> None:
        """
        A machine without a family has no address of it.
        """
        self.patch(connecting, "socket", NoFamily())
        self.assertElsewhere("::1", "127.0.0.1")

    def test_doubt(self) -> None:
        """
        Where the kernel cannot be asked, an address is taken for one of this machine's.
        """

        def noDescriptors(*_: object) -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

        self.patch(socket, "socket", noDescriptors)
        self.assertLocal("198.51.100.1")

    def test_nothingLeft(self) -> None:
        """
        No descriptor is left open.
        """
        before = os.listdir("/dev/fd")
        for address in ("127.0.0.1", "198.51.100.1", "::1", "2001:db8:ffff::1"):
            connecting.isLocal(address)
        self.assertEqual(before, os.listdir("/dev/fd"))
