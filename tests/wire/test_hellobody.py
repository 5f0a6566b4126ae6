"""
Tests for L{tlsproxy.wire.hellobody}; what it has in common with TLS is told in those of L{tlsproxy.wire.clienthello}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire import clienthellos
from tests.wire.clienthellos import USUAL, helloMessage, numbers
from tlsproxy.wire import clienthello
from tlsproxy.wire.hellobody import DTLS_MAJOR, TLS_MAJOR, ClientHello, HelloError, readBody, vector


def bodyOf(**more: object) -> bytes:
    """
    Make a body; see L{helloMessage}.
    """
    return helloMessage(**more)[4:]  # type: ignore[arg-type]


class ReadBodyTests(SynchronousTestCase):
    """
    L{readBody} reads the same of TLS and of DTLS.
    """

    def test_same(self) -> None:
        """
        But for the version, both say the same.
        """
        tls = readBody(bodyOf(extensions=USUAL[:5]), 300)
        dtls = readBody(bodyOf(extensions=USUAL[:5], legacyVersion=0xFEFD), 300, DTLS_MAJOR)
        self.assertEqual((tls.versions, tls.legacyVersion), ((0x0303,), 0x0303))
        self.assertEqual((dtls.versions, dtls.legacyVersion), ((0xFEFD,), 0xFEFD))
        for field in ("serverName", "alpn", "groups", "cipherSuites", "extensions", "signatureAlgorithms"):
            self.assertEqual(getattr(tls, field), getattr(dtls, field), field)
        self.assertEqual(dtls.wireLength, 300)

    def test_versionNotListed(self) -> None:
        """
        Without a list of versions, a hello of DTLS offers what its version field says, but never more than DTLS 1.2,
        and higher versions have lower numbers.
        """
        for legacyVersion, implied in ((0xFEFF, 0xFEFF), (0xFEFE, 0xFEFE), (0xFEFD, 0xFEFD), (0xFEFC, 0xFEFD)):
            hello = readBody(bodyOf(legacyVersion=legacyVersion), 0, DTLS_MAJOR)
            self.assertEqual((hello.versions, hello.legacyVersion), ((implied,), legacyVersion))

    def test_versionListed(self) -> None:
        """
        A list of versions is told as it is.
        """
        listed = clienthellos.versions(0xFEFC, 0xFEFD)
        hello = readBody(bodyOf(extensions=[listed], legacyVersion=0xFEFD), 0, DTLS_MAJOR)
        self.assertEqual(hello.versions, (0xFEFC, 0xFEFD))

    def test_otherFamily(self) -> None:
        """
        A hello of TLS is none of DTLS, nor the other way round.
        """
        for version, major in ((0x0303, DTLS_MAJOR), (0xFEFD, TLS_MAJOR), (0x0100, DTLS_MAJOR)):
            error = self.assertRaises(HelloError, readBody, bodyOf(legacyVersion=version), 0, major)
            self.assertEqual((str(error), error.alert), (f"the client's hello has the version 0x{version:04x}", 70))

    @given(data=st.binary(max_size=200), major=st.sampled_from([TLS_MAJOR, DTLS_MAJOR]))
    def test_anything(self, data: bytes, major: int) -> None:
        """
        Whatever the bytes are, they are read or refused.
        """
        for content in (data, numbers([major << 8 | 0xFD]) + bytes(33) + data):
            try:
                hello = readBody(content, 0, major)
            except HelloError as error:
                self.assertIn(error.alert, (47, 50, 70))
            else:
                self.assertEqual(hello.legacyVersion >> 8, major)

    def test_sameNames(self) -> None:
        """
        Who reads hellos of TLS finds the words where the reader is.
        """
        self.assertIs(clienthello.ClientHello, ClientHello)
        self.assertIs(clienthello.HelloError, HelloError)


class VectorTests(SynchronousTestCase):
    """
    L{vector} reads what has its length before it.
    """

    def test_content(self) -> None:
        """
        The content is told, and where it ends.
        """
        self.assertEqual(vector(b"??\0\3abcd", 2, 2, "thing"), (b"abc", 7))

    def test_tooLong(self) -> None:
        """
        What ends too late is refused by its name, an absent length as well.
        """
        for data in (b"\0\3ab", b"\0", b""):
            error = self.assertRaises(HelloError, vector, data, 0, 2, "thing")
            self.assertEqual(str(error), "the client's hello is malformed: the thing ends too late")
            self.assertEqual(error.alert, 50)
