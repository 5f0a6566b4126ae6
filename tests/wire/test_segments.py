"""
Tests for L{tlsproxy.wire.segments}.
"""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.handlers.reading import ACK, FIN, RST, Segment, segment, streams
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.wire.segments import MOST, Conversation, Station, addressOf

CLIENT: Station = (ip_address("192.0.2.7"), 50112)
SERVER: Station = (ip_address("198.51.100.9"), 80)
CLIENT6: Station = (ip_address("2001:db8::7"), 50112)
SERVER6: Station = (ip_address("2001:db8::9"), 80)
NOWHERE: Station = (None, 7)

numbers = st.integers(0, 2**40) | st.sampled_from([2**32 - 2, 2**32 - 1, 2**32 - 20])


class Talk:
    """
    A conversation, with all its segments so far.
    """

    def __init__(self, client: Station = CLIENT, server: Station = SERVER, numbers: tuple[int, int] = (0, 0)) -> None:
        self.conversation = Conversation(client, server, numbers)
        self.segments = [segment(packet) for packet in self.conversation.open()]

    def send(self, way: Way, data: bytes) -> None:
        """
        Say something.
        """
        self.segments += [segment(header + bytes(piece)) for header, piece in self.conversation.send(way, data)]

    def add(self, header: bytes) -> Segment:
        """
        Keep a segment.
        """
        self.segments.append(segment(header))
        return self.segments[-1]


class ConversationTests(SynchronousTestCase):
    """
    The segments of whole connections; the reader checks their numbers and checksums.
    """

    def test_small(self) -> None:
        """
        A question, an answer, and two ends.
        """
        talk = Talk(numbers=(100, 2000))
        talk.send(OUTWARD, b"question")
        talk.send(INWARD, b"answer!")
        talk.add(talk.conversation.end(INWARD))
        talk.add(talk.conversation.end(OUTWARD))
        last = talk.add(talk.conversation.acknowledge(INWARD))
        self.assertEqual(streams(talk.segments), (b"question", b"answer!"))
        self.assertEqual(
            [(one.source, one.number, one.acknowledged, one.data) for one in talk.segments],
            [
                ("192.0.2.7:50112", 100, 0, b""),
                ("198.51.100.9:80", 2000, 101, b""),
                ("192.0.2.7:50112", 101, 2001, b""),
                ("192.0.2.7:50112", 101, 2001, b"question"),
                ("198.51.100.9:80", 2001, 109, b"answer!"),
                ("198.51.100.9:80", 2008, 109, b""),
                ("192.0.2.7:50112", 109, 2009, b""),
                ("198.51.100.9:80", 2009, 110, b""),
            ],
        )
        self.assertEqual([one.flags & FIN for one in talk.segments], [0, 0, 0, 0, 0, 1, 1, 0])
        self.assertEqual(last.flags, ACK)

    @given(
        client=st.sampled_from([CLIENT, CLIENT6, NOWHERE]),
        server=st.sampled_from([SERVER, SERVER6, (None, 8)]),
        numbers=st.tuples(numbers, numbers),
        said=st.lists(st.tuples(st.sampled_from([OUTWARD, INWARD]), st.binary(min_size=1, max_size=60))),
    )
    def test_anything(
        self, client: Station, server: Station, numbers: tuple[int, int], said: list[tuple[Way, bytes]]
    ) -> None:
        """
        Whatever is said is in the segments, with numbers that pass 4 GiB and checksums that are right, in IPv4, IPv6,
        and where one side is in the one and one in the other.
        """
        talk = Talk(client, server, numbers)
        for way, data in said:
            talk.send(way, data)
        expected = tuple(b"".join(data for way, data in said if way == wanted) for wanted in (OUTWARD, INWARD))
        self.assertEqual(streams(talk.segments), expected)

    def test_long(self) -> None:
        """
        Bytes are cut into segments of a bounded size, and acknowledged from time to time.
        """
        talk = Talk()
        data = bytes(range(251)) * 13000
        talk.send(OUTWARD, data)
        for _ in range(100):
            talk.send(INWARD, b"x")
        self.assertEqual(streams(talk.segments), (data, b"x" * 100))
        self.assertLessEqual(max(len(one.data) for one in talk.segments), MOST)
        silent = 0
        for before, one in zip(talk.segments, talk.segments[1:], strict=False):
            silent = silent + 1 if before.source == one.source else 0
            self.assertLess(silent, 40)
        bare = [one for one in talk.segments[3:] if not one.data]
        self.assertEqual({one.source for one in bare}, {"192.0.2.7:50112", "198.51.100.9:80"})

    def test_beyondFourGibibytes(self) -> None:
        """
        Numbers begin again after 4 GiB.
        """
        talk = Talk(numbers=(2**32 - 3, 0))
        talk.send(OUTWARD, b"abcdef")
        talk.send(INWARD, b"x")
        self.assertEqual(streams(talk.segments), (b"abcdef", b"x"))
        self.assertEqual(talk.segments[-1].acknowledged, 4)

    def test_reset(self) -> None:
        """
        A reset comes where the bytes have got to.
        """
        talk = Talk()
        talk.send(OUTWARD, b"abc")
        reset = talk.add(talk.conversation.reset(INWARD))
        self.assertEqual((reset.flags, reset.source, reset.acknowledged), (RST | ACK, "198.51.100.9:80", 4))
        streams(talk.segments)

    def test_families(self) -> None:
        """
        An IPv4 address beside an IPv6 one is written as IPv6 does, and an unknown one as zeros.
        """
        for client, server, source, target in (
            (CLIENT, SERVER6, "::ffff:c000:207:50112", "2001:db8::9:80"),
            (CLIENT6, SERVER, "2001:db8::7:50112", "::ffff:c633:6409:80"),
            (NOWHERE, SERVER, "0.0.0.0:7", "198.51.100.9:80"),
            (NOWHERE, SERVER6, ":::7", "2001:db8::9:80"),
            (NOWHERE, NOWHERE, "0.0.0.0:7", "0.0.0.0:7"),
        ):
            first = Talk(client, server).segments[0]
            self.assertEqual((first.source, first.target), (source, target))

    def test_addressOf(self) -> None:
        """
        Addresses are read as they stand in sockets; what is none is not known.
        """
        for text, expected in (
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0", "fe80::1"),
        ):
            self.assertEqual(str(addressOf(text)), expected)
        for text in ("shop.example", "", "/run/shop"):
            self.assertIsNone(addressOf(text))
