"""
Tests of L{tlsproxy.wire.clienthello} with hellos of all sizes, up to the limit and beyond it.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire import clienthellos
from tests.wire.clienthellos import Extension, helloMessage, lengthless, numbers, readAll, vector
from tlsproxy.wire.clienthello import ClientHello, ClientHelloReader, HelloError

LIMIT = ClientHelloReader.LIMIT
FULL = 16384  # bytes that a record may carry
SEGMENT = 1460  # bytes that a segment carries on most networks

KEY_SHARE = 51
PADDED = [
    clienthellos.serverName(b"shop.example"),
    clienthellos.groups(0x11EC, 29),
    clienthellos.versions(0x0304),
]


def records(message: bytes, size: int) -> bytes:
    """
    Cut a message into records, quickly even when they are many.

    @param size: How many bytes go into each.
    """
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join([b"\x16\3\1" + vector(2, part) for part in parts])


def onTheWire(size: int, cut: int) -> int:
    """
    Tell how long a message of so many bytes gets in records of so many.
    """
    return size + 5 * -(-size // cut)


def message(size: int) -> bytes:
    """
    Make the message of a hello of so many bytes in all.
    """
    return helloMessage(PADDED, size=size)


def keyShare(*lengths: int) -> Extension:
    """
    Make the extension of RFC 8446, section 4.2.8.

    @param lengths: How long each key is.
    """
    shares = b"".join(numbers([0x11EC + at]) + vector(2, bytes(length)) for at, length in enumerate(lengths))
    return KEY_SHARE, vector(2, shares)


class SizeTests(SynchronousTestCase):
    """
    Long hellos.
    """

    def readBySteps(self, wire: bytes) -> ClientHello:
        """
        Read with exactly the bytes asked for each time, and never more of them than the limit.

        @raise HelloError: The reader refused.
        """
        reader = ClientHelloReader()
        view = memoryview(wire)
        while True:
            self.assertLessEqual(reader.need, min(len(wire), LIMIT))
            need = reader.need
            hello = reader.read(view[:need])
            if hello is not None:
                self.assertEqual((need, hello.wireLength), (len(wire), len(wire)))
                return hello
            self.assertGreater(reader.need, need)

    def assertRead(self, size: int, cut: int) -> None:
        """
        Fail unless a hello of so many bytes is read from records of so many.
        """
        hello = self.readBySteps(records(message(size), cut))
        self.assertEqual(hello.serverName, "shop.example")

    def assertRefused(self, size: int, cut: int) -> None:
        """
        Fail unless a hello of so many bytes, in records of so many, is refused for its length.
        """
        error = self.assertRaises(HelloError, self.readBySteps, records(message(size), cut))
        self.assertEqual((str(error), error.alert), (f"the client's hello takes more than {LIMIT} bytes", 47))

    def test_aroundAFullRecord(self) -> None:
        """
        A hello may fill a record to its last byte, or need another for its last.
        """
        for size in (FULL - 1, FULL, FULL + 1, 2 * FULL, 2 * FULL + 1, 3 * FULL, 3 * FULL + 1):
            self.assertRead(size, FULL)

    def test_longestOfEachCut(self) -> None:
        """
        For records of any size, the longest hello that stays within the limit is read, and a byte more is refused.
        """
        for cut in (1, 2, 3, 5, 7, 64, 255, 256, 1000, SEGMENT, 4096, FULL - 1, FULL):
            size = max(size for size in range(LIMIT * cut // (cut + 5) - 5, LIMIT) if onTheWire(size, cut) <= LIMIT)
            self.assertRead(size, cut)
            self.assertRefused(size + 1, cut)

    @settings(deadline=None, max_examples=60)
    @given(size=st.integers(200, 65570), cut=st.one_of(st.integers(1, 40), st.integers(40, FULL)))
    def test_anySize(self, size: int, cut: int) -> None:
        """
        Whether a hello is read depends on nothing but how many bytes it takes on the wire.
        """
        if onTheWire(size, cut) <= LIMIT:
            self.assertRead(size, cut)
        else:
            self.assertRefused(size, cut)

    @settings(deadline=None, max_examples=60)
    @given(claimed=st.integers(LIMIT - 20, 0xFFFFFF), first=st.integers(4, FULL))
    def test_claimIsEnough(self, claimed: int, first: int) -> None:
        """
        A hello that claims to be too long is refused by its ninth byte, whatever would come.
        """
        wire = b"\x16\3\1" + numbers([first]) + b"\1" + claimed.to_bytes(3, "big")
        reader = ClientHelloReader()
        self.assertIsNone(reader.read(wire[:8]))
        error = self.assertRaises(HelloError, reader.read, wire)
        self.assertEqual(error.alert, 47)


class PostQuantumTests(SynchronousTestCase):
    """
    Hellos with the long keys of post-quantum groups, which seldom fit into one segment.
    """

    def hello(self, *keys: int, nameLast: bool = False) -> bytes:
        """
        Make the message of a hello with keys of such lengths.
        """
        extensions = [*PADDED, keyShare(*keys)]
        return helloMessage(extensions[::-1] if nameLast else extensions, sessionID=bytes(32))

    def test_usualKeys(self) -> None:
        """
        With the keys of the usual groups a hello takes 1.2 to 4 KB; in usual segments it is slept for, and is read with
        the last one.
        """
        # X25519MLKEM768; SecP384r1MLKEM1024; MLKEM1024; the first with X25519, and with the second.
        for keys in ((1216,), (1665,), (1568,), (1216, 32), (1216, 1665), (1216, 1665, 32, 97)):
            wire = records(self.hello(*keys), FULL)
            self.assertTrue(1200 < len(wire) < 4096)
            reader = ClientHelloReader()
            for seen in range(SEGMENT, len(wire), SEGMENT):
                self.assertIsNone(reader.read(wire[:seen]))
                self.assertEqual(reader.need, len(wire))
            self.assertEqual(reader.read(wire), readAll(wire))

    def test_nameBehindTheKey(self) -> None:
        """
        It makes no difference whether the name comes before the key or after it, in a later segment or record.
        """
        for cut in (FULL, 1200, 1000, 100):
            found = [readAll(records(self.hello(1216, 32, nameLast=last), cut)) for last in (False, True)]
            self.assertEqual([hello and hello.serverName for hello in found], ["shop.example"] * 2)

    @settings(deadline=None)
    @given(
        keys=st.lists(st.integers(32, 1700), min_size=1, max_size=4),
        nameLast=st.booleans(),
        cut=st.integers(1, 4000),
        segment=st.integers(200, 1500),
    )
    def test_anyKeys(self, keys: list[int], nameLast: bool, cut: int, segment: int) -> None:
        """
        Keys of any length, in any records and segments, are read over.
        """
        whole = self.hello(*keys, nameLast=nameLast)
        wire = records(whole, cut)
        reader = ClientHelloReader()
        hello = None
        for seen in range(segment, len(wire) + segment, segment):
            self.assertIsNone(hello)
            hello = reader.read(wire[:seen])
        assert hello is not None
        self.assertEqual(lengthless(hello), lengthless(readAll(records(whole, FULL))))
        self.assertEqual((hello.serverName, hello.wireLength), ("shop.example", len(wire)))
