"""
Sequential tunnels in memory: browser, client proxy, reverse proxy and destination, or some of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tlsproxy.downgrade import Downgrade, Inner, follow
from tlsproxy.end import End
from tlsproxy.factory import RouteFactory
from tlsproxy.interfaces import INWARD, OUTWARD, IPattern, Way
from tlsproxy.session import Session
from tlsproxy.steps import acceptTLS, connectTLS, dial, readHello
from tlsproxy.testing.sessions import SessionCase
from tlsproxy.testing.socketreactor import ADDRESS, connect, unixPair
from tlsproxy.testing.streampeers import Browser, Peer, TLSPeer
from tlsproxy.testing.streams import clientTLS, serverTLS


@implementer(IPattern)
@frozen(kw_only=True)
class Tunnel:
    """
    One of the two proxies, where what they agree upon has been agreed upon.

    @ivar outer: In which way its outer TLS is written.
    @ivar upstream: Whom it dials.
    @ivar agreed: What was agreed upon.
    @ivar how: How TLS is taken off.
    @ivar names: Further server names.
    """

    mode = "tunnel"
    ruled = False
    outer: Way
    upstream: Any
    agreed: str = "handshake"
    how: Downgrade = field(factory=Downgrade)
    names: tuple[str, ...] = ()

    async def open(self, session: Session) -> tuple[End, End]:
        """
        Open both sides.
        """
        if self.outer == INWARD:
            session.near.takeOff = self.how.takeOff
            await readHello(session)
            await acceptTLS(session, serverTLS("TLSv1.3"))
        far = await dial(session, self.upstream)
        if self.outer == OUTWARD:
            far.takeOff = self.how.takeOff
            await connectTLS(session, far, clientTLS("TLSv1.3"))
        await follow(session, self.outer, self.agreed, self.how, Inner(host="shop.example", names=self.names))
        return session.near, far


class Wire:
    """
    The connection between the two proxies, where somebody may sit.

    @ivar passed: All that has passed, each way.
    @ivar cuts: Behind which byte nothing more is passed on, each way: so many bytes behind so many records; what comes
        then is in C{caught}.
    @ivar caught: What was not passed on.
    @ivar step: How many bytes pass at once.
    @ivar client: The socket toward the client proxy.
    @ivar server: The one toward the reverse proxy.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.passed = {OUTWARD: bytearray(), INWARD: bytearray()}
        self.caught = {OUTWARD: bytearray(), INWARD: bytearray()}
        self.cuts: dict[Way, tuple[int, int]] = {}
        self.step = 65536
        self._unsent = {OUTWARD: bytearray(), INWARD: bytearray()}
        self._ended: set[Way] = set()
        self._over = False

    def pump(self) -> bool:
        """
        Pass on what there is.

        @return: Whether anything was.
        """
        return not self._over and any([self._carry(OUTWARD), self._carry(INWARD)])

    def _ends(self, way: Way) -> tuple[socket.socket, socket.socket]:
        return (self.client, self.server) if way == OUTWARD else (self.server, self.client)

    def _carry(self, way: Way) -> bool:
        source, sink = self._ends(way)
        unsent, moved = self._unsent[way], False
        try:
            if not unsent and way not in self._ended:
                data = source.recv(self.step)
                moved = True
                if not data:
                    self._ended.add(way)
                elif way in self.cuts:
                    left = self._left(way, data)
                    self.caught[way] += data[left:]
                    unsent += data[:left]
                else:
                    unsent += data
                if not data and self.mayEnd(way):
                    sink.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self.break_()
            return True
        if unsent:
            moved = self.inject(way, b"") or moved
        return moved

    def _left(self, way: Way, data: bytes) -> int:
        """
        Tell how many of some bytes still pass.
        """
        count, more = self.cuts[way]
        passed = self.passed[way]
        stream, at = bytes(passed) + data, 0
        for _ in range(count):
            if len(stream) < at + 5:
                return len(data)
            at += 5 + int.from_bytes(stream[at + 3 : at + 5], "big")
        return min(max(0, at + more - len(passed)), len(data))

    def mayEnd(self, way: Way) -> bool:
        """
        Tell whether the end of a direction goes on.
        """
        return way not in self.cuts

    def inject(self, way: Way, data: bytes) -> bool:
        """
        Send something of one's own.

        @return: Whether anything could be sent.
        """
        unsent = self._unsent[way]
        unsent += data
        try:
            sent = self._ends(way)[1].send(unsent)
        except BlockingIOError:
            return False
        except OSError:
            self.break_()
            return True
        self.passed[way] += unsent[:sent]
        del unsent[:sent]
        return True

    def break_(self) -> None:
        """
        Close both connections.
        """
        self._over = True
        self.client.close()
        self.server.close()

    close = break_


@implementer(IStreamClientEndpoint)
class _To:
    """
    The way from one proxy to the other.
    """

    def __init__(self, case: TunnelCase, factory: RouteFactory) -> None:
        self._case, self._factory = case, factory

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        Connect them.
        """
        case = self._case
        (ours, client), (server, theirs) = unixPair(), unixPair()
        far: Any = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        near: Any = self._factory.buildProtocol(None)
        wire = Wire(client, server)
        case.wires.append(wire)
        case.peers.append(wire)  # type: ignore[arg-type]
        case.addCleanup(wire.close)
        case.network.accepted += 1
        connect(case.reactor, near, theirs, "tcp.Server", ADDRESS)
        connect(case.reactor, far, ours, "tcp.Client", ADDRESS)
        return succeed(far)


class TunnelCase(SessionCase):
    """
    A test with tunnels.
    """

    def setUp(self) -> None:
        """
        Make what they run on.
        """
        super().setUp()
        self.wires: list[Wire] = []

    def again(self) -> None:
        """
        Leave all that is over behind.
        """
        self.forget()
        for peer in self.peers:
            peer.close()
        self.settle()
        self.peers.clear()

    def serveClient(self, upstream: Any, **how: Any) -> None:
        """
        Have a client proxy.

        @param upstream: Its reverse proxy.
        """
        self.serve(Tunnel(outer=OUTWARD, upstream=upstream, **how))

    def both(
        self,
        version: str = "TLSv1.3",
        browser: Callable[[Any], Peer] | None = None,
        origin: Callable[[Any], Peer] | None = None,
        client: Any = None,
        server: Any = None,
        **how: Any,
    ) -> Any:
        """
        Have both proxies, a browser and a destination, which speak TLS with each other.

        @param version: The TLS version that these speak.
        @param browser: What makes the browser from its socket.
        @param origin: What makes the destination.
        @param client: What is different at the client proxy.
        @param server: What is different at the reverse proxy.
        @return: The browser.
        """
        make = origin or (lambda sock: TLSPeer(sock, version, server=True))
        self.origins = self.network.upstream("shop.example:443", make)
        reverse = self.serve(Tunnel(outer=INWARD, upstream=self.origins, **{**how, **(server or {})}))
        self.serve(Tunnel(outer=OUTWARD, upstream=_To(self, reverse), **{**how, **(client or {})}))
        return self.visit(browser or (lambda sock: Browser(sock, version=version)))
