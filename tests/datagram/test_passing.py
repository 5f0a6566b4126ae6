"""
Tests for L{tlsproxy.datagram.passing}.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

from tests.datagram.ports import PortCase
from tests.datagram.test_proof import ANSWER, DATA, FINISHED, asking
from tests.datagram.wires import THERE
from tests.wire.test_dtlsoutside import message, record
from tlsproxy.datagram.end import DatagramEnd
from tlsproxy.datagram.paces import ALL
from tlsproxy.datagram.passed import PassedEnd
from tlsproxy.datagram.passing import GARBAGE, PACE, UNFINISHED
from tlsproxy.datagram.sending import FULL
from tlsproxy.tls.datagrams import DTLSConnection

OTHER = ("192.0.2.8", 40000)
LONG = tuple(f"protocol-{number:03}" for number in range(30))


def address(number: int) -> tuple[str, int]:
    """
    Make one of many addresses, each in a network of its own.
    """
    return f"198.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 40000


class PassingCase(PortCase):
    """
    A port whose clients speak DTLS with somebody else.

    @ivar came: What came to each of its associations.
    @ivar ended: How associations have ended.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.came: list[list[bytes]] = []
        self.ended: list[tuple[DatagramEnd, str, str]] = []
        super().setUp()

    def listen(self, **more: Any) -> None:
        """
        Begin anew.
        """
        super().listen(dtls=False, hellos=True, **more)

    def accept(self, end: DatagramEnd) -> None:
        """
        Have what comes noted.
        """
        self.accepted.append(end)
        came: list[bytes] = []
        self.came.append(came)
        end.onEnd = lambda *how: self.ended.append((end, *how))
        end.join(lambda datagram, count: came.append(bytes(datagram.view[:count])))

    def hello(self, name: str = "shop.example", mtu: int = 1200, alpn: tuple[str, ...] = ()) -> list[bytes]:
        """
        Make a hello.
        """
        connection = self.client(name=name, alpn=alpn).begin(DTLSConnection, mtu)
        try:
            connection.handshake()
        except Exception:
            pass
        return connection.output()

    def second(self, name: str = "shop.example") -> bytes:
        """
        Make a hello that brings back a cookie.
        """
        connection = self.client(name=name).begin(DTLSConnection, 1200)
        for _ in range(2):
            try:
                connection.handshake()
            except Exception:
                pass
            datagrams = connection.output()
            connection.receive(asking(b"cookie"))
        return datagrams[0]

    def answer(self, number: int, datagram: bytes) -> None:
        """
        Have the upstream of an association say something.
        """
        self.accepted[number].send(datagram)

    def prove(self, number: int = 0, name: str = "shop.example") -> None:
        """
        Have the client of an association show that it is there.
        """
        end = self.accepted[number]
        self.answer(number, asking(b"cookie"))
        self.come(self.second(name), end.wire.address)  # type: ignore[attr-defined]
        self.assertFalse(end.unproven)


class HelloTests(PassingCase):
    """
    Hellos from where there is no association.
    """

    def test_whole(self) -> None:
        """
        A hello makes an association, and goes on as it came, as does what follows.
        """
        (datagram,) = self.hello()
        rest = [record(22, message(16, b"key")) + FINISHED, DATA, b"\x2f is of DTLS 1.3", b"\x19 has a connection ID"]
        for one in (datagram, *rest):
            self.come(one)
        self.assertEqual(self.came, [[datagram, *rest]])
        self.assertEqual((len(self.port.ends), len(self.port.halfOpen), self.port.dropped), (1, 1, {}))
        self.assertEqual(self.accepted[0].dtlsHello.hello.serverName, "shop.example")  # type: ignore[union-attr]

    def test_garbage(self) -> None:
        """
        Nothing else makes one.
        """
        (datagram,) = self.hello()
        junk = (b"", b"x", DATA, FINISHED, datagram[:-1], datagram + DATA, DATA + datagram, datagram[:13] + b"\1")
        for one in junk:
            self.come(one)
        self.assertEqual((self.port.ends, self.port.dropped, list(self.sock.sent)), ({}, {GARBAGE: len(junk)}, []))

    def test_fragments(self) -> None:
        """
        A hello in fragments makes one when it is whole, in whatever order they come and however often.
        """
        pieces = self.hello(mtu=256, alpn=LONG)
        self.assertTrue(len(pieces) > 1)
        for one in (*reversed(pieces[1:]), pieces[-1]):
            self.come(one)
        self.assertEqual(self.port.ends, {})
        self.come(pieces[0])
        self.assertEqual([sorted(came) for came in self.came], [sorted(pieces)])
        self.assertEqual(self.port._passing._bytes, 0)

    def test_begunAnew(self) -> None:
        """
        Where fragments do not belong together the last ones count.
        """
        first, second = self.hello(mtu=256, alpn=LONG), self.hello("desk.example", 256, LONG)
        for one in (first[0], *second):
            self.come(one)
        self.assertEqual(self.accepted[0].dtlsHello.hello.serverName, "desk.example")  # type: ignore[union-attr]
        self.come(first[0], OTHER)
        self.come(first[1][:40], OTHER)
        endless = record(22, b"\1\xff\xff\xff" + bytes(5) + b"\0\0\4" + b"part")
        self.come(endless, OTHER)
        self.assertEqual(self.port.dropped, {GARBAGE: 2})

    def test_unfinished(self) -> None:
        """
        Parts of hellos are kept for some seconds, of so many clients, and up to so many bytes.
        """
        piece = self.hello(mtu=256, alpn=LONG)[0]
        for number in range(300):
            self.come(piece, address(number))
        self.assertEqual((len(self.port._passing._parts), self.port.dropped), (256, {UNFINISHED: 44}))
        self.reactor.advance(6)
        self.come(piece)
        self.assertEqual((len(self.port._passing._parts), self.port._passing._bytes), (1, len(piece)))
        self.setUp()
        large = record(22, b"\1" + b"\0\xe0\0" + b"\0\0" + bytes(3) + (16000).to_bytes(3, "big") + bytes(16000))
        more = record(22, b"\1" + b"\0\xe0\0" + b"\0\0" + b"\0\x3e\x80" + (16000).to_bytes(3, "big") + bytes(16000))
        for number in range(300):
            self.come(large, address(number))
            self.come(more, address(number))
        self.assertTrue(self.port._passing._bytes <= 4 << 20)
        self.assertTrue(len(self.port._passing._parts) < 150)

    def test_notListening(self) -> None:
        """
        A port that is closed takes nobody new, and goes on with the others.
        """
        (datagram,) = self.hello()
        self.come(datagram)
        self.port.stopListening()
        self.come(datagram, OTHER)
        self.come(self.hello("desk.example")[0])
        self.come(datagram)
        self.assertEqual((self.came, self.port.pending), ([[datagram, datagram]], {}))

    def test_otherTerms(self) -> None:
        """
        An association that began under other terms goes on.
        """
        (datagram,) = self.hello()
        PortCase.listen(self, dtls=False)
        self.come(b"in clear")
        self.port.terms = type(self.port.terms)(dtls=False, hellos=True)
        self.come(b"and more")
        self.come(datagram, OTHER)
        self.port.terms = type(self.port.terms)(dtls=False)
        self.come(DATA, OTHER)
        self.assertEqual(self.came, [[b"in clear", b"and more"], [datagram, DATA]])


class BoundTests(PassingCase):
    """
    Many clients, none of whom shows anything.
    """

    def test_number(self) -> None:
        """
        Where there are too many unproven ones, the oldest gives way, and who is proven stays.
        """
        self.listen(halfOpen=3)
        (datagram,) = self.hello()
        self.come(datagram)
        self.prove()
        for number in range(5):
            self.come(datagram, address(number))
        self.assertEqual(list(self.port.ends), [THERE, *map(address, range(2, 5))])
        self.assertEqual([end for end, *_ in self.ended], self.accepted[1:3])
        self.assertEqual(self.ended[0][1], "refused")

    def test_most(self) -> None:
        """
        There are so many associations in all.
        """
        self.listen(most=2)
        for number in range(3):
            self.come(self.hello()[0], address(number))
        self.assertEqual((len(self.port.ends), self.port.dropped), (2, {FULL: 1}))

    def test_all(self) -> None:
        """
        So many come a second.
        """
        (datagram,) = self.hello()
        for number in range(2 * ALL):
            self.come(datagram, address(number))
        self.assertEqual((len(self.accepted), self.port.dropped), (ALL, {PACE: ALL}))
        self.reactor.advance(1)
        self.come(datagram, THERE)
        self.assertIn(THERE, self.port.ends)

    def test_network(self) -> None:
        """
        And so many of one network.
        """
        for prefixes, name, more in (
            ((32, 64), "192.0.2.7", []),
            ((24, 64), "192.0.2.%d", []),
            ((32, 64), "2001:db8::%x", [0, 0]),
            ((32, 64), "::ffff:192.0.2.7", [0, 0]),
        ):
            self.accepted = []
            self.listen(pace=2, prefixes=prefixes)
            (datagram,) = self.hello()
            for number in range(40):
                where = name % number if "%" in name else name
                self.come(datagram, (where, 1000 + number, *more))
            self.assertEqual((len(self.accepted), self.port.dropped), (10, {PACE: 30}))

    def test_flood(self) -> None:
        """
        Hellos and fragments from very many addresses leave nothing behind.
        """
        (datagram,), piece = self.hello(), self.hello(mtu=256, alpn=LONG)[0]

        def flood(start: int) -> None:
            for number in range(start, start + 4000):
                self.come(datagram if number % 2 else piece, address(number))
                self.reactor.advance(0.001)
                self.accepted.clear()
                self.came.clear()
                self.ended.clear()

        flood(0)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        flood(4000)
        before = tracemalloc.get_traced_memory()[0]
        for turn in range(2, 5):
            flood(4000 * turn)
        self.assertTrue(tracemalloc.get_traced_memory()[0] - before < 200_000)
        self.assertEqual((len(self.port.halfOpen), len(self.port.ends)), (256, 256))


class AnotherHelloTests(PassingCase):
    """
    Hellos from where there is an association.
    """

    def test_same(self) -> None:
        """
        One for the same name is the upstream's to judge: it is repeated, or brings a cookie, or begins anew.
        """
        (datagram,) = self.hello()
        for one in (datagram, datagram, self.hello()[0]):
            self.come(one)
        self.prove()
        self.come(datagram)
        self.assertEqual((len(self.accepted), len(self.came[0])), (1, 5))

    def test_fragments(self) -> None:
        """
        So it is where it comes in fragments, which go on when all are there.
        """
        pieces = self.hello(mtu=256, alpn=LONG)
        for one in (*pieces, *pieces[1:]):
            self.come(one)
        self.assertEqual(self.came, [pieces])
        self.come(pieces[0])
        self.assertEqual((len(self.accepted), len(self.came[0])), (1, 2 * len(pieces)))

    def test_other(self) -> None:
        """
        One for another name does not reach the upstream, and ends nothing: it makes an association of its own, which
        takes the place of the other when it is proven.
        """
        self.come(self.hello()[0])
        self.prove()
        (datagram,) = self.hello("desk.example")
        self.come(datagram)
        self.assertEqual((len(self.came[0]), self.came[1]), (2, [datagram]))
        self.assertEqual(self.port.pending, {THERE: self.accepted[1]})
        self.come(DATA)
        self.assertEqual(self.came[0][-1], DATA)
        self.assertEqual(self.ended, [])
        self.prove(1, "desk.example")
        self.assertEqual(self.port.ends, {THERE: self.accepted[1]})
        self.assertEqual((self.ended[0][0], self.ended[0][1]), (self.accepted[0], "closed"))
        self.come(DATA)
        self.assertEqual((self.came[1][-1], len(self.came[0])), (DATA, 3))

    def test_otherFragments(self) -> None:
        """
        No fragment of one for another name reaches the upstream either.
        """
        self.come(self.hello()[0])
        for one in self.hello("desk.example", 256, LONG):
            self.come(one)
        self.assertEqual((len(self.came[0]), len(self.accepted)), (1, 2))

    def test_hidden(self) -> None:
        """
        One that is not alone in its datagram reaches nobody.
        """
        self.come(self.hello()[0])
        (datagram,) = self.hello("desk.example")
        for one in (DATA + datagram, datagram + DATA, record(22, message(16) + datagram[13:])):
            self.come(one)
        self.assertEqual((len(self.came[0]), self.port.dropped), (1, {GARBAGE: 3}))

    def test_withoutCookies(self) -> None:
        """
        Where the other upstream asks for no cookie, the handshake goes to the association that the last hello was for.
        """
        self.come(self.hello()[0])
        self.prove()
        self.come(self.hello("desk.example")[0])
        self.answer(1, ANSWER)
        for one in (record(22, message(16, b"key")), FINISHED, record(22, b"finished", 1)):
            self.come(one)
        self.assertEqual((len(self.came[0]), len(self.came[1])), (2, 4))
        self.come(DATA)
        self.answer(1, FINISHED)
        self.assertEqual((self.came[0][-1], self.port.ends), (DATA, {THERE: self.accepted[1]}))

    def test_pretended(self) -> None:
        """
        Whoever pretends to begin anew, with a session of his own that is resumed, ends nothing.
        """
        self.come(self.hello()[0])
        self.prove()
        self.come(self.hello("desk.example")[0])
        self.answer(1, FINISHED)
        for one in (FINISHED, DATA, FINISHED):
            self.come(one)
            self.answer(1, FINISHED)
        self.assertEqual(self.port.ends[THERE], self.accepted[0])
        self.come(self.hello("third.example")[0])
        self.come(FINISHED)  # Before there can be any, so it is a lie.
        self.answer(2, FINISHED)
        self.assertEqual(self.port.ends[THERE], self.accepted[0])
        self.come(self.hello()[0])  # And the handshake is the first one's again.
        self.come(FINISHED)
        self.assertEqual(self.came[0][-1], FINISHED)

    def test_third(self) -> None:
        """
        A third takes the place of the second.
        """
        for name in ("shop.example", "desk.example", "third.example"):
            self.come(self.hello(name)[0])
        self.assertEqual((list(self.port.ends), self.port.pending), ([THERE], {THERE: self.accepted[2]}))
        self.assertEqual([end for end, *_ in self.ended], [self.accepted[1]])
        self.accepted[0].finish()
        self.assertEqual((self.port.ends, self.port.pending), ({THERE: self.accepted[2]}, {}))

    def test_gaveWay(self) -> None:
        """
        Where the first is the one that has to give way, the second stands alone.
        """
        self.listen(halfOpen=1)
        self.come(self.hello()[0])
        self.come(self.hello("desk.example")[0])
        self.assertEqual((self.port.ends, self.port.pending), ({THERE: self.accepted[1]}, {}))
        self.assertIsInstance(self.accepted[1], PassedEnd)
