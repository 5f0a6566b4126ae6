"""
Tests for L{tlsproxy.handlers.starttlssmtp}: its options, and what a client is told before TLS.
"""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.handlers.smtpsessions import EHLO, GREETING, HELLO, OFFER, READY, SMTPCase
from tlsproxy.handlers.starttlssmtp import MOST_COMMANDS, StartTLSSMTP
from tlsproxy.interfaces import FAR, NEAR, IHandlerOptions
from tlsproxy.testing.certificates import certificate
from tlsproxy.testing.sessions import Browser

MAIL = b"MAIL FROM:<a@b.example>\r\n"
FIRST = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
BROKEN = b"521 5.5.2 a line is broken: each ends with CR LF, and is not too long\r\n"
INJECTED = "the client sent more in clear behind its STARTTLS, as an injection does; it was not read"


class OptionTests(SynchronousTestCase):
    """
    L{StartTLSSMTP}.
    """

    def test_interface(self) -> None:
        """
        It is a handler with options, and tells its name.
        """
        options = StartTLSSMTP()
        self.assertTrue(verifyObject(IHandlerOptions, options))
        self.assertEqual("starttls-smtp", options.name)

    def test_sides(self) -> None:
        """
        It starts TLS on the sides that are said, and where it does toward the client, the upstream greets first.
        """
        for side, starts, serverFirst in (
            ("both", {NEAR, FAR}, True),
            ("near", {NEAR}, True),
            ("far", {FAR}, False),
        ):
            options = StartTLSSMTP(side=side)
            self.assertEqual((starts, serverFirst), (options.startsTLS, options.serverFirst))

    def test_wrong(self) -> None:
        """
        What cannot be meant is refused with a sentence.
        """
        error = self.assertRaises(ValueError, StartTLSSMTP, side="left")
        self.assertEqual("side is 'left', and not one of both, near, far", str(error))
        for name in ("two words", "x\r\nMAIL", "-", "[", "[::1", "ü.example", "x" * 300):
            error = self.assertRaises(ValueError, StartTLSSMTP, helo=name)
            self.assertIn("no host name", str(error))
        for name in ("mail.example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost"):
            self.assertEqual(name, StartTLSSMTP(helo=name).helo)


class ClientTests(SMTPCase):
    """
    Clients of a server that has no TLS.
    """

    def test_mail(self) -> None:
        """
        A client is greeted, is offered STARTTLS and no passwords, starts TLS, says EHLO again, is offered passwords and
        no STARTTLS, and from then on all passes.
        """
        self.offload()
        client = self.greeted()
        self.says(client, EHLO, OFFER)
        self.startsTLS(client)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)
        self.assertOver("closed", "half_closed")
        self.assertEqual(["dial", "negotiate", "hello", "handshake", "negotiate", "idle", "half_closed"], self.phases)

    def test_helo(self) -> None:
        """
        A client that says HELO is offered nothing, and may say STARTTLS all the same, or EHLO; and the upstream hears
        of none of it.
        """
        self.offload()
        client = self.greeted()
        self.says(client, b"HELO client.example\r\n", b"250 mail.example\r\n")
        self.says(client, EHLO, OFFER)
        self.says(client, b"ehlo other.example\r\n", OFFER)
        self.startsTLS(client)
        self.hears(self.upstream.peer)
        self.ends(client)

    def test_namelessGreeting(self) -> None:
        """
        An upstream that does not say its name is called something.
        """
        self.offload()
        client = self.visit(partial(Browser, clear=True))
        self.settle()
        self.says(self.upstream.peer, b"220\r\n")
        self.hears(client, b"220 \r\n")
        self.says(client, EHLO, b"250-localhost\r\n250 STARTTLS\r\n")
        self.ends(client)

    def test_greetings(self) -> None:
        """
        A greeting may have several lines, and is passed on once it is whole.
        """
        self.offload()
        client = self.visit(Browser)
        client.clear = True
        self.settle()
        self.says(self.upstream.peer, b"220-mail.example\r\n220-no spam")
        self.hears(client)
        self.says(self.upstream.peer, b" please\r\n220 \r\n")
        self.hears(client, b"220-mail.example\r\n220-no spam please\r\n220 \r\n")
        self.ends(client)

    def test_ownAnswers(self) -> None:
        """
        What means nothing before TLS is answered here, and the upstream hears nothing of it.
        """
        self.offload()
        client = self.greeted()
        for command, answer in (
            (b"NOOP\r\n", b"250 2.0.0 ok\r\n"),
            (b"rset\r\n", b"250 2.0.0 ok\r\n"),
            (b"HELP me\r\n", b"214 2.0.0 say EHLO, then STARTTLS\r\n"),
            (b"STARTTLS now\r\n", b"501 5.5.4 STARTTLS takes no parameters\r\n"),
            (b"EHLO\r\n", b"501 5.5.4 say who you are: EHLO, a space, and a name\r\n"),
            (b"HELO \xc3\xbc.example\r\n", b"501 5.5.4 say who you are: EHLO, a space, and a name\r\n"),
            (b"\r\n", b"500 5.5.2 this is no command\r\n"),
            (MAIL, FIRST),
            (b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", FIRST),
            (b"VRFY ann\r\n", FIRST),
            (b"XCLIENT ADDR=127.0.0.1\r\n", FIRST),
        ):
            self.says(client, command, answer)
        self.hears(self.upstream.peer)
        self.startsTLS(client)
        self.ends(client)

    def test_pipelined(self) -> None:
        """
        Commands that come without waiting for replies are answered one by one in their order.
        """
        self.offload()
        client = self.greeted()
        self.says(
            client,
            b"NOOP\r\n" + EHLO + MAIL + b"HELO x\r\nRSET\r\nSTARTTLS\r\n",
            *(b"250 2.0.0 ok\r\n", OFFER, FIRST, b"250 mail.example\r\n", b"250 2.0.0 ok\r\n", READY),
        )
        client.startTLS()
        self.settle(lambda: client.ready)
        self.ends(client)

    def test_cut(self) -> None:
        """
        However the network cuts what comes, it is the same.
        """
        self.offload()
        client = self.visit(Browser)
        client.clear = True
        client.step = 1
        self.settle()
        upstream = self.upstream.peer
        upstream.step = 1
        self.says(upstream, GREETING)
        self.hears(client, GREETING)
        self.says(client, EHLO, OFFER)
        client.step = 65536  # A hello that comes in pieces takes time on Unix sockets.
        self.startsTLS(client)
        client.step = 1
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_quit(self) -> None:
        """
        A client that says QUIT gets the upstream's reply and the end of its stream.
        """
        self.offload()
        client = self.greeted()
        self.asks(client, b"QUIT\r\n", b"221 bye\r\n", b"221 bye\r\n")
        self.assertOver("answered", "negotiate", "the client said QUIT before STARTTLS")
        self.assertEqual("end", client.ended)

    def test_leaves(self) -> None:
        """
        A client that leaves before TLS is told of as that.
        """
        self.offload()
        client = self.greeted()
        client.end()
        self.finished()
        self.assertOver("ended", "negotiate", "the client ended the stream before STARTTLS")

    def test_leavesAfterStartTLS(self) -> None:
        """
        A client may also leave where its TLS has to begin.
        """
        self.offload()
        client = self.greeted()
        self.says(client, b"STARTTLS\r\n", READY)
        client.end()
        self.finished()
        self.assertOver("ended", "negotiate", "the client ended the stream where its TLS had to begin")

    def test_slow(self) -> None:
        """
        The talk has a deadline.
        """
        self.offload(route={"negotiate": 20.0})
        client = self.greeted()
        for _ in range(4):
            self.says(client, b"NOOP\r\n", b"250 2.0.0 ok\r\n")
            self.after(5.5)
        self.assertOver("expired", "negotiate", "the talk before TLS did not end within 20 s")


class AttackTests(SMTPCase):
    """
    Clients that mean no good, and whoever sits between them and us.
    """

    def test_injected(self) -> None:
        """
        Commands behind STARTTLS do not get into TLS: they are not read, the session ends, and the log says why.
        """
        self.offload()
        for injected in (MAIL, b"EHLO evil.example\r\n" + MAIL, b"\r\n", b"\x17\x03\x03"):
            client = self.greeted()
            client.write(b"STARTTLS\r\n" + injected)
            self.finished()
            self.assertEqual((READY, "end"), (client.take(), client.ended))
            self.assertEqual(b"", self.upstream.peer.take())
            self.assertOver("refused", "negotiate", INJECTED)
            self.forget()
            self.upstream.peers.clear()

    def test_injectedLater(self) -> None:
        """
        It is the same for what comes between our answer and TLS.
        """
        self.offload()
        client = self.greeted()
        self.says(client, b"STARTTLS\r\n", READY)
        client.write(MAIL)
        client.startTLS()
        self.finished()
        self.assertEqual(b"", self.upstream.peer.take())
        self.assertOver("refused", "negotiate", INJECTED)

    def test_saidInClearDoesNotCount(self) -> None:
        """
        What was said in clear holds no longer inside TLS: the client has to say EHLO there first.
        """
        self.offload()
        client = self.secured()
        self.says(client, MAIL, b"503 5.5.1 say EHLO first\r\n")
        self.says(client, b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", b"503 5.5.1 say EHLO first\r\n")
        self.hears(self.upstream.peer)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_brokenLines(self) -> None:
        """
        A line that two readers could cut in different ways ends the session, with an answer.
        """
        self.offload()
        for line, problem in (
            (b"NOOP\n", "the client's command ends with a line feed alone"),
            (b"EHLO x\rMAIL\r\n", "the client's command has the control byte 0x0d"),
            (b"NOOP \0\r\n", "the client's command has the control byte 0x00"),
        ):
            client = self.greeted()
            client.write(line)
            self.assertTurnedAway(client, BROKEN, "refused", problem)
            self.forget()
            self.upstream.peers.clear()

    def test_longLine(self) -> None:
        """
        A line that is too long ends the session, with an answer.
        """
        self.offload()
        client = self.greeted()
        client.write(b"NOOP " + b"x" * 2000)
        self.finished()
        self.assertEqual(BROKEN, client.take())
        (event,) = self.told()
        self.assertEqual(("failed", "negotiate"), (event["outcome"], event["phase"]))
        self.assertRegex(event["reason"], "^handler starttls-smtp: the client.* 1000 bytes")

    def test_manyCommands(self) -> None:
        """
        A client cannot talk for ever.
        """
        self.offload()
        client = self.greeted()
        client.write(b"NOOP\r\n" * (MOST_COMMANDS + 1))
        self.assertTurnedAway(
            client,
            b"250 2.0.0 ok\r\n" * MOST_COMMANDS + b"421 4.7.0 too many commands before STARTTLS\r\n",
            "refused",
            f"the client said {MOST_COMMANDS} commands, and STARTTLS was not among them",
        )

    def test_otherProtocols(self) -> None:
        """
        A client that speaks something else is told of as that, and what it says is not answered.
        """
        self.offload()
        client = self.greeted()
        client.write(b"POST / HTTP/1.1\r\nHost: mail.example\r\n\r\nEHLO x\r\nSTARTTLS\r\n")
        self.assertTurnedAway(client, b"", "refused", "the client speaks HTTP, and here it has to speak SMTP")
        self.forget()
        self.upstream.peers.clear()
        client = self.greeted()
        client.startTLS()
        self.finished()
        self.assertOver("refused", "negotiate", "the client begins TLS at once, and here it has to say STARTTLS first")

    def test_certificate(self) -> None:
        """
        Where a client certificate is demanded, STARTTLS demands it, too.
        """
        self.offload(clients="required")
        client = self.greeted(identity=certificate("ann"))
        self.startsTLS(client)
        self.asks(client, EHLO, HELLO, HELLO)
        self.ends(client)
        self.forget()
        self.upstream.peers.clear()
        client = self.greeted()
        self.startsTLS(client)
        self.finished()
        (event,) = self.told()
        self.assertIn("showed no certificate", event["reason"])
