# -*- test-case-name: tests.wire.test_proxytlv -*-
"""
Tests for L{tlsproxy.wire.proxytlv}.
"""

from __future__ import annotations

import struct
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.proxytlv import NOTHING_TOLD, ProxyHeaderError, ToldTLS, Vectors, readVectors, writeVectors

words = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40)
accounts = st.builds(
    ToldTLS,
    version=words,
    cipher=words,
    group=words,
    signatureAlgorithm=words,
    keyAlgorithm=words,
    signatureScheme=words,
    shown=st.booleans(),
    commonName=words,
    certificate=st.binary(max_size=300),
)
vectors = st.builds(
    Vectors,
    alpn=st.binary(max_size=30),
    authority=words,
    uniqueId=st.binary(max_size=128),
    tls=st.none() | accounts,
    others=st.lists(st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=30)), max_size=3).map(tuple),
)


def tlv(kind: int, value: bytes = b"") -> bytes:
    """
    Write one vector.
    """
    return struct.pack("!BH", kind, len(value)) + value


def account(*parts: bytes, flags: int = 1, verify: int = 1) -> bytes:
    """
    Write an account of TLS.
    """
    return tlv(0x20, struct.pack("!BI", flags, verify) + b"".join(parts))


class VectorsTests(SynchronousTestCase):
    """
    L{readVectors} and L{writeVectors}.
    """

    def read(self, data: bytes) -> Vectors:
        """
        Read all of something.
        """
        return readVectors(data, 0)[0]

    def test_all(self) -> None:
        """
        All that is known is read, padding is skipped, and what is not known is kept.
        """
        data = b"".join(
            [
                tlv(0x01, b"h2"),
                tlv(0x02, "bücher.example".encode()),
                tlv(0x04, b"padding"),
                tlv(0x04),
                tlv(0x05, b"\x00id\xff"),
                account(
                    tlv(0x21, b"TLSv1.3"),
                    tlv(0x22, b"alice"),
                    tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
                    tlv(0x24, b"RSA-SHA256"),
                    tlv(0x25, b"RSA2048"),
                    tlv(0x26, b"x25519"),
                    tlv(0x27, b"rsa_pss_rsae_sha256"),
                    tlv(0x28, b"DER"),
                    tlv(0x2F, b"unheard of"),
                    flags=7,
                    verify=0,
                ),
                tlv(0x30, b"netns"),
                tlv(0xEA, b"\x01vpce"),
                tlv(0xEA, b"again"),
            ]
        )
        tls = ToldTLS(
            version="TLSv1.3",
            cipher="TLS_AES_128_GCM_SHA256",
            group="x25519",
            signatureAlgorithm="RSA-SHA256",
            keyAlgorithm="RSA2048",
            signatureScheme="rsa_pss_rsae_sha256",
            shown=True,
            verified=True,
            commonName="alice",
            certificate=b"DER",
        )
        others = ((0x30, b"netns"), (0xEA, b"\x01vpce"), (0xEA, b"again"))
        told = Vectors(alpn=b"h2", authority="bücher.example", uniqueId=b"\x00id\xff", tls=tls, others=others)
        self.assertEqual((told, 0), readVectors(data, 0))

    def test_certificate(self) -> None:
        """
        A certificate counts as verified only where one was shown and the result says so.
        """
        for flags, verify, shown, verified in (
            (1, 0, False, False),
            (1, 1, False, False),
            (3, 0, True, True),
            (5, 0, True, True),
            (7, 18, True, False),
        ):
            tls = self.read(account(flags=flags, verify=verify)).tls
            self.assertEqual(ToldTLS(shown=shown, verified=verified), tls)
        self.assertIsNone(self.read(account(flags=0, verify=0)).tls)
        self.assertIsNone(self.read(account(flags=6, verify=0)).tls)

    def test_verifyIsWritten(self) -> None:
        """
        Nothing but a verified certificate is written as one: zero there means that it was.
        """
        for shown, verified, flags, zero in (
            (False, False, 1, False),
            (False, True, 1, False),
            (True, False, 7, False),
            (True, True, 7, True),
        ):
            data = writeVectors(Vectors(tls=ToldTLS(shown=shown, verified=verified)))
            self.assertEqual((flags, zero), (data[3], data[4:8] == bytes(4)))

    def test_refused(self) -> None:
        """
        What does not fit, or could be read in two ways, is refused in one sentence.
        """
        for data, said in (
            (b"\x01", "ends in the middle of a TLV"),
            (b"\x01\x00", "ends in the middle of a TLV"),
            (tlv(0x04) + b"\x01", "ends in the middle of a TLV"),
            (b"\x01\x00\x05h2", "goes on past its end"),
            (tlv(0x01, b"h2") + tlv(0x01, b"h2"), "tells its application protocol twice"),
            (tlv(0x02, b"a") + tlv(0x02, b"b"), "tells its authority twice"),
            (tlv(0x03, bytes(4)) * 2, "tells its checksum twice"),
            (tlv(0x05, b"a") * 2, "tells its unique ID twice"),
            (account() * 2, "tells its account of TLS twice"),
            (tlv(0x02, b"\xff"), "an authority that is no text"),
            (tlv(0x02, b"shop.example\0.evil"), "an authority that is no text"),
            (tlv(0x02, b"shop\r\nsni=x"), "an authority that is no text"),
            (tlv(0x03, bytes(3)), "a checksum that is not of four bytes"),
            (tlv(0x03), "a checksum that is not of four bytes"),
            (tlv(0x05, bytes(129)), "a unique ID of more than 128 bytes"),
            (tlv(0x20, bytes(4)), "an account of TLS that is too short"),
            (account(b"\x21\x00"), "ends in the middle of a TLV"),
            (account(b"\x21\x00\x09TLSv1.3"), "goes on past its end"),
            (account(tlv(0x22, b"alice"), tlv(0x22, b"bob")), "one thing of TLS twice"),
            (account(tlv(0x28, b""), tlv(0x28, b"x")), "one thing of TLS twice"),
            (account(tlv(0x22, b"a\nb")), "a word on TLS that is no text"),
        ):
            problem = self.assertRaises(ProxyHeaderError, self.read, data)
            self.assertIn(said, str(problem))

    def test_checksum(self) -> None:
        """
        Where the checksum stands is told, for whoever has the whole header.
        """
        self.assertEqual(3, readVectors(tlv(0x03, b"abcd"), 0)[1])
        self.assertEqual((NOTHING_TOLD, 12), readVectors(b"before" + tlv(4) + tlv(0x03, b"abcd"), 6))

    def test_tooLong(self) -> None:
        """
        What is too long to be told is not cut.
        """
        for told in (
            Vectors(others=((0xE0, bytes(65536)),)),
            Vectors(tls=ToldTLS(certificate=bytes(65536))),
            Vectors(tls=ToldTLS(certificate=bytes(65535))),
        ):
            self.assertRaises(ProxyHeaderError, writeVectors, told)

    def test_nothing(self) -> None:
        """
        What there is not is not told.
        """
        self.assertEqual(b"", writeVectors(NOTHING_TOLD))
        self.assertEqual(NOTHING_TOLD, self.read(b""))

    @given(told=vectors, verified=st.booleans())
    def test_roundTrip(self, told: Vectors, verified: bool) -> None:
        """
        What is written is read.
        """
        if told.tls is not None:
            told = evolve(told, tls=evolve(told.tls, verified=verified and told.tls.shown))
        self.assertEqual(told, self.read(writeVectors(told)))

    @given(
        data=st.binary(max_size=200)
        | st.lists(st.builds(tlv, st.sampled_from([1, 2, 3, 5, 32]), st.binary())).map(b"".join)
    )
    def test_anything(self, data: Any) -> None:
        """
        Whatever comes, it is read, or refused in one sentence.
        """
        try:
            self.read(data)
        except ProxyHeaderError as e:
            self.assertTrue(str(e).isprintable())
