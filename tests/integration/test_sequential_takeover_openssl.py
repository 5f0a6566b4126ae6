# -*- test-case-name: tests.integration.test_sequential_takeover_openssl -*-
"""
Handshakes that Python's library cannot make are not taken over either: early data, accepted and rejected; a session
that is resumed by its secret alone; renegotiation.

C{openssl s_client} is the browser, and C{openssl s_server} the destination.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.integration.innertls import DOWN, UP, records
from tests.integration.running import Child, freePort, waitUntil
from tests.integration.takeover import EVERY, Lane, OurClient, OurServer, TakeOverCase
from tests.integration.wiretap import Position, Wire
from tests.peers import requirePeer


class OpenSSLLane(Lane):
    """
    The way from C{s_client} to C{s_server}.

    @ivar options: How the browser differs from others.
    @ivar early: Whether it sends early data.
    @ivar rejects: Whether the destination does not know its session.
    @ivar renegotiates: Whether it renegotiates.
    @ivar said: How often it has said something, each time something else.
    @ivar output: What it has printed.
    """

    whole = b"said"
    secrets = (b"said", b"early", b"CONNECT localhost")

    def __init__(self, case: OpenSSLTakeOverCase, name: str, serving: list[str], wire: Wire) -> None:
        self._case, self._name, self._serving = case, name, serving
        self._folder = case.folder
        self.wire = wire
        self.client = 0
        self.options: list[str] = []
        self.early = False
        self.renegotiates = False
        self.rejects = False
        self._remembered: tuple[str, ...] | None = None
        self.said = 0
        self.port = freePort()
        self._seen = 0
        self.serve()

    def serve(self) -> None:
        """
        Start the destination, with other secrets than before.
        """
        shown = ["-cert", str(self._case.shopPEM), "-key", str(self._case.shopPEM), "-CAfile"]
        command = [requirePeer("openssl"), "s_server", "-accept", f"127.0.0.1:{self.port}", *shown]
        demanded = [str(self._case.people.ca), "-Verify", "1", "-verify_return_error", "-no_anti_replay"]
        self.server = Child(
            self._case, self._folder, f"{self._name}-server", [*command, *demanded, *self._serving], spoken=True
        )
        self._seen = 0
        self.server.waitFor("^ACCEPT")

    def remember(self, *options: str) -> None:
        """
        Have the browser get a session that it resumes from then on.
        """
        session = self._folder / f"{self._name}.session"
        session.unlink(missing_ok=True)
        self._remembered = options
        self.options = ["-sess_out", str(session), *options]
        client = self._start()
        waitUntil(lambda: session.exists() and session.stat().st_size > 0, "a session")
        self._end(client)
        self.options = ["-sess_in", str(session)]

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        case = self._case
        way = ["-proxy", f"127.0.0.1:{self.client}", "-connect", f"localhost:{self.port}", "-servername", "localhost"]
        shown = ["-cert", str(case.browserPEM), "-key", str(case.browserPEM), "-CAfile", str(case.shop.ca)]
        return subprocess.Popen(
            [requirePeer("openssl"), "s_client", *way, *shown, "-verify_return_error", *self.options, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _end(self, client: subprocess.Popen[bytes], last: bytes = b"") -> bytes:
        try:
            return client.communicate(last, timeout=10)[0]
        except subprocess.TimeoutExpired:
            client.kill()
            client.communicate()
            raise

    def visit(self) -> bytes:
        """
        Have the browser say something.

        @return: C{b"said"} where the destination has heard it.
        """
        self.said += 1
        early = self._folder / f"{self._name}.early"
        early.write_bytes(b"early-%d\n" % self.said)
        word = f"said-{self.said}-"
        before = len(self.wire.legs)
        client = self._start(*(["-early_data", str(early)] if self.early else []))
        try:
            assert client.stdin is not None
            if self.renegotiates:
                self._wait(client, "Renegotiation IS", before)
                client.stdin.write(b"R\n")
                client.stdin.flush()
                # What it reads together with a command is lost.
                self._wait(client, "Read BLOCK", before)
            client.stdin.write(word.encode() + b"\n")
            client.stdin.flush()
            self._wait(client, word, before)
        except OSError:
            pass
        self.output = self._end(client)
        return b"said" if self._heard(word) else b""

    def _heard(self, word: str) -> bool:
        return word in self.server.text()

    def _wait(self, client: subprocess.Popen[bytes], what: str, before: int) -> None:
        """
        Wait until the destination has said something, or the browser is gone.
        """

        def settled() -> bool:
            legs = self.wire.legs[before:]
            gone = client.poll() is not None or any(leg.taken and leg.socks[0].fileno() < 0 for leg in legs)
            return gone or re.search(what, self.server.text()[self._seen :]) is not None

        waitUntil(settled, what)

    def judged(self) -> None:
        """
        Expect nobody but the browser to have been there, and nothing of it to have been heard twice.
        """
        waitUntil(self._idle, "the end of the visit at the destination")
        text = self.server.text()
        self._seen = len(text)
        assert "mallory" not in text and "GET /666" not in text, text[-3000:]
        for word in (f"early-{self.said}", f"said-{self.said}-"):
            assert text.count(word) <= 1, (word, text[-3000:])
        if self.server.process.poll() is not None:
            # So it ends when early data is no such.
            self.again()

    def again(self) -> None:
        """
        Have another destination, which knows nothing of the browser's session or of what it has learnt.
        """
        options = self.options
        self.serve()
        if self._remembered is not None and not self.rejects:
            self.remember(*self._remembered)
        self.options = options

    def _idle(self) -> bool:
        """
        Whether nobody is connected with the destination.
        """
        table = Path("/proc/net/tcp").read_text()
        return re.search(rf":{self.port:04X} 0100007F:\S+ 0[18] ", table) is None


class OpenSSLTakeOverCase(TakeOverCase):
    """
    Each test has one handshake attacked.
    """

    lanesOf = 3

    def openLanes(self, *serving: str, value: str = "handshake") -> list[OpenSSLLane]:
        """
        Start all that there is.
        """
        server = self.openServer(value)
        lanes = [
            OpenSSLLane(self, f"lane{number}", list(serving), Wire(self, server)) for number in range(self.lanesOf)
        ]
        self.lanes = list(lanes)
        self.prepare(value)
        return lanes

    def places(self, leg: Any) -> list[Position]:
        """
        Fewer, as these are slower: all boundaries after the request, and one place between.
        """
        if EVERY:
            return super().places(leg)
        found = []
        for way in (UP, DOWN):
            sizes = [len(record) for record in records(bytes(leg.passed[way]))]
            # What comes before is the same in all handshakes.
            found += [Position(way, number) for number in range(4, len(sizes) + 1)]
            found.append(Position(way, 5, sizes[5] // 2))
        return found


class _Handshakes:
    """
    The handshakes.
    """

    def test_earlyDataAccepted(self: Any) -> None:
        """
        Early data is heard once, and by nobody else.
        """
        lanes = self.openLanes("-early_data", "-max_early_data", "16384")
        for lane in lanes:
            lane.remember()
            lane.early = True
        lanes[0].undisturbed()
        self.assertIn(b"Early data was accepted", lanes[0].output)
        self.everywhere()

    def test_earlyDataRejected(self: Any) -> None:
        """
        Early data that the destination skips is said again, and by nobody else.
        """
        lanes = self.openLanes("-early_data", "-max_early_data", "16384")
        for lane in lanes:
            lane.remember()
            lane.early = lane.rejects = True
            lane.server.kill()
            lane.serve()
        lanes[0].undisturbed()
        self.assertIn(b"Early data was rejected", lanes[0].output)
        self.everywhere()

    def test_secretAlone(self: Any) -> None:
        """
        A session that is resumed without a new exchange of keys stays inside the TLS of the proxies.
        """
        lanes = self.openLanes("-groups", "X25519", "-allow_no_dhe_kex")
        for lane in lanes:
            lane.remember("-groups", "X25519")
            lane.options += ["-groups", "P-256", "-allow_no_dhe_kex"]
        leg = lanes[0].undisturbed()
        self.assertIn(b"Reused, TLSv1.3", lanes[0].output)
        self.assertNotIn(b"Server Temp Key", lanes[0].output)
        self.staysInside(leg)
        self.everywhere()

    def staysInside(self: Any, leg: Any) -> None:
        """
        Expect that nothing but what looks like TLS 1.3 with keys has passed.
        """
        for way in (UP, DOWN):
            kinds = bytes(record[0] for record in records(bytes(leg.passed[way])))
            self.assertRegex(kinds, rb"^\x16\x14?\x17+$")

    def test_renegotiation(self: Any) -> None:
        """
        A session of TLS 1.2 that renegotiates.
        """
        lanes = self.openLanes("-tls1_2", "-client_renegotiation")
        for lane in lanes:
            lane.renegotiates = True
        leg = lanes[0].undisturbed()
        # It was, in plain on the wire of the proxies: a handshake record of a session that protects it.
        kinds = bytes(record[0] for record in records(bytes(leg.passed[UP])))
        self.assertRegex(kinds, rb"^\x16\x14?\x17+\x16+\x14\x16")
        self.everywhere()


class StdlibTests(_Handshakes, OpenSSLTakeOverCase):
    """
    Between two proxies on Python's own library.
    """

    every = 6


class BothTests(_Handshakes, OurServer, OurClient, OpenSSLTakeOverCase):
    """
    Between ours.
    """

    every = 2
