# -*- test-case-name: tests.integration.test_bytes_survive -*-
"""
What goes in comes out: much of it, both ways at once.

C{TLSPROXY_TEST_BYTES} is how many bytes go each way, 1 GiB if it is not set.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.integration.running import COPYING, IntegrationTestCase
from tests.integration.talking import Listener, connect

BLOCK = 1 << 20

# A number of whole blocks.
SIZE = -(-int(os.environ.get("TLSPROXY_TEST_BYTES", str(1 << 30))) // BLOCK) * BLOCK


class Exchange:
    """
    One side: sends what it has and takes what it is given, at once.

    @ivar sent: The SHA-256 of what it has sent.
    @ivar taken: The SHA-256 of what has come.
    """

    def __init__(self, sock: socket.socket, seed: int) -> None:
        self._socket = sock
        self._sent, self._taken = hashlib.sha256(), hashlib.sha256()
        self._block = bytearray(os.urandom(BLOCK))
        self._seed = seed

    def _next(self, position: int) -> memoryview:
        # No two blocks are the same, so none can be lost, doubled or swapped without being noticed.
        self._block[:16] = position.to_bytes(8, "big") + self._seed.to_bytes(8, "big")
        self._sent.update(self._block)
        return memoryview(self._block)

    def run(self) -> None:
        """
        Send and take all.
        """
        sock = self._socket
        sock.setblocking(False)
        position = taken = 0
        left = memoryview(b"")
        space = bytearray(1 << 18)
        view = memoryview(space)
        while taken < SIZE or position < SIZE or left:
            if not left and position < SIZE:
                left = self._next(position)
                position += BLOCK
            moved = 0
            try:
                if left:
                    moved = sock.send(left[: 1 << 18])
                    left = left[moved:]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            try:
                count = sock.recv_into(view) if taken < SIZE else 0
                if not count and taken < SIZE:
                    raise AssertionError(f"the stream ended after {taken} bytes")
                self._taken.update(view[:count])
                taken += count
                moved += count
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            if not moved:
                select.select([sock], [sock] if left else [], [], 1)

    @property
    def sent(self) -> str:
        """
        Tell the digest of what was sent.
        """
        return self._sent.hexdigest()

    @property
    def taken(self) -> str:
        """
        Tell the digest of what came.
        """
        return self._taken.hexdigest()


class Survival(IntegrationTestCase):
    """
    A gigabyte each way at once keeps its SHA-256.
    """

    guard = 180.0

    def setUp(self) -> None:
        """
        Make the upstream.
        """
        super().setUp()
        self.upstream = Listener(self)

    def speakTLS(self, sock: socket.socket) -> socket.socket:
        """
        Go on in TLS as the client.
        """
        context = ssl.create_default_context(cafile=str(self.certificates.ca))
        secure = context.wrap_socket(sock, server_hostname="localhost")
        self.addCleanup(secure.close)
        return secure

    def answerTLS(self, sock: socket.socket) -> socket.socket:
        """
        Go on in TLS as the upstream.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem)
        secure = context.wrap_socket(sock, server_side=True)
        self.addCleanup(secure.close)
        return secure

    def survives(self, mode: str, near: bool, far: bool, **more: object) -> None:
        """
        Exchange all through a mode.

        @param near: Whether the client speaks TLS.
        @param far: Whether the upstream does.
        @param more: Further keys of the route.
        """
        route: Callable[..., dict[str, object]] = getattr(self, mode)
        proxy = self.proxy(route(self.upstream.port, **more))
        talker = connect(self, proxy.port(mode))
        if mode == "connect":
            talker.askTunnel(self.upstream.port)
        with ThreadPoolExecutor(1) as pool:
            # Where the proxy does not decrypt, each waits for the other.
            secured = pool.submit(self.speakTLS, talker.socket) if near else None
            accepted = self.upstream.accept().socket
            server = Exchange(self.answerTLS(accepted) if far else accepted, 2)
            client = Exchange(secured.result() if secured else talker.socket, 1)
        other = threading.Thread(target=server.run, daemon=True)
        other.start()
        client.run()
        other.join()
        self.assertEqual(client.sent, server.taken)
        self.assertEqual(server.sent, client.taken)


class DecryptedTests(Survival):
    """
    In TLS with the proxy.
    """

    def test_offload(self) -> None:
        """
        TLS and plain.
        """
        self.survives("offload", True, False)

    def test_encrypt(self) -> None:
        """
        Plain and TLS.
        """
        self.survives("encrypt", False, True)

    def test_bridge(self) -> None:
        """
        TLS and TLS.
        """
        self.survives("bridge", True, True)


class UndecryptedTests(Survival):
    """
    Where the kernel moves the bytes, and where there is no splice(2).
    """

    def test_passthrough(self) -> None:
        """
        TLS that is not decrypted.
        """
        self.survives("passthrough", True, True)

    def test_connect(self) -> None:
        """
        A plain tunnel.
        """
        self.survives("connect", False, False)

    def test_copied(self) -> None:
        """
        Without splice(2).
        """
        self.program = COPYING
        self.survives("passthrough", False, False, require_tls=False)
