# -*- test-case-name: tests.testing.test_run -*-
"""
L{tlsproxy.testing.run}: a table that does not hold fails with a sentence.
"""

from __future__ import annotations

import unittest
from typing import Any

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.testing.shouting import Count, Fail, Hoard, Shout, Upgrade, Watch
from tlsproxy.handler import FAR, NEAR
from tlsproxy.interfaces import ISessionObserver
from tlsproxy.testing.table import play


@implementer(ISessionObserver)
class Seeing:
    """
    Remembers what a session goes through.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, session: object) -> None:
        """
        See L{ISessionObserver}.
        """
        self.seen.append("started")

    def entered(self, session: object, phase: str) -> None:
        """
        See L{ISessionObserver}.
        """
        self.seen.append(phase)

    def ended(self, session: object, outcome: str, reason: str) -> None:
        """
        See L{ISessionObserver}.
        """
        self.seen.append(outcome)


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

    def test_kept(self) -> None:
        """
        What handlers hold, and what they have dropped at the end, is told, where it may be what is missed.
        """
        called = (
            "('upstream hears', b'hello'), played as it is: the upstream was to hear b'hello', but has heard nothing"
        )
        says, hears = ("client says", b"hello"), ("upstream hears", b"hello")
        self.assertFails(f"row 2, {called}; handler Hoard holds 5 bytes outward", Hoard(), says, hears)
        self.assertFails(f"row 2, {called}; handler Hoard holds 5 bytes outward", [Watch(), Hoard()], says, hears)
        dropped = "handler Hoard dropped 5 bytes at the end"
        self.assertFails(f"row 3, {called} and the end; {dropped}", Hoard(), says, "client ends", hears)
        over = "the session is over: reset, the client reset the connection"
        self.assertFails(
            f"row 3, {called} and a reset; {over}; handler Hoard held 5 bytes outward",
            Hoard(),
            says,
            "client resets",
            hears,
        )

    def test_keptAtTheEnd(self) -> None:
        """
        Nothing is told of bytes that came through.
        """
        whole = b"0123456789"
        self.assertFails(
            "row 3, 'client hears the end', played as it is: the client was to hear the end, but has heard no end",
            Hoard(),
            ("client says", whole),
            ("upstream hears", whole),
            "client hears the end",
        )

    def test_observers(self) -> None:
        """
        Those whom the route has see the sessions as well.
        """
        seeing = Seeing()
        play(Watch(), ["client ends", "upstream ends"], observers=[seeing], cut=False)
        self.assertEqual(["started", "dial", "negotiate", "idle", "half_closed", "closed"], seeing.seen)


class RunnerTests(SynchronousTestCase):
    """
    What those who run tests make of a table that does not hold.
    """

    def test_failure(self) -> None:
        """
        Trial counts a failure and no error, and so does C{unittest}.
        """

        def wrong(self: object) -> None:
            play(Watch(), ["upstream hears the end"])

        for base, result in (
            (SynchronousTestCase, TestResult()),
            (unittest.TestCase, unittest.TestResult()),
        ):
            test: Any = type("Wrong", (base,), {"test_wrong": wrong})("test_wrong")
            test.run(result)
            self.assertEqual((1, 0), (len(result.failures), len(result.errors)), base)
