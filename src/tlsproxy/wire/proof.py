# -*- test-case-name: tests.wire.test_proof -*-
"""
How the holder of a secret proves that, to somebody who has only a hash of it: the ClientProof of SCRAM (RFC 5802,
section 3) with SHA-256 (RFC 7677).

The secret is random and long, so it takes the place of SaltedPassword as it is.  What is proven is said over a message
that nobody else can have: here the keying material of this one TLS connection, and what is asked for in it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

__all__ = ["PROOF_LENGTH", "isProof", "proofOf", "storedKey"]

PROOF_LENGTH: Final = 32
"""How long a proof is, in bytes."""


def _clientKey(secret: bytes) -> bytes:
    return hmac.digest(secret, b"Client Key", "sha256")


def _mixed(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def storedKey(secret: bytes) -> bytes:
    """
    Make what is kept of a secret: nothing can be proven by it.
    """
    return hashlib.sha256(_clientKey(secret)).digest()


def proofOf(secret: bytes, message: bytes) -> bytes:
    """
    Prove to have a secret.

    @param message: What the proof is for.
    """
    return _mixed(_clientKey(secret), hmac.digest(storedKey(secret), message, "sha256"))


def isProof(stored: bytes, message: bytes, proof: bytes) -> bool:
    """
    Tell whether a proof is one, in a time that does not depend on how wrong it is.

    @param stored: What L{storedKey} has made of the secret.
    @param message: What the proof has to be for.
    """
    if len(proof) != PROOF_LENGTH:
        return False
    key = _mixed(proof, hmac.digest(stored, message, "sha256"))
    return hmac.compare_digest(hashlib.sha256(key).digest(), stored)
