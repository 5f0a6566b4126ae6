"""
Tests for the fragments of L{tlsproxy.wire.dtlshello}.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.dtlshellos import body, cut, fragment, record, wholeHello
from tests.wire.realdtlshellos import COOKIE
from tlsproxy.wire.clienthello import HelloError
from tlsproxy.wire.dtls import records
from tlsproxy.wire.dtlshello import (
    FragmentedHello,
    HelloPieces,
    HelloStart,
    helloVerifyRequest,
    readHello,
    readStart,
)


class HelloPiecesTests(SynchronousTestCase):
    """
    L{HelloPieces} puts a hello together.
    """

    def test_order(self) -> None:
        """
        Fragments may come in any order.
        """
        content = body(COOKIE)
        datagrams = cut(content, [30])
        pieces = HelloPieces()
        for datagram in reversed(datagrams[1:]):
            self.assertIsNone(pieces.take(datagram))
        hello = pieces.take(datagrams[0])
        assert hello is not None
        self.assertEqual((hello.cookie, hello.recordSequence), (COOKIE, 0))
        self.assertEqual(pieces.datagrams, [*reversed(datagrams[1:]), datagrams[0]])

    def test_again(self) -> None:
        """
        What is sent again brings nothing new and is not kept, in pieces of another size either.
        """
        content = body()
        datagrams = cut(content, [50])
        pieces = HelloPieces()
        for _ in range(1000):
            self.assertIsNone(pieces.take(datagrams[0]))
        for datagram in cut(content, [20])[:2]:
            self.assertIsNone(pieces.take(datagram))
        self.assertEqual(pieces.datagrams, datagrams[:1])
        self.assertIsNone(pieces.take(cut(content, [30])[1]))
        self.assertEqual(len(pieces.datagrams), 2)

    def test_severalInADatagram(self) -> None:
        """
        Several fragments may come in one datagram.
        """
        datagram = b"".join(cut(body(), [40]))
        hello = HelloPieces().take(datagram)
        assert hello is not None
        self.assertEqual(hello.hello.wireLength, len(datagram))

    def test_contradiction(self) -> None:
        """
        Fragments that tell two things of one byte are refused, and so are those of two messages; what was there before
        stays, and is put together when the right ones come.
        """
        content = body()
        changed = bytes([content[0], content[1] ^ 1]) + content[2:]
        datagrams = cut(content, [50])
        pieces = HelloPieces()
        self.assertIsNone(pieces.take(datagrams[0]))
        for wrong, sentence in (
            (cut(changed, [50])[0], "two fragments of the client's hello contradict each other"),
            (wholeHello(changed), "two fragments of the client's hello contradict each other"),
            (cut(content, [50], sequence=1)[1], "the fragments of the client's hello are not of one message"),
            (cut(content + b"x", [50])[1], "the fragments of the client's hello are not of one message"),
            (datagrams[1] + cut(changed, [60])[0], "two fragments of the client's hello contradict each other"),
        ):
            error = self.assertRaises(HelloError, pieces.take, wrong)
            self.assertEqual((str(error), error.alert), (sentence, 47))
        self.assertEqual(pieces.datagrams, datagrams[:1])
        read = [pieces.take(datagram) for datagram in datagrams[1:]]
        self.assertIsNotNone(read[-1])

    def test_manyPieces(self) -> None:
        """
        More fragments than are bearable are refused, and sooner when they come in one datagram.
        """
        datagrams = cut(body(extensions=[(21, bytes(1000))]), [1])
        sentence = "the client's hello comes in more than 64 fragments"
        pieces = HelloPieces()
        for datagram in datagrams[:64]:
            self.assertIsNone(pieces.take(datagram))
        self.assertEqual(str(self.assertRaises(HelloError, pieces.take, datagrams[64])), sentence)
        self.assertIsNone(HelloPieces().take(b"".join(datagrams[:16])))
        problem = self.assertRaises(HelloError, HelloPieces().take, b"".join(datagrams[:17]))
        self.assertIn("the datagram holds more than 16 DTLS records", str(problem))

    def filling(self, size: int) -> list[bytes]:
        """
        Make the five datagrams of a hello that takes so many bytes.
        """
        padding = size - 5 * 25 - len(body(extensions=[(21, b"")]))
        datagrams = cut(body(extensions=[(21, bytes(padding))]), [16000])
        self.assertEqual((len(datagrams), sum(map(len, datagrams))), (5, size))
        return datagrams

    def test_tooMuch(self) -> None:
        """
        A hello that takes more than 64 KiB is refused as soon as that is known, and no memory is set aside for one.
        """
        sentence = "the client's hello takes more than 65536 bytes"
        announced = record(fragment(b"\xfe", 0, 65536))
        self.assertEqual(str(self.assertRaises(HelloError, HelloPieces().take, announced)), sentence)
        pieces = HelloPieces()
        datagrams = self.filling(65537)
        for datagram in datagrams[:-1]:
            self.assertIsNone(pieces.take(datagram))
        error = self.assertRaises(HelloError, pieces.take, datagrams[-1])
        self.assertEqual((str(error), error.alert), (sentence, 47))

    def test_largest(self) -> None:
        """
        One that takes 64 KiB is read.
        """
        pieces = HelloPieces()
        read = [pieces.take(datagram) for datagram in self.filling(65536)]
        hello = read[-1]
        assert hello is not None
        self.assertEqual(hello.hello.wireLength, 65536)

    @settings(deadline=None)
    @given(data=st.data(), sizes=st.lists(st.integers(4, 90), min_size=1, max_size=6))
    def test_anyOrder(self, data: st.DataObject, sizes: list[int]) -> None:
        """
        However a hello is cut, and in whatever order its fragments come, twice as well, the same is read.
        """
        content = body(COOKIE)
        whole = readHello(wholeHello(content))
        datagrams = cut(content, sizes)
        more = data.draw(st.lists(st.sampled_from([*datagrams, *cut(content, [45])]), max_size=10))
        coming = data.draw(st.permutations([*datagrams, *more]))
        pieces = HelloPieces()
        for datagram in coming:
            hello = pieces.take(datagram)
            if hello is not None:
                break
        assert hello is not None
        self.assertEqual((hello.parameters, hello.cookie), (whole.parameters, COOKIE))
        self.assertEqual(hello.hello.serverName, whole.hello.serverName)
        self.assertEqual(hello.hello.wireLength, sum(map(len, pieces.datagrams)))

    def test_lessIsWanted(self) -> None:
        """
        A lower limit may be set, which holds for what is announced, too.
        """
        datagrams = cut(body(COOKIE), [60])
        size = sum(map(len, datagrams))
        pieces = HelloPieces(size)
        self.assertIsNotNone([pieces.take(datagram) for datagram in datagrams][-1])
        pieces = HelloPieces(size - 1)
        for datagram in datagrams[:-1]:
            pieces.take(datagram)
        error = self.assertRaises(HelloError, pieces.take, datagrams[-1])
        self.assertEqual(str(error), f"the client's hello takes more than {size - 1} bytes")
        self.assertRaises(HelloError, HelloPieces(16384).take, record(fragment(b"\xfe", 0, 16384)))

    @settings(deadline=None)
    @given(data=st.data(), sizes=st.lists(st.integers(4, 90), min_size=1, max_size=6))
    def test_whole(self, data: st.DataObject, sizes: list[int]) -> None:
        """
        A hello can be written down as if it had come whole, with the numbers of its first fragment.
        """
        content = body(COOKIE)
        pieces = HelloPieces()
        for datagram in data.draw(st.permutations(cut(content, sizes, sequence=1))):
            pieces.take(b"".join((datagram[:10], bytes([datagram[10] + 7]), datagram[11:])))
        self.assertEqual(pieces.whole(), wholeHello(content, sequence=1, recordSequence=7))
        (only,) = records(pieces.whole())
        self.assertEqual((only.version, only.epoch), (0xFEFF, 0))


class StartTests(SynchronousTestCase):
    """
    What the first fragment of a hello tells.
    """

    def test_told(self) -> None:
        """
        The cookie and what comes before it, whether the hello is whole or not.
        """
        content = body(COOKIE, sessionID=b"session")
        first = cut(content, [80], sequence=1)[0]
        start = HelloStart(COOKIE, 1, 0, content[:42], len(first))
        self.assertEqual(readStart(first), start)
        hello = readHello(wholeHello(content, sequence=1))
        self.assertEqual((hello.opening, hello.cookie), (start.opening, start.cookie))
        self.assertEqual(readStart(wholeHello(content, sequence=1)).opening, start.opening)

    def test_never(self) -> None:
        """
        No other fragment does, nor one that ends before its cookie does.
        """
        content = body(COOKIE, sessionID=b"session")
        first, *others = cut(content, [75])
        self.assertEqual(readStart(first).cookie, COOKIE)
        for datagram in (*others, *[cut(content, [size])[0] for size in range(1, 75)]):
            self.assertRaises(FragmentedHello, readStart, datagram)

    def test_neverLonger(self) -> None:
        """
        The answer to the shortest of all is no longer than that.
        """
        first = cut(body(), [36])[0]
        self.assertTrue(len(helloVerifyRequest(readStart(first), COOKIE)) <= len(first))

    @given(size=st.integers(1, 200), junk=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4))
    def test_anything(self, size: int, junk: list[tuple[int, int]]) -> None:
        """
        Whatever comes is read or refused.
        """
        datagram = bytearray(cut(body(COOKIE, sessionID=b"session"), [size])[0])
        for place, value in junk:
            datagram[place % len(datagram)] = value
        try:
            start = readStart(bytes(datagram))
        except HelloError:
            return
        self.assertEqual(start.wireLength, len(datagram))
        self.assertLessEqual(35, len(start.opening))
