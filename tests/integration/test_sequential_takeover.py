# -*- test-case-name: tests.integration.test_sequential_takeover -*-
"""
Whoever takes over the wire between the two proxies, at whatever byte, never has a session of its own with the
destination.

C{TLSPROXY_EVERY_OFFSET=1} has each boundary of two records tried in all ways, and more places between.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from tests.integration.destination import Browser, Destination, body
from tests.integration.innertls import DOWN, UP, records
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
    """

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
        before = len(self.wire.legs)
        pages = self.visit()
        assert pages == WHOLE, f"{len(pages)} bytes of pages"
        self.wire.wait()
        return self.wire.legs[before]


class TakeOverCase(SequentialTestCase):
    """
    An attacker between two proxies, and a judge behind them.

    The attacker has a certificate that the destination lets in, as somebody has who may be there by another way.

    @cvar every: One of how many attacks is made.
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
        self.lanes = [Lane(self.destination(version, **more), Wire(self, server), context) for _ in range(LANES)]
        clients = self.openClients([lane.wire.port for lane in self.lanes], value)
        for lane, client in zip(self.lanes, clients, strict=True):
            lane.client = client
            if resumed:
                first = self.browse(client, lane.judge, context)
                first.get()
                lane.session = first.tls.session
                first.end()
                lane.judge.over()
                lane.judge.visits.clear()
        self.upward = {"hello": ownHello(self.malloryPEM), **ACTIONS}
        self.downward = {**self.upward, "server": ownServer(self.pem)}

    def places(self, leg: Leg) -> list[Position]:
        """
        Find all boundaries of two records, and some places between.
        """
        found = []
        for way in (UP, DOWN):
            for number, record in enumerate(records(bytes(leg.passed[way]))):
                within = (0, 1, 5, len(record) // 2) if EVERY else (0, (1, 3, 5, len(record) // 2)[number % 4])
                found += [Position(way, number, at) for at in within]
        return found

    def attacks(self, places: list[Position]) -> Iterator[tuple[Position, str, Action]]:
        """
        Choose what to do where.
        """
        turn = count()
        for place in places:
            actions = list((self.upward if place.direction == UP else self.downward).items())
            chosen = actions if EVERY else [actions[next(turn) % len(actions)]]
            if not EVERY and place.within == 0 and chosen[0][0] != "hello":
                chosen.append(actions[0])
            for name, action in chosen:
                yield place, name, action

    def judged(self, judge: Destination, before: int) -> None:
        """
        Expect nobody but the browser to have been with the destination, for what it has asked for.
        """
        for visit in judge.over()[before:]:
            self.assertIn(visit.client, ("browser",) if visit.finished else ("browser", ""))
            asked = [f"GET /{size} HTTP/1.1" for size in SIZES]
            self.assertEqual(asked[: len(visit.requests)], visit.requests)

    def attacked(self, lane: Lane, place: Position, name: str, action: Action) -> bool:
        """
        Have the browser's visit be taken over.

        @return: Whether it was; how a stream is cut into records may vary.
        """
        before = len(lane.judge.visits)
        lane.wire.plan = (place, action)
        try:
            pages = lane.visit()
            lane.wire.wait()
            self.judged(lane.judge, before)
            leg = lane.wire.legs[-1]
            self.assertTrue(WHOLE.startswith(pages))
            for secret in (b"a page for", b"HTTP/1.1 200", b"CONNECT localhost"):
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
        attacks = list(self.attacks(self.places(self.lanes[0].undisturbed())))[:: 1 if EVERY else self.every]

        def run(number: int) -> list[bool]:
            taken = [self.attacked(self.lanes[number], *one) for one in attacks[number::LANES]]
            self.lanes[number].undisturbed()
            return taken

        with ThreadPoolExecutor(LANES) as pool:
            taken = [one for done in pool.map(run, range(LANES)) for one in done]
        self.assertGreater(sum(taken), 0.9 * len(attacks))


class TakeOverTests(TakeOverCase):
    """
    Between two proxies on Python's own library.
    """

    def test_handshake13(self) -> None:
        """
        TLS 1.3.
        """
        self.start("handshake", "1.3")
        self.everywhere()

    def test_retry(self) -> None:
        """
        TLS 1.3 with a HelloRetryRequest.
        """
        self.start("handshake", "1.3", group="secp384r1")
        self.everywhere()

    def test_handshake12(self) -> None:
        """
        TLS 1.2.
        """
        self.start("handshake", "1.2")
        self.everywhere()

    def test_resumed(self) -> None:
        """
        A session that is resumed, in either version.
        """
        for version in ("1.2", "1.3"):
            self.start("handshake", version, resumed=True)
            self.everywhere()
            self.assertTrue(self.lanes[0].judge.visits[0].resumed)

    def test_none(self) -> None:
        """
        The TLS of the proxies stays.
        """
        self.start("none", "1.3")
        self.everywhere()

    def test_connect(self) -> None:
        """
        Where TLS comes off before the browser's hello, the wire has a session of its own with the destination: so it
        is named unsafe.
        """
        self.start("connect", "1.3")
        lane = self.lanes[0]
        up = list(records(bytes(lane.undisturbed().passed[UP])))
        # The second hello in clear is the browser's.
        hello = [number for number, record in enumerate(up) if record[:1] == b"\x16"][1]
        lane.wire.plan = (Position(UP, hello), ownHello(self.malloryPEM))
        lane.visit()
        lane.wire.wait()
        stolen = lane.judge.over()[-1]
        self.assertEqual(("mallory", ["GET /666 HTTP/1.1"]), (stolen.client, stolen.requests))
        self.assertIn(b"HTTP/1.1 200 OK", lane.wire.legs[-1].loot)
