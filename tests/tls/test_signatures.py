# -*- test-case-name: tests.tls.test_signatures -*-
"""
L{tlsproxy.tls.signatures}: texts that are signed.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.tls.signatures import isSigned, pinOf, sign, unsigned

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
TEXT = b'[mapping]\nversion = 1\n# a comment\n[[map]]\nhosts = ["a:1"]\n'
WHOLE = sign(TEXT, KEY)


class SignatureTests(SynchronousTestCase):
    """
    Texts with a line at their end.
    """

    def refused(self, data: bytes, words: str = "") -> None:
        """
        There is no good signature.
        """
        problem = str(self.assertRaises(ValueError, unsigned, data))
        self.assertRegex(problem, "^its? ")
        self.assertIn(words, problem)

    def test_format(self) -> None:
        """
        The line has the key and the signature over every byte before it: other programs can verify it.
        """
        line = WHOLE.removeprefix(TEXT)
        found = re.fullmatch(rb"# signature: ed25519 (\S+) (\S+)\n", line)
        assert found is not None
        self.assertEqual(PUBLIC, b64decode(found[1]))
        KEY.public_key().verify(b64decode(found[2]), TEXT)

    @given(text=st.binary(max_size=200))
    @example(text=b"")
    @example(text=b"\n")
    def test_back(self, text: bytes) -> None:
        """
        What was signed comes back as it was, whatever it is, with who has signed it.
        """
        text += b"\n"
        if not isSigned(text):
            found = unsigned(sign(text, KEY))
            self.assertEqual((text, PUBLIC), (found.text, found.signer))

    def test_everyByte(self) -> None:
        """
        No byte may be changed, not even the bits of base64 that mean nothing, and none may be lost or added.
        """
        for position in range(len(WHOLE)):
            for bit in range(8):
                changed = bytearray(WHOLE)
                changed[position] ^= 1 << bit
                self.refused(bytes(changed))
            self.refused(WHOLE[:position])
            self.refused(WHOLE[:position] + WHOLE[position + 1 :])
            self.refused(WHOLE[:position] + b"\r" + WHOLE[position:])

    def test_spareBits(self) -> None:
        """
        A signature is written in one way only.
        """
        alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        for padding in (b"= ", b"==\n"):
            at = WHOLE.rindex(padding) - 1
            other = alphabet[alphabet.index(WHOLE[at]) ^ 1]
            self.refused(WHOLE[:at] + bytes([other]) + WHOLE[at + 1 :], "not written as it has to be")

    @given(data=st.binary(max_size=300))
    @example(data=b"# signature: ed25519 \n")
    def test_anything(self, data: bytes) -> None:
        """
        What nobody has signed is refused, with one sentence, and so is what stands behind a signature.
        """
        self.refused(data)
        if data:
            self.refused(WHOLE + data)

    def test_stranger(self) -> None:
        """
        A signature is not good under another's key.
        """
        public = OTHER.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        line = sign(TEXT, OTHER).removeprefix(TEXT).split(b" ")
        mine = WHOLE.removeprefix(TEXT).split(b" ")
        self.refused(TEXT + b" ".join([*mine[:3], line[3], mine[4]]), "somebody has changed it")
        self.assertEqual(public, unsigned(sign(TEXT, OTHER)).signer)

    def test_noKey(self) -> None:
        """
        What is no point of the curve is no key, and raises nothing else.
        """
        words = WHOLE.removeprefix(TEXT).split(b" ")
        self.refused(TEXT + b" ".join([*words[:3], b"/" * 42 + b"8=", words[4]]), "somebody has changed it")

    def test_several(self) -> None:
        """
        Nothing is signed twice, and no line that looks like a signature hides in what is signed.
        """
        line = WHOLE.removeprefix(TEXT)
        self.assertRaises(ValueError, sign, WHOLE, KEY)
        for text in (b"  # signature: x\n", b"a = 1\r# signature:\n", b"\t# signature: ed25519\n"):
            self.assertTrue(isSigned(text + TEXT))
            self.assertRaises(ValueError, sign, text + TEXT, KEY)
        self.assertFalse(isSigned(TEXT))
        self.refused(WHOLE + line, "more than one")
        self.refused(line + WHOLE, "more than one")
        self.refused(WHOLE + WHOLE, "more than one")

    def test_end(self) -> None:
        """
        A text has whole lines.
        """
        self.assertRaises(ValueError, sign, b"a = 1", KEY)
        self.assertRaises(ValueError, sign, b"", KEY)
        self.refused(b"", "no signature")
        self.refused(TEXT, "no signature")
        self.refused(WHOLE.replace(b"\n", b"\r\n"), "no signature")

    def test_pin(self) -> None:
        """
        A key is pinned as other programs do it: by its SubjectPublicKeyInfo.
        """
        info = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual(hashlib.sha256(info).digest(), pinOf(PUBLIC))
