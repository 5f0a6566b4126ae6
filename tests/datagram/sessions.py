"""
Sessions whose both sides are datagrams, over loopback, by a reactor that stands still.
"""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher

from tests.tls.terrible import DatagramCase
from tlsproxy.address import UDP
from tlsproxy.deadlines import Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.entrance import Entrance
from tlsproxy.factory import RouteFactory
from tlsproxy.route import Route
from tlsproxy.status.tally import Tally
from tlsproxy.testing.socketreactor import SocketReactor
from tlsproxy.tls.datagrams import DTLSConnection

LOOPBACK = "127.0.0.1"


class DatagramSessionCase(DatagramCase):
    """
    Clients, a route, and an upstream.
    """

    def setUp(self) -> None:
        """
        Make an upstream, and listen to the log.
        """
        super().setUp()
        self.reactor = SocketReactor()
        self.clock.also = self.reactor.seconds
        self.upstream = self.udp()
        self.upstream.bind((LOOPBACK, 0))
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.tally = Tally()

    def udp(self) -> socket.socket:
        """
        Make a socket.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(sock.close)
        return sock

    @property
    def where(self) -> UDP:
        """
        Where the upstream is.
        """
        return UDP(LOOPBACK, self.upstream.getsockname()[1])

    def serve(self, pattern: Any, **more: Any) -> None:
        """
        Have a route listen.
        """
        route = Route(name="shop", listen=UDP(LOOPBACK, 0), pattern=pattern, **more)
        self.dialer = Dialer(self.reactor)
        self.factory = RouteFactory(route, self.reactor, Deadlines(self.reactor), self.dialer, observers=[self.tally])
        self.entrance = Entrance(self.factory)
        self.successResultOf(Deferred.fromCoroutine(self.entrance.open(self.reactor)))
        (self.port,) = self.entrance.ports
        self.addCleanup(self.finish)

    def finish(self) -> None:
        """
        End all of it.
        """
        self.entrance.close()
        for session in list(self.factory.sessions):
            session.stop()
        self.reactor.advance(1)
        self.reactor.pump()
        self.assertEqual((self.reactor.getReaders(), self.factory.sessions), ([], set()))

    def connect(self) -> socket.socket:
        """
        Make a client without DTLS.
        """
        client = self.udp()
        client.connect((LOOPBACK, self.port.getHost().port))  # type: ignore[attr-defined]
        return client

    def shake(self, sock: socket.socket, **policy: Any) -> DTLSConnection:
        """
        Go through a client's handshake.
        """
        connection = self.client(**policy).begin(DTLSConnection, 1200)
        for _ in range(10):
            try:
                connection.handshake()
            except SSL.WantReadError:
                pass
            else:
                self.flush(connection, sock)
                return connection
            self.flush(connection, sock)
            self.reactor.pump()
            self.hear(connection, sock)
        raise AssertionError("the handshake does not come to an end")

    def flush(self, connection: DTLSConnection, sock: socket.socket) -> None:
        """
        Send what is to be sent.
        """
        for datagram in connection.output():
            sock.send(datagram)

    def hear(self, connection: DTLSConnection, sock: socket.socket) -> None:
        """
        Take what came.
        """
        while True:
            try:
                connection.receive(sock.recv(65536))
            except BlockingIOError:
                return

    def says(self, connection: DTLSConnection, sock: socket.socket, *data: bytes) -> None:
        """
        Have a client say something.
        """
        for one in data:
            connection.write(one)
        self.flush(connection, sock)
        self.reactor.pump()

    def came(self) -> list[bytes]:
        """
        Take what came to the upstream.
        """
        found: list[bytes] = []
        while True:
            try:
                data, self.from_ = self.upstream.recvfrom(65536)
            except BlockingIOError:
                return found
            found.append(data)

    def line(self) -> str:
        """
        Tell the line of the last session.
        """
        lines = [formatEvent(event) for event in self.events if event.get("log_namespace") == "tlsproxy.session"]
        return lines[-1] if lines else ""
