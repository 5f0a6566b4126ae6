"""
The server behind the proxies, in a process of its own so that its work is not counted as theirs.

C{python backend.py CHAIN.pem KEY.pem} prints one line of JSON with the ports it chose and serves until its standard
input ends. C{plain} and C{tls} take the orders of L{traffic}, C{hello} the same in plain behind a ClientHello, which it
reads and forgets; C{echo} sends back what comes.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from traffic import HOST, ORDER_SIZE, Order, TrafficError, drain, push, readExactly, serverContext, speaks

_BACKLOG = 4096
_GRACE = 5.0
_RECORD_HEAD = struct.Struct(">B2xH")
_HANDSHAKE = 22
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
        if isinstance(connection, ssl.SSLSocket):
            _endTLS(connection)


def _endTLS(connection: ssl.SSLSocket) -> None:
    """
    Send the close_notify that makes an end of it, to a peer that has sent its own.
    """
    connection.settimeout(_GRACE)
    try:
        connection.unwrap()
    except OSError:
        pass


class _Crowd:
    """
    Serves many small plain connections from one thread.

    @param listener: where they come in.
    @param answer: called with a connection and what it sent; returns an order that needs a thread of its own, if any.
    @param hello: whether each connection begins with a ClientHello that is to be forgotten.
    """

    def __init__(
        self, listener: socket.socket, answer: Callable[[socket.socket, bytes], Order | None], hello: bool = False
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._hello = hello
        self._new: set[int] = set()
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
        if self._hello:
            self._new.add(connection.fileno())

    def _read(self, connection: socket.socket) -> None:
        descriptor = connection.fileno()
        try:
            if descriptor in self._new:
                self._new.discard(descriptor)
                _forgetHello(connection)
                return
            data = connection.recv(1 << 16)
            order = self._answer(connection, data) if data else None
        except (OSError, TrafficError):
            data, order = b"", None
        if data and order is None:
            return
        del self._connections[descriptor]
        self._poll.unregister(descriptor)
        if order is None:
            connection.close()
        else:
            # From here on the descriptor is the thread's, which may close it at any time.
            threading.Thread(target=_obeyAll, args=(connection, order), daemon=True).start()


def _forgetHello(connection: socket.socket) -> None:
    """
    Read the one record that a ClientHello is, and not a byte more.
    """
    kind, size = _RECORD_HEAD.unpack(readExactly(connection, _RECORD_HEAD.size))
    if kind != _HANDSHAKE:
        raise TrafficError(f"a record of type {kind} is no ClientHello")
    readExactly(connection, size)


def _echo(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)


def _serveOrder(connection: socket.socket, data: bytes) -> Order | None:
    if len(data) < ORDER_SIZE:
        data += readExactly(connection, ORDER_SIZE - len(data))
    order = Order.fromBytes(data[:ORDER_SIZE])
    if order.verb == "get":
        connection.sendall(_filler[: order.size])
        return None
    if order.verb == "up":
        order = Order("up", order.size - (len(data) - ORDER_SIZE))
    return order


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


def _die(failure: threading.ExceptHookArgs) -> None:
    """
    End at once: a backend with a dead thread would only keep everyone waiting.
    """
    threading.__excepthook__(failure)
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    """
    Open the ports, name them, and serve until standard input ends.
    """
    chain, key = sys.argv[1:]
    threading.excepthook = _die
    context = serverContext(Path(chain), Path(key))
    listeners = {name: _listen() for name in ("plain", "hello", "tls", "echo")}
    for run in (
        _Crowd(listeners["plain"], _serveOrder).run,
        _Crowd(listeners["hello"], _serveOrder, hello=True).run,
        lambda: _serveTLS(listeners["tls"], context),
        _Crowd(listeners["echo"], _echo).run,
    ):
        threading.Thread(target=run, daemon=True).start()
    print(json.dumps({name: listener.getsockname()[1] for name, listener in listeners.items()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
