"""
Tests for L{tlsproxy.handlers.starttlssmtp}: upstreams, and what becomes of their refusals and their attacks.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.handlers.smtpsessions import EHLO, GREETING, HELLO, OFFER, PLAIN, SMTPCase
from tlsproxy.end import End
from tlsproxy.handlers.starttlssmtp import StartTLSSMTP
from tlsproxy.patterns.passthrough import Passthrough
from tlsproxy.testing.sessions import Browser
from tlsproxy.testing.streampeers import Peer

UNAVAILABLE = b"421 4.3.0 the mail server cannot be reached as it has to be, try again later\r\n"


class UpstreamTests(SMTPCase):
    """
    Upstreams of clients that have no TLS.
    """

    def test_mail(self) -> None:
        """
        The upstream greets, is asked what it offers and then for STARTTLS, and only then is the client greeted; from
        its EHLO on all passes, inside TLS.
        """
        self.encrypt(helo="gate.example")
        client = self.visit()
        self.settle()
        self.upstreamStarts(b"EHLO gate.example\r\n")
        self.hears(client, GREETING)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)
        self.assertOver("closed", "half_closed")
        self.assertEqual(["dial", "negotiate", "upstream_handshake", "negotiate", "idle", "half_closed"], self.phases)

    def test_address(self) -> None:
        """
        Without a name, we are called by our address (RFC 5321, section 4.1.3).
        """
        for address, literal in (
            (IPv4Address("TCP", "192.0.2.7", 1), b"[192.0.2.7]"),
            (IPv6Address("TCP", "2001:db8::7", 1), b"[IPv6:2001:db8::7]"),
            (IPv6Address("TCP", "fe80::7%eth0", 1), b"[IPv6:fe80::7]"),
            (UNIXAddress(None), b"[127.0.0.1]"),
        ):
            self.patch(End, "host", lambda _, address=address: address)
            self.encrypt(side="far")
            client = self.visit()
            self.upstreamStarts(b"EHLO %b\r\n" % literal)
            self.ends(client)

    def test_offersAgain(self) -> None:
        """
        An upstream that offers STARTTLS inside TLS, as it must not, does not get that through.
        """
        self.encrypt(helo="x")
        client = self.visit()
        self.upstreamStarts(b"EHLO x\r\n")
        self.hears(client, GREETING)
        self.asks(client, EHLO, PLAIN, b"250-mail.example\r\n250 SIZE 1000\r\n")
        self.assertMail(client)
        self.ends(client)

    def test_bridge(self) -> None:
        """
        With TLS on both sides, the upstream's begins first, and the client talks with an upstream that is in TLS.
        """
        self.bridge(helo="x")
        client = self.visit(partial(Browser, clear=True))
        self.upstreamStarts(b"EHLO x\r\n")
        self.hears(client, GREETING)
        self.says(client, EHLO, OFFER)
        self.startsTLS(client)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_near(self) -> None:
        """
        STARTTLS may be for the client alone, and the upstream is in TLS from its first byte.
        """
        self.bridge(clear=False, side="near")
        client = self.visit(partial(Browser, clear=True))
        self.settle()
        self.says(self.upstream.peer, GREETING)
        self.hears(client, GREETING)
        self.says(client, EHLO, OFFER)
        self.startsTLS(client)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_far(self) -> None:
        """
        STARTTLS may be for the upstream alone, and the client is in TLS from its first byte; nothing is dialed before
        that.
        """
        self.bridge(side="far", helo="x")
        client = self.visit(partial(Browser, clear=True))
        self.settle()
        self.assertEqual(0, self.upstream.dialed)
        client.startTLS()
        self.settle()
        self.upstreamStarts(b"EHLO x\r\n")
        self.hears(client, GREETING)
        self.asks(client, EHLO, HELLO, HELLO)
        self.assertMail(client)
        self.ends(client)

    def test_noTLS(self) -> None:
        """
        Where there is nothing for STARTTLS to start, the session ends and says so.
        """
        sentence = "handler starttls-smtp: STARTTLS has no TLS to start: mode {} has none on side {}"
        for serve, mode, side in ((self.offload, "offload", "far"), (self.encrypt, "encrypt", "near")):
            serve(side=side)
            client = self.visit(partial(Browser, clear=mode == "encrypt"))
            client.write(b"x")
            self.settle()
            for origin in self.upstream.peers:
                if mode == "encrypt":
                    origin.startTLS()
            self.finished()
            self.assertOver("failed", "negotiate", sentence.format(mode, side))
            self.forget()


class RefusalTests(SMTPCase):
    """
    Upstreams that do not do as they should.
    """

    def refused(self, *talk: bytes) -> Browser:
        """
        Have an upstream that says these things, one after the other.

        @return: The client.
        """
        self.encrypt(helo="x")
        client: Browser = self.visit(partial(Browser, clear=True))
        self.settle()
        for words in talk:
            self.upstream.peer.write(words)
            self.settle()
        return client

    def test_noOffer(self) -> None:
        """
        An upstream that does not offer STARTTLS gets nothing in clear, whoever has taken the offer out; the client is
        told to try again.
        """
        client = self.refused(GREETING, HELLO)
        self.assertEqual(b"EHLO x\r\n", self.upstream.peer.take())
        self.assertTurnedAway(
            client, UNAVAILABLE, "failed", "handler starttls-smtp: the upstream does not offer STARTTLS"
        )

    def test_noEHLO(self) -> None:
        """
        It is the same where it does not even know EHLO.
        """
        client = self.refused(GREETING, b"502 what?\r\n")
        reason = "handler starttls-smtp: the upstream does not offer STARTTLS: it answers EHLO with 502 what?"
        self.assertTurnedAway(client, UNAVAILABLE, "failed", reason)

    def test_refusesStartTLS(self) -> None:
        """
        An upstream may offer STARTTLS and have no TLS for now.
        """
        client = self.refused(GREETING, PLAIN, b"454 4.7.0 not now\r\n")
        reason = "handler starttls-smtp: the upstream offers STARTTLS and refuses it: 454 4.7.0 not now"
        self.assertTurnedAway(client, UNAVAILABLE, "failed", reason)

    def test_greetings(self) -> None:
        """
        A greeting that turns everybody away is told to the client as it is.
        """
        for greeting, sentence in (
            (b"554-no\r\n554 mail here\r\n", "the upstream greets with 554 no"),
            (b"421 too busy\r\n", "the upstream closes: 421 too busy"),
        ):
            client = self.refused(greeting)
            self.assertTurnedAway(client, greeting, "failed", f"handler starttls-smtp: {sentence}")
            self.forget()

    def test_strangeGreeting(self) -> None:
        """
        A greeting that is none is not passed on.
        """
        client = self.refused(b"250 hello\r\n")
        reason = "handler starttls-smtp: the upstream greets with 250 hello"
        self.assertTurnedAway(client, UNAVAILABLE, "failed", reason)

    def test_closes(self) -> None:
        """
        An upstream may close at any time, and its reason is told to the client.
        """
        closing = b"421 4.3.2 shutting down\r\n"
        client = self.refused(GREETING, closing)
        reason = "handler starttls-smtp: the upstream closes: 421 4.3.2 shutting down"
        self.assertTurnedAway(client, closing, "failed", reason)

    def test_closesWhileTheClientTalks(self) -> None:
        """
        It is the same where the client is talked with.
        """
        self.offload(required=False)
        client = self.greeted()
        self.says(client, EHLO)
        self.upstream.peer.write(b"421 4.3.2 shutting down\r\n")
        reason = "handler starttls-smtp: the upstream closes: 421 4.3.2 shutting down"
        self.assertTurnedAway(client, b"421 4.3.2 shutting down\r\n", "failed", reason)

    def test_ends(self) -> None:
        """
        An upstream that goes without a word is told of as that, and the client hears that it is gone.
        """
        self.offload(required=False)
        client = self.greeted()
        self.says(client, EHLO)
        self.upstream.peer.end()
        reason = "the upstream ended the stream where it had to reply"
        self.assertTurnedAway(client, UNAVAILABLE, "ended", reason)

    def test_malformed(self) -> None:
        """
        A reply that is none ends the session, and so does one without an end.
        """
        for reply, sentence in (
            (b"hello\r\n", "the upstream's reply does not begin with a code of three digits"),
            (b"250-x\r\n220 y\r\n", "the upstream's reply changes its code from line to line"),
            (b"250 x\n", "the upstream's reply ends with a line feed alone"),
            (b"250-x\r\n" * 200, "the upstream's reply has more than 100 lines"),
        ):
            client = self.refused(GREETING, reply)
            self.assertTurnedAway(client, UNAVAILABLE, "failed", f"handler starttls-smtp: {sentence}")
            self.forget()

    def test_injected(self) -> None:
        """
        Replies behind the one to STARTTLS, which somebody has put there, do not get into TLS.
        """
        client = self.refused(GREETING, PLAIN, b"220 go\r\n250-mail.example\r\n250 AUTH PLAIN\r\n")
        reason = (
            "handler starttls-smtp: the upstream sent more in clear behind its answer to STARTTLS, as an injection"
            " does; it was not read"
        )
        self.assertTurnedAway(client, UNAVAILABLE, "failed", reason)

    def test_injectedLater(self) -> None:
        """
        It is the same for what comes only then: there TLS itself fails.
        """
        client = self.refused(GREETING, PLAIN, b"220 go\r\n")
        self.upstream.peer.write(b"250-mail.example\r\n250 AUTH PLAIN\r\n")
        self.finished()
        self.assertEqual(UNAVAILABLE, client.take())
        (event,) = self.told()
        self.assertEqual(("failed", "upstream_handshake"), (event["outcome"], event["phase"]))
        self.assertIn("the upstream does not speak TLS", event["reason"])

    def test_wrongCertificate(self) -> None:
        """
        An upstream that is not the one that was meant gets nothing, and the client is told to try again.
        """
        self.encrypt(helo="x", shows="other.example")
        client: Peer = self.visit()
        self.settle()
        origin = self.upstream.peer
        for words in (GREETING, PLAIN, b"220 go\r\n"):
            origin.write(words)
            self.settle()
        origin.take(len(b"EHLO x\r\nSTARTTLS\r\n"))
        origin.startTLS()
        self.finished()
        self.assertEqual(UNAVAILABLE, client.take())
        (event,) = self.told()
        self.assertIn("it is not for upstream.example; it is for other.example", event["reason"])

    def test_noWayThere(self) -> None:
        """
        Handlers of a mode without TLS have nothing to start.
        """
        self.serve(Passthrough(upstream=self.upstream, requireTLS=False), handlers=(StartTLSSMTP(),))
        client = self.visit()
        client.write(b"x")
        self.finished()
        (event,) = self.told()
        self.assertIn("STARTTLS has no TLS to start", event["reason"])
