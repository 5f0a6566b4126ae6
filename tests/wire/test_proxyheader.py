# -*- test-case-name: tests.wire.test_proxyheader -*-
"""
Tests for L{tlsproxy.wire.proxyheader}.
"""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_proxytlv import tlv, vectors
from tlsproxy.wire.crc32c import crc32c
from tlsproxy.wire.proxyheader import (
    ProxyHeader,
    ProxyHeaderError,
    ProxyHeaderReader,
    writeBinary,
    writeLine,
)
from tlsproxy.wire.proxytlv import NOTHING_TOLD, ToldTLS, Vectors

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT = IPv4Address("TCP", "192.0.2.7", 50112)
SERVER = IPv4Address("TCP", "198.51.100.1", 443)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\n"
ADDRESSES = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + struct.pack("!HH", 50112, 443)

ports = st.integers(0, 65535)
fours = st.builds(IPv4Address, st.just("TCP"), st.ip_addresses(v=4).map(str), ports)
sixes = st.builds(
    IPv6Address, st.just("TCP"), st.ip_addresses(v=6).map(str).filter(lambda one: not one.startswith("::ffff:")), ports
)
paths = st.builds(UNIXAddress, st.none() | st.binary(min_size=1, max_size=108).filter(lambda one: b"\0" not in one))


def binary(command: int = 0x21, family: int = 0x11, block: bytes = ADDRESSES, length: int | None = None) -> bytes:
    """
    Write a header of version 2.
    """
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def read(data: bytes) -> ProxyHeader | None:
    """
    Read all of something at once.
    """
    return ProxyHeaderReader().read(data)


def told(data: bytes) -> tuple[IAddress | None, IAddress | None]:
    """
    Tell the addresses of a header, behind which something follows.
    """
    header = read(data + b"what follows")
    assert header is not None and header.length == len(data), data
    return header.source, header.destination


class LineTests(SynchronousTestCase):
    """
    Version 1.
    """

    def test_addresses(self) -> None:
        """
        A line tells two addresses with their ports.
        """
        self.assertEqual(ProxyHeader(1, CLIENT, SERVER, NOTHING_TOLD, len(LINE)), read(LINE))
        for line, source in (
            (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", IPv4Address("TCP", "0.0.0.0", 0)),
            (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", IPv6Address("TCP", "2001:db8::7", 1)),
            (b"PROXY TCP6 2001:0DB8:0:0:0:0:0:7 ::1 1 2\r\n", IPv6Address("TCP", "2001:db8::7", 1)),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50112 2\r\n", CLIENT),
            (b"PROXY TCP6 ::FFFF:c000:207 ::1 50112 2\r\n", CLIENT),
        ):
            self.assertEqual(source, told(line)[0])

    def test_unknown(self) -> None:
        """
        A balancer need not know, and whatever else the line says then has no meaning.
        """
        for line in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN \r\n",
            b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 50112 443\r\n",
            b"PROXY UNKNOWN \xff\x00 01.2.3.4\r\n",
            b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n",
        ):
            self.assertEqual((None, None), told(line))

    def test_wrong(self) -> None:
        """
        What is written in any other way is refused, however slight the difference.
        """
        for line in (
            b"PROXY TCP4 a:b 5.6.7.8 1 2",
            b"PROXY TCP4 1.2.3.4 a:b 1 2",
            b"PROXY TCP4 \x1b[31mRED 1.2.3.4 1 2",
            b"PROXY TCP4 \xff\xfe 5.6.7.8 1 2",
            b"PROXY TCP4 \xd9\xa1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP4 ::1 ::1 1 2",
            b"PROXY TCP4 1.2.3 5.6.7.8 1 2",
            b"PROXY TCP4 16909060 5.6.7.8 1 2",
            b"PROXY TCP4 0x1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2",
            b"PROXY TCP4 1.2.3.4/32 5.6.7.8 1 2",
            b"PROXY TCP4 shop.example 5.6.7.8 1 2",
            b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP6 [::1] ::1 1 2",
            b"PROXY TCP6 ::1%eth0 ::1 1 2",
            b"PROXY TCP6 fe80::1%\x1b[31m ::1 1 2",
            b"PROXY TCP6 ::1 ::1%1 1 2",
            b"PROXY TCP6 1::2::3 ::1 1 2",
            b"PROXY TCP6 12345::1 ::1 1 2",
            b"PROXY TCP6 ::ffff:01.2.3.4 ::1 1 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 99999999 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1_0 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 010 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 00 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 \xd9\xa1 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 0x2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 ",
            b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP4\t1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1",
            b"PROXY TCP4 1.2.3.4 5.6.7.8  2",
            b"PROXY TCP4",
            b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP 1.2.3.4 5.6.7.8 1 2",
            b"PROXY TCP9 1.2.3.4 5.6.7.8 1 2",
            b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2",
            b"PROXY UNKNOWNX",
            b"PROXY unknown",
            b"PROXY  UNKNOWN",
            b"PROXY ",
        ):
            problem = self.assertRaises(ProxyHeaderError, read, line + b"\r\n")
            self.assertTrue(str(problem).isprintable())

    def test_ends(self) -> None:
        """
        The line ends with CR and LF, within 107 bytes; neither stands by itself.
        """
        for line in (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\rx",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 50112 443\r\r\n",
            b"PROXY UNKNOWN \n\r\n",
            b"PROXY UNKNOWN \r \r\n",
            b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n",
            b"PROXY ".ljust(107, b"A"),
            b"PROXY UNKNOWN".ljust(5000),
        ):
            self.assertRaises(ProxyHeaderError, read, line)
        self.assertIsNone(read(LINE[:-1]))

    def test_atOnce(self) -> None:
        """
        What is no header is refused at its first byte that differs.
        """
        for start, last in (
            (b"", b"\x16"),
            (b"", b"G"),
            (b"PRO", b"P"),
            (b"\r\n\r\n\0\r\nQUIT", b"\r"),
            (b"PROXY", b"\t"),
        ):
            reader = ProxyHeaderReader()
            self.assertIsNone(reader.read(start))
            problem = self.assertRaises(ProxyHeaderError, reader.read, (start + last).ljust(reader.need, b"."))
            self.assertIn("no PROXY header", str(problem))


class BinaryTests(SynchronousTestCase):
    """
    Version 2.
    """

    def test_addresses(self) -> None:
        """
        A header tells two addresses, of whatever family and transport.
        """
        self.assertEqual(ProxyHeader(2, CLIENT, SERVER, NOTHING_TOLD, 28), read(binary()))
        six = bytes(15) + b"\1" + bytes(10) + b"\xff\xff\xc0\0\2\7" + b"\0\1\0\2"
        path = b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")
        unix = UNIXAddress("/run/client"), UNIXAddress("\0abstract")
        for family, block, expected in (
            (0x12, ADDRESSES, (IPv4Address("UDP", "192.0.2.7", 50112), IPv4Address("UDP", "198.51.100.1", 443))),
            (0x21, six, (IPv6Address("TCP", "::1", 1), IPv4Address("TCP", "192.0.2.7", 2))),
            (0x22, six, (IPv6Address("UDP", "::1", 1), IPv4Address("UDP", "192.0.2.7", 2))),
            (0x31, path, unix),
            (0x32, path, unix),
            (0x31, bytes(216), (UNIXAddress(None), UNIXAddress(None))),
            (0x31, b"x" * 216, (UNIXAddress("x" * 108), UNIXAddress("x" * 108))),
        ):
            self.assertEqual(expected, told(binary(family=family, block=block)))

    def test_local(self) -> None:
        """
        A balancer that speaks for itself, or does not know, tells no addresses, and nothing of what it sends has a
        meaning.
        """
        for command, family in ((0x20, 0x00), (0x20, 0x11), (0x20, 0x21), (0x20, 0xFF), (0x21, 0x00)):
            for block in (b"", b"\x01", ADDRESSES, tlv(0x01, b"h2"), tlv(0x03, b"wrong")):
                wire = binary(command, family, block)
                self.assertEqual((None, None), told(wire))
                header = read(wire)
                assert header is not None
                self.assertEqual(NOTHING_TOLD, header.vectors)

    def test_wrong(self) -> None:
        """
        What the document does not list, and what does not fit, is refused.
        """
        for wire, said in (
            (binary(command=0x22), "version and command 0x22"),
            (binary(command=0x2F), "version and command 0x2f"),
            (binary(command=0x11), "version and command 0x11"),
            (binary(command=0x31), "version and command 0x31"),
            (binary(family=0x13), "family and transport 0x13"),
            (binary(family=0x10), "family and transport 0x10"),
            (binary(family=0x01), "family and transport 0x01"),
            (binary(family=0x41), "family and transport 0x41"),
            (binary(length=11), "too short for its addresses"),
            (binary(length=0), "too short for its addresses"),
            (binary(family=0x21), "too short for its addresses"),
            (binary(family=0x31), "too short for its addresses"),
            (binary(length=16369), "has 16385 bytes, more than 16384"),
            (binary(0x20, 0, b"", 0xFFFF), "has 65551 bytes, more than 16384"),
            (binary(block=ADDRESSES + b"\x01"), "ends in the middle of a TLV"),
            (binary(block=ADDRESSES + b"\x01\x00\x05h2"), "goes on past its end"),
        ):
            # All of this is seen before the rest has come, but for what the rest itself says.
            problem = self.assertRaises(ProxyHeaderError, read, wire)
            self.assertIn(said, str(problem))
        whole = binary(block=ADDRESSES + tlv(4, bytes(16384 - 28 - 3)))
        self.assertEqual((CLIENT, SERVER), told(whole))

    def test_checksum(self) -> None:
        """
        A checksum is verified, wherever it stands.
        """
        for before, after in ((b"", b""), (tlv(0x01, b"h2"), tlv(0x02, b"shop.example"))):
            zeroed = binary(block=ADDRESSES + before + tlv(0x03, bytes(4)) + after)
            at = 28 + len(before) + 3
            wire = zeroed[:at] + crc32c(zeroed).to_bytes(4, "big") + zeroed[at + 4 :]
            self.assertEqual((CLIENT, SERVER), told(wire))
            for place in (16, 20, at, len(wire) - 1):
                wrong = bytearray(wire)
                wrong[place] ^= 1
                problem = self.assertRaises(ProxyHeaderError, read, bytes(wrong))
                self.assertIn("checksum", str(problem))
            self.assertRaises(ProxyHeaderError, read, zeroed)


class WritingTests(SynchronousTestCase):
    """
    L{writeLine} and L{writeBinary}.
    """

    def test_same(self) -> None:
        """
        Both are what others write.
        """
        self.assertEqual(LINE, writeLine(CLIENT, SERVER))
        self.assertEqual(binary(), writeBinary(CLIENT, SERVER))
        six = IPv6Address("TCP", "2001:db8::7", 1)
        self.assertEqual(b"PROXY TCP6 2001:db8::7 2001:db8::7 1 1\r\n", writeLine(six, six))

    def test_mapped(self) -> None:
        """
        IPv4 is told as such also where a socket of both families has taken it.
        """
        mapped = IPv6Address("TCP", "::ffff:192.0.2.7", 50112), IPv6Address("TCP", "::FFFF:c633:6401", 443)
        self.assertEqual(LINE, writeLine(*mapped))
        self.assertEqual(binary(), writeBinary(*mapped))

    def test_mixed(self) -> None:
        """
        Where the two are of different families, IPv4 is told as mapped into IPv6.
        """
        six = IPv6Address("TCP", "2001:db8::1", 443)
        self.assertEqual(b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 50112 443\r\n", writeLine(CLIENT, six))
        self.assertEqual((CLIENT, six), told(writeLine(CLIENT, six)))
        self.assertEqual(0x21, writeBinary(CLIENT, six)[13])
        self.assertEqual((six, CLIENT), told(writeBinary(six, CLIENT)))

    def test_zone(self) -> None:
        """
        A zone is this machine's own business.
        """
        here = IPv6Address("TCP", "fe80::1%eth0", 1)
        self.assertEqual(b"PROXY TCP6 fe80::1 fe80::1 1 1\r\n", writeLine(here, here))

    def test_unix(self) -> None:
        """
        Whoever comes by a Unix socket is told as such, or as unknown where there is no word for it.
        """
        path = UNIXAddress("/run/shop.sock")
        self.assertEqual(b"PROXY UNKNOWN\r\n", writeLine(UNIXAddress(None), path))
        wire = writeBinary(UNIXAddress(None), path, Vectors(authority="shop.example"), True)
        header = read(wire)
        assert header is not None
        self.assertEqual((UNIXAddress(None), path), (header.source, header.destination))
        self.assertEqual("shop.example", header.vectors.authority)

    def test_nowhere(self) -> None:
        """
        Who is at no such address is not told of, and neither is who may be.
        """
        for one, other in (
            (HostnameAddress(b"shop.example", 1), SERVER),
            (UNIXAddress(None), SERVER),
            (SERVER, UNIXAddress(None)),
            (IPv4Address("TCP", "nonsense", 1), SERVER),
        ):
            self.assertEqual(b"PROXY UNKNOWN\r\n", writeLine(one, other))
            self.assertEqual(binary(0x20, 0, b""), writeBinary(one, other, Vectors(alpn=b"h2"), True))

    def test_tooLong(self) -> None:
        """
        What does not fit is refused, and not cut.
        """
        for certificate in (bytes(65520), bytes(70000)):
            told = Vectors(tls=ToldTLS(shown=True, verified=True, certificate=certificate))
            self.assertRaises(ProxyHeaderError, writeBinary, CLIENT, SERVER, told)


class PropertyTests(SynchronousTestCase):
    """
    What holds for any bytes.
    """

    @given(
        pair=st.tuples(fours, fours) | st.tuples(sixes, sixes) | st.tuples(fours, sixes) | st.tuples(paths, paths),
        vectors=vectors,
        checksum=st.booleans(),
        pieces=st.lists(st.integers(1, 60), max_size=30),
        after=st.binary(max_size=20),
    )
    def test_roundTrip(
        self, pair: tuple[IAddress, IAddress], vectors: Vectors, checksum: bool, pieces: list[int], after: bytes
    ) -> None:
        """
        What is written is read, however it is cut, and so far and no further.
        """
        unix = isinstance(pair[0], UNIXAddress)
        for wire, expected in (
            (writeBinary(*pair, vectors, checksum), pair),
            (writeLine(*pair), (None, None) if unix else pair),
        ):
            reader, seen, header = ProxyHeaderReader(), 0, None
            for piece in [*pieces, len(wire)]:
                seen += piece
                header = reader.read((wire + after)[:seen])
                if header is not None:
                    break
                self.assertLess(seen, len(wire))
                self.assertTrue(seen < reader.need <= len(wire))
            assert header is not None
            self.assertEqual((*expected, len(wire)), (header.source, header.destination, header.length))
            if header.version == 2:
                if vectors.tls is not None:
                    self.assertFalse(header.vectors.tls is None)
                self.assertEqual(vectors.others, header.vectors.others[: len(vectors.others)])

    @settings(max_examples=500)
    @given(
        data=st.binary(max_size=300)
        | st.builds(lambda rest: b"PROXY " + rest, st.binary(max_size=120))
        | st.builds(
            lambda words: b"PROXY " + b" ".join(words) + b"\r\n",
            st.lists(st.sampled_from(LINE.split()) | st.binary(max_size=9)),
        )
        | st.builds(binary, st.sampled_from([0x20, 0x21, 0x22]), st.integers(0, 255), st.binary(max_size=300))
        | st.builds(binary, block=st.binary(max_size=100).map(lambda rest: ADDRESSES + rest))
    )
    def test_anything(self, data: bytes) -> None:
        """
        Whatever comes, byte by byte or at once, the same comes of it: a header, nothing yet, or a refusal.
        """
        outcomes: list[object] = []
        for step in (1, len(data) or 1):
            reader, outcome = ProxyHeaderReader(), None
            try:
                for end in range(step, len(data) + 1, step):
                    outcome = reader.read(memoryview(data)[:end])
                    if outcome is not None:
                        self.assertLessEqual(outcome.length, end)
                        break
                    self.assertTrue(end < reader.need <= 16384)
            except ProxyHeaderError as e:
                self.assertTrue(str(e).isprintable())
                outcomes.append(ProxyHeaderError)
            else:
                outcomes.append(outcome)
        self.assertEqual(outcomes[0], outcomes[1])
