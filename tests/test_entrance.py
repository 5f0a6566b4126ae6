# -*- test-case-name: tests.test_entrance -*-
"""
L{tlsproxy.entrance}
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.testing import EventLoggingObserver, MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.test_route import Pattern
from tests.test_service import Place, Port
from tlsproxy.address import CannotListen
from tlsproxy.entrance import Entrance, Served, stopPort, tellListening
from tlsproxy.route import Route


class _Factory:
    """
    As much of a route's factory as there has to be.
    """

    def __init__(self, listen: Any = None) -> None:
        self.route = Route(name="shop", listen=listen, pattern=Pattern())
        self.built: list[object] = []

    def buildProtocol(self, addr: object) -> str:
        """
        Note it.
        """
        self.built.append(addr)
        return "a protocol"


class EntranceTests(SynchronousTestCase):
    """
    What stands between a port and a route.
    """

    def entrance(self, factory: Any) -> Entrance:
        """
        Make one.
        """
        return Entrance(factory)

    def test_open(self) -> None:
        """
        It listens in the place of its route, and says nothing of its own about that.
        """
        place = Place(Port(8443))
        entrance = self.entrance(_Factory(place))
        self.successResultOf(Deferred.fromCoroutine(entrance.open(MemoryReactorClock())))
        self.assertEqual(([place.answer], entrance, False), (entrance.ports, place.factory, entrance.noisy))
        self.assertEqual("route shop", entrance.logPrefix())

    def test_change(self) -> None:
        """
        Each connection goes to the route that holds the place now.
        """
        one, other = _Factory(), _Factory()
        entrance = self.entrance(one)
        self.assertEqual("a protocol", entrance.buildProtocol(None))
        change: Any = other
        entrance.factory = change
        entrance.buildProtocol(None)
        self.assertEqual(([None], [None]), (one.built, other.built))

    def test_nowhere(self) -> None:
        """
        A route that says no address cannot be listened for.
        """
        opening = Deferred.fromCoroutine(self.entrance(_Factory()).open(MemoryReactorClock()))
        problem = self.failureResultOf(opening, CannotListen)
        self.assertEqual("route shop says nowhere to listen: give it an address", str(problem.value))

    def test_close(self) -> None:
        """
        It closes its ports, tells when each is closed, and has none left.
        """
        slow, fast = Port(1, Deferred()), Port(2)
        entrance = self.entrance(_Factory())
        entrance.ports = [slow, fast]
        closing, closed = entrance.close()
        self.successResultOf(closed)
        self.assertNoResult(closing)
        assert slow.stopping is not None
        slow.stopping.callback(None)
        self.successResultOf(closing)
        self.assertEqual((False, False, []), (slow.open, fast.open, entrance.ports))

    def test_overlaps(self) -> None:
        """
        Another spelling of an address that is listened on is known by the port or the path.
        """
        entrance = self.entrance(_Factory())
        entrance.ports = [Port(8443), Port(0, host=UNIXAddress("/run/x")), Port(0, host=UNIXAddress(None))]
        for where, overlaps in (
            ("8443", True),
            ("127.0.0.1:8443", True),
            ("tcp:8443:interface=::1", True),
            ("tcp:port=8443", True),
            ("unix:/run/x", True),
            ("unix:/run/../run/x", True),
            ("unix:/run/x:mode=660", True),
            ("8444", False),
            ("tcp:84430", False),
            ("unix:/run/y", False),
            (Place(Port(8443)), False),
            (None, False),
        ):
            self.assertEqual(overlaps, entrance.overlaps(self.entrance(_Factory(where))), where)

    def test_isFile(self) -> None:
        """
        Whether there is a file is told by the ports.
        """
        entrance = self.entrance(_Factory())
        self.assertFalse(entrance.isFile)
        entrance.ports = [Port(8443)]
        self.assertFalse(entrance.isFile)
        entrance.ports = [Port(0, host=UNIXAddress("/run/x"))]
        self.assertTrue(entrance.isFile)

    def test_stopPort(self) -> None:
        """
        A port may stop at once or in its time.
        """
        for stopping in (None, succeed(None)):
            port = Port(1, stopping)
            self.successResultOf(Deferred.fromCoroutine(stopPort(port)))
            self.assertFalse(port.open)

    def test_giveUp(self) -> None:
        """
        Who waits no longer for a port to stop does not keep it from stopping, whether it then does or fails.
        """
        for outcome in (None, Failure(OSError("it is stuck"))):
            cancelled: list[object] = []
            stopping: Deferred[Any] = Deferred(cancelled.append)
            waiting = Deferred.fromCoroutine(stopPort(Port(1, stopping)))
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            self.assertEqual([], cancelled)
            stopping.callback(outcome)
            self.assertIsNone(self.successResultOf(stopping))

    def test_toldAnyway(self) -> None:
        """
        Who waits for a session's end is told of it, also where the route's own part of that fails.
        """
        told: list[object] = []
        served: Any = Served.__new__(Served)
        served.told = lambda *facts: told.append(facts)
        session: Any = object()
        self.assertRaises(AttributeError, served.ended, session, "closed", "")
        self.assertEqual([(session, "closed")], told)

    def test_tell(self) -> None:
        """
        The log tells each address.
        """
        events = EventLoggingObserver()
        globalLogPublisher.addObserver(events)
        self.addCleanup(globalLogPublisher.removeObserver, events)
        factory = _Factory()
        tellListening(factory.route, [Port(1), Port(2)])
        told = [(one["log_namespace"], one["route"], one["mode"], one["how"], one["where"]) for one in events]
        words = ("tlsproxy.service", "shop", "none", "listens on")
        self.assertEqual([(*words, "127.0.0.1:1"), (*words, "127.0.0.1:2")], told)
