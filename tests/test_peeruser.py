# -*- test-case-name: tests.test_peeruser -*-
"""
L{tlsproxy.peeruser}: whose the other end of a connection is.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_sockdiag import answer
from tlsproxy import peeruser
from tlsproxy.peeruser import PeerUnknown, isHere, userOf


class UserTests(SynchronousTestCase):
    """
    Sockets of this very process, and a kernel that says what a test wants.
    """

    def pair(self, family: int = socket.AF_INET, host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """
        Connect two sockets.

        @return: The one that connected, and the one that was accepted.
        """
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen()
            client = socket.create_connection(listener.getsockname()[:2])
            server, _ = listener.accept()
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        return client, server

    def refused(self, sock: socket.socket, kernel: object = None) -> str:
        """
        Ask about what cannot be told.
        """
        return str(self.assertRaises(PeerUnknown, userOf, sock, kernel))

    def test_real(self) -> None:
        """
        The kernel knows this process, by IPv4, by IPv6 and by both at once, and a Unix socket's other end.
        """
        pairs = [self.pair()]
        if socket.has_ipv6:
            pairs += [self.pair(socket.AF_INET6, "::1"), self.pair(socket.AF_INET6, "::ffff:127.0.0.1")]
        for client, server in pairs:
            self.assertEqual(os.geteuid(), userOf(server))
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(os.geteuid(), userOf(server))
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        self.assertEqual(os.geteuid(), userOf(one))

    def test_question(self) -> None:
        """
        What is asked for is the socket of the peer, and not our own.
        """
        client, server = self.pair()
        asked: list[bytes] = []

        def kernel(data: bytes) -> bytes:
            asked.append(data)
            (sequence,) = struct.unpack_from("=I", data, 8)
            return answer(client.getsockname(), server.getsockname(), uid=4711, sequence=sequence)

        self.assertEqual(4711, userOf(server, kernel))
        ports = client.getsockname()[1], server.getsockname()[1]
        self.assertEqual([ports], [struct.unpack_from("!HH", one, 24) for one in asked])

    def test_namespace(self) -> None:
        """
        In a user namespace all the users outside look like one, who is therefore nobody; elsewhere that is a user like
        others.
        """
        client, server = self.pair()

        def kernel(data: bytes) -> bytes:
            (sequence,) = struct.unpack_from("=I", data, 8)
            return answer(client.getsockname(), server.getsockname(), uid=4711, sequence=sequence)

        overflow, mapping = Path(self.mktemp()), Path(self.mktemp())
        overflow.write_text("4711\n")
        mapping.write_text("         0          0 4294967295\n")
        self.patch(peeruser, "_OVERFLOW", str(overflow))
        self.patch(peeruser, "_MAP", str(mapping))
        self.assertEqual(4711, userOf(server, kernel))
        for text in ("         0       1000          1\n", "0 100000 65536\n65536 0 1\n"):
            mapping.write_text(text)
            self.assertIn("another user namespace", self.refused(server, kernel))
        mapping.unlink()
        self.assertIn("another user namespace", self.refused(server, kernel))
        overflow.write_text("65534\n")
        self.assertEqual(4711, userOf(server, kernel))

    def test_gone(self) -> None:
        """
        Of a peer that is gone nothing is told: neither of one that has closed its end, nor of one that reset it while
        the kernel was asked.
        """
        client, server = self.pair()
        client.close()
        self.assertIn("it cannot be told whose process connects", self.refused(server))
        client, server = self.pair()

        def kernel(data: bytes) -> bytes:
            (sequence,) = struct.unpack_from("=I", data, 8)
            said = answer(client.getsockname(), server.getsockname(), sequence=sequence)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return said

        self.assertIn("it cannot be told whose process connects: it is gone", self.refused(server, kernel))

    def test_elsewhere(self) -> None:
        """
        Who comes from elsewhere than loopback is nobody's, and the kernel is not asked.
        """

        class Far:
            """
            A socket of two machines.
            """

            family = socket.AF_INET

            def getsockname(self) -> tuple[str, int]:
                """
                Ours.
                """
                return "192.0.2.1", 1

            def getpeername(self) -> tuple[str, int]:
                """
                Theirs.
                """
                return "192.0.2.2", 2

        self.assertIn("elsewhere than this machine's loopback", self.refused(Far()))  # type: ignore[arg-type]
        self.assertFalse(isHere(Far()))  # type: ignore[arg-type]

    def test_here(self) -> None:
        """
        Who comes by loopback or by a Unix socket is on this machine, whoever it is, and who is gone is nowhere.
        """
        client, server = self.pair()
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        for sock in (client, server, one):
            self.assertTrue(isHere(sock))
        server.close()
        self.assertFalse(isHere(server))

    def test_noKernel(self) -> None:
        """
        Without such a kernel nothing can be told, and where it does not answer neither.
        """
        _, server = self.pair()

        def kernel(data: bytes) -> bytes:
            raise TimeoutError("timed out")

        self.assertIn("timed out", self.refused(server, kernel))
        self.patch(socket, "AF_NETLINK", None)
        self.assertIn("no NETLINK_SOCK_DIAG", self.refused(server))
