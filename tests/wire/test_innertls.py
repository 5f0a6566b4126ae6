"""
Tests for L{tlsproxy.wire.innertls}, with the handshakes of OpenSSL.
"""

from __future__ import annotations

from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.flights import CCS, Flight, Pair, record, records, stepAll
from tlsproxy.interfaces import INWARD, OUTWARD
from tlsproxy.wire.clienthello import HelloError
from tlsproxy.wire.innertls import InnerTLS

TWO, THREE = SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION
GCM = b"ECDHE-ECDSA-AES128-GCM-SHA256"
CHACHA = b"ECDHE-ECDSA-CHACHA20-POLY1305"
CCM = b"ECDHE-ECDSA-AES128-CCM"


@lru_cache
def shaken() -> dict[str, list[Flight]]:
    """
    Have OpenSSL shake hands in all the ways in which it ends well.
    """
    found: dict[str, list[Flight]] = {}

    def keep(name: str, pair: Pair) -> None:
        session = pair.shake()
        found[name] = pair.flights
        pair.shake(session)
        found[f"{name}, resumed"] = pair.flights

    keep("TLS 1.3", Pair(THREE))
    keep("TLS 1.3, another hello", Pair(THREE, group="secp384r1"))
    keep("TLS 1.3, client certificate", Pair(THREE, asks=True))
    keep("TLS 1.2 with GCM", Pair(TWO, suites=GCM))
    keep("TLS 1.2 with ChaCha20", Pair(TWO, suites=CHACHA))
    keep("TLS 1.2 with CCM", Pair(TWO, suites=CCM))
    keep("TLS 1.2, client certificate", Pair(TWO, suites=GCM, asks=True))
    keep("TLS 1.2 without tickets", Pair(TWO, suites=GCM, tickets=False))
    return found


def turningPoint(flights: list[Flight]) -> int:
    """
    Tell how many bytes pass until all that follows is protected, as a reader who knows the handshake sees it.
    """
    kinds: list[tuple[str, int]] = []
    passed = 0
    for way, data in flights:
        for each in records(data):
            passed += len(each)
            kinds.append((way, each[0]))
            three = way == INWARD and each[5:6] == b"\2" and b"\0\x2b\0\2\3\4" in each
            if three and each[11:15] != bytes.fromhex("cf21ad74"):
                return passed
            if all(
                (side, 20) in kinds and (side, 22) in kinds[kinds.index((side, 20)) :] for side in (OUTWARD, INWARD)
            ):
                return passed
    raise AssertionError("it is never protected")


class RealTests(SynchronousTestCase):
    """
    Handshakes that end well.
    """

    def test_ready(self) -> None:
        """
        It becomes ready with the very record behind which all is protected, and not a byte before.
        """
        for name, flights in shaken().items():
            inner = InnerTLS()
            passed = 0
            when = turningPoint(flights)
            for way, data in flights:
                for at in range(len(data)):
                    self.assertEqual(inner.step(way, data[at : at + 1]), 1)
                    passed += 1
                    self.assertEqual(inner.verdict, "ready" if passed >= when else "open", (name, inner.why))
                self.assertTrue(inner.atBoundary(way))
            self.assertEqual(inner.version, 0x0304 if "1.3" in name else 0x0303)
            self.assertEqual((inner.why, inner.holds, inner.awaiting), ("", 0, False))

    def test_records(self) -> None:
        """
        A step goes to the end of the record that is under way and no further, also when all is decided.
        """
        for flights in shaken().values():
            inner = InnerTLS()
            for way, data in flights:
                self.assertEqual(stepAll(inner, way, data), [len(each) for each in records(data)])
                self.assertTrue(inner.atBoundary(way))

    def test_hellos(self) -> None:
        """
        Each hello of the client is told once it is whole, and whether one is owed.
        """
        for name, flights in shaken().items():
            inner = InnerTLS()
            whole = 0
            self.assertTrue(inner.awaiting)
            self.assertIsNone(inner.hello)
            for way, data in flights:
                for each in records(data):
                    owed = inner.awaiting and way == OUTWARD and each[0] == 22
                    for at in range(5, len(each), 100):
                        inner.step(way, each[: at if at == 5 else 100])
                        each = each[at if at == 5 else 100 :]
                        if owed:
                            self.assertGreater(inner.holds, 0)
                        self.assertFalse(inner.atBoundary(way) and each)
                    stepAll(inner, way, each)
                    whole += owed
                    self.assertEqual((inner.hellos, inner.holds), (whole, 0))
                    if owed:
                        assert inner.hello is not None
                        self.assertEqual(inner.hello.serverName, "shop.example")
                        self.assertFalse(inner.awaiting)
            self.assertEqual(inner.hellos, 2 if "another" in name else 1)

    def test_owedAgain(self) -> None:
        """
        From a HelloRetryRequest on another hello is owed; the ChangeCipherSpec before it does not matter.
        """
        inner = InnerTLS()
        flights = [(way, each) for way, data in shaken()["TLS 1.3, another hello"] for each in records(data)]
        seen = []
        for way, each in flights[:6]:
            inner.step(way, each)
            seen.append((way, each[0], inner.awaiting, inner.verdict))
        self.assertEqual(
            seen,
            [
                (OUTWARD, 22, False, "open"),
                (INWARD, 22, True, "open"),
                (INWARD, 20, True, "open"),
                (OUTWARD, 20, True, "open"),
                (OUTWARD, 22, False, "open"),
                (INWARD, 22, False, "ready"),
            ],
        )

    @settings(deadline=None)
    @given(data=st.data())
    def test_anyCutting(self, data: st.DataObject) -> None:
        """
        However the bytes are cut, the verdict comes with the same byte.
        """
        name = data.draw(st.sampled_from(sorted(shaken())))
        flights = shaken()[name]
        sizes = data.draw(st.lists(st.integers(1, 2000), min_size=1, max_size=20))
        inner = InnerTLS()
        passed = turn = 0
        for way, wire in flights:
            while wire:
                size = sizes[turn % len(sizes)]
                turn += 1
                taken = inner.step(way, memoryview(wire)[:size])
                self.assertTrue(0 < taken <= size)
                passed += taken
                self.assertEqual(inner.verdict == "ready", passed >= turningPoint(flights))
                wire = wire[taken:]

    @settings(deadline=None, max_examples=300)
    @given(data=st.data())
    def test_mutated(self, data: st.DataObject) -> None:
        """
        Whatever comes, nothing but an error of the client's hello is raised, every step takes bytes, and a verdict
        stays.
        """
        flights = list(shaken()[data.draw(st.sampled_from(sorted(shaken())))])
        for _ in range(data.draw(st.integers(0, 3))):
            which = data.draw(st.integers(0, len(flights) - 1))
            way, wire = flights[which]
            at = data.draw(st.integers(0, len(wire)))
            end = at + data.draw(st.integers(0, 6))
            put = data.draw(st.binary(max_size=6) | st.sampled_from([CCS, record(21, b"\2\0"), record(23, bytes(20))]))
            flights[which] = way, wire[:at] + put + wire[end:]
        inner = InnerTLS()
        verdict = "open"
        for way, wire in flights:
            try:
                self.assertEqual(sum(stepAll(inner, way, wire)), len(wire))
            except HelloError:
                self.assertFalse(inner.settled)
                return
            if verdict != "open":
                self.assertEqual(inner.verdict, verdict)
            verdict = inner.verdict
            self.assertEqual(bool(inner.why), verdict == "never")

    @settings(deadline=None, max_examples=300)
    @given(wires=st.lists(st.tuples(st.sampled_from([OUTWARD, INWARD]), st.binary(min_size=1, max_size=40))))
    def test_anyBytes(self, wires: list[Flight]) -> None:
        """
        Likewise for bytes that resemble nothing; they never make it ready.
        """
        inner = InnerTLS()
        stepAll(inner, OUTWARD, shaken()["TLS 1.3"][0][1])
        for way, wire in wires:
            try:
                stepAll(inner, way, wire)
            except HelloError:
                self.assertEqual((way, inner.settled), (OUTWARD, False))
                break
        self.assertNotEqual(inner.verdict, "ready")

    def test_otherSuites(self) -> None:
        """
        A cipher suite with a short tag, without AEAD, or whose keys the certificate gives away: never.
        """
        for suite in (b"ECDHE-ECDSA-AES128-CCM8", b"ECDHE-ECDSA-AES128-SHA256"):
            pair = Pair(TWO, suites=suite + b":@SECLEVEL=0")
            pair.shake()
            inner = InnerTLS()
            for way, data in pair.flights:
                stepAll(inner, way, data)
            self.assertEqual((inner.verdict, inner.version), ("never", 0x0303))
            self.assertRegex(inner.why, "the destination chose the cipher suite 0xc[0-9a-f]{3}")
