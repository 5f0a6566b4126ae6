# -*- test-case-name: tests.patterns.test_sequentialclient -*-
"""
C{sequential-client}: an HTTP proxy for the browsers of one user of this machine.  It reaches hosts by way of reverse
proxies, to which it shows a certificate; inside of that TLS flows the browser's own TLS with the host.

Whoever could connect here would borrow that certificate.  So the kernel is asked whose process a client is.  A host
that is reached by way of a reverse proxy is never looked up here, and never reached directly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from attrs import field, frozen
from twisted.internet.defer import CancelledError
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.asking import Answer, askForTunnel
from tlsproxy.connecting import isLocal
from tlsproxy.downgrade import ALPN, Downgrade, Inner, follow
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, Answered, DialFailed, SessionError
from tlsproxy.given import takes
from tlsproxy.interfaces import OUTWARD, IPattern
from tlsproxy.loopback import PipedEnd
from tlsproxy.mapping import Entry, Mapping, ReverseProxy, canonical
from tlsproxy.opening import Opening, negotiate
from tlsproxy.passwords import Busy, NotAuthenticated, Users
from tlsproxy.patterns.connect import BUSY, CHALLENGE, PAC, checkUser, readRequest
from tlsproxy.peeruser import PeerUnknown, userOf
from tlsproxy.session import Session
from tlsproxy.side import FarSide, NearSide
from tlsproxy.steps import authorize, dial, dialAddresses
from tlsproxy.targets import TargetRefused, ownListener
from tlsproxy.tls.explain import LATE_REFUSALS
from tlsproxy.upstreamproxy import UpstreamProxy
from tlsproxy.wire.connect import ESTABLISHED, Request, RequestReader, RequestRefused, connectHead, response
from tlsproxy.wire.pac import PAC_TYPE, mappedPacFile

__all__ = ["SequentialClient"]

_HTTP: Final = "http/1.1"
_LATE: Final = {
    "head": (408, "the request did not come in time"),
    "route": (503, BUSY),
    "dial": (504, "what leads to the target did not answer in time"),
    "upstream_handshake": (504, "the reverse proxy did not finish the TLS handshake in time"),
    "negotiate": (504, "the reverse proxy did not answer in time"),
    "downgrade": (504, "the reverse proxy did not end TLS in time"),
}
_PASSED_ON: Final = frozenset({403, 404, 429, 502, 503, 504})
"""What a reverse proxy says that a browser understands of this proxy, too."""
_STRANGER: Final = "this proxy serves the processes of its own user only"


class _Refused(AdmissionRefused):
    """
    The client does not get what it asks for.

    @ivar status: The status that tells it.
    @ivar public: The sentence that does.
    """

    def __init__(self, status: int, public: str, sentence: str = "") -> None:
        super().__init__(sentence or public)
        self.status = status
        self.public = public


@implementer(IPattern)
@frozen(kw_only=True)
class SequentialClient:
    """
    Make the tunnels that a browser on this machine asks for.

    @ivar mapping: Which hosts are reached in which way.
    @ivar users: Who may; L{None} for the processes of this process's own user.
    @ivar downgrade: When and how the TLS toward reverse proxies comes off.
    @ivar upstreamProxy: What reverse proxies are reached through; L{None} for nothing.
    @ivar userOf: Tells whose process is at the other end of a socket.
    """

    mode = "sequential-client"
    ruled = False
    mapping: Mapping = field(validator=takes("Mapping(entries=...)", Mapping))
    users: Users | None = field(
        default=None, validator=takes("Users, as Users.load(file) makes them", ("check",), None)
    )
    downgrade: Downgrade = field(default=Downgrade(), validator=takes("Downgrade(...)", Downgrade))
    upstreamProxy: UpstreamProxy | None = field(default=None, validator=takes("an UpstreamProxy", UpstreamProxy, None))
    userOf: Callable[..., int] = field(default=userOf, eq=False, repr=False)

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The request and who makes it, what the mapping says of its target, and then the way there.  The client is told
        what became of it.
        """
        reader = RequestReader()
        try:
            request = await readRequest(session, reader)
            if request.method == "CONNECT":
                session.target = str(TCP(request.host, request.port))
            await self._knowClient(session, request)
            if request.method != "CONNECT":
                self._serve(session, request, reader.bodyless)
            entry = self._look(request)
            await authorize(session)
            if entry.via is None:
                far = await self._reachDirectly(session, request, entry)
                agreed = ""
            else:
                far, agreed = await self._reach(session, request, entry.via)
        except RequestRefused as e:
            session.target = reader.target.partition("?")[0] if "@" not in reader.target else ""
            session.answer(response(e.status, str(e), e.headers, bodyless=reader.bodyless))
            raise AdmissionRefused(str(e)) from e
        except NotAuthenticated:
            session.answer(response(407, "this proxy wants a user's name and password", CHALLENGE))
            raise
        except Busy:
            session.answer(response(503, BUSY))
            raise
        except _Refused as e:
            session.answer(response(e.status, e.public, bodyless=reader.bodyless))
            raise
        except TargetRefused as e:
            session.answer(response(403, e.public))
            raise
        except AdmissionRefused:
            session.answer(response(403, "this proxy does not let you in"))
            raise
        except DialFailed as e:
            session.answer(response(e.status, str(e)))
            raise
        except CancelledError:
            if session.late and session.phase in _LATE:
                session.answer(response(*_LATE[session.phase]))
            raise
        await session.near.write(ESTABLISHED)
        if session.route.handlers:
            opening = Opening(session, None)
            await negotiate(session, NearSide(opening, False), FarSide(opening, False, False))
        if agreed:
            inner = Inner(host=canonical(request.host), names=entry.sni)
            await follow(session, OUTWARD, agreed, self.downgrade, inner)
        return session.near, far

    async def _knowClient(self, session: Session, request: Request) -> None:
        """
        See that the client may use the certificate of this proxy.

        @raise AdmissionRefused: It may not.
        """
        if session.proxied is not None or isinstance(session.near, PipedEnd):
            raise _Refused(403, _STRANGER, "the client does not connect by itself, so it cannot be told whose it is")
        if self.users is not None:
            if request.method == "CONNECT":
                await checkUser(session, self.users, request.authorization)
            return
        try:
            user = self.userOf(session.near.socket)
        except PeerUnknown as e:
            raise _Refused(403, _STRANGER, str(e)) from None
        if user != os.geteuid():
            raise _Refused(403, _STRANGER, f"the client is a process of user id {user}, and this one of {os.geteuid()}")

    def _serve(self, session: Session, request: Request, bodyless: bool) -> None:
        """
        Answer a request to the proxy itself.

        @raise Answered: It has been.
        """
        if request.target.partition("?")[0] != PAC:
            raise RequestRefused(f"there is nothing here but {PAC}; this proxy makes tunnels, by CONNECT", 404)
        hosts = [(one.pattern, one.network, one.ports) for entry in self.mapping.entries for one in entry.hosts]
        try:
            text = mappedPacFile(request.authority, hosts)
        except ValueError as e:
            raise RequestRefused(str(e)) from e
        session.answer(response(200, text, (), PAC_TYPE, bodyless))
        raise Answered(f"the client asked for {PAC}")

    def _look(self, request: Request) -> Entry:
        """
        Look into the mapping.

        @raise AdmissionRefused: The target is refused.
        """
        where = str(TCP(request.host, request.port))
        public = f"this proxy does not make tunnels to {where}"
        try:
            entry = self.mapping.find(request.host, request.port)
        except ValueError:
            raise _Refused(403, "this proxy does not make tunnels to such a host", f"{where} is no host") from None
        if entry is None:
            raise _Refused(403, public, f"{where} is not in the mapping")
        if entry.via is None and not entry.direct:
            raise _Refused(403, public, f"{where} is refused by the mapping")
        return entry

    async def _reachDirectly(self, session: Session, request: Request, entry: Entry) -> End:
        where = TCP(request.host, request.port)
        session.enter("dial")
        found = await session.keeper.dialer.lookUp(where)
        own = ownListener(session.keeper.listeners, isLocal)
        permitted = entry.targets.permitted(where.host, where.port, found, own)
        return await dialAddresses(session, where, permitted)

    # -- by way of a reverse proxy ----------------------------------------------------------------------------------

    async def _reach(self, session: Session, request: Request, via: ReverseProxy) -> tuple[End, str]:
        """
        Have a reverse proxy connect with the target.

        @return: Its side, and what was agreed on for its TLS.
        """
        who = f"the reverse proxy {via.name}"
        try:
            far = await self._dial(session, via, who)
            far.takeOff = self.downgrade.takeOff
            session.enter("upstream_handshake")
            stream = await far.startTLS(via.tls, (ALPN.encode(), _HTTP.encode()))
            connection = stream.connection
            spoken = connection.get_alpn_proto_negotiated()
            known = spoken == ALPN.encode() and connection.get_protocol_version_name() == "TLSv1.3"
            wishes = self.downgrade.wishes if known and not stream.resumed() else ()
            session.enter("negotiate")
            head = connectHead(canonical(request.host), request.port, wishes)
            answer = await askForTunnel(far, head)
        except DialFailed as e:
            raise DialFailed(str(e).replace("the upstream", "the reverse proxy", 1), e.status) from e
        except AdmissionRefused:
            raise
        except SessionError as e:
            raise _failed(session, who, e) from e
        return far, self._heed(answer, wishes, who)

    async def _dial(self, session: Session, via: ReverseProxy, who: str) -> End:
        proxy = self.upstreamProxy
        if proxy is None:
            far = await dial(session, via.address)
            far.who = who
            return far
        try:
            far = await dial(session, proxy.address)
        except DialFailed as e:
            raise DialFailed(str(e).replace("the upstream", "the upstream_proxy", 1), e.status) from e
        far.who = f"the upstream_proxy {proxy.address}"
        await proxy.ask(far, via.address)
        session.upstream, far.who = via.address, who
        return far

    def _heed(self, answer: Answer, wishes: tuple[str, ...], who: str) -> str:
        """
        Take the answer of a reverse proxy.

        @return: What was agreed on for TLS.
        @raise AdmissionRefused: It refuses.
        @raise DialFailed: It answers what it cannot.
        """
        status = answer.status
        if answer.established:
            if answer.agreed is not None and answer.agreed not in wishes:
                raise DialFailed(f"{who} wants to take TLS off in a way that was not offered")
            return answer.agreed or "none"
        if status not in _PASSED_ON:
            # What is asked of us, such as a password, is not for the client.
            status = 403 if 400 <= status < 500 else 502
        raise _Refused(status, f"{who} {answer.words}")


def _failed(session: Session, who: str, problem: SessionError) -> DialFailed:
    """
    Say what a failure means that a reverse proxy met, or caused.
    """
    far = session.far
    stream = None if far is None else far.tls
    alert = None if stream is None else stream.alert()
    sentence = str(problem)
    if alert is not None and not alert[1] and alert[0] in LATE_REFUSALS:
        return DialFailed(sentence, 403)
    if session.phase == "negotiate" and problem.outcome in ("ended", "reset"):
        # In TLS 1.3 a server judges our certificate when we have long finished.
        sentence += "; perhaps it does not accept our certificate: its own log says why"
    return DialFailed(sentence)
