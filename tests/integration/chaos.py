# -*- test-case-name: tests.integration -*-
"""
One proxy with every mode, which has to outlive what is done to it, and to tell of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from OpenSSL import SSL

from tests.integration.running import IntegrationTestCase, Proxy, waitUntil
from tests.integration.talking import Server, Talker, clientContext, connect, echo, serverContext
from tests.integration.test_bounded_memory import POOLED

MODES = ("offload", "encrypt", "bridge", "passthrough", "connect")
NEAR_TLS = ("offload", "bridge")
FAR_TLS = ("encrypt", "bridge")

GROWTH = 4 << 20
"""How many bytes the proxy may have more after some dozens of sessions than after the first of each mode."""

HELLO = 0x16
DATA = 0x17


def record(kind: int, payload: bytes, version: int = 0x0303, length: int | None = None) -> bytes:
    """
    Make a TLS record, be it right or wrong.

    @param kind: Its type.
    @param version: The version it claims.
    @param length: The length it claims; L{None} for the true one.
    """
    claimed = len(payload) if length is None else length
    return bytes([kind]) + version.to_bytes(2, "big") + claimed.to_bytes(2, "big") + payload


class ChaosTestCase(IntegrationTestCase):
    """
    A proxy with a route of each mode, all before a good upstream, which the test may replace.

    @ivar answer: What the upstream does with a connection: L{echo}, unless the test says otherwise.  Toward C{encrypt}
        and C{bridge} it does so in TLS, unless C{raw}.
    @ivar through: The proxy.
    @ivar targets: The ports that it dials: in plain, and in TLS.
    @cvar modes: The modes that it has.
    """

    guard = 120.0
    modes: Sequence[str] = MODES

    def setUp(self) -> None:
        """
        Make the upstreams.
        """
        super().setUp()
        self.answer: Callable[[Talker], object] = echo
        self.raw = False
        self.context = serverContext(self.pem)
        self.plain = Server(self, lambda talker: self.answer(talker))
        self.secure = Server(self, self._answerInTLS)
        self.targets = self.plain.port, self.secure.port
        self._told = 0

    def _answerInTLS(self, talker: Talker) -> object:
        if not self.raw:
            talker.startTLS(self.context, server=True)
        return self.answer(talker)

    def start(self, prefix: Sequence[str] = (), **more: Any) -> None:
        """
        Start the proxy, and have a good client for each mode, so that all is there that is made once; but not where the
        upstream is another one.

        @param prefix: The start of its command line.
        @param more: Further keys of each route.
        """
        plain, secure = self.targets
        ports = {mode: plain if mode in ("offload", "connect") else secure for mode in self.modes}
        routes = [getattr(self, mode)(ports[mode], **more) for mode in self.modes]
        self.through: Proxy = self.proxy(*routes, prefix=prefix)
        self.sockets = self._sockets()
        self.descriptors = self.through.descriptors()
        self.memory = self.through.resident()
        if self.targets == (self.plain.port, self.secure.port):
            self.assertServes()
            self.memory = self.through.resident()

    def _sockets(self) -> int:
        folder = Path(f"/proc/{self.through.process.pid}/fd")
        count = 0
        for name in os.listdir(folder):
            try:
                count += os.readlink(folder / name).startswith("socket:")
            except FileNotFoundError:
                continue
        return count

    def enter(self, mode: str) -> Talker:
        """
        Come into a mode without a word.
        """
        try:
            return connect(self, self.through.port(mode))
        except ConnectionResetError:
            return Gone(socket.socket())

    def waitForSockets(self, count: int) -> None:
        """
        Wait until the proxy has so many sockets beside those that it always has.
        """
        waitUntil(lambda: self._sockets() >= self.sockets + count, f"{count} sockets")

    def open(self, mode: str) -> Talker:
        """
        Come into a mode as a good client does, as far as to where it may speak with the upstream.
        """
        client = self.enter(mode)
        if mode == "connect":
            client.askTunnel(self.targets[0])
        elif mode != "encrypt":
            client.startTLS(clientContext(self.certificates.ca))
        return client

    def assertServes(self) -> None:
        """
        Expect a good client of each mode to be served.
        """
        for mode in self.modes:
            client = self.open(mode)
            client.send(b"question")
            self.assertEqual(b"question", client.read(8), mode)
            client.endWrite()
            self.assertEqual((b"", "ended"), (client.readAll(), client.how), mode)
            client.close()
        self.assertTold(dict.fromkeys(self.modes, [("closed", "", "")]))

    def assertTold(self, expected: Mapping[str, Sequence[tuple[str, str, str]]]) -> None:
        """
        Expect the log to tell of these sessions, and of no other since it was looked at last.

        @param expected: For each mode the outcome, phase and reason of each of its sessions, in any order, as regular
            expressions.
        """
        count = sum(map(len, expected.values()))
        waitUntil(lambda: len(self.through.sessions()) >= self._told + count, "the end of the sessions")
        lines = self.through.sessions()[self._told :]
        self._told += len(lines)
        for mode, sessions in expected.items():
            told = sorted((one["outcome"], one["phase"], one["reason"]) for one in lines if one["route"] == mode)
            self.assertEqual(len(sessions), len(told), (mode, told))
            for expectation, one in zip(sorted(sessions), told, strict=True):
                for pattern, word in zip(expectation, one, strict=True):
                    # What would mend it may follow.
                    self.assertRegex(word, f"^({pattern})(; .*)?$", (mode, one))
        self.assertEqual(count, len(lines), lines)

    def assertCounted(self, count: int) -> None:
        """
        Expect the log to tell of so many sessions, however they ended, since it was looked at last.
        """
        waitUntil(lambda: len(self.through.sessions()) >= self._told + count, "the end of the sessions")
        self.assertEqual(self._told + count, len(self.through.sessions()))
        self._told += count

    def assertGone(self) -> None:
        """
        Expect nothing to be left of what was done.
        """
        waitUntil(lambda: self._sockets() <= self.sockets, f"the end of all sockets beyond {self.sockets}")
        most = self.descriptors + POOLED
        waitUntil(lambda: self.through.descriptors() <= most, f"the end of all descriptors beyond {most}")
        self.assertLess(self.through.resident() - self.memory, GROWTH)
        # Not one line more than those that were expected.
        self.assertEqual(self._told, len(self.through.sessions()))

    def assertOutlived(self) -> None:
        """
        Expect nothing to be left of what was done, and good clients to be served.
        """
        self.answer, self.raw = echo, False
        self.assertGone()
        self.assertServes()
        self.assertGone()


class Gone(Talker):
    """
    A client that was reset before it was told that it had connected, as one is that comes when all is over at once.
    """

    def recv(self, limit: int = 65536) -> bytes:
        """
        Tell that.
        """
        self.how = "reset"
        self.socket.close()
        return b""

    def send(self, data: bytes) -> None:
        """
        Nobody takes it.
        """
        raise ConnectionResetError("it was reset before it knew that it had connected")


def ignoring(client: Talker) -> str:
    """
    Read to the end, whatever that is.

    @return: How it ended; C{"broken"} for what TLS does not bear.
    """
    try:
        client.readAll()
    except SSL.Error:
        return "broken"
    return client.how
