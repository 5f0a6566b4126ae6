# -*- test-case-name: tests.test_sessionline -*-
"""
Tests for L{tlsproxy.sessionline}: the one line that a session leaves in the log.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from tests.test_session import Scripted
from tests.wire.clienthellos import GOOD, alpn, buildClientHello, groups, readAll, serverName, versions
from tlsproxy.errors import AdmissionRefused
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.rules import Rule
from tlsproxy.session import Session
from tlsproxy.sessionline import formatOf
from tlsproxy.testing.certificates import certificate, clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.wire.ja4 import ja4

HOSTILE = 'x" outcome=closed\n2026 [fake] line\r\t\x00\x1b[2J\u202e\u2028é'
"""What a stranger could call himself."""

LONGEST = 2000
"""More characters than any line has."""


class FieldTests(SessionCase):
    """
    What the line tells.
    """

    def line(self) -> str:
        """
        The only line.
        """
        (line,) = self.lines()
        return line

    def test_bridge(self) -> None:
        """
        It has the route, the client, the server name, TLS on each side, the upstream, bytes each way, seconds, and
        the outcome; and nothing behind that where nothing is wrong.
        """
        self.upstream = Upstream(self, partial(Origin, alpn=b"h2", version="TLSv1.3"))
        tls = serverTLS(alpn=("h2",), maxVersion="1.2")
        self.serve(Bridge(tls=tls, upstream=self.upstream, upstreamTLS=clientTLS()))
        client = self.visit(partial(Browser, serverName="Shop.Example", alpn=(b"h2",), version="TLSv1.2"))
        client.write(b"12345")
        self.settle()
        self.upstream.peer.write(b"1234567")
        self.after(1.5)
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertRegex(
            self.line(),
            r"^shop client=127\.0\.0\.1:4321 sni=shop\.example "
            r"ja4=t12d\d{4}h2_[0-9a-f]{12}_[0-9a-f]{12} versions=1\.2 groups=[\w,]+ alpn=h2 "
            r"tls=TLSv1\.2/ECDHE-ECDSA-AES256-GCM-SHA384/h2 "
            r"upstream=upstream\.example:443 upstream_tls=TLSv1\.3/TLS_AES_256_GCM_SHA384/h2 "
            r"in=5 out=7 seconds=1\.500 outcome=closed$",
        )
        (event,) = self.told()
        self.assertEqual(LogLevel.info, event["log_level"])

    def test_hello(self) -> None:
        """
        What the client's hello offers is told, also of a client that is refused.
        """
        self.serve(Passthrough(), rules=(Rule(refuse="close"),))
        self.visit().write(GOOD)
        self.settle(lambda: bool(self.told()))
        hello = readAll(GOOD)
        assert hello is not None
        self.assertEqual(
            f"shop client=127.0.0.1:4321 sni=shop.example ja4={ja4(hello)} versions=1.3,1.2 "
            "groups=X25519MLKEM768,X25519,secp256r1 alpn=h2,http/1.1 tls=- "
            "upstream=- upstream_tls=- in=0 out=0 seconds=0.000 outcome=refused "
            'phase=route reason="the client asks for shop.example, and rule 1 of the route refuses that"',
            self.line(),
        )

    def test_words(self) -> None:
        """
        What the line needs of a hello is kept, and not the hello, which may be large, for as long as the session lasts.
        """
        self.serve(Passthrough(upstream=self.upstream))
        self.visit().write(GOOD)
        self.settle(lambda: self.upstream.dialed == 1)
        session = self.one()
        self.assertEqual((None, "shop.example"), (session.hello, session.serverName))
        session.stop()
        self.assertIn(" sni=shop.example ja4=t13d", self.line())

    def test_bareHello(self) -> None:
        """
        What a hello does not offer is a dash.
        """
        self.serve(Passthrough(), rules=(Rule(refuse="close"),))
        self.visit().write(buildClientHello(None))
        self.settle(lambda: bool(self.told()))
        self.assertIn(" sni=- ja4=t12i020000_", self.line())
        self.assertIn(" versions=1.2 groups=- alpn=- tls=- ", self.line())

    def test_userAndTarget(self) -> None:
        """
        Who a client has shown to be, and what it wants, stand in the line where there is such a thing.
        """

        async def script(session: Session) -> Any:
            session.enter("route")
            session.user, session.target = "alice", "[2001:db8::1]:443"
            raise AdmissionRefused("no")

        self.serve(Scripted(script))
        self.visit()
        self.settle()
        self.assertEqual(
            "shop client=127.0.0.1:4321 user=alice sni=- tls=- target=[2001:db8::1]:443 "
            "upstream=- upstream_tls=- in=0 out=0 seconds=0.000 outcome=refused "
            'phase=route reason="no"',
            self.line(),
        )

    def test_offload(self) -> None:
        """
        A side without TLS, an upstream that was not dialed and a name that was not given are dashes; what went wrong
        has its phase and its sentence.
        """
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream))
        self.visit().end()
        self.settle()
        self.assertEqual(
            "shop client=127.0.0.1:4321 sni=- tls=- upstream=- upstream_tls=- in=0 out=0 seconds=0.000 outcome=ended "
            'phase=hello reason="the client connected and ended the stream without a word"',
            self.line(),
        )

    def test_certificate(self) -> None:
        """
        A client with a certificate is told of by what it says.
        """
        self.serve(Offload(tls=serverTLS(clients="optional"), upstream=self.upstream))
        client = self.visit(partial(Browser, identity=certificate("alice")))
        self.settle()
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertIn(' client_cert="CN=alice, issued by CN=Test CA, until 2027-02-18"', self.line())

    def test_noCertificate(self) -> None:
        """
        One that was asked for a certificate and has none is told of without.
        """
        self.serve(Offload(tls=serverTLS(clients="optional"), upstream=self.upstream))
        client = self.visit(Browser)
        self.settle(lambda: self.upstream.dialed == 1)
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertNotIn("client_cert", self.line())

    def test_bytes(self) -> None:
        """
        The bytes are those that were taken by the other side, in clear, also of a session that was cut.
        """
        self.upstream = Upstream(self, Origin)
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()))
        client = self.visit()
        client.write(bytes(100000))
        self.settle()
        self.upstream.peer.write(bytes(50000))
        self.settle()
        self.one().stop()
        self.assertIn(" in=100000 out=50000 ", self.line())
        self.assertIn(' outcome=stopped phase=idle reason="the service stopped"', self.line())


class FormatTests(SynchronousTestCase):
    """
    The line's format.
    """

    def test_format(self) -> None:
        """
        A piece stands in the line where there is something to say, and a format is made once.
        """
        self.assertEqual("{route} client={client}", formatOf({"client": "x", "user": "", "reason": ""}))
        self.assertEqual("{route} user={user} outcome={outcome}", formatOf({"outcome": "closed", "user": "alice"}))
        self.assertIs(formatOf({"client": "x"}), formatOf({"client": "y"}))


class HostileTests(SessionCase):
    """
    Whatever strangers choose, the line stays one line, of bounded length, and its quotes are its own.
    """

    def assertSafe(self) -> str:
        """
        There is one line, and it is safe.
        """
        (line,) = self.lines()
        self.assertTrue(line.isprintable(), ascii(line))
        self.assertLess(len(line), LONGEST)
        self.assertRegex(line, r'^[^"]*( client_cert="[^"]*")?( phase=\w+ reason="[^"]*")?$')
        bare = re.sub('"[^"]*"', "", line)
        self.assertEqual(1, bare.count(" outcome="))
        return line

    def test_certificate(self) -> None:
        """
        The subject of a certificate.
        """
        self.serve(Offload(tls=serverTLS(clients="required"), upstream=self.upstream))
        client = self.visit(partial(Browser, identity=certificate(HOSTILE)))
        self.settle(lambda: self.upstream.dialed == 1)
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertIn("é", self.assertSafe())

    def test_longCertificate(self) -> None:
        """
        A long one, of characters that take much to escape.
        """
        self.serve(Offload(tls=serverTLS(clients="required"), upstream=self.upstream))
        client = self.visit(partial(Browser, identity=certificate("\U000e0041" * 16)))
        self.settle(lambda: self.upstream.dialed == 1)
        client.end()
        self.upstream.peer.end()
        self.settle()
        self.assertSafe()

    def test_alpn(self) -> None:
        """
        The application protocols that a client offers.
        """
        self.serve(Offload(tls=serverTLS(alpn=("h2",)), upstream=self.upstream))
        names = [HOSTILE.encode(), *[bytes([9, 34, 10]) * 80 + bytes([index]) for index in range(100)]]
        client = self.visit(partial(Browser, alpn=names))
        self.settle(lambda: client.ended == "failed")
        self.assertIn("the client offers only the application protocols", self.assertSafe())

    def test_user(self) -> None:
        """
        The name of a user, and a target.
        """

        async def script(session: Session) -> Any:
            session.enter("route")
            session.user = session.target = HOSTILE * 100
            raise AdmissionRefused("no")

        self.serve(Scripted(script))
        self.visit()
        self.settle()
        (line,) = self.lines()
        self.assertTrue(line.isprintable(), ascii(line))
        self.assertLess(len(line), LONGEST)
        bare = re.sub('"[^"]*"', "", line)
        self.assertEqual((1, 6), (bare.count(" outcome="), line.count('"')))
        self.assertIn(" user= sni=", bare)

    def test_hello(self) -> None:
        """
        All that a hello may offer.
        """
        names = [HOSTILE.encode()[:255], b"x y=z,", bytes(range(1, 256))]
        wire = buildClientHello(
            [
                serverName(b"shop.example"),
                alpn(*names * 50),
                groups(*range(1000, 3000)),
                versions(*range(0x0500, 0x0564)),
            ]
        )
        self.serve(Passthrough(), rules=(Rule(refuse="close"),))
        self.visit().write(wire)
        self.settle(lambda: bool(self.told()))
        line = self.assertSafe()
        words = dict(word.partition("=")[::2] for word in line.partition(" tls=")[0].split()[1:])
        self.assertEqual(["client", "sni", "ja4", "versions", "groups", "alpn"], list(words))

    def test_upstreamName(self) -> None:
        """
        The names in an upstream's certificate, and our own route's.
        """
        self.upstream = Upstream(self, partial(Origin, name="other.example"))
        self.serve(Encrypt(upstream=self.upstream, upstreamTLS=clientTLS()))
        self.visit()
        self.settle()
        self.assertIn("it is for other.example", self.assertSafe())

    def test_reason(self) -> None:
        """
        Whatever sentence a pattern refuses with.
        """

        async def script(session: Session) -> Any:
            session.enter("route")
            raise AdmissionRefused(HOSTILE * 100)

        self.serve(Scripted(script))
        self.visit()
        self.settle()
        self.assertSafe()

    def test_serverName(self) -> None:
        """
        A server name that could do harm is a doubtful hello.
        """
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream))
        client = self.visit(partial(Browser, serverName='x" y\n'))
        self.settle(lambda: client.ended == "failed")
        self.assertIn(" sni=- ", self.assertSafe())
        self.assertEqual("refused", self.told()[0]["outcome"])

    def test_ourOwn(self) -> None:
        """
        Names of our own with spaces are in quotes.
        """

        class Named(Upstream):
            def __str__(self) -> str:
                return '<"an endpoint"\n of somebody>'

        self.upstream = Named(self)
        self.serve(Offload(tls=serverTLS(), upstream=self.upstream))
        client = self.visit(Browser)
        self.settle(lambda: self.upstream.dialed == 1)
        client.end()
        self.upstream.peer.end()
        self.settle()
        (line,) = self.lines()
        self.assertIn(" upstream=\"<'an endpoint'\\n of somebody>\" upstream_tls=- ", line)
