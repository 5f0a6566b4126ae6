# -*- test-case-name: tests.testing.test_listener -*-
"""
Where a service listens on a L{Network<tlsproxy.testing.network.Network>}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

__all__ = ["Listener"]


@implementer(IListeningPort)
class _Port:
    """
    A port that is listened on.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def startListening(self) -> None:
        """
        See L{IListeningPort}.
        """

    def stopListening(self) -> Deferred[None]:
        """
        See L{IListeningPort}.
        """
        self._listener.factory = None
        return succeed(None)

    def getHost(self) -> IAddress:
        """
        See L{IListeningPort}.
        """
        return self._listener.address


@implementer(IStreamServerEndpoint)
class Listener:
    """
    An endpoint for C{Route(listen=...)}, at which the clients of a network can connect.

    @ivar address: Where it is, as its port tells.
    @ivar factory: What takes the connections; L{None} while nobody listens.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8443) -> None:
        self.address = IPv4Address("TCP", host, port)
        self.factory: Any = None

    def __str__(self) -> str:
        return f"{self.address.host}:{self.address.port}"

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        See L{IStreamServerEndpoint}.
        """
        if self.factory is not None:
            return fail(CannotListenError(self.address.host, self.address.port, OSError("somebody listens there")))
        self.factory = protocolFactory
        port: IListeningPort = _Port(self)
        return succeed(port)

    def buildProtocol(self, address: IAddress | None) -> Any:
        """
        Take a connection.

        @raise AssertionError: Nobody listens here.
        """
        if self.factory is None:
            raise AssertionError(f"nobody listens on {self}")
        return self.factory.buildProtocol(address)
