"""
The client before the proxies, in a process of its own so that its work is not counted as theirs.

C{python load.py KIND PORT [--ca FILE | --sni NAME | --target HOST:PORT] [--version V] [--size N] [--count N]
[--clients N] [--rate N]}: see L{door} for the way in. A kind that has stages (C{requests}, C{resumed}, C{hold},
C{stall}) prints a line at each and waits for a line on its standard input. All print one line of JSON when every byte
is there, with what they have to tell, or fail.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

from attrs import define
from door import Door
from pacing import Told, pacedConnections, pacedRequests
from steps import Crew, Steps, finish, leave, read
from traffic import ORDER_SIZE, REPLY, RESPONSE, VERSIONS, Order, TrafficError, drain, push, readExactly

_WORD = 5
_BURST = 60_000


@define
class Load:
    """
    One kind of load, and how much of it.

    @param door: the way in.
    @param size: bytes.
    @param count: connections or requests.
    @param clients: how many connections at a time.
    @param rate: how many begin each second.
    """

    door: Door
    size: int
    count: int
    clients: int
    rate: float

    def down(self) -> Told:
        """
        One connection that takes C{size} bytes.
        """
        connection = self.door.open()
        connection.sendall(Order("down", self.size).toBytes())
        drain(connection, self.size)
        finish(leave(connection))
        return {}

    def up(self) -> Told:
        """
        One connection that gives C{size} bytes and waits until the backend says that it has them.
        """
        connection = self.door.open()
        connection.sendall(Order("up", self.size).toBytes())
        push(connection, self.size)
        readExactly(connection, ORDER_SIZE)
        finish(leave(connection))
        return {}

    def connections(self) -> Told:
        """
        New connections, each with one exchange of 64 bytes and an orderly end.

        @raise TrafficError: if one of them failed.
        """
        began = time.monotonic()
        self._visitAll(lambda: None)
        return {"seconds": time.monotonic() - began}

    def resumed(self) -> Told:
        """
        The same, each resuming the session that the one before it in its lane was given. A stage sets the handshake
        apart that gives the first.

        @raise TrafficError: if one of them failed, or was not resumed.
        """
        first = _Lane()
        finish(self._visit(first))
        _stage("given")
        self._visitAll(lambda: _Lane(first.session))
        _stage("resumed")
        return {}

    def _visitAll(self, lane: Callable[[], _Lane | None]) -> None:
        crew = Crew()
        todo = iter(range(self.count))

        def follow(lane: _Lane | None) -> None:
            if next(todo, None) is not None:
                crew.start(self._visit(lane), lambda: follow(lane))

        for _ in range(self.clients):
            follow(lane())
        crew.finish()

    def _visit(self, lane: _Lane | None) -> Steps[None]:
        connection = yield from self.door.enter(None if lane is None else lane.session)
        connection.send(Order("get", REPLY).toBytes())
        yield from read(connection, REPLY)
        if lane is not None:
            lane.take(connection)
        yield from leave(connection)

    def requests(self) -> Told:
        """
        Small requests of 64 bytes, answered with 200, over connections that stay, each with one request under way. Two
        stages set the requests apart from the coming and going of the connections.

        @raise TrafficError: if a connection ends, or answers more than it was asked for.
        """
        request = Order("get", RESPONSE).toBytes()
        poll = select.epoll()
        peers: dict[int, socket.socket] = {}
        due: dict[int, int] = {}
        for _ in range(self.clients):
            connection = self.door.open()
            connection.setblocking(False)
            peers[connection.fileno()] = connection
            poll.register(connection.fileno(), select.EPOLLIN)
        _stage("connected")
        sent = answered = 0
        for descriptor, connection in [*peers.items()][: self.count]:
            connection.send(request)
            due[descriptor] = RESPONSE
            sent += 1
        while answered < self.count:
            for descriptor, _ in poll.poll():
                connection = peers[descriptor]
                try:
                    data = connection.recv(RESPONSE + 1)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue
                due[descriptor] -= len(data)
                if not data or due[descriptor] < 0:
                    raise TrafficError("a connection ended, or answered too much")
                if due[descriptor]:
                    continue
                answered += 1
                if sent < self.count:
                    connection.send(request)
                    due[descriptor] = RESPONSE
                    sent += 1
        _stage("answered")
        for connection in peers.values():
            finish(leave(connection))
        return {}

    def pacedConnections(self) -> Told:
        """
        See L{pacing.pacedConnections}.
        """
        return pacedConnections(self.door, self.count, self.rate)

    def pacedRequests(self) -> Told:
        """
        See L{pacing.pacedRequests}.
        """
        return pacedRequests(self.door, self.count, self.rate, self.clients)

    def hold(self) -> Told:
        """
        Connections that stay: first each says a word of 5 bytes and hears it back, then each sends and hears a burst of
        60 kB. Needs the echoing backend.
        """
        held = []
        for _ in range(self.count):
            held.append(self.door.open())
            _exchange(held[-1], _WORD)
        _stage("idle")
        for connection in held:
            _exchange(connection, _BURST)
        _stage("burst")
        for connection in held:
            connection.close()
        return {}

    def stall(self) -> Told:
        """
        One connection that orders C{size} bytes and never reads.
        """
        connection = self.door.open()
        connection.sendall(Order("down", self.size).toBytes())
        time.sleep(1.0)
        _stage("stalled")
        connection.close()
        return {}


class _Lane:
    """
    Connections that follow each other, each resuming the session of the one before.

    @ivar session: what the next one resumes.
    """

    def __init__(self, session: ssl.SSLSession | None = None) -> None:
        self.session = session

    def take(self, connection: socket.socket) -> None:
        """
        Keep the session that a connection was given.
        """
        assert isinstance(connection, ssl.SSLSocket)
        self.session = connection.session
        if self.session is None or not (self.session.has_ticket or self.session.id):
            raise TrafficError("no session was given that could be resumed")


def _exchange(connection: socket.socket, size: int) -> None:
    said = os.urandom(size)
    connection.sendall(said)
    if readExactly(connection, size) != said:
        raise TrafficError("the echo is not what was sent")


def _stage(name: str) -> None:
    print(name, flush=True)
    sys.stdin.readline()


def main() -> None:
    """
    Read the command line and make one kind of load.
    """
    kinds = {
        "down": Load.down,
        "up": Load.up,
        "connections": Load.connections,
        "resumed": Load.resumed,
        "requests": Load.requests,
        "paced-connections": Load.pacedConnections,
        "paced-requests": Load.pacedRequests,
        "hold": Load.hold,
        "stall": Load.stall,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("port", type=int)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--sni", default="")
    parser.add_argument("--target", default="")
    parser.add_argument("--version", default="1.3", choices=VERSIONS)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    given = parser.parse_args()
    door = Door(given.port, given.ca, given.sni, given.target, given.version)
    told = kinds[given.kind](Load(door, given.size, given.count, given.clients, given.rate))
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
