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
from datetime import datetime
from typing import ClassVar, Final

from attrs import evolve, field, frozen
from twisted.internet.task import deferLater
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.asking import Answer, askForTunnel
from tlsproxy.downgrade import ALPN, Downgrade, Inner, follow
from tlsproxy.end import End
from tlsproxy.enrolling.folder import Enrolled
from tlsproxy.errors import ConfigurationError, DialFailed, SessionError, forgetFrames
from tlsproxy.given import takes
from tlsproxy.grants import Admitted
from tlsproxy.interfaces import ENDED, OUTWARD, IPattern
from tlsproxy.lifetimes import endWith, wallClock
from tlsproxy.loopback import PipedEnd
from tlsproxy.mapping import Entry, Mapping, ReverseProxy, canonical
from tlsproxy.passwords import Users
from tlsproxy.peeruser import PeerUnknown, isHere, userOf
from tlsproxy.session import Session
from tlsproxy.signedmapping import shownTime
from tlsproxy.steps import authorize, dial, dialAddresses
from tlsproxy.targets import TargetRefused
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.explain import explainLate
from tlsproxy.tunnels import LATE, checkUser, ownOf, request, stand
from tlsproxy.upstreamproxy import UpstreamProxy
from tlsproxy.wire.connect import ESTABLISHED, Request, connectHead
from tlsproxy.wire.pac import mappedPacFile

__all__ = ["SequentialClient"]

_HTTP: Final = "http/1.1"
_LATE: Final = {
    **LATE,
    "dial": (504, "neither the target nor a reverse proxy on the way to it answered in time"),
    "upstream_handshake": (504, "the reverse proxy did not finish the TLS handshake in time"),
    "negotiate": (504, "the reverse proxy did not answer in time"),
}
_PASSED_ON: Final = frozenset({502, 503, 504})
"""What a reverse proxy says that a browser understands of this proxy, too."""
_PATIENCE: Final = 20
_PAUSE: Final = 0.1
_STRANGER: Final = "this proxy serves the processes of its own user only"


@implementer(IPattern)
@frozen(kw_only=True)
class SequentialClient:
    """
    Make the tunnels that a browser on this machine asks for.

    @cvar tooLong: What took too long, by the phase, where that is something else than in other modes.
    @ivar mapping: Which hosts are reached in which way.
    @ivar users: Who may; L{None} for the processes of this process's own user.
    @ivar downgrade: When and how the TLS toward reverse proxies comes off.
    @ivar upstreamProxy: What reverse proxies are reached through; L{None} for nothing.
    @ivar userOf: Tells whose process is at the other end of a socket.
    @ivar enrolled: Where certificate and mapping come from, where a reverse proxy has given both.
    @ivar now: Tells the time that the mapping and the certificate are valid by.
    """

    mode = "sequential-client"
    ruled = False
    tooLong: ClassVar[dict[str, str]] = {"negotiate": "the upstream did not answer"}
    mapping: Mapping = field(validator=takes("Mapping(entries=...)", Mapping))
    users: Users | None = field(
        default=None, validator=takes("Users, as Users.load(file) makes them", ("check",), None)
    )
    downgrade: Downgrade = field(default=Downgrade(), validator=takes("Downgrade(...)", Downgrade))
    upstreamProxy: UpstreamProxy | None = field(default=None, validator=takes("an UpstreamProxy", UpstreamProxy, None))
    enrolled: Enrolled | None = field(
        default=None, validator=takes("Enrolled, as Enrolled.read(folder) makes it", Enrolled, None)
    )
    userOf: Callable[..., int] = field(default=userOf, eq=False, repr=False)
    now: Callable[[], datetime] = field(default=wallClock, eq=False, repr=False)

    @property
    def upstreamTLS(self) -> ClientTLS | None:
        """
        The TLS toward reverse proxies, with the name of the first.
        """
        return next((one.tls for one in self.mapping.reverseProxies), None)

    @property
    def descriptors(self) -> int:
        """
        How many descriptors a session takes beside those of its two sides.
        """
        return self.downgrade.descriptors

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The request and who makes it, what the mapping says of its target, and then the way there.  The client is told
        what became of it.
        """
        ways: list[tuple[Entry, str]] = []

        async def reach(asked: Request, where: TCP) -> End:
            self._knowClient(session)
            if self.users is not None:
                await checkUser(session, self.users, asked.authorization)
            self._knowMapping()
            entry = self._look(where)
            way = str(entry.via or "")
            session.admitted = Admitted(host=where.host, port=where.port, via=way)
            await authorize(session)
            if entry.via is None:
                far, agreed = await self._reachDirectly(session, where, entry), ""
            else:
                far, agreed = await self._reach(session, where, entry.via)
            ways.append((entry, agreed))
            return far

        def pac(asked: Request) -> str:
            self._knowClient(session)
            return self.pacFile(asked.authority)

        asked, far = await request(session, reach, False, self.users is not None, pac, _LATE)
        ((entry, agreed),) = ways
        await stand(session, ESTABLISHED)
        if agreed:
            inner = Inner(host=canonical(asked.host), names=entry.sni, where="sni of its [[map]]")
            await follow(session, OUTWARD, agreed, self.downgrade, inner)
        return session.near, far

    def pacFile(self, authority: str) -> str:
        """
        Write the file by which browsers send here what the mapping names, and all else directly.

        @param authority: Where they find this proxy, as of L{mappedPacFile}.
        @return: As of L{mappedPacFile}.
        @raise ValueError: As of L{mappedPacFile}.
        """
        hosts = [(one.pattern, one.network, one.ports) for entry in self.mapping.entries for one in entry.hosts]
        return mappedPacFile(authority, hosts)

    def _knowClient(self, session: Session) -> None:
        """
        See that the client is a process of this process's own user, where that is what is asked.

        @raise TargetRefused: It is not, or that cannot be told.
        """
        if session.proxied is not None or isinstance(session.near, PipedEnd):
            raise TargetRefused("the client does not connect by itself, so it cannot be told whose it is", _STRANGER)
        if self.users is not None:
            # Passwords are for others of this machine, and do not make this a proxy for the network.
            if not isHere(session.near.socket):
                raise TargetRefused("the client comes from elsewhere than this machine's loopback", _STRANGER)
            return
        try:
            user = self.userOf(session.near.socket)
        except PeerUnknown as e:
            raise TargetRefused(str(e), _STRANGER) from None
        if user != os.geteuid():
            words = f"the client is a process of user id {user}, and this is one of user id {os.geteuid()}"
            raise TargetRefused(words, _STRANGER)

    def _knowMapping(self) -> None:
        """
        See that the mapping still counts.  Tunnels that stand go on.

        @raise TargetRefused: It has expired, and with it all that it says, what is reached directly included.
        """
        expires = self.mapping.expires
        if expires is not None and self.now() >= expires:
            sentence = f"the mapping has expired on {shownTime(expires)}: no host is reached until there is a new one"
            raise TargetRefused(sentence, sentence)

    def _knowCertificate(self) -> None:
        """
        See that our certificate is valid, where nobody but we know that it is not.

        @raise TargetRefused: It has expired.
        """
        kept = self.enrolled
        if kept is not None and self.now() >= kept.certificate.notAfter:
            words = f"the certificate of this client proxy has expired on {shownTime(kept.certificate.notAfter)}"
            raise TargetRefused(f"{words}: {kept.again}", f"{words}, and could not be renewed: {kept.again}")

    def whyNoMore(self, admitted: Admitted) -> str:
        """
        Say why a tunnel that another mapping has let through would not be by this one.

        @param admitted: What for, and by which way.
        @return: One sentence; C{""} where it would be.
        """
        if not admitted.host:
            return ""
        where = TCP(admitted.host, admitted.port)
        try:
            entry = self._look(where)
        except TargetRefused as e:
            return str(e)
        return "" if admitted.via == str(entry.via or "") else f"the mapping has another way to {where} now"

    def _look(self, where: TCP) -> Entry:
        """
        Look into the mapping.

        @raise TargetRefused: The target is refused.
        """
        public = f"this proxy does not make tunnels to {where}"
        try:
            entry = self.mapping.find(where.host, where.port)
        except ValueError:
            raise TargetRefused(f"{where} is no host", "this proxy does not make tunnels to such a host") from None
        if entry is None:
            raise TargetRefused(f"{where} is not in the mapping", public)
        if entry.via is None and not entry.direct:
            raise TargetRefused(f"{where} is refused by the mapping", public)
        return entry

    async def _reachDirectly(self, session: Session, where: TCP, entry: Entry) -> End:
        session.enter("dial")
        found = await session.keeper.dialer.lookUp(where)
        permitted = entry.targets.permitted(where.host, where.port, found, ownOf(session))
        return await dialAddresses(session, where, permitted)

    # -- by way of a reverse proxy ----------------------------------------------------------------------------------

    async def _reach(self, session: Session, where: TCP, via: ReverseProxy) -> tuple[End, str]:
        """
        Have a reverse proxy connect with the target, and where it does not, see whether it refuses our certificate only
        because it has just given us another one.

        @return: Its side, and what was agreed on for its TLS.
        """
        self._knowCertificate()
        try:
            return await self._ask(session, where, via)
        except TargetRefused as e:
            if not await self._isRenewed(session):
                raise
            forgetFrames(e)
        if session.far is not None:
            session.far.finish()
        try:
            tls = ClientTLS.load(via.tls.policy, via.tls.name, self.now())
        except ConfigurationError as e:
            raise DialFailed(str(e)) from None
        return await self._ask(session, where, evolve(via, tls=tls))

    async def _isRenewed(self, session: Session) -> bool:
        """
        Tell whether there is another certificate than the one that we know, and wait if it is about to be there.
        """
        kept = self.enrolled
        for _ in range(_PATIENCE):
            renewed = kept is not None and kept.folder.renews(kept.certificate.serial)
            if renewed is not None:
                return renewed
            await deferLater(session.keeper.reactor, _PAUSE)
        return False

    async def _ask(self, session: Session, where: TCP, via: ReverseProxy) -> tuple[End, str]:
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
            # Where it has refused our certificate and reset the connection, to write would be to lose its alert.
            stream.peek(1)
            if stream.state >= ENDED:
                await far.peek(1)
            answer = await askForTunnel(far, connectHead(canonical(where.host), where.port, wishes))
        except DialFailed:
            raise
        except SessionError as e:
            raise _failed(session, who, e) from e
        agreed = self._heed(answer, wishes, who)
        shown = connection.get_certificate(as_cryptography=True)
        if shown is not None:
            endWith(session, [shown], self.now())
        return far, agreed

    async def _dial(self, session: Session, via: ReverseProxy, who: str) -> End:
        """
        Reach a reverse proxy, which is held as who it is in messages.
        """
        proxy = self.upstreamProxy
        what = "reverse proxy" if proxy is None else "upstream_proxy"
        try:
            far = await dial(session, via.address if proxy is None else proxy.address)
        except DialFailed as e:
            raise DialFailed(str(e).replace("the upstream", f"the {what}", 1), e.status) from e
        if proxy is not None:
            far.who = f"the {what} {proxy.address}"
            await proxy.ask(far, via.address)
        session.upstream, far.who = via.address, who
        return far

    def _heed(self, answer: Answer, wishes: tuple[str, ...], who: str) -> str:
        """
        Take the answer of a reverse proxy.

        @return: What was agreed on for TLS.
        @raise TargetRefused: It does not let us there.
        @raise DialFailed: It cannot reach the target, or answers what it cannot.
        """
        if answer.established:
            if answer.agreed is not None and answer.agreed not in wishes:
                raise DialFailed(f"{who} wants to take TLS off in a way that was not offered")
            return answer.agreed or "none"
        sentence = f"{who} {answer.words}"
        if 400 <= answer.status < 500:
            # What is asked of us, such as a password, is not for the client.
            raise TargetRefused(sentence, sentence)
        raise DialFailed(sentence, answer.status if answer.status in _PASSED_ON else 502)


def _failed(session: Session, who: str, problem: SessionError) -> DialFailed:
    """
    Say what a failure means that a reverse proxy met, or caused.
    """
    far = session.far
    stream = None if far is None else far.tls
    refusal = explainLate(stream, who) if stream is not None else ""
    if refusal:
        return DialFailed(refusal, 403)
    sentence = str(problem)
    if session.phase == "negotiate" and problem.outcome in ("ended", "reset"):
        # In TLS 1.3 a server judges our certificate when we have long finished.
        sentence += "; perhaps it does not accept our certificate: its own log says why"
    return DialFailed(sentence)
