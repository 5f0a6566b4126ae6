# -*- test-case-name: tests.wire.test_sockdiag -*-
"""
L{tlsproxy.wire.sockdiag}: the question whose a connection is, and the answers.
"""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.sockdiag import Connection, SockDiagError, question, readAnswer

FOUR = Connection.of(("127.0.0.1", 40000), ("127.0.0.1", 3128))
SIX = Connection.of(("::1", 40000), ("::1", 3128))


def answer(
    local: tuple[str, int] = ("127.0.0.1", 40000),
    remote: tuple[str, int] = ("127.0.0.1", 3128),
    state: int = 1,
    uid: int = 1000,
    inode: int = 77,
    sequence: int = 5,
    kind: int = 20,
) -> bytes:
    """
    Make an answer as a Linux kernel does.
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    packed = [socket.inet_pton(family, host).ljust(16, b"\0") for host in (local[0], remote[0])]
    body = struct.pack("=BBBB", family, state, 0, 0)
    body += struct.pack("!HH", local[1], remote[1]) + packed[0] + packed[1] + struct.pack("=III", 0, 1, 2)
    body += struct.pack("=IIIII", 0, 0, 0, uid, inode)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 4321) + body


class QuestionTests(SynchronousTestCase):
    """
    The bytes of a question.
    """

    def test_fourth(self) -> None:
        """
        It asks for one connection of IPv4, by its addresses and ports, whatever its cookie is.
        """
        asked = question(FOUR, 5)
        self.assertEqual(struct.pack("=IHHII", 72, 20, 1, 5, 0), asked[:16])
        self.assertEqual(struct.pack("=BBBBI", socket.AF_INET, 6, 0, 0, 0xFFFFFFFF), asked[16:24])
        self.assertEqual(struct.pack("!HH", 40000, 3128), asked[24:28])
        self.assertEqual(bytes((127, 0, 0, 1)).ljust(16, b"\0") * 2, asked[28:60])
        self.assertEqual(struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF), asked[60:])

    def test_sixth(self) -> None:
        """
        So it does with IPv6.
        """
        asked = question(SIX, 5)
        self.assertEqual(socket.AF_INET6, asked[16])
        self.assertEqual((bytes(15) + b"\1") * 2, asked[28:60])

    def test_mapped(self) -> None:
        """
        To the kernel, IPv4-mapped addresses are IPv4; both ends are of one family.
        """
        self.assertEqual(FOUR, Connection.of(("::ffff:127.0.0.1", 40000), ("::ffff:127.0.0.1", 3128)))
        self.assertRaises(ValueError, Connection.of, ("127.0.0.1", 1), ("::1", 2))
        self.assertRaises(ValueError, Connection.of, ("localhost", 1), ("::1", 2))


class AnswerTests(SynchronousTestCase):
    """
    What is made of an answer.
    """

    def refused(self, data: bytes, connection: Connection = FOUR) -> str:
        """
        Read what is expected to tell nothing.
        """
        return str(self.assertRaises(SockDiagError, readAnswer, data, connection, 5))

    def test_owner(self) -> None:
        """
        The owner is told, also of one that has ended its own direction.
        """
        for state in (1, 4, 5):
            self.assertEqual(1000, readAnswer(answer(state=state), FOUR, 5))
        self.assertEqual(0, readAnswer(answer(uid=0), FOUR, 5))
        self.assertEqual(7, readAnswer(answer(("::1", 40000), ("::1", 3128), uid=7), SIX, 5))

    def test_mapped(self) -> None:
        """
        A client whose socket is of IPv6, and which connects by IPv4, is found as that.
        """
        mapped = "::ffff:127.0.0.1"
        self.assertEqual(1000, readAnswer(answer((mapped, 40000), (mapped, 3128)), FOUR, 5))

    def test_other(self) -> None:
        """
        Another connection than the one asked for tells nothing: not even one that differs in one port, nor the
        listening socket that the kernel falls back to.
        """
        for local, remote in (
            (("127.0.0.1", 40001), ("127.0.0.1", 3128)),
            (("127.0.0.1", 40000), ("127.0.0.1", 3129)),
            (("127.0.0.2", 40000), ("127.0.0.1", 3128)),
            (("127.0.0.1", 40000), ("127.0.0.2", 3128)),
            (("127.0.0.1", 40000), ("0.0.0.0", 0)),
            (("::1", 40000), ("::1", 3128)),
        ):
            self.assertIn("no such connection", self.refused(answer(local, remote)))

    def test_nobody(self) -> None:
        """
        What is left of a connection that a process has closed has no owner, although the kernel says 0.
        """
        for state in (2, 3, 6, 7, 8, 9, 10, 11, 12, 0, 255):
            self.assertIn("no process holds", self.refused(answer(state=state, uid=0)))
        self.assertIn("no process holds", self.refused(answer(inode=0, uid=0)))

    def test_error(self) -> None:
        """
        An error of the kernel is told in its words.
        """
        for code, words in ((-2, "No such file or directory"), (-1, "not permitted"), (0, "does not say why")):
            data = struct.pack("=IHHIIi", 36, 2, 0, 5, 0, code) + bytes(16)
            self.assertIn(words, self.refused(data))
        self.assertIn("cut off", self.refused(struct.pack("=IHHII", 16, 2, 0, 5, 0)))

    def test_strange(self) -> None:
        """
        Other answers tell nothing.
        """
        self.assertIn("not one to this question", self.refused(answer(sequence=6)))
        self.assertIn("of another kind", self.refused(answer(kind=3)))
        self.assertIn("another family", self.refused(answer()[:16] + b"\1" + answer()[17:]))
        self.assertIn("cut off", self.refused(b""))

    @given(st.binary(max_size=120), st.integers(0, 88))
    def test_anything(self, noise: bytes, at: int) -> None:
        """
        Whatever comes, nothing is raised but what is declared.
        """
        for data in (noise, answer()[:at] + noise, answer()[:at]):
            try:
                readAnswer(data, FOUR, 5)
            except SockDiagError as e:
                self.assertTrue(str(e))
