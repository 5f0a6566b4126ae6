"""
Tests for L{tlsproxy.handlers.tap}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tests.handlers.flows import CLIENT, LISTENING, UPSTREAM, FakeEnd, FakeFlow, FakeTLS, session
from tests.handlers.reading import ACK, FIN, RST, Packet, Segment, packets, segment, streams
from tlsproxy.address import TCP, Unix
from tlsproxy.handlers.capture import Capture
from tlsproxy.handlers.tap import Recorder, Tap
from tlsproxy.interfaces import INWARD, OUTWARD, Way

TLS13 = FakeTLS("TLSv1.3", "TLS_AES_256_GCM_SHA384", b"h2")
TLS12 = FakeTLS("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256")


class TapCase(SynchronousTestCase):
    """
    A test of a tap.

    @ivar path: The file it writes.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        folder = Path(self.mktemp()).resolve()
        folder.mkdir(parents=True)
        self.path = folder / "shop.pcapng"
        self.now = 1_700_000_000_000_000_000
        self.file = Capture(str(self.path), 0, 5, lambda: self.now)

    def recorder(
        self, near: FakeEnd | None = None, far: FakeEnd | None = None, port: int = 0, **facts: Any
    ) -> tuple[Recorder, FakeFlow]:
        """
        Make a handler, with the flow that it has.
        """
        near = near or FakeEnd(CLIENT, LISTENING, TLS13)
        flow: Any = FakeFlow()
        return Recorder(session(near, far or FakeEnd(UPSTREAM), **facts), flow, self.file, port), flow

    def read(self) -> tuple[list[Packet], list[Segment]]:
        """
        Read the file.
        """
        found = packets(self.path.read_bytes())
        return found, [segment(packet.data) for packet in found]


class RecordingTests(TapCase):
    """
    What a session looks like in the file.
    """

    def test_session(self) -> None:
        """
        A whole session: what it is on the first packet, its bytes as they were, two ends, its outcome on the last.
        """
        tap, flow = self.recorder(serverName="shop.example", clientCertificate='CN="me"', upstream=TCP("shop", 8080))
        said: list[tuple[Way, bytes]] = [(OUTWARD, b"question"), (INWARD, b"answer")]
        for direction, data in said:
            self.assertIs(tap.received(direction, data), data)
        tap.ended(INWARD, "ended")
        tap.ended(OUTWARD, "ended")
        tap.closed("closed")
        found, segments = self.read()
        self.assertEqual(streams(segments), (b"question", b"answer"))
        self.assertEqual([one.flags & (FIN | RST) for one in segments], [0, 0, 0, 0, 0, FIN, FIN, 0])
        self.assertEqual(segments[-1].source, "198.51.100.9:8080")
        self.assertEqual({packet.interface for packet in found}, {"shop"})
        self.assertEqual(
            found[0].comment,
            "route=shop client=192.0.2.7:50112 sni=shop.example tls=TLSv1.3/TLS_AES_256_GCM_SHA384/h2 "
            "upstream=shop:8080 upstream_tls=- client_cert=\"CN='me'\"",
        )
        self.assertEqual(found[-1].comment, "route=shop outcome=closed")
        self.assertEqual({packet.comment for packet in found[1:-1]}, {""})
        self.assertEqual(flow.finished, set())

    def test_times(self) -> None:
        """
        Packets have the time at which their bytes passed, by the wall clock.
        """
        tap, _ = self.recorder()
        tap.received(OUTWARD, b"a")
        self.now += 1_500_000_001
        tap.received(OUTWARD, b"b")
        tap.closed("stopped")
        self.assertEqual([packet.time - self.now for packet in self.read()[0][3:5]], [-1_500_000_001, 0])

    @given(
        said=st.lists(st.tuples(st.sampled_from([OUTWARD, INWARD]), st.binary(min_size=1, max_size=80)), max_size=20)
    )
    def test_cuts(self, said: list[tuple[Way, bytes]]) -> None:
        """
        However the bytes are cut, they are in the file as they were.
        """
        self.path.unlink(missing_ok=True)
        tap, _ = self.recorder()
        for way, data in said:
            tap.received(way, data)
        tap.closed("closed")
        expected = tuple(b"".join(data for way, data in said if way == wanted) for wanted in (OUTWARD, INWARD))
        self.assertEqual(streams(self.read()[1]), expected)

    def test_large(self) -> None:
        """
        A chunk that is larger than a segment can be is in the file, too.
        """
        tap, _ = self.recorder()
        data = bytes(range(256)) * 2000
        self.assertIs(tap.received(INWARD, data), data)
        tap.closed("closed")
        self.assertEqual(streams(self.read()[1]), (b"", data))

    def test_sessionsApart(self) -> None:
        """
        Sessions at the same time, and later ones of the same client and port, are connections of their own.
        """
        first, _ = self.recorder()
        second, _ = self.recorder(FakeEnd(IPv4Address("TCP", "192.0.2.8", 50112), LISTENING))
        first.received(OUTWARD, b"1")
        second.received(OUTWARD, b"2")
        first.received(OUTWARD, b"3")
        first.closed("closed")
        second.closed("closed")
        again, _ = self.recorder()
        again.received(OUTWARD, b"4")
        again.closed("closed")
        segments = self.read()[1]
        mine = [one for one in segments if "192.0.2.8:50112" in (one.source, one.target)]
        self.assertEqual(streams(mine)[0], b"2")
        others = [one for one in segments if one not in mine]
        start = next(place for place, one in enumerate(others) if place and not one.flags & ACK)
        self.assertEqual(streams(others[:start])[0], b"13")
        self.assertEqual(streams(others[start:])[0], b"4")
        self.assertNotEqual(others[0].number, others[start].number)

    def test_without(self) -> None:
        """
        A session in which no byte passed is in the file; one that never came to bytes is not.
        """
        tap, _ = self.recorder()
        tap.closed("expired")
        self.assertEqual(len(self.read()[0]), 4)
        size = self.path.stat().st_size
        tap, _ = self.recorder(relay=None)
        tap.closed("failed")
        self.assertEqual(self.path.stat().st_size, size)


class EndTests(TapCase):
    """
    How the ends of sessions look.
    """

    def ends(self, outcome: str, *ends: tuple[Way, str]) -> list[tuple[str, int]]:
        """
        End a session, and tell who sent a FIN or an RST.
        """
        self.path.unlink(missing_ok=True)
        tap, _ = self.recorder()
        tap.received(OUTWARD, b"x")
        for direction, how in ends:
            tap.ended(direction, how)
        tap.closed(outcome)
        found, segments = self.read()
        streams(segments)
        self.assertEqual(found[-1].comment, f"route=shop outcome={outcome}")
        sides = {"192.0.2.7:50112": "client", "198.51.100.9:8080": "server"}
        return [(sides[one.source], one.flags & ~ACK) for one in segments[4:] if one.flags != ACK]

    def test_closed(self) -> None:
        """
        An end is a FIN, and an orderly session has two.
        """
        both = [("client", FIN), ("server", FIN)]
        self.assertEqual(self.ends("closed", (OUTWARD, "ended"), (INWARD, "ended")), both)
        self.assertEqual(self.ends("closed", (INWARD, "ended"), (OUTWARD, "ended")), both[::-1])
        self.assertEqual(self.ends("closed"), both)
        self.assertEqual(self.ends("closed", (OUTWARD, "ended")), both)
        self.assertEqual(self.ends("closed", (INWARD, "ended")), both[::-1])

    def test_truncated(self) -> None:
        """
        A direction that was cut off has no FIN, but a reset once the other is over.
        """
        self.assertEqual(
            self.ends("truncated", (OUTWARD, "truncated"), (INWARD, "ended")), [("server", FIN), ("client", RST)]
        )
        self.assertEqual(
            self.ends("truncated", (OUTWARD, "ended"), (INWARD, "truncated")), [("client", FIN), ("server", RST)]
        )

    def test_cut(self) -> None:
        """
        A session that was cut has a reset, by a side that has not ended.
        """
        for outcome in ("reset", "failed", "expired", "stopped", "refused"):
            self.assertEqual(self.ends(outcome), [("client", RST)])
            self.assertEqual(self.ends(outcome, (OUTWARD, "ended")), [("client", FIN), ("server", RST)])
            self.assertEqual(self.ends(outcome, (INWARD, "ended")), [("server", FIN), ("client", RST)])


class AddressTests(TapCase):
    """
    Between which addresses sessions are shown.
    """

    def shown(self, near: FakeEnd, far: FakeEnd | None, **more: Any) -> tuple[str, str]:
        """
        Tell the client and the server of a session.
        """
        self.path.unlink(missing_ok=True)
        if far is None:
            tap = Recorder(session(near, None), FakeFlow(), self.file)  # type: ignore[arg-type]
        else:
            tap, _ = self.recorder(near, far, **more)
        tap.received(OUTWARD, b"x")
        tap.closed("closed")
        first = self.read()[1][0]
        return first.source, first.target

    def test_clearSide(self) -> None:
        """
        The server is the side in clear; the upstream where that is both, and also where it is none, but with the port
        that its protocol has without TLS.
        """
        client = "192.0.2.7:50112"
        tlsUpstream = IPv4Address("TCP", "198.51.100.9", 443)
        for near, far, server in (
            (TLS13, FakeEnd(UPSTREAM), "198.51.100.9:8080"),
            (None, FakeEnd(tlsUpstream), "198.51.100.9:443"),
            (None, FakeEnd(tlsUpstream, tls=TLS12), "192.0.2.1:8443"),
            (TLS13, FakeEnd(tlsUpstream, tls=TLS12), "198.51.100.9:80"),
            (TLS13, FakeEnd(UPSTREAM, tls=TLS12), "198.51.100.9:8080"),
        ):
            self.assertEqual(self.shown(FakeEnd(CLIENT, LISTENING, near), far), (client, server))

    def test_port(self) -> None:
        """
        An option decides on the port.
        """
        self.assertEqual(self.shown(FakeEnd(CLIENT, LISTENING), FakeEnd(UPSTREAM), port=5432)[1], "198.51.100.9:5432")

    def test_families(self) -> None:
        """
        IPv6 is shown as such, and an IPv4 address beside it as one inside IPv6.
        """
        client = FakeEnd(IPv6Address("TCP", "2001:db8::7", 50112), LISTENING)
        self.assertEqual(self.shown(client, FakeEnd(UPSTREAM)), ("2001:db8::7:50112", "::ffff:c633:6409:8080"))
        mapped = FakeEnd(IPv6Address("TCP", "::ffff:192.0.2.7", 50112), LISTENING)
        self.assertEqual(self.shown(mapped, FakeEnd(UPSTREAM)), ("192.0.2.7:50112", "198.51.100.9:8080"))

    def test_standIns(self) -> None:
        """
        Sides without an address get zeros, and clients without a port one of their own each.
        """
        unix = UNIXAddress("/run/shop")
        clients = {self.shown(FakeEnd(UNIXAddress(None), unix), FakeEnd(UPSTREAM)) for _ in range(3)}
        self.assertEqual({server for _, server in clients}, {"198.51.100.9:8080"})
        self.assertEqual(len(clients), 3)
        self.assertEqual({client.partition(":")[0] for client, _ in clients}, {"0.0.0.0"})
        near = FakeEnd(CLIENT, LISTENING)
        self.assertEqual(self.shown(near, FakeEnd(unix), upstream=Unix("/run/shop"))[1], "0.0.0.0:8443")
        self.assertEqual(self.shown(near, FakeEnd(unix), upstream=TCP("192.0.2.99", 80))[1], "192.0.2.99:80")
        self.assertEqual(self.shown(near, FakeEnd(unix), upstream=TCP("shop.example", 80))[1], "0.0.0.0:80")
        self.assertEqual(self.shown(FakeEnd(unix, unix), FakeEnd(unix))[1], "0.0.0.0:0")

    def test_gone(self) -> None:
        """
        A side that is gone has no address any more, and that is no reason to fail.
        """
        self.assertEqual(self.shown(FakeEnd(CLIENT), FakeEnd(None))[1], "0.0.0.0:0")
        self.assertEqual(self.shown(FakeEnd(CLIENT, LISTENING), None)[1], "192.0.2.1:8443")


class WritingTests(TapCase):
    """
    When packets get into the file.
    """

    def test_timer(self) -> None:
        """
        What has passed is in the file after a second, and no timer runs without something to write.
        """
        tap, flow = self.recorder()
        tap.received(OUTWARD, b"a")
        self.assertEqual(len(flow.clock.getDelayedCalls()), 1)
        tap.received(INWARD, b"b")
        flow.clock.advance(0.9)
        self.assertFalse(self.path.exists())
        flow.clock.advance(0.2)
        self.assertEqual(streams(self.read()[1]), (b"a", b"b"))
        self.assertEqual(flow.clock.getDelayedCalls(), [])
        tap.received(OUTWARD, b"c")
        flow.clock.advance(1)
        self.assertEqual(streams(self.read()[1]), (b"ac", b"b"))

    def test_oneTimer(self) -> None:
        """
        A busy session has one timer, however often the file is written to.
        """
        tap, flow = self.recorder()
        for _ in range(100):
            tap.received(INWARD, bytes(16384))
        self.assertEqual(len(flow.clock.getDelayedCalls()), 1)

    def test_locked(self) -> None:
        """
        What another process kept from being written is tried again.
        """
        tap, flow = self.recorder()
        tap.received(OUTWARD, b"a")
        answers = [False, False, True]
        self.patch(self.file, "flush", lambda: answers.pop(0))
        flow.clock.pump([1.0] * 5)
        self.assertEqual(answers, [])

    def test_trouble(self) -> None:
        """
        A session whose file cannot be written to goes on untouched.
        """
        self.path.mkdir()
        tap, flow = self.recorder()
        for _ in range(100):
            self.assertEqual(tap.received(INWARD, bytes(16384)), bytes(16384))
        flow.clock.advance(2)
        tap.ended(OUTWARD, "ended")
        tap.closed("closed")
        self.assertGreater(self.file.lost, 100)


class OptionsTests(TapCase):
    """
    The options.
    """

    def test_shared(self) -> None:
        """
        All sessions of a route, and all routes that name the file, write it together.
        """
        tap = Tap(pcap=self.path)
        self.assertEqual((tap.name, tap.capture.size, tap.capture.keep), ("tap", 100_000_000, 5))
        flow: Any = FakeFlow()
        for number, options in enumerate((tap, Tap(pcap=self.path, size=0))):
            handler = options.handler(session(FakeEnd(CLIENT, LISTENING), FakeEnd(UPSTREAM)), flow)
            handler.received(OUTWARD, b"x")
            handler.closed("closed")
            self.assertEqual(tap.capture.begun, number + 1)
        self.assertEqual(tap.capture.size, 0)
        self.assertEqual(len(self.read()[0]), 14)

    def test_noFile(self) -> None:
        """
        Options alone make no file.
        """
        Tap(pcap=self.path)
        self.assertFalse(self.path.exists())

    def test_wrong(self) -> None:
        """
        What cannot be is told in a sentence.
        """
        folder = self.path.parent
        for options, sentence in (
            ({"size": 999_999}, "size: 999999 is too little for a file: give 0 or at least 1000000 bytes"),
            ({"size": -1}, "size: -1 is too little for a file: give 0 or at least 1000000 bytes"),
            ({"keep": -1}, "keep: -1 files cannot be kept: give 0 to 10000"),
            ({"port": 65536}, "port: 65536 is no port: give 1 to 65535, or 0 for that of the side in clear"),
            ({"pcap": folder / "x\0y"}, "pcap: no file can have a name with a NUL byte: take it out"),
            ({"pcap": folder / "no" / "x"}, f"pcap: {folder}/no is no folder: make it, or name a file in another"),
        ):
            problem = self.assertRaises(ValueError, Tap, **{"pcap": self.path, **options})
            self.assertEqual(str(problem), sentence)
        self.assertRaises(TypeError, Tap)
