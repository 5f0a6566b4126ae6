# -*- test-case-name: tests.test_steps -*-
"""
The steps in which a session is set up, each of them a phase with a deadline.  Patterns are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable
from typing import Any, Final

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from tlsproxy.address import TCP, UDP, Address
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, HandshakeFailed, SessionError, forgetFrames
from tlsproxy.sentheader import headerFor
from tlsproxy.session import Session
from tlsproxy.tls.certificates import describe
from tlsproxy.tls.contexts import ClientTLS, ServerTLS
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.wire.clienthello import ClientHello, HelloError
from tlsproxy.wire.connect import response
from tlsproxy.wire.helloline import describeHello

__all__ = [
    "Upstream",
    "acceptTLS",
    "ask",
    "authorize",
    "choose",
    "connectTLS",
    "dial",
    "dialAddresses",
    "knowServer",
    "mirrorTLS",
    "readHello",
    "sameProtocol",
    "sendAlert",
    "turnAway",
]

_log = Logger()

_UNRECOGNIZED_NAME: Final = 112  # RFC 6066, section 3
_NOT_HTTPS: Final = response(400, "This port speaks TLS: ask for https://, not for http://")

Upstream = Address | IStreamClientEndpoint
"""What can be dialed."""


async def readHello(session: Session) -> ClientHello:
    """
    Wait for the client's whole hello, and leave it where it is.

    @raise AdmissionRefused: It is doubtful, or none; or whatever it says, a rule refuses whoever comes from there.
    """
    near, rules = session.near, session.route.rules
    turnAway(session)
    if session.phase != "hello":  # It is one deadline with that of the PROXY header before it.
        session.enter("hello")
    try:
        hello = await near.peekHello()
    except HelloError as e:
        if not rules or rules[-1].refuse != "close" or not rules[-1].unconditional:
            if e.plainHTTP:
                near.writing.send(_NOT_HTTPS)
            elif e.alert is not None:
                sendAlert(session, e.alert)
        raise AdmissionRefused(str(e)) from e
    session.hello = hello
    session.helloWords = describeHello(hello)
    session.serverName = hello.serverName
    return hello


def turnAway(session: Session) -> None:
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


def sendAlert(session: Session, alert: int) -> None:
    """
    Refuse a client before its handshake has begun.

    @param alert: Why (RFC 8446, section 6).
    """
    session.near.refuse(alert)


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
        sendAlert(session, _UNRECOGNIZED_NAME)
    asked = f"asks for {session.serverName}" if session.serverName is not None else "names no server"
    raise AdmissionRefused(f"the client {asked}, and {verdict}")


def knowServer(session: Session, tls: ServerTLS) -> None:
    """
    See that a client's TLS can be begun, by the server name that it asks for.

    @raise AdmissionRefused: It cannot; the client has been told by an alert.
    """
    try:
        tls.choose(session.serverName)
        tls.demand(session.serverName)
    except AdmissionRefused:
        session.phase = "route"
        sendAlert(session, _UNRECOGNIZED_NAME)
        raise


async def acceptTLS(session: Session, tls: ServerTLS, alpn: Sequence[bytes] | None = None) -> None:
    """
    Let the client in: the TLS handshake, and its certificate where one is demanded.

    @param alpn: The one protocol that the upstream has chosen, or none; L{None} for those of C{tls}.
    @raise AdmissionRefused: As L{knowServer}; or the client has changed its mind in the middle of it.
    @raise HandshakeFailed: With a sentence on why.
    """
    knowServer(session, tls)
    session.enter("handshake")
    name = session.serverName
    stream = await session.near.startTLS(tls, alpn, name)
    if session.hello is not None and stream.connection.get_protocol_version_name() == "TLSv1.3":
        # Asked for another key share, a client sends a second hello, and OpenSSL goes by that; we went by the first.
        asked, chosen = stream.connection.get_servername(), stream.connection.get_alpn_proto_negotiated()
        if name != (None if asked is None else asked.decode("latin-1").lower()):
            raise AdmissionRefused("the client's second hello names another server than its first")
        if chosen and chosen not in session.hello.alpn:
            raise AdmissionRefused("the client's second hello offers other application protocols than its first")
    if tls.demand(name).asks != "none":
        try:
            certificate = session.certificate
        except UNDECODABLE:
            # OpenSSL takes some that nobody else here does; rules would not have let it in either.
            raise HandshakeFailed("the client's certificate is refused: it cannot be read") from None
        session.clientCertificate = describe(certificate) if certificate is not None else ""


async def authorize(session: Session) -> None:
    """
    Ask the program that the proxy is part of whether it lets the client in.

    @raise AdmissionRefused: It does not.
    """
    if session.route.authorize is not None:
        session.enter("route")
        if await ask(session, "authorize", AdmissionRefused) is not True:
            raise AdmissionRefused("the program's authorize() does not let the client in")


async def ask(session: Session, what: str, refusal: type[SessionError]) -> Any:
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
    Reach the upstream, and tell it who the client is where it wants to know.

    @raise DialFailed: With a sentence on why.
    """
    session.enter("dial")
    session.upstream = where
    dialer = session.keeper.dialer
    if isinstance(where, UDP):
        session.far = far = await dialer.dialDatagrams(
            where, session.route.mtu, session.near.peer(), session.route.name
        )
        return far
    session.far = far = await dialer.dial(where)
    if session.route.sendProxy:
        await far.write(headerFor(session))
    return far


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
        sameProtocol(stream.connection.get_alpn_proto_negotiated(), b"".join(alpn))


async def mirrorTLS(session: Session, far: End, tls: ClientTLS) -> Sequence[bytes]:
    """
    The TLS handshake with an upstream that is offered all that the client offers.

    @return: The one application protocol that it has chosen, or none.
    @raise HandshakeFailed: With a sentence on why.
    """
    session.enter("upstream_handshake")
    offered = session.hello.alpn if session.hello is not None else ()
    stream = await far.startTLS(tls, offered)
    chosen = stream.connection.get_alpn_proto_negotiated()
    return [chosen] if chosen else []


def sameProtocol(theirs: bytes, ours: bytes) -> None:
    """
    See that both sides speak the same application protocol.

    @raise HandshakeFailed: They do not.
    """
    if theirs != ours:
        raise HandshakeFailed(f"the upstream speaks {_protocol(theirs)} where the client negotiated {_protocol(ours)}")


def _protocol(name: bytes) -> str:
    return ascii(name.decode("latin-1")) if name else "no application protocol"
