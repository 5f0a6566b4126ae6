"""
Tests for L{tlsproxy.wire.ja4}.
"""

from __future__ import annotations

import hashlib
import random
import re

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire import clienthellos
from tests.wire.clienthellos import GOOD, buildClientHello, numbers, readAll
from tlsproxy.wire import ja4 as module
from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.ja4 import ja4


def listed(text: str) -> tuple[int, ...]:
    """
    Read numbers as the publication writes them.
    """
    return tuple(int(number, 16) for number in text.split(","))


CIPHERS = listed("1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035")
EXTENSIONS = listed("001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015")
ALGORITHMS = listed("0403,0804,0401,0503,0805,0501,0806,0601")

# The example that FoxIO's technical description goes through.
PUBLISHED = ClientHello(
    serverName="a.example",
    alpn=(b"h2", b"http/1.1"),
    versions=(0x0304, 0x0303),
    groups=(29, 23, 24),
    cipherSuites=CIPHERS,
    extensions=EXTENSIONS,
    signatureAlgorithms=ALGORITHMS,
    legacyVersion=0x0303,
    wireLength=517,
)


def hashed(text: str) -> str:
    """
    Hash a text as JA4 does.
    """
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]


class PublishedTests(SynchronousTestCase):
    """
    The examples of the technical description.
    """

    def test_whole(self) -> None:
        """
        The example has the fingerprint that was published.
        """
        self.assertEqual(ja4(PUBLISHED), "t13d1516h2_8daaf6152771_e5627efa2ab1")

    def test_withoutSignatureAlgorithms(self) -> None:
        """
        Without signature algorithms, nothing stands after the extensions.
        """
        self.assertEqual(ja4(evolve(PUBLISHED, signatureAlgorithms=())), "t13d1516h2_8daaf6152771_6d807ffa2a79")

    def test_protocols(self) -> None:
        """
        The ends of the first protocol are shown as they are if both are letters or digits, else in hexadecimal.
        """
        for protocol, ends in (
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"\xab", "ab"),
            (b"\xab\xcd", "ad"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
            (b"\x30\xab\xcd\x31", "01"),
        ):
            self.assertEqual(ja4(evolve(PUBLISHED, alpn=(protocol, b"zz")))[8:10], ends)

    def test_moreProtocols(self) -> None:
        """
        A single character is both ends, capitals stay, and neither punctuation nor letters beyond ASCII are letters.
        """
        for protocol, ends in (
            (b"x", "xx"),
            (b"Ab9Z", "AZ"),
            (b"-", "2d"),
            (b"h-", "6d"),
            (b"_h2", "52"),
            (b"\xe4\xf6", "e6"),
            (b"h\n", "6a"),
        ):
            self.assertEqual(ja4(evolve(PUBLISHED, alpn=(protocol,)))[8:10], ends)


class RuleTests(SynchronousTestCase):
    """
    The rules at their edges.
    """

    def start(self, hello: ClientHello) -> str:
        """
        Tell the part before the hashes.
        """
        return ja4(hello).partition("_")[0]

    def test_versions(self) -> None:
        """
        The highest version listed counts, wherever it stands, and an unknown one is 00.
        """
        for versions, told in (
            ((0x0303, 0x0304, 0x0302), "13"),
            ((0x0303,), "12"),
            ((0x0302,), "11"),
            ((0x0301,), "10"),
            ((0x0300,), "s3"),
            ((0x0002,), "s2"),
            ((0x0304, 0x7F1C), "00"),
            ((0x0305,), "00"),
        ):
            hello = evolve(PUBLISHED, versions=versions, legacyVersion=0x0301)
            self.assertEqual(self.start(hello), f"t{told}d1516h2")

    def test_legacyVersion(self) -> None:
        """
        The version field counts where no versions are listed, even for TLS 1.3, which a server would not take from it.
        """
        for legacyVersion, told in ((0x0300, "s3"), (0x0301, "10"), (0x0303, "12"), (0x0304, "13"), (0x0305, "00")):
            hello = readAll(buildClientHello(legacyVersion=legacyVersion))
            assert hello is not None
            self.assertEqual(ja4(hello)[:8], f"t{told}i0200")

    def test_serverName(self) -> None:
        """
        What counts is whether a server is named, and its name does not.
        """
        without = tuple(kind for kind in EXTENSIONS if kind != 0)
        self.assertEqual(self.start(evolve(PUBLISHED, serverName=None, extensions=without)), "t13i1515h2")
        self.assertEqual(ja4(evolve(PUBLISHED, serverName="b.example")), ja4(PUBLISHED))

    def test_serverNameAndProtocolsAreNotHashed(self) -> None:
        """
        A client that names no server and offers no protocol differs in the first part only.
        """
        bare = evolve(
            PUBLISHED, serverName=None, alpn=(), extensions=tuple(kind for kind in EXTENSIONS if kind not in (0, 16))
        )
        self.assertEqual(ja4(bare), "t13i151400_8daaf6152771_e5627efa2ab1")

    def test_counts(self) -> None:
        """
        Counts have two digits, and stop at 99; what is beyond is hashed all the same.
        """
        for count, digits in ((0, "00"), (1, "01"), (9, "09"), (10, "10"), (99, "99"), (100, "99"), (2000, "99")):
            many = tuple(range(1000, 1000 + count))
            told = ja4(evolve(PUBLISHED, cipherSuites=many, extensions=(43, *many[1:]), signatureAlgorithms=many))
            self.assertEqual(told[4:8], digits + (digits if count else "01"))
            text = ",".join(f"{number:04x}" for number in many)
            self.assertEqual(told[11:23], hashed(text) if many else "0" * 12)
            extensions = ",".join(f"{number:04x}" for number in (43, *many[1:]))
            self.assertEqual(told[24:], hashed(f"{extensions}_{text}" if many else extensions))

    def test_signalsCount(self) -> None:
        """
        Signals among the cipher suites, and private numbers, are counted and hashed.
        """
        told = ja4(evolve(PUBLISHED, cipherSuites=(0x5600, 0x1301, 0x00FF, 0xFEFE)))
        self.assertEqual((told[4:6], told[11:23]), ("04", hashed("00ff,1301,5600,fefe")))

    def test_noCiphers(self) -> None:
        """
        Without ciphers the second part is all zeros.
        """
        self.assertEqual(ja4(evolve(PUBLISHED, cipherSuites=())), "t13d0016h2_000000000000_e5627efa2ab1")

    def test_noExtensions(self) -> None:
        """
        Without extensions, or with none that are hashed, the third part is all zeros.
        """
        empty = evolve(PUBLISHED, serverName=None, alpn=(), extensions=(), signatureAlgorithms=())
        self.assertEqual(ja4(empty), "t12i150000_8daaf6152771_000000000000")
        others = evolve(PUBLISHED, extensions=(0, 16), signatureAlgorithms=())
        self.assertEqual(ja4(others), "t12d1502h2_8daaf6152771_000000000000")

    def test_reservedNumbers(self) -> None:
        """
        The numbers of RFC 8701 make no difference, wherever they stand.
        """
        without = buildClientHello(
            [clienthellos.signatureAlgorithms(0x0403), clienthellos.versions(0x0304)], cipherSuites=numbers([0x1301])
        )
        greasy = buildClientHello(
            [
                (0x0A0A, b""),
                clienthellos.signatureAlgorithms(0x1A1A, 0x0403),
                clienthellos.versions(0xFAFA, 0x0304),
                (0xEAEA, b""),
            ],
            cipherSuites=numbers([0x2A2A, 0x1301, 0x3A3A]),
        )
        hellos = [readAll(wire) for wire in (without, greasy)]
        told = {ja4(hello) for hello in hellos if hello is not None}
        self.assertEqual(told, {f"t13i010200_{hashed('1301')}_{hashed('000d,002b_0403')}"})

    def test_order(self) -> None:
        """
        The order of ciphers and of extensions makes no difference; that of signature algorithms does.
        """
        shuffled = list(CIPHERS), list(EXTENSIONS)
        for one in shuffled:
            random.Random(4).shuffle(one)
        same = evolve(PUBLISHED, cipherSuites=tuple(shuffled[0]), extensions=tuple(shuffled[1]))
        self.assertEqual(ja4(same), ja4(PUBLISHED))
        other = evolve(PUBLISHED, signatureAlgorithms=ALGORITHMS[::-1])
        self.assertNotEqual(ja4(other), ja4(PUBLISHED))

    @given(
        alpn=st.lists(st.binary(min_size=1, max_size=255), max_size=2),
        ciphers=st.lists(st.integers(0, 0xFFFF), max_size=200),
        extensions=st.lists(st.integers(0, 0xFFFF), max_size=200, unique=True),
        algorithms=st.lists(st.integers(0, 0xFFFF), max_size=200),
        versions=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=127),
    )
    def test_shape(
        self, alpn: list[bytes], ciphers: list[int], extensions: list[int], algorithms: list[int], versions: list[int]
    ) -> None:
        """
        Whatever a client offers, the fingerprint has its 36 characters, which are fit for a log.
        """
        told = ja4(
            evolve(
                PUBLISHED,
                alpn=tuple(alpn),
                cipherSuites=tuple(ciphers),
                extensions=tuple(extensions),
                signatureAlgorithms=tuple(algorithms),
                versions=tuple(versions),
            )
        )
        self.assertTrue(re.fullmatch(r"t[01s][0-3][di]\d{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}", told), told)


class KeptTests(SynchronousTestCase):
    """
    The hashes that are kept.
    """

    def setUp(self) -> None:
        """
        Start with none.
        """
        module._keptCiphers.cache_clear()
        module._keptExtensions.cache_clear()

    def test_shuffled(self) -> None:
        """
        A browser that shuffles its extensions, and talks to many servers, has one place for each hash.
        """
        for seed in range(50):
            shuffled = list(EXTENSIONS)
            random.Random(seed).shuffle(shuffled)
            ja4(evolve(PUBLISHED, extensions=tuple(shuffled), serverName=f"{seed}.example"))
        for kept in (module._keptCiphers.cache_info(), module._keptExtensions.cache_info()):
            self.assertEqual((kept.currsize, kept.hits), (1, 49))

    def test_longListsAreNotKept(self) -> None:
        """
        Long lists, which only a hostile client sends, take no memory.
        """
        many = tuple(range(20000, 20129))
        for changed in (
            evolve(PUBLISHED, cipherSuites=many),
            evolve(PUBLISHED, extensions=many),
            evolve(PUBLISHED, signatureAlgorithms=many),
        ):
            ja4(changed)
        for kept in (module._keptCiphers.cache_info(), module._keptExtensions.cache_info()):
            self.assertEqual(kept.currsize, 0)

    def test_parsed(self) -> None:
        """
        The fingerprint of a parsed hello is that of its fields.
        """
        hello = readAll(GOOD)
        assert hello is not None
        self.assertEqual(ja4(hello), f"t13d0207h2_{hashed('1301,c02b')}_{hashed('000a,000d,0029,002b,fe0d_0403,0804')}")
