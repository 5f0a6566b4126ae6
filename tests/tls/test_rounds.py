"""
Tests for L{tlsproxy.tls.rounds}.
"""

from __future__ import annotations

import contextlib
import time

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import PBES, serialize_key_and_certificates
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import certify
from tlsproxy.tls.rounds import roundsOf

SHOP = certify("shop.example")
PLAIN = SHOP.pkcs12()

SALT = b"\x04\x08saltsalt"
PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
TRIPLE_DES = bytes.fromhex("060a2a864886f70d010c0103")
SCRYPT = bytes.fromhex("06092b06010401da47040b")


def element(tag: int, *parts: bytes, longer: int = 0, open_: bool = False) -> bytes:
    """
    Encode an element.

    @param longer: how many bytes more than needed its length takes.
    @param open_: whether it has no length, and a mark at its end.
    """
    content = b"".join(parts)
    if open_:
        return bytes([tag, 0x80]) + content + b"\0\0"
    if len(content) < 0x80 and not longer:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8 + longer, "big")
    return bytes([tag, 0x80 + len(length)]) + length + content


def number(value: int) -> bytes:
    """
    Encode a number.
    """
    return element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def derivation(scheme: bytes, *numbers: int) -> bytes:
    """
    Encode how a key is derived.
    """
    return element(0x30, scheme, element(0x30, SALT, *map(number, numbers)))


def store(*inside: bytes, mac: int | None = None, **how: bool) -> bytes:
    """
    Encode what has the shape of a PKCS#12 file.

    @param inside: what is in its octets.
    @param mac: for how many rounds it is authenticated.
    @param how: how the elements around the octets are encoded.
    """
    octets = element(0x04, element(0x30, *inside))
    if how.get("open_"):
        half = len(octets) // 2
        content = element(0x30, *inside)
        octets = element(0x24, element(0x04, content[:half]), element(0x04, content[half:]), open_=True)
    parts = [number(3), element(0x30, element(0x06, b"\x2a"), element(0xA0, octets, **how), **how)]
    if mac is not None:
        parts.append(element(0x30, element(0x30), SALT, number(mac)))
    return element(0x30, *parts, **how)


class RoundsTests(SynchronousTestCase):
    """
    What a file asks for.
    """

    def test_real(self) -> None:
        """
        Files of the library are counted, key, certificates and authentication each.
        """
        for scheme in PBES:
            encryption = (
                PrivateFormat.PKCS12.encryption_builder()
                .kdf_rounds(50_000)
                .key_cert_algorithm(scheme)
                .hmac_hash(SHA256())
                .build(b"x")
            )
            data = serialize_key_and_certificates(None, SHOP.key, SHOP.certificate, None, encryption)  # type: ignore[arg-type]
            self.assertTrue(100_000 <= roundsOf(data) <= 150_000, (scheme, roundsOf(data)))
        self.assertLess(roundsOf(PLAIN), 10_000)

    def test_schemes(self) -> None:
        """
        All schemes count, and add up.
        """
        self.assertEqual(0, roundsOf(store()))
        self.assertEqual(7, roundsOf(store(mac=7)))
        self.assertEqual(2048, roundsOf(store(derivation(PBKDF2, 2048, 32))))
        self.assertEqual(2000, roundsOf(store(derivation(TRIPLE_DES, 2000))))
        self.assertEqual(16384 * 8, roundsOf(store(derivation(SCRYPT, 16384, 8, 1, 32))))
        self.assertEqual(111, roundsOf(store(derivation(PBKDF2, 100), derivation(TRIPLE_DES, 10), mac=1)))

    def test_encodings(self) -> None:
        """
        BER is seen through, however lengths are written, and octets in pieces as well.
        """
        inside = derivation(PBKDF2, 3_000_000)
        for how in ({"open_": True}, {"longer": True}):
            self.assertEqual(3_000_001, roundsOf(store(inside, mac=1, **how)))
        self.assertEqual(3_000_000, roundsOf(store(inside) + b"more"))

    def test_strange(self) -> None:
        """
        Numbers that are none, or are below zero, count for nothing, and the largest for a large one.
        """
        for numbers in ((), (-5,)):
            self.assertEqual(0, roundsOf(store(derivation(PBKDF2, *numbers))))
        self.assertEqual(0, roundsOf(store(element(0x30, PBKDF2, element(0x30, SALT, SALT)))))
        self.assertEqual(1 << 62, roundsOf(store(derivation(PBKDF2, 1 << 99_999))))
        self.assertEqual(1 << 62, roundsOf(store(derivation(SCRYPT, 1 << 99, 1 << 99, 1 << 99))))

    def test_other(self) -> None:
        """
        What is no such file is refused.
        """
        for data in (
            b"",
            b"\x30",
            b"\x30\x80",
            b"\x30\x89" + bytes(20),
            b"\x3f\x81\x00\x00",
            b"\x04\x80\0\0",
            b"Hello",
        ):
            self.assertRaises(ValueError, roundsOf, data)
        for data in (element(0x30), element(0x30, number(3)), element(0x31, number(3), number(3)), PLAIN[:-1]):
            self.assertRaises(ValueError, roundsOf, data)

    def test_hostile(self) -> None:
        """
        What goes too deep, or has too many parts, is refused before long.
        """
        began = time.process_time()
        deep = b""
        for _ in range(5000):
            deep = element(0x30, deep)
        for data in (deep, b"\x30\x80" * 1_000_000, element(0x30, b"\x30\0" * 1_000_000)):
            self.assertRaises(ValueError, roundsOf, data)
        self.assertLess(time.process_time() - began, 10)

    @settings(deadline=None)
    @given(st.integers(0, len(PLAIN) - 1), st.binary(max_size=9))
    def test_damaged(self, position: int, junk: bytes) -> None:
        """
        However a file is damaged, there is a number, or the declared error.
        """
        with contextlib.suppress(ValueError):
            self.assertGreaterEqual(roundsOf(PLAIN[:position] + junk + PLAIN[position + len(junk) :]), 0)

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """
        So there is for anything at all.
        """
        with contextlib.suppress(ValueError):
            self.assertGreaterEqual(roundsOf(data), 0)

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from([PBKDF2, TRIPLE_DES]), st.integers(0, 10**9)), max_size=5),
        st.none() | st.integers(1, 10**9),
        st.sampled_from([{}, {"open_": True}, {"longer": True}]),
    )
    def test_sum(self, derivations: list[tuple[bytes, int]], mac: int | None, how: dict[str, bool]) -> None:
        """
        Whatever is in it, and however it is written, it adds up.
        """
        data = store(*(derivation(scheme, count) for scheme, count in derivations), mac=mac, **how)
        self.assertEqual(sum(count for _, count in derivations) + (mac or 0), roundsOf(data))
