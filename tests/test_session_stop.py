# -*- test-case-name: tests.test_session_stop -*-
"""
Tests for L{tlsproxy.session}: sessions that a service stops, and ends that meet.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.test_service_drain import Notes
from tests.test_session import Scripted
from tlsproxy.end import End
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.session import Session
from tlsproxy.steps import dial
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer


class StopTests(SessionCase):
    """
    A stop at each phase ends the session at once, once, and both sides with a reset.
    """

    def bridge(self, make: Any = Origin, answers: bool = True, **limits: Any) -> None:
        """
        Serve with all phases.
        """
        self.upstream = Upstream(self, make, answers)
        self.serve(Bridge(tls=serverTLS(), upstream=self.upstream, upstreamTLS=clientTLS()), **limits)

    def stop(self, phase: str, *peers: Peer) -> None:
        """
        Stop the session in a phase, which resets these peers.
        """
        session = self.one()
        self.assertEqual(phase, session.phase)
        session.stop()
        session.stop()
        self.assertOver("stopped", phase, "the service stopped")
        self.settle()
        self.assertEqual([True] * len(peers), [self.aborted(peer) for peer in peers])

    def test_hello(self) -> None:
        """
        While the hello is waited for.
        """
        self.bridge()
        client = self.visit()
        self.settle()
        self.stop("hello", client)

    def test_halfAHello(self) -> None:
        """
        While the rest of a hello is waited for.
        """
        self.bridge()
        client = self.visit()
        client.write(bytes((22, 3, 1, 2, 0, 1)))
        self.settle()
        self.stop("hello", client)

    def test_handshake(self) -> None:
        """
        In the handshake with the client.
        """
        self.bridge()
        client = self.visit(Browser)
        client.pump()
        client.reading = False
        self.settle()
        self.stop("handshake", client)

    def test_dial(self) -> None:
        """
        While the upstream is being dialed: the attempt is cancelled.
        """
        self.bridge(answers=False)
        client = self.visit(Browser)
        self.settle()
        self.stop("dial", client)
        self.assertEqual((1, []), (self.upstream.cancelled, self.upstream.waiting))

    def test_upstreamHandshake(self) -> None:
        """
        In the handshake with the upstream.
        """
        self.bridge(Peer)
        client = self.visit(Browser)
        self.settle()
        self.stop("upstream_handshake", client, self.upstream.peer)

    def test_idle(self) -> None:
        """
        Once both sides are joined.
        """
        self.bridge()
        client = self.visit(Browser)
        self.settle()
        self.stop("idle", client, self.upstream.peer)

    def test_halfClosed(self) -> None:
        """
        When one side has ended.
        """
        self.bridge()
        client = self.visit(Browser)
        self.settle()
        client.end()
        self.settle()
        self.stop("half_closed", client, self.upstream.peer)

    def test_endGetsPast(self) -> None:
        """
        What fails at a session's end is told in the log, and keeps nobody from hearing of the end: neither the keeper,
        nor the observers, nor the handlers.
        """
        notes = Notes()
        self.bridge(observers=(notes,))
        self.visit(Browser)
        self.settle()
        session: Any = self.one()
        ended, closed = self.factory.ended, []

        class Chain:
            def close(self, outcome: str) -> None:
                closed.append(outcome)
                raise KeyError("the handlers")

        def fail(*facts: Any) -> None:
            ended(*facts)
            raise RuntimeError("the keeper")

        keeper: Any = self.factory
        keeper.ended = fail
        session.chain = Chain()
        session.stop()
        self.assertOver("stopped", "idle", "the service stopped")
        self.assertEqual((["stopped"], "stopped"), (closed, notes.seen[-1]))
        self.assertEqual((1, 1), (len(self.flushLoggedErrors(KeyError)), len(self.flushLoggedErrors(RuntimeError))))
        del keeper.ended
        notes.seen.clear()

    def test_lingering(self) -> None:
        """
        A session that is over and whose client still has its alert to read has nothing to stop, and the client gets
        two seconds to read it.
        """
        self.bridge()
        client = self.visit()
        client.write(b"no TLS at all, and no HTTP either")
        self.settle()
        self.assertEqual((set(), 1), (self.factory.sessions, len(self.told())))
        self.assertEqual([], self.connections[client].losses)
        self.after(2.25)
        self.assertFalse(self.aborted(client))


class RaceTests(SessionCase):
    """
    Ends that meet.
    """

    def scripted(self, script: Any, **limits: Any) -> Any:
        """
        Serve with a pattern that a test makes up, and have a client connect.
        """
        self.serve(Scripted(script), **limits)
        return self.visit()

    def test_overAtOnce(self) -> None:
        """
        A session may end while its relay starts: what was to be said is said already.
        """

        async def script(session: Session) -> tuple[End, End]:
            far = await dial(session, self.upstream)
            return session.near, far

        self.upstream.answers = False
        client = self.scripted(script)
        client.write(b"all there is")
        client.end()
        self.settle()
        self.upstream.answer()
        self.upstream.peer.end()
        self.settle()
        self.assertEqual((b"all there is", "end"), (self.upstream.peer.received, client.ended))
        self.assertOver("closed", "half_closed")

    def test_withoutAPause(self) -> None:
        """
        A set-up that never waits is one like any other, and so is its end.
        """

        async def script(session: Session) -> tuple[End, End]:
            return session.near, await dial(session, self.upstream)

        client = self.scripted(script)
        self.assertEqual("idle", self.one().phase)
        client.close()
        self.upstream.peer.close()
        self.finished()

    def test_deadlineMeetsTheEnd(self) -> None:
        """
        What is done when its deadline has passed and nobody has looked yet is done: the next phase begins.
        """

        async def script(session: Session) -> tuple[End, End]:
            return session.near, await dial(session, self.upstream)

        self.upstream.answers = False
        self.scripted(script, dial=1.1, idle=5)
        self.reactor.advance(1.0)
        self.reactor.pump()
        self.reactor.rightNow += 0.2
        self.upstream.answer()
        self.assertEqual("idle", self.one().phase)
        self.after(4)
        self.one().stop()
        self.assertOver("stopped", "idle", "the service stopped")

    def test_stubborn(self) -> None:
        """
        A set-up that has something to do before it obeys is not waited for, and does no harm when it has done it.
        """
        release: Deferred[None] = Deferred()

        async def script(session: Session) -> None:
            try:
                await dial(session, self.upstream)
            finally:
                await release

        self.upstream.answers = False
        self.scripted(script, dial=1)
        self.after(2)
        self.assertOver("expired", "dial", "the upstream did not answer within 1 s")
        release.callback(None)
        self.settle()

    def test_deaf(self) -> None:
        """
        An endpoint that does not heed its cancellation, and connects when all is over, finds nobody: what it has
        connected is closed.
        """

        async def script(session: Session) -> None:
            await dial(session, self.upstream)

        self.upstream.answers = False
        self.scripted(script, dial=1)
        ((factory, attempt),) = self.upstream.waiting
        self.after(2)
        self.assertOver("expired", "dial", "the upstream did not answer within 1 s")
        self.upstream.waiting = [(factory, Deferred())]
        self.upstream.answer()
        self.settle()
        self.assertEqual("end", self.upstream.peer.ended)

    def test_otherWords(self) -> None:
        """
        An endpoint that takes its cancellation for a failure to connect does not change what the session tells.
        """

        class Confused(Upstream):
            def _cancelled(self, attempt: Deferred[Any]) -> None:
                super()._cancelled(attempt)
                attempt.errback(ConnectionRefusedError(111, "Connection refused"))

        async def script(session: Session) -> None:
            await dial(session, self.upstream)

        self.upstream = Confused(self, answers=False)
        self.scripted(script, dial=1)
        self.after(2)
        self.assertOver("expired", "dial", "the upstream did not answer within 1 s")
