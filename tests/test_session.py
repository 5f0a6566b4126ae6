# -*- test-case-name: tests.test_session -*-
"""
Tests for L{tlsproxy.session}: how sessions end, and that they end once.
"""

from __future__ import annotations

import gc
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tlsproxy.end import End
from tlsproxy.interfaces import IPattern
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.session import Session
from tlsproxy.steps import dial
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer


@implementer(IPattern)
@frozen
class Scripted:
    """
    A pattern that a test makes up.
    """

    mode = "scripted"
    script: Any

    async def open(self, session: Session) -> tuple[End, End]:
        """
        Do as the script says.
        """
        opened: tuple[End, End] = await self.script(session)
        return opened


class OutcomeTests(SessionCase):
    """
    The words and sentences for all that peers can do, on sockets that can be reset at any time.
    """

    tcp = True

    def bridge(self, make: Any = Origin, answers: bool = True, **route: Any) -> None:
        """
        Serve with all phases.
        """
        self.upstream = Upstream(self, make, answers)
        self.serve(Bridge(tls=serverTLS(), upstream=self.upstream, upstreamTLS=clientTLS()), **route)

    def joined(self, **route: Any) -> Any:
        """
        Have a session that is joined.
        """
        self.bridge(**route)
        client = self.visit(Browser)
        self.settle(lambda: bool(self.upstream.peers) and self.upstream.peer.ready)
        return client

    def started(self) -> Any:
        """
        Have a session that is in its handshake with the client.
        """
        self.bridge()
        client = self.visit(Browser)
        client.reading = False
        client.pump()
        self.settle(lambda: self.one().phase == "handshake")
        return client

    def test_endsWithoutAWord(self) -> None:
        """
        A client that connects and closes is told of, and not held for an error.
        """
        self.bridge()
        client = self.visit()
        client.end()
        self.finished()
        self.assertOver("ended", "hello", "the client connected and ended the stream without a word")

    def test_resetBeforeTheHello(self) -> None:
        """
        A client that resets the connection at once is told of.
        """
        self.bridge()
        self.visit().reset()
        self.finished()
        self.assertOver("reset", "hello", "the client reset the connection before its hello")

    def test_endsInTheHandshake(self) -> None:
        """
        A client that closes in the middle of its handshake is told of.
        """
        client = self.started()
        client.cut()
        self.finished()
        self.assertOver("ended", "handshake", "the client closed the connection in the middle of the TLS handshake")

    def test_resetsInTheHandshake(self) -> None:
        """
        So is one that resets the connection.
        """
        self.started().reset()
        self.finished()
        self.assertOver("reset", "handshake", "the client reset the connection in the middle of the TLS handshake")

    def test_breaksTheHandshakeOff(self) -> None:
        """
        So is one that sends an alert.
        """
        client = self.started()
        client.unsent += bytes((21, 3, 3, 0, 2, 2, 48))
        self.finished()
        self.assertOver(
            "failed",
            "handshake",
            "the client broke TLS off (alert unknown_ca received): it does not know the CA that issued our "
            "certificate; have it trust that CA and show the whole chain, or show a certificate of a CA that it trusts",
        )

    def test_goneWhileDialing(self) -> None:
        """
        A client that resets the connection while the upstream is being dialed is noticed at the join, and the upstream
        is reset.
        """
        self.upstream = Upstream(self, answers=False)
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream))
        client = self.visit(Browser)
        self.settle(lambda: self.upstream.dialed == 1 and client.ready)
        client.reset()
        self.settle()
        self.upstream.answer()
        self.finished()
        self.assertOver("reset", "idle", "the client reset the connection")
        self.assertTrue(self.aborted(self.upstream.peer))

    def lost(self) -> None:
        """
        Have a session whose client the reactor finds dead while the upstream is being dialed.
        """
        self.bridge(Origin, answers=False)
        client = self.visit(Browser)
        self.settle(lambda: self.upstream.dialed == 1)
        self.reactor.lose(self.connections[client].transport)

    def test_foundDeadWhileDialing(self) -> None:
        """
        The same goes for one that the reactor finds dead.
        """
        self.lost()
        self.upstream.answer()
        self.finished()
        self.assertOver("reset", "idle", "the client reset the connection")

    def test_foundDeadAndRefused(self) -> None:
        """
        What is told is what ended the session, where that was the upstream after all.
        """
        self.lost()
        self.upstream.fail(ConnectionRefusedError(111, "Connection refused"))
        self.finished()
        self.assertOver("failed", "dial", "the upstream upstream.example:443 refuses connections")

    def test_upstreamResets(self) -> None:
        """
        An upstream that resets the connection in its handshake ends the session; the client gets no close_notify.
        """
        self.bridge(Peer)
        client = self.visit(Browser)
        self.settle(lambda: bool(self.upstream.peers))
        self.upstream.peer.reset()
        self.settle(lambda: client.ended == "truncated")
        self.assertOver(
            "reset", "upstream_handshake", "the upstream reset the connection in the middle of the TLS handshake"
        )

    def test_upstreamEnds(self) -> None:
        """
        So does one that closes in its handshake.
        """
        self.bridge(Peer)
        client = self.visit(Browser)
        self.settle(lambda: bool(self.upstream.peers))
        self.upstream.peer.cut()
        self.settle(lambda: client.ended == "truncated")
        self.assertOver(
            "ended", "upstream_handshake", "the upstream closed the connection in the middle of the TLS handshake"
        )

    def test_clientResetsAfterTheJoin(self) -> None:
        """
        A client's reset is the upstream's, too.
        """
        client = self.joined()
        client.reset()
        self.settle(lambda: self.upstream.peer.ended == "reset")
        self.assertOver("reset", "idle", "the client reset the connection")

    def test_upstreamResetsAfterTheJoin(self) -> None:
        """
        An upstream's reset is the client's, too.
        """
        client = self.joined()
        self.upstream.peer.reset()
        self.settle(lambda: client.ended == "reset")
        self.assertOver("reset", "idle", "the upstream reset the connection")

    def test_closeBoth(self) -> None:
        """
        Where a route says so, the end of one side closes the other.
        """
        client = self.joined(close="both")
        client.end()
        self.settle(lambda: self.upstream.peer.told and client.ended == "truncated")
        self.assertEqual(1, len(self.told()))

    def test_truncationAborts(self) -> None:
        """
        Where a route says so, a stream that ends without its close_notify is a reset to the other side.
        """
        client = self.joined(truncation="abort")
        client.cut()
        self.settle(lambda: self.upstream.peer.ended == "reset")
        self.assertOver("truncated", "idle", "the client ended the stream without ending TLS")


class BugTests(SessionCase):
    """
    Our own mistakes.
    """

    def scripted(self, script: Any) -> None:
        """
        Serve with a pattern that a test makes up.
        """
        self.serve(Scripted(script))

    def assertBug(self, phase: str) -> None:
        """
        The session is over, and there is one traceback.
        """
        self.assertOver("failed", phase, "tlsproxy itself failed; its traceback is in the log")
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertIn("a mistake", failure.getTraceback())
        self.assertIn("in script", failure.getTraceback())
        del failure
        self.events.clear()
        self.factory.logged = False
        gc.collect()  # A traceback that is told holds what it holds.

    def test_atOnce(self) -> None:
        """
        A mistake in a pattern closes the client's side.
        """

        async def script(session: Session) -> None:
            session.enter("negotiate")
            raise ValueError("a mistake")

        self.scripted(script)
        client = self.visit()
        self.settle()
        self.assertTrue(self.aborted(client))
        self.assertBug("negotiate")

    def test_bothSides(self) -> None:
        """
        It closes both sides where both are open, and leaves other sessions alone.
        """

        async def script(session: Session) -> tuple[End, End]:
            far = await dial(session, self.upstream)
            if len(self.upstream.peers) == 2:
                raise ValueError("a mistake")
            return session.near, far

        self.scripted(script)
        good = self.visit()
        bad = self.visit()
        self.settle()
        self.assertEqual((False, True), (bool(good.ended), self.aborted(bad)))
        self.assertTrue(self.aborted(self.upstream.peers[1]))
        good.write(b"still there")
        self.settle(lambda: self.upstream.peers[0].received == b"still there")
        good.end()
        self.upstream.peers[0].end()
        self.settle()
        self.assertEqual({("failed", "dial"): 1, ("closed", "half_closed"): 1}, dict(self.factory.counters))
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.events.clear()
        self.factory.logged = False
        gc.collect()

    def test_cancelledByItself(self) -> None:
        """
        A pattern that cancels what it waits for, without a deadline of ours, has made a mistake, too.
        """

        async def script(session: Session) -> None:
            session.enter("route")
            waiting: Deferred[None] = Deferred()
            self.reactor.callLater(0, waiting.cancel)
            await waiting

        self.scripted(script)
        self.visit()
        self.settle()
        self.assertOver("failed", "route", "tlsproxy itself failed; its traceback is in the log")
        self.assertEqual(1, len(self.flushLoggedErrors()))
        self.events.clear()
        self.factory.logged = False

    def test_relay(self) -> None:
        """
        A mistake at the start of the relay ends the session, too.
        """

        async def script(session: Session) -> tuple[End, End]:
            far = await dial(session, self.upstream)

            def fill(buffer: object) -> int:
                raise ValueError("a mistake in script")

            class Broken:
                def __getattr__(self, name: str) -> Any:
                    return fill if name == "fill" else getattr(plain, name)

            plain = session.near.stream
            session.near.stream = Broken()
            return session.near, far

        self.scripted(script)
        client = self.visit()
        self.settle()
        self.assertEqual((True, True), (self.aborted(client), self.aborted(self.upstream.peer)))
        self.assertBug("idle")


class TwoTests(SessionCase):
    """
    Several sessions of one route.
    """

    def test_apart(self) -> None:
        """
        Two sessions do not disturb each other, and each tells of its own bytes.
        """
        self.upstream = Upstream(self, Origin)
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()))
        clients = [self.visit(), self.visit()]
        self.settle()
        for index, client in enumerate(clients):
            client.write(b"%d" % index * (index + 1))
        self.settle()
        self.assertEqual([b"0", b"11"], [peer.received for peer in self.upstream.peers])
        clients[0].reset()
        self.upstream.peers[0].cut()
        self.settle(lambda: len(self.told()) == 1)
        self.upstream.peers[1].write(b"three")
        clients[1].end()
        self.upstream.peers[1].end()
        self.settle(lambda: len(self.told()) == 2)
        self.assertEqual(b"three", clients[1].received)
        self.assertEqual([(1, 0), (2, 5)], [(each["received"], each["sent"]) for each in self.told()])

    def test_counters(self) -> None:
        """
        A route counts how its sessions ended, and in which phase.
        """
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream))
        for _ in range(3):
            self.visit().end()
        self.visit().write(b"GET / HTTP/1.0\r\n\r\n")
        self.settle()
        self.assertEqual({("ended", "hello"): 3, ("refused", "hello"): 1}, dict(self.factory.counters))

    def test_untold(self) -> None:
        """
        A route that tells nothing counts all the same.
        """
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream), logged=False)
        self.visit().end()
        self.settle()
        self.assertEqual(({("ended", "hello"): 1}, []), (dict(self.factory.counters), self.lines()))
