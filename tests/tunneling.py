"""
Sequential tunnels in memory: browser, client proxy, reverse proxy and destination, or some of them.
"""

from __future__ import annotations

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
        ours, theirs = unixPair()
        far: Any = protocolFactory.buildProtocol(None)  # type: ignore[call-arg]
        near: Any = self._factory.buildProtocol(None)  # type: ignore[arg-type]
        case.links.append(ours)
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
        self.links: list[Any] = []

    def client(self, **how: Any) -> Peer:
        """
        Have a client proxy, and a browser that has come by it: still plain.
        """
        self.upstream = self.network.upstream("rp.example:443", lambda sock: TLSPeer(sock, "TLSv1.3", server=True))
        self.serve(Tunnel(outer=OUTWARD, upstream=self.upstream, **how))
        browser = self.visit()
        self.settle()
        return browser

    def both(self, version: str = "TLSv1.3", client: Any = None, server: Any = None, **how: Any) -> tuple[Any, Any]:
        """
        Have both proxies, a browser and a destination, which speak TLS with each other.

        @param client: What is different at the client proxy.
        @param server: What is different at the reverse proxy.
        """
        self.origins = self.network.upstream("shop.example:443", lambda sock: TLSPeer(sock, version, server=True))
        reverse = self.serve(Tunnel(outer=INWARD, upstream=self.origins, **{**how, **(server or {})}))
        self.serve(Tunnel(outer=OUTWARD, upstream=_To(self, reverse), **{**how, **(client or {})}))
        browser = self.visit(lambda sock: Browser(sock, version=version))
        return browser, reverse
