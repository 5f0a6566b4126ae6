"""
Tests for L{tlsproxy.wire.dtlshello}.
"""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.wire import clienthellos
from tests.wire.clienthellos import numbers, vector
from tests.wire.dtlshellos import USUAL, body, fragment, record, wholeHello
from tests.wire.realdtlshellos import COOKIE, REAL_DTLS_HELLOS
from tlsproxy.wire.clienthello import ClientHello, HelloError
from tlsproxy.wire.dtls import records
from tlsproxy.wire.dtlshello import DTLSHello, FragmentedHello, HelloPieces, helloVerifyRequest, readHello
from tlsproxy.wire.helloline import describeVersions
from tlsproxy.wire.ja4 import ja4


class ReadHelloTests(SynchronousTestCase):
    """
    What L{readHello} tells of a hello.
    """

    def test_everything(self) -> None:
        """
        What the client offers is told as of TLS, and what is of DTLS beside it.
        """
        content = body(COOKIE, sessionID=b"session")
        wire = wholeHello(content, sequence=1, recordSequence=0x123456789ABC)
        parameters = numbers([0xFEFD]) + bytes(range(32)) + vector(1, b"session")
        parameters += vector(2, numbers([0x1301, 0xC02F])) + vector(1, b"\0")
        self.assertEqual(
            readHello(wire),
            DTLSHello(
                hello=ClientHello(
                    serverName="shop.example",
                    alpn=(b"coap", b"h2"),
                    versions=(0xFEFD,),
                    groups=(29, 23),
                    cipherSuites=(0x1301, 0xC02F),
                    extensions=(0, 10, 13, 16, 0xFF01),
                    signatureAlgorithms=(0x0403, 0x0804),
                    legacyVersion=0xFEFD,
                    wireLength=len(wire),
                ),
                cookie=COOKIE,
                sequence=1,
                recordSequence=0x123456789ABC,
                opening=parameters[:42],
                wireLength=len(wire),
                parameters=parameters,
            ),
        )

    def test_parametersStay(self) -> None:
        """
        The parameters are those of the hello before, whatever the cookie is.
        """
        told = {readHello(wholeHello(body(cookie))).parameters for cookie in (b"", b"x", COOKIE, bytes(255))}
        self.assertEqual(len(told), 1)

    def test_withoutExtensions(self) -> None:
        """
        A hello may have no extension block.
        """
        hello = readHello(wholeHello(body(extensions=None, version=0xFEFF)))
        self.assertEqual((hello.hello.extensions, hello.hello.versions), ((), (0xFEFF,)))

    def test_recordVersions(self) -> None:
        """
        The record's header may have the version of DTLS 1.0 or of DTLS 1.2.
        """
        for version in (0xFEFF, 0xFEFD):
            self.assertEqual(readHello(record(fragment(body()), version=version)).hello.versions, (0xFEFD,))

    def test_words(self) -> None:
        """
        A hello of DTLS has words for a log and a fingerprint as one of TLS has.
        """
        both = clienthellos.versions(0xFEFC, 0xFEFD)
        for content, words, start in (
            (body(), "dtls1.2", "dd2d0205cp_"),
            (body(version=0xFEFF, extensions=[]), "dtls1.0", "dd1i020000_"),
            (body(extensions=[*USUAL, both]), "dtls1.3,dtls1.2", "dd3d0206cp_"),
        ):
            hello = readHello(wholeHello(content)).hello
            self.assertEqual(describeVersions(hello), words)
            self.assertEqual(ja4(hello)[:11], start)


class RealHelloTests(SynchronousTestCase):
    """
    What real programs sent.
    """

    def test_all(self) -> None:
        """
        Both hellos of each are understood, whether they come in fragments or not, and repeat what they have to.
        """
        for real in REAL_DTLS_HELLOS:
            found = []
            for datagrams in (real.first, real.second):
                pieces = HelloPieces()
                read = [pieces.take(datagram) for datagram in datagrams]
                self.assertEqual(read[:-1], [None] * (len(read) - 1), real.program)
                hello = read[-1]
                assert hello is not None
                found.append(hello)
                self.assertEqual(
                    (hello.hello.serverName, hello.hello.alpn, hello.hello.versions, ja4(hello.hello)),
                    (real.name, real.alpn, (0xFEFD,), real.ja4),
                    real.program,
                )
                self.assertEqual(hello.hello.wireLength, sum(map(len, datagrams)))
            first, second = found
            self.assertEqual([(one.sequence, one.cookie) for one in found], [(0, b""), (1, COOKIE)], real.program)
            self.assertEqual(first.parameters, second.parameters, real.program)
            self.assertEqual(first.recordSequence, 0, real.program)
            self.assertEqual(second.recordSequence, len(real.first), real.program)

    def test_oneDatagram(self) -> None:
        """
        Those that come whole are read at once, and of the others it is said that they do not.
        """
        for real in REAL_DTLS_HELLOS:
            for datagrams in (real.first, real.second):
                if len(datagrams) == 1:
                    self.assertEqual(readHello(datagrams[0]), HelloPieces().take(datagrams[0]), real.program)
                else:
                    for datagram in datagrams:
                        self.assertRaises(FragmentedHello, readHello, datagram)
        self.assertEqual({len(real.first) for real in REAL_DTLS_HELLOS}, {1, 2})

    def test_library(self) -> None:
        """
        So is what the library sends that we have ourselves, and it takes the answer.
        """
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        connection = SSL.Connection(context, None)
        connection.set_ciphertext_mtu(1200)
        connection.set_tlsext_host_name(b"shop.example")
        connection.set_connect_state()
        found = []
        for _ in range(2):
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
            found.append(readHello(connection.bio_read(65535)))
            connection.bio_write(helloVerifyRequest(found[-1], COOKIE))
        self.assertEqual([hello.cookie for hello in found], [b"", COOKIE])
        self.assertEqual([hello.hello.serverName for hello in found], ["shop.example"] * 2)
        self.assertEqual(found[0].parameters, found[1].parameters)


class HelloVerifyRequestTests(SynchronousTestCase):
    """
    L{helloVerifyRequest} answers without a memory.
    """

    def test_content(self) -> None:
        """
        The answer has the message number 0, and versions of DTLS 1.0.  Its record has the number 0 where the client
        has no cookie, and else that of the client's record.
        """
        for cookie, number in ((b"", 0), (b"old", 77)):
            hello = readHello(wholeHello(body(cookie), recordSequence=77, sequence=1))
            answer = helloVerifyRequest(hello, COOKIE)
            only = records(answer)[0]
            self.assertEqual((only.type, only.version, only.epoch, only.sequence), (22, 0xFEFF, 0, number))
            self.assertEqual(only.payload, fragment(b"\xfe\xff" + vector(1, COOKIE), kind=3))
            self.assertEqual(len(answer), 60)

    def test_neverLonger(self) -> None:
        """
        No answer is longer than what it answers: a hello that is too short for that has none.
        """
        # Nothing can be left out of this, and one cipher suite is the fewest.
        shortest = wholeHello(body(extensions=None, cipherSuites=b"\xc0\x2f"))
        self.assertEqual(len(shortest), 67)
        self.assertEqual(len(helloVerifyRequest(readHello(shortest), COOKIE)), 60)
        hello = readHello(shortest)
        room = len(shortest) - 28
        self.assertEqual(len(helloVerifyRequest(hello, bytes(room))), len(shortest))
        error = self.assertRaises(HelloError, helloVerifyRequest, hello, bytes(room + 1))
        self.assertEqual(
            str(error),
            f"the client's hello takes {len(shortest)} bytes, fewer than the {len(shortest) + 1} of its answer",
        )

    @given(extensions=st.sampled_from([None, [], USUAL]), cookie=st.binary(max_size=255), suites=st.integers(1, 40))
    def test_anyHello(self, extensions: list[tuple[int, bytes]] | None, cookie: bytes, suites: int) -> None:
        """
        So it is for any hello and any cookie.
        """
        datagram = wholeHello(body(extensions=extensions, cipherSuites=bytes(range(2 * suites))))
        try:
            answer = helloVerifyRequest(readHello(datagram), cookie)
        except HelloError:
            self.assertGreater(28 + len(cookie), len(datagram))
        else:
            self.assertLessEqual(len(answer), len(datagram))
