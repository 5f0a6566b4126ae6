"""
Tests for L{tlsproxy.handlers.smtpinside}.
"""

from __future__ import annotations

from tests.handlers.smtpsessions import EHLO, HELLO, OPTIONAL, PLAIN, SMTPCase
from tlsproxy.testing.streampeers import Peer

STRIPPED = b"250-mail.example\r\n250 SIZE 1000\r\n"
"""What is left of L{PLAIN}."""
HAS_TLS = b"503 5.5.1 TLS is running already\r\n"
HELLO_FIRST = b"503 5.5.1 say EHLO first\r\n"
BROKEN = b"521 5.5.2 a line is broken: each ends with CR LF, and is not too long\r\n"


class InsideTests(SMTPCase):
    """
    What is said inside TLS, with an upstream that offers STARTTLS of its own again and again.
    """

    def watched(self) -> Peer:
        """
        Have a client in TLS that has said EHLO there.
        """
        self.offload()
        client = self.secured()
        self.asks(client, EHLO, PLAIN, STRIPPED)
        return client

    def test_again(self) -> None:
        """
        However often a client says EHLO before mail, STARTTLS is never offered.
        """
        client = self.watched()
        for _ in range(3):
            self.asks(client, EHLO, PLAIN, STRIPPED)
        self.asks(client, b"NOOP\r\n", b"250 ok\r\n", b"250 ok\r\n")
        self.assertMail(client)
        self.ends(client)

    def test_startTLSAgain(self) -> None:
        """
        STARTTLS inside TLS is refused, and the upstream does not hear of it.
        """
        client = self.watched()
        self.says(client, b"STARTTLS\r\n", HAS_TLS)
        self.hears(self.upstream.peer)
        self.assertMail(client)
        self.ends(client)

    def test_steppedAside(self) -> None:
        """
        Where there is nothing to be changed in the reply to EHLO, that is all that is looked at.
        """
        self.offload()
        client = self.secured()
        self.asks(client, EHLO, HELLO, HELLO)
        self.asks(client, b"STARTTLS\r\n", b"502 what?\r\n", b"502 what?\r\n")
        self.assertMail(client)
        self.ends(client)

    def test_password(self) -> None:
        """
        A password, which may be a line of any length, is not looked at.
        """
        client = self.watched()
        self.says(client, b"AUTH GSSAPI " + b"x" * 5000)
        self.hears(self.upstream.peer, b"AUTH GSSAPI " + b"x" * 5000)
        self.assertMail(client)
        self.ends(client)

    def test_refusedHello(self) -> None:
        """
        A client whose EHLO is refused has to say it again, or HELO.
        """
        self.offload()
        client = self.secured()
        self.asks(client, EHLO, b"501 who?\r\n", b"501 who?\r\n")
        self.says(client, b"DATA\r\n", HELLO_FIRST)
        self.asks(client, b"HELO client.example\r\n", b"250 mail.example\r\n", b"250 mail.example\r\n")
        self.assertMail(client)
        self.ends(client)

    def test_known(self) -> None:
        """
        An upstream that has heard a client's EHLO before TLS, because TLS is not required, is not asked again for the
        same one: there are those that take it only once.
        """
        self.offload(required=False)
        client = self.greeted()
        self.asks(client, EHLO, PLAIN, b"250-mail.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
        self.startsTLS(client)
        self.says(client, EHLO, STRIPPED)
        self.says(client, EHLO, STRIPPED)
        self.hears(self.upstream.peer)
        self.assertMail(client)
        self.ends(client)

    def test_knownAndOther(self) -> None:
        """
        It is asked for another one, and from then on for the first one, too.
        """
        self.offload(required=False)
        client = self.greeted()
        self.asks(client, EHLO, HELLO, OPTIONAL)
        self.startsTLS(client)
        for _ in range(2):
            for hello in (b"EHLO other.example\r\n", EHLO):
                self.asks(client, hello, PLAIN, STRIPPED)
        self.assertMail(client)
        self.ends(client)

    def test_knownNothing(self) -> None:
        """
        What it has refused before TLS it is asked again.
        """
        self.offload(required=False)
        client = self.greeted()
        self.asks(client, EHLO, b"451 not now\r\n", b"451 not now\r\n")
        self.startsTLS(client)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_pipelined(self) -> None:
        """
        What comes behind EHLO waits for the reply to it, and whether it may be mail hangs on that.
        """
        self.offload()
        client = self.secured()
        rest = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<b@c.example>\r\n"
        self.says(client, EHLO + rest)
        self.hears(self.upstream.peer, EHLO)
        self.says(self.upstream.peer, b"501 who?\r\n")
        self.hears(client, b"501 who?\r\n", HELLO_FIRST, HELLO_FIRST)
        self.says(client, EHLO + b"NOOP\r\nSTARTTLS\r\n" + rest)
        self.says(self.upstream.peer, PLAIN[:20], EHLO)
        self.hears(client)
        self.says(self.upstream.peer, PLAIN[20:], b"NOOP\r\n")
        self.hears(client, STRIPPED)
        self.says(self.upstream.peer, b"250 ok\r\n", rest)
        self.hears(client, b"250 ok\r\n", HAS_TLS)
        self.assertMail(client)
        self.ends(client)

    def test_mailAlreadyRead(self) -> None:
        """
        A command that has come out of TLS already is seen to while the reply before it still is, and may be mail.
        """
        for cut in range(1, 6):
            self.offload()
            client = self.secured()
            mail = b"MAIL FROM:<a@b.example>\r\n"
            client.write(EHLO + mail[:cut])
            client.write(mail[cut:])
            self.hears(self.upstream.peer, EHLO)
            self.says(self.upstream.peer, PLAIN, mail)
            self.hears(client, STRIPPED)
            self.assertMail(client)
            self.ends(client)
            self.assertOver("closed", "half_closed")
            self.forget()
            self.upstream.peers.clear()

    def test_pipelinedAndEnded(self) -> None:
        """
        A client that says all it has to say and ends its direction gets all its replies.
        """
        self.offload()
        client = self.secured()
        client.write(EHLO + b"NOOP\r\nQUIT\r\n")
        client.end()
        for command, reply, told in (
            (EHLO, PLAIN, STRIPPED),
            (b"NOOP\r\n", b"250 ok\r\n", b"250 ok\r\n"),
            (b"QUIT\r\n", b"221 bye\r\n", b"221 bye\r\n"),
        ):
            self.hears(self.upstream.peer, command)
            self.assertEqual("", self.upstream.peer.ended)
            self.upstream.peer.write(reply)
            self.hears(client, told)
        self.assertEqual("end", self.upstream.peer.ended)
        self.upstream.peer.end()
        self.finished()
        self.assertOver("closed", "half_closed")

    def test_muchBehindHello(self) -> None:
        """
        A client that does not wait is not read until the upstream has replied, so that what is kept is bounded; and
        nothing is lost.
        """
        self.offload()
        client = self.secured()
        mail = b"MAIL FROM:<a@b.example>\r\n" + b"x" * 3_000_000
        client.write(EHLO + mail)
        self.settle()
        self.hears(self.upstream.peer, EHLO)
        self.assertGreater(len(client.unsent), 1_000_000)
        self.upstream.peer.write(HELLO)
        self.settle(lambda: len(self.upstream.peer.received) >= len(EHLO + mail))
        self.hears(self.upstream.peer, mail)
        self.ends(client)

    def test_closing(self) -> None:
        """
        What an upstream says without being asked is passed on, such as that it closes.
        """
        client = self.watched()
        self.says(self.upstream.peer, b"421 too long\r\n")
        self.hears(client, b"421 too long\r\n")
        self.upstream.peer.end()
        self.ends(client)
        self.assertOver("closed", "half_closed")

    def test_endsInstead(self) -> None:
        """
        An upstream that ends its direction in the middle of a reply leaves the client's open, and the client gets what
        there is of it.
        """
        client = self.watched()
        self.says(client, EHLO + b"NOOP\r\nSTARTTLS\r\n" + EHLO)
        self.hears(self.upstream.peer, EHLO)
        self.upstream.peer.write(b"250-mail")
        self.upstream.peer.end()
        self.hears(client, b"250-mail")
        self.hears(self.upstream.peer, b"NOOP\r\n", EHLO)
        self.says(client, b"MAIL\r\n")
        self.hears(self.upstream.peer, b"MAIL\r\n")
        self.ends(client)
        self.assertOver("closed", "half_closed")

    def test_halfReply(self) -> None:
        """
        What there is of a reply of several lines is not made to look whole, and nothing is lost but the offer of
        STARTTLS.
        """
        for command, half, told in (
            (EHLO, b"250-mail\r\n250-SIZE\r\n", b"250-mail\r\n250-SIZE\r\n"),
            (EHLO, b"250-mail\r\n250-STARTTLS\r\n250-SIZE\r\n250 X", b"250-mail\r\n250-SIZE\r\n250 X"),
            (EHLO, b"550-no\r\n550-STARTTLS\r\n", b"550-no\r\n550-STARTTLS\r\n"),
            (b"HELP\r\n", b"250-help\r\n250-STARTTLS\r\n", b"250-help\r\n250-STARTTLS\r\n"),
            (b"NOOP\r\n", b"421 time", b"421 time"),
        ):
            client = self.watched()
            self.says(client, command)
            self.hears(self.upstream.peer, command)
            self.upstream.peer.write(half)
            self.upstream.peer.end()
            self.hears(client, told)
            self.assertEqual("end", client.ended)
            self.ends(client)
            self.assertOver("closed", "half_closed")
            self.forget()
            self.upstream.peers.clear()

    def test_halfCommand(self) -> None:
        """
        What a client says of a last line goes on as it is, unless it is STARTTLS.
        """
        for half, passed in (
            (b"NOO", b"NOO"),
            (b"NOOP", b"NOOP"),
            (b"EHLO client", b"EHLO client"),
            (b"StartTLS", b""),
            (b"STARTTLS\r", b""),
            (b"", b""),
        ):
            client = self.watched()
            client.write(b"NOOP\r\n" + half)
            client.end()
            self.hears(self.upstream.peer, b"NOOP\r\n")
            self.upstream.peer.write(b"250 ok\r\n")
            self.hears(self.upstream.peer, passed)
            self.assertEqual("end", self.upstream.peer.ended)
            self.hears(client, b"250 ok\r\n")
            self.upstream.peer.end()
            self.finished()
            self.assertOver("closed", "half_closed")
            self.forget()
            self.upstream.peers.clear()

    def test_halfBeforeHello(self) -> None:
        """
        What a client may not say yet does not go on in halves, either.
        """
        self.offload()
        client = self.secured()
        client.write(b"MAIL FROM:<a@b.example>")
        client.end()
        self.hears(self.upstream.peer)
        self.assertEqual("end", self.upstream.peer.ended)
        self.upstream.peer.end()
        self.finished()

    def test_brokenCommand(self) -> None:
        """
        A broken line of the client ends the session, with an answer.
        """
        for line, problem in (
            (b"NOOP\n", "ends with a line feed alone"),
            (b"EHLO\rx\r\n", "has the control byte 0x0d"),
            (b"x" * 2000, "is longer than 1000 bytes"),
        ):
            client = self.watched()
            client.write(line)
            self.finished()
            self.assertEqual(BROKEN, client.take())
            self.assertEqual(b"", self.upstream.peer.take())
            self.assertOver("refused", "idle", f"handler starttls-smtp: the client's command {problem}")
            self.forget()
            self.upstream.peers.clear()

    def test_brokenReply(self) -> None:
        """
        A broken reply of the upstream ends the session.
        """
        client = self.watched()
        self.says(client, EHLO)
        self.upstream.peer.write(b"hello!\r\n")
        self.finished()
        self.assertEqual(b"", client.take())
        reason = "handler starttls-smtp: the upstream's reply does not begin with a code of three digits"
        self.assertOver("failed", "idle", reason)

    def test_cut(self) -> None:
        """
        However the network cuts what comes, it is the same.
        """
        client = self.watched()
        client.step = self.upstream.peer.step = 1
        self.asks(client, EHLO, PLAIN, STRIPPED)
        self.says(client, b"STARTTLS\r\n", HAS_TLS)
        self.assertMail(client)
        self.ends(client)
