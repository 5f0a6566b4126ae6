# -*- test-case-name: tests.test_tunnels -*-
"""
L{tlsproxy.tunnels}: what a client is told that asks for a tunnel, whichever mode it is in.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from zope.interface import implementer

from tests.patterns.connecting import ESTABLISHED, ConnectCase, ask
from tlsproxy.address import TCP
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, DialFailed
from tlsproxy.interfaces import IPattern
from tlsproxy.passwords import Busy, NotAuthenticated
from tlsproxy.session import Session
from tlsproxy.steps import dialAddresses
from tlsproxy.targets import TargetRefused
from tlsproxy.tunnels import ownOf, request, stand
from tlsproxy.wire.connect import Request, RequestRefused


@implementer(IPattern)
@frozen
class _Tunnels:
    """
    A mode that makes tunnels to one address, or fails.

    @ivar problem: What it fails with.
    @ivar waits: Whether it waits for ever.
    """

    mode = "tunnels"
    ruled = False
    problem: Any = None
    waits: str = ""
    passwords: bool = False

    async def open(self, session: Session) -> tuple[End, End]:
        """
        Open both sides.
        """

        async def reach(asked: Request, where: TCP) -> End:
            if self.problem is not None:
                raise self.problem
            if self.waits:
                session.enter(self.waits)
                await session.near.sleep(1000)
            return await dialAddresses(session, where, ["192.0.2.1"])

        _, far = await request(session, reach, False, self.passwords)
        await stand(session, ESTABLISHED)
        return session.near, far


class RequestTests(ConnectCase):
    """
    Requests, and what comes of them.
    """

    def test_stands(self) -> None:
        """
        What is reached is the tunnel's other side.
        """
        self.serve(_Tunnels())
        self.tunnel(self.asks(ask()))
        self.assertEqual([("192.0.2.1", 443)], self.dialed)

    def test_refused(self) -> None:
        """
        Each kind of refusal has its status, and a sentence that tells no secret; the log has the other.
        """
        for problem, status, body, logged in (
            (RequestRefused("odd", 403), 403, "odd", "odd"),
            (NotAuthenticated("no user"), 407, "this proxy wants a user's name and password", "no user"),
            (Busy("many"), 503, "too many others wait", "many"),
            (TargetRefused("a list", "not that"), 403, "not that", "a list"),
            (AdmissionRefused("a hook"), 403, "this proxy does not let you in", "a hook"),
            (DialFailed("silent", 504), 504, "silent", "silent"),
        ):
            self.serve(_Tunnels(problem))
            got, fields, said = self.got(self.asks(ask()))
            self.assertEqual((status, True), (got, said.decode().startswith(body)))
            self.assertEqual(status == 407, "proxy-authenticate" in fields)
            self.assertEqual(logged, self.told()[0]["reason"])
            self.forget()

    def test_late(self) -> None:
        """
        What does not come about in time is told as what it was.
        """
        for waits, passwords, status, body in (
            ("route", False, 503, b"whether you may use this proxy was not decided in time"),
            ("route", True, 503, b"too many others wait for their passwords"),
            ("dial", False, 504, b"the target did not answer in time"),
        ):
            self.serve(_Tunnels(None, waits, passwords))
            client = self.asks(ask())
            self.settle()
            self.after(6)
            got, _, said = self.got(client)
            self.assertEqual((status, True), (got, said.startswith(body)))
            self.forget()

    def test_own(self) -> None:
        """
        What this proxy listens on is known.
        """
        self.serve(_Tunnels())
        self.factory.listeners = [("127.0.0.1", 8443)]
        self.asks(b"")
        self.settle()
        own = ownOf(self.one())
        self.assertEqual([True, False], [own("127.0.0.1", 8443), own("127.0.0.1", 443)])
        self.one().stop()
