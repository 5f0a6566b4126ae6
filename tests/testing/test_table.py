# -*- test-case-name: tests.testing.test_table -*-
"""
L{tlsproxy.testing.table}: a table that is right passes, and one that is wrong fails with a sentence.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.testing.shouting import Count, Fail, Keep, Shout, Upgrade, Watch
from tlsproxy.handler import FAR, NEAR
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

    def __init__(self, options: Any) -> None:
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._options, name)


class FailureTests(SynchronousTestCase):
    """
    Tables that are wrong.
    """

    def assertFails(self, sentence: str, handlers: Any, *rows: Any, **how: Any) -> None:
        """
        A table fails with this sentence.
        """
        problem = self.assertRaises(AssertionError, play, handlers, rows, **how)
        self.assertEqual(sentence, str(problem))

    def test_otherBytes(self) -> None:
        """
        It tells the row, what was to come, and what came.
        """
        self.assertFails(
            "row 2, ('upstream hears', b'hello'), played as it is: the upstream was to hear b'hello', but has heard"
            " b'HELLO'",
            Shout(),
            ("client says", b"hello"),
            ("upstream hears", b"hello"),
        )

    def test_none(self) -> None:
        """
        Where nothing came, it says so, and whether the stream has ended.
        """
        said = ("client hears", b"x")
        called = "row 1, ('client hears', b'x'), played as it is: the client was to hear b'x', but has heard nothing"
        self.assertFails(called, Watch(), said)
        called = called.replace("row 1", "row 2")
        self.assertFails(f"{called} and the end", Watch(), "upstream ends", said)
        closed = "; the session is over: reset, the upstream reset the connection"
        self.assertFails(f"{called} and a reset{closed}", Watch(), "upstream resets", said)

    def test_byteByByte(self) -> None:
        """
        It tells where a table holds only as the network has cut it by chance.
        """
        self.assertFails(
            "row 2, ('upstream hears', b'abc1'), played byte by byte: the upstream was to hear b'abc1', but has heard"
            " b'a1b2c3'",
            Count(),
            ("client says", b"abc"),
            ("upstream hears", b"abc1"),
        )

    def test_more(self) -> None:
        """
        What was heard and is in no row is told.
        """
        self.assertFails(
            "the end of the table, played as it is: the upstream has also heard b'LO', of which no row tells",
            Shout(),
            ("client says", b"hello"),
            ("upstream hears", b"HEL"),
        )
        self.assertFails(
            "row 2, 'upstream hears nothing', played as it is: the upstream was to hear nothing, but has heard b'A'",
            Shout(),
            ("client says", b"a"),
            "upstream hears nothing",
        )
        self.assertFails(
            "row 3, 'upstream hears the end', played as it is: the upstream was to hear the end, but before that it has"
            " heard b'A'",
            Shout(),
            ("client says", b"a"),
            "client ends",
            "upstream hears the end",
        )

    def test_long(self) -> None:
        """
        Much is not told in full.
        """
        problem = str(self.assertRaises(AssertionError, play, Watch(), [("client says", b"a" * 50_000)]))
        self.assertLess(len(problem), 700)
        self.assertIn("aaa'...b'aaa", problem)
        self.assertIn("(50000 bytes)", problem)

    def test_otherEnd(self) -> None:
        """
        An end that came otherwise, or not at all, is told.
        """
        wrong = "the upstream was to hear the end, but has heard"
        end = "upstream hears the end"
        self.assertFails(f"row 1, '{end}', played as it is: {wrong} no end", Watch(), end)
        self.assertFails(
            f"row 2, '{end}', played as it is: {wrong} a cut", Watch(), "client cuts", end, tls=(NEAR, FAR)
        )

    def test_handlerFails(self) -> None:
        """
        What a handler has raised stands in the sentence.
        """
        self.assertFails(
            "row 2, ('upstream hears', b'a'), played as it is: the upstream was to hear b'a', but has heard nothing and"
            " a reset; the session is over: failed, handler Fail failed; its traceback is in the log; logged was"
            " ZeroDivisionError: a mistake",
            Fail(),
            ("client says", b"a"),
            ("upstream hears", b"a"),
        )
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_session(self) -> None:
        """
        What became of the session is told, where it was to be something else.
        """
        asIs = "played as it is: the session was to"
        over = "the session is over: reset, the client reset the connection"
        self.assertFails(
            f"row 1, ('session is', 'closed'), {asIs} be closed, but it goes on, in phase idle",
            Watch(),
            ("session is", "closed"),
        )
        self.assertFails(
            f"row 2, ('session is', 'closed'), {asIs} be closed, but is reset; {over}",
            Watch(),
            "client resets",
            ("session is", "closed"),
        )
        self.assertFails(
            f"row 2, 'session goes on', {asIs} go on, but it is over; {over}",
            Watch(),
            "client resets",
            "session goes on",
        )
        self.assertFails(
            "row 2, ('session is', 'reset', 'upstream'), played as it is: the reason was to say 'upstream', but is 'the"
            f" client reset the connection'; {over}",
            Watch(),
            "client resets",
            ("session is", "reset", "upstream"),
        )

    def test_log(self) -> None:
        """
        What the log says is told, where it was to say something else.
        """
        self.assertFails(
            "row 1, ('log says', 'x'), played as it is: the log was to say 'x', but says []", Watch(), ("log says", "x")
        )

    def test_dialed(self) -> None:
        """
        An upstream that was not dialed says and hears nothing.
        """
        row = ("upstream says", b"x")
        late = "played as it is: the upstream has not been dialed"
        self.assertFails(f"row 1, {row!r}, {late}", Upgrade(), row, tls=(NEAR,))
        self.assertFails(f"row 1, 'upstream is dialed', {late}", Upgrade(), "upstream is dialed", tls=(NEAR,))
        self.assertFails(
            "row 1, 'upstream is not dialed', played as it is: the upstream has been dialed",
            Watch(),
            "upstream is not dialed",
        )

    def test_startTLS(self) -> None:
        """
        TLS cannot be started by whom has none, or has it already, and not where nobody answers.
        """
        row = "client starts TLS"
        called = f"row 1, {row!r}, played as it is: the client"
        self.assertFails(f"{called} speaks no TLS", Watch(), row)
        self.assertFails(f"{called} speaks TLS already", Watch(), row, tls=(NEAR,))
        problem = str(self.assertRaises(AssertionError, play, Upgrade(), [row], tls=(NEAR,)))
        self.assertIn(f"{called} has started TLS, but its handshake has not come to a good end", problem)

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
