# -*- test-case-name: tests.test_opening -*-
"""
How the two sides of a session are opened: the steps that patterns are made of, each a phase of the session.

L{Opening} puts them in order for the patterns whose upstream is the route's: the client first, all of it, and then the
upstream.  Only a protocol handler that talks before TLS changes the order, since it starts TLS itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable
from typing import Any, Final

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from tlsproxy.address import TCP, Address, asAddress
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, HandshakeFailed, NegotiationFailed, SessionError, forgetFrames
from tlsproxy.flow import Chain
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.session import Session
from tlsproxy.side import FarSide, NearSide
from tlsproxy.tls.certificates import describe
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.wire.clienthello import ClientHello, HelloError
from tlsproxy.wire.connect import response
from tlsproxy.wire.helloline import describeHello

__all__ = [
    "Opening",
    "acceptTLS",
    "authorize",
    "choose",
    "connectTLS",
    "dial",
    "dialAddresses",
    "negotiate",
    "readHello",
]

_log = Logger()

_UNRECOGNIZED_NAME: Final = 112  # RFC 6066, section 3
_NOT_HTTPS: Final = response(400, "This port speaks TLS: ask for https://, not for http://")

Upstream = Address | IStreamClientEndpoint


async def readHello(session: Session) -> ClientHello:
    """
    Wait for the client's whole hello, and leave it where it is.

    @raise AdmissionRefused: It is doubtful, or none; or whatever it says, a rule refuses whoever comes from there.
    """
    near, rules = session.near, session.route.rules
    _turnAway(session)
    session.enter("hello")
    try:
        hello = await near.peekHello()
    except HelloError as e:
        if not rules or rules[-1].refuse != "close" or not rules[-1].unconditional:
            if e.plainHTTP:
                near.writing.send(_NOT_HTTPS)
            elif e.alert is not None:
                _alert(session, e.alert)
        raise AdmissionRefused(str(e)) from e
    session.hello = hello
    session.helloWords = describeHello(hello)
    session.serverName = hello.serverName
    return hello


def _turnAway(session: Session) -> None:
    """
    Refuse a client by where it comes from, where a rule does so whatever its hello says.
    """
    for number, rule in enumerate(session.route.rules, 1):
        if rule.needsHello or rule.unconditional:
            return
        if rule.matches(None, session.near.peer):
            if rule.refuse == "close":
                session.phase = "route"
                raise AdmissionRefused(f"the client connects, and rule {number} of the route refuses that")
            return


def _alert(session: Session, alert: int) -> None:
    session.near.writing.send(bytes((21, 3, 3, 0, 2, 2, alert)))


def choose(session: Session, upstream: Upstream | None) -> tuple[Upstream | None, ClientTLS | None]:
    """
    Choose the upstream, by the first of the route's rules that matches.

    @param upstream: What to dial where none does; L{None} to refuse then, or to leave it to the route's
        C{chooseUpstream}.
    @return: What to dial, and the TLS toward it where it is not the pattern's.
    @raise AdmissionRefused: The client is not let through.
    """
    how, verdict = "alert", "no rule of the route is for that"
    for number, rule in enumerate(session.route.rules, 1):
        if rule.matches(session.hello, session.near.peer):
            if rule.upstream is not None:
                return rule.upstream, rule.upstreamTLS
            how, verdict = rule.refuse, f"rule {number} of the route refuses that"
            break
    else:
        if upstream is not None or session.route.chooseUpstream is not None:
            return upstream, None
    session.phase = "route"
    if session.hello is None:
        raise AdmissionRefused(f"the client connects, and {verdict}")
    if how == "alert":
        _alert(session, _UNRECOGNIZED_NAME)
    asked = f"asks for {session.serverName}" if session.serverName is not None else "names no server"
    raise AdmissionRefused(f"the client {asked}, and {verdict}")


async def acceptTLS(session: Session, tls: ServerTLS) -> None:
    """
    Let the client in: the TLS handshake, and its certificate where one is demanded.

    @raise HandshakeFailed: With a sentence on why.
    """
    session.enter("handshake")
    await session.near.startTLS(tls)
    if tls.policy.clientCa:
        certificate = session.certificate
        session.clientCertificate = describe(certificate) if certificate is not None else ""


async def authorize(session: Session) -> None:
    """
    Ask the program that the proxy is part of whether it lets the client in.

    @raise AdmissionRefused: It does not.
    """
    if session.route.authorize is not None:
        session.enter("route")
        if await _ask(session, "authorize", AdmissionRefused) is not True:
            raise AdmissionRefused("the program's authorize() does not let the client in")


async def _ask(session: Session, what: str, refusal: type[SessionError]) -> Any:
    """
    Ask the program that the proxy is part of.

    @param what: The attribute of the route that says how.
    @param refusal: What to raise where the program fails.
    """
    try:
        answer = getattr(session.route, what)(session)
        if isawaitable(answer):
            answer = await answer
    except SessionError:
        raise
    except Exception as e:
        if session.ending:
            raise CancelledError() from None
        _log.failure("{route}: {what}() failed", route=session.route.name, what=what)
        forgetFrames(e)
        raise refusal(f"the program's {what}() failed; its traceback is in the log") from None
    if session.ending:
        raise CancelledError()
    return answer


async def dial(session: Session, where: Upstream) -> End:
    """
    Reach the upstream.

    @raise DialFailed: With a sentence on why.
    """
    session.enter("dial")
    session.upstream = where
    session.far = await session.keeper.dialer.dial(where)
    return session.far


async def dialAddresses(session: Session, where: TCP, addresses: Sequence[str]) -> End:
    """
    Reach the upstream at one of these addresses, and at no other.

    @raise DialFailed: With a sentence on why.
    """
    session.far = far = await session.keeper.dialer.dialAddresses(where, addresses)
    host = getattr(far.peer(), "host", where.host)
    session.upstream = TCP(host, where.port)
    return far


async def connectTLS(session: Session, far: End, tls: ClientTLS, alpn: Sequence[bytes] | None = None) -> None:
    """
    The TLS handshake with the upstream, and the check of its certificate and name.

    @param alpn: The one protocol that the client negotiated, or none; L{None} for those of C{tls}.
    @raise HandshakeFailed: With a sentence on why.
    """
    session.enter("upstream_handshake")
    stream = await far.startTLS(tls, alpn)
    if alpn is not None:
        _sameProtocol(stream.connection.get_alpn_proto_negotiated(), b"".join(alpn))


def _sameProtocol(theirs: bytes, ours: bytes) -> None:
    if theirs != ours:
        raise HandshakeFailed(f"the upstream speaks {_protocol(theirs)} where the client negotiated {_protocol(ours)}")


def _protocol(name: bytes) -> str:
    return ascii(name.decode("latin-1")) if name else "no application protocol"


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
        except Exception as e:
            if session.ending:
                raise CancelledError() from None
            raise _whose(chain, flow.name, e) from None
    near.close()
    far.close()


def _whose(chain: Chain, name: str, problem: Exception) -> SessionError:
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
            far = await self.reach()
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
            _turnAway(self.session)
        else:
            await self.admit()
        if not startsNear or serverFirst:
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
            _sameProtocol(stream.connection.get_alpn_proto_negotiated() if stream else b"", self.session.alpn)
        return end

    async def admit(self) -> None:
        """
        Let the client in: hello, rules, handshake, and what the program says.
        """
        session = self.session
        if self._hello and not self.inClear:
            await readHello(session)
        self._choose()
        if self.tls is not None and not self.inClear:
            await acceptTLS(session, self.tls)
        await authorize(session)
        self.admitted = True

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
        answer = await _ask(session, "chooseUpstream", SessionError)
        if answer is None:
            if self._upstream is None:
                raise AdmissionRefused("the program's chooseUpstream() names no upstream, and neither does the route")
            return
        tls = self.upstreamTLS
        try:
            self._upstream = where = asAddress(answer)
            if not isinstance(where, Address) and not IStreamClientEndpoint.providedBy(where):
                raise ValueError(f"{where!r} is neither an address nor a client endpoint")
            if tls is not None and not tls.policy.name and isinstance(where, TCP):
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
