# -*- test-case-name: tests.patterns.test_sequentialserver -*-
"""
C{sequential-server}: the reverse proxy of two, an HTTP proxy for tunnels that knows its clients by their certificates,
and takes its own TLS off once the TLS inside a tunnel protects what flows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from attrs import Attribute, evolve, field, frozen
from zope.interface import implementer

from tlsproxy.address import TCP
from tlsproxy.downgrade import ALPN, Downgrade, Inner, follow
from tlsproxy.end import End
from tlsproxy.enrolling.desk import Desk
from tlsproxy.errors import DialFailed, HandshakeFailed, SessionError
from tlsproxy.given import takes
from tlsproxy.grants import NOT_THAT, Admitted, Grant, Granted, granted
from tlsproxy.interfaces import INWARD, IPattern
from tlsproxy.keeper import Keeper
from tlsproxy.lifetimes import endWith, wallClock
from tlsproxy.session import Session
from tlsproxy.steps import acceptTLS, authorize, dialAddresses, readHello
from tlsproxy.targets import TargetRefused, Targets
from tlsproxy.tls.contexts import ServerTLS, isServerTLS
from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.reverification import NoLongerValid, verifyAgain
from tlsproxy.tunnels import ownOf, request, stand
from tlsproxy.wire.connect import Request, establishedHead
from tlsproxy.wire.downgrade import chooseWish
from tlsproxy.wire.enrolling import ALPN as ENROLLING

__all__ = ["SequentialServer"]


def _demands(instance: Any, attribute: Attribute[Any], value: ServerTLS) -> None:
    """
    A validator of attrs: TLS as this mode needs it.
    """
    where = f"SequentialServer({attribute.alias}=...)"
    wanted = SequentialServer.alpn if instance.desk is None else SequentialServer.enrolling
    if value.policy.alpn != wanted:
        name = "alpn" if instance.desk is None else "enrolling"
        raise ValueError(f"{where}: load it with alpn=SequentialServer.{name}")
    if not value.knowsEverybody:
        raise ValueError(f"{where}: every client has to show a certificate: give clientCa, and no other clientAuth")


def _some(instance: Any, attribute: Attribute[Any], value: tuple[Grant, ...]) -> None:
    if not value:
        raise ValueError(f"SequentialServer({attribute.alias}=...): without a grant, nobody may reach anything")


@implementer(IPattern)
@frozen(kw_only=True)
class SequentialServer:
    """
    Make the tunnels that certificates are granted.

    @cvar alpn: The application protocols that C{tls} has to choose from.
    @cvar enrolling: Those that it has to choose from where there is a desk.
    @ivar tls: The TLS toward clients, all of which have to show a certificate.
    @ivar grants: Who may reach what.
    @ivar targets: What beyond that limits all of them: C{allow}, where there is any, and C{deny}.
    @ivar how: When and how TLS comes off at most.
    @ivar desk: Where client proxies enroll; L{None} where they do not.
    @ivar now: Tells the time that certificates have to be valid at.
    """

    mode = "sequential-server"
    ruled = False
    alpn: ClassVar[tuple[str, ...]] = (ALPN, "http/1.1")
    enrolling: ClassVar[tuple[str, ...]] = (*alpn, ENROLLING)
    tls: ServerTLS = field(validator=[isServerTLS, _demands])
    grants: tuple[Grant, ...] = field(validator=[takes("a Grant(...)", Grant, several=True), _some])
    targets: Targets = field(factory=Targets, validator=takes("Targets, as Targets(deny=...) makes them", Targets))
    how: Downgrade = field(factory=Downgrade, validator=takes("Downgrade(...)", Downgrade))
    desk: Desk | None = field(default=None, validator=takes("a Desk(...)", Desk, None), eq=False, repr=False)
    now: Callable[[], datetime] = field(default=wallClock, eq=False, repr=False)

    @property
    def descriptors(self) -> int:
        """
        How many descriptors a session takes beside those of its two sides.
        """
        return self.how.descriptors

    async def open(self, session: Session) -> tuple[End, End]:
        """
        The client's certificate first, then its request, what it is granted, and the dialing.  The client is told what
        became of it.
        """
        session.admitted = admitted = session.admitted or Admitted()
        await readHello(session)
        if self.desk is not None and self.desk.isFor(session):
            await self.desk.admit(session)
        session.near.takeOff = self.how.takeOff
        await acceptTLS(session, self.tls)
        self._know(session, admitted)
        if self.desk is not None and session.alpn == ENROLLING.encode():
            await self.desk.serve(session, admitted.chain, self.grants)
        agreed: str | None = None

        async def reach(asked: Request, where: TCP) -> End:
            nonlocal agreed
            agreed = self._agree(session, asked)
            return await self._reach(session, admitted, where)

        asked, far = await request(session, reach, secure=True)
        inner = Inner(host=asked.host, names=admitted.sni, where="sni of its [[route.grant]]", heard=admitted.heard)
        await stand(session, establishedHead(agreed))
        await follow(session, INWARD, agreed or "none", self.how, inner)
        return session.near, far

    def _know(self, session: Session, admitted: Admitted) -> None:
        """
        Keep what the client has shown, for when its TLS is gone, and have the session end with it.
        """
        stream = session.near.tls
        assert stream is not None
        if stream.resumed():
            raise HandshakeFailed("the client resumed a session, and so showed no certificate")
        chain = stream.connection.get_verified_chain(as_cryptography=True)
        if not chain:
            raise HandshakeFailed("the client's certificate has not been verified")
        admitted.serverName, admitted.chain = session.serverName, tuple(chain)
        self.watch(session.keeper)
        try:
            endWith(session, chain, self.now())
        except UNDECODABLE:
            raise HandshakeFailed("the client's certificate is refused: it cannot be read") from None

    def _agree(self, session: Session, asked: Request) -> str | None:
        """
        Choose when TLS comes off: the strongest wish of the client's that is one of ours, too.

        @return: L{None} where the client does not speak of that, or cannot: it stays then, and that is not told.
        """
        stream = session.near.tls
        assert stream is not None
        if asked.downgrade is None or session.alpn != ALPN.encode():
            return None
        if stream.connection.get_protocol_version_name() != "TLSv1.3":
            return None
        return chooseWish(asked.downgrade, self.how.wishes)

    async def _reach(self, session: Session, admitted: Admitted, where: TCP) -> End:
        admitted.host, admitted.port = where.host, where.port
        try:
            rules = self._rules(admitted)
            why = rules.desk.standing.whyNot(admitted.chain) if rules.desk is not None else ""
            if why:
                raise TargetRefused(why, NOT_THAT)
            found = rules._granted(admitted)
            rules._beyond(found.targets).admit(where.host, where.port)
            await authorize(session)
            session.enter("dial")
            try:
                known = await session.keeper.dialer.lookUp(where)
            except DialFailed as e:
                if found.names(where.host, where.port):
                    raise
                # A grant of a network lets it ask for any name, but not find out which names there are.
                raise TargetRefused(str(e), NOT_THAT) from None
            addresses = rules._permitted(admitted, found, known, ownOf(session))
            far = await dialAddresses(session, where, addresses)
            admitted.address = getattr(session.upstream, "host", "")
            admitted.sni = found.sni(where.host, where.port, admitted.address)
            if admitted.successor is not None:  # Others may have come while it was dialed.
                why = admitted.successor.whyNoMore(admitted)
                if why:
                    raise TargetRefused(why, NOT_THAT)
        except TargetRefused as e:
            raise TargetRefused(str(e), NOT_THAT) from None
        return far

    def _rules(self, admitted: Admitted) -> SequentialServer:
        """
        Find whose rules hold now, and see that they still let in whom the handshake has let in.
        """
        rules: SequentialServer = admitted.successor or self
        if rules is not self:
            try:
                rules._verify(admitted)
            except NoLongerValid as e:
                raise TargetRefused(f"the client's certificate is refused now: {e}", NOT_THAT) from None
        return rules

    def _granted(self, admitted: Admitted) -> Granted:
        return granted(self.grants, admitted.chain, admitted.host, admitted.port)

    def _beyond(self, theirs: Targets) -> Targets:
        """
        Give what limits everybody.
        """
        return self.targets if self.targets.allow else evolve(theirs, deny=self.targets.deny)

    def _permitted(
        self, admitted: Admitted, found: Granted, addresses: Sequence[str], own: Callable[[str, int], bool]
    ) -> list[str]:
        """
        Find the addresses that may be dialed: those that the grants and the limits permit.
        """
        host, port, limits = admitted.host, admitted.port, self._beyond(found.targets)
        theirs = found.targets.permitted(host, port, addresses, own, beside=limits)
        return limits.permitted(host, port, theirs, own, beside=found.targets)

    def _verify(self, admitted: Admitted) -> None:
        """
        Verify the client's certificate again, and keep what it is verified by now.

        @raise NoLongerValid: It is not let in any more.
        """
        try:
            verification = self.tls.demand(admitted.serverName).verification
        except SessionError as e:
            raise NoLongerValid(str(e)) from None
        assert verification is not None  # Every client has to show a certificate.
        admitted.chain = verifyAgain(verification, admitted.chain, self.now())

    def watch(self, keeper: Keeper) -> None:
        """
        Have sessions end whose certificates are taken back, from now on.

        @param keeper: Whose.
        """
        if self.desk is not None:
            self.desk.standing.watch(keeper)

    def rest(self) -> None:
        """
        Leave no timer behind where there are no sessions.
        """
        if self.desk is not None:
            self.desk.standing.rest()

    def whyNoMore(self, admitted: Admitted) -> str:
        """
        Say why a session that was let in by other rules would not be by these.

        @param admitted: By what it was let in, and what for.
        @return: One sentence; C{""} where it would be.
        """
        if not admitted.chain:
            return ""  # It has not shown a certificate yet.
        try:
            self._verify(admitted)
            why = self.desk.standing.whyCut(admitted.chain) if self.desk is not None else ""
            if why:
                return why
            if admitted.host:
                found = self._granted(admitted)
                self._beyond(found.targets).admit(admitted.host, admitted.port)
                if admitted.address:
                    self._permitted(admitted, found, [admitted.address], lambda address, port: False)
                    gone = admitted.heard.difference(found.sni(admitted.host, admitted.port, admitted.address))
                    if gone:
                        return f"no grant lets the TLS inside be for {min(gone)} any more"
        except NoLongerValid as e:
            return f"the client's certificate is refused now: {e}"
        except SessionError as e:
            return str(e)
        return ""
