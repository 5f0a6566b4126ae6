# -*- test-case-name: tests.wire.test_proof -*-
"""
Tests for L{tlsproxy.wire.proof}.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.proof import PROOF_LENGTH, isProof, proofOf, storedKey

SECRET = bytes(range(32))
SALTED = hashlib.pbkdf2_hmac("sha256", b"pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
EXCHANGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO"
    b",r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    b",c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)


class ProofTests(SynchronousTestCase):
    """
    Who has the secret, and who has not.
    """

    def test_vector(self) -> None:
        """
        The example of RFC 7677, section 3.
        """
        proof = proofOf(SALTED, EXCHANGE)
        self.assertEqual(b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", b64encode(proof))
        self.assertTrue(isProof(storedKey(SALTED), EXCHANGE, proof))

    @given(secret=st.binary(min_size=1, max_size=64), message=st.binary(max_size=100))
    def test_good(self, secret: bytes, message: bytes) -> None:
        """
        Whoever has the secret can prove it over any message.
        """
        proof = proofOf(secret, message)
        self.assertEqual(PROOF_LENGTH, len(proof))
        self.assertTrue(isProof(storedKey(secret), message, proof))

    @given(position=st.integers(0, 8 * PROOF_LENGTH - 1))
    def test_altered(self, position: int) -> None:
        """
        One bit makes a proof wrong.
        """
        altered = bytearray(proofOf(SECRET, b"message"))
        altered[position // 8] ^= 1 << position % 8
        self.assertFalse(isProof(storedKey(SECRET), b"message", bytes(altered)))

    @given(message=st.binary(max_size=100), other=st.binary(max_size=100))
    def test_otherMessage(self, message: bytes, other: bytes) -> None:
        """
        A proof is good for one message only.
        """
        self.assertEqual(message == other, isProof(storedKey(SECRET), other, proofOf(SECRET, message)))

    @given(other=st.binary(min_size=32, max_size=32))
    def test_otherSecret(self, other: bytes) -> None:
        """
        A proof is good for one secret only.
        """
        self.assertEqual(other == SECRET, isProof(storedKey(SECRET), b"message", proofOf(other, b"message")))

    @given(proof=st.binary(max_size=80))
    def test_anything(self, proof: bytes) -> None:
        """
        Anything else is no proof, of whatever length it is.
        """
        self.assertFalse(isProof(storedKey(SECRET), b"message", proof))

    def test_storedKeyProvesNothing(self) -> None:
        """
        What is kept can prove nothing by itself.
        """
        stored = storedKey(SECRET)
        for attempt in (proofOf(stored, b"message"), stored, bytes(PROOF_LENGTH)):
            self.assertFalse(isProof(stored, b"message", attempt))
