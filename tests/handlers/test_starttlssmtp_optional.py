"""
Tests for L{tlsproxy.handlers.starttlssmtp}: where TLS is not required.
"""

from __future__ import annotations

from tests.handlers.smtpsessions import EHLO, HELLO, OPTIONAL, PLAIN, SMTPCase
from tlsproxy.testing.streampeers import Peer

MAIL = b"MAIL FROM:<a@b.example>\r\n"


class OptionalTests(SMTPCase):
    """
    Clients that may go on in clear.
    """

    def test_inClear(self) -> None:
        """
        With the first command that is about mail all goes on in clear, and nothing is lost.
        """
        self.offload(required=False)
        client = self.greeted()
        self.asks(client, EHLO, HELLO, OPTIONAL)
        rest = b"RCPT TO:<b@c.example>\r\nDATA\r\n"
        self.says(client, MAIL + rest)
        self.hears(self.upstream.peer, MAIL + rest)
        self.says(self.upstream.peer, b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.hears(client, b"250 ok\r\n250 ok\r\n354 go\r\n")
        self.assertMail(client)
        self.ends(client)
        self.assertOver("closed", "half_closed")

    def test_startTLS(self) -> None:
        """
        Who says STARTTLS gets it.
        """
        self.offload(required=False)
        client = self.greeted()
        self.asks(client, EHLO, HELLO, OPTIONAL)
        self.startsTLS(client)
        self.says(client, EHLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_offers(self) -> None:
        """
        The upstream tells what it offers, but not STARTTLS of its own, only ours; what it refuses is refused, and what
        it says to HELO passes as it is.
        """
        self.offload(required=False)
        client = self.greeted()
        for command, reply, told in (
            (EHLO, PLAIN, b"250-mail.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"),
            (EHLO, b"502 what?\r\n", b"502 what?\r\n"),
            (EHLO, b"550-no\r\n550 STARTTLS\r\n", b"550-no\r\n550 STARTTLS\r\n"),
            (b"HELO client.example\r\n", b"250 mail.example\r\n", b"250 mail.example\r\n"),
        ):
            self.asks(client, command, reply, told)
        self.startsTLS(client)
        self.ends(client)

    def test_pipelined(self) -> None:
        """
        Commands that come without waiting are passed on one by one, and answered in their order.
        """
        self.offload(required=False)
        client = self.greeted()
        self.says(client, b"NOOP\r\n" + EHLO + b"HELO x\r\nRSET\r\n" + MAIL, b"250 2.0.0 ok\r\n")
        self.hears(self.upstream.peer, EHLO)
        self.says(self.upstream.peer, HELLO, b"HELO x\r\n")
        self.hears(client, OPTIONAL)
        self.says(self.upstream.peer, b"250 x\r\n", MAIL)
        self.hears(client, b"250 x\r\n250 2.0.0 ok\r\n")
        self.ends(client)

    def test_noPasswords(self) -> None:
        """
        Passwords are not taken in clear, and no nonsense either.
        """
        self.offload(required=False)
        client = self.greeted()
        self.says(client, b"AUTH LOGIN\r\n", b"538 5.7.11 say STARTTLS first: no passwords in clear\r\n")
        self.says(client, b"...\r\n", b"500 5.5.2 this is no command\r\n")
        self.hears(self.upstream.peer)
        self.ends(client)

    def test_certificate(self) -> None:
        """
        Where a client certificate is demanded, nothing goes on in clear.
        """
        self.offload(clients="required", required=False)
        client: Peer = self.greeted()
        client.write(MAIL)
        self.finished()
        self.assertOver(
            "refused",
            "negotiate",
            "the client starts no TLS, and so shows no certificate, which the route demands",
        )
        self.assertEqual(b"", self.upstream.peer.take())
