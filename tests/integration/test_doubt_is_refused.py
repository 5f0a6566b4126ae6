# -*- test-case-name: tests.integration.test_doubt_is_refused -*-
"""
What is no hello beyond doubt is refused, and nothing is dialed before the client is admitted.
"""

from __future__ import annotations

import os

from OpenSSL import SSL

from tests.integration.running import Certificates, IntegrationTestCase
from tests.integration.talking import Listener, Server, Talker, clientContext, connect, echo


class Manual:
    """
    A TLS client whose bytes go through the hands of the test.
    """

    def __init__(self, talker: Talker, context: SSL.Context) -> None:
        self.talker = talker
        self.tls = SSL.Connection(context)
        self.tls.set_connect_state()
        self.tls.set_tlsext_host_name(b"localhost")

    def outgoing(self) -> bytes:
        """
        Take what TLS has to send.
        """
        try:
            return self.tls.bio_read(65536)
        except SSL.WantReadError:
            return b""

    def hello(self) -> bytes:
        """
        Begin the handshake.
        """
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            pass
        return self.outgoing()

    def finish(self) -> None:
        """
        Do the rest of the handshake.
        """
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                self.talker.send(self.outgoing())
                self.tls.bio_write(self.talker.recv())
            else:
                self.talker.send(self.outgoing())
                return

    def ask(self, question: bytes) -> bytes:
        """
        Send something, and read the answer.
        """
        self.tls.send(question)
        self.talker.send(self.outgoing())
        while True:
            try:
                return self.tls.recv(65536)
            except SSL.WantReadError:
                self.tls.bio_write(self.talker.recv())


class HelloTests(IntegrationTestCase):
    """
    What may come where a hello should, in the modes that await one.
    """

    def setUp(self) -> None:
        """
        Start both modes before one upstream.
        """
        super().setUp()
        self.upstream = Listener(self)
        self.through = self.proxy(self.offload(self.upstream.port), self.bridge(self.upstream.port))

    def assertRefused(self, sent: bytes, reason: str, outcome: str = "refused", ended: bool = False) -> None:
        """
        Expect something to be refused, and the upstream to be left alone.
        """
        for mode in ("offload", "bridge"):
            number = len(self.through.sessions())
            client = connect(self, self.through.port(mode))
            client.send(sent)
            if ended:
                client.endWrite()
            client.readAll()
            line = self.through.session(number)
            self.assertEqual((mode, outcome, "hello"), (line["route"], line["outcome"], line["phase"]))
            self.assertEqual(reason, line["reason"])
            self.assertEqual("-", line["upstream"])
            self.assertFalse(self.upstream.waiting())

    def test_garbage(self) -> None:
        """
        Random bytes.
        """
        self.assertRefused(b"\x05" + os.urandom(500), "the client does not speak TLS")

    def test_ssh(self) -> None:
        """
        Another protocol.
        """
        self.assertRefused(b"SSH-2.0-OpenSSH_9.2p1\r\n", "the client speaks SSH, not TLS")

    def test_plainHTTP(self) -> None:
        """
        Plain HTTP, to which a sentence is the answer.
        """
        for number, mode in enumerate(("offload", "bridge")):
            url = f"http://127.0.0.1:{self.through.port(mode)}/"
            done = self.run_(["curl", "--silent", "--show-error", "--write-out", "%{http_code}", url])
            self.assertEqual(b"This port speaks TLS: ask for https://, not for http://\n400", done.stdout)
            line = self.through.session(number)
            self.assertEqual("the client speaks plain HTTP, not TLS; have it ask for https://", line["reason"])
        self.assertFalse(self.upstream.waiting())

    def test_halfAHello(self) -> None:
        """
        A hello that ends in the middle.
        """
        talker = connect(self, self.through.port("offload"))
        half = Manual(talker, clientContext()).hello()[:200]
        talker.close()
        self.through.session()
        reason = "the client ended the stream in the middle of its hello"
        self.assertRefused(half, reason, outcome="ended", ended=True)

    def test_nothing(self) -> None:
        """
        A connection without a word.
        """
        reason = "the client connected and ended the stream without a word"
        self.assertRefused(b"", reason, outcome="ended", ended=True)

    def test_malformed(self) -> None:
        """
        A hello whose parts do not fit into each other is answered with the alert for that.
        """
        hello = Manual(connect(self, self.through.port("offload")), clientContext()).hello()
        broken = hello[:43] + b"\xff" + hello[44:]
        client = connect(self, self.through.port("offload"))
        client.send(broken)
        self.assertEqual(b"\x15\x03\x03\x00\x02\x02\x32", client.readAll())
        self.assertFalse(self.upstream.waiting())


class PiecesTests(IntegrationTestCase):
    """
    A good hello, in however many pieces.
    """

    def setUp(self) -> None:
        """
        Start a proxy before an echo.
        """
        super().setUp()
        self.server = Server(self, echo)
        self.through = self.proxy(self.offload(self.server.port))

    def begin(self) -> Manual:
        """
        Connect.
        """
        talker = connect(self, self.through.port("offload"))
        return Manual(talker, clientContext(self.certificates.ca))

    def assertWorks(self, client: Manual) -> None:
        """
        Finish the handshake and expect an answer.
        """
        client.finish()
        self.assertEqual(b"question", client.ask(b"question"))
        client.talker.close()
        self.assertEqual("localhost", self.through.session()["sni"])
        self.assertEqual(1, self.server.accepted)

    def test_records(self) -> None:
        """
        A hello cut into TLS records of one byte works.
        """
        client = self.begin()
        message = client.hello()[5:]
        client.talker.send(b"".join(b"\x16\x03\x01\x00\x01" + message[n : n + 1] for n in range(len(message))))
        self.assertWorks(client)

    def test_segments(self) -> None:
        """
        A hello cut into TCP segments of one byte works.
        """
        client = self.begin()
        client.talker.socket.setsockopt(6, 1, 1)  # TCP_NODELAY
        for byte in client.hello():
            client.talker.send(bytes([byte]))
        self.assertWorks(client)


class AdmissionTests(IntegrationTestCase):
    """
    Routes that demand client certificates.
    """

    def setUp(self) -> None:
        """
        Start both modes before one upstream.
        """
        super().setUp()
        self.upstream = Listener(self)
        tls = {"client_ca": str(self.certificates.ca)}
        port = self.upstream.port
        self.through = self.proxy(self.offload(port, tls=tls), self.bridge(port, tls=tls))
        stranger = Certificates(self.folder, "stranger")
        self.strange = stranger.issue("strange-client")

    def assertShutOut(self, reason: str, **more: object) -> None:
        """
        Expect a client not to be let in.
        """
        for mode in ("offload", "bridge"):
            for version in ("1.2", "1.3"):
                number = len(self.through.sessions())
                context = clientContext(self.certificates.ca, version, **more)
                # In TLS 1.3 a client takes the handshake for done before it is.
                with self.assertRaises(SSL.Error):
                    connect(self, self.through.port(mode), context).readAll()
                line = self.through.session(number)
                self.assertEqual(("failed", "handshake"), (line["outcome"], line["phase"]))
                # The alert for want of a certificate is younger than TLS 1.2.
                told = line["reason"].replace("(alert handshake_failure", "(alert certificate_required")
                self.assertEqual(reason, told)
                self.assertEqual("-", line["upstream"])
                self.assertFalse(self.upstream.waiting())

    def test_noCertificate(self) -> None:
        """
        A client without a certificate: the upstream is not dialed.
        """
        self.assertShutOut(
            "the client showed no certificate, and one is demanded (alert certificate_required sent); "
            "give it one of a CA in client_ca, or, where the mode can, let it in without by client_auth = 'optional'"
        )

    def test_strangersCertificate(self) -> None:
        """
        A client with a certificate of another authority: the upstream is not dialed.
        """
        self.assertShutOut(
            "the client's certificate is refused: unable to get local issuer certificate (alert unknown_ca sent); "
            "it has to come from a CA in client_ca, and the client has to send all of the chain below that",
            certificate=self.strange,
        )

    def test_ownCertificate(self) -> None:
        """
        A client with a certificate of the right authority is let in, and named in the log.
        """
        mine = self.certificates.issue("client", commonName="a good client")
        client = connect(self, self.through.port("offload"), clientContext(self.certificates.ca, certificate=mine))
        server = self.upstream.accept()
        client.send(b"word")
        self.assertEqual(b"word", server.read(4))
        client.endWrite()
        server.endWrite()
        client.readAll()
        self.assertIn("CN=a good client, issued by CN=test ca, until ", self.through.session()["certificate"])
