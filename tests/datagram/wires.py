"""
Sides on UDP without a network: wires that carry in memory, and a socket that is none.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.tls.terrible import DatagramCase
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.tls.native import Buffer
from tlsproxy.wire.dtlshello import helloVerifyRequest, readHello

HERE, THERE = ("127.0.0.1", 8443), ("192.0.2.7", 40000)


def failing(code: int) -> OSError:
    """
    Make what the kernel raises.
    """
    return OSError(code, os.strerror(code))


class MemoryWire:
    """
    Carries what one end sends.

    @ivar sent: What was sent and not carried.
    @ivar narrow: The most bytes that it takes.
    @ivar hole: What is larger gets lost, and nobody tells.
    @ivar problems: What sending raises, one after the other.
    @ivar lose: How many of the next are lost.
    """

    def __init__(self) -> None:
        self.sent: deque[bytes] = deque()
        self.narrow = self.hole = 65507
        self.known = 0
        self.problems: list[int] = []
        self.lose = 0
        self.watched = False
        self.closed: list[DatagramEnd] = []
        self.done: list[DatagramEnd] = []

    def send(self, datagram: memoryview | bytes) -> None:
        """
        See L{Wire}.
        """
        if self.problems and (code := self.problems.pop(0)):
            raise failing(code)
        if len(datagram) > self.narrow:
            self.known = self.narrow
            raise failing(errno.EMSGSIZE)
        if self.lose:
            self.lose -= 1
        elif len(datagram) <= self.hole:
            self.sent.append(bytes(datagram))

    def peer(self) -> IPv4Address:
        """
        See L{Wire}.
        """
        return IPv4Address("UDP", *THERE)

    def host(self) -> IPv4Address:
        """
        See L{Wire}.
        """
        return IPv4Address("UDP", *HERE)

    def pathMTU(self) -> int:
        """
        See L{Wire}.
        """
        return self.known

    def watch(self) -> None:
        """
        See L{Wire}.
        """
        self.watched = True

    def settled(self, end: DatagramEnd) -> None:
        """
        See L{Wire}.
        """
        self.done.append(end)

    def close(self, end: DatagramEnd) -> None:
        """
        See L{Wire}.
        """
        self.closed.append(end)


class Result:
    """
    What comes of a coroutine.

    @ivar value: What it has returned.
    @ivar problem: What it has raised.
    """

    def __init__(self, coroutine: Coroutine[Deferred[Any], Any, Any]) -> None:
        self.value: Any = None
        self.problem: Any = None
        self.deferred = Deferred.fromCoroutine(coroutine).addCallbacks(self._returned, self._raised)

    def _returned(self, value: Any) -> None:
        self.value = value

    def _raised(self, failure: Any) -> None:
        self.problem = failure.value


class EndCase(DatagramCase):
    """
    A test with two sides on one wire each, which stand against each other.

    @ivar reactor: Their clock, and OpenSSL's.
    """

    def setUp(self) -> None:
        """
        Make both sides.
        """
        super().setUp()
        self.reactor = Clock()
        self.clock.also = self.reactor.seconds
        self.buffer = Buffer(65536)
        self.setUpAgain()

    def setUpAgain(self) -> None:
        """
        Begin with new ends.
        """
        self.nearWire, self.farWire = MemoryWire(), MemoryWire()
        self.near = DatagramEnd("the client", self.reactor, self.nearWire)
        self.far = DatagramEnd("the upstream", self.reactor, self.farWire)

    def give(self, end: DatagramEnd, datagram: bytes) -> None:
        """
        Have a datagram come.
        """
        self.buffer.view[: len(datagram)] = datagram
        end.came(self.buffer, len(datagram))

    def carry(self) -> None:
        """
        Carry all that is on the wires to the other side, until nothing more is.
        """
        while self.nearWire.sent or self.farWire.sent:
            for wire, to in ((self.farWire, self.near), (self.nearWire, self.far)):
                while wire.sent:
                    self.give(to, wire.sent.popleft())

    def passes(self, seconds: float) -> None:
        """
        Let time pass.
        """
        for _ in range(round(seconds * 20)):
            self.reactor.advance(0.05)
            self.carry()

    def hello(self, client: Any = None) -> Result:
        """
        Have the far side start DTLS, and bring the near one the hello with which it proves where it is.
        """
        there = Result(self.far.startTLS(client or self.client()))
        self.give(self.far, helloVerifyRequest(readHello(self.farWire.sent.popleft()), b"cookie"))
        self.near.dtlsHello = readHello(self.farWire.sent[0])
        self.give(self.near, self.farWire.sent.popleft())
        return there

    def shake(
        self, server: Any = None, client: Any = None, name: str | None = "shop.example", lost: tuple[int, int] = (0, 0)
    ) -> tuple[Result, Result]:
        """
        Start DTLS between the two, with the near one as the server.

        @param lost: How many datagrams get lost of those that follow the hello: the near side's, and the far one's.
        """
        there = self.hello(client)
        self.nearWire.lose, self.farWire.lose = lost
        here = Result(self.near.startTLS(server or self.server(), None, name))
        self.carry()
        return here, there

    def shaken(self, **more: Any) -> Any:
        """
        The same, and see that it is done.
        """
        for result in self.shake(**more):
            self.assertIdentical(result.problem, None)
            self.assertIsInstance(result.value, DTLSConnection)

    def heard(self, end: DatagramEnd) -> list[bytes]:
        """
        Join an end with a list.
        """
        heard: list[bytes] = []
        end.join(lambda datagram, count: heard.append(bytes(datagram.view[:count])))
        return heard


class FakeSocket:
    """
    A UDP socket that is none.

    @ivar coming: What comes, and from where.
    @ivar sent: What was sent, and to where.
    """

    family = socket.AF_UNIX

    def __init__(self) -> None:
        self.coming: deque[tuple[bytes, Any]] = deque()
        self.sent: deque[tuple[bytes, Any]] = deque()
        self.closed = False

    def recvfrom_into(self, view: memoryview) -> tuple[int, Any]:
        """
        Take the next.
        """
        if not self.coming:
            raise BlockingIOError()
        datagram, address = self.coming.popleft()
        if not address:
            raise failing(errno.ECONNREFUSED)
        view[: len(datagram)] = datagram
        return len(datagram), address

    def sendto(self, datagram: memoryview | bytes, address: Any) -> int:
        """
        Send one.
        """
        self.sent.append((bytes(datagram), address))
        return len(datagram)

    def sendmsg(self, *_: Any) -> None:
        """
        It knows where it is.
        """

    def getsockname(self) -> Any:
        """
        Tell where it is.
        """
        return HERE

    def fileno(self) -> int:
        """
        Tell the descriptor.
        """
        return -1 if self.closed else 42

    def close(self) -> None:
        """
        Close it.
        """
        self.closed = True


class Peer:
    """
    A client of DTLS at some address.

    @ivar heard: What it was sent.
    """

    def __init__(self, connection: DTLSConnection, address: Any, send: Callable[[bytes, Any], object]) -> None:
        self.connection = connection
        self.address = address
        self.heard: list[bytes] = []
        self.done = False
        self.problem: Exception | None = None
        self._send = send

    def go(self) -> None:
        """
        Do what can be done.
        """
        if not self.done and self.problem is None:
            try:
                self.connection.handshake()
                self.done = True
            except SSL.WantReadError:
                pass
            except Exception as e:
                self.problem = e
        while self.done and (datagram := self.connection.read()) is not None:
            self.heard.append(datagram)
        for output in self.connection.output():
            self._send(output, self.address)

    def say(self, data: bytes) -> None:
        """
        Send a datagram.
        """
        self.connection.write(data)
        self.go()
