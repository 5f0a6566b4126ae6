"""
The client before the proxies, in a process of its own so that its work is not counted as theirs.

C{python load.py KIND PORT [--ca FILE | --sni NAME | --target HOST:PORT] [--size N] [--count N] [--clients N]}: see
L{door} for the way in. A kind that has stages (C{requests}, C{hold}, C{stall}) prints a line at each and waits for a
line on its standard input. All print one line when every byte is there, or fail.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

from door import Door
from traffic import ORDER_SIZE, Order, TrafficError, close, drain, push, readExactly

_REPLY = 64
_RESPONSE = 200
_WORD = 5
_BURST = 60_000


def down(door: Door, size: int) -> None:
    """
    One connection that takes C{size} bytes.
    """
    connection = door.open()
    connection.sendall(Order("down", size).toBytes())
    drain(connection, size)
    close(connection)


def up(door: Door, size: int) -> None:
    """
    One connection that gives C{size} bytes and waits until the backend says that it has them.
    """
    connection = door.open()
    connection.sendall(Order("up", size).toBytes())
    push(connection, size)
    readExactly(connection, ORDER_SIZE)
    close(connection)


def connections(door: Door, count: int, clients: int) -> None:
    """
    New connections, each with one exchange of 64 bytes and an orderly end.

    @param count: how many in all.
    @param clients: how many at a time, one thread each.
    @raise TrafficError: if one of them failed.
    """
    todo = iter(range(count))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def visit() -> None:
        while not failures:
            with lock:
                if next(todo, None) is None:
                    return
            try:
                connection = door.open()
                connection.sendall(Order("get", _REPLY).toBytes())
                readExactly(connection, _REPLY)
                close(connection)
            except Exception as failure:
                failures.append(failure)

    threads = [threading.Thread(target=visit) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise TrafficError("a connection failed") from failures[0]


def requests(door: Door, count: int, clients: int) -> None:
    """
    Small requests of 64 bytes, answered with 200, over connections that stay. Two stages set the requests apart from
    the coming and going of the connections.

    @param count: how many requests in all.
    @param clients: how many connections, each with one request under way.
    @raise TrafficError: if a connection ends, or answers more than it was asked for.
    """
    request = Order("get", _RESPONSE).toBytes()
    poll = select.epoll()
    peers: dict[int, socket.socket] = {}
    due: dict[int, int] = {}
    for _ in range(clients):
        connection = door.open()
        connection.setblocking(False)
        peers[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
    _stage("connected")
    sent = answered = 0
    for descriptor, connection in peers.items():
        connection.send(request)
        due[descriptor] = _RESPONSE
        sent += 1
    while answered < count:
        for descriptor, _ in poll.poll():
            connection = peers[descriptor]
            try:
                data = connection.recv(_RESPONSE + 1)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            due[descriptor] -= len(data)
            if not data or due[descriptor] < 0:
                raise TrafficError("a connection ended, or answered too much")
            if due[descriptor]:
                continue
            answered += 1
            if sent < count:
                connection.send(request)
                due[descriptor] = _RESPONSE
                sent += 1
    _stage("answered")
    for connection in peers.values():
        connection.setblocking(True)
        close(connection)


def hold(door: Door, count: int) -> None:
    """
    Connections that stay: first each says a word of 5 bytes and hears it back, then each sends and hears a burst of
    60 kB. Needs the echoing backend.

    @param count: how many.
    """
    held = []
    for _ in range(count):
        held.append(door.open())
        _exchange(held[-1], _WORD)
    _stage("idle")
    for connection in held:
        _exchange(connection, _BURST)
    _stage("burst")
    for connection in held:
        connection.close()


def _exchange(connection: socket.socket, size: int) -> None:
    said = os.urandom(size)
    connection.sendall(said)
    if readExactly(connection, size) != said:
        raise TrafficError("the echo is not what was sent")


def stall(door: Door, size: int) -> None:
    """
    One connection that orders C{size} bytes and never reads.
    """
    connection = door.open()
    connection.sendall(Order("down", size).toBytes())
    time.sleep(1.0)
    _stage("stalled")
    connection.close()


def _stage(name: str) -> None:
    print(name, flush=True)
    sys.stdin.readline()


def main() -> None:
    """
    Read the command line and make one kind of load.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["down", "up", "connections", "requests", "hold", "stall"])
    parser.add_argument("port", type=int)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--sni", default="")
    parser.add_argument("--target", default="")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--clients", type=int, default=1)
    given = parser.parse_args()
    door = Door(given.port, given.ca, given.sni, given.target)
    if given.kind == "down":
        down(door, given.size)
    elif given.kind == "up":
        up(door, given.size)
    elif given.kind == "connections":
        connections(door, given.count, given.clients)
    elif given.kind == "requests":
        requests(door, given.count, given.clients)
    elif given.kind == "hold":
        hold(door, given.count)
    else:
        stall(door, given.size)
    print("done", flush=True)


if __name__ == "__main__":
    main()
