"""
Conversations that wait side by side in one thread: each is a generator that yields the descriptor and the event it
waits for, and all of them share one epoll.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Generator
from typing import TypeVar

from traffic import TrafficError

T = TypeVar("T")

Wait = tuple[int, int]
"""A descriptor, and C{EPOLLIN} or C{EPOLLOUT}."""

Steps = Generator[Wait, None, T]
"""A conversation, and what comes of it."""

_PATIENCE = 60.0


def tried(connection: socket.socket, do: Callable[[], T], event: int = select.EPOLLIN) -> Steps[T]:
    """
    Do something with a connection that does not block, again and again until it needs to wait no more.

    @param do: what to do.
    @param event: what to wait for where the connection is plain.
    """
    while True:
        try:
            return do()
        except ssl.SSLWantReadError:
            yield connection.fileno(), select.EPOLLIN
        except ssl.SSLWantWriteError:
            yield connection.fileno(), select.EPOLLOUT
        except BlockingIOError:
            yield connection.fileno(), event


def read(connection: socket.socket, size: int) -> Steps[bytes]:
    """
    Read C{size} bytes.

    @raise TrafficError: if the connection ends before.
    """
    data = bytearray()

    def more() -> bytes:
        return connection.recv(size - len(data))

    while len(data) < size:
        piece = yield from tried(connection, more)
        if not piece:
            raise TrafficError(f"the connection ended after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def leave(connection: socket.socket) -> Steps[None]:
    """
    End a connection in order: a close_notify, the answer to it, then the descriptor. A peer that answers with nothing
    but a FIN or a reset is forgiven.
    """
    if isinstance(connection, ssl.SSLSocket):
        try:
            yield from tried(connection, connection.unwrap)
        except OSError:
            pass
    connection.close()


def finish(steps: Steps[T]) -> T:
    """
    Go through one conversation alone.

    @raise TrafficError: if it waits for too long.
    """
    while True:
        try:
            descriptor, event = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(_PATIENCE * 1000):
            raise TrafficError(f"nothing came within {_PATIENCE:.0f} s")


class Crew:
    """
    Conversations under way.

    @ivar size: how many there are.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._events: dict[int, int] = {}
        self._waiting: dict[int, tuple[Steps[None], Callable[[], None]]] = {}
        self.size = 0

    def start(self, steps: Steps[None], ended: Callable[[], None] = lambda: None) -> None:
        """
        Begin one.

        @param ended: called at its end, which may be at once.
        """
        self.size += 1
        self._advance(steps, ended, None)

    def turn(self, seconds: float = _PATIENCE) -> bool:
        """
        Wait until one of them can go on, and let all go on that can.

        @param seconds: how long to wait. Unlike epoll's own it is exact to microseconds.
        @return: whether any could.
        """
        ready, _, _ = select.select([self._poll], [], [], max(0.0, seconds))
        if not ready:
            return False
        for descriptor, _ in self._poll.poll(0):
            self._advance(*self._waiting.pop(descriptor), descriptor)
        return True

    def finish(self) -> None:
        """
        Let all of them come to their end.

        @raise TrafficError: if nothing moves any more.
        """
        while self.size:
            if not self.turn():
                raise TrafficError(f"{self.size} conversations stand still")

    def _advance(self, steps: Steps[None], ended: Callable[[], None], before: int | None) -> None:
        try:
            descriptor, event = next(steps)
        except StopIteration:
            # Its descriptor is closed, and with that forgotten by epoll; the number may come again.
            if before is not None:
                self._events.pop(before, None)
            self.size -= 1
            ended()
            return
        self._waiting[descriptor] = steps, ended
        known = self._events.get(descriptor)
        if known is None:
            self._poll.register(descriptor, event)
        elif known != event:
            self._poll.modify(descriptor, event)
        self._events[descriptor] = event
