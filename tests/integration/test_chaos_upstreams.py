# -*- test-case-name: tests.integration.test_chaos_upstreams -*-
"""
What upstreams do wrong, in every mode: each session ends, is told of in one line that is true, and leaves nothing
behind; and once the upstream is well again, so is everything.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from OpenSSL import SSL

from tests.integration.chaos import DATA, FAR_TLS, HELLO, MODES, NEAR_TLS, ChaosTestCase, ignoring, record
from tests.integration.running import PATIENCE, Child, freePort
from tests.integration.talking import Talker
from tests.integration.test_every_phase_ends import blackHole, hello
from tlsproxy.wire.connect import ESTABLISHED

ALERT = r"( \(alert {} sent\))?"
BROKEN = "the upstream broke TLS off .alert handshake_failure received.: .*"
FOREVER = """
import socket, ssl, sys, threading
def serve(sock, context):
    try:
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        sock.recv(1)
        while True:
            sock.sendall(bytes(65536))
    except OSError:
        pass
def accept(listener, context):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, context), daemon=True).start()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
ports = []
for one in (None, context):
    listener = socket.create_server(("127.0.0.1", 0))
    ports.append(listener.getsockname()[1])
    thread = threading.Thread(target=accept, args=(listener, one))
    thread.start()
print("serves", *ports, flush=True)
"""
"""A program that sends for ever to whoever says a byte."""


def saying(data: bytes, end: Callable[[Talker], object], tls: bool = False) -> Callable[[Talker], None]:
    """
    Make an upstream that says something wrong, and then ends in some way.

    @param tls: Whether it speaks TLS first, and the bytes come in the middle of it.
    """

    def answer(talker: Talker) -> None:
        if tls:
            talker.send(talker.read(4))
        else:
            talker.socket.recv(65536)
        talker.socket.sendall(data)
        end(talker)

    return answer


def wait(talker: Talker) -> None:
    """
    Wait for the proxy to end.
    """
    while talker.socket.recv(65536):
        pass


class HandshakeTests(ChaosTestCase):
    """
    What comes where the proxy wants the upstream's side of a TLS handshake.
    """

    modes = FAR_TLS

    def check(self, data: bytes, end: Callable[[Talker], object], sort: str, reason: str) -> None:
        """
        Expect a session of each mode to end in an upstream's handshake, and its client not to take that for an end.
        """
        self.raw, self.answer = True, saying(data, end)
        for mode in FAR_TLS:
            client = self.open(mode)
            self.assertNotEqual("ended", ignoring(client), mode)
            client.close()
        self.assertTold(dict.fromkeys(FAR_TLS, [(sort, "upstream_handshake", reason)]))

    def test_wrong(self) -> None:
        """
        Plain text, records of an unknown version, too long, out of place, or with a hello that fits nothing.
        """
        hello = b"\x02\x00\x00\x26\x03\x03" + bytes(36)
        self.start()
        for data, reason in (
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the upstream does not speak TLS"),
            (bytes(range(256)), "the upstream does not speak TLS"),
            (record(HELLO, bytes(64), 0x0909), "the upstream does not speak TLS"),
            (
                record(HELLO, bytes(64), length=0x6000),
                "TLS with the upstream failed: data length too long" + ALERT.format("record_overflow"),
            ),
            (
                record(HELLO, hello),
                "TLS with the upstream failed: unknown cipher returned" + ALERT.format("illegal_parameter"),
            ),
            (
                record(DATA, bytes(30)),
                "TLS with the upstream failed: unexpected message" + ALERT.format("unexpected_message"),
            ),
            (record(0x15, b"\x02\x28"), BROKEN),
        ):
            self.check(data, wait, "failed", reason)
        self.assertOutlived()

    def test_cut(self) -> None:
        """
        A hello that is cut in half, by the end of the stream, by a reset, or by silence until the limit.
        """
        half = record(HELLO, b"\x02\x00\x00\x76\x03\x03" + bytes(100))[:40]
        told = "the upstream {} in the middle of the TLS handshake"
        self.start(limits={"upstream_handshake": 1.0})
        self.check(half, Talker.truncate, "ended", told.format("closed the connection"))
        self.check(half, Talker.reset, "reset", told.format("reset the connection"))
        self.check(half, wait, "expired", "the upstream did not finish the TLS handshake within 1 s")
        self.assertOutlived()


class MovingTests(ChaosTestCase):
    """
    What comes in the middle of a session.
    """

    def test_records(self) -> None:
        """
        Records that are none, too long, of no known type, in plain, or do not verify: the client gets nothing of them,
        and does not take it for an end.
        """
        self.start()
        for data, reason in (
            (record(DATA, bytes(64), 0x0909), "wrong version number"),
            (record(DATA, bytes(64), length=0x5000), "encrypted length too long"),
            (record(0x63, bytes(20)), "bad record type"),
            (record(DATA, bytes(64)), "a record does not verify"),
        ):
            self.answer = saying(data, wait, tls=True)
            for mode in FAR_TLS:
                client = self.open(mode)
                client.send(b"word")
                self.assertEqual(b"word", client.read(4))
                self.assertEqual((b"", "reset"), (client.recv(), client.how), mode)
                client.close()
            told = f"TLS with the upstream failed: {reason}" + ALERT.format(r"\w+")
            self.assertTold(dict.fromkeys(FAR_TLS, [("failed", "idle", told)]))
        self.assertOutlived()

    def test_reset(self) -> None:
        """
        A reset while bytes move both ways goes on as a reset.
        """

        def flood(talker: Talker) -> None:
            talker.read(4)
            talker.send(bytes(1 << 16))
            talker.reset()

        self.start()
        for mode in MODES:
            self.answer = flood
            client = self.open(mode)
            try:
                client.send(b"word")
                while True:
                    client.send(bytes(1 << 16))
            except (OSError, SSL.Error):
                pass
            client.close()
            self.assertTold({mode: [("reset", "idle", "the upstream reset the connection")]})
        self.assertOutlived()


class DeathTests(ChaosTestCase):
    """
    Upstreams that are not there, or no longer.
    """

    def test_killed(self) -> None:
        """
        An upstream that is killed in the middle of transfers: what it had sent arrives, and where it spoke TLS the end
        is told as the truncation that it is.
        """
        mortal = Child(self, self.folder, "mortal", [sys.executable, "-c", FOREVER, str(self.pem)])
        ports = mortal.waitFor(r"^serves (\d+) (\d+)$")
        self.targets = int(ports[1]), int(ports[2])
        self.start()
        clients = [self.open(mode) for mode in MODES]
        for client in clients:
            client.send(b"!")
            self.assertEqual(bytes(100_000), client.read(100_000))
        with ThreadPoolExecutor(len(clients)) as pool:
            ends = [pool.submit(ignoring, client) for client in clients]
            mortal.process.send_signal(signal.SIGKILL)
            heard = dict(zip(MODES, [end.result() for end in ends], strict=True))
        for client in clients:
            if client.how == "ended":
                client.endWrite()
            client.close()
        self.assertEqual(
            {"offload": "ended", "connect": "ended"}, {mode: heard[mode] for mode in ("offload", "connect")}
        )
        # In plain, the end of what was truncated is an end all the same.
        self.assertEqual(("ended", "truncated", "truncated"), (heard["encrypt"], heard["bridge"], heard["passthrough"]))
        # A client of TLS may answer a truncated stream with an alert, and then that is told.
        cut = [("truncated|failed", "half_closed", ".*")]
        plain = [("closed", "", "")]
        self.assertTold({"offload": plain, "connect": plain, "passthrough": plain, "encrypt": cut, "bridge": cut})
        self.assertGone()

    def test_blackHole(self) -> None:
        """
        An upstream that does not answer at all.
        """
        hole = blackHole(self)
        self.targets = hole, hole
        self.start(limits={"dial": 1.0})
        self.assertUnreached("expired", "the upstream did not answer within 1 s")
        self.assertGone()

    def test_flapping(self) -> None:
        """
        An upstream that listens, and does not, and does again.
        """
        port = freePort()
        self.targets = port, port
        self.start()
        for _ in range(5):
            self.assertUnreached("failed", f"the upstream 127.0.0.1:{port} refuses connections")
            with socket.create_server(("127.0.0.1", port)) as listener:
                listener.settimeout(PATIENCE)
                for mode in MODES:
                    self.reach(mode, listener)
            self.assertTold(dict.fromkeys(MODES, [("closed", "", "")]))
        self.assertGone()

    def assertUnreached(self, sort: str, reason: str) -> None:
        """
        Expect no session to reach its upstream, and no client to take that for an end of what it has to say.
        """
        for mode in MODES:
            try:
                client = self.knock(mode)
            except ConnectionResetError:
                # So soon that it was not even connected.
                self.assertEqual("encrypt", mode)
                continue
            if mode == "connect":
                self.assertEqual(b"HTTP/1.1 50", client.read(11))
            self.assertEqual(mode == "connect", ignoring(client) == "ended", mode)
            client.close()
        self.assertTold(dict.fromkeys(MODES, [(sort, "dial", reason)]))

    def knock(self, mode: str) -> Talker:
        """
        Come into a mode as far as to where it dials.
        """
        if mode in NEAR_TLS:
            return self.open(mode)
        client = self.enter(mode)
        if mode == "passthrough":
            client.send(hello())
        elif mode == "connect":
            client.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % self.targets[0])
        return client

    def reach(self, mode: str, listener: socket.socket) -> None:
        """
        Go through a mode to an upstream in the hands of the test.
        """
        client = self.knock(mode)
        sock, _ = listener.accept()
        server = Talker(sock, self.context if mode in FAR_TLS else None, server=True)
        if mode == "passthrough":
            self.assertEqual(b"\x16", server.read(1))
        elif mode == "connect":
            client.read(len(ESTABLISHED))
        server.send(b"answer")
        self.assertEqual(b"answer", client.read(6))
        server.endWrite()
        client.readAll()
        client.endWrite()
        server.readAll()
        client.close()
        server.close()
