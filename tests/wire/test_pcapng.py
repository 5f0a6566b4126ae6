"""
Tests for L{tlsproxy.wire.pcapng}.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.handlers.reading import blocks, packets
from tlsproxy.wire.pcapng import HEADER, interface, isSection, packet, section, whole


class BlockTests(SynchronousTestCase):
    """
    The blocks that are written.
    """

    def test_section(self) -> None:
        """
        A section header, byte by byte.
        """
        self.assertEqual(
            section("tlsproxy").hex(" ", 4),
            "0a0d0d0a 2c000000 4d3c2b1a 01000000 ffffffff ffffffff 04000800 746c7370 726f7879 00000000 2c000000",
        )

    def test_interface(self) -> None:
        """
        An interface, byte by byte: raw IP, nanoseconds.
        """
        self.assertEqual(
            interface("shop1").hex(" ", 4),
            "01000000 2c000000 65000000 00000400 02000500 73686f70 31000000 09000100 09000000 00000000 2c000000",
        )

    def test_packet(self) -> None:
        """
        A packet, byte by byte.
        """
        self.assertEqual(
            packet(1, 0x1122334455667788, b"\xaa", b"\xbb", "hi").hex(" ", 4),
            "06000000 30000000 01000000 44332211 88776655 02000000 02000000 aabb0000 01000200 68690000 00000000"
            " 30000000",
        )

    @given(
        times=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=70), st.binary(), st.text())),
        names=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
        data=st.data(),
    )
    def test_readBack(self, times: list[tuple[int, bytes, bytes, str]], names: list[str], data: st.DataObject) -> None:
        """
        Whatever is written is read as it was.
        """
        file = section("tlsproxy 1") + b"".join(map(interface, names))
        expected = []
        for time, header, payload, comment in times:
            number = data.draw(st.integers(0, len(names) - 1))
            file += packet(number, time, header, memoryview(payload), comment)
            expected.append((names[number], time, header + payload, comment))
        found = [(each.interface, each.time, each.data, each.comment) for each in packets(file)]
        self.assertEqual(expected, found)

    def test_longTexts(self) -> None:
        """
        A text that is too long for an option is cut between two characters.
        """
        for text, expected in (("a" * 70000, "a" * 65532), ("a" + "\u20ac" * 30000, "a" + "\u20ac" * 21843)):
            (found,) = packets(section("tlsproxy") + interface("a") + packet(0, 0, b"x", comment=text))
            self.assertEqual(expected, found.comment)

    def test_surrogates(self) -> None:
        """
        What cannot be written in UTF-8 is no reason to fail.
        """
        self.assertEqual(2, len(list(blocks(section("tlsproxy") + interface("a\udcff")))))


class AppendingTests(SynchronousTestCase):
    """
    Telling whether something can be appended to a file.
    """

    def test_sections(self) -> None:
        """
        Only what begins with a section of our byte order is told to be one.
        """
        whole = section("tlsproxy")
        self.assertTrue(isSection(whole[:HEADER]))
        self.assertTrue(isSection(whole))
        swapped = whole[:8] + whole[8:12][::-1]
        for other in (b"", whole[: HEADER - 1], swapped, interface("a"), b"#!/bin/sh\nexit\n"):
            self.assertFalse(isSection(other), other)

    @given(payload=st.binary(max_size=90), cut=st.integers(0, 200))
    def test_whole(self, payload: bytes, cut: int) -> None:
        """
        Wherever a file is cut off, it is told up to where it has whole blocks.
        """
        parts = [section("tlsproxy"), interface("a"), packet(0, 1, payload), packet(0, 1, payload)]
        file = b"".join(parts)
        size = max(0, len(file) - cut)
        ends = [sum(map(len, parts[:count])) for count in range(len(parts) + 1)]
        self.assertEqual(max(end for end in ends if end <= size), whole(file[:size]))

    def test_chosen(self) -> None:
        """
        What a packet holds does not make an end of it, whatever it is.
        """
        for length in (12, 16, 40):
            beginning = section("tlsproxy") + interface("a")
            file = beginning + packet(0, 1, struct.pack("<I", length) * 100)
            for cut in range(4, 400):
                self.assertEqual(len(beginning), whole(file[:-cut]))

    def test_lengths(self) -> None:
        """
        A block has at least 12 bytes, and a multiple of four, and its length stands at both of its ends.
        """
        for first, last, size, expected in (
            *((12, 12, 12, 12), (16, 16, 16, 16), (12, 12, 11, 0), (12, 12, 16, 12), (12, 16, 12, 0)),
            *((8, 8, 16, 0), (0, 0, 16, 0), (13, 13, 13, 0), (0xFFFFFFFC, 0, 16, 0)),
        ):
            data = bytearray(20)
            struct.pack_into("<I", data, 4, first)
            struct.pack_into("<I", data, max(8, min(first, size) - 4), last)
            self.assertEqual(expected, whole(bytes(data[:size])), (first, last, size))
