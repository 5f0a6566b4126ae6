"""
What clients of everyday life do, the good and the bad, each as one visit to a proxy.
"""

from __future__ import annotations

import os
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from functools import cache

from attrs import Factory, define, field
from door import Door, clientHello
from OpenSSL import SSL
from steps import finish, leave
from traffic import HOST, NAME, ORDER_SIZE, REPLY, Order, TrafficError, drain, push, readExactly

_MOST = 4 << 20
_STALLED = 20 << 20
_PATIENCE = 60.0


@cache
def _hello() -> bytes:
    return clientHello(NAME)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def short(door: Door, chance: random.Random) -> None:
    """
    One small request, and an orderly end.
    """
    connection = door.open()
    connection.sendall(Order("get", REPLY).toBytes())
    readExactly(connection, REPLY)
    finish(leave(connection))


def several(door: Door, chance: random.Random) -> None:
    """
    Small requests on one connection.
    """
    connection = door.open()
    for _ in range(chance.randrange(2, 50)):
        size = chance.randrange(1, 20_000)
        connection.sendall(Order("get", size).toBytes())
        readExactly(connection, size)
    finish(leave(connection))


def down(door: Door, chance: random.Random) -> None:
    """
    A transfer to the client.
    """
    size = chance.randrange(_MOST)
    connection = door.open()
    connection.sendall(Order("down", size).toBytes())
    drain(connection, size)
    finish(leave(connection))


def up(door: Door, chance: random.Random) -> None:
    """
    A transfer to the upstream.
    """
    size = chance.randrange(1, _MOST)
    connection = door.open()
    connection.sendall(Order("up", size).toBytes())
    push(connection, size)
    readExactly(connection, ORDER_SIZE)
    finish(leave(connection))


def halfClose(door: Door, chance: random.Random) -> None:
    """
    An order, the end of the client's direction, and then all of the answer and its end.
    """
    size = chance.randrange(_MOST)
    with socket.create_connection((HOST, door.port), _PATIENCE) as raw:
        raw.settimeout(None)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(_PATIENCE), 0))
        # Python's own module takes nothing any more once it has ended its side.
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(str(door.ca))
        context.set_verify(SSL.VERIFY_PEER)
        tls = SSL.Connection(context, raw)
        tls.set_tlsext_host_name(NAME.encode("ascii"))
        tls.set_connect_state()
        tls.do_handshake()
        tls.sendall(Order("down", size).toBytes())
        tls.shutdown()
        raw.shutdown(socket.SHUT_WR)
        got = 0
        try:
            while True:
                got += len(tls.recv(1 << 16))
        except SSL.ZeroReturnError:
            pass
    if got != size:
        raise TrafficError(f"{got} of {size} bytes came after the client's end")


def stall(door: Door, chance: random.Random) -> None:
    """
    A reader that orders much, reads nothing, and leaves.
    """
    connection = door.open()
    connection.sendall(Order("down", _STALLED).toBytes())
    time.sleep(chance.uniform(0.5, 3.0))
    _leaveRudely(connection, chance)


def breakOff(door: Door, chance: random.Random) -> None:
    """
    A transfer that the client breaks off.
    """
    connection = door.open()
    connection.sendall(Order("down", _MOST).toBytes())
    drain(connection, chance.randrange(1, _MOST // 2))
    _leaveRudely(connection, chance)


def abort(door: Door, chance: random.Random) -> None:
    """
    A handshake that the client breaks off, in its hello or after it.
    """
    said = _hello()
    raw = socket.create_connection((HOST, door.port), _PATIENCE)
    raw.sendall(said[: chance.choice((0, 1, 5, 100, len(said) - 1, len(said), len(said)))])
    time.sleep(chance.choice((0.0, 0.01)))
    _leaveRudely(raw, chance)


def distrust(door: Door, chance: random.Random) -> None:
    """
    A handshake that fails, since the client knows no root.
    """
    raw = socket.create_connection((HOST, door.port), _PATIENCE)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(raw, server_hostname=NAME).close()
    except ssl.SSLError:
        raw.close()
    else:
        raise TrafficError("an unknown root was trusted")


def babble(door: Door, chance: random.Random) -> None:
    """
    No TLS at all.
    """
    raw = socket.create_connection((HOST, door.port), _PATIENCE)
    raw.sendall(
        chance.choice((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-x\r\n", os.urandom(300), b"\x16\x03\x01"))
    )
    time.sleep(chance.choice((0.0, 0.01)))
    _leaveRudely(raw, chance)


def _leaveRudely(connection: socket.socket, chance: random.Random) -> None:
    chance.choice((_reset, socket.socket.close))(connection)


Visit = Callable[[Door, random.Random], None]

GOOD: dict[Visit, int] = {short: 60, several: 10, down: 4, up: 4, halfClose: 4}
"""Those that have to come to a good end, and how often each comes."""

BAD: dict[Visit, int] = {stall: 2, breakOff: 4, abort: 6, distrust: 3, babble: 3}


@define
class Visitors:
    """
    Clients that come and go at the same time.

    @param doors: where they go.
    @param count: how many.
    @ivar visits: how many visits each route had.
    @ivar good: how many of these have come to a good end.
    @ivar failures: what went wrong with those that should have.
    """

    doors: dict[str, Door]
    count: int
    visits: dict[str, int] = field(init=False)
    good: dict[str, int] = field(init=False)
    failures: list[str] = Factory(list)
    _lock: threading.Lock = Factory(threading.Lock)
    _serial: int = 0

    def __attrs_post_init__(self) -> None:
        self.visits = dict.fromkeys(self.doors, 0)
        self.good = dict.fromkeys(self.doors, 0)

    def batch(self, seconds: float) -> None:
        """
        Have all of them come again and again for some time, and wait until the last has left.
        """
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._visit, args=(until,)) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _visit(self, until: float) -> None:
        with self._lock:
            self._serial += 1
            chance = random.Random(self._serial)
        kinds = [*GOOD, *BAD]
        weights = [*GOOD.values(), *BAD.values()]
        while time.monotonic() < until:
            route = chance.choice([*self.doors])
            visit = chance.choices(kinds, weights)[0]
            wrong = ""
            try:
                visit(self.doors[route], chance)
            except (OSError, SSL.Error, TrafficError) as failure:
                wrong = f"{visit.__name__} through {route}: {failure!r}"
            with self._lock:
                self.visits[route] += 1
                if visit in GOOD and not wrong:
                    self.good[route] += 1
                elif wrong and visit in (*GOOD, distrust):
                    self.failures.append(wrong)
