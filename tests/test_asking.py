# -*- test-case-name: tests.test_asking -*-
"""
L{tlsproxy.asking}: asking an HTTP proxy for a tunnel.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from zope.interface import implementer

from tlsproxy.asking import Answer, askForTunnel
from tlsproxy.end import End
from tlsproxy.errors import Answered
from tlsproxy.interfaces import IPattern
from tlsproxy.session import Session
from tlsproxy.steps import dial
from tlsproxy.testing.sessions import SessionCase


@implementer(IPattern)
@frozen(kw_only=True)
class Asks:
    """
    A mode that asks its upstream, and ends.

    @ivar ask: What it does with the upstream's side.
    """

    mode = "asks"
    upstream: Any
    ask: Any
    found: list[Any] = field(factory=list)

    async def open(self, session: Session) -> tuple[End, End]:
        """
        Ask.
        """
        far = await dial(session, self.upstream)
        far.who = "the proxy"
        self.found.append(await self.ask(far))
        self.found.append(await far.read(100))
        raise Answered("that was all")


class AskTests(SessionCase):
    """
    Answers.
    """

    def answered(self, *pieces: bytes, end: bool = False) -> list[Any]:
        """
        Ask, and answer in pieces.

        @return: What came of it: the answer, and what was read behind it; or the sentence of the log.
        """
        pattern = Asks(upstream=self.upstream, ask=lambda far: askForTunnel(far, b"HEAD"))
        self.serve(pattern)
        client = self.visit()
        self.settle()
        peer = self.upstream.peers[-1]
        self.settle(lambda: peer.received == b"HEAD")
        for piece in pieces:
            peer.write(piece)
            self.settle()
        if end:
            peer.end()
        self.settle(lambda: bool(self.told()))
        client.close()
        peer.close()
        self.settle()
        reason = self.told()[-1]["reason"]
        self.forget()
        return pattern.found or [reason]

    def test_stands(self) -> None:
        """
        However it is cut, the head is taken, and not one byte of what follows.
        """
        head = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n"
        whole = Answer(200, True, None, "answers with the status 200")
        self.assertEqual([whole, b"tunnel"], self.answered(head + b"tunnel"))
        self.assertEqual([whole, b"t"], self.answered(*(head[at : at + 1] for at in range(len(head))), b"t"))

    def test_agreed(self) -> None:
        """
        What it says of taking TLS off is told.
        """
        head = b"HTTP/1.1 200 OK\r\nConnection: TLS-Downgrade\r\nTLS-Downgrade: none\r\n\r\n"
        self.assertEqual("none", self.answered(head + b"x")[0].agreed)

    def test_sentences(self) -> None:
        """
        A short text is its sentence, on one line and fit to be shown; of other bodies nothing is read.
        """
        for kind, body, words in (
            (b"text/plain", b"not\r\n you \x07", "says: not you \\x07"),
            (b"TEXT/plain; charset=utf-8", b"m\xc3\xbc" * 300, "says: " + "m\xfc" * 150),
            (b"text/html", b"<p>", "answers with the status 403"),
            (b"text/plain", b"x" * 1001, "answers with the status 403"),
            (b"text/plain", b" \r\n", "answers with the status 403"),
        ):
            head = b"HTTP/1.1 403 No\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, len(body))
            self.assertEqual(words, self.answered(head, body[:1], body[1:], end=True)[0].words)
        head = b"HTTP/1.1 403 No\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
        self.assertEqual("says: cut", self.answered(head + b"cut", end=True)[0].words)

    def test_wrong(self) -> None:
        """
        What is no answer, or a part of one, is told.
        """
        self.assertIn("the proxy does not answer as a proxy does: ", self.answered(b"SSH-2.0\r\n")[0])
        (reason,) = self.answered(b"HTTP/1.1 200", end=True)
        self.assertEqual("the proxy ended the stream before its answer was whole", reason)
