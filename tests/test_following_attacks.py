"""
Tests of L{tlsproxy.following} with somebody on the connection between the two proxies.

At each record, and between them, somebody takes a direction over: speaks TLS of its own with the destination, or with
the browser, repeats what was said, or sends garbage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from OpenSSL import SSL

from tests.test_following import records, serving
from tests.tunneling import TunnelCase, Wire
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.testing.streampeers import TLSPeer

_OTHER: dict[Way, Way] = {OUTWARD: INWARD, INWARD: OUTWARD}
_SAID = {OUTWARD: b"the browser's own words " * 40, INWARD: b"what it is answered " * 300}
_EVIL = b"not the browser's words "


def whom(connection: SSL.Connection) -> str:
    """
    Tell with whom a connection is.
    """
    shown = connection.get_peer_certificate()
    return "" if shown is None else str(shown.get_subject().CN)


def origin(version: str, groups: str = "X25519") -> Callable[[Any], TLSPeer]:
    """
    Make a destination that can be told from others.
    """
    context = serving("origin", groups)
    return lambda sock: TLSPeer(sock, version, server=True, context=context)


class Attacker:
    """
    Speaks TLS with whoever is at the end of a direction.
    """

    def __init__(self, wire: Wire, way: Way) -> None:
        self.wire, self.way = wire, way
        if way == OUTWARD:
            self.connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
            self.connection.set_tlsext_host_name(b"shop.example")
            self.connection.set_connect_state()
        else:
            self.connection = SSL.Connection(serving("attacker"), None)
            self.connection.set_accept_state()
        self.ready = self._over = False

    def pump(self) -> bool:
        """
        Go on.
        """
        heard = self.wire.caught[_OTHER[self.way]]
        moved = bool(heard)
        if heard and not self._over:
            self.connection.bio_write(bytes(heard))
        heard.clear()
        if not self.ready and not self._over:
            try:
                self.connection.do_handshake()
                self.ready = True
                self.connection.send(_EVIL)
            except SSL.WantReadError:
                pass
            except SSL.Error:
                self._over = True
        try:
            self.wire.inject(self.way, self.connection.bio_read(65536))
            moved = True
        except SSL.WantReadError:
            pass
        return moved

    def close(self) -> None:
        """
        See L{tlsproxy.testing.streampeers.Peer}.
        """


class Attacks(TunnelCase):
    """
    Take-overs.
    """

    def talk(self, version: str, how: dict[str, Any], cut: tuple[Way, int, int] | None = None) -> Any:
        """
        Have a browser and a destination say all they have to say, as far as they are let.

        @param cut: Where a direction is cut: which, behind how many records, and how many bytes behind that.
        @return: The browser.
        """
        browser = self.both(version, **{"origin": origin(version), **how})
        (wire,) = self.wires
        if cut is not None:
            way, count, more = cut
            wire.cuts[way] = count, more
        for number in range(3):
            self.settle()
            for one in self.origins.peers:
                one.write(_SAID[INWARD][number * 2000 : number * 2000 + 2000])
            browser.write(_SAID[OUTWARD][number * 320 : number * 320 + 320])
        self.settle()
        for one in (*self.origins.peers, browser):
            one.endTLS()
        self.settle()
        return browser

    def places(self, version: str, how: dict[str, Any]) -> Iterator[tuple[Way, int, int]]:
        """
        Tell where to cut: at each record, right behind it, and in its middle.
        """
        browser = self.talk(version, how)
        self.assertTrue(browser.ready)
        (wire,) = self.wires
        cuts = []
        for way in (OUTWARD, INWARD):
            for number, record in enumerate(records(bytes(wire.passed[way]))):
                cuts += [(way, number, more) for more in sorted({0, 1, 5, len(record) // 2, len(record) - 1})]
            cuts.append((way, number + 1, 0))
        self.over(browser)
        yield from cuts

    def over(self, browser: Any) -> None:
        """
        End what has not ended.
        """
        for one in (browser, *self.origins.peers, *self.wires):
            one.close()
        for session in list(self.network.sessions):
            session.stop()
        self.settle()
        self.after(3.0)
        self.forget()
        self.wires.clear()
        self.network.peers.clear()

    def attack(
        self, version: str, make: Callable[[Wire, Way], Any], how: dict[str, Any], every: int = 1
    ) -> Iterator[tuple[tuple[Way, int, int], bool]]:
        """
        Attack everywhere.

        @param make: What makes the attacker.
        @param every: Which of the places.
        """
        for number, cut in enumerate(self.places(version, how)):
            if number % every:
                continue
            browser = self.talk(version, how, cut)
            (wire,) = self.wires
            way = cut[0]
            # From now on nothing but the attacker's words reaches anybody.
            wire.cuts = {OUTWARD: (0, 0), INWARD: (0, 0)}
            attacker = make(wire, way)
            if attacker is not None:
                self.network.peers.append(attacker)
            self.settle()
            yield cut, self.taken(browser, attacker)
            self.over(browser)

    def taken(self, browser: Any, attacker: Any) -> bool:
        """
        Tell whether the browser or the destination has heard anything but the other, or has TLS with the attacker.
        """
        heard = [_SAID[OUTWARD].startswith(origin.received) for origin in self.origins.peers]
        if not all(heard) or not _SAID[INWARD].startswith(browser.received):
            return True
        if attacker is None or not attacker.ready:
            return False
        # It may have TLS with the proxies, which let in everybody here, and that does not help.
        return "origin" in whom(attacker.connection) or (browser.ready and "attacker" in whom(browser.connection))

    def stands(self, version: str, **how: Any) -> None:
        """
        Nobody gets TLS of its own with either side.
        """
        for cut, taken in self.attack(version, Attacker, how):
            self.assertFalse(taken, cut)

    def test_three(self) -> None:
        """
        With TLS 1.3 inside.
        """
        self.stands("TLSv1.3")

    def test_two(self) -> None:
        """
        With TLS 1.2 inside.
        """
        self.stands("TLSv1.2")

    def test_retry(self) -> None:
        """
        With a HelloRetryRequest.
        """
        self.stands("TLSv1.3", origin=origin("TLSv1.3", "P-384"))

    def test_none(self) -> None:
        """
        Where TLS stays.
        """
        self.stands("TLSv1.3", agreed="none")

    def test_connectIsUnsafe(self) -> None:
        """
        Where TLS is taken off before the handshake inside it, somebody can speak with the destination.
        """
        found = {cut[0] for cut, taken in self.attack("TLSv1.3", Attacker, {"agreed": "connect"}) if taken}
        self.assertIn(OUTWARD, found)

    def repeats(self, wire: Wire, way: Way) -> None:
        """
        Repeat all that was said.
        """
        wire.inject(way, bytes(wire.passed[way]))

    def garbage(self, wire: Wire, way: Way) -> None:
        """
        Say what is nothing.
        """
        wire.inject(way, _EVIL * 100)

    def forged(self, wire: Wire, way: Way) -> None:
        """
        Say what looks like a record.
        """
        wire.inject(way, b"\x17\x03\x03\x00\x13" + bytes(19))

    def test_repeated(self) -> None:
        """
        What was said before, again.
        """
        for version in ("TLSv1.3", "TLSv1.2"):
            for cut, taken in self.attack(version, self.repeats, {}, every=3):
                self.assertFalse(taken, cut)

    def test_garbage(self) -> None:
        """
        What is no TLS at all, or a record with nothing right in it.
        """
        for make in (self.garbage, self.forged):
            for cut, taken in self.attack("TLSv1.3", make, {}, every=3):
                self.assertFalse(taken, cut)
