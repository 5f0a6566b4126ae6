"""
Tests for what L{tlsproxy.wire.clienthello} refuses.
"""

from __future__ import annotations

import copy

from twisted.trial.unittest import SynchronousTestCase

from tests.wire import clienthellos
from tests.wire.clienthellos import USUAL, buildClientHello, cutInRecords, helloMessage, readAll, vector
from tlsproxy.wire.clienthello import ClientHelloReader, HelloError


class RefusalTests(SynchronousTestCase):
    """
    What a L{ClientHelloReader} refuses, and in which words.
    """

    def refused(self, wire: bytes, sentence: str, alert: int | None, plainHTTP: bool = False) -> None:
        """
        Fail unless these bytes are refused in this way.
        """
        error = self.assertRaises(HelloError, ClientHelloReader().read, wire)
        self.assertEqual((str(error), error.alert, error.plainHTTP), (sentence, alert, plainHTTP))

    def malformed(self, wire: bytes, what: str) -> None:
        """
        Fail unless these bytes are refused for this flaw in the grammar.
        """
        self.refused(wire, f"the client's hello is malformed: the {what}", 50)

    def test_plainHTTP(self) -> None:
        """
        A request without TLS is told apart from other things by the method, as far as it can be seen.
        """
        for start in (b"GET / HTTP/1.0\r\n\r\n", b"GET", b"POST /", b"CONN", b"OPTIONS *", b"PRI * HTTP/2.0\r\n"):
            self.refused(start, "the client speaks plain HTTP, not TLS; have it ask for https://", None, plainHTTP=True)

    def test_notTLS(self) -> None:
        """
        Anything else that is not TLS is refused at its first bytes.
        """
        for start in (b"G", b"PO", b"GETTING", b"EHLO", b"\0\0\0", b"\x80", b"\x80\x2e\2", b"\x15\x09\0\0\2", b"\xff"):
            self.refused(start, "the client does not speak TLS", None)

    def test_ssh(self) -> None:
        """
        SSH is called by its name.
        """
        self.refused(b"SSH-2.0-OpenSSH_9.2\r\n", "the client speaks SSH, not TLS", None)

    def test_sslv2(self) -> None:
        """
        So is the hello of SSLv2, which once was a way to begin TLS too.
        """
        self.refused(b"\x80\x2e\1\3\1\0\x15", "the client sent an SSLv2 hello, which is obsolete", 70)

    def test_alert(self) -> None:
        """
        An alert is named, at the start and between the records of a hello.
        """
        sentence = "the client sent the TLS alert 48 before its hello was whole"
        self.refused(b"\x15\3\3\0\2\2\x30", sentence, 10)
        self.refused(buildClientHello(USUAL, cut=100)[:105] + b"\x15\3\3\0\2\2\x30", sentence, 10)
        for start in (b"\x15", b"\x15\3\3\0\2\2", b"\x15\3\3\0\3\2\x30\0"):
            self.refused(start, "the client sent a TLS alert before its hello was whole", 10)

    def test_otherRecord(self) -> None:
        """
        Nothing but handshake records may come before a hello is whole.
        """
        sentence = "the client sent a TLS record of type {} before its hello was whole"
        self.refused(b"\x17\3\3\0\2\2\x30", sentence.format(23), 10)
        self.refused(b"\x14", sentence.format(20), 10)
        self.refused(buildClientHello(USUAL, cut=100)[:105] + b"GET / ", sentence.format(71), 10)

    def test_recordVersion(self) -> None:
        """
        The first byte of each record's version must be 3; the second is not looked at.
        """
        sentence = "the client's TLS record has the version 0x{}"
        self.refused(b"\x16\xfe", sentence.format("fe"), 70)
        self.refused(b"\x16\xfe\xfd\0\0", sentence.format("fefd"), 70)
        self.refused(buildClientHello(USUAL, cut=100)[:105] + b"\x16\2", sentence.format("02"), 70)
        self.assertEqual(readAll(buildClientHello(USUAL, recordVersion=0x03FF)), readAll(buildClientHello(USUAL)))

    def test_recordLength(self) -> None:
        """
        A record carries 1 to 16384 bytes, and is refused by its header alone.
        """
        self.refused(b"\x16\3\1\0\0", "the client sent an empty TLS record", 10)
        self.refused(b"\x16\3\1\x40\1", "the client's TLS record is too long: 16385 bytes", 22)
        self.assertIsNone(readAll(b"\x16\3\1\x40\0"))

    def test_otherMessage(self) -> None:
        """
        A handshake message of another type is refused at its first byte, in whichever record that is.
        """
        self.refused(b"\x16\3\1\0\1\2", "the client began with a TLS handshake message of type 2, not with a hello", 10)
        self.refused(
            buildClientHello(kind=0)[:6],
            "the client began with a TLS handshake message of type 0, not with a hello",
            10,
        )

    def test_bytesAfterInRecord(self) -> None:
        """
        The last record of a hello must end with it, and is refused by its header when it does not.
        """
        message = helloMessage(USUAL)
        sentence = "other bytes follow the client's hello in its last TLS record"
        self.refused(cutInRecords(message + b"\x10"), sentence, 10)
        self.refused(cutInRecords(message + message, [len(message) - 1, 2])[: len(message) + 9], sentence, 10)

    def test_cutShort(self) -> None:
        """
        A hello whose claimed length ends within any of its parts is refused.
        """
        message = helloMessage([clienthellos.serverName(b"a.example")], sessionID=bytes(3))
        body = message[4:]
        for length in range(len(body)):
            # A hello without extensions ends here.
            if length == 34 + 4 + 6 + 2:
                continue
            self.assertRaises(HelloError, readAll, cutInRecords(b"\1" + vector(3, body[:length])))

    def test_malformedParts(self) -> None:
        """
        Every vector ends exactly where the one around it says.
        """
        self.malformed(cutInRecords(b"\1\0\0\0"), "session id ends too late")
        self.malformed(buildClientHello(None, rest=b"\0"), "extension block ends too late")
        self.malformed(buildClientHello((), rest=b"\0"), "extension block ends too early")
        self.malformed(buildClientHello(None, rest=vector(2, b"\0")), "last extension ends too late")
        self.malformed(buildClientHello(None, rest=vector(2, b"\0\1\0\1")), "last extension ends too late")
        self.malformed(buildClientHello(cipherSuites=b""), "list of cipher suites is empty")
        self.malformed(buildClientHello(cipherSuites=b"\0\1\2"), "list of cipher suites has an odd length")

    def test_malformedExtensions(self) -> None:
        """
        So it is within each extension that is read.
        """
        for kind, width, what in (
            (clienthellos.SUPPORTED_GROUPS, 2, "list of groups"),
            (clienthellos.SIGNATURE_ALGORITHMS, 2, "list of signature algorithms"),
            (clienthellos.SUPPORTED_VERSIONS, 1, "list of versions"),
        ):
            for content, flaw in (
                (b"", "ends too late"),
                (vector(width, b"\3\3")[:-1], "ends too late"),
                (vector(width, b"\3\3") + b"\0", "ends too early"),
                (vector(width, b""), "is empty"),
                (vector(width, b"\3\3\3"), "has an odd length"),
            ):
                self.malformed(buildClientHello([(kind, content)]), f"{what} {flaw}")

    def test_helloVersion(self) -> None:
        """
        The first byte of the hello's own version must be 3.
        """
        for version in (0x0002, 0x02FF, 0x0400, 0xFEFD):
            wire = buildClientHello(USUAL, legacyVersion=version)
            self.refused(wire, f"the client's hello has the version 0x{version:04x}", 70)

    def test_noVersion(self) -> None:
        """
        A list with none but reserved versions offers nothing.
        """
        wire = buildClientHello([clienthellos.versions(0x5A5A)])
        self.refused(wire, "the client offers no version of TLS", 70)

    def test_sessionID(self) -> None:
        """
        A session id has 32 bytes at most.
        """
        wire = buildClientHello(USUAL, sessionID=bytes(33))
        self.refused(wire, "the client's session id is too long: 33 bytes", 50)

    def test_compression(self) -> None:
        """
        A client must be willing to go without compression.
        """
        for compressions in (b"", b"\1", b"\1\x40"):
            self.refused(buildClientHello(compressions=compressions), "the client insists on compression", 47)
        self.assertIsNotNone(readAll(buildClientHello(compressions=b"\1\0")))

    def test_extensionTwice(self) -> None:
        """
        No extension comes twice, of whichever type.
        """
        for kind in (clienthellos.SERVER_NAME, 0x1234, 0x1A1A):
            extension = clienthellos.serverName(b"a") if kind == clienthellos.SERVER_NAME else (kind, b"")
            wire = buildClientHello([extension, (51, b""), extension])
            self.refused(wire, f"the client's hello has the extension {kind} twice", 47)

    def test_preSharedKey(self) -> None:
        """
        The pre-shared key is the last extension, as RFC 8446, section 4.2.11 demands.
        """
        for after in (51, 0x1A1A):
            wire = buildClientHello([(clienthellos.PRE_SHARED_KEY, b""), (after, b"")])
            self.refused(wire, "in the client's hello the pre-shared key is not the last extension", 47)

    def test_serverName(self) -> None:
        """
        The server is named by one host name and by nothing else.
        """
        for extension, sentence in (
            (clienthellos.serverName(b"a", b"b"), "the client's hello has more than one server name"),
            (clienthellos.serverName(b"a", b"a"), "the client's hello has more than one server name"),
            (clienthellos.serverName(b""), "the client's hello has an empty server name"),
            (clienthellos.serverName(b"a", kind=1), "the client names its server by the unknown type 1"),
            (clienthellos.serverName(b"x" * 256), "the client's server name is too long: 256 bytes"),
        ):
            self.refused(buildClientHello([extension]), sentence, 47)
        for content, flaw in (
            (b"", "list of server names ends too late"),
            (b"\0\0", "list of server names is empty"),
            (b"\0\1\0\0", "list of server names ends too early"),
            (b"\0\3\0\0\1", "server name ends too late"),
            (b"\0\1\0", "server name ends too late"),
        ):
            self.malformed(buildClientHello([(clienthellos.SERVER_NAME, content)]), flaw)

    def test_serverNameCharacters(self) -> None:
        """
        A host name has letters, digits and a few marks; the refusal shows the name without its raw bytes.
        """
        allowed = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"
        for number in range(256):
            name = b"a" + bytes([number]) + b"b"
            wire = buildClientHello([clienthellos.serverName(name)])
            if number in allowed:
                self.assertIsNotNone(readAll(wire))
            else:
                self.refused(wire, f"the client's server name {name!r} is no host name", 47)

    def test_protocols(self) -> None:
        """
        A list of protocols holds at least one, and none is empty.
        """
        self.refused(
            buildClientHello([clienthellos.alpn(b"h2", b"")]),
            "the client's hello has an empty application protocol",
            50,
        )
        for content, flaw in (
            (b"", "list of application protocols ends too late"),
            (b"\0\0", "list of application protocols is empty"),
            (b"\0\2\1a\0", "list of application protocols ends too early"),
            (b"\0\2\2a", "last application protocol ends too late"),
        ):
            self.malformed(buildClientHello([(clienthellos.ALPN, content)]), flaw)

    def test_copied(self) -> None:
        """
        A refusal can be copied with all that it says.
        """
        error = copy.copy(HelloError("no", 47, plainHTTP=True))
        self.assertEqual((error.args, error.alert, error.plainHTTP), (("no",), 47, True))
