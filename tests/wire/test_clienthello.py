"""
Tests for L{tlsproxy.wire.clienthello}.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import cast

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from tests.wire import clienthellos
from tests.wire.clienthellos import GOOD, USUAL, buildClientHello, cutInRecords, lengthless, numbers, readAll
from tlsproxy.wire.clienthello import ClientHello, ClientHelloReader, HelloError

LIMIT = ClientHelloReader.LIMIT


def fromPyOpenSSL(context: SSL.Context, name: bytes | None, protocols: list[bytes]) -> bytes:
    """
    Take down the hello of a pyOpenSSL client.
    """
    connection = SSL.Connection(context, None)
    if name is not None:
        connection.set_tlsext_host_name(name)
    if protocols:
        connection.set_alpn_protos(protocols)
    connection.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(LIMIT)


def fromStandardLibrary(context: ssl.SSLContext, name: str | None) -> bytes:
    """
    Take down the hello of a client of the C{ssl} module.
    """
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


class Peeked:
    """
    The first bytes of a growing input, which counts the bytes that are taken out of it.
    """

    def __init__(self, whole: bytes) -> None:
        self.whole = whole
        self.seen = 0
        self.touched = 0

    def __len__(self) -> int:
        return self.seen

    def __getitem__(self, part: slice) -> bytes:
        found = (
            self.whole[: self.seen][part] if part.stop is None else self.whole[part.start : min(part.stop, self.seen)]
        )
        self.touched += len(found)
        return found


class FieldTests(SynchronousTestCase):
    """
    What L{ClientHello} tells about a hello.
    """

    def test_everything(self) -> None:
        """
        Every field is told, in the client's order and without the reserved numbers of RFC 8701.
        """
        self.assertEqual(
            readAll(GOOD),
            ClientHello(
                serverName="shop.example",
                alpn=(b"h2", b"http/1.1"),
                versions=(0x0304, 0x0303),
                groups=(0x11EC, 29, 23),
                cipherSuites=(0x1301, 0xC02B),
                extensions=(0, 10, 13, 16, 43, 0xFE0D, 41),
                signatureAlgorithms=(0x0403, 0x0804),
                legacyVersion=0x0303,
                wireLength=len(GOOD),
            ),
        )

    def test_everyReservedNumberIsDropped(self) -> None:
        """
        All sixteen numbers of RFC 8701 are dropped from each list, and their neighbors are kept.
        """
        reserved = [n << 8 | n for n in range(0x0A, 0x100, 0x10)]
        kept = (0x0A0B, 0x0B0A, 0x0B0B, 0xFAFB)
        hello = readAll(
            buildClientHello(
                [
                    *((number, b"") for number in (*reserved, *kept)),
                    clienthellos.groups(*reserved, *kept),
                    clienthellos.signatureAlgorithms(*reserved, *kept),
                    clienthellos.versions(*reserved, *kept),
                ],
                cipherSuites=numbers([*reserved, *kept]),
            )
        )
        assert hello is not None
        self.assertEqual(len(reserved), 16)
        self.assertEqual(
            (hello.groups, hello.signatureAlgorithms, hello.versions, hello.cipherSuites), (kept, kept, kept, kept)
        )
        self.assertEqual(hello.extensions, (*kept, 10, 13, 43))

    def test_withoutExtensions(self) -> None:
        """
        A hello may have no extension block, or an empty one; then the lists are empty and there is no name.
        """
        for extensions in (None, ()):
            wire = buildClientHello(extensions, legacyVersion=0x0302)
            self.assertEqual(
                readAll(wire),
                ClientHello(
                    serverName=None,
                    alpn=(),
                    versions=(0x0302,),
                    groups=(),
                    cipherSuites=(0x1301, 0xC02F),
                    extensions=(),
                    signatureAlgorithms=(),
                    legacyVersion=0x0302,
                    wireLength=len(wire),
                ),
            )

    def test_versionNotListed(self) -> None:
        """
        Without a list of versions a hello offers what its version field says, but never more than TLS 1.2.
        """
        for legacyVersion, implied in ((0x0300, 0x0300), (0x0301, 0x0301), (0x0303, 0x0303), (0x0304, 0x0303)):
            hello = readAll(buildClientHello(legacyVersion=legacyVersion))
            assert hello is not None
            self.assertEqual((hello.versions, hello.legacyVersion), ((implied,), legacyVersion))

    def test_names(self) -> None:
        """
        A name is put in lower case and is otherwise kept, a trailing dot included.
        """
        for sent, told in (
            (b"A.EXAMPLE.", "a.example."),
            (b"_dmarc.x-1.example", "_dmarc.x-1.example"),
            (b"::1", "::1"),
            (b"x" * 255, "x" * 255),
        ):
            hello = readAll(buildClientHello([clienthellos.serverName(sent)]))
            assert hello is not None
            self.assertEqual(hello.serverName, told)

    def test_memoryview(self) -> None:
        """
        A view of the bytes does as well as the bytes.
        """
        self.assertEqual(ClientHelloReader().read(memoryview(GOOD)), readAll(GOOD))

    def test_bytesAfter(self) -> None:
        """
        What comes after the last record of a hello is not looked at.
        """
        self.assertEqual(readAll(GOOD + b"\x17 anything"), readAll(GOOD))

    def test_readAgain(self) -> None:
        """
        A reader that is done says the same when asked again.
        """
        reader = ClientHelloReader()
        self.assertEqual(reader.read(GOOD), reader.read(GOOD + b"more"))
        refusing = ClientHelloReader()
        for _ in range(2):
            self.assertRaises(HelloError, refusing.read, b"GET / HTTP/1.0\r\n\r\n")


class RealHelloTests(SynchronousTestCase):
    """
    The hellos of real TLS libraries.
    """

    def test_pyOpenSSL(self) -> None:
        """
        Of pyOpenSSL's own hello the name, the protocols and the versions are as they were set.
        """
        wire = fromPyOpenSSL(SSL.Context(SSL.TLS_CLIENT_METHOD), b"WWW.example", [b"h2", b"http/1.1"])
        hello = readAll(wire)
        assert hello is not None
        self.assertEqual(hello.serverName, "www.example")
        self.assertEqual(hello.alpn, (b"h2", b"http/1.1"))
        self.assertEqual(hello.versions, (0x0304, 0x0303))
        self.assertEqual(hello.legacyVersion, 0x0303)
        self.assertEqual(hello.wireLength, len(wire))
        self.assertIn(29, hello.groups)
        self.assertIn(0x1301, hello.cipherSuites)
        self.assertIn(0x0403, hello.signatureAlgorithms)

    def test_pyOpenSSLWithoutExtras(self) -> None:
        """
        A TLS 1.2 client that names no server and no protocol has neither.
        """
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        hello = readAll(fromPyOpenSSL(context, None, []))
        assert hello is not None
        self.assertEqual((hello.serverName, hello.alpn, hello.versions), (None, (), (0x0303,)))
        self.assertNotIn(clienthellos.SUPPORTED_VERSIONS, hello.extensions)

    def test_standardLibrary(self) -> None:
        """
        Of the hello of the C{ssl} module the name, the protocols, the group and the ciphers are as they were set.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["mqtt", "x-1"])
        context.set_ecdh_curve("prime256v1")
        context.set_ciphers("ECDHE+AESGCM")  # Of all that the module counts as its own, not all can be offered.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        wire = fromStandardLibrary(context, "b.example")
        hello = readAll(wire)
        assert hello is not None
        self.assertEqual(hello.serverName, "b.example")
        self.assertEqual(hello.alpn, (b"mqtt", b"x-1"))
        self.assertEqual(hello.groups, (23,))
        self.assertEqual(hello.versions, (0x0304, 0x0303))
        # The last may be the signal of RFC 5746, section 3.3, which is no cipher.
        self.assertEqual(
            [suite for suite in hello.cipherSuites if suite != 0x00FF],
            [int(cipher["id"]) & 0xFFFF for cipher in context.get_ciphers()],
        )
        self.assertEqual(hello.wireLength, len(wire))

    def test_cutAnyhow(self) -> None:
        """
        A real hello is the same at every record size.
        """
        wire = fromPyOpenSSL(SSL.Context(SSL.TLS_CLIENT_METHOD), b"c.example", [b"h2"])
        whole = readAll(wire)
        assert whole is not None
        for size in (*range(1, 50), 511, 512, 1000):
            cut = cutInRecords(wire[5:], size)
            self.assertEqual(lengthless(readAll(cut)), lengthless(whole))


class NeedTests(SynchronousTestCase):
    """
    How many bytes a L{ClientHelloReader} waits for.
    """

    def test_steps(self) -> None:
        """
        Of each record the first two bytes are waited for one by one, then its header and its end; of the message,
        its type and its length.
        """
        wire = buildClientHello(USUAL, cut=[2, 3, 10, 16384])
        reader = ClientHelloReader()
        needs = []
        while reader.read(wire[: reader.need]) is None:
            needs.append(reader.need)
        self.assertEqual(needs, [2, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 20, 30, 31, 32, 35, len(wire)])

    def test_nothing(self) -> None:
        """
        No bytes are no error, and one is waited for.
        """
        reader = ClientHelloReader()
        self.assertIsNone(reader.read(b""))
        self.assertEqual(reader.need, 1)

    def test_linear(self) -> None:
        """
        A hello in one-byte records that comes byte by byte is touched a fixed number of times a byte.
        """
        wire = buildClientHello(USUAL[:-1], size=10000, cut=1)
        peeked = Peeked(wire)
        reader = ClientHelloReader()
        hello = None
        while hello is None:
            peeked.seen += 1
            hello = reader.read(cast(bytes, peeked))
        self.assertEqual(hello.wireLength, 60000)
        self.assertEqual(peeked.seen, 60000)
        self.assertLess(peeked.touched, 4 * 60000)

    def test_linearInOneRecord(self) -> None:
        """
        A long record that comes byte by byte is not copied before it is whole.
        """
        wire = buildClientHello(USUAL[:-1], size=16384)
        peeked = Peeked(wire)
        reader = ClientHelloReader()
        for peeked.seen in range(1, len(wire)):
            self.assertIsNone(reader.read(cast(bytes, peeked)))
        self.assertLess(peeked.touched, 100)


class LimitTests(SynchronousTestCase):
    """
    How long a hello may be on the wire.
    """

    def test_longest(self) -> None:
        """
        A hello of exactly the limit is read, in full records or with a short one first.
        """
        for size, cut, records in ((65516, [16384], 4), (65511, [1, 16384], 5), (10922, [1], 10922)):
            wire = buildClientHello(USUAL[:-1], size=size, cut=cut)
            hello = readAll(wire)
            assert hello is not None
            self.assertEqual(hello.wireLength, size + 5 * records)
            self.assertLessEqual(hello.wireLength, LIMIT)

    def test_oneByteMore(self) -> None:
        """
        A hello of one byte more is refused as soon as its claimed length can be seen.
        """
        wire = buildClientHello(USUAL[:-1], size=65517)
        self.assertEqual(len(wire), LIMIT + 1)
        reader = ClientHelloReader()
        self.assertIsNone(reader.read(wire[:8]))
        error = self.assertRaises(HelloError, reader.read, wire[:9])
        self.assertEqual((str(error), error.alert), ("the client's hello takes more than 65536 bytes", 47))

    def test_oneByteMoreByItsRecords(self) -> None:
        """
        A hello that would fit, but not as it is cut, is refused once full records for the rest would not make it fit.
        """
        wire = buildClientHello(USUAL[:-1], size=65512, cut=[1, 16384])
        self.assertEqual(len(wire), LIMIT + 1)
        reader = ClientHelloReader()
        self.assertIsNone(reader.read(wire[:13]))
        self.assertRaises(HelloError, reader.read, wire[:14])
        wire = buildClientHello(USUAL[:-1], size=10923, cut=1)
        reader = ClientHelloReader()
        self.assertIsNone(reader.read(wire[: 6 * 10921 + 4]))
        self.assertRaises(HelloError, reader.read, wire[: 6 * 10921 + 5])
