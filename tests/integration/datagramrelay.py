# -*- test-case-name: tests.integration -*-
"""
A bad network on loopback: a relay of datagrams that loses, repeats, delays and spoils them.
"""

from __future__ import annotations

import heapq
import itertools
import random
import select
import socket
import time
from collections.abc import Callable, Iterator
from threading import Lock, Thread
from typing import Any

from tests.integration.running import IntegrationTestCase

LOOPBACK = "127.0.0.1"

_APPLICATION_DATA = 23
_EPOCH = 4  # where the lower half of it stands in a record

Judge = Callable[[bool, bytes], Iterator[tuple[float, bytes]]]
"""Given a datagram and whether it goes to the upstream, says what is to be sent on, and after how many seconds."""


def perfect(outward: bool, datagram: bytes) -> Iterator[tuple[float, bytes]]:
    """
    Do nothing to it.
    """
    yield 0.0, datagram


class Terrible:
    """
    Does everything to datagrams that a network may do, the same for the same seed and order.
    """

    def __init__(self, seed: int, lost: float, twice: float = 0.1, late: float = 0.1, spoiled: float = 0.0) -> None:
        """
        @param lost: Which part is lost; so for the others.
        @param late: Which part is overtaken by others.
        """
        self._random = random.Random(seed)
        self._lost, self._twice, self._late, self._spoiled = lost, twice, late, spoiled

    def __call__(self, outward: bool, datagram: bytes) -> Iterator[tuple[float, bytes]]:
        """
        See L{Judge}.
        """
        chance = self._random.random
        for _ in range(2 if chance() < self._twice else 1):
            if chance() < self._lost:
                continue
            carried = datagram
            # A handshake in clear that is changed fails, whoever speaks: nothing in it says that it was, until its end.
            if chance() < self._spoiled and datagram[_EPOCH]:
                at = self._random.randrange(len(datagram))
                carried = datagram[:at] + bytes([datagram[at] ^ 1 << self._random.randrange(8)]) + datagram[at + 1 :]
            yield self._random.uniform(0.01, 0.1) if chance() < self._late else 0.0, carried


class Relay:
    """
    Stands between clients and a UDP port.

    @ivar port: Where it is.
    @ivar judge: What it does to datagrams; it may be set anew.
    @ivar seen: All datagrams that came, and whether they went to the upstream.
    """

    def __init__(self, case: IntegrationTestCase, upstream: int, judge: Judge = perfect, one: bool = False) -> None:
        """
        @param upstream: The port.
        @param one: Whether all clients have one address toward the upstream, so that each gets the data for any.
        """
        self.judge = judge
        self.seen: list[tuple[bool, bytes]] = []
        self._upstream = upstream
        self._one = one
        self._near = self._socket()
        self._near.bind((LOOPBACK, 0))
        self.port: int = self._near.getsockname()[1]
        self._fars: dict[Any, socket.socket] = {}
        self._clients: dict[socket.socket, list[Any]] = {}
        self._late: list[tuple[float, int, socket.socket, Any, bytes]] = []
        self._numbers = itertools.count()
        self._lock = Lock()
        self._over = False
        thread = Thread(target=self._run, daemon=True)
        thread.start()
        case.addCleanup(thread.join)
        case.addCleanup(self._end)

    def _end(self) -> None:
        self._over = True

    def _socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        return made

    def inject(self, outward: bool, datagram: bytes) -> None:
        """
        Send something to the upstream, or to all clients, as if it came from the other side.
        """
        with self._lock:
            fars = list(self._clients.items())
        for far, clients in fars:
            for client in clients:
                self._send(far if outward else self._near, None if outward else client, datagram)

    def _run(self) -> None:
        while not self._over:
            ready, _, _ = select.select([self._near, *self._clients], [], [], 0.01)
            for sock in ready:
                self._read(sock)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, sock, client, datagram = heapq.heappop(self._late)
                self._send(sock, client, datagram)
        for sock in (self._near, *self._clients):
            sock.close()

    def _read(self, sock: socket.socket) -> None:
        try:
            datagram, address = sock.recvfrom(65536)
        except OSError:
            return  # It tells that nobody is there.
        outward = sock is self._near
        self.seen.append((outward, datagram))
        ways: list[tuple[socket.socket, Any]]
        if outward:
            ways = [(self._far(address), None)]
        else:
            # Of several, the last is the one whose handshake is under way; s_client is confused by those of others.
            clients = self._clients[sock][-1:] if datagram[0] != _APPLICATION_DATA else self._clients[sock]
            ways = [(self._near, client) for client in clients]
        for delay, carried in self.judge(outward, datagram):
            for way, client in ways:
                if delay:
                    due = time.monotonic() + delay
                    heapq.heappush(self._late, (due, next(self._numbers), way, client, carried))
                else:
                    self._send(way, client, carried)

    def _far(self, address: Any) -> socket.socket:
        far = self._fars.get(address)
        if far is None:
            shared = next(iter(self._clients), None) if self._one else None
            far = shared or self._socket()
            if shared is None:
                far.connect((LOOPBACK, self._upstream))
            with self._lock:
                self._fars[address] = far
                self._clients.setdefault(far, []).append(address)
        return far

    def _send(self, sock: socket.socket, client: Any, datagram: bytes) -> None:
        try:
            if client is None:
                sock.send(datagram)
            else:
                sock.sendto(datagram, client)
        except OSError:
            pass  # It is lost.
