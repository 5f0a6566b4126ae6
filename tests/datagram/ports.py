"""
A UDP port without a network, and its clients.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from tests.datagram.wires import THERE, FakeSocket, Peer, Result
from tests.tls.terrible import DatagramCase
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.port import DatagramPort
from tlsproxy.datagram.sharing import Terms
from tlsproxy.tls.datagrams import DTLSConnection
from tlsproxy.wire.cookies import Cookies


class Reactor(Clock):
    """
    A reactor that knows what is to be read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """
        See L{IReactorFDSet}.
        """
        if reader in self.readers:
            self.readers.remove(reader)


class PortCase(DatagramCase):
    """
    A test with a port.

    @ivar accepted: Its associations.
    @ivar heard: What came in them.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        super().setUp()
        self.reactor = Reactor()
        self.clock.also = self.reactor.seconds
        self.tls = self.server()
        self.theirs = self.client()
        self.accepted: list[DatagramEnd] = []
        self.results: list[Result] = []
        self.heard: list[bytes] = []
        self.peers: dict[Any, Peer] = {}
        self.listen()

    def listen(self, **more: Any) -> None:
        """
        Begin anew.
        """
        self.sock = FakeSocket()
        self.random = 0
        cookies = Cookies(self.secret, self.reactor.seconds)
        self.port = DatagramPort(self.reactor, self.sock, self.accept, cookies, Terms(**more))  # type: ignore[arg-type]
        self.port.startListening()

    def secret(self, count: int) -> bytes:
        """
        Make what stands for random bytes.
        """
        self.random += 1
        return bytes([self.random]) * count

    def accept(self, end: DatagramEnd) -> None:
        """
        Let somebody in.
        """
        self.accepted.append(end)
        if end.dtlsHello is None:
            end.join(self.hear)
            return
        self.results.append(Result(end.startTLS(self.tls, None, end.dtlsHello.hello.serverName)))
        self.results[-1].deferred.addCallback(lambda _: end.join(self.hear) if not end.gone else None)

    def hear(self, datagram: Any, count: int) -> None:
        """
        Hear something.
        """
        self.heard.append(bytes(datagram.view[:count]))

    def come(self, datagram: bytes, address: Any = THERE) -> None:
        """
        Have one datagram come.
        """
        self.sock.coming.append((datagram, address))
        self.port.doRead()

    def peer(self, address: Any = THERE) -> Peer:
        """
        Make a client, which has said nothing yet; it takes the place of one that is at the same address.
        """
        peer = Peer(self.theirs.begin(DTLSConnection, 1200), address, lambda *sent: self.sock.coming.append(sent))
        self.peers[address] = peer
        return peer

    def carry(self, most: int = 1000) -> None:
        """
        Carry everything.

        @param most: How many datagrams toward the clients at most.
        """
        while self.sock.coming or (self.sock.sent and most):
            if self.sock.coming:
                self.port.doRead()
            if self.sock.sent and most:
                most -= 1
                datagram, address = self.sock.sent.popleft()
                self.peers[address].connection.receive(datagram)
                self.peers[address].go()

    def shaken(self, address: Any = THERE) -> Peer:  # type: ignore[override]
        """
        Make a client that has done its handshake.
        """
        peer = self.peer(address)
        peer.go()
        self.carry()
        self.assertTrue(peer.done, peer.problem)
        return peer
