# -*- test-case-name: tests.test_opening -*-
"""
The order in which the two sides of a session are opened, for the patterns whose upstream is the route's: the client
first, all of it, and then the upstream.

Only a protocol handler that talks before TLS changes the order, since it starts TLS itself.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IStreamClientEndpoint

from tlsproxy.address import TCP, UDP, Address, asAddress
from tlsproxy.chain import Chain
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, HandshakeFailed, NegotiationFailed, SessionError
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.session import Session
from tlsproxy.side import FarSide, NearSide
from tlsproxy.steps import (
    Upstream,
    acceptTLS,
    ask,
    authorize,
    choose,
    connectTLS,
    dial,
    knowServer,
    mirrorTLS,
    readHello,
    sameProtocol,
    sendAlert,
    turnAway,
)
from tlsproxy.tls.contexts import ClientTLS, ServerTLS

__all__ = ["Opening", "negotiate"]

_INTERNAL_ERROR: Final = 80  # RFC 8446, section 6
_NO_APPLICATION_PROTOCOL: Final = 120  # RFC 7301, section 3.2


async def negotiate(session: Session, near: NearSide, far: FarSide) -> None:
    """
    Have each protocol handler talk with both sides, in their order.
    """
    chain = session.makeHandlers()
    for flow, handler in list(chain.links):
        session.enter("negotiate")
        try:
            await handler.negotiate(near, far)
            near.rested()
            far.rested()
        except GeneratorExit:
            raise
        except BaseException as e:
            if session.ending:
                raise CancelledError() from None
            raise _whose(chain, flow.name, e) from None
    near.close()
    far.close()


def _whose(chain: Chain, name: str, problem: BaseException) -> SessionError:
    """
    What a peer did wrong while a handler talked with it is not the handler's fault.
    """
    if isinstance(problem, SessionError) and not isinstance(problem, NegotiationFailed):
        return problem
    return chain.blamed(name, problem)


class Opening:
    """
    The opening of a session whose upstream is the route's.

    @ivar session: The session.
    @ivar tls: The TLS toward the client, if any.
    @ivar upstreamTLS: The TLS toward the upstream, if any.
    @ivar admitted: Whether the client has been let in.
    @ivar inClear: Whether the client goes on without the TLS that it should have.
    @ivar secured: Whether the upstream is reached, and its TLS, if there is any, has been started.
    """

    def __init__(
        self,
        session: Session,
        upstream: Upstream | None,
        tls: ServerTLS | None = None,
        upstreamTLS: ClientTLS | None = None,
        hello: bool = False,
        sameProtocol: bool = False,
    ) -> None:
        """
        @param upstream: What to dial where no rule says so.
        @param tls: The TLS toward the client, if any.
        @param upstreamTLS: The TLS toward the upstream, if any.
        @param hello: Whether the client's hello is waited for though its TLS is not ours.
        @param sameProtocol: Whether the upstream has to speak the application protocol that the client negotiated.
        """
        self.session, self.tls, self.upstreamTLS = session, tls, upstreamTLS
        self._default = self._upstream = upstream
        self._hello = hello or tls is not None
        self._sameProtocol = sameProtocol
        self._ruled: tuple[Upstream | None, ClientTLS | None] | None = None
        self.admitted = self.inClear = self._securing = False
        self.secured = session.far is not None

    async def run(self) -> tuple[End, End]:
        """
        Open both sides.
        """
        session, handlers = self.session, self.session.route.handlers
        if not handlers:
            await self.admit()
            # Where the client is given the upstream's choice, that has been reached.
            far = session.far or await self.reach()
            if not self.secured:
                await self.secure()
            return session.near, far
        starts = frozenset[str]().union(*(options.startsTLS for options in handlers))
        far = await self._talk(
            self.tls is not None and NEAR in starts,
            self.upstreamTLS is not None and FAR in starts,
            any(options.serverFirst for options in handlers),
        )
        return session.near, far

    async def _talk(self, startsNear: bool, startsFar: bool, serverFirst: bool) -> End:
        """
        Open both sides where handlers may have their say first.

        @param startsNear: Whether a handler starts the TLS toward the client.
        @param startsFar: Whether a handler starts the TLS toward the upstream.
        @param serverFirst: Whether the upstream may be dialed before the client is admitted.
        """
        near, far = NearSide(self, startsNear), FarSide(self, startsFar, early=serverFirst)
        if startsNear:
            turnAway(self.session)
        else:
            await self.admit()
        if serverFirst:
            await far.tried()
        elif not startsNear:
            await far.reached()
        await negotiate(self.session, near, far)
        if near.owed:
            raise AdmissionRefused("the client's side was left without TLS")
        if not self.admitted:
            await self.admit()
        end = await far.reached()
        if far.owed:
            raise HandshakeFailed("the upstream's side was left without TLS")
        if self._sameProtocol:
            stream = end.tls
            sameProtocol(stream.connection.get_alpn_proto_negotiated() if stream else b"", self.session.alpn)
        return end

    async def admit(self) -> None:
        """
        Let the client in: hello, rules, handshake, and what the program says.
        """
        session = self.session
        if self._hello and not self.inClear:
            await readHello(session)
        self._choose()
        if self.tls is None or self.inClear:
            await authorize(session)
        elif self.tls.policy.mirrors:
            await self._mirror(self.tls)
        else:
            await acceptTLS(session, self.tls)
            await authorize(session)
        self.admitted = True

    async def _mirror(self, tls: ServerTLS) -> None:
        """
        Let the client in, with the application protocol that the upstream has chosen from what the client offers.
        """
        session = self.session
        knowServer(session, tls)
        await authorize(session)
        try:
            far = await self.reach()
            assert self.upstreamTLS is not None
            chosen = await mirrorTLS(session, far, self.upstreamTLS)
        except (SessionError, CancelledError) as e:
            # The client still waits for an answer to its hello, and an upstream that is late is no fault of its own.
            if session.late or isinstance(e, SessionError):
                stream = session.far.tls if session.far is not None else None
                refused = stream is not None and stream.alert() == (_NO_APPLICATION_PROTOCOL, False)
                sendAlert(session, _NO_APPLICATION_PROTOCOL if refused else _INTERNAL_ERROR)
                session.answer(b"")
            raise
        self.secured = True
        await acceptTLS(session, tls, chosen)

    def _choose(self) -> None:
        """
        Choose the upstream.  Where it had to be dialed before the hello, the hello must not lead to another.
        """
        ruled = choose(self.session, self._default)
        if self._ruled is None:
            self._ruled = ruled
            self._upstream, upstreamTLS = ruled
            self.upstreamTLS = upstreamTLS or self.upstreamTLS
        elif self._ruled != ruled:
            self.session.phase = "route"
            raise AdmissionRefused("the client's hello leads to another upstream than the one that had to speak first")

    async def reach(self) -> End:
        """
        Dial the upstream.
        """
        session = self.session
        if self._ruled is None:
            self._choose()
        if session.route.chooseUpstream is not None:
            await self._ask()
        assert self._upstream is not None
        return await dial(session, self._upstream)

    async def _ask(self) -> None:
        """
        Ask the program that the proxy is part of where to connect.
        """
        session = self.session
        session.enter("route")
        answer = await ask(session, "chooseUpstream", SessionError)
        if answer is None:
            if self._upstream is None:
                raise AdmissionRefused("the program's chooseUpstream() names no upstream, and neither does the route")
            return
        tls = self.upstreamTLS
        try:
            self._upstream = where = asAddress(answer)
            if not isinstance(where, Address) and not IStreamClientEndpoint.providedBy(where):
                raise ValueError(f"{where!r} is neither an address nor a client endpoint")
            if tls is not None and not tls.policy.name and isinstance(where, (TCP, UDP)):
                self.upstreamTLS = tls.named(where.host or "localhost")
        except ValueError as e:
            raise SessionError(f"the program's chooseUpstream() names no upstream: {e}") from None

    async def secure(self) -> None:
        """
        The TLS toward the upstream, if there is any.
        """
        session, far = self.session, self.session.far
        if self._securing:
            raise HandshakeFailed("TLS with the upstream did not come about")
        if self.upstreamTLS is not None and far is not None:
            self._securing = True
            alpn = None
            if self._sameProtocol:
                alpn = [session.alpn] if session.alpn else []
            await connectTLS(session, far, self.upstreamTLS, alpn)
        self.secured = True
