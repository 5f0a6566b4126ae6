# -*- test-case-name: tests.handlers -*-
"""
Whole sessions of SMTP, in which the test speaks for the client and for the upstream.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tlsproxy.handlers.starttlssmtp import StartTLSSMTP
from tlsproxy.patterns.bridge import Bridge
from tlsproxy.patterns.encrypt import Encrypt
from tlsproxy.patterns.offload import Offload
from tlsproxy.testing.certificates import clientTLS, serverTLS
from tlsproxy.testing.sessions import Browser, Origin, SessionCase, Upstream
from tlsproxy.testing.streampeers import Peer

__all__ = ["EHLO", "GREETING", "HELLO", "OFFER", "OPTIONAL", "PLAIN", "READY", "SMTPCase"]

GREETING = b"220 mail.example ESMTP ready\r\n"
EHLO = b"EHLO client.example\r\n"
HELLO = b"250-mail.example\r\n250-PIPELINING\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN\r\n250 SIZE 1000\r\n"
"""What an upstream answers that has no STARTTLS."""
OFFER = b"250-mail.example\r\n250 STARTTLS\r\n"
"""What a client is told in clear where it has to use TLS."""
OPTIONAL = b"250-mail.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
"""What it is told for L{HELLO} where it need not."""
PLAIN = b"250-mail.example\r\n250-STARTTLS\r\n250 SIZE 1000\r\n"
"""What an upstream answers that has STARTTLS of its own."""
READY = b"220 2.0.0 ready for TLS\r\n"


class SMTPCase(SessionCase):
    """
    A test of mail.
    """

    def offload(self, clients: str = "", route: dict[str, Any] | None = None, **options: Any) -> None:
        """
        Serve STARTTLS for a server that knows nothing of it.
        """
        pattern = Offload(tls=serverTLS(clients=clients), upstream=self.upstream)
        self.serve(pattern, handlers=(StartTLSSMTP(**options),), **(route or {}))

    def encrypt(self, shows: str = "upstream.example", **options: Any) -> None:
        """
        Use STARTTLS for a client that knows nothing of it.

        @param shows: The name that the upstream's certificate is for.
        """
        self.upstream = Upstream(self.network, partial(Origin, clear=True, name=shows))
        self.serve(Encrypt(upstreamTLS=clientTLS(), upstream=self.upstream), handlers=(StartTLSSMTP(**options),))

    def bridge(self, clear: bool = True, **options: Any) -> None:
        """
        Have TLS on both sides.
        """
        self.upstream = Upstream(self.network, partial(Origin, clear=clear))
        pattern = Bridge(tls=serverTLS(), upstreamTLS=clientTLS(), upstream=self.upstream)
        self.serve(pattern, handlers=(StartTLSSMTP(**options),))

    def hears(self, peer: Peer, *expected: bytes) -> None:
        """
        A peer gets just this, before time passes.
        """
        self.settle()
        self.assertEqual(b"".join(expected), peer.take())

    def says(self, peer: Peer, data: bytes, *answer: bytes) -> None:
        """
        A peer says something, and gets just this answer.
        """
        peer.write(data)
        self.hears(peer, *answer)

    def greeted(self, **browser: Any) -> Browser:
        """
        Have a client in clear connect and be greeted.
        """
        client: Browser = self.visit(partial(Browser, clear=True, **browser))
        self.settle()
        self.upstream.peer.write(GREETING)
        self.hears(client, GREETING)
        return client

    def asks(self, client: Peer, command: bytes, reply: bytes, *told: bytes, passed: bytes | None = None) -> None:
        """
        A client says a command, the upstream hears it and replies, and the client is told something.

        @param passed: What the upstream hears, if not the same.
        """
        self.says(client, command)
        self.hears(self.upstream.peer, command if passed is None else passed)
        self.says(self.upstream.peer, reply)
        self.hears(client, *told)

    def startsTLS(self, client: Browser) -> None:
        """
        A client says STARTTLS and begins with TLS.
        """
        self.says(client, b"STARTTLS\r\n", READY)
        client.startTLS()
        self.settle(lambda: client.ready)

    def secured(self) -> Browser:
        """
        Have a client that is in TLS.
        """
        client = self.greeted()
        self.says(client, EHLO, OFFER)
        self.startsTLS(client)
        return client

    def upstreamStarts(self, helo: bytes = b"EHLO [192.0.2.7]\r\n") -> Origin:
        """
        Have the upstream greet and begin with TLS, as it is asked to.
        """
        self.settle()
        origin: Origin = self.upstream.peer
        self.says(origin, GREETING, helo)
        self.says(origin, PLAIN, b"STARTTLS\r\n")
        origin.write(b"220 go ahead\r\n")
        self.settle(lambda: not origin.unsent)
        origin.startTLS()
        self.settle(lambda: origin.ready)
        return origin

    def ends(self, client: Peer) -> None:
        """
        Both sides end, the client first.
        """
        client.end()
        self.settle(lambda: self.upstream.peer.ended != "")
        self.upstream.peer.end()
        self.finished()

    def assertMail(self, client: Peer) -> None:
        """
        What is said now passes as it is, in both directions, and nobody looks at it: also what is no SMTP.
        """
        for data in (b"MAIL FROM:<a@b.example>\r\n", b"\0STARTTLS\nEHLO x\r\n" + b"x" * 3000):
            self.says(client, data)
            self.hears(self.upstream.peer, data)
        for data in (b"250 ok\r\n", b"nonsense", HELLO):
            self.says(self.upstream.peer, data)
            self.hears(client, data)
        relay = self.one().relay
        assert relay is not None
        self.assertEqual((False, False), (relay.outward.handled, relay.inward.handled))

    def assertTurnedAway(self, client: Peer, answer: bytes, outcome: str, reason: str) -> None:
        """
        A client got this answer, all of it, and the end of its stream; and this is what the log says.
        """
        self.finished()
        self.assertEqual((answer, "end"), (client.take(), client.ended))
        self.assertOver(outcome, "negotiate", reason)
