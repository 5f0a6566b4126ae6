# -*- test-case-name: tests.datagram.test_dial -*-
"""
The socket of one association with an upstream.

It is connected, so that the kernel lets in what comes from there alone, and tells what the network says of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet import error
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from tlsproxy.datagram.end import SHAKING_MTU, DatagramEnd
from tlsproxy.datagram.path import addressOf, carries, dontFragment
from tlsproxy.tls.native import Buffer

__all__ = ["BATCH", "connect"]

_log = Logger()

BATCH: Final = 64
"""How many datagrams are taken in one turn of the reactor at most."""

_received: Final = Buffer(65536)
"""What comes is read into it; it holds nothing between two calls."""


@implementer(IHalfCloseableDescriptor, IReadDescriptor)
class _Connected:
    """
    A connected socket.

    @ivar end: Who has it.
    """

    end: DatagramEnd

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        self._reactor = reactor
        self._socket = sock
        self._receive = sock.recv_into
        self.send: Callable[[memoryview | bytes], object] = sock.send
        self._watched = False
        self._peer, self._host = addressOf(sock.getpeername()), addressOf(sock.getsockname())

    # -- IReadDescriptor --------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """
        Tell the descriptor.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        Tell what Twisted's own log calls it.
        """
        return "UDP"

    def connectionLost(self, reason: object) -> None:
        """
        The reactor is stopping, or has found the descriptor dead.
        """
        self.end.finish()

    def readConnectionLost(self, reason: object) -> None:
        """
        The kernel has something to tell, and no datagram: reactors that poll take that for an end.
        """
        if not self.end.gone:
            self._reactor.addReader(self)
            self.doRead()

    def writeConnectionLost(self, reason: object) -> None:
        """
        There is no such thing.
        """

    def doRead(self) -> None:
        """
        Something has come.
        """
        receive, view, end = self._receive, _received.view, self.end
        came = end.came
        for _ in range(BATCH):
            try:
                count = receive(view)
            except BlockingIOError:
                return
            except OSError as e:
                end.unreachable(e.errno or 0)
                if end.gone:
                    return
                continue
            try:
                came(_received, count)
            except Exception:
                _log.failure("an association met a bug of ours")
                end.finish()
            if end.gone:
                return

    # -- Wire -------------------------------------------------------------------------------------------------------

    def peer(self) -> IAddress:
        """
        See L{Wire}.
        """
        return self._peer

    def host(self) -> IAddress:
        """
        See L{Wire}.
        """
        return self._host

    def pathMTU(self) -> int:
        """
        See L{Wire}.
        """
        return carries(self._socket)

    def watch(self) -> None:
        """
        See L{Wire}.
        """
        if not self._watched:
            self._watched = True
            self._reactor.addReader(self)

    def settled(self, end: DatagramEnd) -> None:
        """
        See L{Wire}.
        """

    def close(self, end: DatagramEnd) -> None:
        """
        See L{Wire}.
        """
        if self._watched:
            self._reactor.removeReader(self)
        # In a later turn: the reactor may hold an event for this descriptor.
        self._reactor.callLater(0, self._close)

    def _close(self) -> None:
        self._socket.close()
        del self.end, self.send, self._receive


def connect(reactor: Any, addresses: Sequence[str], port: int, mtu: int = SHAKING_MTU) -> DatagramEnd:
    """
    Make an association with an upstream, at the first of some addresses that there is a way to.  Whether anybody is
    there only its answers tell.

    @param addresses: IPv4 and IPv6 addresses; the latter may have zones.
    @param mtu: As for L{DatagramEnd}.
    @return: It, held.
    @raise error.ConnectError: There is a way to none.
    """
    problem: OSError | None = None
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            target = socket.getaddrinfo(address, port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4]
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as e:
            problem = e
            continue
        code = sock.connect_ex(target)
        if code:
            sock.close()
            problem = OSError(code, os.strerror(code))
            continue
        dontFragment(sock)
        wire = _Connected(reactor, sock)
        wire.end = DatagramEnd("the upstream", reactor, wire, mtu)
        return wire.end
    raise error.getConnectError(problem if problem is not None else OSError("there is no address"))
