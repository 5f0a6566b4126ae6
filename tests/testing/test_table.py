# -*- test-case-name: tests.testing.test_table -*-
"""
L{tlsproxy.testing.table}: a table that is right passes, and one that cannot be is told before it is played.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.testing.shouting import Count, Keep, Shout, Upgrade, Watch
from tlsproxy.errors import SessionError
from tlsproxy.handler import FAR, NEAR, ProtocolHandler, Way
from tlsproxy.interfaces import IHandlerOptions
from tlsproxy.patterns.connect import Connect
from tlsproxy.patterns.offload import Offload
from tlsproxy.route import Limits
from tlsproxy.targets import Targets
from tlsproxy.testing.certificates import certificate, serverTLS
from tlsproxy.testing.streampeers import Browser
from tlsproxy.testing.table import UPSTREAM, Row, play

HELLO: list[Row] = [("client says", b"hello"), ("upstream hears", b"HELLO")]


class PlayTests(SynchronousTestCase):
    """
    Tables that are right.
    """

    def test_handler(self) -> None:
        """
        What a handler does to the bytes can be told, and how all comes to its end.
        """
        play(
            Shout(),
            [
                *HELLO,
                "upstream hears nothing",
                ("upstream says", b"you are welcome"),
                "upstream ends",
                ("client hears", b"you are "),
                ("client hears", b"welcome"),
                "client hears the end",
                "session goes on",
                ("seconds pass", 5),
                "client ends",
                "upstream hears the end",
                ("session is", "closed"),
                ("log says", "outcome=closed"),
            ],
        )

    def test_tls(self) -> None:
        """
        It is the same with TLS on any of the sides.
        """
        for tls in ((NEAR,), (FAR,), (NEAR, FAR)):
            play(Shout(), [*HELLO, "client ends", "upstream hears the end"], tls=tls)

    def test_endings(self) -> None:
        """
        A stream can be cut, and a connection be reset, by either peer.
        """
        play(Watch(), ["client cuts", "upstream hears a cut"], tls=(NEAR, FAR))
        play(
            Watch(),
            ["upstream cuts", "client hears a cut", "client ends", ("session is", "truncated")],
            tls=(NEAR, FAR),
        )
        play(Watch(), ["client resets", "upstream hears a reset", ("session is", "reset", "the client reset")])
        play(Watch(), ["upstream resets", "client hears a reset", ("session is", "reset", "the upstream reset")])

    def test_order(self) -> None:
        """
        The first of several handlers is the one nearest the client.
        """
        play(
            [Shout(), Count()],
            [("client says", b"a"), ("upstream hears", b"A1"), ("upstream says", b"b"), ("client hears", b"b1")],
        )

    def test_time(self) -> None:
        """
        Time passes as the table says, and deadlines with it.
        """
        rows: list[Row] = [
            ("seconds pass", 3),
            "session goes on",
            ("seconds pass", 1.5),
            ("session is", "expired", "no byte moved"),
        ]
        play(Keep(), rows, limits=Limits(idle=4))

    def test_refused(self) -> None:
        """
        A handler may refuse, and tell the client.
        """
        play(
            Shout(),
            [("client says", b"!"), ("client hears", b"do not shout\r\n"), ("session is", "refused", "shouts itself")],
        )

    def test_startTLS(self) -> None:
        """
        Where a handler starts TLS, its peers begin in clear and start it when the table says so.
        """
        play(
            Upgrade(),
            [
                ("client says", b"please\r\n"),
                ("client hears", b"go ahead\r\n"),
                "upstream is not dialed",
                "client starts TLS",
                "upstream is dialed",
                ("upstream hears", b"STARTTLS\r\n"),
                ("upstream says", b"go on\r\n"),
                "upstream starts TLS",
                ("client says", b"secret"),
                ("upstream hears", b"secret"),
                "client cuts",
                "upstream hears a cut",
            ],
            tls=(NEAR, FAR),
        )

    def test_startTLSOfOneSide(self) -> None:
        """
        A handler that starts TLS can stand where only one side has any.
        """
        near: list[Row] = [("client says", b"please\r\n"), ("client hears", b"go ahead\r\n"), "client starts TLS"]
        play(Upgrade(), [*near, ("client says", b"secret"), ("upstream hears", b"secret")], tls=(NEAR,))
        far: list[Row] = [("upstream hears", b"STARTTLS\r\n"), ("upstream says", b"go on\r\n"), "upstream starts TLS"]
        play(Upgrade(), [*far, ("client says", b"secret"), ("upstream hears", b"secret")], tls=(FAR,))

    def test_pattern(self) -> None:
        """
        Any pattern can be given, and no handler at all.
        """
        play(
            [],
            [
                ("client says", f"CONNECT {UPSTREAM} HTTP/1.1\r\nHost: {UPSTREAM}\r\n\r\n".encode()),
                ("client hears", b"HTTP/1.1 200 Connection established\r\n\r\n"),
                ("client says", b"hello"),
                ("upstream hears", b"hello"),
            ],
            pattern=Connect(targets=Targets(allow=UPSTREAM)),
        )

    def test_client(self) -> None:
        """
        The client can be given, with a certificate and a protocol say, and so can attributes of the route.
        """
        seen = []

        def authorize(session: Any) -> bool:
            seen.append((session.serverName, session.clientCertificate.partition(",")[0]))
            return True

        client = partial(Browser, serverName="www.shop.example", identity=certificate("alice"))
        pattern = Offload(tls=serverTLS(clients="required"), upstream=UPSTREAM)
        play(Shout(), HELLO, tls=(NEAR,), pattern=pattern, client=client, authorize=authorize)
        self.assertEqual([("www.shop.example", "CN=alice")] * 2, seen)

    def test_anew(self) -> None:
        """
        Each run has handlers with options of its own; options that are made in another way are taken as they are.
        """
        play(
            Count(),
            [("client says", b"a"), ("upstream hears", b"a1"), ("client says", b"b"), ("upstream hears", b"b2")],
        )
        other = Other(Watch())
        play(other, [("client says", b"a"), ("upstream hears", b"a")])

    def test_much(self) -> None:
        """
        Much can be said; byte by byte it is cut into no more than some thousands of pieces.
        """
        much = bytes(100_000)
        play(Watch(), [("client says", much), ("upstream hears", much)])

    def test_asItIs(self) -> None:
        """
        A table that tells how the network cuts what is said is played once.
        """
        play(Count(), [("client says", b"abc"), ("upstream hears", b"abc1")], cut=False)


@implementer(IHandlerOptions)
class Other:
    """
    Options that are no attrs class.
    """

    def __init__(self, options: Any, handler: Any = None) -> None:
        self._options = options
        self.handler = handler or options.handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._options, name)


class Busy(SessionError):
    """
    An end of a session that only its handler knows.
    """

    outcome = "busy"


class BeingBusy(ProtocolHandler):
    """
    Has no time.
    """

    def received(self, direction: Way, data: bytes) -> bytes:
        """
        Say so.
        """
        raise Busy("come back later")


class WrongTests(SynchronousTestCase):
    """
    Tables, and arguments, that are none.
    """

    def assertWrong(self, kind: type[Exception], handlers: Any, *rows: Any, **how: Any) -> str:
        """
        C{play} does not take these.

        @return: Why.
        """
        return str(self.assertRaises(kind, play, handlers, rows, **how))

    def test_noSuchRow(self) -> None:
        """
        A row that is none is told before anything is played.
        """
        problem = str(self.assertRaises(ValueError, play, Watch(), [("client says", b"a"), "client sings"]))
        self.assertIn("row 2, 'client sings': there is no such row; there are client cuts, client ends,", problem)
        for row, takes in (
            (("client says", "text"), "bytes"),
            (("client says",), "bytes"),
            (("client ends", 1), "nothing"),
            (("session is",), "str and str"),
            (("seconds pass", "5"), "int | float"),
        ):
            problem = str(self.assertRaises(ValueError, play, Watch(), [row]))
            self.assertEqual(f"row 1, {row!r}: {row[0]!r} is followed by {takes}", problem)

    def test_noRow(self) -> None:
        """
        So is one that is neither a phrase nor a tuple that begins with one.
        """
        for row in (5, None, (5, b"a"), [["client says"], b"a"], b"client says"):
            told = self.assertWrong(ValueError, Watch(), "client ends", row)
            self.assertEqual(f"row 2, {row!r}: a row is a phrase, or a tuple of a phrase and what belongs to it", told)
        self.assertIn("row 1, (): there is no such row", self.assertWrong(ValueError, Watch(), ()))

    def test_noSuchOutcome(self) -> None:
        """
        So is an outcome that no session comes to.  A handler's exceptions may have outcomes of their own.
        """
        told = self.assertWrong(ValueError, Watch(), ("session is", "close"))
        start = "row 1, ('session is', 'close'): there is no such outcome; there are "
        self.assertTrue(told.startswith(start), told)
        known = {"answered", "closed", "ended", "expired", "failed", "refused", "reset", "stopped", "truncated"}
        self.assertEqual(set(), known - set(told.removeprefix(start).split(", ")))
        rows: list[Row] = [("client says", b"a"), ("session is", "busy", "later")]
        play(Other(Watch(), BeingBusy), rows)

    def test_afterTheEnd(self) -> None:
        """
        So is one in which a peer that has ended says more.  It may still reset its connection, once.
        """
        for end, words in (
            ("ends", "ended its direction"),
            ("cuts", "cut its direction off"),
            ("resets", "reset its connection"),
        ):
            for row in (("client says", b"a"), "client starts TLS", "client ends", "client cuts"):
                told = self.assertWrong(ValueError, Watch(), "upstream ends", f"client {end}", row)
                self.assertEqual(f"row 3, {row!r}: the client has {words} in row 2, so it can say nothing more", told)
        self.assertWrong(ValueError, Watch(), "client resets", "client resets")
        play(Watch(), ["client ends", "upstream hears the end", "client resets", ("session is", "reset")])

    def test_sides(self) -> None:
        """
        TLS is spoken on sides that there are, and one may be given alone.
        """
        for tls, told in ((["client"], "client"), ({"near", "upstream"}, "upstream"), ("nearfar", "nearfar"), ("", "")):
            said = self.assertWrong(ValueError, Watch(), tls=tls)
            self.assertEqual(f"tls holds NEAR and FAR, not {told!r}", said)
        self.assertEqual("tls holds NEAR and FAR, not True", self.assertWrong(ValueError, Watch(), tls=True))
        for side in (NEAR, FAR):
            who = "client" if side == NEAR else "upstream"
            play(Watch(), [f"{who} cuts", ("session is", "truncated")], tls=side, close="both")

    def test_class(self) -> None:
        """
        Whoever gives the class of the options is told to make an instance, and else what is no handler is told.
        """
        for given in (Shout, [Watch(), Shout]):
            self.assertEqual("give Shout(), not the class Shout", self.assertWrong(TypeError, given))
        for wrong in (ProtocolHandler, 5, [Watch(), None]):
            told = self.assertWrong(TypeError, wrong)
            self.assertIn("is no protocol handler as a route has it: give an instance of its options", told)
