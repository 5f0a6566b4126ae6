# -*- test-case-name: tests.test_stocktls -*-
"""
L{tlsproxy.stocktls}: Twisted's TLS is counted, judged, and told of.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import HandshakeFailed
from tlsproxy.interfaces import ENDED, FAILED
from tlsproxy.stocktls import StockTLS
from tlsproxy.testing.socketreactor import SocketReactor, tcpPair
from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import serverTLS
from tlsproxy.tls.native import TLSConnection


class Owner(TLSConnection):
    """
    Whom TLS works for.
    """

    __slots__ = ("events", "refusal")

    def __init__(self, context: SSL.Context, sock: socket.socket | None, server: bool) -> None:
        super().__init__(context, None, server)
        self.events = 0
        self.refusal = ""

    def settle(self) -> None:
        """
        Refuse, if that is wanted.
        """
        if self.refusal:
            raise HandshakeFailed(self.refusal)
        super().settle()

    def noteAlert(self) -> tuple[int, bool] | None:
        """
        Tell the last alert.
        """
        return self.alert()

    def progress(self) -> None:
        """
        Note that something has happened.
        """
        self.events += 1


class StockTLSTests(SynchronousTestCase):
    """
    L{StockTLS}
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        self.before = len(os.listdir("/dev/fd"))
        self.reactor = SocketReactor()
        self.ours, self.theirs = tcpPair()
        self.owner = Owner(serverTLS("TLSv1.3").context, None, True)
        self.owner.connection.set_app_data(None)
        self.tls = StockTLS()
        self.assertFalse(self.tls.takes)
        self.tls.start(self.owner, self.reactor, self.ours, True)
        self.assertTrue(self.tls.takes)
        self.peer = TLSPeer(self.theirs, "TLSv1.3", server=False)

    def tearDown(self) -> None:
        """
        Nothing is left.
        """
        self.tls.close()
        self.peer.close()
        self.settle()
        self.assertEqual([[], []], [self.reactor.getReaders(), self.reactor.getDelayedCalls()])
        self.assertEqual(self.before, len(os.listdir("/dev/fd")))

    def settle(self) -> None:
        """
        Let happen what can.
        """
        while any([self.reactor.pump(), self.peer.pump()]):
            pass

    def test_counted(self) -> None:
        """
        What comes and goes is counted, and what comes is there in clear.
        """
        self.peer.write(b"hello")
        self.settle()
        self.assertTrue(self.tls.ready)
        self.assertEqual(b"hello", self.tls.clear)
        swallowed, written, events = self.tls.swallowed, self.tls.written, self.owner.events
        self.peer.write(b"more")
        waiting = len(self.peer.unsent)
        self.settle()
        self.assertEqual(swallowed + waiting, self.tls.swallowed)
        self.assertLess(events, self.owner.events)
        self.tls.write(b"there")
        self.assertEqual(written + 27, self.tls.written)
        self.settle()
        self.assertEqual(b"there", self.peer.received)

    def test_ended(self) -> None:
        """
        The peer's close_notify ends it, and is answered.
        """
        self.settle()
        self.peer.endTLS()
        self.settle()
        self.assertEqual((ENDED, True, False), (self.tls.verdict, self.peer.told, self.tls.takes))
        self.tls.write(b"late")
        self.tls.end()

    def test_weFirst(self) -> None:
        """
        Our own close_notify does not end it.
        """
        self.settle()
        self.tls.end()
        self.peer.write(b"late")
        self.settle()
        self.assertEqual((0, b"late", True), (self.tls.verdict, self.tls.clear, self.peer.told))
        self.peer.endTLS()
        self.settle()
        self.assertEqual(ENDED, self.tls.verdict)

    def test_failed(self) -> None:
        """
        A record that does not verify makes it fail, with OpenSSL's own problem.
        """
        self.settle()
        self.peer.writePlain(b"\x17\x03\x03\x00\x40" + bytes(64))
        self.settle()
        self.assertEqual(FAILED, self.tls.verdict)
        self.assertIsInstance(self.tls.problem, SSL.Error)

    def test_socketLost(self) -> None:
        """
        A socket that is lost is no end of TLS.
        """
        self.settle()
        self.peer.close()
        self.settle()
        self.assertEqual(FAILED, self.tls.verdict)

    def test_notJudged(self) -> None:
        """
        A handshake that passes over the peer's certificate fails.
        """
        self.owner.refusal = "nobody has looked at it"
        self.settle()
        self.assertEqual((FAILED, False), (self.tls.verdict, self.tls.ready))
        self.assertEqual("nobody has looked at it", str(self.tls.problem))

    def test_particulars(self) -> None:
        """
        What hangs on the connection stays there: certificates are judged by it.
        """
        self.assertIsNone(self.owner.connection.get_app_data())

    def test_mistake(self) -> None:
        """
        A mistake of TLS's own is logged, and fails this connection alone.
        """
        self.settle()
        transport: Any = self.tls._transport
        self.patch(transport.protocol.wrappedProtocol, "dataReceived", lambda data: 1 / 0)
        self.peer.write(b"hello")
        self.settle()
        self.assertEqual(FAILED, self.tls.verdict)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_closed(self) -> None:
        """
        Once it is given up, it tells nothing.
        """
        self.settle()
        events = self.owner.events
        self.tls.close()
        self.tls.completed()
        self.settle()
        self.tls.lost(Failure(error.ConnectionDone()))
        self.assertEqual(events, self.owner.events)
