# -*- test-case-name: tests.test_accepting -*-
"""
Accepting connections no faster than there is room for them.

A port of Twisted, like a transport of it, is borrowed: its C{doRead} is set to L{Accepting.doRead}, and the rest of it
stays.  Twisted's own accepts whatever comes, and where the process has no descriptor left it accepts all the same, with
one that it keeps for that, closes what it got, and logs each.  Here nobody is accepted for whom there is no room.  The
port is paused instead, and who waits in the kernel's queue is served as soon as there is.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger

__all__ = ["PAUSE", "Accepting"]

_log = Logger()

PAUSE: Final = 0.2
"""For how many seconds nobody is accepted where that has just failed for want of something."""

_BATCH: Final = 64
"""The most that are accepted in one turn of the reactor."""
_GONE: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
    }
)
"""What befell one client while it waited, or a firewall has thought of it (accept(2))."""
_NOBODY: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})


def _anyNumber() -> int:
    return _BATCH


def _all(wanted: int) -> int:
    return wanted


class Accepting:
    """
    A port that is borrowed.

    @ivar paused: Whether nobody is accepted until L{resume}, because there is no room.
    """

    def __init__(
        self,
        port: Any,
        room: Callable[[], int] = _anyNumber,
        full: Callable[[], object] = bool,
        exhausted: Callable[[OSError], object] = bool,
        enough: Callable[[int], int] = _all,
    ) -> None:
        """
        @param port: The port; L{takes} tells whether it can be borrowed.
        @param room: Tells for how many clients there is room.
        @param full: Called when there is none any more, and the port has been paused.
        @param exhausted: Called when a client could not be accepted for want of something, as a descriptor, and the
            port has been paused for L{PAUSE} seconds.
        @param enough: Told how many clients there is room for at once, tells how many of them there are descriptors
            for: their own, and those that their sessions will take.
        """
        self._port = port
        self._room = room
        self._full = full
        self._exhausted = exhausted
        self._enough = enough
        self._most = 1
        self._timer: IDelayedCall | None = None
        self.paused = False
        port.doRead = self.doRead

    @staticmethod
    def takes(port: IListeningPort) -> bool:
        """
        Tell whether a port can be borrowed, which a port of another kind than Twisted's plain ones cannot.
        """
        return type(port) in (tcp.Port, unix.Port)

    def doRead(self) -> None:
        """
        Accept some of those who wait.
        """
        room = self._room()
        most = min(self._most, room)
        if most > 0:
            most = self._enough(most)
            if most <= 0:
                self._rest()
                self._exhausted(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
                return
        accepted = 0
        while accepted < most:
            try:
                sock, address = self._port.socket.accept()
            except OSError as e:
                if e.errno in _NOBODY:
                    break
                if e.errno not in _GONE:
                    self._rest()
                    self._exhausted(e)
                    return
                accepted += 1
                continue
            accepted += 1
            self._take(sock, address)
            if self._port.disconnecting:
                return
        # A system call that finds nobody is saved where clients come one by one, and a turn where many come at once.
        self._most = min(2 * most, _BATCH) if accepted == most and most else max(1, accepted)
        if accepted >= room and self._room() <= 0:
            self.paused = True
            self._port.stopReading()
            self._full()

    def _take(self, sock: socket.socket, address: Any) -> None:
        port = self._port
        transport: Any = None
        try:
            if sock.family == socket.AF_INET6 and address[3]:
                # As Twisted tells an address with a zone.
                flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
                address = (socket.getnameinfo(address, flags)[0], *address[1:])
            protocol = port.factory.buildProtocol(port._buildAddr(address))
            if protocol is None:
                sock.close()
                return
            number = port.sessionno
            port.sessionno = number + 1
            transport = port.transport(sock, protocol, address, port, number, port.reactor)
            protocol.makeConnection(transport)
        except Exception:
            _log.failure("a connection that was accepted met a bug of ours")
            if transport is None:
                sock.close()
            else:
                transport.abortConnection()

    def _rest(self) -> None:
        """
        Accept nobody for a while.
        """
        self._port.stopReading()
        if self._timer is None:
            self._timer = self._port.reactor.callLater(PAUSE, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if not self.paused:
            self._listen()

    def resume(self) -> None:
        """
        Go on, where that was paused for want of room, and there is some now.
        """
        if self.paused and self._room() > 0:
            self.paused = False
            if self._timer is None:
                self._listen()

    def _listen(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._port.startReading()

    def close(self) -> None:
        """
        The port is closed, or will be: leave no timer behind.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
