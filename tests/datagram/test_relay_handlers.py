"""
Tests for L{tlsproxy.datagram.relay} with protocol handlers.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from tests.datagram.sessions import DatagramSessionCase
from tlsproxy.datagram.sending import EMPTY
from tlsproxy.handler import HandlerOptions, ProtocolHandler
from tlsproxy.interfaces import INWARD, OUTWARD
from tlsproxy.patterns.offload import Offload


class Shouting(ProtocolHandler):
    """
    Makes what the client says loud; keeps what begins with a dot, and lets it go when asked.
    """

    def __init__(self, flow: Any) -> None:
        self.flow = flow
        self.kept: list[bytes] = []
        self.outcome = ""

    def received(self, direction: str, data: bytes) -> bytes | None:
        """
        See L{ProtocolHandler}.
        """
        if direction == INWARD:
            self.flow.done(INWARD)
            return data
        if data.startswith(b"."):
            self.kept.append(data)
            return None
        if data == b"go":
            for one in self.kept:
                self.flow.release(OUTWARD, one)
        if data == b"pause":
            self.flow.pause(OUTWARD)
        if data == b"refuse":
            self.flow.refuse("it says so", b"no")
            return None
        if data == b"bug":
            raise ZeroDivisionError()
        return b"" if data == b"nothing" else data.upper()

    def closed(self, outcome: str) -> None:
        """
        See L{ProtocolHandler}.
        """
        self.outcome = outcome


@frozen
class Shouts(HandlerOptions):
    """
    Its options.
    """

    made: Any = None

    @property
    def datagrams(self) -> bool:
        """
        It takes datagrams.
        """
        return True

    def handler(self, session: Any, flow: Any) -> Shouting:
        """
        Make it.
        """
        self.made.append(Shouting(flow))
        made: Shouting = self.made[-1]
        return made


class HandlerTests(DatagramSessionCase):
    """
    Handlers between a client and an upstream.
    """

    def test_handlers(self) -> None:
        """
        A handler is given one datagram a call, and what it lets go is one datagram.
        """
        made: list[Shouting] = []
        self.serve(Offload(tls=self.server(), upstream=self.where), handlers=(Shouts(made=made),))
        sock = self.connect()
        client = self.shake(sock)
        self.says(client, sock, b"one", b".two", b"three", b"nothing", b"go")
        self.assertEqual(self.came(), [b"ONE", b"THREE", b".two", b"GO"])
        for answer in (b"answer", b"again"):
            self.upstream.sendto(answer, self.from_)
        self.reactor.pump()
        self.hear(client, sock)
        self.assertEqual((client.read(), client.read()), (b"answer", b"again"))
        self.says(client, sock, b"pause", b"lost")
        self.assertEqual(self.came(), [b"PAUSE"])
        made[0].flow.resume(OUTWARD)
        self.says(client, sock, b"back")
        self.assertEqual(self.came(), [b"BACK"])
        self.says(client, sock, b"refuse")
        self.hear(client, sock)
        self.assertEqual(client.read(), b"no")
        self.assertEqual(made[0].outcome, "refused")
        self.assertIn("outcome=refused", self.line())

    def test_empty(self) -> None:
        """
        A handler is given a byte at least: an empty datagram, which cannot go on in DTLS, does not come to it.
        """
        made: list[Shouting] = []
        self.serve(Offload(tls=self.server(), upstream=self.where), handlers=(Shouts(made=made),))
        sock = self.connect()
        self.says(self.shake(sock), sock, b"one")
        self.assertEqual(self.came(), [b"ONE"])
        self.upstream.sendto(b"", self.from_)
        self.reactor.pump()
        (session,) = self.factory.sessions
        self.assertEqual((session.near.dropped, made[0].flow._done), ({EMPTY: 1}, ()))  # type: ignore[attr-defined]

    def test_handlerFails(self) -> None:
        """
        One that fails ends its session, and no other.
        """
        self.serve(Offload(tls=self.server(), upstream=self.where), handlers=(Shouts(made=[]),))
        one, other = self.connect(), self.connect()
        client, unharmed = self.shake(one), self.shake(other)
        self.says(client, one, b"bug")
        self.assertIn("outcome=failed", self.line())
        self.says(unharmed, other, b"hello")
        self.assertEqual(self.came(), [b"HELLO"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
