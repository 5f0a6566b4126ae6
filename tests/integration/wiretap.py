# -*- test-case-name: tests.integration.test_sequential_takeover -*-
"""
Somebody on the wire between two proxies, who sees every byte of it, and at any byte can go on in their place.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.integration.innertls import DOWN, UP
from tests.integration.running import PATIENCE

PAUSE = 0.15
"""Seconds of silence after which nothing more is hoped for."""

STOLEN = b"GET /666 HTTP/1.1\r\nHost: localhost\r\n\r\n"


@frozen
class Position:
    """
    A place in what passes.

    @ivar record: How many whole TLS records pass in that direction before.
    @ivar within: How many bytes of the next one do.
    """

    direction: int
    record: int
    within: int = 0


class Leg:
    """
    A connection that passes.

    @ivar passed: What did, in each direction.
    @ivar ends: How each direction ended: C{"FIN"}, C{"RST"}, or not yet.
    @ivar taken: Whether it was taken over.
    @ivar loot: What the attack has read that was no longer meant for its victim.
    @ivar victim: Who is attacked: the socket toward it.
    @ivar way: The direction that the attack writes.
    """

    def __init__(self, front: socket.socket, back: socket.socket) -> None:
        self.passed = (bytearray(), bytearray())
        self.ends = ["", ""]
        self.taken = False
        self.loot = b""
        self.socks = (front, back)
        self.victim, self.way = back, UP

    def upTo(self, place: Position, data: bytes) -> int:
        """
        Tell how many of the next bytes pass before a place.
        """
        passed = bytearray(self.passed[place.direction])
        at, count = 0, 0
        passed += data
        while count < place.record and len(passed) >= at + 5:
            at, count = at + 5 + int.from_bytes(passed[at + 3 : at + 5], "big"), count + 1
        if count < place.record:
            return len(data)
        return max(0, min(len(data), at + place.within - len(self.passed[place.direction])))

    def reached(self, place: Position) -> bool:
        """
        Tell whether a place is where the direction has come to.
        """
        return self.upTo(place, b"?") == 0

    def drain(self, pause: float = PAUSE) -> bytes:
        """
        Read what the victim says, until it ends or falls silent.
        """
        self.victim.settimeout(pause)
        try:
            while data := self.victim.recv(65536):
                self.loot += data
        except OSError:
            pass
        return self.loot


Action = Callable[[Leg], None]


class Wire:
    """
    The wire; what connects to it is passed on.

    @ivar port: Where it begins.
    @ivar to: The port where it ends.
    @ivar legs: The connections that it has passed.
    @ivar plan: Where to take the next one over, and what to do then.
    """

    def __init__(self, case: SynchronousTestCase, to: int) -> None:
        """
        @param to: The port where it ends.
        """
        self.to = to
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.legs: list[Leg] = []
        self.plan: tuple[Position, Action] | None = None
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        case.addCleanup(self._stop)

    def _stop(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for leg in self.legs:
            for sock in leg.socks:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.wait()

    def wait(self) -> None:
        """
        Wait until all connections are over.
        """
        for thread in self._threads[1:]:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection goes on"

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._socket.accept()
            except OSError:
                return
            try:
                back = socket.create_connection(("127.0.0.1", self.to), PATIENCE)
            except OSError:
                front.close()
                continue
            plan, self.plan = self.plan, None
            leg = Leg(front, back)
            for sock in leg.socks:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.legs.append(leg)
            self._threads.append(threading.Thread(target=self._pass, args=(leg, plan), daemon=True))
            self._threads[-1].start()

    def _pass(self, leg: Leg, plan: tuple[Position, Action] | None) -> None:
        try:
            while not all(leg.ends):
                if plan is not None and leg.reached(plan[0]):
                    leg.way = plan[0].direction
                    leg.victim, leg.taken = leg.socks[1 - leg.way], True
                    plan[1](leg)
                    return
                reading = [leg.socks[way] for way in (UP, DOWN) if not leg.ends[way]]
                for sock in select.select(reading, [], [], PATIENCE)[0] or reading[:0]:
                    self._move(leg, leg.socks.index(sock), plan)
                    if plan is not None and leg.reached(plan[0]):
                        break
        except OSError:
            pass
        finally:
            for sock in leg.socks:
                sock.close()

    def _move(self, leg: Leg, way: int, plan: tuple[Position, Action] | None) -> None:
        source, sink = leg.socks[way], leg.socks[1 - way]
        try:
            data = source.recv(65536, socket.MSG_PEEK)
        except OSError:
            leg.ends[way] = leg.ends[way] or "RST"
            raise
        if not data:
            leg.ends[way] = "FIN"
            sink.shutdown(socket.SHUT_WR)
            return
        if plan is not None and plan[0].direction == way:
            data = data[: leg.upTo(plan[0], data)]
        source.recv(len(data))
        leg.passed[way].extend(data)
        sink.sendall(data)


def ownHello(certificate: Path) -> Action:
    """
    Have the attacker begin a TLS of its own.

    @param certificate: What it shows if it is asked; it is a good one, of somebody else.
    """

    def act(leg: Leg) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate)
        # What still comes is not for the attacker.
        leg.drain(PAUSE / 3)
        leg.victim.settimeout(2 * PAUSE)
        try:
            tls = context.wrap_socket(leg.victim, server_hostname="localhost")
            tls.sendall(STOLEN)
            leg.loot += tls.recv(65536)
        except OSError:
            pass

    return act


def ownServer(certificate: Path) -> Action:
    """
    Have the attacker wait for a hello, and answer it as the destination would.
    """

    def act(leg: Leg) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        leg.victim.settimeout(2 * PAUSE)
        try:
            tls = context.wrap_socket(leg.victim, server_side=True)
            leg.loot += tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"stolen".ljust(100))
        except OSError:
            pass

    return act


def says(data: bytes) -> Action:
    """
    Have the attacker say something.
    """

    def act(leg: Leg) -> None:
        leg.victim.sendall(data)
        leg.drain()

    return act


def forgedEnd(leg: Leg) -> None:
    """
    Have the attacker end the stream.
    """
    leg.victim.shutdown(socket.SHUT_WR)
    leg.drain()


def replay(leg: Leg) -> None:
    """
    Have the attacker say all once more that has passed.
    """
    leg.victim.sendall(bytes(leg.passed[leg.way]))
    leg.drain()


def replayLast(leg: Leg) -> None:
    """
    Have the attacker repeat the last record.
    """
    data, at = bytes(leg.passed[leg.way]), 0
    while len(data) >= at + 5 and len(data) > (end := at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")):
        at = end
    leg.victim.sendall(data[at:])
    leg.drain()


_random = random.Random(2006)

ACTIONS: dict[str, Action] = {
    "plain": says(STOLEN),
    "garbage": says(_random.randbytes(900)),
    "garbage in records": says(b"\x17\x03\x03\x01\x00" + _random.randbytes(256) + b"\x17\x03\x03\x00\x13" + bytes(19)),
    "alert in clear": says(b"\x15\x03\x03\x00\x02\x01\x00" + STOLEN),
    "end": forgedEnd,
    "replay": replay,
    "replay of the last record": replayLast,
}
