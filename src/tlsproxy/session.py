# -*- test-case-name: tests.test_session -*-
"""
A session: one client's connection, from its acceptance to its one line in the log.

Set-up is one coroutine, the pattern's C{open}, made of the steps that L{Session} offers.  Each step is a phase with a
deadline.  When both sides are open they are joined, and from then on the relay carries and the session only waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import Any, Final

from attrs import asdict
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.address import Address, tellPeer
from tlsproxy.deadlines import GRANULARITY, Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, HandshakeFailed, SessionError, forgetFrames
from tlsproxy.relay import Relay, join
from tlsproxy.route import Route
from tlsproxy.sessionline import describeTLS, formatOf, protocolName, told, word
from tlsproxy.tls.certificates import describe
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import snake
from tlsproxy.wire.clienthello import ClientHello, HelloError

__all__ = ["RouteFactory", "Session"]

_log = Logger()

_TOO_LONG: Final = {
    "hello": "the client did not send a whole hello",
    "handshake": "the client did not finish the TLS handshake",
    "dial": "the upstream did not answer",
    "upstream_handshake": "the upstream did not finish the TLS handshake",
    "idle": "no byte moved",
    "half_closed": "no byte moved after one side had ended",
    "lifetime": "the session was still open",
}

_NEAR_PHASES: Final = frozenset({"hello", "head", "handshake"})
"""The phases in which a client is waited for."""

_EXCUSE: Final = b"This port speaks TLS: ask for https://, not for http://\n"
_NOT_HTTPS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
    % (len(_EXCUSE), _EXCUSE)
)


class Session:
    """
    One client's connection.

    @ivar route: The route it came by.
    @ivar near: The client's side.
    @ivar far: The upstream's side, once it is dialed.
    @ivar phase: What it is at, one of L{tlsproxy.interfaces.PHASES}.
    @ivar hello: The client's hello, while the session is set up.
    @ivar serverName: The server name that the client asked for, if any.
    @ivar clientCertificate: What the client's certificate says of it, in one line; C{""} for none.
    @ivar upstream: What was dialed, if anything.
    @ivar started: When the client connected, in seconds of the reactor's clock.
    @ivar relay: What carries the bytes, once both sides are open.
    """

    __slots__ = (
        "_end",
        "_factory",
        "relay",
        "_setUp",
        "_verdict",
        "started",
        "bucket",
        "clientCertificate",
        "far",
        "hello",
        "near",
        "phase",
        "route",
        "serverName",
        "upstream",
    )

    def __init__(self, factory: RouteFactory, near: End) -> None:
        self._factory = factory
        self.route = factory.route
        self.near = near
        self.far: End | None = None
        self.phase = ""
        self.hello: ClientHello | None = None
        self.serverName: str | None = None
        self.clientCertificate = ""
        self.upstream: Address | IStreamClientEndpoint | None = None
        self.bucket = 0
        self._end = 0.0
        self.relay: Relay | None = None
        self._setUp: Deferred[None] | None = None
        self._verdict: tuple[str, str] | None = None
        self.started = factory.reactor.seconds()

    # -- phases and deadlines ---------------------------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        """
        Begin a phase, and with it its deadline.
        """
        factory = self._factory
        self.phase = phase
        limit = factory.seconds[phase]
        self._end = factory.reactor.seconds() + limit if limit else inf
        factory.deadlines.watch(self)

    def deadline(self) -> float:
        """
        Tell when the phase, or the whole session, has to be over.
        """
        end = self._end
        if self.relay is not None and end != inf:
            # The relay's clock may be late by a tick.
            end = self.relay.active + GRANULARITY + self._factory.seconds[self.phase]
        lifetime = self.route.limits.lifetime
        return min(end, self.started + lifetime) if lifetime else end

    def expired(self) -> None:
        """
        The deadline has passed.
        """
        if self.route.limits.lifetime and self._factory.reactor.seconds() >= self.started + self.route.limits.lifetime:
            self.phase = "lifetime"
        self._cut("expired", self._tooLong())

    def _tooLong(self) -> str:
        return f"{_TOO_LONG.get(self.phase, self.phase)} within {self._factory.seconds[self.phase]:g} s"

    # -- from start to end ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Set the session up, join it, and see to its end.
        """
        self._setUp = Deferred.fromCoroutine(self._open())
        self._setUp.addErrback(self._failed)

    async def _open(self) -> None:
        near, far = await self.route.pattern.open(self)
        self._setUp = self.hello = None
        self.relay = join(
            near,
            far,
            self._factory.deadlines,
            self._done,
            self._halfClosed,
            self.route.close == "both",
            self.route.truncation == "abort",
        )
        self.enter("idle")
        self.relay.start()

    def _halfClosed(self) -> None:
        self.enter("half_closed")

    def _failed(self, failure: Failure) -> None:
        """
        Set-up came to nothing.
        """
        problem = failure.value
        if self._verdict is not None and isinstance(problem, (SessionError, CancelledError)):
            # Whatever a step made of its cancellation.
            outcome, reason = self._verdict
        elif isinstance(problem, SessionError):
            outcome, reason = problem.outcome, str(problem)
        else:
            outcome, reason = "failed", "tlsproxy itself failed; its traceback is in the log"
            _log.failure("{route}: a session met a bug of ours", failure, route=self.route.name)
            failure.cleanFailure()
        forgetFrames(problem)
        failure.tb = None
        if self.relay is not None:
            self.relay.abort(outcome, reason)
            return
        self._letGo(stalled=outcome == "stopped" or (outcome == "expired" and self.phase in _NEAR_PHASES))
        self._done(outcome, reason)

    def _letGo(self, stalled: bool) -> None:
        """
        Close what set-up has opened.

        A side with TLS lingers, so that an alert on its way arrives, and gets no close_notify, since nothing ended as
        it should.  A plain side is reset for the same reason.  Who kept us waiting gets no further time.
        """
        for end in (self.near, self.far):
            if end is None or end.gone:
                continue
            if stalled or (end.tls is None and self.phase != "hello"):
                end.finish(reset=True)
            else:
                end.linger()

    def stop(self) -> None:
        """
        End the session because the service stops.
        """
        self._cut("stopped", "the service stopped")

    def _cut(self, outcome: str, reason: str) -> None:
        if self.relay is not None:
            self.relay.abort(outcome, reason)
        elif self._setUp is not None:
            self._verdict = outcome, reason
            self._setUp.cancel()

    def _done(self, outcome: str, reason: str) -> None:
        """
        All is over: count it and tell it.
        """
        self._factory.deadlines.forget(self)
        self._factory.ended(self, outcome, reason)
        # Whoever still holds the Ends holds no session any more.
        self._setUp = None

    # -- the steps that patterns are made of ------------------------------------------------------------------------

    async def readHello(self) -> ClientHello:
        """
        Wait for the client's whole hello, and leave it where it is.

        @raise AdmissionRefused: It is doubtful, or none.
        """
        self.enter("hello")
        try:
            hello = await self.near.peekHello()
        except HelloError as e:
            if e.plainHTTP:
                self.near.writing.send(_NOT_HTTPS)
            elif e.alert is not None:
                self.near.writing.send(bytes((21, 3, 3, 0, 2, 2, e.alert)))
            raise AdmissionRefused(str(e)) from e
        self.hello = hello
        self.serverName = hello.serverName
        return hello

    async def acceptTLS(self, tls: ServerTLS) -> None:
        """
        Let the client in: the TLS handshake, and its certificate where one is demanded.

        @raise HandshakeFailed: With a sentence on why.
        """
        self.enter("handshake")
        stream = await self.near.startTLS(tls)
        if tls.policy.clientCa:
            certificate = stream.connection.get_peer_certificate(as_cryptography=True)
            self.clientCertificate = describe(certificate) if certificate is not None else ""

    @property
    def alpn(self) -> bytes:
        """
        The application protocol that the client negotiated; C{b""} for none.
        """
        stream = self.near.tls
        return b"" if stream is None else stream.connection.get_alpn_proto_negotiated()

    async def dial(self, where: Address | IStreamClientEndpoint) -> End:
        """
        Reach the upstream.

        @raise DialFailed: With a sentence on why.
        """
        self.enter("dial")
        self.upstream = where
        self.far = await self._factory.dialer.dial(where)
        return self.far

    async def connectTLS(self, far: End, tls: ClientTLS, alpn: Sequence[bytes] | None = None) -> None:
        """
        The TLS handshake with the upstream, and the check of its certificate and name.

        @param alpn: The one protocol that the client negotiated, or none; L{None} for those of C{tls}.
        @raise HandshakeFailed: With a sentence on why.
        """
        self.enter("upstream_handshake")
        stream = await far.startTLS(tls, alpn)
        if alpn is not None:
            chosen = stream.connection.get_alpn_proto_negotiated()
            if [chosen] != list(alpn or (b"",)):
                wanted = protocolName(b"".join(alpn))
                raise HandshakeFailed(
                    f"the upstream speaks {protocolName(chosen)} where the client negotiated {wanted}"
                )


class RouteFactory(Factory[End]):
    """
    Makes a route listen: each connection becomes a session.

    @ivar route: The route.
    @ivar reactor: The reactor.
    @ivar seconds: The limit of each phase.
    @ivar sessions: Those that are not over.
    @ivar counters: How many sessions came to which outcome in which phase.
    @ivar logged: Whether each session's end is logged.
    """

    noisy = False

    def __init__(self, route: Route, reactor: Any, deadlines: Deadlines, dialer: Dialer, logged: bool = True) -> None:
        self.route = route
        self.reactor = reactor
        self.deadlines = deadlines
        self.dialer = dialer
        self.logged = logged
        self.sessions: set[Session] = set()
        self.counters: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, float] = {snake(name): limit for name, limit in asdict(route.limits).items()}

    def buildProtocol(self, addr: IAddress | None) -> End:
        """
        Take a connection.
        """
        return End("the client").whenMade(self._accept)

    def _accept(self, near: End) -> None:
        session = Session(self, near)
        self.sessions.add(session)
        session.start()

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        A session is over.
        """
        self.sessions.discard(session)
        self.counters[outcome, session.phase] += 1
        if not self.logged:
            return
        relay = session.relay
        facts = {
            "route": word(self.route.name),
            "client": tellPeer(session.near.peer()),
            "sni": session.serverName or "-",
            "tls": describeTLS(session.near),
            "upstream": word(str(session.upstream)) if session.upstream is not None else "-",
            "upstreamTLS": describeTLS(session.far),
            "received": relay.outward.count if relay else 0,
            "sent": relay.inward.count if relay else 0,
            "seconds": self.reactor.seconds() - session.started,
            "outcome": outcome,
            "phase": session.phase,
            "certificate": told(session.clientCertificate),
            "reason": told(reason),
        }
        _log.info(formatOf(facts), **facts)
