# -*- test-case-name: tests.test_side_tls -*-
"""
L{tlsproxy.side}: TLS that handlers start, and when the upstream is dialed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.acting import Acting, ActingCase
from tlsproxy.errors import NegotiationFailed, SessionError
from tlsproxy.handler import FAR, NEAR
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, Upstream
from tlsproxy.testing.streampeers import TLSPeer

CLEAR = partial(Browser, clear=True)
"""A client that begins in clear."""
CLEAR_ORIGIN = partial(Origin, clear=True)
"""An upstream that does."""


class NearTLSTests(ActingCase):
    """
    TLS toward the client that a handler starts.
    """

    async def upgrade(self, handler: Acting, near: Any, far: Any) -> None:
        """
        Have the client say a line, and start TLS.
        """
        facts = [(near.tls, near.owed)]
        await near.readLine()
        await near.write(b"go\n")
        await near.startTLS()
        facts.append((near.tls, near.owed))
        self.assertEqual([(False, True), (True, False)], facts)

    def begin(self, talk: Any = None, clients: str = "", make: Any = CLEAR, **route: Any) -> Any:
        """
        Serve in mode offload with a handler that starts TLS.
        """
        act = self.act(talk=talk or self.upgrade, starts=frozenset({NEAR}))
        return self.offload(act, clients=clients, make=make, **route)

    def test_started(self) -> None:
        """
        What the client says in clear, in TLS and in the session are kept apart, and the upstream is dialed when the
        client has been let in.
        """
        client = self.begin()
        client.write(b"STARTTLS\n")
        self.settle(lambda: client.take() == b"go\n")
        self.assertEqual(0, self.upstream.dialed)
        client.startTLS()
        client.write(b"secret")
        self.settle(lambda: self.upstream.peer.received == b"secret")
        self.assertEqual(["negotiate", "hello", "handshake", "negotiate", "dial", "idle"], self.phases)

    def test_injection(self) -> None:
        """
        What was sent in clear behind the line is not taken for something that was said inside TLS: it is no hello.
        """
        client = self.begin()
        client.write(b"STARTTLS\nMAIL FROM:<mallory>\r\n")
        self.settle(lambda: bool(self.told()))
        outcome, reason = self.ended()
        self.assertEqual(("refused", "the client does not speak TLS", 0), (outcome, reason, self.upstream.dialed))

    def test_doubtfulHello(self) -> None:
        """
        A hello is looked at like any other: a doubtful one is refused with its alert.
        """
        client = self.begin()
        client.write(b"STARTTLS\n")
        self.settle(lambda: client.take() == b"go\n")
        client.write(bytes((22, 3, 1, 0, 4, 2, 0, 0, 0)))
        self.settle(lambda: client.take() == bytes((21, 3, 3, 0, 2, 2, 10)))
        self.assertEqual("refused", self.ended()[0])

    def test_certificate(self) -> None:
        """
        A certificate that is demanded is demanded here, and nothing is dialed before.
        """
        for make, dialed in ((CLEAR, 0), (partial(CLEAR, identity=certificate("alice")), 1)):
            client = self.begin(clients="required", make=make)
            client.write(b"STARTTLS\n")
            self.settle(lambda client=client: client.take() == b"go\n")  # type: ignore[misc]
            client.startTLS()
            self.settle()
            self.assertEqual(dialed, self.upstream.dialed)
            self.tearDown()
            self.setUp()

    def test_notStarted(self) -> None:
        """
        A handler that says that it starts TLS, and does not, has its session refused; nothing is dialed.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await near.readLine()

        client = self.begin(talk)
        client.write(b"hello\n")
        self.assertEqual(("refused", "the client's side was left without TLS"), self.ended())
        self.assertEqual(0, self.upstream.dialed)

    def test_failed(self) -> None:
        """
        A handler that takes a handshake that has failed for a thing to be lived with does not get far: the session
        cannot go on, in clear or otherwise.
        """

        async def swallow(handler: Acting, near: Any, far: Any) -> None:
            await near.readLine()
            await near.write(b"go\n")
            try:
                await near.startTLS()
            except SessionError:
                pass

        async def waive(handler: Acting, near: Any, far: Any) -> None:
            await swallow(handler, near, far)
            near.waive()

        async def goOn(handler: Acting, near: Any, far: Any) -> None:
            await swallow(handler, near, far)
            await near.write(b"never mind\n")

        for talk in (swallow, waive, goOn):
            client = self.begin(talk)
            client.write(b"STARTTLS\n")
            self.settle(lambda client=client: client.take() == b"go\n")  # type: ignore[misc]
            client.write(b"no TLS, no HTTP\n")
            self.settle(lambda: bool(self.told()))
            self.assertEqual(0, self.upstream.dialed)
            self.assertNotIn(b"never mind", client.received)
            self.assertIn(self.ended()[0], ("refused", "failed"))
            self.flushLoggedErrors(RuntimeError)
            self.tearDown()
            self.setUp()

    def test_twice(self) -> None:
        """
        TLS is started once, and only where the mode has it.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await self.upgrade(handler, near, far)
            await near.startTLS()

        async def nothing(handler: Acting, near: Any, far: Any) -> None:
            await near.startTLS()

        client = self.begin(talk)
        client.write(b"STARTTLS\n")
        self.settle(lambda: client.take() == b"go\n")
        client.startTLS()
        self.settle(lambda: bool(self.told()))
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("TLS with the client has been started already", str(failure.value))
        self.tearDown()
        self.setUp()
        self.plain(self.act(talk=nothing, starts=frozenset({NEAR, FAR})))
        self.assertEqual("failed", self.ended()[0])
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("mode passthrough has no TLS toward the client that a handler can start", str(failure.value))

    def test_waived(self) -> None:
        """
        The session may go on in clear, if the handler says so: the client is let in as one without TLS.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            near.waive()
            self.assertFalse(near.owed)
            await far.write(b"first ")

        asked: list[bool] = []

        def authorize(session: Any) -> bool:
            asked.append(session.near.tls is None and session.far is None)
            return True

        for authorized in (authorize, lambda _: False):
            client = self.begin(talk, authorize=authorized)
            client.write(b"in clear")
            self.settle()
            if authorized is authorize:
                self.assertEqual((b"first in clear", [True]), (self.upstream.peer.received, asked))
            else:
                self.assertEqual(("refused", 0), (self.ended()[0], self.upstream.dialed))
            self.tearDown()
            self.setUp()

    def test_notWaived(self) -> None:
        """
        Not where a certificate is demanded, though.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            near.waive()

        self.begin(talk, clients="required")
        self.assertEqual(
            ("refused", "the client starts no TLS, and so shows no certificate, which the route demands"), self.ended()
        )
        self.assertEqual(0, self.upstream.dialed)
        self.tearDown()
        self.setUp()
        self.begin(talk, clients="optional")
        self.assertEqual(1, self.upstream.dialed)

    def test_reset(self) -> None:
        """
        Both sides of a session end with it, whatever the handler is at.
        """
        client = self.begin()
        self.network.reset(client)
        self.assertEqual(("reset", "the client reset the connection"), self.ended())


class FarTLSTests(ActingCase):
    """
    TLS toward the upstream that a handler starts, and when the upstream is dialed.
    """

    def encrypt(self, talk: Any, origin: Any = CLEAR_ORIGIN, **route: Any) -> Any:
        """
        Serve in mode encrypt, with a handler that starts TLS.
        """
        self.upstream = Upstream(self, origin)
        pattern = Encrypt(upstream=self.upstream, upstreamTLS=clientTLS())
        self.serve(pattern, handlers=[self.act(talk=talk, starts=frozenset({FAR}))], **route)
        client = self.visit()
        self.settle()
        return client

    async def upgrade(self, handler: Acting, near: Any, far: Any) -> None:
        """
        Ask the upstream for TLS, and start it.
        """
        facts = [(far.tls, far.owed)]
        await far.write(b"STARTTLS\n")
        if await far.readLine() != b"go\n":
            raise NegotiationFailed("the upstream refuses STARTTLS")
        await far.startTLS()
        facts.append((far.tls, far.owed))
        self.assertEqual([(False, True), (True, False)], facts)

    def go(self, client: Any) -> None:
        """
        Have the upstream start TLS.
        """
        origin: TLSPeer = self.upstream.peer
        self.settle(lambda: origin.take() == b"STARTTLS\n")
        origin.write(b"go\n")
        origin.startTLS()
        client.write(b"secret")
        self.settle()

    def test_started(self) -> None:
        """
        What is said in clear and in TLS is kept apart.
        """
        client = self.encrypt(self.upgrade)
        self.go(client)
        self.assertEqual(b"secret", self.upstream.peer.take())
        self.assertEqual(["dial", "negotiate", "upstream_handshake", "negotiate", "idle"], self.phases)

    def test_wrongName(self) -> None:
        """
        The upstream is verified as ever, and gets no byte of the client's if it is another.
        """
        client = self.encrypt(self.upgrade, partial(CLEAR_ORIGIN, name="other.example"))
        self.go(client)
        outcome, reason = self.ended()
        self.assertEqual("failed", outcome)
        self.assertIn("other.example", reason)
        self.assertEqual(b"", self.upstream.peer.take())

    def test_refused(self) -> None:
        """
        What a handler makes of the talk is told with its name.
        """
        self.encrypt(self.upgrade)
        self.upstream.peer.write(b"no\n")
        self.assertEqual(("failed", "handler acting: the upstream refuses STARTTLS"), self.ended())

    def test_notStarted(self) -> None:
        """
        TLS that is left owed ends the session before a byte flows, also where the handler has tried.
        """

        async def nothing(handler: Acting, near: Any, far: Any) -> None:
            pass

        async def swallow(handler: Acting, near: Any, far: Any) -> None:
            try:
                await far.startTLS()
            except SessionError:
                pass

        client = self.encrypt(nothing)
        client.write(b"secret")
        self.assertEqual(("failed", "the upstream's side was left without TLS"), self.ended())
        self.assertEqual(b"", self.upstream.peer.received)
        self.tearDown()
        self.setUp()
        client = self.encrypt(swallow)
        client.write(b"secret")
        self.upstream.peer.write(b"no TLS\n")
        self.assertEqual(("failed", "the upstream's side was left without TLS"), self.ended())
        self.assertNotIn(b"secret", self.upstream.peer.received)

    def test_waived(self) -> None:
        """
        A handler may do without, before the upstream is dialed or after.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            far.waive()
            await far.write(b"in clear ")

        client = self.encrypt(talk)
        client.write(b"too")
        self.settle(lambda: self.upstream.peer.received == b"in clear too")
        self.tearDown()
        self.setUp()
        self.upstream = Upstream(self, CLEAR_ORIGIN)
        pattern = Encrypt(upstream=self.upstream, upstreamTLS=clientTLS())
        self.serve(pattern, handlers=[self.act(talk=talk, starts=frozenset({NEAR, FAR}))])
        self.visit()
        self.settle(lambda: self.upstream.peer.received == b"in clear ")

    def test_swallowedDial(self) -> None:
        """
        A handshake with the upstream that has failed when it was dialed in the talk is not got over, either.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            near.waive()
            for _ in range(2):
                try:
                    await far.write(b"secret")
                except SessionError:
                    pass

        client = self.bridge(
            self.act(talk=talk, starts=frozenset({NEAR})), make=CLEAR, origin=partial(Origin, name="other.example")
        )
        client.write(b"secret")
        self.settle()
        self.assertEqual(("failed", "TLS with the upstream did not come about"), self.ended())
        self.assertEqual(b"", self.upstream.peer.received)

    def test_notBeforeAdmission(self) -> None:
        """
        The upstream is not dialed for a client that has not been let in, unless it is to speak first.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await near.write(await far.readLine())
            await near.readLine()

        self.serve(
            Offload(tls=serverTLS(), upstream=self.upstream), handlers=[self.act(talk=talk, starts=frozenset({NEAR}))]
        )
        self.visit()
        self.settle(lambda: bool(self.told()))
        self.assertEqual(0, self.upstream.dialed)
        (failure,) = self.flushLoggedErrors(RuntimeError)
        self.assertEqual("the upstream is not dialed before the client is admitted", str(failure.value))

    def test_serverFirst(self) -> None:
        """
        Then it is dialed first of all.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await near.write(await far.readLine())
            await near.readLine()

        self.serve(
            Offload(tls=serverTLS(), upstream=self.upstream),
            handlers=[self.act(talk=talk, starts=frozenset({NEAR}), serverFirst=True)],
        )
        client = self.visit(CLEAR)
        self.settle(lambda: self.upstream.dialed == 1)
        self.upstream.peer.write(b"220 hello\n")
        self.settle(lambda: client.take() == b"220 hello\n")
        self.assertEqual(["dial", "negotiate"], self.phases)
