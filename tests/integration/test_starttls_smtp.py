# -*- test-case-name: tests.integration.test_starttls_smtp -*-
"""
Mail gets through C{starttls-smtp} between programs that everybody uses, and what is said in clear stays out of TLS.
"""

from __future__ import annotations

import contextlib
import os
import smtplib
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from unittest import SkipTest

from tests.integration.opensmtpd import DOMAIN, OpenSMTPD
from tests.integration.running import Child, IntegrationTestCase, Proxy, freePort
from tests.integration.talking import Server, Talker, connect, serverContext
from tests.peers import requirePeer

TEXT = "Subject: hello\r\n\r\n.a line with a dot in front\r\nSTARTTLS\r\nEHLO x\r\n" + "x" * 900 + "\r\n"
SENDER = "bob@elsewhere.example"
RECIPIENT = f"ann@{DOMAIN}"
GREETING = b"220 mail.example\r\n"


def line(talker: Talker) -> bytes:
    """
    Read a line, and nothing behind it.
    """
    data = b""
    while not data.endswith(b"\n") and (more := talker.read(1)):
        data += more
    return data


def reply(talker: Talker) -> bytes:
    """
    Read a reply.
    """
    data = last = line(talker)
    while last[3:4] == b"-":
        last = line(talker)
        data += last
    return data


class MailTests(IntegrationTestCase):
    """
    Whole mails, to OpenSMTPD.
    """

    def setUp(self) -> None:
        """
        Start the mail server.
        """
        super().setUp()
        self.server = OpenSMTPD(self)
        self.trust = ssl.create_default_context(cafile=str(self.certificates.ca))

    def starttls(self, mode: str, upstream: int | None = None, **options: Any) -> Proxy:
        """
        Start the proxy with the handler.

        @param options: Those of the handler.
        """
        route = getattr(self, mode)(upstream or self.server.port, handler=[{"name": "starttls-smtp", **options}])
        return self.proxy(route)

    def stunnel(self, *lines: str, port: int) -> int:
        """
        Start stunnel in front of something.

        @param lines: The options of its service.
        @param port: What it connects to.
        @return: The port that it listens on.
        """
        accept = freePort()
        config = self.folder / "stunnel.conf"
        service = [f"accept = 127.0.0.1:{accept}", f"connect = 127.0.0.1:{port}", *lines]
        config.write_text("\n".join(["foreground = yes", "pid =", "[mail]", *service, ""]))
        Child(self, self.folder, "stunnel", [requirePeer("stunnel4"), str(config)]).waitFor("Configuration successful")
        return accept

    def server_(self, *lines: str) -> int:
        """
        Have stunnel speak TLS for OpenSMTPD.
        """
        return self.stunnel(f"cert = {self.pem}", *lines, port=self.server.port)

    @contextlib.contextmanager
    def client(self, port: int) -> Iterator[smtplib.SMTP]:
        """
        Connect Python's client.
        """
        with smtplib.SMTP("localhost", port, "client.example", timeout=20) as client:
            yield client

    def swaks(self, port: int, *options: str, status: int = 0) -> str:
        """
        Send a mail with swaks.

        @return: Its report of the talk.
        """
        if options:
            self.requireSSLeay()
        mail = ["--from", SENDER, "--to", RECIPIENT, "--helo", "client.example", "--body", "hello from swaks"]
        verify = ["--tls-verify", "--tls-ca-path", str(self.certificates.ca)] if options else []
        done = self.run_(["swaks", "--server", f"localhost:{port}", *mail, *options, *verify], status=status)
        return done.stdout.decode() + done.stderr.decode()

    def requireSSLeay(self) -> None:
        """
        Make sure that swaks has TLS.
        """
        if self.run_(["perl", "-MNet::SSLeay", "-e", "1"], status=None).returncode:
            if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
                raise AssertionError("the Perl module Net::SSLeay is not installed")
            raise SkipTest("the Perl module Net::SSLeay, which swaks needs for TLS, is not installed")

    def assertDelivered(self, text: str) -> None:
        """
        A mail was delivered that is all of this, from end to end.
        """
        mail = self.server.mail()
        self.assertIn(f"Delivered-To: {RECIPIENT}\n", mail)
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        self.assertIn(f"{head}\n", mail)
        self.assertEqual(body.strip(), mail.partition("\n\n")[2].strip())

    def assertTLS(self, proxy: Proxy, near: bool, far: bool) -> None:
        """
        The log tells of one session, with TLS on these sides.  How it ended is not looked at, since swaks does not end
        its TLS.
        """
        session = proxy.session()
        self.assertEqual((near, far), (session["tls"] != "-", session["upstreamTLS"] != "-"))

    def test_offload(self) -> None:
        """
        A client is offered STARTTLS for a server that has none, and no longer once it is in TLS; and sends its mail.
        """
        proxy = self.starttls("offload")
        with self.client(proxy.port("offload")) as client:
            client.ehlo()
            self.assertTrue(client.has_extn("starttls"))
            self.assertEqual(530, client.mail(SENDER)[0])
            client.starttls(context=self.trust)
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))
            self.assertTrue(client.has_extn("size"))
            self.assertEqual({}, client.sendmail(SENDER, [RECIPIENT], TEXT))
        self.assertDelivered(TEXT)
        self.assertTLS(proxy, near=True, far=False)

    def test_swaks(self) -> None:
        """
        swaks sends a mail with STARTTLS, and is refused without.
        """
        proxy = self.starttls("offload")
        port = proxy.port("offload")
        said = self.swaks(port, "--tls")
        self.assertIn("TLS started with cipher", said)
        self.assertEqual(1, said.count("250-STARTTLS") + said.count("250 STARTTLS"))
        self.assertIn("hello from swaks", self.server.mail())
        self.assertIn("530 5.7.0 Must issue a STARTTLS command first", self.swaks(port, status=23))

    def test_openssl(self) -> None:
        """
        C{openssl s_client -starttls smtp} gets into TLS, and has to say EHLO there first.
        """
        proxy = self.starttls("offload")
        where = ["-connect", f"localhost:{proxy.port('offload')}", "-starttls", "smtp", "-quiet", "-ign_eof"]
        trust = ["-CAfile", str(self.certificates.ca), "-verify_return_error", "-verify_hostname", "localhost"]
        mail = b"MAIL FROM:<x@y.example>\r\nEHLO client.example\r\nQUIT\r\n"
        said = self.run_(["openssl", "s_client", *where, *trust], mail).stdout
        answers = [answer[:4] for answer in said.splitlines() if answer[3:4] == b" "]
        # The first of them is the last line of what it was told in clear.
        self.assertEqual([b"503 ", b"250 ", b"221 "], answers[-3:])

    def test_optional(self) -> None:
        """
        Where STARTTLS is not required, both get their mail through.
        """
        proxy = self.starttls("offload", required=False)
        self.swaks(proxy.port("offload"))
        self.assertTLS(proxy, near=False, far=False)
        self.assertIn("hello from swaks", self.server.mail())
        self.swaks(proxy.port("offload"), "--tls")
        self.assertNotEqual("-", proxy.session(1)["tls"])

    def test_stunnelAsClient(self) -> None:
        """
        stunnel speaks STARTTLS to us for a client that does not.
        """
        proxy = self.starttls("offload")
        trust = [f"CAfile = {self.certificates.ca}", "verifyChain = yes", "checkHost = localhost"]
        port = self.stunnel("client = yes", "protocol = smtp", *trust, port=proxy.port("offload"))
        with self.client(port) as client:
            client.sendmail(SENDER, [RECIPIENT], TEXT)
        self.assertDelivered(TEXT)
        self.assertTLS(proxy, near=True, far=False)

    def test_encrypt(self) -> None:
        """
        A client without TLS sends its mail by STARTTLS, here to stunnel, which speaks it for OpenSMTPD.
        """
        proxy = self.starttls("encrypt", self.server_("protocol = smtp"))
        with self.client(proxy.port("encrypt")) as client:
            client.ehlo()
            self.assertFalse(client.has_extn("starttls"))
            self.assertEqual({}, client.sendmail(SENDER, [RECIPIENT], TEXT))
        self.assertDelivered(TEXT)
        self.assertTLS(proxy, near=False, far=True)

    def test_bridge(self) -> None:
        """
        STARTTLS on both sides.
        """
        proxy = self.starttls("bridge", self.server_("protocol = smtp"))
        self.assertIn("TLS started with cipher", self.swaks(proxy.port("bridge"), "--tls"))
        self.assertIn("hello from swaks", self.server.mail())
        self.assertTLS(proxy, near=True, far=True)

    def test_near(self) -> None:
        """
        STARTTLS toward the client, and TLS from the first byte toward the upstream.
        """
        proxy = self.starttls("bridge", self.server_(), side="near")
        self.assertIn("TLS started with cipher", self.swaks(proxy.port("bridge"), "--tls"))
        self.assertIn("hello from swaks", self.server.mail())
        self.assertTLS(proxy, near=True, far=True)

    def test_far(self) -> None:
        """
        TLS from the first byte toward the client, and STARTTLS toward the upstream.
        """
        proxy = self.starttls("bridge", self.server_("protocol = smtp"), side="far")
        self.assertIn("TLS started with cipher", self.swaks(proxy.port("bridge"), "--tls-on-connect"))
        self.assertIn("hello from swaks", self.server.mail())
        self.assertTLS(proxy, near=True, far=True)

    def test_pair(self) -> None:
        """
        Two proxies speak STARTTLS with each other, for a client and a server that know nothing of it.
        """
        handler = [{"name": "starttls-smtp"}]
        inner = self.offload(self.server.port, listen=f"127.0.0.1:{(port := freePort())}", handler=handler)
        proxy = self.proxy(inner, self.encrypt(port, handler=handler))
        with self.client(proxy.port("encrypt")) as client:
            for _ in range(2):
                self.assertEqual({}, client.sendmail(SENDER, [RECIPIENT], TEXT))
        self.assertDelivered(TEXT)

    def test_noOffer(self) -> None:
        """
        Nothing is sent to an upstream that does not offer STARTTLS; the client may try again later.
        """
        proxy = self.starttls("encrypt")
        with self.assertRaises(smtplib.SMTPConnectError) as caught:
            smtplib.SMTP("localhost", proxy.port("encrypt"), timeout=20)
        self.assertEqual(421, caught.exception.smtp_code)
        session = proxy.session()
        self.assertEqual("handler starttls-smtp: the upstream does not offer STARTTLS", session["reason"])
        self.assertNotIn("smtp message", self.server.log())

    def test_injection(self) -> None:
        """
        A mail that somebody on the way puts behind STARTTLS in clear is not sent, and the log says so.
        """
        proxy = self.starttls("offload")
        mail = f"EHLO evil.example\r\nMAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\nbuy!\r\n.\r\n".encode()
        for number, behind in enumerate((mail, b"NOOP\r\n", b"\r\n")):
            client = connect(self, proxy.port("offload"))
            reply(client)
            client.send(b"EHLO client.example\r\n")
            self.assertIn(b"STARTTLS", reply(client))
            client.send(b"STARTTLS\r\n" + behind)
            self.assertEqual(
                (b"220 2.0.0 ready for TLS\r\n", b"", "ended"), (reply(client), client.readAll(), client.how)
            )
            session = proxy.session(number)
            self.assertEqual(("refused", "-"), (session["outcome"], session["tls"]))
            self.assertIn("as an injection does", session["reason"])
        self.assertNotIn("smtp message", self.server.log())


class AttackedUpstreamTests(IntegrationTestCase):
    """
    Upstreams that somebody speaks for.
    """

    def upstream(self, behind: bytes) -> tuple[Proxy, Server]:
        """
        Start an upstream and a proxy.

        @param behind: What it sends behind its answer to STARTTLS.
        """
        context = serverContext(self.pem)

        def answer(talker: Talker) -> list[bytes]:
            talker.send(GREETING)
            heard = [line(talker)]
            talker.send(b"250-mail.example\r\n250 STARTTLS\r\n")
            heard.append(line(talker))
            talker.send(b"220 go\r\n" + behind)
            if not behind:
                talker.startTLS(context, server=True)
                heard.append(line(talker))
                talker.send(b"250-mail.example\r\n250-STARTTLS\r\n250 INSIDE\r\n")
                heard.append(line(talker))
            return heard

        server = Server(self, answer)
        route = self.encrypt(server.port, handler=[{"name": "starttls-smtp", "helo": "gate.example"}])
        return self.proxy(route), server

    def test_injection(self) -> None:
        """
        Replies that somebody puts behind the one to STARTTLS do not reach the client.
        """
        proxy, _ = self.upstream(b"250-mail.example\r\n250 INJECTED\r\n")
        client = connect(self, proxy.port("encrypt"))
        client.send(b"EHLO client.example\r\n")
        said = client.readAll()
        self.assertEqual(b"421 ", said[:4])
        self.assertNotIn(b"INJECTED", said)
        self.assertRegex(proxy.session()["reason"], "as an injection does|does not speak TLS")

    def test_inside(self) -> None:
        """
        Without that, the client hears what the upstream says inside TLS, but for its STARTTLS.
        """
        proxy, server = self.upstream(b"")
        client = connect(self, proxy.port("encrypt"))
        self.assertEqual(GREETING, reply(client))
        client.send(b"EHLO client.example\r\n")
        self.assertEqual(b"250-mail.example\r\n250 INSIDE\r\n", reply(client))
        client.send(b"MAIL FROM:<a@b.example>\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        client.readAll()
        proxy.session()
        commands = [b"EHLO gate.example", b"STARTTLS", b"EHLO client.example", b"MAIL FROM:<a@b.example>"]
        self.assertEqual([[command + b"\r\n" for command in commands]], server.seen)
