"""
The server behind the proxies, in a process of its own so that its work is not counted as theirs.

C{python backend.py CHAIN.pem KEY.pem} prints one line of JSON with the ports it chose (C{plain}, C{tls}, C{echo}) and
serves until its standard input ends. The first two take the orders of L{traffic}; the third sends back what comes.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from traffic import HOST, ORDER_SIZE, Order, TrafficError, drain, push, readExactly, serverContext, speaks

_BACKLOG = 4096
_filler = os.urandom(1 << 16)


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, 0))
    listener.listen(_BACKLOG)
    return listener


def _obey(connection: socket.socket, order: Order) -> None:
    """
    Do what one order says, on a blocking connection.
    """
    if order.verb == "get":
        connection.sendall(_filler[: order.size])
    elif order.verb == "down":
        push(connection, order.size)
    elif order.verb == "up":
        drain(connection, order.size)
        connection.sendall(bytes(ORDER_SIZE))
    elif order.verb == "tell":
        connection.sendall(speaks(connection).encode("ascii").ljust(ORDER_SIZE, b"\0"))
    else:
        raise TrafficError(f"unknown order {order.verb!r}")


def _obeyAll(connection: socket.socket, order: Order | None = None) -> None:
    """
    Serve a blocking connection until it ends.

    @param order: one that was read already.
    """
    with connection:
        try:
            while True:
                _obey(connection, order or Order.fromBytes(readExactly(connection, ORDER_SIZE)))
                order = None
        except (OSError, TrafficError):
            pass


class _Crowd:
    """
    Serves many small plain connections from one thread.

    @param listener: where they come in.
    @param answer: called with a connection and what it sent; returns C{False} to give the connection away.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[socket.socket, bytes], bool]) -> None:
        self._listener = listener
        self._answer = answer
        self._connections: dict[int, socket.socket] = {}
        self._poll = select.epoll()

    def run(self) -> None:
        """
        Serve for ever.
        """
        entrance = self._listener.fileno()
        self._poll.register(entrance, select.EPOLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == entrance:
                    self._accept()
                else:
                    self._read(self._connections[descriptor])

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = connection
        self._poll.register(connection.fileno(), select.EPOLLIN)

    def _read(self, connection: socket.socket) -> None:
        descriptor = connection.fileno()
        try:
            data = connection.recv(1 << 16)
            keep = bool(data) and self._answer(connection, data)
        except OSError:
            keep, data = False, b""
        if keep:
            return
        del self._connections[descriptor]
        if data:
            self._poll.unregister(descriptor)
        else:
            connection.close()


def _echo(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    return True


def _serveOrder(connection: socket.socket, data: bytes) -> bool:
    if len(data) < ORDER_SIZE:
        data += readExactly(connection, ORDER_SIZE - len(data))
    order = Order.fromBytes(data[:ORDER_SIZE])
    if order.verb == "get":
        connection.sendall(_filler[: order.size])
        return True
    if order.verb == "up":
        order = Order("up", order.size - (len(data) - ORDER_SIZE))
    threading.Thread(target=_obeyAll, args=(connection, order), daemon=True).start()
    return False


def _serveTLS(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_handshake, args=(connection, context), daemon=True).start()


def _handshake(connection: socket.socket, context: ssl.SSLContext) -> None:
    try:
        secured = context.wrap_socket(connection, server_side=True)
    except OSError:
        connection.close()
        return
    _obeyAll(secured)


def main() -> None:
    """
    Open the three ports, name them, and serve until standard input ends.
    """
    chain, key = sys.argv[1:]
    plain, secured, echo = _listen(), _listen(), _listen()
    context = serverContext(Path(chain), Path(key))
    for run in (_Crowd(plain, _serveOrder).run, _Crowd(echo, _echo).run, lambda: _serveTLS(secured, context)):
        threading.Thread(target=run, daemon=True).start()
    ports = {"plain": plain.getsockname()[1], "tls": secured.getsockname()[1], "echo": echo.getsockname()[1]}
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
