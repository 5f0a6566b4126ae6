# -*- test-case-name: tests.test_opening_hooks -*-
"""
L{tlsproxy.opening}: what the program that the proxy is part of is asked.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.acting import ActingCase
from tlsproxy.address import TCP
from tlsproxy.errors import AdmissionRefused
from tlsproxy.handler import FAR, NEAR
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.rules import Rule
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, Upstream
from tlsproxy.testing.streampeers import Peer
from tlsproxy.testing.upstreams import UpstreamDialer

CLEAR = partial(Browser, clear=True)
BOTH = frozenset({NEAR, FAR})


class AuthorizeTests(ActingCase):
    """
    What the program is asked before anything is dialed.
    """

    def asked(self, authorize: Any, **limits: Any) -> Any:
        """
        Serve with a program that answers.
        """
        tls = serverTLS(clients="optional")
        self.serve(Offload(tls=tls, upstream=self.upstream), authorize=authorize, **limits)
        client = self.visit(partial(Browser, identity=certificate("alice")))
        self.settle()
        return client

    def test_admitted(self) -> None:
        """
        The client is let in if the answer is C{True}; by then it is known who it is.
        """
        seen: list[Any] = []

        def authorize(session: Any) -> bool:
            seen.append((session.phase, session.serverName, session.certificate is not None, self.upstream.dialed))
            return True

        async def later(session: Any) -> bool:
            await session.near.sleep(1)
            return authorize(session)

        for each in (authorize, later):
            client = self.asked(each)
            client.write(b"x")
            self.after(1.5)
            self.assertEqual(b"x", self.upstream.peer.received)
            self.tearDown()
            self.setUp()
        self.assertEqual([("route", "shop.example", True, 0)] * 2, seen)

    def test_notAdmitted(self) -> None:
        """
        Any other answer refuses it, C{None} and what only looks true included.
        """

        async def later(_: Any) -> bool:
            return False

        def refuse(_: Any) -> bool:
            raise AdmissionRefused("alice is on leave")

        for authorize, reason in (
            *[(each, "") for each in (lambda _: False, lambda _: None, lambda _: 1, lambda _: "yes", later)],
            (refuse, "alice is on leave"),
        ):
            client = self.asked(authorize)
            self.assertEqual(
                ("refused", reason or "the program's authorize() does not let the client in"), self.ended()
            )
            self.settle(lambda client=client: bool(client.ended))  # type: ignore[misc]
            self.assertEqual(0, self.upstream.dialed)
            self.tearDown()
            self.setUp()

    def test_fails(self) -> None:
        """
        A program that fails lets nobody in, and its traceback is in the log.
        """

        def fail(_: Any) -> bool:
            raise KeyError("alice")

        async def later(session: Any) -> bool:
            await session.near.sleep(1)
            return fail(session)

        def cancelled(_: Any) -> Deferred[bool]:
            answer: Deferred[bool] = Deferred()
            answer.cancel()
            return answer

        for authorize in (fail, later, cancelled):
            self.asked(authorize)
            self.after(1.5)
            self.assertEqual(("refused", "the program's authorize() failed; its traceback is in the log"), self.ended())
            self.assertEqual((1, 0), (len(self.flushLoggedErrors()), self.upstream.dialed))
            self.tearDown()
            self.setUp()

    def test_slow(self) -> None:
        """
        It has the time of the phase C{route}, also where it does not notice that it is over.
        """

        async def deaf(session: Any) -> bool:
            try:
                await session.near.sleep(60)
            except Exception:
                pass
            return True

        async def translates(session: Any) -> bool:
            try:
                await session.near.sleep(60)
            except Exception:
                raise KeyError("alice") from None
            return True

        def never(_: Any) -> Deferred[bool]:
            return Deferred()

        for authorize in (never, deaf, translates):
            self.asked(authorize, route=3)
            self.after(4)
            self.assertEqual(("expired", "the client was not admitted within 3 s"), self.ended())
            self.assertEqual(0, self.upstream.dialed)
            self.tearDown()
            self.setUp()


class ChooseTests(ActingCase):
    """
    What the program says where to connect.
    """

    def setUp(self) -> None:
        """
        Have names, too.
        """
        super().setUp()
        self.network.dialer = UpstreamDialer(self.reactor, self.network.upstreams)

    def chosen(self, pattern: Any, choose: Any, make: Any = Browser, **route: Any) -> Any:
        """
        Serve with a program that chooses.
        """
        self.serve(pattern, chooseUpstream=choose, **route)
        client = self.visit(make)
        self.settle()
        return client

    def test_answers(self) -> None:
        """
        An address, as a string or as such, or an endpoint; at once or later; C{None} for what the route says itself.
        """
        other = self.network.upstream("other.example:8080")

        async def later(_: Any) -> str:
            return "other.example:8080"

        for choose, where in (
            (lambda _: "other.example:8080", other),
            (lambda _: TCP("other.example", 8080), other),
            (later, other),
            (lambda _: self.upstream, self.upstream),
            (lambda _: None, self.upstream),
        ):
            before = where.dialed
            self.chosen(Offload(tls=serverTLS(), upstream=self.upstream), choose)
            self.assertEqual(before + 1, where.dialed)
            self.one().stop()
            self.settle()
            self.forget()

    def test_whatItKnows(self) -> None:
        """
        It is asked when the client has been let in, and its answer comes before that of rules and pattern.
        """
        seen: list[Any] = []

        def choose(session: Any) -> Any:
            seen.append((session.phase, session.serverName, session.certificate is None))
            return self.upstream

        def authorize(_: Any) -> bool:
            seen.append("authorize")
            return True

        other = Upstream(self)
        self.chosen(Offload(tls=serverTLS(), upstream=other), choose, authorize=authorize, rules=[Rule(upstream=other)])
        self.assertEqual(["authorize", ("route", "shop.example", True)], seen)
        self.assertEqual((1, 0), (self.upstream.dialed, other.dialed))

    def test_nothing(self) -> None:
        """
        Where neither the program nor the route says, the client is refused.
        """
        self.chosen(Offload(tls=serverTLS()), lambda _: None)
        self.assertEqual(
            ("refused", "the program's chooseUpstream() names no upstream, and neither does the route"), self.ended()
        )

    def test_wrong(self) -> None:
        """
        An answer that is no address, and a program that fails, end the session as a failure of the program.
        """

        def fail(_: Any) -> str:
            raise KeyError("shop")

        for answer in ("no:address:here", 42, "no name:443"):
            pattern = Bridge(tls=serverTLS(), upstream=self.upstream, upstreamTLS=clientTLS())
            self.chosen(pattern, lambda _, answer=answer: answer)
            outcome, reason = self.ended()
            self.assertEqual("failed", outcome)
            self.assertTrue(reason.startswith("the program's chooseUpstream() names no upstream: "), reason)
            self.forget()
        self.chosen(Offload(tls=serverTLS()), fail)
        self.assertEqual(("failed", "the program's chooseUpstream() failed; its traceback is in the log"), self.ended())
        self.flushLoggedErrors(KeyError)

    def test_slow(self) -> None:
        """
        It has the time of the phase C{route}.
        """
        self.chosen(Offload(tls=serverTLS()), lambda _: Deferred(), route=3)
        self.after(4)
        self.assertEqual(("expired", "the client was not admitted within 3 s"), self.ended())

    def test_name(self) -> None:
        """
        The name that the upstream has to show is that of what was chosen, unless the route says one.
        """
        self.network.upstream("a.example:443", Origin, name="a.example")
        for pattern, make in (
            (lambda tls: Encrypt(upstream="b.example:443", upstreamTLS=tls), Peer),
            (lambda tls: Bridge(tls=serverTLS(), upstream="b.example:443", upstreamTLS=tls), Browser),
        ):
            follows = clientTLS("b.example")
            named = evolve(follows, policy=evolve(follows.policy, name="b.example"))
            for tls, outcome in ((follows, ""), (named, "failed")):
                client = self.chosen(pattern(tls), lambda _: "a.example:443", make)
                client.write(b"x")
                self.settle()
                if outcome:
                    found, reason = self.ended()
                    self.assertEqual(outcome, found)
                    self.assertIn("b.example", reason)
                else:
                    self.settle(lambda: self.network.upstreams["a.example:443"].peers[-1].received == b"x")
                    self.one().stop()
                self.settle()
                self.forget()
