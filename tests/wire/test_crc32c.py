# -*- test-case-name: tests.wire.test_crc32c -*-
"""
Tests for L{tlsproxy.wire.crc32c}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.crc32c import crc32c


class CRC32CTests(SynchronousTestCase):
    """
    L{crc32c}.
    """

    def test_known(self) -> None:
        """
        The sums that RFC 3720, section B.4 has for some bytes, and the one that is used to tell checksums apart.
        """
        for data, known in (
            (b"", 0),
            (b"123456789", 0xE3069283),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytes(reversed(range(32))), 0x113FDB5C),
        ):
            self.assertEqual(known, crc32c(data))
            self.assertEqual(known, crc32c(bytearray(data)))
