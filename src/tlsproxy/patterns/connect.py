# -*- test-case-name: tests.patterns.test_connect -*-
"""
C{connect}: an HTTP proxy for tunnels (RFC 9110, section 9.3.6), on TCP or on TLS.  The client names its target, and a
list says which targets there are.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import optional
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.end import End
from tlsproxy.given import takes
from tlsproxy.interfaces import IPattern
from tlsproxy.passwords import Users
from tlsproxy.session import Session
from tlsproxy.steps import acceptTLS, authorize, dialAddresses, readHello
from tlsproxy.targets import Targets
from tlsproxy.tls.contexts import ServerTLS, isServerTLS, mirrorsNobody
from tlsproxy.tunnels import checkUser, ownOf, request, stand
from tlsproxy.wire.connect import ESTABLISHED, Request

__all__ = ["Connect"]


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

        async def reach(asked: Request, where: TCP) -> End:
            return await self._reach(session, asked, where)

        _, far = await request(session, reach, self.tls is not None, self.users is not None)
        await stand(session, ESTABLISHED)
        return session.near, far

    async def _reach(self, session: Session, asked: Request, where: TCP) -> End:
        if self.users is not None:
            await checkUser(session, self.users, asked.authorization)
        self.targets.admit(where.host, where.port)
        await authorize(session)
        session.enter("dial")
        found = await session.keeper.dialer.lookUp(where)
        permitted = self.targets.permitted(where.host, where.port, found, ownOf(session))
        return await dialAddresses(session, where, permitted)
