"""
Tests for L{tlsproxy.datagram.proof}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_dtlsoutside import message, record
from tlsproxy.datagram.proof import FACTOR, Proof
from tlsproxy.wire.dtlsoutside import CLEAR, FINISHING, HELLO, KEYED

ANSWER = record(22, message(2, b"hello of the server")) + record(22, message(14))
FINISHED, DATA = record(20, b"\1") + record(22, b"finished", 1), record(23, b"data", 1)


def asking(cookie: bytes) -> bytes:
    """
    Write what asks for a cookie.
    """
    return record(22, message(3, b"\xfe\xff" + bytes([len(cookie)]) + cookie))


class ProofTests(SynchronousTestCase):
    """
    Clients who are there, and others.
    """

    def hello(self, strict: bool = False) -> Proof:
        """
        Make a client that has said hello.
        """
        proof = Proof(strict)
        self.assertFalse(proof.fromClient(200, HELLO | CLEAR))
        return proof

    def test_cookie(self) -> None:
        """
        Who brings back a cookie is there, one of the last few being enough; who brings another is not.
        """
        proof = self.hello()
        self.assertFalse(proof.fromClient(200, HELLO | CLEAR, b"guess"))
        for cookie in (b"first", b"second", b"second", b""):
            self.assertFalse(proof.fromUpstream(asking(cookie)))
        self.assertFalse(proof.fromClient(200, HELLO | CLEAR, b"guess"))
        self.assertFalse(proof.fromClient(200, HELLO | CLEAR))
        self.assertTrue(proof.fromClient(200, HELLO | CLEAR, b"first"))
        self.assertTrue(proof.fromClient(200, HELLO | CLEAR, b"second"))
        for number in range(4):
            proof.fromUpstream(asking(b"number %d" % number))
        self.assertFalse(proof.fromClient(200, HELLO | CLEAR, b"first"))

    def test_handshake(self) -> None:
        """
        Without cookies the upstream's word under keys that follows the client's is the proof.
        """
        for strict in (False, True):
            proof = self.hello(strict)
            self.assertFalse(proof.fromUpstream(ANSWER))
            self.assertFalse(proof.fromClient(300, CLEAR | FINISHING))
            self.assertFalse(proof.fromUpstream(ANSWER))
            self.assertTrue(proof.fromUpstream(FINISHED))

    def test_pretended(self) -> None:
        """
        To send what only looks like it is under keys proves nothing.
        """
        proof = self.hello()
        for seen in (FINISHING, KEYED, CLEAR):
            self.assertFalse(proof.fromClient(20, seen))
            self.assertFalse(proof.fromUpstream(record(22, message(2))))

    def test_resumed(self) -> None:
        """
        Where a session is resumed the upstream's data prove it, or the client's where nobody else loses by that.
        """
        proof = self.hello()
        self.assertFalse(proof.fromUpstream(FINISHED))
        self.assertFalse(proof.fromClient(100, CLEAR | FINISHING))
        self.assertTrue(proof.fromClient(100, KEYED))
        proof = self.hello(strict=True)
        self.assertFalse(proof.fromUpstream(FINISHED))
        self.assertFalse(proof.fromClient(100, CLEAR | FINISHING))
        self.assertFalse(proof.fromClient(100, KEYED))
        self.assertFalse(proof.fromUpstream(FINISHED))
        self.assertTrue(proof.fromUpstream(DATA))

    def test_pretendedEarly(self) -> None:
        """
        Nor does it, in an earlier session, where it comes before the upstream has said anything.
        """
        for strict in (False, True):
            for seen in (FINISHING, KEYED):
                proof = self.hello(strict)
                self.assertFalse(proof.fromClient(20, seen))
                for _ in range(2):
                    self.assertFalse(proof.fromUpstream(record(22, message(2, b"hello of the server")) + FINISHED))

    def test_newer(self) -> None:
        """
        In DTLS 1.3 the upstream's flight, though keys protect it, proves nothing, and neither do the client's records:
        only what the upstream says when its handshake is done.
        """
        flight, data = record(22, message(2, b"hello of the server")) + b"\x2eflight", b"\x2fdata"
        for early in (False, True):
            proof = self.hello()
            if early:
                self.assertFalse(proof.fromClient(20, KEYED))
            self.assertFalse(proof.fromUpstream(flight))
            self.assertFalse(proof.fromClient(20, FINISHING))
            self.assertFalse(proof.fromClient(20, KEYED))
            self.assertFalse(proof.fromUpstream(flight))
            self.assertTrue(proof.fromUpstream(data))

    def test_allows(self) -> None:
        """
        A client may be sent some times what it has sent.
        """
        proof = self.hello()
        self.assertTrue(proof.allows(200 * FACTOR))
        self.assertFalse(proof.allows(200 * FACTOR + 1))
        proof.sent += 500
        self.assertFalse(proof.allows(101))
        proof.fromClient(1, CLEAR)
        self.assertTrue(proof.allows(103))
