# -*- test-case-name: tests.test_session -*-
"""
A session: one client's connection, from its acceptance to its one line in the log.

Set-up is one coroutine, the pattern's C{open}, made of the steps in L{tlsproxy.steps}.  Each step is a phase with a
deadline.  When both sides are open they are joined, and from then on the relay carries and the session only waits.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final, cast

from attrs import fields
from cryptography import x509
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tlsproxy.address import Address
from tlsproxy.balancers import NO_HEADER, Proxied, readHeader
from tlsproxy.chain import Chain
from tlsproxy.datagram.passed import PassedEnd
from tlsproxy.deadlines import GRANULARITY
from tlsproxy.end import End
from tlsproxy.errors import SessionError, forgetFrames
from tlsproxy.grants import Admitted
from tlsproxy.keeper import Keeper
from tlsproxy.parting import part
from tlsproxy.relay import Relay, join
from tlsproxy.route import Limits
from tlsproxy.tls.policy import snake
from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.helloline import HelloWords

__all__ = ["Session"]

_log = Logger()

_TOO_LONG: Final = {snake(limit.name): limit.metadata["late"] for limit in fields(Limits)}


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
    @ivar proxied: How it has come, where a balancer speaks for the client; L{None} otherwise.
    @ivar uniqueId: What it is called through all proxies, where PROXY headers tell that.
    @ivar user: The user that the client has shown to be; C{""} where nobody asked.
    @ivar clientCertificate: What the client's certificate says of it, in one line; C{""} for none.
    @ivar downgrade: In a sequential tunnel, when the TLS between the two proxies was taken off: C{"none"},
        C{"handshake"} or C{"connect"}; C{""} elsewhere.
    @ivar upstream: What was dialed, if anything.
    @ivar keeper: Who accepted it.
    @ivar started: When the client connected, in seconds of the reactor's clock.
    @ivar relay: What carries the bytes, once both sides are open.
    @ivar chain: Its protocol handlers, if there are any, once they are made.
    @ivar admitted: By what it was let in, where that is asked about again; L{None} elsewhere.
    """

    __slots__ = (
        "_answered",
        "_end",
        "_opening",
        "_over",
        "_setUp",
        "_until",
        "_verdict",
        "admitted",
        "bucket",
        "chain",
        "clientCertificate",
        "downgrade",
        "far",
        "hello",
        "helloWords",
        "keeper",
        "near",
        "phase",
        "proxied",
        "relay",
        "route",
        "serverName",
        "started",
        "target",
        "uniqueId",
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
        self.proxied: Proxied | None = None
        self.target = self.user = self.clientCertificate = self.uniqueId = self.downgrade = ""
        self.upstream: Address | IStreamClientEndpoint | None = None
        self.admitted: Admitted | None = None
        self.bucket = 0
        self._end = 0.0
        self._until = inf, ""
        self.relay: Relay | None = None
        self.chain: Chain | None = None
        self._opening: Any = None
        self._over = self._answered = False
        self._setUp: Deferred[None] | None = None
        self._verdict: tuple[str, str] | None = None
        self.started = keeper.reactor.seconds()

    # -- phases and deadlines ---------------------------------------------------------------------------------------

    def enter(self, phase: str) -> None:
        """
        Begin a phase, and with it its deadline.

        @raise CancelledError: The session has been cut, and somebody has taken that for a failure of something else.
        """
        if self.ending:
            raise CancelledError()
        keeper = self.keeper
        self.phase = phase
        limit = keeper.seconds[phase]
        self._end = end = keeper.reactor.seconds() + limit if limit else inf
        self._watch(end)
        if keeper.observers:
            self._tell("entered", phase)

    def endBy(self, when: float, reason: str) -> None:
        """
        Have the session end at some time at the latest, whatever it is at then.

        @param when: That time, in seconds of the reactor's clock.
        @param reason: One sentence.
        """
        self._until = min(self._until, (when, reason))
        self._watch(when)

    def _watch(self, end: float) -> None:
        if not self.bucket or end < self.bucket * GRANULARITY:
            self.keeper.deadlines.watch(self)  # Otherwise it is looked at early enough.

    def _tell(self, what: str, *facts: str) -> None:
        """
        Tell those who see the sessions.
        """
        for observer in self.keeper.observers:
            try:
                getattr(observer, what)(self, *facts)
            except Exception:
                _log.failure("{route}: {observer} failed", route=self.route.name, observer=observer)

    def deadline(self) -> float:
        """
        Tell when the phase, or the whole session, has to be over.
        """
        end, until = self._end, self._until[0]
        if self.relay is not None and end != inf and not self.near.unproven:
            # The relay's clock may be late by a tick.
            end = self.relay.active + GRANULARITY + self.keeper.seconds[self.phase]
        lifetime = self.route.limits.lifetime
        return min(end, until, self.started + lifetime) if lifetime else min(end, until)

    def expired(self) -> None:
        """
        The deadline has passed.
        """
        until, reason = self._until
        if self.keeper.reactor.seconds() >= until:
            self.phase = "lifetime"
            return self.cut("expired", reason)
        if self.route.limits.lifetime and self.keeper.reactor.seconds() >= self.started + self.route.limits.lifetime:
            self.phase = "lifetime"
        elif self.relay is not None and self.relay.drains():
            return self.keeper.deadlines.watch(self)
        late = getattr(self.route.pattern, "tooLong", _TOO_LONG).get(self.phase, _TOO_LONG[self.phase])
        if self.far is not None:
            late = late.replace("the upstream", self.far.who, 1)
        if self.phase == "hello" and self.route.acceptProxy is not None and self.proxied is None:
            late = NO_HEADER
        self.cut("expired", f"{late} within {self.keeper.seconds[self.phase]:g} s")

    @property
    def ending(self) -> bool:
        """
        Whether it has been cut while it was being set up.
        """
        return self._verdict is not None

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
        self._opening = self._open()
        if self.keeper.observers:
            self._tell("started")
        self._setUp = Deferred.fromCoroutine(self._opening)
        self._setUp.addErrback(self._failed)

    async def _open(self) -> None:
        if self.route.acceptProxy is not None:
            self.enter("hello")
            self.proxied = proxied = await readHeader(self.near, self.route.acceptProxy)
            self.uniqueId = proxied.header.vectors.uniqueId.decode("latin-1")
        if self.keeper.admission is not None:
            self.keeper.admission.admit(self)
        near, far = await self.route.pattern.open(self)
        if self.ending:
            raise CancelledError()  # Somebody has not heeded that.
        chain = self.makeHandlers() if self.route.handlers else self.chain
        self._setUp = self._opening = self.hello = None
        both, abort = self.route.close == "both", self.route.truncation == "abort"
        self.relay = join(near, far, self.keeper.deadlines, self._done, self._halfClosed, both, abort, chain)
        self.enter("handshake" if near.unproven else "idle")
        if near.unproven:
            cast(PassedEnd, near).onProven = self._proven
        self.relay.start()

    def makeHandlers(self) -> Chain:
        """
        Make the protocol handlers, unless they are made already.
        """
        if self.chain is None:
            self.chain = Chain(self.route.name, self.cut, self.answer)
            for options in self.route.handlers:
                self.chain.add(options, self, self.keeper.reactor)
        return self.chain

    def _proven(self) -> None:
        self.enter("idle")

    def _halfClosed(self) -> None:
        self.enter("half_closed")

    def _failed(self, failure: Failure) -> None:
        """
        Set-up came to nothing.
        """
        problem = failure.value
        if self._over:
            forgetFrames(problem)  # It has been given up.
            failure.tb = None
            return
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
        self._letGo(outcome, isinstance(problem, SessionError))
        self._done(outcome, reason)

    def _letGo(self, outcome: str, told: bool) -> None:
        others = () if self.far is None else (self.far,)
        part(self.near, others, self.phase, outcome, told, self._answered)

    def stop(self) -> None:
        """
        End the session because the service stops.
        """
        self.cut("stopped", "the service stopped")

    def cut(self, outcome: str, reason: str) -> None:
        """
        End the session at once.

        @param outcome: The one word for the log and the counters.
        @param reason: One sentence.
        """
        if self.relay is not None:
            self.relay.abort(outcome, reason)
        elif self._over:
            pass
        elif self._setUp is not None and not self._opening.cr_running:
            self._verdict = outcome, reason
            self._setUp.cancel()
            if not self._over:
                # Somebody has taken that for a failure of what was waited for, and waits for something else.
                self.keeper.reactor.callLater(0, self._giveUp)
        else:
            # It comes from inside the set-up, which can be cancelled only once it waits for something.
            self.keeper.reactor.callLater(0, self.cut, outcome, reason)

    def _giveUp(self) -> None:
        """
        The set-up has been cancelled, and does not heed it.
        """
        if self._verdict is not None and not self._over:
            self._letGo(self._verdict[0], True)
            self._done(*self._verdict)

    def _done(self, outcome: str, reason: str) -> None:
        """
        All is over: count it and tell it.
        """
        self._over = True
        self.keeper.deadlines.forget(self)
        chain, self.chain = self.chain, None
        if chain is not None:
            self._surely(chain.close, outcome)
        if outcome not in ("closed", "reset", "truncated"):
            for end in (self.near, self.far):
                if end is not None:
                    self._surely(end.overFor, reason)
        self._surely(self.keeper.ended, self, outcome, reason)
        if self.keeper.observers:
            self._tell("ended", outcome, reason)
        # Whoever still holds the Ends holds no session any more.
        self._setUp = self._opening = None

    def _surely(self, step: Callable[..., object], *facts: object) -> None:
        """
        Have something done at the end: what it raises must not keep the rest from being done.
        """
        try:
            step(*facts)
        except Exception:
            _log.failure("{route}: the end of a session met a bug of ours", route=self.route.name)

    def answer(self, response: bytes) -> None:
        """
        Tell the client, in its own protocol, why the session ends now.

        @param response: All there is to say: little, and the first that is ever sent, so that the socket takes it; or
            nothing, where it has been said.
        """
        self._answered = True
        if not self.near.gone:
            if response:
                self.near.writing.send(response)
            self.near.writing.endWrite()

    # -- what is known of the client --------------------------------------------------------------------------------

    @property
    def client(self) -> IAddress:
        """
        The client's address: where a balancer speaks for it, as that has told, once it has.
        """
        return self.near.peer()

    @property
    def certificate(self) -> x509.Certificate | None:
        """
        The certificate that the client has shown and that was verified, if any.
        """
        stream = self.near.tls
        return None if stream is None else stream.connection.get_peer_certificate(as_cryptography=True)

    @property
    def alpn(self) -> bytes:
        """
        The application protocol that the client negotiated; C{b""} for none.
        """
        stream = self.near.tls
        return b"" if stream is None else stream.connection.get_alpn_proto_negotiated()
