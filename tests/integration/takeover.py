# -*- test-case-name: tests.integration.test_sequential_takeover -*-
"""
What every test of a take-over does: attack at many places, in many ways, and ask the destination who came.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.destination import Browser, Destination, body
from tests.integration.innertls import DOWN, UP, records
from tests.integration.running import Proxy
from tests.integration.sequential import SequentialTestCase
from tests.integration.wiretap import ACTIONS, Action, Leg, Position, Wire, ownHello, ownServer

EVERY = os.environ.get("TLSPROXY_EVERY_OFFSET") == "1"
LANES = 4
SIZES = (300, 40000)
WHOLE = b"".join(body("browser", size) for size in SIZES)


class Lane:
    """
    One of several ways from the browser to the destination that are attacked at the same time.

    @ivar judge: The destination.
    @ivar wire: The attacker between the proxies.
    @ivar client: The port of the client proxy.
    @ivar context: The browser's.
    @ivar session: What the browser resumes, if anything.
    @cvar whole: All that the browser gets when nobody attacks.
    @cvar secrets: What the attacker must not read.
    """

    whole = WHOLE
    secrets = (b"a page for", b"HTTP/1.1 200", b"CONNECT localhost")

    def __init__(self, judge: Destination, wire: Wire, context: ssl.SSLContext) -> None:
        self.judge, self.wire, self.context = judge, wire, context
        self.client = 0
        self.session: ssl.SSLSession | None = None

    def visit(self) -> bytes:
        """
        Have the browser ask for two pages.

        @return: What it got.
        """
        pages = b""
        try:
            browser = Browser(self.client, self.judge.port, self.context, self.session)
        except OSError:
            return b""
        browser.tls.settimeout(5)
        try:
            pages += browser.get(300)
            pages += browser.get(40000)
        except OSError:
            pass
        browser.end()
        return pages

    def undisturbed(self) -> Leg:
        """
        Have nobody attack.
        """
        pages = self.visit()
        assert pages == self.whole, f"{len(pages)} bytes of pages: {pages[:2000]!r}"
        self.wire.wait()
        self.judged()
        return self.wire.legs[-1]

    def judged(self) -> None:
        """
        Expect nobody but the browser to have been with the destination, for what it has asked for.
        """
        for visit in self.judge.over():
            assert visit.client in (("browser",) if visit.finished else ("browser", "")), visit
            asked = [f"GET /{size} HTTP/1.1" for size in SIZES]
            assert asked[: len(visit.requests)] == visit.requests, visit
        self.judge.visits.clear()


class TakeOverCase(SequentialTestCase):
    """
    An attacker between two proxies, and a judge behind them.

    The attacker has a certificate that the destination lets in, as somebody has who may be there by another way.

    @cvar every: One of how many attacks is made, but for the one that matters most.
    """

    guard = 600.0 if EVERY else 60.0
    every = 1

    def openServer(self, value: str) -> int:
        """
        Start the reverse proxy.

        @return: Its port.
        """
        return self.stdlibServer(value).port

    def openClients(self, upstreams: Sequence[int], value: str) -> Sequence[int]:
        """
        Start a client proxy for each wire.

        @return: Their ports.
        """
        wishes = f"{value}, none" if value != "none" else "none"
        return [self.stdlibClient(upstream, wishes).port for upstream in upstreams]

    def start(self, value: str = "handshake", version: str = "", resumed: bool = False, **more: Any) -> None:
        """
        Start all that there is.
        """
        server = self.openServer(value)
        context = self.browserContext()
        self.lanes: list[Lane] = [
            Lane(self.destination(version, **more), Wire(self, server), context) for _ in range(LANES)
        ]
        self.prepare(value)
        for lane in self.lanes if resumed else ():
            first = self.browse(lane.client, lane.judge, context)
            first.get(SIZES[0])
            lane.session = first.tls.session
            first.end()
            lane.judged()

    def prepare(self, value: str) -> None:
        """
        Start the client proxies, and the attackers.
        """
        clients = self.openClients([lane.wire.port for lane in self.lanes], value)
        for lane, client in zip(self.lanes, clients, strict=True):
            lane.client = client
        self.upward = {"hello": ownHello(self.malloryPEM), **ACTIONS}
        self.downward = {**self.upward, "server": ownServer(self.pem)}

    def places(self, leg: Leg) -> list[Position]:
        """
        Find all boundaries of two records, and some places between.
        """
        found = []
        for way in (UP, DOWN):
            whole = list(records(bytes(leg.passed[way])))
            found.append(Position(way, len(whole)))
            for number, record in enumerate(whole):
                within = (0, 1, 5, len(record) // 2) if EVERY else (0, (1, 3, 5, len(record) // 2)[number % 4])
                found += [Position(way, number, at) for at in within]
        return found

    def attacks(self, places: list[Position]) -> list[tuple[Position, str, Action]]:
        """
        Choose what to do where.  At each boundary of what the destination gets, the attacker begins a handshake of its
        own, which is what it is after; of all else there is a sample.
        """
        hellos, others = [], []
        for number, place in enumerate(places):
            actions = list((self.upward if place.direction == UP else self.downward).items())
            if place.direction == UP and place.within == 0:
                hellos.append((place, *actions.pop(0)))
            chosen = actions if EVERY else [actions[number % len(actions)]]
            others += [(place, *one) for one in chosen]
        return [*hellos, *others[:: 1 if EVERY else self.every]]

    def attacked(self, lane: Lane, place: Position, name: str, action: Action) -> bool:
        """
        Have the browser's visit be taken over.

        @return: Whether it was; how a stream is cut into records may vary.
        """
        lane.wire.plan = (place, action)
        try:
            pages = lane.visit()
            lane.wire.wait()
            lane.judged()
            leg = lane.wire.legs[-1]
            self.assertTrue(lane.whole.startswith(pages), pages)
            for secret in lane.secrets:
                self.assertNotIn(secret, leg.loot)
                self.assertNotIn(secret, bytes(leg.passed[UP] + leg.passed[DOWN]))
        except BaseException as e:
            e.add_note(f"at {place}: {name}")
            raise
        return leg.taken

    def everywhere(self) -> None:
        """
        Attack at all places.
        """
        attacks = self.attacks(self.places(self.lanes[0].undisturbed()))

        def run(number: int) -> list[bool]:
            taken = [self.attacked(self.lanes[number], *one) for one in attacks[number :: len(self.lanes)]]
            self.lanes[number].undisturbed()
            return taken

        with ThreadPoolExecutor(LANES) as pool:
            taken = [one for done in pool.map(run, range(len(self.lanes))) for one in done]
        self.assertGreater(sum(taken), 0.9 * len(attacks))


class OurServer(TakeOverCase):
    """
    Mixed into a test, has the reverse proxy be ours.

    @ivar reverse: It.
    """

    reverse: Proxy

    def openServer(self, value: str) -> int:
        """
        Start ours.
        """
        self.reverse = self.proxy(self.sequentialServer(value))
        return self.reverse.port("sequential-server")


class OurClient(TakeOverCase):
    """
    Mixed into a test, has the client proxies be ours.

    @ivar forward: The process of all of them.
    """

    forward: Proxy

    def openClients(self, upstreams: Sequence[int], value: str) -> Sequence[int]:
        """
        Start ours.
        """
        routes = [self.sequentialClient(upstream, value, f"cp{upstream}") for upstream in upstreams]
        self.forward = self.proxy(*routes)
        return [self.forward.port(route["name"]) for route in routes]
