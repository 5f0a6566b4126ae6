"""
Tests for L{tlsproxy.wire.framing}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import buildClientHello, helloMessage
from tests.wire.flights import CCS, Pair, record, records
from tests.wire.realhellos import REAL_HELLOS
from tlsproxy.interfaces import INWARD, OUTWARD
from tlsproxy.wire.framing import Framing, FramingViolation

DATA = record(23, bytes(100))
ALERT = record(21, b"\2\0")
SEALED = record(22, bytes(40))

good = {
    0x0304: st.lists(st.integers(17, 300).map(lambda size: record(23, bytes(size))) | st.just(ALERT), max_size=8),
    0x0303: st.lists(
        st.tuples(st.sampled_from([20, 21, 22, 23]), st.binary(min_size=17, max_size=60)).map(lambda r: record(*r)),
        max_size=8,
    ),
}


class FramingTests(SynchronousTestCase):
    """
    The records of a protected connection.
    """

    def assertViolated(self, version: int, wire: bytes, sentence: str, before: bytes = b"") -> None:
        """
        Check that a record is refused with its last byte, not one before it, however the bytes are cut; and that
        nothing counts as checked that belongs to it and comes along with its last byte.
        """
        framing = Framing(version)
        framing.check(before)
        refused = self.assertRaises(FramingViolation, framing.check, wire + bytes(20))
        self.assertEqual(str(refused), sentence)
        self.assertEqual(framing.checked, len(before))
        for cut in range(len(wire)):
            framing = Framing(version)
            framing.check(before + wire[:cut])
            refused = self.assertRaises(FramingViolation, framing.check, wire[cut:])
            self.assertEqual(str(refused), sentence)
            self.assertEqual(framing.checked, len(before) + cut)
            self.assertEqual(str(self.assertRaises(FramingViolation, framing.check, DATA)), sentence)
            self.assertEqual(framing.checked, len(before) + cut)

    def test_versions(self) -> None:
        """
        There are rules for two versions.
        """
        self.assertRaises(ValueError, Framing, 0x0302)
        self.assertTrue(Framing(0x0303).atBoundary)

    def test_good(self) -> None:
        """
        What OpenSSL sends behind its handshake is in order, each byte alone or all of them together.
        """
        for version, number in ((SSL.TLS1_3_VERSION, 0x0304), (SSL.TLS1_2_VERSION, 0x0303)):
            pair = Pair(version, suites=b"ECDHE-ECDSA-AES128-GCM-SHA256")
            pair.shake()
            for way in (OUTWARD, INWARD):
                sent = [each for side, data in pair.flights if side == way for each in records(data)]
                kinds = [each[0] for each in sent]
                wire = b"".join(sent[(1 if number == 0x0304 else kinds.index(20) + 1) :])
                self.assertIn(b"\x17\3\3", wire)
                for pieces in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
                    framing = Framing(number)
                    for piece in pieces:
                        framing.check(piece)
                    self.assertEqual((framing.checked, framing.atBoundary), (len(wire), True))

    def test_sizes(self) -> None:
        """
        Records have the sizes that protected ones can have.
        """
        for version, kind, least, most in (
            (0x0304, 23, 17, 16640),
            (0x0304, 20, 1, 1),
            (0x0304, 21, 2, 2),
            (0x0303, 23, 16, 16640),
            (0x0303, 22, 17, 16640),
            (0x0303, 21, 17, 16640),
            (0x0303, 20, 17, 16640),
        ):
            for size in (least, most):
                framing = Framing(version)
                framing.check(record(kind, b"\1" * size))
                self.assertEqual((framing.checked, framing.atBoundary), (5 + size, True))
            for size in {0, least - 1} | ({most + 1} if most < 16640 else set()):
                sentence = f"a TLS record of type {kind} has {size} bytes, and not {least} to {most}"
                self.assertViolated(version, record(kind, bytes(size))[:5], sentence, DATA)
        for version in (0x0304, 0x0303):
            self.assertViolated(version, b"\x17\3\3\x42", "a TLS record is longer than 16640 bytes", DATA)
            self.assertViolated(
                version,
                b"\x17\3\3\x41\1",
                f"a TLS record of type 23 has 16641 bytes, and not {17 if version == 0x0304 else 16} to 16640",
            )

    def test_noRecords(self) -> None:
        """
        Another protocol is told by its first byte, or by its second.
        """
        for version in (0x0304, 0x0303):
            for first in b"\0\x13\x18SGE\x80\xff":
                sentence = f"a byte 0x{first:02x} stands where a protected TLS record must begin"
                self.assertViolated(version, bytes([first]), sentence, DATA)
            for second in (0, 2, 4, 0x16):
                sentence = f"a TLS record has the version 0x{second:02x}, and not 0x03, in front"
                self.assertViolated(version, bytes([23, second]), sentence, DATA)

    def test_noHandshake(self) -> None:
        """
        In TLS 1.3 no handshake record is in plain.
        """
        self.assertViolated(0x0304, b"\x16", "a byte 0x16 stands where a protected TLS record must begin", DATA)

    def test_changes(self) -> None:
        """
        In TLS 1.3 one ChangeCipherSpec may come, and has one value.
        """
        framing = Framing(0x0304)
        framing.check(DATA + CCS + DATA)
        self.assertEqual((framing.checked, framing.atBoundary), (216, True))
        self.assertViolated(0x0304, b"\x14", "a second ChangeCipherSpec came", CCS + DATA)
        for value in (0, 2, 22):
            sentence = f"a ChangeCipherSpec has the value {value}, and not 1"
            self.assertViolated(0x0304, record(20, bytes([value])), sentence, DATA)

    def test_hellos(self) -> None:
        """
        In TLS 1.2 no record begins a hello that can be read, whole or cut into records.
        """
        sentence = "a new TLS handshake begins, in plain"
        for wire in (
            *(hello.wire for hello in REAL_HELLOS),
            buildClientHello(),
            buildClientHello(cut=17),
            buildClientHello(recordVersion=0x0303),
            buildClientHello(legacyVersion=0x0300),
            buildClientHello(legacyVersion=0x0304),
            record(22, helloMessage() + bytes(50)),
        ):
            self.assertViolated(0x0303, wire[:11], sentence)
            self.assertViolated(0x0303, wire[:11], sentence, DATA + SEALED)

    def test_smallHellos(self) -> None:
        """
        Nor is one cut into records that are smaller than what is looked at.
        """
        for size in range(1, 17):
            sentence = f"a TLS record of type 22 has {size} bytes, and not 17 to 16640"
            self.assertViolated(0x0303, buildClientHello(cut=size)[:5], sentence)

    def test_noHellos(self) -> None:
        """
        What merely resembles one passes, as protected bytes may.
        """
        for start in (
            *(b"\2\0\0\x40\3\3", b"\1\0\0\x25\3\3", b"\1\0\0\x40\4\3", b"\1\0\0\x40\3\5"),
            *(b"\0\1\0\0\x40\3\3", bytes(6)),
        ):
            wire = record(22, start + bytes(60))
            for pieces in ([wire], [wire[at : at + 1] for at in range(len(wire))]):
                framing = Framing(0x0303)
                for piece in pieces:
                    framing.check(piece)
                self.assertEqual((framing.checked, framing.atBoundary), (len(wire), True))

    def test_boundaries(self) -> None:
        """
        Only between records is a boundary.
        """
        for version, wire in ((0x0304, DATA + CCS + ALERT + DATA), (0x0303, DATA + SEALED)):
            ends = set()
            at = 0
            for each in records(wire):
                at += len(each)
                ends.add(at)
            framing = Framing(version)
            for at in range(len(wire)):
                framing.check(wire[at : at + 1])
                self.assertEqual((framing.checked, framing.atBoundary), (at + 1, at + 1 in ends))

    @settings(deadline=None)
    @given(data=st.data())
    def test_anyCutting(self, data: st.DataObject) -> None:
        """
        However good records are cut, they are in order.
        """
        version = data.draw(st.sampled_from(sorted(good)))
        wire = b"".join(data.draw(good[version]))
        framing = Framing(version)
        at = 0
        for size in [*data.draw(st.lists(st.integers(0, 150))), len(wire)]:
            framing.check(memoryview(wire)[at : at + size])
            at = min(at + size, len(wire))
            self.assertEqual(framing.checked, at)
        self.assertTrue(framing.atBoundary)

    @settings(deadline=None, max_examples=500)
    @given(data=st.data())
    def test_anyBytes(self, data: st.DataObject) -> None:
        """
        Whatever comes, the way it is cut makes no difference to whether it is in order, and what is checked is never
        more than what comes before the byte that shows the violation.
        """
        version = data.draw(st.sampled_from(sorted(good)))
        wire = b"".join(data.draw(good[version]))
        at = data.draw(st.integers(0, len(wire)))
        wire = wire[:at] + data.draw(st.binary(max_size=12)) + wire[at + data.draw(st.integers(0, 12)) :]
        single = Framing(version)
        said = ""
        for at in range(len(wire)):
            try:
                single.check(wire[at : at + 1])
            except FramingViolation as e:
                said = str(e)
                break
        framing = Framing(version)
        told = ""
        at = 0
        try:
            for size in [*data.draw(st.lists(st.integers(0, 150))), len(wire)]:
                framing.check(wire[at : at + size])
                at += size
        except FramingViolation as e:
            told = str(e)
        self.assertEqual(told, said)
        self.assertLessEqual(framing.checked, single.checked)
        if not said:
            self.assertEqual(framing.atBoundary, single.atBoundary)
