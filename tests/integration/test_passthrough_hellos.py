# -*- test-case-name: tests.integration.test_passthrough_hellos -*-
"""
C{passthrough} reads a good hello however it comes, passes it on as it was sent, and dials nothing for any other.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tests.integration.running import IntegrationTestCase, Proxy
from tests.integration.talking import Listener, Server, Talker, clientContext, connect, echo, serverContext
from tests.integration.test_doubt_is_refused import Manual
from tests.wire.clienthellos import alpn, buildClientHello, cutInRecords, helloMessage, serverName, vector

UNRECOGNIZED = b"\x15\x03\x03\x00\x02\x02\x70"


class HelloTests(IntegrationTestCase):
    """
    Clients and servers whose every byte is in the hands of the test.
    """

    def setUp(self) -> None:
        """
        Make a server that a rule names, and one for all others.
        """
        super().setUp()
        self.named, self.others = Listener(self), Listener(self)

    def start(self, *rules: dict[str, object], named: int = 0, **more: object) -> None:
        """
        Start the proxy.

        @param rules: Further rules, after the one for C{localhost}.
        @param named: The port that this one leads to, if it is another.
        """
        first = {"sni": "localhost", "upstream": f"127.0.0.1:{named or self.named.port}"}
        self.through: Proxy = self.proxy({"mode": "passthrough", "rule": [first, *rules], **more})

    def talker(self) -> Talker:
        """
        Connect.
        """
        return connect(self, self.through.port("passthrough"))

    def assertAlone(self) -> None:
        """
        Expect both servers to have been left alone.
        """
        self.assertFalse(self.named.waiting() or self.others.waiting())

    def assertLed(self, pieces: Sequence[bytes]) -> None:
        """
        Send a hello in pieces, and expect the right server to get it as it was sent.
        """
        talker = self.talker()
        talker.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            talker.send(piece)
        server = self.named.accept()
        whole = b"".join(pieces)
        self.assertEqual(whole, server.read(len(whole)))
        self.assertFalse(self.others.waiting())
        talker.close()
        server.close()

    def test_segments(self) -> None:
        """
        Segments of one byte, records of one byte, and both.
        """
        self.start(upstream=f"127.0.0.1:{self.others.port}")
        message = helloMessage([serverName(b"localhost")])
        records = cutInRecords(message, 1)
        self.assertLed([records])
        self.assertLed([records[at : at + 1] for at in range(len(records))])
        whole = cutInRecords(message)
        self.assertLed([whole[at : at + 1] for at in range(len(whole))])

    def test_long(self) -> None:
        """
        A hello of all the 64 KiB that it may have.
        """
        self.start(upstream=f"127.0.0.1:{self.others.port}")
        message = helloMessage([serverName(b"localhost")], size=65516)
        whole = cutInRecords(message)
        self.assertEqual(65536, len(whole))
        self.assertLed([whole])
        talker = self.talker()
        talker.send(cutInRecords(helloMessage([serverName(b"localhost")], size=65517)))
        # All was not read, but the alert arrives.
        self.assertEqual(b"\x15\x03\x03\x00\x02\x02", talker.read(6))
        self.assertAlone()

    def test_postQuantum(self) -> None:
        """
        A hello with a post-quantum key, which fills more than one packet of an Ethernet.
        """
        server = Server(self, echo, serverContext(self.pem))
        self.start(named=server.port, upstream=f"127.0.0.1:{self.others.port}")
        sock = socket.socket()
        self.addCleanup(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        sock.connect(("127.0.0.1", self.through.port("passthrough")))
        client = Manual(Talker(sock), clientContext(self.certificates.ca))
        hello = client.hello()
        self.assertGreater(len(hello), 1500)
        client.talker.send(hello)
        client.finish()
        self.assertEqual(b"question", client.ask(b"question"))
        client.talker.close()
        self.assertIn("X25519MLKEM768", self.through.session()["groups"])
        self.assertAlone()

    def test_default(self) -> None:
        """
        Whom no rule is for gets to the route's own upstream, and so does who names no server.
        """
        self.start(upstream=f"127.0.0.1:{self.others.port}")
        for hello in (buildClientHello([serverName(b"other.example")]), buildClientHello(), buildClientHello(None)):
            self.talker().send(hello)
            self.assertEqual(hello, self.others.accept().read(len(hello)))
        self.assertFalse(self.named.waiting())

    def test_unconditional(self) -> None:
        """
        A rule without conditions is for all others, too.
        """
        self.start({"upstream": f"127.0.0.1:{self.others.port}"})
        hello = buildClientHello([serverName(b"other.example")])
        self.talker().send(hello)
        self.assertEqual(hello, self.others.accept().read(len(hello)))
        self.assertFalse(self.named.waiting())

    def test_doubt(self) -> None:
        """
        What is no hello beyond doubt never reaches a default.
        """
        self.start(upstream=f"127.0.0.1:{self.others.port}")
        self.assertDoubted()

    def test_silent(self) -> None:
        """
        Where a last rule closes on all others, it does on who sends no hello beyond doubt.
        """
        self.start({"refuse": "close"})
        for answer in self.assertDoubted():
            self.assertEqual(b"", answer)

    def assertDoubted(self) -> list[bytes]:
        """
        Send much that is no hello beyond doubt.

        @return: The answers.
        """
        name = serverName(b"localhost")
        good = buildClientHello([name])
        doubtful = [
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
            b"\x00" + bytes(500),
            b"\x17" + good[1:],
            good[:5] + b"\x02" + good[6:],
            b"\x16\x03\x01\x00\x00" + good,
            good[:3] + (len(good) - 4).to_bytes(2, "big") + good[5:] + b"\x00",
            cutInRecords(helloMessage([name]), [20, 1])[:25] + b"\x14\x03\x01\x00\x01\x01" + good[25:],
            buildClientHello([serverName(b"localhost", b"other.example")]),
            buildClientHello([name, serverName(b"other.example")]),
            buildClientHello([serverName(b"")]),
            buildClientHello([serverName(b"local\0host")]),
            buildClientHello([serverName(b"localhost", kind=1)]),
            buildClientHello([(0, vector(2, vector(1, b"\0" + vector(2, b"localhost"))))]),
            buildClientHello([name, alpn(b"")]),
            buildClientHello([name, (41, b"\0\0"), alpn(b"h2")]),
            buildClientHello([name], rest=b"\0"),
            buildClientHello([name], compressions=b"\x01"),
            buildClientHello([name], sessionID=bytes(33)),
            buildClientHello([name], cipherSuites=b"\x13"),
        ]
        answers = []
        for number, sent in enumerate(doubtful):
            talker = self.talker()
            talker.send(sent)
            answers.append(talker.readAll())
            line = self.through.session(number)
            self.assertEqual(("refused", "hello", "-"), (line["outcome"], line["phase"], line["upstream"]), sent)
        talker = self.talker()
        talker.send(good[:-1])
        talker.endWrite()
        talker.readAll()
        self.assertEqual("ended", self.through.session(len(doubtful))["outcome"])
        self.assertAlone()
        return answers

    def test_plainHTTP(self) -> None:
        """
        Who speaks plain HTTP is told in plain HTTP.
        """
        self.start(upstream=f"127.0.0.1:{self.others.port}")
        url = f"http://127.0.0.1:{self.through.port('passthrough')}/"
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "%{http_code}", url]
        done = self.run_(command)
        self.assertEqual(b"This port speaks TLS: ask for https://, not for http://\n400", done.stdout)
        self.assertAlone()

    def test_manyRefused(self) -> None:
        """
        Nothing is dialed for any of many that are refused.
        """
        self.start()
        for number in range(100):
            talker = self.talker()
            talker.send(buildClientHello([serverName(b"n%d.example" % number)]))
            self.assertEqual((UNRECOGNIZED, "ended"), (talker.readAll(), talker.how))
        self.assertEqual(100, len([self.through.session(number) for number in range(100)]))
        self.assertAlone()
