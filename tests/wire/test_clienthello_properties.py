"""
Tests for what holds for L{tlsproxy.wire.clienthello} on any bytes.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import GOOD, cutInRecords, lengthless, readAll, vector
from tlsproxy.wire.clienthello import ClientHelloReader, HelloError

cuts = st.lists(st.integers(1, 400), min_size=1, max_size=8)


class PropertyTests(SynchronousTestCase):
    """
    What holds for any bytes.
    """

    @settings(deadline=None)
    @given(cut=cuts, pieces=st.lists(st.integers(1, 300)), after=st.binary(max_size=20))
    def test_anyCutting(self, cut: list[int], pieces: list[int], after: bytes) -> None:
        """
        However a hello is cut into records and segments, the same is told about it.
        """
        wire = cutInRecords(GOOD[5:], cut)
        reader = ClientHelloReader()
        seen = 0
        hello = None
        for piece in [*pieces, len(wire)]:
            seen += piece
            hello = reader.read((wire + after)[:seen])
            if hello is not None:
                break
            self.assertLess(seen, len(wire))
            self.assertLess(seen, reader.need)
            self.assertLessEqual(reader.need, len(wire))
        assert hello is not None
        self.assertEqual(lengthless(hello), lengthless(readAll(GOOD)))
        self.assertEqual(hello.wireLength, len(wire))

    @settings(deadline=None)
    @given(cut=cuts)
    def test_needSuffices(self, cut: list[int]) -> None:
        """
        With exactly the bytes asked for, each call gets further, and no more is asked for than the hello has.
        """
        wire = cutInRecords(GOOD[5:], cut)
        reader = ClientHelloReader()
        while True:
            need = reader.need
            self.assertLessEqual(need, len(wire))
            if reader.read(wire[:need]) is not None:
                break
            self.assertGreater(reader.need, need)
        self.assertEqual(need, len(wire))

    def readToTheEnd(self, wire: bytes) -> None:
        """
        Read with exactly the bytes asked for, then with all at once; fail unless both end alike and as declared.
        """
        outcomes: list[object] = []
        reader = ClientHelloReader()
        try:
            hello = None
            while hello is None and reader.need <= len(wire):
                need = reader.need
                hello = reader.read(wire[:need])
                self.assertTrue(hello is not None or reader.need > need)
            outcomes.append(hello)
        except HelloError:
            outcomes.append(HelloError)
        try:
            outcomes.append(readAll(wire))
        except HelloError as error:
            self.assertIn(error.alert, (None, 10, 22, 47, 50, 70))
            outcomes.append(HelloError)
        self.assertEqual(outcomes[0], outcomes[1])

    @settings(deadline=None, max_examples=300)
    @given(
        cut=cuts,
        changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
        length=st.integers(0, 2000),
    )
    def test_mutated(self, cut: list[int], changes: list[tuple[int, int]], length: int) -> None:
        """
        A hello with some bytes changed or its end cut off is read, waited for or refused, and nothing else happens.
        """
        wire = bytearray(cutInRecords(GOOD[5:], cut))
        for at, value in changes:
            wire[at % len(wire)] = value
        self.readToTheEnd(bytes(wire))
        self.readToTheEnd(bytes(wire[:length]))

    @settings(deadline=None, max_examples=300)
    @given(
        changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3), length=st.integers(0, 400)
    )
    def test_mutatedMessage(self, changes: list[tuple[int, int]], length: int) -> None:
        """
        So it is when the records and the length of the message are right and its body is not.
        """
        body = bytearray(GOOD[9:])
        for at, value in changes:
            body[at % len(body)] = value
        self.readToTheEnd(cutInRecords(b"\1" + vector(3, bytes(body))))
        self.readToTheEnd(cutInRecords(b"\1" + vector(3, bytes(body[:length]))))

    @settings(deadline=None)
    @given(
        data=st.binary(max_size=100), prefix=st.sampled_from([b"", b"\x16", b"\x16\3\1", b"\x16\3\1\0\x20\1\0\0\x1c"])
    )
    def test_arbitrary(self, data: bytes, prefix: bytes) -> None:
        """
        So it is with any bytes at all.
        """
        self.readToTheEnd(prefix + data)
