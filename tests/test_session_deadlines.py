# -*- test-case-name: tests.test_session_deadlines -*-
"""
Tests for the deadlines of L{tlsproxy.session}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tlsproxy.deadlines import GRANULARITY
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.session import Session
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer

FOREVER = 100000.0
"""Longer than any limit, in seconds."""


class SetUpDeadlineTests(SessionCase):
    """
    The phases before the join.
    """

    def bridge(self, make: Any = Origin, answers: bool = True, **limits: Any) -> None:
        """
        Serve with all phases.
        """
        self.upstream = Upstream(self, make, answers)
        self.serve(Bridge(tls=serverTLS(), upstream=self.upstream, upstreamTLS=clientTLS()), **limits)

    def assertExpires(self, seconds: float, phase: str, reason: str) -> None:
        """
        The session is still there just before a time, and no more soon after.
        """
        self.settle()
        self.after(seconds - GRANULARITY)
        self.assertEqual(1, len(self.factory.sessions))
        self.after(3 * GRANULARITY)
        self.assertOver("expired", phase, f"{reason} within {seconds:g} s")

    def test_hello(self) -> None:
        """
        A client that says nothing is cut.
        """
        self.bridge(hello=3)
        client = self.visit()
        self.assertExpires(3, "hello", "the client did not send a whole hello")
        self.assertTrue(self.aborted(client))

    def test_halfAHello(self) -> None:
        """
        Nor does a part of a hello help, however slowly it comes.
        """
        self.bridge(hello=3)
        browser = Browser(None)
        browser._handshake()
        hello = bytes(browser.unsent)
        client = self.visit()
        for index in range(11):
            client.write(hello[index : index + 1])
            self.after(GRANULARITY)
        self.assertEqual(1, len(self.factory.sessions))
        self.after(1)
        self.assertOver("expired", "hello", "the client did not send a whole hello within 3 s")

    def test_handshake(self) -> None:
        """
        A client that does not finish its handshake is cut.
        """
        self.bridge(hello=1, handshake=4)
        client = self.visit(Browser)
        client.pump()
        client.reading = False
        self.assertExpires(4, "handshake", "the client did not finish the TLS handshake")
        self.assertTrue(self.aborted(client))
        self.assertEqual(0, self.upstream.dialed)

    def test_dial(self) -> None:
        """
        The dialing of an upstream that does not answer is cancelled.
        """
        self.bridge(answers=False, hello=1, handshake=1, dial=2)
        client = self.visit(Browser)
        self.assertExpires(2, "dial", "the upstream did not answer")
        self.assertEqual((1, []), (self.upstream.cancelled, self.upstream.waiting))
        self.settle(lambda: client.ended == "truncated")

    def test_upstreamHandshake(self) -> None:
        """
        An upstream that does not finish its handshake is cut, and so is the client.
        """
        self.bridge(Peer, hello=1, handshake=1, dial=1, upstreamHandshake=6)
        client = self.visit(Browser)
        self.assertExpires(6, "upstream_handshake", "the upstream did not finish the TLS handshake")
        self.settle(lambda: client.ended == "truncated" and self.upstream.peer.ended == "end")

    def test_none(self) -> None:
        """
        A limit of 0 is none, in any phase.
        """
        self.bridge(answers=False, hello=0, handshake=0, dial=0, upstreamHandshake=0, idle=0)
        client = self.visit()
        self.reactor.advance(FOREVER)
        browser = Browser(client.socket)
        self.peers[self.peers.index(client)] = browser
        self.connections[browser] = self.connections.pop(client)
        browser.pump()
        self.settle(lambda: self.upstream.dialed == 1)
        self.reactor.advance(FOREVER)
        self.upstream.answer()
        self.upstream.peer.reading = False
        self.settle()
        self.reactor.advance(FOREVER)
        self.upstream.peer.reading = True
        self.settle(lambda: self.upstream.peer.ready)
        self.reactor.advance(FOREVER)
        browser.write(b"still there")
        self.settle(lambda: self.upstream.peer.received == b"still there")
        self.one().stop()

    def test_lifetime(self) -> None:
        """
        The whole session's limit counts in set-up, too.
        """
        self.bridge(answers=False, dial=0, lifetime=7)
        self.visit(Browser)
        self.settle(lambda: self.upstream.dialed == 1)
        self.assertExpires(7, "lifetime", "the session did not end")
        self.assertEqual(1, self.upstream.cancelled)

    def test_inTime(self) -> None:
        """
        Each phase has its own time: what one leaves is not taken from the next.
        """
        self.bridge(answers=False, hello=2, handshake=2, dial=2)
        client = Browser(None)
        raw = self.visit()
        self.reactor.pump()
        self.after(1.5)
        raw.reading = False
        client.socket = raw.socket
        self.peers.append(client)
        self.settle(lambda: self.upstream.dialed == 1)
        self.after(1.75)
        self.upstream.answer()
        self.settle(lambda: self.upstream.peer.ready)
        self.assertEqual("idle", self.one().phase)
        self.one().stop()


class JoinedDeadlineTests(SessionCase):
    """
    The phases after the join.
    """

    def joined(self, **limits: Any) -> Any:
        """
        Have a session that is joined.

        @return: Its client.
        """
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream), **limits)
        client = self.visit(Browser)
        self.settle(lambda: self.one().phase == "idle" and client.ready)
        return client

    def test_idle(self) -> None:
        """
        A session without a byte is cut: both sides are reset.
        """
        client = self.joined(idle=10)
        self.after(10 - GRANULARITY)
        self.assertEqual(1, len(self.factory.sessions))
        self.after(4 * GRANULARITY)
        self.assertOver("expired", "idle", "no byte moved within 10 s")
        self.assertEqual((True, True), (self.aborted(client), self.aborted(self.upstream.peer)))

    def test_idleMoves(self) -> None:
        """
        Every byte in either direction moves that deadline.
        """
        client = self.joined(idle=10)
        for _ in range(3):
            self.after(9)
            client.write(b"x")
            self.after(9)
            self.upstream.peer.write(b"x")
            self.settle()
        self.assertEqual((b"xxx", b"xxx"), (client.received, self.upstream.peer.received))
        self.after(12)
        self.assertOver("expired", "idle", "no byte moved within 10 s")

    def test_neverEarly(self) -> None:
        """
        A limit below the fineness of the deadlines does not cut a session in which bytes move in time.
        """
        client = self.joined(idle=0.2)
        for _ in range(20):
            self.reactor.advance(0.15)
            client.write(b"x")
            self.settle()
        self.assertEqual(b"x" * 20, self.upstream.peer.received)
        self.one().stop()

    def test_halfClosed(self) -> None:
        """
        When one side has ended, the other has a time of its own, which moves with its bytes.
        """
        client = self.joined(idle=100, halfClosed=5)
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        for _ in range(3):
            self.after(4)
            self.upstream.peer.write(b"x")
            self.settle()
        self.assertEqual(b"xxx", client.received)
        self.after(6)
        self.assertOver("expired", "half_closed", "no byte moved after one side had ended within 5 s")

    def test_halfClosedAfterNoLimit(self) -> None:
        """
        It counts from the end of the first side, also where nothing had a deadline before for a long time.
        """
        client = self.joined(idle=0, halfClosed=5)
        self.reactor.advance(FOREVER)
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.after(4)
        self.assertEqual(1, len(self.factory.sessions))
        self.after(2)
        self.assertOver("expired", "half_closed", "no byte moved after one side had ended within 5 s")

    def test_idleAfterNoLimit(self) -> None:
        """
        So it does for a session that took its time to be set up without limits.
        """
        self.upstream = Upstream(self, Origin, answers=False)
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()), dial=0, upstreamHandshake=0, idle=5)
        self.visit()
        self.reactor.advance(FOREVER)
        self.upstream.answer()
        self.settle(lambda: self.upstream.peer.ready)
        self.after(4)
        self.assertEqual(1, len(self.factory.sessions))
        self.after(2)
        self.assertOver("expired", "idle", "no byte moved within 5 s")

    def test_halfClosedWithoutLimit(self) -> None:
        """
        Without a limit for it, a half-closed session may be silent for longer than an idle one.
        """
        client = self.joined(idle=5, halfClosed=0)
        client.end()
        self.settle(lambda: self.upstream.peer.ended == "end")
        self.after(20)
        self.upstream.peer.write(b"late")
        self.upstream.peer.end()
        self.settle(lambda: client.received == b"late")
        self.assertOver("closed", "half_closed")

    def test_lifetime(self) -> None:
        """
        The whole session's limit is not moved by bytes.
        """
        client = self.joined(idle=10, lifetime=30)
        for _ in range(7):
            self.after(4)
            client.write(b"x")
            self.settle()
        self.assertEqual(1, len(self.factory.sessions))
        self.after(3)
        self.assertOver("expired", "lifetime", "the session did not end within 30 s")

    def test_others(self) -> None:
        """
        The end of one session by its deadline leaves another alone.
        """
        self.joined(idle=10)
        self.after(6)
        other = self.visit(partial(Browser, version="TLSv1.2"))
        self.settle(lambda: len(self.upstream.peers) == 2)
        self.after(6)
        self.assertEqual(1, len(self.told()))
        other.write(b"here")
        self.settle(lambda: self.upstream.peers[1].received == b"here")
        self.one().stop()


class BoundTests(SessionCase):
    """
    A session that has to end by some time.
    """

    def bound(self, *seconds: float, **limits: Any) -> Session:
        """
        Have one, joined.
        """
        self.upstream = Upstream(self, Peer)
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), **limits)
        self.visit()
        self.settle(lambda: bool(self.phases) and self.phases[-1] == "idle")
        session = self.one()
        for number, each in enumerate(seconds):
            session.endBy(self.reactor.seconds() + each, f"reason {number}")
        return session

    def test_ends(self) -> None:
        """
        It ends then, by the first of several times, with its own reason, and without any limit beside.
        """
        for limits in ({}, {"idle": 0}, {"idle": 0, "lifetime": FOREVER}):
            self.bound(50, 20, 30, **limits)
            self.after(19)
            self.assertEqual(1, len(self.factory.sessions))
            self.after(2)
            self.assertOver("expired", "lifetime", "reason 1")
            self.forget()

    def test_past(self) -> None:
        """
        A time that has passed ends it at once.
        """
        self.bound(-5)
        self.after(2 * GRANULARITY)
        self.assertOver("expired", "lifetime", "reason 0")

    def test_limits(self) -> None:
        """
        Other limits end it before that.
        """
        for limits, phase in (({"idle": 5}, "idle"), ({"lifetime": 5}, "lifetime")):
            self.bound(20, **limits)
            self.after(6)
            self.assertEqual(phase, self.told()[0]["phase"])
            self.assertIn("within 5 s", self.told()[0]["reason"])
            self.forget()
