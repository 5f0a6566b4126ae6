# -*- test-case-name: tests.test_opening -*-
"""
L{tlsproxy.opening}: the order in which both sides are opened where handlers have their say, and what the program that
the proxy is part of is asked.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.acting import Acting, ActingCase
from tests.patterns.connecting import ESTABLISHED, ConnectCase, ask
from tlsproxy.handler import FAR, NEAR
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.route import Route
from tlsproxy.rules import Rule
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import serverTLS
from tlsproxy.testing.sessions import Browser, Origin, Upstream

CLEAR = partial(Browser, clear=True)
BOTH = frozenset({NEAR, FAR})


class OrderTests(ActingCase):
    """
    What handlers change in the order of things.
    """

    tcp = True

    async def upgrade(self, handler: Acting, near: Any, far: Any) -> None:
        """
        Start TLS on both sides, the upstream's first where it is there.
        """
        if handler.session.far is not None and far.owed:
            await far.startTLS()
        await near.startTLS()
        if far.owed:
            await far.startTLS()

    def both(self, serverFirst: bool = False, alpn: tuple[str, ...] = (), **route: Any) -> Any:
        """
        Serve in mode bridge, with a handler that starts TLS on both sides.
        """
        act = self.act(talk=self.upgrade, starts=BOTH, serverFirst=serverFirst)
        make = partial(Browser, alpn=tuple(one.encode() for one in alpn))
        return self.bridge(act, make=make, tls=serverTLS(alpn=alpn), **route)

    def test_noTalk(self) -> None:
        """
        A handler that has nothing to say before the bytes flow changes no order, in no mode.
        """
        client = self.bridge(self.act())
        self.settle()
        self.assertEqual(["hello", "handshake", "dial", "upstream_handshake", "negotiate", "idle"], self.phases)
        client.write(b"x")
        self.settle(lambda: self.upstream.peer.received == b"x")

    def test_passthrough(self) -> None:
        """
        In mode passthrough handlers see TLS from outside, hello and all.
        """
        self.serve(Passthrough(upstream=self.upstream), handlers=[self.act()])
        self.visit(Browser)
        self.settle(lambda: bool(self.made) and self.made[0].got["outward"][:2] == b"\x16\x03")
        self.assertEqual(self.made[0].got["outward"], self.upstream.peer.received)
        self.assertEqual(["hello", "dial", "negotiate", "idle"], self.phases)

    def test_sameProtocol(self) -> None:
        """
        In mode bridge both sides speak one application protocol, whoever starts the TLS.
        """
        for origin, seen in ((b"h2", ""), (b"", "no application protocol")):
            client = self.both(alpn=("h2",), origin=partial(Origin, alpn=origin))
            client.write(b"PRI")
            if not seen:
                self.settle(lambda: self.upstream.peer.received == b"PRI")
            else:
                self.settle(lambda: bool(self.told()))
                self.assertEqual(
                    ("failed", f"the upstream speaks {seen} where the client negotiated 'h2'"), self.ended()
                )
                self.assertEqual(b"", self.upstream.peer.received)
            self.tearDown()
            self.setUp()

    def test_protocolTooLate(self) -> None:
        """
        Where the upstream's TLS comes first, there is none; so a client that negotiates one is not joined with it.
        """
        client = self.both(serverFirst=True, alpn=("h2",), origin=partial(Origin, alpn=b"h2"))
        client.write(b"PRI")
        self.settle(lambda: bool(self.told()))
        self.assertEqual(
            ("failed", "the upstream speaks no application protocol where the client negotiated 'h2'"), self.ended()
        )
        self.assertEqual(b"", self.upstream.peer.received)

    def test_networkFirst(self) -> None:
        """
        Who is refused by where it comes from does not get to talk.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await near.write(b"hello\n")

        rules = (Rule(client="127.0.0.0/8", refuse="close"), Rule(upstream=self.upstream))
        act = self.act(talk=talk, starts=frozenset({NEAR}))
        self.serve(Offload(tls=serverTLS()), handlers=[act], rules=rules)
        client = self.visit()
        self.settle(lambda: bool(client.ended))
        self.assertEqual((b"", "end"), (client.received, client.ended))
        self.assertEqual(("refused", "the client connects, and rule 1 of the route refuses that"), self.ended())

    def test_rules(self) -> None:
        """
        The hello that comes behind the talk is asked for the upstream, and refused by rules like any other.
        """
        other = Upstream(self)
        rules = (Rule(sni="bad.example", refuse="alert"), Rule(sni="*", upstream=other))
        for name, outcome in (("shop.example", ""), ("bad.example", "refused")):
            act = self.act(talk=self.upgrade, starts=frozenset({NEAR}))
            self.serve(Offload(tls=serverTLS(), upstream=self.upstream), handlers=[act], rules=rules)
            self.visit(partial(Browser, serverName=name))
            self.settle(lambda outcome=outcome: bool(self.told()) if outcome else other.dialed == 1)  # type: ignore[misc]
            if outcome:
                self.assertEqual(
                    (outcome, "the client asks for bad.example, and rule 1 of the route refuses that"), self.ended()
                )
            else:
                self.one().stop()
                self.settle()
                self.forget()
        self.assertEqual((1, 0), (other.dialed, self.upstream.dialed))

    def test_rulesAfterTheDial(self) -> None:
        """
        Where the upstream had to be dialed before the hello, a hello that the rules refuse or would lead to another
        ends the session.
        """
        other = Upstream(self)
        for rule, reason in (
            (Rule(sni="shop.example", refuse="alert"), "asks for shop.example, and rule 1 of the route refuses that"),
            (Rule(sni="shop.example", upstream=other), ""),
            (Rule(sni="other.example", upstream=other), None),
        ):
            act = self.act(talk=self.upgrade, starts=frozenset({NEAR}), serverFirst=True)
            self.serve(Offload(tls=serverTLS(), upstream=self.upstream), handlers=[act], rules=[rule])
            client = self.visit(Browser)
            client.write(b"x")
            self.settle(lambda: bool(self.told() or self.phases[-1] == "idle"))
            if reason is None:
                self.settle(lambda: any(peer.received for peer in self.upstream.peers))
                self.one().stop()
            else:
                wrong = "the client's hello leads to another upstream than the one that had to speak first"
                self.assertEqual(("refused", f"the client {reason}" if reason else wrong), self.ended())
                self.assertFalse(any(peer.received for peer in self.upstream.peers))
            self.settle()
            self.forget()
        self.assertEqual(0, other.dialed)

    def test_deadlineIsEachPhases(self) -> None:
        """
        While a handler has TLS started the deadline is the handshake's, and then the talk's again.
        """

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await near.readLine()
            await near.startTLS()
            await near.readLine()

        act = self.act(talk=talk, starts=frozenset({NEAR}))
        client = self.offload(act, make=CLEAR, negotiate=5, handshake=20, hello=20)
        self.after(4)
        client.write(b"line\n")
        self.settle(lambda: self.phases[-1] == "hello")
        self.after(10)
        client.startTLS()
        self.settle(lambda: self.phases[-1] == "negotiate" and len(self.phases) > 2)
        self.after(4)
        self.assertEqual([], self.told())
        self.after(2)
        self.assertEqual(("expired", "the talk before TLS did not end within 5 s"), self.ended())


class ConnectHandlerTests(ConnectCase):
    """
    Handlers in mode connect.
    """

    def test_inside(self) -> None:
        """
        They stand in the tunnel, behind the answer to the request; their talk is the first that is said there.
        """
        case = ActingCase()
        case.made = []

        async def talk(handler: Acting, near: Any, far: Any) -> None:
            await far.write(await near.readLine())

        self.addCleanup(case.made.clear)
        targets = Targets(allow=("shop.example:443",), deny=())
        self.serve(Connect(targets=targets), handlers=[case.act(talk=talk, received=lambda _, __, data: data.upper())])
        client = self.asks(ask() + b"first\nthen ")
        self.settle(lambda: bool(self.targets) and self.targets[0].received == b"first\nTHEN ")
        client.write(b"more")
        self.settle(lambda: self.targets[0].received == b"first\nTHEN MORE")
        self.assertEqual(ESTABLISHED, client.received)
        self.assertEqual(["head", "dial", "negotiate", "idle"], self.phases)
        self.one().stop()
        case.made.clear()

    def test_authorize(self) -> None:
        """
        Who is not let in is told so in HTTP, and nothing is looked up for it.
        """
        seen: list[str] = []

        def authorize(session: Any) -> bool:
            seen.append(session.target)
            return False

        self.serve(Connect(targets=Targets(allow=("shop.example:443",), deny=())), authorize=authorize)
        client = self.asks(ask())
        self.assertAnswered(
            client,
            403,
            "this proxy does not let you in",
            "refused",
            "route",
            "the program's authorize() does not let the client in",
        )
        self.assertEqual((["shop.example:443"], []), (seen, self.asked))

    def test_authorizeFails(self) -> None:
        """
        So is who cannot be asked for, because the program fails.
        """

        def authorize(_: Any) -> bool:
            raise ValueError("on purpose")

        self.serve(Connect(targets=Targets(allow=("shop.example:443",), deny=())), authorize=authorize)
        client = self.asks(ask())
        reason = "the program's authorize() failed; its traceback is in the log"
        self.assertAnswered(client, 403, "this proxy does not let you in", "refused", "route", reason)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_nothingElseChooses(self) -> None:
        """
        The client chooses, so nobody else can.
        """
        targets = Targets(allow=("shop.example:443",), deny=())
        self.assertRaises(
            ValueError, Route, name="x", listen="1", pattern=Connect(targets=targets), chooseUpstream=lambda _: None
        )
