"""
Tests for the handshakes that L{tlsproxy.wire.innertls} gives up, and for the hellos that it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import buildClientHello, groups, numbers, serverName, versions
from tests.wire.flights import CCS, RETRY, Flight, message, record, serverHello, stepAll
from tlsproxy.interfaces import INWARD, OUTWARD, Way
from tlsproxy.wire.clienthello import HelloError
from tlsproxy.wire.innertls import LIMIT, InnerTLS

KEY_SHARE = (51, b"\0\0")
EARLY_DATA = (42, b"")
OFFERED = [serverName(b"shop.example"), groups(29, 24), versions(0x0304, 0x0303), KEY_SHARE]
SUITES = numbers([0x1301, 0x1302, 0xC02B, 0xC02F, 0x009C, 0xC0AE])
HELLO = buildClientHello(OFFERED, cipherSuites=SUITES)
EAGER = buildClientHello([*OFFERED, EARLY_DATA], cipherSuites=SUITES)
THREE = serverHello()
AGAIN = serverHello(random=RETRY, group=24)
CHOICE = serverHello(suite=0xC02B, version=None, group=None)
EARLY = record(23, bytes(50))
ALERT = record(21, b"\1\0")
FINISHED = record(22, bytes(40))
WHO: list[tuple[Way, str]] = [(OUTWARD, "client"), (INWARD, "destination")]

CERTIFICATE, EXCHANGE, ASK, DONE = message(11, bytes(90)), message(12, bytes(20)), message(13, bytes(9)), message(14)
CLIENTS = message(16, bytes(33))
TICKET = message(4, bytes(20))
FULL: list[Flight] = [
    (OUTWARD, HELLO),
    (INWARD, record(22, CHOICE + CERTIFICATE + EXCHANGE + DONE)),
    (OUTWARD, record(22, CLIENTS) + CCS + FINISHED),
    (INWARD, record(22, TICKET) + CCS + FINISHED),
]
RESUMED: list[Flight] = [
    (OUTWARD, HELLO),
    (INWARD, record(22, CHOICE + TICKET) + CCS + FINISHED),
    (OUTWARD, CCS + FINISHED),
]


def follow(flights: Sequence[Flight]) -> InnerTLS:
    """
    Follow some flights.
    """
    inner = InnerTLS()
    for way, wire in flights:
        stepAll(inner, way, wire)
    return inner


class RefusalCase(SynchronousTestCase):
    """
    Checks of what is given up.
    """

    def assertReady(self, *flights: Flight) -> None:
        """
        Check that all is protected after the last byte, and that it was open before.
        """
        inner = follow([*flights[:-1], (flights[-1][0], flights[-1][1][:-1])])
        self.assertEqual((inner.verdict, inner.why), ("open", ""))
        inner.step(flights[-1][0], flights[-1][1][-1:])
        self.assertEqual((inner.verdict, inner.why), ("ready", ""))

    def assertOpen(self, *flights: Flight) -> None:
        """
        Check that there is no verdict yet.
        """
        inner = follow(flights)
        self.assertEqual((inner.verdict, inner.why), ("open", ""))

    def assertNever(self, why: str, *flights: Flight) -> None:
        """
        Check that the last flight is the reason to give up, in so many words; and that nothing changes this.
        """
        self.assertEqual(follow(flights[:-1]).verdict, "open", why)
        inner = follow(flights)
        self.assertEqual((inner.verdict, inner.why), ("never", why))
        for way, wire in FULL[1:] + [(INWARD, record(22, THREE))]:
            if not inner.awaiting:
                stepAll(inner, way, wire)
        self.assertEqual((inner.verdict, inner.why), ("never", why))


class ThreeTests(RefusalCase):
    """
    TLS 1.3.
    """

    def test_made(self) -> None:
        """
        What is made here is like what OpenSSL makes.
        """
        self.assertReady((OUTWARD, HELLO), (INWARD, record(22, THREE)))
        again = buildClientHello(OFFERED, cipherSuites=SUITES, recordVersion=0x0303)
        chosen = record(22, serverHello(group=24))
        for before, dummy in (
            (CCS, b""),
            (b"", CCS),
            (CCS, CCS),
            (b"", b""),
        ):
            self.assertReady(
                (OUTWARD, HELLO), (INWARD, record(22, AGAIN) + before), (OUTWARD, dummy + again), (INWARD, chosen)
            )

    def test_fragments(self) -> None:
        """
        A ServerHello may be cut into records, each as small as one byte.
        """
        wire = b"".join(record(22, THREE[at : at + 1]) for at in range(len(THREE)))
        self.assertReady((OUTWARD, HELLO), (INWARD, wire))
        again = buildClientHello(OFFERED, cipherSuites=SUITES, cut=1)
        self.assertReady(
            (OUTWARD, HELLO), (INWARD, record(22, AGAIN)), (OUTWARD, again), (INWARD, record(22, serverHello(group=24)))
        )

    def test_notLast(self) -> None:
        """
        Other bytes in the record of a ServerHello may be anything, also the beginning of a message alone.
        """
        why = "other bytes follow the destination's hello in its record"
        for hello in (THREE, AGAIN):
            for more in (b"\x0b", message(8), THREE):
                self.assertNever(why, (OUTWARD, HELLO), (INWARD, record(22, hello + more)))

    def test_earlyData(self) -> None:
        """
        Early data may come if it was announced, before and after a HelloRetryRequest, and not after the second hello.
        """
        self.assertReady((OUTWARD, EAGER + CCS + EARLY + record(23, bytes(17))), (INWARD, record(22, THREE)))
        again: Flight = (INWARD, record(22, AGAIN))
        chosen: Flight = (INWARD, record(22, serverHello(group=24)))
        self.assertReady((OUTWARD, EAGER + CCS + EARLY), again, (OUTWARD, EARLY + HELLO), chosen)
        why = "the client sent application data too early"
        self.assertNever(why, (OUTWARD, HELLO), (OUTWARD, EARLY))
        self.assertNever(why, (OUTWARD, EAGER), (OUTWARD, record(23, bytes(16))))
        self.assertNever(why, (OUTWARD, HELLO), again, (OUTWARD, EARLY))
        self.assertNever(why, (OUTWARD, EAGER), again, (OUTWARD, HELLO), (OUTWARD, EARLY))
        self.assertNever(
            "the destination chose TLS 1.2, and the client began with TLS 1.3",
            (OUTWARD, EAGER + CCS + EARLY),
            (INWARD, record(22, CHOICE)),
        )

    def test_twice(self) -> None:
        """
        There is one HelloRetryRequest at most, and one ChangeCipherSpec each way.
        """
        again: Flight = (INWARD, record(22, AGAIN))
        self.assertNever(
            "the destination asked for another hello twice", (OUTWARD, HELLO), again, (OUTWARD, HELLO), again
        )
        self.assertNever("the client sent ChangeCipherSpec twice", (OUTWARD, EAGER + CCS), (OUTWARD, CCS))
        self.assertNever(
            "the destination sent ChangeCipherSpec twice", (OUTWARD, HELLO), again, (INWARD, CCS), (INWARD, CCS)
        )

    def test_tooEarly(self) -> None:
        """
        The destination says nothing before a hello is whole, and only a hello then.
        """
        why = "the destination spoke before the client's hello was whole"
        for wire in (record(22, THREE), CCS, ALERT, EARLY):
            self.assertNever(why, (INWARD, wire))
            self.assertNever(why, (OUTWARD, HELLO[:-1]), (INWARD, wire))
        disorder = "the destination sent a ChangeCipherSpec that is not in order"
        self.assertNever(disorder, (OUTWARD, HELLO), (INWARD, CCS))
        again: Flight = (INWARD, record(22, AGAIN))
        self.assertNever(
            "the destination went on before there was another hello", (OUTWARD, HELLO), again, (INWARD, again[1])
        )
        self.assertNever("the destination sent application data too early", (OUTWARD, HELLO), (INWARD, EARLY))
        self.assertNever(
            "the destination answered with a handshake message of type 11",
            (OUTWARD, HELLO),
            (INWARD, record(22, CERTIFICATE)),
        )

    def test_uncalledFor(self) -> None:
        """
        The client says nothing more of its handshake before the destination has answered: what it sends ahead, the
        destination could take for a second hello that it asks for later.  No verdict frees it from that.
        """
        other = buildClientHello([serverName(b"other.example"), *OFFERED[1:]], cipherSuites=SUITES)
        for before in (b"", CCS, ALERT, record(24, b"x"), EARLY, record(23, b"")):
            for wire in (other, other.replace(b"\x16\3\1", b"\x16\3\3"), record(22, CLIENTS)):
                for first in (HELLO, EAGER):
                    inner = follow([(OUTWARD, first), (OUTWARD, before)])
                    refused = self.assertRaises(HelloError, inner.step, OUTWARD, wire[:1])
                    self.assertEqual(
                        (str(refused), refused.alert),
                        ("the client began another hello before it was asked for one", 10),
                    )
                    self.assertFalse(inner.settled)

    def test_alerts(self) -> None:
        """
        An alert ends it, also a mere warning.
        """
        for way, who in WHO:
            self.assertNever(f"the {who} sent a record of type 21 during the handshake", (OUTWARD, HELLO), (way, ALERT))
        self.assertNever(
            "the destination sent a record of type 24 during the handshake", (OUTWARD, HELLO), (INWARD, record(24, b""))
        )

    def test_malformedRecords(self) -> None:
        """
        Records that are empty, too long or of another version.
        """
        for length in (0, 16385):
            why = f"a handshake record of the destination has {length} bytes"
            self.assertNever(why, (OUTWARD, HELLO), (INWARD, record(22, bytes(length))))
        for version in (0x0301, 0x0302, 0x0304):
            why = f"a record of the destination has the version 0x{version:04x}"
            self.assertNever(why, (OUTWARD, HELLO), (INWARD, record(22, THREE, version)))
        for content in (b"", b"\0", b"\1\1"):
            why = "the client sent a ChangeCipherSpec that is not in order"
            self.assertNever(why, (OUTWARD, EAGER), (OUTWARD, record(20, content)))

    def test_interrupted(self) -> None:
        """
        Nothing comes between the records of a message.
        """
        why = "a handshake message of the destination is interrupted"
        begun: Flight = (INWARD, record(22, THREE[:20]))
        for wire in (CCS, ALERT, EARLY):
            self.assertNever(why, (OUTWARD, HELLO), begun, (INWARD, wire))

    def test_malformedHello(self) -> None:
        """
        A ServerHello that cannot be read, or that promises too much.
        """
        self.assertNever(
            "the server's hello is malformed: it ends too early",
            (OUTWARD, HELLO),
            (INWARD, record(22, message(2, THREE[4:30]))),
        )
        self.assertNever(
            f"the destination announced a handshake message of {LIMIT + 1} bytes",
            (OUTWARD, HELLO),
            (INWARD, record(22, b"\2" + (LIMIT - 3).to_bytes(3, "big"))),
        )
        self.assertNever(
            "the destination chose a pre-shared key alone",
            (OUTWARD, HELLO),
            (INWARD, record(22, serverHello(group=None))),
        )


class TwoTests(RefusalCase):
    """
    TLS 1.2.
    """

    def test_made(self) -> None:
        """
        What is made here is like what OpenSSL makes.
        """
        self.assertReady(*FULL)
        self.assertReady(*RESUMED)

    def test_fragments(self) -> None:
        """
        Messages may be cut into records, or share one.
        """
        servers = CHOICE + CERTIFICATE + EXCHANGE + ASK + DONE
        clients = message(11, bytes(70)) + CLIENTS + message(15, bytes(60))
        for size in (1, 7, 50, 1000):
            self.assertReady(
                (OUTWARD, HELLO),
                (INWARD, b"".join(record(22, servers[at : at + size]) for at in range(0, len(servers), size))),
                (OUTWARD, b"".join(record(22, clients[at : at + size]) for at in range(0, len(clients), size))),
                (OUTWARD, CCS + FINISHED),
                (INWARD, CCS + FINISHED),
            )

    def test_falseStart(self) -> None:
        """
        A client may send data behind its Finished (RFC 7918); nobody else may before all is done.
        """
        self.assertReady(*FULL[:3], (OUTWARD, EARLY), FULL[3])
        self.assertNever("the client sent application data too early", *FULL[:2], (OUTWARD, EARLY))
        self.assertNever("the client sent application data too early", *FULL[:2], (OUTWARD, FULL[2][1][:-45] + EARLY))
        self.assertNever("the destination sent application data too early", *RESUMED[:2], (INWARD, EARLY))
        self.assertNever("the destination sent application data too early", *FULL[:3], (INWARD, EARLY))

    def test_changes(self) -> None:
        """
        A ChangeCipherSpec comes once, in its time, and in no message's middle.
        """
        for way, who in WHO:
            why = f"the {who} sent a ChangeCipherSpec that is not in order"
            self.assertNever(why, *FULL[:2], (way, CCS))
            self.assertNever(why, *FULL[:2], (way, record(20, b"\2")))
        why = "the client sent a ChangeCipherSpec that is not in order"
        self.assertNever(why, *RESUMED[:1], (INWARD, record(22, CHOICE)), (OUTWARD, CCS))
        self.assertNever(why, *RESUMED[:1], (INWARD, record(22, CHOICE) + CCS), (OUTWARD, CCS))
        why = "the destination sent a ChangeCipherSpec that is not in order"
        self.assertNever(why, *FULL[:2], (OUTWARD, FULL[2][1][:-45]), (INWARD, CCS))
        self.assertNever("the client sent ChangeCipherSpec twice", *FULL[:3], (OUTWARD, CCS))
        begun: Flight = (OUTWARD, record(22, CLIENTS[:9]))
        self.assertNever("a handshake message of the client is interrupted", *FULL[:2], begun, (OUTWARD, CCS))

    def test_finished(self) -> None:
        """
        Behind it comes a Finished, which has one size, and nothing else.
        """
        why = "the client sent something else than a Finished"
        changed: Flight = (OUTWARD, FULL[2][1][:-45])
        for size in (0, 16, 32, 41):
            self.assertNever(why, *FULL[:2], changed, (OUTWARD, record(22, bytes(size))))
        self.assertNever(why, *FULL[:3], (OUTWARD, FINISHED))

    def test_messages(self) -> None:
        """
        Messages that must not come, of which a second hello is one.
        """
        for way, who in WHO:
            for kind in (0, 1, 2, 20, 14 if way == OUTWARD else 16):
                why = f"the {who} sent a handshake message of type {kind}"
                self.assertNever(why, *FULL[:2], (way, record(22, message(kind))))
        self.assertNever("the client sent a handshake message of type 1", *FULL[:2], (OUTWARD, record(22, HELLO[5:])))

    def test_suites(self) -> None:
        """
        Key exchange by the certificate, and tags that are short.
        """
        for suite in (0x009C, 0xC0AE):
            chosen = serverHello(suite=suite, version=None, group=None)
            why = f"the destination chose the cipher suite 0x{suite:04x}"
            self.assertNever(why, (OUTWARD, HELLO), (INWARD, record(22, chosen)))

    def test_noSuchVersion(self) -> None:
        """
        The version of any other is not told.
        """
        inner = follow(
            [(OUTWARD, HELLO), (INWARD, record(22, serverHello(legacyVersion=0x0302, version=None, group=None)))]
        )
        self.assertEqual((inner.verdict, inner.version), ("never", 0))

    def test_tooMuch(self) -> None:
        """
        The handshake of a direction has a limit, which the hello counts toward.
        """
        most = record(22, bytes([11]) + (16380).to_bytes(3, "big") + bytes(16380))
        self.assertNever(
            f"the destination's handshake takes more than {LIMIT} bytes",
            *FULL[:1],
            (INWARD, record(22, CHOICE)),
            (INWARD, most * 3),
            (INWARD, most),
        )
        self.assertNever(
            f"the client's handshake takes more than {LIMIT} bytes", *FULL[:2], (OUTWARD, most * 3), (OUTWARD, most)
        )
        long = buildClientHello(OFFERED, cipherSuites=SUITES, size=40000)
        self.assertNever(
            f"the client's hellos take more than {LIMIT} bytes",
            (OUTWARD, long),
            (INWARD, record(22, AGAIN)),
            (OUTWARD, long),
        )


class UnframedTests(RefusalCase):
    """
    What is no TLS.
    """

    def test_noRecords(self) -> None:
        """
        Where no record can begin it is given up at once, and all bytes are taken.
        """
        ends: list[tuple[Way, str, list[Flight]]] = [
            (OUTWARD, "client", [(INWARD, record(22, CHOICE))]),
            (INWARD, "destination", []),
        ]
        for way, who, before in ends:
            for wire in (b"\x19\3\3\0\1", b"S", b"\x16\2\3\0\1", b"\x16\3\3\x7f\xff", b"\x17\3\3\x48\1"):
                inner = follow([(OUTWARD, HELLO), *before])
                self.assertEqual(stepAll(inner, way, wire + b"x" * 70000)[-1] > 60000, True)
                self.assertEqual((inner.verdict, inner.why), ("never", f"what the {who} sent is no TLS record"))
                self.assertFalse(inner.atBoundary(way))
                self.assertEqual(inner.step(way, bytes(99)), 99)

    def test_hiding(self) -> None:
        """
        What is no record, and comes from the client before the destination has answered, is refused: a destination that
        is less strict may find another hello behind it.
        """
        cases: list[list[Flight]] = [[], [(OUTWARD, ALERT)], [(INWARD, ALERT)], [(INWARD, record(22, AGAIN))]]
        for before in cases:
            for wire in (b"\x14\0\0\0\1\1", b"\x19\3\3\0\1", b"\x17\3\3\x48\1", b"GET /"):
                inner = follow([(OUTWARD, HELLO), *before])
                refused = self.assertRaises(HelloError, stepAll, inner, OUTWARD, wire)
                self.assertEqual(
                    (str(refused), refused.alert),
                    ("the client sent what is no TLS record before it had an answer", 10),
                )

    def test_afterwards(self) -> None:
        """
        When all is decided, a direction that is no TLS changes nothing, and has no boundaries any more.
        """
        inner = follow(FULL)
        self.assertEqual(inner.step(INWARD, b"SSH-2.0"), 7)
        self.assertEqual((inner.verdict, inner.atBoundary(INWARD), inner.atBoundary(OUTWARD)), ("ready", False, True))

    def test_boundaries(self) -> None:
        """
        After every verdict a step ends with the record, whatever the record has in it.
        """
        for flights in (FULL, [FULL[0], (INWARD, record(22, CERTIFICATE))]):
            inner = follow(flights)
            for wire in (EARLY, ALERT, CCS, HELLO, record(23, b""), record(23, bytes(18432))):
                for way, _ in WHO:
                    self.assertEqual(stepAll(inner, way, wire + wire), [len(wire)] * 2)
                    inner.step(way, wire[:4])
                    self.assertFalse(inner.atBoundary(way))
                    inner.step(way, wire[4:])
                    self.assertTrue(inner.atBoundary(way))


class HelloTests(RefusalCase):
    """
    Hellos that are refused.
    """

    def test_first(self) -> None:
        """
        The first bytes of the client are a hello.
        """
        for wire, sentence in (
            (b"GET / HTTP/1.1\r\n", "the client speaks plain HTTP, not TLS; have it ask for https://"),
            (b"SSH-2.0-x", "the client speaks SSH, not TLS"),
            (ALERT, "the client sent the TLS alert 0 before its hello was whole"),
            (EARLY, "the client sent a TLS record of type 23 before its hello was whole"),
            (record(22, CLIENTS), "the client began with a TLS handshake message of type 16, not with a hello"),
            (record(22, HELLO[5:] + b"x"), "other bytes follow the client's hello in its last TLS record"),
        ):
            refused = self.assertRaises(HelloError, stepAll, InnerTLS(), OUTWARD, wire)
            self.assertEqual(str(refused), sentence)

    def test_interrupted(self) -> None:
        """
        Nothing comes between the records of a hello, of the second one neither.
        """
        cut = buildClientHello(OFFERED, cipherSuites=SUITES, cut=60)
        befores: list[list[Flight]] = [[], [(OUTWARD, EAGER), (INWARD, record(22, AGAIN))]]
        for before in befores:
            for wire in (CCS, EARLY):
                inner = follow([*before, (OUTWARD, cut[:65])])
                self.assertEqual(inner.holds, 65)
                refused = self.assertRaises(HelloError, stepAll, inner, OUTWARD, wire)
                sentence = f"the client sent a TLS record of type {wire[0]} before its hello was whole"
                self.assertEqual(str(refused), sentence)

    def test_second(self) -> None:
        """
        A second hello that is malformed is refused, also after the verdict.
        """
        bad = record(22, message(1, HELLO[9:-1]))
        for between in (b"", ALERT):
            inner = follow([(OUTWARD, EAGER), (INWARD, record(22, AGAIN)), (OUTWARD, between)])
            self.assertRaises(HelloError, stepAll, inner, OUTWARD, bad)

    def test_owedAnyway(self) -> None:
        """
        No verdict frees a client from the second hello: what it does in between, and how the destination asks, cannot
        hide it.
        """
        strange: list[list[Flight]] = [
            [(OUTWARD, EAGER), (OUTWARD, ALERT), (INWARD, record(22, AGAIN))],
            [(OUTWARD, EAGER), (INWARD, ALERT + record(22, AGAIN))],
            [(OUTWARD, EAGER), (INWARD, record(22, AGAIN)), (OUTWARD, ALERT)],
            [(OUTWARD, EAGER), (INWARD, record(22, AGAIN)), (INWARD, ALERT)],
            [(OUTWARD, EAGER), (INWARD, record(22, AGAIN + b"x"))],
            [(OUTWARD, EAGER), (INWARD, record(22, serverHello(random=RETRY, suite=0x1304)))],
        ]
        other = buildClientHello([serverName(b"other.example"), *OFFERED[1:]], cipherSuites=SUITES)
        for flights in strange:
            inner = follow(flights)
            self.assertEqual((inner.verdict, inner.awaiting, inner.hellos), ("never", True, 1))
            self.assertFalse(inner.settled)
            stepAll(inner, OUTWARD, EARLY + other)
            self.assertEqual((inner.awaiting, inner.hellos), (False, 2))
            assert inner.hello is not None
            self.assertEqual(inner.hello.serverName, "other.example")

    def test_settled(self) -> None:
        """
        All is settled with the verdict, but for hellos that are owed or may come to be.
        """
        cases: list[tuple[list[Flight], bool]] = [
            ([], False),
            ([(INWARD, b"220 mail.example ESMTP\r\n")], False),
            ([(INWARD, b"220 mail.example ESMTP\r\n"), (OUTWARD, HELLO)], True),
            ([(OUTWARD, HELLO)], False),
            ([(OUTWARD, HELLO), (OUTWARD, ALERT)], False),
            ([(OUTWARD, HELLO), (OUTWARD, ALERT), (INWARD, record(22, THREE))], True),
            ([(OUTWARD, HELLO), (INWARD, ALERT)], False),
            ([(OUTWARD, HELLO), (INWARD, b"no TLS")], True),
            ([(OUTWARD, HELLO), (INWARD, record(22, CERTIFICATE))], True),
            (FULL, True),
            (FULL[:3], False),
        ]
        for flights, settled in cases:
            self.assertEqual(follow(flights).settled, settled, flights)
