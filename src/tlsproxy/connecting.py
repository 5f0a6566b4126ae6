# -*- test-case-name: tests.test_connecting -*-
"""
A plain non-blocking connect to one address.

Twisted's own client transport takes two turns of the reactor, a connector and a factory for it, which is most of what
a short session costs beside its handshake.  Here the socket is connected first, usually at once where the upstream is
near, and only then becomes a transport of the reactor.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, Final, cast

from twisted.internet import error, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from tlsproxy.end import End

__all__ = ["connect", "isLocal"]

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EINTR})
_CONNECTED: Final = frozenset({0, errno.EISCONN})


class _Connecting(FileDescriptor):
    """
    A socket on its way.
    """

    def __init__(self, reactor: Any, sock: socket.socket, connected: Deferred[None]) -> None:
        super().__init__(reactor)
        self._clock: IReactorTime = reactor
        self._socket = sock
        self._connected: Deferred[None] | None = connected

    def fileno(self) -> int:
        """
        Tell the descriptor.
        """
        return self._socket.fileno()

    def doWrite(self) -> None:
        """
        The kernel has an answer.
        """
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def connectionLost(self, reason: object) -> None:
        """
        The reactor has found the answer to be no.
        """
        self._end(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNREFUSED)

    def cancel(self, _: object) -> None:
        """
        Nobody waits any more.
        """
        self.stopWriting()
        self._connected = None
        # In a later turn: the reactor may hold an event for this descriptor.
        self._clock.callLater(0, self._socket.close)

    def _end(self, code: int) -> None:
        self.stopWriting()
        connected, self._connected = self._connected, None
        if connected is None:
            return
        if code:
            self._clock.callLater(0, self._socket.close)
            connected.errback(error.getConnectError((code, os.strerror(code))))
        else:
            connected.callback(None)


async def connect(reactor: Any, address: str, port: int, end: End) -> End:
    """
    Connect to an address.

    @param reactor: The reactor.
    @param address: An IPv4 or IPv6 address; the latter may have a zone.
    @param end: What gets the connection.
    @return: It, held.
    @raise error.ConnectError: It did not work.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    target: tuple[Any, ...] = address, port
    try:
        if family == socket.AF_INET6:
            target = socket.getaddrinfo(address, port, family, flags=socket.AI_NUMERICHOST)[0][4]
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as e:
        raise error.getConnectError(e) from e
    code = sock.connect_ex(target)
    if code in _UNDER_WAY:
        # On one machine the answer is there by now, although the kernel has not told it.
        code = sock.connect_ex(target)
    if code in _UNDER_WAY:
        connected: Deferred[None] = Deferred(lambda d: connecting.cancel(d))
        connecting = _Connecting(reactor, sock, connected)
        connecting.startWriting()
        await connected
    elif code not in _CONNECTED:
        sock.close()
        raise error.getConnectError((code, os.strerror(code)))
    # A server's transport is no more than a connected socket in the reactor, and it does not mind who connected.
    transport = tcp.Server(sock, end, target, cast(tcp.Port, None), 0, reactor)
    transport.repstr = f"<connection to {address}>"
    end.makeConnection(transport)
    return end


def isLocal(address: str) -> bool:
    """
    Tell whether an address is one of this machine's.

    @param address: An IPv4 or IPv6 address, without a zone.
    """
    # Only to its own addresses a machine lets a socket be bound.  Routes do not tell: it talks to the second of its
    # addresses in a network from the first.
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as e:
        # In doubt it is: to be out of descriptors, say, tells nothing.
        return e.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
