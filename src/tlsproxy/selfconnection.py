# -*- test-case-name: tests.test_selfconnection -*-
"""
A connection of ours with ourselves, over loopback: what has to be given a socket of TCP gets one end of it.

Any user of this machine can connect to what listens on loopback.  So the listening socket is there for one connection
only, and L{Door} lets nobody in but whoever comes from the port that we have bound ourselves.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tlsproxy.errors import HandshakeFailed, SessionError

__all__ = ["LOOPBACK", "Door", "meet"]

LOOPBACK: Final = "127.0.0.1"
"""Where all that happens."""

_INTRUDER: Final = "somebody else on this machine got in between: TLS by way of 127.0.0.1 met another than ourselves"


def meet() -> tuple[socket.socket, socket.socket]:
    """
    Make a listening socket on loopback, and one of ours that connects to it.

    @return: Both.  Neither blocks, and the second may still be on its way.
    @raise SessionError: There is none to be had.
    """
    listening = mine = None
    try:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listening.bind((LOOPBACK, 0))
        # Bound first, so that there is a port to know ourselves by before anybody can connect.
        mine = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mine.bind((LOOPBACK, 0))
        listening.listen(1)
        try:
            mine.connect(listening.getsockname())
        except BlockingIOError:
            pass
    except OSError as e:
        for one in (listening, mine):
            if one is not None:
                one.close()
        raise SessionError(f"TLS cannot be given a connection on {LOOPBACK}: {e.strerror}") from e
    return listening, mine


class Door(FileDescriptor):
    """
    A listening socket that lets one connection in, and is closed then.
    """

    def __init__(
        self,
        reactor: Any,
        listening: socket.socket,
        expected: Any,
        came: Callable[[socket.socket | SessionError], None],
    ) -> None:
        """
        @param listening: It.
        @param expected: The address that the one has who may come in.
        @param came: Called once, with its socket, or with why there is none.
        """
        super().__init__(reactor)
        self._clock: IReactorTime = reactor
        self._listening = listening
        self._expected = expected
        self._came: Callable[[socket.socket | SessionError], None] | None = came

    def fileno(self) -> int:
        """
        See L{IFileDescriptor<twisted.internet.interfaces.IFileDescriptor>}.
        """
        return self._listening.fileno()

    def logPrefix(self) -> str:
        """
        See L{ILoggingContext<twisted.internet.interfaces.ILoggingContext>}.
        """
        return "TLS on loopback"

    def open(self) -> None:
        """
        Let in who is there, or wait for it.
        """
        self.startReading()
        self.doRead()

    def doRead(self) -> None:
        """
        Somebody has come.
        """
        came = self._came
        if came is None:
            return
        try:
            sock, address = self._listening.accept()
        except BlockingIOError:
            return
        except OSError as e:
            self.close()
            came(SessionError(f"TLS cannot be given a connection on {LOOPBACK}: {e.strerror}"))
            return
        self.close()
        if address != self._expected:
            sock.close()
            came(HandshakeFailed(_INTRUDER))
            return
        sock.setblocking(False)
        came(sock)

    def close(self) -> None:
        """
        Nobody else gets in.
        """
        if self._came is not None:
            self._came = None
            self.stopReading()
            try:
                self._listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # Not every system can.
            # The reactor may hold an event for the descriptor.
            self._clock.callLater(0, self._listening.close)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor has found it dead.
        """
        came = self._came
        self.close()
        if came is not None:
            came(SessionError(f"TLS has lost its socket on {LOOPBACK}"))
