# -*- test-case-name: tests.status.test_serving -*-
"""
L{tlsproxy.status.serving}
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.test_service import Port
from tlsproxy.address import TCP, Address, CannotListen
from tlsproxy.service import ProxyService
from tlsproxy.status import serving
from tlsproxy.status.serving import StatusService
from tlsproxy.status.tally import Tally

LOOPBACK = TCP("127.0.0.1", 9090)


class StatusServiceTests(SynchronousTestCase):
    """
    The service.
    """

    def setUp(self) -> None:
        """
        Have it listen in memory.
        """
        self.clock = Clock()
        self.port = Port(9090)
        self.answer: Any = succeed([self.port])
        self.listened: list[Any] = []
        self.patch(serving, "listen", self.listen)
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)

    async def listen(self, reactor: object, where: Address, factory: object) -> list[IListeningPort]:
        """
        Listen.
        """
        self.listened.append((where, factory))
        if isinstance(self.answer, Exception):
            raise self.answer
        return await self.answer  # type: ignore[no-any-return]

    def service(self, where: Address = LOOPBACK, private: bool = True, logged: bool = True) -> StatusService:
        """
        Make it.
        """
        return StatusService(where, private, ProxyService([], self.clock), Tally(), self.clock, logged)

    def test_life(self) -> None:
        """
        It listens before rights are dropped, once, and leaves nothing behind.
        """
        service = self.service()
        service.privilegedStartService()
        service.startService()
        self.assertEqual(([self.port], 1), (service.ports, len(self.listened)))
        self.successResultOf(service.stopService())
        self.assertEqual((False, [], ()), (self.port.open, self.clock.getDelayedCalls(), service.ports))
        self.successResultOf(service.stopService())

    def test_unprivileged(self) -> None:
        """
        A runner that only starts services has it listen as well.
        """
        service = self.service()
        service.startService()
        self.assertEqual([self.port], service.ports)
        self.successResultOf(service.stopService())

    def test_neverStarted(self) -> None:
        """
        It may be stopped between the two.
        """
        service = self.service()
        service.privilegedStartService()
        self.successResultOf(service.stopService())
        self.assertFalse(self.port.open)

    def test_cannotListen(self) -> None:
        """
        Where it cannot listen, that is said.
        """
        self.answer = CannotListen("cannot listen on 9090: Address already in use")
        problem = self.assertRaises(CannotListen, self.service().startService)
        self.assertEqual("cannot listen on 9090: Address already in use", str(problem))
        self.answer = Deferred()
        problem = self.assertRaises(CannotListen, self.service().startService)
        self.assertIn("at once", str(problem))

    def test_log(self) -> None:
        """
        The log tells where, unless nothing is to be logged.
        """
        self.service().startService()
        self.service(logged=False).startService()
        (event,) = (event for event in self.events if event["log_namespace"] == "tlsproxy.status.serving")
        self.assertEqual("the status of the proxy is told on 127.0.0.1:9090", formatEvent(event))

    def test_names(self) -> None:
        """
        Where only this machine reaches it, it is asked by its own name or that which was given, and else by any.
        """
        for where, private, names in (
            (TCP("127.0.0.1", 1), True, {"localhost", "127.0.0.1"}),
            (TCP("Status.internal", 1), True, {"localhost", "status.internal"}),
            (TCP("0.0.0.0", 1), False, None),
        ):
            self.service(where, private).startService()
            _, factory = self.listened[-1]
            self.assertEqual(names, factory._names)
