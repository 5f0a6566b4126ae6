# -*- test-case-name: tests.testing.test_socketreactor -*-
"""
The reactor of the tests sees what it has to see.
"""

from __future__ import annotations

import socket

from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tlsproxy.borrowed import Borrowed
from tlsproxy.testing.socketreactor import KINDS, SocketReactor, connect, unixPair


class SocketReactorTests(SynchronousTestCase):
    """
    L{SocketReactor}
    """

    def setUp(self) -> None:
        """
        One connection.
        """
        self.reactor = SocketReactor()
        self.ours, self.theirs = unixPair()
        self.addCleanup(self.theirs.close)
        self.addCleanup(self.ours.close)
        self.borrowed = Borrowed("the client")
        self.transport = connect(self.reactor, self.borrowed, self.ours).transport

    def test_interfaces(self) -> None:
        """
        It is what transports and deadlines need.
        """
        verifyObject(IReactorFDSet, self.reactor)
        verifyObject(IReactorTime, self.reactor)

    def test_quiet(self) -> None:
        """
        It does not wait for what may come.
        """
        self.assertFalse(self.reactor.pump())

    def test_spin(self) -> None:
        """
        It notices a reader that does not read what is there, and a writer that has nothing to write.
        """
        self.theirs.send(b"x")
        self.transport.doRead = lambda: None
        self.assertIn("spins", str(self.assertRaises(AssertionError, self.reactor.pump)))
        self.transport.stopReading()
        self.transport.doWrite = lambda: None
        self.transport.startWriting()
        self.assertIn("spins", str(self.assertRaises(AssertionError, self.reactor.pump)))

    def test_exception(self) -> None:
        """
        An event that raises fails the test.
        """
        self.theirs.send(b"x")
        self.transport.doRead = lambda: 1 / 0
        self.assertRaises(AssertionError, self.reactor.pump)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_hangUp(self) -> None:
        """
        Like Twisted's reactors it takes a connection that hung up, and that nobody reads, for lost.
        """
        self.transport.stopReading()
        self.transport.startWriting()
        self.theirs.close()
        self.assertTrue(self.reactor.pump())
        self.assertTrue(self.borrowed.gone)
        self.assertEqual([], self.reactor.getWriters())

    def test_closed(self) -> None:
        """
        A transport whose socket is closed cannot be registered.
        """
        self.borrowed.finish()
        self.reactor.pump()
        self.assertRaises(AssertionError, self.reactor.addReader, self.transport)

    def test_kinds(self) -> None:
        """
        Every transport that can be borrowed can be made.
        """
        for kind in KINDS:
            ours, theirs = socket.socketpair()
            borrowed = Borrowed(kind)
            connected = connect(self.reactor, borrowed, ours, kind)
            borrowed.peer()
            borrowed.finish()
            self.reactor.pump()
            self.assertEqual(1, len(connected.losses))
            theirs.close()
