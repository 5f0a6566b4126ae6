# -*- test-case-name: tests.test_dial_endpoints -*-
"""
L{tlsproxy.dial}, with endpoints of whose transports nothing is known.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import endpoints
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from tlsproxy.application import fromProtocol
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.errors import DialFailed
from tlsproxy.loopback import PipedEnd
from tlsproxy.testing.socketreactor import connect
from tlsproxy.testing.streampeers import Peer
from tlsproxy.testing.streams import Streams


@implementer(IStreamClientEndpoint)
class Somewhere:
    """
    An endpoint that connects in its own way.
    """

    def __init__(self, way: Any) -> None:
        self._way = way

    def __str__(self) -> str:
        return "somewhere"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        See L{IStreamClientEndpoint}.
        """
        connected: Deferred[Any] = self._way(protocolFactory)
        return connected


class EndpointTests(Streams):
    """
    Endpoint objects.
    """

    def setUp(self) -> None:
        """
        Begin.
        """
        super().setUp()
        self.dialer = Dialer(self.loopback.reactor)
        self.ends: list[End] = []

    def dial(self, way: Any) -> Deferred[End]:
        """
        Dial.
        """
        return Deferred.fromCoroutine(self.dialer.dial(Somewhere(way)))

    def wrapped(self, factory: Any) -> Any:
        """
        Connect through a wrapper.
        """
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        self.peer = Peer(theirs)
        protocol = factory.buildProtocol(None)
        wrapper: Any = ProtocolWrapper(WrappingFactory(Factory()), protocol)
        connect(self.loopback.reactor, wrapper, ours)
        return succeed(protocol)

    def plain(self, factory: Any) -> Any:
        """
        Connect straight.
        """
        ours, theirs = self.loopback.pair()
        self.addCleanup(theirs.close)
        self.peer = Peer(theirs)
        protocol = factory.buildProtocol(None)
        connect(self.loopback.reactor, protocol, ours)
        return succeed(protocol)

    def over(self, end: End) -> None:
        """
        Let go, and see that the peer is told.
        """
        end.finish(reset=True)
        self.loopback.settle([self.peer], lambda: bool(self.peer.ended))
        self.peer.close()
        self.loopback.settle([], None)

    def test_wrapped(self) -> None:
        """
        A transport that wraps another gets a pipe.
        """
        end = self.successResultOf(self.dial(self.wrapped))
        self.assertIs(PipedEnd, type(end))
        self.peer.write(b"welcome")
        self.loopback.settle([self.peer], None)
        self.assertEqual(b"welcome", self.successResultOf(Deferred.fromCoroutine(end.read(100))))
        self.over(end)

    def test_wrappedTwice(self) -> None:
        """
        It can be half-closed also where Twisted puts a wrapper of its own around it, as its client endpoints do.
        """

        def connecting(factory: Any) -> Any:
            ours, theirs = self.loopback.pair()
            self.addCleanup(theirs.close)
            self.peer = Peer(theirs)
            wrapping = endpoints._WrappingFactory(WrappingFactory(factory))
            below: Any = wrapping.buildProtocol(None)
            connect(self.loopback.reactor, below, ours)
            return wrapping._onConnection

        end = self.successResultOf(self.dial(connecting))
        self.peer.write(b"question")
        self.peer.end()
        self.loopback.settle([self.peer], None)
        for expected in (b"question", b""):
            self.assertEqual(expected, self.successResultOf(Deferred.fromCoroutine(end.read(100))))
        end.writing.send(b"late answer")
        self.loopback.settle([self.peer], lambda: self.peer.received == b"late answer")
        self.over(end)

    def test_plain(self) -> None:
        """
        A plain socket gets none.
        """
        end = self.successResultOf(self.dial(self.plain))
        self.assertIs(End, type(end))
        self.over(end)

    def test_end(self) -> None:
        """
        An endpoint of ours may bring an End of its own.
        """
        made, _ = fromProtocol(self.loopback.reactor, "the upstream")
        self.assertIs(made, self.successResultOf(self.dial(lambda _: succeed(made))))
        made.finish(reset=True)
        self.settle()

    def test_nothing(self) -> None:
        """
        One that has connected nobody is told as failed.
        """
        problem = self.failureResultOf(self.dial(lambda _: succeed(None)), DialFailed)
        self.assertEqual("the upstream somewhere has told of a connection and made none", str(problem.value))

    def test_late(self) -> None:
        """
        What connects after it was given up is closed, whatever its transport.
        """
        for way in (self.plain, self.wrapped):
            factories: list[Any] = []

            def never(factory: Any, factories: list[Any] = factories) -> Deferred[Any]:
                factories.append(factory)
                return Deferred()

            dialing = self.dial(never)
            dialing.cancel()
            self.failureResultOf(dialing, CancelledError)
            way(factories[0])
            self.loopback.settle([self.peer], lambda: bool(self.peer.ended))
            self.peer.close()
            self.loopback.settle([], None)
            self.loopback.advance(60)
            self.loopback.settle([], None)

    def test_cutShort(self) -> None:
        """
        So is what has connected, where the endpoint waits for more and is given up.
        """

        def half(factory: Any) -> Deferred[Any]:
            self.wrapped(factory)
            return Deferred()

        dialing = self.dial(half)
        dialing.cancel()
        self.failureResultOf(dialing, CancelledError)
        self.loopback.settle([self.peer], lambda: bool(self.peer.ended))
        self.peer.close()
        self.loopback.settle([], None)
