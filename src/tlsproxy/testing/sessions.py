"""
Whole sessions in tests: on connected sockets, with peers that do as they are told, and a clock that stands still.

Whatever a test does to its sessions, L{SessionCase} looks at its end that each has told its end once, and that nothing
of them is left: no session, deadline, timer, selectable or socket, and nothing for the cycle collector.
"""

from __future__ import annotations

import functools
import gc
import select
import tempfile
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.socketreactor import Connected, SocketReactor, connect, tcpPair, unixPair
from tests.streampeers import Peer, TLSPeer
from tests.tls import NOW, write
from tlsproxy.deadlines import GRANULARITY, Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.factory import RouteFactory
from tlsproxy.route import Limits, Route
from tlsproxy.session import Session
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.native import TLSStream
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, ServerPolicy

__all__ = ["Browser", "Origin", "SessionCase", "Upstream", "certificate", "clientTLS", "serverTLS"]

LINGER = 2.5
"""After this, in seconds, a side that lingers is closed."""

_LIFETIME = timedelta(days=90)


@functools.cache
def _authority() -> Authority:
    return Authority.create("Test CA", lifetime=timedelta(days=365), now=NOW)


@functools.cache
def certificate(commonName: str, *names: str) -> Identity:
    """
    Issue a certificate that our side trusts, for a client and a server.
    """
    return _authority().issue(commonName=commonName, names=names, server=True, client=True, lifetime=_LIFETIME, now=NOW)


def _atTestTime(context: SSL.Context) -> None:
    store = context.get_cert_store()
    assert store is not None
    store.set_time(NOW.replace(tzinfo=None))


def _pem(identity: Identity) -> bytes:
    parts = [each.public_bytes(Encoding.PEM) for each in identity.chain]
    parts.append(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return b"".join(parts)


@functools.cache
def serverTLS(clients: str = "", **policy: Any) -> ServerTLS:
    """
    TLS toward clients.

    @param clients: Whether they need a certificate: C{"required"}, C{"optional"} or C{""}.
    """
    with tempfile.TemporaryDirectory() as folder:
        if clients:
            policy |= {"clientCa": (write(f"{folder}/ca.pem", _authority().pem()),), "clientAuth": clients}
        files = CertificateFiles(write(f"{folder}/server.pem", _pem(certificate("shop", "shop.example"))))
        tls = ServerTLS.load(ServerPolicy(cert=files, **policy), NOW)
    _atTestTime(tls.context)
    return tls


@functools.cache
def clientTLS(name: str = "upstream.example", **policy: Any) -> ClientTLS:
    """
    TLS toward an upstream that has to show a name.
    """
    with tempfile.TemporaryDirectory() as folder:
        anchor = write(str(Path(folder) / "ca.pem"), _authority().pem())
        tls = ClientTLS.load(ClientPolicy(ca=(anchor,), **policy), name, NOW)
    _atTestTime(tls.context)
    return tls


class Browser(TLSPeer):
    """
    A client that speaks TLS.
    """

    def __init__(
        self,
        sock: Any,
        serverName: str = "shop.example",
        alpn: Sequence[bytes] = (),
        identity: Identity | None = None,
        version: str = "TLSv1.3",
    ) -> None:
        super().__init__(sock, version, server=False)
        self.connection.set_tlsext_host_name(serverName.encode())
        if alpn:
            self.connection.set_alpn_protos(list(alpn))
        if identity is not None:
            self.connection.use_certificate(identity.chain[0])
            self.connection.use_privatekey(identity.key)


class Origin(TLSPeer):
    """
    An upstream that speaks TLS.

    @param alpn: The one application protocol it speaks.
    """

    def __init__(self, sock: Any, alpn: bytes = b"", name: str = "upstream.example", version: str = "TLSv1.3") -> None:
        super().__init__(sock, version, server=True)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        identity = certificate("upstream", name)
        context.use_certificate(identity.chain[0])
        context.use_privatekey(identity.key)
        if alpn:
            context.set_alpn_select_callback(
                lambda _, offered: alpn if alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS
            )
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()


@implementer(IStreamClientEndpoint)
class Upstream:
    """
    Somewhere to dial.

    @ivar answers: Whether it takes a connection at once.
    @ivar cancelled: How many attempts were cancelled.
    @ivar waiting: The attempts that were not answered.
    @ivar peers: The other ends of those that were.
    """

    def __init__(self, case: SessionCase, make: Callable[[Any], Peer] = Peer, answers: bool = True) -> None:
        self._case = case
        self._make = make
        self.answers = answers
        self.cancelled = 0
        self.waiting: list[tuple[IProtocolFactory, Deferred[IProtocol]]] = []
        self.peers: list[Any] = []

    def __str__(self) -> str:
        return "upstream.example:443"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint}.
        """
        attempt: Deferred[IProtocol] = Deferred(self._cancelled)
        self.waiting.append((protocolFactory, attempt))
        if self.answers:
            self.answer()
        return attempt

    def _cancelled(self, attempt: Deferred[IProtocol]) -> None:
        self.cancelled += 1
        self.waiting = [one for one in self.waiting if one[1] is not attempt]

    def answer(self) -> None:
        """
        Take the first connection that waits.
        """
        factory, attempt = self.waiting.pop(0)
        end: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        self.peers.append(self._case.attach(end, self._make, "tcp.Client"))
        attempt.callback(end)

    def fail(self, problem: Exception) -> None:
        """
        Refuse the first connection that waits.
        """
        self.waiting.pop(0)[1].errback(problem)

    @property
    def peer(self) -> Any:
        """
        The other end of its only connection.
        """
        (peer,) = self.peers
        return peer

    @property
    def dialed(self) -> int:
        """
        How often it was dialed.
        """
        return len(self.peers) + len(self.waiting) + self.cancelled


class SessionCase(SynchronousTestCase):
    """
    A test with sessions.

    @cvar tcp: Whether the sockets are TCP's, which can be reset at any time.
    @ivar phases: The phases that were entered, in their order.
    """

    tcp: ClassVar[bool] = False

    def setUp(self) -> None:
        """
        Make all but the route.
        """
        self.reactor: Any = SocketReactor()
        self.deadlines = Deadlines(self.reactor)
        self.peers: list[Peer] = []
        self.connections: dict[Peer, Connected] = {}
        self.phases: list[str] = []
        self.accepted = 0
        self.factories: list[RouteFactory] = []
        self.events = EventLoggingObserver()
        globalLogPublisher.addObserver(self.events)
        self.addCleanup(globalLogPublisher.removeObserver, self.events)
        self.upstream = Upstream(self)
        enter = Session.enter

        def noted(session: Session, phase: str) -> None:
            self.phases.append(phase)
            enter(session, phase)

        self.patch(Session, "enter", noted)
        gc.disable()
        self.addCleanup(gc.enable)
        self._before = {id(one) for one in self._mine()}

    def _mine(self) -> list[object]:
        return [one for one in gc.get_objects() if type(one) in (Session, End, TLSStream)]

    def serve(self, pattern: Any, logged: bool = True, **route: Any) -> RouteFactory:
        """
        Have a route with a pattern.

        @param route: Further attributes of the route; limits, too.
        """
        limits = Limits(**{name: route.pop(name) for name in list(route) if hasattr(Limits(), name)})
        made = Route(name="shop", listen="8443", pattern=pattern, limits=limits, **route)
        self.factory = RouteFactory(made, self.reactor, self.deadlines, Dialer(self.reactor), logged=logged)
        self.factories.append(self.factory)
        return self.factory

    def attach(self, end: End, make: Callable[[Any], Peer], kind: str) -> Peer:
        """
        Connect an End with a peer.
        """
        ours, theirs = tcpPair() if self.tcp else unixPair()
        self.addCleanup(theirs.close)
        peer = make(theirs)
        self.peers.append(peer)
        self.connections[peer] = connect(self.reactor, end, ours, kind)
        return peer

    def visit(self, make: Callable[[Any], Peer] = Peer) -> Any:
        """
        Have a client connect.
        """
        self.accepted += 1
        return self.attach(self.factory.buildProtocol(None), make, "tcp.Server")

    def settle(self, done: Callable[[], bool] | None = None) -> None:
        """
        Let everything happen that can happen without time passing.

        @param done: What has to be true in the end.
        """
        for attempt in range(500):
            while any([self.reactor.pump(), *[peer.pump() for peer in self.peers]]):
                pass
            if done is None or done():
                return
            if not self.tcp:
                break
            select.select([], [], [], attempt / 10000)  # Loopback may take its time where the machine is busy.
        self.fail("all is quiet, and what was to come has not come")

    def finished(self) -> None:
        """
        Let everything happen until a session has told its end.
        """
        before = len(self.told())
        self.settle(lambda: len(self.told()) > before or not self.factory.sessions)

    def after(self, seconds: float) -> None:
        """
        Let time pass, as finely as deadlines are looked at.
        """
        end = self.reactor.seconds() + seconds
        while (left := end - self.reactor.seconds()) > 0:
            self.reactor.advance(min(GRANULARITY, left))
            self.settle()

    def one(self) -> Session:
        """
        The only session that is not over.
        """
        (session,) = self.factory.sessions
        return session

    def told(self) -> list[Any]:
        """
        What was logged of ends of sessions.
        """
        return [each for each in self.events if each["log_namespace"] == "tlsproxy.session" and "outcome" in each]

    def lines(self) -> list[str]:
        """
        As L{told}, as it is read.
        """
        return [formatEvent(each) for each in self.told()]

    def assertOver(self, outcome: str, phase: str, reason: str = "") -> None:
        """
        All sessions are over, and the only one has told of it in this way.
        """
        self.assertEqual(set(), self.factory.sessions)
        (event,) = self.told()
        self.assertEqual((outcome, phase, reason), (event["outcome"], event["phase"], event["reason"]))
        self.assertEqual({(outcome, phase): 1}, dict(self.factory.counters))

    def _counted(self) -> int:
        return sum(sum(factory.counters.values()) for factory in self.factories)

    def forget(self) -> None:
        """
        Forget all sessions so far, which are over, so that the next one is the only one.
        """
        self.assertEqual((self.accepted, self.accepted), (self._counted(), len(self.told())))
        self.accepted = 0
        for factory in self.factories:
            factory.counters.clear()
        self.events._events.clear()

    def aborted(self, peer: Peer) -> bool:
        """
        Whether our side reset the connection with a peer; it has to be closed.
        """
        (loss,) = self.connections[peer].losses
        return loss.check(ConnectionAborted) is not None

    def tearDown(self) -> None:
        """
        Whatever happened, nothing is left.
        """
        self.settle()
        self.assertEqual([], [one for factory in self.factories for one in factory.sessions], "sessions are left")
        self.assertEqual(self.accepted, self._counted(), "each session ends once")
        lines = self.accepted if self.factory.logged else 0
        self.assertEqual(lines, len(self.told()), "each session tells its end once")
        for peer in self.peers:
            peer.pump()
            peer.close()
        self.settle()
        # Whoever lingers gives up, and the sweep finds nobody any more.
        self.after(LINGER + GRANULARITY)
        self.assertEqual([], self.reactor.removeAll(), "selectables are left")
        self.assertEqual([], [str(call) for call in self.reactor.getDelayedCalls()], "timers are left")
        self.assertEqual([], [one for one in self.connections.values() if len(one.losses) != 1], "sockets are left")
        self.peers.clear()
        self.connections.clear()
        self.upstream = Upstream(self)
        self.events._events.clear()
        self.assertEqual([], [one for one in self._mine() if id(one) not in self._before], "garbage is left")
