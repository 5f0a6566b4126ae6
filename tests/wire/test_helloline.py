"""
Tests for L{tlsproxy.wire.helloline}.
"""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import GOOD, buildClientHello, lengthless, readAll
from tlsproxy.wire.helloline import describeALPN, describeGroups, describeVersions

USUAL = lengthless(readAll(GOOD))
PLAIN = lengthless(readAll(buildClientHello()))


class UsualTests(SynchronousTestCase):
    """
    What usual clients offer.
    """

    def test_usual(self) -> None:
        """
        The words stand in the client's order, with commas between them.
        """
        self.assertEqual(describeVersions(USUAL), "1.3,1.2")
        self.assertEqual(describeGroups(USUAL), "X25519MLKEM768,X25519,secp256r1")
        self.assertEqual(describeALPN(USUAL), "h2,http/1.1")

    def test_nothing(self) -> None:
        """
        A client without extensions still offers a version; of the others a dash tells that there are none.
        """
        self.assertEqual(describeVersions(PLAIN), "1.2")
        self.assertEqual((describeGroups(PLAIN), describeALPN(PLAIN)), ("-", "-"))

    def test_oldVersions(self) -> None:
        """
        All versions since SSL 3.0 have names.
        """
        hello = evolve(USUAL, versions=(0x0304, 0x0303, 0x0302, 0x0301, 0x0300))
        self.assertEqual(describeVersions(hello), "1.3,1.2,1.1,1.0,ssl3")

    def test_manyGroups(self) -> None:
        """
        The groups that clients of today offer have names.
        """
        hello = evolve(USUAL, groups=(4587, 4589, 4590, 514, 24, 25, 30, 41, 256, 260, 25497))
        self.assertEqual(
            describeGroups(hello),
            "SecP256r1MLKEM768,SecP384r1MLKEM1024,curveSM2MLKEM768,MLKEM1024,secp384r1,secp521r1,X448,curveSM2,"
            "ffdhe2048,ffdhe8192,X25519Kyber768Draft00",
        )


class UnusualTests(SynchronousTestCase):
    """
    What clients might offer to disturb whoever reads the log.
    """

    def test_unknown(self) -> None:
        """
        What has no name is shown by its number.
        """
        hello = evolve(USUAL, versions=(0x7F1C, 0x0303), groups=(29, 0xFE01, 2))
        self.assertEqual(describeVersions(hello), "0x7f1c,1.2")
        self.assertEqual(describeGroups(hello), "X25519,0xfe01,0x0002")

    def test_unprintable(self) -> None:
        """
        What could break the line, or pass for another protocol, is shown by its bytes.
        """
        hello = evolve(USUAL, alpn=(b"a,b", b'"\\', b"\n \x00\x7f\xff", b"h2"))
        self.assertEqual(describeALPN(hello), r"a\x2cb,\x22\x5c,\x0a\x20\x00\x7f\xff,h2")

    def test_many(self) -> None:
        """
        Of long lists the first are shown, with dots after them.
        """
        hello = evolve(USUAL, versions=(0x0303,) * 17, groups=tuple(range(256, 556)), alpn=(b"h2",) * 9)
        self.assertEqual(describeVersions(hello), "1.2," * 16 + "...")
        self.assertEqual(describeALPN(hello), "h2,h2,h2,h2,...")
        groups = describeGroups(hello).split(",")
        self.assertEqual((len(groups), groups[0], groups[15:]), (17, "ffdhe2048", ["0x010f", "..."]))

    def test_asManyAsFit(self) -> None:
        """
        A list that is shown whole has no dots.
        """
        hello = evolve(USUAL, groups=(23,) * 16, alpn=(b"h2",) * 4)
        self.assertEqual(describeGroups(hello), ",".join(["secp256r1"] * 16))
        self.assertEqual(describeALPN(hello), "h2,h2,h2,h2")

    def test_longProtocol(self) -> None:
        """
        Of a long name of a protocol its beginning is shown, with dots after it.
        """
        hello = evolve(USUAL, alpn=(b"x" * 32, b"y" * 33))
        self.assertEqual(describeALPN(hello), "x" * 32 + "," + "y" * 32 + "...")

    @given(names=st.lists(st.binary(min_size=1, max_size=255), max_size=20))
    def test_alwaysOneShortWord(self, names: list[bytes]) -> None:
        """
        Whatever the protocols are, they make one printable word of bounded length, with one part for each protocol.
        """
        told = describeALPN(evolve(USUAL, alpn=tuple(names)))
        self.assertRegex(told, r"\A[!-~]+\Z")
        self.assertLessEqual(len(told), 600)
        self.assertEqual(len(told.split(",")), max(1, min(len(names), 5)))
