"""
Tests for L{tlsproxy.wire.agreement}.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.clienthellos import GOOD, buildClientHello, cutInRecords, helloMessage, readAll
from tests.wire.flights import RETRY, serverHello
from tlsproxy.wire.agreement import FINISHED, Disagreement, areWhole, checkAnswer, sessionIDOf
from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.serverhello import ServerHello, readServerHello

ID = bytes(range(32))


def hello() -> ClientHello:
    """
    Make the hello of a client that offers everything.
    """
    found = readAll(GOOD)
    assert found is not None
    return evolve(
        found,
        cipherSuites=(0x1301, 0x1302, 0x1303, 0x1304, 0x1305, 0xC0B4, 0x009C, 0x00FF, *FINISHED),
        versions=(0x0304, 0x0303, 0x0302),
        groups=(0x11EC, 29, 24),
        extensions=(0, 10, 16, 23, 43, 51, 41),
    )


def three(**changes: Any) -> ServerHello:
    """
    Make an answer of TLS 1.3.
    """
    return evolve(readServerHello(serverHello(sessionID=ID)[4:]), **changes)


def two(**changes: Any) -> ServerHello:
    """
    Make an answer of TLS 1.2.
    """
    made = serverHello(suite=0xC02B, version=None, group=None, extensions=[(23, b""), (0xFF01, b"\0"), (16, b"")])
    return evolve(readServerHello(made[4:]), **changes)


def retry(**changes: Any) -> ServerHello:
    """
    Make a request for another hello.
    """
    return evolve(readServerHello(serverHello(sessionID=ID, random=RETRY, group=24)[4:]), **changes)


class AnswerTests(SynchronousTestCase):
    """
    What a server may choose.
    """

    def assertRefused(self, answer: ServerHello, sentence: str, asked: ServerHello | None = None) -> None:
        """
        Check that a choice leads to nothing.
        """
        refused = self.assertRaises(Disagreement, checkAnswer, hello(), ID, answer, asked)
        self.assertEqual(str(refused), f"the destination {sentence}")

    def test_good(self) -> None:
        """
        What was offered and protects may be chosen.
        """
        for suite in (0x1301, 0x1302, 0x1303):
            checkAnswer(hello(), ID, three(cipherSuite=suite), None)
            checkAnswer(hello(), ID, retry(cipherSuite=suite), None)
        for suite in FINISHED:
            checkAnswer(hello(), ID, two(cipherSuite=suite), None)
        checkAnswer(hello(), ID, three(extensions=(43, 41, 51)), None)
        checkAnswer(hello(), ID, three(group=24), retry())
        checkAnswer(hello(), ID, three(group=29), retry(group=None, extensions=(43, 44)))
        checkAnswer(hello(), ID, retry(group=None, extensions=(43, 44)), None)
        checkAnswer(hello(), ID, two(sessionID=bytes(32), extensions=()), None)

    def test_versions(self) -> None:
        """
        Only TLS 1.3 and 1.2, each told in its own way.
        """
        self.assertRefused(three(selected=0x7F1C), "chose the TLS version 0x7f1c, which was not offered")
        self.assertRefused(two(legacyVersion=0x0301), "chose the TLS version 0x0301, which was not offered")
        self.assertRefused(two(legacyVersion=0x0302), "chose the TLS version 0x0302")
        unclear = "told its TLS version in a way that is out of order"
        self.assertRefused(two(legacyVersion=0x0304), unclear)
        self.assertRefused(three(legacyVersion=0x0301), unclear)
        self.assertRefused(two(selected=0x0303), unclear)
        old = evolve(hello(), versions=(0x0303,))
        self.assertRaises(Disagreement, checkAnswer, old, ID, three(), None)
        self.assertRaises(Disagreement, checkAnswer, old, ID, retry(), None)
        new = evolve(hello(), versions=(0x0304,))
        self.assertRaises(Disagreement, checkAnswer, new, ID, two(), None)

    def test_suites(self) -> None:
        """
        Only suites of the version that were offered and whose keys are out of reach.
        """
        for suite in (0x1306, 0x0000, 0xC0AE):
            refusal = f"chose the cipher suite 0x{suite:04x}, which was not offered"
            self.assertRefused(three(cipherSuite=suite), refusal)
            self.assertRefused(two(cipherSuite=suite), refusal)
        for suite in (0x1304, 0x1305, 0xC0B4, 0xC02B, 0x009C):
            self.assertRefused(three(cipherSuite=suite), f"chose the cipher suite 0x{suite:04x}")
            self.assertRefused(retry(cipherSuite=suite), f"chose the cipher suite 0x{suite:04x}")
        for suite in (0x1301, 0x009C, 0x00FF):
            self.assertRefused(two(cipherSuite=suite), f"chose the cipher suite 0x{suite:04x}")
        for suite in (0x1303, 0xCCA9):
            small = evolve(hello(), cipherSuites=(0x1301, 0xC02B))
            answer = (three if suite < 0x2000 else two)(cipherSuite=suite)
            self.assertRaises(Disagreement, checkAnswer, small, ID, answer, None)

    def test_tooLittle(self) -> None:
        """
        A pre-shared key alone, compression, or what the server itself calls a downgrade.
        """
        self.assertRefused(three(group=None, extensions=(43, 41)), "chose a pre-shared key alone")
        for answer in (three(compression=1), two(compression=1)):
            self.assertRefused(answer, "chose compression")
        self.assertRefused(two(downgraded=True), "chose TLS 1.2, and says that something kept it from TLS 1.3")
        checkAnswer(evolve(hello(), versions=(0x0303,)), ID, two(downgraded=True), None)

    def test_notOffered(self) -> None:
        """
        Groups and extensions that were not offered, and an answer to somebody else.
        """
        self.assertRefused(three(group=23), "chose the group 23, which was not offered")
        self.assertRefused(retry(group=23), "chose the group 23, which was not offered")
        for answer in (
            three(extensions=(43, 51, 16)),
            two(extensions=(35,)),
            two(extensions=(51,)),
            two(extensions=(41,)),
            two(extensions=(0x0A0A,)),
        ):
            self.assertRefused(answer, "chose an extension that was not offered")
        unasked = evolve(hello(), extensions=(43, 51), cipherSuites=(0x1301, 0xC02B))
        for answer in (three(extensions=(43, 51, 41)), two(extensions=(0xFF01,))):
            self.assertRaises(Disagreement, checkAnswer, unasked, ID, answer, None)
        self.assertRefused(three(sessionID=b""), "answered another hello, by its session id")
        self.assertRefused(retry(sessionID=bytes(32)), "answered another hello, by its session id")

    def test_afterRetry(self) -> None:
        """
        Who asked for another hello must choose what was asked for, and not ask again.
        """
        self.assertRefused(retry(), "asked for another hello twice", retry())
        for answer in (three(group=29), three(cipherSuite=0x1302, group=24)):
            self.assertRefused(answer, "chose something else than what it had asked for", retry())
        self.assertRefused(two(), "chose TLS 1.2 in a handshake of TLS 1.3", retry())
        self.assertRefused(two(retry=True), "chose TLS 1.2 in a handshake of TLS 1.3")


class OrderTests(SynchronousTestCase):
    """
    The messages before a ChangeCipherSpec in TLS 1.2.
    """

    def test_order(self) -> None:
        """
        In a full handshake the client is the first to finish, in a resumed one the server; with no message left out.
        """
        good = set()
        for status, asked in product((b"", b"\x16"), (b"", b"\x0d")):
            servers = b"\x0b" + status + b"\x0c" + asked + b"\x0e"
            for clients in (b"\x0b\x10", b"\x0b\x10\x0f") if asked else (b"\x10",):
                good.add((servers, clients, False, True))
                good.update((servers + ticket, clients, True, False) for ticket in (b"", b"\4"))
        for ticket in (b"", b"\4"):
            good.update([(ticket, b"", False, False), (ticket, b"", True, True)])
        words = {each for servers, clients, _, _ in good for each in (servers, clients)}
        words |= {word[:end] for word in words for end in range(len(word))} | {word + b"\x0b" for word in words}
        for servers, clients, finished, turn in product(words, words, (False, True), (False, True)):
            self.assertEqual(areWhole(servers, clients, finished, turn), (servers, clients, finished, turn) in good)


class SessionIDTests(SynchronousTestCase):
    """
    The session id of a hello.
    """

    @given(sessionID=st.binary(max_size=32), cut=st.lists(st.integers(1, 50), min_size=1, max_size=5))
    def test_anyCut(self, sessionID: bytes, cut: list[int]) -> None:
        """
        It is found however the hello is cut into records.
        """
        wire = cutInRecords(helloMessage(sessionID=sessionID), cut)
        self.assertEqual(sessionIDOf(bytearray(wire)), sessionID)
        self.assertEqual(sessionIDOf(bytearray(buildClientHello(sessionID=sessionID))), sessionID)
