# -*- test-case-name: tests.test_session -*-
"""
A session: one client's connection, from its acceptance to its one line in the log.

Set-up is one coroutine, the pattern's C{open}, made of the steps that L{Session} offers.  Each step is a phase with a
deadline.  When both sides are open they are joined, and from then on the relay carries and the session only waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final, Protocol

from attrs import fields
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.address import TCP, Address
from tlsproxy.deadlines import GRANULARITY, Deadlines
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, HandshakeFailed, SessionError, forgetFrames
from tlsproxy.relay import Relay, join
from tlsproxy.route import Limits, Route
from tlsproxy.tls.certificates import describe
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.policy import snake
from tlsproxy.wire.clienthello import ClientHello, HelloError
from tlsproxy.wire.connect import response
from tlsproxy.wire.helloline import HelloWords, describeHello

__all__ = ["Keeper", "Session"]

_log = Logger()

_TOO_LONG: Final = {snake(limit.name): limit.metadata["late"] for limit in fields(Limits)}
_NEAR_PHASES: Final = frozenset({"hello", "head", "handshake"})
"""The phases in which a client is waited for."""
_ADMITTING: Final = frozenset({"hello", "head", "route"})
"""The phases in which a client gets an end, and no reset, where it is not let in."""
_UNRECOGNIZED_NAME: Final = 112  # RFC 6066, section 3
_NOT_HTTPS: Final = response(400, "This port speaks TLS: ask for https://, not for http://")


class Keeper(Protocol):
    """
    What a session needs of whoever accepted it.

    @ivar route: The route it came by.
    @ivar reactor: The reactor.
    @ivar deadlines: The deadlines of all sessions.
    @ivar dialer: What dials.
    @ivar seconds: The limit of each phase.
    @ivar listeners: What this proxy listens on: hosts and ports.
    """

    route: Route
    reactor: Any
    deadlines: Deadlines
    dialer: Dialer
    seconds: dict[str, float]
    listeners: Sequence[tuple[str, int]]

    def ended(self, session: Session, outcome: str, reason: str) -> None:
        """
        A session is over.
        """


class Session:
    """
    One client's connection.

    @ivar route: The route it came by.
    @ivar near: The client's side.
    @ivar far: The upstream's side, once it is dialed.
    @ivar phase: What it is at, one of L{tlsproxy.interfaces.PHASES}.
    @ivar hello: The client's hello, while the session is set up; L{None} where it speaks no TLS.
    @ivar helloWords: What it said, for as long as the session lasts.
    @ivar serverName: The server name that the client asked for, if any.
    @ivar target: What the client asked to be connected with, as C{host:port}; C{""} where that is not its business.
    @ivar user: The user that the client has shown to be; C{""} where nobody asked.
    @ivar clientCertificate: What the client's certificate says of it, in one line; C{""} for none.
    @ivar upstream: What was dialed, if anything.
    @ivar keeper: Who accepted it.
    @ivar started: When the client connected, in seconds of the reactor's clock.
    @ivar relay: What carries the bytes, once both sides are open.
    """

    __slots__ = (
        "_answered",
        "_end",
        "_setUp",
        "_verdict",
        "bucket",
        "clientCertificate",
        "far",
        "hello",
        "helloWords",
        "keeper",
        "near",
        "phase",
        "relay",
        "route",
        "serverName",
        "started",
        "target",
        "upstream",
        "user",
    )

    def __init__(self, keeper: Keeper, near: End) -> None:
        self.keeper = keeper
        self.route = keeper.route
        self.near = near
        self.far: End | None = None
        self.phase = ""
        self.hello: ClientHello | None = None
        self.helloWords: HelloWords | None = None
        self.serverName: str | None = None
        self.target = self.user = ""
        self.clientCertificate = ""
        self.upstream: Address | IStreamClientEndpoint | None = None
        self.bucket = 0
        self._end = 0.0
        self.relay: Relay | None = None
        self._setUp: Deferred[None] | None = None
        self._verdict: tuple[str, str] | None = None
        self._answered = False
        self.started = keeper.reactor.seconds()

    # -- phases and deadlines ---------------------------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        """
        Begin a phase, and with it its deadline.
        """
        keeper = self.keeper
        self.phase = phase
        limit = keeper.seconds[phase]
        self._end = end = keeper.reactor.seconds() + limit if limit else inf
        if not self.bucket or end < self.bucket * GRANULARITY:
            keeper.deadlines.watch(self)  # Otherwise it is looked at early enough.

    def deadline(self) -> float:
        """
        Tell when the phase, or the whole session, has to be over.
        """
        end = self._end
        if self.relay is not None and end != inf:
            # The relay's clock may be late by a tick.
            end = self.relay.active + GRANULARITY + self.keeper.seconds[self.phase]
        lifetime = self.route.limits.lifetime
        return min(end, self.started + lifetime) if lifetime else end

    def expired(self) -> None:
        """
        The deadline has passed.
        """
        if self.route.limits.lifetime and self.keeper.reactor.seconds() >= self.started + self.route.limits.lifetime:
            self.phase = "lifetime"
        elif self.relay is not None and self.relay.drains():
            return self.keeper.deadlines.watch(self)
        self._cut("expired", f"{_TOO_LONG[self.phase]} within {self.keeper.seconds[self.phase]:g} s")

    @property
    def late(self) -> bool:
        """
        Whether its deadline has passed.
        """
        return self._verdict is not None and self._verdict[0] == "expired"

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
            self.keeper.deadlines,
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
        self._letGo(outcome)
        self._done(outcome, reason)

    def _letGo(self, outcome: str) -> None:
        """
        Close what set-up has opened.

        A side with TLS lingers, so that an alert on its way arrives, and gets no close_notify, since nothing ended as
        it should.  A plain side is reset for the same reason, unless it has been answered or was not even let in.  Who
        kept us waiting gets no further time.
        """
        stalled = outcome == "stopped" or (outcome == "expired" and self.phase in _NEAR_PHASES)
        answered = self._answered or (self.phase in _ADMITTING and outcome in ("refused", "ended"))
        for end in (self.near, self.far):
            if end is None or end.gone:
                continue
            if stalled and not (self._answered and end is self.near):
                end.finish(reset=True)
            elif end.tls is None and not (answered and end is self.near):
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
        self.keeper.deadlines.forget(self)
        self.keeper.ended(self, outcome, reason)
        # Whoever still holds the Ends holds no session any more.
        self._setUp = None

    # -- the steps that patterns are made of ------------------------------------------------------------------------

    async def readHello(self) -> ClientHello:
        """
        Wait for the client's whole hello, and leave it where it is.

        @raise AdmissionRefused: It is doubtful, or none; or whatever it says, a rule refuses whoever comes from there.
        """
        for number, rule in enumerate(self.route.rules, 1):
            if rule.needsHello or rule.unconditional:
                break
            if rule.matches(None, self.near.peer):
                if rule.refuse == "close":
                    self.phase = "route"
                    raise AdmissionRefused(f"the client connects, and rule {number} of the route refuses that")
                break
        self.enter("hello")
        try:
            hello = await self.near.peekHello()
        except HelloError as e:
            rules = self.route.rules
            if not rules or rules[-1].refuse != "close" or not rules[-1].unconditional:
                if e.plainHTTP:
                    self.near.writing.send(_NOT_HTTPS)
                elif e.alert is not None:
                    self._alert(e.alert)
            raise AdmissionRefused(str(e)) from e
        self.hello = hello
        self.helloWords = describeHello(hello)
        self.serverName = hello.serverName
        return hello

    def _alert(self, alert: int) -> None:
        self.near.writing.send(bytes((21, 3, 3, 0, 2, 2, alert)))

    def choose(
        self, upstream: Address | IStreamClientEndpoint | None
    ) -> tuple[Address | IStreamClientEndpoint, ClientTLS | None]:
        """
        Choose the upstream, by the first of the route's rules that matches.

        @param upstream: What to dial where none does; L{None} to refuse then.
        @return: What to dial, and the TLS toward it where it is not the pattern's.
        @raise AdmissionRefused: The client is not let through.
        """
        how, verdict = "alert", "no rule of the route is for that"
        for number, rule in enumerate(self.route.rules, 1):
            if rule.matches(self.hello, self.near.peer):
                if rule.upstream is not None:
                    return rule.upstream, rule.upstreamTLS
                how, verdict = rule.refuse, f"rule {number} of the route refuses that"
                break
        else:
            if upstream is not None:
                return upstream, None
        self.phase = "route"
        if self.hello is None:
            raise AdmissionRefused(f"the client connects, and {verdict}")
        if how == "alert":
            self._alert(_UNRECOGNIZED_NAME)
        asked = f"asks for {self.serverName}" if self.serverName is not None else "names no server"
        raise AdmissionRefused(f"the client {asked}, and {verdict}")

    def answer(self, response: bytes) -> None:
        """
        Tell the client, in its own protocol, why the session ends now.

        @param response: All there is to say: little, and the first that is ever sent, so that the socket takes it.
        """
        self._answered = True
        if not self.near.gone:
            self.near.writing.send(response)
            self.near.writing.endWrite()

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
        self.far = await self.keeper.dialer.dial(where)
        return self.far

    async def dialAddresses(self, where: TCP, addresses: Sequence[str]) -> End:
        """
        Reach the upstream at one of these addresses, and at no other.

        @raise DialFailed: With a sentence on why.
        """
        self.far = far = await self.keeper.dialer.dialAddresses(where, addresses)
        host = getattr(far.peer(), "host", where.host)
        self.upstream = TCP(host, where.port)
        return far

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
                wanted = _protocol(b"".join(alpn))
                raise HandshakeFailed(f"the upstream speaks {_protocol(chosen)} where the client negotiated {wanted}")


def _protocol(name: bytes) -> str:
    return ascii(name.decode("latin-1")) if name else "no application protocol"
