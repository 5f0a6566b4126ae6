# -*- test-case-name: tests.patterns.test_connect -*-
"""
C{connect}: an HTTP proxy for tunnels (RFC 9110, section 9.3.6), on TCP or on TLS.  The client names its target, and a
list says which targets there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import field, frozen
from attrs.validators import optional
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.connecting import isLocal
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, Answered, DialFailed, PeerEnded
from tlsproxy.given import takes
from tlsproxy.interfaces import IPattern
from tlsproxy.opening import Opening, negotiate
from tlsproxy.passwords import Busy, NotAuthenticated, Users
from tlsproxy.session import Session
from tlsproxy.side import FarSide, NearSide
from tlsproxy.steps import acceptTLS, authorize, dialAddresses, readHello
from tlsproxy.targets import TargetRefused, Targets, ownListener
from tlsproxy.tls.contexts import ServerTLS, isServerTLS, mirrorsNobody
from tlsproxy.wire.connect import ESTABLISHED, Request, RequestReader, RequestRefused, response
from tlsproxy.wire.pac import PAC_TYPE, pacFile

__all__ = ["BUSY", "CHALLENGE", "PAC", "Connect", "checkUser", "readRequest"]

PAC: Final = "/proxy.pac"
CHALLENGE: Final = (("Proxy-Authenticate", 'Basic realm="tlsproxy", charset="UTF-8"'),)
"""RFC 7617, section 2."""
BUSY: Final = "too many others wait for their passwords to be verified; try again later"
_UNDECIDED: Final = "whether you may use this proxy was not decided in time; try again later"
_LATE: Final = {
    "head": (408, "the request did not come in time"),
    "route": (503, BUSY),
    "dial": (504, "the target did not answer in time"),
}


async def readRequest(session: Session, reader: RequestReader) -> Request:
    """
    Take the head of the client's request, and not one byte of what follows.

    @raise RequestRefused: It is none, or a doubtful one.
    """
    session.enter("head")
    near = session.near
    while reader.request is None:
        data = await near.peek(reader.LIMIT)
        if not data:
            raise PeerEnded(f"{near.who} ended the stream before its request was whole")
        await near.read(reader.read(data))
    return reader.request


async def checkUser(session: Session, users: Users, authorization: str) -> None:
    """
    Find out which user the client is.

    @param authorization: What its request says of that.
    @raise NotAuthenticated: It has not shown to be any.
    @raise Busy: Too many others wait.
    """
    session.enter("route")
    reactor = session.keeper.reactor

    def inThread(check: Callable[[], bool]) -> Deferred[bool]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), check)

    session.user = await users.check(authorization, inThread)


@implementer(IPattern)
@frozen(kw_only=True)
class Connect:
    """
    Make the tunnels that clients ask for.

    @ivar targets: Where to.
    @ivar tls: The TLS toward the client; L{None} for plain TCP.
    @ivar users: Who may; L{None} for everybody who can connect.
    """

    mode = "connect"
    ruled = False
    targets: Targets = field(validator=takes("Targets, as Targets(allow=...) makes them", Targets))
    tls: ServerTLS | None = field(default=None, validator=[optional(isServerTLS), mirrorsNobody])
    users: Users | None = field(
        default=None, validator=takes("Users, as Users.load(file) makes them", ("check",), None)
    )

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The request and who makes it, the target and its addresses; then the dialing.  The client is told what became
        of it.
        """
        if self.tls is not None:
            await readHello(session)
            await acceptTLS(session, self.tls)
        reader = RequestReader()
        try:
            request = await readRequest(session, reader)
            if request.method != "CONNECT":
                self._serve(session, request, reader.bodyless)
            where = TCP(request.host, request.port)
            session.target = str(where)
            far = await self._reach(session, request, where)
        except RequestRefused as e:
            # What may be a password or the like is not for the log.
            session.target = reader.target.partition("?")[0] if "@" not in reader.target else ""
            session.answer(response(e.status, str(e), e.headers, bodyless=reader.bodyless))
            raise AdmissionRefused(str(e)) from e
        except NotAuthenticated:
            session.answer(response(407, "this proxy wants a user's name and password", CHALLENGE))
            raise
        except Busy:
            session.answer(response(503, BUSY))
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
                undecided = session.phase == "route" and self.users is None
                session.answer(response(503, _UNDECIDED) if undecided else response(*_LATE[session.phase]))
            raise
        await session.near.write(ESTABLISHED)
        if session.route.handlers:
            opening = Opening(session, None)
            await negotiate(session, NearSide(opening, False), FarSide(opening, False, False))
        return session.near, far

    async def _reach(self, session: Session, request: Request, where: TCP) -> End:
        if self.users is not None:
            await checkUser(session, self.users, request.authorization)
        self.targets.admit(where.host, where.port)
        await authorize(session)
        session.enter("dial")
        found = await session.keeper.dialer.lookUp(where)
        own = ownListener(session.keeper.listeners, isLocal)
        return await dialAddresses(session, where, self.targets.permitted(where.host, where.port, found, own))

    def _serve(self, session: Session, request: Request, bodyless: bool) -> None:
        """
        Answer a request to the proxy itself.  Browsers do not show who they are when they ask for such a file, and it
        tells nothing that they do not know.

        @raise Answered: It has been.
        """
        if request.target.partition("?")[0] != PAC:
            raise RequestRefused(f"there is nothing here but {PAC}; this proxy makes tunnels, by CONNECT", 404)
        try:
            text = pacFile(request.authority, self.tls is not None)
        except ValueError as e:
            raise RequestRefused(str(e)) from e
        session.answer(response(200, text, (), PAC_TYPE, bodyless))
        raise Answered(f"the client asked for {PAC}")
