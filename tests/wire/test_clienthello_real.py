"""
Tests of L{tlsproxy.wire.clienthello} and what describes its hellos with what real programs sent.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import ENCRYPTED_CLIENT_HELLO, PRE_SHARED_KEY, cutInRecords, lengthless, readAll
from tests.wire.realhellos import REAL_HELLOS, RealHello
from tlsproxy.wire.clienthello import ClientHello, ClientHelloReader
from tlsproxy.wire.helloline import describeALPN, describeGroups, describeVersions
from tlsproxy.wire.ja4 import ja4

# What others measured and published for programs of these families.
PUBLISHED = {
    "curl 7.88.1": "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6",
    "Firefox": "t13d1617h2_86a278354501_3cbfd9057e0d",
    "Chromium": "t13d1517h2_8daaf6152771_cb7bf5808d99",
}


def parsed(real: RealHello) -> ClientHello:
    """
    Read a hello as it was sent.
    """
    hello = readAll(real.wire)
    assert hello is not None
    return hello


def firstSuite(wire: bytes) -> tuple[int, int]:
    """
    Find the cipher suites of a hello that is in one record.

    @return: How many there are, and the first.
    """
    at = 43 + 1 + wire[43]
    return int.from_bytes(wire[at : at + 2], "big") // 2, int.from_bytes(wire[at + 2 : at + 4], "big")


class ContentTests(SynchronousTestCase):
    """
    What is in them.
    """

    def test_all(self) -> None:
        """
        Each is understood, to its last byte.
        """
        for real in REAL_HELLOS:
            hello = parsed(real)
            self.assertEqual(
                (
                    hello.serverName,
                    describeALPN(hello),
                    describeVersions(hello),
                    describeGroups(hello),
                    ENCRYPTED_CLIENT_HELLO in hello.extensions,
                    hello.wireLength,
                ),
                (real.name, real.alpn, real.versions, real.groups, real.ech, len(real.wire)),
                real.program,
            )

    def test_fingerprints(self) -> None:
        """
        Each has its fingerprint.
        """
        for real in REAL_HELLOS:
            self.assertEqual(ja4(parsed(real)), real.ja4, real.program)

    def test_publishedFingerprints(self) -> None:
        """
        Where others published the fingerprint of a program, it is the same.
        """
        for family, published in PUBLISHED.items():
            found = {ja4(parsed(real)) for real in REAL_HELLOS if real.program.startswith(family)}
            self.assertEqual(found, {published}, family)

    def test_shuffled(self) -> None:
        """
        Chromium sends its extensions in another order each time, and keeps its fingerprint.
        """
        first, second = (parsed(real) for real in REAL_HELLOS if real.program.startswith("Chromium"))
        self.assertNotEqual(first.extensions, second.extensions)
        self.assertEqual(ja4(first), ja4(second))

    def test_reservedNumbers(self) -> None:
        """
        Chromium sends a number of RFC 8701 as its first cipher suite, and others elsewhere; none of them is told.
        """
        for real in REAL_HELLOS:
            hello = parsed(real)
            count, first = firstSuite(real.wire)
            greasy = real.program.startswith("Chromium")
            self.assertEqual(first & 0x0F0F == 0x0A0A, greasy, real.program)
            self.assertEqual(len(hello.cipherSuites), count - greasy, real.program)
            told = (*hello.cipherSuites, *hello.extensions, *hello.groups, *hello.versions, *hello.signatureAlgorithms)
            self.assertEqual([number for number in told if number & 0x0F0F == 0x0A0A], [], real.program)

    def test_encryptedHello(self) -> None:
        """
        The browsers send an encrypted hello, or what looks like one; the name told is the one that all can read.
        """
        found = {real.program.split()[0]: parsed(real) for real in REAL_HELLOS if real.ech}
        self.assertEqual(set(found), {"Chromium", "Firefox", "pyOpenSSL"})
        self.assertEqual({hello.serverName for hello in found.values()}, {"shop.example"})

    def test_resumption(self) -> None:
        """
        A hello that resumes a session ends with the pre-shared key.
        """
        (hello,) = (parsed(real) for real in REAL_HELLOS if "-sess_in" in real.program)
        self.assertEqual(hello.extensions[-1], PRE_SHARED_KEY)


class CutTests(SynchronousTestCase):
    """
    Cut into segments and records.
    """

    def test_byteByByte(self) -> None:
        """
        Byte by byte, each is awaited to its last byte, and is then the same.
        """
        for real in REAL_HELLOS:
            reader = ClientHelloReader()
            view = memoryview(real.wire)
            for seen in range(len(view)):
                self.assertIsNone(reader.read(view[:seen]))
                self.assertTrue(seen < reader.need <= len(view))
            self.assertEqual(reader.read(view), parsed(real), real.program)

    def test_twoSegments(self) -> None:
        """
        Cut in two anywhere, each is the same.
        """
        for real in REAL_HELLOS:
            view, whole = memoryview(real.wire), parsed(real)
            for cut in range(len(view)):
                reader = ClientHelloReader()
                self.assertIsNone(reader.read(view[:cut]))
                self.assertEqual(reader.read(view), whole)

    def test_recordsOfEachSize(self) -> None:
        """
        In records of each size from one byte to all of them, each is the same but for its length on the wire.
        """
        for real in REAL_HELLOS:
            message, whole = real.wire[5:], lengthless(parsed(real))
            for size in range(1, len(message) + 1):
                cut = cutInRecords(message, size)
                hello = readAll(cut)
                self.assertEqual(lengthless(hello), whole)
                assert hello is not None
                self.assertEqual(hello.wireLength, len(cut))

    @settings(deadline=None)
    @given(
        real=st.sampled_from(REAL_HELLOS),
        sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=10),
        segments=st.lists(st.integers(1, 1500), max_size=20),
    )
    def test_recordsAndSegments(self, real: RealHello, sizes: list[int], segments: list[int]) -> None:
        """
        In records and segments of any sizes, each is the same but for its length on the wire.
        """
        wire = cutInRecords(real.wire[5:], sizes)
        reader = ClientHelloReader()
        seen, hello = 0, None
        for segment in [*segments, len(wire)]:
            seen += segment
            hello = hello or reader.read(wire[:seen])
        assert hello is not None
        self.assertEqual((lengthless(hello), hello.wireLength), (lengthless(parsed(real)), len(wire)))
