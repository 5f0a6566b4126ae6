# -*- test-case-name: tests.test_end_peek -*-
"""
L{tlsproxy.end}: what was peeked, and a part of it read, goes on exactly where that ended, whoever reads next.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from tlsproxy.testing.streampeers import TLSPeer
from tlsproxy.testing.streams import KINDS, Streams, pairings, serverTLS

T = TypeVar("T")

HEAD = b"CONNECT shop.example:443 HTTP/1.1\r\n\r\n"
"""What is read before the rest goes on."""
BEHIND = bytes(range(256)) * 300
"""What follows it, longer than several records of TLS."""

if TYPE_CHECKING:
    _Mixin = Streams
else:
    _Mixin = object


class HandOver(_Mixin):
    """
    A side that is peeked at, and then joined with another.
    """

    def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Run something that does not have to wait.
        """
        done = Deferred.fromCoroutine(work)
        self.settle(lambda: done.called)
        return self.successResultOf(done)

    def takeHead(self, *cuts: int) -> None:
        """
        Send a head and what is behind it, and read the head, as much as is seen at a time.

        @param cuts: Where what is sent is cut.
        """
        sent = HEAD + BEHIND
        for start, end in zip((0, *cuts), (*cuts, len(sent)), strict=True):
            self.near.peer.write(sent[start:end])
        self.settle()
        read = b""
        while read != HEAD:
            seen = self.finish(self.near.end.peek(8192))
            self.assertTrue(seen and sent[len(read) :].startswith(seen))
            count = min(len(seen), len(HEAD) - len(read))
            self.assertEqual(seen[:count], self.finish(self.near.end.read(count)))
            read += seen[:count]

    def joined(self, *cuts: int) -> None:
        """
        Join sides that were peeked at.  All the rest is delivered and nothing else, in both directions, also where
        nothing more comes to wake the reactor.
        """
        self.near = self.side(self.nearKind, near=True)
        self.far = self.side(self.farKind, near=False)
        self.takeHead(*cuts)
        self.assertEqual(BEHIND[:1], self.finish(self.near.end.peek(1)))
        self.far.peer.write(b"answer")
        self.settle()
        self.assertEqual(b"answ", self.finish(self.far.end.peek(4)))
        self.join()
        self.settle(lambda: self.far.peer.received == BEHIND and self.near.peer.received == b"answer")
        self.near.peer.end()
        self.far.peer.end()
        self.settle(lambda: bool(self.outcomes))
        self.assertOver("closed")

    def test_onePiece(self) -> None:
        """
        Sent in one piece.
        """
        self.joined()

    def test_cut(self) -> None:
        """
        Sent in several, one of which holds the end of the head and what follows.
        """
        self.joined(5, 20, len(HEAD) + 100, len(HEAD) + 101)

    def test_cutBehind(self) -> None:
        """
        Sent with a cut right behind the head.
        """
        self.joined(len(HEAD))


globals().update(pairings(__name__, Streams, HandOver))


class ThenTLSTests(Streams):
    """
    A plain side that goes on in TLS.
    """

    def test_startTLS(self) -> None:
        """
        The hello that came right behind the head is there for the handshake, in each version.
        """
        for kind in KINDS[1:]:
            side = self.side("plain", near=True)
            browser = TLSPeer(side.peer.socket, kind, server=False)
            browser._handshake()
            sent = HEAD + bytes(browser.unsent)
            browser.unsent.clear()
            side.peer.write(sent)
            self.settle()
            self.assertEqual(sent, self.successResultOf(Deferred.fromCoroutine(side.end.peek(8192))))
            self.assertEqual(HEAD, self.successResultOf(Deferred.fromCoroutine(side.end.read(len(HEAD)))))
            side.peer = browser
            handshake = Deferred.fromCoroutine(side.end.startTLS(serverTLS(kind)))
            self.settle(lambda browser=browser: browser.ready)  # type: ignore[misc]
            self.successResultOf(handshake)
            browser.close()
