# -*- test-case-name: tests.integration.test_chaos_clients -*-
"""
What clients do wrong, in every mode: each session ends, is told of in one line that is true, and leaves nothing behind.
"""

from __future__ import annotations

import os
import random
import socket

from tests.integration.chaos import (
    DATA,
    HELLO,
    MODES,
    NEAR_TLS,
    ChaosTestCase,
    ignoring,
    record,
)
from tests.integration.running import PATIENCE
from tests.integration.talking import Talker, clientContext, connect
from tests.integration.test_doubt_is_refused import Manual
from tests.integration.test_every_phase_ends import hello

HEAD = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"
CROWD = 100
"""How many come at once: so many that no route has more than ten failures of one kind, which would share a line."""
PASSED = ("closed", "", "")
"""What is told where the bytes are nobody's business."""


def reading(sort: str, reason: str, alert: str) -> tuple[str, str, str]:
    """
    What is told of a session that TLS ended while bytes moved.

    @param sort: How it ended.
    """
    # When it has sent its alert, the client may be gone already.
    return sort, "idle", rf"TLS with the client failed: {reason}( \(alert {alert} sent\))?"


class OpeningTests(ChaosTestCase):
    """
    What comes where a session should be opened.
    """

    def check(self, sent: bytes, wanted: str, head: str) -> None:
        """
        Send something into each mode.

        @param wanted: The reason that is told where a hello is wanted.
        @param head: The reason that is told where a CONNECT is wanted.
        """
        for mode in MODES:
            client = self.enter(mode)
            client.send(sent)
            if mode == "encrypt":
                # There it is whatever the client has to say.
                client.endWrite()
            ignoring(client)
            client.close()
        refused = [("refused", "hello", wanted)]
        told = {"offload": refused, "bridge": refused, "passthrough": refused, "encrypt": [PASSED]}
        self.assertTold({**told, "connect": [("refused", "head", head)]})

    def test_notTLS(self) -> None:
        """
        Noise, other protocols, and records that are none, or out of place, or too long.
        """
        whole = hello()
        self.start()
        for sent, wanted, head in (
            (b"\xf3" + os.urandom(500), "the client does not speak TLS", ".*"),
            (b"\x05\x01\x00", "the client does not speak TLS", "the client speaks SOCKS5, .*"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the client speaks plain HTTP, not TLS", "there is nothing here .*"),
            (record(HELLO, whole[5:], 0x0909), "the client's TLS record has the version 0x0909", ".*speaks TLS, .*"),
            (record(HELLO, whole[5:], 0x0200), "the client's TLS record has the version 0x0200", ".*speaks TLS, .*"),
            (record(HELLO, whole[5:], length=0xFFFF), ".* record is too long: 65535 bytes", ".*speaks TLS, .*"),
            (record(HELLO, b""), "the client sent an empty TLS record", ".*speaks TLS, .*"),
            (record(DATA, bytes(100)), "the client sent a TLS record of type 23 .*", ".* control byte 0x17"),
            (record(0x15, b"\x02\x28"), "the client sent the TLS alert 40 .*", ".* control byte 0x15"),
            (record(0x63, bytes(20)), "the client does not speak TLS", ".* control byte 0x03"),
        ):
            self.check(sent, wanted, head)
        self.assertOutlived()

    def half(self, mode: str) -> Talker:
        """
        Come into a mode, and stop in the middle of what it wants to hear first.
        """
        client = self.enter(mode)
        if mode == "connect":
            client.send(HEAD[:20])
        elif mode == "encrypt":
            client.send(b"word")
            self.assertEqual(b"word", client.read(4))
        else:
            client.send(hello()[:100])
        return client

    def test_halves(self) -> None:
        """
        Half a hello or head, and then the end or a reset.
        """
        self.start()
        leaving = [self.half(mode) for mode in MODES]
        resetting = [self.half(mode) for mode in MODES]
        # One more for the upstream of each that has one.
        self.waitForSockets(2 * len(MODES) + 2)
        for client in leaving:
            client.close()
        for client in resetting:
            client.reset()
        reset = "the client reset the connection"
        hellos = [
            ("ended", "hello", "the client ended the stream in the middle of its hello"),
            ("reset", "hello", "the client reset the connection in the middle of its hello"),
        ]
        heads = [
            ("ended", "head", "the client ended the stream before its request was whole"),
            ("reset", "head", reset),
        ]
        plain = [PASSED, ("reset", "idle", reset)]
        told = {"offload": hellos, "bridge": hellos, "passthrough": hellos, "connect": heads, "encrypt": plain}
        self.assertTold(told)
        self.assertOutlived()

    def test_silence(self) -> None:
        """
        Half a hello or head, and then nothing until the limit.
        """
        self.start(limits={"hello": 1.0, "head": 1.0, "idle": 1.0})
        for client in [self.half(mode) for mode in MODES]:
            ignoring(client)
        hello = [("expired", "hello", "the client did not send a whole hello within 1 s")]
        head = [("expired", "head", "the client did not send a whole request within 1 s")]
        idle = [("expired", "idle", "no byte moved within 1 s")]
        self.assertTold({"offload": hello, "bridge": hello, "passthrough": hello, "connect": head, "encrypt": idle})
        self.assertOutlived()

    def test_pieces(self) -> None:
        """
        What is right is right in pieces of one byte, too.
        """
        self.start()
        for mode in MODES:
            client = self.enter(mode)
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if mode in ("encrypt", "connect"):
                head = HEAD % (self.plain.port, self.plain.port) if mode == "connect" else b""
                for byte in head + b"question":
                    client.send(bytes([byte]))
                if head:
                    self.assertIn(b" 200 ", client.read(len(b"HTTP/1.1 200 Connection established\r\n\r\n")))
                self.assertEqual(b"question", client.read(8))
                client.endWrite()
            else:
                inside = Manual(client, clientContext(self.certificates.ca))
                for byte in inside.hello():
                    client.send(bytes([byte]))
                inside.finish()
                self.assertEqual(b"question", inside.ask(b"question"))
                inside.tls.shutdown()
                client.send(inside.outgoing())
                client.truncate()
            ignoring(client)
            client.close()
        self.assertTold(dict.fromkeys(MODES, [PASSED]))
        self.assertOutlived()

    def test_crowd(self) -> None:
        """
        Many at once, each doing something else that is wrong, do not keep a good one from being served.
        """
        self.start(limits={"hello": PATIENCE, "head": PATIENCE})
        chance = random.Random(5)
        wrong = [b"", hello()[:-1], b"\x16", b"CONNECT ", record(HELLO, bytes(9)), b"GET / HTTP/1.1\r\n\r\n", bytes(99)]
        clients = []
        for number in range(CROWD):
            client = connect(self, self.through.port(MODES[number % len(MODES)]))
            client.send(chance.choice(wrong))
            clients.append(client)
        for mode in MODES:
            good = self.open(mode)
            good.send(b"question")
            self.assertEqual(b"question", good.read(8))
            good.close()
        for client in clients:
            chance.choice((client.reset, client.close))()
        self.assertCounted(CROWD + len(MODES))
        self.assertOutlived()


class MovingTests(ChaosTestCase):
    """
    What comes in the middle of a session whose TLS the proxy speaks with the client.
    """

    modes = NEAR_TLS

    def test_records(self) -> None:
        """
        Records that are none, too long, of no known type, in plain, or do not verify: the session ends, and nothing of
        them reaches the upstream.
        """
        self.start()
        for sent, told in (
            (record(DATA, bytes(64), 0x0909), reading("failed", "wrong version number", "decode_error")),
            (record(DATA, bytes(64), length=0x5000), reading("failed", "encrypted length too long", "record_overflow")),
            (record(0x63, bytes(20)), reading("failed", "bad record type", "unexpected_message")),
            (record(0x15, b"\x02\x28"), reading("failed", "bad record type", "unexpected_message")),
            (record(DATA, bytes(64)), reading("failed", "a record does not verify", "bad_record_mac")),
        ):
            for mode in NEAR_TLS:
                heard: list[bytes] = []

                def listen(talker: Talker, heard: list[bytes] = heard) -> None:
                    talker.send(talker.read(4))
                    heard.append(talker.readAll())

                self.answer = listen
                client = self.open(mode)
                client.send(b"word")
                self.assertEqual(b"word", client.read(4))
                client.socket.sendall(sent)
                ignoring(client)
                client.close()
                self.assertTold({mode: [told]})
                self.assertEqual([], [data for data in heard if data])
        self.assertOutlived()

    def test_cut(self) -> None:
        """
        A record that is cut in half, by the end of the stream or by a reset.
        """
        self.start()
        for mode in NEAR_TLS:
            for end in (Talker.truncate, Talker.reset):
                client = self.open(mode)
                client.send(b"word")
                self.assertEqual(b"word", client.read(4))
                client.socket.sendall(record(DATA, bytes(20), length=100))
                end(client)
                if end is Talker.truncate:
                    self.assertNotEqual("", ignoring(client))
                    client.close()
        reset = ("reset", "idle", "the client reset the connection")
        truncated = ("truncated", "half_closed", "the client ended the stream without ending TLS")
        # The upstream, which speaks TLS, answers a truncated stream with an alert.
        answered = ("failed", "half_closed", r"the upstream broke TLS off \(alert decode_error received\)")
        self.assertTold({"offload": [reset, truncated], "bridge": [answered, reset]})
        self.assertOutlived()
